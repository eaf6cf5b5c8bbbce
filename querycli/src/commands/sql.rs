//! `querycli sql`: statements from the command line, files, a pipe, or a prompt.

use super::standard_input;
use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::shell::{Flow, Interpreter, prompt};
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use tokio::runtime::Runtime;

/// Runs SQL: a shell on a terminal, else what -c, -f or the standard input says
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli sql --db postgresql://localhost/market       a shell; \\? lists its commands
  querycli sql -c \"SELECT * FROM calendars LIMIT 3\"
  querycli sql trades.parquet -f report.sql --output report.csv
  echo \"SELECT count(*) FROM trades\" | querycli sql trades.csv
  querycli sql -c '\\df session*'                       commands of the shell work everywhere

Statements end with a semicolon. A file may hold backslash commands too. The first error ends a script; in the shell it does not.")]
pub struct Arguments {
    /// Files and folders, here or at s3://, gs:// or az://: tables named by their stems; a single one is also `trades` and `t`
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// SQL to run; may be given several times
    #[arg(short, long = "command", value_name = "SQL")]
    pub command: Vec<String>,
    /// A file with SQL to run; - is the standard input
    #[arg(short, long = "file", value_name = "FILE")]
    pub file: Vec<PathBuf>,
}

impl Arguments {
    /// Whether there is SQL among them.
    pub fn has_scripts(&self) -> bool {
        !self.command.is_empty() || !self.file.is_empty()
    }
}

/// Runs it.
///
/// # Errors
/// At the first statement that fails; in the shell only what makes it impossible to go on.
pub fn run(arguments: Arguments, mut options: Options, runtime: &Runtime) -> Result<u8> {
    let interactive = !arguments.has_scripts() && std::io::stdin().is_terminal();
    if interactive && !std::io::stdout().is_terminal() {
        return Err(Error::question("there is nothing to run", "give SQL with -c, a file with -f, or pipe it in"));
    }
    options.data.extend(arguments.files.iter().cloned());
    // A pipe is read before the database is asked, as a file would be.
    let piped = (!arguments.has_scripts() && !interactive).then(standard_input).transpose()?;
    let session = runtime.block_on(crate::execute::open(options.sources()))?;
    let mut interpreter = Interpreter::new(session, &options)?;
    if interactive {
        prompt(runtime, interpreter)?;
        return Ok(0);
    }
    runtime.block_on(async {
        for text in arguments.command.iter().chain(&piped) {
            if interpreter.script(text, None).await? == Flow::Quit {
                return interpreter.finish();
            }
        }
        for file in &arguments.file {
            if interpreter.file(file).await? == Flow::Quit {
                break;
            }
        }
        interpreter.finish()
    })?;
    Ok(0)
}
