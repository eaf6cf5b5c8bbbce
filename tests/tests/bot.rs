//! The bot over a real database: trades in, questions out. Nothing here knows how bars are made.

use anyhow::{Result, ensure};
use std::process::Output;
use tests::cluster::{self, Database};

/// Two sessions of ES around Thanksgiving 2025 and one of SPY, with prices that can be checked by eye. Chicago is UTC-6.
const TRADES: &str = "
SELECT market.add_instrument('ESZ25'), market.add_instrument('ESH26'),
       market.add_instrument('SPY', calendar => 'XNYS', currency => 'USD', tick_size => 0.01, kind => 'equity');
INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES
  ('ESZ25', '2025-11-23 17:00:01-06', 1, 6600.00, 10),
  ('ESZ25', '2025-11-24 03:00:00-06', 2, 6660.25, 10),
  ('ESZ25', '2025-11-24 08:30:00-06', 3, 6620.50, 10),
  ('ESZ25', '2025-11-24 10:17:00-06', 4, 6651.75, 10),
  ('ESZ25', '2025-11-24 14:59:59-06', 5, 6640.00, 10),
  ('ESZ25', '2025-11-24 15:30:00-06', 6, 6655.00, 10),
  ('ESZ25', '2025-11-25 09:00:00-06', 7, 6699.00, 10),
  ('ESH26', '2025-11-24 09:00:00-06', 1, 6700.00, 3),
  ('SPY',   '2025-11-24 09:30:00-05', 1, 660.10, 100),
  ('SPY',   '2025-11-24 15:00:00-05', 2, 662.35, 300);";

async fn market(name: &str) -> Result<Database> {
    let database = cluster::database(name).await?;
    database.client().await?.batch_execute(TRADES).await?;
    Ok(database)
}

/// `bot ask` at Tuesday 2025-11-25 10:00 in Chicago.
fn ask(database: &Database, question: &str, more: &[&str]) -> Result<Output> {
    let now = ["ask", question, "--now", "2025-11-25T10:00:00-06:00"];
    Ok(database.program("bot", &[&now[..], more].concat())?.output()?)
}

#[tokio::test]
async fn yesterdays_regular_high_is_neither_the_nights_nor_the_next_contracts() -> Result<()> {
    let database = market("bot_high").await?;
    let chart = tempfile::tempdir()?;
    let (png, svg) = (chart.path().join("high.png"), chart.path().join("high.svg"));
    let files = ["--chart", &png.to_string_lossy(), "--svg", &svg.to_string_lossy()].map(str::to_string);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let out = ask(&database, "what was ES's RTH high yesterday?", &files)?;
    let text = String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.success(), "{out:?}");
    for part in ["ES RTH high, Mon 24 Nov 2025: 6,651.75 points", "ESZ25", "RTH 08:30–15:00 CST, America/Chicago"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    assert!(std::fs::read(png)?.starts_with(b"\x89PNG"));
    assert!(std::fs::read_to_string(svg)?.contains("H 6,651.75"));
    Ok(())
}

#[tokio::test]
async fn the_state_is_final_once_sealed() -> Result<()> {
    let database = market("bot_state").await?;
    let text = |out: Output| String::from_utf8_lossy(&out.stdout).into_owned();
    let before = text(ask(&database, "SPY volume yesterday", &[])?);
    assert!(before.contains("400 shares") && before.contains("Provisional"), "{before}");
    database.client().await?.execute("SELECT market.seal('SPY', DATE '2025-11-24')", &[]).await?;
    let after = text(ask(&database, "SPY volume yesterday", &[])?);
    assert!(after.contains("400 shares") && after.contains("Final."), "{after}");
    Ok(())
}

#[tokio::test]
async fn what_is_refused_writes_no_answer() -> Result<()> {
    let database = market("bot_refused").await?;
    for (question, hint) in [
        ("what was ES's hihg yesterday", "\"high\""),
        ("SPX close", "SPY"),
        ("ES high'; DROP TABLE market.instruments;--", "plain punctuation"),
        ("ESH26 high last friday", "no ETH trades"),
    ] {
        let out = ask(&database, question, &[])?;
        assert_eq!(out.status.code(), Some(1), "{question}: {out:?}");
        assert!(out.stdout.is_empty(), "{question}");
        assert!(String::from_utf8_lossy(&out.stderr).contains(hint), "{question}: {out:?}");
    }
    let left = database.client().await?.query_one("SELECT count(*) FROM market.instruments", &[]).await?;
    assert_eq!(left.get::<_, i64>(0), 3);
    Ok(())
}

#[tokio::test]
async fn a_reader_is_enough_and_a_broken_database_tells_only_a_reference() -> Result<()> {
    let database = market("bot_roles").await?;
    let client = database.client().await?;
    let role = format!("bot_reader_{}", database.name);
    client.batch_execute(&format!("CREATE ROLE {role} LOGIN IN ROLE market_reader")).await?;
    let reader = Database { url: as_user(&database.url, &role), name: database.name.clone() };
    let out = ask(&reader, "ES RTH high yesterday", &[])?;
    assert!(String::from_utf8_lossy(&out.stdout).contains("6,651.75"), "{out:?}");
    client.batch_execute("ALTER TABLE market.instrument_terms RENAME TO secret_terms").await?;
    let out = ask(&reader, "ES RTH high yesterday", &[])?;
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    let shown = String::from_utf8_lossy(&out.stderr).into_owned();
    let last = shown.lines().last().unwrap_or_default();
    assert!(last.contains("reference") && !last.contains("terms"), "{shown}");
    Ok(())
}

/// The URL with another user.
fn as_user(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgresql", url));
    let slash = rest.find('/').unwrap_or(rest.len());
    let at = rest[..slash].find('@').map_or(0, |at| at + 1);
    format!("{scheme}://{user}@{}", &rest[at..])
}
