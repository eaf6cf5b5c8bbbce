//! Halts that an archive keeps: an archive alone, one beside a database and one that was restored know them as the database did.

use anyhow::{Context, Result};
use market::{Calendar, TradeDate};
use std::fs;
use std::path::Path;
use std::process::Command;
use tests::archive::{answers, archive, as_format_1, drop_trades, ended, files, manifests, querycli};
use tests::cluster::{self, Database};
use tests::store::{self, Chance, put, same, seal, texts};
use tokio_postgres::Client;

const FIRST: &str = "2025-11-19";
const LAST: &str = "2025-12-02";
const SYMBOLS: [(&str, &str); 3] = [("X", "XNYS"), ("Y", "NYSE"), ("H", "XHKG")];

/// Two weeks of three instruments; X and Y do not trade on the 25th.
async fn filled(name: &str) -> Result<(Database, Client)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    client.batch_execute("SET timezone = 'UTC'; SET extra_float_digits = 1").await?;
    let mut chance = Chance::new(101);
    for (symbol, calendar) in SYMBOLS {
        let id = store::instrument(&client, symbol, calendar).await?;
        for day in store::sessions(&Calendar::builtin(calendar)?, FIRST, LAST)? {
            let trades = store::session_trades(&mut chance, &day, 20, false);
            if symbol == "H" || day.trade_date != TradeDate::parse("2025-11-25")? {
                put(&client, id, &trades).await?;
                seal(&client, symbol, &day).await?;
            }
        }
    }
    Ok((database, client))
}

/// Halts of every kind: within a session, over several, on a day that has no session, of the market under two of its names,
/// overlapping ones, one that begins before time, one that lasts on.
const NOTED: &str = "
    SELECT market.note_halt('X', '2025-11-20 15:00:00.25+00', '2025-11-20 15:07+00', 'news \"pending\"');
    SELECT market.note_halt('X', '2025-11-20 15:05+00', '2025-11-20 15:09+00');
    SELECT market.note_halt('X', '2025-11-21 19:00+00', '2025-11-26 16:00+00', 'over days');
    SELECT market.note_halt('Y', '2025-11-25 15:00+00', '2025-11-25 16:30+00', 'on a day without trades', 'user');
    SELECT market.note_halt('Y', '2025-12-01 20:30+00', note => 'lasts on');
    SELECT market.note_halt('H', '2025-11-27 02:00+00', '2025-11-27 03:30+00');
    INSERT INTO market.calendar_exceptions (calendar, trade_date, kind, from_ts, till_ts, note, source, instrument_id) VALUES
      ('XNYS', '2025-11-24', 'halt', '2025-11-24 14:40+00', '2025-11-24 14:55+00', 'circuit breaker, level 1', 'feed', NULL),
      ('NYSE', '2025-11-25', 'outage', '2025-11-25 17:00+00', '2025-11-25 17:45:30.5+00', NULL, 'user', NULL),
      ('NYSE', '2025-11-28', 'halt', '2025-11-28 17:59+00', '2025-11-28 18:30+00', 'before the close', 'feed', NULL),
      ('XHKG', '2025-11-19', 'outage', '-infinity', '2025-11-19 02:00+00', 'before time', 'user', NULL),
      ('CME_EQUITY', '2025-11-24', 'halt', '2025-11-24 14:40+00', '2025-11-24 14:55+00', 'elsewhere', 'feed', NULL)";

/// What is asked of halts, as SQL that all understand.
fn questions() -> Vec<String> {
    let mut all = Vec::new();
    for (symbol, calendar) in SYMBOLS {
        for segments in ["RTH", "ETH"] {
            all.push(format!(
                "SELECT 1 AS q, trade_date, segment, opens_at, market.halted_seconds('{symbol}', opens_at, closes_at, '{segments}') AS halted
                 FROM market.sessions('{calendar}', DATE '{FIRST}', DATE '{LAST}') ORDER BY opens_at"
            ));
        }
        all.push(format!(
            "SELECT 2 AS q, * FROM market.sessions('{calendar}', DATE '{FIRST}', DATE '{LAST}', hours => 'actual') ORDER BY opens_at"
        ));
        all.push(format!(
            "SELECT 3 AS q, bar_at, trades, market.halted_seconds('{symbol}', bar_at, bar_end) AS halted
             FROM market.session_ohlc('{symbol}', '30m', DATE '{FIRST}', DATE '{LAST}') ORDER BY bar_at"
        ));
    }
    all.push("SELECT 4 AS q, market.halted_seconds('Y', TIMESTAMPTZ '2025-11-25 15:10:00+00', TIMESTAMPTZ '2025-11-25 17:10:00+00') AS halted".into());
    all.push("SELECT 4 AS q, market.halted_seconds('Y', TIMESTAMPTZ '2025-12-03 15:10:00+00', TIMESTAMPTZ '2025-12-03 15:11:00+00') AS halted".into());
    all
}

async fn in_sql(client: &Client) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for question in questions() {
        all.extend(answers(client, &question).await.with_context(|| question.clone())?);
    }
    Ok(all)
}

fn outside(arguments: &[&str], scratch: &Path) -> Result<Vec<String>> {
    let file = scratch.join("halts.sql");
    fs::write(&file, questions().join(";\n"))?;
    let rows = querycli(arguments, &file)?;
    Ok(rows.into_iter().map(|row| row.replace("\"\"", "'").replace('"', "").replace('\'', "\"")).collect())
}

async fn pending(client: &Client) -> Result<Vec<String>> {
    texts(client, "SELECT symbol, trade_date, state FROM market.archive_pending() ORDER BY 1, 2").await
}

const EXCEPTIONS: &str = "SELECT e.calendar, e.trade_date, e.kind, i.symbol, e.from_ts, e.till_ts, e.note, e.source
    FROM market.calendar_exceptions AS e LEFT JOIN market.instruments AS i ON i.id = e.instrument_id ORDER BY 1, 2, 3, 4, 5";

#[tokio::test(flavor = "multi_thread")]
async fn halts_are_the_same_in_sql_over_an_archive_and_restored() -> Result<()> {
    let (database, client) = filled("halts").await?;
    client.batch_execute(NOTED).await?;
    let expected = in_sql(&client).await?;
    let halted = expected.iter().filter(|row| row.starts_with("1,") && !row.ends_with(",0")).count();
    assert!(halted > 15, "{halted}");
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("archive");
    ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    assert_eq!(pending(&client).await?, Vec::<String>::new());
    ended(&archive(&database, &place, &["verify"])?.output()?, 0)?;
    let archived = place.to_str().context("no UTF-8")?;
    same("over the database", &outside(&["--db", &database.url], folder.path())?, &expected);
    same("over the archive", &outside(&["--archive", archived], folder.path())?, &expected);
    drop_trades(&client).await?;
    assert_eq!(pending(&client).await?, Vec::<String>::new());
    let both = ["--db", database.url.as_str(), "--archive", archived];
    same("over both", &outside(&both, folder.path())?, &expected);

    let other = cluster::database("halts_restored").await?;
    // what is there already, also as far as it was known then, is no second halt
    let reader = other.client().await?;
    reader.batch_execute("SET timezone = 'UTC'; SET extra_float_digits = 1").await?;
    reader
        .batch_execute(
            "INSERT INTO market.calendar_exceptions (calendar, trade_date, kind, from_ts, till_ts, note, source) VALUES
               ('XNYS', '2025-11-24', 'halt', '2025-11-24 14:40+00', NULL, NULL, 'feed'),
               ('CME_EQUITY', '2025-11-24', 'halt', '2025-11-24 14:40+00', '2025-11-24 14:55+00', 'elsewhere', 'feed')",
        )
        .await?;
    for round in ["once", "twice"] {
        ended(&archive(&other, &place, &["restore"])?.output()?, 0)?;
        same(round, &texts(&reader, EXCEPTIONS).await?, &texts(&client, EXCEPTIONS).await?);
    }
    same("restored", &in_sql(&reader).await?, &expected);
    same("over what was restored", &outside(&["--db", &other.url], folder.path())?, &expected);
    Ok(())
}

/// Noted, ended or taken back after the push: exactly the sessions are pending on which it falls, also without their trades, and
/// the next push writes their manifests and no other file.
#[tokio::test(flavor = "multi_thread")]
async fn halts_that_change_after_the_push_are_pushed_again() -> Result<()> {
    let (database, client) = filled("halts_change").await?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("archive");
    ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    let archived = place.to_str().context("no UTF-8")?;
    let data = || -> Result<Vec<(std::path::PathBuf, std::time::SystemTime)>> {
        let mut all = Vec::new();
        for path in files(&place).into_iter().filter(|path| path.extension().is_some_and(|e| e != "json")) {
            let at = fs::metadata(&path)?.modified()?;
            all.push((path, at));
        }
        Ok(all)
    };
    let written = data()?;
    let whole_market = [
        "X|2025-11-28|halts",
        "X|2025-12-01|halts",
        "X|2025-12-02|halts",
        "Y|2025-11-28|halts",
        "Y|2025-12-01|halts",
        "Y|2025-12-02|halts",
    ];
    let changes: [(&str, &[&str]); 4] = [
        (
            "SELECT market.note_halt('X', '2025-11-25 15:00+00', '2025-11-26 16:00+00', 'two days, one without trades')",
            &["X|2025-11-26|halts"],
        ),
        (
            "INSERT INTO market.calendar_exceptions (calendar, trade_date, kind, from_ts) VALUES ('NYSE', '2025-11-28', 'halt', '2025-11-28 15:00+00')",
            &whole_market,
        ),
        (
            "UPDATE market.calendar_exceptions SET till_ts = '2025-11-28 15:05+00' WHERE instrument_id IS NULL",
            &whole_market,
        ),
        ("DELETE FROM market.calendar_exceptions WHERE instrument_id IS NOT NULL", &["X|2025-11-26|halts"]),
    ];
    for (round, (change, expected)) in changes.into_iter().enumerate() {
        client.batch_execute(change).await?;
        same(change, &pending(&client).await?, &expected.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>());
        let said = ended(&archive(&database, &place, &["verify"])?.output()?, 1)?;
        assert!(said.contains(&format!(", {} broken", expected.len())) && said.contains("halts"), "{said}");
        let said = ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
        let archived_now = format!("{} session{} archived", expected.len(), if expected.len() == 1 { "" } else { "s" });
        assert!(said.contains(&archived_now), "{said}");
        assert_eq!(pending(&client).await?, Vec::<String>::new());
        ended(&archive(&database, &place, &["verify"])?.output()?, 0)?;
        same("over the archive", &outside(&["--archive", archived], folder.path())?, &in_sql(&client).await?);
        assert_eq!(data()?, written, "data files stay as they were");
        if round == 1 {
            drop_trades(&client).await?;
        }
    }
    // told by a program that knows nothing of halts: pending where there are some
    client.batch_execute("UPDATE market.archived_sessions SET halts = NULL").await?;
    assert_eq!(pending(&client).await?.len(), 2);
    Ok(())
}

/// An archive of before halts is read, says what it cannot know where that is asked and nowhere else, and is brought up by a push.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_format_1_says_that_it_has_no_halts() -> Result<()> {
    let golden = tests::root().join("tests/data/archive-1");
    let ask = |sql: &str| -> Result<(String, String)> {
        let mut command = Command::new(tests::program("querycli")?);
        command.arg("--archive").arg(&golden).args(["--format", "csv", "-c", sql]);
        let out = command.env_remove("BELLWETHER_DB").env_remove("BELLWETHER_ARCHIVE").output()?;
        Ok((ended(&out, 0)?, String::from_utf8(out.stderr)?))
    };
    let bars = "SELECT trade_date, open, high, low, close, volume, trades FROM session_ohlc('GOLD', '1d', '2025-11-26', '2025-11-28')";
    // 39 trades at 100 + i % 5, 21 at 101 + i % 3, as they were put in
    let (found, said) = ask(bars)?;
    assert_eq!(
        found,
        "trade_date,open,high,low,close,volume,trades\n2025-11-26,100,104,100,103,390,39\n2025-11-28,101,103,101,103,105,21\n"
    );
    assert_eq!(said, "");
    let (found, said) = ask(
        "SELECT halted_seconds('GOLD', TIMESTAMPTZ '2025-11-28 14:30:00+00', TIMESTAMPTZ '2025-11-28 18:00:00+00') AS halted",
    )?;
    assert_eq!(found, "halted\n0\n");
    assert!(said.contains("note: GOLD 2025-11-28 was archived by an older querycli, which kept no halts"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let (_, said) = ask("SELECT * FROM sessions('XNYS', '2025-11-26', '2025-11-28', hours => 'actual')")?;
    assert!(said.contains("which kept no halts"), "{said}");
    let (_, said) = ask("SELECT * FROM sessions('XHKG', '2025-11-26', '2025-11-28', hours => 'actual')")?;
    assert_eq!(said, "");
    let other = cluster::database("halts_golden").await?;
    let said = ended(&archive(&other, &golden, &["restore"])?.output()?, 0)?;
    assert!(said.contains("2 sessions restored"), "{said}");

    let (database, client) = filled("halts_format").await?;
    client.batch_execute(NOTED).await?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("archive");
    ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    let all = manifests(&place);
    as_format_1(&place)?;
    let before: Vec<_> =
        files(&place.join("trades")).iter().map(|path| fs::metadata(path)?.modified()).collect::<Result<_, _>>()?;
    let said = ended(&archive(&database, &place, &["verify"])?.output()?, 1)?;
    assert!(said.contains("halts"), "{said}");
    let said = ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    assert!(said.contains(&format!("{all} sessions archived")), "{said}");
    let after: Vec<_> =
        files(&place.join("trades")).iter().map(|path| fs::metadata(path)?.modified()).collect::<Result<_, _>>()?;
    assert_eq!(before, after, "trades stay as they were");
    ended(&archive(&database, &place, &["verify"])?.output()?, 0)?;
    let archived = place.to_str().context("no UTF-8")?;
    same("brought up", &outside(&["--archive", archived], folder.path())?, &in_sql(&client).await?);
    Ok(())
}
