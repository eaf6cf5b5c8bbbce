//! A library that ships other sessions than the release before it: what was in force stays in force, until it is adopted.

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt as _, TryStreamExt as _};
use market::{Calendar, Trade, TradeDate};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use tests::cluster::{self, Database, cluster};
use tests::released;
use tests::root;
use tests::store::{self, Chance, same, state, texts, verify, view};
use tokio_postgres::Client;

/// All that stored sessions and plain answers depend on. Names, notes and sources do not count; an auction inside the regular
/// hours is only shown.
fn fingerprint(calendar: &Calendar) -> Result<u64> {
    let mut text = format!("{} {} {}", calendar.time_zone(), calendar.main(), calendar.grace());
    let (first, last) = calendar.known();
    for s in calendar.sessions(first, last)? {
        write!(
            text,
            "\n{} {} {} {} {:?} {} {} {} {:?} {:?}",
            s.trade_date,
            s.clearing_date,
            s.from,
            s.till,
            s.spans.to_vec(),
            s.restart_at_segments,
            s.open_auction_from,
            s.close_auction_until,
            s.break_auction,
            calendar.week_start(s.trade_date)
        )?;
    }
    Ok(xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

/// The calendar files of a folder.
fn files(folder: &std::path::Path) -> Result<Vec<Calendar>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            all.push(Calendar::from_toml(&fs::read_to_string(&path)?)?);
        }
    }
    all.sort_by(|a, b| a.id().cmp(b.id()));
    Ok(all)
}

/// The releases that an upgrade begins at.
fn releases() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join("sql/upgrade"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        all.extend(name.split("--").nth(1).map(str::to_owned));
    }
    ensure!(!all.is_empty(), "no upgrades");
    Ok(all)
}

/// `BELLWETHER_FREEZE_CALENDARS=FOLDER`, a release's calendars, writes the list of what it shipped.
#[test]
fn a_calendar_whose_sessions_differ_from_the_released_has_a_higher_version_and_its_old_text_is_kept() -> Result<()> {
    for release in releases()? {
        let folder = root().join("sql/released").join(&release).join("calendars");
        let list = folder.join("sessions.txt");
        if let Some(from) = std::env::var_os("BELLWETHER_FREEZE_CALENDARS") {
            let mut text = String::new();
            for calendar in files(from.as_ref())? {
                writeln!(text, "{} {} {:016x}", calendar.id(), calendar.version(), fingerprint(&calendar)?)?;
            }
            fs::write(&list, text)?;
        }
        let list = fs::read_to_string(&list)?;
        ensure!(list.lines().count() > 100, "{release} shipped more calendars");
        let mut kept: BTreeMap<String, Calendar> = BTreeMap::new();
        for calendar in files(&folder)? {
            kept.insert(calendar.id().to_owned(), calendar);
        }
        for line in list.lines() {
            let mut words = line.split(' ');
            let (id, version) = (words.next().context("an id")?, words.next().context("a version")?);
            let (version, shipped) = (version.parse::<u32>()?, words.next().context("a fingerprint")?);
            let now =
                Calendar::builtin(id).with_context(|| format!("{release} shipped {id}, and its trades are stored"))?;
            let old = kept.remove(id);
            if format!("{:016x}", fingerprint(&now)?) == shipped {
                ensure!(old.is_none(), "{id} has the sessions of {release}: nothing to keep");
                continue;
            }
            let old = old.with_context(|| {
                format!("{id} has other sessions than in {release}: keep its old file in sql/released/{release}/calendars, and give it a higher version")
            })?;
            assert_eq!(
                format!("{:016x}", fingerprint(&old)?),
                shipped,
                "{id}: the kept file is not what {release} shipped"
            );
            assert_eq!(old.version(), version, "{id}");
            ensure!(now.version() > version, "{id}: version {} and other sessions than in {release}", now.version());
        }
        ensure!(kept.is_empty(), "{release} shipped none of {:?}", kept.keys());
    }
    Ok(())
}

const RELEASE: &str = "0.1.0";
const FIRST: &str = "2026-05-28";
const LAST: &str = "2026-06-09";

/// What 0.1.0 shipped: without the pause on Saturday.
fn questions() -> Vec<String> {
    let question = |(timeframe, segments): (&str, &str)| {
        format!(
            "SELECT trade_date, bar_at, bar_end, open, high, low, close, volume, trades
             FROM market.session_ohlc('X', '{timeframe}', date '{FIRST}', date '{LAST}', segments => '{segments}') ORDER BY 2"
        )
    };
    [("1m", "ALL"), ("30s", "ETH"), ("1h", "ETH"), ("4h", "ETH"), ("1d", "ETH"), ("1d", "OFF"), ("1w", "ALL")]
        .into_iter()
        .map(question)
        .chain([format!(
            "SELECT trade_date, segment, count(*) AS n, sum(size) AS size FROM market.trades
             WHERE symbol = 'X' AND trade_date BETWEEN date '{FIRST}' AND date '{LAST}' GROUP BY 1, 2 ORDER BY 1, 2"
        )])
        .collect()
}

/// Bars and trades by date, in SQL.
async fn answers(client: &Client) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for question in questions() {
        all.extend(texts(client, &question).await?);
    }
    ensure!(all.len() > 1000, "{} rows", all.len());
    all.extend(view(client, "X").await?);
    Ok(all)
}

/// The same questions, to `querycli`.
fn asked_outside(database: &Database) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for question in questions() {
        let out = database.program("querycli", &["--format", "csv", "-c", &question])?.output()?;
        ensure!(out.status.success(), "{question}: {}", String::from_utf8_lossy(&out.stderr));
        all.extend(String::from_utf8(out.stdout)?.lines().map(str::to_owned));
    }
    ensure!(all.len() > 1000, "{} rows", all.len());
    Ok(all)
}

/// Trades of two weeks and two weekends.
fn trades() -> Result<Vec<Trade>> {
    let old = Calendar::from_toml(&released::crypto()?)?;
    let days = store::sessions(&old, FIRST, LAST)?;
    Ok(store::flat(&store::generate(&mut Chance::new(7), &days, 400)))
}

/// Stores them, session by session of the calendar.
async fn load(client: &Client, calendar: &Calendar) -> Result<()> {
    let id = store::instrument(client, "X", "CME_CRYPTO").await?;
    store::put_days(client, id, calendar, trades()?).await
}

/// A database in which the released calendar is in force: what a store of that release holds and answers.
async fn as_then(name: &str) -> Result<(Database, Client)> {
    let (database, client, calendar) = released::crypto_in_force(name).await?;
    load(&client, &calendar).await?;
    Ok((database, client))
}

/// An empty database of the release that gets the rows of another, as that release wrote them: its library is no more, and the
/// new one refuses the old SQL.
async fn store_of_the_release(name: &str, from: &Client) -> Result<(Database, Client)> {
    let database = cluster::empty_database(name).await?;
    let client = database.client().await?;
    client
        .batch_execute(&format!(
            "CREATE EXTENSION bellwether VERSION '{RELEASE}';
             CREATE TABLE market.trade_blocks_202605 PARTITION OF market.trade_blocks FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
             CREATE TABLE market.trade_blocks_202606 PARTITION OF market.trade_blocks FOR VALUES FROM ('2026-06-01') TO ('2026-07-01');
             CREATE TABLE market.bar_blocks_2026 PARTITION OF market.bar_blocks FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
             ALTER TABLE market.trade_blocks_202605 ALTER payload SET STORAGE EXTERNAL, ADD PRIMARY KEY (instrument_id, trade_date, part);
             ALTER TABLE market.trade_blocks_202606 ALTER payload SET STORAGE EXTERNAL, ADD PRIMARY KEY (instrument_id, trade_date, part);
             ALTER TABLE market.bar_blocks_2026 ALTER payload SET STORAGE EXTERNAL, ADD PRIMARY KEY (instrument_id, trade_date)"
        ))
        .await?;
    for table in ["instruments", "instrument_terms", "trade_blocks", "bar_blocks", "session_bars"] {
        let columns = format!(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = 'market.{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
        );
        let columns = texts(&client, &columns).await?.remove(0);
        let rows = from.copy_out(&format!("COPY (SELECT {columns} FROM market.{table}) TO STDOUT")).await?;
        let rows: Vec<_> = rows.try_collect().await?;
        ensure!(!rows.is_empty(), "{table}");
        let sink = client.copy_in(&format!("COPY market.{table} ({columns}) FROM STDIN")).await?;
        let mut sink = std::pin::pin!(sink);
        for row in rows {
            sink.send(row).await?;
        }
        sink.finish().await?;
    }
    Ok((database, client))
}

/// Runs the upgrade and returns what it says.
fn upgrade(database: &Database) -> Result<String> {
    let out = Command::new(cluster()?.client_program("psql")?)
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &database.url, "-c", "ALTER EXTENSION bellwether UPDATE"])
        .output()?;
    let said = String::from_utf8(out.stderr)?;
    ensure!(out.status.success(), "{said}");
    Ok(said)
}

/// Where the rows of each session lie and who wrote them.
async fn marks(client: &Client) -> Result<BTreeMap<String, Vec<String>>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let rows = texts(
        client,
        "SELECT trade_date, 'block', part::text, tableoid, ctid, xmin FROM market.trade_blocks
         UNION ALL SELECT trade_date, 'minutes', '', tableoid, ctid, xmin FROM market.bar_blocks
         UNION ALL SELECT trade_date, 'bar', segment::text, tableoid, ctid, xmin FROM market.session_bars ORDER BY 1, 2, 3",
    )
    .await?;
    for row in rows {
        let (date, mark) = row.split_once('|').context("two columns")?;
        all.entry(date.to_owned()).or_default().push(mark.to_owned());
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_changes_no_session_and_adopting_only_those_that_differ() -> Result<()> {
    let (then_database, then) = as_then("adopt_then").await?;
    let before = answers(&then).await?;
    let fresh_database = cluster::database("adopt_fresh").await?;
    let fresh = fresh_database.client().await?;
    load(&fresh, &Calendar::builtin("CME_CRYPTO")?).await?;
    let after = answers(&fresh).await?;
    ensure!(before != after, "the two calendars answer the same: nothing is tested");

    let (database, old) = store_of_the_release("adopt", &then).await?;
    drop(old);
    let said = upgrade(&database)?;
    ensure!(said.contains("calendar CME_CRYPTO: what 0.1.0 shipped stays in force"), "{said}");
    ensure!(said.contains("SELECT market.calendar_adopt('CME_CRYPTO')"), "{said}");
    let client = database.client().await?;
    same("after the upgrade", &answers(&client).await?, &before);
    same("verify", &verify(&client, "X").await?, &[]);
    same("querycli", &asked_outside(&database)?, &asked_outside(&then_database)?);
    let in_force = "SELECT version FROM market.calendars WHERE id = 'CME_CRYPTO'";
    assert_eq!(texts(&client, in_force).await?, ["1"]);
    // a dump takes it along
    let restored = store::copied(&database, "adopt_restored").await?.client().await?;
    same("restored", &answers(&restored).await?, &before);
    same("verify", &verify(&restored, "X").await?, &[]);

    // from Monday, 2026-06-01, on every Monday
    let updates = "SELECT calendar, in_force, shipped, sessions > 50, first_date FROM market.calendar_updates";
    for client in [&client, &restored] {
        assert_eq!(texts(client, updates).await?, ["CME_CRYPTO|1|2|t|2026-06-01"]);
    }
    let diff = "SELECT trade_date, change FROM market.calendar_diff('CME_CRYPTO', 'CME_CRYPTO@shipped') WHERE trade_date < '2026-06-10'";
    let changed = ["2026-06-01|moved", "2026-06-08|moved"];
    assert_eq!(texts(&client, diff).await?, changed);

    let written = marks(&client).await?;
    assert_eq!(texts(&client, "SELECT market.calendar_adopt('CME_Bitcoin', 'the pause on Saturday')").await?, ["3"]);
    same("a draft changes nothing", &answers(&client).await?, &before);
    let preview = "SELECT trade_date, change FROM market.calendar_preview('CME_CRYPTO')";
    assert_eq!(texts(&client, preview).await?, changed);
    let publish = "SELECT version, sessions_rebuilt FROM market.calendar_publish('CME_CRYPTO')";
    assert_eq!(texts(&client, publish).await?, ["3|2"]);
    same("adopted", &answers(&client).await?, &after);
    same("verify", &verify(&client, "X").await?, &[]);
    same("querycli", &asked_outside(&database)?, &asked_outside(&fresh_database)?);
    let now = marks(&client).await?;
    let rebuilt: Vec<&String> = written.keys().filter(|date| written.get(*date) != now.get(*date)).collect();
    assert_eq!(rebuilt, ["2026-06-01", "2026-06-08"]);
    assert_eq!(now.len(), written.len());
    assert_eq!(texts(&client, updates).await?, Vec::<String>::new());
    assert_eq!(texts(&client, in_force).await?, ["3"]);
    let log = "SELECT action, coalesce(detail->>'version', detail->>'new_version') FROM market.audit_log ORDER BY id";
    assert_eq!(texts(&client, log).await?, ["calendar_keep|1", "calendar_publish|3"]);
    Ok(())
}

/// Where no instrument trades on it, and where the user has a version of his own, nothing is filed.
#[tokio::test]
async fn a_calendar_that_is_not_used_or_is_the_users_is_left_alone() -> Result<()> {
    let unused = cluster::empty_database("adopt_unused").await?;
    let client = unused.client().await?;
    client.batch_execute(&format!("CREATE EXTENSION bellwether VERSION '{RELEASE}'")).await?;
    assert_eq!(upgrade(&unused)?, "");
    let client = unused.client().await?;
    assert_eq!(texts(&client, "SELECT count(*) FROM market.calendar_versions").await?, ["0"]);
    assert_eq!(texts(&client, "SELECT count(*) FROM market.calendar_updates").await?, ["0"]);
    assert_eq!(state(client.batch_execute("SELECT market.calendar_adopt('CME_CRYPTO')").await)?, "55000");
    assert_eq!(state(client.batch_execute("SELECT market.calendar_adopt('NYES')").await)?, "42704");

    let own = cluster::empty_database("adopt_own").await?;
    let client = own.client().await?;
    // the version that the user published has the number of the one that is shipped now
    let file = format!(
        "{}[closed]\n\"2026-06-03\" = \"flood\"\n",
        released::crypto()?.split("[holidays]").next().unwrap_or_default()
    );
    client.batch_execute(&format!("CREATE EXTENSION bellwether VERSION '{RELEASE}'")).await?;
    client
        .batch_execute("INSERT INTO market.instruments (symbol, kind, calendar) VALUES ('X', 'future', 'CME_Bitcoin')")
        .await?;
    client
        .execute(
            "INSERT INTO market.calendar_versions (calendar, version, state, toml, published_at) VALUES ('CME_CRYPTO', 2, 'published', $1, now())",
            &[&file],
        )
        .await?;
    drop(client);
    let said = upgrade(&own)?;
    ensure!(said.contains("calendar CME_CRYPTO"), "{said}");
    let client = own.client().await?;
    assert_eq!(texts(&client, "SELECT version FROM market.calendar_versions").await?, ["2"]);
    assert_eq!(
        texts(&client, "SELECT market.is_session('2026-06-03', c) FROM unnest('{CME_CRYPTO,CME_CRYPTO@2,CME_CRYPTO@shipped}'::text[]) AS c").await?,
        ["f", "f", "t"]
    );
    assert_eq!(
        texts(&client, "SELECT calendar, in_force, shipped FROM market.calendar_updates").await?,
        ["CME_CRYPTO|2|2"]
    );
    // a correction of a day is kept when the file is adopted
    client.batch_execute("SELECT market.calendar_except('CME_CRYPTO', '2026-06-04', 'closed = true', 'storm'); SELECT market.calendar_publish('CME_CRYPTO')").await?;
    client
        .batch_execute("SELECT market.calendar_adopt('CME_CRYPTO'); SELECT market.calendar_publish('CME_CRYPTO')")
        .await?;
    assert_eq!(
        texts(
            &client,
            "SELECT d, market.is_session(d::date, 'CME_CRYPTO') FROM unnest('{2026-06-03,2026-06-04}'::text[]) AS d"
        )
        .await?,
        ["2026-06-03|t", "2026-06-04|f"]
    );
    Ok(())
}

/// A user's calendar whose id and alias the library ships calendars under now: the names stay the user's.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_user_gave_stays_his_when_the_library_ships_it() -> Result<()> {
    let database = cluster::database("adopt_names").await?;
    let client = database.client().await?;
    // BMF is an alias of the shipped XBMF, XSFE the id of a shipped calendar; both are closed on Sundays
    let own = |id: &str, more: &str| {
        format!(
            "schema = 1\nid = \"{id}\"\naliases = [{more}]\ntz = \"UTC\"\nknown = [2025-01-01, 2026-12-31]\n[[hours]]\ndays = \"sun\"\nRTH = \"10:00-15:00\"\n"
        )
    };
    for name in ["BMF", "XSFE"] {
        ensure!(!Calendar::builtin(name)?.is_session(TradeDate::parse("2025-11-30")?)?);
    }
    // as the library that did not ship them let the user do
    let publish = "INSERT INTO market.calendar_versions (calendar, version, state, toml, aliases, published_at)
                   VALUES ($1, 1, 'published', $2, $3, now())";
    client.execute(publish, &[&"BMF", &own("BMF", ""), &Vec::<String>::new()]).await?;
    client.execute(publish, &[&"ACME", &own("ACME", "\"XSFE\""), &vec!["XSFE"]]).await?;
    let asked =
        "SELECT market.is_session(DATE '2025-11-30', 'BMF') AS a, market.is_session(DATE '2025-11-30', 'XSFE') AS b,
                 market.is_session(DATE '2025-11-30', 'BMF@1') AS c, market.is_session(DATE '2025-11-30', 'XBMF') AS d";
    assert_eq!(texts(&client, asked).await?, ["t|t|t|f"]);
    let out = database.program("querycli", &["--format", "csv", "-c", asked])?.output()?;
    assert_eq!(String::from_utf8_lossy(&out.stdout), "a,b,c,d\nt,t,t,f\n", "{out:?}");
    assert_eq!(state(client.batch_execute("SELECT market.calendar_adopt('BMF')").await)?, "42704");
    // and it can be changed
    client.query_one("SELECT market.calendar_define($1)", &[&own("BMF", "").replace("15:00", "14:00")]).await?;
    assert_eq!(texts(&client, "SELECT version FROM market.calendar_publish('BMF')").await?, ["2"]);
    client.batch_execute("SELECT market.add_instrument('X', calendar => 'BMF', tick_size => 0.01)").await?;
    client
        .batch_execute(
            "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('X', '2025-11-30 11:00+00', 1, 5, 1);
             SELECT market.seal('X', '2025-11-30')",
        )
        .await?;
    assert_eq!(texts(&client, "SELECT trade_date, segment FROM market.session_bars").await?, ["2025-11-30|RTH"]);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// What was archived before calendars were filed knows nothing of the file that an upgrade keeps: the next push takes it along.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_gets_the_calendar_that_an_upgrade_filed() -> Result<()> {
    let database = cluster::database("adopt_archive").await?;
    let client = database.client().await?;
    let shipped = Calendar::builtin("CME_CRYPTO")?;
    load(&client, &shipped).await?;
    let folder = tempfile::tempdir()?;
    let push = || -> Result<usize> {
        let mut push = Command::new(tests::program("querycli")?);
        push.args(["archive", "push", "--archive"]).arg(folder.path()).args(["--db", &database.url]);
        let out = push.env_remove("BELLWETHER_DB").env_remove("BELLWETHER_ARCHIVE").output()?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let calendars = fs::read_dir(folder.path().join("calendars"));
        Ok(calendars.map_or(0, Iterator::count))
    };
    assert_eq!(push()?, 1);
    tests::archive::as_format_1(folder.path())?;
    assert!(!folder.path().join("calendars").exists());
    let file = "INSERT INTO market.calendar_versions (calendar, version, state, toml, published_at) VALUES ('CME_CRYPTO', $1, 'published', $2, now())";
    client.execute(file, &[&(shipped.version() as i32), &shipped.toml()]).await?;
    assert_eq!(push()?, 1);
    assert_eq!(push()?, 1);
    Ok(())
}
