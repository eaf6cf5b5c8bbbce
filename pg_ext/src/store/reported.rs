//! What becomes of trades that come in where the venue has busted or corrected them: blocks get what they are now, and
//! `reported_trades` keeps what they were, so that the past can be told.

use super::live::{self, Taken};
use super::parts::Parts;
use crate::spi::{Conn, Mode};
use market::{Correction, Corrections, Key, Nanos, Op, Session, Trade, Trades};
use std::collections::BTreeMap;

/// The reports that corrections of one session speak of.
pub struct Reports {
    instrument: i32,
    all: BTreeMap<Key, (Trade, Nanos)>,
}

impl Reports {
    /// Those that are kept. Without corrections there are none, and nothing is read.
    pub fn read(c: &Conn, instrument: i32, session: &Session<'_>, corrections: &Corrections) -> Reports {
        let mut all = BTreeMap::new();
        if !corrections.is_empty() {
            let kept = live::read_reported(c, Mode::Fresh, instrument, session.from, session.till);
            all = kept.trades().iter().filter_map(|t| Some((t.key(), kept.get(t.key())?))).collect();
        }
        Reports { instrument, all }
    }

    /// Keeps the report of every corrected identity that lies in the parts or is among what came, the first of which counts.
    pub fn keep(
        &mut self,
        c: &Conn,
        corrections: &Corrections,
        stored: &Parts,
        came_first: &[&Trades],
        taken: Option<&Taken>,
    ) {
        for word in corrections.words() {
            if self.all.contains_key(&word.key) {
                continue;
            }
            let came = |came: &&Trades| came.find(word.key).map(|at| came.get(at));
            let trade = stored.get(word.key).or_else(|| came_first.iter().find_map(came));
            let mark = || {
                let marks = &taken?.marks;
                let at = marks.trades.find(word.key).filter(|&at| marks.ops[at] == Op::Correction)?;
                Some((marks.trades.get(at), marks.known[at]))
            };
            if let Some((trade, known)) = trade.map(|t| (t, t.known())).or_else(mark) {
                live::keep_reported(c, self.instrument, trade, known);
                self.all.insert(word.key, (trade, known));
            }
        }
    }

    /// The trades of `came` that are left to merge, and how many corrections settle: a busted identity stays away, a
    /// corrected one that is stored stays as corrected.
    pub fn split(&self, came: &Trades, corrections: &Corrections, stored: &Parts) -> (Trades, usize) {
        if corrections.is_empty() {
            return (came.clone(), 0);
        }
        let mut news = Trades::with_capacity(came.len());
        for t in came.iter() {
            match corrections.get(t.key()) {
                Some(Correction::Bust) => {}
                Some(_) if stored.get(t.key()).is_some() => {}
                // what was reported first is what was corrected
                Some(_) => news.push(self.first(t)),
                None => news.push(t),
            }
        }
        let settled = came.len() - news.len();
        (news, settled)
    }

    fn first(&self, came: Trade) -> Trade {
        match self.all.get(&came.key()) {
            Some((first, _)) if !first.same_report(&came) => *first,
            _ => came,
        }
    }

    /// Adds the trades that a correction brought back after a bust had taken them away.
    pub fn bring_back(&self, news: &mut Trades, corrections: &Corrections, stored: &Parts) {
        let missing = |key: &Key| {
            let corrected = matches!(corrections.get(*key), Some(Correction::Replace { .. }));
            corrected && stored.get(*key).is_none() && news.find(*key).is_none()
        };
        let back: Vec<Trade> = self.all.iter().filter(|(key, _)| missing(key)).map(|(_, (trade, _))| *trade).collect();
        if !back.is_empty() {
            back.into_iter().for_each(|trade| news.push(trade));
            news.sort_by_key();
        }
    }
}
