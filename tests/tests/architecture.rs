//! Dependency direction and other rules of ARCHITECTURE.md, over `cargo metadata` and the sources.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Package -> names of what it depends on outside of tests.
fn dependencies() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(tests::root())
        .output()?;
    let metadata: Value = serde_json::from_slice(&out.stdout).context("cargo metadata printed no JSON")?;
    let strings = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let packages = metadata["packages"].as_array().context("no packages")?;
    Ok(packages
        .iter()
        .map(|package| {
            let normal = package["dependencies"].as_array().into_iter().flatten().filter(|d| d["kind"].is_null());
            (strings(&package["name"]), normal.map(|d| strings(&d["name"])).collect())
        })
        .collect())
}

#[test]
fn adapters_meet_in_sql_and_know_only_the_domain() -> Result<()> {
    let dependencies = dependencies()?;
    let allowed = BTreeMap::from([
        ("market", vec![]),
        ("bellwether", vec!["market"]),
        ("ingest", vec!["market"]),
        ("querycli", vec!["market"]),
        ("bot", vec!["market"]),
        ("tests", vec!["market", "xtask"]),
        ("xtask", vec![]),
    ]);
    for (package, found) in &dependencies {
        let allowed = allowed.get(package.as_str()).with_context(|| format!("{package} has no rule here"))?;
        let members: Vec<_> = found.iter().filter(|name| dependencies.contains_key(*name)).collect();
        assert!(members.iter().all(|name| allowed.contains(&name.as_str())), "{package} depends on {members:?}");
    }
    Ok(())
}

#[test]
fn the_domain_is_pure() -> Result<()> {
    let dependencies = dependencies()?;
    let allowed = ["chrono", "chrono-tz", "pco", "serde", "thiserror", "toml", "xxhash-rust"];
    let extra: Vec<_> = dependencies["market"].iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(extra.is_empty(), "market depends on {extra:?}; a new dependency is a decision, make it here too");

    let forbidden = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread",
        "SystemTime",
        "Instant::now",
        "Utc::now",
        "Local::now",
        "println!",
        "eprintln!",
        "async fn",
        "tokio",
        "pgrx",
        "datafusion",
    ];
    let found = lines_with(&tests::root().join("market/src"), &forbidden)?;
    assert!(found.is_empty(), "no I/O, no clock, no async in market:\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn only_the_extension_is_unsafe() -> Result<()> {
    let forbidden = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    for package in ["market", "ingest", "querycli", "bot", "xtask"] {
        let found = lines_with(&tests::root().join(package).join("src"), &forbidden)?;
        assert!(found.is_empty(), "unsafe outside pg_ext:\n{}", found.join("\n"));
    }
    Ok(())
}

#[test]
fn spi_goes_through_the_one_wrapper() -> Result<()> {
    // pgrx chooses SPI's read-only flag by whether the transaction has an xid; ours is told (DESIGN, consistency 1).
    let found =
        lines_with(&tests::root().join("pg_ext/src"), &["Spi::get_", "Spi::run", "Spi::connect", "Spi::explain"])?;
    let found: Vec<_> = found.into_iter().filter(|line| !line.contains("/spi.rs:")).collect();
    assert!(found.is_empty(), "SPI outside spi.rs:\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn modules_are_named_for_what_they_hold() -> Result<()> {
    for file in sources(&tests::root())? {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(!["utils", "util", "helpers", "manager", "common", "misc"].contains(&stem), "{}", file.display());
    }
    Ok(())
}

/// `path:line: text` of every line of code (not of comments) with one of the words.
fn lines_with(dir: &Path, words: &[&str]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in sources(dir)? {
        for (number, line) in fs::read_to_string(&file)?.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    Ok(found)
}

fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(sources(&path)?);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(files)
}
