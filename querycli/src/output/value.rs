//! A value as text, in one spelling: that of PostgreSQL with time zone UTC; and as JSON.

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use chrono::DateTime;
use std::fmt::Write;

/// `f` of `f(...)`, if all of the name is one call.
pub fn heading(name: &str) -> &str {
    let field = || name.strip_suffix(']').and_then(|name| name.rsplit_once('[')).map(|(_, field)| field);
    let unnamed = || match CONSTANTS.iter().any(|constant| name.contains(&format!("{constant}("))) {
        true => "?column?",
        false => name,
    };
    let Some((function, rest)) = name.split_once('(') else { return field().unwrap_or(name) };
    if CONSTANTS.contains(&function) {
        return "?column?";
    }
    let mut depth = 1usize;
    for (at, c) in rest.char_indices() {
        depth = match c {
            '(' => depth + 1,
            ')' => depth - 1,
            _ => depth,
        };
        if depth == 0 {
            let word = function.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            // vwap of a bar has a name of its own here, and only here
            let function = if function == "bar_vwap" { "vwap" } else { function };
            let more = &rest[at + 1..];
            // what an aggregate or a window is over
            let over = OVER.iter().any(|begin| more.starts_with(begin));
            return match word && (more.is_empty() || over) {
                true => function,
                false => field().unwrap_or_else(unnamed),
            };
        }
    }
    unnamed()
}

const OVER: [&str; 7] = [
    " FILTER (",
    " GROUPS BETWEEN",
    " ORDER BY [",
    " PARTITION BY [",
    " RANGE BETWEEN",
    " ROWS BETWEEN",
    " WITHIN GROUP [",
];

/// How DataFusion calls constants, and what begins with one.
const CONSTANTS: [&str; 12] = [
    "Boolean",
    "Date32",
    "Decimal128",
    "Float32",
    "Float64",
    "Int32",
    "Int64",
    "IntervalMonthDayNano",
    "TimestampMicrosecond",
    "TimestampNanosecond",
    "UInt64",
    "Utf8",
];

/// A text as JSON.
pub fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value as JSON: numbers and booleans as such, instants as `2025-11-28T14:30:00Z`.
pub fn json(column: &ArrayRef, row: usize) -> String {
    let Some(value) = text(column, row) else { return "null".into() };
    match column.data_type() {
        DataType::Boolean => {
            if value == "t" {
                "true".into()
            } else {
                "false".into()
            }
        }
        DataType::Timestamp(_, _) => json_text(&value.replacen(' ', "T", 1).replace("+00", "Z")),
        DataType::Struct(_) => {
            let parts = column.as_struct();
            let cells: Vec<String> = parts
                .column_names()
                .into_iter()
                .zip(parts.columns())
                .map(|(name, part)| format!("{}:{}", json_text(name), json(part, row)))
                .collect();
            format!("{{{}}}", cells.join(","))
        }
        // Not a number is no number in JSON.
        kind if kind.is_numeric() && !matches!(value.as_str(), "NaN" | "Infinity" | "-Infinity") => value,
        _ => json_text(&value),
    }
}

/// A value as PostgreSQL writes it; `None` for NULL.
pub fn text(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) || *column.data_type() == DataType::Null {
        return None;
    }
    let c = column.as_ref();
    Some(match c.data_type() {
        DataType::Boolean => {
            if c.as_boolean().value(row) {
                "t".into()
            } else {
                "f".into()
            }
        }
        DataType::Int8 => c.as_primitive::<Int8Type>().value(row).to_string(),
        DataType::Int16 => c.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => c.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => c.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::UInt8 => c.as_primitive::<UInt8Type>().value(row).to_string(),
        DataType::UInt16 => c.as_primitive::<UInt16Type>().value(row).to_string(),
        DataType::UInt32 => c.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt64 => c.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Float32 => float(&format!("{:e}", c.as_primitive::<Float32Type>().value(row)), 6),
        DataType::Float64 => float(&format!("{:e}", c.as_primitive::<Float64Type>().value(row)), 15),
        DataType::Decimal128(_, scale) => decimal(c.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Utf8 => c.as_string::<i32>().value(row).to_owned(),
        DataType::LargeUtf8 => c.as_string::<i64>().value(row).to_owned(),
        DataType::Utf8View => c.as_string_view().value(row).to_owned(),
        DataType::Date32 => date(c.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(unit, zone) => {
            let (value, per_second) = match unit {
                TimeUnit::Second => (c.as_primitive::<TimestampSecondType>().value(row), 1),
                TimeUnit::Millisecond => (c.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
                TimeUnit::Microsecond => (c.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000),
                TimeUnit::Nanosecond => (c.as_primitive::<TimestampNanosecondType>().value(row), 1_000_000_000),
            };
            let text = instant(value, per_second);
            // A zone only says how others would show it: here everything is UTC.
            if zone.is_some() { format!("{text}+00") } else { text }
        }
        DataType::Struct(_) => composite(c.as_struct(), row),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = c.as_primitive::<IntervalMonthDayNanoType>().value(row);
            interval(value.months, value.days, value.nanoseconds)
        }
        DataType::Duration(unit) => {
            let (value, nanos) = match unit {
                TimeUnit::Second => (c.as_primitive::<DurationSecondType>().value(row), 1_000_000_000),
                TimeUnit::Millisecond => (c.as_primitive::<DurationMillisecondType>().value(row), 1_000_000),
                TimeUnit::Microsecond => (c.as_primitive::<DurationMicrosecondType>().value(row), 1_000),
                TimeUnit::Nanosecond => (c.as_primitive::<DurationNanosecondType>().value(row), 1),
            };
            let day = 86_400_000_000_000 / nanos;
            // as PostgreSQL subtracts timestamps
            interval(0, i32::try_from(value / day).unwrap_or_default(), value % day * nanos)
        }
        _ => array_value_to_string(c, row).unwrap_or_default(),
    })
}

/// `(1,2,"a b")`, as PostgreSQL writes a row.
fn composite(parts: &StructArray, row: usize) -> String {
    let cells: Vec<String> = parts
        .columns()
        .iter()
        .map(|part| {
            let value = text(part, row).unwrap_or_default();
            if value.contains([' ', ',', '(', ')', '"', '\\']) { format!("\"{value}\"") } else { value }
        })
        .collect();
    format!("({})", cells.join(","))
}

/// `1 year 2 mons -3 days 04:05:06.5`, as PostgreSQL writes an interval.
fn interval(months: i32, days: i32, nanos: i64) -> String {
    let unit =
        |count: i32, name: &str| (count != 0).then(|| format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
    let mut parts: Vec<String> =
        [unit(months / 12, "year"), unit(months % 12, "mon"), unit(days, "day")].into_iter().flatten().collect();
    if nanos != 0 || parts.is_empty() {
        // Parts before it that are negative make a positive one say so.
        let sign = match () {
            () if nanos < 0 => "-",
            () if months < 0 || days < 0 => "+",
            () => "",
        };
        let (seconds, part) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
        let mut text = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        if part != 0 {
            let _ = write!(text, ".{}", format!("{part:09}").trim_end_matches('0'));
        }
        parts.push(text);
    }
    parts.join(" ")
}

fn date(days: i32) -> String {
    market::TradeDate(days).to_string()
}

/// `2025-11-28 14:30:00.25`, with as many digits as needed.
fn instant(value: i64, per_second: i64) -> String {
    let (seconds, part) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    let Some(at) = DateTime::from_timestamp(seconds, 0) else {
        return if value < 0 { "-infinity".into() } else { "infinity".into() };
    };
    let mut text = at.format("%Y-%m-%d %H:%M:%S").to_string();
    if part != 0 {
        let digits = per_second.ilog10() as usize;
        let fraction = format!("{part:0digits$}");
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
    text
}

/// An exact number without trailing zeros.
fn decimal(value: i128, scale: i8) -> String {
    let scale = scale.max(0) as usize;
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    let part = part.trim_end_matches('0');
    let sign = if value < 0 { "-" } else { "" };
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// A float from its shortest scientific form, as PostgreSQL prints it: plain between 1e-4 and 1e15 (1e6 for float4).
fn float(shortest: &str, digits: i32) -> String {
    match shortest {
        "NaN" => return "NaN".into(),
        "inf" => return "Infinity".into(),
        "-inf" => return "-Infinity".into(),
        _ => {}
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    if !(-4..digits).contains(&exponent) {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{direction}{:02}", exponent.abs());
    }
    let figures: String = mantissa.chars().filter(|c| *c != '.').collect();
    if exponent < 0 {
        return format!("{sign}0.{}{figures}", "0".repeat((-exponent - 1) as usize));
    }
    let point = exponent as usize + 1;
    match figures.len() > point {
        true => format!("{sign}{}.{}", &figures[..point], &figures[point..]),
        false => format!("{sign}{figures:0<point$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_postgresql_spells_them() {
        let check = |value: f64, expected: &str| assert_eq!(float(&format!("{value:e}"), 15), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(6870.25, "6870.25");
        check(-0.5, "-0.5");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(100_000_000_000_000.0, "100000000000000");
        check(1e15, "1e+15");
        check(1_234_567_890_123_456.0, "1.234567890123456e+15");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
    }

    #[test]
    fn intervals_are_spelled_as_postgresql_spells_them() {
        let (hour, day) = (3_600_000_000_000, 1);
        assert_eq!(interval(0, 0, hour + hour / 2), "01:30:00");
        assert_eq!(interval(0, day, 2 * hour + 500_000_000), "1 day 02:00:00.5");
        assert_eq!(interval(14, 2, 0), "1 year 2 mons 2 days");
        assert_eq!(interval(0, 0, 0), "00:00:00");
        assert_eq!(interval(0, 0, -hour), "-01:00:00");
        assert_eq!(interval(0, -1, hour), "-1 days +01:00:00");
        assert_eq!(interval(0, 0, 30 * hour), "30:00:00");
    }

    #[test]
    fn a_call_is_called_like_its_function() {
        assert_eq!(heading("count(*)"), "count");
        assert_eq!(heading("is_open(to_date(x),y)"), "is_open");
        assert_eq!(heading("a(x) + b(y)"), "a(x) + b(y)");
        assert_eq!(heading("price"), "price");
        assert_eq!(heading("bar[open]"), "open");
        assert_eq!(heading("string_agg(t.x,Utf8(\",\")) ORDER BY [t.x ASC NULLS LAST]"), "string_agg");
        assert_eq!(heading("percentile_cont(Float64(0.5)) WITHIN GROUP [t.n ASC NULLS LAST]"), "percentile_cont");
        assert_eq!(heading("max(t.x) ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"), "max");
        assert_eq!(heading("count(*) FILTER (WHERE t.x > Int64(1))"), "count");
        assert_eq!(heading("ohlc(x)[open]"), "open");
        assert_eq!(heading("t.x * Int64(2)"), "?column?");
        assert_eq!(heading("Int64(1)"), "?column?");
        assert_eq!(heading("Utf8(\"a\") || Int64(1)"), "?column?");
    }

    #[test]
    fn decimals_and_instants_have_no_trailing_zeros() {
        assert_eq!(decimal(6_900_000_000_000, 9), "6900");
        assert_eq!(decimal(-1_500_000_000, 9), "-1.5");
        assert_eq!(decimal(1, 9), "0.000000001");
        assert_eq!(instant(1_710_336_600_000_000, 1_000_000), "2024-03-13 13:30:00");
        assert_eq!(instant(1_710_336_600_250_000, 1_000_000), "2024-03-13 13:30:00.25");
        assert_eq!(instant(-1, 1_000_000_000), "1969-12-31 23:59:59.999999999");
    }
}
