//! What tests of the archive do with it: the program's commands, its files, manifests as other programs wrote them.

use crate::cluster::Database;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

/// What a program said.
///
/// # Errors
/// If it did not end as it should.
pub fn ended(out: &Output, code: i32) -> Result<String> {
    let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    ensure!(out.status.code() == Some(code), "ended with {}, not {code}\n{stdout}\n{stderr}", out.status);
    Ok(stdout.into_owned())
}

/// `querycli archive ACTION` over an archive and a database.
///
/// # Errors
/// If the program is not built.
pub fn archive(database: &Database, folder: &Path, action: &[&str]) -> Result<Command> {
    let mut command = Command::new(crate::program("querycli")?);
    command.arg("archive").args(action).arg("--archive").arg(folder).args(["--db", &database.url]);
    command.env_remove("BELLWETHER_DB").env_remove("BELLWETHER_ARCHIVE");
    Ok(command)
}

/// What retention does when everything is archived: the trades go, the bars stay.
///
/// # Errors
/// What the server says.
pub async fn drop_trades(client: &Client) -> Result<()> {
    client
        .batch_execute("DELETE FROM market.trade_blocks; UPDATE market.session_bars SET trades_dropped_at = now()")
        .await?;
    Ok(())
}

/// The sessions that have a manifest.
pub fn manifests(folder: &Path) -> usize {
    files(&folder.join("sessions")).iter().filter(|path| path.extension().is_some_and(|e| e == "json")).count()
}

/// Every file below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found.sort();
    found
}

/// Starts a program, kills it with -9 as soon as `when` says so, and whether it was killed before it ended.
///
/// # Errors
/// If it cannot be started or killed.
pub async fn killed(mut command: Command, mut when: impl AsyncFnMut() -> Result<bool>) -> Result<bool> {
    let mut child = command.stdout(std::process::Stdio::null()).spawn()?;
    loop {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        if when().await? {
            let caught = crate::signal(child.id(), "-9")?;
            child.wait()?;
            return Ok(caught);
        }
        // how often it looks decides nothing: whenever the kill comes, the same must hold
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The rows of a statement, cells with commas between.
///
/// # Errors
/// What the server says.
pub async fn answers(client: &Client, sql: &str) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let cells: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or_default()).collect();
            rows.push(cells.join(","));
        }
    }
    Ok(rows)
}

/// What the program prints for a script of statements whose first column is `q`, without the heads.
///
/// # Errors
/// If it did not end well.
pub fn querycli(arguments: &[&str], script: &Path) -> Result<Vec<String>> {
    let out = Command::new(crate::program("querycli")?)
        .args(arguments)
        .args(["--format", "csv", "-f"])
        .arg(script)
        .env_remove("BELLWETHER_DB")
        .env_remove("BELLWETHER_ARCHIVE")
        .output()?;
    let text = ended(&out, 0)?;
    Ok(text.lines().filter(|line| !line.starts_with("q,")).map(str::to_owned).collect())
}

/// Writes a manifest anew as `edit` makes it, with the right checksum.
///
/// # Errors
/// A file that is no manifest.
pub fn edited(path: &Path, edit: impl Fn(String) -> String) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let at = text.find("\"checksum\": \"").context("no checksum")? + 12;
    let bare = edit(format!("{}\"\"\n}}\n", &text[..at]));
    let sum = xxhash_rust::xxh3::xxh3_128(bare.as_bytes());
    fs::write(path, bare.replace("\"checksum\": \"\"", &format!("\"checksum\": \"{sum:032x}\"")))?;
    Ok(())
}

/// A manifest's text without one of its fields.
pub fn without(text: &str, field: &str) -> String {
    let Some(from) = text.find(&format!("\n  \"{field}\":")) else { return text.to_owned() };
    let next = text[from + 1..].find("\n  \"").map_or(text.len(), |at| from + 1 + at);
    format!("{}{}", &text[..from], &text[next..])
}

/// Makes an archive what a program before halts and filed calendars wrote.
///
/// # Errors
/// A file that cannot be written.
pub fn as_format_1(folder: &Path) -> Result<()> {
    for path in files(&folder.join("sessions")) {
        edited(&path, |text| {
            let text = without(&without(&text, "halts"), "calendar").replace("\"format\": 2", "\"format\": 1");
            text.replace("\n  \"bars\":", "\n  \"calendar\": null,\n  \"bars\":")
        })?;
    }
    if folder.join("calendars").exists() {
        fs::remove_dir_all(folder.join("calendars"))?;
    }
    Ok(())
}
