//! Instruments, sealed blocks and live rows, as the extension's readers see them.

use super::filter::{self, Condition};
use super::{CopyRows, Db, Fields, date, literal, timestamptz};
use crate::archive::{Archive, Columns, Contents, Manifest, Pages};
use crate::error::Result;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use market::block::{self, Header};
use market::{
    AsOf, Calendar, Correction, Corrections, Key, LiveRows, NONE_I64, Nanos, Op, Reported, Trade, TradeDate, Trades,
    money, overlay,
};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// What readers need of an instrument.
#[derive(Clone)]
pub struct Instrument {
    /// Key in every table.
    pub id: i32,
    /// Its own symbol.
    pub symbol: String,
    /// Files its trades.
    pub calendar: &'static Calendar,
}

impl Instrument {
    /// By any name the extension understands; `ESZ5` is of the year nearest to `near`.
    ///
    /// # Errors
    /// The extension's: an unknown symbol with a near match.
    pub async fn find(db: &Db, symbol: &str, near: TradeDate) -> Result<Instrument> {
        let found = match (&db.archive, db.has_server()) {
            (Some(archive), false) => archive.find(symbol, near, &db.calendars)?,
            _ => {
                let near = near.to_string();
                let sql = "SELECT id, symbol, calendar FROM market.instruments WHERE id = market.instrument_id($1::text, $2::text::date)";
                let row = db.leader().await?.query_one(sql, &[&symbol, &near]).await?;
                Instrument { id: row.get(0), symbol: row.get(1), calendar: db.calendars.find(row.get(2))? }
            }
        };
        db.remember(found.id, &found.symbol);
        Ok(found)
    }

    /// Those that conditions on `symbol` and `id` leave, by id.
    ///
    /// # Errors
    /// What the server says.
    pub async fn all(db: &Db, conditions: &[Condition]) -> Result<Vec<Instrument>> {
        let found: Vec<Instrument> = match (&db.archive, db.has_server()) {
            (Some(archive), false) => {
                let named = Instrument::archived(archive, conditions)?;
                archive.expect_newest(&named.iter().map(|(_, symbol)| symbol.clone()).collect::<Vec<_>>())?;
                let mut found = Vec::new();
                for named in named {
                    found.extend(archive.instrument(named, &db.calendars)?);
                }
                found
            }
            _ => {
                let checked: Vec<String> = conditions.iter().filter_map(filter::sql).collect();
                let checked = if checked.is_empty() { "true".to_owned() } else { checked.join(" AND ") };
                let sql = format!("SELECT id, symbol, calendar FROM market.instruments WHERE {checked} ORDER BY id");
                let rows = db.leader().await?.query(&sql, &[]).await?;
                let of = |row: &tokio_postgres::Row| -> Result<Instrument> {
                    let calendar = db.calendars.find(row.get(2))?;
                    Ok(Instrument { id: row.get(0), symbol: row.get(1), calendar })
                };
                rows.iter().map(of).collect::<Result<_>>()?
            }
        };
        for instrument in &found {
            db.remember(instrument.id, &instrument.symbol);
        }
        Ok(found)
    }

    /// Those of an archive that conditions leave, by id and symbol: no manifest is opened for it.
    ///
    /// # Errors
    /// An archive that cannot be read.
    pub fn archived(archive: &Archive, conditions: &[Condition]) -> Result<Vec<(i32, String)>> {
        let mut named = archive.named()?;
        named.retain(|(id, symbol)| conditions.iter().all(|condition| may_meet(condition, *id, symbol)));
        Ok(named)
    }

    /// With the hours of these trade dates: an archive alone may have sessions of several versions of the calendar.
    ///
    /// # Errors
    /// An archive that cannot be read; a version that this program does not know.
    pub fn on(self, db: &Db, first: TradeDate, last: TradeDate) -> Result<Instrument> {
        match (&db.archive, db.has_server()) {
            (Some(archive), false) => {
                let calendar = archive.hours(&self, (first, last), &db.calendars)?;
                Ok(Instrument { calendar, ..self })
            }
            _ => Ok(self),
        }
    }
}

/// Whether an instrument can meet a condition; the rows are checked again.
fn may_meet(condition: &Condition, of: i32, own: &str) -> bool {
    if condition.op != Operator::Eq {
        return true;
    }
    condition.values.iter().any(|value| match (condition.column.as_str(), value) {
        ("id", ScalarValue::Int32(Some(id))) => *id == of,
        ("symbol", value) => value.try_as_str().flatten().is_none_or(|symbol| symbol == own),
        _ => true,
    })
}

const COLUMNS: &str = "ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, op, known_at";

/// Rows of the first and the last microsecond are checked again, by the nanosecond.
fn range(instrument: i32, from: Nanos, till: Nanos) -> String {
    format!("instrument_id = {instrument} AND ts >= {} AND ts <= {}", timestamptz(from), timestamptz(till))
}

/// The live rows of an instrument with `from <= ts < till`, settled, with what `trade_corrections` says about rows that came
/// after their bust.
///
/// # Errors
/// What the server says; a row that is none.
pub async fn live_rows(db: &Arc<Db>, instrument: i32, from: Nanos, till: Nanos) -> Result<LiveRows> {
    if !db.has_server() {
        return Ok(LiveRows::default());
    }
    let mut rows = raw_rows(db, instrument, from, till).await?;
    rows.settle();
    if rows.ops.contains(&Op::Trade) {
        let corrections = corrections(db, instrument, (from, till), Nanos::MAX).await?;
        if corrections.touch(&rows) {
            corrections.apply(&mut rows, &read_reported(db, instrument, from, till).await?);
        }
    }
    Ok(rows)
}

/// The live rows of an instrument as they were known at an instant, and what else lies over sealed trades then.
///
/// # Errors
/// As [`live_rows`].
pub async fn rows_as_of(db: &Arc<Db>, instrument: i32, from: Nanos, till: Nanos, until: Nanos) -> Result<AsOf> {
    let rows = raw_rows(db, instrument, from, till).await?;
    let log = corrections(db, instrument, (from, till), until).await?;
    let reported = match log.is_empty() {
        true => Reported::default(),
        false => read_reported(db, instrument, from, till).await?,
    };
    Ok(AsOf::new(rows, &log, &reported))
}

/// What was reported, with `from <= ts < till`, of identities that the venue busted or corrected.
///
/// # Errors
/// As [`live_rows`].
pub async fn read_reported(db: &Arc<Db>, instrument: i32, from: Nanos, till: Nanos) -> Result<Reported> {
    let mut reported = Reported::default();
    let sql = format!(
            "SELECT ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, 't'::\"char\", known_at FROM market.reported_trades
             WHERE {} ORDER BY ts, ns, seq, sub",
            range(instrument, from, till)
        );
    let mut stream = db.copy(&sql).await?;
    while let Some(f) = stream.next().await? {
        let (trade, _, known) = row(&f)?;
        if from <= trade.ts && trade.ts < till {
            reported.push(trade, known);
        }
    }
    Ok(reported)
}

async fn raw_rows(db: &Arc<Db>, instrument: i32, from: Nanos, till: Nanos) -> Result<LiveRows> {
    // the table itself is not for readers: rows of instruments that a policy may hide lie between the others
    let (first, last) = (timestamptz(from), timestamptz(till));
    let sql = format!("SELECT {COLUMNS} FROM market.unsealed_trades({instrument}, {first}, {last})");
    let mut stream = db.copy(&sql).await?;
    let mut rows = LiveRows::default();
    while let Some(f) = stream.next().await? {
        let (mut trade, op, came) = row(&f)?;
        if trade.ts < from || trade.ts >= till {
            continue;
        }
        // a trade that nobody received is received when its row came
        if op == Op::Trade && trade.ts_recv == NONE_I64 {
            trade.ts_recv = came;
        }
        rows.push_known(trade, op, if op == Op::Trade || came == NONE_I64 { trade.known() } else { came });
    }
    Ok(rows)
}

async fn corrections(db: &Arc<Db>, instrument: i32, (from, till): (Nanos, Nanos), until: Nanos) -> Result<Corrections> {
    let sql = format!(
        "SELECT ts, ns, seq, sub, action = 'bust', new_price, new_size, new_flags, known_at
         FROM market.trade_corrections WHERE {} ORDER BY ts, ns, seq, sub, known_at, id",
        range(instrument, from, till)
    );
    let mut stream = db.copy(&sql).await?;
    let mut found = Corrections::until(until);
    while let Some(f) = stream.next().await? {
        let ts = f.some(f.micros(0))?.saturating_mul(1000).saturating_add(i64::from(f.some(f.i16(1))?));
        let key = Key { ts, seq: f.some(f.i64(2))?, sub: i32::from(f.some(f.i16(3))?) };
        let busted = f.bytes(4).is_some_and(|bit| bit.first() == Some(&1));
        let correction = match (busted, f.f64(5)?, f.f64(6)?) {
            (false, Some(price), Some(size)) => Correction::Replace {
                price: money::price_from_f64(price)?,
                size: money::size_from_f64(size)?,
                flags: f.i32(7)?.map(|flags| flags as u32),
            },
            _ => Correction::Bust,
        };
        found.push(key, correction, f.some(f.micros(8))?.saturating_mul(1000));
    }
    Ok(found)
}

/// A row of [`COLUMNS`]: its trade, what it does, when it came.
fn row(f: &Fields) -> Result<(Trade, Op, Nanos)> {
    let ts = f.some(f.micros(0))?.saturating_mul(1000).saturating_add(i64::from(f.some(f.i16(1))?));
    let trade = Trade {
        ts,
        seq: f.some(f.i64(2))?,
        sub: i32::from(f.some(f.i16(3))?),
        price: money::price_from_f64(f.some(f.f64(4))?)?,
        size: money::size_from_f64(f.some(f.f64(5))?)?,
        flags: f.some(f.i32(6))? as u32,
        cond: f.some(f.i32(7))? as u32,
        ts_recv: f.micros(8)?.map_or(NONE_I64, |micros| micros.saturating_mul(1000)),
        trade_id: f.i64(9)?.unwrap_or(NONE_I64),
    };
    let op = f.bytes(10).and_then(|op| op.first()).copied().unwrap_or_default();
    Ok((trade, Op::from_u8(op)?, f.micros(11)?.map_or(NONE_I64, |micros| micros.saturating_mul(1000))))
}

/// What a query wants of an instrument's sealed parts beside their trade dates.
#[derive(Clone, Debug)]
pub struct Narrow {
    /// These trade dates alone.
    pub days: Option<BTreeSet<TradeDate>>,
    /// Parts that may have times in this range, both ends included.
    pub instants: (Nanos, Nanos),
    /// Which columns the archive decodes; a block has them all.
    pub columns: Columns,
}

impl Default for Narrow {
    fn default() -> Narrow {
        Narrow { days: None, instants: (i64::MIN, i64::MAX), columns: Columns::All }
    }
}

impl Narrow {
    fn takes(&self, manifest: &Manifest, day: TradeDate) -> bool {
        let meets = manifest.first_ts <= self.instants.1 && manifest.last_ts >= self.instants.0;
        meets && self.days.as_ref().is_none_or(|days| days.contains(&day))
    }

    fn sql(&self) -> String {
        let mut sql = String::new();
        if let Some(days) = &self.days {
            let days: Vec<String> = days.iter().map(TradeDate::to_string).collect();
            sql = format!(" AND trade_date = ANY ({}::date[])", literal(&format!("{{{}}}", days.join(","))));
        }
        if self.instants.0 != i64::MIN {
            sql = format!("{sql} AND last_ts >= {}", timestamptz(self.instants.0));
        }
        if self.instants.1 != i64::MAX {
            sql = format!("{sql} AND first_ts <= {}", timestamptz(self.instants.1));
        }
        sql
    }
}

/// A sealed part of a session.
pub enum Part {
    /// A block, to be decoded page by page.
    Block(Bytes),
    /// A whole archived session, page by page.
    Pages(Box<Pages>),
}

/// A stream of sealed parts, ordered by trade date and first key: those of the database, and those that only the archive has.
pub struct Blocks {
    rows: Option<CopyRows>,
    ahead: Option<(TradeDate, Bytes)>,
    archived: VecDeque<Archived>,
    /// The files of these.
    files: Option<Contents>,
    narrow: Narrow,
}

impl Blocks {
    /// The parts of an instrument on trade dates `first..=last`, narrowed.
    ///
    /// # Errors
    /// What the server says; an archive that cannot be read.
    pub async fn open(
        db: &Arc<Db>,
        instrument: i32,
        first: TradeDate,
        last: TradeDate,
        narrow: Narrow,
    ) -> Result<Blocks> {
        let rows = match db.has_server() {
            false => None,
            true => {
                let sql = format!(
                    "SELECT trade_date, payload FROM market.trade_blocks WHERE instrument_id = {instrument} AND trade_date BETWEEN {} AND {}{}
                     ORDER BY trade_date, first_ts, first_ns, first_seq, first_sub",
                    date(first),
                    date(last),
                    narrow.sql()
                );
                Some(db.copy(&sql).await?)
            }
        };
        let mut archived = archived(db, instrument, first, last).await?;
        archived.retain(|one| narrow.takes(&one.manifest, one.day));
        let files =
            db.archive.as_ref().map(|archive| archive.contents(archived.iter().map(|one| one.manifest.trades.clone())));
        Ok(Blocks { rows, ahead: None, archived, files, narrow })
    }

    /// The next part and its trade date.
    ///
    /// # Errors
    /// A connection that broke; an archived file that is not what was written.
    pub async fn next(&mut self) -> Result<Option<(TradeDate, Part)>> {
        if let (None, Some(rows)) = (&self.ahead, &mut self.rows) {
            self.ahead = match rows.next().await? {
                Some(f) => Some((TradeDate(f.some(f.days(0))?), f.bytes(1).cloned().unwrap_or_default())),
                None => None,
            };
            if self.ahead.is_none() {
                self.rows = None;
            }
        }
        let before = |one: &Archived| self.ahead.as_ref().is_none_or(|(ahead, _)| one.day < *ahead);
        if self.archived.front().is_some_and(before)
            && let (Some(Archived { day, .. }), Some(files)) = (self.archived.pop_front(), &mut self.files)
            && let Some(bytes) = files.next_file()?
        {
            let pages = Pages::open(bytes, self.narrow.columns, self.narrow.instants)?;
            return Ok(Some((day, Part::Pages(Box::new(pages)))));
        }
        Ok(self.ahead.take().map(|(day, bytes)| (day, Part::Block(bytes))))
    }
}

/// A session that is read from the archive.
struct Archived {
    day: TradeDate,
    manifest: Manifest,
    /// Also its minute bars; the database may have kept them.
    minutes: bool,
}

/// The archived sessions that are read: all of them without a database, else those whose trades retention dropped there.
async fn archived(db: &Arc<Db>, instrument: i32, first: TradeDate, last: TradeDate) -> Result<VecDeque<Archived>> {
    let Some((archive, symbol)) = db.archived(instrument) else { return Ok(VecDeque::new()) };
    let mut found = VecDeque::new();
    if !db.has_server() {
        let days: Vec<TradeDate> =
            archive.days(&symbol)?.into_iter().filter(|day| (first..=last).contains(day)).collect();
        archive.expect(days.iter().map(|day| (symbol.as_str(), *day)));
        for day in days {
            if let Some(manifest) = archive.manifest(&symbol, day)? {
                found.push_back(Archived { day, manifest, minutes: true });
            }
        }
        return Ok(found);
    }
    let sql = format!(
        "SELECT trade_date, min(digest), bool_or(minutes_dropped_at IS NOT NULL)
         FROM market.session_bars WHERE instrument_id = {instrument} AND trade_date BETWEEN {} AND {}
         AND trades_dropped_at IS NOT NULL GROUP BY trade_date ORDER BY trade_date",
        date(first),
        date(last)
    );
    let mut stream = db.copy(&sql).await?;
    let mut dropped: Vec<(TradeDate, u64, bool)> = Vec::new();
    while let Some(f) = stream.next().await? {
        dropped.push((TradeDate(f.some(f.days(0))?), f.some(f.i64(1))? as u64, f.some(f.bool(2))?));
    }
    archive.expect(dropped.iter().map(|(day, ..)| (symbol.as_str(), *day)));
    for (day, digest, minutes) in dropped {
        if let Some(manifest) = archive.manifest(&symbol, day)?
            && manifest.digest()? == digest
        {
            found.push_back(Archived { day, manifest, minutes });
        }
    }
    Ok(found)
}

/// The blocks of minute bars, in no order of the two stores.
pub struct Minutes {
    rows: Option<CopyRows>,
    archived: VecDeque<TradeDate>,
    /// The files of these.
    files: Option<Contents>,
}

impl Minutes {
    /// Those of an instrument on trade dates `first..=last`.
    ///
    /// # Errors
    /// What the server says; an archive that cannot be read.
    pub async fn open(db: &Arc<Db>, instrument: i32, first: TradeDate, last: TradeDate) -> Result<Minutes> {
        let mut archived = archived(db, instrument, first, last).await?;
        archived.retain(|one| one.minutes && one.manifest.minutes.is_some());
        let sql = format!(
            "SELECT trade_date, payload FROM market.bar_blocks WHERE instrument_id = {instrument} AND trade_date BETWEEN {} AND {} ORDER BY trade_date",
            date(first),
            date(last)
        );
        let rows = if db.has_server() { Some(db.copy(&sql).await?) } else { None };
        let minutes = archived.iter().filter_map(|one| one.manifest.minutes.clone());
        let files = db.archive.as_ref().map(|archive| archive.contents(minutes));
        Ok(Minutes { rows, archived: archived.iter().map(|one| one.day).collect(), files })
    }

    /// The next session's.
    ///
    /// # Errors
    /// A connection that broke; an archived file that is not what was written.
    pub async fn next(&mut self) -> Result<Option<(TradeDate, Bytes)>> {
        if let Some(rows) = &mut self.rows {
            if let Some(f) = rows.next().await? {
                return Ok(Some((TradeDate(f.some(f.days(0))?), f.bytes(1).cloned().unwrap_or_default())));
            }
            self.rows = None;
        }
        let (Some(day), Some(files)) = (self.archived.pop_front(), &mut self.files) else { return Ok(None) };
        Ok(files.next_file()?.map(|bytes| (day, bytes)))
    }
}

/// What is known of a sealed session beside its trades.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedState {
    /// Its trade date.
    pub day: TradeDate,
    /// -1 provisional, 0 final, n the n-th revision.
    pub revision: i32,
    /// Retention dropped its trades.
    pub trades_dropped: bool,
    /// Retention dropped its minute bars.
    pub minutes_dropped: bool,
    /// What was dropped is read from the archive.
    pub archived: bool,
}

/// The states of an instrument's sealed sessions on trade dates `first..=last`; what is not there is provisional.
///
/// # Errors
/// What the server says; an archive that cannot be read.
pub async fn sealed_states(
    db: &Arc<Db>,
    instrument: i32,
    first: TradeDate,
    last: TradeDate,
) -> Result<Vec<SealedState>> {
    let archived = archived(db, instrument, first, last).await?;
    if !db.has_server() {
        let state = |one: Archived| {
            let revision = match one.manifest.state.as_str() {
                "provisional" => -1,
                "final" => 0,
                _ => one.manifest.revision,
            };
            SealedState { day: one.day, revision, trades_dropped: false, minutes_dropped: false, archived: true }
        };
        // Trades that count for nothing leave a session without bars, and so without a state.
        return Ok(archived.into_iter().filter(|one| !one.manifest.bars.is_empty()).map(state).collect());
    }
    let sql = format!(
        "SELECT trade_date, CASE state WHEN 'provisional' THEN -1 WHEN 'final' THEN 0 ELSE revision END,
                trades_dropped_at IS NOT NULL, minutes_dropped_at IS NOT NULL
         FROM market.session_bars WHERE instrument_id = {instrument} AND trade_date BETWEEN {} AND {}",
        date(first),
        date(last)
    );
    let mut stream = db.copy(&sql).await?;
    let mut states = Vec::new();
    while let Some(f) = stream.next().await? {
        let day = TradeDate(f.some(f.days(0))?);
        states.push(SealedState {
            day,
            revision: f.some(f.i32(1))?,
            trades_dropped: f.some(f.bool(2))?,
            minutes_dropped: f.some(f.bool(3))?,
            archived: archived.iter().any(|one| one.day == day),
        });
    }
    Ok(states)
}

/// Merges live rows into sealed pages as they come by.
pub struct Overlay {
    rows: Arc<LiveRows>,
    next: usize,
    end: usize,
    until: Nanos,
    page: Trades,
    merged: Trades,
}

impl Overlay {
    /// For the live rows `range`.
    pub fn new(rows: Arc<LiveRows>, range: Range<usize>) -> Overlay {
        let (next, end) = (range.start, range.end);
        Overlay { rows, next, end, until: Nanos::MAX, page: Trades::new(), merged: Trades::new() }
    }

    /// Leaves out sealed trades that became known later. Every page has to be merged then.
    pub fn known(self, until: Option<Nanos>) -> Overlay {
        Overlay { until: until.unwrap_or(Nanos::MAX), ..self }
    }

    /// Whether a live row falls on a page that ends with this key.
    pub fn hits(&self, last: Key) -> bool {
        self.next < self.end && self.rows.trades.key(self.next) <= last
    }

    /// The page as readers see it.
    ///
    /// # Errors
    /// A corrupt block.
    pub fn merge(&mut self, bytes: &[u8], header: &Header, page: usize) -> Result<&Trades> {
        self.page.clear();
        self.merged.clear();
        block::decode_page(bytes, header, page, &mut self.page)?;
        if self.until != Nanos::MAX {
            self.page.keep_known(self.until);
        }
        let till = self.rows.after(header.pages[page].last).min(self.end);
        overlay(&self.page, &self.rows, self.next..till, &mut self.merged);
        self.next = till;
        Ok(&self.merged)
    }

    /// A page that is decoded already, as readers see it.
    pub fn over(&mut self, page: &Trades) -> &Trades {
        self.merged.clear();
        let last = page.len().checked_sub(1).map(|at| page.key(at));
        let till = last.map_or(self.next, |last| self.rows.after(last)).min(self.end).max(self.next);
        overlay(page, &self.rows, self.next..till, &mut self.merged);
        self.next = till;
        &self.merged
    }

    /// The rows behind the last page.
    pub fn rest(&mut self) -> &Trades {
        self.merged.clear();
        self.rows.visible(self.next..self.end, &mut self.merged);
        self.next = self.end;
        &self.merged
    }
}
