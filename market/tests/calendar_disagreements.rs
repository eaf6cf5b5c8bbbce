//! Where two reference packages disagree with each other, ours has decided, and says so.
//!
//! `disagreements.csv` of the reference data lists every session on which two files of the packages differ. Each of our calendars
//! that is compared with one of the two must be equal to it on that day, or list the difference with its reason. Days before a
//! calendar's known range are refused, which decides nothing and claims nothing; they are counted.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

#[path = "support/reference.rs"]
mod reference;
mod support;

use market::calendar::compare::{Column, Difference, SessionTable};
use market::{Calendar, TradeDate};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What CME's holidays were before is not confirmed, so those calendars begin later than the packages.
const UNKNOWN_BEFORE: TradeDate = TradeDate(15_706); // 2013-01-01

/// One of our calendars beside one file of a package.
struct Side {
    calendar: Calendar,
    columns: Vec<Column>,
    /// Where the two differ, by date and by what.
    differences: BTreeMap<(TradeDate, &'static str), Difference>,
    listed: Vec<support::Listed>,
}

impl Side {
    /// Whether this comparison says anything about the column.
    fn compares(&self, what: &str) -> bool {
        what == "session" || self.columns.iter().any(|column| column.name() == what)
    }

    /// The difference on a day; `None` if both say the same. A session that one of them lacks differs in all its columns.
    fn difference(&self, date: TradeDate, what: &'static str) -> Option<&Difference> {
        self.differences.get(&(date, what)).or_else(|| self.differences.get(&(date, "session")))
    }

    fn is_listed(&self, difference: &Difference) -> bool {
        self.listed.iter().any(|row| {
            row.what == difference.what
                && (row.theirs == "*" || row.theirs == difference.theirs)
                && (row.ours == "*" || row.ours == difference.ours)
                && row.dates.iter().any(|(first, last)| (*first..=*last).contains(&difference.date))
        })
    }
}

/// Every comparison that `differences/*.toml` asks for, by the package's file.
fn sides(data: &Path) -> BTreeMap<String, Vec<Side>> {
    let mut sides: BTreeMap<String, Vec<Side>> = BTreeMap::new();
    for file in support::compared() {
        let calendar = Calendar::builtin(&file.calendar).unwrap();
        let mut rest = file.listed;
        for (peer, columns, selected) in &file.peers {
            let Some(table) = reference::read(peer, Some(data)) else { continue };
            let columns: Vec<Column> = columns.iter().map(|name| Column::parse(name).unwrap()).collect();
            let (_, differences) = match selected {
                Some(selected) => calendar.differences_in(*selected, &table, &columns),
                None => calendar.differences(&table, &columns),
            };
            let differences = differences.into_iter().map(|found| ((found.date, found.what), found)).collect();
            let (listed, others) = rest.into_iter().partition(|row| row.peer == *peer);
            rest = others;
            let side = Side { calendar: calendar.clone(), columns, differences, listed };
            sides.entry(peer.clone()).or_default().push(side);
        }
    }
    sides
}

/// What a row of the list is about, and the dates on which the two files do differ in it.
fn dates(row: &BTreeMap<String, String>, tables: [&SessionTable; 2]) -> (&'static str, Vec<TradeDate>) {
    let kind = row["kind"].split(' ').next().unwrap();
    let column = kind.strip_suffix("_utc").and_then(Column::parse);
    let (first, last) = row["session"].split_once("..").unwrap_or((&row["session"], &row["session"]));
    let (first, last) = (TradeDate::parse(first).unwrap(), TradeDate::parse(last).unwrap());
    let cell = |table: &SessionTable, date: TradeDate| {
        let session = table.rows.get(&date);
        column.map_or(session.map(|_| 0), |column| session.and_then(|row| row[column as usize]))
    };
    let differ = |date: &TradeDate| cell(tables[0], *date) != cell(tables[1], *date);
    let dates = (first.0..=last.0).map(TradeDate).filter(differ).collect();
    (column.map_or("session", Column::name), dates)
}

#[test]
fn every_disagreement_of_the_packages_is_decided() {
    let Some(data) = support::test_data("every_disagreement_of_the_packages_is_decided") else { return };
    let sides = sides(&data);
    let rows = support::csv_rows(&data.join("calendars/disagreements.csv"));
    let mut tables: BTreeMap<String, SessionTable> = BTreeMap::new();
    for peer in rows.iter().flat_map(|row| [&row["a"], &row["b"]]) {
        tables.entry(peer.clone()).or_insert_with(|| reference::read(peer, Some(&data)).unwrap());
    }
    let covered: BTreeSet<&String> = tables.keys().filter(|peer| sides.contains_key(*peer)).collect();
    println!("{} of the {} files that disagree are compared with a calendar", covered.len(), tables.len());
    assert!(covered.len() >= 13, "only {covered:?} are compared with a calendar");

    let mut undecided: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut decided, mut unknown) = (0, 0);
    for row in &rows {
        let pair = [row["a"].as_str(), row["b"].as_str()];
        let (what, dates) = dates(row, pair.map(|peer| &tables[peer]));
        let mut undecide = |date: TradeDate, why: &str| {
            undecided.entry(format!("{} and {}, {what}: {why}", pair[0], pair[1])).or_default().push(date.to_string());
        };
        for date in dates {
            let (mut known, mut judged, mut equal, mut explained) = (false, false, BTreeSet::new(), true);
            for (peer, side) in
                pair.iter().flat_map(|peer| sides.get(*peer).into_iter().flatten().map(move |s| (*peer, s)))
            {
                let (first, last) = side.calendar.known();
                if !(first..=last).contains(&date) {
                    continue;
                }
                known = true;
                if !side.compares(what) {
                    continue;
                }
                judged = true;
                match side.difference(date, what) {
                    None => _ = equal.insert((side.calendar.id(), peer)),
                    Some(difference) if side.is_listed(difference) => {}
                    Some(difference) => {
                        explained = false;
                        undecide(date, &format!("{} differs from {peer} ({difference})", side.calendar.id()));
                    }
                }
            }
            let both = equal.iter().any(|(id, peer)| equal.iter().any(|(other, with)| id == other && peer != with));
            match (known, judged) {
                (false, _) if date < UNKNOWN_BEFORE => unknown += 1,
                (false, _) => undecide(date, "no calendar knows the day"),
                (true, false) => undecide(date, "no calendar compares it"),
                // The two files differ, so nothing equals both.
                (true, true) if both => undecide(date, "one calendar equals both"),
                (true, true) => decided += usize::from(explained),
            }
        }
    }
    println!("{} rows: {decided} cells decided, {unknown} outside the known range of every calendar", rows.len());
    let report: Vec<String> = undecided
        .iter()
        .map(|(what, dates)| format!("{what}: {} times, {} to {}", dates.len(), dates[0], dates[dates.len() - 1]))
        .collect();
    assert!(report.is_empty(), "{} kinds are not decided:\n{}", report.len(), report.join("\n"));
    assert!(decided > 4 * unknown && decided > rows.len(), "{decided} decided, {unknown} unknown");
}
