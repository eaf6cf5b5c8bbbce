//! PostgreSQL's epoch (microseconds and days since 2000-01-01) and the domain's (nanoseconds and days since 1970-01-01).

use crate::error::raise_with;
use market::{Nanos, TradeDate};
use pgrx::prelude::*;

const EPOCH_GAP_DAYS: i32 = 10_957;
const EPOCH_GAP_MICROS: i64 = EPOCH_GAP_DAYS as i64 * 86_400_000_000;

/// Nanoseconds of a `timestamptz` datum, or `None` for infinities and instants that nanoseconds in 64 bits cannot hold
/// (before 1677 or after 2262).
#[inline]
pub fn nanos_of_micros(pg_micros: i64) -> Option<Nanos> {
    pg_micros.checked_add(EPOCH_GAP_MICROS)?.checked_mul(1000)
}

/// Nanoseconds of a `timestamptz` datum; raises 22008 for infinities and instants beyond 1677 to 2262.
#[inline]
pub fn nanos(pg_micros: i64) -> Nanos {
    match nanos_of_micros(pg_micros) {
        Some(ts) => ts,
        None => raise_with(
            PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
            "timestamp is out of range",
            "use an instant between 1678 and 2261",
        ),
    }
}

/// As `nanos`, with infinities and far instants clamped: for the ends of ranges.
#[inline]
pub fn nanos_clamped(pg_micros: i64) -> Nanos {
    nanos_of_micros(pg_micros).unwrap_or(if pg_micros < 0 { Nanos::MIN } else { Nanos::MAX })
}

/// The last nanosecond of a `timestamptz` datum: what is known at it was known within its microsecond.
#[inline]
pub fn end_of_micro(pg_micros: i64) -> Nanos {
    nanos_clamped(pg_micros).saturating_add(999)
}

/// The `timestamptz` datum at or before the instant, and the nanoseconds beyond it (0 to 999).
#[inline]
pub fn micros_and_ns(ts: Nanos) -> (i64, i16) {
    (ts.div_euclid(1000) - EPOCH_GAP_MICROS, ts.rem_euclid(1000) as i16)
}

/// The `timestamptz` datum at or before the instant.
#[inline]
pub fn micros(ts: Nanos) -> i64 {
    micros_and_ns(ts).0
}

/// As `micros`, for the ends of ranges: the ends of time become infinities.
#[inline]
pub fn micros_floor(ts: Nanos) -> i64 {
    match ts {
        Nanos::MIN => i64::MIN,
        Nanos::MAX => i64::MAX,
        _ => micros(ts),
    }
}

/// A `date` datum as a trade date; infinities become the ends of the range.
#[inline]
pub fn trade_date(pg_days: i32) -> TradeDate {
    TradeDate(pg_days.saturating_add(EPOCH_GAP_DAYS))
}

/// A trade date as a `date` datum.
#[inline]
pub fn pg_days(date: TradeDate) -> i32 {
    date.0 - EPOCH_GAP_DAYS
}
