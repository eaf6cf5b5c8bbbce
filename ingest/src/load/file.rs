//! The filing thread: batches into sessions, refused lines into dead letters.

use super::Summary;
use super::decode::Event;
use super::stats::Stats;
use super::summary::thousands;
use super::write::Work;
use crate::db::{Db, Instrument, Local, Resolve};
use crate::feed::{Name, Reject};
use crate::route::{Job, Router};
use crate::{Error, Result};
use indicatif::ProgressBar;
use market::TradeDate;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

/// The filing thread.
pub(super) struct Filing {
    pub(super) resolve: Box<dyn Resolve + Send>,
    /// What a dry run does about instruments that are not there: pretends.
    pub(super) fallback: Option<Local>,
    pub(super) letters: Letters,
    pub(super) stats: Stats,
    pub(super) router: Router,
    pub(super) max_rejects: u64,
    pub(super) summary: Summary,
    pub(super) bar: ProgressBar,
    pub(super) bytes: Arc<AtomicU64>,
}

impl Filing {
    /// Until the decode thread is done.
    pub(super) fn run(
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
                    self.summary.stats += batch.stats.len() as u64;
                    for (name, published) in std::mem::take(&mut batch.stats) {
                        let near = published.of.unwrap_or(TradeDate(published.ts.div_euclid(market::time::DAY) as i32));
                        let instrument = self.router.instrument(name, near, &mut both)?;
                        self.stats.add(&instrument, published)?;
                    }
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
        self.stats.flush()?;
        self.summary.new_stats = self.stats.new;
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
    fn resolve(&mut self, name: &Name, near: TradeDate) -> Result<Arc<Instrument>> {
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
pub(super) struct Letters {
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) db: Option<Arc<Db>>,
    pub(super) dry_run: bool,
    pub(super) source: Arc<str>,
    pub(super) waiting: Vec<Reject>,
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

    pub(super) async fn add_now(&mut self, source: &str, reject: Reject) -> Result<()> {
        match &self.db {
            Some(db) => db.dead_letters(source, &[reject]).await,
            None => Ok(()),
        }
    }
}
