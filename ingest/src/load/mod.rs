//! `ingest load`: files -> batches -> whole sessions -> packed blocks -> `put_trades`.
//!
//! ```text
//! decode thread --batches--> filing thread --jobs--> N writers (sort, pack on the blocking pool, put_trades)
//! ```
//!
//! Every channel is bounded, so memory is too. All jobs of one session go to the same writer: which of two conflicting
//! trades wins does not depend on which connection is faster. Each job is one transaction and merging is idempotent, so a
//! load that is interrupted is simply run again.

mod decode;
mod file;
mod stats;
mod summary;
mod write;

pub use stats::Stat;
pub use summary::Summary;

use crate::db::{Create, Creating, Local, Place, Remote};
use crate::feed::format::Reading;
use crate::feed::{Feed, Names};
use crate::route::{Limits, Router};
use crate::{Error, Result};
use decode::{Event, decode_files, read_feed};
use file::{Filing, Letters};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stats::Stats;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;
use write::{Written, write};

/// What to load, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to; may be absent in a dry run.
    pub db: Option<Place>,
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// Format and columns.
    pub reading: Reading,
    /// `--symbol-map`.
    pub symbol_map: HashMap<String, String>,
    /// How unknown symbols become instruments.
    pub creating: Creating,
    /// Read, check and file everything, write nothing.
    pub dry_run: bool,
    /// More refused lines than this stop the load.
    pub max_rejects: u64,
    /// Connections that store sessions.
    pub connections: usize,
    /// How much is held back.
    pub limits: Limits,
    /// Received when it happened, or now.
    pub known_at: KnownAt,
}

/// When historical trades became known, where the file does not say.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KnownAt {
    /// When they happened
    #[default]
    Event,
    /// When they are loaded
    Now,
}

/// Loads files.
///
/// # Errors
/// The command line, the connection, a symbol nobody knows, or a statement the server refuses. Files that are broken are
/// problems of the [`Summary`], not errors.
pub async fn run(options: Options) -> Result<Summary> {
    let paths = options.files.clone();
    let reading = options.reading.clone();
    let names = Names::new(options.symbol_map.clone());
    let total = paths.iter().filter_map(|p| std::fs::metadata(p).ok()).map(|m| m.len()).sum();
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&bytes);
    let decode = move |events: &SyncSender<Event>, stop: &AtomicBool| {
        decode_files(&paths, &reading, names, &counted, events, stop);
    };
    pipeline(options, bar(total), bytes, decode).await
}

/// Sends the trades of a generator through the same pipeline as files.
///
/// # Errors
/// As [`run`].
pub async fn run_feed(
    options: Options,
    label: &str,
    make: impl FnOnce(&mut Names) -> Box<dyn Feed> + Send + 'static,
) -> Result<Summary> {
    let label: Arc<str> = label.into();
    let decode = move |events: &SyncSender<Event>, stop: &AtomicBool| {
        let mut names = Names::new(HashMap::new());
        let mut feed = make(&mut names);
        let mut told = 0;
        let _ = events.send(Event::Source);
        let _ = read_feed(&mut *feed, &label, &mut names, &mut told, events, stop);
    };
    pipeline(options, ProgressBar::hidden(), Arc::default(), decode).await
}

async fn pipeline(
    options: Options,
    bar: ProgressBar,
    bytes: Arc<AtomicU64>,
    decode: impl FnOnce(&SyncSender<Event>, &AtomicBool) + Send + 'static,
) -> Result<Summary> {
    let started = Instant::now();
    let control = match &options.db {
        Some(place) => Some(Arc::new(place.connect().await?)),
        None if options.dry_run => None,
        None => {
            return Err(Error::Usage(
                "--db is needed (or BELLWETHER_DB); only --dry-run works without a database".into(),
            ));
        }
    };
    let mut senders = vec![];
    let mut writers = vec![];
    for _ in 0..options.connections.max(1) {
        let place = options.db.clone().filter(|_| !options.dry_run);
        let db = match &place {
            Some(place) => Some(place.connect().await?),
            None => None,
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        senders.push(sender);
        writers.push(tokio::spawn(write(place, db, receiver, options.known_at)));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (events, received) = sync_channel(4);
    let decoder_stop = Arc::clone(&stop);
    let decoder = std::thread::spawn(move || decode(&events, &decoder_stop));
    let filing = Filing {
        resolve: match &control {
            Some(db) => Box::new(Remote {
                runtime: tokio::runtime::Handle::current(),
                db: Arc::clone(db),
                creating: if options.dry_run {
                    Creating { create: Create::Never, ..options.creating.clone() }
                } else {
                    options.creating.clone()
                },
            }),
            None => Box::new(Local::new(options.creating.clone())),
        },
        fallback: options.dry_run.then(|| Local::new(options.creating.clone())),
        stats: Stats {
            runtime: tokio::runtime::Handle::current(),
            db: control.clone().filter(|_| !options.dry_run),
            waiting: vec![],
            new: 0,
        },
        letters: Letters {
            runtime: tokio::runtime::Handle::current(),
            db: control.filter(|_| !options.dry_run),
            dry_run: options.dry_run,
            waiting: vec![],
            source: "".into(),
        },
        router: Router::new(options.limits),
        max_rejects: options.max_rejects,
        summary: Summary { dry_run: options.dry_run, ..Summary::default() },
        bar,
        bytes,
    };
    let filed = tokio::task::spawn_blocking(move || filing.run(&received, senders));
    let filed = filed.await.map_err(|e| Error::Database {
        doing: "filing trades".into(),
        reason: format!("the thread ended early: {e}"),
        state: String::new(),
    });
    stop.store(true, Ordering::Relaxed);
    let mut first_error = None;
    let mut written = Written::default();
    for writer in writers {
        match writer.await {
            Ok(Ok(part)) => written.add(part),
            Ok(Err(e)) => first_error = first_error.or(Some(e)),
            Err(e) => {
                let reason = format!("a writer ended early: {e}");
                first_error = first_error.or(Some(Error::Database {
                    doing: "storing trades".into(),
                    reason,
                    state: String::new(),
                }));
            }
        }
    }
    // The writer's error is the cause; the filing thread only saw its channel close.
    if let Some(error) = first_error {
        return Err(error);
    }
    let (mut summary, mut letters) = filed??;
    if decoder.join().is_err() {
        summary.problems.push("the decoder panicked; please report the file".into());
    }
    for (source, reject) in written.conflicting {
        letters.add_now(&source, reject).await?;
    }
    summary.new = written.put.added as u64;
    summary.known = written.put.known as u64 + written.repeated;
    summary.conflicts = written.put.conflicts as u64 + written.conflicts;
    summary.sessions = written.sessions.len() as u64;
    summary.bytes = written.bytes;
    summary.elapsed = started.elapsed();
    Ok(summary)
}

fn bar(total: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {msg} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5)).with_style(style)
}
