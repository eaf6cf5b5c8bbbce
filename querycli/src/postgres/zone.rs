//! `AT TIME ZONE`: from an instant to what a clock shows there, and back.
//!
//! DataFusion's own only says how others should show the instant, so that hours, days and texts of it stay those of UTC.

use super::{each, micros};
use crate::error::{Error, external};
use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use chrono::{DateTime, Duration, NaiveDateTime, Offset, TimeZone, Utc};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// A time zone of the IANA database.
pub struct Zone(Tz);

/// An instant of UTC.
pub fn utc(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at).unwrap_or_default()
}

impl Zone {
    /// By name. What begins with a sign is none: PostgreSQL counts it to the west.
    pub fn read(name: &str) -> Option<Zone> {
        let name = name.trim();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        name.parse().ok().map(Zone)
    }

    /// What a clock there shows.
    fn clock(&self, at: i64) -> Option<i64> {
        let at = DateTime::from_timestamp_micros(at)?;
        Some(at.with_timezone(&self.0).naive_local().and_utc().timestamp_micros())
    }

    /// When a clock there shows this, in microseconds since 1970. Of an hour that comes twice it is the second, and one that is
    /// left out is counted on from before: as PostgreSQL has it.
    pub fn instant(&self, clock: NaiveDateTime) -> Option<i64> {
        let at = match self.0.from_local_datetime(&clock) {
            chrono::LocalResult::Single(at) | chrono::LocalResult::Ambiguous(_, at) => {
                return Some(at.timestamp_micros());
            }
            chrono::LocalResult::None => clock,
        };
        let before = self.0.offset_from_utc_datetime(&(at - Duration::days(1))).fix();
        Some(at.and_utc().timestamp_micros() - i64::from(before.local_minus_utc()) * 1_000_000)
    }
}

/// `timezone(zone, ts)`, which `ts AT TIME ZONE zone` is written as.
pub fn function() -> ScalarUDF {
    ScalarUDF::new_from_impl(TimeZoneOf(Signature::user_defined(Volatility::Immutable)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeZoneOf(Signature);

impl ScalarUDFImpl for TimeZoneOf {
    fn name(&self) -> &'static str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [_, ts] = given else { return plan_err!("timezone takes a zone and a timestamp") };
        let ts = match ts {
            DataType::Timestamp(_, zone) => micros(zone.is_some()),
            DataType::Date32 | DataType::Null | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
                micros(true)
            }
            other => return plan_err!("AT TIME ZONE is of a timestamp, not of type {other}"),
        };
        Ok(vec![DataType::Utf8, ts])
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(micros(!matches!(given.get(1), Some(DataType::Timestamp(_, Some(_))))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let names = match &args.args[0] {
            // mostly one for all rows
            ColumnarValue::Scalar(name) => name.to_array()?,
            ColumnarValue::Array(names) => {
                let column = args.args[1].to_array(rows)?;
                return Ok(ColumnarValue::Array(moved(names, &column)?));
            }
        };
        each(&args, |column| moved(&names, column))
    }
}

/// `names` has a name for each row, or one for all.
fn moved(names: &ArrayRef, column: &ArrayRef) -> Result<ArrayRef> {
    let names = cast(names, &DataType::Utf8)?;
    let names = names.as_string::<i32>();
    let zoned = matches!(column.data_type(), DataType::Timestamp(_, Some(_)));
    let values = cast(column, &micros(zoned))?;
    let mut known: Option<(&str, Zone)> = None;
    let mut moved = Vec::with_capacity(values.len());
    for (row, value) in values.as_primitive::<TimestampMicrosecondType>().iter().enumerate() {
        let at = if names.len() == 1 { 0 } else { row };
        let name = (!names.is_null(at)).then(|| names.value(at));
        let (Some(name), Some(value)) = (name, value) else {
            moved.push(None);
            continue;
        };
        if known.as_ref().is_none_or(|(last, _)| *last != name) {
            let zone = Zone::read(name).ok_or_else(|| {
                external(Error::question(
                    format!("time zone \"{name}\" not recognized"),
                    "use a name such as America/New_York, Asia/Hong_Kong or UTC",
                ))
            })?;
            known = Some((name, zone));
        }
        let Some((_, zone)) = &known else { continue };
        moved.push(match zoned {
            true => zone.clock(value),
            false => zone.instant(utc(value).naive_utc()),
        });
    }
    let moved = TimestampMicrosecondArray::from(moved);
    Ok(Arc::new(if zoned { moved } else { moved.with_timezone("UTC") }))
}
