//! `cargo xtask bench --quick`: the six queries on Bellwether, querycli and whatever peers are installed give the same bars, and
//! a run in which they do not ends with a failure. Nothing is said about speed here.

use anyhow::{Result, ensure};
use std::process::Command;
use xtask::workspace;

#[test]
fn every_engine_gives_the_same_bars() -> Result<()> {
    let mut bench = Command::new(workspace::program("xtask")?);
    let out = bench.args(["bench", "--quick", "--built"]).current_dir(workspace::root()).output()?;
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!("{said}\n{errors}");
    ensure!(out.status.success(), "the benchmark ended with {}", out.status);
    if said.contains("not run: there is no Python") {
        return Ok(());
    }
    ensure!(said.contains("bars: equal on every engine"), "the bars were not compared");
    ensure!(said.contains("a planted difference is noticed"), "nobody looked whether a difference is noticed");
    Ok(())
}
