//! Where output goes: the standard output, or a file that is there whole or not at all.

use super::{Format, failed};
use crate::error::{Error, Result};
use crate::remote;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// An open target.
pub struct Target {
    out: Box<dyn Write + Send>,
    /// The file and the one that becomes it.
    file: Option<(PathBuf, PathBuf)>,
    /// Whether an answer is in it.
    used: bool,
}

impl Target {
    /// The standard output.
    pub fn stdout() -> Target {
        Target { out: Box::new(BufWriter::with_capacity(1 << 16, std::io::stdout())), file: None, used: false }
    }

    /// A file, written beside itself and put in place by [`Target::done`]: whoever reads it never sees half of it.
    ///
    /// # Errors
    /// A folder that is not there or may not be written.
    pub fn file(path: &Path) -> Result<Target> {
        if remote::is_remote(path) {
            return Err(Error::question(
                format!("querycli reads from object stores and does not write to {}", path.display()),
                "write a file here and copy it there",
            ));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        if name.is_empty() || path.is_dir() {
            return Err(Error::question(format!("{} is not the name of a file", path.display()), "name a file"));
        }
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let file = File::create(&part).map_err(|error| {
            Error::question(
                format!("cannot write {}: {error}", path.display()),
                "name a file in a folder that is there",
            )
        })?;
        Ok(Target {
            out: Box::new(BufWriter::with_capacity(1 << 16, file)),
            file: Some((path.to_owned(), part)),
            used: false,
        })
    }

    /// Whether people look at it.
    pub fn is_terminal(&self) -> bool {
        self.file.is_none() && std::io::stdout().is_terminal()
    }

    /// Refuses to fill a terminal with bytes.
    ///
    /// # Errors
    /// A binary format on a terminal.
    pub fn takes(&self, format: Format) -> Result<()> {
        match format.is_binary() && self.is_terminal() {
            true => Err(Error::question(
                "parquet and arrow are not for a terminal",
                "name a file with --output FILE, or send the output into one",
            )),
            false => Ok(()),
        }
    }

    /// An answer follows. Formats that are whole files hold one.
    ///
    /// # Errors
    /// A second answer in such a format.
    pub fn begin(&mut self, format: Format) -> Result<()> {
        self.takes(format)?;
        if self.used && format.is_binary() {
            return Err(Error::question(
                "a parquet or arrow file holds the answer to one statement",
                "write each to a file of its own",
            ));
        }
        self.used = true;
        Ok(())
    }

    /// What to write to.
    pub fn out(&mut self) -> &mut (dyn Write + Send) {
        &mut *self.out
    }

    /// Everything written so far is out.
    ///
    /// # Errors
    /// A reader that went away, a disk that is full.
    pub fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(failed)
    }

    /// No more: a file is now in its place.
    ///
    /// # Errors
    /// As [`Target::flush`], and a file that cannot be renamed.
    pub fn done(mut self) -> Result<()> {
        self.flush()?;
        let Some((path, part)) = self.file.take() else { return Ok(()) };
        std::fs::rename(&part, &path).map_err(|error| {
            drop(std::fs::remove_file(&part));
            Error::world(format!("cannot write {}: {error}", path.display()), "")
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((_, part)) = self.file.take() {
            drop(std::fs::remove_file(part));
        }
    }
}
