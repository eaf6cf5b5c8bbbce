//! An archive below a prefix of an object store.
//!
//! An object is put whole, by one request or, above a size, in parts that count when the last is there: whoever reads sees the old
//! one or the new one. What a store refuses for a moment (500, 503, a connection that broke) is asked again. This is the one place
//! where the archive waits for what is asynchronous.

use super::Found;
use crate::error::{Error, Result, causes};
use crate::execute::{wait, workers};
use crate::remote::{Kind, has_password};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Requests under way at once, where their order does not matter.
const AT_ONCE: usize = 16;
/// What is larger goes in parts of this size.
const PART: usize = 8 << 20;
/// Parts of one object under way at once.
const PARTS_AT_ONCE: usize = 4;
/// How often the same is asked; the store's client has asked again by itself before.
const TRIES: u32 = 3;
/// An object that is written to see what the store's clock says.
const CLOCK: &str = ".clock";

/// A prefix of an object store.
#[derive(Clone)]
pub struct Store {
    /// Its URL, without a stroke at the end.
    shown: String,
    kind: Kind,
    store: Arc<dyn ObjectStore>,
    prefix: Key,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Store {
    /// Reads a URL; `None` if it is of no store.
    ///
    /// # Errors
    /// A password in it; a URL or an environment that no store is described by.
    pub fn open(text: &str) -> Result<Option<Store>> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
        let Some(kind) = Kind::of(scheme) else { return Ok(None) };
        if has_password(rest) {
            // not repeated: it is shown in lists of processes already
            return Err(Error::question("there is a password in the name of the archive", kind.credentials()));
        }
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let wrong = |why: String| Error::question(format!("the archive {text}: {why}"), kind.credentials());
        let prefix = Key::parse(path).map_err(|error| wrong(causes(&error)))?;
        let store = kind.store(text).map_err(|error| wrong(causes(&error)))?;
        let shown = format!("{scheme}://{bucket}/{prefix}");
        Ok(Some(Store { shown: shown.trim_end_matches('/').to_owned(), kind, store, prefix }))
    }

    /// Its URL.
    pub fn location(&self) -> &str {
        &self.shown
    }

    /// The key of a file's name, which has no characters that a store could take amiss.
    fn key(&self, name: &str) -> Key {
        let whole = match (self.prefix.as_ref(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        };
        // names of ours parse, and others come from the store
        Key::parse(&whole).unwrap_or_else(|_| Key::from(whole))
    }

    /// The name of a key, from the archive's root.
    fn name(&self, key: &Key) -> Option<String> {
        match self.prefix.as_ref() {
            "" => Some(key.to_string()),
            prefix => key.as_ref().strip_prefix(prefix)?.strip_prefix('/').map(str::to_owned),
        }
    }

    fn failed(&self, what: &str, name: &str, error: &object_store::Error) -> Error {
        use object_store::Error as E;
        let shown = format!("{}/{name}", self.shown);
        let shown = shown.trim_end_matches('/');
        match error {
            _ if refuses(error) => {
                Error::world(format!("{shown} may not be {what}: the store refuses"), self.kind.credentials())
            }
            E::NotFound { .. } => Error::world(format!("{shown} cannot be {what}: there is no such bucket"), ""),
            other => Error::world(format!("{shown} cannot be {what}: {}", causes(other)), self.kind.credentials()),
        }
    }

    async fn get(self, name: String) -> Result<Option<Bytes>> {
        let key = self.key(&name);
        let get = |store: Arc<dyn ObjectStore>, key: Key| async move { store.get(&key).await?.bytes().await };
        let got = again(|| get(Arc::clone(&self.store), key.clone())).await;
        match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", &name, &error)),
        }
    }

    async fn put(self, name: String, bytes: Bytes) -> Result<()> {
        let key = self.key(&name);
        let put = again(|| put(Arc::clone(&self.store), key.clone(), bytes.clone()));
        put.await.map_err(|error| self.failed("written", &name, &error))
    }

    /// Reads a file of a known length, a large one in pieces: it has a name that is never written twice with something else.
    async fn get_large(self, name: String, bytes: u64) -> Result<Option<Bytes>> {
        if bytes <= PART as u64 {
            return self.get(name).await;
        }
        let key = self.key(&name);
        let piece = |from: u64| {
            let (store, key) = (Arc::clone(&self.store), key.clone());
            let get = move |store: Arc<dyn ObjectStore>, key: Key| async move {
                store.get_range(&key, from..bytes.min(from + PART as u64)).await
            };
            async move { again(|| get(Arc::clone(&store), key.clone())).await }
        };
        let pieces: Vec<_> = (0..bytes).step_by(PART).map(piece).collect();
        let pieces = stream::iter(pieces).buffered(PARTS_AT_ONCE).try_collect::<Vec<Bytes>>().await;
        match pieces {
            Ok(pieces) => Ok(Some(pieces.concat().into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", &name, &error)),
        }
    }

    /// Begins to read a file of a known length; see [`answer`].
    pub fn ask(&self, name: &str, bytes: u64) -> JoinHandle<Result<Option<Bytes>>> {
        workers().spawn(self.clone().get_large(name.to_owned(), bytes))
    }

    /// A file's bytes; `None` if there is none.
    ///
    /// # Errors
    /// A store that refuses or does not answer.
    pub fn read(&self, name: &str) -> Result<Option<Bytes>> {
        wait(self.clone().get(name.to_owned()))
    }

    /// The bytes of many files, several asked for at once.
    pub fn read_many(&self, names: &[String]) -> Vec<Result<Option<Bytes>>> {
        let asked = names.iter().cloned().map(|name| self.clone().get(name));
        wait(stream::iter(asked).buffered(AT_ONCE).collect())
    }

    /// Writes many files, several at once.
    pub fn write_many(&self, files: &[(String, Bytes)]) -> Vec<Result<()>> {
        let asked = files.iter().cloned().map(|(name, bytes)| self.clone().put(name, bytes));
        wait(stream::iter(asked).buffered(AT_ONCE).collect())
    }

    /// When files were written, several asked for at once; `None` for those that are not there.
    pub fn written(&self, names: &[String]) -> Vec<Result<Option<DateTime<Utc>>>> {
        let head = |name: &String| {
            let (store, name) = (self.clone(), name.clone());
            async move {
                let key = store.key(&name);
                let head = |of: Arc<dyn ObjectStore>, key: Key| async move { of.head(&key).await };
                match again(|| head(Arc::clone(&store.store), key.clone())).await {
                    Ok(found) => Ok(Some(found.last_modified)),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(store.failed("read", &name, &error)),
                }
            }
        };
        wait(stream::iter(names.iter().map(head).collect::<Vec<_>>()).buffered(AT_ONCE).collect())
    }

    /// Removes files; one that is not there is no error.
    ///
    /// # Errors
    /// A store that refuses or does not answer.
    pub fn remove(&self, names: &[&str]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = names.iter().map(|name| self.key(name)).collect();
        let removed = wait(again(|| remove(Arc::clone(&self.store), keys.clone())));
        removed.map_err(|error| self.failed("removed", names.first().copied().unwrap_or_default(), &error))
    }

    /// The names in a folder, sorted, and whether each is a folder.
    ///
    /// # Errors
    /// A store that refuses or does not answer.
    pub fn list(&self, name: &str) -> Result<Vec<(String, bool)>> {
        let folder = self.key(name);
        let list =
            |store: Arc<dyn ObjectStore>, folder: Key| async move { store.list_with_delimiter(Some(&folder)).await };
        let found = wait(again(|| list(Arc::clone(&self.store), folder.clone())));
        let found = found.map_err(|error| self.failed("listed", name, &error))?;
        let last = |key: &Key| key.filename().map(str::to_owned);
        let folders = found.common_prefixes.iter().filter_map(last).map(|name| (name, true));
        let files = found.objects.iter().filter_map(|object| last(&object.location)).map(|name| (name, false));
        let mut names: Vec<(String, bool)> = folders.chain(files).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Every file below a folder, sorted by name.
    ///
    /// # Errors
    /// A store that refuses or does not answer.
    pub fn files(&self, name: &str) -> Result<Vec<Found>> {
        let folder = self.key(name);
        let list =
            |store: Arc<dyn ObjectStore>, folder: Key| async move { store.list(Some(&folder)).try_collect().await };
        let all: object_store::Result<Vec<_>> = wait(again(|| list(Arc::clone(&self.store), folder.clone())));
        let all = all.map_err(|error| self.failed("listed", name, &error))?;
        let found = |object: object_store::ObjectMeta| {
            let name = self.name(&object.location)?;
            Some(Found { name, bytes: object.size, written: Some(object.last_modified) })
        };
        let mut all: Vec<Found> = all.into_iter().filter_map(found).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// What the store's clock says: when an object that is written now was written.
    ///
    /// # Errors
    /// A store that refuses or does not answer.
    pub fn now(&self) -> Result<DateTime<Utc>> {
        let key = self.key(CLOCK);
        let now = |store: Arc<dyn ObjectStore>, key: Key| async move {
            store.put(&key, Bytes::new().into()).await?;
            Ok(store.head(&key).await?.last_modified)
        };
        let now = wait(again(|| now(Arc::clone(&self.store), key.clone())));
        let now = now.map_err(|error| self.failed("written", CLOCK, &error))?;
        self.remove(&[CLOCK])?;
        Ok(now)
    }
}

/// What became of a question that was begun.
///
/// # Errors
/// Those of the question.
pub fn answer(asked: JoinHandle<Result<Option<Bytes>>>) -> Result<Option<Bytes>> {
    let lost = |error: tokio::task::JoinError| Error::world(format!("a request was lost: {error}"), "ask again");
    wait(asked).map_err(lost)?
}

async fn put(store: Arc<dyn ObjectStore>, key: Key, bytes: Bytes) -> object_store::Result<()> {
    if bytes.len() <= PART {
        return store.put(&key, bytes.into()).await.map(drop);
    }
    let mut parts = WriteMultipart::new_with_chunk_size(store.put_multipart(&key).await?, PART);
    for at in (0..bytes.len()).step_by(PART) {
        if let Err(error) = parts.wait_for_capacity(PARTS_AT_ONCE).await {
            // what is left of it counts for nothing; the store's rules remove it if this fails, too
            let _ = parts.abort().await;
            return Err(error);
        }
        parts.put(bytes.slice(at..bytes.len().min(at + PART)));
    }
    parts.finish().await.map(drop)
}

async fn remove(store: Arc<dyn ObjectStore>, keys: Vec<Key>) -> object_store::Result<()> {
    let mut gone = store.delete_stream(stream::iter(keys.into_iter().map(Ok)).boxed());
    while let Some(one) = gone.next().await {
        match one {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the store refuses who asks: of lists its client tells it in the text alone.
fn refuses(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    match error {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => true,
        E::Generic { .. } => {
            let said = causes(error);
            said.contains("403 Forbidden") || said.contains("401 Unauthorized")
        }
        _ => false,
    }
}

/// Asks again what failed for a moment.
async fn again<T, F: Future<Output = object_store::Result<T>>>(ask: impl Fn() -> F) -> object_store::Result<T> {
    let mut tries = 1;
    loop {
        match ask().await {
            Err(error @ (object_store::Error::Generic { .. } | object_store::Error::JoinError { .. }))
                if tries < TRIES && !refuses(&error) =>
            {
                tokio::time::sleep(Duration::from_millis(200) * tries).await;
                tries += 1;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
#[path = "../../../../tests/src/s3.rs"]
#[allow(dead_code, reason = "other tests ask for more")]
mod s3;

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::aws::AmazonS3Builder;
    use std::collections::BTreeMap;

    fn store(server: &s3::Store) -> Store {
        let store = AmazonS3Builder::new()
            .with_bucket_name("private")
            .with_region("us-east-1")
            .with_endpoint(format!("http://127.0.0.1:{}", server.port))
            .with_allow_http(true)
            .with_access_key_id(s3::KEY)
            .with_secret_access_key(s3::SECRET);
        let store: Arc<dyn ObjectStore> = Arc::new(store.build().unwrap());
        Store { shown: "s3://private/a".into(), kind: Kind::S3, store, prefix: Key::from("a") }
    }

    /// What is larger than a part goes in parts, and is there whole or not at all.
    #[test]
    fn a_large_object_goes_in_parts() {
        let server = s3::Store::with(BTreeMap::new());
        let store = store(&server);
        let bytes: Vec<u8> = (0..2 * PART + 12_345).map(|i| (i * 7 % 251) as u8).collect();
        for (name, len) in [("one", PART), ("three", bytes.len())] {
            let written = store.write_many(&[(name.into(), bytes[..len].to_vec().into())]);
            assert!(written.into_iter().all(|one| one.is_ok()));
            assert_eq!(store.read(name).unwrap().unwrap(), &bytes[..len]);
        }
        let asked = server.requests();
        let puts = |key: &str| asked.iter().filter(|request| **request == format!("PUT /private/a/{key}")).count();
        assert_eq!((puts("one"), puts("three")), (1, 3), "{asked:?}");
        // and comes in pieces, also by a server that breaks off
        server.forget_requests();
        server.fail(4);
        for len in [bytes.len(), bytes.len() - 1] {
            let read = answer(store.ask("three", len as u64)).unwrap().unwrap();
            assert_eq!(read, &bytes[..len]);
        }
        assert!(server.requests().len() > 6);
        assert!(store.read("four").unwrap().is_none());
    }

    /// What was old when it was listed and is put again meanwhile stays.
    #[test]
    fn what_is_put_again_is_young() {
        let server = s3::Store::with(BTreeMap::from([("private/a/x".to_owned(), b"1".to_vec())]));
        let place = super::super::Place::Store(store(&server));
        server.pass(3);
        let young = place.now().unwrap() - chrono::Duration::hours(2);
        server.put("private/a/y", b"2".to_vec());
        let removed = place.remove_old(vec!["x".into(), "y".into(), "gone".into()], Some(young)).unwrap();
        assert_eq!((removed, server.objects("private").len()), (vec!["x".to_owned()], 1));
        server.put("private/a/x", b"1".to_vec());
        assert!(place.remove_old(vec!["x".into()], Some(young)).unwrap().is_empty());
    }

    #[test]
    fn lists_of_many_pages_are_whole_and_names_begin_at_the_prefix() {
        let names = (0..25).map(|at| format!("private/a/x/f{at:02}")).chain(["private/ab/x/other".to_owned()]);
        let server = s3::Store::with(names.map(|name| (name, b"bytes".to_vec())).collect());
        server.page(10);
        let store = store(&server);
        let found = store.files("").unwrap();
        assert_eq!((found.len(), found[0].name.as_str(), found[0].bytes), (25, "x/f00", 5));
        assert_eq!(store.list("").unwrap(), [("x".to_owned(), true)]);
        assert_eq!(store.list("x").unwrap().len(), 25);
        assert!(store.files("x/f").unwrap().is_empty());
        store.remove(&["x/f00", "x/f01", "x/gone"]).unwrap();
        assert_eq!(store.files("x").unwrap().len(), 23);
    }
}
