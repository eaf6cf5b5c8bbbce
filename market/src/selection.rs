//! The runs of selected segments, kept for each pattern of sessions: where an instant's bar begins, without a walk over spans.

use crate::calendar::Calendar;
use crate::session::{Runs, Segment, Segments};
use crate::time::{Nanos, SECOND};

/// More runs in one session than any exchange has are walked over instead.
const MOST: usize = 4;

/// The edges of the runs of one pattern, in seconds from midnight UTC of the trade date: open, close, open, close ...
#[derive(Clone, Copy, Debug)]
struct Edges {
    state: State,
    at: [i32; MOST * 2],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Unread,
    Read,
    /// Too many runs, or not at whole seconds.
    Other,
}

/// What lies around an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Inside the run from the first to the second.
    Run(Nanos, Nanos),
    /// Between the runs: after the first, if there is one, and before the second.
    Gap(Option<Nanos>, Option<Nanos>),
}

/// The runs of a selection by pattern, each read when it is first met.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    segments: Segments,
    by_pattern: Vec<Edges>,
}

impl Selection {
    pub(crate) fn new(segments: Segments) -> Selection {
        Selection { segments, by_pattern: Vec::new() }
    }

    /// Where an instant lies in the session of this index, whose storage window holds it; `None` where the session has to
    /// be asked itself. Stretches of `OFF` are runs that depend on the neighbours, so a selection with them is never known.
    #[inline]
    pub(crate) fn place(&mut self, calendar: &Calendar, index: usize, ts: Nanos) -> Option<Place> {
        let grid = calendar.grid();
        let pattern = grid.pattern_of(index);
        let edges = match self.by_pattern.get(pattern) {
            Some(edges) if edges.state == State::Read => *edges,
            _ => self.read(calendar, pattern)?,
        };
        let base = grid.base(index);
        // A window may be as long as a closure of centuries: what is out of reach of the edges lies beyond all of them.
        let seconds =
            ts.wrapping_sub(base).div_euclid(SECOND).clamp(i64::from(i32::MIN), i64::from(i32::MAX - 1)) as i32;
        // Without a branch: where an instant lies in its day is nothing that a processor could guess.
        let passed = edges.at.iter().map(|edge| usize::from(*edge <= seconds)).sum::<usize>();
        let instant =
            |at: usize| edges.at.get(at).filter(|at| **at < i32::MAX).map(|at| base + i64::from(*at) * SECOND);
        let before = passed.checked_sub(1).and_then(instant);
        Some(match (passed % 2, before, instant(passed)) {
            (1, Some(open), Some(close)) => Place::Run(open, close),
            (_, before, after) => Place::Gap(before, after),
        })
    }

    #[cold]
    fn read(&mut self, calendar: &Calendar, pattern: usize) -> Option<Edges> {
        if self.segments.contains(Segment::Off) {
            return None;
        }
        if self.by_pattern.is_empty() {
            let unread = Edges { state: State::Unread, at: [i32::MAX; MOST * 2] };
            self.by_pattern = vec![unread; calendar.grid().patterns()];
        }
        let segments = self.segments;
        let edges = self.by_pattern.get_mut(pattern)?;
        if edges.state == State::Unread {
            edges.state = State::Other;
            let runs: Vec<(Nanos, Nanos)> = Runs::of_pattern(calendar, pattern, segments).collect();
            let flat: Option<Vec<i32>> = runs.iter().flat_map(|run| [run.0, run.1]).map(seconds).collect();
            if let Some(flat) = flat.filter(|flat| flat.len() <= MOST * 2) {
                edges.at[..flat.len()].copy_from_slice(&flat);
                edges.state = State::Read;
            }
        }
        (edges.state == State::Read).then_some(*edges)
    }
}

/// Whole seconds, if the instant is at one and near enough.
fn seconds(ts: Nanos) -> Option<i32> {
    i32::try_from(ts / SECOND).ok().filter(|seconds| ts % SECOND == 0 && *seconds < i32::MAX)
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

    #[test]
    fn a_remainder_at_the_edges() {
        for since in [0, 1, 2, i64::MAX - 1, i64::MAX] {
            for width in [1, 2, 3, 1000, SECOND, 86_400 * SECOND] {
                assert_eq!(Steps::new(width).remainder(since), since % width, "{since} {width}");
            }
        }
    }
}
