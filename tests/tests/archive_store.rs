//! The archive in an object store, against a small server of objects that fails, lists page by page and has a clock of its own: the
//! promises of a folder, and no round trip for every session.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tests::archive::{SYMBOLS, archive, drop_trades, ended, facts, files, filled, killed, querycli, requests};
use tests::cluster::{self, Database};
use tests::s3::{KEY, SECRET, Store};
use tests::store::{self, Chance, put, same};
use tokio_postgres::Client;

const URL: &str = "s3://private/some/archive";
const BELOW: &str = "some/archive/";

/// A command that finds the server, as whoever it knows.
fn to(store: &Store, mut command: Command) -> Command {
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", store.port)).env("AWS_ALLOW_HTTP", "true");
    command.env("AWS_REGION", "us-east-1").env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
    command.env_remove("BELLWETHER_DB").env_remove("BELLWETHER_ARCHIVE");
    command
}

fn ask(store: &Store, database: &Database, action: &[&str], code: i32) -> Result<String> {
    ended(&to(store, archive(database, Path::new(URL), action)?).output()?, code)
}

fn alone(store: &Store, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(tests::program("querycli")?);
    command.args(arguments);
    Ok(to(store, command).output()?)
}

fn empty() -> Store {
    Store::with(BTreeMap::new())
}

/// The manifests that are there.
fn manifests(store: &Store) -> usize {
    store.objects("private").keys().filter(|key| key.starts_with("some/archive/sessions/")).count()
}

async fn count(client: &Client, sql: &str) -> Result<i64> {
    Ok(client.query_one(sql, &[]).await?.get(0))
}

const SESSIONS: &str = "SELECT count(DISTINCT (instrument_id, trade_date)) FROM market.session_bars";
const TOLD: &str = "SELECT count(*) FROM market.archived_sessions";

/// One instrument of a few sessions, whose symbol has characters that keys cannot have.
async fn few(name: &str) -> Result<(Database, Client)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    let id = store::instrument(&client, "BRK/B%", "XNYS").await?;
    let calendar = market::Calendar::builtin("XNYS")?;
    let mut chance = Chance::new(111);
    for day in store::sessions(&calendar, "2025-11-24", "2025-12-01")? {
        put(&client, id, &store::session_trades(&mut chance, &day, 40, true)).await?;
    }
    client.batch_execute("SELECT market.note_halt('BRK/B%', '2025-11-28 15:00+00', '2025-11-28 15:10+00')").await?;
    Ok((database, client))
}

/// Also by a server that fails one of seven requests, by 500, 503 or a connection that ends within the answer.
#[tokio::test(flavor = "multi_thread")]
async fn restore_puts_back_from_a_store_what_push_put_there() -> Result<()> {
    let (database, client) = filled("store_round", 120).await?;
    let before = facts(&client).await?;
    let sessions = count(&client, SESSIONS).await?;
    let store = empty();
    store.page(10);
    store.fail(7);
    let said = ask(&store, &database, &["push"], 0)?;
    assert!(said.contains(&format!("{sessions} sessions archived\n")), "{said}");
    let said = ask(&store, &database, &["push"], 0)?;
    assert!(said.starts_with(&format!("0 sessions archived, {sessions} there already")), "{said}");
    let place = format!("SELECT count(*) FROM market.archived_sessions WHERE location = '{URL}'");
    assert_eq!(count(&client, &place).await?, sessions);
    assert_eq!(count(&client, "SELECT count(*) FROM market.archive_pending()").await?, 0);
    let said = ask(&store, &database, &["verify"], 0)?;
    assert!(said.starts_with(&format!("{sessions} sessions with ")) && !said.contains("interrupted"), "{said}");
    drop_trades(&client).await?;
    let said = ask(&store, &database, &["restore"], 0)?;
    assert!(said.contains(&format!("{sessions} sessions restored")), "{said}");
    same("restored", &facts(&client).await?, &before);
    let other = cluster::database("store_other").await?;
    ask(&store, &other, &["restore"], 0)?;
    same("restored elsewhere", &facts(&other.client().await?).await?, &before);
    ensure!(store.requests().len() > 200);
    Ok(())
}

/// An archive in a folder, and the same files as objects.
async fn twice(name: &str) -> Result<(Database, Client, tempfile::TempDir, Store)> {
    let (database, client) = filled(name, 150).await?;
    client.batch_execute("SELECT market.note_halt('X', '2025-11-24 15:00+00', '2025-11-25 16:00+00', 'news')").await?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("archive");
    ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    let store = empty();
    for path in files(&place) {
        let name = path.strip_prefix(&place)?.to_str().context("no UTF-8")?.to_owned();
        store.put(&format!("private/{BELOW}{name}"), fs::read(&path)?);
    }
    Ok((database, client, folder, store))
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_a_store_are_those_over_a_folder() -> Result<()> {
    let (database, client, folder, store) = twice("store_answers").await?;
    let place = folder.path().join("archive");
    let mut statements: Vec<String> = Vec::new();
    for (number, request) in requests(&mut Chance::new(112), 200).into_iter().enumerate() {
        let sql = format!("SELECT {number} AS q, * FROM market.{request} AS b ORDER BY bar_at");
        if client.simple_query(&sql).await.is_ok() {
            statements.push(sql);
        }
    }
    for (symbol, calendar) in SYMBOLS {
        statements.extend([
            format!("SELECT 1 AS q, * FROM session_levels('{symbol}', '2025-11-28')"),
            format!("SELECT 1 AS q, * FROM session_flow('{symbol}', '30m', '2025-11-24', '2025-11-28')"),
            format!("SELECT 1 AS q, * FROM activity_ohlc('{symbol}', 'ticks', 25, '2025-11-21', '2025-11-25')"),
            format!(
                "SELECT 1 AS q, * FROM trades_between('{symbol}', '2025-11-24 15:00:00+00', '2025-11-26 18:30:00+00')"
            ),
            format!("SELECT 1 AS q, * FROM sessions('{calendar}', '2025-11-19', '2025-12-02', hours => 'actual')"),
            format!(
                "SELECT 1 AS q, bar_at, halted_seconds('{symbol}', bar_at, bar_end) AS halted
                 FROM session_ohlc('{symbol}', '1h', '2025-11-24', '2025-11-28') ORDER BY bar_at"
            ),
        ]);
    }
    statements.extend([
        "SELECT 2 AS q, * FROM trades WHERE trade_date = '2025-11-28' ORDER BY symbol, ts, ns, seq, sub".into(),
        "SELECT 2 AS q, symbol, trade_date, segment, count(*), sum(size) FROM trades GROUP BY 2, 3, 4 ORDER BY 2, 3, 4"
            .into(),
        "SELECT 2 AS q, * FROM bars ORDER BY symbol, trade_date, segment".into(),
        "SELECT 2 AS q, * FROM sessions ORDER BY symbol, trade_date".into(),
        "SELECT 2 AS q, * FROM instruments ORDER BY symbol".into(),
        "SELECT 2 AS q, symbol, count(*), min(trade_date) FROM sessions GROUP BY 2 ORDER BY 2".into(),
        "SELECT 2 AS q, id, symbol, sessions, first_date, last_date FROM instruments ORDER BY id".into(),
        "SELECT 2 AS q, count(*) FROM sessions WHERE symbol = 'X' AND trade_date > '2025-11-24'".into(),
    ]);
    let file = folder.path().join("statements.sql");
    fs::write(&file, statements.join(";\n"))?;
    let local = querycli(&["--archive", place.to_str().context("no UTF-8")?], &file)?;
    ensure!(local.len() > 20_000, "{} rows", local.len());
    let there = |arguments: &[&str]| -> Result<Vec<String>> {
        let script = file.to_str().context("no UTF-8")?;
        let text = ended(&alone(&store, &[arguments, &["--format", "csv", "-f", script]].concat())?, 0)?;
        Ok(text.lines().filter(|line| !line.starts_with("q,")).map(str::to_owned).collect())
    };
    same("over the store", &there(&["--archive", URL])?, &local);
    let bars = statements.len() - 8;
    fs::write(&file, statements[..bars].join(";\n"))?;
    let expected = querycli(&["--db", &database.url], &file)?;
    drop_trades(&client).await?;
    same("over both", &there(&["--db", &database.url, "--archive", URL])?, &expected);
    Ok(())
}

/// How many requests a question costs: no more than what it reads, and those at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_asks_the_store_for_what_it_needs() -> Result<()> {
    let (_database, client, _folder, store) = twice("store_requests").await?;
    let sessions = count(&client, SESSIONS).await? as usize;
    let asked = |arguments: &[&str]| -> Result<Vec<String>> {
        store.forget_requests();
        ended(&alone(&store, arguments)?, 0)?;
        let asked = store.requests();
        println!("{} requests: {}", asked.len(), arguments.join(" "));
        Ok(asked)
    };
    let of = |asked: &[String], what: &str| asked.iter().filter(|request| request.contains(what)).count();
    // one list of everything, and each manifest
    let listed = asked(&["archive", "list", "--archive", URL])?;
    assert_eq!(of(&listed, "GET "), sessions, "{listed:?}");
    assert!(listed.len() <= sessions + 3, "{listed:?}");
    // names tell it: no manifest is opened
    let counted =
        asked(&["--archive", URL, "-c", "SELECT symbol, count(*), max(trade_date) FROM sessions GROUP BY 1"])?;
    assert_eq!(of(&counted, "/sessions/symbol"), 0, "{counted:?}");
    assert!(counted.len() <= 8, "{counted:?}");
    // the day's manifest, the newest one, the day's minute bars
    let day = asked(&["--archive", URL, "-c", "SELECT * FROM session_ohlc('X', '1h', '2025-11-28', '2025-11-28')"])?;
    assert_eq!(
        (
            of(&day, "GET /private/some/archive/sessions/"),
            of(&day, "/minutes/"),
            of(&day, "GET /private/some/archive/trades/")
        ),
        (2, 1, 0),
        "{day:?}"
    );
    assert!(day.len() <= 11, "{day:?}");
    let all = asked(&["--archive", URL, "-c", "SELECT symbol, count(*), max(price) FROM trades GROUP BY 1"])?;
    assert_eq!(
        (of(&all, "/trades/"), of(&all, "GET /private/some/archive/sessions/")),
        (sessions, sessions),
        "{all:?}"
    );
    assert!(all.len() <= 2 * sessions + 14, "{all:?}");
    assert!(store.most_at_once() >= 4, "{}", store.most_at_once());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_store_that_is_killed_leaves_whole_sessions() -> Result<()> {
    let (database, client) = filled("store_kill", 40).await?;
    let total = count(&client, SESSIONS).await?;
    let store = empty();
    let mut kills = 0;
    for round in 0..8 {
        let before = store.objects("private").len();
        let (wanted, told) = (before + 1 + round * 3, count(&client, TOLD).await?);
        // at any object's appearance, or at what the database is told
        let done = async || match round % 3 {
            2 => Ok(count(&client, TOLD).await? > told),
            _ => Ok(store.objects("private").len() >= wanted),
        };
        kills += usize::from(killed(to(&store, archive(&database, Path::new(URL), &["push"])?), done).await?);
        if manifests(&store) > 0 {
            let said = ask(&store, &database, &["verify"], 0)?;
            assert!(!said.contains("broken"), "{said}");
        }
        // the database believes nothing that is not there
        let told = count(&client, TOLD).await? as usize;
        assert!(told <= manifests(&store), "{told} told");
    }
    assert!(kills > 2, "only {kills} pushes were killed before they ended");
    ask(&store, &database, &["push"], 0)?;
    store.pass(25);
    ask(&store, &database, &["prune"], 0)?;
    let said = ask(&store, &database, &["verify"], 0)?;
    assert!(said.starts_with(&format!("{total} sessions")) && !said.contains("interrupted"), "{said}");
    assert_eq!(count(&client, TOLD).await?, total);

    let before = facts(&client).await?;
    let other = cluster::database("store_kill_restore").await?;
    let reader = other.client().await?;
    let mut kills = 0;
    for wanted in (0..total).step_by(5) {
        let done = async || Ok(count(&reader, SESSIONS).await? > wanted);
        kills += usize::from(killed(to(&store, archive(&other, Path::new(URL), &["restore"])?), done).await?);
        let halves = "SELECT count(*) FROM (SELECT instrument_id, trade_date FROM market.trade_blocks
            EXCEPT SELECT instrument_id, trade_date FROM market.session_bars) AS h";
        assert_eq!(count(&reader, halves).await?, 0);
    }
    assert!(kills > 1, "only {kills} restores were killed before they ended");
    ask(&store, &other, &["restore"], 0)?;
    same("restored", &facts(&reader).await?, &before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_any_object_is_found() -> Result<()> {
    let (database, _client) = few("store_flip").await?;
    let store = empty();
    ask(&store, &database, &["push"], 0)?;
    let objects = store.objects("private");
    assert_eq!(objects.len(), 16, "{:?}", objects.keys());
    let mut chance = Chance::new(113);
    for (key, bytes) in &objects {
        let mut flipped = bytes.clone();
        let at = chance.within(0, bytes.len() as i64) as usize;
        flipped[at] ^= 1 << chance.within(0, 8);
        store.put(&format!("private/{key}"), flipped);
        let said = ended(&alone(&store, &["archive", "verify", "--archive", URL])?, 1)?;
        assert!(said.contains("broken   BRK/B% 2025-1"), "{key}: {said}");
        store.remove(&format!("private/{key}"));
        let said = ask(&store, &database, &["verify"], 1)?;
        assert!(said.contains("broken   BRK/B% 2025-1"), "{key}: {said}");
        store.put(&format!("private/{key}"), bytes.clone());
    }
    ask(&store, &database, &["verify"], 0)?;
    // what is gone or cut is seen by the next push, too, and put again
    let cut = objects.keys().find(|key| key.ends_with(".parquet")).context("no trades")?;
    let whole = objects[cut].clone();
    store.put(&format!("private/{cut}"), whole[..whole.len() - 1].to_vec());
    let said = ask(&store, &database, &["push"], 0)?;
    assert!(said.contains("1 session archived, 4 there already"), "{said}");
    assert_eq!(store.objects("private")[cut], whole);
    Ok(())
}

/// Without a lock, prune leaves alone what is younger than a day by the store's clock, and what no push can have written for ever.
#[tokio::test(flavor = "multi_thread")]
async fn prune_of_a_store_leaves_what_is_young_or_somebody_elses() -> Result<()> {
    let (database, client) = few("store_prune").await?;
    let store = empty();
    ask(&store, &database, &["push"], 0)?;
    let pushed = store.objects("private");
    let others = [
        "private/some/archive/readme.txt",
        "private/some/archive/trades/other.parquet",
        "private/some/archive/trades/symbol=X/trade_date=2025-11-28/report.parquet",
        "private/some/archive/logs/2025-11-28.json",
        "private/some/archive2/trades/symbol=X/trade_date=2025-11-28/00000000000000ff.parquet",
    ];
    others.iter().for_each(|name| store.put(name, b"of somebody else".to_vec()));
    let half = "private/some/archive/trades/symbol=X/trade_date=2025-11-28/00000000000000ff.parquet";
    store.put(half, b"of an interrupted push".to_vec());
    let said = ask(&store, &database, &["verify"], 0)?;
    assert!(said.contains("leftover trades/symbol=X/") && said.contains(", 1 file of interrupted pushes"), "{said}");
    let said = ask(&store, &database, &["prune"], 0)?;
    assert!(said.contains("0 sessions and 0 files of interrupted pushes removed"), "{said}");
    store.pass(2);
    let said = ask(&store, &database, &["prune", "--grace", "3h"], 0)?;
    assert!(said.contains(" 0 files "), "{said}");
    let said = ask(&store, &database, &["prune", "--grace", "1h", "--dry-run"], 0)?;
    assert!(said.contains("would go trades/symbol=X/"), "{said}");
    let said = ask(&store, &database, &["prune", "--grace", "90m"], 0)?;
    assert!(said.contains(" 1 file "), "{said}");
    let mut expected = pushed.clone();
    expected.extend(others.iter().map(|name| (name.replace("private/", ""), b"of somebody else".to_vec())));
    assert_eq!(store.objects("private"), expected);
    // a session that was sealed again leaves its old file to prune
    client
        .batch_execute(
            "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('BRK/B%', '2025-11-28 15:30+00', 99, 100, 1);
             SELECT market.seal('BRK/B%', '2025-11-28')",
        )
        .await?;
    ask(&store, &database, &["push"], 0)?;
    store.pass(26);
    let said = ask(&store, &database, &["prune"], 0)?;
    assert!(said.contains(" 2 files "), "{said}");
    let said = ask(&store, &database, &["prune", "--before", "2025-11-26"], 0)?;
    assert!(said.contains("2 sessions and 0 files"), "{said}");
    assert_eq!((manifests(&store), count(&client, TOLD).await?), (3, 3));
    ask(&store, &database, &["verify"], 0)?;
    Ok(())
}

/// A prune that saw no manifest of what an interrupted push left removes it while the next push writes the manifest: the database is
/// not told, and the push after that writes it anew. So with sessions that are pruned while a push finds them there.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_between_the_files_and_the_manifest_is_noticed() -> Result<()> {
    let (database, client) = few("store_between").await?;
    let store = empty();
    store.sabotage(Some(("PUT /private/some/archive/sessions/", ".parquet")));
    let said = ask(&store, &database, &["push"], 1)?;
    assert!(said.contains("it was written and is gone; was it pruned?") && said.contains("5 failed"), "{said}");
    assert_eq!(count(&client, TOLD).await?, 0);
    store.sabotage(None);
    ask(&store, &database, &["push"], 0)?;
    assert_eq!(count(&client, TOLD).await?, 5);
    ask(&store, &database, &["verify"], 0)?;
    // pruned while the push finds it there and tells the database so
    store.sabotage(Some(("GET /private/some/archive/sessions/symbol=BRK%2FB%25/2025-11-24.json", "2025-11-24.json")));
    let said = ask(&store, &database, &["push"], 1)?;
    assert!(said.contains("failed   BRK/B% 2025-11-24 was pruned meanwhile"), "{said}");
    assert!(said.contains("4 there already, 1 failed"), "{said}");
    assert_eq!(count(&client, TOLD).await?, 4);
    Ok(())
}

/// The same to Google Cloud Storage, as its client speaks.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_may_lie_at_google() -> Result<()> {
    let (database, client) = few("store_google").await?;
    let store = empty();
    let place = Path::new("gs://public/archive");
    let ask = |action: &[&str]| -> Result<String> {
        let mut command = to(&store, archive(&database, place, action)?);
        let account = format!(
            "{{\"gcs_base_url\": \"http://127.0.0.1:{}\", \"disable_oauth\": true, \"client_email\": \"\", \"private_key\": \"\", \"private_key_id\": \"\"}}",
            store.port
        );
        command.env("GOOGLE_SERVICE_ACCOUNT_KEY", account).env("GOOGLE_ALLOW_HTTP", "true");
        ended(&command.output()?, 0)
    };
    let before = facts(&client).await?;
    assert!(ask(&["push"])?.contains("5 sessions archived"));
    assert!(ask(&["verify"])?.starts_with("5 sessions with "));
    drop_trades(&client).await?;
    assert!(ask(&["restore"])?.contains("5 sessions restored"));
    same("restored", &facts(&client).await?, &before);
    store.put("public/archive/calendars/XNYS@9-00000000000000ff.toml", b"of an interrupted push".to_vec());
    assert!(ask(&["prune", "--grace", "0"])?.contains(" 1 file "));
    assert_eq!(store.objects("public").len(), 16);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_of_a_store_says_why() -> Result<()> {
    let (database, client) = few("store_wrong").await?;
    let store = empty();
    let check = |place: &str, action: &[&str], change: &[(&str, &str)], code: i32, expected: &str| -> Result<()> {
        let mut command = to(&store, archive(&database, Path::new(place), action)?);
        let out = command.envs(change.iter().copied()).output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        ensure!(out.status.code() == Some(code) && said.contains(expected), "{place}: {said}");
        ensure!(!said.contains(SECRET) && !said.contains("hunter2"), "{said}");
        Ok(())
    };
    check(URL, &["verify"], &[], 2, "there is no archive s3://private/some/archive")?;
    check(
        "ftp://private/archive",
        &["push"],
        &[],
        2,
        "the archive ftp://private/archive is of no kind querycli writes",
    )?;
    check("s3://me:hunter2@private/archive", &["push"], &[], 2, "there is a password in the name of the archive")?;
    let stranger = [("AWS_ACCESS_KEY_ID", "STRANGER")];
    check(URL, &["verify"], &stranger, 1, "s3://private/some/archive may not be listed: the store refuses")?;
    check(URL, &["push"], &stranger, 1, "may not be written: the store refuses")?;
    check(URL, &["push"], &stranger, 1, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION say who asks")?;
    assert_eq!(count(&client, TOLD).await?, 0);
    // a stroke at the end is no other archive
    ask(&store, &database, &["push"], 0)?;
    check(&format!("{URL}/"), &["push"], &[], 0, "0 sessions archived, 5 there already")?;
    check(URL, &["prune", "--grace", "soon"], &[], 2, "\"soon\" is no time; write it like 24h, 30m or 2d")?;
    Ok(())
}
