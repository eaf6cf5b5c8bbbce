//! `to_char` of times with PostgreSQL's patterns, and those of `to_date` and `to_timestamp` as DataFusion knows them.
//!
//! Expected of each pattern: PostgreSQL's documentation, table "Template Patterns for Date/Time Formatting".

use super::{each, micros};
use crate::error::{Error, Result as Told, external};
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::fmt::Write as _;
use std::sync::Arc;

/// `to_char(ts, pattern)`.
pub fn function() -> ScalarUDF {
    ScalarUDF::new_from_impl(ToChar(Signature::user_defined(Volatility::Immutable)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar(Signature);

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &'static str {
        "to_char"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [ts, _] = given else { return plan_err!("to_char takes a timestamp and a pattern") };
        let ts = match ts {
            DataType::Timestamp(_, zone) => micros(zone.is_some()),
            DataType::Date32 | DataType::Null => micros(true),
            other => {
                return Err(external(Error::question(
                    format!("to_char is of a timestamp or a date here, not of type {other}"),
                    "round(x, 2) gives digits of a number, and CAST(x AS text) its text",
                )));
            }
        };
        Ok(vec![ts, DataType::Utf8])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let patterns = args.args[1].to_array(args.number_rows.max(1))?;
        if let (ColumnarValue::Array(_), ColumnarValue::Scalar(ts)) = (&args.args[1], &args.args[0]) {
            return Ok(ColumnarValue::Array(written(&ts.to_array_of_size(args.number_rows)?, &patterns)?));
        }
        let ts = ScalarFunctionArgs { args: vec![args.args[0].clone()], ..args };
        each(&ts, |column| written(column, &patterns))
    }
}

fn written(column: &ArrayRef, patterns: &ArrayRef) -> Result<ArrayRef> {
    let zoned = matches!(column.data_type(), DataType::Timestamp(_, Some(_)));
    let values = cast(column, &micros(zoned))?;
    let patterns = cast(patterns, &DataType::Utf8)?;
    let patterns = patterns.as_string::<i32>();
    let mut last: Option<(&str, Vec<Piece>)> = None;
    let mut texts = Vec::with_capacity(values.len());
    for (row, value) in values.as_primitive::<TimestampMicrosecondType>().iter().enumerate() {
        let at = value.and_then(DateTime::from_timestamp_micros);
        let (Some(at), false) = (at, patterns.is_null(row)) else {
            texts.push(None);
            continue;
        };
        let pattern = patterns.value(row);
        if last.as_ref().is_none_or(|(known, _)| *known != pattern) {
            last = Some((pattern, pieces(pattern)));
        }
        let pieces = last.iter().flat_map(|(_, pieces)| pieces);
        let mut text = String::new();
        pieces.for_each(|piece| piece.write(at.naive_utc(), zoned, &mut text));
        texts.push(Some(text));
    }
    Ok(Arc::new(StringArray::from(texts)))
}

/// A part of a pattern.
enum Piece {
    /// As it stands.
    Plain(String),
    /// A pattern's name, as it is written, and whether FM stood before it: without blanks and zeros.
    Value(&'static str, String, bool),
}

/// Longer names first. In those of letters the case says how to write.
const NAMES: [&str; 30] = [
    "MONTH", "SSSSS", "YYYY", "IYYY", "HH24", "HH12", "SSSS", "A.M.", "P.M.", "DDD", "DAY", "MON", "YYY", "YY", "MM",
    "DD", "DY", "ID", "IW", "WW", "HH", "MI", "SS", "MS", "US", "AM", "PM", "TZ", "OF", "Q",
];

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    let mut bare = false;
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            pieces.push(Piece::Plain(quoted[..end].to_owned()));
            rest = quoted.get(end + 1..).unwrap_or_default();
            continue;
        }
        // in capitals, in small letters, or names of days and months as they are written
        let spelled = |name: &str, head: &str| {
            let small = name.to_ascii_lowercase();
            let proper = || matches!(name, "MONTH" | "MON" | "DAY" | "DY") && head[1..] == small[1..];
            head == name || head == small || (head[..1] == name[..1] && proper())
        };
        let begins = |name: &str| rest.get(..name.len()).is_some_and(|head| head.is_ascii() && spelled(name, head));
        if begins("FM") {
            (bare, rest) = (true, &rest[2..]);
            continue;
        }
        match NAMES.into_iter().chain(["W", "J", "D", "Y"]).find(|name| begins(name)) {
            Some(name) => {
                let (written, after) = rest.split_at(name.len());
                pieces.push(Piece::Value(name, written.to_owned(), std::mem::take(&mut bare)));
                rest = after;
            }
            None => {
                pieces.push(Piece::Plain(c.to_string()));
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    pieces
}

impl Piece {
    fn write(&self, at: NaiveDateTime, zoned: bool, out: &mut String) {
        let (name, written, bare) = match self {
            Piece::Plain(text) => return out.push_str(text),
            Piece::Value(name, written, bare) => (*name, written.as_str(), *bare),
        };
        let hour12 = match at.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        let week = at.iso_week();
        let number = match name {
            "YYYY" => (at.year().into(), 4),
            "YYY" => (i64::from(at.year() % 1000), 3),
            "YY" => (i64::from(at.year() % 100), 2),
            "Y" => (i64::from(at.year() % 10), 1),
            "IYYY" => (week.year().into(), 4),
            "MM" => (at.month().into(), 2),
            "DDD" => (at.ordinal().into(), 3),
            "DD" => (at.day().into(), 2),
            "D" => (i64::from(at.weekday().number_from_sunday()), 1),
            "ID" => (i64::from(at.weekday().number_from_monday()), 1),
            "IW" => (week.week().into(), 2),
            "WW" => (i64::from((at.ordinal() - 1) / 7 + 1), 2),
            "W" => (i64::from((at.day() - 1) / 7 + 1), 1),
            "J" => (i64::from(at.date().num_days_from_ce()) + 1_721_425, 7),
            "Q" => (i64::from((at.month() - 1) / 3 + 1), 1),
            "HH24" => (at.hour().into(), 2),
            "HH12" | "HH" => (hour12.into(), 2),
            "MI" => (at.minute().into(), 2),
            "SS" => (at.second().into(), 2),
            "SSSS" | "SSSSS" => (at.num_seconds_from_midnight().into(), 1),
            "MS" => (i64::from(at.nanosecond() / 1_000_000), 3),
            "US" => (i64::from(at.nanosecond() / 1000), 6),
            _ => return out.push_str(&word(name, written, bare, at, zoned)),
        };
        let (value, digits) = number;
        // A String takes everything.
        let _ = if bare { write!(out, "{value}") } else { write!(out, "{value:0digits$}") };
    }
}

fn word(name: &str, written: &str, bare: bool, at: NaiveDateTime, zoned: bool) -> String {
    let noon = at.hour() >= 12;
    let text = match name {
        "MONTH" => at.format("%B").to_string(),
        "MON" => at.format("%b").to_string(),
        "DAY" => at.format("%A").to_string(),
        "DY" => at.format("%a").to_string(),
        "AM" | "PM" => if noon { "PM" } else { "AM" }.to_owned(),
        "A.M." | "P.M." => if noon { "P.M." } else { "A.M." }.to_owned(),
        "TZ" => if zoned { "UTC" } else { "" }.to_owned(),
        _ => "+00".to_owned(),
    };
    let text = match written {
        written if written == name => text.to_uppercase(),
        written if written.starts_with(|c: char| c.is_lowercase()) => text.to_lowercase(),
        _ => text,
    };
    // These two are as wide as the longest of them.
    if matches!(name, "MONTH" | "DAY") && !bare { format!("{text:<9}") } else { text }
}

/// A pattern of PostgreSQL's as one that chrono, and so DataFusion, reads.
///
/// # Errors
/// Patterns that chrono has no equal of.
pub fn chrono(pattern: &str) -> Told<String> {
    let mut out = String::new();
    for piece in pieces(pattern) {
        match piece {
            Piece::Plain(text) => out.push_str(&text.replace('%', "%%")),
            Piece::Value(name, written, _) => out.push_str(match name {
                "YYYY" => "%Y",
                "YY" => "%y",
                "MM" => "%m",
                "MONTH" => "%B",
                "MON" => "%b",
                "DAY" => "%A",
                "DY" => "%a",
                "DDD" => "%j",
                "DD" => "%d",
                "HH24" => "%H",
                "HH12" | "HH" => "%I",
                "MI" => "%M",
                "SS" => "%S",
                "MS" => "%3f",
                "US" => "%6f",
                "AM" | "PM" => "%p",
                "OF" => "%#z",
                _ => {
                    return Err(Error::question(
                        format!("the pattern {written} is not understood where texts are read"),
                        "use YYYY, YY, MM, Mon, DD, HH24, HH12, MI, SS, MS, US, AM and OF",
                    ));
                }
            }),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;

    /// Expected values: PostgreSQL 15.
    #[test]
    fn patterns_are_those_of_postgresql() {
        let at = NaiveDate::from_ymd_opt(2025, 11, 3).and_then(|day| day.and_hms_micro_opt(15, 4, 5, 60_700));
        let at = at.expect("a time");
        let check = |pattern: &str, expected: &str| {
            let mut text = String::new();
            pieces(pattern).iter().for_each(|piece| piece.write(at, true, &mut text));
            assert_eq!(text, expected, "{pattern}");
        };
        check("YYYY-MM-DD HH24:MI:SS.US", "2025-11-03 15:04:05.060700");
        check("Dy DD Mon YYYY HH12:MI AM", "Mon 03 Nov 2025 03:04 PM");
        check("FMDay, FMDD FMMonth", "Monday, 3 November");
        check("Day|Month|DAY|month|mon|dy", "Monday   |November |MONDAY   |november |nov|mon");
        check("YY Q IW IYYY D ID DDD WW W J", "25 4 45 2025 2 1 307 44 1 2460983");
        check("HH:MI:SS.MS am \"at\" TZ OF SSSS", "03:04:05.060 pm at UTC +00 54245");
        check("hh24:mi P.M. a.m. Am", "15:04 P.M. p.m. Am");
    }

    #[test]
    fn patterns_to_read_with_are_those_of_chrono() {
        assert_eq!(chrono("DD/MM/YYYY HH24:MI"), Ok("%d/%m/%Y %H:%M".into()));
        assert!(chrono("YYYY-IW").is_err());
    }
}
