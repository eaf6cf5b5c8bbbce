//! What crosses packages. Tests here use what a user has: the wire, the programs and files.
//!
//! [`cluster`] gives a fresh database with the extension to every test; [`testdata`] finds data that no one here wrote.
//! [`slt`] runs the SQL spec on both engines and [`docs`] the examples of the manual.

pub mod archive;
pub mod cluster;
pub mod docs;
pub mod ledger;
pub mod model;
pub mod released;
pub mod s3;
pub mod slt;
pub mod store;

pub use xtask::workspace::{program, root};

use std::path::PathBuf;

/// A file or folder of the shared test data, such as `ticks/gc/20131007_trade.zip`; where it is missing the test says
/// that it is skipped and should return.
pub fn testdata(path: &str) -> Option<PathBuf> {
    let found = xtask::workspace::testdata().map(|dir| dir.join(path)).filter(|path| path.exists());
    if found.is_none() {
        println!("skipped: no {path} in BELLWETHER_TESTDATA or ../shared/data");
    }
    found
}

/// Sends a signal, such as `-9` or `-STOP`; false if there is no such process any more.
///
/// # Errors
/// If there is no shell. Its own `kill` is used: a bare Debian has no program of that name.
pub fn signal(pid: u32, name: &str) -> std::io::Result<bool> {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("kill {name} {pid}")]).stderr(std::process::Stdio::null());
    Ok(shell.status()?.success())
}
