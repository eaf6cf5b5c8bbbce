//! Corrections of single days: rows that are added to a calendar file, and sessions as people write them.

use super::Calendar;
use super::zone::civil_day;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::time::{DAY, Nanos, TradeDate};
use chrono::Timelike;
use std::fmt::Write;
use toml::de::{DeTable, DeValue};

/// The keys an exception may have: those of a `[[special]]` row, without the ones that say when it holds.
const KEYS: [&str; 14] = [
    "closed",
    "open_day",
    "truncate",
    "trade_date",
    "source",
    "ON",
    "PRE",
    "RTH",
    "POST",
    "ETH",
    "open_auction",
    "close_auction",
    "break_auction",
    "intraday_auction",
];
const LONGEST: usize = 4096;

/// The `[[special]]` row that corrects one day, to stand at the end of a calendar file: it replaces what the file says about
/// the day. `fragment` is `closed = true`, or hours such as `RTH = "09:30-13:00"`, which make a session of the day whatever
/// its weekday; windows it does not name stay as on other days.
///
/// # Errors
/// `InvalidSpec` with the fragment's line for anything else.
pub fn exception(date: TradeDate, fragment: &str, note: &str) -> Result<String> {
    let refuse = |at: Option<usize>, reason: String| {
        let line =
            at.map(|at| fragment.as_bytes()[..at.min(fragment.len())].iter().filter(|b| **b == b'\n').count() + 1);
        Err(Error::InvalidSpec { name: format!("exception of {date}"), line, reason })
    };
    if fragment.len() > LONGEST || note.len() > LONGEST {
        return refuse(None, format!("an exception and its note have at most {LONGEST} bytes"));
    }
    let table = match DeTable::parse(fragment) {
        Ok(table) => table.into_inner(),
        Err(error) => return refuse(error.span().map(|span| span.start), error.message().to_string()),
    };
    let mut opens = false;
    for (key, value) in &table {
        if !KEYS.contains(&key.get_ref().as_ref()) {
            let reason = format!("unknown key \"{}\"; an exception has {}", key.get_ref(), KEYS.join(", "));
            return refuse(Some(key.span().start), reason);
        }
        if !matches!(value.get_ref(), DeValue::String(_) | DeValue::Boolean(_)) {
            return refuse(Some(key.span().start), "a text in quotes, true or false is expected".into());
        }
        opens |= matches!(key.get_ref().as_ref(), "ON" | "PRE" | "RTH" | "POST" | "ETH") && value.get_ref().is_str();
    }
    if table.is_empty() {
        return refuse(None, "it says nothing; write closed = true, or hours such as RTH = \"09:30-13:00\"".into());
    }
    let mut row = format!("\n[[special]]\non = \"{date}\"\nreplaces = true\nname = {}\n", quoted(note));
    if opens && !table.contains_key("open_day") && !table.contains_key("closed") {
        row.push_str("open_day = true\n");
    }
    row.push_str(fragment.trim_end());
    row.push('\n');
    Ok(row)
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    let text = if text.is_empty() { "exception" } else { text };
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl Calendar {
    /// The session's spans on the calendar's wall clock, as a calendar file writes them:
    /// `ON 17:00-1d-08:30, RTH 08:30-15:00`.
    pub fn describe(&self, session: &Session<'_>) -> String {
        let mut text = String::new();
        for span in session.spans {
            let comma = if text.is_empty() { "" } else { ", " };
            let (open, close) = (self.wall(session.trade_date, span.open), self.wall(session.trade_date, span.close));
            let _ = write!(text, "{comma}{} {open}-{close}", span.segment);
        }
        if session.clearing_date != session.trade_date {
            let _ = write!(text, ", clears {}", session.clearing_date);
        }
        text
    }

    /// An instant as `09:30`, `17:00-1d` or `00:00+1d`, seen from a trade date.
    fn wall(&self, date: TradeDate, ts: Nanos) -> String {
        let tz = self.inner.spec.tz;
        let local = chrono::DateTime::from_timestamp_nanos(ts).with_timezone(&tz);
        let time = format!("{:02}:{:02}", local.hour(), local.minute());
        match civil_day(tz, ts).0 - date.0 {
            0 => time,
            days => format!("{time}{days:+}d"),
        }
    }

    /// The storage window of a session on the calendar's wall clock: `17:00-1d-17:00`.
    pub fn describe_window(&self, session: &Session<'_>) -> String {
        let edge = |ts: Nanos| self.wall(session.trade_date, ts);
        debug_assert!(session.till - session.from < 60 * DAY);
        format!("window {}-{}", edge(session.from), edge(session.till))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segments;

    fn with(rows: &[(&str, &str)]) -> Result<Calendar> {
        let mut text = Calendar::builtin("XNYS")?.toml().to_owned();
        for (date, fragment) in rows {
            text.push_str(&exception(TradeDate::parse(date)?, fragment, "a \"test\"")?);
        }
        Calendar::versioned(&text, 7)
    }

    fn hours(calendar: &Calendar, date: &str) -> Option<String> {
        let session = calendar.session(TradeDate::parse(date).unwrap()).unwrap()?;
        Some(calendar.describe(&session))
    }

    #[test]
    fn an_exception_replaces_what_the_file_says_about_its_day() {
        let calendar = with(&[
            ("2025-11-28", "RTH = \"09:30-16:00\""), // a half day that was a whole one
            ("2025-12-02", "closed = true"),
            ("2025-12-25", "open_day = true"),
            ("2025-12-27", "RTH = \"10:00-12:00\""), // a Saturday
        ])
        .unwrap();
        assert_eq!(calendar.version(), 7);
        let regular = hours(&calendar, "2025-12-01").unwrap();
        assert!(regular.contains("RTH 09:30-16:00, POST 16:00-20:00"), "{regular}");
        assert_eq!(hours(&calendar, "2025-11-28"), Some(regular.clone()));
        assert_eq!(hours(&calendar, "2025-12-02"), None);
        assert_eq!(hours(&calendar, "2025-12-25"), Some(regular));
        assert_eq!(hours(&calendar, "2025-12-27").as_deref(), Some("RTH 10:00-12:00"));
        let note = calendar.session(TradeDate::parse("2025-12-27").unwrap()).unwrap().unwrap().note;
        assert_eq!(note, "a \"test\"");
        let saturday = calendar.session(TradeDate::parse("2025-12-27").unwrap()).unwrap().unwrap();
        assert_eq!(saturday.runs(Segments::RTH).count(), 1);
    }

    #[test]
    fn an_exception_says_hours_and_nothing_else() {
        for (fragment, reason) in [
            ("", "it says nothing"),
            ("RTH = \"09:30-13:00\"\non = \"2025-01-01\"", "line 2: unknown key \"on\""),
            ("[[special]]\non = \"2025-01-01\"", "line 1: unknown key \"special\""),
            ("closed = 1", "line 1: a text in quotes"),
            ("\n\nclosed = ", "line 3"),
        ] {
            let message = exception(TradeDate(20_000), fragment, "").unwrap_err().to_string();
            assert!(message.contains("exception of 2024-10-04") && message.contains(reason), "{fragment}: {message}");
        }
        let long = "#".repeat(LONGEST + 1);
        assert!(exception(TradeDate(20_000), &long, "").is_err());
        // what only the whole file can tell
        assert!(with(&[("2025-12-01", "RTH = \"25:00-26:00\"")]).unwrap_err().to_string().contains("is no window"));
    }
}
