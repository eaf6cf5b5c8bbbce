//! `ingest live`: a venue's trades as they happen, each exactly once.
//!
//! ```text
//! socket task --bounded channel--> writer: batch -> one transaction (rows, checkpoints, gaps)
//! ```
//!
//! The socket task has a thread of its own; the writer shares its thread with its connection, because a batch waits three
//! times for the server and each hand-over between threads costs more than a round trip.
//!
//! The socket task connects again, with exponential backoff and jitter, whenever the connection ends, is silent, or
//! breaks. The writer alone decides what is new, by the checkpoint: so neither a reconnect that repeats trades, nor a crash between
//! two batches, nor a commit whose answer was lost makes a trade twice or loses one that was delivered. What the venue did
//! not deliver is recorded in `market.feed_gaps`.

pub mod sequence;
pub mod sink;
pub mod socket;

use crate::db::{Creating, Place};
use crate::feed::Name;
use crate::{Error, Result};
use market::TradeDate;
use market::trade::Trade;
use sequence::{Mark, after};
use sink::{PostgresSink, Sink};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A venue with a live feed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Venue {
    /// Binance spot, stream `trade`
    Binance,
}

/// What to follow, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where trades go.
    pub db: Place,
    /// Which venue.
    pub venue: Venue,
    /// Symbols as the venue writes them.
    pub symbols: Vec<String>,
    /// Another address than the venue's, such as a replay server's.
    pub url: Option<String>,
    /// How unknown symbols become instruments.
    pub creating: Creating,
    /// A batch is committed when it has this many trades,
    pub batch: usize,
    /// or its first trade has waited this long.
    pub flush: Duration,
    /// The connection counts as dead after this much silence.
    pub silence: Duration,
    /// First wait before connecting again; doubles up to a minute.
    pub backoff: Duration,
}

/// What a live run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Trades committed.
    pub trades: u64,
    /// Trades that were there already.
    pub known: u64,
    /// Batches committed.
    pub batches: u64,
    /// Gaps recorded.
    pub gaps: u64,
    /// Messages that could not be read.
    pub rejects: u64,
    /// Connections made.
    pub connections: u64,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals { trades, known, batches, gaps, rejects, connections } = self;
        write!(
            f,
            "{trades} trades in {batches} batches, {known} known, {gaps} gaps, {rejects} refused messages, {connections} connections"
        )
    }
}

/// What the socket task hands to the writer.
#[derive(Debug)]
pub enum Arrival {
    /// A trade of the symbol with this index.
    Trade(usize, Trade),
    /// A message that could not be read.
    Reject(crate::feed::Reject),
    /// Another connection was made.
    Connected,
}

/// Follows a feed until `stop` becomes true.
///
/// # Errors
/// A database that is not there at the start, a symbol nobody knows, a feed that another process follows already.
pub async fn run(options: Options, stop: watch::Receiver<bool>) -> Result<Totals> {
    if options.symbols.is_empty() {
        return Err(Error::Usage("--symbols names no symbol; write it like --symbols btcusdt,ethusdt".into()));
    }
    let url = match options.venue {
        Venue::Binance => socket::binance_url(options.url.as_deref(), &options.symbols)?,
    };
    let feed = "binance.spot.trade";
    let db = options.db.connect().await?;
    let today = TradeDate(
        (std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400)
            as i32,
    );
    let mut instruments = vec![];
    for symbol in &options.symbols {
        let name = Name { symbol: symbol.to_ascii_uppercase(), defaults: crate::feed::binance::defaults() };
        instruments.push(db.instrument(&name, today, &options.creating).await?.id);
    }
    drop(db);
    let sink = PostgresSink::new(options.db.clone(), feed, "BINANCE", &url).await?;
    tracing::info!("following {} of {feed} into {}", options.symbols.join(", "), options.db);
    let (arrivals, received) = mpsc::channel(8 * options.batch.max(64));
    let venue = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("venue")
        .enable_all()
        .build()
        .map_err(|e| Error::Usage(format!("the thread of the venue cannot start: {e}")))?;
    venue.spawn(socket::follow(
        socket::Follow {
            url,
            symbols: options.symbols.iter().map(|s| s.to_ascii_uppercase()).collect(),
            silence: options.silence,
            backoff: options.backoff,
        },
        arrivals,
        stop.clone(),
    ));
    let totals = write(sink, &instruments, received, &options, stop).await;
    venue.shutdown_background();
    totals
}

/// Batches what arrives and commits it; ends when the socket task does and everything is committed.
///
/// # Errors
/// What the database refuses and would refuse again.
pub async fn write<S: Sink>(
    mut sink: S,
    instruments: &[i32],
    mut arrivals: mpsc::Receiver<Arrival>,
    options: &Options,
    stop: watch::Receiver<bool>,
) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut marks = surely(&options.backoff, &stop, async || sink.marks().await).await?;
    let mut batch: Vec<(i32, Trade)> = vec![];
    loop {
        // Wait for the first trade of a batch, then no longer than `flush` for the rest.
        let mut closed = false;
        let mut deadline = None;
        while batch.len() < options.batch {
            let arrival = match deadline {
                None => arrivals.recv().await,
                Some(at) => match tokio::time::timeout_at(at, arrivals.recv()).await {
                    Ok(arrival) => arrival,
                    Err(_) => break,
                },
            };
            match arrival {
                Some(Arrival::Trade(symbol, trade)) => {
                    if let Some(instrument) = instruments.get(symbol) {
                        batch.push((*instrument, trade));
                    }
                    deadline = deadline.or_else(|| Some(tokio::time::Instant::now() + options.flush));
                }
                Some(Arrival::Reject(reject)) => {
                    totals.rejects += 1;
                    tracing::warn!("message refused: {}", reject.reason);
                    surely(&options.backoff, &stop, async || sink.reject(&reject).await).await?;
                }
                Some(Arrival::Connected) => totals.connections += 1,
                None => {
                    closed = true;
                    break;
                }
            }
        }
        if !batch.is_empty() {
            marks = commit(&mut sink, marks, &batch, &mut totals, options, &stop).await?;
            batch.clear();
        }
        if closed {
            return Ok(totals);
        }
    }
}

async fn commit<S: Sink>(
    sink: &mut S,
    mut marks: BTreeMap<i32, Mark>,
    batch: &[(i32, Trade)],
    totals: &mut Totals,
    options: &Options,
    stop: &watch::Receiver<bool>,
) -> Result<BTreeMap<i32, Mark>> {
    let mut wait = options.backoff;
    loop {
        let todo = after(&marks, batch);
        let result = if todo.trades.is_empty() { Ok(()) } else { sink.commit(&todo).await };
        match result {
            Ok(()) => {
                totals.trades += todo.trades.len() as u64;
                totals.known += todo.known;
                totals.gaps += todo.gaps.len() as u64;
                totals.batches += u64::from(!todo.trades.is_empty());
                for gap in &todo.gaps {
                    tracing::warn!(
                        "gap: ids {} to {} of instrument {} are missing",
                        gap.first,
                        gap.last,
                        gap.instrument
                    );
                }
                marks.extend(todo.marks.into_iter().map(|(instrument, (_, now))| (instrument, now)));
                return Ok(marks);
            }
            // The commit may have happened although its answer was lost, so the marks are read again before the batch is.
            Err(error) if error.is_lost_connection() => {
                tracing::warn!("{error}; trying again in {} ms", wait.as_millis());
                give_up_when_stopped(stop, wait, &error)?;
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
                marks = surely(&options.backoff, stop, async || sink.marks().await).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Between attempts there is at most this.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Repeats something until the database is there again.
async fn surely<T>(
    first_wait: &Duration,
    stop: &watch::Receiver<bool>,
    mut act: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let mut wait = *first_wait;
    loop {
        match act().await {
            Err(error) if error.is_lost_connection() => {
                tracing::warn!("{error}; trying again in {} ms", wait.as_millis());
                give_up_when_stopped(stop, wait, &error)?;
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            other => return other,
        }
    }
}

/// Somebody who wants to stop does not wait for a database that may never come back; the venue's trades since the last
/// commit are then a gap of the next run.
fn give_up_when_stopped(stop: &watch::Receiver<bool>, wait: Duration, error: &Error) -> Result<()> {
    if *stop.borrow() && wait > Duration::from_secs(5) {
        return Err(Error::Connection(format!("stopped before the last batch could be committed: {error}")));
    }
    Ok(())
}

/// Becomes true on Ctrl-C or SIGTERM.
///
/// # Errors
/// A system without signals.
pub fn stop_signal() -> Result<watch::Receiver<bool>> {
    let cannot = |e: std::io::Error| Error::Usage(format!("signals cannot be caught: {e}"));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(cannot)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping: the last batch is committed first");
        let _ = sender.send(true);
        // A second signal means now.
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(1);
    });
    Ok(receiver)
}
