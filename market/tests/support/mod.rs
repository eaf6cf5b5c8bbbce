//! The reference data outside the repository: where it is, and its calendar files.

#![allow(dead_code)] // Each test binary uses its part.

use flate2::read::GzDecoder;
use market::{Segments, TradeDate};
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

/// A text file, gzipped or not.
pub fn text(path: &Path) -> String {
    let mut text = String::new();
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if path.extension().is_some_and(|e| e == "gz") {
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
    } else {
        (&file).read_to_string(&mut text).unwrap();
    }
    text
}

/// The rows of a CSV file, gzipped or not, by column name.
pub fn csv_rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = text(path);
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
    pub peer: String,
    pub dates: Vec<(TradeDate, TradeDate)>,
    pub what: String,
    pub theirs: String,
    pub ours: String,
    pub count: usize,
    pub seen: usize,
}

/// What `calendars/differences/*.toml` says of one calendar: which reference files it is compared with, and where they
/// differ on purpose.
pub struct Compared {
    pub calendar: String,
    /// A golden file, the columns that mean the same thing in both, and the part of the session that it knows.
    pub peers: Vec<(String, Vec<String>, Option<Segments>)>,
    /// A file of bars, and the timeframe and selection it was made with.
    pub bars: Vec<(String, String, String)>,
    pub listed: Vec<Listed>,
}

/// Every file of `calendars/differences/`, by name.
pub fn compared() -> Vec<Compared> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("calendars/differences");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| read_compared(path)).collect()
}

fn read_compared(path: &Path) -> Compared {
    let file: toml::Table =
        std::fs::read_to_string(path).unwrap().parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows = |key: &str| file.get(key).and_then(|rows| rows.as_array()).cloned().unwrap_or_default();
    let text = |row: &toml::Value, key: &str| {
        let text = row.get(key).and_then(|v| v.as_str()).unwrap_or_else(|| panic!("{key} in {row:?}"));
        assert!(!text.is_empty(), "{key} in {row:?}");
        text.to_string()
    };
    let texts = |row: &toml::Value, key: &str| -> Vec<String> {
        row[key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_string()).collect()
    };
    let calendar = file["calendar"].as_str().unwrap().to_string();
    let segments = |row: &toml::Value| row.get("segments").map(|_| Segments::parse(&text(row, "segments")).unwrap());
    let peers = rows("peer").iter().map(|row| (text(row, "file"), texts(row, "columns"), segments(row))).collect();
    let bars =
        rows("bars").iter().map(|row| (text(row, "file"), text(row, "timeframe"), text(row, "segments"))).collect();
    let mut listed = Vec::new();
    for row in rows("difference") {
        let _reasons = (text(&row, "why"), text(&row, "source"));
        let dates = texts(&row, "dates");
        let dates = dates.iter().map(|dates| dates.split_once("..").unwrap_or((dates, dates)));
        let dates = dates.map(|(a, b)| (TradeDate::parse(a).unwrap(), TradeDate::parse(b).unwrap()));
        let dates: Vec<_> = dates.collect();
        for peer in texts(&row, "peers") {
            listed.push(Listed {
                peer,
                dates: dates.clone(),
                what: text(&row, "what"),
                theirs: text(&row, "theirs"),
                ours: text(&row, "ours"),
                count: row["count"].as_integer().unwrap() as usize,
                seen: 0,
            });
        }
    }
    Compared { calendar, peers, bars, listed }
}
