//! Where a live feed's batches go: rows, checkpoints and gaps in one transaction.

use super::sequence::{Commit, Gap, Mark};
use crate::db::{Db, Place};
use crate::feed::Reject;
use crate::{Error, Result};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use market::money;
use market::trade::NONE_I64;
use std::collections::BTreeMap;
use std::future::Future;
use tokio_postgres::Statement;

/// Commits batches. A trait so that the writer can be tested against failures a server rarely has.
pub trait Sink: Send {
    /// What has been committed, by instrument.
    ///
    /// # Errors
    /// A lost connection is worth another try.
    fn marks(&mut self) -> impl Future<Output = Result<BTreeMap<i32, Mark>>> + Send;

    /// Commits everything or nothing.
    ///
    /// # Errors
    /// A lost connection leaves open which of the two it was.
    fn commit(&mut self, commit: &Commit) -> impl Future<Output = Result<()>> + Send;

    /// Keeps a message that could not be read.
    ///
    /// # Errors
    /// A lost connection is worth another try.
    fn reject(&mut self, reject: &Reject) -> impl Future<Output = Result<()>> + Send;
}

/// The database.
pub struct PostgresSink {
    place: Place,
    feed: String,
    connected: Option<Connected>,
    /// Whether this process has had the feed before.
    owned: bool,
}

impl PostgresSink {
    /// Connects, takes the feed for this process alone, and notes where it comes from.
    ///
    /// # Errors
    /// No database, or another process that follows the feed.
    pub async fn new(place: Place, feed: &str, venue: &str, url: &str) -> Result<PostgresSink> {
        let mut sink = PostgresSink { place, feed: feed.to_string(), connected: None, owned: false };
        let db = &sink.connected().await?.db;
        db.client
            .execute(
                "INSERT INTO market.feeds (feed, venue, source) VALUES ($1, $2, $3) ON CONFLICT (feed) DO NOTHING",
                &[&feed, &venue, &without_user(url)],
            )
            .await
            .map_err(|e| Error::database("noting the feed", &e))?;
        Ok(sink)
    }

    async fn connected(&mut self) -> Result<&mut Connected> {
        if self.connected.as_ref().is_none_or(|connected| connected.db.client.is_closed()) {
            self.connected = None;
            let db = self.place.connect().await?;
            // Two writers of one feed would both be right about what is new, one after the other, but half of their work
            // would be rolled back. The lock goes with the connection.
            let row = db
                .client
                .query_one(
                    "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('bellwether.feed.' || $1::text, 0))",
                    &[&self.feed],
                )
                .await
                .map_err(|e| Error::database("taking the feed", &e))?;
            if !row.get::<_, bool>(0) {
                let taken = format!(
                    "another process follows the feed {} into {} already; stop it first",
                    self.feed, self.place
                );
                // Later it may be our own lost connection, which the server has yet to notice: worth another try.
                return Err(if self.owned { Error::Connection(taken) } else { Error::Usage(taken) });
            }
            self.owned = true;
            self.connected = Some(Connected::prepare(db).await?);
        }
        self.connected.as_mut().ok_or_else(|| Error::Connection("not connected".into()))
    }
}

impl Sink for PostgresSink {
    async fn marks(&mut self) -> Result<BTreeMap<i32, Mark>> {
        let feed = self.feed.clone();
        let rows = self
            .connected()
            .await?
            .db
            .client
            .query(
                "SELECT instrument_id, (EXTRACT(epoch FROM last_ts) * 1000000)::int8, last_ns, last_seq \
                 FROM market.ingest_checkpoints WHERE feed = $1",
                &[&feed],
            )
            .await
            .map_err(|e| Error::database("reading the checkpoints", &e))?;
        Ok(rows
            .iter()
            .map(|r| (r.get(0), Mark { ts: r.get::<_, i64>(1) * 1000 + i64::from(r.get::<_, i16>(2)), seq: r.get(3) }))
            .collect())
    }

    async fn commit(&mut self, commit: &Commit) -> Result<()> {
        let feed = self.feed.clone();
        let result = store(self.connected().await?, &feed, commit).await;
        // whatever it was, nothing of the batch is left: the server takes back what an ended connection had begun
        if result.is_err() {
            self.connected = None;
        }
        result
    }

    async fn reject(&mut self, reject: &Reject) -> Result<()> {
        let source = format!("feed {}", self.feed);
        self.connected().await?.db.dead_letters(&source, std::slice::from_ref(reject)).await
    }
}

/// A connection with the statements of a batch, prepared once.
struct Connected {
    db: Db,
    mark: Statement,
    copy: Statement,
}

impl Connected {
    async fn prepare(db: Db) -> Result<Connected> {
        let failed = |e| Error::database("preparing a batch", &e);
        // Only from the mark this batch was made after: a batch whose first commit did happen is refused here.
        let mark = "INSERT INTO market.ingest_checkpoints AS c (feed, instrument_id, last_ts, last_ns, last_seq) \
             VALUES ($1, $2, 'epoch'::timestamptz + $3::int8 * interval '1 microsecond', $4, $5) \
             ON CONFLICT (feed, instrument_id) DO UPDATE \
             SET last_ts = excluded.last_ts, last_ns = excluded.last_ns, last_seq = excluded.last_seq, \
                 updated_at = pg_catalog.clock_timestamp() \
             WHERE c.last_seq = $6";
        let copy = "COPY market.live_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id) \
             FROM STDIN (FORMAT binary)";
        let mark = db.client.prepare(mark).await.map_err(failed)?;
        let copy = db.client.prepare(copy).await.map_err(failed)?;
        Ok(Connected { db, mark, copy })
    }
}

/// One transaction, in three exchanges with the server: its beginning, the marks and the start of COPY go out together, as do
/// the rows and their end; the third is the commit. An error leaves it open.
async fn store(connected: &Connected, feed: &str, commit: &Commit) -> Result<()> {
    let Connected { db, mark, copy } = connected;
    let failed = |doing: &'static str| move |e: tokio_postgres::Error| Error::database(doing, &e);
    let marks = commit.marks.iter().map(async |(instrument, (before, now))| {
        let (us, ns) = (now.ts.div_euclid(1000), now.ts.rem_euclid(1000) as i16);
        let before = before.map(|m| m.seq);
        db.client.execute(mark, &[&feed, instrument, &us, &ns, &now.seq, &before]).await
    });
    // polled in this order, and each sends when it is polled first
    let (begun, moved, copy) = tokio::join!(
        biased;
        db.client.batch_execute("BEGIN"),
        futures_util::future::try_join_all(marks),
        db.client.copy_in(copy),
    );
    begun.map_err(failed("beginning a batch"))?;
    if moved.map_err(failed("moving the checkpoint"))?.contains(&0) {
        return Err(Error::Database {
            doing: "moving the checkpoint".into(),
            reason: "it is not where this process left it".into(),
            // As for a lost connection: read the marks again, then try again.
            state: String::new(),
        });
    }
    let mut copy = std::pin::pin!(copy.map_err(failed("beginning COPY"))?);
    copy.send(rows(commit)).await.map_err(failed("copying trades"))?;
    copy.finish().await.map_err(failed("copying trades"))?;
    for Gap { instrument, first, last, from, till } in &commit.gaps {
        db.client
            .execute(
                "INSERT INTO market.feed_gaps (feed, instrument_id, first_missing, last_missing, from_ts, till_ts) \
                 VALUES ($1, $2, $3, $4, 'epoch'::timestamptz + $5::int8 * interval '1 microsecond', \
                         'epoch'::timestamptz + $6::int8 * interval '1 microsecond')",
                &[&feed, instrument, first, last, &from.div_euclid(1000), &till.div_euclid(1000)],
            )
            .await
            .map_err(failed("recording a gap"))?;
    }
    db.client.batch_execute("COMMIT").await.map_err(failed("committing a batch"))
}

/// Microseconds from 1970 to 2000, PostgreSQL's epoch.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The body of COPY BINARY.
fn rows(commit: &Commit) -> Bytes {
    let mut out = BytesMut::with_capacity(19 + commit.trades.len() * 120 + 2);
    out.put_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for (instrument, t) in &commit.trades {
        let (us, ns) = (t.ts.div_euclid(1000), t.ts.rem_euclid(1000) as i16);
        out.put_i16(11);
        out.put_i32(4);
        out.put_i32(*instrument);
        out.put_i32(8);
        out.put_i64(us - POSTGRES_EPOCH);
        out.put_i32(2);
        out.put_i16(ns);
        out.put_i32(8);
        out.put_i64(t.seq);
        out.put_i32(2);
        out.put_i16(t.sub as i16);
        out.put_i32(8);
        out.put_f64(money::to_f64(t.price));
        out.put_i32(8);
        out.put_f64(money::to_f64(t.size));
        out.put_i32(4);
        out.put_u32(t.flags);
        out.put_i32(4);
        out.put_u32(t.cond);
        optional(
            &mut out,
            if t.ts_recv == NONE_I64 { None } else { Some(t.ts_recv.div_euclid(1000) - POSTGRES_EPOCH) },
        );
        optional(&mut out, if t.trade_id == NONE_I64 { None } else { Some(t.trade_id) });
    }
    out.put_i16(-1);
    out.freeze()
}

fn optional(out: &mut BytesMut, value: Option<i64>) {
    match value {
        None => out.put_i32(-1),
        Some(value) => {
            out.put_i32(8);
            out.put_i64(value);
        }
    }
}

/// A URL without user and password.
fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or(host))
        }
        None => url.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_feed_is_noted_without_its_password() {
        assert_eq!(
            super::without_user("wss://u:p@host:1/stream?streams=a@trade"),
            "wss://host:1/stream?streams=a@trade"
        );
    }
}
