//! Instants in files: epochs, RFC 3339, civil times of a zone, time of day with a date. All become UTC nanoseconds.

use chrono::{Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use market::Nanos;
use market::time::{DAY, HOUR, MINUTE, SECOND};

/// How a time column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeFormat {
    /// Look at the first value: digits are an epoch whose unit follows from its size, dashes and colons a civil time.
    Auto,
    /// Seconds since 1970, with or without a fraction.
    EpochS,
    /// Milliseconds since 1970.
    EpochMs,
    /// Microseconds since 1970.
    EpochUs,
    /// Nanoseconds since 1970.
    EpochNs,
    /// 2024-03-15T13:30:00.123Z; without an offset it is a civil time of --zone.
    Rfc3339,
    /// 09:30:00.123 on --date (or the date column) in --zone.
    TimeOfDay,
    /// Milliseconds since midnight of --date in --zone.
    MsOfDay,
}

/// Reads one column of times; remembers what makes the next value cheap.
#[derive(Clone, Debug)]
pub struct Clock {
    format: TimeFormat,
    zone: Option<Tz>,
    date: Option<NaiveDate>,
    last: Nanos,
    day_text: [u8; 10],
    day: i64,
    hour: i64,
    offset: Nanos,
}

impl Clock {
    /// A clock for a column.
    pub fn new(format: TimeFormat, zone: Option<Tz>, date: Option<NaiveDate>) -> Clock {
        Clock { format, zone, date, last: i64::MIN, day_text: [0; 10], day: 0, hour: i64::MIN, offset: 0 }
    }

    /// The date that times of day belong to from now on.
    pub fn set_date(&mut self, date: NaiveDate) {
        self.date = Some(date);
    }

    /// The instant of a value.
    ///
    /// # Errors
    /// A sentence about a value that is no instant of the column's format.
    pub fn parse(&mut self, text: &[u8]) -> Result<Nanos, String> {
        if self.format == TimeFormat::Auto {
            self.format = guess(text)?;
        }
        let ts = match self.format {
            TimeFormat::EpochS => epoch(text, SECOND),
            TimeFormat::EpochMs => epoch(text, 1_000_000),
            TimeFormat::EpochUs => epoch(text, 1000),
            TimeFormat::EpochNs => epoch(text, 1),
            TimeFormat::Rfc3339 => self.civil(text),
            TimeFormat::TimeOfDay => self.on_date(time_of_day(text)?.0),
            TimeFormat::MsOfDay => {
                let ms = epoch(text, 1_000_000)?;
                self.on_date(ms)
            }
            TimeFormat::Auto => Err("the time format is unknown".into()),
        }?;
        self.last = ts;
        Ok(ts)
    }

    /// The instant of a civil time of the zone, given as nanoseconds as if it were UTC.
    ///
    /// # Errors
    /// No zone, or a time that the zone's clock skipped.
    pub fn civil_to_instant(&mut self, civil: Nanos) -> Result<Nanos, String> {
        let ts = self.local(civil)?;
        self.last = ts;
        Ok(ts)
    }

    /// Nanoseconds in a unit of a column of whole numbers that is an epoch; settles what the format is.
    pub fn unit(&mut self, first: i64) -> Option<Nanos> {
        if self.format == TimeFormat::Auto {
            self.format = guess(first.to_string().as_bytes()).ok()?;
        }
        match self.format {
            TimeFormat::EpochS => Some(SECOND),
            TimeFormat::EpochMs => Some(1_000_000),
            TimeFormat::EpochUs => Some(1000),
            TimeFormat::EpochNs => Some(1),
            _ => None,
        }
    }

    fn on_date(&mut self, of_day: Nanos) -> Result<Nanos, String> {
        let date = self.date.ok_or("is a time of day: say the day with --date 2024-03-15 or a date column")?;
        if !(0..DAY + HOUR).contains(&of_day) {
            return Err("is not a time of day".into());
        }
        self.local(days(date) * DAY + of_day)
    }

    /// The instant of a civil time of the zone, given as if it were UTC.
    fn local(&mut self, civil: Nanos) -> Result<Nanos, String> {
        let zone = self.zone.ok_or("has no offset: say its zone with --zone UTC or --zone America/New_York")?;
        let hour = civil.div_euclid(HOUR);
        if hour == self.hour {
            return Ok(civil - self.offset);
        }
        let at = |nanos: Nanos| -> Option<NaiveDateTime> {
            Some(
                chrono::DateTime::from_timestamp(nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND) as u32)?
                    .naive_utc(),
            )
        };
        let Some(naive) = at(civil) else { return Err("is out of range".into()) };
        let offset = |o: chrono_tz::TzOffset| i64::from(o.fix().local_minus_utc()) * SECOND;
        match zone.offset_from_local_datetime(&naive) {
            chrono::LocalResult::Single(o) => {
                let o = offset(o);
                // The whole civil hour may use it only when both its ends do.
                let same = [hour * HOUR, hour * HOUR + HOUR - 1].into_iter().all(|edge| {
                    at(edge).and_then(|n| zone.offset_from_local_datetime(&n).single()).map(offset) == Some(o)
                });
                self.hour = if same { hour } else { i64::MIN };
                self.offset = o;
                Ok(civil - o)
            }
            // The clock was set back: the hour happens twice. Files are nearly in order, so the second time is the one
            // after times that were past the first.
            chrono::LocalResult::Ambiguous(a, b) => {
                let (first, second) = (civil - offset(a), civil - offset(b));
                let (first, second) = (first.min(second), first.max(second));
                Ok(if self.last > first && self.last != i64::MIN { second } else { first })
            }
            chrono::LocalResult::None => Err(format!("does not exist in {zone}: the clock was set forward")),
        }
    }

    /// `2024-03-15T13:30:00.5Z`, `2024-03-15 13:30:00`, `20240315 133000.5`, with Z, an offset, or in the zone.
    fn civil(&mut self, text: &[u8]) -> Result<Nanos, String> {
        let bad = || "is not a time like 2024-03-15T13:30:00.123Z".to_string();
        let date_length = if text.get(4) == Some(&b'-') { 10 } else { 8 };
        let (date, rest) = text.split_at_checked(date_length).ok_or_else(bad)?;
        if date_length != 10 || date != self.day_text {
            self.day = days(date_of(date).ok_or_else(bad)?);
            self.day_text = date.try_into().unwrap_or([0; 10]);
        }
        let midnight = self.day.checked_mul(DAY).ok_or("is before 1677 or after 2262")?;
        let rest = match rest.first() {
            None => return self.local(midnight),
            Some(b'T' | b't' | b' ' | b'_') => &rest[1..],
            Some(_) => return Err(bad()),
        };
        let (of_day, used) = time_of_day(rest)?;
        let civil = midnight.checked_add(of_day).ok_or("is before 1677 or after 2262")?;
        let mut tail = &rest[used..];
        while let Some((b' ', after)) = tail.split_first() {
            tail = after;
        }
        match tail {
            [] => self.local(civil),
            [b'Z' | b'z'] | b"UTC" => Ok(civil),
            [sign @ (b'+' | b'-'), offset @ ..] => {
                let digits: Vec<u8> = offset.iter().copied().filter(|b| *b != b':').collect();
                let number = |d: &[u8]| number(d, 0, d.len());
                let seconds = match digits.len() {
                    2 => number(&digits).map(|h| h * 3600),
                    4 => number(&digits[..2]).zip(number(&digits[2..])).map(|(h, m)| h * 3600 + m * 60),
                    _ => None,
                };
                let seconds = seconds.filter(|s| *s < 86_400).ok_or_else(bad)?;
                let east = if *sign == b'+' { seconds } else { -seconds };
                civil.checked_sub(east * SECOND).ok_or_else(bad)
            }
            _ => Err(bad()),
        }
    }
}

fn guess(text: &[u8]) -> Result<TimeFormat, String> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let dot_or_end = digits == text.len() || text[digits] == b'.';
    match digits {
        9..=10 if dot_or_end => Ok(TimeFormat::EpochS),
        12..=13 if dot_or_end => Ok(TimeFormat::EpochMs),
        15..=16 if dot_or_end => Ok(TimeFormat::EpochUs),
        18..=19 if dot_or_end => Ok(TimeFormat::EpochNs),
        1..=2 if text.get(digits) == Some(&b':') => Ok(TimeFormat::TimeOfDay),
        4 | 8 if !dot_or_end => Ok(TimeFormat::Rfc3339),
        _ => Err("is not a time whose format can be guessed; say --time-format".into()),
    }
}

/// `12345.678` units of `unit` nanoseconds. Digits beyond a nanosecond must be zero.
fn epoch(text: &[u8], unit: Nanos) -> Result<Nanos, String> {
    let bad = || "is not a number of time units".to_string();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let dot = digits.iter().position(|b| *b == b'.').unwrap_or(digits.len());
    let whole = number(digits, 0, dot).ok_or_else(bad)?;
    let mut nanos = whole.checked_mul(unit).ok_or("is out of range for its time format")?;
    let mut place = unit;
    for &digit in digits.get(dot + 1..).unwrap_or(&[]) {
        if !digit.is_ascii_digit() {
            return Err(bad());
        }
        place /= 10;
        // Below a nanosecond there is only the noise of a float that was printed.
        nanos = nanos.checked_add(i64::from(digit - b'0') * place).ok_or_else(bad)?;
    }
    Ok(if negative { -nanos } else { nanos })
}

/// `HH:MM[:SS[.fraction]]` or `HHMMSS[.fraction]`, and how many bytes it took.
fn time_of_day(text: &[u8]) -> Result<(Nanos, usize), String> {
    let bad = || "is not a time of day like 09:30:00.123".to_string();
    let two = |at: usize| number(text, at, at + 2).ok_or_else(bad);
    let (hour, minute, second, mut used);
    if text.get(1) == Some(&b':') {
        // 9:30:00
        let mut padded = vec![b'0'];
        padded.extend_from_slice(text);
        let (nanos, used) = time_of_day(&padded)?;
        return Ok((nanos, used - 1));
    } else if text.get(2) == Some(&b':') {
        (hour, minute) = (two(0)?, two(3)?);
        if text.get(5) == Some(&b':') {
            (second, used) = (two(6)?, 8);
        } else {
            (second, used) = (0, 5);
        }
    } else {
        (hour, minute, second, used) = (two(0)?, two(2)?, two(4)?, 6);
    }
    if hour > 23 || minute > 59 || second > 60 {
        return Err(bad());
    }
    let mut nanos = hour * HOUR + minute * MINUTE + second * SECOND;
    if text.get(used) == Some(&b'.') {
        used += 1;
        let mut place = SECOND;
        while let Some(digit) = text.get(used).filter(|b| b.is_ascii_digit()) {
            place /= 10;
            nanos += i64::from(digit - b'0') * place;
            used += 1;
        }
    }
    Ok((nanos, used))
}

/// `2024-03-15` or `20240315`.
pub fn date_of(text: &[u8]) -> Option<NaiveDate> {
    let (y, m, d) = match text.len() {
        10 if text[4] == text[7] && matches!(text[4], b'-' | b'/' | b'.') => {
            (number(text, 0, 4)?, number(text, 5, 7)?, number(text, 8, 10)?)
        }
        8 => (number(text, 0, 4)?, number(text, 4, 6)?, number(text, 6, 8)?),
        _ => return None,
    };
    NaiveDate::from_ymd_opt(y as i32, m as u32, d as u32)
}

/// Days since 1970-01-01.
pub fn days(date: NaiveDate) -> i64 {
    i64::from(date.num_days_from_ce()) - 719_163
}

fn number(text: &[u8], from: usize, to: usize) -> Option<i64> {
    let digits = text.get(from..to).filter(|d| !d.is_empty() && d.len() <= 19)?;
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(format: TimeFormat, text: &str) -> Result<String, String> {
        let date = NaiveDate::from_ymd_opt(2013, 10, 7);
        let mut clock = Clock::new(format, Some(chrono_tz::America::New_York), date);
        clock.parse(text.as_bytes()).map(market::time::format_instant)
    }

    #[test]
    fn every_time_format_reads_as_utc_nanoseconds() {
        use TimeFormat::*;
        for (format, text, utc) in [
            (EpochS, "1762795433.9717445", "2025-11-10T17:23:53.971744500Z"),
            (EpochMs, "1723161601437", "2024-08-09T00:00:01.437Z"),
            (EpochUs, "1723161601437001", "2024-08-09T00:00:01.437001Z"),
            (EpochNs, "1723161600164378285", "2024-08-09T00:00:00.164378285Z"),
            (Auto, "1723161600164378285", "2024-08-09T00:00:00.164378285Z"),
            (Auto, "1723161601437", "2024-08-09T00:00:01.437Z"),
            (Auto, "2024-03-15 13:30:00.000001Z", "2024-03-15T13:30:00.000001Z"),
            (Rfc3339, "2024-03-15T13:30:00.5+05:30", "2024-03-15T08:00:00.500Z"),
            (Rfc3339, "2024-03-15T09:30", "2024-03-15T13:30:00Z"),
            (Rfc3339, "20240315 093000.25", "2024-03-15T13:30:00.250Z"),
            (TimeOfDay, "9:30:00.123", "2013-10-07T13:30:00.123Z"),
            (MsOfDay, "14400464", "2013-10-07T08:00:00.464Z"),
        ] {
            assert_eq!(parse(format, text).as_deref(), Ok(utc), "{format:?} {text}");
        }
    }

    #[test]
    fn a_value_that_is_no_instant_says_why() {
        use TimeFormat::*;
        for (format, text, words) in [
            (EpochMs, "12e3", "not a number"),
            (EpochS, "99999999999999", "out of range"),
            (Rfc3339, "yesterday", "not a time"),
            (Rfc3339, "2024-02-30T00:00:00Z", "not a time"),
            (Rfc3339, "2024-03-10T02:30:00", "does not exist"),
            (TimeOfDay, "25:00:00", "not a time of day"),
            (Auto, "12", "guessed"),
        ] {
            let error = parse(format, text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_hour_that_happens_twice_follows_the_order_of_the_file() {
        let mut clock = Clock::new(TimeFormat::Rfc3339, Some(chrono_tz::America::New_York), None);
        let mut at = |text: &str| clock.parse(text.as_bytes()).map(market::time::format_instant);
        assert_eq!(at("2024-11-03T01:10:00").as_deref(), Ok("2024-11-03T05:10:00Z"));
        assert_eq!(at("2024-11-03T01:50:00").as_deref(), Ok("2024-11-03T05:50:00Z"));
        assert_eq!(at("2024-11-03T01:05:00").as_deref(), Ok("2024-11-03T06:05:00Z"));
        assert_eq!(at("2024-11-03T01:51:00").as_deref(), Ok("2024-11-03T06:51:00Z"));
        assert_eq!(at("2024-11-03T02:00:00").as_deref(), Ok("2024-11-03T07:00:00Z"));
    }
}
