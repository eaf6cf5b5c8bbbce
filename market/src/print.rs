//! Prints: trades at the place where they count, and what a stretch of them comes to with the time of each price.
//!
//! [`SessionFold`](crate::SessionFold) makes bars, fast and without times; levels, profiles and flow need to know when a price
//! was made and by whom, and use these.

use crate::bar::Bar;
use crate::fold;
use crate::minute::MinuteBar;
use crate::session::{Class, Segment, Segments, Session};
use crate::time::Nanos;
use crate::trade::Trade;
use crate::trade::flags::{BUY, LAST_IF_FIRST, SELL};

/// A trade at the place where it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Print {
    /// When it was made.
    pub ts: Nanos,
    /// The instant that decides which bar it is in: an opening print is in the first regular bar and a closing print in the
    /// last, whenever they were reported.
    pub at: Nanos,
    /// The segment it belongs to; auction prints belong to `RTH`.
    pub segment: Segment,
    /// Whether it is an auction's.
    pub class: Class,
    /// In 1e-9.
    pub price: i64,
    /// In 1e-9.
    pub size: i64,
    /// Eligibility, see [`flags`](crate::trade::flags).
    pub flags: u32,
}

impl Print {
    /// The aggressor's side.
    pub fn side(&self) -> Side {
        match self.flags & (BUY | SELL) {
            BUY => Side::Buy,
            SELL => Side::Sell,
            _ => Side::Unknown,
        }
    }

    /// Adds it to a bar, by its flags; false if it counts for nothing there.
    pub fn add_to(&self, bar: &mut Bar) -> bool {
        let before = *bar;
        fold::add(bar, self.price, self.size, self.flags, self.segment);
        // A price that sets no new high or low has changed nothing, and counts all the same.
        *bar != before || self.ranges()
    }

    /// Whether it counts for high and low.
    fn ranges(&self) -> bool {
        let mut alone = Bar::EMPTY;
        fold::add(&mut alone, self.price, self.size, self.flags, self.segment);
        alone.high >= alone.low
    }
}

/// Who wanted the trade.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The aggressor bought.
    Buy,
    /// The aggressor sold.
    Sell,
    /// The venue does not say, or says both.
    Unknown,
}

/// Where the regular hours of a session open, pause and close; the ends of time where it has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Edges {
    open: Nanos,
    pause: Nanos,
    close: Nanos,
}

impl Edges {
    fn of(session: &Session<'_>) -> Edges {
        let mut regular = session.spans.iter().filter(|span| span.segment == Segment::Rth);
        let Some((first, last)) = regular.clone().next().zip(regular.next_back()) else {
            return Edges { open: Nanos::MAX, pause: Nanos::MAX, close: Nanos::MAX };
        };
        let (pause, until) = session.break_auction;
        Edges { open: first.open, pause: if pause < until { pause } else { last.close }, close: last.close }
    }
}

/// Places the trades of one session.
#[derive(Clone, Copy, Debug)]
pub struct Placer<'s> {
    session: Session<'s>,
    edges: Edges,
}

impl<'s> Placer<'s> {
    /// For one session.
    pub fn new(session: &Session<'s>) -> Placer<'s> {
        Placer { session: *session, edges: Edges::of(session) }
    }

    /// The session.
    pub fn session(&self) -> &Session<'s> {
        &self.session
    }

    /// A trade of the session at its place.
    pub fn place(&self, trade: &Trade) -> Print {
        let Trade { ts, price, size, flags, .. } = *trade;
        let (segment, class) = self.session.place(ts, flags);
        Print { ts, at: self.at(ts, class), segment, class, price, size, flags }
    }

    /// The segment of a minute bar and the instant that decides which bar it is in.
    pub fn place_minute(&self, minute: &MinuteBar) -> (Segment, Nanos) {
        if minute.class != Class::Continuous {
            return (Segment::Rth, self.at(minute.minute, minute.class));
        }
        // A storage window may begin inside a minute; the minute's trades are those of the window.
        let at = minute.minute.max(self.session.from);
        (self.session.segment_at(at), at)
    }

    fn at(&self, ts: Nanos, class: Class) -> Nanos {
        match class {
            Class::Continuous => ts,
            Class::Open => self.edges.open,
            Class::Close => self.edges.close.saturating_sub(1),
            Class::Break => self.edges.pause.saturating_sub(1),
        }
    }
}

/// A bar with the time of each of its prices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timed {
    /// The bar.
    pub bar: Bar,
    /// When the open was made; like the others 0 while there is no such price.
    pub open_at: Nanos,
    /// When the high was first made.
    pub high_at: Nanos,
    /// When the low was first made.
    pub low_at: Nanos,
    /// When the close was made.
    pub close_at: Nanos,
}

impl Timed {
    /// Of no trades.
    pub const EMPTY: Timed = Timed { bar: Bar::EMPTY, open_at: 0, high_at: 0, low_at: 0, close_at: 0 };

    /// Adds what follows. Associative.
    pub fn append(&mut self, later: &Timed) {
        if later.bar.priced > 0 {
            if self.bar.priced == 0 {
                self.open_at = later.open_at;
            }
            if self.bar.priced == 0 || !later.bar.weak_close {
                self.close_at = later.close_at;
            }
        }
        if later.bar.high > self.bar.high {
            self.high_at = later.high_at;
        }
        if later.bar.low < self.bar.low {
            self.low_at = later.low_at;
        }
        self.bar.append(&later.bar);
    }

    /// With a high and a low that include open and close; see [`Bar::settled`].
    pub fn settled(&self) -> Timed {
        let mut settled = Timed { bar: self.bar.settled(), ..*self };
        let points = [(self.bar.open, self.open_at), (self.bar.close, self.close_at)];
        if settled.bar.high > self.bar.high {
            settled.high_at = points.into_iter().find(|point| point.0 == settled.bar.high).map_or(0, |point| point.1);
        }
        if settled.bar.low < self.bar.low {
            settled.low_at = points.into_iter().find(|point| point.0 == settled.bar.low).map_or(0, |point| point.1);
        }
        settled
    }
}

/// What the prints of a window of a session come to: those of the selected segments whose place lies in it.
///
/// Opening prints come before what is traded from the open on and closing prints before what is traded behind the close, as
/// in every bar, whenever they were reported.
#[derive(Clone, Debug)]
pub struct Window {
    from: Nanos,
    till: Nanos,
    segments: Segments,
    edges: Edges,
    /// Before the open, opening prints, the morning, the call at midday, the afternoon, closing prints, behind the close.
    cells: [Timed; 7],
}

impl Window {
    /// The places `[from, till)` of a session.
    pub fn new(session: &Session<'_>, segments: Segments, from: Nanos, till: Nanos) -> Window {
        Window { from, till, segments, edges: Edges::of(session), cells: [Timed::EMPTY; 7] }
    }

    /// The whole session.
    pub fn whole(session: &Session<'_>, segments: Segments) -> Window {
        Window::new(session, segments, Nanos::MIN, Nanos::MAX)
    }

    fn takes(&self, segment: Segment, at: Nanos) -> bool {
        self.from <= at && at < self.till && self.segments.contains(segment)
    }

    fn cell(&mut self, class: Class, at: Nanos) -> &mut Timed {
        let Edges { open, pause, close } = self.edges;
        let cell = match class {
            Class::Open => 1,
            Class::Break => 3,
            Class::Close => 5,
            Class::Continuous => 2 * [open, pause, close].into_iter().filter(|edge| *edge <= at).count(),
        };
        &mut self.cells[cell]
    }

    /// Adds a print; prints of one class come in the order of their times.
    pub fn push(&mut self, print: &Print) {
        if !self.takes(print.segment, print.at) {
            return;
        }
        let cell = self.cell(print.class, print.at);
        let before = cell.bar;
        fold::add(&mut cell.bar, print.price, print.size, print.flags, print.segment);
        let (bar, ts) = (cell.bar, print.ts);
        if bar.high > before.high {
            cell.high_at = ts;
        }
        if bar.low < before.low {
            cell.low_at = ts;
        }
        if bar.priced > before.priced {
            if before.priced == 0 {
                cell.open_at = ts;
            }
            if before.priced == 0 || print.flags & LAST_IF_FIRST == 0 {
                cell.close_at = ts;
            }
        }
    }

    /// Adds a minute bar, in order: what is left of trades that are gone. Its prices are of the minute's first instant.
    pub fn push_minute(&mut self, placer: &Placer<'_>, minute: &MinuteBar) {
        let (segment, at) = placer.place_minute(minute);
        if self.takes(segment, at) {
            let ts = minute.minute;
            let timed = Timed { bar: minute.bar, open_at: ts, high_at: ts, low_at: ts, close_at: ts };
            self.cell(minute.class, at).append(&timed);
        }
    }

    /// What it all comes to, settled.
    pub fn finish(&self) -> Timed {
        let mut all = Timed::EMPTY;
        self.cells.iter().for_each(|cell| all.append(cell));
        all.settled()
    }
}
