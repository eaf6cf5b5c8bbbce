//! `GROUP BY` over `market.trades` that is folded below the executor gives what PostgreSQL's own grouping gives.

use anyhow::Result;
use market::Calendar;
use tests::store::{Chance, flat, fresh, generate, insert, same, seal, sessions, texts};
use tokio_postgres::Client;

/// The same question twice: once so that the scan can do the grouping, once with a fence before it.
async fn check(client: &Client, keys: &str, condition: &str, folded: bool) -> Result<()> {
    let ask = |from: &str| {
        format!(
            "SELECT {keys}, (market.ohlc(price, size, ts, seq)).*, market.vwap(price, size), count(*) FROM {from} GROUP BY {keys}"
        )
    };
    let direct = ask(&format!("market.trades WHERE {condition}"));
    let fenced = ask(&format!("(SELECT * FROM market.trades WHERE {condition} OFFSET 0) t"));
    for (sql, expected) in [(&direct, folded), (&fenced, false)] {
        let plan = texts(client, &format!("EXPLAIN {sql}")).await?.join("\n");
        assert_eq!(plan.contains("folded where trades are decoded"), expected, "{sql}\n{plan}");
    }
    let (mut found, mut wanted) = (texts(client, &direct).await?, texts(client, &fenced).await?);
    found.sort();
    wanted.sort();
    assert!(folded || !wanted.is_empty(), "{direct}");
    same(&direct, &found, &wanted);
    Ok(())
}

const BUCKET: &str = "market.session_bucket('5m', ts, 'XNYS', 'ETH')";

#[tokio::test(flavor = "multi_thread")]
async fn folding_changes_no_group() -> Result<()> {
    let (_db, client, id) = fresh("grouped", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-12-01")?;
    let mut chance = Chance::new(29);
    let mut trades = flat(&generate(&mut chance, &days, 900));
    chance.shuffle(&mut trades);
    let other: i32 = client.query_one("SELECT market.add_instrument('ESZ25')", &[]).await?.get(0);
    insert(&client, other, &trades[..trades.len() / 2]).await?;
    insert(&client, id, &trades[..trades.len() * 3 / 4]).await?;
    for day in &days {
        seal(&client, "X", day).await?;
    }
    // late rows over the blocks, one trade taken back, and sums that no 64 bits hold
    insert(&client, id, &trades[trades.len() * 3 / 4..]).await?;
    let t = &trades[5];
    client
        .batch_execute(&format!(
            "SELECT market.bust_trade('X', timestamptz 'epoch' + {} * interval '1 microsecond', {}, ns => {}::int2, sub => {}::int2);
             INSERT INTO market.trades (symbol, ts, seq, price, size)
             SELECT 'X', '2025-11-26 15:00:00+00', 900000000 + i, 9.1e9, 9.1e9 FROM generate_series(1, 9) AS i",
            t.ts.div_euclid(1000),
            t.seq,
            t.ts.rem_euclid(1000),
            t.sub
        ))
        .await?;
    for sealed in [false, true] {
        if sealed {
            for day in &days {
                seal(&client, "X", day).await?;
            }
        }
        for keys in [
            "symbol",
            "instrument_id",
            "trade_date",
            "calendar",
            "symbol, trade_date",
            BUCKET,
            &format!("symbol, {BUCKET}"),
            &format!("symbol, calendar, trade_date, {BUCKET}"),
            "symbol, market.session_bucket('1m', ts, calendar, 'ALL')",
            "symbol, market.session_bucket('30s', ts, calendar)",
            "symbol, market.session_bucket('1d', ts, calendar, 'PRE+POST')",
            "market.session_bucket('1w', ts, calendar, 'RTH')",
            "market.session_bucket('5m', ts, calendar, NULL)",
            "market.session_bucket(NULL, ts, calendar, 'RTH')",
        ] {
            for condition in [
                "true",
                "symbol = 'X'",
                "symbol IN ('X', 'ESZ25') AND trade_date >= '2025-11-28'",
                "instrument_id = 1 AND ts >= '2025-11-26 15:00:00.000001+00' AND ts < '2025-11-26 20:59:59+00'",
                "trade_date = '2025-11-28' AND ts <= '2025-11-28 18:00:00+00'",
                "symbol = 'nobody'",
                // the scan leaves out what is outside the bucket that is grouped by, and no other
                "market.session_bucket('5m', ts, 'XNYS', 'ETH') IS NOT NULL",
            ] {
                let folded = !condition.ends_with("IS NOT NULL") || keys.contains(BUCKET);
                check(&client, keys, condition, folded).await?;
            }
        }
        // what the scan cannot answer exactly is left to PostgreSQL
        for (keys, condition) in [
            ("symbol", "price > 0"),
            ("symbol", "trade_date IN ('2025-11-26', '2025-12-01')"),
            ("symbol, flags", "symbol = 'X'"),
            ("market.session_bucket('5m', ts + interval '1 minute', calendar)", "symbol = 'X'"),
        ] {
            check(&client, keys, condition, false).await?;
        }
    }
    Ok(())
}

/// Parameters, joins around it, no keys, HAVING, and instants beyond the calendar.
#[tokio::test]
async fn a_grouping_is_asked_in_many_ways() -> Result<()> {
    let (_db, client, _id) = fresh("grouped_ways", "XNYS").await?;
    client
        .batch_execute(
            "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES
               ('X', '2025-11-26 15:00+00', 1, 10, 1), ('X', '2025-11-26 15:00+00', 2, 11, 2), ('X', '2025-11-26 15:07+00', 3, 12, 3);
             SET timezone = 'UTC';
             PREPARE p (text, date, text) AS SELECT market.session_bucket($3, ts, calendar), (market.ohlc(price, size, ts, seq)).close
               FROM market.trades WHERE symbol = $1 AND trade_date = $2 GROUP BY 1 ORDER BY 1;
             SET plan_cache_mode = force_generic_plan",
        )
        .await?;
    let five = ["2025-11-26 15:00:00+00|11", "2025-11-26 15:05:00+00|12"];
    for _ in 0..2 {
        assert_eq!(texts(&client, "EXECUTE p ('X', '2025-11-26', '5m')").await?, five);
        assert_eq!(texts(&client, "EXECUTE p ('X', '2025-11-26', '30m')").await?, ["2025-11-26 15:00:00+00|12"]);
        assert!(texts(&client, "EXECUTE p (NULL, '2025-11-26', '30m')").await?.is_empty());
    }
    let bar = "(market.ohlc(price, size, ts, seq)).close";
    let bucket = "market.session_bucket('5m', ts, calendar)";
    for (sql, expected) in [
        (format!("SELECT {bar} FROM market.trades"), vec!["12"]),
        (format!("SELECT {bar} FROM market.trades GROUP BY {bucket} HAVING count(*) > 1"), vec!["11"]),
        (
            format!(
                "SELECT i.symbol, b.c FROM market.instruments i JOIN LATERAL (SELECT {bar} AS c FROM market.trades t WHERE t.symbol = i.symbol GROUP BY t.symbol) b ON true"
            ),
            vec!["X|12"],
        ),
        (format!("SELECT symbol || '!', {bar} + 1 FROM market.trades GROUP BY symbol"), vec!["X!|13"]),
        (format!("SELECT sum(c) FROM (SELECT {bar} AS c FROM market.trades GROUP BY {bucket}) b"), vec!["23"]),
    ] {
        assert_eq!(texts(&client, &sql).await?, expected, "{sql}");
    }
    Ok(())
}
