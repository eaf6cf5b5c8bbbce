//! Exactly once: which trades of a feed are new, which were seen, and what is missing between them.

use market::trade::Trade;
use std::collections::BTreeMap;

/// The last trade a feed has committed of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its time.
    pub ts: i64,
    /// Its id.
    pub seq: i64,
}

/// Ids a feed never delivered, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Of which instrument.
    pub instrument: i32,
    /// First id missing.
    pub first: i64,
    /// Last id missing.
    pub last: i64,
    /// Time of the trade before.
    pub from: i64,
    /// Time of the trade after.
    pub till: i64,
}

/// A set of new trades and what committing them means. Goes to the database in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// New trades with their instrument, in order of arrival.
    pub trades: Vec<(i32, Trade)>,
    /// For each instrument in it: the mark it had (`None`: never seen) and the one it gets.
    pub marks: BTreeMap<i32, (Option<Mark>, Mark)>,
    /// What was missing.
    pub gaps: Vec<Gap>,
    /// Trades that were seen before.
    pub known: u64,
}

/// Picks the new trades after `marks`. Venues number trades without holes within an instrument, so an id at or below the
/// mark was committed, and a jump is a gap.
pub fn after(marks: &BTreeMap<i32, Mark>, arrived: &[(i32, Trade)]) -> Commit {
    let mut commit = Commit::default();
    for (instrument, trade) in arrived {
        let before = commit.marks.get(instrument).map(|(_, now)| *now).or_else(|| marks.get(instrument).copied());
        if let Some(mark) = before {
            if trade.seq <= mark.seq {
                commit.known += 1;
                continue;
            }
            if trade.seq > mark.seq + 1 {
                commit.gaps.push(Gap {
                    instrument: *instrument,
                    first: mark.seq + 1,
                    last: trade.seq - 1,
                    from: mark.ts,
                    till: trade.ts,
                });
            }
        }
        let now = Mark { ts: trade.ts, seq: trade.seq };
        commit
            .marks
            .entry(*instrument)
            .and_modify(|(_, mark)| *mark = now)
            .or_insert_with(|| (marks.get(instrument).copied(), now));
        commit.trades.push((*instrument, *trade));
    }
    commit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trade(seq: i64) -> Trade {
        Trade { ts: seq * 10, seq, trade_id: seq, price: 1, size: 1, ..Trade::default() }
    }

    fn arrive(instrument: i32, ids: &[i64]) -> Vec<(i32, Trade)> {
        ids.iter().map(|id| (instrument, trade(*id))).collect()
    }

    #[test]
    fn trades_at_or_below_the_mark_are_known() {
        let marks = BTreeMap::from([(1, Mark { ts: 50, seq: 5 })]);
        let commit = after(&marks, &arrive(1, &[4, 5, 6, 6, 7]));
        assert_eq!(commit.trades.iter().map(|t| t.1.seq).collect::<Vec<_>>(), [6, 7]);
        assert_eq!((commit.known, commit.gaps.len()), (3, 0));
        assert_eq!(commit.marks[&1], (Some(Mark { ts: 50, seq: 5 }), Mark { ts: 70, seq: 7 }));
    }

    #[test]
    fn a_jump_is_a_gap_and_the_first_trade_ever_is_none() {
        let mut arrived = arrive(1, &[10, 11, 15]);
        arrived.extend(arrive(2, &[900]));
        let commit = after(&BTreeMap::new(), &arrived);
        assert_eq!(commit.gaps, [Gap { instrument: 1, first: 12, last: 14, from: 110, till: 150 }]);
        assert_eq!(commit.marks[&2], (None, Mark { ts: 9000, seq: 900 }));
    }
}
