//! Times as people write them, and PostgreSQL reads them: seconds may be left out, and a zone may have a name.

use super::each;
use super::zone::{Zone, utc};
use crate::error::{Error, external};
use arrow::array::{ArrayRef, AsArray, TimestampNanosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// A date and a time, and the zone that was named.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// What the clock shows.
    pub clock: NaiveDateTime,
    /// Seconds east of UTC there, if it was said.
    pub east: Option<i32>,
}

impl Written {
    /// Nanoseconds since 1970, of UTC where no zone was named.
    pub fn nanos(&self) -> Option<i64> {
        let nanos = self.clock.and_utc().timestamp_nanos_opt()?;
        nanos.checked_sub(i64::from(self.east.unwrap_or(0)) * 1_000_000_000)
    }

    /// As a constant of a type. A timestamp without a zone is what the clock shows, whatever zone was named, as PostgreSQL has it.
    pub fn scalar(&self, kind: &DataType) -> Option<ScalarValue> {
        let DataType::Timestamp(unit, zone) = kind else { return None };
        let east = if zone.is_some() { i64::from(self.east.unwrap_or(0)) } else { 0 };
        let at = self.clock.and_utc();
        let seconds = at.timestamp() - east;
        let nanos = i64::from(at.nanosecond());
        let of = |per_second: i64| seconds.checked_mul(per_second)?.checked_add(nanos / (1_000_000_000 / per_second));
        let zone = zone.clone();
        Some(match unit {
            TimeUnit::Second => ScalarValue::TimestampSecond(Some(of(1)?), zone),
            TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(of(1_000)?), zone),
            TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(of(1_000_000)?), zone),
            TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(of(1_000_000_000)?), zone),
        })
    }
}

/// `2025-11-28`, `2025-11-28 14:30`, `2025-11-28T14:30:00.25Z`, `2025-11-28 09:30 America/New_York`; `None` for what is none.
pub fn read(text: &str) -> Option<Written> {
    let text = text.trim();
    let (date, rest) = text.split_at_checked(10)?;
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let rest = rest.strip_prefix(['T', 't']).unwrap_or(rest).trim_start();
    let digits = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '.'))).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(digits);
    let time = match time {
        "" => NaiveTime::MIN,
        time => ["%H:%M", "%H:%M:%S%.f"].iter().find_map(|format| NaiveTime::parse_from_str(time, format).ok())?,
    };
    let clock = date.and_time(time);
    let east = match zone.trim() {
        "" => None,
        "Z" | "z" => Some(0),
        zone if zone.starts_with(['+', '-']) => Some(offset(zone)?),
        // A name behind a blank: "14:30:00EST" is none of its own.
        name if zone.starts_with(' ') || digits == 0 => {
            let at = Zone::read(name)?.instant(clock)?;
            Some(i32::try_from(clock.and_utc().timestamp() - utc(at).timestamp()).ok()?)
        }
        _ => return None,
    };
    Some(Written { clock, east })
}

/// Texts as instants, of UTC where they name no zone.
///
/// # Errors
/// A text that is no time.
pub fn column(texts: &ArrayRef) -> Result<ArrayRef> {
    let texts = cast(texts, &DataType::Utf8)?;
    let read = |text: &str| {
        read(text).and_then(|written| written.nanos()).ok_or_else(|| {
            external(Error::question(
                format!("invalid input syntax for type timestamp: \"{text}\""),
                "times are like 2025-11-28 14:30, 2025-11-28T14:30:00Z or 2025-11-28 09:30 America/New_York",
            ))
        })
    };
    let instants = texts.as_string::<i32>().iter().map(|text| text.map(read).transpose());
    let instants: TimestampNanosecondArray = instants.collect::<Result<_>>()?;
    Ok(Arc::new(instants.with_timezone("UTC")))
}

/// A function of a text, for casts.
pub fn function() -> ScalarUDF {
    ScalarUDF::new_from_impl(Instants(Signature::any(1, Volatility::Immutable)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Instants(Signature);

impl ScalarUDFImpl for Instants {
    fn name(&self) -> &'static str {
        "instant_of_text"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        each(&args, column)
    }
}

/// `+05`, `-05:30`, `+0530`.
fn offset(text: &str) -> Option<i32> {
    let (sign, digits) = text.split_at(1);
    let digits = digits.replace(':', "");
    if !digits.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let east = hours * 3600 + minutes * 60;
    (hours < 16 && minutes < 60).then_some(if sign == "-" { -east } else { east })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: what PostgreSQL 15 makes of `timestamptz '...'` in the time zone UTC.
    #[test]
    fn times_are_read_as_postgresql_reads_them() {
        let check = |text: &str, expected: Option<&str>| {
            let found = read(text).and_then(|written| written.nanos()).map(chrono::DateTime::from_timestamp_nanos);
            assert_eq!(found.map(|at| at.to_rfc3339()).as_deref(), expected, "{text}");
        };
        check("2025-11-28", Some("2025-11-28T00:00:00+00:00"));
        check("2025-11-28 14:30", Some("2025-11-28T14:30:00+00:00"));
        check(" 2025-11-28T14:30:05.25Z ", Some("2025-11-28T14:30:05.250+00:00"));
        check("2025-11-28 14:30-05", Some("2025-11-28T19:30:00+00:00"));
        check("2025-11-28 14:30:00 +0530", Some("2025-11-28T09:00:00+00:00"));
        check("2025-11-28 14:30:00+05:30", Some("2025-11-28T09:00:00+00:00"));
        check("2025-11-28 09:30 America/New_York", Some("2025-11-28T14:30:00+00:00"));
        check("2025-07-01 09:30:00 America/New_York", Some("2025-07-01T13:30:00+00:00"));
        for text in [
            "",
            "now",
            "2025-11-31",
            "2025-11-28 25:00",
            "2025-11-28 14",
            "28.11.2025",
            "2025-11-28 14:30 Mars",
            "2025-11-28 14:30+99",
        ] {
            check(text, None);
        }
    }
}
