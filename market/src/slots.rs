//! Where an instant's bar begins, without a walk over sessions and spans: the runs of the selected segments by 24 hours.
//!
//! Each slot of 24 hours is filled when it is first met; after that an answer is one read of 32 bytes and no branch that a
//! processor would have to guess, which is what instants in no order cost most.

use crate::calendar::Calendar;
use crate::session::Segments;
use crate::time::{DAY, Nanos, SECOND, TradeDate};

/// So many questions are answered by walking over the session before the slots are laid out: for a handful of questions
/// 400 kB of memory would cost more than they do.
const WALKED: u32 = 32;

/// More runs in 24 hours than any exchange has.
const MOST: usize = 5;
const EDGES: usize = 2 * MOST;

/// The runs in one slot. Edges are in minutes from the slot's start: the slot's own start, the runs' opens and closes in turn,
/// the slot's end. A run that is cut by the slot has its true edges.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(32))]
struct Slot {
    at: [i16; EDGES + 2],
    /// The trade date of the first run.
    date: i32,
    /// Days from it to the trade date of each run, in [`DATE_BITS`] bits a run.
    dates_on: u32,
}

const DATE_BITS: u32 = 6;
const _: () = assert!(size_of::<Slot>() == 32 && DATE_BITS * MOST as u32 <= u32::BITS);

const MINUTE: Nanos = 60 * SECOND;
const DAY_MINUTES: i16 = (DAY / MINUTE) as i16;
const LAST: usize = EDGES + 1;
/// The last edge of a slot that was not met yet.
const UNREAD: i16 = 0;
/// The last edge of a slot that has more runs than fit, or not at whole minutes, or where the known range ends.
const OTHER: i16 = -1;

/// What lies around an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Around {
    /// The run, or a stretch between runs.
    pub stretch: (Nanos, Nanos),
    /// The run's trade date; `None` between runs.
    pub run: Option<TradeDate>,
}

/// The runs of a selection by slot.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    start: Nanos,
    walked: u32,
    slots: Vec<Slot>,
}

impl Slots {
    pub(crate) fn new(calendar: &Calendar) -> Slots {
        Slots { start: start(calendar), walked: 0, slots: Vec::new() }
    }

    /// Where an instant lies; `None` where the session has to be asked itself.
    #[inline]
    pub(crate) fn around(&mut self, calendar: &Calendar, segments: Segments, ts: Nanos) -> Option<Around> {
        // Instants before the start wrap round to a slot that does not exist.
        let begin = self.start;
        let since = ts.wrapping_sub(begin) as u64;
        let day = (since / DAY as u64) as usize;
        let slot = match self.slots.get(day) {
            Some(slot) if slot.at[LAST] > UNREAD => slot,
            _ => self.read(calendar, segments, day)?,
        };
        let offset = since - day as u64 * DAY as u64;
        let minutes = (offset / MINUTE as u64) as i16;
        let passed = slot.at[1..LAST].iter().map(|edge| u16::from(*edge <= minutes)).sum::<u16>() as usize;
        let start = begin.wrapping_add((day as u64 * DAY as u64) as i64);
        let instant = |at: usize| start.wrapping_add(i64::from(slot.at[at]) * MINUTE);
        // one edge passed is the first run, three are the second
        let on = (slot.dates_on >> (DATE_BITS * (passed as u32 / 2))) & ((1 << DATE_BITS) - 1);
        let run = (passed % 2 == 1).then(|| TradeDate(slot.date + on as i32));
        Some(Around { stretch: (instant(passed), instant(passed + 1)), run })
    }

    #[cold]
    fn read(&mut self, calendar: &Calendar, segments: Segments, day: usize) -> Option<&Slot> {
        if self.slots.is_empty() {
            self.walked += 1;
            if self.walked <= WALKED {
                return None;
            }
            let days = (calendar.window().1.wrapping_sub(self.start) as u64).div_ceil(DAY as u64) as usize;
            self.slots = vec![Slot::default(); days];
        }
        let last = self.slots.len() - 1;
        let slot = self.slots.get_mut(day)?;
        if slot.at[LAST] == UNREAD {
            let start = self.start + day as i64 * DAY;
            let filled = if day < last { fill(calendar, segments, start) } else { None };
            *slot = filled.unwrap_or(Slot { at: [OTHER; EDGES + 2], ..Slot::default() });
        }
        (slot.at[LAST] > UNREAD).then_some(slot)
    }
}

/// Where the first slot begins: the minute of the first window's start, which lies between two sessions at any second.
fn start(calendar: &Calendar) -> Nanos {
    let start = calendar.window().0;
    start - start.rem_euclid(MINUTE)
}

/// The slot that begins at an instant and lies within the known range.
fn fill(calendar: &Calendar, segments: Segments, start: Nanos) -> Option<Slot> {
    let end = start + DAY;
    let mut slot = Slot { at: [DAY_MINUTES; EDGES + 2], ..Slot::default() };
    slot.at[0] = 0;
    let mut runs = 0;
    let mut session = calendar.session_at(start).ok()?;
    loop {
        for (open, close) in session.runs(segments).filter(|run| run.1 > start && run.0 < end) {
            if runs == MOST {
                return None;
            }
            slot.at[1 + 2 * runs] = minutes(open - start)?;
            slot.at[2 + 2 * runs] = minutes(close - start)?;
            if runs == 0 {
                slot.date = session.trade_date.0;
            }
            let on = u32::try_from(session.trade_date.0 - slot.date).ok().filter(|on| *on < 1 << DATE_BITS)?;
            slot.dates_on |= on << (DATE_BITS * runs as u32);
            runs += 1;
        }
        if session.till >= end {
            return Some(slot);
        }
        session = calendar.session_at(session.till).ok()?;
    }
}

/// Whole minutes, if the difference is of some and near enough.
fn minutes(difference: Nanos) -> Option<i16> {
    i16::try_from(difference / MINUTE).ok().filter(|_| difference % MINUTE == 0)
}

/// Division by a width that is the same for many instants: a multiplication and a correction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    width: u64,
    inverse: u64,
}

impl Steps {
    pub(crate) fn new(width: Nanos) -> Steps {
        let width = width.max(1) as u64;
        Steps { width, inverse: u64::MAX / width }
    }

    /// How far behind the last step of the width an instant lies, `since` its grid's anchor.
    #[inline]
    pub(crate) fn remainder(self, since: Nanos) -> Nanos {
        let since = since as u64;
        // Never too large, and at most one too small: the inverse is cut off by less than one part in 2^64 of `since`.
        let steps = ((u128::from(since) * u128::from(self.inverse)) >> 64) as u64;
        let rest = since - steps * self.width;
        (if rest >= self.width { rest - self.width } else { rest }) as Nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_remainder_is_what_division_leaves(width in 1i64..=86_400_000_000_000, since in 0i64..i64::MAX) {
            prop_assert_eq!(Steps::new(width).remainder(since), since % width);
            let steps = since / width * width;
            prop_assert_eq!(Steps::new(width).remainder(steps), 0);
            prop_assert_eq!(Steps::new(width).remainder((steps - 1).max(0)), (steps - 1).max(0) % width);
        }
    }

    /// Walking over the session is what is left for oddities; of a real calendar's days it is needed for hardly any.
    #[test]
    fn the_days_of_real_calendars_fit() {
        for id in Calendar::builtin_ids() {
            let calendar = Calendar::builtin(id).unwrap();
            let from = start(&calendar);
            let days = ((calendar.window().1 - from) / DAY) as usize;
            let others =
                (0..days).filter(|day| fill(&calendar, Segments::ETH, from + *day as i64 * DAY).is_none()).count();
            assert!(others * 100 < days, "{id}: {others} of {days}");
        }
    }

    #[test]
    fn a_remainder_at_the_edges() {
        for since in [0, 1, 2, i64::MAX - 1, i64::MAX] {
            for width in [1, 2, 3, 1000, SECOND, 86_400 * SECOND] {
                assert_eq!(Steps::new(width).remainder(since), since % width, "{since} {width}");
            }
        }
    }
}
