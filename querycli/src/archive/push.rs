//! `archive push`: sealed sessions out of the database into the archive.
//!
//! For each session: its blocks are read in one snapshot and their digest compared with the database's; the files are written
//! and then the manifest; all of it is read back from the disk, decoded, and the digest compared again; only then does the
//! database hear of it. A push that was interrupted is taken up by the next: what is archived already is not written again. Where
//! halts alone changed since, also of a session whose trades retention dropped, the manifest is written anew over the same files.

use super::batch::{Batch, Item, There};
use super::hours::Filed;
use super::manifest::{
    CALENDARS, Content, FORMAT, Halts, Manifest, Origin, SegmentRow, Terms, minutes_file, trades_file,
};
use super::place::Place;
use super::{Archive, Selection, file, halts};
use crate::db::{Blocks, Db, Narrow, Part};
use crate::error::{Error, Result};
use bytes::Bytes;
use market::{TradeDate, Trades, block};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::{Client, Row};
use xxhash_rust::xxh3::xxh3_64;

/// Sessions read under one snapshot at most: a long one would keep the server from truncating what it sealed.
const SESSIONS_A_SNAPSHOT: usize = 16;
/// Trades held at once, but for a session that has more.
const TRADES_A_BATCH: usize = 1 << 20;

/// What to push.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// Which sessions; provisional ones wait in any case.
    pub selection: Selection,
}

/// What happened to a session.
#[derive(Clone, Debug)]
pub enum Pushed {
    /// It is in the archive now.
    Written(Box<Manifest>),
    /// It was there already; the database was told if it did not know.
    Known(Box<Manifest>),
    /// It could not be, with the reason; the others went on.
    Failed(String, Error),
}

/// A sealed session as the database lists it.
struct Sealed {
    instrument: i32,
    day: TradeDate,
    digest: u64,
    state: String,
    revision: i32,
    sealed_at: String,
    calendar_version: i32,
    terms: Terms,
    symbol: String,
    /// Retention dropped its trades: what is archived of them stays.
    dropped: bool,
}

const SEALED: &str = "
    SELECT i.id, i.symbol, s.trade_date::text, s.digest, s.state, s.revision, s.sealed_at::text, s.calendar_version,
           i.kind, i.calendar, i.venue, i.root, i.expiry::text, i.currency, t.tick_size::text, t.multiplier::text, s.dropped
    FROM (SELECT instrument_id, trade_date, min(digest) AS digest, min(state) AS state, max(revision) AS revision,
                 max(sealed_at) AS sealed_at, max(calendar_version) AS calendar_version, bool_or(trades_dropped_at IS NOT NULL) AS dropped
          FROM market.session_bars GROUP BY instrument_id, trade_date HAVING bool_and(state <> 'provisional')) AS s
    JOIN market.instruments AS i ON i.id = s.instrument_id
    LEFT JOIN LATERAL (SELECT tick_size, multiplier FROM market.instrument_terms AS t
      WHERE t.instrument_id = i.id AND t.from_date <= s.trade_date ORDER BY from_date DESC LIMIT 1) AS t ON true";

fn sealed(row: &Row) -> Result<Sealed> {
    Ok(Sealed {
        instrument: row.get(0),
        symbol: row.get(1),
        day: TradeDate::parse(row.get(2))?,
        digest: row.get::<_, i64>(3) as u64,
        state: row.get(4),
        revision: row.get(5),
        sealed_at: row.get(6),
        calendar_version: row.get(7),
        terms: Terms {
            kind: row.get(8),
            calendar: row.get(9),
            venue: row.get(10),
            root: row.get(11),
            expiry: row.get(12),
            currency: row.get(13),
            tick_size: row.get(14),
            multiplier: row.get(15),
        },
        dropped: row.get(16),
    })
}

/// Archives every sealed session of the selection; `each` hears of one after the other. Reads from `db`, which may be a
/// replica, and tells the server of `writer`, which refuses what it does not have so itself.
///
/// # Errors
/// A connection that broke or a disk that is full: nothing after it can work. What is wrong with one session is told to
/// `each` and stops no other.
pub async fn push(
    db: &Arc<Db>,
    writer: &Client,
    place: &Place,
    push: &Push,
    mut each: impl FnMut(&Pushed),
) -> Result<()> {
    let archive = Archive::at(place.clone());
    let _lock = place.lock_to_write()?;
    db.begin().await?;
    let origin = origin(db).await?;
    let all = listed(db, place, push).await?;
    let mut filed = Filed::default();
    let mut there = There::new(place);
    for some in all.chunks(SESSIONS_A_SNAPSHOT) {
        archive.forget();
        archive.expect(some.iter().map(|(_, symbol, day)| (symbol.as_str(), *day)));
        let mut batch = Batch::default();
        for (instrument, _, day) in some {
            // a snapshot of its own after each batch: a long one would keep the server from truncating what it sealed
            if batch.is_empty() {
                db.begin().await?;
            }
            let Some(session) = one(db, *instrument, *day).await? else { continue };
            let name = format!("{} {}", session.symbol, session.day);
            let item = match now(db, &session, &mut filed).await {
                Ok(now) => item(db, &archive, &mut there, &session, &origin, now).await,
                Err(error) => Err(error),
            };
            match item {
                Ok(Some(item)) => batch.add(item),
                Ok(None) => {}
                Err(error) => each(&Pushed::Failed(name, error)),
            }
            if batch.trades > TRADES_A_BATCH {
                batch.archive(&archive, writer, &mut each).await?;
            }
        }
        batch.archive(&archive, writer, &mut each).await?;
    }
    Ok(())
}

/// What belongs to a session and may change without it.
struct Now {
    halts: Halts,
    /// What `market.halts_digest` says of them.
    halts_digest: String,
    /// The calendar's file.
    calendar: Option<(Content, Vec<u8>)>,
}

async fn now(db: &Db, session: &Sealed, filed: &mut Filed) -> Result<Now> {
    let (halts, halts_digest) = halts::of_session(&*db.leader().await?, session.instrument, session.day).await?;
    let calendar = filed.calendar(db, &session.terms.calendar, session.calendar_version).await?;
    Ok(Now { halts, halts_digest, calendar })
}

/// How a session's archived state becomes what it shall be; `None`: its trades are gone and are not archived here.
async fn item(
    db: &Arc<Db>,
    archive: &Archive,
    there: &mut There,
    session: &Sealed,
    origin: &Origin,
    now: Now,
) -> Result<Option<Item>> {
    match (archived(archive, there, session, origin), session.dropped) {
        (Ok(Some(manifest)), _) => Ok(Some(brought_up(manifest, now))),
        (Ok(None), true) => Ok(None),
        (Err(error), true) => Err(error),
        // what is there and broken is written again
        (Ok(None) | Err(_), false) => Ok(Some(whole(db, session, origin, now).await?)),
    }
}

/// The manifest anew over the same files where halts changed, or where an older program wrote it.
fn brought_up(archived: Manifest, now: Now) -> Item {
    let calendar = now.calendar.as_ref().map(|(content, _)| content.clone());
    let same = |halts: &Halts| (&halts.noted, &halts.after) == (&now.halts.noted, &now.halts.after);
    let known = archived.calendar == calendar && archived.halts.as_ref().is_some_and(same);
    let (manifest, files) = match known {
        true => (archived, Vec::new()),
        false => {
            let files = now.calendar.into_iter().map(|(content, bytes)| (content, bytes.into())).collect();
            (Manifest { format: FORMAT, calendar, halts: Some(now.halts), ..archived }, files)
        }
    };
    Item { manifest, files, trades: None, known, halts_digest: now.halts_digest }
}

async fn origin(db: &Db) -> Result<Origin> {
    let sql = "SELECT (SELECT system_identifier::text FROM pg_control_system()), (SELECT timeline_id FROM pg_control_checkpoint()),
                      current_database()::text";
    let row = db.leader().await?.query_one(sql, &[]).await?;
    Ok(Origin { system_identifier: row.get(0), timeline: row.get(1), database: row.get(2) })
}

/// The sessions whose trades are there, and those that have only new halts to be archived.
async fn listed(db: &Db, place: &Place, push: &Push) -> Result<Vec<(i32, String, TradeDate)>> {
    let client = db.leader().await?;
    let of_halts = "SELECT DISTINCT i.symbol, p.trade_date::text FROM market.archive_pending(location => $1) AS p
                    JOIN market.instruments AS i ON i.symbol = p.symbol WHERE p.state = 'halts'";
    let of_halts = client.query(of_halts, &[&place.location()]).await?;
    let of_halts: BTreeSet<(String, String)> = of_halts.iter().map(|row| (row.get(0), row.get(1))).collect();
    let sql = format!("{SEALED} ORDER BY i.symbol, s.trade_date");
    let mut all = Vec::new();
    for row in client.query(&sql, &[]).await? {
        let session = sealed(&row)?;
        let wanted = !session.dropped || of_halts.contains(&(session.symbol.clone(), session.day.to_string()));
        if wanted && push.selection.takes(&session.symbol, session.day) {
            all.push((session.instrument, session.symbol, session.day));
        }
    }
    Ok(all)
}

/// A session in the snapshot of now; `None` if it is not there any more.
async fn one(db: &Db, instrument: i32, day: TradeDate) -> Result<Option<Sealed>> {
    let sql = format!("{SEALED} WHERE s.instrument_id = $1 AND s.trade_date = $2::text::date");
    let rows = db.leader().await?.query(&sql, &[&instrument, &day.to_string()]).await?;
    rows.first().map(sealed).transpose()
}

/// The session's manifest, if its trades and bars are archived as they are now and its files are whole.
fn archived(archive: &Archive, there: &mut There, session: &Sealed, origin: &Origin) -> Result<Option<Manifest>> {
    let Some(manifest) = archive.manifest(&session.symbol, session.day)? else { return Ok(None) };
    let same = manifest.digest()? == session.digest
        && manifest.state == session.state
        && manifest.revision == session.revision
        && manifest.calendar_version == session.calendar_version
        && manifest.instrument == session.terms
        && manifest.origin == *origin;
    if !same {
        return Ok(None);
    }
    for content in manifest.contents() {
        there.check(content)?;
    }
    Ok(Some(manifest))
}

async fn trades_of(db: &Arc<Db>, session: &Sealed) -> Result<Trades> {
    let mut blocks = Blocks::open(db, session.instrument, session.day, session.day, Narrow::default()).await?;
    let (mut all, mut part) = (Trades::new(), Trades::new());
    while let Some((_, Part::Block(bytes))) = blocks.next().await? {
        part.clear();
        block::check_block(&bytes, &mut part)?;
        all.append(&part);
    }
    Ok(all)
}

/// All of a session, out of the database.
async fn whole(db: &Arc<Db>, session: &Sealed, origin: &Origin, now: Now) -> Result<Item> {
    let trades = trades_of(db, session).await?;
    let digest = market::digest(&trades);
    if digest != session.digest || trades.is_empty() {
        return Err(Error::world(
            format!(
                "the database's trades of {} {} have digest {digest:016x}, and its bars were made of {:016x}",
                session.symbol, session.day, session.digest
            ),
            format!("see SELECT * FROM market.verify_bars('{}', '{1}', '{1}')", session.symbol, session.day),
        ));
    }
    let (minutes, bars) = bars_of(db, session).await?;
    let labels = [
        ("symbol", session.symbol.clone()),
        ("trade_date", session.day.to_string()),
        ("digest", format!("{digest:016x}")),
    ];
    let parquet = file::write(&trades, &labels)?;
    let name = trades_file(&session.symbol, session.day, digest);
    let mut files = vec![(Content::of(name, &parquet), Bytes::from(parquet))];
    if let Some(minutes) = minutes {
        let name = minutes_file(&session.symbol, session.day, xxh3_64(&minutes));
        files.push((Content::of(name, &minutes), minutes));
    }
    files.extend(now.calendar.map(|(content, bytes)| (content, bytes.into())));
    let named = |folder: &str| files.iter().map(|(content, _)| content).find(|c| c.file.starts_with(folder)).cloned();
    let manifest = Manifest {
        format: FORMAT,
        symbol: session.symbol.clone(),
        trade_date: session.day.to_string(),
        n: trades.len() as u64,
        digest: format!("{digest:016x}"),
        first_ts: trades.ts.first().copied().unwrap_or_default(),
        last_ts: trades.ts.last().copied().unwrap_or_default(),
        state: session.state.clone(),
        revision: session.revision,
        sealed_at: session.sealed_at.clone(),
        calendar_version: session.calendar_version,
        instrument: session.terms.clone(),
        origin: origin.clone(),
        trades: files[0].0.clone(),
        minutes: named(super::manifest::MINUTES),
        calendar: named(CALENDARS),
        bars,
        halts: Some(now.halts),
        checksum: String::new(),
    };
    Ok(Item { manifest, files, trades: Some(trades), known: false, halts_digest: now.halts_digest })
}

/// The block of minute bars and the rows of `session_bars`.
async fn bars_of(db: &Arc<Db>, session: &Sealed) -> Result<(Option<Bytes>, Vec<SegmentRow>)> {
    let key: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&session.instrument, &session.day.to_string()];
    let leader = db.leader().await?;
    let sql = "SELECT payload FROM market.bar_blocks WHERE instrument_id = $1 AND trade_date = $2::text::date";
    let minutes = leader.query_opt(sql, &key).await?.map(|row| Bytes::from(row.get::<_, Vec<u8>>(0)));
    Ok((minutes, segment_rows(&leader, session.instrument, session.day).await?))
}

/// A session's rows of `market.session_bars`, as PostgreSQL prints them.
///
/// # Errors
/// What the server says.
pub async fn segment_rows(client: &Client, instrument: i32, day: TradeDate) -> Result<Vec<SegmentRow>> {
    let sql =
        "SELECT segment, opens_at::text, closes_at::text, open::text, high::text, low::text, close::text, volume::text,
                      notional::text, trades, priced
               FROM market.session_bars WHERE instrument_id = $1 AND trade_date = $2::text::date ORDER BY segment";
    let rows = client.query(sql, &[&instrument, &day.to_string()]).await?;
    let row = |row: &Row| SegmentRow {
        segment: row.get(0),
        opens_at: row.get(1),
        closes_at: row.get(2),
        open: row.get(3),
        high: row.get(4),
        low: row.get(5),
        close: row.get(6),
        volume: row.get(7),
        notional: row.get(8),
        trades: row.get(9),
        priced: row.get(10),
    };
    Ok(rows.iter().map(row).collect())
}

/// `XNYS@2-HASH.toml`.
pub fn calendar_file(calendar: &str, version: i32, bytes: &[u8]) -> String {
    let folder = super::manifest::symbol_folder(calendar);
    let id = folder.strip_prefix("symbol=").unwrap_or(&folder);
    format!("{CALENDARS}/{id}@{version}-{}.toml", calendar_hash(bytes))
}

/// The hash in the name of a calendar's file.
pub fn calendar_hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// Id, version and hash out of the name of a calendar's file.
pub fn calendar_of_file(name: &str) -> Option<(String, i32, String)> {
    let (id, rest) = name.strip_suffix(".toml")?.rsplit_once('@')?;
    let (version, hash) = rest.split_once('-')?;
    let id = super::manifest::symbol_of_folder(&format!("symbol={id}"))?;
    Some((id, version.parse().ok()?, hash.to_owned()))
}
