//! TradingView's session strings: `0930-1600`, `1700-1600:23456`, `0900-1630|0900-1400:2`, `24x7`.

use super::{Draft, Head, Hours, Shape, Special};
use crate::calendar::spec::Minutes;
use crate::error::{Error, Result};
use crate::time::TradeDate;
use chrono::Datelike;
use std::collections::{BTreeMap, BTreeSet};

/// What TradingView's symbol information says of a symbol's hours.
#[derive(Clone, Copy, Debug, Default)]
pub struct TradingView<'t> {
    /// `session`: windows separated by commas, then `:` and weekdays (1 is Sunday); several by `|`. Without weekdays they hold
    /// from Monday to Friday where no other part names the day. A window that opens after it closes begins the day before.
    pub session: &'t str,
    /// `session_holidays`: `20241225,20250101`.
    pub holidays: &'t str,
    /// `corrections`: `0930-1300:20241129;dayoff:20250109`, or `20241129=0930-1300`.
    pub corrections: &'t str,
}

const SESSION: &str =
    "24x7, or windows such as \"0930-1600\", \"1700-1600:23456\" (1 is Sunday) or \"0900-1630|0900-1400:2\"";
const CORRECTIONS: &str = "\"0930-1300:20241129;dayoff:20250109\" or \"20241129=0930-1300\"";
const MONDAY_TO_FRIDAY: u8 = 0b1_1111;

pub(super) fn draft(head: &Head, from: &TradingView<'_>) -> Result<Draft> {
    let week = week(from.session.trim())?;
    let mut hours: Vec<Hours> = Vec::new();
    for (day, shape) in week.iter().enumerate() {
        let Some(shape) = shape else { continue };
        match hours.iter_mut().find(|row| row.shape == *shape) {
            Some(row) => row.days |= 1 << day,
            None => hours.push(Hours { from: None, to: None, days: 1 << day, shape: shape.clone() }),
        }
    }
    let mut closed: BTreeSet<TradeDate> = BTreeSet::new();
    for text in from.holidays.split([',', ';']).map(str::trim).filter(|text| !text.is_empty()) {
        closed.insert(date(text).ok_or_else(|| invalid("holidays", text, "dates such as \"20241225,20250101\""))?);
    }
    let mut corrected: BTreeMap<TradeDate, Shape> = BTreeMap::new();
    for text in from.corrections.split(';').map(str::trim).filter(|text| !text.is_empty()) {
        let wrong = || invalid("correction", text, CORRECTIONS);
        let (dates, windows) = match text.split_once('=') {
            Some(parts) => parts,
            None => text.rsplit_once(':').map(|(windows, dates)| (dates, windows)).ok_or_else(wrong)?,
        };
        for day in dates.split(',') {
            let day = date(day.trim()).ok_or_else(wrong)?;
            if windows.trim() == "dayoff" {
                closed.insert(day);
            } else {
                let main = self::windows(windows.trim()).ok_or_else(wrong)?;
                corrected.insert(day, Shape { main, ..Shape::default() });
            }
        }
    }
    let dates = || closed.iter().chain(corrected.keys());
    let years = dates().min().zip(dates().max()).map(|(first, last)| (first.date().year(), last.date().year()));
    let known = match (head.known, years) {
        (Some(known), _) => Some(known),
        (None, Some((first, last))) => Some((TradeDate::from_ymd(first, 1, 1)?, TradeDate::from_ymd(last, 12, 31)?)),
        (None, None) => None,
    };
    let mut specials: Vec<Special> = Vec::new();
    for (day, shape) in corrected {
        let weekday = day.date().weekday().num_days_from_monday() as usize;
        let open_day = week[weekday].is_none() || closed.remove(&day);
        match specials.iter_mut().find(|special| special.open_day == open_day && special.shape == shape) {
            Some(special) => special.on.push(day.to_string()),
            None => specials.push(Special { name: "correction", on: vec![day.to_string()], shape, open_day }),
        }
    }
    let closed: Vec<String> = closed.iter().map(TradeDate::to_string).collect();
    let closed = if closed.is_empty() { Vec::new() } else { vec![("holiday".to_string(), closed)] };
    Ok(Draft { known, hours, closed, specials, ..Draft::default() })
}

/// The hours by weekday, from Monday.
fn week(session: &str) -> Result<[Option<Shape>; 7]> {
    let mut week: [Option<Shape>; 7] = [const { None }; 7];
    let mut general = None;
    for part in session.split('|') {
        let wrong = || invalid("session", part, SESSION);
        // `;2` names the first day of the week, which changes no hours.
        let part = part.split_once(';').map_or(part, |(part, _)| part);
        if part == "24x7" {
            return Ok(
                [const { None }; 7].map(|_: Option<Shape>| Some(Shape { main: vec![(0, 1440)], ..Shape::default() }))
            );
        }
        let (windows, days) = part.split_once(':').map_or((part, None), |(windows, days)| (windows, Some(days)));
        let shape = Shape { main: self::windows(windows).ok_or_else(wrong)?, ..Shape::default() };
        let Some(days) = days else {
            general = Some(shape);
            continue;
        };
        if days.is_empty() {
            return Err(wrong());
        }
        for day in days.chars() {
            // 1 is Sunday.
            let day = day.to_digit(10).filter(|day| (1..=7).contains(day)).ok_or_else(wrong)?;
            week[(day as usize + 5) % 7] = Some(shape.clone());
        }
    }
    if let Some(shape) = general {
        for (day, hours) in week.iter_mut().enumerate() {
            if MONDAY_TO_FRIDAY & (1 << day) != 0 && hours.is_none() {
                *hours = Some(shape.clone());
            }
        }
    }
    Ok(week)
}

/// `0930-1130,1300-1500` in order of time.
fn windows(text: &str) -> Option<Vec<(Minutes, Minutes)>> {
    let mut windows: Vec<(Minutes, Minutes)> = Vec::new();
    // From the last: what opens after its successor belongs to the evening before.
    for window in text.rsplit(',') {
        let (open, close) = window.trim().split_once('-')?;
        let ((mut open, told), (mut close, close_told)) = (time(open)?, time(close)?);
        if !told && !close_told {
            match (open, close) {
                (_, 0) => close = 1440,
                _ if open >= close => open -= 1440,
                _ => {}
            }
            if windows.last().is_some_and(|next| close > next.0) {
                (open, close) = (open - 1440, close - 1440);
            }
        }
        let fits = open < close && open >= -3 * 1440 && windows.last().is_none_or(|next| close <= next.0);
        windows.push(Some((open, close)).filter(|_| fits)?);
    }
    windows.reverse();
    Some(windows)
}

/// `1700`, or `1700F1` for a day earlier; and whether the day was told.
fn time(text: &str) -> Option<(Minutes, bool)> {
    let (clock, back) = match text.split_once('F') {
        Some((clock, back)) => (clock, Some(back.parse::<Minutes>().ok().filter(|days| (0..=3).contains(days))?)),
        None => (text, None),
    };
    let digits = clock.len() == 4 && clock.bytes().all(|byte| byte.is_ascii_digit());
    let number: Minutes = clock.parse().ok().filter(|_| digits)?;
    let minutes = number / 100 * 60 + number % 100;
    let legal = number % 100 < 60 && minutes <= 1440;
    legal.then_some((minutes - back.unwrap_or(0) * 1440, back.is_some()))
}

fn date(text: &str) -> Option<TradeDate> {
    let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: i32 = text.parse().ok().filter(|_| digits)?;
    TradeDate::from_ymd(number / 10_000, (number / 100 % 100) as u32, (number % 100) as u32).ok()
}

fn invalid(what: &'static str, text: &str, allowed: &str) -> Error {
    Error::invalid(what, text.chars().take(80).collect::<String>(), allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use crate::calendar::compare::SessionTable;

    fn sessions(zone: &str, from: TradingView<'_>, table: &str) {
        let head = Head::new("TEST", zone, "TradingView").unwrap();
        let text = super::super::from_tradingview(&head, &from).unwrap();
        let calendar = Calendar::from_toml(&text).unwrap();
        let table = SessionTable::from_csv(table, head.zone).unwrap();
        let (sessions, differences) = calendar.differences(&table, &table.columns);
        assert_eq!((sessions, differences), (table.rows.len(), vec![]), "{text}");
    }

    #[test]
    fn a_session_string_becomes_the_sessions_it_means() {
        // The week of 2024-11-25 in New York: Thanksgiving and a half day.
        let corrections = "20241129=0930-1300";
        let from = TradingView { session: "0930-1600", holidays: "20241128", corrections };
        let table = "session,open,close\n2024-11-25,09:30,16:00\n2024-11-26,09:30,16:00\n2024-11-27,09:30,16:00\n2024-11-29,09:30,13:00\n2024-12-02,09:30,16:00\n";
        sessions("America/New_York", from, table);
        let from = TradingView { corrections: "0930-1300:20241129;dayoff:20241128", holidays: "", ..from };
        sessions("America/New_York", from, table);
        // Chicago: Monday's session begins on Sunday at 17:00.
        let from = TradingView { session: "1700-1600:23456", holidays: "20241225", corrections: "1700-1215:20241224" };
        let table =
            "session,open,close\n2024-12-23,17:00-1d,16:00\n2024-12-24,17:00-1d,12:15\n2024-12-26,17:00-1d,16:00\n";
        sessions("America/Chicago", from, table);
        // Tokyo's lunch; a Saturday session by correction; Mondays shorter.
        let from = TradingView {
            session: "0900-1130,1230-1500|0900-1130:2",
            corrections: "1000-1100:20240106;0900-1100:20240105",
            holidays: "20240105",
        };
        let table = "session,open,break_start,break_end,close\n2024-01-04,09:00,11:30,12:30,15:00\n2024-01-05,09:00,,,11:00\n\
                     2024-01-06,10:00,,,11:00\n2024-01-08,09:00,,,11:30\n2024-01-09,09:00,11:30,12:30,15:00\n";
        sessions("Asia/Tokyo", from, table);
        // Around the clock, and a night session that ends before midnight.
        let from = TradingView { session: "24x7", holidays: "20240101", corrections: "" };
        sessions("UTC", from, "session,open,close\n2024-01-06,00:00,00:00+1d\n2024-01-07,00:00,00:00+1d\n");
        let from = TradingView { session: "2100-2300,0900-1500", holidays: "20240101", corrections: "" };
        let table = "session,open,break_start,break_end,close\n2024-01-09,21:00-1d,23:00-1d,09:00,15:00\n";
        sessions("Asia/Shanghai", from, table);
        let from = TradingView { session: "2100F3-2300F3,0900-1500:2", holidays: "20240101", corrections: "" };
        let table = "session,open,break_start,break_end,close\n2024-01-08,21:00-3d,23:00-3d,09:00,15:00\n";
        sessions("Asia/Shanghai", from, table);
    }

    #[test]
    fn a_string_that_cannot_be_read_says_which_part() {
        let head = Head::new("TEST", "UTC", "").unwrap();
        let draft = |session, holidays, corrections| {
            super::super::from_tradingview(&head, &TradingView { session, holidays, corrections })
                .unwrap_err()
                .to_string()
        };
        for session in [
            "",
            "0930",
            "9:30-16:00",
            "0930-1660",
            "0930-1600:",
            "0930-1600:8",
            "0930-2500",
            "0900-1200,1100-1300,1200-1400",
            "x",
        ] {
            assert!(draft(session, "20240101", "").starts_with("invalid session"), "{session}");
        }
        assert_eq!(draft("0930-1600", "20241301", ""), "invalid holidays \"20241301\"");
        assert_eq!(draft("0930-1600", "", "0930-1300"), "invalid correction \"0930-1300\"");
        assert_eq!(draft("0930-1600", "", "2024=0930-1300"), "invalid correction \"2024=0930-1300\"");
        assert_eq!(draft("0930-1600", "", ""), "invalid known range \"\"", "no date says what it covers");
    }
}
