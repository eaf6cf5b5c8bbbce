//! Partitions: months of blocks, with parts by instrument where a policy says so; a query opens only what it needs, and the
//! answers are the same with and without parts.

use anyhow::{Context, Result, ensure};
use market::Calendar;
use std::process::Command;
use tests::cluster;
use tests::store::{self, Chance, put, sessions, state, texts};
use tokio_postgres::Client;

const SYMBOLS: [&str; 6] = ["A", "B", "C", "D", "E", "F"];

/// Two months of six instruments, ten trades a session, in a database whose new months have so many parts.
async fn filled(name: &str, parts: u32) -> Result<Client> {
    let client = cluster::database(name).await?.client().await?;
    if parts > 0 {
        for relation in ["trades", "minute_bars"] {
            let sql =
                format!("SELECT market.set_policy('partitions', '{relation}', options => '{{\"hash\": {parts}}}')");
            client.batch_execute(&sql).await?;
        }
    }
    let calendar = Calendar::builtin("XNYS")?;
    let mut chance = Chance::new(81);
    for symbol in SYMBOLS {
        let id = store::instrument(&client, symbol, "XNYS").await?;
        for day in sessions(&calendar, "2025-10-20", "2025-11-14")? {
            put(&client, id, &store::session_trades(&mut chance, &day, 10, true)).await?;
        }
    }
    Ok(client)
}

async fn everything(client: &Client) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for sql in [
        "SELECT * FROM market.session_ohlc(ARRAY['A', 'B', 'C', 'D', 'E', 'F'], '5m', date '2025-10-01', date '2025-11-30', segments => 'ALL') ORDER BY 1, 3",
        "SELECT * FROM market.trades ORDER BY symbol, ts, ns, seq, sub",
        "SELECT instrument_id, trade_date, segment, digest, state FROM market.session_bars ORDER BY 1, 2, 3",
    ] {
        all.extend(texts(client, sql).await?);
    }
    Ok(all)
}

/// The blocks' leaves that the plan of a query names.
async fn planned(client: &Client, sql: &str) -> Result<Vec<String>> {
    let plan = texts(client, &format!("EXPLAIN (COSTS OFF) {sql}")).await?;
    let mut leaves: Vec<String> = plan
        .iter()
        .filter(|line| line.contains("Scan"))
        .filter_map(|line| line.split(" on ").nth(1)?.split_whitespace().next().map(str::to_owned))
        .collect();
    leaves.sort();
    Ok(leaves)
}

/// The blocks' leaves that a query holds locks on: those it opened.
async fn opened(client: &Client, sql: &str) -> Result<Vec<String>> {
    client.batch_execute("BEGIN").await?;
    ensure!(!texts(client, sql).await?.is_empty(), "no rows: {sql}");
    let locked = "SELECT c.relname FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
        WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname ~ '^(trade|bar)_blocks_' ORDER BY 1";
    let found = texts(client, locked).await?;
    client.batch_execute("COMMIT").await?;
    Ok(found)
}

#[tokio::test]
async fn parts_by_instrument_change_no_answer() -> Result<()> {
    let (plain, parted) = (filled("plain", 0).await?, filled("parted", 4).await?);
    assert_eq!(everything(&parted).await?, everything(&plain).await?);
    let layout = "SELECT parent, partition, from_date, till_date, hash_parts, state FROM market.partition_status WHERE parent <> 'live_trades' ORDER BY 1, 2";
    let rows = |parts: &str| {
        [
            format!("bar_blocks|bar_blocks_2025|2025-01-01|2026-01-01|{parts}|in use"),
            format!("trade_blocks|trade_blocks_202510|2025-10-01|2025-11-01|{parts}|in use"),
            format!("trade_blocks|trade_blocks_202511|2025-11-01|2025-12-01|{parts}|in use"),
        ]
    };
    assert_eq!(texts(&plain, layout).await?, rows("-"));
    assert_eq!(texts(&parted, layout).await?, rows("4"));
    // a policy is for new months
    parted.batch_execute("SELECT market.set_policy('partitions', options => '{\"hash\": 2}'), market.ensure_partitions('2026-02-02')").await?;
    let all = "SELECT string_agg(hash_parts::text, ',' ORDER BY from_date) FROM market.partition_status WHERE parent = 'trade_blocks'";
    assert_eq!(texts(&parted, all).await?, ["4,4,2"]);
    for client in [&plain, &parted] {
        assert_eq!(store::verify(client, "C").await?, Vec::<String>::new());
    }
    for wrong in [
        "options => '{\"hash\": 0}'",
        "options => '{\"hash\": 65}'",
        "options => '{}'",
        "symbol => 'A', options => '{\"hash\": 4}'",
    ] {
        let sql = format!("SELECT market.set_policy('partitions', {wrong})");
        assert_eq!(state(plain.simple_query(&sql).await)?, "22023", "{wrong}");
    }
    Ok(())
}

#[tokio::test]
async fn a_query_opens_only_the_partitions_it_needs() -> Result<()> {
    for parts in [0, 4] {
        let client = filled("pruned", parts).await?;
        // enough months that a plan for all of them would show
        for month in 1..=9 {
            client.batch_execute(&format!("SELECT market.ensure_partitions('2025-0{month}-01')")).await?;
        }
        let leaf = |of: &str, all: &[String]| -> Result<()> {
            ensure!(all.len() == 1 && all[0].starts_with(of), "with {parts} parts: {all:?}, not one of {of}");
            Ok(())
        };
        let one = "instrument_id = 2 AND trade_date = '2025-11-05'";
        leaf(
            "trade_blocks_202511",
            &planned(&client, &format!("SELECT n FROM market.trade_blocks WHERE {one}")).await?,
        )?;
        leaf("bar_blocks_2025", &planned(&client, &format!("SELECT n FROM market.bar_blocks WHERE {one}")).await?)?;
        let ohlc = |timeframe: &str| {
            format!(
                "SELECT * FROM market.session_ohlc('B', '{timeframe}', date '2025-11-05', date '2025-11-06', segments => 'ALL')"
            )
        };
        leaf("bar_blocks_2025", &opened(&client, &ohlc("5m")).await?)?;
        leaf("trade_blocks_202511", &opened(&client, &ohlc("30s")).await?)?;
        assert_eq!(
            opened(&client, &ohlc("1d").replace("'ALL'", "'RTH'")).await?,
            Vec::<String>::new(),
            "session bars have no partitions"
        );
        let trades = "SELECT * FROM market.trades WHERE symbol = 'B' AND trade_date = '2025-11-05'";
        leaf("trade_blocks_202511", &opened(&client, trades).await?)?;
        let between = "SELECT * FROM market.trades_between('B', '2025-11-05 06:00+00', '2025-11-06 01:00+00')";
        leaf("trade_blocks_202511", &opened(&client, between).await?)?;
        let plan = texts(&client, &format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {trades}")).await?;
        ensure!(plan.iter().any(|line| line.trim() == "Blocks Read: 1"), "{plan:#?}");
        ensure!(plan.iter().any(|line| line.contains("Narrowed by: symbol =, trade_date =")), "{plan:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_month_of_many_parts_goes_when_all_of_it_is_empty() -> Result<()> {
    let client = filled("goes", 3).await?;
    client
        .batch_execute("DELETE FROM market.trade_blocks WHERE trade_date < '2025-11-01' AND instrument_id <> 1")
        .await?;
    let month =
        "SELECT count(*) FROM market.partition_plan() WHERE partition = 'trade_blocks_202510' AND action = 'drop'";
    assert_eq!(texts(&client, month).await?, ["0"], "one part has rows");
    client.batch_execute("DELETE FROM market.trade_blocks WHERE trade_date < '2025-11-01'").await?;
    // transactions of other tests hold a horizon back: asked until they are over
    for _ in 0..600 {
        if texts(&client, month).await? == ["1"]
            && texts(&client, "SELECT market.drop_partition('trade_blocks_202510')").await? == ["t"]
        {
            let left = "SELECT count(*) FROM pg_class WHERE relname ~ '^trade_blocks_202510'";
            assert_eq!(texts(&client, left).await?, ["0"]);
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("the month never went")
}

/// The benchmark of scale, small: it runs, its copies verify, and each query opens one partition whatever the others have.
#[tokio::test]
async fn many_instruments_and_years_open_one_partition_a_query() -> Result<()> {
    let database = cluster::database("scale").await?;
    let mut psql = Command::new(cluster::cluster()?.client_program("psql")?);
    for set in ["instruments=40", "sessions=30", "years=1", "parts=4", "rounds=1"] {
        psql.args(["-v", set]);
    }
    let out = psql.args(["-Xd", &database.url, "-f"]).arg(tests::root().join("bench/scale.sql")).output()?;
    let said = String::from_utf8(out.stdout)?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split('|').collect()).collect();
    ensure!(lines.iter().any(|line| line[0] == "stored" && line[1] == "41 instruments"), "{said}");
    let verified: Vec<&Vec<&str>> = lines.iter().filter(|line| line[0] == "verified").collect();
    ensure!(verified.len() == 3 && verified.iter().all(|line| line[2] == "0 differences"), "{said}");
    let queries: Vec<&Vec<&str>> = lines.iter().filter(|line| line[0] == "query").collect();
    ensure!(queries.len() == 8, "{said}");
    for query in queries {
        let (bars, partitions): (u32, u32) = (query[2].parse()?, query[6].parse().context("partitions")?);
        ensure!(bars > 0 && partitions <= 1, "{query:?}");
    }
    Ok(())
}
