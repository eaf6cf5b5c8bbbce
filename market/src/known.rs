//! Knowledge time: an instrument's trades as they were known at a past instant.
//!
//! A trade is known from its receipt on (where nobody noted one, from its event time: a file of history), a bust or correction
//! from when the venue told. Sealed trades that were known later are left out by their own receipt
//! ([`Trades::keep_known`](crate::trade::Trades::keep_known)); what else differs from today is in [`AsOf`], which lies over
//! them as live rows do.

use crate::correction::{Correction, Corrections};
use crate::error::{Error, Result};
use crate::time::Nanos;
use crate::trade::{Key, LiveRows, Op, Trade, Trades};
use std::collections::BTreeSet;

/// Trades as they were reported before the venue took them back or replaced them: blocks hold only what they are now.
#[derive(Clone, Default, Debug)]
pub struct Reported {
    trades: Trades,
    known: Vec<Nanos>,
}

impl Reported {
    /// Adds one, and since when it was known. Identities come in order, each once.
    pub fn push(&mut self, trade: Trade, known: Nanos) {
        self.trades.push(trade);
        self.known.push(known);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// All of them, in order of identity.
    pub fn trades(&self) -> &Trades {
        &self.trades
    }

    /// What was reported under an identity, and since when it was known.
    pub fn get(&self, key: Key) -> Option<(Trade, Nanos)> {
        let at = self.trades.find(key)?;
        Some((self.trades.get(at), self.known[at]))
    }
}

/// By which time of a trade bars are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Clock {
    /// The venue's event time.
    #[default]
    Event,
    /// When it was received.
    Received,
}

impl Clock {
    /// Reads `event`, `recv`.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn parse(text: &str) -> Result<Clock> {
        match text.trim().to_ascii_lowercase().as_str() {
            "event" => Ok(Clock::Event),
            "recv" => Ok(Clock::Received),
            _ => Err(Error::invalid("clock", text, "event or recv")),
        }
    }
}

/// Trades by receipt: those of one session of receipt times, whenever they happened.
#[derive(Default)]
pub struct Received {
    trades: Trades,
    order: Vec<(Nanos, Key, usize)>,
}

impl Received {
    /// Takes those that were received in `[from, till)`.
    pub fn push(&mut self, trades: &Trades, from: Nanos, till: Nanos) {
        for i in 0..trades.len() {
            let at = trades.known(i);
            if from <= at && at < till {
                self.order.push((at, trades.key(i), self.trades.len()));
                self.trades.push(trades.get(i));
            }
        }
    }

    /// All, their receipt as their time, in order of receipt; of one receipt, in the venue's order.
    pub fn finish(mut self) -> Trades {
        self.order.sort_unstable();
        self.order.iter().map(|&(ts, _, i)| Trade { ts, ..self.trades.get(i) }).collect()
    }
}

/// How often a session had been revised at an instant; `None` if its bars were provisional.
///
/// `now` is what holds today, `then` the last revision that was known in part (`None` where nobody wrote them down), `over` its close with the grace. A feed's gap
/// that was open then, and live rows that were known and are not sealed yet, keep it provisional.
pub fn revision_as_of(now: Option<i32>, then: Option<i32>, until: Nanos, over: Nanos, held_back: bool) -> Option<i32> {
    now.filter(|_| until >= over && !held_back).map(|now| then.unwrap_or(now).min(now))
}

/// Why a session's bars were provisional at an instant, in words; `None` where what is stored says it.
pub fn why_provisional(until: Nanos, over: Nanos, pending: bool, gap: bool) -> Option<&'static str> {
    match (until < over, gap, pending) {
        (true, ..) => Some("the session ran, or its grace"),
        (_, true, _) => Some("its feed had an open gap"),
        (_, _, true) => Some("rows of it are not sealed"),
        _ => None,
    }
}

/// What lies over sealed trades at an instant.
#[derive(Clone, Default, Debug)]
pub struct AsOf {
    /// Settled; an identity that is sealed as it was known is not among them.
    pub rows: LiveRows,
    /// Whether live rows and corrections are all known: the sealed trades of today with today's live rows are the answer,
    /// but for sealed trades that were known later.
    pub is_now: bool,
    /// Times of the live rows that were known then, in order: their sessions are provisional.
    pub pending: Vec<Nanos>,
}

impl AsOf {
    /// Of the live rows as they lie in the table, what the log says (up to the instant, see [`Corrections::until`]), and what
    /// was reported of the identities it names.
    pub fn new(rows: LiveRows, log: &Corrections, reported: &Reported) -> AsOf {
        let until = log.as_of();
        let is_now = rows.known.iter().all(|&known| known <= until) && !log.words().iter().any(|word| word.later);
        let mut pending: Vec<Nanos> =
            (0..rows.len()).filter(|&i| rows.known[i] <= until).map(|i| rows.trades.ts[i]).collect();
        pending.sort_unstable();
        let (mut trades, mut marks) = (LiveRows::default(), LiveRows::default());
        for i in (0..rows.len()).filter(|&i| rows.known[i] <= until) {
            let side = if rows.ops[i] == Op::Trade { &mut trades } else { &mut marks };
            side.push_known(rows.trades.get(i), rows.ops[i], rows.known[i]);
        }
        trades.settle();
        marks.settle();
        let mut special: BTreeSet<Key> = (0..marks.len()).map(|i| marks.trades.key(i)).collect();
        special.extend(log.words().iter().filter(|word| word.later).map(|word| word.key));
        let mut found = LiveRows::default();
        for i in 0..trades.len() {
            let key = trades.trades.key(i);
            if special.contains(&key) {
                continue;
            }
            if log.word(key).is_some() {
                special.insert(key);
            } else {
                found.push_known(trades.trades.get(i), Op::Trade, trades.known[i]);
            }
        }
        for key in special {
            let row =
                |rows: &LiveRows| rows.trades.find(key).map(|at| (rows.trades.get(at), rows.ops[at], rows.known[at]));
            let word = log.word(key).and_then(|word| word.last.map(|last| (last, word.known)));
            let mark = row(&marks).filter(|mark| word.is_none_or(|(_, known)| mark.2 > known));
            let shown = match (mark, word) {
                (Some((trade, op, _)), _) => Some((trade, op)),
                (None, word) => {
                    shown(key, word.map(|word| word.0), reported.get(key), row(&trades).map(|row| row.0), until)
                }
            };
            if let Some((trade, op)) = shown {
                found.push_known(trade, op, until);
            }
        }
        found.settle();
        AsOf { rows: found, is_now, pending }
    }

    /// Whether a live row that was known then falls in `[from, till)`.
    pub fn is_pending(&self, from: Nanos, till: Nanos) -> bool {
        self.pending.get(self.pending.partition_point(|&ts| ts < from)).is_some_and(|&ts| ts < till)
    }
}

/// An identity of which the log speaks, as it was known: over the sealed trade, if there is one. `row` was known.
fn shown(
    key: Key,
    word: Option<Correction>,
    reported: Option<(Trade, Nanos)>,
    row: Option<Trade>,
    until: Nanos,
) -> Option<(Trade, Op)> {
    let hidden = Some((Trade { ts: key.ts, seq: key.seq, sub: key.sub, ..Trade::default() }, Op::Bust));
    match (word, reported) {
        (Some(Correction::Bust), _) => hidden,
        // it was not known yet, whatever is sealed under its name
        (_, Some((_, known))) if known > until => hidden,
        (None, Some((trade, _))) => Some((trade, Op::Correction)),
        (Some(word), Some((trade, _))) => word.apply(trade).map(|trade| (trade, Op::Correction)),
        (None, None) => row.map(|trade| (trade, Op::Trade)),
        (Some(word), None) => row.and_then(|row| word.apply(row)).map(|trade| (trade, Op::Trade)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trade(seq: i64, price: i64, recv: i64) -> Trade {
        Trade { ts: 100, seq, price, size: 1, ts_recv: recv, ..Trade::default() }
    }

    /// What a reader sees of a sealed page at an instant.
    fn at(
        until: Nanos,
        page: &Trades,
        live: &LiveRows,
        log: &[(i64, Correction, i64)],
        reported: &Reported,
    ) -> Vec<(i64, i64)> {
        let mut corrections = Corrections::until(until);
        for (seq, correction, known) in log {
            corrections.push(trade(*seq, 0, 0).key(), *correction, *known);
        }
        let as_of = AsOf::new(live.clone(), &corrections, reported);
        let mut page = page.clone();
        page.keep_known(until);
        let mut out = Trades::new();
        crate::trade::overlay(&page, &as_of.rows, 0..as_of.rows.len(), &mut out);
        out.iter().map(|t| (t.seq, t.price)).collect()
    }

    #[test]
    fn a_sealed_correction_is_undone_before_it_was_known() {
        let replace = |price| Correction::Replace { price, size: 1, flags: None };
        // 1 was corrected to 11 and then to 12, 2 was busted, 3 came late, 4 is a live row, 5 a live row that was corrected
        let page: Trades = [trade(1, 12, 101), trade(3, 30, 500)].into_iter().collect();
        let mut live = LiveRows::default();
        live.push(trade(4, 40, 250), Op::Trade);
        live.push(trade(5, 50, 102), Op::Trade);
        live.push_known(trade(5, 51, 102), Op::Correction, 600);
        let mut reported = Reported::default();
        for (t, known) in [(trade(1, 10, 101), 101), (trade(2, 20, 102), 102), (trade(5, 50, 102), 102)] {
            reported.push(t, known);
        }
        let log = [(1, replace(11), 200), (1, replace(12), 300), (2, Correction::Bust, 400), (5, replace(51), 600)];
        let at = |until| at(until, &page, &live, &log, &reported);
        assert_eq!(at(100), []);
        assert_eq!(at(101), [(1, 10)]);
        assert_eq!(at(102), [(1, 10), (2, 20), (5, 50)]);
        assert_eq!(at(200), [(1, 11), (2, 20), (5, 50)]);
        assert_eq!(at(299), [(1, 11), (2, 20), (4, 40), (5, 50)]);
        assert_eq!(at(300), [(1, 12), (2, 20), (4, 40), (5, 50)]);
        assert_eq!(at(400), [(1, 12), (4, 40), (5, 50)]);
        assert_eq!(at(500), [(1, 12), (3, 30), (4, 40), (5, 50)]);
        assert_eq!(at(600), [(1, 12), (3, 30), (4, 40), (5, 51)]);
    }

    #[test]
    fn what_is_sealed_as_it_was_known_needs_nothing_over_it() {
        let mut log = Corrections::until(500);
        log.push(trade(1, 0, 0).key(), Correction::Bust, 400);
        let mut reported = Reported::default();
        reported.push(trade(1, 10, 101), 101);
        let as_of = AsOf::new(LiveRows::default(), &log, &reported);
        assert!(as_of.rows.is_empty() && !as_of.is_pending(i64::MIN, i64::MAX));
    }
}
