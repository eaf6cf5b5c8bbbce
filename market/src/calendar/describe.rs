//! What a calendar's file says, for people: hours by era, closures and special days with their rules in words.

use super::Calendar;
use super::expand::Planner;
use super::rule::{Base, Rule, Yearly};
use super::spec::{Hours, Minutes, PREVIOUS_SESSION, Windows};
use crate::time::TradeDate;
use chrono::Weekday;
use std::fmt;

/// The hours of some weekdays over a stretch of time: one `[[hours]]` row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Era {
    /// The first date of the known range on which the row held; `None` if it never did.
    pub first: Option<TradeDate>,
    /// The last such date; `None` if it holds to the end of the known range.
    pub last: Option<TradeDate>,
    /// The weekdays of the trade date: `Mon-Fri`.
    pub days: String,
    /// `summer time in America/New_York`, where the row holds only then (or only outside it).
    pub season: Option<String>,
    /// What it opens, by the file's keys (`RTH`, `ETH`, `open_auction`): `09:00 to 11:30, 12:30 to 15:00`. Times are the file's:
    /// `17:00-1d` is on the day before the trade date, `21:00-1s` on the day of the previous session.
    pub windows: Vec<(&'static str, String)>,
    /// When trades outside the session begin to belong to the next, where the file says so.
    pub roll: Option<String>,
    /// Where the row comes from; empty where [`Calendar::source`] covers it.
    pub source: String,
}

/// Days without a session under one name.
#[derive(Clone, Debug)]
pub struct Closure<'c> {
    /// The holiday, or the reason.
    pub name: &'c str,
    /// Whether it is about single occasions (`[closed]`) and not a holiday.
    pub one_off: bool,
    /// When.
    pub on: Vec<DateRule<'c>>,
}

/// Days with hours of their own: one `[[special]]`.
#[derive(Clone, Debug)]
pub struct SpecialDay<'c> {
    /// `half day`.
    pub name: &'c str,
    /// Empty for the schedule; `outage` for hours that nobody planned.
    pub class: &'c str,
    /// When.
    pub on: Vec<DateRule<'c>>,
    /// What it changes, as in [`Era::windows`]; `none` where it removes a window.
    pub windows: Vec<(&'static str, String)>,
    /// The time at which everything ends.
    pub truncate: Option<String>,
    /// Whether there is no session at all.
    pub closed: bool,
    /// Whether it makes a session of a weekend or holiday.
    pub open_day: bool,
    /// Whether its trades clear with the next regular session.
    pub clears_next: bool,
    /// Where it comes from; empty where [`Calendar::source`] covers it.
    pub source: &'c str,
}

/// A rule for dates. Its `Display` is the rule in words: `fourth Thursday in November`.
#[derive(Clone, Copy, Debug)]
pub struct DateRule<'c>(&'c Rule);

impl DateRule<'_> {
    /// Its dates in `first..=last`, ascending for a single rule.
    pub fn dates(&self, first: TradeDate, last: TradeDate) -> Vec<TradeDate> {
        let mut dates = Vec::new();
        self.0.dates(first, last, |date| dates.push(date));
        dates
    }

    /// First and last date, where the file names dates and no rule.
    pub fn listed(&self) -> Option<(TradeDate, TradeDate)> {
        match self.0 {
            Rule::Dates(first, last) => Some((*first, *last)),
            Rule::Yearly(_) => None,
        }
    }
}

impl Calendar {
    /// Its hours over time, in the order of the file: where two hold on a day, the later one counts.
    pub fn eras(&self) -> Vec<Era> {
        let spec = &self.inner.spec;
        let (first, last) = spec.known;
        let mut held: Vec<Option<(TradeDate, TradeDate)>> = vec![None; spec.hours.len()];
        // The rows were cut when the calendar was read, so the planner is there.
        if let Ok(planner) = Planner::new(spec, first, last) {
            for date in (first.0..=last.0).map(TradeDate) {
                if let Some(row) = planner.row(date) {
                    held[row] = Some((held[row].map_or(date, |(from, _)| from), date));
                }
            }
        }
        spec.hours.iter().zip(held).map(|(row, held)| era(row, held, last)).collect()
    }

    /// Its holidays, then the closures of single occasions.
    pub fn closures(&self) -> Vec<Closure<'_>> {
        let spec = &self.inner.spec;
        let closures = spec.holidays.iter().enumerate();
        closures
            .map(|(at, (name, rules))| Closure {
                name,
                one_off: at >= spec.one_off_from,
                on: rules.iter().map(DateRule).collect(),
            })
            .collect()
    }

    /// Its days with hours of their own, in the order of the file: where two hold on a day, the later one counts.
    pub fn special_days(&self) -> Vec<SpecialDay<'_>> {
        let specials = self.inner.spec.specials.iter();
        specials
            .map(|special| SpecialDay {
                name: &special.name,
                class: &special.class,
                on: special.on.iter().map(DateRule).collect(),
                windows: windows(&special.windows),
                truncate: special.truncate.map(clock),
                closed: special.closed,
                open_day: special.open_day,
                clears_next: special.clears_next,
                source: &special.source,
            })
            .collect()
    }
}

fn era(row: &Hours, held: Option<(TradeDate, TradeDate)>, known_to: TradeDate) -> Era {
    // A row for half of the year, or for some weekdays, holds still although the range ends on another day.
    let patience = if row.season.is_some() { 366 } else { 7 };
    let lasts = |date: &TradeDate| row.to <= known_to || date.plus(patience) < known_to;
    Era {
        first: held.map(|(first, _)| first),
        last: held.map(|(_, last)| last).filter(lasts),
        days: weekdays(row.days),
        season: row.season.map(|(summer, tz)| {
            let season = if summer { "summer time" } else { "standard time" };
            format!("{season} in {}", tz.name())
        }),
        windows: windows(&row.windows),
        roll: row.roll.map(clock),
        source: row.source.clone(),
    }
}

fn windows(windows: &Windows) -> Vec<(&'static str, String)> {
    let [on, pre, rth, post] = &windows.by_segment;
    let keys = [
        ("ETH", &windows.eth),
        ("ON", on),
        ("PRE", pre),
        ("open_auction", &windows.open_auction),
        ("RTH", rth),
        ("intraday_auction", &windows.intraday_auction),
        ("break_auction", &windows.break_auction),
        ("close_auction", &windows.close_auction),
        ("POST", post),
    ];
    let text = |spans: &Vec<(Minutes, Minutes)>| match spans.as_slice() {
        [] => "none".to_string(),
        spans => {
            let spans: Vec<_> =
                spans.iter().map(|(open, close)| format!("{} to {}", clock(*open), clock(*close))).collect();
            spans.join(", ")
        }
    };
    keys.into_iter().filter_map(|(key, spans)| Some((key, text(spans.as_ref()?)))).collect()
}

/// `09:30`, `17:00-1d`, `21:00-1s`, `02:30-1s+1d`: a time as calendar files write it.
fn clock(minutes: Minutes) -> String {
    let (minutes, base) = match minutes < PREVIOUS_SESSION / 2 {
        true => (minutes - PREVIOUS_SESSION, "-1s"),
        false => (minutes, ""),
    };
    let (day, minutes) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
    let days = if day == 0 { String::new() } else { format!("{day:+}d") };
    format!("{:02}:{:02}{base}{days}", minutes / 60, minutes % 60)
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// `Mon-Fri`, `Mon, Wed`, `Sun-Thu`.
fn weekdays(days: u8) -> String {
    let has = |day: usize| days & (1 << (day % 7)) != 0;
    if days & 0x7f == 0x7f {
        return "every day".into();
    }
    let mut runs = Vec::new();
    // A run begins on a day whose eve is not one of them; Sunday comes before Monday, so that a run may wrap around the week.
    for day in [6, 0, 1, 2, 3, 4, 5].into_iter().filter(|day| has(*day) && !has(day + 6)) {
        let length = (1..7).take_while(|more| has(day + more)).count();
        let (first, last) = (WEEKDAYS[day], WEEKDAYS[(day + length) % 7]);
        runs.push(match length {
            0 => first.to_string(),
            1 => format!("{first}, {last}"),
            _ => format!("{first}-{last}"),
        });
    }
    runs.join(", ")
}

impl fmt::Display for DateRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rule::Dates(first, last) if first == last => write!(f, "{first}"),
            Rule::Dates(first, last) => write!(f, "{first} to {last}"),
            Rule::Yearly(rule) => f.write_str(&words(rule)),
        }
    }
}

/// A yearly rule in words.
fn words(rule: &Yearly) -> String {
    let mut parts = vec![anchor(rule)];
    if rule.on & 0x7f != 0x7f {
        parts.push(format!("if it is a {}", weekdays(rule.on).replace(", ", " or ")));
    }
    let moved = |day: usize| {
        let days = i32::from(rule.shift[day]);
        let to = WEEKDAYS[(day as i32 + days).rem_euclid(7) as usize];
        format!("{} moves to {to} {}", WEEKDAYS[day], if days < 0 { "before" } else { "after" })
    };
    parts.extend((0..7).filter(|day| rule.shift[*day] != 0).map(moved));
    match (rule.first_year > i32::MIN, rule.last_year < i32::MAX) {
        (true, true) => parts.push(format!("{} to {}", rule.first_year, rule.last_year)),
        (true, false) => parts.push(format!("from {}", rule.first_year)),
        (false, true) => parts.push(format!("until {}", rule.last_year)),
        (false, false) => {}
    }
    if !rule.only.is_empty() {
        let years = rule.only.iter().map(|(first, last)| match last - first {
            0 => first.to_string(),
            _ => format!("{first} to {last}"),
        });
        parts.push(format!("in {}", years.collect::<Vec<_>>().join(", ")));
    }
    parts.join("; ")
}

/// The day that a yearly rule is about, before it is moved.
fn anchor(rule: &Yearly) -> String {
    let full = |weekday: Weekday| match weekday {
        Weekday::Mon => "Monday",
        Weekday::Tue => "Tuesday",
        Weekday::Wed => "Wednesday",
        Weekday::Thu => "Thursday",
        Weekday::Fri => "Friday",
        Weekday::Sat => "Saturday",
        Weekday::Sun => "Sunday",
    };
    let day = match &rule.base {
        Base::Easter => match rule.plus {
            -2 => return "Good Friday (2 days before Easter)".into(),
            1 => return "Easter Monday (the day after Easter)".into(),
            39 => return "Ascension Day (39 days after Easter)".into(),
            50 => return "Whit Monday (50 days after Easter)".into(),
            60 => return "Corpus Christi (60 days after Easter)".into(),
            _ => "Easter".into(),
        },
        Base::OrthodoxEaster => "Orthodox Easter".into(),
        Base::Fixed { month, day } => format!("{day} {}", month_name(*month)),
        Base::Nth { nth, weekday, month } => {
            let nth = ["first", "second", "third", "fourth", "fifth"].get(*nth as usize - 1).copied().unwrap_or("");
            format!("{nth} {} in {}", full(*weekday), month_name(*month))
        }
        Base::Last { weekday, month } => format!("last {} in {}", full(*weekday), month_name(*month)),
        Base::Beside { weekday, after, month, day } => {
            let (which, side) = if *after { ("first", "after") } else { ("last", "before") };
            format!("{which} {} {side} {day} {}", full(*weekday), month_name(*month))
        }
    };
    let article =
        if matches!(rule.base, Base::Nth { .. } | Base::Last { .. } | Base::Beside { .. }) { "the " } else { "" };
    match rule.plus {
        0 => day,
        1 => format!("the day after {article}{day}"),
        -1 => format!("the day before {article}{day}"),
        days if days > 0 => format!("{days} days after {article}{day}"),
        days => format!("{} days before {article}{day}", -days),
    }
}

fn month_name(month: u32) -> &'static str {
    let names = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    names.get(month as usize - 1).copied().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_said_in_words() {
        for (rule, expected) in [
            ("4th thu nov", "fourth Thursday in November"),
            ("4th thu nov +1", "the day after the fourth Thursday in November"),
            ("last mon may", "last Monday in May"),
            ("easter-2 in 2010,2012..2015", "Good Friday (2 days before Easter); in 2010, 2012 to 2015"),
            ("easter-48", "48 days before Easter"),
            ("orthodox+1", "the day after Orthodox Easter"),
            ("fri after jun 18", "first Friday after 18 June"),
            ("mon before may 25", "last Monday before 25 May"),
            (
                "dec 25 sat>fri sun>mon from 2022",
                "25 December; Sat moves to Fri before; Sun moves to Mon after; from 2022",
            ),
            ("jan 4 sat>mon to 2009", "4 January; Sat moves to Mon after; until 2009"),
            ("jul 3 on mon,tue,thu", "3 July; if it is a Mon or Tue or Thu"),
            ("dec 24 on mon-thu from 2001 to 2003", "24 December; if it is a Mon-Thu; 2001 to 2003"),
            ("2024-06-03", "2024-06-03"),
            ("2024-06-03..2024-06-05", "2024-06-03 to 2024-06-05"),
        ] {
            assert_eq!(DateRule(&Rule::parse(rule).unwrap()).to_string(), expected, "{rule}");
        }
    }

    #[test]
    fn weekdays_may_wrap_around_the_week() {
        let days = |text: &str| weekdays(super::super::rule::weekdays(text).unwrap());
        assert_eq!(days("mon-fri"), "Mon-Fri");
        assert_eq!(days("sun-thu"), "Sun-Thu");
        assert_eq!(days("mon,wed"), "Mon, Wed");
        assert_eq!(days("sat,sun,mon"), "Sat-Mon");
        assert_eq!(days("mon,sun"), "Sun, Mon");
        assert_eq!(days("mon-sun"), "every day");
    }

    /// Tokyo's hours as the exchange's notices have them: the Livedoor shock of 2006 stands between two stretches of the same row.
    #[test]
    fn an_era_says_when_it_held() {
        let eras = Calendar::builtin("XTKS").unwrap().eras();
        let date = |text: &str| TradeDate::parse(text).ok();
        assert_eq!((eras[0].first, eras[0].last), (date("2000-01-04"), date("2011-11-18")));
        assert_eq!((eras[1].first, eras[1].last), (date("2006-01-19"), date("2006-04-21")));
        assert_eq!((eras[3].first, eras[3].last), (date("2024-11-05"), None));
        assert_eq!(eras[3].windows[0], ("RTH", "09:00 to 11:30, 12:30 to 15:30".to_string()));
        let eurex = Calendar::builtin("EUREX").unwrap().eras();
        assert_eq!(eurex[3].season.as_deref(), Some("summer time in Europe/Berlin"));
        assert_eq!((eurex[1].last, eurex[2].last, eurex[3].last), (date("2018-12-07"), None, None));
    }

    #[test]
    fn times_are_written_as_in_the_file() {
        let calendar = Calendar::from_toml(
            "schema = 1\nid = \"N\"\ntz = \"Asia/Shanghai\"\nknown = [2024-01-01, 2024-12-31]\n[[hours]]\ndays = \"mon-fri\"\n\
             ETH = \"21:00-1s-02:30-1s+1d, 09:00-15:00\"\nRTH = \"09:00-15:00\"\n[[special]]\nname = \"eve\"\non = \"2024-06-03\"\n\
             RTH = false\nETH = \"17:00-1d-12:00\"\n[closed]\n\"2024-05-01\" = \"strike\"\n",
        )
        .unwrap();
        assert_eq!(calendar.eras()[0].windows[0].1, "21:00-1s to 02:30-1s+1d, 09:00 to 15:00");
        let special = &calendar.special_days()[0];
        assert_eq!(special.windows, [("ETH", "17:00-1d to 12:00".to_string()), ("RTH", "none".to_string())]);
        let closures = calendar.closures();
        assert_eq!((closures[0].name, closures[0].one_off), ("strike", true));
        assert_eq!(
            closures[0].on[0].listed(),
            TradeDate::parse("2024-05-01").ok().zip(TradeDate::parse("2024-05-01").ok())
        );
    }
}
