//! Which dates a rule such as `jul 4 sat>fri sun>mon from 2022` or `easter-2` means.

use crate::time::TradeDate;
use chrono::{Datelike, Days, NaiveDate, Weekday};

/// A rule for dates, read from a calendar file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// One date or a range of dates, both ends included.
    Dates(TradeDate, TradeDate),
    /// A date of every year that the filter lets pass.
    Yearly(Yearly),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Yearly {
    pub(super) base: Base,
    pub(super) first_year: i32,
    pub(super) last_year: i32,
    /// Ranges of years; empty means all.
    pub(super) only: Vec<(i32, i32)>,
    /// Weekdays on which the rule counts before it is shifted; a bit per weekday from Monday.
    pub(super) on: u8,
    /// Days to move by for each weekday.
    pub(super) shift: [i8; 7],
    pub(super) plus: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Easter,
    OrthodoxEaster,
    Fixed {
        month: u32,
        day: u32,
    },
    Nth {
        nth: u32,
        weekday: Weekday,
        month: u32,
    },
    Last {
        weekday: Weekday,
        month: u32,
    },
    /// The first such weekday after a day of the year, or the last before it.
    Beside {
        weekday: Weekday,
        after: bool,
        month: u32,
        day: u32,
    },
}

const GRAMMAR: &str = "a date (2024-01-31), a range (2024-01-01..2024-01-31), \"jul 4\", \"3rd mon jan\", \"last mon may\", \
\"fri after jun 18\", \"mon before may 25\", \"easter-2\" or \"orthodox-2\", then any of: sat>fri, +1, from 2010, to 2020, in 2010,2015..2018, on mon-thu";

impl Rule {
    /// Reads a rule; the error says what is wrong and what is allowed.
    pub(crate) fn parse(text: &str) -> Result<Rule, String> {
        let refuse = |why: &str| Err(format!("\"{text}\" {why}; a date rule is {GRAMMAR}"));
        if text.len() > 500 {
            return Err(format!("a date rule of {} characters is too long", text.len()));
        }
        if text.as_bytes().get(4) == Some(&b'-') && text.as_bytes()[..4].iter().all(u8::is_ascii_digit) {
            let (first, last) = text.split_once("..").unwrap_or((text, text));
            return match (TradeDate::parse(first), TradeDate::parse(last)) {
                (Ok(first), Ok(last)) if first <= last => Ok(Rule::Dates(first, last)),
                (Ok(_), Ok(_)) => refuse("ends before it begins"),
                _ => refuse("holds no such date"),
            };
        }
        let mut words = text.split_whitespace().peekable();
        let Some(base) = words.next().and_then(|first| Base::parse(first, &mut words)) else {
            return refuse("does not begin with a date");
        };
        let (base, offset) = base;
        let mut rule = Yearly {
            base,
            first_year: i32::MIN,
            last_year: i32::MAX,
            only: Vec::new(),
            on: 0x7f,
            shift: [0; 7],
            plus: offset,
        };
        while let Some(word) = words.next() {
            let read = match word {
                "from" => words.next().and_then(year).map(|year| rule.first_year = year),
                "to" => words.next().and_then(year).map(|year| rule.last_year = year),
                "in" => words.next().and_then(years).map(|years| rule.only = years),
                "on" => words.next().and_then(weekdays).map(|days| rule.on = days),
                _ => match word.split_once('>') {
                    Some((from, to)) => weekday(from).zip(weekday(to)).map(|(from, to)| {
                        rule.shift[from.num_days_from_monday() as usize] = shift(from, to);
                    }),
                    None => offset_days(word).map(|days| rule.plus += days),
                },
            };
            if read.is_none() {
                return refuse(&format!("has a part \"{word}\" that cannot be read"));
            }
        }
        Ok(Rule::Yearly(rule))
    }

    /// The date of a yearly rule in a year; a shift may carry it into the next or the one before.
    pub(crate) fn in_year(&self, year: i32) -> Option<TradeDate> {
        match self {
            Rule::Dates(..) => None,
            Rule::Yearly(rule) => rule.date(year),
        }
    }

    /// Calls `each` with every date of the rule in `first..=last`.
    pub(crate) fn dates(&self, first: TradeDate, last: TradeDate, mut each: impl FnMut(TradeDate)) {
        match self {
            Rule::Dates(from, to) => (from.0.max(first.0)..=to.0.min(last.0)).for_each(|day| each(TradeDate(day))),
            // A shift may carry a date over the year's end, so the years beside are asked too.
            Rule::Yearly(rule) => ((first.date().year() - 1)..=(last.date().year() + 1))
                .filter_map(|year| rule.date(year))
                .filter(|date| (first..=last).contains(date))
                .for_each(each),
        }
    }
}

impl Yearly {
    fn date(&self, year: i32) -> Option<TradeDate> {
        let wanted = (self.first_year..=self.last_year).contains(&year)
            && (self.only.is_empty() || self.only.iter().any(|(first, last)| (first..=last).contains(&&year)));
        if !wanted {
            return None;
        }
        let date = self.base.date(year)?;
        let weekday = date.weekday().num_days_from_monday() as usize;
        let counts = self.on & (1 << weekday) != 0;
        counts.then(|| TradeDate::new(date).plus(i32::from(self.shift[weekday]) + self.plus))
    }
}

impl Base {
    /// The base and, for `easter-2`, its offset.
    fn parse<'a>(first: &str, words: &mut impl Iterator<Item = &'a str>) -> Option<(Base, i32)> {
        for (name, base) in [("easter", Base::Easter), ("orthodox", Base::OrthodoxEaster)] {
            if let Some(offset) = first.strip_prefix(name) {
                let offset = if offset.is_empty() { 0 } else { offset_days(offset)? };
                return Some((base, offset));
            }
        }
        if let Some(month) = month(first) {
            let day = day_of(month, words)?;
            return Some((Base::Fixed { month, day }, 0));
        }
        if let Some(weekday) = weekday(first) {
            let after = match words.next()? {
                "after" => true,
                "before" => false,
                _ => return None,
            };
            let month = words.next().and_then(month)?;
            let day = day_of(month, words)?;
            return Some((Base::Beside { weekday, after, month, day }, 0));
        }
        let weekday = words.next().and_then(weekday)?;
        let month = words.next().and_then(month)?;
        let nth = match first {
            "1st" => 1,
            "2nd" => 2,
            "3rd" => 3,
            "4th" => 4,
            "5th" => 5,
            "last" => return Some((Base::Last { weekday, month }, 0)),
            _ => return None,
        };
        Some((Base::Nth { nth, weekday, month }, 0))
    }

    /// The base's date in a year; `None` where the year has none (29 February, a fifth Monday).
    fn date(&self, year: i32) -> Option<NaiveDate> {
        match *self {
            Base::Easter => easter(year),
            Base::OrthodoxEaster => orthodox_easter(year),
            Base::Fixed { month, day } => NaiveDate::from_ymd_opt(year, month, day),
            Base::Nth { nth, weekday, month } => NaiveDate::from_weekday_of_month_opt(year, month, weekday, nth as u8),
            Base::Last { weekday, month } => {
                let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                let end = NaiveDate::from_ymd_opt(next.0, next.1, 1)?.pred_opt()?;
                let back = end.weekday().days_since(weekday);
                end.checked_sub_days(Days::new(u64::from(back)))
            }
            Base::Beside { weekday, after: true, month, day } => {
                let next = NaiveDate::from_ymd_opt(year, month, day)?.succ_opt()?;
                next.checked_add_days(Days::new(u64::from(weekday.days_since(next.weekday()))))
            }
            Base::Beside { weekday, after: false, month, day } => {
                let previous = NaiveDate::from_ymd_opt(year, month, day)?.pred_opt()?;
                previous.checked_sub_days(Days::new(u64::from(previous.weekday().days_since(weekday))))
            }
        }
    }
}

/// Gregorian Easter Sunday (the anonymous algorithm of 1876).
fn easter(year: i32) -> Option<NaiveDate> {
    let a = year.rem_euclid(19);
    let (b, c) = (year.div_euclid(100), year.rem_euclid(100));
    let (d, e) = (b.div_euclid(4), b.rem_euclid(4));
    let f = (b + 8).div_euclid(25);
    let g = (b - f + 1).div_euclid(3);
    let h = (19 * a + b - d - g + 15).rem_euclid(30);
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k).rem_euclid(7);
    let m = (a + 11 * h + 22 * l) / 451;
    let n = h + l - 7 * m + 114;
    NaiveDate::from_ymd_opt(year, (n / 31) as u32, (n % 31 + 1) as u32)
}

/// Orthodox Easter Sunday: the Julian calendar's (Meeus), which lags by a growing number of days.
fn orthodox_easter(year: i32) -> Option<NaiveDate> {
    let (a, b, c) = (year.rem_euclid(4), year.rem_euclid(7), year.rem_euclid(19));
    let d = (19 * c + 15).rem_euclid(30);
    let e = (2 * a + 4 * b - d + 34).rem_euclid(7);
    let n = d + e + 114;
    let century = year.div_euclid(100);
    let lag = century - century.div_euclid(4) - 2;
    let julian = NaiveDate::from_ymd_opt(year, (n / 31) as u32, (n % 31 + 1) as u32)?;
    julian.checked_add_days(Days::new(u64::try_from(lag).ok()?))
}

/// The day of a month; a leap year has every day that any year has.
fn day_of<'a>(month: u32, words: &mut impl Iterator<Item = &'a str>) -> Option<u32> {
    let day = words.next()?.parse().ok()?;
    NaiveDate::from_ymd_opt(2000, month, day).map(|_| day)
}

/// `sat>fri` goes back a day, `sun>mon` forward: the shorter way, and forward if both are as long.
fn shift(from: Weekday, to: Weekday) -> i8 {
    let forward = to.days_since(from) as i8;
    if forward <= 3 { forward } else { forward - 7 }
}

/// `+1`, `-2`; at most a year.
fn offset_days(word: &str) -> Option<i32> {
    let signed = word.starts_with(['+', '-']);
    word.parse().ok().filter(|days: &i32| signed && days.abs() <= 366)
}

fn year(word: &str) -> Option<i32> {
    word.parse().ok().filter(|year| (1800..=2300).contains(year))
}

fn years(word: &str) -> Option<Vec<(i32, i32)>> {
    word.split(',')
        .map(|part| {
            let (first, last) = part.split_once("..").unwrap_or((part, part));
            year(first).zip(year(last)).filter(|(first, last)| first <= last)
        })
        .collect()
}

fn month(word: &str) -> Option<u32> {
    let names = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    names.iter().position(|name| *name == word).map(|index| index as u32 + 1)
}

/// `nov-feb`, `jun,jul` as a bit per month from January; a range may wrap around the year.
pub(crate) fn months(text: &str) -> Option<u16> {
    let mut months = 0;
    for part in text.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (mut at, last) = (month(first)? - 1, month(last)? - 1);
        loop {
            months |= 1 << at;
            if at == last {
                break;
            }
            at = (at + 1) % 12;
        }
    }
    Some(months)
}

/// `mon` to `sun`.
pub(crate) fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "mon" => Weekday::Mon,
        "tue" => Weekday::Tue,
        "wed" => Weekday::Wed,
        "thu" => Weekday::Thu,
        "fri" => Weekday::Fri,
        "sat" => Weekday::Sat,
        "sun" => Weekday::Sun,
        _ => return None,
    })
}

/// `mon-fri`, `mon,wed,fri`, `sun-thu` as a bit per weekday from Monday; a range may wrap around the week.
pub(crate) fn weekdays(text: &str) -> Option<u8> {
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let last = weekday(last)?;
        let mut day = weekday(first)?;
        loop {
            days |= 1 << day.num_days_from_monday();
            if day == last {
                break;
            }
            day = day.succ();
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dates(rule: &str, year: i32) -> Vec<String> {
        let mut dates = Vec::new();
        let first = TradeDate::from_ymd(year, 1, 1).unwrap();
        Rule::parse(rule)
            .unwrap()
            .dates(first, TradeDate::from_ymd(year, 12, 31).unwrap(), |d| dates.push(d.to_string()));
        dates
    }

    #[test]
    fn rules_mean_the_dates_of_the_almanac() {
        for (rule, year, expected) in [
            ("easter-2", 2024, "2024-03-29"),
            ("easter", 2000, "2000-04-23"),
            ("easter +1", 2038, "2038-04-26"),
            // 2010, 2011, 2014 and 2017 have one Easter for both churches.
            ("orthodox", 2000, "2000-04-30"),
            ("orthodox", 2014, "2014-04-20"),
            ("orthodox-2", 2024, "2024-05-03"),
            ("orthodox+1", 2026, "2026-04-13"),
            ("orthodox+50", 2027, "2027-06-21"),
            ("orthodox", 2100, "2100-05-02"),
            // Swedish midsummer eve, and Victoria Day.
            ("fri after jun 18", 2026, "2026-06-19"),
            ("fri after jun 18", 2020, "2020-06-19"),
            ("fri after jun 18", 2021, "2021-06-25"),
            ("mon before may 25", 2026, "2026-05-18"),
            ("mon before may 25", 2020, "2020-05-18"),
            ("mon before may 25", 2021, "2021-05-24"),
            ("3rd mon jan", 2024, "2024-01-15"),
            ("last mon may", 2024, "2024-05-27"),
            ("last wed dec", 2025, "2025-12-31"),
            ("4th thu nov +1", 2024, "2024-11-29"),
            ("jul 4 sat>fri sun>mon", 2020, "2020-07-03"),
            ("jul 4 sat>fri sun>mon", 2021, "2021-07-05"),
            // 2022-01-01 is a Saturday: New York does not take the Friday, Chicago's rule could.
            ("jan 1 sun>mon", 2022, "2022-01-01"),
            ("jan 1 sat>fri", 2021, "2021-01-01 2021-12-31"),
            ("jun 19 from 2022", 2021, ""),
            ("easter-2 in 2013..2014,2016", 2015, ""),
            ("easter-2 in 2013..2014,2016", 2016, "2016-03-25"),
            ("jul 3 on mon-thu", 2026, ""),
            ("feb 29", 2023, ""),
            ("5th mon feb", 2024, ""),
            ("2024-12-30..2025-01-02", 2024, "2024-12-30 2024-12-31"),
        ] {
            assert_eq!(dates(rule, year).join(" "), expected, "{rule} in {year}");
        }
    }

    #[test]
    fn a_rule_that_means_nothing_is_refused() {
        for text in [
            "",
            "easter-",
            "easter+9999",
            "jul",
            "jul 32",
            "feb 30",
            "6th mon jan",
            "orthodox-",
            "fri after jun",
            "fri jun 18",
            "mon before may 32",
            "3rd jan",
            "2024-13-01",
            "2024-02-30",
            "2024-02-02..2024-02-01",
            "jul 4 sat>",
            "jul 4 on",
            "jul 4 in 2015..2010",
            "jul 4 from x",
            "jul 4 banana",
            "jul 4 1",
            "2024-",
            "4th thu nov + 1",
            "ü",
            "20é4-",
        ] {
            assert!(Rule::parse(text).is_err(), "{text}");
        }
    }
}
