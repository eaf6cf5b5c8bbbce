//! The halts that manifests keep: out of the database, into one, and as an archive alone knows them.
//!
//! A manifest tells of the stretch since the end of the instrument's session before, and of nothing else: a halt that lasts over
//! several sessions is in the manifest of each, and where one was written before the halt ended the others are right all the
//! same. Of a stretch that several manifests tell of, the one written last is believed.

use super::Archive;
use super::manifest::{HaltRow, Halts, Manifest};
use super::tables::micros;
use crate::db::{Instrument, literal};
use crate::error::Result;
use market::calendar::Halt;
use market::{Calendar, Nanos, TradeDate};
use tokio_postgres::{Client, Row};

/// The halts of a session as the database has them now.
///
/// # Errors
/// What the server says.
pub async fn noted(client: &Client, instrument: i32, day: TradeDate) -> Result<Vec<HaltRow>> {
    let sql = "SELECT calendar, trade_date::text, whole_market, kind, from_ts::text, till_ts::text, note, source
               FROM market.session_halts($1, $2::text::date)";
    let rows = client.query(sql, &[&instrument, &day.to_string()]).await?;
    let row = |row: &Row| HaltRow {
        calendar: row.get(0),
        trade_date: row.get(1),
        whole_market: row.get(2),
        kind: row.get(3),
        from_ts: row.get(4),
        till_ts: row.get(5),
        note: row.get(6),
        source: row.get(7),
    };
    Ok(rows.iter().map(row).collect())
}

/// What a manifest keeps of them, and their digest, which the database is told.
///
/// # Errors
/// What the server says.
pub async fn of_session(client: &Client, instrument: i32, day: TradeDate) -> Result<(Halts, String)> {
    let sql = "SELECT now()::text, market.halts_digest($1, $2::text::date),
                 (SELECT max(trade_date)::text FROM market.session_bars WHERE instrument_id = $1 AND trade_date < $2::text::date)";
    let row = client.query_one(sql, &[&instrument, &day.to_string()]).await?;
    let digest: String = row.get(1);
    let noted = if digest.is_empty() { Vec::new() } else { noted(client, instrument, day).await? };
    Ok((Halts { known_at: row.get(0), after: row.get(2), noted }, digest))
}

/// Notes the halts of a manifest that the database does not know; one that lasts there ends as the manifest says.
///
/// # Errors
/// What the server says.
pub async fn restore(client: &Client, instrument: i32, manifest: &Manifest) -> Result<()> {
    for halt in manifest.halts.iter().flat_map(|halts| &halts.noted) {
        let text = |value: &Option<String>| value.as_deref().map_or("NULL".to_owned(), literal);
        let (whose, id) = match halt.whole_market {
            true => ("instrument_id IS NULL AND h.whole_market".to_owned(), "NULL".to_owned()),
            false => (format!("instrument_id = {instrument} AND NOT h.whole_market"), instrument.to_string()),
        };
        let (from, till) = (literal(&halt.from_ts), text(&halt.till_ts));
        let (kind, note) = (literal(&halt.kind), text(&halt.note));
        // under whatever name of the calendar it was noted
        let known = format!(
            "FROM market.instrument_halts({instrument}) AS h
             WHERE e.{whose} AND h.calendar = e.calendar AND e.from_ts = {from} AND h.from_ts = e.from_ts AND e.kind = {kind}"
        );
        let sql = format!(
            "UPDATE market.calendar_exceptions AS e SET till_ts = {till}, note = coalesce(e.note, {note}) {known}
               AND e.till_ts IS NULL AND {till}::timestamptz IS NOT NULL;
             INSERT INTO market.calendar_exceptions (calendar, trade_date, kind, instrument_id, from_ts, till_ts, note, source)
             SELECT {}, {}::date, {kind}, {id}::int4, {from}::timestamptz, {till}::timestamptz, {note}, {}
             WHERE NOT EXISTS (SELECT FROM market.calendar_exceptions AS e, LATERAL (SELECT h.* {known}) AS same)",
            literal(&halt.calendar),
            literal(&halt.trade_date),
            literal(&halt.source),
        );
        client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// A stretch of time in which trading stopped, of a halt that may have been longer.
struct Piece {
    from: Nanos,
    till: Nanos,
    /// The halt's own beginning and end, by which it is sorted.
    halt: (Nanos, Nanos),
    note: String,
}

/// What is known of a stretch is what is told of it now.
fn tell(pieces: &mut Vec<Piece>, (from, till): (Nanos, Nanos), halts: &[&HaltRow]) {
    let mut left = Vec::with_capacity(pieces.len() + halts.len());
    for piece in pieces.drain(..) {
        if piece.from < from {
            left.push(Piece { till: piece.till.min(from), note: piece.note.clone(), ..piece });
        }
        if piece.till > till {
            left.push(Piece { from: piece.from.max(till), ..piece });
        }
    }
    for row in halts {
        let halt = (begin(row), end(row));
        let note = row.note.clone().unwrap_or_else(|| row.kind.clone());
        left.push(Piece { from: halt.0.max(from), till: halt.1.min(till), halt, note });
    }
    left.retain(|piece| piece.from < piece.till);
    *pieces = left;
}

fn begin(row: &HaltRow) -> Nanos {
    micros(&row.from_ts).map_or(Nanos::MIN + 1, |micros| micros.saturating_mul(1000))
}

fn end(row: &HaltRow) -> Nanos {
    row.till_ts.as_deref().and_then(micros).map_or(Nanos::MAX, |micros| micros.saturating_mul(1000))
}

fn joined(mut pieces: Vec<Piece>) -> Vec<Halt> {
    pieces.sort_by(|a, b| (a.halt, &a.note, a.from).cmp(&(b.halt, &b.note, b.from)));
    pieces.dedup_by(|later, earlier| {
        let one = (later.halt, &later.note, later.from) == (earlier.halt, &earlier.note, earlier.till);
        if one {
            earlier.till = later.till;
        }
        one
    });
    pieces.into_iter().map(|piece| Halt { from: piece.from, till: piece.till, note: piece.note }).collect()
}

/// A manifest that tells of halts.
struct Telling {
    manifest: Manifest,
    /// Nothing later is archived, so that what lasts lasts on.
    newest: bool,
}

impl Telling {
    fn tell(&self, pieces: &mut Vec<Piece>, calendar: &Calendar, takes: impl Fn(&HaltRow) -> bool) -> Result<()> {
        let Some(halts) = &self.manifest.halts else { return Ok(()) };
        let noted: Vec<&HaltRow> = halts.noted.iter().filter(|row| takes(row)).collect();
        let after = halts.after.as_deref().map(TradeDate::parse).transpose()?;
        let close = |day: TradeDate| calendar.session(day).ok().flatten().map(|session| session.till);
        let from = after.and_then(close).unwrap_or(Nanos::MIN + 1);
        let till = close(self.manifest.day()?).filter(|_| !self.newest).unwrap_or(Nanos::MAX);
        tell(pieces, (from, till), &noted);
        Ok(())
    }
}

impl Archive {
    /// The manifests that tell of a symbol's halts between two trade dates: each tells of the days since the one before it.
    fn telling(&self, symbol: &str, (first, last): (TradeDate, TradeDate)) -> Result<Vec<Telling>> {
        let days = self.days(symbol)?;
        let Some(newest) = days.last().copied() else { return Ok(Vec::new()) };
        let till = (days.partition_point(|day| *day < last) + 1).min(days.len());
        let from = days.partition_point(|day| *day < first).min(till - 1);
        self.expect(days[from..till].iter().map(|day| (symbol, *day)));
        let mut found = Vec::new();
        for day in &days[from..till] {
            let Some(manifest) = self.manifest(symbol, *day)? else { continue };
            match manifest.halts {
                Some(_) => found.push(Telling { manifest, newest: *day == newest }),
                None => self.remark(&manifest),
            }
        }
        Ok(found)
    }

    /// Says once that a manifest is older than halts.
    fn remark(&self, manifest: &Manifest) {
        if !self.remarked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            eprintln!(
                "note: {} was archived by an older querycli, which kept no halts; querycli archive push adds them",
                manifest.name()
            );
        }
    }

    /// The halts of an instrument and its market in `from <= t < till`, as far as its own sessions tell.
    ///
    /// # Errors
    /// A manifest that is not what was written.
    pub fn halts(&self, instrument: &Instrument, from: Nanos, till: Nanos) -> Result<Vec<Halt>> {
        let date = |ts: Nanos| instrument.calendar.filing(ts).trade_date;
        let mut told = self.telling(&instrument.symbol, (date(from), date(till.saturating_sub(1))))?;
        told.sort_by(|a, b| known_at(a).cmp(known_at(b)));
        let mut pieces = Vec::new();
        for one in &told {
            one.tell(&mut pieces, instrument.calendar, |_| true)?;
        }
        Ok(joined(pieces))
    }

    /// The halts of a calendar's whole market between two trade dates, as far as the sessions of all its instruments tell.
    ///
    /// # Errors
    /// A manifest that is not what was written.
    pub fn market_halts(&self, calendar: &Calendar, dates: (TradeDate, TradeDate)) -> Result<Vec<Halt>> {
        let named = |name: &str| calendar.id() == name || calendar.aliases().iter().any(|alias| alias == name);
        let mut told = Vec::new();
        let mut newest = None;
        let symbols = self.symbols()?;
        self.expect_newest(&symbols)?;
        for symbol in symbols {
            if self.newest(&symbol)?.is_some_and(|manifest| named(&manifest.instrument.calendar)) {
                for one in self.telling(&symbol, dates)? {
                    newest = newest.max(Some(one.manifest.day()?));
                    told.push(one);
                }
            }
        }
        for one in &mut told {
            // an instrument that ended tells nothing of later days
            one.newest = one.newest && Some(one.manifest.day()?) == newest;
        }
        told.sort_by(|a, b| known_at(a).cmp(known_at(b)));
        let mut pieces = Vec::new();
        for one in &told {
            one.tell(&mut pieces, calendar, |row| row.whole_market)?;
        }
        Ok(joined(pieces))
    }
}

fn known_at(one: &Telling) -> &str {
    one.manifest.halts.as_ref().map_or("", |halts| halts.known_at.as_str())
}
