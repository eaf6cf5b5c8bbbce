//! What venues do to trades after they were reported: busts and corrections, the last word on each identity, now or as it was
//! known at an instant.

use crate::known::Reported;
use crate::time::Nanos;
use crate::trade::{Key, LiveRows, Op, Trade};

/// What the venue did to a trade after it was reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Correction {
    /// It is no trade.
    Bust,
    /// It has this content; the rest stays as it was reported.
    Replace {
        /// New price, in 1e-9.
        price: i64,
        /// New size, in 1e-9.
        size: i64,
        /// New flags; `None` keeps those it has.
        flags: Option<u32>,
    },
}

impl Correction {
    /// The trade as it is now; `None` if it was busted.
    pub fn apply(self, reported: Trade) -> Option<Trade> {
        match self {
            Correction::Bust => None,
            Correction::Replace { price, size, flags } => {
                Some(Trade { price, size, flags: flags.unwrap_or(reported.flags), ..reported })
            }
        }
    }
}

/// What the log says of one identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// The identity.
    pub key: Key,
    /// The last word that was known; `None` if every word came later.
    pub last: Option<Correction>,
    /// When that became known.
    pub known: Nanos,
    /// Whether a word came later than what is asked for.
    pub later: bool,
    /// Flags that a correction named last: one that names none keeps them.
    flags: Option<u32>,
}

/// The last word on each corrected identity of an instrument.
#[derive(Clone, Debug)]
pub struct Corrections {
    all: Vec<Word>,
    until: Nanos,
}

impl Default for Corrections {
    fn default() -> Corrections {
        Corrections::until(Nanos::MAX)
    }
}

impl Corrections {
    /// None yet; words that became known after `until` will count as later ones.
    pub fn until(until: Nanos) -> Corrections {
        Corrections { all: Vec::new(), until }
    }

    /// The instant as of which these are.
    pub fn as_of(&self) -> Nanos {
        self.until
    }

    /// Adds what the log says. Identities come in order, and the words on one in the order in which they became known.
    pub fn push(&mut self, key: Key, correction: Correction, known: Nanos) {
        debug_assert!(self.all.last().is_none_or(|word| word.key <= key), "identities come in order");
        if self.all.last().is_none_or(|word| word.key != key) {
            self.all.push(Word { key, last: None, known, later: false, flags: None });
        }
        let until = self.until;
        let Some(word) = self.all.last_mut() else { return };
        if known > until {
            word.later = true;
            return;
        }
        let correction = match correction {
            Correction::Replace { price, size, flags } => {
                word.flags = flags.or(word.flags);
                Correction::Replace { price, size, flags: word.flags }
            }
            Correction::Bust => Correction::Bust,
        };
        (word.last, word.known) = (Some(correction), known);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What is said of each identity, in order.
    pub fn words(&self) -> &[Word] {
        &self.all
    }

    /// The words on identities from `key` on, in order.
    pub fn since(&self, key: Key) -> impl Iterator<Item = (Key, Correction, Nanos)> + '_ {
        let rest = &self.all[self.all.partition_point(|word| word.key < key)..];
        rest.iter().filter_map(|word| word.last.map(|last| (word.key, last, word.known)))
    }

    /// What is said of an identity.
    pub fn word(&self, key: Key) -> Option<&Word> {
        self.all.binary_search_by_key(&key, |word| word.key).ok().map(|at| &self.all[at])
    }

    /// What became of an identity.
    pub fn get(&self, key: Key) -> Option<Correction> {
        self.word(key)?.last
    }

    /// Whether something is said of a trade among the rows, so that [`apply`](Corrections::apply) needs what was reported.
    pub fn touch(&self, rows: &LiveRows) -> bool {
        !self.is_empty()
            && (0..rows.len()).any(|i| rows.ops[i] == Op::Trade && self.get(rows.trades.get(i).key()).is_some())
    }

    /// Corrections outrank data: settled live rows as readers see them, where a trade came after its bust or correction. What was
    /// `reported` first is what was corrected, also when a row of the identity with an earlier receipt comes later. Such a row
    /// stays a trade, because where the identity is sealed its block has the correction already.
    pub fn apply(&self, rows: &mut LiveRows, reported: &Reported) {
        for i in 0..if self.is_empty() { 0 } else { rows.len() } {
            if rows.ops[i] != Op::Trade {
                continue;
            }
            let came = rows.trades.get(i);
            let Some(correction) = self.get(came.key()) else { continue };
            match correction.apply(reported.get(came.key()).map_or(came, |(first, _)| first)) {
                None => rows.ops[i] = Op::Bust,
                Some(now) => rows.trades.set(i, now),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trade::flags::{BUY, SELL};

    fn replace(price: i64, flags: Option<u32>) -> Correction {
        Correction::Replace { price, size: price - 93, flags }
    }

    #[test]
    fn a_trade_that_came_after_its_correction_keeps_what_the_correction_does_not_name() {
        let trade = |seq| Trade { ts: 1, seq, price: 100, size: 7, flags: BUY, ..Trade::default() };
        let mut rows = LiveRows::default();
        for seq in 1..=4 {
            rows.push(trade(seq), Op::Trade);
        }
        let mut corrections = Corrections::default();
        corrections.push(trade(2).key(), Correction::Bust, 5);
        corrections.push(trade(3).key(), replace(101, None), 5);
        corrections.push(trade(4).key(), replace(102, Some(0)), 5);
        assert!(corrections.touch(&rows));
        let mut of_reports = rows.clone();
        corrections.apply(&mut rows, &Reported::default());
        assert_eq!(rows.ops, [Op::Trade, Op::Bust, Op::Trade, Op::Trade]);
        assert_eq!(rows.trades.get(0), trade(1));
        assert_eq!(rows.trades.get(2), Trade { price: 101, size: 8, ..trade(3) });
        assert_eq!(rows.trades.get(3), Trade { price: 102, size: 9, flags: 0, ..trade(4) });

        // the row of the third that is there is not the one that was corrected
        let first = Trade { flags: SELL, cond: 9, ts_recv: 3, ..trade(3) };
        let mut reported = Reported::default();
        reported.push(first, 3);
        corrections.apply(&mut of_reports, &reported);
        assert_eq!(of_reports.trades.get(2), Trade { price: 101, size: 8, ..first });
        assert_eq!(of_reports.trades.get(3), rows.trades.get(3));
    }

    #[test]
    fn the_last_word_known_counts_and_flags_stay_until_others_are_named() {
        let key = Key { ts: 1, seq: 1, sub: 0 };
        let at = |until| {
            let mut corrections = Corrections::until(until);
            corrections.push(key, replace(101, Some(SELL)), 10);
            corrections.push(key, Correction::Bust, 20);
            corrections.push(key, replace(102, None), 30);
            corrections.word(key).map(|word| (word.last, word.later)).unwrap()
        };
        assert_eq!(at(9), (None, true));
        assert_eq!(at(10), (Some(replace(101, Some(SELL))), true));
        assert_eq!(at(29), (Some(Correction::Bust), true));
        assert_eq!(at(30), (Some(replace(102, Some(SELL))), false));
    }
}
