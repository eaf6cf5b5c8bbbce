//! `session_ohlc` planned as a scan, alone or shared by parallel workers, gives what the function scan gives, in its order.

use anyhow::Result;
use market::Calendar;
use tests::cluster::Database;
use tests::store::{Chance, flat, fresh, generate, insert, instrument, same, seal, sessions, state, texts};
use tokio_postgres::Client;

const NODE: &str = "Custom Scan (Bellwether Bars)";

/// Two instruments over twelve sessions with a holiday and an early close: sealed, late, busted, and one session running.
async fn loaded(name: &str) -> Result<(Database, Client)> {
    let (database, client, id) = fresh(name, "XNYS").await?;
    let other = instrument(&client, "Y", "CME_EQUITY").await?;
    for (seed, id, symbol, calendar) in [(71, id, "X", "XNYS"), (72, other, "Y", "CME_EQUITY")] {
        let calendar = Calendar::builtin(calendar)?;
        let days = sessions(&calendar, "2025-11-17", "2025-12-02")?;
        let mut chance = Chance::new(seed);
        let mut trades = flat(&generate(&mut chance, &days, 120));
        let busted = trades[trades.len() / 3];
        let running = days[days.len() - 1];
        let late = trades.len() / 20;
        chance.shuffle(&mut trades);
        insert(&client, id, &trades[late..]).await?;
        for day in days.iter().filter(|day| day.trade_date != running.trade_date) {
            seal(&client, symbol, day).await?;
        }
        insert(&client, id, &trades[..late]).await?;
        client
            .batch_execute(&format!(
                "SELECT market.bust_trade('{symbol}', timestamptz 'epoch' + {} * interval '1 microsecond', {}, ns => {}::int2, sub => {}::int2)",
                busted.ts.div_euclid(1000),
                busted.seq,
                busted.ts.rem_euclid(1000),
                busted.sub
            ))
            .await?;
    }
    Ok((database, client))
}

/// Asks with and without the scan; `scanned` says whether the plan is to have it.
async fn check(client: &Client, sql: &str, scanned: bool) -> Result<()> {
    let plan = texts(client, &format!("EXPLAIN {sql}")).await?.join("\n");
    assert_eq!(plan.contains(NODE), scanned, "{sql}\n{plan}");
    let found = texts(client, sql).await?;
    client.batch_execute("SET bellwether.bars_scan = off").await?;
    let plan = texts(client, &format!("EXPLAIN {sql}")).await?.join("\n");
    assert!(!plan.contains(NODE), "{plan}");
    let wanted = texts(client, sql).await?;
    client.batch_execute("RESET bellwether.bars_scan").await?;
    // no month opens between the instants
    assert!(!wanted.is_empty() || sql.contains("'1mo', timestamptz"), "{sql}");
    same(sql, &found, &wanted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_changes_no_bar() -> Result<()> {
    let (_db, client) = loaded("bars_scan").await?;
    client.batch_execute("SET max_parallel_workers_per_gather = 0; SET timezone = 'UTC'").await?;
    let ranges = [
        "'2025-11-17', '2025-12-02'",
        "date '2025-11-26', date '2025-12-01'",
        "timestamptz '2025-11-20 15:00+00', timestamptz '2025-11-28 16:30+00'",
    ];
    for range in ranges {
        for timeframe in ["1s", "30s", "1m", "5m", "7m", "4h", "1d", "3d", "1w", "1mo"] {
            for rest in ["", ", segments => 'ALL'", ", segments => 'RTH', day => 'clearing'"] {
                check(&client, &format!("SELECT * FROM market.session_ohlc('X', '{timeframe}', {range}{rest})"), true)
                    .await?;
                let many =
                    format!("SELECT * FROM market.session_ohlc('{{Y,X,Y}}'::text[], '{timeframe}', {range}{rest})");
                check(&client, &many, true).await?;
                let mut each = Vec::new();
                for symbol in ["Y", "X", "Y"] {
                    each.extend(
                        texts(
                            &client,
                            &format!(
                                "SELECT '{symbol}', * FROM market.session_ohlc('{symbol}', '{timeframe}', {range}{rest})"
                            ),
                        )
                        .await?,
                    );
                }
                same(&many, &texts(&client, &many).await?, &each);
            }
        }
    }
    for sql in [
        "SELECT vwap, state FROM market.session_ohlc('X', '5m', '2025-11-17', '2025-12-02') WHERE trades > 1 AND vwap > open",
        "SELECT count(*), sum(volume) FROM market.session_ohlc('{X,Y}'::text[], '1m', '2025-11-17', '2025-12-02')",
        "SELECT bar_at FROM market.session_ohlc('X', '5m', '2025-11-17', '2025-12-02') LIMIT 3 OFFSET 2",
        "SELECT i.symbol, b.bar_at, b.close FROM market.instruments i, market.session_ohlc(i.symbol, '1h', '2025-11-17', '2025-12-02') b ORDER BY 1, 2",
        "SELECT i.symbol, (SELECT max(high) FROM market.session_ohlc(i.symbol, '1d', '2025-11-17', '2025-12-02')) FROM market.instruments i ORDER BY 1",
        "SELECT a.bar_at, b.close FROM market.session_ohlc('X', '1h', '2025-11-17', '2025-12-02') a LEFT JOIN market.session_ohlc('Y', '1h', '2025-11-17', '2025-12-02') b USING (bar_at) ORDER BY 1, 2",
        "SELECT n, b.trade_date, b.close FROM generate_series(1, 3) n, market.session_ohlc('X', '1d', '2025-11-17', '2025-12-02') b ORDER BY 1, 2",
        "SELECT close FROM market.session_ohlc((SELECT min(symbol) FROM market.instruments), '1d', '2025-11-17', '2025-12-02')",
    ] {
        check(&client, sql, true).await?;
    }
    // what the scan does not do is left to the function scan
    for sql in [
        "SELECT b FROM market.session_ohlc('X', '1d', '2025-11-17', '2025-12-02') b",
        "SELECT open FROM market.session_ohlc('X', '1d', '2025-11-17', '2025-12-02') b WHERE b IS NOT NULL",
        "SELECT * FROM market.session_ohlc('X', '1d', '2025-11-17', '2025-12-02') WITH ORDINALITY",
        "SELECT * FROM market.session_ohlc('X', '5m', '2025-11-17', '2025-12-02', fill => 'previous')",
        "SELECT * FROM market.session_ohlc('X', '5m', '2025-11-17', '2025-12-02', known_at => '2025-12-01 00:00+00')",
        "SELECT * FROM market.session_ohlc('X', '5m', '2025-11-17', '2025-12-02', clock => 'recv')",
        "SELECT * FROM ROWS FROM (market.session_ohlc('X', '1d', '2025-11-17', '2025-12-02'), generate_series(1, 2))",
    ] {
        check(&client, sql, false).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_the_sessions() -> Result<()> {
    let (_db, client) = loaded("bars_scan_parallel").await?;
    client
        .batch_execute(
            "SET timezone = 'UTC'; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET max_parallel_workers_per_gather = 2",
        )
        .await?;
    for (symbols, timeframe) in [("'{X,Y}'::text[]", "1m"), ("'X'", "1s"), ("'{Y,X}'::text[]", "30s")] {
        for leader in ["on", "off"] {
            client.batch_execute(&format!("SET parallel_leader_participation = {leader}")).await?;
            let asked =
                format!("market.session_ohlc({symbols}, '{timeframe}', '2025-11-17', '2025-12-02', segments => 'ALL')");
            let sums = format!(
                "SELECT count(*), sum(open), sum(high), sum(low), sum(close), sum(volume), sum(trades) FROM {asked}"
            );
            let plan = texts(&client, &format!("EXPLAIN {sums}")).await?.join("\n");
            assert!(plan.contains(&format!("Parallel {NODE}")), "{plan}");
            check(
                &client,
                &format!("SELECT * FROM {asked} ORDER BY bar_at, bar_end, open, close, volume, trades"),
                true,
            )
            .await?;
            // a worker that is started again takes the sessions from the start
            let twice = format!("SELECT n, (SELECT count(*) + n FROM {asked}) FROM generate_series(1, 2) n ORDER BY n");
            check(&client, &twice, true).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_is_asked_in_many_ways() -> Result<()> {
    let (db, client) = loaded("bars_scan_ways").await?;
    let all = texts(&client, "SELECT * FROM market.session_ohlc('X', '5m', '2025-11-17', '2025-12-02')").await?;
    // a cursor goes on under its own snapshot, whatever is sealed or comes in between
    client
        .batch_execute(
            "BEGIN; DECLARE c CURSOR FOR SELECT * FROM market.session_ohlc('X', '5m', '2025-11-17', '2025-12-02')",
        )
        .await?;
    let mut fetched = texts(&client, "FETCH 7 FROM c").await?;
    let writer = db.client().await?;
    writer
        .batch_execute(
            "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('X', '2025-12-01 15:00+00', 777777, 1, 1);
             SELECT market.seal('X', '2025-12-01')",
        )
        .await?;
    fetched.extend(texts(&client, "FETCH ALL FROM c").await?);
    client.batch_execute("COMMIT").await?;
    same("a cursor", &fetched, &all);
    // parameters, with a plan of their own and with one for all
    client
        .batch_execute("PREPARE p(text, text, date, date) AS SELECT count(*), sum(volume) FROM market.session_ohlc($1, $2, $3, $4)")
        .await?;
    let mut answers = Vec::new();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        client.batch_execute(&format!("SET plan_cache_mode = {mode}")).await?;
        let call = "EXECUTE p('X', '5m', '2025-11-17', '2025-12-02')";
        assert!(texts(&client, &format!("EXPLAIN {call}")).await?.join("\n").contains(NODE));
        answers.push(texts(&client, call).await?);
    }
    assert_eq!(answers[0], answers[1]);
    // errors are the function's own
    for (sql, code) in [
        ("SELECT * FROM market.session_ohlc('nobody', '5m', '2025-11-17', '2025-12-02')", "42704"),
        ("SELECT * FROM market.session_ohlc('X', 'often', '2025-11-17', '2025-12-02')", "22023"),
        ("SELECT * FROM market.session_ohlc(NULL::text, '5m', '2025-11-17', '2025-12-02')", "22023"),
        ("SELECT * FROM market.session_ohlc('{X,NULL}'::text[], '5m', '2025-11-17', '2025-12-02')", "22023"),
        ("SELECT 1 / (trades - trades) FROM market.session_ohlc('X', '5m', '2025-11-17', '2025-12-02')", "22012"),
    ] {
        assert_eq!(state(client.simple_query(sql).await)?, code, "{sql}");
    }
    // who may not call the function may not scan it
    client
        .batch_execute(
            "CREATE ROLE bars_scan_nobody IN ROLE market_reader;
             REVOKE EXECUTE ON FUNCTION market.session_ohlc(text, text, text, text, text, text, timestamptz, text, text) FROM PUBLIC, market_reader;
             SET ROLE bars_scan_nobody",
        )
        .await?;
    let refused =
        client.simple_query("SELECT close FROM market.session_ohlc('X', '1d', '2025-11-17', '2025-12-02')").await;
    assert_eq!(state(refused)?, "42501");
    texts(&client, "SELECT close FROM market.session_ohlc('X', '1d', date '2025-11-17', date '2025-12-02')").await?;
    client.batch_execute("RESET ROLE; DROP ROLE bars_scan_nobody").await?;
    Ok(())
}
