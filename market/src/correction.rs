//! What venues do to trades after they were reported: busts and corrections, the last word on each identity.

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
        /// New flags; `None` keeps the reported ones.
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

/// The last word on each corrected identity of an instrument.
#[derive(Clone, Default, Debug)]
pub struct Corrections {
    all: Vec<(Key, Correction)>,
}

impl Corrections {
    /// Adds the last word on an identity. Identities come in order, each once: the order of the log's key.
    pub fn push(&mut self, key: Key, correction: Correction) {
        debug_assert!(self.all.last().is_none_or(|(last, _)| *last < key), "identities come in order");
        self.all.push((key, correction));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those from an identity on, in order.
    pub fn since(&self, key: Key) -> impl Iterator<Item = (Key, Correction)> + '_ {
        self.all[self.all.partition_point(|(k, _)| *k < key)..].iter().copied()
    }

    /// What became of an identity.
    pub fn get(&self, key: Key) -> Option<Correction> {
        self.all.binary_search_by_key(&key, |(k, _)| *k).ok().map(|at| self.all[at].1)
    }

    /// Corrections outrank data: settled live rows as readers see them, where a trade came after its bust or correction. Such
    /// a row stays a trade, because where the identity is sealed its block has the correction already.
    pub fn apply(&self, rows: &mut LiveRows) {
        for i in 0..if self.is_empty() { 0 } else { rows.len() } {
            if rows.ops[i] != Op::Trade {
                continue;
            }
            let reported = rows.trades.get(i);
            match self.get(reported.key()).map(|correction| correction.apply(reported)) {
                None => {}
                Some(None) => rows.ops[i] = Op::Bust,
                Some(Some(now)) => {
                    (rows.trades.price[i], rows.trades.size[i], rows.trades.flags[i]) =
                        (now.price, now.size, now.flags);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trade::flags::BUY;

    #[test]
    fn a_trade_that_came_after_its_correction_keeps_what_the_correction_does_not_name() {
        let trade = |seq| Trade { ts: 1, seq, price: 100, size: 7, flags: BUY, ..Trade::default() };
        let mut rows = LiveRows::default();
        for seq in 1..=4 {
            rows.push(trade(seq), Op::Trade);
        }
        let mut corrections = Corrections::default();
        corrections.push(trade(2).key(), Correction::Bust);
        corrections.push(trade(3).key(), Correction::Replace { price: 101, size: 8, flags: None });
        corrections.push(trade(4).key(), Correction::Replace { price: 102, size: 9, flags: Some(0) });
        corrections.apply(&mut rows);
        assert_eq!(rows.ops, [Op::Trade, Op::Bust, Op::Trade, Op::Trade]);
        assert_eq!(rows.trades.get(0), trade(1));
        assert_eq!(rows.trades.get(2), Trade { price: 101, size: 8, ..trade(3) });
        assert_eq!(rows.trades.get(3), Trade { price: 102, size: 9, flags: 0, ..trade(4) });
    }
}
