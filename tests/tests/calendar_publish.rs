//! A calendar is changed while trades are stored under it: exactly the sessions it changes are built anew, and the answers
//! are those of a database in which the new calendar was there from the start.

use anyhow::{Result, ensure};
use market::{Calendar, Trade, TradeDate, Trades};
use std::collections::{BTreeMap, BTreeSet};
use tests::cluster::{self, Database};
use tests::store::{self, Chance, TICK, insert, put, seal, state, texts, verify, view};
use tokio_postgres::Client;

/// A calendar of the user's own, so that no correction of a shipped one moves what is expected here.
const ACME: &str = r#"schema = 1
id = "ACME"
aliases = ["ACME_ALL"]
tz = "America/New_York"
main = "RTH"
known = [2025-11-01, 2025-12-31]
[[hours]]
days = "mon-fri"
PRE  = "04:00-09:30"
RTH  = "09:30-16:00"
POST = "16:00-20:00"
[holidays]
"Thanksgiving" = "4th thu nov"
"Christmas" = "dec 25"
"#;

const FIRST: &str = "2025-11-20";
const LAST: &str = "2025-12-05";

async fn publish(client: &Client, toml: &str) -> Result<Vec<String>> {
    client.query_one("SELECT market.calendar_define($1)", &[&toml]).await?;
    texts(client, "SELECT * FROM market.calendar_publish('ACME')").await
}

/// Bars without their state, which says how often they were made.
async fn answers(client: &Client, symbol: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (timeframe, segments) in
        [("1m", "ALL"), ("30s", "ETH"), ("1h", "RTH"), ("1d", "RTH"), ("1d", "ALL"), ("1d", "OFF"), ("1w", "ALL")]
    {
        let sql = format!(
            "SELECT trade_date, bar_at, bar_end, open, high, low, close, volume, trades, vwap
             FROM market.session_ohlc('{symbol}', '{timeframe}', '{FIRST}', '{LAST}', segments => '{segments}') ORDER BY 2"
        );
        all.extend(texts(client, &sql).await?.into_iter().map(|row| format!("{timeframe} {segments} {row}")));
    }
    ensure!(all.len() > 1000, "too little to compare");
    Ok(all)
}

/// The trades of the old calendar's sessions, and some at instants that the edits below carry to other dates.
fn trades(seed: u64, calendar: &Calendar) -> Result<Vec<Trade>> {
    let mut chance = Chance::new(seed);
    let mut all = BTreeMap::new();
    for session in calendar.sessions(TradeDate::parse(FIRST)?, TradeDate::parse(LAST)?)? {
        for trade in store::session_trades(&mut chance, &session, 300, true).iter() {
            // outside the hours there are only the three below
            if session.segment_at(trade.ts) != market::Segment::Off {
                all.insert(trade.key(), trade);
            }
        }
    }
    for (nanos, seq) in [
        (1_764_252_000_000_000_000, 1), // Thanksgiving, 2025-11-27 09:00 New York
        (1_764_432_000_000_000_000, 2), // Saturday, 2025-11-29 11:00
        (1_764_034_200_000_000_000, 3), // Monday, 2025-11-24 20:30, before the roll
    ] {
        let trade = Trade { ts: nanos, seq, price: 123 * TICK, size: market::money::ONE, ..Trade::default() };
        all.insert(trade.key(), trade);
    }
    Ok(all.into_values().collect())
}

/// Stores trades: most sealed, some late, one of them busted after it was sealed.
async fn load(client: &Client, id: i32, symbol: &str, calendar: &Calendar, trades: &[Trade]) -> Result<()> {
    let late = |at: usize| at % 41 == 7;
    let (mut sealed, mut rows) = (BTreeMap::<TradeDate, Trades>::new(), Vec::new());
    for (at, trade) in trades.iter().enumerate() {
        match late(at) {
            true => rows.push(*trade),
            false => sealed.entry(calendar.trade_date(trade.ts)?).or_default().push(*trade),
        }
    }
    for trades in sealed.values() {
        put(client, id, trades).await?;
    }
    insert(client, id, &rows).await?;
    for at in (10..trades.len()).step_by(503).filter(|at| !late(*at)) {
        let t = trades[at];
        let sql = format!(
            "SELECT market.bust_trade('{symbol}', timestamptz 'epoch' + {} * interval '1 microsecond', {}, ns => {}::int2, sub => {}::int2)",
            t.ts.div_euclid(1000),
            t.seq,
            t.ts.rem_euclid(1000),
            t.sub
        );
        assert_eq!(texts(client, &sql).await?, ["t"], "{sql}");
    }
    Ok(())
}

/// Every stored row of every session, by where it lies and who wrote it: a row that was written anew differs.
async fn marks(client: &Client) -> Result<BTreeMap<(i32, String), Vec<String>>> {
    let mut all: BTreeMap<(i32, String), Vec<String>> = BTreeMap::new();
    let rows = client
        .query(
            "SELECT instrument_id, trade_date::text, 'block ' || part || ' ' || tableoid::regclass || ctid || xmin FROM market.trade_blocks
             UNION ALL SELECT instrument_id, trade_date::text, 'minutes ' || tableoid::regclass || ctid || xmin FROM market.bar_blocks
             UNION ALL SELECT instrument_id, trade_date::text, 'bar ' || segment || ctid || xmin || revision FROM market.session_bars
             ORDER BY 1, 2, 3",
            &[],
        )
        .await?;
    for row in rows {
        all.entry((row.get(0), row.get(1))).or_default().push(row.get(2));
    }
    Ok(all)
}

fn rebuilt(
    before: &BTreeMap<(i32, String), Vec<String>>,
    after: &BTreeMap<(i32, String), Vec<String>>,
) -> Vec<(i32, String)> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(key) != after.get(key)).cloned().collect()
}

fn same(what: &str, found: &[String], expected: &[String]) {
    for (at, (f, e)) in found.iter().zip(expected).enumerate() {
        assert_eq!(f, e, "{what}: row {at} of {}", expected.len());
    }
    assert_eq!(found.len(), expected.len(), "{what}: rows");
}

struct Loaded {
    _database: Database,
    client: Client,
    trades: Vec<Trade>,
}

/// ACME in force, X and Y trading on it, Z on New York's shipped calendar.
async fn loaded(name: &str) -> Result<Loaded> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    let old = Calendar::from_toml(ACME)?;
    publish(&client, ACME).await?;
    let trades = trades(5, &old)?;
    for symbol in ["X", "Y"] {
        let id = store::instrument(&client, symbol, "ACME").await?;
        load(&client, id, symbol, &old, &trades).await?;
    }
    let id = store::instrument(&client, "Z", "XNYS").await?;
    load(&client, id, "Z", &Calendar::builtin("XNYS")?, &trades).await?;
    Ok(Loaded { _database: database, client, trades })
}

/// What a database answers in which the calendar was there from the start.
async fn from_the_start(name: &str, toml: &str, trades: &[Trade]) -> Result<(Vec<String>, Vec<String>)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    publish(&client, toml).await?;
    let id = store::instrument(&client, "X", "ACME").await?;
    load(&client, id, "X", &Calendar::from_toml(toml)?, trades).await?;
    Ok((answers(&client, "X").await?, view(&client, "X").await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn calendar_publish_rebuilds_only_what_changed() -> Result<()> {
    let edits: [(&str, String, &[&str]); 7] = [
        (
            "a new holiday gives its trades to the next session",
            ACME.replace("[holidays]", "[closed]\n\"2025-12-02\" = \"flood\"\n[holidays]"),
            &["2025-12-02", "2025-12-03"],
        ),
        (
            "an early close gives what came after it to the next session",
            format!("{ACME}[[special]]\non = \"2025-12-03\"\nRTH = \"09:30-13:00\"\nPOST = \"13:00-17:00\"\n"),
            &["2025-12-03", "2025-12-04"],
        ),
        (
            "hours corrected in the past build those days alone",
            ACME.replace(
                "[holidays]",
                "[[hours]]\ndays = \"mon-fri\"\nfrom = 2025-11-24\nto = 2025-11-26\nPRE = \"04:00-09:00\"\nRTH = \"09:00-16:00\"\nPOST = \"16:00-20:00\"\n[holidays]",
            ),
            &["2025-11-24", "2025-11-25", "2025-11-26"],
        ),
        (
            "a holiday that was none takes its trades back",
            ACME.replace("\"Thanksgiving\" = \"4th thu nov\"\n", ""),
            &["2025-11-27", "2025-11-28"],
        ),
        (
            "a Saturday session takes its trades from Monday",
            format!("{ACME}[[special]]\non = \"2025-11-29\"\nopen_day = true\nRTH = \"10:00-12:00\"\n"),
            &["2025-11-29", "2025-12-01"],
        ),
        (
            "another roll moves the trade between the two, and the ends of bars outside the hours",
            ACME.replace("POST = \"16:00-20:00\"", "POST = \"16:00-20:00\"\nroll = \"20:00\""),
            &["2025-11-24", "2025-11-25", "2025-11-28", "2025-12-01"],
        ),
        ("another name changes nothing", ACME.replace("tz =", "name = \"Acme\"\ntz ="), &[]),
    ];
    let Loaded { client, trades, _database } = loaded("publish_only").await?;
    let first = (answers(&client, "X").await?, view(&client, "X").await?);
    let other = (answers(&client, "Z").await?, view(&client, "Z").await?);
    for (at, (claim, toml, dates)) in edits.iter().enumerate() {
        let before = marks(&client).await?;
        client.query_one("SELECT market.calendar_define($1)", &[toml]).await?;
        let preview = texts(&client, "SELECT symbol, trade_date FROM market.calendar_preview('ACME')").await?;
        let expected: Vec<String> =
            ["X", "Y"].iter().flat_map(|s| dates.iter().map(move |d| format!("{s}|{d}"))).collect();
        assert_eq!(preview, expected, "{claim}: preview");
        assert!(rebuilt(&before, &marks(&client).await?).is_empty(), "{claim}: a preview writes nothing");

        client.batch_execute("SELECT market.calendar_publish('ACME')").await?;
        let after = marks(&client).await?;
        let expected: Vec<(i32, String)> =
            [1, 2].iter().flat_map(|id| dates.iter().map(|d| (*id, (*d).to_owned()))).collect();
        assert_eq!(rebuilt(&before, &after), expected, "{claim}");
        let fresh = from_the_start("publish_fresh", toml, &trades).await?;
        for symbol in ["X", "Y"] {
            same(claim, &answers(&client, symbol).await?, &fresh.0);
            same(claim, &view(&client, symbol).await?, &fresh.1);
            same(claim, &verify(&client, symbol).await?, &[]);
        }
        same(claim, &answers(&client, "Z").await?, &other.0);
        let version = 2 * at as i32 + 2;
        let stored = texts(
            &client,
            &format!(
                "SELECT DISTINCT trade_date FROM market.session_bars WHERE calendar_version = {version} ORDER BY 1"
            ),
        )
        .await?;
        let kept: Vec<&str> = dates.iter().copied().filter(|d| after.contains_key(&(1, (*d).to_owned()))).collect();
        assert_eq!(stored, kept, "{claim}: version of the bars");

        // and back: the old version is still there to be taken
        client.query_one("SELECT market.calendar_define(market.calendar_toml('ACME@1'))", &[]).await?;
        client.batch_execute("SELECT market.calendar_publish('ACME_ALL')").await?;
        for symbol in ["X", "Y"] {
            same(claim, &answers(&client, symbol).await?, &first.0);
            same(claim, &view(&client, symbol).await?, &first.1);
            same(claim, &verify(&client, symbol).await?, &[]);
        }
    }
    same("Z's trades", &view(&client, "Z").await?, &other.1);
    assert_eq!(texts(&client, "SELECT count(*) FROM market.dead_letters").await?, ["0"]);
    let log = texts(
        &client,
        "SELECT by_user, detail->>'calendar', detail->>'old_version', detail->>'new_version', detail->>'vanished', detail->>'sessions_rebuilt'
         FROM market.audit_log WHERE action = 'calendar_publish' ORDER BY id LIMIT 2",
    )
    .await?;
    assert_eq!(log, ["postgres|ACME|-|1|0|0", "postgres|ACME|1|2|1|4"]);
    Ok(())
}

/// The exceptions' way: one row a day, on a shipped calendar; taken back by deleting the row.
#[tokio::test]
async fn an_exception_of_a_shipped_calendar_is_published_and_taken_back() -> Result<()> {
    let database = cluster::database("publish_except").await?;
    let client = database.client().await?;
    let id = store::instrument(&client, "X", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    load(&client, id, "X", &calendar, &trades(6, &Calendar::from_toml(ACME)?)?).await?;
    let before = (answers(&client, "X").await?, view(&client, "X").await?, marks(&client).await?);
    let version = calendar.version();
    let row = "INSERT INTO market.calendar_exceptions (calendar, trade_date, toml, note) VALUES ('NYSE', '2025-12-02', 'closed = true', 'flood')";
    client.batch_execute(row).await?;
    // nothing has changed yet, but for who asks for the draft
    same("draft", &answers(&client, "X").await?, &before.0);
    let asked = "SELECT market.is_session('2025-12-02', 'XNYS'), market.is_session('2025-12-02', 'XNYS@draft')";
    assert_eq!(texts(&client, asked).await?, ["t|f"]);
    let diff = "SELECT trade_date, change FROM market.calendar_diff('XNYS', 'XNYS@draft') WHERE change <> 'rewindowed'";
    assert_eq!(texts(&client, diff).await?, ["2025-12-02|vanished"]);
    let other = database.client().await?;
    assert_eq!(texts(&other, "SELECT market.is_session('2025-12-02', 'XNYS')").await?, ["t"]);
    client.batch_execute("SELECT market.calendar_publish('XNYS', 'the river rose')").await?;
    // every backend knows at once; the old version stays answerable
    for client in [&client, &other] {
        let asked = format!(
            "SELECT market.is_session('2025-12-02', 'XNYS'), market.is_session('2025-12-02', 'XNYS@{version}'), market.trade_date('2025-12-02 15:00+00', 'NYSE')"
        );
        assert_eq!(texts(client, &asked).await?, ["f|t|2025-12-03"]);
        let listed = format!("SELECT version - {version} FROM market.calendars WHERE id = 'XNYS'");
        assert_eq!(texts(client, &listed).await?, ["1"]);
    }
    let changed: BTreeSet<String> =
        rebuilt(&before.2, &marks(&client).await?).into_iter().map(|(_, date)| date).collect();
    assert_eq!(changed, BTreeSet::from(["2025-12-02".to_owned(), "2025-12-03".to_owned()]));
    same("verify", &verify(&client, "X").await?, &[]);
    // querycli asks the database which calendar is in force
    let bars = format!(
        "SELECT trade_date, open, high, low, close, volume, trades FROM market.session_ohlc('X', '1d', date '{FIRST}', date '{LAST}') ORDER BY 1"
    );
    let mut engines = Vec::new();
    for sql in [
        format!(
            "SELECT market.is_session(date '2025-12-02', 'XNYS'), market.is_session(date '2025-12-02', 'XNYS@{version}')"
        ),
        format!(
            "SELECT trade_date, segment, opens_at FROM market.sessions('NYSE', date '{FIRST}', date '{LAST}') ORDER BY 3"
        ),
        bars,
    ] {
        use sqllogictest::{AsyncDB, DBOutput};
        let postgres = tests::slt::Postgres::connect(&database).await?.run(&sql).await?;
        let querycli = tests::slt::QueryCli::new(&database).run(&sql).await?;
        let (DBOutput::Rows { rows: a, .. }, DBOutput::Rows { rows: b, .. }) = (postgres, querycli) else {
            anyhow::bail!("no rows: {sql}")
        };
        assert_eq!(a, b, "{sql}");
        engines.push(a);
    }
    assert_eq!(engines[0], [["false", "true"]]);
    ensure!(engines[2].len() == 10, "eleven sessions less one");
    let nothing = client.batch_execute("SELECT market.calendar_publish('XNYS')").await;
    assert_eq!(state(nothing)?, "55000");
    client.batch_execute("DELETE FROM market.calendar_exceptions; SELECT market.calendar_publish('XNYS')").await?;
    same("taken back", &answers(&client, "X").await?, &before.0);
    same("taken back", &view(&client, "X").await?, &before.1);
    let frozen = client.batch_execute("UPDATE market.calendar_versions SET toml = ''").await;
    assert_eq!(state(frozen)?, "55000");
    Ok(())
}

#[tokio::test]
async fn a_publish_that_is_rolled_back_leaves_no_trace() -> Result<()> {
    let Loaded { client, _database, .. } = loaded("publish_rollback").await?;
    let before = (answers(&client, "X").await?, view(&client, "X").await?, marks(&client).await?);
    let closed = ACME.replace("[holidays]", "[closed]\n\"2025-12-02\" = \"flood\"\n[holidays]");
    client.batch_execute("BEGIN").await?;
    publish(&client, &closed).await?;
    assert_eq!(texts(&client, "SELECT market.is_session('2025-12-02', 'ACME')").await?, ["f"]);
    assert!(answers(&client, "X").await? != before.0);
    client.batch_execute("ROLLBACK").await?;
    assert_eq!(texts(&client, "SELECT market.is_session('2025-12-02', 'ACME')").await?, ["t"]);
    same("bars", &answers(&client, "X").await?, &before.0);
    same("trades", &view(&client, "X").await?, &before.1);
    assert!(rebuilt(&before.2, &marks(&client).await?).is_empty());
    // the same number, another content: nobody keeps what was never committed
    let moved = ACME.replace("[holidays]", "[closed]\n\"2025-12-04\" = \"flood\"\n[holidays]");
    publish(&client, &moved).await?;
    let asked = "SELECT market.is_session('2025-12-02', 'ACME'), market.is_session('2025-12-04', 'ACME'), market.is_session('2025-12-04', 'ACME@2')";
    assert_eq!(texts(&client, asked).await?, ["t|f|f"]);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// Whoever files trades while a calendar is published files them under the new one, whichever of the two comes first.
#[tokio::test(flavor = "multi_thread")]
async fn writers_and_a_publish_do_not_pass_each_other() -> Result<()> {
    let Loaded { client, _database, trades } = loaded("publish_race").await?;
    let closed = ACME.replace("[holidays]", "[closed]\n\"2025-12-02\" = \"flood\"\n[holidays]");
    let old = Calendar::from_toml(ACME)?;
    let mut fresh: Vec<Trade> = Vec::new();
    let day = old.session(TradeDate::parse("2025-12-02")?)?.expect("a session of the old calendar");
    for n in 0..50 {
        let ts = day.spans.to_vec()[1].open + n * 60_000_000_000 + 77;
        fresh.push(Trade { ts, seq: 900 + n, price: 50 * TICK, size: market::money::ONE, ..Trade::default() });
    }
    let (put_ones, row_ones) = fresh.split_at(25);
    let reader = _database.client().await?;
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let snapshot = (answers(&reader, "X").await?, view(&reader, "X").await?);

    client.batch_execute("BEGIN").await?;
    publish(&client, &closed).await?;
    // a writer that knows the old calendar waits, a plain insert does not
    let writer = _database.client().await?;
    let id = texts(&writer, "SELECT market.instrument_id('X')").await?[0].parse::<i32>()?;
    let payload: Trades = put_ones.iter().copied().collect();
    let waiting = tokio::spawn(async move { put(&writer, id, &payload).await });
    let inserter = _database.client().await?;
    insert(&inserter, id, row_ones).await?;
    while texts(
        &inserter,
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
    )
    .await?
        != ["1"]
    {
        tokio::task::yield_now().await;
    }
    // a reader neither waits nor sees half of it
    same("while it runs", &answers(&reader, "X").await?, &snapshot.0);
    client.batch_execute("COMMIT").await?;
    assert_eq!(waiting.await??.added, 25);
    same("an old snapshot has its calendar", &answers(&reader, "X").await?, &snapshot.0);
    same("an old snapshot has its calendar", &view(&reader, "X").await?, &snapshot.1);
    reader.batch_execute("COMMIT").await?;

    assert_eq!(
        texts(
            &client,
            "SELECT count(*) FROM market.trade_blocks WHERE trade_date = '2025-12-02' AND instrument_id = 1"
        )
        .await?,
        ["0"]
    );
    let next = Calendar::from_toml(&closed)?;
    seal(&client, "X", &next.session(TradeDate::parse("2025-12-03")?)?.expect("a session")).await?;
    let mut all = trades.clone();
    all.extend(fresh.iter().copied());
    all.sort_by_key(Trade::key);
    let database = cluster::database("publish_race_fresh").await?;
    let expected = database.client().await?;
    publish(&expected, &closed).await?;
    let id = store::instrument(&expected, "X", "ACME").await?;
    load(&expected, id, "X", &next, &trades).await?;
    insert(&expected, id, &fresh).await?;
    for client in [&client, &reader] {
        same("bars", &answers(client, "X").await?, &answers(&expected, "X").await?);
        same("trades", &view(client, "X").await?, &view(&expected, "X").await?);
    }
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_wrong_is_refused_with_its_line() -> Result<()> {
    let database = cluster::database("publish_hostile").await?;
    let client = database.client().await?;
    let days: String = (0..5000).map(|n| format!("\"1900-01-0{}..2199-12-31\" = \"x\"\n", 1 + n % 9)).collect();
    let hours = "[[hours]]\ndays = \"mon\"\nRTH = \"09:00-10:00\"\n".repeat(300);
    for (what, toml, reason) in [
        ("unknown key", ACME.replace("main =", "mian ="), "line 5: unknown key \"mian\"; did you mean \"main\"?"),
        ("overlap", ACME.replace("16:00-20:00", "15:00-20:00"), "line 7: RTH and POST overlap"),
        ("absurd offset", ACME.replace("\"16:00-20:00\"", "\"16:00-20:00+9d\""), "line 11:"),
        ("sessions that overlap", ACME.replace("\"16:00-20:00\"", "\"16:00-20:00+3d\""), "opens before"),
        (
            "endless closures",
            format!("{ACME}[closed_lists]\n\"all\" = [{}]\n", days.replace(" = \"x\"\n", ",")),
            "more than 200000 days",
        ),
        ("many rows", ACME.replace("[holidays]", &format!("{hours}[holidays]")), "line 7: 301 rows [[hours]]"),
        ("10 MB", format!("{ACME}{}", "# nothing\n".repeat(1 << 20)), "line "),
        ("deep", format!("{ACME}x = {}", "[".repeat(100_000)), "line 15"),
        ("not TOML", "<calendar/>".to_owned(), "line 1"),
        ("a name of another", ACME.replace("ACME_ALL", "NYSE"), "is a name of calendar XNYS"),
        ("nothing", String::new(), "\"schema\" is missing"),
    ] {
        let error = client.query_one("SELECT market.calendar_define($1)", &[&toml]).await.expect_err(what);
        let error = error.as_db_error().expect("an answer of the server");
        let expected = if what == "a name of another" { "42710" } else { "22023" };
        assert_eq!(error.code().code(), expected, "{what}: {error}");
        assert!(error.message().contains(reason), "{what}: {}", error.message().chars().take(300).collect::<String>());
    }
    for (what, sql, code) in [
        ("no such calendar", "SELECT market.calendar_publish('NYES')", "42704"),
        ("no such version", "SELECT market.trade_date('2025-12-02', 'XNYS@99')", "42704"),
        ("no draft", "SELECT market.calendar_toml('XNYS@draft')", "42704"),
        ("nothing to publish", "SELECT market.calendar_publish('XNYS')", "55000"),
        ("no hours", "SELECT market.calendar_except('XNYS', '2025-12-02', 'banana = true')", "22023"),
        ("no time", "SELECT market.calendar_except('XNYS', '2025-12-02', 'RTH = \"25:00-26:00\"')", "22023"),
        ("not known", "SELECT market.calendar_except('XNYS', '2225-12-02', 'closed = true')", "22008"),
        ("hours", "SELECT * FROM market.sessions('XNYS', '2025-12-02', '2025-12-02', hours => 'real')", "22023"),
    ] {
        assert_eq!(state(client.batch_execute(sql).await)?, code, "{what}");
    }
    assert_eq!(texts(&client, "SELECT count(*) FROM market.calendar_versions").await?, ["0"]);
    assert_eq!(texts(&client, "SELECT count(*) FROM market.calendar_exceptions").await?, ["0"]);
    Ok(())
}

/// A range that no longer covers stored trades, and bars whose trades are gone, stop a publish with a reason.
#[tokio::test]
async fn a_publish_loses_no_trades() -> Result<()> {
    let Loaded { client, _database, .. } = loaded("publish_lost").await?;
    let before = marks(&client).await?;
    client.query_one("SELECT market.calendar_define($1)", &[&ACME.replace("2025-12-31", "2025-12-03")]).await?;
    assert_eq!(state(client.batch_execute("SELECT market.calendar_publish('ACME')").await)?, "22008");
    assert!(rebuilt(&before, &marks(&client).await?).is_empty());
    client.batch_execute("DELETE FROM market.trade_blocks WHERE trade_date = '2025-11-24'").await?;
    let hours = ACME.replace("09:30", "09:00");
    client.query_one("SELECT market.calendar_define($1)", &[&hours]).await?;
    let refused = client.batch_execute("SELECT market.calendar_publish('ACME')").await.expect_err("bars would stay");
    let refused = refused.as_db_error().expect("an answer of the server");
    assert_eq!(refused.code().code(), "55000");
    assert!(refused.message().contains("2025-11-24") && refused.message().contains("no longer stored"), "{refused}");
    Ok(())
}

/// A halt shows in the actual hours and leaves the schedule, the bars and their grid alone.
#[tokio::test]
async fn a_halt_does_not_touch_the_schedule() -> Result<()> {
    let Loaded { client, _database, .. } = loaded("publish_halt").await?;
    let before = answers(&client, "X").await?;
    client
        .batch_execute(
            "INSERT INTO market.calendar_exceptions (calendar, trade_date, kind, from_ts, till_ts, note, source)
             VALUES ('ACME', '2025-12-02', 'halt', '2025-12-02 15:00+00', '2025-12-02 15:15+00', 'circuit breaker', 'feed');
             SELECT market.note_halt('X', '2025-12-02 16:00+00', note => 'news');
             SELECT market.note_halt('X', '2025-12-02 16:00+00', '2025-12-02 16:05+00')",
        )
        .await?;
    let hours = |hours: &str| {
        format!(
            "SELECT opens_at, closes_at, irregular, note FROM market.sessions('ACME', '2025-12-02', '2025-12-02', 'RTH', hours => '{hours}')"
        )
    };
    let scheduled = ["2025-12-02 14:30:00+00|2025-12-02 21:00:00+00|f|-"];
    assert_eq!(texts(&client, &hours("scheduled")).await?, scheduled);
    let actual = [
        "2025-12-02 14:30:00+00|2025-12-02 15:00:00+00|t|circuit breaker",
        "2025-12-02 15:15:00+00|2025-12-02 21:00:00+00|t|circuit breaker",
    ];
    assert_eq!(texts(&client, &hours("actual")).await?, actual);
    same("bars", &answers(&client, "X").await?, &before);
    let halts = "SELECT trade_date, instrument_id, from_ts, till_ts, note, source FROM market.calendar_exceptions ORDER BY from_ts";
    assert_eq!(
        texts(&client, halts).await?,
        [
            "2025-12-02|-|2025-12-02 15:00:00+00|2025-12-02 15:15:00+00|circuit breaker|feed",
            "2025-12-02|1|2025-12-02 16:00:00+00|2025-12-02 16:05:00+00|news|feed"
        ]
    );
    // a halt is nothing to publish
    assert_eq!(state(client.batch_execute("SELECT market.calendar_publish('ACME')").await)?, "55000");
    Ok(())
}

#[tokio::test]
async fn only_admins_change_calendars() -> Result<()> {
    let Loaded { client, _database, .. } = loaded("publish_roles").await?;
    let closed = ACME.replace("[holidays]", "[closed]\n\"2025-12-02\" = \"flood\"\n[holidays]");
    for role in ["market_reader", "market_writer"] {
        client.batch_execute(&format!("SET ROLE {role}")).await?;
        let define = client.query_one("SELECT market.calendar_define($1)", &[&closed]).await;
        assert_eq!(state(define)?, "42501", "{role}");
        assert_eq!(state(client.batch_execute("SELECT market.calendar_publish('ACME')").await)?, "42501", "{role}");
        assert_eq!(texts(&client, "SELECT market.is_session('2025-12-02', 'ACME')").await?, ["t"], "{role}");
        client.batch_execute("RESET ROLE").await?;
    }
    client.batch_execute("SET ROLE market_admin").await?;
    publish(&client, &closed).await?;
    assert_eq!(texts(&client, "SELECT market.is_session('2025-12-02', 'ACME')").await?, ["f"]);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// A bar outside the hours is as long as its session's window, also where its trades count for prices alone.
#[tokio::test]
async fn bars_outside_the_hours_follow_the_roll_whatever_their_trades_count_for() -> Result<()> {
    let database = cluster::database("publish_outside").await?;
    let client = database.client().await?;
    publish(&client, ACME).await?;
    let id = store::instrument(&client, "X", "ACME").await?;
    // Tuesday, 2025-11-25 03:00 New York
    let (ts, flags) = (1_764_057_600_000_000_000, market::flags::NO_VOLUME);
    let trade = Trade { ts, seq: 1, price: 123 * TICK, size: market::money::ONE, flags, ..Trade::default() };
    put(&client, id, &[trade].into_iter().collect()).await?;
    let opens = "SELECT segment, opens_at AT TIME ZONE 'America/New_York' FROM market.session_bars";
    assert_eq!(texts(&client, opens).await?, ["OFF|2025-11-24 21:00:00"]);
    publish(&client, &ACME.replace("POST = \"16:00-20:00\"", "POST = \"16:00-20:00\"\nroll = \"20:00\"")).await?;
    assert_eq!(texts(&client, opens).await?, ["OFF|2025-11-24 20:00:00"]);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}
