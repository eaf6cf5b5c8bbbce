//! Some sessions written together: their files, then all of it read back, then their manifests, read back too, then the database is
//! told. A store is asked for many files at once, so that a session costs no round trip of its own; what goes wrong with one session
//! stops no other.

use super::manifest::{CALENDARS, Content, Manifest, changed};
use super::place::TEMPORARY;
use super::push::Pushed;
use super::{Archive, Place, file};
use crate::error::{Error, Result};
use bytes::Bytes;
use market::Trades;
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::Client;

/// A session as it shall be archived.
pub struct Item {
    /// What is told of it.
    pub manifest: Manifest,
    /// The files to write.
    pub files: Vec<(Content, Bytes)>,
    /// What the file of its trades must hold, if that is written.
    pub trades: Option<Trades>,
    /// It is there already, with this very manifest.
    pub known: bool,
    /// What the database is told of its halts.
    pub halts_digest: String,
}

/// Sessions that are written together.
#[derive(Default)]
pub struct Batch {
    items: Vec<Item>,
    /// How many trades they hold in memory.
    pub trades: usize,
}

impl Batch {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// One more.
    pub fn add(&mut self, item: Item) {
        self.trades += item.trades.as_ref().map_or(0, Trades::len);
        self.items.push(item);
    }

    /// Writes them and tells the database, which refuses what it has sealed otherwise since.
    ///
    /// # Errors
    /// A connection that broke.
    pub async fn archive(&mut self, archive: &Archive, writer: &Client, each: &mut impl FnMut(&Pushed)) -> Result<()> {
        self.trades = 0;
        let items = std::mem::take(&mut self.items);
        let mut done = commit(archive, &items);
        for (item, done) in items.iter().zip(&mut done) {
            if done.is_ok() {
                *done = told(archive, writer, item).await;
            }
            if writer.is_closed() {
                return std::mem::replace(done, Ok(()));
            }
        }
        forget_pruned(archive, writer, &items, &mut done).await?;
        for (item, done) in items.into_iter().zip(done) {
            match done {
                Ok(()) if item.known => each(&Pushed::Known(Box::new(item.manifest))),
                Ok(()) => each(&Pushed::Written(Box::new(item.manifest))),
                Err(error) => each(&Pushed::Failed(item.manifest.name(), error)),
            }
        }
        Ok(())
    }
}

/// A file, and the sessions whose it is: a calendar is of many.
struct Shared<'a> {
    content: &'a Content,
    bytes: &'a Bytes,
    of: Vec<usize>,
}

/// Writes what sessions lack, reads it back, and then the manifests that make it count; what became of each.
pub fn commit(archive: &Archive, items: &[Item]) -> Vec<Result<()>> {
    let place = &archive.place;
    let mut done: Vec<Result<()>> = items.iter().map(|_| Ok(())).collect();
    let fail = |at: usize, found: Result<()>, done: &mut Vec<Result<()>>| {
        if done[at].is_ok() {
            done[at] = found;
        }
    };
    let mut files: Vec<Shared<'_>> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        for (content, bytes) in &item.files {
            match files.iter_mut().find(|file| file.content.file == content.file) {
                Some(known) => known.of.push(at),
                None => files.push(Shared { content, bytes, of: vec![at] }),
            }
        }
    }
    // in a folder a calendar that is there stays; in a store it is put again, so that prune knows it is young
    let stays = |file: &Shared<'_>| file.content.file.starts_with(CALENDARS) && file.content.read(place).is_ok();
    files.retain(|file| place.is_store() || !stays(file));
    let named: Vec<(String, Bytes)> = files.iter().map(|f| (f.content.file.clone(), f.bytes.clone())).collect();
    for (file, written) in files.iter().zip(place.write_many(&named)) {
        file.of.iter().for_each(|at| fail(*at, written.clone(), &mut done));
    }
    let mut contents = archive.contents(files.iter().map(|file| file.content.clone()));
    for file in &files {
        let found = contents.next_file().and_then(|bytes| read_back(&items[file.of[0]], file.content, bytes));
        file.of.iter().for_each(|at| fail(*at, found.clone(), &mut done));
    }
    let news: Vec<usize> = (0..items.len()).filter(|at| done[*at].is_ok() && !items[*at].known).collect();
    let manifest = |at: &usize| Ok((items[*at].manifest.file()?, Bytes::from(items[*at].manifest.to_bytes()?)));
    let manifests: Result<Vec<(String, Bytes)>> = news.iter().map(manifest).collect();
    let manifests = match manifests {
        Ok(manifests) => manifests,
        Err(error) => {
            news.iter().for_each(|at| fail(*at, Err(error.clone()), &mut done));
            return done;
        }
    };
    for (at, written) in news.iter().zip(place.write_many(&manifests)) {
        fail(*at, written, &mut done);
    }
    let names: Vec<String> = manifests.iter().map(|(name, _)| name.clone()).collect();
    for (at, (read, (name, bytes))) in news.iter().zip(place.read_many(&names).into_iter().zip(&manifests)) {
        let same = read.and_then(|read| match read {
            Some(read) if read == *bytes => Manifest::from_bytes(name, &read).map(drop),
            Some(_) => Err(changed(name, "read back it is not what was written")),
            None => Err(changed(name, "it was written and is not there")),
        });
        fail(*at, same, &mut done);
    }
    // a prune that had seen no manifest of a file that an interrupted push left may have come between
    let named: Vec<(usize, &Content)> =
        news.iter().flat_map(|at| items[*at].manifest.contents().map(|content| (*at, content))).collect();
    let names: Vec<String> = named.iter().map(|(_, content)| content.file.clone()).collect();
    for ((at, content), there) in named.into_iter().zip(place.still_there(&names)) {
        let there = there.and_then(|there| match there {
            true => Ok(()),
            false => Err(changed(&content.file, "it was written and is gone; was it pruned?")),
        });
        fail(at, there, &mut done);
    }
    done
}

fn read_back(item: &Item, content: &Content, bytes: Option<Bytes>) -> Result<()> {
    let bytes = bytes.ok_or_else(|| changed(&content.file, "it was written and is not there"))?;
    let Some(trades) = item.trades.as_ref().filter(|_| *content == item.manifest.trades) else { return Ok(()) };
    let found = file::read(bytes)?;
    match market::digest(&found) == item.manifest.digest()? && found == *trades {
        true => Ok(()),
        false => Err(changed(&content.file, "read back it has other trades than were written")),
    }
}

/// Tells the database that a session is archived here.
async fn told(archive: &Archive, writer: &Client, item: &Item) -> Result<()> {
    let (manifest, location) = (&item.manifest, archive.location());
    let sql = "SELECT market.mark_archived($1, $2::text::date, $3, $4, $5, $6)";
    let (digest, n) = (manifest.digest()? as i64, manifest.n as i64);
    let (symbol, day) = (&manifest.symbol, &manifest.trade_date);
    writer.query_one(sql, &[symbol, day, &digest, &location, &n, &item.halts_digest]).await?;
    match archive.place.is_store() {
        true => Ok(()),
        false => remove_old(archive, manifest),
    }
}

/// No lock keeps a prune away from a store, which forgets a session before and after it removes it: what was there before the database
/// was told must be there now, or the database forgets it again.
async fn forget_pruned(archive: &Archive, writer: &Client, items: &[Item], done: &mut [Result<()>]) -> Result<()> {
    if !archive.place.is_store() {
        return Ok(());
    }
    let known: Vec<usize> = (0..items.len()).filter(|at| items[*at].known && done[*at].is_ok()).collect();
    let names = known.iter().map(|at| items[*at].manifest.file()).collect::<Result<Vec<_>>>()?;
    for (at, there) in known.into_iter().zip(archive.place.still_there(&names)) {
        let manifest = &items[at].manifest;
        if !there? {
            let sql = "SELECT market.unmark_archived($1, $2::text::date, $3)";
            writer.query_one(sql, &[&manifest.symbol, &manifest.trade_date, &archive.location()]).await?;
            let message = format!("{} was pruned meanwhile", manifest.name());
            done[at] = Err(Error::world(message, "push again if that was not meant"));
        }
    }
    Ok(())
}

/// Removes the files of the session's earlier content, which the manifest does not name any more. In a store they are left to prune.
fn remove_old(archive: &Archive, manifest: &Manifest) -> Result<()> {
    let kept: BTreeSet<&str> = manifest.contents().map(|content| content.file.as_str()).collect();
    let folder = |file: &str| file.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default();
    let trades = folder(&manifest.trades.file);
    let mut old: Vec<String> =
        archive.place.list(&trades)?.into_iter().map(|(name, _)| format!("{trades}/{name}")).collect();
    if let Some(minutes) = &manifest.minutes {
        let folder = folder(&minutes.file);
        let of_day = |(name, _): &(String, bool)| name.starts_with(&format!("{}-", manifest.trade_date));
        let files = archive.place.list(&folder)?.into_iter().filter(of_day);
        old.extend(files.map(|(name, _)| format!("{folder}/{name}")));
    }
    // a file that somebody is writing now is not ours to judge: prune removes what is left of it
    old.retain(|file| !kept.contains(file.as_str()) && !file.ends_with(TEMPORARY));
    old.iter().try_for_each(|file| archive.place.remove(&[file]))
}

/// Whether archived files are there: in a folder they are read, in a store their names and lengths are listed, folder by folder, and
/// `verify` reads them.
pub struct There {
    place: Place,
    listed: HashMap<String, HashMap<String, u64>>,
}

impl There {
    /// Nothing is known yet.
    pub fn new(place: &Place) -> There {
        There { place: place.clone(), listed: HashMap::new() }
    }

    /// Checks one.
    ///
    /// # Errors
    /// A file that is gone or changed.
    pub fn check(&mut self, content: &Content) -> Result<()> {
        if !self.place.is_store() {
            return content.read(&self.place).map(drop);
        }
        // trades/symbol=X and minutes/symbol=X
        let mut ends = content.file.match_indices('/').map(|(at, _)| at);
        let end = ends.nth(1).or_else(|| content.file.find('/')).unwrap_or(0);
        let folder = &content.file[..end];
        if !self.listed.contains_key(folder) {
            let files = self.place.files(folder)?.into_iter().map(|found| (found.name, found.bytes)).collect();
            self.listed.insert(folder.to_owned(), files);
        }
        match self.listed.get(folder).and_then(|files| files.get(&content.file)) {
            None => Err(changed(&content.file, "it is not there")),
            Some(bytes) if *bytes != content.bytes => {
                Err(changed(&content.file, &format!("it has {bytes} bytes, not {}", content.bytes)))
            }
            Some(_) => Ok(()),
        }
    }
}
