//! Dumps hold everything, and nothing is deleted silently.

use anyhow::{Result, ensure};
use std::process::{Command, Stdio};
use tests::cluster::{self, Database, cluster};
use tokio_postgres::Client;

const BARS: &str = "SELECT bar_at::text, open, high, low, close, volume::text, trades::int8, state
                    FROM market.session_ohlc('SPY', '30m', date '2025-11-24', date '2025-11-28', segments => 'ETH') ORDER BY 1";

/// Three sessions around Thanksgiving 2025, the first one sealed, and a busted trade; below the months so many parts by instrument.
async fn filled(name: &str, parts: u32) -> Result<(Database, Client)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    for relation in ["trades", "minute_bars"] {
        let sql = format!("SELECT market.set_policy('partitions', '{relation}', options => '{{\"hash\": {parts}}}')");
        client.batch_execute(&sql).await?;
    }
    client
        .batch_execute(
            "SELECT market.add_instrument('SPY', calendar => 'XNYS', tick_size => 0.01);
             INSERT INTO market.trades (symbol, ts, seq, price, size)
             SELECT 'SPY', timestamptz '2025-11-25 14:30+00' + d * interval '1 day' + n * interval '37 seconds',
                    d * 1000 + n, 670 + ((n * 7) % 13) / 4.0, 1 + n % 5
             FROM generate_series(0, 3) AS d, generate_series(0, 300) AS n;
             SELECT market.seal('SPY', date '2025-11-25');
             SELECT market.bust_trade('SPY', timestamptz '2025-11-25 14:30:37+00', 1)",
        )
        .await?;
    Ok((database, client))
}

async fn bars(client: &Client) -> Result<Vec<String>> {
    rows(client, BARS).await
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<String>> {
    Ok(client
        .simple_query(sql)
        .await?
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        })
        .collect())
}

/// Every digest, and which partitions there are with how many parts.
const STORED: &str = "SELECT concat_ws(' ', instrument_id, trade_date, segment, state, revision, digest) FROM market.session_bars
    UNION ALL SELECT concat_ws(' ', partition, from_date, till_date, hash_parts, state) FROM market.partition_status WHERE parent <> 'live_trades'
    UNION ALL SELECT concat_ws(' ', 'block', instrument_id, trade_date, part, n, md5(payload)) FROM market.trade_blocks ORDER BY 1";

#[tokio::test]
async fn a_restored_dump_answers_the_same() -> Result<()> {
    restored_dump(1).await
}

#[tokio::test]
async fn a_restored_dump_keeps_parts_by_instrument() -> Result<()> {
    restored_dump(3).await
}

async fn restored_dump(parts: u32) -> Result<()> {
    let (database, client) = filled("dumped", parts).await?;
    client.batch_execute("SELECT market.set_policy('retention', keep_sessions => 100000)").await?;
    client.batch_execute("CALL market.maintain()").await?;
    let before = bars(&client).await?;
    ensure!(before.len() > 20, "{before:?}");
    let stored = rows(&client, STORED).await?;
    ensure!(parts == 1 || stored.iter().any(|row| row.ends_with(&format!("{parts} in use"))), "{stored:?}");

    let restored = cluster::empty_database("restored").await?;
    let mut dump = Command::new(cluster()?.client_program("pg_dump")?);
    let mut dump = dump.args(["-Fc", "-d", &database.url]).stdout(Stdio::piped()).spawn()?;
    let archive = dump.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let out = Command::new(cluster()?.client_program("pg_restore")?)
        .args(["-1", "-e", "-d", &restored.url])
        .stdin(archive)
        .output()?;
    ensure!(dump.wait()?.success(), "pg_dump failed");
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    let client = restored.client().await?;
    assert_eq!(bars(&client).await?, before);
    assert_eq!(rows(&client, STORED).await?, stored);
    // and goes on where it was
    let jobs = "SELECT count(*), count(*) FILTER (WHERE last_outcome = 'done'), (SELECT count(*) FROM market.policies) FROM market.job_status";
    let row = client.query_one(jobs, &[]).await?;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (6, 6, 3));
    client.batch_execute("SELECT market.set_policy('verify')").await?;
    client.batch_execute("CALL market.maintain()").await?;
    assert_eq!(bars(&client).await?, before);
    let failed = client.query("SELECT last_error FROM market.job_status WHERE last_outcome <> 'done'", &[]).await?;
    assert_eq!(failed.len(), 0);
    let differences =
        client.query("SELECT what FROM market.verify_bars('SPY', date '2025-11-24', date '2025-11-28')", &[]).await?;
    assert_eq!(differences.len(), 0);
    Ok(())
}

#[tokio::test]
async fn dropping_the_extension_does_not_drop_sealed_trades_silently() -> Result<()> {
    let (_database, client) = filled("dropped", 1).await?;
    let error = client.batch_execute("DROP EXTENSION bellwether").await.expect_err("sealed trades are there");
    assert_eq!(error.code().map(|code| code.code()), Some("2BP01"), "{error}");
    client.batch_execute("DROP EXTENSION bellwether CASCADE").await?;
    // PostgreSQL itself keeps the schema that CREATE EXTENSION made, empty
    let left = "SELECT count(*) FROM (SELECT FROM pg_class WHERE relnamespace = 'market'::regnamespace
        UNION ALL SELECT FROM pg_proc WHERE pronamespace = 'market'::regnamespace
        UNION ALL SELECT FROM pg_type WHERE typnamespace = 'market'::regnamespace
        UNION ALL SELECT FROM pg_foreign_data_wrapper WHERE fdwname LIKE 'market%') AS left_behind";
    assert_eq!(rows(&client, left).await?, ["0"], "and then it leaves nothing");
    client.batch_execute("CREATE EXTENSION bellwether").await?;
    Ok(())
}

#[tokio::test]
async fn an_empty_extension_drops_without_a_trace() -> Result<()> {
    let client = cluster::database("vanishes").await?.client().await?;
    client.batch_execute("DROP EXTENSION bellwether; CREATE EXTENSION bellwether").await?;
    Ok(())
}
