//! Bars as a slow reader of the manual would make them: trades in memory, the calendar's sessions, no code of the store.

use market::flags::{AUCTION_CLOSE, AUCTION_OPEN, LAST_IF_FIRST, NO_HIGH_LOW, NO_LAST, NO_VOLUME, NOT_IN_RTH};
use market::{Segment, Segments, Session, Trade, money};
use std::collections::BTreeMap;

/// Width of a bar.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Width {
    /// Nanoseconds.
    Time(i64),
    /// One trade date.
    Day,
    /// Monday to Sunday.
    Week,
}

/// What to do without trades.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Gaps {
    /// No bar.
    None,
    /// The close before.
    Previous,
    /// A bar of NULLs.
    Null,
}

/// A bar as SQL shows it; prices are NULL where no trade counts for them.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    /// First trade date.
    pub date: String,
    /// Open, close in nanoseconds.
    pub at: (i64, i64),
    /// Open, high, low, close.
    pub prices: Option<[f64; 4]>,
    /// Sum of sizes.
    pub volume: f64,
    /// Trades that count for volume.
    pub trades: i64,
    /// Average price.
    pub vwap: Option<f64>,
}

/// When a print counts inside its bar: a segment's opening auction first, its closing auction last.
pub type Turn = (i64, u8, i64, i64, i32);

/// A bucket: its trade date, open and close.
type Place = (i32, i64, i64);

/// Segment, instant that decides the bucket, turn.
pub fn place(session: &Session<'_>, t: &Trade) -> (Segment, i64, Turn) {
    let clock = session.spans.iter().find(|s| s.open <= t.ts && t.ts < s.close).map_or(Segment::Off, |s| s.segment);
    let own = (clock, t.ts, (t.ts, 1, t.ts, t.seq, t.sub));
    let regular: Vec<_> = session.spans.iter().filter(|s| s.segment == Segment::Rth).collect();
    let (Some(first), Some(last)) = (regular.first(), regular.last()) else { return own };
    if clock == Segment::Rth && t.flags & AUCTION_OPEN != 0 && t.ts < first.open + 60_000_000_000 {
        // reported a little late, it is the opening print all the same
        (clock, first.open, (first.open, 0, t.ts, t.seq, t.sub))
    } else if clock == Segment::Rth {
        own
    } else if t.ts >= last.close && (t.flags & AUCTION_CLOSE != 0 || t.ts < session.close_auction_until) {
        (Segment::Rth, last.close - 1, (last.close, 0, t.ts, t.seq, t.sub))
    } else if t.ts < first.open && (t.flags & AUCTION_OPEN != 0 || t.ts >= session.open_auction_from) {
        (Segment::Rth, first.open, (first.open, 0, t.ts, t.seq, t.sub))
    } else if session.break_auction.0 <= t.ts && t.ts < session.break_auction.1 {
        // the call that ended the morning
        let pause = session.break_auction.0;
        (Segment::Rth, pause - 1, (pause, 0, t.ts, t.seq, t.sub))
    } else {
        own
    }
}

/// Contiguous stretches that anchor a grid.
fn runs(session: &Session<'_>, segments: Segments) -> Vec<(i64, i64)> {
    let mut all: Vec<(i64, i64, Segment)> = session.spans.iter().map(|s| (s.open, s.close, s.segment)).collect();
    let mut edge = session.from;
    for span in session.spans {
        if edge < span.open {
            all.push((edge, span.open, Segment::Off));
        }
        edge = span.close;
    }
    if edge < session.till {
        all.push((edge, session.till, Segment::Off));
    }
    all.retain(|s| segments.contains(s.2));
    all.sort_by_key(|s| s.0);
    let mut runs: Vec<(i64, i64, Segment)> = Vec::new();
    for s in all {
        match runs.last_mut() {
            Some(run)
                if run.1 == s.0
                    && (run.2 == s.2
                        || (!session.restart_at_segments && run.2 != Segment::Off && s.2 != Segment::Off)) =>
            {
                run.1 = s.1;
                run.2 = s.2;
            }
            _ => runs.push(s),
        }
    }
    runs.into_iter().map(|r| (r.0, r.1)).collect()
}

/// The number of a date's week, Monday to Sunday.
pub fn week(date: i32) -> i32 {
    (date + 3).div_euclid(7)
}

/// Bars of `asked` sessions (by trade date, both included) out of all sessions in order and all trades.
pub fn bars(
    all: &[Session<'_>],
    trades: &[Trade],
    width: Width,
    segments: Segments,
    gaps: Gaps,
    asked: (i32, i32),
) -> Vec<Shown> {
    let mut grid: BTreeMap<(i64, i64), Place> = BTreeMap::new();
    let mut held: BTreeMap<(i64, i64), BTreeMap<Turn, (Segment, Trade)>> = BTreeMap::new();
    let mut weeks: BTreeMap<i32, Place> = BTreeMap::new();
    for session in all {
        let runs = runs(session, segments);
        let (Some(open), Some(close)) = (runs.first().map(|r| r.0), runs.last().map(|r| r.1)) else { continue };
        let date = session.trade_date.0;
        let entry = weeks.entry(week(date)).or_insert((date, open, close));
        entry.2 = close;
        match width {
            Width::Time(width) => {
                for run in &runs {
                    let mut at = run.0;
                    while at < run.1 {
                        let end = (at + width).min(run.1);
                        grid.insert((at, end), (date, at, end));
                        at = end;
                    }
                }
            }
            Width::Day => {
                grid.insert((open, close), (date, open, close));
            }
            Width::Week => {}
        }
    }
    if width == Width::Week {
        grid = weeks.values().map(|w| ((w.1, w.2), *w)).collect();
    }
    for t in trades {
        let Some(session) = all.iter().find(|s| s.from <= t.ts && t.ts < s.till) else { continue };
        let (segment, at, turn) = place(session, t);
        if !segments.contains(segment) {
            continue;
        }
        let key = match width {
            Width::Time(_) => grid.range(..=(at, i64::MAX)).next_back().map(|(k, _)| *k).filter(|k| at < k.1),
            Width::Day => grid.iter().find(|(_, p)| p.0 == session.trade_date.0).map(|(k, _)| *k),
            Width::Week => weeks.get(&week(session.trade_date.0)).map(|w| (w.1, w.2)),
        };
        if let Some(key) = key {
            held.entry(key).or_default().insert(turn, (segment, *t));
        }
    }
    let mut previous = None;
    let mut shown = Vec::new();
    for (key, (date, open, close)) in grid {
        let bar = held.get(&key).and_then(fold);
        let bar = match (bar, gaps) {
            (Some(bar), _) => bar,
            (None, Gaps::None) => continue,
            (None, Gaps::Previous) => (previous.map(|p| [p; 4]), 0, 0, 0),
            (None, Gaps::Null) => (None, 0, 0, 0),
        };
        if let Some(prices) = bar.0 {
            previous = Some(prices[3]);
        }
        let inside = match width {
            Width::Week => week(asked.0) <= week(date) && week(date) <= week(asked.1),
            _ => asked.0 <= date && date <= asked.1,
        };
        if inside {
            shown.push(Shown {
                date: market::TradeDate(date).to_string(),
                at: (open, close),
                prices: bar.0.map(|p| p.map(money::to_f64)),
                volume: money::volume_to_f64(bar.1),
                trades: bar.3,
                vwap: (bar.1 > 0).then(|| bar.2 as f64 / bar.1 as f64 / 1e9),
            });
        }
    }
    shown
}

/// Prices, volume, notional, trades; `None` if nothing counts for anything.
fn fold(trades: &BTreeMap<Turn, (Segment, Trade)>) -> Option<(Option<[i64; 4]>, i128, i128, i64)> {
    let (mut open, mut close): (Option<i64>, Option<i64>) = (None, None);
    let (mut ranged, mut volume, mut notional, mut count): (Vec<i64>, i128, i128, i64) = (Vec::new(), 0, 0, 0);
    for (segment, t) in trades.values() {
        let form_t = *segment == Segment::Rth && t.flags & NOT_IN_RTH != 0;
        if t.flags & NO_VOLUME == 0 {
            volume += i128::from(t.size);
            notional += i128::from(t.size) * i128::from(t.price);
            count += 1;
        }
        if t.flags & NO_HIGH_LOW == 0 && !form_t {
            ranged.push(t.price);
        }
        if t.flags & NO_LAST == 0 && !form_t && (open.is_none() || t.flags & LAST_IF_FIRST == 0) {
            open = open.or(Some(t.price));
            close = Some(t.price);
        }
    }
    if open.is_none() && ranged.is_empty() && count == 0 {
        return None;
    }
    ranged.extend(open);
    ranged.extend(close);
    let prices = match (open, close, ranged.iter().max(), ranged.iter().min()) {
        (Some(open), Some(close), Some(high), Some(low)) => Some([open, *high, *low, close]),
        _ => None,
    };
    Some((prices, volume, notional, count))
}
