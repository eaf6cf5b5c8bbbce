//! The background worker on a server of its own: it maintains every database that has the extension, survives being
//! killed, obeys its settings, and says why where it cannot.

use anyhow::{Context, Result, ensure};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;
use tests::cluster;
use tests::store::{self, texts};
use tokio_postgres::Client;
use xtask::prefix::Install;
use xtask::server::{Durability, Lifeline, Server};

/// A running server that preloads the library and looks every second, with `more` settings.
fn server(name: &str, more: &str) -> Result<(Server, Lifeline)> {
    let server = Server::at(&Server::directory(&format!("{name}-{}", std::process::id())))?;
    server.remove()?;
    server.install(&Install::built()?)?;
    let lifeline = server.remove_at_exit()?;
    server.init(Durability::Throwaway)?;
    let conf = server.dir().join("data/postgresql.conf");
    let mut conf = OpenOptions::new().append(true).open(&conf).with_context(|| format!("{}", conf.display()))?;
    writeln!(conf, "shared_preload_libraries = 'bellwether'\nbellwether.maintenance_interval = 1\n{more}")?;
    server.start()?;
    Ok((server, lifeline))
}

/// A new database with the extension and one sealable session.
async fn filled(server: &Server, name: &str) -> Result<Client> {
    let postgres = cluster::connect(&server.url("postgres")).await?;
    postgres.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    let client = cluster::connect(&server.url(name)).await?;
    client.batch_execute("CREATE EXTENSION bellwether").await?;
    store::instrument(&client, "SPY", "XNYS").await?;
    late(&client, 1).await?;
    Ok(client)
}

/// A trade of the last session.
async fn late(client: &Client, seq: i32) -> Result<()> {
    let sql = format!(
        "INSERT INTO market.trades (symbol, ts, seq, price, size)
         SELECT 'SPY', (market.next_session(current_date, 'XNYS', -1) || ' 11:00 America/New_York')::timestamptz, {seq}, 600, 5"
    );
    client.batch_execute(&sql).await?;
    Ok(())
}

async fn one(client: &Client, sql: &str) -> Result<String> {
    texts(client, sql).await?.into_iter().next().with_context(|| format!("no row: {sql}"))
}

async fn until(client: &Client, sql: &str, expected: &str) -> Result<()> {
    let mut found = String::new();
    for _ in 0..600 {
        found = texts(client, sql).await?.into_iter().next().unwrap_or_default();
        if found == expected {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("{sql}: {found}, never {expected}")
}

const SEALED: &str = "SELECT sum(n) FROM market.trade_blocks";
const WORKER: &str = "SELECT DISTINCT worker FROM market.job_status";

#[tokio::test(flavor = "multi_thread")]
async fn every_database_with_the_extension_is_maintained_and_a_killed_worker_comes_back() -> Result<()> {
    let (server, _lifeline) = server("worker", "")?;
    let (one_db, two_db) = (filled(&server, "one").await?, filled(&server, "two").await?);
    until(&one_db, SEALED, "1").await?;
    until(&two_db, SEALED, "1").await?;
    assert_eq!(one(&one_db, WORKER).await?, "looks every 1s");

    // a worker held up by a lock is ended in the middle of its work
    one_db.batch_execute("SELECT market.set_policy('seal', options => '{\"quiet\": \"0 s\"}'); UPDATE market.jobs SET next_run_at = NULL").await?;
    let blocker = cluster::connect(&server.url("one")).await?;
    blocker.batch_execute("BEGIN; LOCK TABLE market.jobs IN ACCESS EXCLUSIVE MODE").await?;
    let waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'bellwether maintenance' AND wait_event_type = 'Lock'";
    until(&one_db, waiting, "t").await?;
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'bellwether maintenance' AND wait_event_type = 'Lock'";
    assert_eq!(one(&one_db, ended).await?, "t");
    late(&one_db, 2).await?;
    blocker.batch_execute("COMMIT").await?;
    until(&one_db, SEALED, "2").await?;

    // kill -9 of a worker: the server starts again, and so does all of this
    let blocker = cluster::connect(&server.url("one")).await?;
    one_db.batch_execute("UPDATE market.jobs SET next_run_at = NULL").await?;
    blocker.batch_execute("BEGIN; LOCK TABLE market.session_bars IN ACCESS EXCLUSIVE MODE").await?;
    late(&one_db, 3).await?;
    let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'bellwether maintenance' AND wait_event_type = 'Lock' LIMIT 1";
    let mut found = None;
    for _ in 0..600 {
        one_db.batch_execute("UPDATE market.jobs SET next_run_at = NULL").await?;
        found = texts(&one_db, pid).await?.into_iter().next();
        if found.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pid = found.context("no worker at work")?;
    // The test's server does not wait for the disk at commit; what is asked for below must be there after the crash.
    one_db.batch_execute("CHECKPOINT").await?;
    // It may wait in a job it has begun, or still be choosing one.
    let begun = one(&one_db, "SELECT count(*) > 0 FROM market.job_runs WHERE finished_at IS NULL").await? == "t";
    ensure!(tests::signal(pid.parse()?, "-9")?, "the worker has ended by itself");
    // The server ends every connection once it has noticed: one made before that moment would be lost too.
    for _ in 0..600 {
        if one_db.simple_query("SELECT 1").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut again = cluster::connect(&server.url("one")).await;
    for _ in 0..600 {
        if let Ok(client) = &again
            && texts(client, "SELECT 1").await.is_ok()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = cluster::connect(&server.url("one")).await;
    }
    let client = again?;
    client.batch_execute("UPDATE market.jobs SET next_run_at = NULL").await?;
    until(&client, SEALED, "3").await?;
    let interrupted = "SELECT count(*) > 0 FROM market.job_runs WHERE error LIKE 'interrupted%'";
    if begun {
        // Said when the same job begins again, which need not be the one that sealed.
        client.batch_execute("UPDATE market.jobs SET next_run_at = NULL").await?;
        until(&client, interrupted, "t").await?;
    }
    assert_eq!(store::verify(&client, "SPY").await?, Vec::<String>::new());
    server.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_say_where_it_works_and_it_says_when_it_cannot() -> Result<()> {
    let (server, _lifeline) = server("settings", "bellwether.maintenance_databases = 'two, three'")?;
    let (one_db, two_db) = (filled(&server, "one").await?, filled(&server, "two").await?);
    until(&two_db, SEALED, "1").await?;
    assert_eq!(one(&one_db, WORKER).await?, "off: not in bellwether.maintenance_databases");
    assert_eq!(one(&one_db, "SELECT count(*) FROM market.job_runs").await?, "0");
    two_db.batch_execute("ALTER SYSTEM SET bellwether.maintenance = off").await?;
    two_db.batch_execute("SELECT pg_reload_conf()").await?;
    until(&two_db, WORKER, "off: bellwether.maintenance").await?;
    // by hand it works everywhere
    one_db.batch_execute("CALL market.maintain()").await?;
    assert_eq!(one(&one_db, SEALED).await?, "1");
    server.stop()
}

/// The launcher needs no database to be there, not even `postgres`.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_database_postgres_is_maintained() -> Result<()> {
    let (server, _lifeline) = server("nopostgres", "")?;
    let client = filled(&server, "one").await?;
    client.batch_execute("DROP DATABASE postgres").await?;
    until(&client, SEALED, "1").await?;
    drop(client);
    server.stop()?;
    server.start()?;
    let client = cluster::connect(&server.url("one")).await?;
    client.batch_execute("SELECT market.set_policy('seal', options => '{\"quiet\": \"0 s\"}'); UPDATE market.jobs SET next_run_at = NULL").await?;
    late(&client, 2).await?;
    client.batch_execute("UPDATE market.jobs SET next_run_at = NULL").await?;
    until(&client, SEALED, "2").await?;
    let log = std::fs::read_to_string(server.log())?;
    ensure!(!log.contains("database \"postgres\" does not exist"), "{log}");
    server.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_worker_slots_shows_in_job_status() -> Result<()> {
    // the launcher and the logical replication launcher take both
    let (server, _lifeline) = server("slots", "max_worker_processes = 2")?;
    let client = filled(&server, "one").await?;
    let refused =
        "SELECT DISTINCT worker LIKE 'no free slot since %: raise max_worker_processes' FROM market.job_status";
    until(&client, refused, "t").await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.job_runs").await?, "0");
    server.stop()
}

#[tokio::test]
async fn without_preload_job_status_says_so() -> Result<()> {
    let client = cluster::database("nopreload").await?.client().await?;
    let said = one(&client, WORKER).await?;
    ensure!(said.starts_with("none: bellwether is not in shared_preload_libraries"), "{said}");
    Ok(())
}
