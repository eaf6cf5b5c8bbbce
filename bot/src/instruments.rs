//! Which instrument is meant? Symbols come from the database alone; a root such as `ES` stands for one of its contracts.

use chrono::{Datelike, NaiveDate};
use market::{Symbol, TradeDate};
use std::collections::{BTreeMap, BTreeSet};

/// An instrument of the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Instrument {
    /// `ESZ25`, `SPY`, `BTC-USD`.
    pub symbol: String,
    /// `future`, `equity`, `pair`, ...
    pub kind: String,
    /// Calendar id.
    pub calendar: String,
    /// `ES` for `ESZ25`.
    pub root: Option<String>,
    /// Last trade date, where known.
    pub expiry: Option<NaiveDate>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// The smallest step of its price.
    pub tick_size: Option<f64>,
    /// The latest sealed session.
    pub last_session: Option<TradeDate>,
}

impl Instrument {
    /// The day its contract ends: its expiry, else the end of its delivery month.
    fn ends(&self) -> Option<NaiveDate> {
        self.expiry.or_else(|| match Symbol::parse(&self.symbol, TradeDate(20_000)) {
            Ok(Symbol::Future { month, year, .. }) => {
                let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                NaiveDate::from_ymd_opt(next.0, next.1, 1)
            }
            _ => None,
        })
    }
}

/// A symbol as it was asked; the date asked for decides what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ticker {
    /// A symbol of the database.
    Exact(String),
    /// A root with contracts in the database.
    Root(String),
    /// The nearest contract but `n` by expiry: `ES.c.0`.
    Front(String, usize),
    /// A contract with a short year: `ESZ5`.
    Contract(String),
}

impl Ticker {
    /// As a person writes it.
    pub fn name(&self) -> String {
        match self {
            Ticker::Exact(name) | Ticker::Root(name) | Ticker::Contract(name) => name.clone(),
            Ticker::Front(root, rank) => format!("{root}.c.{rank}"),
        }
    }
}

/// The instruments of the database, by symbol.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    instruments: BTreeMap<String, Instrument>,
    roots: BTreeSet<String>,
    // Symbols and roots in upper case, to what they are.
    upper: BTreeMap<String, Ticker>,
}

impl Directory {
    /// Of these instruments.
    pub fn new(instruments: Vec<Instrument>) -> Directory {
        let mut directory = Directory::default();
        for instrument in instruments {
            if let Some(root) = instrument.root.clone().filter(|root| *root != instrument.symbol) {
                directory.upper.entry(root.to_ascii_uppercase()).or_insert_with(|| Ticker::Root(root.clone()));
                directory.roots.insert(root);
            }
            directory.instruments.insert(instrument.symbol.clone(), instrument);
        }
        for symbol in directory.instruments.keys() {
            directory.upper.insert(symbol.to_ascii_uppercase(), Ticker::Exact(symbol.clone()));
        }
        directory
    }

    /// What a word stands for, if it is a symbol; case does not matter.
    pub fn ticker(&self, word: &str) -> Option<Ticker> {
        let upper = word.to_ascii_uppercase();
        if let Some(found) = self.upper.get(&upper) {
            return Some(found.clone());
        }
        if let Some((root, rank)) = upper.rsplit_once(".C.").or_else(|| upper.rsplit_once(".V.")) {
            let root = self.roots.iter().find(|known| known.eq_ignore_ascii_case(root))?.clone();
            let rank = rank.parse().ok().filter(|rank| *rank < 100)?;
            // By volume only the first is known: it is what the root alone means.
            return match upper.contains(".V.") {
                false => Some(Ticker::Front(root, rank)),
                true => (rank == 0).then_some(Ticker::Root(root)),
            };
        }
        match Symbol::parse(&upper, TradeDate(20_000)) {
            Ok(Symbol::Future { root, .. }) if self.roots.contains(&root) => Some(Ticker::Contract(upper)),
            _ => None,
        }
    }

    /// The instruments a ticker may stand for around a date, the likeliest first; the one with the most volume is meant.
    /// Empty if there is none.
    pub fn candidates<'a>(&'a self, ticker: &Ticker, around: TradeDate) -> Vec<&'a Instrument> {
        match ticker {
            Ticker::Exact(symbol) => self.instruments.get(symbol).into_iter().collect(),
            Ticker::Contract(text) => match Symbol::parse(text, around) {
                Ok(symbol) => self.instruments.get(&symbol.to_string()).into_iter().collect(),
                Err(_) => Vec::new(),
            },
            Ticker::Front(root, rank) => self.unexpired(root, around).into_iter().skip(*rank).take(1).collect(),
            Ticker::Root(root) => {
                let mut near = self.unexpired(root, around);
                near.truncate(3);
                // All have expired, or the later ones have no trades yet: the one traded last may be meant.
                let traded = self.contracts(root).filter(|i| i.last_session.is_some());
                let last = traded.max_by_key(|i| (i.last_session, std::cmp::Reverse(i.ends())));
                if let Some(last) = last.filter(|last| !near.contains(last)) {
                    near.push(last);
                }
                near
            }
        }
    }

    /// One instrument of a ticker, for what all of them share: the calendar.
    pub fn any<'a>(&'a self, ticker: &Ticker) -> Option<&'a Instrument> {
        match ticker {
            Ticker::Exact(symbol) => self.instruments.get(symbol),
            Ticker::Root(root) | Ticker::Front(root, _) => self.contracts(root).next(),
            Ticker::Contract(text) => match Symbol::parse(text, TradeDate(20_000)) {
                Ok(Symbol::Future { root, .. }) => self.contracts(&root).next(),
                _ => None,
            },
        }
    }

    fn contracts<'a, 'r>(&'a self, root: &'r str) -> impl Iterator<Item = &'a Instrument> + use<'a, 'r> {
        self.instruments.values().filter(move |i| i.root.as_deref() == Some(root) && i.symbol != root)
    }

    fn unexpired<'a>(&'a self, root: &str, around: TradeDate) -> Vec<&'a Instrument> {
        let mut contracts: Vec<_> = self.contracts(root).collect();
        contracts.retain(|i| i.ends().is_none_or(|ends| ends >= around.date()));
        contracts.sort_by_key(|i| (i.ends().map_or(i32::MAX, |date| date.num_days_from_ce()), i.symbol.clone()));
        contracts
    }

    /// All symbols and roots.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().chain(self.instruments.keys()).map(String::as_str)
    }

    /// A few names, for a hint.
    pub fn some_names(&self, most: usize) -> String {
        let plain = self.instruments.values().filter(|i| i.root.as_ref().is_none_or(|root| !self.roots.contains(root)));
        let names: Vec<&str> = self.roots.iter().map(String::as_str).chain(plain.map(|i| i.symbol.as_str())).collect();
        let more = if names.len() > most { ", ..." } else { "" };
        format!("{}{more}", names[..names.len().min(most)].join(", "))
    }
}
