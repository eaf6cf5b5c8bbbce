//! Every session of our calendars against two reference packages, and against the list of the differences we mean.
//!
//! The packages' sessions come from the reference data outside the repository and, in compact form, from `data/xc`.
//! `calendars/differences/*.toml` says what is compared with what, where a package is wrong, why, and how often. A difference that is not listed fails,
//! and so does a listed one that does not occur as often as it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

#[path = "support/reference.rs"]
mod reference;
mod support;

use market::Calendar;
use market::calendar::compare::Column;
use std::collections::BTreeMap;

#[test]
fn sessions_agree_with_the_reference_packages() {
    let data = support::test_data("the part of sessions_agree_with_the_reference_packages outside data/xc");
    let mut unlisted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut wrong_counts = Vec::new();
    for mut file in support::compared() {
        let id = &file.calendar;
        let calendar = Calendar::builtin(id).unwrap();
        for (peer, columns, selected) in &file.peers {
            let Some(reference) = reference::read(peer, data.as_deref()) else {
                file.listed.retain(|row| row.peer != *peer);
                continue;
            };
            let columns: Vec<Column> = columns.iter().map(|name| Column::parse(name).unwrap()).collect();
            assert!(columns.iter().all(|column| reference.columns.contains(column)), "{peer} lacks one of {columns:?}");
            let (sessions, differences) = match selected {
                Some(selected) => calendar.differences_in(*selected, &reference, &columns),
                None => calendar.differences(&reference, &columns),
            };
            println!("{id:11} {peer:32} {sessions} sessions, {} differences", differences.len());
            for difference in differences {
                let date = difference.date;
                let row = file.listed.iter_mut().find(|row| {
                    row.peer == *peer
                        && row.what == difference.what
                        && (row.theirs == "*" || row.theirs == difference.theirs)
                        && (row.ours == "*" || row.ours == difference.ours)
                        && row.dates.iter().any(|(first, last)| (*first..=*last).contains(&date))
                });
                match row {
                    Some(row) => row.seen += 1,
                    None => {
                        let kind =
                            format!("{id} {peer}: {} {} -> {}", difference.what, difference.theirs, difference.ours);
                        unlisted.entry(kind).or_default().push(date.to_string());
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
