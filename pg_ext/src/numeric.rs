//! Exact sums as SQL `numeric`, written and read in its own binary form: a trip through text costs ten times as much,
//! twice a bar.

use crate::fmgr::{Bytes, varlena};
use market::{Error, Result};
use pgrx::pg_sys::Datum;

// The header of a short numeric: flag, sign, display scale, sign of the weight, weight (in digits of base 10,000).
const SHORT: u16 = 0x8000;
const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_SCALE_SHIFT: u16 = 7;
const SHORT_WEIGHT_NEGATIVE: u16 = 0x40;
const SHORT_WEIGHT: u16 = 0x3f;
const KIND: u16 = 0xc000;
const SPECIAL: u16 = 0xc000;
const LONG_NEGATIVE: u16 = 0x4000;

const BASE: u128 = 10_000;

/// A `numeric` datum of `value * 10^-decimals`, shown without trailing zeros. `decimals` is at most 18.
pub fn numeric(value: i128, decimals: u32) -> Datum {
    let unit = 10u128.pow(decimals);
    let (mut whole, mut part) = (value.unsigned_abs() / unit, value.unsigned_abs() % unit);
    let mut scale = decimals;
    while scale > 0 && part % 10 == 0 {
        part /= 10;
        scale -= 1;
    }
    // Digits of base 10,000 from the right: the fraction padded to whole digits, then the whole part.
    part *= 10u128.pow((4 - scale % 4) % 4);
    let mut digits = [0u16; 16];
    let mut at = digits.len();
    for _ in 0..scale.div_ceil(4) {
        at -= 1;
        digits[at] = (part % BASE) as u16;
        part /= BASE;
    }
    let point = at;
    while whole > 0 {
        at -= 1;
        digits[at] = (whole % BASE) as u16;
        whole /= BASE;
    }
    let mut end = digits.len();
    while end > at && digits[end - 1] == 0 {
        end -= 1;
    }
    while at < end && digits[at] == 0 {
        at += 1;
    }
    let weight: i32 = if at == end { 0 } else { point as i32 - at as i32 - 1 };
    let header = SHORT
        | if value < 0 { SHORT_NEGATIVE } else { 0 }
        | (scale as u16) << SHORT_SCALE_SHIFT
        | if weight < 0 { SHORT_WEIGHT_NEGATIVE } else { 0 }
        | (weight as u16 & SHORT_WEIGHT);
    let mut bytes = [0u8; 2 + 2 * 16];
    bytes[..2].copy_from_slice(&header.to_ne_bytes());
    let mut len = 2;
    for digit in &digits[at..end] {
        bytes[len..len + 2].copy_from_slice(&digit.to_ne_bytes());
        len += 2;
    }
    varlena(&bytes[..len])
}

/// The value of a `numeric` datum in units of `10^-decimals`.
///
/// # Errors
/// `Invalid` for NaN, infinities and more decimals, `Overflow` beyond 128 bits.
///
/// # Safety
/// The datum is a `numeric`, not NULL.
pub unsafe fn value_of(what: &'static str, datum: Datum, decimals: u32) -> Result<i128> {
    let bytes = Bytes::whole(datum);
    let mut words = bytes.get().chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
    let header = words.next().unwrap_or(SPECIAL);
    let (negative, weight) = match header & KIND {
        SPECIAL => return Err(invalid(what, "NaN or infinity", "a finite number")),
        SHORT => {
            let magnitude = i32::from(header & SHORT_WEIGHT);
            let weight = if header & SHORT_WEIGHT_NEGATIVE != 0 { magnitude - 64 } else { magnitude };
            (header & SHORT_NEGATIVE != 0, weight)
        }
        kind => (kind == LONG_NEGATIVE, i32::from(words.next().unwrap_or(0) as i16)),
    };
    let too_large = || Error::Overflow { what, input: "of a bar".into() };
    let mut value: i128 = 0;
    for (index, digit) in words.enumerate() {
        let exponent = weight.saturating_sub(index as i32).saturating_mul(4).saturating_add(decimals as i32);
        let digit = i128::from(digit);
        let shifted = match u32::try_from(exponent) {
            Ok(up) => 10i128.checked_pow(up).and_then(|power| power.checked_mul(digit)).ok_or_else(too_large)?,
            Err(_) => {
                let power = 10i128.checked_pow(exponent.unsigned_abs()).unwrap_or(i128::MAX);
                if digit % power != 0 {
                    return Err(invalid(
                        what,
                        "with too many decimals",
                        "at most 9 decimals of volume, 18 of notional",
                    ));
                }
                digit / power
            }
        };
        value = value.checked_add(shifted).ok_or_else(too_large)?;
    }
    Ok(if negative { -value } else { value })
}

fn invalid(what: &'static str, input: &str, allowed: &str) -> Error {
    Error::Invalid { what, input: input.into(), allowed: allowed.into() }
}
