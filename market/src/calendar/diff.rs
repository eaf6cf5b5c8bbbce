//! What a new version of a calendar changes: the sessions to re-key, and no others.

use super::Calendar;
use crate::session::Session;
use crate::time::TradeDate;
use std::fmt;

/// How a session of one calendar differs from another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// Only the newer calendar has it.
    Appeared,
    /// Only the older calendar has it.
    Vanished,
    /// Its spans, auctions or clearing date differ.
    Moved,
    /// Only its storage window differs: a neighbour appeared, vanished or moved.
    Rewindowed,
}

impl Change {
    /// `appeared`, `vanished`, `moved`, `rewindowed`.
    pub const fn name(self) -> &'static str {
        match self {
            Change::Appeared => "appeared",
            Change::Vanished => "vanished",
            Change::Moved => "moved",
            Change::Rewindowed => "rewindowed",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Calendar {
    /// The trade dates whose sessions differ in a newer calendar, in order. Where only one of the two knows a date, its
    /// session appeared or vanished. Notes and names do not count.
    pub fn changes<'c>(&'c self, newer: &'c Calendar) -> impl Iterator<Item = (TradeDate, Change)> + 'c {
        let (mut before, mut after) = (self.all().peekable(), newer.all().peekable());
        std::iter::from_fn(move || {
            loop {
                let first =
                    [before.peek(), after.peek()].into_iter().flatten().map(|session| session.trade_date).min()?;
                let old = before.next_if(|session| session.trade_date == first);
                let new = after.next_if(|session| session.trade_date == first);
                let change = match (old, new) {
                    (Some(_), None) => Change::Vanished,
                    (None, Some(_)) => Change::Appeared,
                    (Some(old), Some(new)) if !same_trading(&old, &new) => Change::Moved,
                    (Some(old), Some(new)) if (old.from, old.till) != (new.from, new.till) => Change::Rewindowed,
                    _ => continue,
                };
                return Some((first, change));
            }
        })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Session<'_>> {
        (0..self.inner.grid.dates.len()).map(|index| self.nth(index))
    }
}

fn same_trading(old: &Session<'_>, new: &Session<'_>) -> bool {
    old.spans == new.spans
        && old.clearing_date == new.clearing_date
        && old.restart_at_segments == new.restart_at_segments
        && (old.open_auction_from, old.close_auction_until) == (new.open_auction_from, new.close_auction_until)
        && old.break_auction == new.break_auction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_closure_changes_its_session_and_its_neighbours_windows() {
        let old = Calendar::builtin("CME_EQUITY").unwrap();
        let newer = old.toml().replace("[holidays]", "[closed]\n\"2024-03-12\" = \"flood\"\n[holidays]");
        let newer = Calendar::from_toml(&newer).unwrap();
        let changes = |a: &Calendar, b: &Calendar| {
            a.changes(b).map(|(date, change)| format!("{date} {change}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(changes(&old, &old), "");
        assert_eq!(changes(&old, &newer), "2024-03-11 rewindowed, 2024-03-12 vanished, 2024-03-13 rewindowed");
        assert_eq!(changes(&newer, &old), "2024-03-11 rewindowed, 2024-03-12 appeared, 2024-03-13 rewindowed");
        let early = old.toml().replace("\"2018-12-05\", \"2025-01-09\"", "\"2018-12-05\"");
        assert_eq!(changes(&old, &Calendar::from_toml(&early).unwrap()), "2025-01-09 moved, 2025-01-10 rewindowed");
    }
}
