//! Every session of our calendars against two reference packages, and against the list of the differences we mean.
//!
//! The packages' sessions come from the reference data outside the repository and, in compact form, from `data/xc`.
//! `calendars/differences/*.toml` says what is compared with what, where a package is wrong, why, and how often. A difference that is not listed fails,
//! and so does a listed one that does not occur as often as it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

#[path = "support/reference.rs"]
mod reference;
mod support;

use chrono::{DateTime, TimeZone, Timelike};
use chrono_tz::Tz;
use market::{Calendar, Segments, TradeDate};
use reference::Reference;
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Difference {
    date: String,
    what: String,
    peer: String,
    ours: String,
}

#[test]
fn sessions_agree_with_the_reference_packages() {
    let data = support::test_data("the part of sessions_agree_with_the_reference_packages outside data/xc");
    let mut unlisted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut wrong_counts = Vec::new();
    for mut file in support::compared() {
        let id = &file.calendar;
        let calendar = Calendar::builtin(id).unwrap();
        for (peer, columns) in &file.peers {
            let Some(reference) = Reference::read(peer, columns, data.as_deref()) else {
                file.listed.retain(|row| row.peer != *peer);
                continue;
            };
            let (sessions, differences) = compare(&calendar, &reference, columns);
            println!("{id:11} {peer:32} {sessions} sessions, {} differences", differences.len());
            for difference in differences {
                let date = TradeDate::parse(&difference.date).unwrap();
                let row = file.listed.iter_mut().find(|row| {
                    row.peer == *peer
                        && row.what == difference.what
                        && (row.theirs == "*" || row.theirs == difference.peer)
                        && (row.ours == "*" || row.ours == difference.ours)
                        && row.dates.iter().any(|(first, last)| (*first..=*last).contains(&date))
                });
                match row {
                    Some(row) => row.seen += 1,
                    None => {
                        let kind =
                            format!("{id} {peer}: {} {} -> {}", difference.what, difference.peer, difference.ours);
                        unlisted.entry(kind).or_default().push(difference.date);
                    }
                }
            }
        }
        wrong_counts.extend(file.listed.iter().filter(|row| row.seen != row.count).map(|row| {
            format!(
                "{id} {}: listed {} {} -> {} {} times, seen {}",
                row.peer, row.what, row.theirs, row.ours, row.count, row.seen
            )
        }));
    }
    let mut report: Vec<_> = unlisted
        .into_iter()
        .map(|(kind, dates)| {
            let shown =
                if dates.len() > 24 { vec![dates[0].clone(), dates[dates.len() - 1].clone()] } else { dates.clone() };
            format!("{kind}: {} times: {}", dates.len(), shown.join(" "))
        })
        .collect();
    report.extend(wrong_counts);
    assert!(report.is_empty(), "{} kinds of differences that nobody meant:\n{}", report.len(), report.join("\n"));
}

/// How many sessions were compared, and where they differ: times on the wall clock of the trade date.
fn compare(calendar: &Calendar, reference: &Reference, columns: &[String]) -> (usize, Vec<Difference>) {
    let (first, last) = calendar.known();
    let zone: Tz = calendar.time_zone().parse().unwrap();
    let theirs = &reference.sessions;
    let (from, till) = (first.max(reference.first), last.min(reference.last));
    let ours: BTreeMap<_, _> =
        calendar.sessions(from, till).unwrap().map(|s| (s.trade_date, ours(&s, calendar))).collect();

    let mut differences = Vec::new();
    let mut add = |date: TradeDate, what: &str, peer: String, ours: String| {
        differences.push(Difference { date: date.to_string(), what: what.into(), peer, ours });
    };
    for date in (from.0..=till.0).map(TradeDate) {
        match (theirs.get(&date), ours.get(&date)) {
            (None, None) => {}
            (Some(_), None) => add(date, "session", "open".into(), "closed".into()),
            (None, Some(_)) => add(date, "session", "closed".into(), "open".into()),
            (Some(theirs), Some(ours)) => {
                for column in columns {
                    let (peer, our) = (theirs[column.as_str()], ours.get(column.as_str()).copied().flatten());
                    if peer != our {
                        add(date, column, wall(peer, zone, date), wall(our, zone, date));
                    }
                }
            }
        }
    }
    (ours.len(), differences)
}

fn ours(session: &market::Session<'_>, calendar: &Calendar) -> BTreeMap<&'static str, Option<i64>> {
    let main = match calendar.main() {
        Segments::RTH => Segments::RTH,
        _ => Segments::ETH,
    };
    let runs: Vec<_> = market::Session { restart_at_segments: false, ..*session }.runs(main).collect();
    let mut cells = BTreeMap::new();
    cells.insert("open", session.open(main));
    cells.insert("close", session.close(main));
    if let [before, after] = runs[..] {
        cells.insert("break_start", Some(before.1));
        cells.insert("break_end", Some(after.0));
    }
    cells.insert("pre", session.open(Segments::only(market::Segment::Pre)));
    cells.insert("post", session.close(Segments::only(market::Segment::Post)));
    cells
}

/// `17:00-1d`: the wall clock's time, with the days from the trade date; `-` for none.
fn wall(ts: Option<i64>, zone: Tz, date: TradeDate) -> String {
    let Some(ts) = ts else { return "-".into() };
    let local = zone.from_utc_datetime(&DateTime::from_timestamp_nanos(ts).naive_utc());
    let days = (local.date_naive() - date.date()).num_days();
    let suffix = if days == 0 { String::new() } else { format!("{days:+}d") };
    format!("{:02}:{:02}{suffix}", local.hour(), local.minute())
}
