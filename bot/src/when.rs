//! Which sessions are meant? Words become a symbolic [`When`]; the session calendar and a clock make trade dates of it.
//!
//! Not civil days: "yesterday" on a Monday is Friday's session, and on Sunday evening the trade date is Monday's already.

use crate::error::{Refusal, RefusalKind, Unanswered};
use crate::intent::unclear;
use crate::lexicon::Word;
use chrono::{DateTime, Datelike, NaiveDate, Weekday};
use chrono_tz::Tz;
use market::{Calendar, Nanos, Segments, Timeframe, TradeDate, group_of};

/// Sessions a question may cover.
pub const MOST_SESSIONS: u32 = 2_600;

/// Sessions, as people name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The running session, or the last one.
    Latest,
    /// The session of today.
    Today,
    /// The session before today's.
    Yesterday,
    /// The session after today's; only hours are known of it.
    Tomorrow,
    /// That many sessions, ending with the latest.
    LastSessions(u32),
    /// The session that many before the latest.
    SessionsAgo(u32),
    /// The sessions of this week so far.
    ThisWeek,
    /// Those of that many whole weeks before this one.
    LastWeeks(u32),
    /// The sessions of this month so far.
    ThisMonth,
    /// Those of that many whole months before this one.
    LastMonths(u32),
    /// The latest session on that day of the week.
    Weekday(Weekday),
    /// A trade date.
    Date(Day),
    /// From one trade date to another, both included.
    Dates(Day, Day),
    /// The sessions of a month; without a year the latest one.
    Month(u32, Option<i32>),
}

/// A civil date, the year of which may be missing: then the latest is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    year: Option<i32>,
    month: u32,
    day: u32,
}

impl From<NaiveDate> for Day {
    fn from(date: NaiveDate) -> Day {
        Day { year: Some(date.year()), month: date.month(), day: date.day() }
    }
}

/// Takes the dates out of a question; the other words are left, with `5 minutes` made a timeframe.
///
/// # Errors
/// A refusal where two different times are named, or one that makes no sense.
pub fn extract(words: &[Word]) -> Result<(Option<When>, Vec<Word>), Refusal> {
    let (mut found, mut rest, mut at) = (None, Vec::with_capacity(words.len()), 0);
    while at < words.len() {
        if let Some((timeframe, length)) = timeframe(&words[at..])? {
            rest.push(Word::Timeframe(timeframe));
            at += length;
        } else if let Some((when, length)) = when(&words[at..])? {
            match found {
                Some(before) if before != when => return Err(unclear("I see two different times; name one.")),
                _ => found = Some(when),
            }
            at += length;
        } else {
            rest.push(words[at].clone());
            at += 1;
        }
    }
    Ok((found, rest))
}

fn timeframe(words: &[Word]) -> Result<Option<(Timeframe, usize)>, Refusal> {
    let (count, unit) = match words {
        [Word::Number(count), Word::Minute, ..] => (*count, "m"),
        [Word::Number(count), Word::Hour, ..] => (*count, "h"),
        _ => return Ok(None),
    };
    let timeframe = Timeframe::parse(&format!("{count}{unit}"));
    timeframe.map(|timeframe| Some((timeframe, 2))).map_err(|_| unclear("A bar has 1 minute to 24 hours."))
}

/// The time at the beginning of the words, and how many of them it takes.
fn when(words: &[Word]) -> Result<Option<(When, usize)>, Refusal> {
    use Word::{Ago, From, Last, Month, Next, Number, Session, This, Today, Tomorrow, Week, Weekday, Yesterday};
    let count = |n: u32, most: u32| match n {
        1.. if n <= most => Ok(n),
        _ => Err(unclear(&format!("A count from 1 to {most} is what I can answer for."))),
    };
    let found = match words {
        [Today, ..] => (When::Today, 1),
        [Yesterday, ..] => (When::Yesterday, 1),
        [Tomorrow, ..] | [Next, Session, ..] => (When::Tomorrow, if words[0] == Tomorrow { 1 } else { 2 }),
        [Last, Number(n), Session, ..] => (When::LastSessions(count(*n, MOST_SESSIONS)?), 3),
        [Last, Number(n), Week, ..] => (When::LastWeeks(count(*n, 520)?), 3),
        [Last, Number(n), Month, ..] => (When::LastMonths(count(*n, 120)?), 3),
        [Number(n), Session, Ago, ..] => (When::SessionsAgo(count(*n, MOST_SESSIONS)?), 3),
        [Number(n), Session, ..] => (When::LastSessions(count(*n, MOST_SESSIONS)?), 2),
        [Last, Session, ..] => (When::Yesterday, 2),
        [Last, Week, ..] => (When::LastWeeks(1), 2),
        [Last, Month, ..] => (When::LastMonths(1), 2),
        [This, Session, ..] => (When::Latest, 2),
        [This, Week, ..] => (When::ThisWeek, 2),
        [This, Month, ..] => (When::ThisMonth, 2),
        [This | Last, Weekday(day), ..] => (When::Weekday(*day), 2),
        [Weekday(day), rest @ ..] => match day_of(rest) {
            // "monday 24 november": the date says it all.
            Some((date, length)) => (When::Date(date), length + 1),
            None => (When::Weekday(*day), 1),
        },
        [From, rest @ ..] => match range(rest)? {
            Some((when, length)) => (when, length + 1),
            None => return Err(unclear("I know \"from\" with two dates, as in: from 2025-11-03 to 2025-11-07.")),
        },
        [Last, ..] => (When::Latest, 1),
        words => return range(words),
    };
    Ok(Some(found))
}

/// `DAY`, `DAY to DAY`, or a month.
fn range(words: &[Word]) -> Result<Option<(When, usize)>, Refusal> {
    let Some((first, length)) = day_of(words) else {
        return Ok(match words {
            [Word::MonthName(month), Word::Number(year), ..] if *year >= 1900 => {
                Some((When::Month(*month, Some(*year as i32)), 2))
            }
            [Word::MonthName(month), ..] => Some((When::Month(*month, None), 1)),
            _ => None,
        });
    };
    let rest = &words[length..];
    if let [Word::To, rest @ ..] = rest
        && let Some((last, more)) = day_of(rest)
    {
        return Ok(Some((When::Dates(first, last), length + 1 + more)));
    }
    Ok(Some((When::Date(first), length)))
}

fn day_of(words: &[Word]) -> Option<(Day, usize)> {
    let (month, day, length) = match words {
        [Word::Date(date), ..] => return Some(((*date).into(), 1)),
        [Word::MonthName(month), Word::Number(day), ..] => (*month, *day, 2),
        [Word::Number(day), Word::MonthName(month), ..] => (*month, *day, 2),
        _ => return None,
    };
    if !(1..=31).contains(&day) {
        return None;
    }
    match words.get(length) {
        Some(Word::Number(year)) if (1900..=2200).contains(year) => {
            Some((Day { year: Some(*year as i32), month, day }, length + 1))
        }
        _ => Some((Day { year: None, month, day }, length)),
    }
}

/// Trade dates: at least one session lies in `first..=last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first session's trade date.
    pub first: TradeDate,
    /// The last session's.
    pub last: TradeDate,
    /// How many sessions there are.
    pub sessions: usize,
}

impl Period {
    fn one(date: TradeDate) -> Period {
        Period { first: date, last: date, sessions: 1 }
    }
}

/// Where a clock stands in a calendar.
pub struct Clock<'c> {
    calendar: &'c Calendar,
    tz: Tz,
    /// The session of today: begun, or still to begin on this civil day, or over earlier on it.
    pub today: Option<TradeDate>,
    /// The latest session that has begun.
    pub latest: TradeDate,
    /// The session before today's; on a day without one, the latest.
    pub yesterday: TradeDate,
    civil: NaiveDate,
}

impl<'c> Clock<'c> {
    /// Reads a clock.
    ///
    /// # Errors
    /// If the instant lies outside what the calendar covers.
    pub fn new(calendar: &'c Calendar, now: Nanos) -> Result<Clock<'c>, Unanswered> {
        let tz = zone(calendar);
        let civil = DateTime::from_timestamp_nanos(now).with_timezone(&tz).date_naive();
        let filed = calendar.session_at(now)?;
        let before = calendar.next_session(filed.trade_date, -1)?;
        let begun = filed.open(Segments::ETH).is_some_and(|open| open <= now);
        let latest = if begun { filed.trade_date } else { before };
        let today = if begun || filed.trade_date.date() == civil {
            Some(filed.trade_date)
        } else {
            // Tuesday 22:00: Tuesday's session is over, and it is still Tuesday.
            Some(before).filter(|date| date.date() >= civil)
        };
        let yesterday = match today {
            Some(today) => calendar.next_session(today, -1)?,
            None => latest,
        };
        Ok(Clock { calendar, tz, today, latest, yesterday, civil })
    }

    /// The time zone of the calendar.
    pub fn zone(&self) -> Tz {
        self.tz
    }

    /// The sessions that are meant.
    ///
    /// # Errors
    /// A refusal if there is no session then, or it lies beyond the calendar's known range or in the future.
    pub fn resolve(&self, when: When) -> Result<Period, Unanswered> {
        let calendar = self.calendar;
        let week = |date| group_of(calendar, Timeframe::Week, date);
        match when {
            When::Latest => Ok(Period::one(self.latest)),
            When::Today => self.today.map(Period::one).ok_or_else(|| self.no_session(self.civil).into()),
            When::Yesterday => Ok(Period::one(self.yesterday)),
            When::Tomorrow => {
                let date = calendar.next_session(self.today.unwrap_or(self.latest), 1)?;
                Ok(Period::one(date))
            }
            When::SessionsAgo(n) => Ok(Period::one(calendar.next_session(self.latest, -(n as i32))?)),
            When::LastSessions(n) => {
                let known = calendar.known().0;
                let earliest = calendar.next_session(self.latest, 1 - n.min(MOST_SESSIONS) as i32);
                self.period(earliest.unwrap_or(known), self.latest)
            }
            When::ThisWeek => self.period(week(self.latest)?.0, self.latest),
            When::LastWeeks(n) => {
                let this = TradeDate::new(self.monday());
                self.period(this.plus(-7 * n as i32), this.plus(-1))
            }
            When::ThisMonth => {
                let latest = self.latest.date();
                self.period(TradeDate::new(latest.with_day(1).unwrap_or(latest)), self.latest)
            }
            When::LastMonths(n) => {
                let end = first_of_month(self.latest.date(), 0);
                self.period(TradeDate::new(first_of_month(end, n)), TradeDate::new(end).plus(-1))
            }
            When::Month(month, year) => {
                let latest = self.latest.date();
                let year = year.unwrap_or(latest.year() - i32::from(month > latest.month()));
                let first =
                    NaiveDate::from_ymd_opt(year, month, 1).ok_or_else(|| unclear("There is no such month."))?;
                let next = first.checked_add_months(chrono::Months::new(1)).unwrap_or(first);
                self.period(TradeDate::new(first), TradeDate::new(next).plus(-1))
            }
            When::Weekday(day) => {
                // The latest on or before today; on a day without a session it is still this week's day.
                let from = self.today.map_or(self.civil, |today| today.date().max(self.civil));
                let back = (7 + from.weekday().num_days_from_monday() - day.num_days_from_monday()) % 7;
                self.on(TradeDate::new(from).plus(-(back as i32)))
            }
            When::Date(day) => self.on(self.date(day)?),
            When::Dates(first, last) => {
                let (mut first, last) = (self.date(first)?, self.date(last)?);
                if first > last {
                    // "dec 29 to jan 5" without years.
                    let back = first.date().checked_sub_months(chrono::Months::new(12)).map(TradeDate::new);
                    first = back.filter(|back| *back <= last).unwrap_or(first);
                }
                if first > last {
                    return Err(unclear("The first of the two dates comes after the second.").into());
                }
                self.period(first, last)
            }
        }
    }

    fn date(&self, day: Day) -> Result<TradeDate, Refusal> {
        let none = || unclear("There is no such day in the calendar.");
        let of = |year| NaiveDate::from_ymd_opt(year, day.month, day.day);
        let today = self.today.map_or(self.civil, |today| today.date().max(self.civil));
        let date = match day.year {
            Some(year) => of(year),
            // 29 February may be some years back.
            None => (0..9).filter_map(|back| of(today.year() - back)).find(|date| *date <= today),
        };
        date.map(TradeDate::new).ok_or_else(none)
    }

    fn on(&self, date: TradeDate) -> Result<Period, Unanswered> {
        match self.calendar.is_session(date)? {
            true => Ok(Period::one(date)),
            false => Err(self.no_session(date.date()).into()),
        }
    }

    fn period(&self, first: TradeDate, last: TradeDate) -> Result<Period, Unanswered> {
        // Half of what was asked may lie beyond what the calendar knows; the other half can be answered.
        let (from, till) = self.calendar.known();
        let mut dates = Vec::new();
        if first <= till && last >= from {
            dates.extend(self.calendar.sessions(first.max(from), last.min(till))?.map(|session| session.trade_date));
        }
        let (Some(begin), Some(end)) = (dates.first(), dates.last()) else {
            let message = format!("{} has no session from {first} to {last}.", self.calendar.id());
            return Err(Refusal::new(RefusalKind::NoSession, message, self.neighbours(first)).into());
        };
        if dates.len() > MOST_SESSIONS as usize {
            return Err(unclear(&format!("That is more than the {MOST_SESSIONS} sessions I can answer for.")).into());
        }
        Ok(Period { first: *begin, last: *end, sessions: dates.len() })
    }

    fn no_session(&self, day: NaiveDate) -> Refusal {
        let date = TradeDate::new(day);
        let reason = self.calendar.closure(date).ok().flatten().map(|name| format!(" ({name})")).unwrap_or_default();
        let message = format!("{} has no session on {}{reason}.", self.calendar.id(), day.format("%A %Y-%m-%d"));
        Refusal::new(RefusalKind::NoSession, message, self.neighbours(date))
    }

    fn neighbours(&self, date: TradeDate) -> String {
        let before = self.calendar.next_session(date, -1);
        let after = self.calendar.next_session(date, 1);
        match (before, after) {
            (Ok(before), Ok(after)) => format!("The sessions around it are {before} and {after}."),
            _ => {
                let (first, last) = self.calendar.known();
                format!("The calendar covers {first} to {last}.")
            }
        }
    }

    fn monday(&self) -> NaiveDate {
        let latest = self.latest.date();
        latest.week(self.calendar.week_start(self.latest)).checked_first_day().unwrap_or(latest)
    }
}

fn first_of_month(date: NaiveDate, months_back: u32) -> NaiveDate {
    let first = date.with_day(1).unwrap_or(date);
    first.checked_sub_months(chrono::Months::new(months_back)).unwrap_or(first)
}

/// The time zone of a calendar; every one of ours is known to chrono-tz.
pub fn zone(calendar: &Calendar) -> Tz {
    calendar.time_zone().parse().unwrap_or(Tz::UTC)
}
