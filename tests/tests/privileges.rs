//! Who may do what: readers read everything by its doors, writers write trades without being superuser, and a hidden
//! instrument is hidden everywhere.

use anyhow::{Context, Result};
use market::{Calendar, Trades};
use tests::cluster::{self, Database};
use tests::store::{self, Chance, insert, put, seal, sessions, state, texts};
use tokio_postgres::Client;

const BARS: &str = "SELECT * FROM market.session_ohlc('SPY', '5m', '2025-11-26', '2025-11-26', segments => 'ETH')";

/// A database with a sealed session and live rows of SPY, and a connection as a member of a role.
async fn filled(name: &str, role: &str) -> Result<(Database, Client, Client)> {
    let database = cluster::database(name).await?;
    let owner = database.client().await?;
    let id = store::instrument(&owner, "SPY", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-28")?;
    let mut chance = Chance::new(51);
    put(&owner, id, &store::session_trades(&mut chance, &days[0], 300, false)).await?;
    insert(&owner, id, &store::session_trades(&mut chance, &days[1], 50, false).iter().collect::<Vec<_>>()).await?;
    owner.batch_execute("SELECT market.bust_trade('SPY', '2025-11-26 15:00+00', 1)").await?;
    let user = format!("{}_{role}", database.name);
    owner.batch_execute(&format!("CREATE ROLE \"{user}\" LOGIN NOSUPERUSER IN ROLE {role}")).await?;
    let url = database.url.replace("postgres@", &format!("{user}@"));
    let client = cluster::connect(&url).await.context("as the role")?;
    assert_eq!(texts(&client, "SELECT current_user, current_setting('is_superuser')").await?, [format!("{user}|off")]);
    Ok((database, owner, client))
}

#[tokio::test]
async fn readers_read_everything_and_write_nothing() -> Result<()> {
    let (_db, owner, reader) = filled("reader", "market_reader").await?;
    for sql in [
        BARS,
        "SELECT * FROM market.session_ohlc('SPY', '1d', '2025-11-26', '2025-11-28', fill => 'previous')",
        "SELECT * FROM market.trades WHERE symbol = 'SPY' ORDER BY ts, ns, seq, sub",
        "SELECT * FROM market.trades_between('SPY', '2025-11-20', '2025-12-01')",
        "SELECT * FROM market.verify_bars('SPY', '2025-11-26', '2025-11-28')",
        "SELECT * FROM market.session_levels('SPY', '2025-11-28')",
        "SELECT * FROM market.session_profile('SPY', '2025-11-28', bin => 100)",
        "SELECT * FROM market.session_flow('SPY', '5m', '2025-11-26', '2025-11-28')",
        "SELECT * FROM market.activity_ohlc('SPY', 'ticks', 10, '2025-11-26', '2025-11-28')",
        "SELECT * FROM market.session_stat('SPY', '2025-11-26', '2025-11-28')",
        "SELECT market.instrument_id('SPY')",
        "SELECT count(*) FROM market.sealed_parts",
        "SELECT * FROM market.sessions('XNYS', '2025-11-26', '2025-11-28')",
        "SELECT count(*) FROM market.calendars",
        "SELECT count(*) FROM market.session_bars",
        "SELECT count(*) FROM market.trade_corrections",
    ] {
        assert_eq!(texts(&reader, sql).await?, texts(&owner, sql).await?, "{sql}");
    }
    let closed = "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'market'::regnamespace AND relkind = 'v'
                  AND NOT has_table_privilege('market_reader', oid, 'SELECT')";
    assert_eq!(texts(&owner, closed).await?, Vec::<String>::new(), "views readers cannot read");
    for sql in [
        "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '2025-11-26 15:00+00', 1, 1, 1)",
        "INSERT INTO market.live_trades (instrument_id, ts, price, size) VALUES (1, '2025-11-26 15:00+00', 1, 1)",
        "DELETE FROM market.trade_blocks",
        "UPDATE market.session_bars SET open = 1",
        "TRUNCATE market.live_trades",
        "SELECT FROM market.live_trades",
        "SELECT FROM market.job_runs",
        "SELECT market.seal('SPY', '2025-11-28')",
        "SELECT market.put_trades(1, '')",
        "SELECT market.bust_trade('SPY', '2025-11-26 15:00+00', 1)",
        "SELECT market.correct_trade('SPY', '2025-11-26 15:00+00', 1, 1, 1)",
        "SELECT market.add_instrument('QQQ', calendar => 'XNYS')",
        "SELECT market.ensure_partitions('2030-01-01')",
        "SELECT market.put_stats('SPY', '2025-11-26', 'settlement', 1)",
        "INSERT INTO market.session_stats (instrument_id, trade_date, kind, value, source) VALUES (1, '2025-11-26', 'settlement', 1, 'me')",
        "INSERT INTO market.trade_corrections (instrument_id, ts, seq, action) VALUES (1, now(), 1, 'bust')",
    ] {
        assert_eq!(state(reader.simple_query(sql).await)?, "42501", "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn writers_write_without_being_superuser() -> Result<()> {
    let (_db, owner, writer) = filled("writer", "market_writer").await?;
    let calendar = Calendar::builtin("XNYS")?;
    // months and years that have no partition yet
    let days = sessions(&calendar, "2024-12-30", "2025-01-03")?;
    let id: i32 = writer.query_one("SELECT market.instrument_id('SPY')", &[]).await?.get(0);
    let mut chance = Chance::new(52);
    for (at, day) in days.iter().enumerate() {
        let trades = store::session_trades(&mut chance, day, 200, true);
        let half: Trades = trades.iter().step_by(2).collect();
        if at % 2 == 0 {
            put(&writer, id, &half).await?;
        }
        insert(&writer, id, &trades.iter().collect::<Vec<_>>()).await?;
        seal(&writer, "SPY", day).await?;
        // conflicts become dead letters
        let other: Trades = half.iter().map(|t| market::Trade { price: t.price + 1_000_000_000, ..t }).collect();
        assert_eq!(put(&writer, id, &other).await?.conflicts, half.len() as i64);
    }
    writer
        .batch_execute(
            "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '2025-11-26 15:00+00', 4711, 1, 1);
             SELECT market.correct_trade('SPY', '2025-11-26 15:00+00', 4711, 2, 1);
             SELECT market.seal('SPY', '2025-11-26');
             SELECT market.bust_trade('SPY', '2025-11-26 15:00+00', 4711);
             SELECT market.seal('SPY', '2025-11-26');
             SELECT market.put_stats('SPY', '2025-11-26', 'official_close', 1.5);
             SELECT market.add_instrument('QQQ', calendar => 'XNYS')",
        )
        .await
        .or_else(|error| match error.as_db_error() {
            // instruments may be the admin's
            Some(db) if db.message().contains("instruments") => Ok(()),
            _ => Err(error),
        })?;
    let verify = "SELECT * FROM market.verify_bars('SPY', '2024-12-01', '2025-12-31')";
    assert_eq!(texts(&writer, verify).await?, Vec::<String>::new());
    assert_eq!(texts(&writer, BARS).await?, texts(&owner, BARS).await?);
    for sql in [
        "TRUNCATE market.live_trades",
        "SELECT FROM market.live_trades",
        "SELECT FROM market.audit_log",
        "DELETE FROM market.trade_corrections",
        "DROP TABLE market.trade_blocks",
        "UPDATE market.instruments SET calendar = '24/7'",
    ] {
        assert_eq!(state(writer.simple_query(sql).await)?, "42501", "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn children_have_no_grants_of_their_own() -> Result<()> {
    let (_db, owner, writer) = filled("children", "market_writer").await?;
    let granted = texts(
        &owner,
        "SELECT c.oid::regclass FROM pg_class AS c, aclexplode(c.relacl) AS a
         WHERE c.relispartition AND c.relnamespace = 'market'::regnamespace AND a.grantee <> c.relowner",
    )
    .await?;
    assert_eq!(granted, Vec::<String>::new());
    for child in ["live_trades_0", "trade_blocks_202511", "bar_blocks_2025"] {
        assert_eq!(state(writer.simple_query(&format!("SELECT * FROM market.{child}")).await)?, "42501", "{child}");
    }
    Ok(())
}

#[tokio::test]
async fn a_hidden_instrument_is_hidden_from_every_function() -> Result<()> {
    let (_db, owner, reader) = filled("hidden", "market_writer").await?;
    store::instrument(&owner, "QQQ", "XNYS").await?;
    // known to this connection before it is hidden
    assert!(!texts(&reader, BARS).await?.is_empty());
    owner
        .batch_execute(
            "ALTER TABLE market.instruments ENABLE ROW LEVEL SECURITY;
             CREATE POLICY but_spy ON market.instruments FOR SELECT TO market_reader USING (symbol <> 'SPY')",
        )
        .await?;
    for sql in [
        BARS,
        "SELECT * FROM market.session_ohlc(ARRAY['QQQ', 'SPY'], '5m', '2025-11-26', '2025-11-26')",
        "SELECT * FROM market.trades_between('SPY', '2025-11-20', '2025-12-01')",
        "SELECT * FROM market.verify_bars('SPY', '2025-11-26', '2025-11-28')",
        "SELECT * FROM market.session_levels('SPY', '2025-11-28')",
        "SELECT * FROM market.session_profile('SPY', '2025-11-28', bin => 100)",
        "SELECT * FROM market.session_flow('SPY', '5m', '2025-11-26', '2025-11-28')",
        "SELECT * FROM market.activity_ohlc('SPY', 'ticks', 10, '2025-11-26', '2025-11-28')",
        "SELECT * FROM market.session_stat('SPY', '2025-11-26', '2025-11-28')",
        "SELECT market.put_stats('SPY', '2025-11-26', 'settlement', 1)",
        "SELECT market.instrument_id('SPY')",
        "SELECT market.seal('SPY', '2025-11-28')",
        "SELECT market.put_trades(1, '')",
        "SELECT market.bust_trade('SPY', '2025-11-26 15:00+00', 1)",
        "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '2025-11-26 15:00+00', 1, 1, 1)",
        "INSERT INTO market.trades (instrument_id, ts, seq, price, size) VALUES (1, '2025-11-26 15:00+00', 1, 1, 1)",
    ] {
        assert_eq!(state(reader.simple_query(sql).await)?, "42704", "{sql}");
        let error = reader.simple_query(sql).await.err().context("refused")?;
        let hint = error.as_db_error().and_then(|db| db.hint()).unwrap_or_default();
        assert!(!hint.contains("SPY"), "{sql} gives the hidden name away: {hint}");
    }
    for sql in [
        "SELECT * FROM market.trades",
        "SELECT * FROM market.trades WHERE symbol = 'SPY'",
        "SELECT * FROM market.trades WHERE instrument_id = 1",
    ] {
        assert_eq!(texts(&reader, sql).await?, Vec::<String>::new(), "{sql}");
    }
    // the cache is the role's own: what its owner saw, another role in the same connection does not
    owner.batch_execute(BARS).await?;
    owner.batch_execute("SET ROLE market_reader").await?;
    assert_eq!(state(owner.simple_query(BARS).await)?, "42704");
    owner.batch_execute("RESET ROLE").await?;
    assert!(!texts(&owner, BARS).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn admins_run_maintenance_without_being_superuser_and_others_only_look() -> Result<()> {
    let (_db, owner, admin) = filled("upkeep", "market_admin").await?;
    admin.batch_execute("SELECT market.set_policy('retention', keep_sessions => 1)").await?;
    admin.batch_execute("CALL market.maintain()").await?;
    let failed = "SELECT job, last_error FROM market.job_status WHERE last_outcome <> 'done'";
    assert_eq!(texts(&admin, failed).await?, Vec::<String>::new());
    let left = "SELECT (SELECT count(*) FROM market.live_trades), (SELECT count(*) FROM market.trade_blocks), (SELECT count(*) FROM market.session_bars) > 0";
    assert_eq!(texts(&owner, left).await?, ["0|0|t"], "sealed, verified, and gone as the policy says");

    for role in ["market_reader", "market_writer"] {
        let (_db, _owner, other) = filled(&format!("{role}_upkeep"), role).await?;
        for sql in [
            "SELECT count(*) FROM market.job_status",
            "SELECT count(*) FROM market.storage_status",
            "SELECT count(*) FROM market.partition_status",
            "SELECT count(*) FROM market.retention_plan()",
            "SELECT count(*) FROM market.partition_plan()",
            "SELECT count(*) FROM market.live_sessions()",
        ] {
            texts(&other, sql).await.with_context(|| format!("{role}: {sql}"))?;
        }
        for sql in [
            "CALL market.maintain()",
            "SELECT market.set_policy('retention', keep_sessions => 1)",
            "SELECT market.drop_policy('retention')",
            "SELECT market.maintenance_steps('seal')",
            "SELECT market.run_step('history', ROW(NULL, NULL, NULL)::market.maintenance_step)",
            "SELECT market.note_unsealed()",
            "SELECT market.begin_job('seal')",
            "SELECT market.end_job(1, '{}', NULL)",
            "SELECT market.truncate_slot('live_trades_1')",
            "SELECT market.drop_partition('trade_blocks_202511')",
            "SELECT market.drop_trades(1, '2025-11-26')",
            "SELECT market.all_dead('market.live_trades_1')",
            "SELECT market.try_lock_session(1, '2025-11-26')",
            "INSERT INTO market.policies (action, keep_sessions) VALUES ('retention', 1)",
            "DELETE FROM market.job_runs",
        ] {
            assert_eq!(state(other.simple_query(sql).await)?, "42501", "{role}: {sql}");
        }
    }
    Ok(())
}
