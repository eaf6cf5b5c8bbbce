//! A database of a released version becomes one of today: the same catalog as a fresh one, and the answers it gave before.
//!
//! tests/data/VERSION holds a dump of a database that version made, with its own library, and what it answered.

use anyhow::{Context, Result, ensure};
use std::io::Write as _;
use std::process::{Command, Stdio};
use tests::cluster::{self, Database, cluster};
use tests::root;
use tests::store::{self, Chance, texts};
use tokio_postgres::Client;

/// Released versions, and the hash of what was released: an install script is never edited afterwards.
const RELEASED: [(&str, u64); 1] = [("0.1.0", 0x0f43_9eb1_9218_dd71)];

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// Everything that makes up the extension, one line an object.
async fn catalog(client: &Client) -> Result<Vec<String>> {
    texts(client, &read("tests/data/catalog.sql")?).await
}

/// The answers to the queries of a version's data.
async fn answers(client: &Client, version: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for query in read(&format!("tests/data/{version}/answers.sql"))?.split(";\n").filter(|q| !q.trim().is_empty()) {
        all.extend(texts(client, query).await?);
    }
    Ok(all)
}

/// Runs a script with psql; it must succeed.
fn psql(database: &Database, script: &str) -> Result<()> {
    let mut psql = Command::new(cluster()?.client_program("psql")?);
    let mut psql = psql
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &database.url])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    psql.stdin.take().context("no standard input")?.write_all(script.as_bytes())?;
    let out = psql.wait_with_output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// The same lines, or the first that differ.
fn same(what: &str, found: &[String], expected: &[String]) -> Result<()> {
    let missing: Vec<&String> = expected.iter().filter(|line| !found.contains(line)).collect();
    let more: Vec<&String> = found.iter().filter(|line| !expected.contains(line)).collect();
    ensure!(found == expected, "{what}\n\nmissing or other:\n{missing:#?}\n\ninstead:\n{more:#?}");
    Ok(())
}

#[test]
fn what_was_released_is_never_edited() -> Result<()> {
    for (version, hash) in RELEASED {
        let script = read(&format!("sql/released/bellwether--{version}.sql"))?;
        let found = xxhash_rust::xxh3::xxh3_64(script.as_bytes());
        assert_eq!(found, hash, "sql/released/bellwether--{version}.sql was released: undo the change");
    }
    Ok(())
}

#[tokio::test]
async fn an_empty_upgraded_database_is_a_fresh_one() -> Result<()> {
    let fresh = catalog(&cluster::database("fresh").await?.client().await?).await?;
    ensure!(fresh.len() > 500, "{} lines", fresh.len());
    for (version, _) in RELEASED {
        let client = cluster::empty_database("upgraded").await?.client().await?;
        client.batch_execute(&format!("CREATE EXTENSION bellwether VERSION '{version}'")).await?;
        ensure!(catalog(&client).await? != fresh, "nothing to upgrade");
        client.batch_execute("ALTER EXTENSION bellwether UPDATE").await?;
        same(&format!("upgraded from {version}"), &catalog(&client).await?, &fresh)?;
        client.batch_execute("DROP EXTENSION bellwether").await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_upgraded_database_answers_as_before_and_goes_on() -> Result<()> {
    let client = cluster::database("fresh_too").await?.client().await?;
    // comes with the first instrument
    ensure!(texts(&client, "SELECT market.secure_tables()").await? != ["0"]);
    let fresh = catalog(&client).await?;
    for (version, _) in RELEASED {
        let database = cluster::empty_database("released").await?;
        psql(&database, &read(&format!("tests/data/{version}/database.sql"))?)?;
        let client = database.client().await?;
        client.batch_execute("ALTER EXTENSION bellwether UPDATE").await?;
        same(&format!("with data of {version}"), &catalog(&client).await?, &fresh)?;
        let before: Vec<String> =
            read(&format!("tests/data/{version}/answers.txt"))?.lines().map(str::to_owned).collect();
        same("answers", &answers(&client, version).await?, &before)?;
        for symbol in ["SPY", "ESZ25", "BTC-USD"] {
            assert_eq!(store::verify(&client, symbol).await?, Vec::<String>::new(), "{symbol}");
        }
        // and it goes on: the live rows of then are sealed now, and what is sealed changes no answer
        let trades = "SELECT symbol, count(*), sum(size), sum(price) FROM market.trades GROUP BY 1 ORDER BY 1";
        let before = texts(&client, trades).await?;
        let at_once = "SELECT market.set_policy('seal', options => '{\"quiet\": \"0 s\"}'),
            market.set_policy('seal', calendar => 'XNYS', options => '{\"quiet\": \"0 s\"}')";
        client.batch_execute(at_once).await?;
        client.batch_execute("UPDATE market.feed_gaps SET closed_at = now()").await?;
        client.batch_execute("CALL market.maintain()").await?;
        let failed = "SELECT job, last_error FROM market.job_status WHERE last_outcome <> 'done'";
        assert_eq!(texts(&client, failed).await?, Vec::<String>::new());
        assert_eq!(texts(&client, trades).await?, before);
        assert_eq!(texts(&client, "SELECT count(*) FROM market.live_trades").await?, ["0"]);
        let calendar = market::Calendar::builtin("XNYS")?;
        let day = store::sessions(&calendar, "2025-12-01", "2025-12-01")?;
        let news = store::session_trades(&mut Chance::new(5), &day[0], 100, true);
        assert_eq!(store::put(&client, 1, &news).await?.added, news.len() as i64);
        assert_eq!(store::verify(&client, "SPY").await?, Vec::<String>::new());
    }
    Ok(())
}

/// The new library over the SQL of an older version: every call says what to do, in the same connection until it is done.
#[tokio::test]
async fn a_library_that_is_newer_than_the_extension_says_so() -> Result<()> {
    for (version, _) in RELEASED {
        let database = cluster::empty_database("older").await?;
        psql(&database, &read(&format!("tests/data/{version}/database.sql"))?)?;
        let client = database.client().await?;
        for sql in [
            "SELECT * FROM market.session_ohlc('SPY', '1d', date '2025-11-24', date '2025-11-28')",
            "SELECT * FROM market.trades WHERE symbol = 'SPY'",
            "SELECT market.seal('SPY', '2025-11-28')",
            "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '2025-11-28 15:00+00', 1, 1, 1)",
        ] {
            let error = client.simple_query(sql).await.err().and_then(|e| e.as_db_error().cloned());
            let error = error.with_context(|| format!("{version}: {sql} is answered"))?;
            assert_eq!(error.code().code(), "55000", "{sql}: {error}");
            ensure!(
                error.hint().is_some_and(|h| h.contains("run ALTER EXTENSION bellwether UPDATE")),
                "{sql}: {error:?}"
            );
        }
        client.batch_execute("ALTER EXTENSION bellwether UPDATE").await?;
        ensure!(!texts(&client, "SELECT * FROM market.trades WHERE symbol = 'SPY'").await?.is_empty());
    }
    Ok(())
}

#[test]
fn the_library_knows_the_version_of_its_sql() -> Result<()> {
    let control = read("sql/bellwether.control")?;
    let library = read("pg_ext/src/instrument.rs")?;
    let version = control.lines().find_map(|line| line.strip_prefix("default_version = ")).context("a version")?;
    let expected = format!("const VERSION: &str = \"{}\";", version.trim_matches('\''));
    ensure!(library.contains(&expected), "pg_ext/src/instrument.rs has no {expected}");
    Ok(())
}
