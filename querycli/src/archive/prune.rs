//! `archive prune`: what an interrupted push left, and sessions that are older than anybody wants.

use super::manifest::{Manifest, manifest_file};
use super::verify::{Verified, Verify, verify};
use super::{Archive, Selection};
use crate::db::Db;
use crate::error::{Error, Result};
use chrono::Duration;
use market::TradeDate;

/// What to remove.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Sessions before this trade date; none without it.
    pub before: Option<TradeDate>,
    /// Of these instruments alone.
    pub symbols: Vec<String>,
    /// Also sessions whose trades are nowhere else.
    pub only_copies: bool,
    /// In a store: objects that are younger may be a running push's, and stay.
    pub grace: Duration,
    /// Say what would go, and remove nothing.
    pub dry_run: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Pruned {
    /// A file that belonged to no session is gone.
    Leftover(String),
    /// A session is gone.
    Session(Box<Manifest>),
    /// A session stays, with the reason.
    Kept(String, String),
}

/// Removes. A session goes in the order that keeps everybody right: the database forgets that it is archived, then the
/// manifest goes, then its files.
///
/// # Errors
/// What the server says; a disk that forbids it. `before` without a database, unless only copies may go.
pub async fn prune(db: Option<&Db>, archive: &Archive, prune: &Prune, mut each: impl FnMut(&Pruned)) -> Result<()> {
    let _lock = archive.place.lock_to_prune()?;
    // a store has no locks: by its own clock, what is young may be of a push that has not come to its manifest
    let young = match archive.place.is_store() {
        true => Some(archive.place.now()? - prune.grace),
        false => None,
    };
    let mut leftovers = Vec::new();
    verify(archive, &Verify { selection: nothing(), quick: true }, |found| {
        if let Verified::Leftover(file) = found {
            leftovers.push(file.clone());
        }
    })?;
    leftovers.retain(|file| young.is_none_or(|young| file.written.is_some_and(|written| written <= young)));
    let mut leftovers: Vec<String> = leftovers.into_iter().map(|file| file.name).collect();
    if !prune.dry_run {
        leftovers = archive.place.remove_old(leftovers, young)?;
    }
    leftovers.into_iter().for_each(|file| each(&Pruned::Leftover(file)));
    let Some(before) = prune.before else { return Ok(()) };
    if db.is_none() && !prune.only_copies {
        return Err(Error::question(
            "nobody can tell whether the sessions are anywhere else",
            "name the database with --db, or say --only-copies",
        ));
    }
    let selection = Selection { symbols: prune.symbols.clone(), first: None, last: Some(before.plus(-1)) };
    let sessions = archive.sessions(&selection)?;
    archive.expect(sessions.iter().map(|(symbol, day)| (symbol.as_str(), *day)));
    for (symbol, day) in sessions {
        let name = format!("{symbol} {day}");
        let manifest = match archive.manifest(&symbol, day) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => continue,
            Err(error) => {
                each(&Pruned::Kept(name, format!("it is broken: {}", error.message)));
                continue;
            }
        };
        if let (Some(db), false) = (db, prune.only_copies)
            && !in_database(db, &manifest).await?
        {
            each(&Pruned::Kept(name, "its trades are nowhere else (--only-copies removes them)".into()));
            continue;
        }
        if !prune.dry_run {
            if let Some(db) = db {
                forget(db, archive, &symbol, day).await?;
            }
            archive.place.remove(&[&manifest_file(&symbol, day)])?;
            if let (Some(db), true) = (db, archive.place.is_store()) {
                // a push that saw the manifest before it went may have told the database meanwhile
                forget(db, archive, &symbol, day).await?;
            }
            let files: Vec<&str> = [Some(&manifest.trades), manifest.minutes.as_ref()]
                .into_iter()
                .flatten()
                .map(|c| c.file.as_str())
                .collect();
            archive.place.remove(&files)?;
        }
        each(&Pruned::Session(Box::new(manifest)));
    }
    Ok(())
}

fn nothing() -> Selection {
    Selection { first: Some(TradeDate(i32::MAX)), ..Selection::default() }
}

/// Whether the database has these very trades.
async fn in_database(db: &Db, manifest: &Manifest) -> Result<bool> {
    let sql = "SELECT count(*) > 0 FROM market.session_bars AS s JOIN market.instruments AS i ON i.id = s.instrument_id
               WHERE i.symbol = $1 AND s.trade_date = $2::text::date AND s.digest = $3 AND s.trades_dropped_at IS NULL
                 AND (SELECT sum(b.n) FROM market.trade_blocks AS b
                      WHERE b.instrument_id = s.instrument_id AND b.trade_date = s.trade_date) = $4";
    let (digest, n) = (manifest.digest()? as i64, manifest.n as i64);
    let row = db.leader().await?.query_one(sql, &[&manifest.symbol, &manifest.trade_date, &digest, &n]).await?;
    Ok(row.get(0))
}

async fn forget(db: &Db, archive: &Archive, symbol: &str, day: TradeDate) -> Result<()> {
    let sql = "SELECT market.unmark_archived($1, $2::text::date, $3)";
    db.writer().await?.query_one(sql, &[&symbol, &day.to_string(), &archive.location()]).await?;
    Ok(())
}
