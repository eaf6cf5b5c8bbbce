//! Writers: each sorts, packs and stores the sessions that fall to it.

use super::KnownAt;
use crate::db::{Db, Instrument, Place, Put};
use crate::feed::Reject;
use crate::route::{Job, Settled, settle};
use crate::{Error, Result};
use market::block;
use market::trade::{NONE_I64, Trade, Trades};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// A session for a writer, and the source that was read when it was finished.
pub(super) struct Work {
    pub(super) job: Job,
    pub(super) source: Arc<str>,
}

/// What a writer did.
#[derive(Default)]
pub(super) struct Written {
    pub(super) put: Put,
    pub(super) repeated: u64,
    pub(super) conflicts: u64,
    pub(super) conflicting: Vec<(String, Reject)>,
    pub(super) sessions: HashSet<(i32, i32)>,
    pub(super) bytes: u64,
}

impl Written {
    /// Both together.
    pub(super) fn add(&mut self, other: Written) {
        self.put.added += other.put.added;
        self.put.known += other.put.known;
        self.put.conflicts += other.put.conflicts;
        self.repeated += other.repeated;
        self.conflicts += other.conflicts;
        self.conflicting.extend(other.conflicting);
        self.sessions.extend(other.sessions);
        self.bytes += other.bytes;
    }
}

/// More conflicts than this are counted but not kept one by one.
const CONFLICTS_KEPT: usize = 10_000;

/// One writer: sorts and packs each job, stores it, connects again when the connection is lost.
pub(super) async fn write(
    place: Option<Place>,
    mut db: Option<Db>,
    mut jobs: tokio::sync::mpsc::Receiver<Work>,
    known_at: KnownAt,
) -> Result<Written> {
    let mut written = Written::default();
    while let Some(Work { job, source }) = jobs.recv().await {
        let Job { instrument, trade_date, trades } = job;
        let packed = tokio::task::spawn_blocking(move || pack(trades, known_at)).await;
        let (settled, payload) = packed.map_err(|e| Error::Database {
            doing: format!("packing {trade_date}"),
            reason: e.to_string(),
            state: String::new(),
        })??;
        written.repeated += settled.repeated;
        written.conflicts += settled.conflicts.len() as u64;
        for trade in settled.conflicts {
            if written.conflicting.len() < CONFLICTS_KEPT {
                written.conflicting.push((source.to_string(), conflict(&instrument.symbol, &trade)));
            }
        }
        written.sessions.insert((instrument.id, trade_date.0));
        written.bytes += payload.len() as u64;
        if let (Some(place), Some(db)) = (&place, &mut db) {
            let put = put_surely(place, db, &instrument, &payload).await?;
            written.put.added += put.added;
            written.put.known += put.known;
            written.put.conflicts += put.conflicts;
        }
    }
    Ok(written)
}

fn pack(mut trades: Trades, known_at: KnownAt) -> Result<(Settled, Vec<u8>)> {
    let settled = settle(&mut trades);
    if known_at == KnownAt::Now {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        trades.ts_recv.iter_mut().filter(|t| **t == NONE_I64).for_each(|t| *t = now);
    }
    Ok((settled, block::encode_session(&trades)?))
}

/// `put_trades` is idempotent, so after a lost connection it is simply sent again.
async fn put_surely(place: &Place, db: &mut Db, instrument: &Instrument, payload: &[u8]) -> Result<Put> {
    let mut tries = 0;
    loop {
        let error = match db.put_trades(instrument, payload).await {
            Ok(put) => return Ok(put),
            Err(error) => error,
        };
        let again = error.is_lost_connection()
            || matches!(&error, Error::Database { state, .. } if state == "40001" || state == "40P01");
        tries += 1;
        if !again || tries > 5 {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(200 << tries)).await;
        if error.is_lost_connection() {
            *db = place.connect().await?;
        }
    }
}

fn conflict(symbol: &str, trade: &Trade) -> Reject {
    let raw = format!(
        "{symbol},{},{},{},{},{}",
        market::time::format_instant(trade.ts),
        trade.seq,
        trade.sub,
        market::money::to_f64(trade.price),
        market::money::to_f64(trade.size)
    );
    Reject::new(
        0,
        "an earlier trade of the file has the same identity (ts, seq, sub) and other content",
        raw.as_bytes(),
    )
}
