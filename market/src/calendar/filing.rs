//! Filing trades beyond the known range: writes always succeed.

use super::expand::{Draft, Planner};
use super::spec::Spec;
use super::zone::civil_day;
use crate::time::{Nanos, TradeDate};

/// The trade date that a trade is filed under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filing {
    /// The storage key.
    pub trade_date: TradeDate,
    /// The answer holds for `[from, till)`.
    pub from: Nanos,
    /// End of the storage window.
    pub till: Nanos,
    /// Beyond the known range: a guess by the nearest regime's weekly hours, not to be sealed.
    pub projected: bool,
}

/// The filing of an instant outside `known`, the instants of the known range.
pub(super) fn project(spec: &Spec, known: (Nanos, Nanos), ts: Nanos) -> Filing {
    let today = civil_day(spec.tz, ts);
    // A session's window reaches at most over a long weekend and its own day offsets.
    let around = drafts(spec, today.plus(-8), today.plus(8));
    for (index, draft) in around.iter().enumerate() {
        let from = index.checked_sub(1).map_or(Nanos::MIN, |before| around[before].ending().roll_before(draft));
        let till = around.get(index + 1).map_or(Nanos::MAX, |next| draft.ending().roll_before(next));
        if from <= ts && ts < till {
            // Only windows between two neighbours are whole; the known range has its own.
            let (from, till) = if ts < known.0 { (from, till.min(known.0)) } else { (from.max(known.1), till) };
            return Filing { trade_date: draft.date, from, till, projected: true };
        }
    }
    Filing { trade_date: today, from: ts, till: ts.saturating_add(1), projected: true }
}

fn drafts(spec: &Spec, first: TradeDate, last: TradeDate) -> Vec<Draft> {
    let Ok(mut planner) = Planner::new(spec, first, last) else { return Vec::new() };
    (first.0..=last.0).filter_map(|day| planner.day(TradeDate(day)).ok().flatten()).collect()
}
