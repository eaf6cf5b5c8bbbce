//! `ingest load`: files -> batches -> whole sessions -> packed blocks -> `put_trades`.
//!
//! ```text
//! decode thread --batches--> filing thread --jobs--> N writers (sort, pack on the blocking pool, put_trades)
//! ```
//!
//! Every channel is bounded, so memory is too. All jobs of one session go to the same writer: which of two conflicting
//! trades wins does not depend on which connection is faster. Each job is one transaction and merging is idempotent, so a
//! load that is interrupted is simply run again.

use crate::db::{Create, Creating, Db, Instrument, Local, Place, Put, Remote, Resolve};
use crate::feed::format::Reading;
use crate::feed::{Batch, Broken, Feed, Name, Names, Reject};
use crate::input::{self, Input};
use crate::route::{Job, Limits, Router, settle};
use crate::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use market::block;
use market::trade::{NONE_I64, Trade};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

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

/// What a load did.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Sources read: files and archive members.
    pub sources: u64,
    /// Trades read.
    pub read: u64,
    /// Trades the database did not have.
    pub new: u64,
    /// Trades the database had already.
    pub known: u64,
    /// Trades whose identity is there with other content; they are in `dead_letters`.
    pub conflicts: u64,
    /// Lines that are no trades; they are in `dead_letters`.
    pub rejects: u64,
    /// Sessions written.
    pub sessions: u64,
    /// Instruments seen.
    pub instruments: usize,
    /// Instruments made.
    pub created: usize,
    /// Bytes sent, packed.
    pub bytes: u64,
    /// What went wrong with single files; the rest is loaded.
    pub problems: Vec<String>,
    /// From start to end.
    pub elapsed: Duration,
    /// Whether nothing was written.
    pub dry_run: bool,
}

impl Summary {
    /// 0 when every file was read to its end.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.problems.is_empty())
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = (self.read as f64 / seconds.max(1e-9)) as u64;
        let row = |f: &mut std::fmt::Formatter<'_>, what: &str, value: String| writeln!(f, "{what:<13}{value:>15}");
        row(f, "sources", thousands(self.sources))?;
        row(f, "trades read", thousands(self.read))?;
        if self.dry_run {
            row(f, "sessions", thousands(self.sessions))?;
        } else {
            row(f, "new", thousands(self.new))?;
            row(f, "known", thousands(self.known))?;
            row(f, "conflicts", thousands(self.conflicts))?;
        }
        row(f, "rejects", thousands(self.rejects))?;
        if !self.dry_run {
            row(f, "sessions", thousands(self.sessions))?;
        }
        let made = match (self.created, self.dry_run) {
            (0, _) => String::new(),
            (n, false) => format!("  ({n} created)"),
            (n, true) => format!("  ({n} would be created)"),
        };
        row(f, "instruments", format!("{}{made}", thousands(self.instruments as u64)))?;
        write!(f, "{:<13}{:>15}  ({} trades/s", "seconds", format!("{seconds:.2}"), thousands(rate))?;
        if self.read > 0 {
            write!(f, ", {:.2} bytes a trade sent", self.bytes as f64 / self.read as f64)?;
        }
        write!(f, ")")?;
        if self.dry_run {
            write!(f, "\ndry run: nothing was written")?;
        } else if self.new == 0 && self.read > 0 && self.conflicts == 0 {
            write!(f, "\nnothing new: every trade was there already")?;
        }
        Ok(())
    }
}

fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// What the decode thread tells the filing thread.
enum Event {
    Batch { label: Arc<str>, batch: Batch, names: Vec<Name> },
    Broken { label: Arc<str>, why: Broken },
    Source,
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

fn decode_files(
    paths: &[PathBuf],
    reading: &Reading,
    mut names: Names,
    bytes: &Arc<AtomicU64>,
    events: &SyncSender<Event>,
    stop: &AtomicBool,
) {
    let mut told = 0;
    for path in paths {
        // Stored with dead letters: the same file by another relative path is the same file.
        let file = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let mut read = |input: Input<'_>| {
            let label: Arc<str> = input.label.as_str().into();
            let result = decode_source(input, &label, reading, &mut names, &mut told, events, stop);
            if let Err(why) = result
                && events.send(Event::Broken { label, why }).is_err()
            {
                stop.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        if let Err(why) = input::open(&file, bytes, &mut read)
            && events.send(Event::Broken { label: file.display().to_string().into(), why }).is_err()
        {
            return;
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn decode_source(
    input: Input<'_>,
    label: &Arc<str>,
    reading: &Reading,
    names: &mut Names,
    told: &mut usize,
    events: &SyncSender<Event>,
    stop: &AtomicBool,
) -> std::result::Result<(), Broken> {
    if stop.load(Ordering::Relaxed) || events.send(Event::Source).is_err() {
        return Ok(());
    }
    let mut feed = reading.feed(input, names)?;
    read_feed(&mut *feed, label, names, told, events, stop)
}

/// When this many lines and not one trade have been seen, the file is of another format.
const ANOTHER_FORMAT: usize = 20;

fn read_feed(
    feed: &mut dyn Feed,
    label: &Arc<str>,
    names: &mut Names,
    told: &mut usize,
    events: &SyncSender<Event>,
    stop: &AtomicBool,
) -> std::result::Result<(), Broken> {
    let mut any = false;
    loop {
        let mut batch = Batch::default();
        let result = feed.fill(&mut batch, names);
        any |= !batch.names.is_empty();
        if !any && batch.rejects.len() >= ANOTHER_FORMAT {
            let first = &batch.rejects[0];
            return Err(Broken::at(
                first.line,
                format!(
                    "none of its first {} lines is a trade, so none was kept; is it of another --format, or of other columns? \
                     Line {}: {}: {}",
                    batch.rejects.len(),
                    first.line,
                    first.reason,
                    first.raw.chars().take(120).collect::<String>()
                ),
            ));
        }
        let fresh = names.since(*told).to_vec();
        *told = names.len();
        let event = Event::Batch { label: Arc::clone(label), batch, names: fresh };
        if events.send(event).is_err() || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !result? {
            return Ok(());
        }
    }
}

/// The filing thread.
struct Filing {
    resolve: Box<dyn Resolve + Send>,
    /// What a dry run does about instruments that are not there: pretends.
    fallback: Option<Local>,
    letters: Letters,
    router: Router,
    max_rejects: u64,
    summary: Summary,
    bar: ProgressBar,
    bytes: Arc<AtomicU64>,
}

impl Filing {
    fn run(
        mut self,
        events: &Receiver<Event>,
        writers: Vec<tokio::sync::mpsc::Sender<Work>>,
    ) -> Result<(Summary, Letters)> {
        // A job may hold trades of several files; conflicts in it are reported with the one read last.
        let reading: RefCell<Arc<str>> = RefCell::new("".into());
        let mut send = |job: Job| {
            let writer =
                (job.instrument.id as usize).wrapping_mul(31).wrapping_add(job.trade_date.0 as usize) % writers.len();
            writers[writer].blocking_send(Work { job, source: Arc::clone(&reading.borrow()) }).map_err(|_| {
                Error::Database {
                    doing: "storing trades".into(),
                    reason: "the writer stopped".into(),
                    state: String::new(),
                }
            })
        };
        let mut both = Both { first: self.resolve, second: self.fallback.take() };
        for event in events {
            match event {
                Event::Source => self.summary.sources += 1,
                Event::Broken { label, why } => {
                    self.letters.flush()?;
                    self.bar.suspend(|| eprintln!("ingest: {label}: {why}"));
                    self.summary.problems.push(format!("{label}: {why}"));
                }
                Event::Batch { label, mut batch, names } => {
                    self.router.learn(names);
                    *reading.borrow_mut() = Arc::clone(&label);
                    self.summary.read += batch.names.len() as u64;
                    self.summary.rejects += batch.rejects.len() as u64;
                    self.letters.add(&label, std::mem::take(&mut batch.rejects))?;
                    self.router.file(&batch, &mut both, &mut send)?;
                    self.bar.set_position(self.bytes.load(Ordering::Relaxed));
                    self.bar.set_message(format!("{} trades", thousands(self.summary.read)));
                    if self.summary.rejects > self.max_rejects {
                        let problem = format!(
                            "{label}: stopped after {} refused lines (--max-rejects {}); what was read before is loaded",
                            self.summary.rejects, self.max_rejects
                        );
                        self.bar.suspend(|| eprintln!("ingest: {problem}"));
                        self.summary.problems.push(problem);
                        break;
                    }
                }
            }
        }
        self.router.finish_all(&mut send)?;
        self.letters.flush()?;
        (self.summary.instruments, self.summary.created) = self.router.instruments();
        self.bar.finish_and_clear();
        Ok((self.summary, self.letters))
    }
}

/// The database first; in a dry run then what would be made.
struct Both {
    first: Box<dyn Resolve + Send>,
    second: Option<Local>,
}

impl Resolve for Both {
    fn resolve(&mut self, name: &Name, near: market::TradeDate) -> Result<Arc<Instrument>> {
        match (self.first.resolve(name, near), &mut self.second) {
            (Err(Error::Symbol(_)), Some(second)) => {
                let made = second.resolve(name, near)?;
                // Negative: no instrument of the database has it.
                Ok(Arc::new(Instrument { id: -made.id, ..(*made).clone() }))
            }
            (result, _) => result,
        }
    }
}

/// Refused lines on their way to `dead_letters`, or to the terminal in a dry run.
struct Letters {
    runtime: tokio::runtime::Handle,
    db: Option<Arc<Db>>,
    dry_run: bool,
    source: Arc<str>,
    waiting: Vec<Reject>,
}

impl Letters {
    fn add(&mut self, source: &Arc<str>, rejects: Vec<Reject>) -> Result<()> {
        if rejects.is_empty() {
            return Ok(());
        }
        if self.dry_run {
            for r in rejects {
                println!("{source}:{}: {}: {}", r.line, r.reason, r.raw);
            }
            return Ok(());
        }
        if self.source != *source {
            self.flush()?;
            self.source = Arc::clone(source);
        }
        self.waiting.extend(rejects);
        if self.waiting.len() >= 1000 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        match &self.db {
            Some(db) if !waiting.is_empty() => self.runtime.block_on(db.dead_letters(&self.source, &waiting)),
            _ => Ok(()),
        }
    }

    async fn add_now(&mut self, source: &str, reject: Reject) -> Result<()> {
        match &self.db {
            Some(db) => db.dead_letters(source, &[reject]).await,
            None => Ok(()),
        }
    }
}

struct Work {
    job: Job,
    source: Arc<str>,
}

#[derive(Default)]
struct Written {
    put: Put,
    repeated: u64,
    conflicts: u64,
    conflicting: Vec<(String, Reject)>,
    sessions: std::collections::HashSet<(i32, i32)>,
    bytes: u64,
}

impl Written {
    fn add(&mut self, other: Written) {
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
async fn write(
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

fn pack(mut trades: market::trade::Trades, known_at: KnownAt) -> Result<(crate::route::Settled, Vec<u8>)> {
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
