//! The sessions a reference package has: a golden file of the reference data, or a compact one of `data/xc`.

use super::support;
use chrono::{Datelike, Days, NaiveTime};
use chrono_tz::Tz;
use market::TradeDate;
use market::calendar::compare::{Column, Row, SessionTable};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads `xc/ID` from the repository and every other peer from `data`; `None` if that is missing.
pub fn read(peer: &str, data: Option<&Path>) -> Option<SessionTable> {
    match peer.strip_prefix("xc/") {
        Some(id) => {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/xc/{id}.csv"));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            Some(compact(&text))
        }
        // One row a session, in UTC. Closed days before the first and after the last session are unknown.
        None => data.map(|data| {
            let path = data.join(format!("calendars/golden/{peer}.csv.gz"));
            let plain = path.with_extension("");
            let text = support::text(if path.exists() { &path } else { &plain });
            SessionTable::from_csv(&text, Tz::UTC).unwrap_or_else(|e| panic!("{peer}: {e}"))
        }),
    }
}

const COLUMNS: [Column; 4] = [Column::Open, Column::BreakStart, Column::BreakEnd, Column::Close];

/// The regular hours in the header lines and the days that differ, as `data/xc/make.py` writes them.
fn compact(text: &str) -> SessionTable {
    let (mut zone, mut range) = (Tz::UTC, None);
    let mut regular: Vec<(TradeDate, u8, &str)> = Vec::new();
    let mut days: BTreeMap<TradeDate, &str> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if number == 0 {
            zone = line.rsplit_once("; ").unwrap().1.parse().unwrap();
        } else if let Some(dates) = line.strip_prefix("# range ") {
            let (first, last) = dates.split_once("..").unwrap();
            range = Some((TradeDate::parse(first).unwrap(), TradeDate::parse(last).unwrap()));
        } else if let Some(row) = line.strip_prefix("# from ") {
            let (from, row) = row.split_once(" on ").unwrap();
            let (weekdays, times) = row.split_once(": ").unwrap();
            let bit = |day: &str| 1 << day.parse::<chrono::Weekday>().unwrap().num_days_from_monday();
            regular.push((TradeDate::parse(from).unwrap(), weekdays.split(',').map(bit).sum(), times));
        } else if line != "session,open,break_start,break_end,close" {
            let (day, times) = line.split_once(',').unwrap();
            assert!(days.insert(TradeDate::parse(day).unwrap(), times).is_none(), "{line} is there twice");
        }
    }
    let (first, last) = range.unwrap();
    assert!(!regular.is_empty() && days.keys().all(|day| (first..=last).contains(day)));
    let mut sessions = BTreeMap::new();
    for day in (first.0..=last.0).map(TradeDate) {
        let weekday = 1 << day.date().weekday().num_days_from_monday();
        let hours = regular.iter().rev().find(|(from, on, _)| *from <= day && on & weekday != 0);
        let Some(times) = days.get(&day).copied().or(hours.map(|(_, _, times)| *times)) else { continue };
        if times != ",,," {
            let mut row: Row = [None; 6];
            for (column, time) in COLUMNS.into_iter().zip(times.split(',')) {
                row[column as usize] = instant(time, day, zone);
            }
            sessions.insert(day, row);
        }
    }
    SessionTable { first, last, columns: COLUMNS.to_vec(), rows: sessions }
}

/// `09:30`, `17:00-1d` or nothing, on the wall clock of a day.
fn instant(time: &str, day: TradeDate, zone: Tz) -> Option<i64> {
    let (clock, days) = time.split_at_checked(5)?;
    let days: i64 = if days.is_empty() { 0 } else { days.strip_suffix('d').unwrap().parse().unwrap() };
    let date = if days < 0 { day.date() - Days::new(-days as u64) } else { day.date() + Days::new(days as u64) };
    let local = date.and_time(NaiveTime::parse_from_str(clock, "%H:%M").unwrap());
    local.and_local_timezone(zone).earliest().unwrap().timestamp_nanos_opt()
}

#[test]
fn a_compact_file_expands_to_every_session() {
    let file = "# XTAE of a package; Asia/Jerusalem\n# range 2026-01-01..2026-01-14\n\
                # from 2026-01-01 on sun: 10:00,,,15:40\n# from 2026-01-01 on mon,tue,wed,thu: 17:00-1d,12:00,13:00,17:15\n\
                # from 2026-01-09 on fri: 10:00,,,13:50\n# from 2026-01-11 on sun: ,,,\n\
                session,open,break_start,break_end,close\n2026-01-03,09:00,,,10:00\n2026-01-13,,,,\n";
    let reference = compact(file);
    let days: Vec<String> = reference.rows.keys().map(|day| day.to_string()[8..].into()).collect();
    assert_eq!(days.join(" "), "01 03 04 05 06 07 08 09 12 14");
    let cell = |day: &str, column: &str| {
        let ts = reference.rows[&TradeDate::parse(day).unwrap()][Column::parse(column).unwrap() as usize];
        ts.map(market::time::format_instant)
    };
    assert_eq!(cell("2026-01-12", "open").as_deref(), Some("2026-01-11T15:00:00Z"));
    assert_eq!(cell("2026-01-12", "break_end").as_deref(), Some("2026-01-12T11:00:00Z"));
    assert_eq!(cell("2026-01-09", "close").as_deref(), Some("2026-01-09T11:50:00Z"));
    assert_eq!(cell("2026-01-03", "close").as_deref(), Some("2026-01-03T08:00:00Z"));
    assert_eq!(cell("2026-01-03", "break_start"), None);
}
