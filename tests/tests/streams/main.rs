//! Random streams of everything that happens to trades, on several connections at once, against a ledger in memory: after
//! every step reads of two connections equal the ledger's, now and as it was known at past instants, and at the end all do.
//!
//! The connections take turns, so a seed repeats a stream exactly: `BELLWETHER_SEED=7 BELLWETHER_STREAMS=1`. A stream that fails
//! prints its steps; `BELLWETHER_STEPS` makes it longer. One stream has a server of its own, which is killed on the way.

mod calendars;
mod check;
mod past;
mod stream;
mod upkeep;
mod write;

use anyhow::{Context, Result};
use check::Reads;
use market::TradeDate;
use stream::{Stream, symbol};
use tests::cluster::{self, Database};
use tests::store;

/// Trades lie between these trade dates; the days around them are there for what a calendar moves.
const FIRST: &str = "2025-11-25";
const LAST: &str = "2025-12-02";
const CONNECTIONS: usize = 3;
const BOOKS: usize = 2;

impl Stream {
    async fn step(&mut self) -> Result<()> {
        let at = self.chance.within(0, CONNECTIONS as i64) as usize;
        match self.chance.within(0, 20) {
            0..=5 => self.insert(at).await?,
            6..=8 => self.put(at).await?,
            9..=10 => self.seal(at).await?,
            11..=13 => self.correct(at).await?,
            14 => self.maintain(at).await?,
            15 => self.publish(at).await?,
            16 => self.gap(at).await?,
            _ => self.transact(at).await?,
        }
        let book = self.chance.within(0, BOOKS as i64) as usize;
        self.check(at, book, Reads::Some).await?;
        if self.chance.once_in(2) {
            self.check_past(at, book).await?;
        }
        let other = (at + 1 + self.chance.within(0, CONNECTIONS as i64 - 1) as usize) % CONNECTIONS;
        match self.chance.once_in(2) {
            true => self.check(other, (book + 1) % BOOKS, Reads::Some).await,
            false => self.check_past(other, book).await,
        }
    }

    async fn run(&mut self, steps: usize) -> Result<()> {
        for _ in 0..steps {
            if self.server.is_some() && self.chance.once_in(30) {
                self.crash().await?;
            }
            self.step().await?;
        }
        // everything ends, and everything is sealed
        for at in 0..CONNECTIONS {
            if self.connections[at].open.take().is_some() {
                self.connections[at].client.batch_execute("ROLLBACK").await?;
            }
        }
        for book in 0..BOOKS {
            self.check(0, book, Reads::All).await?;
            for w in self.known[self.committed.calendar].windows.clone() {
                let day = TradeDate(w.date).to_string();
                self.connections[0].query("SELECT market.seal($1, $2::text::date)", &[&symbol(book), &day]).await?;
                let effects = self.committed.seal(book, &w);
                self.note(0, effects);
            }
            self.check(1, book, Reads::All).await?;
            self.check_past(1, book).await?;
        }
        let left = store::texts(&self.connections[0].client, "SELECT count(*) FROM market.live_trades").await?;
        assert_eq!(left, ["0"], "live rows");
        self.over = true;
        Ok(())
    }
}

/// A number that a nightly run sets higher.
fn number(name: &str, own: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(own)
}

#[tokio::test]
async fn every_read_equals_the_ledger_at_every_step() -> Result<()> {
    let (first, streams) = (number("BELLWETHER_SEED", 101), number("BELLWETHER_STREAMS", 3));
    for seed in first..first + streams {
        println!("seed {seed} (BELLWETHER_SEED={seed} BELLWETHER_STREAMS=1)");
        let mut stream = Stream::new(cluster::database("streams").await?, None, seed).await?;
        stream.run(number("BELLWETHER_STEPS", 400) as usize).await.with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

/// The same on a server that writes durably and is killed again and again.
#[tokio::test]
async fn every_read_equals_the_ledger_after_every_crash() -> Result<()> {
    let seed = number("BELLWETHER_SEED", 201);
    println!("seed {seed} (BELLWETHER_SEED={seed})");
    let (server, _lifeline) = cluster::durable("streams", "")?;
    cluster::patiently(&server).await?.batch_execute("CREATE EXTENSION bellwether").await?;
    let database = Database { url: server.url("postgres"), name: "postgres".into() };
    let mut stream = Stream::new(database, Some(server), seed).await?;
    stream.run(number("BELLWETHER_STEPS", 300) as usize).await.with_context(|| format!("seed {seed}"))?;
    stream.server.take().context("it has a server")?.stop()
}
