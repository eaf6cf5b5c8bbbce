//! The reference data outside the repository: where it is, and its calendar files.

#![allow(dead_code)] // Each test binary uses its part.

use flate2::read::GzDecoder;
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
