//! The loops under every bar: a sorted page in, the bar of one stretch of time out.

use crate::bar::Bar;
use crate::block::Core;
use crate::session::{Class, Segment, Session};
use crate::time::Nanos;
use crate::trade::flags::{AUCTION_CLOSE, AUCTION_OPEN, LAST_IF_FIRST, NO_HIGH_LOW, NO_LAST, NO_VOLUME, NOT_IN_RTH};
use std::ops::Range;

/// Any of these needs the session to say where the print belongs.
pub(crate) const AUCTION: u32 = AUCTION_OPEN | AUCTION_CLOSE;

/// Folds the plain trades from `start` on whose time is below `end`; the first one is. Returns the index after them.
#[inline]
pub(crate) fn plain(core: &Core, start: usize, end: Nanos) -> (Bar, usize) {
    let n = core.ts.len().min(core.price.len()).min(core.size.len());
    let (ts, price, size) = (&core.ts[..n], &core.price[..n], &core.size[..n]);
    let open = price[start];
    let (mut high, mut low, mut close) = (open, open, open);
    let (mut volume, mut notional, mut bits) = (0i64, 0i64, 0i64);
    let mut i = start;
    while i < n && ts[i] < end {
        let (p, q) = (price[i], size[i]);
        high = high.max(p);
        low = low.min(p);
        close = p;
        bits |= q;
        volume = volume.wrapping_add(q);
        notional = notional.wrapping_add(p.wrapping_mul(q));
        i += 1;
    }
    let count = i - start;
    // Sizes below 2^48 cannot overflow these sums over a page, and |sum of p*q| <= max|p| * sum of q.
    let safe = (0..1 << 48).contains(&bits) && count < 1 << 15;
    let (volume, notional) = if !safe {
        saturating(price, size, start..i)
    } else {
        let most = u128::from(high.unsigned_abs().max(low.unsigned_abs()));
        let wide = most * u128::from(volume.unsigned_abs()) > i64::MAX as u128;
        (i128::from(volume), if wide { wide_notional(price, size, start..i) } else { i128::from(notional) })
    };
    let n = count as i64;
    let bar = Bar { open, high, low, close, volume, notional, trades: n, priced: n, weak_close: false };
    (in_nanos(bar, core.price_unit, core.size_unit), i)
}

/// Products below 2^111, fewer than 2^15 of them.
fn wide_notional(price: &[i64], size: &[i64], rows: Range<usize>) -> i128 {
    let pairs = price[rows.clone()].iter().zip(&size[rows]);
    pairs.fold(0i128, |all, (p, q)| all.wrapping_add(i128::from(*p) * i128::from(*q)))
}

#[cold]
fn saturating(price: &[i64], size: &[i64], rows: Range<usize>) -> (i128, i128) {
    rows.fold((0i128, 0i128), |(volume, notional), k| {
        let (p, q) = (i128::from(price[k]), i128::from(size[k]));
        (volume.saturating_add(q), notional.saturating_add(p * q))
    })
}

/// From a block's units to 1e-9. The units were checked against the values when the block was made; where bytes lie about
/// them the result saturates.
#[inline]
fn in_nanos(bar: Bar, price_unit: i64, size_unit: i64) -> Bar {
    let price = |value: i64| value.wrapping_mul(price_unit);
    let volume = scale(bar.volume, i128::from(size_unit));
    let notional = scale(bar.notional, i128::from(price_unit) * i128::from(size_unit));
    Bar {
        open: price(bar.open),
        high: price(bar.high),
        low: price(bar.low),
        close: price(bar.close),
        volume,
        notional,
        ..bar
    }
}

/// A product that saturates; two factors of 64 bits, the rule, cannot.
#[inline]
fn scale(value: i128, unit: i128) -> i128 {
    match (i64::try_from(value), i64::try_from(unit)) {
        (Ok(value), Ok(unit)) => i128::from(value) * i128::from(unit),
        _ => value.saturating_mul(unit),
    }
}

/// Adds one trade by its flags. `price` and `size` in 1e-9.
#[inline]
pub(crate) fn add(bar: &mut Bar, price: i64, size: i64, flags: u32, segment: Segment) {
    let flags = match segment {
        Segment::Rth if flags & NOT_IN_RTH != 0 => flags | NO_LAST | NO_HIGH_LOW,
        _ => flags,
    };
    if flags & NO_VOLUME == 0 {
        bar.volume = bar.volume.saturating_add(i128::from(size));
        bar.notional = bar.notional.saturating_add(i128::from(price) * i128::from(size));
        bar.trades = bar.trades.saturating_add(1);
    }
    if flags & NO_HIGH_LOW == 0 {
        bar.high = bar.high.max(price);
        bar.low = bar.low.min(price);
    }
    if flags & NO_LAST == 0 {
        let weak = flags & LAST_IF_FIRST != 0;
        if bar.priced == 0 {
            (bar.open, bar.close, bar.weak_close) = (price, price, weak);
        } else if !weak {
            (bar.close, bar.weak_close) = (price, false);
        }
        bar.priced = bar.priced.saturating_add(1);
    }
}

/// Folds trades with flags from `start` on whose time is below `end`, all in one stretch. Prints that belong to an auction
/// elsewhere go one by one to `auction` and not into the bar.
#[inline]
pub(crate) fn flagged(
    core: &Core,
    session: &Session<'_>,
    start: usize,
    end: Nanos,
    stretch: &Stretch,
    mut auction: impl FnMut(Class, i64, i64, u32),
) -> (Bar, usize) {
    let n = core.ts.len().min(core.price.len()).min(core.size.len()).min(core.flags.len());
    let mut bar = Bar::EMPTY;
    let mut i = start;
    while i < n && core.ts[i] < end {
        let flags = core.flags[i];
        let price = core.price[i].wrapping_mul(core.price_unit);
        let size = core.size[i].wrapping_mul(core.size_unit);
        let class = if flags & AUCTION == 0 { stretch.class } else { session.place(core.ts[i], flags).1 };
        if class == Class::Continuous {
            add(&mut bar, price, size, flags, stretch.segment);
        } else {
            auction(class, price, size, flags);
        }
        i += 1;
    }
    (bar, i)
}

/// A stretch of a session in which unflagged prints all belong to the same segment and class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    /// First instant after it.
    pub till: Nanos,
    /// Where its unflagged prints belong.
    pub segment: Segment,
    /// Whether they belong to an auction elsewhere.
    pub class: Class,
    /// Its first instant; `i64::MIN` for the first stretch.
    pub from: Nanos,
}

/// All of time as the session's stretches.
pub(crate) fn stretches(session: &Session<'_>) -> Vec<Stretch> {
    let mut cuts: Vec<Nanos> = session.spans.iter().flat_map(|span| [span.open, span.close]).collect();
    cuts.extend([session.from, session.till, session.open_auction_from, session.close_auction_until]);
    cuts.extend([session.break_auction.0, session.break_auction.1]);
    cuts.sort_unstable();
    cuts.dedup();
    let mut from = i64::MIN;
    let mut all = Vec::with_capacity(cuts.len() + 1);
    for till in cuts.into_iter().chain([i64::MAX]) {
        if from < till {
            let (segment, class) = session.place(from, 0);
            all.push(Stretch { from, till, segment, class });
        }
        from = till;
    }
    all
}

/// Finds the stretch of one instant after another; looks at the last answer first.
#[derive(Clone, Debug)]
pub(crate) struct Stretches {
    pub all: Vec<Stretch>,
    pub at: usize,
}

impl Stretches {
    pub(crate) fn new(session: &Session<'_>) -> Stretches {
        Stretches { all: stretches(session), at: 0 }
    }

    /// The index of the stretch of `ts`.
    #[inline]
    pub(crate) fn find(&mut self, ts: Nanos) -> usize {
        let stretch = &self.all[self.at];
        if ts < stretch.from || ts >= stretch.till {
            // The last stretch ends with time, so there is always one (the very last instant is in it too).
            self.at = self.all.partition_point(|stretch| stretch.till <= ts).min(self.all.len() - 1);
        }
        self.at
    }
}

/// The first index from `start` on whose time is not below `end`.
pub(crate) fn skip(ts: &[i64], start: usize, end: Nanos) -> usize {
    start + ts.get(start..).map_or(0, |rest| rest.partition_point(|&at| at < end))
}
