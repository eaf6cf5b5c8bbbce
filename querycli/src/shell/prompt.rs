//! The prompt: lines until Ctrl-D.

use super::split::split;
use super::{Flow, Interpreter};
use crate::error::{Error, Result};
use crate::{cli, output};
use std::io::Write;
use tokio::runtime::Runtime;

/// Reads and runs until Ctrl-D or `\q`. An error is printed, and the next line is asked for.
///
/// # Errors
/// A terminal that cannot be read, or files that cannot be put in their places at the end.
pub fn prompt(runtime: &Runtime, mut interpreter: Interpreter) -> Result<()> {
    let broken = |error: std::io::Error| Error::world(format!("the terminal cannot be read: {error}"), "");
    println!("querycli {}. \\? lists commands, \\q leaves.", env!("CARGO_PKG_VERSION"));
    let mut typed = String::new();
    'lines: loop {
        print!("{}", if typed.is_empty() { "market=> " } else { "market-> " });
        std::io::stdout().flush().map_err(broken)?;
        if std::io::stdin().read_line(&mut typed).map_err(broken)? == 0 {
            break;
        }
        let script = split(&typed);
        if script.rest.is_some() {
            continue;
        }
        typed.clear();
        for item in &script.items {
            match runtime.block_on(interpreter.item(item)) {
                Ok(Flow::Continue) => {}
                Ok(Flow::Quit) => break 'lines,
                Err(error) if output::is_broken_pipe(&error) => return Ok(()),
                Err(error) => {
                    cli::complain(&error);
                    break;
                }
            }
        }
    }
    interpreter.finish()
}
