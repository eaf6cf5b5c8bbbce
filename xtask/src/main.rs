//! `cargo xtask COMMAND`: the developer's one door, the same on a laptop and in CI.

mod bench;
mod demo;
mod docs;
mod pg;
mod programs;
mod scale;
mod setup;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Bellwether's developer commands", disable_help_subcommand = true)]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the system packages the build needs, saying which and why; nothing happens when all are present
    Setup,
    /// From nothing to bars: set-up, a private PostgreSQL, trades, early closes, late trades, an answer to a question
    Demo,
    /// Build everything, start a private server and run every test
    Test {
        /// What `cargo test` is given, such as -p market or -- early_close
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The random tests for as long as a night has: longer streams from another seed, more crashes
    Nightly {
        /// Where the streams' seeds begin; today's number of seconds if it is not said
        #[arg(long)]
        seed: Option<u64>,
        /// How many streams
        #[arg(long, default_value_t = 20)]
        streams: u32,
        /// How many steps each has
        #[arg(long, default_value_t = 3000)]
        steps: u32,
        /// How often the server is killed
        #[arg(long, default_value_t = 40)]
        rounds: u32,
    },
    /// What a change must pass: format, lints, tests, licences, spelling
    Ci,
    /// Load and query the same trades here and on DuckDB, polars and ClickHouse, and compare
    Bench(bench::Options),
    /// Write docs/calendars, docs/sql.md from the catalog, and the examples' outputs into README and docs/
    Docs {
        /// Only docs/calendars, the pages of the calendars, which need no server
        #[arg(long)]
        calendars: bool,
    },
    /// A private PostgreSQL with the extension: start, stop, psql, url, status
    Pg {
        #[command(subcommand)]
        action: pg::Action,
    },
}

fn main() -> ExitCode {
    match run(Options::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup => setup::run()?,
        Task::Demo => demo::run()?,
        Task::Test { arguments } => test::run(&arguments)?,
        Task::Nightly { seed, streams, steps, rounds } => test::nightly(seed, streams, steps, rounds)?,
        Task::Ci => test::ci()?,
        Task::Bench(options) => return bench::run(&options),
        Task::Docs { calendars: true } => docs::calendars()?,
        Task::Docs { calendars: false } => docs::run()?,
        Task::Pg { action } => return pg::run(action),
    }
    Ok(ExitCode::SUCCESS)
}
