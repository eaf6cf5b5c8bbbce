//! Instruments, sealed blocks and live rows, as the extension's readers see them.

use super::{CopyRows, Db, date, timestamptz};
use crate::error::Result;
use bytes::Bytes;
use market::block::{self, Header};
use market::{
    Calendar, Correction, Corrections, Key, LiveRows, NONE_I64, Nanos, Op, Trade, TradeDate, Trades, money, overlay,
};
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
        let near = near.to_string();
        let row = db
            .leader()
            .await
            .query_one(
                "SELECT id, symbol, calendar FROM market.instruments WHERE id = market.instrument_id($1::text, $2::text::date)",
                &[&symbol, &near],
            )
            .await?;
        Ok(Instrument { id: row.get(0), symbol: row.get(1), calendar: db.calendars.find(row.get(2))? })
    }
}

const COLUMNS: &str = "ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, op";

/// The live rows of an instrument with `from <= ts < till`, settled, with what `trade_corrections` says about rows that came
/// after their bust.
///
/// # Errors
/// What the server says; a row that is none.
pub async fn live_rows(db: &Arc<Db>, instrument: i32, from: Nanos, till: Nanos) -> Result<LiveRows> {
    // Rows of the first and the last microsecond are checked again, by the nanosecond.
    let range = format!("instrument_id = {instrument} AND ts >= {} AND ts <= {}", timestamptz(from), timestamptz(till));
    let sql = format!("SELECT {COLUMNS} FROM market.live_trades WHERE {range}");
    let mut rows = collect(db.copy(&sql).await?, from, till).await?;
    if rows.ops.contains(&Op::Trade) {
        let sql = format!(
            "SELECT DISTINCT ON (ts, ns, seq, sub) ts, ns, seq, sub, action = 'bust', new_price, new_size, new_flags
             FROM market.trade_corrections WHERE {range} ORDER BY ts, ns, seq, sub, id DESC"
        );
        corrections(db.copy(&sql).await?).await?.apply(&mut rows);
    }
    Ok(rows)
}

async fn corrections(mut stream: CopyRows) -> Result<Corrections> {
    let mut found = Corrections::default();
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
        found.push(key, correction);
    }
    Ok(found)
}

async fn collect(mut stream: CopyRows, from: Nanos, till: Nanos) -> Result<LiveRows> {
    let mut rows = LiveRows::default();
    while let Some(f) = stream.next().await? {
        let ts = f.some(f.micros(0))?.saturating_mul(1000).saturating_add(i64::from(f.some(f.i16(1))?));
        if ts < from || ts >= till {
            continue;
        }
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
        rows.push(trade, Op::from_u8(op)?);
    }
    rows.settle();
    Ok(rows)
}

/// A stream of sealed parts, ordered by trade date and first key.
pub struct Blocks(CopyRows);

impl Blocks {
    /// The parts of an instrument on trade dates `first..=last`; `also` narrows them.
    ///
    /// # Errors
    /// What the server says.
    pub async fn open(db: &Arc<Db>, instrument: i32, first: TradeDate, last: TradeDate, also: &str) -> Result<Blocks> {
        let sql = format!(
            "SELECT trade_date, payload FROM market.trade_blocks WHERE instrument_id = {instrument} AND trade_date BETWEEN {} AND {} {also}
             ORDER BY trade_date, first_ts, first_ns, first_seq, first_sub",
            date(first),
            date(last)
        );
        Ok(Blocks(db.copy(&sql).await?))
    }

    /// The next part and its trade date.
    ///
    /// # Errors
    /// A connection that broke.
    pub async fn next(&mut self) -> Result<Option<(TradeDate, Bytes)>> {
        let Some(f) = self.0.next().await? else { return Ok(None) };
        Ok(Some((TradeDate(f.some(f.days(0))?), f.bytes(1).cloned().unwrap_or_default())))
    }
}

/// Merges live rows into sealed pages as they come by.
pub struct Overlay {
    rows: Arc<LiveRows>,
    next: usize,
    end: usize,
    page: Trades,
    merged: Trades,
}

impl Overlay {
    /// For the live rows `range`.
    pub fn new(rows: Arc<LiveRows>, range: Range<usize>) -> Overlay {
        Overlay { rows, next: range.start, end: range.end, page: Trades::new(), merged: Trades::new() }
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
        let till = self.rows.after(header.pages[page].last).min(self.end);
        overlay(&self.page, &self.rows, self.next..till, &mut self.merged);
        self.next = till;
        Ok(&self.merged)
    }

    /// The rows behind the last page.
    pub fn rest(&mut self) -> &Trades {
        self.merged.clear();
        self.rows.visible(self.next..self.end, &mut self.merged);
        self.next = self.end;
        &self.merged
    }
}
