//! The ordinary weeks of a calendar's last year: what trades when, on the wall clock, Sunday to Saturday.

use chrono::{DateTime, Datelike, Days, NaiveDate, Timelike};
use chrono_tz::Tz;
use market::{Calendar, Segment, TradeDate};
use std::collections::BTreeMap;

/// What a bar of the picture is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum What {
    Span(Segment),
    Auction,
    Break,
}

/// A stretch of one civil day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bar {
    /// 0 is Sunday.
    pub lane: u32,
    /// Minutes after midnight; `to` is at most 1440.
    pub from: u32,
    pub to: u32,
    pub what: What,
    /// The weekday of the trade date, from Sunday.
    pub trade_day: u32,
}

/// Weeks that look alike.
pub struct Pattern {
    pub bars: Vec<Bar>,
    /// Their Sundays, ascending.
    pub sundays: Vec<NaiveDate>,
}

/// The last year for which exchanges have said their holidays, or a calendar projects them: what the pages call now. Calendars
/// without holidays know more years; this year is raised when the others are extended.
const LAST_YEAR: i32 = 2027;

/// The year the pages call now: 2027, or the last of the known range.
pub fn year(calendar: &Calendar) -> i32 {
    calendar.known().1.date().year().min(LAST_YEAR)
}

/// The last date of that year that the calendar knows.
pub fn year_end(calendar: &Calendar) -> TradeDate {
    TradeDate::from_ymd(year(calendar), 12, 31).unwrap().min(calendar.known().1)
}

/// From when on the hours are those of today: the last change of a regime, or the last year's first day.
pub fn settled(calendar: &Calendar) -> TradeDate {
    let start = TradeDate::from_ymd(year(calendar), 1, 1).unwrap().max(calendar.known().0);
    let changes = calendar.eras().into_iter().filter(|era| era.season.is_none() && era.last.is_none());
    changes.filter_map(|era| era.first).fold(start, TradeDate::max)
}

/// The ordinary weeks, those without a holiday or special day, by what they look like; the most frequent first, odd ones left
/// out.
pub fn patterns(calendar: &Calendar) -> Vec<Pattern> {
    let (first, last) = (settled(calendar), year_end(calendar));
    let mut found: BTreeMap<Vec<Bar>, Vec<NaiveDate>> = BTreeMap::new();
    let mut sunday = first.date();
    while sunday.weekday().num_days_from_sunday() != 0 {
        sunday = sunday.succ_opt().unwrap();
    }
    while TradeDate::new(sunday).plus(6) <= last {
        if let Some(bars) = ordinary(calendar, sunday).filter(|bars| !bars.is_empty()) {
            found.entry(bars).or_default().push(sunday);
        }
        sunday = sunday + Days::new(7);
    }
    let mut patterns: Vec<Pattern> = found.into_iter().map(|(bars, sundays)| Pattern { bars, sundays }).collect();
    // A week in which clocks change, or with a night that falls away, is none of the ordinary ones.
    let enough = if patterns.iter().any(|pattern| pattern.sundays.len() >= 3) { 3 } else { 1 };
    patterns.retain(|pattern| pattern.sundays.len() >= enough);
    patterns.sort_by_key(|pattern| pattern.sundays[0]);
    patterns.truncate(4);
    patterns
}

/// The bars of a week; `None` if a day of it is a holiday or special.
fn ordinary(calendar: &Calendar, sunday: NaiveDate) -> Option<Vec<Bar>> {
    let zone: Tz = calendar.time_zone().parse().unwrap();
    let (first, last) = calendar.known();
    let day = TradeDate::new(sunday);
    if (0..7).any(|ahead| !matches!(calendar.closure(day.plus(ahead)), Ok(None))) {
        return None;
    }
    let mut bars = Vec::new();
    for session in calendar.sessions(day.plus(-1).max(first), day.plus(9).min(last)).ok()? {
        let mut stretches: Vec<(What, i64, i64)> =
            session.spans.iter().map(|span| (What::Span(span.segment), span.open, span.close)).collect();
        for pair in session.spans.to_vec().windows(2) {
            // A night's end and the next morning's open have no break between them.
            let (from, to) = (pair[0].close, pair[1].open);
            let local = |ts: i64| DateTime::from_timestamp_nanos(ts).with_timezone(&zone).date_naive();
            if from < to && to - from <= 4 * market::time::HOUR && local(from) == local(to) {
                stretches.push((What::Break, from, to));
            }
        }
        let regular = market::Segments::RTH;
        if let (Some(open), Some(close)) = (session.open(regular), session.close(regular)) {
            stretches.push((What::Auction, session.open_auction_from, open));
            stretches.push((What::Auction, close, session.close_auction_until));
            stretches.push((What::Auction, session.intraday_auction.0, session.intraday_auction.1));
        }
        let trade_day = session.trade_date.date().weekday().num_days_from_sunday();
        let before = bars.len();
        for (what, open, close) in stretches.into_iter().filter(|(_, open, close)| open < close) {
            split(zone, sunday, open, close, |lane, from, to| bars.push(Bar { lane, from, to, what, trade_day }));
        }
        if session.irregular && bars.len() > before {
            return None;
        }
    }
    bars.sort_unstable();
    Some(bars)
}

/// Cuts a stretch at the midnights of the wall clock and keeps what lies in the week.
fn split(zone: Tz, sunday: NaiveDate, open: i64, close: i64, mut each: impl FnMut(u32, u32, u32)) {
    let local = |ts: i64| DateTime::from_timestamp_nanos(ts).with_timezone(&zone).naive_local();
    let (open, close) = (local(open), local(close));
    for lane in 0..7 {
        let day = sunday + Days::new(lane);
        let minute = |time: chrono::NaiveDateTime| match time.date() {
            date if date < day => 0,
            date if date > day => 1440,
            _ => time.num_seconds_from_midnight() / 60,
        };
        let (from, to) = (minute(open), minute(close));
        if from < to {
            each(lane as u32, from, to);
        }
    }
}
