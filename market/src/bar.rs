//! Bars: what a stretch of trades comes to, and how to make one from trades in any order.

use crate::block::Core;
use crate::error::{Error, Result};
use crate::fold;
use crate::money;
use crate::time::Nanos;

/// What a stretch of trades comes to. Prices in 1e-9, volume in 1e-9, notional in 1e-18; sums saturate.
///
/// A bar of which nothing updated the price (`priced == 0`) has volume but no prices: open and close are 0 and
/// mean NULL. High and low come only from trades that update them; [`Bar::settled`] gives the candle to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// First price that counts; 0 if `priced` is 0.
    pub open: i64,
    /// Highest price that counts for the range; `i64::MIN` if none does.
    pub high: i64,
    /// Lowest price that counts for the range; `i64::MAX` if none does.
    pub low: i64,
    /// Last price that counts; 0 if `priced` is 0.
    pub close: i64,
    /// Size of the trades that count for volume.
    pub volume: i128,
    /// Their price times size.
    pub notional: i128,
    /// Their number.
    pub trades: i64,
    /// Number of trades that count for open and close.
    pub priced: i64,
    /// The close comes from a trade that closes a bar only if it opens it, so an earlier stretch keeps its own close.
    pub weak_close: bool,
}

impl Bar {
    /// The bar of no trades: appending it changes nothing.
    pub const EMPTY: Bar = Bar {
        open: 0,
        high: i64::MIN,
        low: i64::MAX,
        close: 0,
        volume: 0,
        notional: 0,
        trades: 0,
        priced: 0,
        weak_close: false,
    };

    /// A flat bar without trades, as filling a gap makes it.
    pub const fn flat(price: i64) -> Bar {
        Bar { open: price, high: price, low: price, close: price, ..Bar::EMPTY }
    }

    /// Whether nothing in it counts for anything, so that there is no bar.
    pub fn is_empty(&self) -> bool {
        self.trades == 0 && self.priced == 0 && self.high < self.low && self.volume == 0
    }

    /// Adds what follows in time. Associative.
    #[inline]
    pub fn append(&mut self, later: &Bar) {
        if later.priced > 0 {
            if self.priced == 0 {
                self.open = later.open;
                self.close = later.close;
                self.weak_close = later.weak_close;
            } else if !later.weak_close {
                self.close = later.close;
                self.weak_close = false;
            }
        }
        self.high = self.high.max(later.high);
        self.low = self.low.min(later.low);
        self.volume = self.volume.saturating_add(later.volume);
        self.notional = self.notional.saturating_add(later.notional);
        self.trades = self.trades.saturating_add(later.trades);
        self.priced = self.priced.saturating_add(later.priced);
    }

    /// The candle to show: high and low include open and close; without a price that counts all four are 0.
    pub fn settled(&self) -> Bar {
        let mut bar = *self;
        bar.settle();
        bar
    }

    /// As [`settled`](Bar::settled), in place.
    #[inline]
    pub fn settle(&mut self) {
        (self.high, self.low) = match self.priced {
            0 => (0, 0),
            _ => (self.high.max(self.open).max(self.close), self.low.min(self.open).min(self.close)),
        };
    }

    /// Volume-weighted average price; `None` without volume.
    pub fn vwap(&self) -> Option<f64> {
        money::vwap(self.notional, self.volume)
    }
}

/// A bar with the places of its first and last price, so that bars merge in any order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyedBar {
    /// The bar, settled.
    pub bar: Bar,
    /// `(ts, seq)` of the open.
    pub first: (Nanos, i64),
    /// `(ts, seq)` of the close.
    pub last: (Nanos, i64),
}

/// `(ts, seq, price)`: ties of `(ts, seq)` go to the lower price for the open and to the higher for the close.
type Point = (i64, i64, i64);

/// A sum that never overflows: 64 + 128 bits in two's complement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Wide {
    high: i64,
    low: u128,
}

impl Wide {
    fn add(&mut self, other: Wide) {
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        self.high = self.high.wrapping_add(other.high).wrapping_add(i64::from(carry));
    }

    fn saturated(self) -> i128 {
        match (self.high, self.low as i128) {
            (0, low) if low >= 0 => low,
            (-1, low) if low < 0 => low,
            (high, _) if high < 0 => i128::MIN,
            _ => i128::MAX,
        }
    }
}

impl From<i128> for Wide {
    fn from(value: i128) -> Wide {
        Wide { high: (value >> 127) as i64, low: value as u128 }
    }
}

/// Makes a bar from trades in any order, in any number of parts: the state of the SQL aggregate.
///
/// Ties of `(ts, seq)` are broken by the price, so the order of pushes and merges never matters. `ts` is only compared:
/// any unit will do, as long as it is always the same.
///
/// ```
/// use market::bar::BarBuilder;
/// let mut bar = BarBuilder::new();
/// bar.push_f64(Some(101.5), Some(2.0), 20, 2)?;
/// bar.push_f64(Some(100.0), Some(1.0), 10, 1)?;
/// let bar = bar.finish().unwrap().bar;
/// assert_eq!((bar.open, bar.close), (100_000_000_000, 101_500_000_000));
/// # Ok::<(), market::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BarBuilder {
    first: Point,
    last: Point,
    high: i64,
    low: i64,
    volume: Wide,
    notional: Wide,
    trades: i64,
    priced: i64,
}

impl Default for BarBuilder {
    fn default() -> BarBuilder {
        BarBuilder::new()
    }
}

const STATE_VERSION: u8 = 1;

/// A run of fewer rows is quicker row by row than column by column (market/benches/codec.rs).
const SHORT: usize = 12;

/// The bits that sizes have among them; an error for a negative one.
#[inline]
fn check_sizes(sizes: &[i64]) -> Result<i64> {
    let all = sizes.iter().fold(0, |all, size| all | size);
    match sizes.iter().find(|size| all < 0 && **size < 0) {
        Some(size) => Err(Error::invalid("size", money::to_f64(*size).to_string(), "a size of zero or more")),
        None => Ok(all),
    }
}

impl BarBuilder {
    /// Length of an encoded state.
    pub const ENCODED_LEN: usize = 1 + 3 * 8 * 2 + 4 * 8 + 2 * 24;

    /// Nothing yet.
    pub const fn new() -> BarBuilder {
        BarBuilder {
            first: (i64::MAX, i64::MAX, i64::MAX),
            last: (i64::MIN, i64::MIN, i64::MIN),
            high: i64::MIN,
            low: i64::MAX,
            volume: Wide { high: 0, low: 0 },
            notional: Wide { high: 0, low: 0 },
            trades: 0,
            priced: 0,
        }
    }

    /// Adds a trade. Without a price it counts for volume, without a size for the price, without both not at all.
    ///
    /// # Errors
    /// `Invalid` for a negative size; nothing is added then.
    #[inline]
    pub fn push(&mut self, price: Option<i64>, size: Option<i64>, ts: Nanos, seq: i64) -> Result<()> {
        if let Some(size) = size {
            check_sizes(&[size])?;
        }
        if let (Some(price), Some(size)) = (price, size) {
            self.push_row(price, size, ts, seq);
            return Ok(());
        }
        if let Some(price) = price {
            self.first = self.first.min((ts, seq, price));
            self.last = self.last.max((ts, seq, price));
            self.high = self.high.max(price);
            self.low = self.low.min(price);
            self.priced = self.priced.saturating_add(1);
        }
        if let Some(size) = size {
            self.volume.add(Wide::from(i128::from(size)));
        }
        if price.is_some() || size.is_some() {
            self.trades = self.trades.saturating_add(1);
        }
        Ok(())
    }

    /// Adds a trade as SQL has it; see [`push`](BarBuilder::push).
    ///
    /// # Errors
    /// Also those of [`money::from_f64`].
    #[inline]
    pub fn push_f64(&mut self, price: Option<f64>, size: Option<f64>, ts: Nanos, seq: i64) -> Result<()> {
        let price = price.map(money::price_from_f64).transpose()?;
        let size = size.map(money::size_from_f64).transpose()?;
        self.push(price, size, ts, seq)
    }

    /// Adds the trades of a sorted page from `start` on whose time is below `end`, whatever their flags, as if each had been
    /// pushed at `clock(ts)`; `clock` never goes back. Returns where it stopped. The first one is below `end`.
    ///
    /// # Errors
    /// As [`push`](BarBuilder::push).
    pub fn push_page(
        &mut self,
        core: &Core,
        seq: &[i64],
        start: usize,
        end: Nanos,
        clock: impl Fn(Nanos) -> i64,
    ) -> Result<usize> {
        let (bar, next) = fold::plain(core, start, end);
        let price = |i: usize| core.price[i].wrapping_mul(core.price_unit);
        let most = u128::from(bar.high.unsigned_abs().max(bar.low.unsigned_abs()));
        // |sum of p*q| <= max|p| * sum of q, so what fits did not saturate on the way.
        let fits = u128::try_from(bar.volume).ok().and_then(|volume| volume.checked_mul(most));
        if fits.is_none_or(|notional| i128::try_from(notional).is_err()) {
            for (i, seq) in seq.iter().enumerate().take(next).skip(start) {
                let size = core.size[i].wrapping_mul(core.size_unit);
                self.push(Some(price(i)), Some(size), clock(core.ts[i]), *seq)?;
            }
            return Ok(next);
        }
        let (from, till) = (clock(core.ts[start]), clock(core.ts[next - 1]));
        let place = |i: usize| (seq[i], price(i));
        // One tick of the clock may hold several trades, in any order of their sequences.
        let ticks = |i: &usize| clock(core.ts[*i]) == from;
        let first = (start + 1..next).take_while(ticks).map(place).fold(place(start), Ord::min);
        let ticks = |i: &usize| clock(core.ts[*i]) == till;
        let last = (start..next - 1).rev().take_while(ticks).map(place).fold(place(next - 1), Ord::max);
        self.push_bar(&KeyedBar {
            bar: Bar { open: first.1, close: last.1, ..bar },
            first: (from, first.0),
            last: (till, last.0),
        });
        Ok(next)
    }

    /// Adds trades, column by column and all of the same length, as if each had been [pushed](BarBuilder::push); quickest where
    /// they are sorted.
    ///
    /// # Errors
    /// As [`push`](BarBuilder::push): a negative size, of which nothing is added.
    ///
    /// # Panics
    /// If a column is shorter than `price`.
    pub fn push_run(&mut self, price: &[i64], size: &[i64], ts: &[Nanos], seq: &[i64]) -> Result<()> {
        let n = price.len();
        let (size, ts, seq) = (&size[..n], &ts[..n], &seq[..n]);
        if n < SHORT {
            check_sizes(size)?;
            (0..n).for_each(|i| self.push_row(price[i], size[i], ts[i], seq[i]));
            return Ok(());
        }
        let (Some(&first), Some(&last)) = (price.first(), price.last()) else { return Ok(()) };
        let (mut high, mut low, mut most) = (first, first, 0u64);
        for &p in price {
            (high, low) = (high.max(p), low.min(p));
            most |= p.unsigned_abs();
        }
        let all = check_sizes(size)?;
        let sorted = (1..n).all(|i| (ts[i - 1], seq[i - 1]) < (ts[i], seq[i]));
        if !sorted {
            (0..n).for_each(|i| self.push_row(price[i], size[i], ts[i], seq[i]));
            return Ok(());
        }
        self.first = self.first.min((ts[0], seq[0], first));
        self.last = self.last.max((ts[n - 1], seq[n - 1], last));
        (self.high, self.low) = (self.high.max(high), self.low.min(low));
        // Where the bits of all leave room for the number of rows, sums of 64 or 128 bits hold them.
        let bits = |value: u64| u64::BITS - value.leading_zeros();
        let room = bits(n as u64);
        if bits(all as u64) + room < 63 {
            self.volume.add(Wide::from(i128::from(size.iter().sum::<i64>())));
        } else {
            size.iter().for_each(|&q| self.volume.add(Wide::from(i128::from(q))));
        }
        let products = price.iter().zip(size).map(|(&p, &q)| i128::from(p) * i128::from(q));
        if bits(all as u64) + bits(most) + room < 127 {
            self.notional.add(Wide::from(products.sum::<i128>()));
        } else {
            products.for_each(|product| self.notional.add(Wide::from(product)));
        }
        self.trades = self.trades.saturating_add(n as i64);
        self.priced = self.priced.saturating_add(n as i64);
        Ok(())
    }

    /// Adds trades to many bars: row `i` to `bars[groups[i]]`, as if each had been [pushed](BarBuilder::push). Columns are of
    /// the same length. Quickest where neighbours are of one group and sorted.
    ///
    /// # Errors
    /// As [`push`](BarBuilder::push): a negative size, of which nothing is added.
    ///
    /// # Panics
    /// If a column is shorter than `groups`, or a group has no bar.
    pub fn push_groups(
        bars: &mut [BarBuilder],
        groups: &[usize],
        price: &[i64],
        size: &[i64],
        ts: &[Nanos],
        seq: &[i64],
    ) -> Result<()> {
        let n = groups.len();
        let (price, size, ts, seq) = (&price[..n], &size[..n], &ts[..n], &seq[..n]);
        check_sizes(size)?;
        let mut at = 0;
        while at < n {
            let group = groups[at];
            let run = groups[at..].iter().take_while(|other| **other == group).count();
            let rows = at..at + run;
            let bar = &mut bars[group];
            if run < SHORT {
                for i in rows.clone() {
                    bar.push_row(price[i], size[i], ts[i], seq[i]);
                }
            } else {
                bar.push_run(&price[rows.clone()], &size[rows.clone()], &ts[rows.clone()], &seq[rows.clone()])?;
            }
            at = rows.end;
        }
        Ok(())
    }

    /// A trade whose size is known to be none below zero.
    #[inline]
    fn push_row(&mut self, price: i64, size: i64, ts: Nanos, seq: i64) {
        let at = (ts, seq, price);
        // Branches, not minima: in the order of time the first never moves and the last always does.
        if at < self.first {
            self.first = at;
        }
        if at > self.last {
            self.last = at;
        }
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.volume.add(Wide::from(i128::from(size)));
        self.notional.add(Wide::from(i128::from(price) * i128::from(size)));
        self.trades = self.trades.saturating_add(1);
        self.priced = self.priced.saturating_add(1);
    }

    /// Adds a finished bar: the roll-up.
    pub fn push_bar(&mut self, bar: &KeyedBar) {
        let KeyedBar { bar, first, last } = bar;
        if bar.priced > 0 {
            self.first = self.first.min((first.0, first.1, bar.open));
            self.last = self.last.max((last.0, last.1, bar.close));
            self.high = self.high.max(bar.high);
            self.low = self.low.min(bar.low);
        }
        self.volume.add(Wide::from(bar.volume));
        self.notional.add(Wide::from(bar.notional));
        self.trades = self.trades.saturating_add(bar.trades.max(0));
        self.priced = self.priced.saturating_add(bar.priced.max(0));
    }

    /// Adds what another builder has seen. Associative and commutative.
    pub fn merge(&mut self, other: &BarBuilder) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.high = self.high.max(other.high);
        self.low = self.low.min(other.low);
        self.volume.add(other.volume);
        self.notional.add(other.notional);
        self.trades = self.trades.saturating_add(other.trades);
        self.priced = self.priced.saturating_add(other.priced);
    }

    /// The bar; `None` if nothing was pushed. Sums saturate.
    pub fn finish(&self) -> Option<KeyedBar> {
        if self.trades == 0 && self.priced == 0 {
            return None;
        }
        let priced = self.priced > 0;
        let bar = Bar {
            open: if priced { self.first.2 } else { 0 },
            high: if priced { self.high } else { 0 },
            low: if priced { self.low } else { 0 },
            close: if priced { self.last.2 } else { 0 },
            volume: self.volume.saturated(),
            notional: self.notional.saturated(),
            trades: self.trades,
            priced: self.priced,
            weak_close: false,
        };
        let place = |point: Point| if priced { (point.0, point.1) } else { (0, 0) };
        Some(KeyedBar { bar, first: place(self.first), last: place(self.last) })
    }

    /// The state as bytes, for parallel aggregation.
    pub fn encode(&self) -> [u8; Self::ENCODED_LEN] {
        let mut bytes = [0; Self::ENCODED_LEN];
        let (version, rest) = bytes.split_at_mut(1);
        version[0] = STATE_VERSION;
        let (words, sums) = rest.split_at_mut(80);
        for (into, value) in words.chunks_exact_mut(8).zip(self.words()) {
            into.copy_from_slice(&value.to_le_bytes());
        }
        for (into, sum) in sums.chunks_exact_mut(24).zip([self.volume, self.notional]) {
            into[..8].copy_from_slice(&sum.high.to_le_bytes());
            into[8..].copy_from_slice(&sum.low.to_le_bytes());
        }
        bytes
    }

    fn words(&self) -> [i64; 10] {
        let (first, last) = (self.first, self.last);
        [first.0, first.1, first.2, last.0, last.1, last.2, self.high, self.low, self.trades, self.priced]
    }

    /// Reads [`encode`](BarBuilder::encode)'s bytes.
    ///
    /// # Errors
    /// `Corrupt` for another length or version, and for a state no pushes can make.
    pub fn decode(bytes: &[u8]) -> Result<BarBuilder> {
        let corrupt = |reason: &str| Error::corrupt("bar state", reason);
        if bytes.len() != Self::ENCODED_LEN {
            return Err(corrupt("wrong length"));
        }
        if bytes[0] != STATE_VERSION {
            return Err(corrupt("unknown version"));
        }
        let (words, sums) = bytes[1..].split_at(10 * 8);
        let mut word = words.chunks_exact(8).map(|chunk| i64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        let mut next = || word.next().unwrap_or_default();
        let mut sum = sums.chunks_exact(24).map(|chunk| Wide {
            high: i64::from_le_bytes(chunk[..8].try_into().unwrap_or_default()),
            low: u128::from_le_bytes(chunk[8..].try_into().unwrap_or_default()),
        });
        let state = BarBuilder {
            first: (next(), next(), next()),
            last: (next(), next(), next()),
            high: next(),
            low: next(),
            trades: next(),
            priced: next(),
            volume: sum.next().unwrap_or_default(),
            notional: sum.next().unwrap_or_default(),
        };
        let empty = BarBuilder::new();
        let possible = state.trades >= 0
            && match state.priced {
                0 => {
                    (state.first, state.last, state.high, state.low) == (empty.first, empty.last, empty.high, empty.low)
                }
                n => {
                    let range = state.low..=state.high;
                    n > 0
                        && state.first <= state.last
                        && range.contains(&state.first.2)
                        && range.contains(&state.last.2)
                }
            };
        if possible { Ok(state) } else { Err(corrupt("contradictory state")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weak(price: i64) -> Bar {
        Bar { weak_close: true, priced: 1, trades: 1, ..Bar::flat(price) }
    }

    fn strong(price: i64) -> Bar {
        Bar { weak_close: false, ..weak(price) }
    }

    #[test]
    fn a_weak_close_closes_only_a_bar_it_opens() {
        let close = |bars: &[Bar]| {
            let mut all = Bar::EMPTY;
            bars.iter().for_each(|bar| all.append(bar));
            (all.open, all.close)
        };
        assert_eq!(close(&[weak(1)]), (1, 1));
        assert_eq!(close(&[weak(1), weak(2)]), (1, 1));
        assert_eq!(close(&[weak(1), strong(2), weak(3)]), (1, 2));
        assert_eq!(close(&[Bar { volume: 5, trades: 1, ..Bar::EMPTY }, weak(3)]), (3, 3));
    }

    #[test]
    fn a_missing_price_keeps_the_volume_and_a_missing_size_the_price() {
        let mut bar = BarBuilder::new();
        assert!(bar.finish().is_none());
        bar.push(None, None, 5, 5).unwrap();
        assert!(bar.finish().is_none());
        bar.push(None, Some(7), 0, 0).unwrap();
        let done = bar.finish().unwrap().bar;
        assert_eq!((done.priced, done.open, done.volume, done.trades), (0, 0, 7, 1));
        bar.push(Some(3), None, 9, 0).unwrap();
        let done = bar.finish().unwrap();
        assert_eq!((done.bar.open, done.bar.volume, done.bar.trades, done.first), (3, 7, 2, (9, 0)));
    }

    #[test]
    fn sums_saturate_whatever_the_order() {
        let mut bar = BarBuilder::new();
        for _ in 0..4 {
            bar.push(Some(i64::MAX), Some(i64::MAX), 0, 0).unwrap();
        }
        assert_eq!(bar.finish().unwrap().bar.notional, i128::MAX);
        for _ in 0..4 {
            bar.push(Some(-i64::MAX), Some(i64::MAX), 0, 0).unwrap();
        }
        assert_eq!(bar.finish().unwrap().bar.notional, 0);
    }
}
