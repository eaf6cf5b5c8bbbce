//! A calendar's sessions in memory, laid out so that an instant is found with two reads.
//!
//! Days that trade alike share one pattern: their spans and windows, counted from midnight UTC of the trade date. So a session
//! is a date and the number of its pattern. Instants are found through slots of 24 hours: a slot knows the session at its
//! start and when the next one's window begins, in one word.

mod mixed;

use super::expand::{Draft, NEIGHBOURHOOD, Planner, invalid};
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::session::{Segment, Session, Span, Spans};
use crate::time::{DAY, HOUR, Nanos, TradeDate};
use std::collections::HashMap;

/// The sessions of a calendar's known range.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    /// The labels, ascending.
    pub dates: Vec<TradeDate>,
    /// The pattern of each session.
    pattern_of: Vec<u32>,
    patterns: Vec<Pattern>,
    /// The spans of the patterns.
    spans: Vec<Span>,
    /// Where the first storage window and the first slot begin.
    start: Nanos,
    /// Each 24 hours from `start` on: the session at its start in the low bits, above them when the next window begins, in
    /// nanoseconds from the slot's start.
    slots: Vec<u64>,
    /// The notes that `Pattern::note` points to; the first is empty.
    notes: Vec<String>,
    /// Weekdays with hours on which there is no session, with the index of the holiday's name in `Spec::holidays`.
    pub closures: Vec<(TradeDate, u32)>,
}

/// What sessions that trade alike have in common. Instants count from midnight UTC of the trade date.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pattern {
    first_span: u32,
    spans: u32,
    note: u32,
    /// Days from the trade date to the clearing date.
    clears_after: i32,
    irregular: bool,
    /// The end of the storage window.
    till: Nanos,
    open_auction_from: Nanos,
    close_auction_until: Nanos,
    break_auction: (Nanos, Nanos),
    intraday_auction: (Nanos, Nanos),
}

impl Pattern {
    /// What tells it from others, but its spans.
    fn content(&self) -> [i64; 10] {
        [
            i64::from(self.note),
            i64::from(self.clears_after),
            i64::from(self.irregular),
            self.till,
            self.open_auction_from,
            self.close_auction_until,
            self.break_auction.0,
            self.break_auction.1,
            self.intraday_auction.0,
            self.intraday_auction.1,
        ]
    }
}

/// Where an instant was found: the session's index, and a stretch around the instant in which the answer is the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub index: usize,
    pub from: Nanos,
    pub till: Nanos,
}

/// Among the specials of a note: the day is projected. No file has as many.
const PROJECTED: u32 = u32::MAX;

const INDEX_BITS: u32 = 17;
/// In the place of a session's index: two windows begin in this slot, so that a search is needed.
const CROWDED: u64 = (1 << INDEX_BITS) - 1;
// A calendar covers 300 years at most, and an offset within a day needs 47 bits.
const _: () = assert!(300 * 366 < CROWDED && (DAY as u64) < 1 << (64 - INDEX_BITS));

impl Grid {
    /// The session whose storage window holds the instant; `None` beyond the first and the last window.
    #[inline]
    pub fn locate(&self, ts: Nanos) -> Option<Found> {
        if ts < self.start {
            return None;
        }
        // The difference of two far instants fits in 64 bits without a sign only.
        let since = ts.wrapping_sub(self.start) as u64;
        let day = since / DAY as u64;
        let slot = *self.slots.get(day as usize)?;
        let start = self.start.wrapping_add((day * DAY as u64) as i64);
        if slot & CROWDED == CROWDED {
            return self.search(ts);
        }
        let edge = start.wrapping_add((slot >> INDEX_BITS) as i64);
        let moved = ts >= edge;
        let index = (slot & CROWDED) as usize + usize::from(moved);
        let (from, till) = if moved { (edge, start.wrapping_add(DAY)) } else { (start, edge) };
        (index < self.dates.len()).then_some(Found { index, from, till })
    }

    #[cold]
    fn search(&self, ts: Nanos) -> Option<Found> {
        let (mut low, mut high) = (0, self.dates.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.till(middle) <= ts { low = middle + 1 } else { high = middle }
        }
        (low < self.dates.len()).then(|| Found { index: low, from: self.from(low), till: self.till(low) })
    }

    /// What a session's instants count from.
    #[inline]
    pub fn base(&self, index: usize) -> Nanos {
        i64::from(self.dates[index].0) * DAY
    }

    /// The number of a session's pattern.
    #[inline]
    pub fn pattern_of(&self, index: usize) -> usize {
        self.pattern_of[index] as usize
    }

    /// The spans of a pattern, seen from a day's start.
    #[inline]
    pub fn spans(&self, base: Nanos, pattern: usize) -> Spans<'_> {
        let Pattern { first_span, spans, .. } = self.patterns[pattern];
        Spans::from_base(base, &self.spans[first_span as usize..(first_span + spans) as usize])
    }

    /// The segment by the clock inside a session's window.
    #[inline]
    pub fn segment(&self, index: usize, ts: Nanos) -> Segment {
        let relative = ts.wrapping_sub(self.base(index));
        for span in self.spans(0, self.pattern_of(index)) {
            if relative < span.open {
                break;
            }
            if relative < span.close {
                return span.segment;
            }
        }
        Segment::Off
    }

    fn from(&self, index: usize) -> Nanos {
        index.checked_sub(1).map_or(self.start, |before| self.till(before))
    }

    fn till(&self, index: usize) -> Nanos {
        self.base(index) + self.patterns[self.pattern_of(index)].till
    }

    /// The exchange's own date of a session.
    pub fn clearing_date(&self, index: usize) -> TradeDate {
        self.dates[index].plus(self.patterns[self.pattern_of(index)].clears_after)
    }

    /// The first session that clears on a date or later.
    pub fn first_clearing(&self, date: TradeDate) -> usize {
        // A session clears on its date or later, and clearing dates never run backwards.
        let mut at = self.dates.partition_point(|day| *day < date);
        while at > 0 && self.clearing_date(at - 1) >= date {
            at -= 1;
        }
        at
    }

    /// One session.
    pub fn session(&self, index: usize, restart_at_segments: bool) -> Session<'_> {
        let base = self.base(index);
        let number = self.pattern_of(index);
        let pattern = &self.patterns[number];
        let window = |(open, close): (Nanos, Nanos)| (base + open, base + close);
        Session {
            trade_date: self.dates[index],
            clearing_date: self.dates[index].plus(pattern.clears_after),
            from: self.from(index),
            till: base + pattern.till,
            spans: self.spans(base, number),
            irregular: pattern.irregular,
            note: &self.notes[pattern.note as usize],
            restart_at_segments,
            close_auction_until: base + pattern.close_auction_until,
            open_auction_from: base + pattern.open_auction_from,
            break_auction: window(pattern.break_auction),
            intraday_auction: window(pattern.intraday_auction),
        }
    }

    /// The first storage window's start and the last one's end.
    pub fn window(&self) -> (Nanos, Nanos) {
        (self.start, self.dates.len().checked_sub(1).map_or(self.start, |last| self.till(last)))
    }

    /// All sessions of the known range. A neighbour beyond each end, projected, bounds the first and last storage windows.
    pub fn new(spec: &Spec) -> Result<Grid> {
        let (first, last) = spec.known;
        let mut planner = Planner::new(spec, first, last)?;
        let mut builder = Builder::default();
        builder.grid.notes.push(String::new());
        let mut before: Option<Draft> = None;
        for back in 1..=NEIGHBOURHOOD {
            before = planner.day(first.plus(-back))?;
            if before.is_some() {
                break;
            }
        }
        let mut end = before.map(|draft| draft.ending());
        for day in first.0..=last.0.saturating_add(NEIGHBOURHOOD) {
            let date = TradeDate(day);
            let Some(draft) = planner.day(date)? else {
                if let (Some(index), Some(_)) = (planner.holiday(date), planner.row(date)) {
                    builder.grid.closures.push((date, index));
                }
                continue;
            };
            let from = match &end {
                Some(previous) if previous.close > draft.start() => {
                    let line = draft.specials.last().map(|special| spec.specials[*special as usize].line);
                    let line = line.or_else(|| planner.row(date).map(|row| spec.hours[row].line));
                    let reason = format!("{date} opens before {} closes", previous.date);
                    return Err(invalid(spec, line.unwrap_or(0), reason));
                }
                Some(previous) => previous.roll_before(&draft),
                None => draft.start(),
            };
            builder.begin(spec, date, from, draft.clears_next);
            if date > last {
                break;
            }
            end = Some(draft.ending());
            builder.pending.push(draft);
        }
        // Where no session follows within a fortnight.
        let end = end.map_or(0, |last| last.close.saturating_add(HOUR));
        let grid = builder.finish(spec, end);
        match grid.dates.is_empty() {
            true => Err(Error::InvalidSpec {
                name: format!("calendar {}", spec.id),
                line: None,
                reason: "its known range holds no session".into(),
            }),
            false => Ok(grid),
        }
    }

    /// The slots for storage windows that end with `tills`.
    fn index(&mut self, tills: &[Nanos]) {
        let Some(end) = tills.last() else { return };
        let days = (end.wrapping_sub(self.start) as u64).div_ceil(DAY as u64);
        self.slots = Vec::with_capacity(days as usize);
        let mut at = 0;
        for day in 0..days as i64 {
            let start = self.start + day * DAY;
            while tills.get(at).is_some_and(|till| *till <= start) {
                at += 1;
            }
            let inside = |at: usize| tills.get(at).map(|till| till.wrapping_sub(start)).filter(|offset| *offset < DAY);
            let index = if inside(at + 1).is_some() { CROWDED } else { at as u64 };
            self.slots.push((inside(at).unwrap_or(DAY) as u64) << INDEX_BITS | index);
        }
    }
}

/// A grid in the making.
#[derive(Default)]
struct Builder {
    grid: Grid,
    /// The ends of the storage windows, of the pending sessions too.
    tills: Vec<Nanos>,
    /// The last sessions, whose clearing date or end is not known yet.
    pending: Vec<Draft>,
    /// What the patterns say, and the patterns by it.
    contents: Vec<Box<[i64]>>,
    by_content: HashMap<Box<[i64]>, u32>,
    content: Vec<i64>,
    /// The last pattern of each weekday: most often the next one's too.
    by_weekday: [u32; 7],
    notes_of: HashMap<Vec<u32>, u32>,
}

impl Builder {
    /// The window of a session of `date` begins at `from`.
    fn begin(&mut self, spec: &Spec, date: TradeDate, from: Nanos, clears_next: bool) {
        match self.grid.dates.is_empty() && self.pending.is_empty() {
            true => self.grid.start = from,
            false => self.tills.push(from),
        }
        if !clears_next {
            self.settle(spec, Some(date));
        }
    }

    /// The pending sessions are as they are; those that clear with the next one do so on `next`.
    fn settle(&mut self, spec: &Spec, next: Option<TradeDate>) {
        let mut pending = std::mem::take(&mut self.pending);
        for draft in pending.drain(..) {
            let clears = next.filter(|_| draft.clears_next).unwrap_or(draft.date);
            let till = self.tills[self.grid.dates.len()];
            let pattern = self.pattern(spec, &draft, clears, till);
            self.grid.dates.push(draft.date);
            self.grid.pattern_of.push(pattern);
        }
        self.pending = pending;
    }

    fn pattern(&mut self, spec: &Spec, draft: &Draft, clears: TradeDate, till: Nanos) -> u32 {
        let base = i64::from(draft.date.0) * DAY;
        let pattern = Pattern {
            first_span: self.grid.spans.len() as u32,
            spans: draft.spans.len() as u32,
            note: self.note(spec, draft),
            clears_after: clears.0 - draft.date.0,
            irregular: draft.irregular,
            till: till - base,
            open_auction_from: draft.open_auction_from - base,
            close_auction_until: draft.close_auction_until - base,
            break_auction: (draft.break_auction.0 - base, draft.break_auction.1 - base),
            intraday_auction: (draft.intraday_auction.0 - base, draft.intraday_auction.1 - base),
        };
        self.content.clear();
        self.content.extend(pattern.content());
        for span in &draft.spans {
            self.content.extend([span.segment as i64, span.open - base, span.close - base]);
        }
        let weekday = draft.date.0.rem_euclid(7) as usize;
        let last = self.by_weekday[weekday];
        if self.contents.get(last as usize).is_some_and(|content| **content == *self.content) {
            return last;
        }
        if let Some(known) = self.by_content.get(self.content.as_slice()) {
            self.by_weekday[weekday] = *known;
            return *known;
        }
        let number = self.grid.patterns.len() as u32;
        self.by_weekday[weekday] = number;
        self.by_content.insert(self.content.as_slice().into(), number);
        self.contents.push(self.content.as_slice().into());
        let spans = draft.spans.iter();
        self.grid.spans.extend(spans.map(|s| Span { segment: s.segment, open: s.open - base, close: s.close - base }));
        self.grid.patterns.push(pattern);
        number
    }

    fn note(&mut self, spec: &Spec, draft: &Draft) -> u32 {
        let specials = if draft.irregular { draft.specials.as_slice() } else { &[] };
        let projected = spec.projected_from.is_some_and(|from| from <= draft.date).then_some(PROJECTED);
        let specials: Vec<u32> = specials.iter().copied().chain(projected).collect();
        if specials.is_empty() {
            return 0;
        }
        if let Some(known) = self.notes_of.get(&specials) {
            return *known;
        }
        let name = |i: &u32| spec.specials.get(*i as usize).map_or("projected", |special| special.name.as_str());
        let names: Vec<_> = specials.iter().map(name).collect();
        let number = self.grid.notes.len() as u32;
        self.grid.notes.push(names.join(", "));
        self.notes_of.insert(specials, number);
        number
    }

    /// The grid, its last window ending at `end` unless a neighbour bounds it.
    fn finish(mut self, spec: &Spec, end: Nanos) -> Grid {
        if self.tills.len() < self.grid.dates.len() + self.pending.len() {
            self.tills.push(end);
        }
        self.settle(spec, None);
        self.grid.index(&self.tills);
        let mut grid = self.grid;
        grid.dates.shrink_to_fit();
        grid.pattern_of.shrink_to_fit();
        grid.patterns.shrink_to_fit();
        grid.spans.shrink_to_fit();
        grid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two thousand sessions of a futures market there are a few dozen kinds, and each instant is found in its own.
    #[test]
    fn days_that_trade_alike_share_a_pattern() {
        let calendar = super::super::Calendar::builtin("CME_EQUITY").unwrap();
        let grid = &calendar.inner.grid;
        assert!(
            grid.patterns.len() * 20 < grid.dates.len(),
            "{} patterns of {}",
            grid.patterns.len(),
            grid.dates.len()
        );
        for index in 0..grid.dates.len() {
            for ts in [grid.from(index), grid.till(index) - 1] {
                let found = grid.locate(ts).unwrap();
                assert_eq!(found.index, index);
                assert!(found.from <= ts && ts < found.till);
                assert!(grid.from(index) <= found.from && found.till <= grid.till(index));
            }
        }
        let (first, last) = grid.window();
        assert!(grid.locate(first - 1).is_none() && grid.locate(last).is_none());
        assert!(grid.locate(Nanos::MIN).is_none() && grid.locate(Nanos::MAX).is_none());
    }

    /// Two windows that begin within 24 hours of each other's slot are found by a search.
    #[test]
    fn a_slot_may_be_crowded() {
        let calendar = super::super::Calendar::from_toml(
            "schema = 1\nid = \"C\"\ntz = \"UTC\"\nknown = [2024-01-01, 2024-01-31]\n[[hours]]\ndays = \"mon-fri\"\n\
             RTH = \"09:00-10:00\"\n[[special]]\non = \"2024-01-09\"\nRTH = \"23:00-1d-23:30-1d\"\n\
             [[special]]\non = \"2024-01-10\"\nRTH = \"01:00-1d-02:00-1d\"\n",
        )
        .unwrap();
        let grid = &calendar.inner.grid;
        assert!(grid.slots.iter().any(|slot| slot & CROWDED == CROWDED));
        for index in 0..grid.dates.len() {
            for ts in [grid.from(index), grid.till(index) - 1] {
                assert_eq!(grid.locate(ts).map(|found| found.index), Some(index));
            }
        }
    }
}
