//! The command line: where to read, what to ask, how to print it.

use clap::{Parser, Subcommand};
use querycli::{Error, Format, Options, Session};
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// SQL over a Bellwether database and over Parquet and CSV files, with the functions of the extension.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  querycli --db postgresql://localhost/market -c \"SELECT * FROM session_ohlc('ESZ25', '1h', '2025-11-28', '2025-11-28')\"
  querycli trades.parquet -c \"SELECT session_bucket('5m', ts, 'XNYS') AS bar, ohlc(price, size, ts, seq) FROM trades GROUP BY 1\"

  querycli calendars diff XNYS --against sessions.csv

Exit codes: 0 done, 1 failed while running or found differences, 2 the question was wrong."
)]
struct Arguments {
    #[command(subcommand)]
    command_of: Option<Command>,
    /// Parquet and CSV files: tables named by their stems; a single one is also `trades` and `t`
    files: Vec<PathBuf>,
    /// A database with the extension
    #[arg(long, env = "BELLWETHER_DB", hide_env_values = true, value_name = "URL")]
    db: Option<String>,
    /// A read-only replica of it, to read from instead
    #[arg(long, env = "BELLWETHER_READ_DB", hide_env_values = true, value_name = "URL")]
    read_db: Option<String>,
    /// An archive: instead of a database, or beside one for the trades that retention dropped there
    #[arg(long, env = "BELLWETHER_ARCHIVE", value_name = "DIR")]
    archive: Option<String>,
    /// SQL to run; may be given several times
    #[arg(short, long = "command", value_name = "SQL")]
    command: Vec<String>,
    /// A file with SQL to run; - is the standard input
    #[arg(short, long = "file", value_name = "FILE")]
    file: Vec<PathBuf>,
    /// How to print rows
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// The calendar of the instruments in files, where their symbol does not tell
    #[arg(long, value_name = "ID")]
    calendar: Option<String>,
}

/// What is not SQL.
#[derive(Subcommand)]
enum Command {
    Calendars(querycli::calendars::Arguments),
    Archive(querycli::archive::command::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Calendars(arguments)) = &arguments.command_of {
        return calendars(arguments);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::world(format!("cannot start: {error}"), "")),
    };
    if let Some(Command::Archive(arguments)) = &arguments.command_of {
        let mut out = std::io::stdout().lock();
        return match runtime.block_on(querycli::archive::command::run(arguments, &mut out)) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error) => fail(&error),
        };
    }
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn calendars(arguments: &querycli::calendars::Arguments) -> ExitCode {
    let outcome = match querycli::calendars::run(arguments) {
        Ok(outcome) => outcome,
        Err(error) => return fail(&error),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(outcome.text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(&Error::world(format!("cannot write: {error}"), ""))
        }
        _ => ExitCode::from(outcome.exit_code),
    }
}

fn fail(error: &Error) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (red, plain) = if colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    eprintln!("{red}error:{plain} {error}");
    ExitCode::from(error.exit_code())
}

async fn run(arguments: Arguments) -> querycli::Result<()> {
    let mut scripts = arguments.command;
    for file in &arguments.file {
        scripts.push(if file.as_os_str() == "-" { standard_input()? } else { read(file)? });
    }
    if scripts.is_empty() {
        if std::io::stdin().is_terminal() {
            return Err(Error::question("there is nothing to run", "give SQL with -c, a file with -f, or pipe it in"));
        }
        scripts.push(standard_input()?);
    }
    let options = Options {
        db: arguments.db,
        read_db: arguments.read_db,
        archive: arguments.archive,
        files: arguments.files,
        calendar: arguments.calendar,
    };
    let session = Session::open(options).await?;
    let mut out = std::io::stdout().lock();
    for script in scripts {
        let mut written = Ok(());
        session
            .run(&script, |rows| {
                // An answer without columns is that of a statement which has none.
                if written.is_ok() && !rows.schema.fields().is_empty() {
                    written = out.write_all(rows.print(arguments.format).as_bytes());
                }
            })
            .await?;
        match written.and_then(|()| out.flush()) {
            // Whoever reads has enough, as in `querycli ... | head`.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(|error| Error::world(format!("cannot write: {error}"), ""))?,
        }
    }
    Ok(())
}

fn read(file: &PathBuf) -> querycli::Result<String> {
    std::fs::read_to_string(file).map_err(|error| {
        Error::question(format!("cannot read {}: {error}", file.display()), "name a text file with SQL")
    })
}

fn standard_input() -> querycli::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::world(format!("cannot read the standard input: {error}"), ""))?;
    Ok(text)
}
