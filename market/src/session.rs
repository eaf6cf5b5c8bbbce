//! Segments and sessions: what the trading of one trade date is made of.

use crate::error::{Error, Result};
use crate::time::{MINUTE, Nanos, TradeDate};
use crate::trade::flags::{AUCTION_CLOSE, AUCTION_OPEN};
use std::fmt;

/// A named part of a session, in the order in which the parts follow each other. `Off` is outside every session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Segment {
    /// Overnight.
    On = 0,
    /// Pre-market.
    Pre = 1,
    /// Regular trading hours, with the opening and the closing auction.
    Rth = 2,
    /// After the regular hours.
    Post = 3,
    /// Outside every session.
    Off = 4,
}

impl Segment {
    /// All segments in time order, `Off` last.
    pub const ALL: [Segment; 5] = [Segment::On, Segment::Pre, Segment::Rth, Segment::Post, Segment::Off];

    /// `ON`, `PRE`, `RTH`, `POST`, `OFF`.
    pub const fn name(self) -> &'static str {
        match self {
            Segment::On => "ON",
            Segment::Pre => "PRE",
            Segment::Rth => "RTH",
            Segment::Post => "POST",
            Segment::Off => "OFF",
        }
    }

    /// The inverse of `as u8`.
    pub const fn from_u8(code: u8) -> Option<Segment> {
        match code {
            0 => Some(Segment::On),
            1 => Some(Segment::Pre),
            2 => Some(Segment::Rth),
            3 => Some(Segment::Post),
            4 => Some(Segment::Off),
            _ => None,
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A selection of segments: a bit per segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Segments(u8);

impl Segments {
    /// The regular hours alone.
    pub const RTH: Segments = Segments(1 << Segment::Rth as u8);
    /// The whole session, as charting users mean it: `ON+PRE+RTH+POST`.
    pub const ETH: Segments = Segments(0b0_1111);
    /// `ETH` and the trades outside every session.
    pub const ALL: Segments = Segments(0b1_1111);

    /// The selection of one segment.
    pub const fn only(segment: Segment) -> Segments {
        Segments(1 << segment as u8)
    }

    /// Whether the selection includes the segment.
    pub const fn contains(self, segment: Segment) -> bool {
        self.0 & (1 << segment as u8) != 0
    }

    /// Whether no segment is selected.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both selections together.
    pub const fn union(self, other: Segments) -> Segments {
        Segments(self.0 | other.0)
    }

    /// Reads `RTH`, `PRE+RTH`, `ETH`, `ALL`; case does not matter.
    ///
    /// # Errors
    /// `Invalid` for an empty text or an unknown name.
    pub fn parse(text: &str) -> Result<Segments> {
        let mut selection = Segments(0);
        for word in text.split('+') {
            let word = word.trim();
            let part = match word.to_ascii_uppercase().as_str() {
                "ETH" => Segments::ETH,
                "ALL" => Segments::ALL,
                name => Segment::ALL.into_iter().find(|s| s.name() == name).map(Segments::only).ok_or_else(|| {
                    Error::invalid(
                        "segments",
                        text,
                        "ON, PRE, RTH, POST, OFF joined by +, or ETH (the whole session) or ALL",
                    )
                })?,
            };
            selection = selection.union(part);
        }
        Ok(selection)
    }
}

impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Segments::ETH => f.write_str("ETH"),
            Segments::ALL => f.write_str("ALL"),
            _ => {
                let names: Vec<_> = Segment::ALL.into_iter().filter(|s| self.contains(*s)).map(Segment::name).collect();
                f.write_str(&names.join("+"))
            }
        }
    }
}

/// One stretch of trading, half-open: `open <= t < close`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// What the stretch is.
    pub segment: Segment,
    /// First instant.
    pub open: Nanos,
    /// First instant after it.
    pub close: Nanos,
}

/// The stretches of one session, in time order and disjoint: a list that days which trade alike share, seen from one of them.
#[derive(Clone, Copy)]
pub struct Spans<'a> {
    /// What the shared times count from.
    base: Nanos,
    shared: &'a [Span],
}

impl<'a> Spans<'a> {
    /// Spans whose times count from `base`.
    pub(crate) const fn from_base(base: Nanos, shared: &'a [Span]) -> Spans<'a> {
        Spans { base, shared }
    }

    /// How many there are.
    pub const fn len(self) -> usize {
        self.shared.len()
    }

    /// Whether there is none, which is true of no session.
    pub const fn is_empty(self) -> bool {
        self.shared.is_empty()
    }

    /// One of them, counted from 0.
    #[inline]
    pub fn get(self, at: usize) -> Option<Span> {
        self.shared.get(at).map(|span| self.absolute(span))
    }

    /// The earliest.
    pub fn first(self) -> Option<Span> {
        self.get(0)
    }

    /// The latest.
    pub fn last(self) -> Option<Span> {
        self.shared.last().map(|span| self.absolute(span))
    }

    /// All of them.
    #[inline]
    pub fn iter(self) -> SpanIter<'a> {
        SpanIter { base: self.base, shared: self.shared.iter() }
    }

    /// All of them, on their own.
    pub fn to_vec(self) -> Vec<Span> {
        self.iter().collect()
    }

    #[inline]
    const fn absolute(self, span: &Span) -> Span {
        Span { segment: span.segment, open: self.base + span.open, close: self.base + span.close }
    }
}

impl<'a> From<&'a [Span]> for Spans<'a> {
    fn from(spans: &'a [Span]) -> Spans<'a> {
        Spans::from_base(0, spans)
    }
}

impl<'a> From<&'a Vec<Span>> for Spans<'a> {
    fn from(spans: &'a Vec<Span>) -> Spans<'a> {
        Spans::from_base(0, spans)
    }
}

impl PartialEq for Spans<'_> {
    fn eq(&self, other: &Spans<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Spans<'_> {}

impl fmt::Debug for Spans<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Spans<'a> {
    type Item = Span;
    type IntoIter = SpanIter<'a>;

    fn into_iter(self) -> SpanIter<'a> {
        self.iter()
    }
}

/// The iterator of [`Spans`].
#[derive(Clone, Debug)]
pub struct SpanIter<'a> {
    base: Nanos,
    shared: std::slice::Iter<'a, Span>,
}

impl Iterator for SpanIter<'_> {
    type Item = Span;

    #[inline]
    fn next(&mut self) -> Option<Span> {
        self.shared.next().map(|span| Spans::from_base(self.base, &[]).absolute(span))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.shared.size_hint()
    }
}

impl DoubleEndedIterator for SpanIter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Span> {
        self.shared.next_back().map(|span| Spans::from_base(self.base, &[]).absolute(span))
    }
}

impl ExactSizeIterator for SpanIter<'_> {}

/// All the trading of one calendar on one trade date. Spans are in time order, disjoint, and there is at least one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session<'a> {
    /// The label and storage key.
    pub trade_date: TradeDate,
    /// The exchange's own date; differs where holiday sessions clear with the next business day.
    pub clearing_date: TradeDate,
    /// The storage window `[from, till)`: every instant in it belongs to this trade date, in a span or `OFF`.
    pub from: Nanos,
    /// End of the storage window.
    pub till: Nanos,
    /// The stretches of trading.
    pub spans: Spans<'a>,
    /// Opens late or closes early, compared with the regular hours of its weekday.
    pub irregular: bool,
    /// Why it is irregular: `half day`, `holiday halt`; empty for a regular session.
    pub note: &'a str,
    /// Whether a segment's edge starts a new bar grid even without a break (equities yes, CME no).
    pub restart_at_segments: bool,
    /// Unflagged prints in `[close of RTH, this)` are the closing auction's; equals the close where none is declared.
    pub close_auction_until: Nanos,
    /// Unflagged prints in `[this, open of RTH)` are the opening auction's; equals the open where none is declared.
    pub open_auction_from: Nanos,
    /// From the first break of `RTH` to the second of these, prints are of the call that ended the morning; equal where none
    /// is declared.
    pub break_auction: (Nanos, Nanos),
    /// An auction that interrupts continuous trading inside `RTH`, where the clock puts its prints; equal where none is
    /// declared.
    pub intraday_auction: (Nanos, Nanos),
}

/// Where a print belongs when its segment is not the one the clock says.
///
/// The order of a segment's prints is opening auction, continuous trading, closing auction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Class {
    /// The clock is right.
    #[default]
    Continuous = 0,
    /// A print of the opening auction, before the regular hours or behind later trades: first in their first bar.
    Open = 1,
    /// A closing print after the regular hours: part of their last bar.
    Close = 2,
    /// A print of the call that ends the morning, a moment into the break: last in the bar before the break.
    Break = 3,
}

impl Class {
    /// The inverse of `as u8`.
    pub const fn from_u8(code: u8) -> Option<Class> {
        match code {
            0 => Some(Class::Continuous),
            1 => Some(Class::Open),
            2 => Some(Class::Close),
            3 => Some(Class::Break),
            _ => None,
        }
    }
}

impl<'a> Session<'a> {
    /// The first open of the selected segments; `None` if the session has none of them.
    pub fn open(&self, segments: Segments) -> Option<Nanos> {
        self.runs(segments).next().map(|(open, _)| open)
    }

    /// The last close of the selected segments; `None` if the session has none of them.
    pub fn close(&self, segments: Segments) -> Option<Nanos> {
        self.runs(segments).last().map(|(_, close)| close)
    }

    /// The segment by the clock. `Off` between spans and outside the session.
    pub fn segment_at(&self, ts: Nanos) -> Segment {
        for span in self.spans {
            if ts < span.open {
                break;
            }
            if ts < span.close {
                return span.segment;
            }
        }
        Segment::Off
    }

    /// Segment and class of a print. `flags` may say that it is an auction's; an unflagged print inside a declared
    /// auction window is the auction's too. The class says where it belongs when the clock says otherwise.
    ///
    /// A flagged opening print in the first minute of the regular hours is the opening auction's, which was called at their
    /// open and reported a moment later: vendors open their bars with it, whatever printed before. Any other flagged
    /// auction print inside the regular hours stays where the clock puts it, and so does every print of a session without
    /// regular hours.
    pub fn place(&self, ts: Nanos, flags: u32) -> (Segment, Class) {
        let clock = self.segment_at(ts);
        if clock == Segment::Rth {
            let regular_open = || self.spans.iter().find(|span| span.segment == Segment::Rth).map(|span| span.open);
            let opening = flags & AUCTION_OPEN != 0 && regular_open().is_some_and(|open| ts - open < MINUTE);
            return (clock, if opening { Class::Open } else { Class::Continuous });
        }
        // Most prints outside the regular hours are neither flagged nor near an auction.
        let near_auction = self.open_auction_from <= ts && ts < self.close_auction_until;
        if flags & (AUCTION_OPEN | AUCTION_CLOSE) == 0 && !near_auction {
            return (clock, Class::Continuous);
        }
        let mut regular = self.spans.iter().filter(|span| span.segment == Segment::Rth);
        let Some(first) = regular.next() else {
            return (clock, Class::Continuous);
        };
        let (open, close) = (first.open, regular.next_back().unwrap_or(first).close);
        if ts >= close && (flags & AUCTION_CLOSE != 0 || ts < self.close_auction_until) {
            (Segment::Rth, Class::Close)
        } else if ts < open && (flags & AUCTION_OPEN != 0 || ts >= self.open_auction_from) {
            (Segment::Rth, Class::Open)
        } else if self.break_auction.0 <= ts && ts < self.break_auction.1 {
            (Segment::Rth, Class::Break)
        } else {
            (clock, Class::Continuous)
        }
    }

    /// The stretch of time around an instant, half-open, in which all prints of the same flags have the same place; see
    /// [`place`](Session::place).
    pub fn stretch_at(&self, ts: Nanos) -> (Nanos, Nanos) {
        let auctions = [self.open_auction_from, self.close_auction_until, self.break_auction.0, self.break_auction.1];
        // A flagged print of the regular hours' first minute is the opening auction's.
        let edges = self.spans.iter().flat_map(|span| [span.open, span.close, span.open.saturating_add(MINUTE)]);
        edges.chain(auctions).chain([self.from, self.till]).fold((Nanos::MIN, Nanos::MAX), |(from, till), edge| {
            if edge <= ts { (from.max(edge), till) } else { (from, till.min(edge)) }
        })
    }

    /// The contiguous runs of the selected segments, in time order: each anchors a grid of bars.
    ///
    /// Touching spans are one run unless the calendar restarts its grid where the segment changes. A stretch of `OFF`
    /// (only when selected) is a run of its own, so that asking for `ALL` moves no bar of the session.
    pub fn runs(&self, segments: Segments) -> Runs<'a> {
        Runs { spans: self.spans, at: 0, edge: self.from, till: self.till, segments, restart: self.restart_at_segments }
    }
}

/// The iterator of [`Session::runs`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    spans: Spans<'a>,
    at: usize,
    // Everything before this instant has been visited.
    edge: Nanos,
    till: Nanos,
    segments: Segments,
    restart: bool,
}

impl Iterator for Runs<'_> {
    type Item = (Nanos, Nanos);

    fn next(&mut self) -> Option<(Nanos, Nanos)> {
        loop {
            let Some(span) = self.spans.get(self.at) else {
                let last = (self.edge, self.till);
                self.edge = self.till;
                return (self.segments.contains(Segment::Off) && last.0 < last.1).then_some(last);
            };
            if self.edge < span.open {
                let gap = (self.edge, span.open);
                self.edge = span.open;
                if self.segments.contains(Segment::Off) {
                    return Some(gap);
                }
            }
            self.at += 1;
            self.edge = span.close;
            if !self.segments.contains(span.segment) {
                continue;
            }
            while let Some(next) = self.spans.get(self.at) {
                let touches = next.open == self.edge && self.segments.contains(next.segment);
                if !touches || (self.restart && next.segment != span.segment) {
                    break;
                }
                self.edge = next.close;
                self.at += 1;
            }
            return Some((span.open, self.edge));
        }
    }
}
