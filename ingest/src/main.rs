//! The `ingest` program: the command line, and nothing else.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A broken pipe (`ingest ... | head`) ends a program quietly.
    let cli = match ingest::cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(help_or_error) => {
            let code = if help_or_error.use_stderr() { 2 } else { 0 };
            let _ = help_or_error.print();
            return ExitCode::from(code);
        }
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("BELLWETHER_LOG").unwrap_or_else(|_| "warn,ingest=info".into()),
        )
        .with_target(false)
        .init();
    let mut threads = match cli.follows() {
        true => tokio::runtime::Builder::new_current_thread(),
        false => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match threads.enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("ingest: the runtime cannot start: {e}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(ingest::cli::run(cli)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("ingest: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
