//! What several tests of the ingester need.
#![allow(dead_code)]

pub mod replay;

use std::path::PathBuf;

/// A file of the shared test data; where it is missing the test says that it is skipped.
pub fn testdata(path: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("BELLWETHER_TESTDATA").map_or(root, PathBuf::from);
    let found = Some(data.join(path)).filter(|p| p.exists());
    if found.is_none() {
        println!("skipped: no {path} in BELLWETHER_TESTDATA or ../shared/data");
    }
    found
}
