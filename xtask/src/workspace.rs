//! Where things are: the workspace, the built programs, the PostgreSQL to build against, the test data.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};

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

/// The `pg_config` of the PostgreSQL to build against: `PGRX_PG_CONFIG_PATH`, else Debian's place for [`major`].
pub fn pg_config() -> PathBuf {
    match env::var_os("PGRX_PG_CONFIG_PATH") {
        // Cargo's own [env] default names PostgreSQL 15; another major asked for by number outranks it.
        Some(path) if env::var_os("BELLWETHER_PG").is_none() && Path::new(&path).is_file() => PathBuf::from(path),
        _ => debian_pg_config(major()),
    }
}

/// Where Debian and Ubuntu put the `pg_config` of a major.
pub fn debian_pg_config(major: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/pg_config"))
}

/// The major to build against: `BELLWETHER_PG` (15 to 18), else the first of [`MAJORS`] with server and headers
/// present, else 15.
pub fn major() -> u32 {
    if let Some(major) = env::var("BELLWETHER_PG").ok().and_then(|text| text.parse().ok()) {
        return major;
    }
    let usable = |major: &&u32| {
        Path::new(&format!("/usr/lib/postgresql/{major}/bin/postgres")).is_file()
            && Path::new(&format!("/usr/include/postgresql/{major}/server/postgres.h")).is_file()
    };
    MAJORS.iter().find(usable).copied().unwrap_or(MAJORS[0])
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
