//! The archive: what goes in comes out to the bit, whoever is killed meanwhile, and answers from it are the database's.

use anyhow::{Context, Result, ensure};
use market::{Calendar, TradeDate};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use tests::archive::{
    FIRST, LAST, SYMBOLS, answers, archive, drop_trades, ended, facts, files, filled, killed, manifests, querycli,
    requests,
};
use tests::cluster;
use tests::store::{self, Chance, insert, same, seal, view};

#[tokio::test(flavor = "multi_thread")]
async fn restore_puts_back_to_the_bit_what_push_archived() -> Result<()> {
    let (database, client) = filled("archive_round", 300).await?;
    let before = facts(&client).await?;
    let revised = "SELECT count(*) FROM market.session_bars WHERE state = 'revised'";
    assert!(client.query_one(revised, &[]).await?.get::<_, i64>(0) > 5);
    let folder = tempfile::tempdir()?;
    let sessions: i64 = client
        .query_one("SELECT count(DISTINCT (instrument_id, trade_date)) FROM market.session_bars", &[])
        .await?
        .get(0);
    let said = ended(&archive(&database, folder.path(), &["push"])?.output()?, 0)?;
    assert!(said.contains(&format!("{sessions} sessions archived\n")), "{said}");
    let said = ended(&archive(&database, folder.path(), &["push"])?.output()?, 0)?;
    assert!(said.starts_with("0 sessions archived") && said.contains(&format!("{sessions} there already")), "{said}");
    let pending: i64 = client.query_one("SELECT count(*) FROM market.archive_pending()", &[]).await?.get(0);
    assert_eq!(pending, 0);
    let said = ended(&archive(&database, folder.path(), &["verify"])?.output()?, 0)?;
    assert!(said.starts_with(&format!("{sessions} sessions with ")) && !said.contains("broken"), "{said}");

    // into the database that dropped them
    drop_trades(&client).await?;
    assert!(view(&client, "X").await?.is_empty());
    let said = ended(&archive(&database, folder.path(), &["restore"])?.output()?, 0)?;
    assert!(said.contains(&format!("{sessions} sessions restored")), "{said}");
    same("restored", &facts(&client).await?, &before);
    let said = ended(&archive(&database, folder.path(), &["restore"])?.output()?, 0)?;
    assert!(said.starts_with(&format!("0 sessions restored, {sessions} there already")), "{said}");

    // into one that never had them
    let other = cluster::database("archive_other").await?;
    ended(&archive(&other, folder.path(), &["restore"])?.output()?, 0)?;
    let client = other.client().await?;
    same("restored elsewhere", &facts(&client).await?, &before);
    for (symbol, _) in SYMBOLS {
        same("verify_bars", &store::verify(&client, symbol).await?, &[]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revised_session_replaces_the_archived_one() -> Result<()> {
    let (database, client) = filled("archive_revised", 50).await?;
    let folder = tempfile::tempdir()?;
    ended(&archive(&database, folder.path(), &["push"])?.output()?, 0)?;
    let known = Calendar::builtin("XNYS")?;
    let days = store::sessions(&known, FIRST, LAST)?;
    let id: i32 = client.query_one("SELECT market.instrument_id('X')", &[]).await?.get(0);
    let mut chance = Chance::new(92);
    let more = store::session_trades(&mut chance, &days[3], 5, false);
    insert(&client, id, &more.iter().collect::<Vec<_>>()).await?;
    seal(&client, "X", &days[3]).await?;
    let out = archive(&database, folder.path(), &["verify"])?.output()?;
    let said = ended(&out, 1)?;
    assert!(said.contains(&format!("X {}: the session was sealed again since", days[3].trade_date)), "{said}");
    let said = ended(&archive(&database, folder.path(), &["push"])?.output()?, 0)?;
    assert!(
        said.contains(&format!("archived X {}", days[3].trade_date)) && said.contains("1 session archived"),
        "{said}"
    );
    let said = ended(&archive(&database, folder.path(), &["verify"])?.output()?, 0)?;
    assert!(!said.contains("leftover"), "the old file is gone: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_leaves_whole_sessions_and_the_next_one_ends_it() -> Result<()> {
    let (database, client) = filled("archive_kill", 60).await?;
    let total: i64 = client
        .query_one("SELECT count(DISTINCT (instrument_id, trade_date)) FROM market.session_bars", &[])
        .await?
        .get(0);
    let folder = tempfile::tempdir()?;
    let mut kills = 0;
    for wanted in (0..total as usize).step_by(3) {
        // at a manifest's or at any file's appearance, so that every step is hit sooner or later
        let path = folder.path().to_owned();
        let before = files(&path).len();
        let done = async || Ok(if wanted % 6 == 0 { manifests(&path) > wanted } else { files(&path).len() > before });
        kills += usize::from(killed(archive(&database, folder.path(), &["push"])?, done).await?);
        let said = ended(&archive(&database, folder.path(), &["verify"])?.output()?, 0)?;
        assert!(!said.contains("broken"), "{said}");
        // the database believes nothing that is not there
        let told: i64 = client.query_one("SELECT count(*) FROM market.archived_sessions", &[]).await?.get(0);
        assert!(told as usize <= manifests(folder.path()), "{told} told");
    }
    assert!(kills > 2, "only {kills} pushes were killed before they ended");
    ended(&archive(&database, folder.path(), &["push"])?.output()?, 0)?;
    ended(&archive(&database, folder.path(), &["prune"])?.output()?, 0)?;
    let said = ended(&archive(&database, folder.path(), &["verify"])?.output()?, 0)?;
    assert!(said.starts_with(&format!("{total} sessions")) && !said.contains("interrupted"), "{said}");
    let told: i64 = client.query_one("SELECT count(*) FROM market.archived_sessions", &[]).await?.get(0);
    assert_eq!(told, total);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_restore_leaves_whole_sessions_and_the_next_one_ends_it() -> Result<()> {
    let (database, client) = filled("archive_kill_restore", 60).await?;
    let before = facts(&client).await?;
    let folder = tempfile::tempdir()?;
    ended(&archive(&database, folder.path(), &["push"])?.output()?, 0)?;
    let other = cluster::database("archive_killed_restore").await?;
    let reader = other.client().await?;
    let whole = "SELECT count(*) FILTER (WHERE b.n IS DISTINCT FROM s.n), count(*) FROM
        (SELECT instrument_id, trade_date, sum(n) AS n FROM market.trade_blocks GROUP BY 1, 2) AS b
        FULL JOIN (SELECT instrument_id, trade_date, max(n) AS n FROM (SELECT s.instrument_id, s.trade_date,
            (SELECT sum(t.n) FROM market.trade_blocks AS t WHERE t.instrument_id = s.instrument_id AND t.trade_date = s.trade_date) AS n
          FROM market.session_bars AS s) AS s GROUP BY 1, 2) AS s USING (instrument_id, trade_date)";
    let mut kills = 0;
    for wanted in (0..27).step_by(3) {
        let done = async || Ok(reader.query_one(whole, &[]).await?.get::<_, i64>(1) > wanted);
        kills += usize::from(killed(archive(&other, folder.path(), &["restore"])?, done).await?);
        let halves: i64 = reader.query_one(whole, &[]).await?.get(0);
        assert_eq!(halves, 0, "after {wanted} sessions");
        for (symbol, _) in SYMBOLS {
            let known =
                reader.query_one("SELECT count(*) FROM market.instruments WHERE symbol = $1", &[&symbol]).await?;
            if known.get::<_, i64>(0) > 0 {
                same("verify_bars", &store::verify(&reader, symbol).await?, &[]);
            }
        }
    }
    assert!(kills > 2, "only {kills} restores were killed before they ended");
    ended(&archive(&other, folder.path(), &["restore"])?.output()?, 0)?;
    same("restored", &facts(&reader).await?, &before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_and_pushed_again() -> Result<()> {
    let (database, client) = filled("archive_flip", 40).await?;
    let folder = tempfile::tempdir()?;
    ended(&archive(&database, folder.path(), &["push"])?.output()?, 0)?;
    let mut chance = Chance::new(93);
    let mut all = files(folder.path());
    chance.shuffle(&mut all);
    let mut broken = BTreeSet::new();
    for kind in ["json", "bars", "parquet"] {
        for path in all.iter().filter(|path| path.extension().is_some_and(|e| e == kind)).take(3) {
            let mut bytes = fs::read(path)?;
            let at = chance.within(0, bytes.len() as i64) as usize;
            bytes[at] ^= 1 << chance.within(0, 8);
            fs::write(path, bytes)?;
            broken.insert(path.clone());
        }
    }
    assert_eq!(broken.len(), 9);
    let said = ended(&archive(&database, folder.path(), &["verify"])?.output()?, 1)?;
    for path in &broken {
        let name = path.strip_prefix(folder.path())?.display().to_string();
        let day = name.split(['/', '=', '.']).find_map(|part| TradeDate::parse(part.get(..10)?).ok());
        let symbol = name.split("symbol=").nth(1).and_then(|rest| rest.split('/').next()).context("no symbol")?;
        let session = format!("broken   {symbol} {}", day.context("no day")?);
        assert!(said.contains(&session) || said.contains(&name), "{name} is not told:\n{said}");
    }
    // a broken session is not restored
    drop_trades(&client).await?;
    let said = ended(&archive(&database, folder.path(), &["restore"])?.output()?, 1)?;
    assert!(said.contains("failed   "), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_leftovers_and_never_the_only_copy() -> Result<()> {
    let (database, client) = filled("archive_prune", 40).await?;
    let folder = tempfile::tempdir()?;
    ended(&archive(&database, folder.path(), &["push"])?.output()?, 0)?;
    let leftover = folder.path().join("trades/symbol=X/trade_date=2025-11-28/.x.1-1.tmp");
    fs::write(&leftover, b"half")?;
    let stray = folder.path().join("trades/symbol=GONE/trade_date=2025-11-28/0.parquet");
    fs::create_dir_all(stray.parent().context("no folder")?)?;
    fs::write(&stray, b"half")?;
    let said = ended(&archive(&database, folder.path(), &["verify"])?.output()?, 0)?;
    assert!(said.contains("2 files of interrupted pushes"), "{said}");
    let said = ended(&archive(&database, folder.path(), &["prune", "--dry-run"])?.output()?, 0)?;
    assert!(said.contains("would go") && leftover.exists(), "{said}");
    ended(&archive(&database, folder.path(), &["prune"])?.output()?, 0)?;
    assert!(!leftover.exists() && !folder.path().join("trades/symbol=GONE").exists());

    let day = "2025-11-24";
    client
        .batch_execute(
            "DELETE FROM market.trade_blocks WHERE trade_date = '2025-11-20';
             UPDATE market.session_bars SET trades_dropped_at = now() WHERE trade_date = '2025-11-20'",
        )
        .await?;
    let before = manifests(folder.path());
    let said = ended(&archive(&database, folder.path(), &["prune", "--before", day])?.output()?, 0)?;
    // 19 and 21 November go, the 20th is nowhere else
    assert!(said.contains("kept     X 2025-11-20: its trades are nowhere else"), "{said}");
    assert!(said.contains("6 sessions and 0 files of interrupted pushes removed, 3 kept"), "{said}");
    assert_eq!(manifests(folder.path()), before - 6);
    let told = format!("SELECT count(*) FROM market.archived_sessions WHERE trade_date < '{day}'");
    assert_eq!(client.query_one(&told, &[]).await?.get::<_, i64>(0), 3);
    ended(&archive(&database, folder.path(), &["verify"])?.output()?, 0)?;
    Ok(())
}

/// Random requests, `BELLWETHER_REQUESTS` of them: SQL, querycli over the database and querycli over the archive say the same
/// to the last digit; and so does querycli over a database that dropped its trades, with the archive beside it.
#[tokio::test(flavor = "multi_thread")]
async fn sql_querycli_and_archive_give_the_same_bars() -> Result<()> {
    let (database, client) = filled("archive_agree", 250).await?;
    client.batch_execute("SET timezone = 'UTC'; SET extra_float_digits = 1").await?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("archive");
    ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    let n = std::env::var("BELLWETHER_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let mut chance = Chance::new(94);
    let (mut script, mut expected, mut asked) = (String::new(), Vec::new(), 0);
    let mut some: Vec<String> = Vec::new();
    for (number, request) in requests(&mut chance, n).into_iter().enumerate() {
        let sql = format!("SELECT {number} AS q, * FROM market.{request} AS b{number}");
        // what SQL refuses is not asked of the others here: their refusals are in tests/slt
        if client.simple_query(&sql).await.is_err() {
            continue;
        }
        asked += 1;
        some.push(sql);
        if some.len() == 20 || number + 1 == n {
            let sql = format!("{} ORDER BY q, bar_at", some.join(" UNION ALL "));
            expected.extend(answers(&client, &sql).await?);
            script = format!("{script}{sql};\n");
            some.clear();
        }
    }
    if !some.is_empty() {
        let sql = format!("{} ORDER BY q, bar_at", some.join(" UNION ALL "));
        expected.extend(answers(&client, &sql).await?);
        script = format!("{script}{sql};\n");
    }
    assert!(asked > n * 3 / 4, "SQL answered only {asked} of {n}");
    assert!(expected.len() > 10 * n, "{} bars", expected.len());
    let file = folder.path().join("requests.sql");
    fs::write(&file, script)?;
    let archived = place.to_str().context("no UTF-8")?;
    same("querycli --db", &querycli(&["--db", &database.url], &file)?, &expected);
    same("querycli --archive", &querycli(&["--archive", archived], &file)?, &expected);
    drop_trades(&client).await?;
    same("querycli, both", &querycli(&["--db", &database.url, "--archive", archived], &file)?, &expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_an_archive_are_the_databases() -> Result<()> {
    let (database, client) = filled("archive_tables", 120).await?;
    client.batch_execute("SET timezone = 'UTC'; SET extra_float_digits = 1").await?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("archive");
    ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    let archived = place.to_str().context("no UTF-8")?;
    let columns = "symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, trade_date, segment";
    let conditions = [
        "true",
        "symbol = 'X'",
        "symbol IN ('X', 'H') AND trade_date = '2025-11-28'",
        "trade_date BETWEEN '2025-11-21' AND '2025-11-25' AND symbol = 'F'",
        "ts >= '2025-11-24 15:00:00+00' AND ts < '2025-11-26 18:30:00+00'",
        "segment = 'RTH' AND price > 100.05 AND trade_date >= '2025-12-01'",
        "symbol = 'GONE'",
    ];
    let mut statements: Vec<String> = conditions
        .iter()
        .map(|condition| {
            format!("SELECT 1 AS q, {columns} FROM market.trades WHERE {condition} ORDER BY symbol, ts, ns, seq, sub")
        })
        .collect();
    for group in ["symbol", "trade_date", "segment", "symbol, trade_date, segment"] {
        statements.push(format!(
            "SELECT 2 AS q, {group}, count(*), min(price), max(price), max(ts), sum(flags) FROM market.trades GROUP BY {group} ORDER BY {group}"
        ));
    }
    statements.push(
        "SELECT 3 AS q, symbol, trade_date, session_bucket('5m', ts, 'XNYS') AS bar, (ohlc(price, size, ts, seq)).close
         FROM market.trades WHERE symbol = 'X' GROUP BY 2, 3, 4 ORDER BY 2, 3, 4"
            .into(),
    );
    let mut expected = Vec::new();
    for sql in &statements {
        let sql = sql.replace(" session_bucket(", " market.session_bucket(").replace("(ohlc(", "(market.ohlc(");
        expected.extend(answers(&client, &sql).await.with_context(|| sql.clone())?);
    }
    assert!(expected.len() > 6000, "{}", expected.len());
    let file = folder.path().join("trades.sql");
    fs::write(&file, statements.join(";\n"))?;
    same("trades", &querycli(&["--archive", archived], &file)?, &expected);
    drop_trades(&client).await?;
    same("trades of both", &querycli(&["--db", &database.url, "--archive", archived], &file)?, &expected);

    let bars = "SELECT 1 AS q, symbol, trade_date, segment, opens_at, closes_at, open, high, low, close, trades, priced, state, revision, digest";
    let of_database = format!(
        "{} FROM market.session_bars AS b JOIN market.instruments AS i ON i.id = b.instrument_id ORDER BY symbol, trade_date, segment",
        bars
    );
    let expected = answers(&client, &of_database).await?;
    fs::write(&file, format!("{bars} FROM bars ORDER BY symbol, trade_date, segment"))?;
    same("bars", &querycli(&["--archive", archived], &file)?, &expected);
    fs::write(
        &file,
        "SELECT 1 AS q, symbol, count(*), sum(trades), min(trade_date) FROM sessions GROUP BY symbol ORDER BY symbol;
         SELECT 1 AS q, symbol, calendar, kind, sessions, first_date, last_date FROM instruments ORDER BY symbol",
    )?;
    let found = querycli(&["--archive", archived], &file)?;
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(found[3].starts_with("1,F,CME_EQUITY,") && found[3].ends_with(",2025-11-19,2025-12-02"), "{found:?}");
    Ok(())
}

/// What is made of trades and not of bars asks the archive as bars do, also when retention left nothing but session bars.
#[tokio::test(flavor = "multi_thread")]
async fn levels_profiles_and_flows_of_archived_sessions_are_the_databases() -> Result<()> {
    let (database, client) = filled("archive_levels", 120).await?;
    client.batch_execute("SET timezone = 'UTC'; SET extra_float_digits = 1").await?;
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("archive");
    ended(&archive(&database, &place, &["push"])?.output()?, 0)?;
    let archived = place.to_str().context("no UTF-8")?;
    let (mut script, mut expected) = (String::new(), Vec::new());
    for (symbol, _) in SYMBOLS {
        for call in [
            "session_levels($, '2025-11-25')",
            "session_levels($, '2025-11-28', opening_minutes => 15)",
            "session_profile($, '2025-11-26', bin => 0.5)",
            "session_flow($, '30m', '2025-11-24', '2025-11-28')",
            "activity_ohlc($, 'ticks', 25, '2025-11-21', '2025-11-25')",
        ] {
            let sql = format!("SELECT 1 AS q, * FROM market.{}", call.replace('$', &format!("'{symbol}'")));
            expected.extend(answers(&client, &sql).await.with_context(|| sql.clone())?);
            script = format!("{script}{sql};\n");
        }
    }
    assert!(expected.len() > 350, "{} rows", expected.len());
    let file = folder.path().join("levels.sql");
    fs::write(&file, script)?;
    same("querycli --archive", &querycli(&["--archive", archived], &file)?, &expected);
    let both = ["--db", &database.url, "--archive", archived];
    drop_trades(&client).await?;
    same("without trades", &querycli(&both, &file)?, &expected);
    client
        .batch_execute("DELETE FROM market.bar_blocks; UPDATE market.session_bars SET minutes_dropped_at = now()")
        .await?;
    same("without minute bars", &querycli(&both, &file)?, &expected);

    let alone = Command::new(tests::program("querycli")?)
        .args(["--db", &database.url, "-c", "SELECT * FROM session_levels('X', '2025-11-25')"])
        .env_remove("BELLWETHER_ARCHIVE")
        .output()?;
    let error = String::from_utf8_lossy(&alone.stderr);
    ensure!(alone.status.code() == Some(2), "{error}");
    // of the session and of the one before it, each asked for by itself
    ensure!(
        error.contains(
            "levels of X is made of trades, and retention dropped those of 1 sessions asked for, the first 2025-11-24"
        ) && error.contains("; --archive names an archive that has them"),
        "{error}"
    );
    Ok(())
}
