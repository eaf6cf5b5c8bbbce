//! Minute bars: what most questions are answered from, and their block format.
//!
//! Keyed by `(utc_minute, class)`: an auction's print keeps its own minute, so that any timeframe of whole minutes comes out
//! of minute bars exactly as out of the trades.

use crate::bar::Bar;
use crate::block::{Core, Header, Scratch, Shape, decode_columns, encode_columns};
use crate::error::{Error, Result};
use crate::fold::{self, Stretches};
use crate::session::{Class, Segment, Session};
use crate::time::{MINUTE, Nanos};
use crate::trade::Key;

/// The bar of one UTC minute and class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MinuteBar {
    /// First instant of the minute.
    pub minute: Nanos,
    /// Whether its prints belong where the clock says.
    pub class: Class,
    /// The bar, not settled: high and low are of the prints that update them.
    pub bar: Bar,
}

/// Makes minute bars of one session's trades, pushed as sorted pages in order.
pub struct MinuteFold<'s> {
    session: Session<'s>,
    stretches: Stretches,
    bars: Vec<MinuteBar>,
    // Prints of auctions come between the minutes of continuous trading.
    auctions: Vec<MinuteBar>,
}

fn minute_of(ts: Nanos) -> Nanos {
    ts.saturating_sub(ts.rem_euclid(MINUTE))
}

fn put(bars: &mut Vec<MinuteBar>, minute: Nanos, class: Class, bar: &Bar) {
    if bar.is_empty() {
        return;
    }
    match bars.last_mut() {
        Some(last) if last.minute == minute && last.class == class => last.bar.append(bar),
        _ => bars.push(MinuteBar { minute, class, bar: *bar }),
    }
}

impl<'s> MinuteFold<'s> {
    /// For the trades of one session.
    pub fn new(session: &Session<'s>) -> MinuteFold<'s> {
        MinuteFold { session: *session, stretches: Stretches::new(session), bars: Vec::new(), auctions: Vec::new() }
    }

    /// Adds a page; pages follow each other in time.
    pub fn push(&mut self, core: &Core) {
        let MinuteFold { session, stretches, bars, auctions } = self;
        let mut i = 0;
        // The very last instant of time is no trade's: it could not be below the end of any bar.
        while i < core.ts.len() && core.ts[i] < i64::MAX {
            let ts = core.ts[i];
            let at = stretches.find(ts);
            let stretch = stretches.all[at];
            let minute = minute_of(ts);
            let end = minute.saturating_add(MINUTE).min(stretch.till).max(ts + 1);
            let (bar, next) = if core.flags.is_empty() {
                fold::plain(core, i, end)
            } else {
                fold::flagged(core, session, i, end, &stretch, |class, price, size, flags| {
                    let mut one = Bar::EMPTY;
                    fold::add(&mut one, price, size, flags, Segment::Rth);
                    put(auctions, minute, class, &one);
                })
            };
            let target = if stretch.class == Class::Continuous { &mut *bars } else { &mut *auctions };
            put(target, minute, stretch.class, &bar);
            i = next;
        }
    }

    /// The bars, sorted by minute and class.
    pub fn finish(self) -> Vec<MinuteBar> {
        let mut bars = self.bars;
        if self.auctions.is_empty() {
            return bars;
        }
        bars.extend(self.auctions);
        // Stable: bars of one key stay in time order.
        bars.sort_by_key(|bar| (bar.minute, bar.class));
        bars.dedup_by(|later, kept| {
            let same = (later.minute, later.class) == (kept.minute, kept.class);
            if same {
                kept.bar.append(&later.bar);
            }
            same
        });
        bars
    }
}

/// A whole number in two columns of 64 bits, the low one signed, so that small numbers leave the high one zero.
fn split(value: i128) -> (i64, i64) {
    let low = value as i64;
    (low, (value.wrapping_sub(i128::from(low)) >> 64) as i64)
}

fn join(low: i64, high: i64) -> i128 {
    (i128::from(high) << 64).wrapping_add(i128::from(low))
}

fn gcd(a: u128, b: u128) -> u128 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The units of price and volume: notional is a multiple of their product.
fn units(bars: &[MinuteBar]) -> (i64, i64) {
    let fold = |unit: u128, value: u128| if unit != 0 && value.is_multiple_of(unit) { unit } else { gcd(unit, value) };
    let (mut price, mut size) = (0u128, 0u128);
    for MinuteBar { bar, .. } in bars {
        if bar.priced > 0 {
            price = fold(fold(price, u128::from(bar.open.unsigned_abs())), u128::from(bar.close.unsigned_abs()));
        }
        if bar.high >= bar.low {
            price = fold(fold(price, u128::from(bar.high.unsigned_abs())), u128::from(bar.low.unsigned_abs()));
        }
        size = fold(size, bar.volume.unsigned_abs());
    }
    let product = price.max(1).saturating_mul(size.max(1));
    let common = bars.iter().fold(product, |unit, bar| fold(unit, bar.bar.notional.unsigned_abs()));
    let size = gcd(size.max(1), common);
    let price = gcd(price.max(1), common / size);
    let narrow = |unit: u128| i64::try_from(unit).ok();
    match (narrow(price), narrow(size)) {
        (Some(price), Some(size)) => (price, size),
        _ => (1, 1),
    }
}

const CLASS: i64 = 0b011;
const WEAK_CLOSE: i64 = 0b0100;
const RANGED: i64 = 0b1000;
const COLUMNS: usize = 12;

/// Encodes minute bars, sorted by `(minute, class)`, as a block. No bars give no bytes.
///
/// # Errors
/// `Invalid` for bars out of order and for more than 65,536 of them.
pub fn encode_minutes(bars: &[MinuteBar]) -> Result<Vec<u8>> {
    if bars.is_empty() {
        return Ok(Vec::new());
    }
    let key = |bar: &MinuteBar| (bar.minute, bar.class);
    if !bars.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])) || bars.iter().any(|bar| bar.minute % MINUTE != 0) {
        return Err(Error::invalid("minute bars", "out of order", "whole minutes sorted by minute and class"));
    }
    let (price_unit, size_unit) = units(bars);
    let product = i128::from(price_unit) * i128::from(size_unit);
    let mut columns: [Vec<i64>; COLUMNS] = std::array::from_fn(|_| Vec::with_capacity(bars.len()));
    // An unpriced bar repeats the last open, which costs nothing.
    let mut open = 0i64;
    for MinuteBar { minute, class, bar } in bars {
        let ranged = bar.high >= bar.low;
        if bar.priced > 0 {
            open = bar.open / price_unit;
        }
        let (high, low) = if ranged { (bar.high / price_unit, bar.low / price_unit) } else { (open, open) };
        let close = if bar.priced > 0 { bar.close / price_unit } else { open };
        let volume = bar.volume / i128::from(size_unit);
        // What is left of the notional beside close times volume is small.
        let notional = (bar.notional / product).wrapping_sub(i128::from(close).wrapping_mul(volume));
        let (volume_low, volume_high) = split(volume);
        let (notional_low, notional_high) = split(notional);
        let marks = *class as i64 | if bar.weak_close { WEAK_CLOSE } else { 0 } | if ranged { RANGED } else { 0 };
        let row = [
            minute / MINUTE,
            marks,
            open,
            high.wrapping_sub(open),
            open.wrapping_sub(low),
            close.wrapping_sub(open),
            volume_low,
            volume_high,
            notional_low,
            notional_high,
            bar.trades,
            bar.trades.wrapping_sub(bar.priced),
        ];
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let shape = |i: usize| if i == 0 || i == 2 { Shape::Walk } else { Shape::Draw };
    let columns: Vec<_> = columns.into_iter().enumerate().map(|(i, column)| (column, shape(i))).collect();
    encode_columns([MINUTE, price_unit, size_unit], &columns, |i| key_of(bars[i].minute, bars[i].class))
}

fn key_of(minute: Nanos, class: Class) -> Key {
    Key { ts: minute, seq: class as i64, sub: 0 }
}

/// Decodes [`encode_minutes`]'s bytes and appends the bars. On an error `out` is as before.
///
/// # Errors
/// `Corrupt` for anything else.
pub fn decode_minutes(bytes: &[u8], out: &mut Vec<MinuteBar>) -> Result<()> {
    MinuteReader::new().decode(bytes, out)
}

/// Reads blocks of minute bars; one for many blocks keeps its buffers.
#[derive(Default)]
pub struct MinuteReader {
    columns: [Vec<i64>; COLUMNS],
    scratch: Scratch,
}

impl MinuteReader {
    /// One with empty buffers.
    pub fn new() -> MinuteReader {
        MinuteReader::default()
    }

    /// As [`decode_minutes`].
    ///
    /// # Errors
    /// `Corrupt` for anything that [`encode_minutes`] does not make.
    pub fn decode(&mut self, bytes: &[u8], out: &mut Vec<MinuteBar>) -> Result<()> {
        let start = out.len();
        let done = self.each(bytes, |bar| out.push(*bar));
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    /// Calls `each` for the bars in order. After an error those before it have been seen.
    ///
    /// # Errors
    /// As [`decode_minutes`].
    pub fn each(&mut self, bytes: &[u8], mut each: impl FnMut(&MinuteBar)) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let header = Header::parse(bytes)?;
        if bytes.len() != header.len || header.ts_unit != MINUTE {
            return Err(Error::corrupt("minute bars", "another length or unit of time"));
        }
        decode_columns(bytes, &header, &mut self.columns, &mut self.scratch, |columns, i| {
            let bar = row(&header, columns, i).ok_or_else(|| Error::corrupt("minute bars", "impossible values"))?;
            each(&bar);
            Ok(key_of(bar.minute, bar.class))
        })
    }
}

/// A product, if it fits; two factors of 64 bits, the rule, do.
#[inline]
fn scale(value: i128, unit: i128) -> Option<i128> {
    match (i64::try_from(value), i64::try_from(unit)) {
        (Ok(value), Ok(unit)) => Some(i128::from(value) * i128::from(unit)),
        _ => value.checked_mul(unit),
    }
}

#[inline]
fn row(header: &Header, columns: &[&[i64]; COLUMNS], i: usize) -> Option<MinuteBar> {
    let value = |column: usize| columns[column][i];
    let marks = value(1);
    let open = value(2);
    let (high, low, close) = (open.wrapping_add(value(3)), open.wrapping_sub(value(4)), open.wrapping_add(value(5)));
    let volume = join(value(6), value(7));
    let notional = join(value(8), value(9)).wrapping_add(i128::from(close).wrapping_mul(volume));
    let trades = value(10);
    let priced = trades.wrapping_sub(value(11));
    let price = |value: i64| value.checked_mul(header.price_unit);
    let ranged = marks & RANGED != 0;
    if marks & !(CLASS | WEAK_CLOSE | RANGED) != 0 || trades < 0 || priced < 0 || (ranged && high < low) {
        return None;
    }
    let bar = Bar {
        open: if priced > 0 { price(open)? } else { 0 },
        high: if ranged { price(high)? } else { i64::MIN },
        low: if ranged { price(low)? } else { i64::MAX },
        close: if priced > 0 { price(close)? } else { 0 },
        volume: scale(volume, i128::from(header.size_unit))?,
        notional: scale(notional, i128::from(header.price_unit) * i128::from(header.size_unit))?,
        trades,
        priced,
        weak_close: marks & WEAK_CLOSE != 0,
    };
    Some(MinuteBar { minute: value(0).checked_mul(MINUTE)?, class: Class::from_u8((marks & CLASS) as u8)?, bar })
}
