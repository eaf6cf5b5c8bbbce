//! `ingest load` and `ingest simulate` as a user runs them: loaded once whatever happens, nothing lost, nothing silent.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use tests::cluster::{self, Database};
use tests::testdata;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    /// A number of the summary.
    fn number(&self, what: &str) -> Result<i64> {
        let line =
            self.out.lines().find(|l| l.starts_with(what)).with_context(|| format!("no {what} in {}", self.out))?;
        let word = line[what.len()..].split_whitespace().next().context("no number")?;
        Ok(word.replace(',', "").parse()?)
    }
}

fn ingest(database: &Database, command: &str, arguments: &[&str]) -> Result<Ran> {
    let done = database.program("ingest", &[command])?.args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { code: done.status.code().unwrap_or(-1), out: text(&done.stdout), err: text(&done.stderr) })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Everything that answers depend on: per session and segment the bar, the number of trades and the digest.
async fn stored(database: &Database) -> Result<Vec<String>> {
    let rows = database
        .client()
        .await?
        .query(
            "SELECT concat_ws(' ', symbol, trade_date, segment, open, high, low, close, volume, trades, digest, revision) \
             FROM market.session_bars JOIN market.instruments ON id = instrument_id ORDER BY 1",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

async fn letters(database: &Database) -> Result<Vec<(String, i64, String)>> {
    let sql = "SELECT source, line, reason FROM market.dead_letters ORDER BY source, line";
    let rows = database.client().await?.query(sql, &[]).await?;
    Ok(rows.iter().map(|r| (r.get(0), r.get::<_, Option<i64>>(1).unwrap_or(-1), r.get(2))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_a_file_twice_changes_nothing() -> Result<()> {
    let Some(gold) = testdata("ticks/gc/20131007_trade.zip") else { return Ok(()) };
    let database = cluster::database("twice").await?;
    let first = ingest(&database, "load", &["--format", "lean", &shown(&gold)])?;
    ensure!(first.code == 0, "{}", first.err);
    assert_eq!((first.number("new")?, first.number("known")?), (40_192, 0));
    let before = stored(&database).await?;
    assert!(before.iter().any(|row| row.starts_with("GCZ13 2013-10-07 RTH")), "{before:?}");
    let second = ingest(&database, "load", &["--format", "lean", &shown(&gold)])?;
    assert_eq!((second.code, second.number("new")?, second.number("known")?), (0, 0, 40_192));
    assert!(second.out.contains("nothing new"), "{}", second.out);
    assert_eq!(stored(&database).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_shuffled_or_in_pieces_the_same_trades_are_stored() -> Result<()> {
    let whole = cluster::database("whole").await?;
    let dir = tempfile::tempdir()?;
    let file = shown(&dir.path().join("es.csv"));
    let simulate =
        ["--symbol", "ESZ25", "--from", "2025-11-26", "--to", "2025-12-01", "--trades-per-day", "6000", "--out", &file];
    let ran = ingest(&whole, "simulate", &simulate)?;
    ensure!(ran.code == 0, "{}", ran.err);
    ensure!(ingest(&whole, "load", &[&file])?.code == 0);

    // Fixed stride through the lines: neighbours end up far apart, every line once.
    let text = std::fs::read_to_string(&file)?;
    let mut lines = text.lines();
    let header = lines.next().context("no header")?;
    let lines: Vec<&str> = lines.collect();
    let n = lines.len();
    let stride = (n / 3..).find(|s| gcd(*s, n) == 1).context("a stride")?;
    let shuffled: Vec<&str> = (0..n).map(|i| lines[i * stride % n]).collect();
    let (left, right) = (dir.path().join("a.csv"), dir.path().join("b.csv"));
    std::fs::write(&left, format!("{header}\n{}\n", shuffled[..n * 2 / 3].join("\n")))?;
    std::fs::write(&right, format!("{header}\n{}\n", shuffled[n / 3..].join("\n")))?;
    let pieces = cluster::database("pieces").await?;
    // So small a buffer that sessions are sent in many parts.
    let ran = ingest(&pieces, "load", &["--buffer", "10000", &shown(&left), &shown(&right)])?;
    ensure!(ran.code == 0, "{}", ran.err);
    assert_eq!(ran.number("new")?, n as i64);

    let without_revision = |rows: Vec<String>| -> Vec<String> {
        rows.into_iter().map(|r| r.rsplit_once(' ').map_or(r.clone(), |(head, _)| head.to_string())).collect()
    };
    assert_eq!(without_revision(stored(&whole).await?), without_revision(stored(&pieces).await?));
    Ok(())
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_lines_are_dead_letters_with_file_line_and_reason_once() -> Result<()> {
    let database = cluster::database("rejects").await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("t.csv");
    std::fs::write(
        &path,
        "ts,symbol,price,size,trade_id\n\
         2024-03-15T13:30:00Z,ESH4,5100.25,3,1\n\
         2024-03-15T13:30:01Z,ESH4,NaN,1,2\n\
         2024-03-15T13:30:02Z,ESH4,5100.25,-1,3\n\
         2024-03-15T13:30:03Z,ESH4,5100.50,0,4\n",
    )?;
    for new in [2, 0] {
        let ran = ingest(&database, "load", &[&shown(&path)])?;
        ensure!(ran.code == 0, "{}", ran.err);
        assert_eq!((ran.number("new")?, ran.number("rejects")?), (new, 2));
    }
    let letters = letters(&database).await?;
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert_eq!((letters[0].1, letters[1].1), (3, 4));
    assert!(letters[0].0.ends_with("t.csv") && letters[0].2.contains("NaN") && letters[1].2.contains("negative"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_identity_with_other_content_never_overwrites() -> Result<()> {
    let database = cluster::database("conflict").await?;
    let dir = tempfile::tempdir()?;
    let file = |name: &str, price: &str| -> Result<String> {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("ts,symbol,price,size,trade_id\n2024-03-15T13:30:00Z,ESH4,{price},3,1\n"))?;
        Ok(shown(&path))
    };
    ensure!(ingest(&database, "load", &[&file("a.csv", "5100.25")?])?.code == 0);
    let ran = ingest(&database, "load", &[&file("b.csv", "9999")?])?;
    assert_eq!((ran.number("new")?, ran.number("conflicts")?), (0, 1));
    let client = database.client().await?;
    let price: f64 = client.query_one("SELECT price FROM market.trades WHERE symbol = 'ESH24'", &[]).await?.get(0);
    assert_eq!(price, 5100.25);
    let n: i64 = client.query_one("SELECT count(*) FROM market.dead_letters", &[]).await?.get(0);
    assert_eq!(n, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_file_keeps_its_beginning_and_ends_with_1() -> Result<()> {
    let Some(gold) = testdata("ticks/gc/20131007_trade.zip") else { return Ok(()) };
    let database = cluster::database("truncated").await?;
    let dir = tempfile::tempdir()?;
    let cut = dir.path().join("20131007_trade.zip");
    let bytes = std::fs::read(gold)?;
    std::fs::write(&cut, &bytes[..bytes.len() / 2])?;
    let ran = ingest(&database, "load", &["--format", "lean", &shown(&cut)])?;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("truncated"), "{}", ran.err);
    let new = ran.number("new")?;
    assert!(new > 1000 && new < 40_192, "{new}");
    let sql = "SELECT count(*) FROM market.trades";
    assert_eq!(database.client().await?.query_one(sql, &[]).await?.get::<_, i64>(0), new);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_extension_or_none_ends_with_2_and_says_what_to_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "ts,symbol,price,size\n2024-03-15T13:30:00Z,ESH4,5100.25,3\n")?;
    let none = cluster::empty_database("bare").await?;
    let ran = ingest(&none, "load", &[&shown(&path)])?;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("CREATE EXTENSION bellwether"), "{}", ran.err);
    let other = cluster::database("other_version").await?;
    let client = other.client().await?;
    client.batch_execute("UPDATE pg_extension SET extversion = '9.1.0' WHERE extname = 'bellwether'").await?;
    let ran = ingest(&other, "load", &[&shown(&path)])?;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("9.1.0") && ran.err.contains("ALTER EXTENSION bellwether UPDATE"), "{}", ran.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_symbol_writes_nothing_and_says_what_to_do() -> Result<()> {
    let database = cluster::database("unknown").await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("t.csv");
    std::fs::write(&path, "ts,symbol,price,size\n2024-03-15T14:30:00Z,SPYX,510.25,3\n")?;
    let ran = ingest(&database, "load", &[&shown(&path)])?;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("\"SPYX\"") && ran.err.contains("--calendar"), "{}", ran.err);
    let ran = ingest(&database, "load", &["--create", "never", "--calendar", "XNYS", &shown(&path)])?;
    assert_eq!(ran.code, 1);
    let ran = ingest(&database, "load", &["--symbol-map", "SPYX=SPY", "--calendar", "XNYS", &shown(&path)])?;
    ensure!(ran.code == 0, "{}", ran.err);
    let row = database.client().await?.query_one("SELECT symbol, calendar FROM market.instruments", &[]).await?;
    assert_eq!((row.get::<_, String>(0), row.get::<_, String>(1)), ("SPY".into(), "XNYS".into()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_weeks_fill_their_sessions_and_are_stored_once() -> Result<()> {
    let database = cluster::database("simulate").await?;
    let week =
        ["--symbol", "ESZ25", "--from", "2025-11-24", "--to", "2025-11-28", "--seed", "7", "--trades-per-day", "3000"];
    let first = ingest(&database, "simulate", &week)?;
    ensure!(first.code == 0, "{}", first.err);
    let again = ingest(&database, "simulate", &week)?;
    assert_eq!((again.number("new")?, again.number("known")?), (0, first.number("new")?));
    let sessions: i64 = database
        .client()
        .await?
        .query_one(
            "SELECT count(DISTINCT s.trade_date) FROM market.sessions('CME_EQUITY', '2025-11-24', '2025-11-28') AS s \
             JOIN market.session_bars AS b USING (trade_date)",
            &[],
        )
        .await?
        .get(0);
    assert_eq!(sessions, first.number("sessions")?);
    // Its root finds it: simulated contracts are contracts.
    let found = "SELECT kind, market.instrument_id('ES.c.0', '2025-11-26') = id FROM market.instruments";
    let row = database.client().await?.query_one(found, &[]).await?;
    assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1)), ("future", true));
    Ok(())
}
