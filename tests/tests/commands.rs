//! What the commands print that need a database: verify, and those of the archive. The others' are in querycli/tests/commands.rs.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::Stdio;
use tests::cluster::{self, Database};
use tokio_postgres::Client;

/// Two sealed sessions of a share, one of a future.
const TRADES: &str = "
    SELECT market.add_instrument('SPY', calendar => 'XNYS', tick_size => 0.01);
    SELECT market.add_instrument('ESZ25');
    INSERT INTO market.trades (symbol, ts, seq, price, size, ts_recv)
    SELECT symbol, ts::timestamptz, seq, price, size, ts::timestamptz + interval '1 second' FROM (VALUES
      ('SPY', '2025-11-26 14:30:00+00', 1, 677.5, 80), ('SPY', '2025-11-26 15:10:00+00', 2, 679, 20),
      ('SPY', '2025-11-28 14:30:00+00', 1, 679.25, 100), ('SPY', '2025-11-28 14:59:59.999999+00', 2, 680.5, 50),
      ('SPY', '2025-11-28 17:59:00+00', 3, 682, 25), ('ESZ25', '2025-11-27 23:00:00+00', 1, 6800.25, 2)) AS t(symbol, ts, seq, price, size);
    SELECT market.seal('SPY', '2025-11-26');
    SELECT market.seal('SPY', '2025-11-28');
    SELECT market.seal('ESZ25', '2025-11-28');";

async fn filled(name: &str) -> Result<(Database, Client)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    client.batch_execute(TRADES).await?;
    Ok((database, client))
}

/// How many bytes a compressor makes is not for a snapshot.
fn without_sizes(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        while let Some(at) = words.iter().position(|word| word.starts_with("bytes")).filter(|at| *at > 0) {
            let from = words[..at - 1].iter().rposition(|word| !word.is_empty()).map_or(0, |at| at + 1);
            let unit = words[at].replace("bytes", "SIZE");
            words.splice(from..=at, [unit]);
        }
        lines.push(words.join(" "));
    }
    lines.join("\n")
}

/// The command, the exit code and what went where.
fn told(database: &Database, folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut all = arguments.to_vec();
    let place = folder.to_str().context("a folder with a readable name")?;
    if arguments[0] == "archive" {
        all.extend(["--archive", place]);
    }
    // list asks no database
    let mut program = match arguments {
        ["archive", "list", ..] => {
            let mut program = std::process::Command::new(tests::program("querycli")?);
            program.args(&all);
            program
        }
        _ => database.program("querycli", &all)?,
    };
    for name in ["BELLWETHER_DB", "BELLWETHER_READ_DB", "BELLWETHER_ARCHIVE", "COLUMNS"] {
        program.env_remove(name);
    }
    let out = program.current_dir(folder).stdin(Stdio::null()).output()?;
    let (stdout, stderr) = (String::from_utf8(out.stdout)?, String::from_utf8(out.stderr)?);
    let mut told = format!("$ querycli {}\n{stdout}", arguments.join(" "));
    if !stderr.is_empty() {
        told.push_str(&format!("--- stderr\n{stderr}"));
    }
    if out.status.code() != Some(0) {
        told.push_str(&format!("--- exit code {:?}\n", out.status.code()));
    }
    Ok(without_sizes(&told.replace(place, "ARCHIVE")))
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_tells_every_difference_in_every_format() -> Result<()> {
    let (database, client) = filled("commands_verify").await?;
    let folder = tempfile::tempdir()?;
    let all = |arguments: &[&[&str]]| -> Result<String> {
        let told: Vec<String> =
            arguments.iter().map(|arguments| told(&database, folder.path(), arguments)).collect::<Result<_>>()?;
        Ok(told.join("\n"))
    };
    insta::assert_snapshot!(
        "verify",
        all(&[
            &["verify", "SPY"],
            &["verify", "SPY", "2025-11-26..2025-11-28"],
            &["verify", "SPY", "--last", "2", "--format", "csv"],
            &["verify", "SPY", "2025-11-25"],
            &["verify", "SPYY"],
        ])?
    );
    client
        .batch_execute("UPDATE market.session_bars SET high = 683, trades = 4 WHERE segment = 'RTH' AND trade_date = '2025-11-28' AND instrument_id = 1")
        .await?;
    let formats = ["table", "csv", "tsv", "json", "ndjson", "markdown"];
    let asked: Vec<[&str; 6]> =
        formats.iter().map(|format| ["verify", "SPY", "--last", "2", "--format", format]).collect();
    insta::assert_snapshot!("verify_differences", all(&asked.iter().map(<[&str; 6]>::as_slice).collect::<Vec<_>>())?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_says_what_it_does() -> Result<()> {
    let (database, client) = filled("commands_archive").await?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("archive");
    let all = |arguments: &[&[&str]]| -> Result<String> {
        let told: Vec<String> =
            arguments.iter().map(|arguments| told(&database, &archive, arguments)).collect::<Result<_>>()?;
        Ok(told.join("\n"))
    };
    std::fs::create_dir(&archive)?;
    insta::assert_snapshot!(
        "archive_push",
        all(&[
            &["archive", "list"],
            &["archive", "push", "--symbol", "SPY", "--first", "2025-11-28"],
            &["archive", "push"],
            &["archive", "push"],
            &["archive", "push", "--symbol", "SPYY"],
            &["archive", "push", "--symbol", "ES"],
            &["archive", "push", "--first", "2025-11-28", "--last", "2025-11-26"],
            &["archive", "push", "--first", "yesterday"],
        ])?
    );
    insta::assert_snapshot!(
        "archive_list",
        all(&[&["archive", "list"], &["archive", "list", "--symbol", "SPY", "--last", "2025-11-27"]])?
    );
    insta::assert_snapshot!(
        "archive_verify",
        all(&[&["archive", "verify"], &["archive", "verify", "--quick", "--symbol", "SPY"]])?
    );

    // the database loses trades, and the archive a bit of one file
    client
        .batch_execute("DELETE FROM market.trade_blocks; UPDATE market.session_bars SET trades_dropped_at = now()")
        .await?;
    let broken = archive.join("trades/symbol=SPY/trade_date=2025-11-26");
    let broken = std::fs::read_dir(&broken)?.next().context("no file")??.path();
    let mut bytes = std::fs::read(&broken)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&broken, &bytes)?;
    std::fs::write(archive.join("trades/symbol=SPY/trade_date=2025-11-28/.x.1-1.tmp"), b"half")?;
    insta::assert_snapshot!(
        "archive_broken",
        all(&[&["archive", "verify"], &["archive", "restore", "--symbol", "SPY"]])?
    );
    bytes[middle] ^= 1;
    std::fs::write(&broken, &bytes)?;
    // what a broken manifest names may be the only copy: it is not left over
    let manifest = archive.join("sessions/symbol=SPY/2025-11-26.json");
    let whole = std::fs::read_to_string(&manifest)?;
    std::fs::write(&manifest, whole.replace("2025-11-26", "2025-11-25"))?;
    insta::assert_snapshot!(
        "archive_broken_manifest",
        all(&[
            &["archive", "verify"],
            &["archive", "prune"],
            &["archive", "list", "--symbol", "SPY"],
            &["archive", "restore", "--symbol", "SPYY"],
        ])?
    );
    std::fs::write(&manifest, whole)?;
    insta::assert_snapshot!("archive_restore", all(&[&["archive", "restore"], &["archive", "restore"]])?);
    client
        .batch_execute("DELETE FROM market.trade_blocks WHERE instrument_id = 2; UPDATE market.session_bars SET trades_dropped_at = now() WHERE instrument_id = 2")
        .await?;
    insta::assert_snapshot!(
        "archive_prune",
        all(&[
            &["archive", "prune", "--before", "2025-11-29", "--dry-run"],
            &["archive", "prune", "--before", "2025-11-29"],
            &["archive", "list"],
        ])?
    );
    Ok(())
}
