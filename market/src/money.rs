//! Money and sizes: fixed point inside, floats at the edge. This is the one file that converts them.
//!
//! A price or size is an `i64` count of 1e-9 ("nanos"), so the range is about ±9.22e9. Sums are `i128`: volume in 1e-9,
//! notional (price times size) in 1e-18.

use crate::error::{Error, Result};

/// One unit of price or size.
pub const ONE: i64 = 1_000_000_000;

/// Decimals of the fixed point.
const DECIMALS: i32 = 9;

const ALLOWED: &str = "a decimal number such as 167.4225, with at most 9 decimals";

/// The fixed-point value of a float, read as people write it: by the shortest decimal that means this float.
///
/// `0.1 + 0.2` is rounded to 0.3; decimals beyond the ninth round to nearest, ties away from zero.
///
/// # Errors
/// `Invalid` for NaN and infinities, `Overflow` beyond ±9.22e9.
///
/// ```
/// assert_eq!(market::money::from_f64("price", 167.4225)?, 167_422_500_000);
/// # Ok::<(), market::Error>(())
/// ```
#[inline]
pub fn from_f64(what: &'static str, x: f64) -> Result<i64> {
    match quick(x) {
        (nanos, true) => Ok(nanos),
        _ => from_f64_by_decimal(what, x),
    }
}

/// The value of a float and whether it is certain: it is for what has nine decimals at most and is below 2.2 million.
/// No branch and no call, so that a column of floats is converted several at a time.
#[inline]
fn quick(x: f64) -> (i64, bool) {
    /// Added to anything below 2^51, it leaves the nearest whole number in the low bits of the sum.
    const SHIFT: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    let scaled = x * 1e9;
    let shifted = scaled + SHIFT;
    let nearest = shifted - SHIFT;
    // Two roundings of half an ulp each: below 2^51 the product is within a half of the true value. What is farther from
    // a whole number than rounding can explain has more than nine decimals. A tie is never certain.
    let certain = (scaled.abs() < 2_251_799_813_685_248.0) & ((scaled - nearest).abs() <= scaled.abs() * f64::EPSILON);
    ((shifted.to_bits() as i64).wrapping_sub(SHIFT.to_bits() as i64), certain)
}

/// A column's values into `into`, which is emptied before.
fn column_from_f64(column: &[f64], into: &mut Vec<i64>, lowest: f64, slow: fn(f64) -> Result<i64>) -> Result<()> {
    into.resize(column.len(), 0);
    let mut certain = true;
    for (nanos, &x) in into.iter_mut().zip(column) {
        let (nearest, sure) = quick(x);
        certain &= sure & (x >= lowest);
        *nanos = nearest;
    }
    if !certain {
        for (nanos, &x) in into.iter_mut().zip(column) {
            *nanos = slow(x)?;
        }
    }
    Ok(())
}

#[cold]
fn from_f64_by_decimal(what: &'static str, x: f64) -> Result<i64> {
    if !x.is_finite() {
        return Err(Error::invalid(what, x.to_string(), "a finite number"));
    }
    // `{:e}` prints the shortest digits that read back as this float.
    match parse(&format!("{x:e}")) {
        Parsed::Value { nanos, .. } => Ok(nanos),
        _ => Err(Error::Overflow { what, input: x.to_string() }),
    }
}

/// A price from a float; see [`from_f64`]. Negative prices are legal.
#[inline]
pub fn price_from_f64(x: f64) -> Result<i64> {
    from_f64("price", x)
}

/// A size from a float; see [`from_f64`].
///
/// # Errors
/// Also `Invalid` for a negative size; zero is legal.
#[inline]
pub fn size_from_f64(x: f64) -> Result<i64> {
    if x < 0.0 {
        return Err(Error::invalid("size", x.to_string(), "a size of zero or more"));
    }
    from_f64("size", x)
}

/// A column of prices into `into`, whose values before are dropped; each as [`price_from_f64`], several at a time.
///
/// # Errors
/// As [`price_from_f64`], for the first that is none.
pub fn prices_from_f64(prices: &[f64], into: &mut Vec<i64>) -> Result<()> {
    column_from_f64(prices, into, f64::NEG_INFINITY, price_from_f64)
}

/// A column of sizes into `into`, whose values before are dropped; each as [`size_from_f64`], several at a time.
///
/// # Errors
/// As [`size_from_f64`], for the first that is none.
pub fn sizes_from_f64(sizes: &[f64], into: &mut Vec<i64>) -> Result<()> {
    column_from_f64(sizes, into, 0.0, size_from_f64)
}

/// Reads a decimal text exactly: `167.4225`, `-37.63`, `1e-8`.
///
/// # Errors
/// `Invalid` for anything else and for more than nine decimals, `Overflow` beyond ±9.22e9.
pub fn parse_decimal(text: &str) -> Result<i64> {
    match parse(text.trim()) {
        Parsed::Value { nanos, exact: true } => Ok(nanos),
        Parsed::Value { exact: false, .. } | Parsed::NotANumber => Err(Error::invalid("number", text, ALLOWED)),
        Parsed::TooLarge => Err(Error::Overflow { what: "number", input: text.to_string() }),
    }
}

enum Parsed {
    Value { nanos: i64, exact: bool },
    TooLarge,
    NotANumber,
}

fn parse(text: &str) -> Parsed {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    // The value is `mantissa * 10^exponent`; digits beyond the mantissa's room only move the exponent.
    let (mut mantissa, mut exponent, mut seen, mut point, mut lost) = (0u128, 0i32, false, false, false);
    let mut at = 0;
    while let Some(&byte) = digits.get(at) {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                let digit = u128::from(byte - b'0');
                if mantissa < 1_000_000_000_000_000_000_000_000_000_000 {
                    mantissa = mantissa * 10 + digit;
                    exponent = exponent.saturating_sub(i32::from(point));
                } else {
                    lost |= digit != 0;
                    exponent = exponent.saturating_add(i32::from(!point));
                }
            }
            b'.' if !point => point = true,
            b'e' | b'E' if seen => {
                let Some(shift) = std::str::from_utf8(&digits[at + 1..]).ok().and_then(|text| text.parse::<i32>().ok())
                else {
                    return Parsed::NotANumber;
                };
                exponent = exponent.saturating_add(shift);
                at = digits.len();
                continue;
            }
            _ => return Parsed::NotANumber,
        }
        at += 1;
    }
    if !seen {
        return Parsed::NotANumber;
    }
    let shift = exponent.saturating_add(DECIMALS);
    let (value, exact) = if mantissa == 0 {
        (Some(0), !lost)
    } else if shift >= 0 {
        let power = if shift <= 37 { 10u128.checked_pow(shift.unsigned_abs()) } else { None };
        (power.and_then(|power| mantissa.checked_mul(power)), !lost)
    } else if shift < -37 {
        (Some(0), false)
    } else {
        // At least 10, so twice the remainder decides the rounding; `shift` is in -37..0.
        let power = 10u128.pow(shift.unsigned_abs());
        let (whole, rest) = (mantissa / power, mantissa % power);
        (Some(whole + u128::from(rest >= power - rest)), rest == 0 && !lost)
    };
    let signed = value.and_then(|value| i128::try_from(value).ok()).map(|value| if negative { -value } else { value });
    match signed.and_then(|value| i64::try_from(value).ok()) {
        // The lowest value is kept for "absent".
        Some(nanos) if nanos != i64::MIN => Parsed::Value { nanos, exact },
        _ => Parsed::TooLarge,
    }
}

/// The float nearest to a fixed-point value.
#[inline]
pub fn to_f64(raw: i64) -> f64 {
    if raw.unsigned_abs() < 1 << 53 {
        // Both operands are exact, so the one rounding of the division is the right one.
        raw as f64 / 1e9
    } else {
        wide_to_f64(i128::from(raw), 9)
    }
}

/// The float nearest to a volume in 1e-9.
#[inline]
pub fn volume_to_f64(raw: i128) -> f64 {
    match i64::try_from(raw) {
        Ok(raw) if raw.unsigned_abs() < 1 << 53 => raw as f64 / 1e9,
        _ => wide_to_f64(raw, 9),
    }
}

/// The float nearest to a notional in 1e-18.
#[inline]
pub fn notional_to_f64(raw: i128) -> f64 {
    if raw.unsigned_abs() < 1 << 53 { raw as f64 / 1e18 } else { wide_to_f64(raw, 18) }
}

/// Splits off the whole part where that keeps everything exact, else goes through the decimal text.
fn wide_to_f64(raw: i128, decimals: u32) -> f64 {
    let unit = 10i128.pow(decimals);
    if raw % unit == 0 {
        return (raw / unit) as f64;
    }
    let (whole, part) = (raw.unsigned_abs() / unit.unsigned_abs(), raw.unsigned_abs() % unit.unsigned_abs());
    let width = decimals as usize;
    let value = format!("{whole}.{part:0width$}").parse::<f64>().unwrap_or(f64::NAN);
    if raw < 0 { -value } else { value }
}

/// A decimal number as PostgreSQL prints it in units of 10^-`digits`; `None` if it has more digits or does not fit.
///
/// ```
/// assert_eq!(market::money::parse_scaled("-12.50", 3), Some(-12_500));
/// assert_eq!(market::money::parse_scaled("0.0001", 3), None);
/// ```
pub fn parse_scaled(text: &str, digits: usize) -> Option<i128> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > digits {
        return None;
    }
    let whole: i128 = whole.parse().ok()?;
    let part: i128 = if fraction.is_empty() { 0 } else { format!("{fraction:0<digits$}").parse().ok()? };
    let value = whole.checked_mul(10i128.checked_pow(u32::try_from(digits).ok()?)?)?.checked_add(part)?;
    Some(if negative { -value } else { value })
}

/// Volume-weighted average price; `None` without volume. Within 1e-12 relative of the exact quotient.
pub fn vwap(notional: i128, volume: i128) -> Option<f64> {
    // The conversion of 128 bits is a call.
    let float = |value: i128| i64::try_from(value).map_or_else(|_| value as f64, |value| value as f64);
    (volume > 0).then(|| (float(notional) / float(volume)) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn floats_mean_their_shortest_decimal() {
        for (x, nanos) in [
            (0.1 + 0.2, 300_000_000),
            (167.4225, 167_422_500_000),
            (-37.63, -37_630_000_000),
            (0.0, 0),
            (1e-9, 1),
            (1.4e-9, 1),
            (1.5e-9, 2),
            (2.5e-9, 3),
            (-2.5e-9, -3),
            (4.9e-10, 0),
            (1e-300, 0),
            (65_432.123_456_78, 65_432_123_456_780),
            (9_007_199.254_740_993, 9_007_199_254_740_993),
            (9_223_372_036.0, 9_223_372_036_000_000_000),
        ] {
            assert_eq!(from_f64("price", x), Ok(nanos), "{x}");
        }
    }

    #[test]
    fn numbers_that_are_no_price_are_refused() {
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(price_from_f64(x).map_err(|e| e.kind()), Err(ErrorKind::InvalidInput));
        }
        for x in [9.3e9, -9.3e9, 1e300] {
            assert_eq!(price_from_f64(x).map_err(|e| e.kind()), Err(ErrorKind::Overflow));
        }
        assert_eq!(size_from_f64(-1e-300).map_err(|e| e.kind()), Err(ErrorKind::InvalidInput));
        assert_eq!(size_from_f64(-0.0), Ok(0));
    }

    #[test]
    fn a_column_is_its_values() {
        let mut column: Vec<f64> = (0..100).map(|i| f64::from(i) * 0.25 - 10.0).collect();
        let mut nanos = vec![7];
        prices_from_f64(&column, &mut nanos).unwrap();
        assert_eq!(nanos, column.iter().map(|x| from_f64("price", *x).unwrap()).collect::<Vec<_>>());
        let negative = sizes_from_f64(&column, &mut nanos).unwrap_err();
        assert_eq!(Err(negative), size_from_f64(-10.0));
        // One value that only its decimal text can decide.
        column.push(9_007_199.254_740_993);
        prices_from_f64(&column, &mut nanos).unwrap();
        assert_eq!((nanos[1], nanos[100]), (-9_750_000_000, 9_007_199_254_740_993));
        for bad in [f64::NAN, f64::INFINITY, 1e300] {
            column[50] = bad;
            assert_eq!(
                prices_from_f64(&column, &mut nanos).map_err(|e| e.kind()),
                price_from_f64(bad).map(|_| ()).map_err(|e| e.kind())
            );
        }
    }

    #[test]
    fn decimals_are_read_exactly_or_refused() {
        for (text, nanos) in [
            ("167.4225", 167_422_500_000),
            (" -37.63 ", -37_630_000_000),
            ("+1", ONE),
            (".5", 500_000_000),
            ("5.", 5 * ONE),
            ("1e-8", 10),
            ("1.25E2", 125 * ONE),
            ("0.000000001000", 1),
            ("9223372036.854775807", i64::MAX),
            ("0e999999999", 0),
            ("00000000000000000000000000000000000000001.5", 1_500_000_000),
        ] {
            assert_eq!(parse_decimal(text), Ok(nanos), "{text}");
        }
        for text in ["", ".", "-", "1.2.3", "1e", "e5", "1,5", "0.0000000001", "nan", "0x10", "1e-99999999999", "１"] {
            assert_eq!(parse_decimal(text).map_err(|e| e.kind()), Err(ErrorKind::InvalidInput), "{text}");
        }
        for text in
            ["9223372036.854775808", "-9223372036.854775808", "1e99", "99999999999999999999999999999999999999999"]
        {
            assert_eq!(parse_decimal(text).map_err(|e| e.kind()), Err(ErrorKind::Overflow), "{text}");
        }
    }

    #[test]
    fn vwap_needs_volume() {
        assert_eq!(vwap(0, 0), None);
        assert_eq!(vwap(i128::from(ONE) * 300 * i128::from(ONE), 2 * i128::from(ONE)), Some(150.0));
    }
}
