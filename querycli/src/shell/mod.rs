//! The shell: statements and backslash commands, from a prompt, a file, a pipe or the command line.

mod complete;
mod meta;
mod prompt;
mod split;

pub use prompt::prompt;

use crate::cli::options::{Limits, Options};
use crate::error::{Error, Result};
use crate::execute;
use crate::output::{Format, Rows, Target};
use crate::{Session, commands};
use split::{Item, Kind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Instant;

/// Files that run files end somewhere.
const DEEPEST: usize = 16;

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// `\q`.
    Quit,
}

/// A session with the settings that backslash commands change.
pub struct Interpreter {
    session: Session,
    limits: Limits,
    format: Format,
    timing: bool,
    target: Target,
    /// Where output went before `\o FILE`.
    aside: Option<(Target, Format)>,
    /// What `\watch` repeats.
    last: Option<String>,
    depth: usize,
}

impl Interpreter {
    /// With the settings of the command line.
    ///
    /// # Errors
    /// A file for the output that cannot be made.
    pub fn new(session: Session, options: &Options) -> Result<Interpreter> {
        let target = options.target()?;
        let (limits, format) = (options.limits(), options.format());
        Ok(Interpreter { session, limits, format, timing: false, target, aside: None, last: None, depth: 0 })
    }

    /// Runs all of a text; a last statement needs no semicolon. Errors of a file name it and the line.
    ///
    /// # Errors
    /// At the first statement that fails.
    pub async fn script(&mut self, text: &str, file: Option<&Path>) -> Result<Flow> {
        let script = split::split(text);
        for item in script.items.into_iter().chain(script.rest) {
            match self.item(&item).await {
                Ok(Flow::Continue) => {}
                Ok(Flow::Quit) => return Ok(Flow::Quit),
                Err(error) => {
                    return Err(match file {
                        // An included file has named itself.
                        Some(file) if !item.text.starts_with("\\i") && !crate::output::is_broken_pipe(&error) => {
                            let message = format!("{}:{}: {}", file.display(), item.line, error.message);
                            Error { message, ..error }
                        }
                        _ => error,
                    });
                }
            }
        }
        Ok(Flow::Continue)
    }

    /// Runs a file; `-` is the standard input.
    ///
    /// # Errors
    /// A file that cannot be read, and those of [`Interpreter::script`].
    pub fn file<'a>(&'a mut self, file: &'a Path) -> Pin<Box<dyn Future<Output = Result<Flow>> + 'a>> {
        Box::pin(async move {
            if self.depth == DEEPEST {
                return Err(Error::question(
                    format!("{} is the {DEEPEST}th file inside a file", file.display()),
                    "does it run itself?",
                ));
            }
            if file.as_os_str() == "-" {
                let text = commands::standard_input()?;
                return self.script(&text, None).await;
            }
            let text = std::fs::read_to_string(file).map_err(|error| {
                Error::question(format!("cannot read {}: {error}", file.display()), "name a text file with SQL")
            })?;
            self.depth += 1;
            let done = self.script(&text, Some(file)).await;
            self.depth -= 1;
            done
        })
    }

    async fn item(&mut self, item: &Item) -> Result<Flow> {
        match item.kind {
            Kind::Sql => self.sql(&item.text).await.map(|()| Flow::Continue),
            Kind::Meta => self.meta(&item.text).await,
        }
    }

    async fn sql(&mut self, text: &str) -> Result<()> {
        self.last = Some(text.to_owned());
        let begun = Instant::now();
        for statement in Session::parse(text)? {
            let printed = execute::print(&self.session, statement, self.limits, self.format, &mut self.target).await;
            let flushed = self.target.flush();
            printed?;
            flushed?;
        }
        if self.timing {
            self.say(&format!("Time: {:.3} ms", begun.elapsed().as_secs_f64() * 1e3))?;
        }
        Ok(())
    }

    /// Prints rows that no statement made.
    fn show(&mut self, rows: &Rows) -> Result<()> {
        self.target.begin(self.format)?;
        let mut sink = self.format.sink(&rows.schema, self.target.out())?;
        for batch in &rows.batches {
            sink.write(batch)?;
        }
        sink.finish(false)?;
        self.target.flush()
    }

    fn say(&mut self, line: &str) -> Result<()> {
        let written = writeln!(self.target.out(), "{line}");
        written.map_err(|error| Error::world(format!("cannot write: {error}"), ""))?;
        self.target.flush()
    }

    /// Sends output to a file from now on, or back.
    fn redirect(&mut self, file: Option<PathBuf>) -> Result<()> {
        let target = file.as_deref().map(Target::file).transpose()?;
        if let Some((before, format)) = self.aside.take() {
            self.format = format;
            std::mem::replace(&mut self.target, before).done()?;
        }
        if let Some(target) = target {
            self.aside = Some((std::mem::replace(&mut self.target, target), self.format));
            self.format = file.as_deref().and_then(Format::of_file).unwrap_or(self.format);
        }
        Ok(())
    }

    /// Puts files in their places.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn finish(mut self) -> Result<()> {
        self.redirect(None)?;
        self.target.done()
    }
}
