//! How is the extension installed without touching the system? PostgreSQL finds its libraries and extension scripts
//! relative to its own executable, so a directory with a copy of three executables and symbolic links to the rest is
//! an installation of its own, into which our extension is copied. It takes a fraction of a second and 11 MB.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to install: a PostgreSQL, the built library, and the folder with the control file and `extension/*.sql`.
#[derive(Clone, Debug)]
pub struct Install {
    /// The `pg_config` of the PostgreSQL to relocate.
    pub pg_config: PathBuf,
    /// The built extension, `libbellwether.so`.
    pub library: PathBuf,
    /// The folder `sql/` of this repository.
    pub sql: PathBuf,
}

impl Install {
    /// The extension built beside the running program, for the PostgreSQL it was built against.
    ///
    /// # Errors
    /// If the extension is not built.
    pub fn built() -> Result<Install> {
        let library = crate::workspace::programs()?.join("libbellwether.so");
        if !library.is_file() {
            bail!("the extension is not built at {}; run `cargo build --workspace`", library.display());
        }
        Ok(Install::of(library))
    }

    /// The given library, with the SQL of this repository.
    pub fn of(library: PathBuf) -> Install {
        Install { pg_config: crate::workspace::pg_config(), library, sql: crate::workspace::root().join("sql") }
    }

    /// Makes the installation in `dest` (whatever was there is replaced) and returns its directory of executables.
    ///
    /// # Errors
    /// If PostgreSQL is not where `pg_config` says, or `dest` cannot be written.
    pub fn into(&self, dest: &Path) -> Result<PathBuf> {
        let dirs = self.directories()?;
        // PostgreSQL keeps the paths' relation to each other, so we keep what differs after the common ancestor.
        let ancestor = common_ancestor(&dirs);
        let place = |dir: &Path| dest.join(dir.strip_prefix(&ancestor).unwrap_or(dir));
        let [bin, lib, share] = [place(&dirs[0]), place(&dirs[1]), place(&dirs[2])];
        if dest.exists() {
            fs::remove_dir_all(dest).with_context(|| format!("cannot replace {}", dest.display()))?;
        }
        let extension = share.join("extension");
        for dir in [&bin, &lib, &extension] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        // The executables that look around themselves must be copies: a link is resolved before they look.
        let copied = ["postgres", "initdb", "pg_ctl"];
        for name in copied {
            let from = dirs[0].join(name);
            fs::copy(&from, bin.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        link_all(&dirs[0], &bin, |name| !copied.iter().any(|other| name == *other))?;
        link_all(&dirs[1], &lib, |name| name != "bellwether.so")?;
        // In other installations than Debian's, the programs' own libraries lie one level above: lib/libpq.so.
        if let (Some(from), Some(to)) = (dirs[1].parent(), lib.parent())
            && to != dest
        {
            link_all(from, to, |name| name.to_string_lossy().contains(".so"))?;
        }
        link_all(&dirs[2], &share, |name| name != "extension")?;
        link_all(&dirs[2].join("extension"), &extension, |name| !name.to_string_lossy().starts_with("bellwether"))?;

        fs::copy(&self.library, lib.join("bellwether.so"))
            .with_context(|| format!("cannot copy {}", self.library.display()))?;
        let control = fs::read_to_string(self.sql.join("bellwether.control"))
            .with_context(|| format!("cannot read bellwether.control in {}", self.sql.display()))?;
        let version = default_version(&control).context("bellwether.control names no default_version")?;
        fs::write(extension.join("bellwether.control"), &control)?;
        fs::write(extension.join(format!("bellwether--{version}.sql")), install_script(&self.sql)?)?;
        // What was released stays as it was, to be installed and to be upgraded from.
        for script in sql_files(&self.sql.join("released")).unwrap_or_default() {
            fs::copy(&script, extension.join(script.file_name().unwrap_or_default()))?;
        }
        for (name, script) in upgrade_scripts(&self.sql)? {
            fs::write(extension.join(name), script)?;
        }
        make_readable(dest)?;
        Ok(bin)
    }

    /// The bin, library and share directories of the PostgreSQL.
    fn directories(&self) -> Result<[PathBuf; 3]> {
        let out = Command::new(&self.pg_config)
            .args(["--bindir", "--pkglibdir", "--sharedir"])
            .output()
            .with_context(|| format!("cannot run {}; run `cargo xtask setup`", self.pg_config.display()))?;
        let text = String::from_utf8_lossy(&out.stdout);
        let mut lines = text.lines().map(PathBuf::from);
        match (lines.next(), lines.next(), lines.next()) {
            (Some(bin), Some(lib), Some(share)) => Ok([bin, lib, share]),
            _ => bail!("{} did not print three directories", self.pg_config.display()),
        }
    }
}

/// The install script: the files `sql/extension/*.sql` one after the other, in the order of their names.
///
/// # Errors
/// If a file cannot be read.
pub fn install_script(sql: &Path) -> Result<String> {
    let mut script = String::new();
    for file in sql_files(&sql.join("extension"))? {
        script += &fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        script.push('\n');
    }
    Ok(script)
}

/// The upgrade scripts to today's version: for each `sql/upgrade/bellwether--OLD--NEW.sql`, name and whole text.
///
/// # Errors
/// If a file cannot be read, or its old version was never released.
pub fn upgrade_scripts(sql: &Path) -> Result<Vec<(String, String)>> {
    let today = install_script(sql)?;
    let mut scripts = Vec::new();
    for file in sql_files(&sql.join("upgrade")).unwrap_or_default() {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let versions = name.trim_end_matches(".sql").trim_start_matches("bellwether--");
        let (old, _) = versions.split_once("--").with_context(|| format!("{name} names no two versions"))?;
        let released = sql.join("released").join(format!("bellwether--{old}.sql"));
        let released =
            fs::read_to_string(&released).with_context(|| format!("{name}: cannot read {}", released.display()))?;
        let mut script = crate::upgrade::script(&released, &today, &fs::read_to_string(&file)?);
        script += &crate::upgrade::calendars(old, &kept_calendars(sql, old)?).with_context(|| name.clone())?;
        scripts.push((name, script));
    }
    Ok(scripts)
}

/// Calendars as a version shipped them, where today's have other sessions: the files of `sql/released/VERSION/calendars`.
///
/// # Errors
/// If a file cannot be read.
pub fn kept_calendars(sql: &Path, version: &str) -> Result<Vec<String>> {
    let files = files(&sql.join("released").join(version).join("calendars"), "toml").unwrap_or_default();
    files
        .iter()
        .map(|file| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display())))
        .collect()
}

fn sql_files(dir: &Path) -> Result<Vec<PathBuf>> {
    files(dir, "sql")
}

fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension() == Some(OsStr::new(extension)));
    files.sort();
    Ok(files)
}

fn default_version(control: &str) -> Option<&str> {
    let line = control.lines().find(|line| line.trim_start().starts_with("default_version"))?;
    Some(line.split_once('=')?.1.trim().trim_matches('\''))
}

fn common_ancestor(paths: &[PathBuf]) -> PathBuf {
    let mut ancestor = paths[0].clone();
    while !paths.iter().all(|path| path.starts_with(&ancestor)) {
        ancestor.pop();
    }
    ancestor
}

fn link_all(from: &Path, to: &Path, keep: impl Fn(&OsStr) -> bool) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        if keep(&entry.file_name()) {
            symlink(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Lets the server's user read what we wrote, whatever our umask says.
fn make_readable(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(if meta.is_dir() { mode | 0o755 } else { mode | 0o644 }))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            make_readable(&entry?.path())?;
        }
    }
    Ok(())
}
