//! When a contract last trades: a rule such as `3rd fri` or `day 25 -1m prev -3b`, evaluated on a calendar.

use crate::calendar::Calendar;
use crate::error::{Error, Result};
use crate::time::TradeDate;
use chrono::{Datelike, NaiveDate, Weekday};

/// A rule for the last trade date, read from a product file.
///
/// A date of the delivery month, then steps from left to right:
///
/// | words | date |
/// |---|---|
/// | `3rd fri`, `last thu` | that weekday of the month |
/// | `10th bday`, `last bday`, `3rd last bday` | that business day of the month |
/// | `day 25` | the calendar day |
/// | `wed near 15` | the Wednesday nearest to the 15th |
///
/// | step | |
/// |---|---|
/// | `-1m`, `+3m` | of another month than the delivery month; comes first |
/// | `-3b`, `+1b` | that many business days earlier or later; from a day that is none, the first step finds the nearest |
/// | `-30d`, `+7d` | calendar days |
/// | `prev`, `next` | if it is no business day, the one before or after |
/// | `week` | a week earlier until the day and the four weekdays before it are business days |
///
/// What is left on no business day moves to the one before. A business day is a session that clears on its own date: the
/// shortened sessions of US holidays are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryRule {
    anchor: Anchor,
    months: i32,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Anchor {
    /// From the end if negative.
    Weekday(i32, Weekday),
    BusinessDay(i32),
    Day(u32),
    Near(Weekday, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    BusinessDays(i32),
    Days(i32),
    Previous,
    Next,
    WholeWeek,
}

const GRAMMAR: &str = "\"3rd fri\", \"last bday\", \"3rd last bday\", \"10th bday\", \"day 25\" or \"wed near 15\", then any of: \
-1m (first), -3b, -30d, prev, next, week";

impl ExpiryRule {
    /// Reads a rule.
    ///
    /// # Errors
    /// `Invalid` with the grammar.
    pub fn parse(text: &str) -> Result<ExpiryRule> {
        read(text).ok_or_else(|| Error::invalid("expiry rule", text.chars().take(80).collect::<String>(), GRAMMAR))
    }

    /// The last trade date of the contract of a delivery month: business days are days on which every calendar of `days` has one.
    ///
    /// # Errors
    /// `OutOfBounds` beyond what the calendars cover, `Invalid` for a month that is none.
    pub fn date(&self, year: i32, month: u32, days: &[Calendar]) -> Result<TradeDate> {
        let first = add_months(year, month, self.months)?;
        let last = add_months(year, month, self.months.saturating_add(1))?.plus(-1);
        let mut date = match self.anchor {
            Anchor::Weekday(nth, weekday) => {
                nth_of((first.0..=last.0).map(TradeDate), nth, |day| Ok(day.date().weekday() == weekday))?
            }
            Anchor::BusinessDay(nth) => {
                nth_of((first.0..=last.0).map(TradeDate), nth, |day| is_business_day(day, days))?
            }
            Anchor::Day(day) => Some(first.plus(day as i32 - 1).min(last)),
            Anchor::Near(weekday, day) => {
                let around = first.plus(day as i32 - 1);
                (-3..=3).map(|days| around.plus(days)).find(|date| date.date().weekday() == weekday)
            }
        }
        .ok_or_else(|| Error::invalid("expiry rule", format!("{year}-{month:02}"), "a day that the month has"))?;
        for step in &self.steps {
            date = match *step {
                Step::Days(days) => date.plus(days),
                Step::Previous => nearest_business_day(date, -1, days)?,
                Step::Next => nearest_business_day(date, 1, days)?,
                Step::BusinessDays(count) => {
                    let mut date = date;
                    for _ in 0..count.abs() {
                        date = nearest_business_day(date.plus(count.signum()), count.signum(), days)?;
                    }
                    date
                }
                Step::WholeWeek => {
                    let mut date = date;
                    while !is_whole_week(date, days)? {
                        date = date.plus(-7);
                    }
                    date
                }
            };
        }
        nearest_business_day(date, -1, days)
    }
}

fn read(text: &str) -> Option<ExpiryRule> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (anchor, rest) = match words.as_slice() {
        ["day", day, rest @ ..] => (Anchor::Day(day.parse().ok().filter(|day| (1..=31).contains(day))?), rest),
        [weekday, "near", day, rest @ ..] => {
            (Anchor::Near(self::weekday(weekday)?, day.parse().ok().filter(|day| (4..=28).contains(day))?), rest)
        }
        ["last", kind, rest @ ..] => (anchor(-1, kind)?, rest),
        [nth, "last", kind, rest @ ..] => (anchor(-ordinal(nth)?, kind)?, rest),
        [nth, kind, rest @ ..] => (anchor(ordinal(nth)?, kind)?, rest),
        _ => return None,
    };
    let mut rule = ExpiryRule { anchor, months: 0, steps: Vec::new() };
    for (place, word) in rest.iter().enumerate() {
        let count = |unit: char| {
            let signed = word.strip_suffix(unit).filter(|text| text.starts_with(['+', '-']))?;
            signed.parse::<i32>().ok().filter(|count| *count != 0 && count.abs() <= 62)
        };
        match *word {
            "prev" => rule.steps.push(Step::Previous),
            "next" => rule.steps.push(Step::Next),
            "week" => rule.steps.push(Step::WholeWeek),
            _ if place == 0 && count('m').is_some_and(|months| months.abs() <= 12) => rule.months = count('m')?,
            _ => match (count('b'), count('d')) {
                (Some(days), _) => rule.steps.push(Step::BusinessDays(days)),
                (_, Some(days)) => rule.steps.push(Step::Days(days)),
                _ => return None,
            },
        }
    }
    Some(rule)
}

fn anchor(nth: i32, kind: &str) -> Option<Anchor> {
    match kind {
        "bday" => Some(Anchor::BusinessDay(nth)),
        _ => weekday(kind).filter(|_| (-4..=4).contains(&nth)).map(|weekday| Anchor::Weekday(nth, weekday)),
    }
}

fn weekday(word: &str) -> Option<Weekday> {
    crate::calendar::weekday(word)
}

/// `1st` to `17th`.
fn ordinal(word: &str) -> Option<i32> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let number: i32 = digits.parse().ok().filter(|number| (1..=17).contains(number))?;
    let suffix = match number {
        1 => "st",
        2 => "nd",
        3 => "rd",
        _ => "th",
    };
    (&word[digits.len()..] == suffix).then_some(number)
}

/// The first day of the month that lies some months after another.
fn add_months(year: i32, month: u32, months: i32) -> Result<TradeDate> {
    let invalid = || Error::invalid("delivery month", format!("{year}-{month}"), "a year and a month from 1 to 12");
    if !(1..=12).contains(&month) || !(1900..=2200).contains(&year) {
        return Err(invalid());
    }
    let index = year * 12 + month as i32 - 1 + months;
    let date = NaiveDate::from_ymd_opt(index.div_euclid(12), index.rem_euclid(12) as u32 + 1, 1);
    date.map(TradeDate::new).ok_or_else(invalid)
}

/// The nth day that counts, from the end if negative.
fn nth_of(
    days: impl DoubleEndedIterator<Item = TradeDate>,
    nth: i32,
    counts: impl Fn(TradeDate) -> Result<bool>,
) -> Result<Option<TradeDate>> {
    let mut left = nth.unsigned_abs();
    let mut visit = |day: TradeDate| -> Result<bool> {
        left -= u32::from(counts(day)?);
        Ok(left == 0)
    };
    let ordered: Vec<TradeDate> = if nth < 0 { days.rev().collect() } else { days.collect() };
    for day in ordered {
        if visit(day)? {
            return Ok(Some(day));
        }
    }
    Ok(None)
}

/// Whether every calendar has a session that clears on its own date.
fn is_business_day(date: TradeDate, days: &[Calendar]) -> Result<bool> {
    for calendar in days {
        if calendar.session(date)?.is_none_or(|session| session.clearing_date != date) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The date itself if it is a business day, else the next one in a direction. Holidays last less than three weeks.
fn nearest_business_day(date: TradeDate, direction: i32, days: &[Calendar]) -> Result<TradeDate> {
    for away in 0..=21 {
        let day = date.plus(direction * away);
        if is_business_day(day, days)? {
            return Ok(day);
        }
    }
    Err(Error::invalid("expiry", date.to_string(), "a calendar with a business day within three weeks"))
}

fn is_whole_week(date: TradeDate, days: &[Calendar]) -> Result<bool> {
    let mut weekdays = 0;
    let mut day = date;
    while weekdays < 5 {
        if !matches!(day.date().weekday(), Weekday::Sat | Weekday::Sun) {
            if !is_business_day(day, days)? {
                return Ok(false);
            }
            weekdays += 1;
        }
        day = day.plus(-1);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_cannot_be_read_names_the_grammar() {
        for text in [
            "",
            "fri",
            "3th fri",
            "5th fri",
            "3rd friday",
            "day 0",
            "day 32",
            "last bday 3b",
            "3rd fri -2b -1m",
            "x y z",
            "3rd fri -0b",
        ] {
            let error = ExpiryRule::parse(text).unwrap_err();
            assert!(error.hint().contains("3rd last bday"), "{text}: {error}");
        }
        for text in [
            "3rd fri",
            "17th last bday",
            "day 25 -1m prev -3b",
            "3rd fri +1m prev -30d",
            "wed near 15 next",
            "4th thu -7d week",
        ] {
            assert!(ExpiryRule::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn holiday_sessions_are_no_business_days() {
        // Thanksgiving 2025-11-27 trades shortened on Globex and clears on the 28th; the third last business day of
        // November is the 25th (CME: HG and GC November 2025 last trade on 2025-11-25).
        let metals = [Calendar::builtin("CME_METALS").unwrap()];
        let third_last = ExpiryRule::parse("3rd last bday").unwrap();
        assert_eq!(third_last.date(2025, 11, &metals).unwrap().to_string(), "2025-11-25");
        assert!(third_last.date(2150, 1, &metals).is_err(), "beyond the calendar");
        assert!(third_last.date(2025, 13, &metals).is_err());
    }
}
