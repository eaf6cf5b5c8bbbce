//! The command line: the tree of commands, and what each does with the world around it.

pub mod options;

use crate::commands::{
    self, bars, chart, correlate, describe, export, levels, seasonality, sessions, sql, stats, verify,
};
use crate::error::{Error, Result};
use crate::{archive, calendars, execute, guard, output, unpacked};
use clap::{Parser, Subcommand};
use options::Options;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// SQL over a Bellwether database and over Parquet and CSV files, with the functions of the extension.
#[derive(Parser)]
#[command(name = "querycli", bin_name = "querycli", version, subcommand_precedence_over_arg = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    sql: sql::Arguments,
    #[command(flatten)]
    options: Options,
}

const EXAMPLES: &str = "\
Without a command: SQL, as `querycli sql`. On a terminal that is a shell; \\? lists its commands.

Examples:
  querycli --db postgresql://localhost/market
  querycli --db postgresql://localhost/market bars SPY 5m --last 2
  querycli trades.parquet -c \"SELECT session_bucket('1h', ts, 'XNYS'), max(price) FROM t GROUP BY 1\"
  querycli sessions XNYS 2025-11-24..2025-11-28
  querycli trades.csv -c \"SELECT count(*) FROM trades\" --format json

Set BELLWETHER_DB instead of giving --db each time. `querycli COMMAND --help` explains a command.

Exit codes: 0 done, 1 failed while running or found differences, 2 the question was wrong.";

#[derive(Subcommand)]
enum Command {
    Sql(Box<Full<sql::Arguments>>),
    Bars(Box<Full<bars::Arguments>>),
    Sessions(Box<Full<sessions::Arguments>>),
    Levels(Box<Full<levels::Levels>>),
    Profile(Box<Full<levels::Profile>>),
    Chart(Box<Full<chart::Arguments>>),
    Correlate(Box<Full<correlate::Arguments>>),
    Seasonality(Box<Full<seasonality::Arguments>>),
    Stats(Box<Full<stats::Arguments>>),
    Verify(Box<Full<verify::Arguments>>),
    Export(Box<Full<export::Arguments>>),
    Describe(Box<Full<describe::Arguments>>),
    Calendars(calendars::Arguments),
    Archive(Box<archive::command::Arguments>),
}

// A command's own arguments and the options that all have. No doc comment: it would be the help of every command.
#[derive(clap::Args)]
#[group(skip)]
struct Full<A: clap::Args> {
    #[command(flatten)]
    options: Options,
    // Last, so that its help is the command's.
    #[command(flatten)]
    own: A,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    guard::quiet();
    // Statements run on threads of their own (execute.rs); this one keeps the clock and hears Ctrl-C.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::world(format!("cannot start: {error}"), "")),
    };
    let done = run(cli, &runtime);
    unpacked::remove();
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn run(cli: Cli, runtime: &tokio::runtime::Runtime) -> Result<u8> {
    let Cli { command, sql, options: mut outer } = cli;
    if command.is_some() {
        if sql.has_scripts() {
            return Err(Error::question("-c and -f are of `querycli sql`", "leave them out, or leave the command out"));
        }
        // `querycli FILE bars SPY 5m`: files may stand in front.
        outer.data.extend(sql.files.iter().cloned());
    }
    match command {
        None => sql::run(sql, outer, runtime),
        Some(Command::Sql(full)) => sql::run(full.own, full.options.over(outer), runtime),
        Some(Command::Bars(full)) => runtime.block_on(bars::run(&full.own, &full.options.over(outer))),
        Some(Command::Sessions(full)) => runtime.block_on(sessions::run(&full.own, &full.options.over(outer))),
        Some(Command::Levels(full)) => runtime.block_on(levels::levels(&full.own, &full.options.over(outer))),
        Some(Command::Profile(full)) => runtime.block_on(levels::profile(&full.own, &full.options.over(outer))),
        Some(Command::Chart(full)) => runtime.block_on(chart::run(&full.own, &full.options.over(outer))),
        Some(Command::Correlate(full)) => runtime.block_on(correlate::run(&full.own, &full.options.over(outer))),
        Some(Command::Seasonality(full)) => runtime.block_on(seasonality::run(&full.own, &full.options.over(outer))),
        Some(Command::Stats(full)) => runtime.block_on(stats::run(&full.own, &full.options.over(outer))),
        Some(Command::Verify(full)) => runtime.block_on(verify::run(&full.own, &full.options.over(outer))),
        Some(Command::Export(full)) => runtime.block_on(export::run(&full.own, &full.options.over(outer))),
        Some(Command::Describe(full)) => runtime.block_on(describe::run(&full.own, &full.options.over(outer))),
        Some(Command::Archive(arguments)) => {
            let mut out = std::io::stdout().lock();
            let well = execute::workers().block_on(archive::command::run(&arguments, &mut out))?;
            Ok(u8::from(!well))
        }
        Some(Command::Calendars(arguments)) => {
            let outcome = calendars::run(&arguments)?;
            commands::text(&outcome.text)?;
            Ok(outcome.exit_code)
        }
    }
}

/// Whether to use colours: on a terminal, unless NO_COLOR says no.
pub fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints an error and its hint on the standard error.
pub fn complain(error: &Error) {
    let mut out = std::io::stderr().lock();
    let (red, plain) = if coloured(&out) { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    // If the standard error is gone, there is nobody to tell.
    drop(writeln!(out, "{red}error:{plain} {error}"));
}

fn fail(error: &Error) -> ExitCode {
    complain(error);
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Examples:"), "{} has no examples in its help", command.get_name());
        }
    }
}
