//! `archive restore`: archived sessions back into a database, as they were.
//!
//! Each session is one transaction: its trades through `put_trades`, then digest, bars and state are compared with the
//! manifest. A restore that was interrupted has put whole sessions, and running it again does the rest.

use super::manifest::{Manifest, SegmentRow, changed};
use super::push::segment_rows;
use super::{Archive, Selection, file, halts};
use crate::db::{Db, date, literal};
use crate::error::{Error, Result};
use bytes::Bytes;
use market::block;
use tokio_postgres::Client;

/// Sessions whose manifests are asked for at once.
const SESSIONS_AT_ONCE: usize = 64;

/// What to restore.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    /// Which sessions.
    pub selection: Selection,
}

/// What happened to a session.
#[derive(Clone, Debug)]
pub enum Restored {
    /// Its trades are in the database now.
    Written(Box<Manifest>),
    /// They were there already.
    Known(Box<Manifest>),
    /// They could not be, with the reason; the others went on.
    Failed(String, Error),
}

/// Restores every session of the selection; `each` hears of one after the other.
///
/// # Errors
/// A connection that broke. What is wrong with one session is told to `each` and stops no other.
pub async fn restore(db: &Db, archive: &Archive, restore: &Restore, mut each: impl FnMut(&Restored)) -> Result<()> {
    // The first instrument of a database gives its tables their policies, for which nobody may read them.
    db.end().await?;
    let mut writer = db.writer().await?;
    for some in archive.sessions(&restore.selection)?.chunks(SESSIONS_AT_ONCE) {
        archive.expect(some.iter().map(|(symbol, day)| (symbol.as_str(), *day)));
        let mut found = Vec::new();
        for (symbol, day) in some {
            match archive.manifest(symbol, *day) {
                Ok(manifest) => found.extend(manifest),
                Err(error) => each(&Restored::Failed(format!("{symbol} {day}"), error)),
            }
        }
        let mut files = archive.contents(found.iter().map(|manifest| manifest.trades.clone()));
        for manifest in found {
            let name = manifest.name();
            let gone = || changed(&manifest.trades.file, "it is not there");
            let done = match files.next_file().and_then(|bytes| bytes.ok_or_else(gone)) {
                Ok(bytes) => session(&mut writer, bytes, manifest).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(done) => each(&done),
                Err(error) if writer.is_closed() => return Err(error),
                Err(error) => each(&Restored::Failed(name, error)),
            }
        }
    }
    Ok(())
}

async fn session(writer: &mut Client, bytes: Bytes, manifest: Manifest) -> Result<Restored> {
    let trades = file::read(bytes)?;
    let digest = manifest.digest()?;
    if market::digest(&trades) != digest {
        return Err(changed(&manifest.trades.file, "its trades have another digest than the manifest says"));
    }
    let instrument = instrument(writer, &manifest).await?;
    // Dropping the transaction without a commit rolls it back.
    let transaction = writer.transaction().await?;
    let client = transaction.client();
    let (before, n) = stored(client, instrument, &manifest).await?;
    match before {
        Some((stored, false)) if stored != digest => {
            return Err(Error::question(
                format!("the database has other trades of {} (digest {stored:016x})", manifest.name()),
                "restore into another database, or remove what is there",
            ));
        }
        Some((_, false)) if n == manifest.n => {
            halts::restore(client, instrument, &manifest).await?;
            transaction.commit().await?;
            return Ok(Restored::Known(Box::new(manifest)));
        }
        _ => {}
    }
    let payload = block::encode_session(&trades)?;
    let sql = "SELECT trade_date::text, conflicts FROM market.put_trades($1, $2)";
    let row = client.query_one(sql, &[&instrument, &payload]).await?;
    let (day, conflicts): (String, i64) = (row.get(0), row.get(1));
    if day != manifest.trade_date || conflicts > 0 {
        return Err(Error::world(
            format!("the database files the trades of {} under {day}, with {conflicts} conflicts", manifest.name()),
            "it has another calendar, or other trades; restore into a database without them",
        ));
    }
    state(client, instrument, &manifest).await?;
    let (after, n) = stored(client, instrument, &manifest).await?;
    let right = n == manifest.n && after.is_none_or(|(stored, dropped)| stored == digest && !dropped);
    let bars = segment_rows(client, instrument, manifest.day()?).await?;
    if !right || bars != manifest.bars {
        return Err(Error::world(
            format!("restored, {} would differ: {}", manifest.name(), difference(&manifest, n, &bars)),
            "the database's calendar or corrections are not those of the archive; nothing was changed",
        ));
    }
    halts::restore(client, instrument, &manifest).await?;
    transaction.commit().await?;
    Ok(Restored::Written(Box::new(manifest)))
}

fn difference(manifest: &Manifest, n: u64, bars: &[SegmentRow]) -> String {
    if n != manifest.n {
        return format!("{n} trades for {}", manifest.n);
    }
    let differing = manifest.bars.iter().find(|bar| !bars.contains(bar));
    match differing {
        Some(bar) => format!("its {} bar", bar.segment),
        None => "its digest or its number of bars".to_owned(),
    }
}

/// The instrument's id; it is added if the database does not have it.
async fn instrument(writer: &Client, manifest: &Manifest) -> Result<i32> {
    let sql = "SELECT id, calendar FROM market.instruments WHERE symbol = $1";
    if let Some(row) = writer.query_opt(sql, &[&manifest.symbol]).await? {
        let (id, calendar): (i32, String) = (row.get(0), row.get(1));
        if calendar != manifest.instrument.calendar {
            return Err(Error::question(
                format!(
                    "{} has the calendar {calendar} in the database and {} in the archive",
                    manifest.symbol, manifest.instrument.calendar
                ),
                "restore into a database where it has the same",
            ));
        }
        return Ok(id);
    }
    let terms = &manifest.instrument;
    let text = |value: &Option<String>| value.as_deref().map_or("NULL".to_owned(), literal);
    let sql = format!(
        "SELECT market.add_instrument({}, calendar => {}, tick_size => {}::numeric, multiplier => {}::numeric, currency => {}, venue => {}, kind => {})",
        literal(&manifest.symbol),
        literal(&terms.calendar),
        text(&terms.tick_size),
        text(&terms.multiplier),
        text(&terms.currency),
        text(&terms.venue),
        literal(&terms.kind)
    );
    Ok(writer.query_one(&sql, &[]).await?.get(0))
}

/// The session's digest, whether retention dropped its trades, and how many lie in blocks.
async fn stored(client: &Client, instrument: i32, manifest: &Manifest) -> Result<(Option<(u64, bool)>, u64)> {
    let day = date(manifest.day()?);
    let sql = format!(
        "SELECT (SELECT coalesce(sum(n), 0)::int8 FROM market.trade_blocks WHERE instrument_id = {instrument} AND trade_date = {day}),
                (SELECT digest FROM market.session_bars WHERE instrument_id = {instrument} AND trade_date = {day} LIMIT 1),
                (SELECT trades_dropped_at IS NOT NULL FROM market.session_bars WHERE instrument_id = {instrument} AND trade_date = {day} LIMIT 1)"
    );
    let row = client.query_one(&sql, &[]).await?;
    let digest = row.get::<_, Option<i64>>(1).map(|digest| digest as u64);
    let dropped = row.get::<_, Option<bool>>(2).unwrap_or(false);
    Ok((digest.map(|digest| (digest, dropped)), row.get::<_, i64>(0) as u64))
}

/// Gives the session the state it had: a database that never sealed it cannot know how often it was revised.
async fn state(client: &Client, instrument: i32, manifest: &Manifest) -> Result<()> {
    let sql = format!(
        "UPDATE market.session_bars SET state = {}, revision = {}, sealed_at = {}::timestamptz,
           reason = CASE WHEN {} = 'provisional' THEN reason END
         WHERE instrument_id = {instrument} AND trade_date = {}
",
        literal(&manifest.state),
        manifest.revision,
        literal(&manifest.sealed_at),
        literal(&manifest.state),
        date(manifest.day()?)
    );
    Ok(client.batch_execute(&sql).await?)
}
