//! How long a bar is: a width in elapsed time, or a group of trade dates.

use crate::error::{Error, Result};
use crate::time::{HOUR, MINUTE, Nanos, SECOND};
use std::fmt;
use std::str::FromStr;

/// The width of a bar. Intraday widths are elapsed time from a grid's anchor; the others group whole trade dates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Timeframe {
    /// That many nanoseconds, at least one microsecond and at most a day.
    Intraday(Nanos),
    /// That many trade dates, counted from the year's first.
    Days(u32),
    /// The trade dates of one week, which begins on the calendar's week start.
    Week,
    /// The trade dates of one month.
    Month,
    /// The trade dates of one quarter.
    Quarter,
    /// The trade dates of one year.
    Year,
}

const ALLOWED: &str = "a count and a unit: us, ms, s, m, h (up to 24h), d, or 1w, 1mo, 1q, 1y; such as 5m, 90m, 1h, 1d";

impl Timeframe {
    /// Reads `30s`, `5m`, `65m`, `1h`, `1d`, `5d`, `1w`, `1mo`, `1q`, `1y`; `1min` and `1hour`-style words too.
    ///
    /// # Errors
    /// `Invalid` for an unknown unit, a zero or an absurd count, and for an intraday width over 24 hours.
    ///
    /// ```
    /// use market::Timeframe;
    /// assert_eq!(Timeframe::parse("90m")?, Timeframe::Intraday(90 * 60 * 1_000_000_000));
    /// assert_eq!(Timeframe::parse("1d")?, Timeframe::Days(1));
    /// # Ok::<(), market::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Timeframe> {
        let invalid = || Error::invalid("timeframe", text, ALLOWED);
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = trimmed.split_at(digits);
        let count: u32 = match count {
            "" => 1,
            digits => digits.parse().map_err(|_| invalid())?,
        };
        if count == 0 {
            return Err(invalid());
        }
        let single = |timeframe| if count == 1 { Ok(timeframe) } else { Err(invalid()) };
        let intraday = |unit: Nanos| {
            let width = i64::from(count).checked_mul(unit).filter(|width| *width <= 24 * HOUR).ok_or_else(invalid)?;
            Ok(Timeframe::Intraday(width))
        };
        // `M` is a month to half of the charting world and `m` a minute to all of it, so case is not ignored there.
        match unit.trim_start() {
            "us" => intraday(1_000),
            "ms" => intraday(1_000_000),
            "s" | "sec" | "second" | "seconds" => intraday(SECOND),
            "m" | "min" | "minute" | "minutes" => intraday(MINUTE),
            "h" | "H" | "hour" | "hours" => intraday(HOUR),
            "d" | "D" | "day" | "days" if count <= 366 => Ok(Timeframe::Days(count)),
            "w" | "W" | "week" => single(Timeframe::Week),
            "mo" | "M" | "month" => single(Timeframe::Month),
            "q" | "Q" | "quarter" => single(Timeframe::Quarter),
            "y" | "Y" | "year" => single(Timeframe::Year),
            _ => Err(invalid()),
        }
    }

    /// Whether bars can be made of minute bars, given that the grid's anchors are whole minutes.
    pub const fn is_whole_minutes(self) -> bool {
        match self {
            Timeframe::Intraday(width) => width % MINUTE == 0,
            _ => true,
        }
    }

    /// Whether the width is elapsed time inside a session.
    pub const fn is_intraday(self) -> bool {
        matches!(self, Timeframe::Intraday(_))
    }
}

impl FromStr for Timeframe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Timeframe> {
        Timeframe::parse(text)
    }
}

impl fmt::Display for Timeframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Timeframe::Intraday(width) => {
                let units = [(HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (1_000_000, "ms"), (1_000, "us")];
                match units.into_iter().find(|(unit, _)| width % unit == 0) {
                    Some((unit, name)) => write!(f, "{}{name}", width / unit),
                    None => write!(f, "{width}ns"),
                }
            }
            Timeframe::Days(days) => write!(f, "{days}d"),
            Timeframe::Week => f.write_str("1w"),
            Timeframe::Month => f.write_str("1mo"),
            Timeframe::Quarter => f.write_str("1q"),
            Timeframe::Year => f.write_str("1y"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeframes_read_as_traders_write_them() {
        for (text, shown) in [
            ("30s", "30s"),
            ("5m", "5m"),
            ("60m", "1h"),
            ("90m", "90m"),
            ("65 m", "65m"),
            ("1h", "1h"),
            ("24h", "24h"),
            ("250ms", "250ms"),
            ("1d", "1d"),
            ("5d", "5d"),
            ("w", "1w"),
            ("1mo", "1mo"),
            ("1M", "1mo"),
            ("1q", "1q"),
            ("1y", "1y"),
        ] {
            assert_eq!(Timeframe::parse(text).map(|t| t.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn a_timeframe_that_makes_no_bars_is_refused() {
        for text in [
            "",
            "0m",
            "-5m",
            "5",
            "5x",
            "25h",
            "1441m",
            "2w",
            "99999999999999999999m",
            "400d",
            "1.5h",
            "m5",
            "5 fortnights",
        ] {
            let refused = Timeframe::parse(text);
            assert!(refused.is_err(), "{text} read as {refused:?}");
        }
    }
}
