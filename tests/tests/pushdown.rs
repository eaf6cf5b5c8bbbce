//! What querycli leaves to PostgreSQL, and that the answers are the same: EXPLAIN says which SQL was sent.

use anyhow::{Context, Result, ensure};
use market::Calendar;
use tests::cluster::Database;
use tests::store::{self, Chance, generate, insert, put, same};
use tokio_postgres::SimpleQueryMessage;

fn querycli(database: &Database, sql: &str) -> Result<String> {
    let out = database.program("querycli", &["--format", "csv", "-c", sql])?.output()?;
    ensure!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?)
}

/// A table with what two engines could see differently, beside real ones.
const ODD: &str = "
    CREATE TABLE market.odd (i2 int2, i4 int4, i8 int8, f float8, t text, d date, ts timestamptz, n numeric, b boolean);
    INSERT INTO market.odd VALUES
      (1, 2147483647, 9223372036854775807, 'NaN', 'a', '2025-11-28', '2025-11-28 14:30:00.000001+00', 1.5, true),
      (-1, 2147483647, -9223372036854775808, 1.5, 'B', '1600-01-01', '2025-11-28 14:30:00+00', 'NaN', false),
      (NULL, NULL, 5, '-Infinity', NULL, NULL, NULL, NULL, NULL),
      (3, -7, 5, -0.0, 'ä', '2025-11-28', '1999-12-31 23:59:59.999999+00', 2.25, true),
      (3, -7, NULL, 0.0, '', '2026-01-01', '2025-11-28 14:30:00+00', 0, NULL)";

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_run_where_their_answer_is_the_same() -> Result<()> {
    let (database, client, id) = store::fresh("pushdown", "XNYS").await?;
    client.batch_execute("SET timezone = 'UTC'; SET extra_float_digits = 1").await?;
    client.batch_execute(ODD).await?;
    let known = Calendar::builtin("XNYS")?;
    let days = store::sessions(&known, "2025-11-24", "2025-11-28")?;
    let mut chance = Chance::new(95);
    let stored = generate(&mut chance, &days, 50);
    for day in &stored[..3] {
        put(&client, id, day).await?;
    }
    insert(&client, id, &stored[3].iter().collect::<Vec<_>>()).await?;
    // the statement, and whether PostgreSQL computes it
    let statements = [
        ("SELECT count(*) AS n FROM market.odd", true),
        ("SELECT count(*) AS n FROM market.odd WHERE d = '2025-11-28'", true),
        ("SELECT count(*) AS n, min(i2), max(i4), min(d), max(ts) FROM market.odd", true),
        ("SELECT d, count(i8) AS n, sum(i4), sum(i2) FROM market.odd GROUP BY d ORDER BY d", true),
        ("SELECT t, count(*) AS n FROM market.odd GROUP BY t ORDER BY n, max(i4), min(d)", true),
        ("SELECT b, max(ts) FROM market.odd WHERE ts >= '2025-11-28 14:30:00Z' AND i4 > 0 GROUP BY b ORDER BY b", true),
        ("SELECT count(*) AS n FROM market.odd WHERE t IN ('a', 'ä')", true),
        (
            "SELECT segment, count(*) AS n, max(trades) FROM market.session_bars WHERE trade_date > '2025-11-24' GROUP BY segment ORDER BY segment",
            true,
        ),
        ("SELECT instrument_id, sum(n), count(*) AS parts FROM market.trade_blocks GROUP BY instrument_id", true),
        // a condition that PostgreSQL may see differently is checked here
        ("SELECT count(*) AS n FROM market.odd WHERE f > 1", false),
        ("SELECT count(*) AS n FROM market.odd WHERE t > 'A'", false),
        ("SELECT count(*) AS n FROM market.odd WHERE i2 + 1 > 0", false),
        // NaN, collations, wide sums, what is inside an aggregate
        ("SELECT max(i8), min(f) FROM market.odd WHERE f = 1.5", false),
        ("SELECT count(DISTINCT d) AS n FROM market.odd", false),
        ("SELECT count(*) FILTER (WHERE i2 > 0) AS n FROM market.odd", false),
        ("SELECT max(t) FROM market.odd WHERE t = 'a'", false),
        ("SELECT avg(i2)::int8 AS mean FROM market.odd WHERE i2 = 3 AND i4 < 0", false),
        ("SELECT i2 + 1 AS k, count(*) AS n FROM market.odd GROUP BY 1 ORDER BY 1", false),
        ("SELECT first_value(i2 ORDER BY i8) AS x FROM market.odd WHERE i8 = 5 AND i2 = 3", false),
    ];
    for (sql, pushed) in statements {
        let plan = querycli(&database, &format!("EXPLAIN {sql}"))?;
        let sent = plan.lines().filter(|line| line.contains("BellwetherScan: PostgreSQL: SELECT")).collect::<Vec<_>>();
        assert_eq!(sent.len(), 1, "{plan}");
        assert_eq!(!plan.contains("AggregateExec"), pushed, "{sql}\n{plan}");
        if sql.contains("first_value") {
            continue; // PostgreSQL has no such aggregate
        }
        let mut expected = Vec::new();
        for message in client.simple_query(sql).await.with_context(|| sql.to_owned())? {
            if let SimpleQueryMessage::Row(row) = message {
                let cells: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or_default()).collect();
                expected.push(cells.join(","));
            }
        }
        let found = querycli(&database, sql)?;
        let found: Vec<String> = found.lines().skip(1).map(|line| line.replace("\"\"", "")).collect();
        same(sql, &found, &expected);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_the_sql_that_is_sent_and_the_blocks_that_are_not_read() -> Result<()> {
    let (database, client, id) = store::fresh("explain", "XNYS").await?;
    let known = Calendar::builtin("XNYS")?;
    let days = store::sessions(&known, "2025-11-24", "2025-11-28")?;
    let mut chance = Chance::new(96);
    for day in generate(&mut chance, &days, 300) {
        put(&client, id, &day).await?;
    }
    let plan =
        querycli(&database, "EXPLAIN SELECT segment, close FROM session_bars WHERE trade_date = '2025-11-28' LIMIT 2")?;
    let sent = r#"PostgreSQL: SELECT ""segment"", ""close"" FROM market.""session_bars"" WHERE ""trade_date"" = date '2025-11-28' LIMIT 2"#;
    assert!(plan.contains(sent), "{plan}");
    let sql = "EXPLAIN ANALYZE SELECT max(price) FROM trades WHERE symbol = 'X' AND trade_date = '2025-11-25'";
    let plan = querycli(&database, sql)?;
    assert!(
        plan.contains(r#"blocks with ""symbol"" = 'X', trade_date from 2025-11-25, trade_date to 2025-11-25"#),
        "{plan}"
    );
    assert!(plan.contains("blocks=1, pages_decoded=1, pages_skipped=0"), "{plan}");
    let plan = querycli(&database, "EXPLAIN ANALYZE SELECT max(price) FROM trades")?;
    let read: usize = plan
        .match_indices("blocks=")
        .map(|(at, _)| {
            plan[at + 7..].chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().unwrap_or(0)
        })
        .sum();
    assert_eq!(read, days.len(), "{plan}");
    Ok(())
}
