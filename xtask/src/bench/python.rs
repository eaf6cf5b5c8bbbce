//! The Python that the peers live in.

use crate::pg::check;
use crate::setup;
use crate::test::step;
use anyhow::{Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use xtask::workspace;

/// A Python that has what the scripts need: one of our own, else the system's.
pub fn found() -> Result<Option<PathBuf>> {
    let cache = cache()?;
    let usable = |python: &PathBuf| {
        let imports = Command::new(python).args(["-c", "import numpy, psycopg, pyarrow"]).output();
        imports.is_ok_and(|out| out.status.success())
    };
    let own = [ALL, SMALL].map(|venv| cache.join(venv).join("bin/python"));
    Ok(own.into_iter().chain([PathBuf::from("python3")]).find(usable))
}

const ALL: &str = "venv";
const SMALL: &str = "venv-quick";

/// A Python of our own with the peers in it, made once.
pub fn made() -> Result<PathBuf> {
    make(ALL, &fs::read_to_string(workspace::root().join("bench/requirements.txt"))?)
}

/// As `made`, with one peer only, unless there is a Python already: a fifth of the download, for the test command.
pub fn made_small() -> Result<PathBuf> {
    if let Some(python) = found()? {
        return Ok(python);
    }
    let all = fs::read_to_string(workspace::root().join("bench/requirements.txt"))?;
    let left_out = |line: &&str| !["chdb", "polars"].iter().any(|peer| line.starts_with(peer));
    make(SMALL, &all.lines().filter(left_out).map(|line| format!("{line}\n")).collect::<String>())
}

fn make(name: &str, wanted: &str) -> Result<PathBuf> {
    let venv = cache()?.join(name);
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    step("install the peers into a virtual environment of the benchmark's own");
    let usable = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    if !usable.is_ok_and(|out| out.status.success()) {
        setup::install("a Python for the peers", &["python3-venv", "python3-pip"])?;
    }
    check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), "cannot make a virtual environment")?;
    let asked = venv.join("asked.txt");
    fs::write(&asked, wanted)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&asked);
    check(&mut pip, "pip cannot install the peers that bench/requirements.txt names")?;
    fs::write(&stamp, wanted)?;
    Ok(python)
}

/// Where generated data and the peers are kept: a folder of ours, outside the clone.
pub fn cache() -> Result<PathBuf> {
    let dir = std::env::var_os("BELLWETHER_CACHE")
        .map_or_else(|| PathBuf::from(format!("/var/tmp/bellwether-cache-{}", workspace::uid())), PathBuf::from);
    if fs::create_dir_all(&dir).is_ok() {
        return Ok(dir);
    }
    let fallback = workspace::programs()?.join("bellwether-cache");
    if fs::create_dir_all(&fallback).is_err() {
        bail!("cannot make {} nor {}; set BELLWETHER_CACHE", dir.display(), fallback.display());
    }
    Ok(fallback)
}
