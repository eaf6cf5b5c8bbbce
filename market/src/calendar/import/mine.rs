//! A table of sessions, explained: regular hours by weekday and era, holidays by rule, and what remains by date.

use super::{Draft, Head, Hours, Shape, Special};
use crate::calendar::compare::{Column, Row, SessionTable};
use crate::calendar::rule::Rule;
use crate::calendar::spec::Minutes;
use crate::error::{Error, Result};
use crate::time::{MINUTE, Nanos, TradeDate};
use chrono::{DateTime, Datelike, TimeZone, Timelike};
use chrono_tz::Tz;
use std::collections::{BTreeMap, BTreeSet};

/// Hours are regular from when they hold on most of this many sessions of a weekday.
const PERSISTENT: usize = 10;

/// A rule explains at least this many dates, or it is chance.
const FEWEST: usize = 4;

pub(super) fn mine(head: &Head, table: &SessionTable) -> Result<Draft> {
    let mut shapes = BTreeMap::new();
    for (date, row) in &table.rows {
        shapes.insert(*date, shape(row, *date, head.zone)?);
    }
    let hours = regular_hours(table.first, table.last, &shapes);
    let expected = |date: TradeDate| {
        let day = 1 << date.date().weekday().num_days_from_monday();
        let holds = |row: &&Hours| {
            row.days & day != 0 && row.from.is_none_or(|from| from <= date) && row.to.is_none_or(|to| date <= to)
        };
        hours.iter().find(holds).map(|row| &row.shape)
    };
    let mut closed = BTreeSet::new();
    let mut irregular: BTreeMap<(bool, &Shape), BTreeSet<TradeDate>> = BTreeMap::new();
    for date in (table.first.0..=table.last.0).map(TradeDate) {
        match (expected(date), shapes.get(&date)) {
            (Some(_), None) => drop(closed.insert(date)),
            (expected, Some(actual)) if expected != Some(actual) => {
                irregular.entry((expected.is_none(), actual)).or_default().insert(date);
            }
            _ => {}
        }
    }
    let years = (table.first.date().year(), table.last.date().year());
    let candidates = candidates();
    let mut draft = Draft { known: Some((table.first, table.last)), ..Draft::default() };
    // A rule may fall on a day that has no session anyway.
    let rules = cover(&candidates, &mut closed, years, |date| !shapes.contains_key(&date));
    for (base, rule) in rules {
        let name = name_of(&base);
        match draft.holidays.iter_mut().find(|(known, _)| known == name) {
            Some((_, rules)) => rules.push(rule),
            None => draft.holidays.push((name.to_string(), vec![rule])),
        }
    }
    for date in closed {
        let year = format!("closed in {}", date.date().year());
        match draft.closed.last_mut().filter(|(known, _)| *known == year) {
            Some((_, dates)) => dates.push(date.to_string()),
            None => draft.closed.push((year, vec![date.to_string()])),
        }
    }
    for ((open_day, shape), mut dates) in irregular {
        let mut on: Vec<String> = Vec::new();
        // Forcing a session open by a rule would open holidays.
        if !open_day {
            let all = dates.clone();
            let harmless = |date| all.contains(&date) || !shapes.contains_key(&date);
            on.extend(cover(&candidates, &mut dates, years, harmless).into_iter().map(|(_, rule)| rule));
        }
        on.extend(dates.iter().map(TradeDate::to_string));
        let name = if open_day { "extra session" } else { "irregular hours" };
        draft.specials.push(Special { name, on, shape: shape.clone(), open_day });
    }
    draft.hours = hours;
    if draft.hours.is_empty() {
        // Every session is an exception: take the first one's hours for its weekday, so that there is a row at all.
        let Some((date, shape)) = shapes.first_key_value() else { return Ok(draft) };
        let days = 1 << date.date().weekday().num_days_from_monday();
        draft.hours.push(Hours { from: Some(*date), to: Some(*date), days, shape: shape.clone() });
    }
    Ok(draft)
}

/// A session's times on the wall clock of its trade date.
fn shape(row: &Row, date: TradeDate, zone: Tz) -> Result<Shape> {
    let time = |column: Column| row[column as usize].map(|ts| minutes(ts, date, zone)).transpose();
    let (open, close) = (time(Column::Open)?.unwrap_or(0), time(Column::Close)?.unwrap_or(0));
    let main = match (time(Column::BreakStart)?, time(Column::BreakEnd)?) {
        (Some(start), Some(end)) => vec![(open, start), (end, close)],
        _ => vec![(open, close)],
    };
    let pre = time(Column::Pre)?.filter(|pre| *pre < open).map(|pre| (pre, open));
    let post = time(Column::Post)?.filter(|post| *post > close).map(|post| (close, post));
    Ok(Shape { main, pre: pre.into_iter().collect(), post: post.into_iter().collect(), rth: None })
}

fn minutes(ts: Nanos, date: TradeDate, zone: Tz) -> Result<Minutes> {
    let local = zone.from_utc_datetime(&DateTime::from_timestamp_nanos(ts).naive_utc());
    let days = (local.date_naive() - date.date()).num_days();
    if ts.rem_euclid(MINUTE) != 0 || !(-3..=3).contains(&days) {
        let ts = crate::time::format_instant(ts);
        return Err(Error::invalid("session", format!("{date}: {ts}"), "whole minutes within three days of its date"));
    }
    Ok(days as Minutes * 1440 + local.hour() as Minutes * 60 + local.minute() as Minutes)
}

/// A change of a weekday's regular hours: it happens on a day after `after`, at the latest on `by`.
struct Change {
    after: TradeDate,
    by: TradeDate,
    at: TradeDate,
}

/// The rows of hours: per weekday the shapes that hold for long, weekdays with the same dates and hours together.
fn regular_hours(first: TradeDate, last: TradeDate, shapes: &BTreeMap<TradeDate, Shape>) -> Vec<Hours> {
    let mut eras: Vec<Vec<Option<&Shape>>> = Vec::new();
    let mut changes: Vec<Vec<Change>> = Vec::new();
    for weekday in 0..7 {
        let days: Vec<TradeDate> = (first.0..=last.0)
            .map(TradeDate)
            .filter(|date| date.date().weekday().num_days_from_monday() == weekday)
            .collect();
        let seen: Vec<Option<&Shape>> = days.iter().map(|day| shapes.get(day)).collect();
        let (mut era, mut change) = (vec![None], Vec::new());
        let mut current: Option<&Shape> = None;
        let mut held = first.plus(-1);
        for (at, (day, shape)) in days.iter().zip(&seen).enumerate() {
            if *shape == current {
                held = *day;
                continue;
            }
            let ahead = &seen[at..(at + PERSISTENT).min(seen.len())];
            let same = ahead.iter().filter(|other| *other == shape).count();
            // Near the end few days are left; half a window of them must agree all the same.
            if same * 10 >= ahead.len() * 7 && same * 2 >= PERSISTENT.min(seen.len()) {
                change.push(Change { after: held, by: *day, at: *day });
                era.push(*shape);
                current = *shape;
                held = *day;
            }
        }
        eras.push(era);
        changes.push(change);
    }
    align(&mut changes);
    let mut rows: Vec<Hours> = Vec::new();
    for (weekday, (era, change)) in eras.iter().zip(&changes).enumerate() {
        for (at, shape) in era.iter().enumerate() {
            let Some(shape) = *shape else { continue };
            let from = at.checked_sub(1).and_then(|at| change.get(at)).map(|change| change.at);
            let from = from.filter(|from| *from > first.plus(6));
            let to = change.get(at).map(|next| next.at.plus(-1));
            match rows.iter_mut().find(|row| (row.from, row.to) == (from, to) && row.shape == *shape) {
                Some(row) => row.days |= 1 << weekday,
                None => rows.push(Hours { from, to, days: 1 << weekday, shape: shape.clone() }),
            }
        }
    }
    rows.sort_by_key(|row| (row.from, row.days.trailing_zeros()));
    rows
}

/// Puts changes of several weekdays on one date where one date will do.
fn align(changes: &mut [Vec<Change>]) {
    let mut all: Vec<&mut Change> = changes.iter_mut().flatten().collect();
    all.sort_by_key(|change| change.by);
    let mut date: Option<TradeDate> = None;
    for change in all {
        if !date.is_some_and(|date| change.after < date && date <= change.by) {
            date = Some(change.by);
        }
        change.at = date.unwrap_or(change.by);
    }
}

/// Rules that might explain a date, simple ones first.
fn candidates() -> Vec<(String, Rule)> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let mut texts: Vec<String> = Vec::new();
    for month in MONTHS {
        texts.extend((1..=31).map(|day| format!("{month} {day}")));
    }
    let fixed = texts.len();
    for shift in ["sun>mon", "sat>fri sun>mon", "sat>mon sun>mon", "sat>mon sun>tue"] {
        texts.extend_from_within(..fixed);
        let from = texts.len() - fixed;
        texts[from..].iter_mut().for_each(|text| *text = format!("{text} {shift}"));
    }
    for month in MONTHS {
        for day in DAYS {
            texts.extend(["1st", "2nd", "3rd", "4th", "last"].iter().map(|nth| format!("{nth} {day} {month}")));
        }
    }
    texts.extend(["4th thu nov +1", "mon before may 25"].map(String::from));
    for days in [-48, -47, -46, -3, -2, 1, 2, 26, 39, 40, 49, 50, 60, 61, 68, 71] {
        texts.extend([format!("easter{days:+}"), format!("orthodox{days:+}")]);
    }
    // 30 February and its like are no rules.
    texts.into_iter().filter_map(|text| Rule::parse(&text).ok().map(|rule| (text, rule))).collect()
}

/// Takes the dates that rules explain out of `dates`: each rule with its years, the one that explains most first. A rule
/// holds over years in which all its dates are among `dates` or harmless.
fn cover(
    candidates: &[(String, Rule)],
    dates: &mut BTreeSet<TradeDate>,
    (first, last): (i32, i32),
    harmless: impl Fn(TradeDate) -> bool,
) -> Vec<(String, String)> {
    let fewest = FEWEST.min((last - first).max(1) as usize);
    if dates.len() < fewest {
        return Vec::new();
    }
    /// One rule over years that all fit.
    struct Fit<'c> {
        base: &'c str,
        years: (i32, i32),
        dates: Vec<(i32, TradeDate)>,
    }
    let mut fits: Vec<Fit<'_>> = Vec::new();
    for (base, rule) in candidates {
        let mut fit = Fit { base, years: (first, first - 1), dates: Vec::new() };
        for year in first..=last + 1 {
            let date = (year <= last).then(|| rule.in_year(year)).flatten();
            let bad = year > last || date.is_some_and(|date| !harmless(date));
            if !bad {
                fit.years.1 = year;
                fit.dates.extend(date.filter(|date| dates.contains(date)).map(|date| (year, date)));
                continue;
            }
            if fit.dates.len() >= fewest {
                fits.push(fit);
            }
            fit = Fit { base, years: (year + 1, year), dates: Vec::new() };
        }
    }
    let mut rules = Vec::new();
    loop {
        let left = |fit: &Fit<'_>| fit.dates.iter().filter(|(_, date)| dates.contains(date)).count();
        // Of equals the first, which is the simplest.
        let best =
            fits.iter().map(|fit| (left(fit), fit)).reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((_, best)) = best.filter(|(count, _)| *count >= fewest) else { return rules };
        let kept: Vec<(i32, TradeDate)> = best.dates.iter().copied().filter(|(_, date)| dates.contains(date)).collect();
        let mut rule = best.base.to_string();
        if best.years.0 > first {
            rule = format!("{rule} from {}", kept[0].0);
        }
        if best.years.1 < last {
            rule = format!("{rule} to {}", kept[kept.len() - 1].0);
        }
        rules.push((best.base.to_string(), rule));
        dates.retain(|date| !kept.iter().any(|(_, gone)| gone == date));
    }
}

/// What the world calls it, where it does; else the rule itself.
fn name_of(base: &str) -> &str {
    let known = [
        ("jan 1", "New Year's Day"),
        ("may 1", "Labour Day"),
        ("dec 24", "Christmas Eve"),
        ("dec 25", "Christmas"),
        ("dec 26", "Day after Christmas"),
        ("dec 31", "New Year's Eve"),
        ("easter-2", "Good Friday"),
        ("easter+1", "Easter Monday"),
        ("easter+39", "Ascension Day"),
        ("easter+50", "Whit Monday"),
        ("easter+60", "Corpus Christi"),
        ("4th thu nov", "Thanksgiving"),
    ];
    let fits = |text: &str| base.strip_prefix(text).is_some_and(|rest| rest.is_empty() || rest.starts_with(" s"));
    known.iter().find(|(text, _)| fits(text)).map_or(base, |(_, name)| name)
}
