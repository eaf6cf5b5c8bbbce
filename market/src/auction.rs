//! The declared auctions of a session.

use crate::session::{Segment, Session};
use crate::time::Nanos;
use std::fmt;

/// What an auction does in its session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AuctionKind {
    /// Opens the regular hours.
    Open,
    /// Interrupts the regular hours; its prints lie inside them.
    Intraday,
    /// Ends the morning, a moment into the break.
    Break,
    /// Closes the regular hours.
    Close,
}

impl AuctionKind {
    /// `open`, `intraday`, `break`, `close`.
    pub const fn name(self) -> &'static str {
        match self {
            AuctionKind::Open => "open",
            AuctionKind::Intraday => "intraday",
            AuctionKind::Break => "break",
            AuctionKind::Close => "close",
        }
    }
}

impl fmt::Display for AuctionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The window of one auction, half-open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auction {
    /// What it is for.
    pub kind: AuctionKind,
    /// First instant.
    pub opens_at: Nanos,
    /// First instant after it.
    pub closes_at: Nanos,
}

impl Session<'_> {
    /// The auctions with a declared window, in time order. Auctions whose prints are known by their flags alone, as those of
    /// New York, have none.
    ///
    /// ```
    /// use market::{Calendar, TradeDate};
    /// let london = Calendar::builtin("XLON")?;
    /// let day = london.session(TradeDate::parse("2025-11-26")?)?.expect("a Wednesday");
    /// let names: Vec<&str> = day.auctions().map(|auction| auction.kind.name()).collect();
    /// assert_eq!(names, ["open", "intraday", "close"]);
    /// # Ok::<(), market::Error>(())
    /// ```
    pub fn auctions(&self) -> impl Iterator<Item = Auction> + use<> {
        let mut regular = self.spans.iter().filter(|span| span.segment == Segment::Rth);
        let first = regular.next();
        let (open, close) = first.map_or((0, 0), |first| (first.open, regular.next_back().unwrap_or(first).close));
        let (mut middle, after) = (
            [(AuctionKind::Intraday, self.intraday_auction), (AuctionKind::Break, self.break_auction)],
            (AuctionKind::Close, (close, self.close_auction_until)),
        );
        middle.sort_by_key(|(_, window)| window.0);
        let [second, third] = middle;
        let all = [(AuctionKind::Open, (self.open_auction_from, open)), second, third, after];
        let has_hours = first.is_some();
        all.into_iter()
            .filter(move |(_, (from, till))| has_hours && from < till)
            .map(|(kind, (opens_at, closes_at))| Auction { kind, opens_at, closes_at })
    }
}
