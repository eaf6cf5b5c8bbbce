//! Where an archive lies: a folder of this machine (place/folder.rs), or an object store (place/store.rs). A file gets to either whole
//! or not at all.
//!
//! All of the archive is written as if it waited for every answer. Where many are wanted they are named together, and a store is
//! asked for several at once.

mod folder;
mod store;

use super::manifest::Content;
use crate::error::{Error, Result};
use bytes::Bytes;
use chrono::{DateTime, Utc};
pub use folder::{Folder, LOCK, TEMPORARY};
use std::collections::VecDeque;
use std::fs::File;
pub use store::Store;
use tokio::task::JoinHandle;

/// How many objects are under way while a reader works on one.
const AHEAD: usize = 8;
/// And how many bytes at most, but for one object that is larger.
const AHEAD_BYTES: u64 = 64 << 20;

/// Files that are looked at once more and then removed: few, so that nobody writes one of them anew in between.
const REMOVED_AT_ONCE: usize = 16;

/// Where an archive lies.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder of this machine.
    Folder(Folder),
    /// Below a prefix of an object store.
    Store(Store),
}

/// A file that lies there.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name from the archive's root.
    pub name: String,
    /// Its length; not told of a folder's.
    pub bytes: u64,
    /// When it was written, by the store's clock; not told of a folder's.
    pub written: Option<DateTime<Utc>>,
}

impl Place {
    /// Reads `--archive`: a folder, `file://` and an absolute one, or the URL of an object store.
    ///
    /// # Errors
    /// A URL of another kind.
    pub fn parse(text: &str) -> Result<Place> {
        let path = text.strip_prefix("file://").unwrap_or(text);
        if let Some(store) = Store::open(path)? {
            return Ok(Place::Store(store));
        }
        if path.contains("://") {
            return Err(Error::question(
                format!("the archive {text} is of no kind querycli writes"),
                "name a folder, such as /srv/archive, or s3://bucket/archive, gs://bucket/archive, az://container/archive",
            ));
        }
        Folder::at(path).map(Place::Folder)
    }

    /// What the database calls it.
    pub fn location(&self) -> String {
        match self {
            Place::Folder(folder) => folder.location(),
            Place::Store(store) => store.location().to_owned(),
        }
    }

    /// Whether there is something.
    ///
    /// # Errors
    /// A store that does not answer.
    pub fn exists(&self) -> Result<bool> {
        match self {
            Place::Folder(folder) => Ok(folder.exists()),
            Place::Store(store) => store.list("").map(|found| !found.is_empty()),
        }
    }

    /// Whether it is an object store, which has no locks.
    pub fn is_store(&self) -> bool {
        matches!(self, Place::Store(_))
    }

    /// Keeps `prune` away from a folder while files are there that no manifest names yet. It ends with what is given back, or the
    /// process. A store has no locks; there prune lets young objects be.
    ///
    /// # Errors
    /// A folder that cannot be written; a `prune` that runs.
    pub fn lock_to_write(&self) -> Result<Option<File>> {
        match self {
            Place::Folder(folder) => folder.lock_to_write().map(Some),
            Place::Store(_) => Ok(None),
        }
    }

    /// Keeps whoever writes to a folder away.
    ///
    /// # Errors
    /// A folder that cannot be written; a push that runs.
    pub fn lock_to_prune(&self) -> Result<Option<File>> {
        match self {
            Place::Folder(folder) => folder.lock_to_prune().map(Some),
            Place::Store(_) => Ok(None),
        }
    }

    /// What the clock says there.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn now(&self) -> Result<DateTime<Utc>> {
        match self {
            Place::Folder(_) => Ok(Utc::now()),
            Place::Store(store) => store.now(),
        }
    }

    /// A file's bytes; `None` if there is none.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Bytes>> {
        match self {
            Place::Folder(folder) => folder.read(name),
            Place::Store(store) => store.read(name),
        }
    }

    /// The bytes of many files.
    pub fn read_many(&self, names: &[String]) -> Vec<Result<Option<Bytes>>> {
        match self {
            Place::Folder(folder) => names.iter().map(|name| folder.read(name)).collect(),
            Place::Store(store) => store.read_many(names),
        }
    }

    /// Writes files, durably: each is there whole, or not at all.
    pub fn write_many(&self, files: &[(String, Bytes)]) -> Vec<Result<()>> {
        match self {
            Place::Folder(folder) => files.iter().map(|(name, bytes)| folder.write(name, bytes)).collect(),
            Place::Store(store) => store.write_many(files),
        }
    }

    /// Whether files of a store are still there; those of a folder are, whose lock keeps prune away.
    pub fn still_there(&self, names: &[String]) -> Vec<Result<bool>> {
        match self {
            Place::Folder(_) => names.iter().map(|_| Ok(true)).collect(),
            Place::Store(store) => store.written(names).into_iter().map(|found| Ok(found?.is_some())).collect(),
        }
    }

    /// Removes files that were written no later than `young`, as it is when each is removed; what was.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove_old(&self, names: Vec<String>, young: Option<DateTime<Utc>>) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for some in names.chunks(REMOVED_AT_ONCE) {
            let gone: Vec<String> = match (self, young) {
                (Place::Store(store), Some(young)) => {
                    let written = some.iter().zip(store.written(some));
                    let old = written.map(|(name, at)| Ok((name, at?.is_some_and(|at| at <= young))));
                    let old = old.collect::<Result<Vec<_>>>()?;
                    old.into_iter().filter(|(_, old)| *old).map(|(name, _)| name.clone()).collect()
                }
                _ => some.to_vec(),
            };
            self.remove(&gone.iter().map(String::as_str).collect::<Vec<_>>())?;
            removed.extend(gone);
        }
        Ok(removed)
    }

    /// Removes files; one that is not there is no error.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove(&self, names: &[&str]) -> Result<()> {
        match self {
            Place::Folder(folder) => {
                for name in names {
                    folder.remove(name)?;
                    let mut inner = *name;
                    while let Some((above, _)) = inner.rsplit_once('/') {
                        folder.remove_empty(above);
                        inner = above;
                    }
                }
                Ok(())
            }
            Place::Store(store) => store.remove(names),
        }
    }

    /// The names in a folder, sorted; none if there is no such folder. Whether each is a folder comes with it.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn list(&self, name: &str) -> Result<Vec<(String, bool)>> {
        match self {
            Place::Folder(folder) => folder.list(name),
            Place::Store(store) => store.list(name),
        }
    }

    /// Every file below a folder, sorted by name.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn files(&self, name: &str) -> Result<Vec<Found>> {
        match self {
            Place::Folder(folder) => {
                let names = folder.files(name)?.into_iter();
                Ok(names.map(|name| Found { name, bytes: 0, written: None }).collect())
            }
            Place::Store(store) => store.files(name),
        }
    }
}

/// Files one after the other, checked; those of a store are asked for while the ones before are worked on.
pub struct Contents {
    place: Place,
    rest: VecDeque<Content>,
    under_way: VecDeque<(Content, JoinHandle<Result<Option<Bytes>>>)>,
}

impl Contents {
    /// Of files in the order in which they will be wanted.
    pub fn new(place: &Place, files: impl IntoIterator<Item = Content>) -> Contents {
        Contents { place: place.clone(), rest: files.into_iter().collect(), under_way: VecDeque::new() }
    }

    /// The next one's bytes; `None` behind the last.
    ///
    /// # Errors
    /// A file that is gone or changed.
    pub fn next_file(&mut self) -> Result<Option<Bytes>> {
        let Place::Store(store) = &self.place else {
            return self.rest.pop_front().map(|content| content.read(&self.place)).transpose();
        };
        let mut bytes: u64 = self.under_way.iter().map(|(content, _)| content.bytes).sum();
        while self.under_way.len() < AHEAD
            && (self.under_way.is_empty() || bytes < AHEAD_BYTES)
            && let Some(content) = self.rest.pop_front()
        {
            bytes += content.bytes;
            let asked = store.ask(&content.file, content.bytes);
            self.under_way.push_back((content, asked));
        }
        let Some((content, asked)) = self.under_way.pop_front() else { return Ok(None) };
        content.checked(store::answer(asked)?).map(Some)
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.under_way.iter().for_each(|(_, asked)| asked.abort());
    }
}
