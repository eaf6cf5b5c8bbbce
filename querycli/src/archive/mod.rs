//! The archive: one Parquet file per instrument and trade date, with a manifest that says what it holds.
//!
//! ```text
//! sessions/symbol=ESZ25/2025-11-28.json                          the manifest: the session is archived if it is here
//! trades/symbol=ESZ25/trade_date=2025-11-28/DIGEST.parquet       its trades, for any reader of Parquet
//! minutes/symbol=ESZ25/2025-11-28-HASH.bars                      its minute bars, as the database stores them
//! calendars/XNYS@2-HASH.toml                                     the calendar that its bars were made with
//! ```
//!
//! Push writes the files, then the manifest, reads all of it back, and tells the database last (push.rs). So at any moment a
//! session is archived whole or not at all, and what an interrupted push leaves is in nobody's way.

mod batch;
pub mod command;
mod file;
mod halts;
mod hours;
mod manifest;
mod place;
mod prune;
mod push;
mod restore;
mod tables;
mod verify;

pub use file::Reader as Pages;
pub use file::{Batches, Columns};
pub use manifest::{Manifest, Terms};
pub use place::{Contents, Place};
pub use prune::{Prune, Pruned, prune};
pub use push::{Push, Pushed, push};
pub use restore::{Restore, Restored, restore};
pub use tables::{TABLES, table};
pub use verify::{Verified, Verify, verify};

use crate::db::Instrument;
use crate::error::{Error, Result};
use crate::known::Calendars;
use manifest::{SESSIONS, manifest_file, symbol_folder, symbol_of_folder};
use market::{Roll, Symbol, TradeDate};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An archive, to read.
pub struct Archive {
    place: Place,
    /// What was read of it. A statement asks for the same more than once.
    read: Mutex<Read>,
    /// Whether it was said that it is older than halts.
    remarked: AtomicBool,
}

/// Lists and manifests of one statement or command.
#[derive(Default)]
struct Read {
    /// The names of all manifests are here.
    all: bool,
    symbols: Option<Vec<String>>,
    days: HashMap<String, Vec<TradeDate>>,
    /// Manifests by name, as far as they are there.
    manifests: HashMap<String, Option<Manifest>>,
}

/// Manifests that are kept; a statement over more reads some again.
const MOST_MANIFESTS: usize = 50_000;

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "archive {}", self.location())
    }
}

/// Which sessions a command is about.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// These instruments; all if there are none.
    pub symbols: Vec<String>,
    /// From this trade date on.
    pub first: Option<TradeDate>,
    /// To this trade date.
    pub last: Option<TradeDate>,
}

impl Selection {
    /// Whether it has a session.
    pub fn takes(&self, symbol: &str, day: TradeDate) -> bool {
        (self.symbols.is_empty() || self.symbols.iter().any(|wanted| wanted == symbol))
            && self.first.is_none_or(|first| first <= day)
            && self.last.is_none_or(|last| day <= last)
    }
}

impl Archive {
    /// Opens one that is there.
    ///
    /// # Errors
    /// No folder, or one that is no archive.
    pub fn open(text: &str) -> Result<Archive> {
        let place = Place::parse(text)?;
        if !place.exists()? {
            return Err(Error::question(
                format!("there is no archive {}", place.location()),
                "querycli archive push makes one",
            ));
        }
        Ok(Archive::at(place))
    }

    fn at(place: Place) -> Archive {
        Archive { place, read: Mutex::default(), remarked: AtomicBool::new(false) }
    }

    fn known(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes next sees the archive as it is then.
    pub fn forget(&self) {
        *self.known() = Read::default();
    }

    /// Where it lies.
    pub fn location(&self) -> String {
        self.place.location()
    }

    /// The symbols it has sessions of, sorted.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn symbols(&self) -> Result<Vec<String>> {
        if let Some(known) = &self.known().symbols {
            return Ok(known.clone());
        }
        let folders = self.place.list(SESSIONS)?;
        let mut symbols: Vec<String> = folders.iter().filter_map(|(name, _)| symbol_of_folder(name)).collect();
        symbols.sort_unstable();
        self.known().symbols = Some(symbols.clone());
        Ok(symbols)
    }

    /// The trade dates it has of a symbol, sorted.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn days(&self, symbol: &str) -> Result<Vec<TradeDate>> {
        if let Some(known) = self.known().days.get(symbol) {
            return Ok(known.clone());
        }
        let files = self.place.list(&format!("{SESSIONS}/{}", symbol_folder(symbol)))?;
        let mut days: Vec<TradeDate> = files.iter().filter_map(|(name, _)| day_of_file(name)).collect();
        days.sort_unstable();
        self.known().days.insert(symbol.to_owned(), days.clone());
        Ok(days)
    }

    /// Every session of a selection, by symbol and trade date.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn sessions(&self, selection: &Selection) -> Result<Vec<(String, TradeDate)>> {
        if selection.symbols.is_empty() {
            self.expect_all()?;
        }
        let mut found = Vec::new();
        for symbol in self.symbols()? {
            if selection.symbols.is_empty() || selection.symbols.contains(&symbol) {
                let days = self.days(&symbol)?.into_iter();
                found.extend(days.filter(|day| selection.takes(&symbol, *day)).map(|day| (symbol.clone(), day)));
            }
        }
        Ok(found)
    }

    /// Asks a store for the names of all manifests at once, a thousand an answer, before each symbol's are wanted.
    ///
    /// # Errors
    /// A store that refuses or does not answer.
    pub fn expect_all(&self) -> Result<()> {
        if !self.place.is_store() || self.known().all {
            return Ok(());
        }
        let mut days: HashMap<String, Vec<TradeDate>> = HashMap::new();
        for file in self.place.files(SESSIONS)? {
            let mut parts = file.name.splitn(3, '/').skip(1);
            let (Some(folder), Some(name)) = (parts.next(), parts.next()) else { continue };
            if let (Some(symbol), Some(day)) = (symbol_of_folder(folder), day_of_file(name)) {
                days.entry(symbol).or_default().push(day);
            }
        }
        let mut symbols: Vec<String> = days.keys().cloned().collect();
        symbols.sort_unstable();
        days.values_mut().for_each(|days| days.sort_unstable());
        let mut known = self.known();
        (known.all, known.symbols, known.days) = (true, Some(symbols), days);
        Ok(())
    }

    /// A session's manifest, checked; `None` if the session is not archived.
    ///
    /// # Errors
    /// A manifest that is not what was written.
    pub fn manifest(&self, symbol: &str, day: TradeDate) -> Result<Option<Manifest>> {
        let name = manifest_file(symbol, day);
        if let Some(known) = self.known().manifests.get(&name) {
            return Ok(known.clone());
        }
        let found = self.place.read(&name)?.map(|bytes| Manifest::from_bytes(&name, &bytes)).transpose()?;
        self.remember([(name, found.clone())]);
        Ok(found)
    }

    fn remember(&self, read: impl IntoIterator<Item = (String, Option<Manifest>)>) {
        let manifests = &mut self.known().manifests;
        if manifests.len() > MOST_MANIFESTS {
            manifests.clear();
        }
        manifests.extend(read);
    }

    /// Asks a store for many manifests at once, before each is wanted. What cannot be read is said when it is.
    pub fn expect<'a>(&self, sessions: impl IntoIterator<Item = (&'a str, TradeDate)>) {
        if self.place.is_store() {
            let names: Vec<String> = {
                let known = self.known();
                let names = sessions.into_iter().map(|(symbol, day)| manifest_file(symbol, day));
                names.filter(|name| !known.manifests.contains_key(name)).collect()
            };
            let read = self.place.read_many(&names);
            let found = names.into_iter().zip(read).filter_map(|(name, read)| {
                let bytes = read.ok()?;
                let manifest = bytes.map(|bytes| Manifest::from_bytes(&name, &bytes)).transpose().ok()?;
                Some((name, manifest))
            });
            self.remember(found.collect::<Vec<_>>());
        }
    }

    /// The newest sessions' manifests of symbols, before each is wanted.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn expect_newest(&self, symbols: &[String]) -> Result<()> {
        if self.place.is_store() {
            if symbols.len() > 1 {
                self.expect_all()?;
            }
            let newest = symbols.iter().map(|symbol| Ok((symbol.as_str(), self.days(symbol)?.last().copied())));
            let newest = newest.collect::<Result<Vec<_>>>()?;
            self.expect(newest.into_iter().filter_map(|(symbol, day)| Some((symbol, day?))));
        }
        Ok(())
    }

    /// Files in the order in which they will be read.
    pub fn contents(&self, files: impl IntoIterator<Item = manifest::Content>) -> Contents {
        Contents::new(&self.place, files)
    }

    /// The newest session's manifest of a symbol.
    fn newest(&self, symbol: &str) -> Result<Option<Manifest>> {
        match self.days(symbol)?.last() {
            Some(day) => self.manifest(symbol, *day),
            None => Ok(None),
        }
    }

    /// The instruments' ids, which are places in the sorted list of symbols, and symbols.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn named(&self) -> Result<Vec<(i32, String)>> {
        Ok((1..).zip(self.symbols()?).collect())
    }

    /// An instrument with the hours of its newest session; `None` if there is none.
    ///
    /// # Errors
    /// A manifest that is not what was written; a version of a calendar that this program does not know.
    pub fn instrument(&self, (id, symbol): (i32, String), calendars: &Calendars) -> Result<Option<Instrument>> {
        let Some(manifest) = self.newest(&symbol)? else { return Ok(None) };
        Ok(Some(Instrument { id, symbol, calendar: self.calendar(&manifest, calendars)? }))
    }

    /// The instrument of a symbol as users write it: `ESZ25`, `ESZ5` (the year nearest to `near`), `ES.c.0`.
    ///
    /// # Errors
    /// An unknown symbol, with the nearest one; ranks by volume, which need a database.
    pub fn find(&self, asked: &str, near: TradeDate, calendars: &Calendars) -> Result<Instrument> {
        let symbols = self.symbols()?;
        let exact = |name: &str| symbols.iter().position(|symbol| symbol == name);
        let at = match exact(asked) {
            Some(at) => Some(at),
            None => match Symbol::parse(asked, near)? {
                future @ Symbol::Future { .. } => exact(&future.to_string()),
                Symbol::Continuous { root, rule: Roll::Calendar, rank } => {
                    self.front(&symbols, &root, rank, near)?.and_then(|symbol| exact(&symbol))
                }
                Symbol::Continuous { .. } => {
                    return Err(Error::question(
                        format!("\"{asked}\" ranks contracts by their volume or open interest, which takes a database"),
                        "name one with --db, or ask for the contract itself",
                    ));
                }
                Symbol::Plain(_) => None,
            },
        };
        let found = match at {
            Some(at) => self.instrument((at as i32 + 1, symbols[at].clone()), calendars)?,
            None => None,
        };
        found.ok_or_else(|| {
            let nearest = market::nearest::nearest(asked, symbols.iter().map(String::as_str)).map(str::to_owned);
            market::Error::Unknown { what: "symbol", name: asked.to_owned(), nearest }.into()
        })
    }

    /// The contract of a root that is `rank`-th by expiry among those that still trade at `near`.
    fn front(&self, symbols: &[String], root: &str, rank: u32, near: TradeDate) -> Result<Option<String>> {
        let mut contracts = Vec::new();
        for symbol in symbols {
            let Ok(Symbol::Future { root: of, month, year }) = Symbol::parse(symbol, near) else { continue };
            if of != root {
                continue;
            }
            let known = self.newest(symbol)?.and_then(|manifest| manifest.instrument.expiry);
            let expiry = match known {
                Some(text) => TradeDate::parse(&text)?,
                // as in SQL: a contract without a known expiry trades until its delivery month ends
                None => {
                    let (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                    TradeDate::parse(&format!("{year:04}-{month:02}-01"))?.plus(-1)
                }
            };
            if expiry >= near {
                contracts.push((expiry, symbol.clone()));
            }
        }
        contracts.sort();
        Ok(contracts.into_iter().nth(rank as usize).map(|(_, symbol)| symbol))
    }

    /// The tick size of a symbol on a day, where it is known: that of its session then, or of the last one before.
    ///
    /// # Errors
    /// A manifest that is not what was written.
    pub fn tick_size(&self, symbol: &str, day: TradeDate) -> Result<Option<f64>> {
        let days = self.days(symbol)?;
        let Some(at) = days.iter().rev().find(|other| **other <= day).or(days.first()) else { return Ok(None) };
        let manifest = self.manifest(symbol, *at)?;
        Ok(manifest.and_then(|manifest| manifest.instrument.tick_size?.parse().ok()))
    }
}

/// The trade date of a manifest's name in its folder.
fn day_of_file(name: &str) -> Option<TradeDate> {
    TradeDate::parse(name.strip_suffix(".json")?).ok()
}
