//! What the symbols of one call have in common is read once: live rows, stored session bars.

use super::row::States;
use super::state::{Dropped, states};
use super::summary::Summaries;
use crate::error::OrRaise;
use crate::instrument::Instrument;
use crate::spi::{Conn, Mode};
use crate::store::{any_live, read_live_of};
use market::ohlc::OhlcRequest;
use market::{LiveRows, Nanos, TradeDate};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// What is asked for of one instrument.
#[derive(Clone)]
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
    /// Each question comes in several pieces: the whole ones, by instrument.
    whole: HashMap<i32, (TradeDate, TradeDate)>,
    /// States of whole questions, read with their first piece.
    states: RefCell<HashMap<i32, (States, Rc<Dropped>)>>,
    /// Stored session bars, if the questions are of whole sessions.
    pub summaries: Option<Summaries>,
}

impl Shared {
    /// Reads it. `sessions` says whether stored session bars may serve, `pieces` whether each question comes in several.
    pub fn read(c: &Conn, asked: &[Asked], sessions: bool, pieces: bool) -> Shared {
        let any_live = any_live(c);
        let mut live = HashMap::new();
        if any_live && (pieces || asked.len() > 1) {
            let ranges: Vec<_> = asked.iter().filter_map(window).collect();
            let from = ranges.iter().map(|r| r.0).min().unwrap_or(Nanos::MAX);
            let till = ranges.iter().map(|r| r.1).max().unwrap_or(Nanos::MIN);
            // a symbol may be asked for twice
            let ids: HashSet<i32> = asked.iter().map(|a| a.instrument.id).collect();
            let ids: Vec<i32> = ids.into_iter().collect();
            let mut rows = read_live_of(c, Mode::SameSnapshot, &ids, from, till);
            for id in ids {
                live.insert(id, (rows.remove(&id).unwrap_or_default(), from, till));
            }
        }
        let summaries = sessions.then(|| Summaries::read(c, asked));
        let whole = asked.iter().filter(|_| pieces).map(|a| (a.instrument.id, (a.first, a.last))).collect();
        Shared { any_live, live: RefCell::new(live), whole, states: RefCell::default(), summaries }
    }

    /// The live rows of an instrument, settled, if they were read for this range; unless questions come in pieces, each can be taken
    /// once.
    pub fn take_live(&self, instrument: i32, from: Nanos, till: Nanos) -> Option<LiveRows> {
        let mut live = self.live.borrow_mut();
        let covers = live.get(&instrument).is_some_and(|(_, a, z)| *a <= from && till <= *z);
        if !covers {
            return None;
        }
        let rows = if self.whole.contains_key(&instrument) {
            live.get(&instrument).cloned()
        } else {
            live.remove(&instrument)
        };
        rows.map(|(rows, ..)| rows.within(from, till))
    }
}

impl Shared {
    /// The states of a question's sessions, and what retention dropped: of the whole question, if this is a piece of it, so that
    /// every piece says the same of what is not there.
    pub fn states(&self, c: &Conn, asked: &Asked) -> (States, Rc<Dropped>) {
        let Asked { instrument, first, last, .. } = asked;
        let Some((from, till)) = self.whole.get(&instrument.id) else {
            let (states, dropped) = states(c, instrument, *first, *last);
            return (states, Rc::new(dropped));
        };
        let mut known = self.states.borrow_mut();
        let (all, dropped) = known.entry(instrument.id).or_insert_with(|| {
            let (states, dropped) = states(c, instrument, *from, *till);
            (states, Rc::new(dropped))
        });
        let dates = (first.0..=last.0).map(TradeDate);
        (dates.filter_map(|date| Some((date, *all.get(&date)?))).collect(), dropped.clone())
    }
}

/// The storage window of a question's sessions.
fn window(asked: &Asked) -> Option<(Nanos, Nanos)> {
    let mut sessions = asked.instrument.calendar.sessions(asked.first, asked.last).or_raise();
    let first = sessions.next()?;
    let last = sessions.last().unwrap_or(first);
    Some((first.from, last.till))
}
