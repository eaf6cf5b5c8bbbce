//! The Python that the peers live in.

use crate::pg::check;
use crate::setup;
use crate::test::step;
use anyhow::{Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use xtask::workspace;

/// The Python of our own if it was made, else the system's if that has what the scripts need.
pub fn found() -> Result<Option<PathBuf>> {
    let own = cache()?.join("venv/bin/python");
    let usable = |python: &PathBuf| {
        let imports = Command::new(python).args(["-c", "import numpy, psycopg, pyarrow"]).output();
        imports.is_ok_and(|out| out.status.success())
    };
    Ok([own, PathBuf::from("python3")].into_iter().find(usable))
}

/// A Python of our own with the peers in it, made once.
pub fn made() -> Result<PathBuf> {
    let requirements = workspace::root().join("bench/requirements.txt");
    let venv = cache()?.join("venv");
    let python = venv.join("bin/python");
    let wanted = fs::read_to_string(&requirements)?;
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
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&requirements);
    check(&mut pip, "pip cannot install bench/requirements.txt")?;
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
