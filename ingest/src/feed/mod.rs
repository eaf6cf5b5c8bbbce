//! Feeds: one source each, read into batches of trades with the line they came from.

pub mod binance;
pub mod csv;
pub mod dbn;
pub mod format;
pub mod kraken;
pub mod lean;
pub mod parquet;
pub mod statistics;

use crate::lines::{Line, Lines};
use market::trade::Trades;
use std::collections::HashMap;

/// One source of trades: a file, a member of an archive, a generator.
pub trait Feed {
    /// Adds about [`Batch::FULL`] trades to the batch; `false` when the source is finished.
    ///
    /// # Errors
    /// [`Broken`] when the source cannot be read further. What is already in the batch is good.
    fn fill(&mut self, batch: &mut Batch, names: &mut Names) -> Result<bool, Broken>;
}

/// A source that cannot be read further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The line (or record) at which it breaks, where known.
    pub line: Option<u64>,
    /// Why, and what to do.
    pub reason: String,
}

impl Broken {
    /// Broken at no particular line.
    pub fn new(reason: impl Into<String>) -> Broken {
        Broken { line: None, reason: reason.into() }
    }

    /// Broken at a line (or record).
    pub fn at(line: u64, reason: impl Into<String>) -> Broken {
        Broken { line: Some(line), reason: reason.into() }
    }

    /// What an I/O error means to somebody who loads a file.
    pub fn read(line: u64, error: &std::io::Error) -> Broken {
        let reason = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => format!("is truncated after line {line}"),
            _ => format!("cannot be read after line {line}: {error}"),
        };
        Broken { line: Some(line), reason }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

/// A line that is not a trade. It goes to `market.dead_letters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Line or record number, from 1.
    pub line: u64,
    /// Why it is not a trade.
    pub reason: String,
    /// The line as read, at most [`Reject::RAW`] bytes of it.
    pub raw: String,
}

impl Reject {
    /// How much of a rejected line is kept.
    pub const RAW: usize = 500;

    /// A rejected line; bytes that are not UTF-8 are replaced, NUL (which PostgreSQL cannot store) too.
    pub fn new(line: u64, reason: impl Into<String>, raw: &[u8]) -> Reject {
        let raw = &raw[..raw.len().min(Reject::RAW)];
        Reject { line, reason: reason.into(), raw: String::from_utf8_lossy(raw).replace('\0', "\u{fffd}") }
    }
}

/// Trades of one source, in the order of the source, with the instrument's name of each.
#[derive(Default)]
pub struct Batch {
    /// Index into [`Names`], one per trade.
    pub names: Vec<u32>,
    /// The trades.
    pub trades: Trades,
    /// What the source says beside trades, with the index into [`Names`].
    pub stats: Vec<(u32, statistics::Published)>,
    /// Lines that are none.
    pub rejects: Vec<Reject>,
}

impl Batch {
    /// A feed stops filling here.
    pub const FULL: usize = 32 * 1024;

    /// Whether a feed should hand the batch over.
    pub fn is_full(&self) -> bool {
        self.names.len().max(self.stats.len()) >= Batch::FULL || self.rejects.len() >= 1024
    }

    /// Adds a trade of the name.
    pub fn push(&mut self, name: u32, trade: market::trade::Trade) {
        self.names.push(name);
        self.trades.push(trade);
    }
}

/// What a format knows about the instruments in it, for those that have to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The calendar, where the format implies one.
    pub calendar: Option<String>,
    /// The venue.
    pub venue: Option<String>,
    /// `future`, `equity`, `pair`, ...
    pub kind: Option<String>,
}

/// An instrument as a source names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The source's symbol, after `--symbol-map`.
    pub symbol: String,
    /// What the source knows about it.
    pub defaults: Defaults,
}

/// Names seen so far, numbered from 0 in order of appearance.
#[derive(Default)]
pub struct Names {
    list: Vec<Name>,
    index: HashMap<(String, Option<String>), u32>,
    map: HashMap<String, String>,
    defaults: Defaults,
    recent: Vec<Option<(Box<[u8]>, u32)>>,
}

impl Names {
    const RECENT: usize = 256;

    /// No names yet; `map` renames symbols (`--symbol-map from=to`).
    pub fn new(map: HashMap<String, String>) -> Names {
        Names { map, recent: vec![None; Names::RECENT], ..Names::default() }
    }

    /// What the source that is read next knows about its instruments.
    pub fn set_defaults(&mut self, defaults: Defaults) {
        self.defaults = defaults;
        self.recent = vec![None; Names::RECENT];
    }

    /// The number of a symbol.
    ///
    /// # Errors
    /// A symbol that is empty, too long or not printable text.
    pub fn id(&mut self, symbol: &[u8]) -> Result<u32, String> {
        let slot = Names::slot(symbol);
        if let Some(Some((text, id))) = self.recent.get(slot)
            && **text == *symbol
        {
            return Ok(*id);
        }
        let text = std::str::from_utf8(symbol).map_err(|_| "symbol is not UTF-8 text".to_string())?.trim();
        if text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
            return Err(format!(
                "\"{}\" is not a symbol; a symbol has 1 to 64 printable characters",
                text.escape_debug()
            ));
        }
        let text = self.map.get(text).map_or(text, String::as_str).to_string();
        let key = (text.clone(), self.defaults.calendar.clone());
        let id = match self.index.get(&key) {
            Some(id) => *id,
            None => {
                let id = self.list.len() as u32;
                self.list.push(Name { symbol: text, defaults: self.defaults.clone() });
                self.index.insert(key, id);
                id
            }
        };
        if let Some(entry) = self.recent.get_mut(slot) {
            *entry = Some((symbol.into(), id));
        }
        Ok(id)
    }

    /// Names from the `from`-th on.
    pub fn since(&self, from: usize) -> &[Name] {
        self.list.get(from..).unwrap_or(&[])
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether no name has been seen.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn slot(symbol: &[u8]) -> usize {
        let mut hash = symbol.len() as u64;
        for chunk in symbol.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (hash >> 56) as usize
    }
}

/// Fills a batch from a file of lines: `read` is given each line and its number; empty lines are none.
fn fill_from_lines(
    lines: &mut Lines<'_>,
    batch: &mut Batch,
    mut read: impl FnMut(&[u8], u64, &mut Batch),
) -> Result<bool, Broken> {
    while !batch.is_full() {
        let number = lines.number() + 1;
        match lines.next() {
            Ok(Line::Text([])) => {}
            Ok(Line::Text(text)) => read(text, number, batch),
            Ok(Line::TooLong(start)) => batch.rejects.push(Reject::new(number, "line has more than 64 KiB", start)),
            Ok(Line::End) => return Ok(false),
            Err(e) => return Err(Broken::read(number - 1, &e)),
        }
    }
    Ok(true)
}

/// Numbers the records of one message: sources whose sequence is not per trade repeat (ts, seq).
#[derive(Clone, Copy, Debug)]
pub struct Ordinal {
    ts: i64,
    seq: i64,
    next: i32,
}

impl Default for Ordinal {
    fn default() -> Ordinal {
        Ordinal { ts: i64::MIN, seq: i64::MIN, next: 0 }
    }
}

impl Ordinal {
    /// 0 for the first record of (ts, seq), 1 for the next, ...
    pub fn of(&mut self, ts: i64, seq: i64) -> i32 {
        if self.ts == ts && self.seq == seq {
            self.next += 1;
        } else {
            *self = Ordinal { ts, seq, next: 0 };
        }
        self.next
    }
}
