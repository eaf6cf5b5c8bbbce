//! The decode thread: files and members of archives into batches.

use crate::feed::format::Reading;
use crate::feed::{Batch, Broken, Feed, Name, Names};
use crate::input::{self, Input};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

/// What the decode thread tells the filing thread.
pub(super) enum Event {
    Batch { label: Arc<str>, batch: Box<Batch>, names: Vec<Name> },
    Broken { label: Arc<str>, why: Broken },
    Source,
}

/// Reads every file; ends early when nobody listens any more or `stop` is set.
pub(super) fn decode_files(
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
) -> Result<(), Broken> {
    if stop.load(Ordering::Relaxed) || events.send(Event::Source).is_err() {
        return Ok(());
    }
    let mut feed = reading.feed(input, names)?;
    read_feed(&mut *feed, label, names, told, events, stop)
}

/// When this many lines and not one trade have been seen, the file is of another format.
const ANOTHER_FORMAT: usize = 20;

/// Reads one source to its end.
pub(super) fn read_feed(
    feed: &mut dyn Feed,
    label: &Arc<str>,
    names: &mut Names,
    told: &mut usize,
    events: &SyncSender<Event>,
    stop: &AtomicBool,
) -> Result<(), Broken> {
    let mut any = false;
    loop {
        let mut batch = Box::<Batch>::default();
        let result = feed.fill(&mut batch, names);
        any |= !batch.names.is_empty() || !batch.stats.is_empty();
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
