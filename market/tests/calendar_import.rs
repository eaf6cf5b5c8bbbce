//! Tables of sessions become calendar files and come back the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

mod support;

use market::Calendar;
use market::calendar::compare::{Column, SessionTable};
use market::calendar::import::{Head, from_table};

/// Every golden file, read in the time zone of its exchange: the file that is mined from it has exactly its sessions, and is
/// shorter than a list of them.
#[test]
fn a_calendar_mined_from_a_table_has_exactly_its_sessions() {
    let Some(data) = support::test_data("a_calendar_mined_from_a_table_has_exactly_its_sessions") else { return };
    let mut files = 0;
    let mut rules = 0;
    for entry in std::fs::read_dir(data.join("calendars/golden")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let name = name.trim_end_matches(".gz").trim_end_matches(".csv").to_string();
        let mined = std::fs::read_to_string(data.join(format!("calendars/toml/mined/{name}.toml"))).unwrap();
        let zone: toml::Table = mined.parse().unwrap();
        let head = Head::new(&name, zone["tz"].as_str().unwrap(), "golden").unwrap();
        let table = SessionTable::from_csv(&support::text(&path), head.zone).unwrap();
        let text = from_table(&head, &table).unwrap_or_else(|e| panic!("{name}: {e}"));
        let calendar = Calendar::from_toml(&text).unwrap();
        assert_eq!(calendar.known(), (table.first, table.last), "{name}");
        let sessions: Vec<_> = calendar.sessions(table.first, table.last).unwrap().collect();
        assert_eq!(sessions.len(), table.rows.len(), "{name}");
        for (session, (date, row)) in sessions.iter().zip(&table.rows) {
            let mut expected = *row;
            // Before the open of a disturbed day there may have been no time at all.
            for (column, edge) in [(Column::Pre, Column::Open), (Column::Post, Column::Close)] {
                expected[column as usize] = row[column as usize].filter(|ts| Some(*ts) != row[edge as usize]);
            }
            assert_eq!((session.trade_date, calendar.row_of(session)), (*date, expected), "{name} {date}");
        }
        let dates = text.matches("-0").count() + text.matches("-1").count();
        println!("{name:34} {:6} bytes, {} rows of hours", text.len(), text.matches("[[hours]]").count());
        assert!(dates * 3 < table.rows.len(), "{name} is a list of {dates} dates");
        rules += text.lines().filter(|line| line.starts_with("\"Christmas\" = \"dec 25")).count();
        files += 1;
    }
    assert_eq!(files, 57);
    assert!(rules >= 30, "Christmas is a rule in {rules}");
}
