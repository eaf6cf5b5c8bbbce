//! The hours of today: what the ordinary sessions of the last known year have in common, on the wall clock and in UTC.

use crate::week::{settled, year, year_end};
use chrono::{Datelike, NaiveDate};
use chrono_tz::Tz;
use market::calendar::compare::wall;
use market::{Calendar, Segment, TradeDate};

/// Sessions with the same hours.
pub struct Hours {
    /// Name, local and UTC times of each part, in time order.
    pub parts: Vec<(&'static str, String, String)>,
    dates: Vec<NaiveDate>,
    /// A bit per weekday from Sunday.
    days: u8,
}

/// The hours of ordinary sessions, the earliest in the year first; odd ones, as on the day of a change of clocks, are left out.
pub fn ordinary(calendar: &Calendar) -> Vec<Hours> {
    let zone: Tz = calendar.time_zone().parse().unwrap();
    let mut found: Vec<Hours> = Vec::new();
    for session in calendar.sessions(settled(calendar), year_end(calendar)).unwrap().filter(|s| !s.irregular) {
        let date = session.trade_date;
        let text = |spans: &[(i64, i64)], zone: Tz| {
            let spans = spans.iter().map(|(open, close)| {
                format!("{} to {}", wall(Some(*open), zone, date), wall(Some(*close), zone, date))
            });
            spans.collect::<Vec<_>>().join(", ")
        };
        let mut parts: Vec<(&'static str, Vec<(i64, i64)>)> = Vec::new();
        for segment in [Segment::On, Segment::Pre, Segment::Rth, Segment::Post] {
            let spans = session.spans.iter().filter(|span| span.segment == segment);
            parts.push((segment.name(), spans.map(|span| (span.open, span.close)).collect()));
        }
        let (open, close) = (session.open(market::Segments::RTH), session.close(market::Segments::RTH));
        parts.push(("opening auction", open.map(|open| (session.open_auction_from, open)).into_iter().collect()));
        parts.push(("closing auction", close.map(|close| (close, session.close_auction_until)).into_iter().collect()));
        parts.push(("intraday auction", vec![session.intraday_auction]));
        parts.iter_mut().for_each(|(_, spans)| spans.retain(|(from, to)| from < to));
        parts.retain(|(_, spans)| !spans.is_empty());
        parts.sort_by_key(|(_, spans)| spans[0]);
        let parts: Vec<_> =
            parts.iter().map(|(name, spans)| (*name, text(spans, zone), text(spans, Tz::UTC))).collect();
        let day = 1 << date.date().weekday().num_days_from_sunday();
        match found.iter_mut().find(|hours| hours.parts == parts) {
            Some(hours) => {
                hours.days |= day;
                hours.dates.push(date.date());
            }
            None => found.push(Hours { parts, dates: vec![date.date()], days: day }),
        }
    }
    let enough = if found.iter().any(|hours| hours.dates.len() >= 8) { 8 } else { 1 };
    found.retain(|hours| hours.dates.len() >= enough);
    found
}

impl Hours {
    /// `Mon, Tue, Wed`.
    pub fn weekdays(&self) -> String {
        let names = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
        let named: Vec<_> = (0..7).filter(|day| self.days & (1 << day) != 0).map(|day| names[day]).collect();
        match named.as_slice() {
            ["Mon", "Tue", "Wed", "Thu", "Fri"] => "Mon-Fri".into(),
            ["Sun", "Mon", "Tue", "Wed", "Thu"] => "Sun-Thu".into(),
            ["Tue", "Wed", "Thu", "Fri"] => "Tue-Fri".into(),
            all if all.len() == 7 => "every day".into(),
            days => days.join(", "),
        }
    }

    /// How many sessions of the year have them.
    pub fn sessions(&self) -> usize {
        self.dates.len()
    }

    /// `all of 2027`, or the stretches of the year: `4 Jan to 12 Mar, 8 Nov to 31 Dec`.
    pub fn when(&self, calendar: &Calendar) -> String {
        let mut stretches: Vec<(NaiveDate, NaiveDate)> = Vec::new();
        for date in &self.dates {
            match stretches.last_mut() {
                Some((_, last)) if *date - *last <= chrono::TimeDelta::days(28) => *last = *date,
                _ => stretches.push((*date, *date)),
            }
        }
        let year = year(calendar);
        match stretches.as_slice() {
            [(first, last)] if first.ordinal() < 15 && last.ordinal() > 350 && first.year() == year => {
                format!("all of {year}")
            }
            _ => {
                let texts = stretches.iter().map(|(first, last)| match first.year() == year {
                    true => format!("{} to {}", first.format("%-d %b"), last.format("%-d %b")),
                    false => format!("{} to {}", TradeDate::new(*first), TradeDate::new(*last)),
                });
                texts.collect::<Vec<_>>().join(", ")
            }
        }
    }
}
