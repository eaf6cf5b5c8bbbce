//! Instants and labels: nanoseconds since the Unix epoch, and trade dates.
//!
//! This is the one file that converts epochs.

use crate::error::{Error, Result};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use std::fmt;

/// Nanoseconds since 1970-01-01 00:00 UTC: the only instant type of this crate. Covers 1677 to 2262.
pub type Nanos = i64;

/// Nanoseconds in a second.
pub const SECOND: Nanos = 1_000_000_000;
/// Nanoseconds in a minute.
pub const MINUTE: Nanos = 60 * SECOND;
/// Nanoseconds in an hour.
pub const HOUR: Nanos = 60 * MINUTE;
/// Nanoseconds in a civil day without a clock change.
pub const DAY: Nanos = 24 * HOUR;

/// The label of a session. Not a calendar day: Sunday 17:00 in Chicago is Monday's trade date.
///
/// Held as days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TradeDate(pub i32);

const UNIX_EPOCH_DAYS_FROM_CE: i32 = 719_163;

impl TradeDate {
    /// The trade date with this civil date as its label.
    pub fn new(date: NaiveDate) -> TradeDate {
        TradeDate(date.num_days_from_ce() - UNIX_EPOCH_DAYS_FROM_CE)
    }

    /// Year, month (1-12), day (1-31).
    pub fn from_ymd(year: i32, month: u32, day: u32) -> Result<TradeDate> {
        NaiveDate::from_ymd_opt(year, month, day)
            .map(TradeDate::new)
            .ok_or_else(|| Error::invalid("date", format!("{year}-{month}-{day}"), "a date such as 2024-03-15"))
    }

    /// Reads `2024-03-15`.
    pub fn parse(text: &str) -> Result<TradeDate> {
        text.trim()
            .parse::<NaiveDate>()
            .map(TradeDate::new)
            .map_err(|_| Error::invalid("date", text, "a date such as 2024-03-15"))
    }

    /// The civil date of the label; dates beyond chrono's range are clamped.
    pub fn date(self) -> NaiveDate {
        self.0
            .checked_add(UNIX_EPOCH_DAYS_FROM_CE)
            .and_then(NaiveDate::from_num_days_from_ce_opt)
            .unwrap_or(if self.0 < 0 { NaiveDate::MIN } else { NaiveDate::MAX })
    }

    /// Year and month (1-12) of the label.
    pub fn year_month(self) -> (i32, u32) {
        let date = self.date();
        (date.year(), date.month())
    }

    /// The label `days` later (or earlier).
    pub fn plus(self, days: i32) -> TradeDate {
        TradeDate(self.0.saturating_add(days))
    }
}

impl fmt::Display for TradeDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date().format("%Y-%m-%d"))
    }
}

/// `2024-03-15T13:30:00.123456789Z`, with as many fraction digits as needed.
pub fn format_instant(ts: Nanos) -> String {
    DateTime::<Utc>::from_timestamp_nanos(ts).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}
