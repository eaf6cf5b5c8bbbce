//! Market hours as QuantConnect LEAN keeps them: spans by civil weekday with a state, holidays, early closes, late opens.
//!
//! LEAN cuts at midnight; sessions do not. Spans that touch are one run, and a run belongs to the civil day on which it ends:
//! Sunday 17:00 to Monday 16:00 is Monday's. A run of more than a day is cut at the time it begins.

use super::{Draft, Head, Hours, Shape, Special};
use crate::calendar::spec::Minutes;
use crate::error::{Error, Result};
use crate::time::TradeDate;
use chrono::Datelike;
use std::collections::{BTreeMap, BTreeSet};

/// An entry of `market-hours-database.json`, with its texts as they stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeanHours {
    /// The spans of each civil day, from Monday.
    pub days: [Vec<LeanSpan>; 7],
    /// `12/25/2026`: closed from midnight to midnight.
    pub holidays: Vec<String>,
    /// Date and time from which the civil day is closed.
    pub early_closes: Vec<(String, String)>,
    /// Date and time until which the civil day is closed; after an early close, when it opens again.
    pub late_opens: Vec<(String, String)>,
}

/// A span of a civil day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeanSpan {
    /// `09:30:00`.
    pub start: String,
    /// `16:00:00`, `1.00:00:00` for midnight.
    pub end: String,
    /// `premarket`, `market`, `postmarket`.
    pub state: LeanState,
}

/// What a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeanState {
    /// `premarket`.
    Before,
    /// `market`.
    Regular,
    /// `postmarket`.
    After,
}

impl LeanState {
    /// Reads a state by its name.
    pub fn parse(name: &str) -> Option<LeanState> {
        match name {
            "premarket" => Some(LeanState::Before),
            "market" => Some(LeanState::Regular),
            "postmarket" => Some(LeanState::After),
            _ => None,
        }
    }
}

const DAY: Minutes = 1440;
const WEEK: Minutes = 7 * DAY;

/// A span in minutes from its trade date's midnight.
type Span = (Minutes, Minutes, LeanState);

pub(super) fn draft(head: &Head, from: &LeanHours) -> Result<Draft> {
    let week = week(from)?;
    let style = Style {
        // A session that begins the evening before is a future's: its regular hours are a window inside.
        night: week.iter().flatten().any(|span| span.0 < 0),
        states: week.iter().flatten().any(|span| span.2 != LeanState::Regular),
    };
    let mut hours: Vec<Hours> = Vec::new();
    for (day, spans) in week.iter().enumerate().filter(|(_, spans)| !spans.is_empty()) {
        let shape = style.shape(spans);
        match hours.iter_mut().find(|row| row.shape == shape) {
            Some(row) => row.days |= 1 << day,
            None => hours.push(Hours { from: None, to: None, days: 1 << day, shape }),
        }
    }
    let closures = closures(from)?;
    let mut closed = Vec::new();
    let mut specials: Vec<Special> = Vec::new();
    let touched: BTreeSet<TradeDate> = closures.keys().flat_map(|day| [*day, day.plus(1)]).collect();
    for date in touched {
        let regular = &week[date.date().weekday().num_days_from_monday() as usize];
        let left = open_spans(regular, date, &closures);
        if left.is_empty() && !regular.is_empty() {
            closed.push(date.to_string());
        } else if left != *regular {
            let shape = style.shape(&left);
            match specials.iter_mut().find(|special| special.shape == shape) {
                Some(special) => special.on.push(date.to_string()),
                None => specials.push(Special {
                    name: "irregular hours",
                    on: vec![date.to_string()],
                    shape,
                    open_day: false,
                }),
            }
        }
    }
    let years =
        closures.keys().next().zip(closures.keys().next_back()).map(|(a, b)| (a.date().year(), b.date().year()));
    let known = match (head.known, years) {
        (Some(known), _) => Some(known),
        (None, Some((first, last))) => Some((TradeDate::from_ymd(first, 1, 1)?, TradeDate::from_ymd(last, 12, 31)?)),
        (None, None) => None,
    };
    let closed = if closed.is_empty() { Vec::new() } else { vec![("holiday".to_string(), closed)] };
    Ok(Draft { known, hours, closed, specials, ..Draft::default() })
}

/// The spans of each weekday's session, from Monday, in minutes from its own midnight.
fn week(from: &LeanHours) -> Result<[Vec<Span>; 7]> {
    let mut spans: Vec<Span> = Vec::new();
    for (day, list) in from.days.iter().enumerate() {
        let start = day as Minutes * DAY;
        for span in list {
            let (open, close) = (time(&span.start)?, time(&span.end)?);
            if open >= close || close > DAY {
                let span = format!("{}-{}", span.start, span.end);
                return Err(Error::invalid("span of market hours", span, "a start before its end, on one civil day"));
            }
            spans.push((start + open, start + close, span.state));
        }
    }
    spans.sort_by_key(|span| span.0);
    if let Some(pair) = spans.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        let at = format!("{:02}:{:02}", pair[1].0 % DAY / 60, pair[1].0 % 60);
        return Err(Error::invalid("market hours", at, "spans that do not overlap"));
    }
    let mut week: [Vec<Span>; 7] = [const { Vec::new() }; 7];
    let touching = |a: &Span, b: &Span| a.1 % WEEK == b.0 % WEEK;
    // Begin after a gap, so that no run is cut by the week's end.
    let gap = (0..spans.len()).find(|at| !touching(&spans[(at + spans.len() - 1) % spans.len()], &spans[*at]));
    let Some(gap) = gap else {
        // Never closed: the civil days are the sessions.
        for (open, close, state) in spans {
            let day = open / DAY;
            week[day as usize].push((open - day * DAY, close - day * DAY, state));
        }
        return Ok(week);
    };
    spans.rotate_left(gap);
    // Later than the one before, beyond the week's end if need be.
    for at in 1..spans.len() {
        while spans[at].0 < spans[at - 1].1 {
            spans[at].0 += WEEK;
            spans[at].1 += WEEK;
        }
    }
    let mut run: Vec<Span> = Vec::new();
    for at in 0..spans.len() {
        run.push(spans[at]);
        if spans.get(at + 1).is_none_or(|next| next.0 != spans[at].1) {
            file(&std::mem::take(&mut run), &mut week);
        }
    }
    for day in &mut week {
        day.sort_by_key(|span| span.0);
        join(day);
    }
    Ok(week)
}

/// Files a run under the civil day on which it ends, cut where it lasts more than a day.
fn file(run: &[Span], week: &mut [Vec<Span>; 7]) {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
    let mut start = first.0;
    while start < last.1 {
        let end = (start + DAY).min(last.1);
        let day = (end - 1).div_euclid(DAY);
        let pieces = run.iter().map(|span| (span.0.max(start), span.1.min(end), span.2)).filter(|span| span.0 < span.1);
        week[day.rem_euclid(7) as usize]
            .extend(pieces.map(|(open, close, state)| (open - day * DAY, close - day * DAY, state)));
        start = end;
    }
}

/// Makes one of spans that touch in one state: LEAN cuts them at midnight.
fn join(spans: &mut Vec<Span>) {
    spans.dedup_by(|next, before| {
        let one = before.1 == next.0 && before.2 == next.2;
        if one {
            before.1 = next.1;
        }
        one
    });
}

/// The closed parts of civil days, in minutes from their midnight.
fn closures(from: &LeanHours) -> Result<BTreeMap<TradeDate, Vec<(Minutes, Minutes)>>> {
    let times = |list: &[(String, String)]| {
        list.iter().map(|(day, at)| Ok((date(day)?, time(at)?))).collect::<Result<BTreeMap<TradeDate, Minutes>>>()
    };
    let holidays = from.holidays.iter().map(|text| date(text)).collect::<Result<BTreeSet<TradeDate>>>()?;
    let (early, late) = (times(&from.early_closes)?, times(&from.late_opens)?);
    let days: BTreeSet<TradeDate> = holidays.iter().chain(early.keys()).chain(late.keys()).copied().collect();
    let closed = |day: TradeDate| match (holidays.contains(&day), early.get(&day), late.get(&day)) {
        (_, Some(&close), Some(&open)) if close < open => vec![(close, open)],
        (_, Some(&close), Some(&open)) => vec![(0, open), (close, DAY)],
        (_, None, Some(&open)) => vec![(0, open)],
        (true, _, None) => vec![(0, DAY)],
        (false, Some(&close), None) => vec![(close, DAY)],
        (false, None, None) => Vec::new(),
    };
    Ok(days.into_iter().map(|day| (day, closed(day))).collect())
}

/// What is left of a session's spans when the civil days it touches are partly closed.
fn open_spans(regular: &[Span], date: TradeDate, closures: &BTreeMap<TradeDate, Vec<(Minutes, Minutes)>>) -> Vec<Span> {
    let mut left = regular.to_vec();
    for back in [0, 1] {
        for (from, till) in closures.get(&date.plus(-back)).into_iter().flatten() {
            let (from, till) = (from - back * DAY, till - back * DAY);
            left = left
                .into_iter()
                .flat_map(|(open, close, state)| [(open, close.min(from), state), (open.max(till), close, state)])
                .filter(|(open, close, _)| open < close)
                .collect();
        }
    }
    left.sort_by_key(|span| span.0);
    left
}

/// How a week's spans become windows.
struct Style {
    night: bool,
    states: bool,
}

impl Style {
    fn shape(&self, spans: &[Span]) -> Shape {
        let windows = |state: LeanState| -> Vec<(Minutes, Minutes)> {
            spans.iter().filter(|span| span.2 == state).map(|span| (span.0, span.1)).collect()
        };
        let main = windows(LeanState::Regular);
        if !self.night {
            return Shape { main, pre: windows(LeanState::Before), post: windows(LeanState::After), rth: None };
        }
        let mut all: Vec<(Minutes, Minutes)> = Vec::new();
        for &(open, close, _) in spans {
            match all.last_mut().filter(|last| last.1 == open) {
                Some(last) => last.1 = close,
                None => all.push((open, close)),
            }
        }
        let rth = main.first().zip(main.last()).filter(|_| self.states).map(|(first, last)| (first.0, last.1));
        Shape { main: all, rth, ..Shape::default() }
    }
}

/// `09:30:00`, `1.00:00:00`, `23:59:59.9999999` in minutes.
fn time(text: &str) -> Result<Minutes> {
    let read = || {
        let (days, clock) = match text.split_once('.').filter(|(days, _)| !days.contains(':')) {
            Some((days, clock)) => (days.parse::<Minutes>().ok()?, clock),
            None => (0, text),
        };
        let mut parts = clock.split(':');
        let (hour, minute) = (parts.next()?.parse::<Minutes>().ok()?, parts.next()?.parse::<Minutes>().ok()?);
        // The last second of a minute is how some write its end.
        let second = parts.next().map_or(Some(0.0), |second| second.parse::<f64>().ok())?;
        let end = match second {
            0.0 => 0,
            59.0..60.0 => 1,
            _ => return None,
        };
        let minutes = days * DAY + hour * 60 + minute + end;
        let legal = parts.next().is_none() && (0..24).contains(&hour) && (0..60).contains(&minute);
        Some(minutes).filter(|minutes| legal && (0..=DAY).contains(minutes))
    };
    read().ok_or_else(|| {
        Error::invalid("time", text.chars().take(80).collect::<String>(), "09:30:00, or 1.00:00:00 for midnight")
    })
}

/// `12/25/2026`.
fn date(text: &str) -> Result<TradeDate> {
    let mut parts = text.split('/').map(|part| part.parse::<i32>().ok());
    let read = match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten(), parts.next()) {
        (Some(month @ 1..), Some(day @ 1..), Some(year), None) => {
            TradeDate::from_ymd(year, month as u32, day as u32).ok()
        }
        _ => None,
    };
    read.ok_or_else(|| {
        Error::invalid("date", text.chars().take(80).collect::<String>(), "month/day/year, as in 12/25/2026")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use crate::calendar::compare::SessionTable;

    fn span(start: &str, end: &str, state: &str) -> LeanSpan {
        LeanSpan { start: start.into(), end: end.into(), state: LeanState::parse(state).unwrap() }
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(day, time)| (day.to_string(), time.to_string())).collect()
    }

    fn calendar(zone: &str, hours: &LeanHours) -> (Calendar, String) {
        let head = Head::new("TEST", zone, "LEAN").unwrap();
        let text = super::super::from_lean(&head, hours).unwrap();
        (Calendar::from_toml(&text).unwrap(), text)
    }

    fn agrees(calendar: &Calendar, text: &str, table: &str) {
        let table = SessionTable::from_csv(table, calendar.zone()).unwrap();
        let (sessions, differences) = calendar.differences(&table, &table.columns);
        assert_eq!((sessions, differences), (table.rows.len(), vec![]), "{text}");
    }

    #[test]
    fn shares_have_premarket_and_postmarket() {
        // Equity-usa-[*], with three of its days: MLK Day, the half day after Thanksgiving, Christmas.
        let day = [
            span("04:00:00", "09:30:00", "premarket"),
            span("09:30:00", "16:00:00", "market"),
            span("16:00:00", "20:00:00", "postmarket"),
        ];
        let mut hours = LeanHours { holidays: vec!["1/19/2026".into(), "12/25/2026".into()], ..LeanHours::default() };
        hours.days[..5].iter_mut().for_each(|spans| spans.extend_from_slice(&day));
        hours.early_closes = pairs(&[("11/27/2026", "13:00:00")]);
        let (calendar, text) = calendar("America/New_York", &hours);
        agrees(
            &calendar,
            &text,
            "session,pre,open,close,post\n2026-11-25,04:00,09:30,16:00,20:00\n2026-11-26,04:00,09:30,16:00,20:00\n\
             2026-11-27,04:00,09:30,13:00,\n2026-11-30,04:00,09:30,16:00,20:00\n",
        );
        assert_eq!(calendar.is_session(TradeDate::parse("2026-01-19").unwrap()), Ok(false));
        assert_eq!(calendar.known().1.to_string(), "2026-12-31");
    }

    #[test]
    fn a_future_s_evening_belongs_to_the_next_day() {
        // Future-cme-ES in January 2026: MLK Day closes at 13:00 and trading resumes at 18:00 for the 20th.
        let evening = span("18:00:00", "1.00:00:00", "postmarket");
        let day = [span("00:00:00", "09:30:00", "premarket"), span("09:30:00", "17:00:00", "market")];
        let mut hours = LeanHours::default();
        hours.days[6].push(span("18:00:00", "1.00:00:00", "premarket"));
        for weekday in 0..5 {
            hours.days[weekday].extend_from_slice(&day);
            if weekday < 4 {
                hours.days[weekday].push(evening.clone());
            }
        }
        hours.early_closes = pairs(&[("12/31/2025", "17:00:00"), ("1/19/2026", "13:00:00")]);
        hours.late_opens = pairs(&[("1/1/2026", "18:00:00"), ("1/19/2026", "18:00:00")]);
        let (calendar, text) = calendar("America/New_York", &hours);
        agrees(
            &calendar,
            &text,
            "session,open,close\n2025-12-30,18:00-1d,17:00\n2025-12-31,18:00-1d,17:00\n2026-01-02,18:00-1d,17:00\n",
        );
        agrees(
            &calendar,
            &text,
            "session,open,close\n2026-01-16,18:00-1d,17:00\n2026-01-19,18:00-1d,13:00\n2026-01-20,18:00-1d,17:00\n",
        );
        assert_eq!(calendar.main().to_string(), "ETH");
        assert!(text.contains("RTH  = \"09:30-17:00\""), "{text}");
    }

    #[test]
    fn a_week_without_a_break_is_cut_at_its_opening_time() {
        let mut hours = LeanHours { holidays: vec!["1/1/2026".into()], ..LeanHours::default() };
        hours.days[6].push(span("17:00:00", "1.00:00:00", "market"));
        hours.days[..4].iter_mut().for_each(|spans| spans.push(span("00:00:00", "23:59:59.9999999", "market")));
        hours.days[4].push(span("00:00:00", "17:00:00", "market"));
        let (calendar, text) = calendar("America/New_York", &hours);
        agrees(&calendar, &text, "session,open,close\n2026-01-05,17:00-1d,17:00\n2026-01-06,17:00-1d,17:00\n");
        let mut always = LeanHours { holidays: vec!["1/1/2026".into()], ..LeanHours::default() };
        always.days.iter_mut().for_each(|spans| spans.push(span("00:00:00", "1.00:00:00", "market")));
        let (calendar, text) = self::calendar("UTC", &always);
        agrees(&calendar, &text, "session,open,close\n2026-01-03,00:00,00:00+1d\n2026-01-04,00:00,00:00+1d\n");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let head = Head::new("TEST", "UTC", "").unwrap();
        let bad = |change: fn(&mut LeanHours)| {
            let mut hours = LeanHours { holidays: vec!["1/1/2026".into()], ..LeanHours::default() };
            hours.days[0].push(span("09:00:00", "17:00:00", "market"));
            change(&mut hours);
            super::super::from_lean(&head, &hours).unwrap_err().to_string()
        };
        assert_eq!(bad(|h| h.holidays.push("2026-01-01".into())), "invalid date \"2026-01-01\"");
        assert_eq!(bad(|h| h.holidays.push("13/1/2026".into())), "invalid date \"13/1/2026\"");
        assert_eq!(bad(|h| h.early_closes = pairs(&[("1/2/2026", "25:00:00")])), "invalid time \"25:00:00\"");
        assert_eq!(bad(|h| h.days[0].push(span("16:00:00", "18:00:00", "market"))), "invalid market hours \"16:00\"");
        assert_eq!(
            bad(|h| h.days[0].push(span("18:00:00", "18:00:00", "market"))),
            "invalid span of market hours \"18:00:00-18:00:00\""
        );
        assert_eq!(bad(|h| h.holidays.clear()), "invalid known range \"\"");
        assert!(bad(|h| h.days[0].clear()).contains("[[hours]]"));
    }
}
