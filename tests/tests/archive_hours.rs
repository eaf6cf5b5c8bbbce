//! An archive is read with the hours that its sessions were made with, whatever calendars the program ships meanwhile.

use anyhow::{Context, Result, ensure};
use market::Calendar;
use std::fs;
use std::path::Path;
use tests::archive::{answers, archive, as_format_1, edited, ended, files, querycli, without};
use tests::cluster::{self, Database};
use tests::released;
use tests::store::{self, Chance, same};
use tokio_postgres::Client;

const FIRST: &str = "2026-05-28";
const LAST: &str = "2026-06-09";
/// The Mondays that differ between what 0.1.0 shipped and today's file: the pause on Saturday.
const MONDAYS: [&str; 2] = ["2026-06-01", "2026-06-08"];

/// Trades that lie within the hours of both versions and beside them.
async fn load(client: &Client, calendar: &Calendar) -> Result<()> {
    client.batch_execute("SET timezone = 'UTC'; SET extra_float_digits = 1").await?;
    let id = store::instrument(client, "C", "CME_CRYPTO").await?;
    let old = Calendar::from_toml(&released::crypto()?)?;
    let days = store::sessions(&old, FIRST, LAST)?;
    let trades = store::flat(&store::generate(&mut Chance::new(102), &days, 150));
    store::put_days(client, id, calendar, trades).await
}

/// A database in which 0.1.0's calendar is in force.
async fn then(name: &str) -> Result<(Database, Client)> {
    let (database, client, calendar) = released::crypto_in_force(name).await?;
    load(&client, &calendar).await?;
    Ok((database, client))
}

/// One in which today's is.
async fn today(name: &str) -> Result<(Database, Client)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    load(&client, &Calendar::builtin("CME_CRYPTO")?).await?;
    Ok((database, client))
}

/// Questions whose answers depend on the hours, of trade dates between two.
fn questions(first: &str, last: &str) -> Vec<String> {
    let bars = |timeframe: &str, segments: &str, fill: &str| {
        format!(
            "SELECT 1 AS q, trade_date, bar_at, bar_end, open, high, low, close, volume, trades
             FROM market.session_ohlc('C', '{timeframe}', DATE '{first}', DATE '{last}', segments => '{segments}', fill => '{fill}') ORDER BY bar_at"
        )
    };
    vec![
        bars("1m", "ALL", "none"),
        bars("30s", "ETH", "none"),
        bars("1h", "ETH", "previous"),
        bars("4h", "ETH", "none"),
        bars("1d", "ETH", "none"),
        bars("1d", "OFF", "none"),
        format!("SELECT 2 AS q, * FROM market.session_flow('C', '4h', '{first}', '{last}')"),
        format!("SELECT 2 AS q, * FROM market.activity_ohlc('C', 'ticks', 25, '{first}', '{last}')"),
        format!("SELECT 2 AS q, * FROM market.session_levels('C', '{last}')"),
        format!("SELECT 2 AS q, * FROM market.session_profile('C', '{first}', bin => 0.5)"),
        format!(
            "SELECT 3 AS q, trade_date, segment, count(*) AS n, sum(size) AS size FROM market.trades
             WHERE symbol = 'C' AND trade_date BETWEEN DATE '{first}' AND DATE '{last}' GROUP BY 2, 3 ORDER BY 2, 3"
        ),
        format!(
            "SELECT 3 AS q, ts, seq, trade_date, segment FROM market.trades
             WHERE symbol = 'C' AND trade_date BETWEEN DATE '{first}' AND DATE '{last}' ORDER BY ts, ns, seq, sub"
        ),
    ]
}

/// Those that name the calendar.
fn by_name() -> Vec<String> {
    vec![
        format!(
            "SELECT 4 AS q, trade_date, segment, opens_at, closes_at FROM market.sessions('CME_CRYPTO', DATE '{FIRST}', DATE '{LAST}') ORDER BY opens_at"
        ),
        "SELECT 4 AS q, market.is_open(TIMESTAMPTZ '2026-05-30 08:00:00+00', 'CME_Bitcoin', 'ETH') AS open".into(),
    ]
}

async fn in_sql(client: &Client, questions: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for question in questions {
        all.extend(answers(client, question).await.with_context(|| question.clone())?);
    }
    Ok(all)
}

fn outside(place: &Path, questions: &[String]) -> Result<Vec<String>> {
    let file = place.with_extension("sql");
    fs::write(&file, questions.join(";\n"))?;
    querycli(&["--archive", place.to_str().context("no UTF-8")?], &file)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_release_archived_keeps_its_hours() -> Result<()> {
    let (database, client) = then("hours_then").await?;
    let (_other, fresh) = today("hours_fresh").await?;
    let all = [questions(FIRST, LAST), by_name()].concat();
    let expected = in_sql(&client, &all).await?;
    ensure!(expected.len() > 3000, "{} rows", expected.len());
    ensure!(expected != in_sql(&fresh, &all).await?, "the two calendars answer the same: nothing is tested");
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("archive");
    ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    same("with its file", &outside(&place, &all)?, &expected);
    // 0.1.0 shipped the calendar, so that its archive has no file of it
    as_format_1(&place)?;
    same("without", &outside(&place, &all)?, &expected);
    ended(&archive(&database, &place, &["verify", "--quick"])?.output()?, 0)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_several_versions_keep_each_their_hours() -> Result<()> {
    let (old_database, old) = then("hours_mixed_old").await?;
    let (new_database, new) = today("hours_mixed_new").await?;
    let folder = tempfile::tempdir()?;
    let (place, other) = (folder.path().join("old"), folder.path().join("new"));
    ended(&archive(&old_database, &place, &["push"])?.output()?, 0)?;
    ended(&archive(&new_database, &other, &["push"])?.output()?, 0)?;
    // the first Monday as it was archived then, the second and all after it as today
    for path in files(&other) {
        let name = path.strip_prefix(&other)?.to_string_lossy().into_owned();
        if name.starts_with("calendars/") || ["06-08", "06-09"].iter().any(|day| name.contains(day)) {
            let to = place.join(&name);
            for old in files(to.parent().context("no folder")?) {
                if !name.starts_with("calendars/")
                    && old.to_string_lossy().contains(MONDAYS[1])
                    && name.contains(MONDAYS[1])
                {
                    fs::remove_file(old)?;
                }
            }
            fs::copy(&path, &to)?;
        }
    }
    let bars = |first: &str, last: &str| questions(first, last)[..6].to_vec();
    let mut expected: Vec<Vec<String>> = Vec::new();
    for (before, after) in bars(FIRST, "2026-06-07").iter().zip(bars(MONDAYS[1], LAST)) {
        let mut rows = answers(&old, before).await?;
        rows.extend(answers(&new, &after).await?);
        expected.push(rows);
    }
    for (question, expected) in bars(FIRST, LAST).iter().zip(&expected) {
        same(question, &outside(&place, std::slice::from_ref(question))?, expected);
    }
    let trades = |first, last| questions(first, last)[11].clone();
    let mut expected = answers(&old, &trades(FIRST, "2026-06-07")).await?;
    expected.extend(answers(&new, &trades(MONDAYS[1], LAST)).await?);
    same("trades", &outside(&place, &[trades(FIRST, LAST)])?, &expected);
    // adopted in the database, its sessions have two versions, and the archive of it says what it says
    old.batch_execute("SELECT market.calendar_adopt('CME_CRYPTO'); SELECT market.calendar_publish('CME_CRYPTO')")
        .await?;
    let adopted = folder.path().join("adopted");
    ended(&archive(&old_database, &adopted, &["push"])?.output()?, 0)?;
    let versions = "SELECT 1 AS q, count(DISTINCT calendar_version) FROM sessions".to_owned();
    same("versions", &outside(&adopted, &[versions])?, &["1,2".to_owned()]);
    let all = [questions(FIRST, LAST), by_name()].concat();
    same("adopted", &outside(&adopted, &all)?, &in_sql(&old, &all).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_nobody_knows_are_an_error_and_not_other_hours() -> Result<()> {
    let (database, _client) = today("hours_unknown").await?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("archive");
    ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    let calendars = files(&place.join("calendars"));
    assert_eq!(calendars.len(), 1, "{calendars:?}");
    let name = calendars[0].file_name().context("no name")?.to_string_lossy().into_owned();
    assert!(name.starts_with("CME_CRYPTO@2-"), "what the library ships is filed too: {name}");
    as_format_1(&place)?;
    for path in files(&place.join("sessions")) {
        edited(&path, |text| text.replace("\"calendar_version\": 2", "\"calendar_version\": 7"))?;
    }
    let refused = |sql: &str| -> Result<String> {
        let mut command = std::process::Command::new(tests::program("querycli")?);
        command.args(["--archive", place.to_str().context("no UTF-8")?, "-c", sql]);
        let out = command.env_remove("BELLWETHER_DB").env_remove("BELLWETHER_ARCHIVE").output()?;
        ensure!(out.status.code() == Some(1), "{sql}: {}", String::from_utf8_lossy(&out.stdout));
        Ok(String::from_utf8(out.stderr)?)
    };
    for sql in [
        format!("SELECT * FROM session_ohlc('C', '1h', '{FIRST}', '{LAST}')"),
        "SELECT count(*), min(segment) FROM trades".into(),
    ] {
        let said = refused(&sql)?;
        assert!(
            said.contains(
                "was made with version 7 of calendar CME_CRYPTO, which this querycli does not know: it ships version 2"
            ),
            "{said}"
        );
    }
    // what needs no hours is told all the same
    let listed = "SELECT 1 AS q, min(calendar_version), count(*) > 5 FROM sessions".to_owned();
    same("listed", &outside(&place, &[listed])?, &["1,7,t".to_owned()]);
    // without the field it is no manifest
    let first = &files(&place.join("sessions"))[0];
    edited(first, |text| without(&text, "calendar_version"))?;
    assert!(refused("SELECT * FROM bars")?.contains("it is no manifest"));
    Ok(())
}
