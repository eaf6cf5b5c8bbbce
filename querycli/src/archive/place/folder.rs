//! An archive in a folder of this machine.
//!
//! A file is written under a temporary name, synced, and renamed; then its folder is synced. Whoever reads sees the old file
//! or the new one. What an interrupted writer leaves ends in `.tmp` and nobody reads it.

use crate::error::{Error, Result};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The file that writers lock; the archive does not need it.
pub const LOCK: &str = ".lock";
/// Ends the names of files that are being written.
pub const TEMPORARY: &str = ".tmp";

/// A folder of this machine.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::world(format!("cannot {what} {}: {error}", path.display()), "")
}

impl Folder {
    /// A folder, made absolute, so that the database's entry means the same everywhere.
    ///
    /// # Errors
    /// A path that is none.
    pub fn at(path: &str) -> Result<Folder> {
        let root = std::path::absolute(path).map_err(|error| failed("find", Path::new(path), &error))?;
        Ok(Folder { root })
    }

    /// What the database calls it.
    pub fn location(&self) -> String {
        self.root.display().to_string()
    }

    /// A file of it on this machine.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether there is a folder.
    pub fn exists(&self) -> bool {
        self.root.is_dir()
    }

    /// Keeps `prune` away while files are there that no manifest names yet. It ends with what is given back, or the process.
    ///
    /// # Errors
    /// A folder that cannot be written; a `prune` that runs.
    pub fn lock_to_write(&self) -> Result<File> {
        make_folder(&self.root)?;
        let path = self.path(LOCK);
        let file = File::create(&path).map_err(|error| failed("write", &path, &error))?;
        match file.try_lock_shared() {
            Ok(()) => Ok(file),
            Err(_) => Err(Error::world("an archive prune is running here", "push again when it is done")),
        }
    }

    /// Keeps whoever writes away.
    ///
    /// # Errors
    /// A folder that cannot be written; a push that runs.
    pub fn lock_to_prune(&self) -> Result<File> {
        let path = self.path(LOCK);
        let file = File::create(&path).map_err(|error| failed("write", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(_) => Err(Error::world("an archive push is running here", "prune again when it is done")),
        }
    }

    /// A file's bytes; `None` if there is none.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Bytes>> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// Writes a file, durably: it is there whole, or not at all.
    ///
    /// # Errors
    /// A disk that is full or forbids it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        let stem = path.file_name().unwrap_or_default().to_string_lossy();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = folder.join(format!(".{stem}.{}-{number}{TEMPORARY}", std::process::id()));
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| sync_folder(folder));
        written.map_err(|error| {
            // best effort: what stays is found by prune
            let _ = fs::remove_file(&temporary);
            failed("write", &path, &error)
        })
    }

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path, &error)),
            _ => {
                let folder = path.parent().unwrap_or(&self.root);
                match sync_folder(folder) {
                    Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("sync", folder, &error)),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Removes a folder if nothing is in it.
    pub fn remove_empty(&self, name: &str) {
        // A folder in use stays: that is the point.
        let _ = fs::remove_dir(self.path(name));
    }

    /// The names in a folder, sorted; none if there is no such folder. Whether each is a folder comes with it.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn list(&self, name: &str) -> Result<Vec<(String, bool)>> {
        let path = self.path(name);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("read", &path, &error))?;
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            names.push((entry.file_name().to_string_lossy().into_owned(), folder));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Every file below a folder, with its name from the archive's root, sorted.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn files(&self, name: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (entry, folder) in self.list(name)? {
            let inner = if name.is_empty() { entry } else { format!("{name}/{entry}") };
            if folder {
                found.extend(self.files(&inner)?);
            } else {
                found.push(inner);
            }
        }
        Ok(found)
    }
}

/// Makes a folder and those above it, each entry durable in the one above.
fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("make", folder, &error)),
        _ => {}
    }
    match folder.parent().map(sync_folder) {
        Some(Err(error)) => Err(failed("sync", folder, &error)),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
