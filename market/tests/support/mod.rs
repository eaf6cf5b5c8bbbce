//! The reference data outside the repository: where it is, and its calendar files.

#![allow(dead_code)] // Each test binary uses its part.

use flate2::read::GzDecoder;
use market::TradeDate;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// `$BELLWETHER_TESTDATA`, or `../shared/data` beside the workspace; `None`, with a message, if it is missing.
pub fn test_data(test: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let root = std::env::var_os("BELLWETHER_TESTDATA").map_or(default, PathBuf::from);
    if root.join("calendars/golden").is_dir() {
        return Some(root);
    }
    println!("skipped: {test} needs the reference data ($BELLWETHER_TESTDATA or ../shared/data)");
    None
}

/// The rows of a CSV file, gzipped or not, by column name.
pub fn csv_rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut text = String::new();
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if path.extension().is_some_and(|e| e == "gz") {
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
    } else {
        (&file).read_to_string(&mut text).unwrap();
    }
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect()
}

/// `2024-03-08T14:30Z` in nanoseconds; `None` for an empty cell.
pub fn instant(cell: &str) -> Option<i64> {
    if cell.is_empty() {
        return None;
    }
    let time = chrono::NaiveDateTime::parse_from_str(cell, "%Y-%m-%dT%H:%MZ").unwrap_or_else(|e| panic!("{cell}: {e}"));
    time.and_utc().timestamp_nanos_opt()
}

/// A kind of difference that we mean: times on the exchange's wall clock.
pub struct Listed {
    pub calendar: String,
    pub peer: String,
    pub dates: Vec<(TradeDate, TradeDate)>,
    pub what: String,
    pub theirs: String,
    pub ours: String,
    pub count: usize,
    pub seen: usize,
}

/// The differences listed in `calendars/differences.toml`.
pub fn listed_differences() -> Vec<Listed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("calendars/differences.toml");
    let file: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let mut listed = Vec::new();
    for row in file["difference"].as_array().unwrap() {
        let text =
            |key: &str| row.get(key).and_then(|v| v.as_str()).unwrap_or_else(|| panic!("{key} in {row:?}")).to_string();
        assert!(!text("why").is_empty() && !text("source").is_empty(), "{row:?}");
        let dates = row["dates"].as_array().unwrap().iter().map(|dates| {
            let dates = dates.as_str().unwrap();
            let (first, last) = dates.split_once("..").unwrap_or((dates, dates));
            (TradeDate::parse(first).unwrap(), TradeDate::parse(last).unwrap())
        });
        let dates: Vec<_> = dates.collect();
        for peer in row["peers"].as_array().unwrap() {
            listed.push(Listed {
                calendar: text("calendar"),
                peer: peer.as_str().unwrap().to_string(),
                dates: dates.clone(),
                what: text("what"),
                theirs: text("theirs"),
                ours: text("ours"),
                count: row["count"].as_integer().unwrap() as usize,
                seen: 0,
            });
        }
    }
    listed
}
