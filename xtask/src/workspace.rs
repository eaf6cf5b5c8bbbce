//! Where things are: the workspace, the built programs, the PostgreSQL to build against, the test data.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The PostgreSQL majors the extension builds for; the first is the default.
pub const MAJORS: [u32; 4] = [15, 16, 17, 18];

/// The root of this workspace.
pub fn root() -> PathBuf {
    // The manifest directory is baked in at compile time; a moved clone is compiled again.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The directory of the programs built together with the running one, such as `target/debug`.
///
/// # Errors
/// If the running program's own path cannot be read.
pub fn programs() -> Result<PathBuf> {
    let exe = env::current_exe().context("cannot find the path of the running program")?;
    let dir = exe.parent().context("the running program has no directory")?;
    // Tests lie one level deeper, in `deps`.
    Ok(match dir.file_name().and_then(|name| name.to_str()) {
        Some("deps" | "examples") => dir.parent().unwrap_or(dir).to_path_buf(),
        _ => dir.to_path_buf(),
    })
}

/// A program of this workspace, such as `ingest`, built beside the running one.
///
/// # Errors
/// If it is not there, with the command that builds it.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = programs()?.join(name);
    if !path.is_file() {
        bail!("program \"{name}\" is not built at {}; run `cargo build --workspace`", path.display());
    }
    Ok(path)
}

/// The `pg_config` of the PostgreSQL to build against: `BELLWETHER_PG` names a major in Debian's place,
/// `PGRX_PG_CONFIG_PATH` any other; without either, the first of [`MAJORS`] with server and headers present, else 15.
pub fn pg_config() -> PathBuf {
    if let Some(major) = env::var("BELLWETHER_PG").ok().and_then(|text| text.parse().ok()) {
        return debian_pg_config(major);
    }
    // Cargo's [env] gives Debian's PostgreSQL 15 as the default, whether it is there or not.
    let given = env::var_os("PGRX_PG_CONFIG_PATH").map(PathBuf::from);
    if let Some(path) = given.filter(|path| path.is_file()) {
        return path;
    }
    let usable = |major: &&u32| {
        Path::new(&format!("/usr/lib/postgresql/{major}/bin/postgres")).is_file()
            && Path::new(&format!("/usr/include/postgresql/{major}/server/postgres.h")).is_file()
    };
    debian_pg_config(MAJORS.iter().find(usable).copied().unwrap_or(MAJORS[0]))
}

/// Where Debian and Ubuntu put the `pg_config` of a major.
pub fn debian_pg_config(major: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/pg_config"))
}

/// The major of [`pg_config`]'s PostgreSQL; where it is not installed yet, the one its path names.
pub fn major() -> u32 {
    let path = pg_config();
    let version = Command::new(&path).arg("--version").output().ok();
    let version = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    // "PostgreSQL 15.20 (Debian ...)"
    let said = version.split_whitespace().nth(1).and_then(|number| number.split('.').next()?.parse().ok());
    let named = || path.components().rev().find_map(|part| part.as_os_str().to_str()?.parse().ok());
    said.or_else(named).unwrap_or(MAJORS[0])
}

/// Market data that is not part of this repository: `BELLWETHER_TESTDATA`, else `../shared/data` beside the workspace.
pub fn testdata() -> Option<PathBuf> {
    let dir = env::var_os("BELLWETHER_TESTDATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    dir.is_dir().then_some(dir)
}

/// The effective user id.
pub fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    // Without libc or unsafe: the kernel shows our effective owner on our own /proc entry.
    std::fs::metadata("/proc/self").map_or(u32::MAX, |meta| meta.uid())
}
