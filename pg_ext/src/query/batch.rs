//! What the symbols of one call have in common is read once: live rows, stored session bars.

use super::summary::Summaries;
use crate::instrument::Instrument;
use crate::spi::{Conn, Mode};
use crate::store::{any_live, read_live_of};
use market::ohlc::OhlcRequest;
use market::{LiveRows, Nanos, TradeDate};
use std::cell::RefCell;
use std::collections::HashMap;

/// What is asked for of one instrument.
pub struct Asked {
    /// Whose bars.
    pub instrument: Instrument,
    /// Which bars.
    pub request: OhlcRequest,
    /// The first session they are made of.
    pub first: TradeDate,
    /// The last one.
    pub last: TradeDate,
}

/// What was read for all questions of a call; each may still read what is its own.
#[derive(Default)]
pub struct Shared {
    /// Whether the ring of live rows has any row.
    pub any_live: bool,
    live: RefCell<HashMap<i32, (LiveRows, Nanos, Nanos)>>,
    /// Stored session bars, if the questions are of whole sessions.
    pub summaries: Option<Summaries>,
}

impl Shared {
    /// Reads it. `ranges` are the storage windows of the questions; `sessions` says whether stored session bars may serve.
    pub fn read(c: &Conn, asked: &[Asked], ranges: &[(Nanos, Nanos)], sessions: bool) -> Shared {
        let any_live = any_live(c);
        let mut live = HashMap::new();
        if any_live && asked.len() > 1 {
            let from = ranges.iter().map(|r| r.0).min().unwrap_or(Nanos::MAX);
            let till = ranges.iter().map(|r| r.1).max().unwrap_or(Nanos::MIN);
            let ids: Vec<i32> = asked.iter().map(|a| a.instrument.id).collect();
            let mut rows = read_live_of(c, Mode::SameSnapshot, &ids, from, till);
            for id in ids {
                live.insert(id, (rows.remove(&id).unwrap_or_default(), from, till));
            }
        }
        let summaries = sessions.then(|| Summaries::read(c, asked));
        Shared { any_live, live: RefCell::new(live), summaries }
    }

    /// The live rows of an instrument, settled, if they were read for this range; each can be taken once.
    pub fn take_live(&self, instrument: i32, from: Nanos, till: Nanos) -> Option<LiveRows> {
        let mut live = self.live.borrow_mut();
        let covers = live.get(&instrument).is_some_and(|(_, a, z)| *a <= from && till <= *z);
        if !covers {
            return None;
        }
        live.remove(&instrument).map(|(rows, ..)| rows.within(from, till))
    }
}
