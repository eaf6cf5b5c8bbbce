//! `ingest live` into a real database, from a server that replays Binance's capture and breaks off in mid-stream.

#[path = "../../ingest/tests/support/replay.rs"]
mod replay;

use anyhow::{Context, Result, bail, ensure};
use replay::{End, Step};
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};
use tests::cluster::{self, Database};
use tests::testdata;

const TRADES: i64 = 10_147;

fn capture() -> Option<(PathBuf, Vec<String>)> {
    let path = testdata("ticks/binance/btcusdt_spot_20240809.ndjson.gz")?;
    let trades = replay::capture(&path).into_iter().filter(|m| replay::is_trade(m)).collect();
    Some((path, trades))
}

fn follow(database: &Database, url: &str) -> Result<Child> {
    let flags = [
        "--venue",
        "binance",
        "--symbols",
        "btcusdt",
        "--url",
        url,
        "--flush-ms",
        "20",
        "--silence-ms",
        "1000",
        "--backoff-ms",
        "10",
    ];
    let mut live = database.program("ingest", &["live"])?;
    Ok(live.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

/// Waits until a count has been reached.
async fn until(database: &Database, sql: &str, at_least: i64) -> Result<()> {
    let client = database.client().await?;
    let began = Instant::now();
    loop {
        let n: i64 = client.query_one(sql, &[]).await?.get(0);
        if n >= at_least {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(60), "{n} of {at_least} after a minute: {sql}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn signal(child: &Child, name: &str) -> Result<()> {
    ensure!(tests::signal(child.id(), name)?, "kill {name} failed");
    Ok(())
}

/// Stops the program as an operator does, and waits for it.
fn stop(child: Child) -> Result<Output> {
    signal(&child, "-TERM")?;
    Ok(child.wait_with_output()?)
}

const ROWS: &str = "SELECT count(*) FROM market.live_trades";

async fn assert_each_trade_once(database: &Database) -> Result<()> {
    let row = database
        .client()
        .await?
        .query_one(
            "SELECT count(*), count(DISTINCT seq), max(seq) - min(seq) + 1, \
                    (SELECT last_seq FROM market.ingest_checkpoints WHERE feed = 'binance.spot.trade') - max(seq), \
                    (SELECT count(*) FROM market.feed_gaps) \
             FROM market.live_trades",
            &[],
        )
        .await?;
    let found: Vec<i64> = (0..5).map(|i| row.get(i)).collect();
    assert_eq!(found, [TRADES, TRADES, TRADES, 0, 0], "rows, ids, range of ids, checkpoint behind, gaps");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_feed_stores_each_trade_once_and_answers_like_the_file() -> Result<()> {
    let Some((path, all)) = capture() else { return Ok(()) };
    let database = cluster::database("live").await?;
    let n = all.len();
    let cut = |from: usize, till: usize, then| Step { messages: all[from..till].to_vec(), then };
    let server = replay::serve(vec![
        cut(0, n / 4, End::Drop),
        cut(n / 4 - 500, n / 2, End::Close),
        cut(0, n * 3 / 4, End::Silent),
        cut(n * 3 / 4 - 1, n, End::Stay),
    ])
    .await;
    let live = follow(&database, &server.url)?;
    until(&database, ROWS, TRADES).await?;
    let ended = stop(live)?;
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    ensure!(ended.status.success(), "{err}");
    assert!(out.contains(&format!("{TRADES} trades")) && out.contains("4 connections"), "{out}{err}");
    assert_each_trade_once(&database).await?;

    let loaded = cluster::database("live_file").await?;
    let done = loaded.program("ingest", &["load"])?.arg(&path).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut bars = vec![];
    for database in [&database, &loaded] {
        let rows = database
            .client()
            .await?
            .query(
                "SELECT concat_ws(' ', bar_at, open, high, low, close, volume, trades) \
                 FROM market.session_ohlc('BTCUSDT', '1m', date '2024-08-09', date '2024-08-09')",
                &[],
            )
            .await?;
        bars.push(rows.iter().map(|r| r.get::<_, String>(0)).collect::<Vec<_>>());
    }
    assert!(bars[0].len() > 5);
    assert_eq!(bars[0], bars[1], "rows and blocks give the same bars");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_between_batches_neither_loses_nor_repeats() -> Result<()> {
    let Some((_, all)) = capture() else { return Ok(()) };
    let database = cluster::database("live_kill").await?;
    let n = all.len();
    // The second connection repeats everything, as the venue knows nothing of what was committed.
    let server = replay::serve(vec![
        Step { messages: all[..n / 2].to_vec(), then: End::Stay },
        Step { messages: all.clone(), then: End::Stay },
    ])
    .await;
    let mut first = follow(&database, &server.url)?;
    until(&database, ROWS, 1000).await?;
    signal(&first, "-KILL")?;
    first.wait()?;
    let second = follow(&database, &server.url)?;
    until(&database, ROWS, TRADES).await?;
    ensure!(stop(second)?.status.success());
    assert_each_trade_once(&database).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_connection_is_made_again() -> Result<()> {
    let Some((_, all)) = capture() else { return Ok(()) };
    let database = cluster::database("live_reconnect").await?;
    let half = all.len() / 2;
    let server = replay::serve(vec![
        Step { messages: all[..half].to_vec(), then: End::Silent },
        Step { messages: all[half - 10..].to_vec(), then: End::Stay },
    ])
    .await;
    let live = follow(&database, &server.url)?;
    until(&database, ROWS, half as i64).await?;
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'bellwether ingest'";
    let ended = database.client().await?.query(sql, &[]).await?;
    ensure!(!ended.is_empty(), "the feed has a connection");
    until(&database, ROWS, TRADES).await?;
    ensure!(stop(live)?.status.success());
    assert_each_trade_once(&database).await
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_ids_are_recorded_and_a_second_follower_is_refused() -> Result<()> {
    let Some((_, all)) = capture() else { return Ok(()) };
    let database = cluster::database("live_gap").await?;
    let server = replay::serve(vec![
        Step { messages: all[..100].to_vec(), then: End::Drop },
        Step { messages: all[150..200].to_vec(), then: End::Stay },
    ])
    .await;
    let live = follow(&database, &server.url)?;
    until(&database, ROWS, 150).await?;
    let row = database
        .client()
        .await?
        .query_one(
            "SELECT last_missing - first_missing + 1, closed_at IS NULL, from_ts <= till_ts FROM market.feed_gaps",
            &[],
        )
        .await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1), row.get::<_, bool>(2)), (50, true, true));
    let second = follow(&database, &server.url)?.wait_with_output()?;
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    if second.status.code() != Some(2) || !said.contains("another process follows") {
        bail!("a second follower: {:?} {said}", second.status);
    }
    ensure!(stop(live).context("the first goes on")?.status.success());
    Ok(())
}
