//! The laws of storage over the wire: sealing, reloading, busts and snapshots change no answer that they must not.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use tests::cluster::{self, Database};
use tokio_postgres::{Client, SimpleQueryMessage};

const FIRST: &str = "2025-11-24";
const LAST: &str = "2025-11-28";

/// Rows as text, NULL as `NULL`.
async fn rows(client: &Client, sql: &str) -> Result<Vec<String>> {
    let messages = client.simple_query(sql).await.with_context(|| sql.to_string())?;
    let text = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let fields: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
            Some(fields.join("|"))
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(text).collect())
}

async fn one(client: &Client, sql: &str) -> Result<String> {
    rows(client, sql).await?.into_iter().next().with_context(|| format!("no row from {sql}"))
}

/// Everything a bar says but its state, at widths that use summaries, minute bars and trades.
async fn bars(client: &Client, symbol: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (timeframe, segments) in
        [("1d", "RTH"), ("1d", "ETH"), ("1h", "RTH"), ("7m", "ETH"), ("1m", "ALL"), ("1s", "RTH"), ("90s", "PRE+RTH")]
    {
        let sql = format!(
            "SELECT trade_date, bar_at, bar_end, open, high, low, close, volume, trades, round(vwap::numeric, 9)
             FROM market.session_ohlc('{symbol}', '{timeframe}', date '{FIRST}', date '{LAST}', segments => '{segments}')
             ORDER BY bar_at"
        );
        let found = rows(client, &sql).await?;
        ensure!(!found.is_empty(), "no {timeframe} {segments} bars of {symbol}");
        all.extend(found.into_iter().map(|bar| format!("{timeframe} {segments} {bar}")));
    }
    Ok(all)
}

/// Trades of Thanksgiving week with equal times, as SQL rows `(ts, seq, price, size)` ordered by time.
const TRADES: &str =
    "SELECT timestamptz '2025-11-24 09:00+00' + d * interval '1 day' + (n / 3) * interval '47.3 seconds' AS ts,
       (d * 100000 + n)::int8 AS seq, 600 + ((n * 7919 + d * 31) % 1009) / 100.0 AS price, (1 + n % 7)::float8 AS size
FROM (VALUES (0), (1), (2), (4)) AS days(d), generate_series(0, 2700) AS n";

async fn instrument(client: &Client, symbol: &str) -> Result<()> {
    let sql = format!("SELECT market.add_instrument('{symbol}', calendar => 'XNYS', tick_size => 0.01)");
    client.batch_execute(&sql).await?;
    Ok(())
}

async fn insert(client: &Client, symbol: &str, wanted: &str, order: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO market.trades (symbol, ts, seq, price, size)
         SELECT '{symbol}', ts, seq, price, size FROM ({TRADES}) t WHERE {wanted} ORDER BY {order}"
    );
    client.batch_execute(&sql).await?;
    Ok(())
}

async fn seal_all(client: &Client, symbol: &str) -> Result<i64> {
    let sql = format!(
        "SELECT coalesce(sum(market.seal('{symbol}', trade_date)), 0)::int8
         FROM market.sessions('XNYS', date '{FIRST}', date '{LAST}', 'RTH')"
    );
    Ok(one(client, &sql).await?.parse()?)
}

#[tokio::test]
async fn seal_changes_no_answer() -> Result<()> {
    let client = cluster::database("seal").await?.client().await?;
    for symbol in ["ROWS", "BLOCKS", "MIX", "BACKWARD"] {
        instrument(&client, symbol).await?;
    }
    insert(&client, "ROWS", "true", "ts, seq").await?;
    let expected = bars(&client, "ROWS").await?;

    insert(&client, "BLOCKS", "true", "ts, seq").await?;
    ensure!(seal_all(&client, "BLOCKS").await? > 10_000);
    assert_eq!(bars(&client, "BLOCKS").await?, expected, "from blocks");

    insert(&client, "MIX", "seq % 3 <> 0", "ts, seq").await?;
    seal_all(&client, "MIX").await?;
    insert(&client, "MIX", "seq % 3 = 0", "ts, seq").await?;
    assert_eq!(bars(&client, "MIX").await?, expected, "from blocks and late rows");
    seal_all(&client, "MIX").await?;
    assert_eq!(bars(&client, "MIX").await?, expected, "after the second sealing");

    insert(&client, "BACKWARD", "true", "hashint8(seq)").await?;
    assert_eq!(bars(&client, "BACKWARD").await?, expected, "from rows in another order");
    seal_all(&client, "BACKWARD").await?;
    assert_eq!(bars(&client, "BACKWARD").await?, expected, "from blocks of rows in another order");
    Ok(())
}

#[tokio::test]
async fn parallel_workers_change_no_answer() -> Result<()> {
    let client = cluster::database("parallel").await?.client().await?;
    client.batch_execute("CREATE TABLE symbols (symbol text) WITH (parallel_workers = 2)").await?;
    for n in 0..4 {
        let symbol = format!("P{n}");
        instrument(&client, &symbol).await?;
        insert(&client, &symbol, &format!("seq % 5 <> {n}"), "ts, seq").await?;
        if n % 2 == 0 {
            seal_all(&client, &symbol).await?;
        }
        client.batch_execute(&format!("INSERT INTO symbols VALUES ('{symbol}')")).await?;
    }
    let sql = format!(
        "SELECT s.symbol, b.bar_at, b.open, b.high, b.low, b.close, b.volume, b.trades FROM symbols s,
         LATERAL market.session_ohlc(s.symbol, '5m', date '{FIRST}', date '{LAST}') b ORDER BY 1, 2"
    );
    client.batch_execute("SET max_parallel_workers_per_gather = 0").await?;
    let serial = rows(&client, &sql).await?;
    client
        .batch_execute(
            "SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
             SET min_parallel_table_scan_size = 0; ANALYZE symbols",
        )
        .await?;
    let plan = rows(&client, &format!("EXPLAIN {sql}")).await?.join("\n");
    ensure!(plan.contains("Workers Planned: 2"), "{plan}");
    assert_eq!(rows(&client, &sql).await?, serial);
    Ok(())
}

#[tokio::test]
async fn reseal_is_idempotent() -> Result<()> {
    let client = cluster::database("reseal").await?.client().await?;
    instrument(&client, "SPY").await?;
    insert(&client, "SPY", "true", "ts, seq").await?;
    seal_all(&client, "SPY").await?;
    let blocks = "SELECT trade_date, part, n, md5(payload) FROM market.trade_blocks ORDER BY 1, 2";
    let (answers, stored) = (bars(&client, "SPY").await?, rows(&client, blocks).await?);
    assert_eq!(seal_all(&client, "SPY").await?, 0);
    assert_eq!(rows(&client, blocks).await?, stored);
    assert_eq!(bars(&client, "SPY").await?, answers);
    Ok(())
}

#[tokio::test]
async fn late_trade_is_seen_at_once_and_a_bust_takes_it_back() -> Result<()> {
    let client = cluster::database("late").await?.client().await?;
    instrument(&client, "SPY").await?;
    insert(&client, "SPY", "true", "ts, seq").await?;
    seal_all(&client, "SPY").await?;
    let before = bars(&client, "SPY").await?;
    let late = "2025-11-25 15:00:00.5+00";
    client
        .batch_execute(&format!(
            "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '{late}', 77, 999, 10)"
        ))
        .await?;
    let with = bars(&client, "SPY").await?;
    let changed = |a: &[String], b: &[String]| b.iter().filter(|bar| !a.contains(bar)).count();
    // One bar of each width and selection holds the trade, and nothing else may move.
    ensure!((6..=8).contains(&changed(&before, &with)), "{} bars changed", changed(&before, &with));
    ensure!(with.iter().filter(|bar| bar.contains("|999|")).count() >= 6, "the late trade is the high of its bars");

    let bust = format!("SELECT market.bust_trade('SPY', '{late}', 77)");
    assert_eq!(one(&client, &bust).await?, "t");
    assert_eq!(bars(&client, "SPY").await?, before, "after the bust");
    seal_all(&client, "SPY").await?;
    assert_eq!(bars(&client, "SPY").await?, before, "after sealing the bust");
    Ok(())
}

#[tokio::test]
async fn old_snapshots_see_all_trades() -> Result<()> {
    let database = cluster::database("snapshot").await?;
    let (reader, writer) = (database.client().await?, database.client().await?);
    instrument(&writer, "SPY").await?;
    insert(&writer, "SPY", "true", "ts, seq").await?;
    let count = format!(
        "SELECT sum(trades) FROM market.session_ohlc('SPY', '1d', date '{FIRST}', date '{LAST}', segments => 'ALL')"
    );
    let expected = one(&writer, &count).await?;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!(one(&reader, &count).await?, expected);
    seal_all(&writer, "SPY").await?;
    assert_eq!(one(&reader, &count).await?, expected, "the snapshot before the sealing");
    reader.batch_execute("COMMIT").await?;
    assert_eq!(one(&reader, &count).await?, expected, "the snapshot after it");

    // READ COMMITTED after a write of one's own, the trap of pgrx's SPI: the snapshot must still be whole.
    insert(&writer, "SPY", "seq = 5", "ts").await?;
    reader.batch_execute("BEGIN; CREATE TEMP TABLE mine (n int); INSERT INTO mine VALUES (1)").await?;
    seal_all(&writer, "SPY").await?;
    assert_eq!(one(&reader, &count).await?, expected);
    reader.batch_execute("COMMIT").await?;
    Ok(())
}

#[tokio::test]
async fn sealing_needs_read_committed() -> Result<()> {
    let client = cluster::database("isolation").await?.client().await?;
    instrument(&client, "SPY").await?;
    insert(&client, "SPY", "seq < 100", "ts").await?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let error = client.batch_execute("SELECT market.seal('SPY', date '2025-11-24')").await.expect_err("refused");
    assert_eq!(error.code().map(|code| code.code()), Some("25001"), "{error}");
    Ok(())
}

#[tokio::test]
async fn verify_finds_every_planted_error() -> Result<()> {
    let client = cluster::database("verify").await?.client().await?;
    instrument(&client, "SPY").await?;
    insert(&client, "SPY", "true", "ts, seq").await?;
    seal_all(&client, "SPY").await?;
    let verify = format!("SELECT * FROM market.verify_bars('SPY', date '{FIRST}', date '{LAST}')");
    assert_eq!(rows(&client, &verify).await?, Vec::<String>::new());
    for damage in [
        "UPDATE market.session_bars SET close = close + 0.01 WHERE trade_date = '2025-11-25'",
        "UPDATE market.session_bars SET volume = volume + 1 WHERE trade_date = '2025-11-26'",
        "UPDATE market.session_bars SET digest = digest + 1 WHERE trade_date = '2025-11-24'",
        "DELETE FROM market.session_bars WHERE trade_date = '2025-11-28' AND segment = 'RTH'",
        "DELETE FROM market.bar_blocks WHERE trade_date = '2025-11-28'",
        "UPDATE market.bar_blocks SET payload = set_byte(payload, length(payload) / 2, 255 - get_byte(payload, length(payload) / 2))
         WHERE trade_date = '2025-11-24'",
        "UPDATE market.trade_blocks SET payload = set_byte(payload, length(payload) / 2, 255 - get_byte(payload, length(payload) / 2))
         WHERE trade_date = '2025-11-25'",
        "DELETE FROM market.trade_blocks WHERE trade_date = '2025-11-26'",
    ] {
        client.batch_execute("BEGIN").await?;
        client.batch_execute(damage).await.with_context(|| damage.to_string())?;
        match client.simple_query(&verify).await {
            Ok(found) => ensure!(
                found.iter().any(|message| matches!(message, SimpleQueryMessage::Row(_))),
                "not found: {damage}"
            ),
            Err(error) => assert_eq!(error.code().map(|code| code.code()), Some("XX001"), "{damage}: {error}"),
        }
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(())
}

fn load(database: &Database, file: &Path) -> Result<()> {
    let out = database.program("ingest", &["load"])?.arg("--calendar").arg("XNYS").arg(file).output()?;
    ensure!(out.status.success(), "ingest: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_loaded_twice_is_loaded_once_and_a_bust_survives_it() -> Result<()> {
    let database = cluster::database("twice").await?;
    let client = database.client().await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("spy.csv");
    let mut simulate = std::process::Command::new(tests::program("ingest")?);
    simulate.args(["simulate", "--symbol", "SPY", "--calendar", "XNYS", "--price", "600", "--trades-per-day", "3000"]);
    let out =
        simulate.args(["--from", FIRST, "--to", LAST, "--out"]).arg(&file).env_remove("BELLWETHER_DB").output()?;
    ensure!(out.status.success(), "ingest simulate: {}", String::from_utf8_lossy(&out.stderr));

    load(&database, &file)?;
    let before = bars(&client, "SPY").await?;
    load(&database, &file)?;
    assert_eq!(bars(&client, "SPY").await?, before, "loaded twice");

    let trade = one(
        &client,
        "SELECT ts, seq, price FROM market.trades_between('SPY', '2025-11-25 15:00+00', '2025-11-25 20:00+00')
         ORDER BY price DESC LIMIT 1",
    )
    .await?;
    let (ts, rest) = trade.split_once('|').context("no trade")?;
    let (seq, _) = rest.split_once('|').context("no seq")?;
    assert_eq!(one(&client, &format!("SELECT market.bust_trade('SPY', '{ts}', {seq})")).await?, "t");
    let busted = bars(&client, "SPY").await?;
    assert_ne!(busted, before);
    load(&database, &file)?;
    assert_eq!(bars(&client, "SPY").await?, busted, "the bust survives a reload");
    seal_all(&client, "SPY").await?;
    load(&database, &file)?;
    assert_eq!(bars(&client, "SPY").await?, busted, "and sealing and another reload");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_loads_of_one_file_at_once_are_one_load() -> Result<()> {
    let database = cluster::database("at_once").await?;
    let client = database.client().await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("spy.csv");
    let mut simulate = std::process::Command::new(tests::program("ingest")?);
    simulate.args(["simulate", "--symbol", "SPY", "--calendar", "XNYS", "--price", "600", "--trades-per-day", "3000"]);
    let out = simulate.args(["--from", FIRST, "--to", LAST, "--out"]).arg(&file).output()?;
    ensure!(out.status.success(), "ingest simulate: {}", String::from_utf8_lossy(&out.stderr));
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(database.program("ingest", &["load"])?.args(["--calendar", "XNYS"]).arg(&file).spawn()?);
    }
    for mut child in running {
        ensure!(child.wait()?.success(), "a load failed");
    }
    let lines = std::fs::read_to_string(&file)?.lines().count() - 1;
    let count = format!(
        "SELECT sum(trades) FROM market.session_ohlc('SPY', '1d', date '{FIRST}', date '{LAST}', segments => 'ALL')"
    );
    let stored = one(&client, "SELECT sum(n) FROM market.trade_blocks").await?;
    assert_eq!(stored, lines.to_string());
    ensure!(one(&client, &count).await?.parse::<usize>()? <= lines);
    Ok(())
}
