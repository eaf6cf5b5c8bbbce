//! A calendar against sessions from elsewhere: where they differ, on which side, by how much.

use super::Calendar;
use crate::error::{Error, Result};
use crate::session::{Segment, Segments, Session};
use crate::time::{MINUTE, Nanos, TradeDate};
use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeZone, Timelike};
use chrono_tz::Tz;
use std::collections::BTreeMap;
use std::fmt;

/// What a table of sessions says of one of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Column {
    /// When the main session opens.
    Open,
    /// When its break begins.
    BreakStart,
    /// When its break ends.
    BreakEnd,
    /// When it closes.
    Close,
    /// When trading before it begins: `PRE`, or `ON` where a future has no `PRE`.
    Pre,
    /// When trading after it ends.
    Post,
}

impl Column {
    /// All columns.
    pub const ALL: [Column; 6] =
        [Column::Open, Column::BreakStart, Column::BreakEnd, Column::Close, Column::Pre, Column::Post];

    /// `open`, `break_start`, `break_end`, `close`, `pre`, `post`.
    pub const fn name(self) -> &'static str {
        match self {
            Column::Open => "open",
            Column::BreakStart => "break_start",
            Column::BreakEnd => "break_end",
            Column::Close => "close",
            Column::Pre => "pre",
            Column::Post => "post",
        }
    }

    /// Reads a column by its name.
    pub fn parse(name: &str) -> Option<Column> {
        Column::ALL.into_iter().find(|column| column.name() == name)
    }
}

/// The instants of one session by column; `None` where it has none.
pub type Row = [Option<Nanos>; 6];

/// Sessions from elsewhere. A day from `first` to `last` without a row is closed; beyond them nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTable {
    /// The first date it knows.
    pub first: TradeDate,
    /// The last date it knows.
    pub last: TradeDate,
    /// The columns it has.
    pub columns: Vec<Column>,
    /// Its sessions.
    pub rows: BTreeMap<TradeDate, Row>,
}

/// One way in which a calendar and a table differ. Times are on the wall clock of the trade date, `17:00-1d`; `-` is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The trade date.
    pub date: TradeDate,
    /// `session`, or the name of a column.
    pub what: &'static str,
    /// What the table says: for `session`, `open` or `closed`.
    pub theirs: String,
    /// What the calendar says.
    pub ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.date, self.what, self.theirs, self.ours)
    }
}

impl SessionTable {
    /// Reads a CSV with a header: `session` (a date) and any of `open`, `break_start`, `break_end`, `close`, `pre`, `post`, as
    /// UTC instants (`open_utc`: `2024-03-08T14:30Z`) or on the wall clock of `zone` (`open`: `09:30`, `17:00-1d`). An empty
    /// cell is none, and so is a break that does not lie inside the session. Columns of other names are not read.
    ///
    /// # Errors
    /// `InvalidSpec` with the line.
    pub fn from_csv(text: &str, zone: Tz) -> Result<SessionTable> {
        let error = |line: usize, reason: String| Error::InvalidSpec {
            name: "table of sessions".into(),
            line: Some(line),
            reason,
        };
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, header) =
            lines.next().ok_or_else(|| error(1, "it is empty; a header with \"session\" is expected".into()))?;
        let names: Vec<&str> = header.trim_start_matches('\u{feff}').split(',').map(str::trim).collect();
        let session = names.iter().position(|name| *name == "session");
        let session = session.ok_or_else(|| error(1, "the header has no column \"session\"".into()))?;
        let at: Vec<(usize, Column)> = names
            .iter()
            .enumerate()
            .filter_map(|(at, name)| Some((at, Column::parse(name.strip_suffix("_utc").unwrap_or(name))?)))
            .collect();
        for needed in [Column::Open, Column::Close] {
            if !at.iter().any(|(_, column)| *column == needed) {
                return Err(error(1, format!("the header has no column \"{0}\" or \"{0}_utc\"", needed.name())));
            }
        }
        let mut rows = BTreeMap::new();
        for (number, line) in lines {
            let number = number + 1;
            let cells: Vec<&str> = line.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
            if cells.len() != names.len() {
                return Err(error(number, format!("{} cells under {} columns", cells.len(), names.len())));
            }
            let date = TradeDate::parse(cells[session]).map_err(|e| error(number, format!("{e}; {}", e.hint())))?;
            // What a calendar file may cover; one stray date would make a table of thousands of years.
            if !(1900..2200).contains(&date.year_month().0) {
                return Err(error(number, format!("{date} does not lie between 1900 and 2200")));
            }
            let mut row: Row = [None; 6];
            for (at, column) in &at {
                row[*column as usize] = match cells[*at] {
                    "" | "-" | "NaT" => None,
                    cell => Some(instant(cell, date, zone).ok_or_else(|| {
                        let allowed = "2024-03-08T14:30Z in UTC, or 09:30 or 17:00-1d on the wall clock";
                        error(number, format!("\"{cell}\" in \"{}\" is no time such as {allowed}", column.name()))
                    })?),
                };
            }
            let (Some(open), Some(close)) = (row[Column::Open as usize], row[Column::Close as usize]) else {
                return Err(error(number, "a session needs an open and a close".into()));
            };
            if open >= close {
                return Err(error(number, "it closes before it opens".into()));
            }
            // Some tables say "no break" by one of no length, or by one after the close.
            let pause = (row[Column::BreakStart as usize], row[Column::BreakEnd as usize]);
            if !matches!(pause, (Some(start), Some(end)) if open < start && start < end && end < close) {
                row[Column::BreakStart as usize] = None;
                row[Column::BreakEnd as usize] = None;
            }
            if rows.insert(date, row).is_some() {
                return Err(error(number, format!("the session {date} is there twice")));
            }
        }
        let bounds = rows.keys().next().copied().zip(rows.keys().next_back().copied());
        let (first, last) = bounds.ok_or_else(|| error(2, "it has no session".into()))?;
        let columns = Column::ALL.into_iter().filter(|column| at.iter().any(|(_, has)| has == column)).collect();
        Ok(SessionTable { first, last, columns, rows })
    }
}

/// `2024-03-08T14:30Z`, with seconds if need be, or a time on the wall clock of a date's day.
fn instant(cell: &str, date: TradeDate, zone: Tz) -> Option<Nanos> {
    if cell.contains('T') || cell.contains(' ') {
        let cell = cell.trim_end_matches('Z').trim_end_matches("+00:00").replace('T', " ");
        let time = NaiveDateTime::parse_from_str(&cell, "%Y-%m-%d %H:%M:%S")
            .or_else(|_| NaiveDateTime::parse_from_str(&cell, "%Y-%m-%d %H:%M"));
        return time.ok()?.and_utc().timestamp_nanos_opt();
    }
    let (clock, days) = cell.split_at_checked(5)?;
    let days: i32 = if days.is_empty() { 0 } else { days.strip_suffix('d')?.parse().ok()? };
    let time = NaiveTime::parse_from_str(clock, "%H:%M").ok().filter(|_| (-3..=3).contains(&days))?;
    let minutes = time.num_seconds_from_midnight() as i32 / 60 + days * 1440;
    Some(super::zone::Wall::new(zone).instant(date, minutes))
}

impl Calendar {
    /// How many sessions were compared with a table, and where they differ, by date. Only dates that both know are compared.
    pub fn differences(&self, table: &SessionTable, columns: &[Column]) -> (usize, Vec<Difference>) {
        self.differences_in(self.main_session(), table, columns)
    }

    /// The same for a table that knows a part of the session only, such as the `RTH` of futures: `open` and `close` are the
    /// selection's, and a session without it is closed.
    pub fn differences_in(
        &self,
        selected: Segments,
        table: &SessionTable,
        columns: &[Column],
    ) -> (usize, Vec<Difference>) {
        let (first, last) = self.known();
        let (from, till) = (first.max(table.first), last.min(table.last));
        let zone = self.zone();
        let mut differences = Vec::new();
        let mut add = |date: TradeDate, what: &'static str, theirs: String, ours: String| {
            differences.push(Difference { date, what, theirs, ours });
        };
        let mut compared = 0;
        for date in (from.0..=till.0).map(TradeDate) {
            let ours = self.session(date).ok().flatten().filter(|session| session.open(selected).is_some());
            compared += usize::from(ours.is_some());
            match (table.rows.get(&date), ours) {
                (None, None) => {}
                (Some(_), None) => add(date, "session", "open".into(), "closed".into()),
                (None, Some(_)) => add(date, "session", "closed".into(), "open".into()),
                (Some(theirs), Some(session)) => {
                    let ours = row_in(selected, &session);
                    for column in columns {
                        let (theirs, ours) = (theirs[*column as usize], ours[*column as usize]);
                        if theirs != ours {
                            add(date, column.name(), wall(theirs, zone, date), wall(ours, zone, date));
                        }
                    }
                }
            }
        }
        (compared, differences)
    }

    /// A session as a row of a table: the main session, its first break, and what comes before and after it.
    pub fn row_of(&self, session: &Session<'_>) -> Row {
        row_in(self.main_session(), session)
    }

    /// What a table calls the session: `RTH` where that is the default selection, else all of it.
    fn main_session(&self) -> Segments {
        match self.main() {
            Segments::RTH => Segments::RTH,
            _ => Segments::ETH,
        }
    }
}

fn row_in(selected: Segments, session: &Session<'_>) -> Row {
    let mut row: Row = [None; 6];
    let mut runs = Session { restart_at_segments: false, ..*session }.runs(selected);
    if let (Some(before), Some(after), None) = (runs.next(), runs.next(), runs.next()) {
        row[Column::BreakStart as usize] = Some(before.1);
        row[Column::BreakEnd as usize] = Some(after.0);
    }
    row[Column::Open as usize] = session.open(selected);
    row[Column::Close as usize] = session.close(selected);
    let before = [Segment::Pre, Segment::On].map(|segment| session.open(Segments::only(segment)));
    row[Column::Pre as usize] = before[0].or(before[1]);
    row[Column::Post as usize] = session.close(Segments::only(Segment::Post));
    row
}

/// `17:00-1d`: the wall clock's time, with the days from the trade date; `-` for none. Seconds are not shown.
pub fn wall(ts: Option<Nanos>, zone: Tz, date: TradeDate) -> String {
    let Some(ts) = ts else { return "-".into() };
    let local = zone.from_utc_datetime(&DateTime::from_timestamp_nanos(ts - ts.rem_euclid(MINUTE)).naive_utc());
    let days = (local.date_naive() - date.date()).num_days();
    let suffix = if days == 0 { String::new() } else { format!("{days:+}d") };
    format!("{:02}:{:02}{suffix}", local.hour(), local.minute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_listed_with_both_sides() {
        // Christmas week 2024: the 24th was a half day until 13:00, the 25th closed. The table errs three times.
        let table = "session,open,close,post_utc\n2024-12-23,09:30,16:00,2024-12-24T01:00Z\n2024-12-24,09:30,16:00,2024-12-24T22:00Z\n\
                     2024-12-25,09:30,16:00,\n2024-12-27,09:31,16:00,2024-12-28T01:00:00Z\n";
        let table = SessionTable::from_csv(table, chrono_tz::America::New_York).unwrap();
        let (sessions, differences) = Calendar::builtin("XNYS").unwrap().differences(&table, &table.columns);
        let lines: Vec<String> = differences.iter().map(Difference::to_string).collect();
        assert_eq!(sessions, 4);
        assert_eq!(
            lines,
            [
                "2024-12-24 close 16:00 13:00",
                "2024-12-25 session open closed",
                "2024-12-26 session closed open",
                "2024-12-27 open 09:31 09:30"
            ]
        );
    }

    #[test]
    fn a_bad_table_names_its_line() {
        for (text, line, reason) in [
            ("", 1, "empty"),
            ("open,close\n", 1, "\"session\""),
            ("session,open\n", 1, "\"close\""),
            ("session,open,close\n", 2, "no session"),
            ("session,open,close\n2024-01-02,09:30\n", 2, "2 cells under 3"),
            ("session,open,close\n2024-13-02,09:30,16:00\n", 2, "2024-13-02"),
            ("session,open,close\n0204-01-02,09:30,16:00\n", 2, "between 1900"),
            ("session,open,close\n2024-01-02,9:30,16:00\n", 2, "\"9:30\""),
            ("session,open,close\n2024-01-02,,16:00\n", 2, "needs an open"),
            ("session,open,close\n2024-01-02,16:00,09:30\n", 2, "before it opens"),
            ("session,open,close\n2024-01-02,09:30,16:00\n2024-01-02,09:30,16:00\n", 3, "twice"),
        ] {
            let message = SessionTable::from_csv(text, Tz::UTC).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("table of sessions, line {line}:")) && message.contains(reason),
                "{message}"
            );
        }
    }
}
