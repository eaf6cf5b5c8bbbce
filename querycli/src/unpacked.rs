//! Folders of files that had to be unpacked or fetched whole: they go with the session that reads them.
//!
//! The catalog knows the tables and the tables know the catalog, so that a session's parts never end by themselves. Its folders
//! are therefore its own; and since tasks of a cancelled statement may still hold the session when the program ends, [`remove`]
//! takes what is left then.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use tempfile::TempDir;

static OPEN: Mutex<Vec<Weak<Unpacked>>> = Mutex::new(Vec::new());

/// The folders of a session.
#[derive(Default)]
pub struct Unpacked(Mutex<Vec<TempDir>>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Unpacked {
    /// Keeps a folder.
    pub fn keep(session: &Weak<Unpacked>, folder: TempDir) {
        // Without a session nobody reads it: it goes at once.
        let Some(owner) = session.upgrade() else { return };
        let mut kept = locked(&owner.0);
        if kept.is_empty() {
            locked(&OPEN).push(Weak::clone(session));
        }
        kept.push(folder);
    }
}

/// Removes the folders of all sessions: the program ends.
pub fn remove() {
    for session in mem::take(&mut *locked(&OPEN)).iter().filter_map(Weak::upgrade) {
        locked(&session.0).clear();
    }
}
