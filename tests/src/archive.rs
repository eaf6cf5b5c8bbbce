//! What tests of the archive do with it: the program's commands, its files, manifests as other programs wrote them.

use crate::cluster::{self, Database};
use crate::store::{self, Chance, generate, insert, put, seal, texts, view};
use anyhow::{Context, Result, ensure};
use market::{Calendar, Session, Trades};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The first trade date of [`filled`].
pub const FIRST: &str = "2025-11-19";
/// The last one.
pub const LAST: &str = "2025-12-02";
/// Its instruments and their calendars.
pub const SYMBOLS: [(&str, &str); 3] = [("X", "XNYS"), ("F", "CME_EQUITY"), ("H", "XHKG")];

/// Three instruments with two weeks of sessions, some of them revised, one with a busted trade.
///
/// # Errors
/// What the server says.
pub async fn filled(name: &str, n: usize) -> Result<(Database, Client)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    let mut chance = Chance::new(91);
    for (symbol, calendar) in SYMBOLS {
        let id = store::instrument(&client, symbol, calendar).await?;
        let known = Calendar::builtin(calendar)?;
        let days = store::sessions(&known, FIRST, LAST)?;
        let stored: Vec<Trades> = generate(&mut chance, &days, n);
        for (at, (day, trades)) in days.iter().zip(&stored).enumerate() {
            let (late, early): (Vec<_>, Vec<_>) = trades.iter().partition(|_| at % 4 == 1 && chance.once_in(20));
            put(&client, id, &early.into_iter().collect()).await?;
            if !late.is_empty() {
                insert(&client, id, &late).await?;
                seal(&client, symbol, day).await?;
            }
        }
        bust(&client, symbol, &days[2], &stored[2]).await?;
    }
    Ok((database, client))
}

async fn bust(client: &Client, symbol: &str, day: &Session<'_>, trades: &Trades) -> Result<()> {
    let trade = trades.get(trades.len() / 2);
    let sql = format!(
        "SELECT market.bust_trade('{symbol}', timestamptz 'epoch' + {} * interval '1 microsecond', {}, ns => {}::int2, sub => {}::int2)",
        trade.ts.div_euclid(1000),
        trade.seq,
        trade.ts.rem_euclid(1000),
        trade.sub
    );
    client.batch_execute(&sql).await?;
    seal(client, symbol, day).await?;
    Ok(())
}

/// Everything a reader can see of the sealed sessions, but when they were last looked at.
///
/// # Errors
/// What the server says.
pub async fn facts(client: &Client) -> Result<Vec<String>> {
    let mut all = texts(
        client,
        "SELECT i.symbol, b.trade_date, segment, opens_at, closes_at, open, high, low, close, volume, notional, trades, priced, state,
                revision, calendar_version, digest, mergeable, sealed_at, reason
         FROM market.session_bars AS b JOIN market.instruments AS i ON i.id = b.instrument_id ORDER BY 1, 2, 3",
    )
    .await?;
    let minutes = "SELECT i.symbol, b.trade_date, b.n, md5(payload) FROM market.bar_blocks AS b
                   JOIN market.instruments AS i ON i.id = b.instrument_id ORDER BY 1, 2";
    all.extend(texts(client, minutes).await?);
    for (symbol, _) in SYMBOLS {
        all.extend(view(client, symbol).await?);
    }
    Ok(all)
}

/// Random requests of bars, as SQL that all three sources understand.
pub fn requests(chance: &mut Chance, n: usize) -> Vec<String> {
    let days = [
        "2025-11-17",
        "2025-11-19",
        "2025-11-20",
        "2025-11-24",
        "2025-11-26",
        "2025-11-28",
        "2025-12-01",
        "2025-12-02",
    ];
    let widths = ["30s", "1m", "5m", "7m", "15m", "1h", "65m", "4h", "1d", "2d", "1w", "1mo", "45s", "90m"];
    let pick = |chance: &mut Chance, from: &[&str]| from[chance.within(0, from.len() as i64) as usize].to_owned();
    (0..n)
        .map(|_| {
            let (symbol, calendar) = SYMBOLS[chance.within(0, 3) as usize];
            let segments: &[&str] = match calendar {
                "XNYS" => &["RTH", "PRE", "POST", "PRE+RTH", "ETH", "ALL"],
                "CME_EQUITY" => &["RTH", "ON", "POST", "ETH", "ALL", "ON+RTH"],
                _ => &["RTH", "ETH", "ALL"],
            };
            let (mut a, mut b) = (pick(chance, &days), pick(chance, &days));
            if a > b {
                std::mem::swap(&mut a, &mut b);
            }
            if chance.once_in(4) {
                let hour =
                    |chance: &mut Chance| format!(" {:02}:{:02}:00+00", chance.within(0, 24), chance.within(0, 60));
                (a, b) = (format!("{a}{}", hour(chance)), format!("{b}{}", hour(chance)));
            }
            let width = pick(chance, &widths);
            if ["30s", "45s", "1m"].contains(&width.as_str()) {
                b = format!("{}{}", &a[..10], b.get(10..).unwrap_or(""));
            }
            let mut sql = format!("session_ohlc('{symbol}', '{width}', '{a}', '{b}'");
            if !chance.once_in(4) {
                sql = format!("{sql}, segments => '{}'", pick(chance, segments));
            }
            if chance.once_in(2) {
                sql = format!("{sql}, fill => '{}'", pick(chance, &["none", "previous", "null"]));
            }
            if chance.once_in(5) {
                sql = format!("{sql}, day => '{}'", pick(chance, &["trade", "clearing"]));
            }
            format!("{sql})")
        })
        .collect()
}

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
