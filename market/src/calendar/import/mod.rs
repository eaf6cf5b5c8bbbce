//! Schedules in other forms become calendar files: a TradingView session string, market hours as LEAN keeps them, a table of
//! sessions. What comes out reads back with [`Calendar::from_toml`], or the import is an error.

mod lean;
mod mine;
mod tradingview;

pub use lean::{LeanHours, LeanSpan, LeanState};
pub use tradingview::TradingView;

use super::Calendar;
use super::compare::{Column, SessionTable};
use super::spec::Minutes;
use crate::error::{Error, Result};
use crate::time::TradeDate;
use chrono_tz::Tz;
use std::fmt::Write;

/// What the other form does not say.
#[derive(Clone, Debug)]
pub struct Head {
    /// The new calendar's id.
    pub id: String,
    /// The time zone its hours are written in.
    pub zone: Tz,
    /// The dates it vouches for; `None` to take them from what is imported.
    pub known: Option<(TradeDate, TradeDate)>,
    /// Where the facts come from.
    pub source: String,
}

impl Head {
    /// A head without known dates; the zone by its IANA name.
    ///
    /// # Errors
    /// `Unknown` for a zone that is none.
    pub fn new(id: &str, zone: &str, source: &str) -> Result<Head> {
        let known = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        let zone = zone.parse().map_err(|_| Error::Unknown {
            what: "time zone",
            name: zone.chars().take(64).collect(),
            nearest: crate::nearest::nearest(zone, known()).map(str::to_string),
        })?;
        Ok(Head { id: id.to_string(), zone, known: None, source: source.to_string() })
    }
}

/// A calendar file of a table of sessions, with exactly the same sessions: hours by weekday, holidays by rule where a rule
/// fits, else by date. Hours before the open or after the close that have no length are none.
///
/// # Errors
/// `InvalidSpec` where the file cannot say it: a session that opens in an hour that the clock shows twice.
pub fn from_table(head: &Head, table: &SessionTable) -> Result<String> {
    let mut table = table.clone();
    for row in table.rows.values_mut() {
        for (column, edge) in [(Column::Pre, Column::Open), (Column::Post, Column::Close)] {
            row[column as usize] = row[column as usize].filter(|ts| Some(*ts) != row[edge as usize]);
        }
    }
    let text = mine::mine(head, &table)?.write(head)?;
    let calendar = Calendar::from_toml(&text)?;
    match calendar.differences(&table, &table.columns).1.first() {
        None => Ok(text),
        Some(difference) => Err(Error::InvalidSpec {
            name: format!("calendar {}", head.id),
            line: None,
            reason: format!(
                "{} of {} cannot be written in {}: {} would become {}",
                difference.what, difference.date, head.zone, difference.theirs, difference.ours
            ),
        }),
    }
}

/// A calendar file of a TradingView session string.
///
/// # Errors
/// `Invalid` naming the part that cannot be read; `InvalidSpec` if the hours contradict each other.
pub fn from_tradingview(head: &Head, from: &TradingView<'_>) -> Result<String> {
    checked(tradingview::draft(head, from)?.write(head)?)
}

/// A calendar file of an entry of LEAN's market-hours database.
///
/// # Errors
/// `Invalid` naming the part that cannot be read; `InvalidSpec` if the hours contradict each other.
pub fn from_lean(head: &Head, from: &LeanHours) -> Result<String> {
    checked(lean::draft(head, from)?.write(head)?)
}

fn checked(text: String) -> Result<String> {
    Calendar::from_toml(&text).map(|_| text)
}

/// The hours of a day: what lies in the main session, and what around it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    /// The windows of the main session.
    main: Vec<(Minutes, Minutes)>,
    /// Windows before and after it, for equities.
    pre: Vec<(Minutes, Minutes)>,
    post: Vec<(Minutes, Minutes)>,
    /// The regular hours inside the main session, for futures.
    rth: Option<(Minutes, Minutes)>,
}

/// A calendar file before it is written.
#[derive(Clone, Debug, Default)]
struct Draft {
    known: Option<(TradeDate, TradeDate)>,
    hours: Vec<Hours>,
    /// Names and their rules or dates.
    holidays: Vec<(String, Vec<String>)>,
    closed: Vec<(String, Vec<String>)>,
    specials: Vec<Special>,
}

#[derive(Clone, Debug)]
struct Hours {
    from: Option<TradeDate>,
    to: Option<TradeDate>,
    days: u8,
    shape: Shape,
}

#[derive(Clone, Debug)]
struct Special {
    name: &'static str,
    on: Vec<String>,
    shape: Shape,
    open_day: bool,
}

impl Draft {
    fn write(&self, head: &Head) -> Result<String> {
        let Some((first, last)) = self.known else {
            return Err(Error::invalid(
                "known range",
                "",
                "the first and last date that the calendar vouches for; what is imported does not say",
            ));
        };
        let shapes = || self.hours.iter().map(|row| &row.shape).chain(self.specials.iter().map(|row| &row.shape));
        let beside = shapes().any(|shape| !shape.pre.is_empty() || !shape.post.is_empty());
        let inside = shapes().any(|shape| shape.rth.is_some());
        let night = shapes().any(|shape| shape.main.iter().any(|(open, _)| *open < 0));
        let keys = Keys { eth: inside || (night && !beside), rth: inside, pre: false, post: false };
        let keys = Keys {
            pre: shapes().any(|shape| !shape.pre.is_empty()),
            post: shapes().any(|shape| !shape.post.is_empty()),
            ..keys
        };
        let mut text = format!("schema  = 1\nid      = {}\n", quoted(&head.id));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "tz      = {}\nknown   = [{first}, {last}]", quoted(head.zone.name()));
        let _ = writeln!(text, "version = 1\nsource  = {}", quoted(&head.source));
        for row in &self.hours {
            text.push_str("\n[[hours]]\n");
            for (key, date) in [("from", row.from), ("to", row.to)] {
                if let Some(date) = date {
                    let _ = writeln!(text, "{key:4} = {date}");
                }
            }
            let _ = writeln!(text, "days = {}", quoted(&weekdays(row.days)));
            keys.write(&row.shape, false, &mut text);
        }
        for (section, lists) in [("holidays", &self.holidays), ("closed_lists", &self.closed)] {
            if !lists.is_empty() {
                let _ = writeln!(text, "\n[{section}]");
            }
            for (name, dates) in lists {
                let _ = writeln!(text, "{} = {}", quoted(name), list(dates));
            }
        }
        for special in &self.specials {
            let _ = writeln!(text, "\n[[special]]\nname = {}\non   = {}", quoted(special.name), list(&special.on));
            if special.open_day {
                text.push_str("open_day = true\n");
            }
            keys.write(&special.shape, true, &mut text);
        }
        Ok(text)
    }
}

/// Which windows the file speaks of.
struct Keys {
    eth: bool,
    rth: bool,
    pre: bool,
    post: bool,
}

impl Keys {
    /// The windows of a row; a special also says which it has not.
    fn write(&self, shape: &Shape, special: bool, text: &mut String) {
        let rth: Vec<_> = shape.rth.into_iter().collect();
        let windows = [
            (self.pre, "PRE", &shape.pre),
            (true, if self.eth { "ETH" } else { "RTH" }, &shape.main),
            (self.rth, "RTH", &rth),
            (self.post, "POST", &shape.post),
        ];
        for (spoken_of, key, windows) in windows {
            let _ = match windows.as_slice() {
                _ if !spoken_of => continue,
                [] if special => writeln!(text, "{key:4} = false"),
                [] => continue,
                windows => {
                    let windows: Vec<String> =
                        windows.iter().map(|(open, close)| format!("{}-{}", clock(*open), clock(*close))).collect();
                    writeln!(text, "{key:4} = \"{}\"", windows.join(", "))
                }
            };
        }
    }
}

/// `09:30`, `17:00-1d`.
fn clock(minutes: Minutes) -> String {
    let (days, minutes) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
    let days = if days == 0 { String::new() } else { format!("{days:+}d") };
    format!("{:02}:{:02}{days}", minutes / 60, minutes % 60)
}

/// `mon-fri`, `sun,tue-thu`.
fn weekdays(days: u8) -> String {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let mut parts: Vec<String> = Vec::new();
    let mut day = 0;
    while day < 7 {
        let run = (day..7).take_while(|day| days & (1 << day) != 0).count();
        match run {
            0 => {}
            1 => parts.push(NAMES[day].to_string()),
            _ => parts.push(format!("{}-{}", NAMES[day], NAMES[day + run - 1])),
        }
        day += run + 1;
    }
    parts.join(",")
}

fn list(texts: &[String]) -> String {
    match texts {
        [one] => quoted(one),
        texts => format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")),
    }
}

/// A TOML text: quotes, backslashes and control characters escaped.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_quoted() {
        let head = Head::new("X", "Asia/Tokyo", "a \"quoted\" \\ source\nof two lines").unwrap();
        let table = SessionTable::from_csv("session,open,close\n2024-01-04,09:00,15:00\n", head.zone).unwrap();
        let calendar = Calendar::from_toml(&from_table(&head, &table).unwrap()).unwrap();
        assert_eq!(calendar.source(), head.source);
        assert_eq!(weekdays(0b1011101), "mon,wed-fri,sun");
        let error = Head::new("X", "Asia/Tokio", "").unwrap_err();
        assert_eq!(error.hint(), "did you mean \"Asia/Tokyo\"?");
    }

    #[test]
    fn an_hour_that_comes_twice_is_refused() {
        // 2024-11-03 01:30 came twice in New York; the second time cannot be written.
        let table = "session,open_utc,close_utc\n2024-11-03,2024-11-03T06:30Z,2024-11-03T20:00Z\n";
        let head = Head::new("X", "America/New_York", "").unwrap();
        let error = from_table(&head, &SessionTable::from_csv(table, head.zone).unwrap()).unwrap_err().to_string();
        assert!(error.contains("open of 2024-11-03"), "{error}");
    }
}
