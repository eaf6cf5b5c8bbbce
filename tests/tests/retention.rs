//! Retention on a real server: the plan is exact, nothing unsealed or unverified is dropped, and bars answer for ever.

use anyhow::{Context, Result, ensure};
use market::{Calendar, Session, TradeDate, Trades};
use tests::cluster;
use tests::store::{self, Chance, insert, put, sessions, state, texts};
use tokio_postgres::Client;

async fn one(client: &Client, sql: &str) -> Result<String> {
    texts(client, sql).await?.into_iter().next().with_context(|| format!("no row: {sql}"))
}

/// The last `n` trade dates of XNYS before the running one, oldest first: what retention counts.
async fn days(client: &Client, n: usize) -> Result<Vec<String>> {
    let sql = "SELECT trade_date FROM market.sessions('XNYS', current_date - 60, market.trade_date(now(), 'XNYS') - 1) GROUP BY 1 ORDER BY 1 DESC";
    let mut found = texts(client, sql).await?;
    found.truncate(n);
    found.reverse();
    ensure!(found.len() == n);
    Ok(found)
}

/// The generator adds trades of equal times to the last one, so it makes a few more.
fn two_hundred(chance: &mut Chance, session: &Session<'_>) -> Trades {
    store::session_trades(chance, session, 200, false).slice(0..200)
}

/// Seals 200 trades of an instrument on each of the days.
async fn filled(client: &Client, symbol: &str, days: &[String]) -> Result<i32> {
    let id = store::instrument(client, symbol, "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let mut chance = Chance::new(71);
    for day in days {
        let session = calendar.session(TradeDate::parse(day)?)?.context("a session")?;
        put(client, id, &two_hundred(&mut chance, &session)).await?;
    }
    Ok(id)
}

const PLAN: &str = "SELECT symbol, trade_date, rows, bytes > 0, held_back FROM market.retention_plan()";

#[tokio::test]
async fn raw_trades_some_sessions_and_bars_for_ever_is_one_call() -> Result<()> {
    let database = cluster::database("retain").await?;
    let client = database.client().await?;
    let days = days(&client, 8).await?;
    filled(&client, "SPY", &days).await?;
    client.batch_execute("CALL market.maintain()").await?;
    let bars = "SELECT trade_date, bar_at, open, high, low, close, volume, trades, state FROM
        market.session_ohlc('SPY', '5m', current_date - 60, current_date, segments => 'ETH') ORDER BY bar_at";
    let daily = bars.replace("5m", "1d");
    let before = (texts(&client, bars).await?, texts(&client, &daily).await?);
    ensure!(before.0.len() > 500 && before.1.len() == 8);

    client.batch_execute("SELECT market.set_policy('retention', 'trades', keep_sessions => 5)").await?;
    // today is no session, or is the running one, which counts as none of the five
    let gone: Vec<String> = days[..3].iter().map(|day| format!("SPY|{day}|200|t|-")).collect();
    assert_eq!(texts(&client, PLAN).await?, gone);
    client.batch_execute("CALL market.maintain()").await?;
    let kept = "SELECT trade_date, sum(n) FROM market.trade_blocks GROUP BY 1 ORDER BY 1";
    assert_eq!(texts(&client, kept).await?, days[3..].iter().map(|day| format!("{day}|200")).collect::<Vec<_>>());
    assert_eq!(texts(&client, PLAN).await?, Vec::<String>::new());
    assert_eq!((texts(&client, bars).await?, texts(&client, &daily).await?), before, "bars are kept");
    assert_eq!(store::verify(&client, "SPY").await?, Vec::<String>::new(), "and stand for each other");
    assert_eq!(one(&client, "SELECT count(*) FROM market.audit_log WHERE action = 'retention'").await?, "3");

    // bars of seconds need trades
    let seconds =
        |first: &str| format!("SELECT * FROM market.session_ohlc('SPY', '30s', date '{first}', current_date)");
    assert_eq!(state(client.simple_query(&seconds(&days[2])).await)?, "55000");
    ensure!(!texts(&client, &seconds(&days[3])).await?.is_empty());
    let querycli = |sql: String| -> Result<std::process::Output> {
        Ok(database.program("querycli", &["--format", "csv", "-c", &sql])?.output()?)
    };
    let refused = querycli(seconds(&days[2]).replace("current_date", &format!("date '{}'", days[7])))?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(!refused.status.success() && said.contains("retention dropped those of 1 sessions"), "{said}");
    let minutes = format!(
        "SELECT * FROM market.session_ohlc('SPY', '5m', date '{}', date '{}', segments => 'ETH')",
        days[0], days[7]
    );
    let rows = String::from_utf8(querycli(minutes)?.stdout)?.lines().count();
    assert_eq!(rows, before.0.len() + 1, "a header and the same bars");
    Ok(())
}

#[tokio::test]
async fn nothing_unsealed_unverified_different_or_unarchived_is_dropped() -> Result<()> {
    let client = cluster::database("held").await?.client().await?;
    let days = days(&client, 7).await?;
    let id = filled(&client, "SPY", &days).await?;
    client.batch_execute("SELECT market.set_policy('seal', options => '{\"quiet\": \"1 hour\"}')").await?;
    client
        .batch_execute(
            "SELECT market.set_policy('retention', 'trades', keep_sessions => 1, options => '{\"archived\": true}')",
        )
        .await?;
    let held = |words: &str| days[..6].iter().map(|day| format!("SPY|{day}|200|t|{words}")).collect::<Vec<_>>();
    assert_eq!(texts(&client, PLAN).await?, held("not verified"));
    client.batch_execute("CALL market.maintain()").await?;
    assert_eq!(texts(&client, PLAN).await?, held("not archived"));
    // archived are all but day 0, day 1 with another digest
    let archive = "INSERT INTO market.archived_sessions (instrument_id, trade_date, digest, location)
        SELECT DISTINCT instrument_id, trade_date, digest + CASE WHEN trade_date = $$1 THEN 1 ELSE 0 END, 'archive' FROM market.session_bars WHERE trade_date > $$0";
    let archive = archive.replace("$$1", &format!("date '{}'", days[1])).replace("$$0", &format!("date '{}'", days[0]));
    client.batch_execute(&archive).await?;
    client
        .batch_execute(&format!(
            "UPDATE market.session_bars SET differences = 2 WHERE trade_date = '{}';
             UPDATE market.session_bars SET state = 'provisional', reason = 'a gap' WHERE trade_date = '{}';
             INSERT INTO market.feed_gaps (feed, instrument_id, first_missing, last_missing, from_ts)
             VALUES ('sip', {id}, 1, 2, '{} 12:00 America/New_York')",
            days[2], days[3], days[3]
        ))
        .await?;
    let calendar = Calendar::builtin("XNYS")?;
    let late = sessions(&calendar, &days[4], &days[4])?;
    insert(
        &client,
        id,
        &store::session_trades(&mut Chance::new(72), &late[0], 3, false).slice(0..3).iter().collect::<Vec<_>>(),
    )
    .await?;
    client.batch_execute("SELECT market.note_unsealed()").await?;
    let wanted = [
        format!("SPY|{}|200|t|not archived", days[0]),
        format!("SPY|{}|200|t|not archived", days[1]),
        format!("SPY|{}|200|t|verification found 2 differences", days[2]),
        format!("SPY|{}|200|t|not sealed: a gap", days[3]),
        format!("SPY|{}|200|t|3 live rows are not sealed", days[4]),
        format!("SPY|{}|200|t|-", days[5]),
    ];
    assert_eq!(texts(&client, PLAN).await?, wanted);
    client.batch_execute("CALL market.maintain('retention')").await?;
    let left = "SELECT DISTINCT trade_date FROM market.trade_blocks ORDER BY 1";
    let expected: Vec<String> =
        days.iter().enumerate().filter(|(at, _)| *at != 5).map(|(_, day)| day.clone()).collect();
    assert_eq!(texts(&client, left).await?, expected);
    // a row that came after the plan was made counts too
    client.batch_execute("TRUNCATE market.unsealed_sessions").await?;
    assert_eq!(one(&client, &format!("SELECT market.drop_trades({id}, '{}')", days[4])).await?, "held back");
    assert_eq!(one(&client, &format!("SELECT market.drop_trades({id}, '{}')", days[6])).await?, "kept");
    Ok(())
}

#[tokio::test]
async fn the_narrower_policy_wins() -> Result<()> {
    let client = cluster::database("narrow").await?.client().await?;
    let days = days(&client, 5).await?;
    for symbol in ["ALL", "CAL", "ONE"] {
        filled(&client, symbol, &days).await?;
    }
    client.batch_execute("UPDATE market.instruments SET calendar = 'XNAS' WHERE symbol = 'ALL' AND EXISTS (SELECT FROM market.calendars WHERE id = 'XNAS')").await?;
    client
        .batch_execute(
            "SELECT market.set_policy('retention', keep_sessions => 4), market.set_policy('retention', keep_sessions => 3, calendar => 'XNYS'),
                    market.set_policy('retention', keep_sessions => 2, symbol => 'ONE')",
        )
        .await?;
    let counts = "SELECT symbol, count(*) FROM market.retention_plan() GROUP BY 1 ORDER BY 1";
    let all = if one(&client, "SELECT calendar FROM market.instruments WHERE symbol = 'ALL'").await? == "XNYS" {
        2
    } else {
        1
    };
    assert_eq!(texts(&client, counts).await?, [format!("ALL|{all}"), "CAL|2".to_owned(), "ONE|3".to_owned()]);
    client.batch_execute("SELECT market.drop_policy('retention', symbol => 'ONE')").await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.retention_plan('ONE')").await?, "2");
    Ok(())
}

#[tokio::test]
async fn a_session_without_its_trades_takes_no_late_one_but_all_of_them_back() -> Result<()> {
    let client = cluster::database("back").await?.client().await?;
    let days = days(&client, 3).await?;
    let id = filled(&client, "SPY", &days).await?;
    let calendar = Calendar::builtin("XNYS")?;
    client.batch_execute("SELECT market.set_policy('retention', keep_sessions => 2), market.set_policy('seal', options => '{\"quiet\": \"0 s\"}')").await?;
    let view = store::view(&client, "SPY").await?;
    client.batch_execute("CALL market.maintain()").await?;
    assert_eq!(one(&client, "SELECT count(DISTINCT trade_date) FROM market.trade_blocks").await?, "2");
    let bars = "SELECT * FROM market.session_ohlc('SPY', '1m', current_date - 60, current_date, segments => 'ETH') ORDER BY bar_at";
    let before = texts(&client, bars).await?;

    let session = calendar.session(TradeDate::parse(&days[0])?)?.context("a session")?;
    let late = store::session_trades(&mut Chance::new(73), &session, 2, false).slice(0..2);
    insert(&client, id, &late.iter().collect::<Vec<_>>()).await?;
    assert_eq!(texts(&client, bars).await?, before, "a late row");
    client.batch_execute("CALL market.maintain()").await?;
    assert_eq!(texts(&client, bars).await?, before, "after its seal");
    let letters = "SELECT reason, count(*) FROM market.dead_letters GROUP BY 1";
    assert_eq!(texts(&client, letters).await?, ["retention dropped the trades of its session|2"]);
    let refused = market::block::encode_session(&late)?;
    let put_late = client.query("SELECT market.put_trades($1, $2)", &[&id, &refused]).await;
    assert_eq!(state(put_late)?, "55000");

    let bust = format!("SELECT market.bust_trade('SPY', '{} 10:00 America/New_York', 1)", days[0]);
    assert_eq!(state(client.simple_query(&bust).await)?, "55000");

    // the same seed makes the same trades
    let all = two_hundred(&mut Chance::new(71), &session);
    assert_eq!(put(&client, id, &all).await?.added, 200);
    assert_eq!(store::view(&client, "SPY").await?, view);
    assert_eq!(texts(&client, bars).await?, before);
    assert_eq!(store::verify(&client, "SPY").await?, Vec::<String>::new());
    let revisions = "SELECT max(revision), bool_or(trades_dropped_at IS NOT NULL) FROM market.session_bars";
    assert_eq!(one(&client, revisions).await?, "0|f");
    Ok(())
}

#[tokio::test]
async fn emptied_months_are_dropped_only_when_no_snapshot_sees_them() -> Result<()> {
    let database = cluster::database("months").await?;
    let (client, reader) = (database.client().await?, database.client().await?);
    let old: Vec<String> = ["2025-11-24", "2025-11-25"].map(str::to_owned).to_vec();
    filled(&client, "SPY", &old).await?;
    client.batch_execute("CALL market.maintain()").await?;
    client.batch_execute("SELECT market.set_policy('retention', keep_sessions => 20)").await?;
    let all = "SELECT count(*) FROM market.trades WHERE symbol = 'SPY'";
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!(one(&reader, all).await?, "400");
    client.batch_execute("CALL market.maintain()").await?;
    assert_eq!(one(&client, all).await?, "0");
    assert_eq!(one(&reader, all).await?, "400");
    let month = "SELECT count(*) FROM market.partition_status WHERE partition = 'trade_blocks_202511'";
    assert_eq!(one(&client, month).await?, "1");
    reader.batch_execute("COMMIT").await?;
    let mut left = String::new();
    for _ in 0..300 {
        client.batch_execute("CALL market.maintain()").await?;
        left = one(&client, month).await?;
        if left == "0" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(left, "0", "the month goes when nobody sees its rows");
    assert_eq!(
        one(
            &client,
            "SELECT count(*) FROM market.partition_status WHERE parent = 'bar_blocks' AND partition = 'bar_blocks_2025'"
        )
        .await?,
        "1",
        "bars stay"
    );
    let coming = "SELECT count(*) FROM market.partition_status WHERE parent = 'trade_blocks' AND from_date >= date_trunc('month', now() AT TIME ZONE 'UTC')::date";
    assert_eq!(one(&client, coming).await?, "3", "this month and the next two");
    assert_eq!(one(&client, "SELECT count(*) FROM market.partition_plan()").await?, "0");
    Ok(())
}

/// Bars of SPY over the last 60 days, one text a row.
fn bars_of(timeframe: &str, first: &str, last: &str) -> String {
    format!(
        "SELECT trade_date, bar_at, open, high, low, close, volume, trades, state FROM market.session_ohlc('SPY', '{timeframe}',
         date '{first}', date '{last}', segments => 'ETH') ORDER BY bar_at"
    )
}

#[tokio::test]
async fn trades_minute_bars_and_session_bars_each_have_their_time() -> Result<()> {
    let database = cluster::database("tiers").await?;
    let client = database.client().await?;
    let days = days(&client, 9).await?;
    let id = filled(&client, "SPY", &days).await?;
    filled(&client, "QQQ", &days).await?;
    client.batch_execute("CALL market.maintain()").await?;
    let (first, last) = (days[0].as_str(), days[8].as_str());
    // the first gap of a kept session is filled with the close of one that is not
    let with_fill = |timeframe: &str, first: &str| {
        bars_of(timeframe, first, last).replace("segments => 'ETH'", "segments => 'ETH', fill => 'previous'")
    };
    let asked = [
        bars_of("1d", first, last),
        bars_of("1w", first, last),
        bars_of("5m", &days[4], last),
        bars_of("30s", &days[6], last),
        with_fill("5m", &days[4]),
        with_fill("30s", &days[6]),
        with_fill("5m", &days[5]),
    ];
    let mut before = Vec::new();
    for sql in &asked {
        before.push(texts(&client, sql).await?);
    }
    client
        .batch_execute(
            "SELECT market.set_policy('retention', 'trades', keep_sessions => 3, symbol => 'SPY'),
                    market.set_policy('retention', 'minute_bars', keep_sessions => 5, symbol => 'SPY')",
        )
        .await?;
    let plan = "SELECT relation, trade_date, held_back FROM market.retention_plan() WHERE bytes > 0 AND rows > 0";
    let row = |relation: &str, day: &String, held: &str| format!("{relation}|{day}|{held}");
    // days[8] is the newest of the sessions before the running one, or the running one's eve
    let wanted: Vec<String> = (days[..6].iter().map(|day| row("trades", day, "-")))
        .chain(days[..4].iter().map(|day| row("minute_bars", day, "its trades are still here")))
        .collect();
    assert_eq!(texts(&client, plan).await?, wanted);
    client.batch_execute("CALL market.maintain('retention')").await?;
    let left =
        |table: &str| format!("SELECT DISTINCT trade_date FROM market.{table} WHERE instrument_id = {id} ORDER BY 1");
    assert_eq!(texts(&client, &left("trade_blocks")).await?, days[6..]);
    assert_eq!(texts(&client, &left("bar_blocks")).await?, days[4..], "in the run that let their trades go");
    assert_eq!(texts(&client, &left("session_bars")).await?, days);
    assert_eq!(
        one(&client, "SELECT count(DISTINCT trade_date) FROM market.trade_blocks WHERE instrument_id <> 1").await?,
        "9"
    );

    let mut after = Vec::new();
    for sql in &asked {
        after.push(texts(&client, sql).await?);
    }
    assert_eq!(after, before);
    for (timeframe, from, words) in [
        ("5m", &days[3], "minute bars, and retention dropped those of 1 sessions asked for"),
        ("30s", &days[3], "minute bars, and retention dropped those of 1 sessions asked for"),
        ("30s", &days[5], "trades, and retention dropped those of 1 sessions asked for"),
    ] {
        let sql = bars_of(timeframe, from, last);
        let error = client.simple_query(&sql).await.err().context("refused")?;
        let said = error.as_db_error().context("the server's")?;
        assert_eq!((said.code().code(), said.message().contains(words)), ("55000", true), "{timeframe} {from}: {said}");
        let refused = database.program("querycli", &["--format", "csv", "-c", &sql])?.output()?;
        let said = String::from_utf8(refused.stderr)?;
        ensure!(!refused.status.success() && said.contains(words), "querycli {timeframe} {from}: {said}");
    }
    for (at, sql) in asked.iter().enumerate() {
        let out = database.program("querycli", &["--format", "csv", "-c", sql])?.output()?;
        let lines: Vec<String> = String::from_utf8(out.stdout)?.lines().skip(1).map(str::to_owned).collect();
        assert_eq!(lines.len(), before[at].len(), "{}", String::from_utf8_lossy(&out.stderr));
        for (line, row) in lines.iter().zip(&before[at]) {
            let (line, row): (Vec<&str>, Vec<&str>) = (line.split(',').collect(), row.split('|').collect());
            assert_eq!((line[0], line[5], line[6], line[7]), (row[0], row[5], row[6], row[7]), "{line:?} {row:?}");
        }
    }
    assert_eq!(store::verify(&client, "SPY").await?, Vec::<String>::new());
    client.batch_execute("CALL market.maintain()").await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.retention_plan()").await?, "0");

    // exactly its trades bring everything back
    let calendar = Calendar::builtin("XNYS")?;
    let session = calendar.session(TradeDate::parse(first)?)?.context("a session")?;
    assert_eq!(put(&client, id, &two_hundred(&mut Chance::new(71), &session)).await?.added, 200);
    let flags = format!("SELECT bool_or(trades_dropped_at IS NOT NULL OR minutes_dropped_at IS NOT NULL), max(revision) FROM market.session_bars
        WHERE instrument_id = {id} AND trade_date = '{first}'");
    assert_eq!(one(&client, &flags).await?, "f|0");
    ensure!(!texts(&client, &bars_of("5m", first, first)).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_archived_counts_until_its_session_changes() -> Result<()> {
    let client = cluster::database("archived").await?.client().await?;
    let days = days(&client, 3).await?;
    let id = filled(&client, "SPY", &days).await?;
    let pending = "SELECT symbol, trade_date, n, revision, state FROM market.archive_pending()";
    let all: Vec<String> = days.iter().map(|day| format!("SPY|{day}|200|0|new")).collect();
    assert_eq!(texts(&client, pending).await?, all);
    assert_eq!(one(&client, "SELECT count(*) FROM market.archive_pending('SPY')").await?, "3");
    let mark = |day: &str, add: i32, n: &str, place: &str| {
        format!(
            "SELECT market.mark_archived('SPY', '{day}', (SELECT min(digest) FROM market.session_bars WHERE trade_date = '{day}') + {add}, '{place}'{n})"
        )
    };
    assert_eq!(one(&client, &mark(&days[0], 0, ", 200", "s3://a")).await?, "t");
    assert_eq!(one(&client, &mark(&days[0], 0, "", "s3://a")).await?, "f", "told again");
    assert_eq!(one(&client, &mark(&days[1], 0, "", "s3://a")).await?, "t");
    assert_eq!(texts(&client, pending).await?, all[2..]);
    let elsewhere = "SELECT count(*) FROM market.archive_pending('SPY', location => 's3://b')";
    assert_eq!(one(&client, elsewhere).await?, "3");
    assert_eq!(state(client.simple_query(&mark(&days[2], 1, "", "s3://a")).await)?, "55000", "another digest");
    assert_eq!(state(client.simple_query(&mark(&days[2], 0, ", 199", "s3://a")).await)?, "55000", "another number");
    assert_eq!(state(client.simple_query(&mark(&days[2], 0, "", " ")).await)?, "22023", "nowhere");
    assert_eq!(state(client.simple_query("SELECT market.mark_archived('SPX', '2025-11-28', 1, 'x')").await)?, "42704");
    assert_eq!(state(client.simple_query("SELECT market.mark_archived('SPY', '2005-11-28', 1, 'x')").await)?, "55000");
    let told = "SELECT count(*), min(n), max(revision), bool_and(timeline = (pg_control_checkpoint()).timeline_id),
        bool_and(system_identifier = (pg_control_system()).system_identifier) FROM market.archived_sessions";
    assert_eq!(one(&client, told).await?, "2|200|0|t|t");

    // a late trade: sealed again, the session is not what was archived
    let calendar = Calendar::builtin("XNYS")?;
    let session = calendar.session(TradeDate::parse(&days[0])?)?.context("a session")?;
    let late = store::session_trades(&mut Chance::new(74), &session, 2, false).slice(0..1);
    insert(&client, id, &late.iter().collect::<Vec<_>>()).await?;
    store::seal(&client, "SPY", &session).await?;
    assert_eq!(texts(&client, pending).await?, [format!("SPY|{}|201|1|changed", days[0]), all[2].clone()]);
    assert_eq!(one(&client, &mark(&days[0], 0, ", 201", "s3://a")).await?, "t", "archived again");
    assert_eq!(texts(&client, pending).await?, all[2..]);
    let sql = format!("SELECT market.unmark_archived('SPY', '{}', 's3://a')", days[1]);
    assert_eq!((one(&client, &sql).await?, one(&client, &sql).await?), ("t".to_owned(), "f".to_owned()));
    assert_eq!(texts(&client, pending).await?, all[1..]);
    // what another server archived does not count here
    client.batch_execute("UPDATE market.archived_sessions SET system_identifier = system_identifier + 1").await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.archive_pending()").await?, "3");
    assert_eq!(one(&client, &mark(&days[0], 0, "", "s3://a")).await?, "t");
    assert_eq!(one(&client, "SELECT count(*) FROM market.archive_pending()").await?, "2");
    Ok(())
}
