//! The prompt: lines with history and completion until Ctrl-D.

use super::complete::Helper;
use super::split::split;
use super::{Flow, Interpreter};
use crate::error::{Error, Result};
use crate::{cli, execute, output};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use std::path::PathBuf;
use tokio::runtime::Runtime;

/// Reads and runs until Ctrl-D or `\q`. An error is printed, and the next line is asked for.
///
/// # Errors
/// A terminal that cannot be read, or files that cannot be put in their places at the end.
pub fn prompt(runtime: &Runtime, mut interpreter: Interpreter) -> Result<()> {
    let broken = |error: ReadlineError| Error::world(format!("the terminal cannot be read: {error}"), "");
    let config =
        Config::builder().completion_type(CompletionType::List).auto_add_history(true).max_history_size(10_000);
    let config = config.map_err(broken)?.build();
    let mut editor: Editor<Helper, FileHistory> = Editor::with_config(config).map_err(broken)?;
    let workers = execute::workers();
    let helper = workers.block_on(Helper::new(interpreter.session.clone(), workers.handle().clone()));
    editor.set_helper(Some(helper));
    let history = history();
    if let Some(file) = &history {
        // The first session has none.
        drop(editor.load_history(file));
    }
    println!("querycli {}. \\? lists commands, \\q leaves.", env!("CARGO_PKG_VERSION"));
    loop {
        let line = match editor.readline("market=> ") {
            Ok(line) => line,
            // As in psql: what was typed is forgotten, the shell goes on.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(broken(error)),
        };
        if let Some(file) = &history {
            // A line at a time, so that a second shell's lines are kept too. Not being able to is no reason to stop.
            drop(editor.append_history(file));
        }
        let script = split(&line);
        let mut flow = Flow::Continue;
        for item in script.items.iter().chain(&script.rest) {
            match runtime.block_on(interpreter.item(item)) {
                Ok(Flow::Continue) => {}
                Ok(Flow::Quit) => flow = Flow::Quit,
                Err(error) if output::is_broken_pipe(&error) => return Ok(()),
                Err(error) => {
                    cli::complain(&error);
                    break;
                }
            }
            if flow == Flow::Quit {
                break;
            }
        }
        if flow == Flow::Quit {
            break;
        }
    }
    interpreter.finish()
}

/// `QUERYCLI_HISTORY` (empty: none), else below the user's state directory.
fn history() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("QUERYCLI_HISTORY") {
        return (!file.is_empty()).then(|| file.into());
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = state.join("bellwether");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("querycli_history"))
}
