//! Maintenance on a real server: sessions are sealed when they are over, late rows again after a quiet time, slots are
//! emptied only when no snapshot sees them, and nothing stops the rest.

use anyhow::{Context, Result, ensure};
use futures_util::stream::{StreamExt, poll_fn};
use tests::cluster::{self, Database};
use tests::store::{self, state, texts};
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// Trades of the last `sessions` sessions of XNYS before today, 300 each from 10:00 New York: over before 12:30, so that
/// a half day among them (the tests run on any day of the year) has no trades after its close.
async fn past(client: &Client, symbol: &str, sessions: i32) -> Result<()> {
    store::instrument(client, symbol, "XNYS").await?;
    let sql = format!(
        "INSERT INTO market.trades (symbol, ts, seq, price, size)
         SELECT '{symbol}', (d || ' 10:00 America/New_York')::timestamptz + n * interval '29 seconds', n, 600 + n % 13, 1 + n % 3
         FROM (SELECT market.next_session(current_date, 'XNYS', -k) AS d FROM generate_series(1, {sessions}) AS k) AS days,
              generate_series(1, 300) AS n"
    );
    client.batch_execute(&sql).await?;
    Ok(())
}

/// `n` trades of a market that never closes, all of the last seconds.
async fn running(client: &Client, symbol: &str, first_seq: i32, n: i32) -> Result<()> {
    let sql = format!(
        "INSERT INTO market.trades (symbol, ts, seq, price, size)
         SELECT '{symbol}', date_trunc('day', now()) + interval '1 second' + (s / 3) * interval '1 millisecond', s, 100 + s % 7, 1
         FROM generate_series({first_seq}, {first_seq} + {n} - 1) AS s"
    );
    client.batch_execute(&sql).await?;
    Ok(())
}

async fn maintain(client: &Client) -> Result<()> {
    client.batch_execute("CALL market.maintain()").await.context("maintain")
}

async fn one(client: &Client, sql: &str) -> Result<String> {
    texts(client, sql).await?.into_iter().next().with_context(|| format!("no row: {sql}"))
}

/// Maintains until a query answers as it must. Transactions of other tests hold back what is safe to remove: a snapshot's
/// horizon is the oldest running transaction of the whole server.
async fn until(client: &Client, sql: &str, expected: &str) -> Result<()> {
    for _ in 0..300 {
        maintain(client).await?;
        if one(client, sql).await? == expected {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("never {expected}: {sql}")
}

/// Every bar of a symbol, without its state.
async fn bars(client: &Client, symbol: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT trade_date, bar_at, open, high, low, close, volume, trades FROM market.session_ohlc('{symbol}', '5m',
         current_date - 20, current_date, segments => 'ALL') ORDER BY bar_at"
    );
    let found = texts(client, &sql).await?;
    ensure!(!found.is_empty(), "no bars");
    Ok(found)
}

/// The last run of each job that did something or failed.
async fn jobs(client: &Client) -> Result<Vec<String>> {
    let sql =
        "SELECT job, last_outcome, last_detail FROM market.job_status WHERE last_detail <> '{}' AND job <> 'history'";
    texts(client, sql).await
}

#[tokio::test]
async fn sessions_that_are_over_are_sealed_and_running_ones_wait() -> Result<()> {
    let client = cluster::database("life").await?.client().await?;
    past(&client, "SPY", 3).await?;
    store::instrument(&client, "BTC", "24/7").await?;
    running(&client, "BTC", 1, 1000).await?;
    let before = (bars(&client, "SPY").await?, bars(&client, "BTC").await?);
    maintain(&client).await?;
    assert_eq!((bars(&client, "SPY").await?, bars(&client, "BTC").await?), before);
    let sealed = "SELECT i.symbol, count(*), min(b.state), max(b.state), bool_and(b.verified_at IS NOT NULL AND b.differences = 0)
                  FROM market.session_bars AS b JOIN market.instruments AS i ON i.id = b.instrument_id GROUP BY 1";
    assert_eq!(texts(&client, sealed).await?, ["SPY|3|final|final|t"]);
    let left = "SELECT i.symbol, l.trades, l.state FROM market.live_sessions() AS l JOIN market.instruments AS i ON i.id = l.instrument_id";
    assert_eq!(texts(&client, left).await?, ["BTC|1000|running"]);
    ensure!(jobs(&client).await?.contains(&"seal|done|{\"sealed\": 3}".to_owned()), "{:?}", jobs(&client).await?);
    maintain(&client).await?;
    assert_eq!(jobs(&client).await?, Vec::<String>::new(), "nothing is left to do");
    Ok(())
}

#[tokio::test]
async fn a_long_tail_of_a_running_session_is_sealed_but_not_final() -> Result<()> {
    let client = cluster::database("tail").await?.client().await?;
    store::instrument(&client, "BTC", "24/7").await?;
    client
        .batch_execute("SELECT market.set_policy('seal', symbol => 'BTC', options => '{\"part_rows\": 70000}')")
        .await?;
    running(&client, "BTC", 1, 70_000).await?;
    let first = bars(&client, "BTC").await?;
    maintain(&client).await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.live_trades").await?, "0");
    assert_eq!(bars(&client, "BTC").await?, first);
    running(&client, "BTC", 70_001, 69_999).await?;
    maintain(&client).await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.live_trades").await?, "69999", "below the policy's number");
    running(&client, "BTC", 140_000, 1).await?;
    let second = bars(&client, "BTC").await?;
    maintain(&client).await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.live_trades").await?, "0");
    assert_eq!(bars(&client, "BTC").await?, second);
    let parts = one(&client, "SELECT sum(n), max(n) <= 65536 FROM market.trade_blocks").await?;
    assert_eq!(parts, "140000|t");
    let states = "SELECT DISTINCT state, revision, reason LIKE 'the session runs until %' FROM market.session_bars";
    assert_eq!(texts(&client, states).await?, ["provisional|0|t"]);
    assert_eq!(store::verify(&client, "BTC").await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_late_row_is_sealed_again_after_a_quiet_time_or_with_enough_others() -> Result<()> {
    let client = cluster::database("late").await?.client().await?;
    past(&client, "SPY", 2).await?;
    maintain(&client).await?;
    let late = |n: i32| {
        format!(
            "INSERT INTO market.trades (symbol, ts, seq, price, size)
             SELECT 'SPY', (market.next_session(current_date, 'XNYS', -1) || ' 11:00 America/New_York')::timestamptz, {n}, 999, 5"
        )
    };
    let states = "SELECT state, count(*) FROM market.session_ohlc('SPY', '1d', current_date - 20, current_date) GROUP BY 1 ORDER BY 1";
    client
        .batch_execute("SELECT market.set_policy('seal', options => '{\"quiet\": \"1 hour\", \"late_rows\": 3}')")
        .await?;
    client.batch_execute(&late(5001)).await?;
    let with = bars(&client, "SPY").await?;
    ensure!(with.iter().any(|bar| bar.contains("|999|")), "the late row shows at once");
    maintain(&client).await?;
    assert_eq!(texts(&client, states).await?, ["final|1", "provisional|1"], "it waits for others");
    client.batch_execute(&(late(5002) + ";" + &late(5003))).await?;
    let with = bars(&client, "SPY").await?;
    maintain(&client).await?;
    assert_eq!(texts(&client, states).await?, ["final|1", "revised(1)|1"], "three need not wait");
    assert_eq!(bars(&client, "SPY").await?, with);
    client.batch_execute("SELECT market.set_policy('seal', options => '{\"quiet\": \"0 s\"}')").await?;
    client.batch_execute("SELECT market.bust_trade('SPY', (market.next_session(current_date, 'XNYS', -1) || ' 11:00 America/New_York')::timestamptz, 5002)").await?;
    let with = bars(&client, "SPY").await?;
    maintain(&client).await?;
    assert_eq!(texts(&client, states).await?, ["final|1", "revised(2)|1"], "a quiet time of nothing");
    assert_eq!(bars(&client, "SPY").await?, with);
    assert_eq!(one(&client, "SELECT count(*) FROM market.live_trades").await?, "0");
    assert_eq!(store::verify(&client, "SPY").await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn an_open_gap_keeps_a_session_provisional_and_says_why() -> Result<()> {
    let client = cluster::database("gap").await?.client().await?;
    past(&client, "SPY", 2).await?;
    client
        .batch_execute(
            "INSERT INTO market.feed_gaps (feed, instrument_id, first_missing, last_missing, from_ts, till_ts)
             SELECT 'sip', market.instrument_id('SPY'), 17, 19, t, t + interval '1 second'
             FROM (SELECT (market.next_session(current_date, 'XNYS', -1) || ' 12:00 America/New_York')::timestamptz AS t) AS at",
        )
        .await?;
    maintain(&client).await?;
    let states = "SELECT state, reason FROM market.session_bars ORDER BY trade_date";
    let held = ["final|-", "provisional|feed sip has an open gap: 17 to 19 are missing"];
    assert_eq!(texts(&client, states).await?, held);
    maintain(&client).await?;
    assert_eq!(texts(&client, states).await?, held, "for as long as it is open");
    client.batch_execute("UPDATE market.feed_gaps SET closed_at = now()").await?;
    maintain(&client).await?;
    assert_eq!(texts(&client, states).await?, ["final|-", "final|-"]);
    Ok(())
}

#[tokio::test]
async fn an_old_snapshot_sees_all_trades_across_seal_and_truncate() -> Result<()> {
    let database = cluster::database("old").await?;
    let (reader, writer) = (database.client().await?, database.client().await?);
    past(&writer, "SPY", 2).await?;
    // as if they had come half a day ago
    writer.batch_execute("UPDATE market.live_trades SET slot = (market.current_slot() + 12) % 24").await?;
    let count =
        "SELECT sum(trades) FROM market.session_ohlc('SPY', '1d', current_date - 20, current_date, segments => 'ALL')";
    let all = "SELECT count(*) FROM market.trades WHERE symbol = 'SPY'";
    let slot = "SELECT pg_relation_size('market.live_trades_' || (market.current_slot() + 12) % 24) > 0";
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!((one(&reader, count).await?, one(&reader, all).await?), ("600".to_owned(), "600".to_owned()));
    for _ in 0..2 {
        maintain(&writer).await?;
        assert_eq!(one(&writer, "SELECT sum(n) FROM market.trade_blocks").await?, "600", "sealed");
        assert_eq!((one(&reader, count).await?, one(&reader, all).await?), ("600".to_owned(), "600".to_owned()));
        assert_eq!(one(&writer, slot).await?, "t", "the slot stays while the snapshot does");
    }
    reader.batch_execute("COMMIT").await?;
    until(&writer, slot, "f").await.context("no snapshot sees a row of it any more")?;
    assert_eq!((one(&reader, count).await?, one(&reader, all).await?), ("600".to_owned(), "600".to_owned()));
    Ok(())
}

#[tokio::test]
async fn rows_that_came_and_went_keep_an_empty_slot_for_who_saw_them() -> Result<()> {
    let database = cluster::database("came").await?;
    let (reader, writer) = (database.client().await?, database.client().await?);
    past(&writer, "SPY", 1).await?;
    maintain(&writer).await?;
    let into_old = "INSERT INTO market.live_trades (instrument_id, ts, seq, price, size, slot)
        SELECT market.instrument_id('SPY'), (market.next_session(current_date, 'XNYS', -1) || ' 13:00 America/New_York')::timestamptz,
          9000 + n, 601, 1, (market.current_slot() + 12) % 24 FROM generate_series(1, 10) AS n";
    writer.batch_execute(into_old).await?;
    let all = "SELECT count(*) FROM market.trades WHERE symbol = 'SPY'";
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!(one(&reader, all).await?, "310");
    writer.batch_execute("SELECT market.seal('SPY', market.next_session(current_date, 'XNYS', -1))").await?;
    let slot = "pg_relation_size('market.live_trades_' || (market.current_slot() + 12) % 24)";
    maintain(&writer).await?;
    assert_eq!(one(&writer, &format!("SELECT {slot} > 0")).await?, "t", "the reader needs them");
    assert_eq!(one(&reader, all).await?, "310");
    reader.batch_execute("COMMIT").await?;
    until(&writer, &format!("SELECT {slot} = 0"), "t").await?;
    assert_eq!(one(&reader, all).await?, "310");
    Ok(())
}

#[tokio::test]
async fn stragglers_move_to_the_running_slot_and_theirs_is_truncated() -> Result<()> {
    let client = cluster::database("straggler").await?.client().await?;
    store::instrument(&client, "SPY", "XNYS").await?;
    // beyond what the calendar knows: stored, seen, and never sealed
    client
        .batch_execute(
            "INSERT INTO market.live_trades (instrument_id, ts, seq, price, size, slot)
             SELECT market.instrument_id('SPY'), '2199-03-05 15:00+00', n, 601, 1, (market.current_slot() + 10) % 24 FROM generate_series(1, 10) AS n",
        )
        .await?;
    maintain(&client).await?;
    assert_eq!(texts(&client, "SELECT state, trades FROM market.live_sessions()").await?, ["projected|10"]);
    assert_eq!(one(&client, "SELECT count(*) FROM market.live_trades WHERE slot = market.current_slot()").await?, "10");
    until(
        &client,
        "SELECT count(*) FROM market.partition_status WHERE parent = 'live_trades' AND state = 'in use'",
        "0",
    )
    .await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.trades WHERE symbol = 'SPY'").await?, "10");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_maintains_at_once_do_everything_once() -> Result<()> {
    let database = cluster::database("both").await?;
    let (a, b) = (database.client().await?, database.client().await?);
    for symbol in ["A", "B", "C"] {
        past(&a, symbol, 8).await?;
    }
    let before = bars(&a, "B").await?;
    let (first, second) = tokio::join!(maintain(&a), maintain(&b));
    first?;
    second?;
    assert_eq!(
        one(&a, "SELECT sum(n), count(*), count(DISTINCT (instrument_id, trade_date)) FROM market.trade_blocks")
            .await?,
        "7200|24|24"
    );
    assert_eq!(texts(&a, "SELECT DISTINCT state, revision FROM market.session_bars").await?, ["final|0"]);
    assert_eq!(bars(&a, "B").await?, before);
    assert_eq!(texts(&a, "SELECT error FROM market.job_runs WHERE error IS NOT NULL").await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_failing_session_stops_no_other_and_the_error_is_kept() -> Result<()> {
    let client = cluster::database("failing").await?.client().await?;
    past(&client, "BAD", 1).await?;
    maintain(&client).await?;
    client
        .batch_execute(
            "SELECT market.set_policy('seal', options => '{\"quiet\": \"0 s\"}');
             UPDATE market.trade_blocks SET payload = set_byte(payload, length(payload) / 2, 255 - get_byte(payload, length(payload) / 2));
             INSERT INTO market.trades (symbol, ts, seq, price, size)
             SELECT 'BAD', (market.next_session(current_date, 'XNYS', -1) || ' 11:00 America/New_York')::timestamptz, 5001, 999, 5",
        )
        .await?;
    past(&client, "GOOD", 2).await?;
    maintain(&client).await?;
    let good = "SELECT count(*), min(state) FROM market.session_bars WHERE instrument_id = market.instrument_id('GOOD') AND verified_at IS NOT NULL";
    assert_eq!(one(&client, good).await?, "2|final");
    let status = "SELECT last_outcome, last_detail, last_error FROM market.job_status WHERE job = 'seal'";
    let found = one(&client, status).await?;
    ensure!(found.starts_with("failed|{\"failed\": 1, \"sealed\": 2}|instrument 1 "), "{found}");
    assert_eq!(one(&client, "SELECT count(*) FROM market.live_trades").await?, "1", "the late row is kept");
    Ok(())
}

#[tokio::test]
async fn a_failing_job_stops_no_other_and_runs_again_when_it_can() -> Result<()> {
    let client = cluster::database("job_fails").await?.client().await?;
    past(&client, "SPY", 2).await?;
    // past set_policy(), which refuses it: retention cannot even say what it has to do
    client
        .batch_execute("INSERT INTO market.policies (action, keep_sessions, options) VALUES ('retention', 1, '{\"archived\": \"perhaps\"}')")
        .await?;
    maintain(&client).await?;
    let outcomes = "SELECT job, last_outcome, last_error FROM market.job_status ORDER BY place";
    let said = "retention|failed|invalid input syntax for type boolean: \"perhaps\"";
    let others = |retention: &str| {
        ["seal|done|-", "verify|done|-", retention, "slots|done|-", "partitions|done|-", "history|done|-"]
            .map(str::to_owned)
    };
    assert_eq!(texts(&client, outcomes).await?, others(said));
    ensure!(
        one(&client, "SELECT count(*) FROM market.session_bars WHERE state = 'final' AND differences = 0").await?
            != "0"
    );
    client.batch_execute("UPDATE market.policies SET options = '{}'").await?;
    maintain(&client).await?;
    let healed = "retention|done|invalid input syntax for type boolean: \"perhaps\"";
    assert_eq!(texts(&client, outcomes).await?, others(healed), "the last error stays to be seen");
    ensure!(one(&client, "SELECT count(*) FROM market.audit_log WHERE action = 'retention'").await? != "0");
    Ok(())
}

#[tokio::test]
async fn what_verification_finds_is_reported_and_kept() -> Result<()> {
    let client = cluster::database("differs").await?.client().await?;
    past(&client, "SPY", 2).await?;
    client.batch_execute("CALL market.maintain('seal')").await?;
    client
        .batch_execute("UPDATE market.session_bars SET close = close + 1 WHERE trade_date = market.next_session(current_date, 'XNYS', -1)")
        .await?;
    maintain(&client).await?;
    let found = "SELECT differences, verified_at IS NOT NULL FROM market.session_bars ORDER BY trade_date";
    assert_eq!(texts(&client, found).await?, ["0|t", "1|t"]);
    let status = one(&client, "SELECT last_outcome, last_detail FROM market.job_status WHERE job = 'verify'").await?;
    assert_eq!(status, "failed|{\"differs\": 1, \"verified\": 1}");
    assert_eq!(
        one(&client, "SELECT detail ->> 'symbol', detail ->> 'differences' FROM market.audit_log").await?,
        "SPY|1"
    );
    Ok(())
}

#[tokio::test]
async fn a_verify_policy_looks_again_at_a_rolling_window() -> Result<()> {
    let client = cluster::database("rolling").await?.client().await?;
    past(&client, "SPY", 5).await?;
    maintain(&client).await?;
    client
        .batch_execute("SELECT market.set_policy('verify', keep_sessions => 2, options => '{\"again\": \"1 day\"}')")
        .await?;
    let damage = "UPDATE market.session_bars SET close = close + 1";
    client.batch_execute(damage).await?;
    maintain(&client).await?;
    let found = "SELECT bool_or(differences > 0) FROM market.session_bars";
    assert_eq!(one(&client, found).await?, "f", "verified less than a day ago");
    client.batch_execute("UPDATE market.session_bars SET verified_at = now() - interval '25 hours'").await?;
    maintain(&client).await?;
    let windows = "SELECT DISTINCT trade_date >= market.retention_cutoff('XNYS', 2), differences > 0, verified_at > now() - interval '1 hour'
        FROM market.session_bars ORDER BY 1";
    assert_eq!(texts(&client, windows).await?, ["f|f|f", "t|t|t"], "inside the window alone");
    let status = one(&client, "SELECT last_outcome FROM market.job_status WHERE job = 'verify'").await?;
    assert_eq!(status, "failed", "and the job says so");
    Ok(())
}

#[tokio::test]
async fn a_job_that_left_work_is_due_at_once() -> Result<()> {
    let client = cluster::database("goes_on").await?.client().await?;
    past(&client, "SPY", 2).await?;
    let due = |job: &str| format!("SELECT next_run_at <= clock_timestamp() FROM market.jobs WHERE name = '{job}'");
    maintain(&client).await?;
    assert_eq!(one(&client, &due("verify")).await?, "f");
    for (detail, at_once) in [
        ("{\"verified\": 999}", "f"),
        ("{\"verified\": 998, \"differs\": 2}", "t"),
        ("{\"failed\": 1000}", "f"),
        ("{\"verified\": 3, \"left for the next run\": 1}", "t"),
    ] {
        client.batch_execute(&format!("SELECT market.end_job(market.begin_job('verify'), '{detail}', NULL)")).await?;
        assert_eq!(one(&client, &due("verify")).await?, at_once, "{detail}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cancelled_run_ends_at_once_and_shows_as_interrupted() -> Result<()> {
    let database = cluster::database("cancel").await?;
    let (client, other) = (database.client().await?, database.client().await?);
    past(&client, "SPY", 2).await?;
    other.batch_execute("BEGIN; LOCK TABLE market.session_bars IN ACCESS EXCLUSIVE MODE").await?;
    client.batch_execute("SET statement_timeout = '200ms'").await?;
    assert_eq!(state(client.simple_query("CALL market.maintain()").await)?, "57014");
    other.batch_execute("COMMIT").await?;
    client.batch_execute("SET statement_timeout = 0").await?;
    maintain(&client).await?;
    let runs = "SELECT outcome, error FROM market.job_runs WHERE job = 'seal' ORDER BY id";
    assert_eq!(texts(&client, runs).await?, ["failed|interrupted: its process ended", "done|-"]);
    assert_eq!(one(&client, "SELECT count(*), min(state) FROM market.session_bars").await?, "2|final");
    Ok(())
}

#[tokio::test]
async fn what_somebody_works_on_is_skipped() -> Result<()> {
    let database = cluster::database("locked").await?;
    let (client, other) = (database.client().await?, database.client().await?);
    past(&client, "SPY", 2).await?;
    other
        .batch_execute("BEGIN; SELECT market.try_lock_session(1, market.next_session(current_date, 'XNYS', -1))")
        .await?;
    maintain(&client).await?;
    assert_eq!(
        one(&client, "SELECT last_outcome, last_detail FROM market.job_status WHERE job = 'seal'").await?,
        "done|{\"locked\": 1, \"sealed\": 1}"
    );
    other.batch_execute("COMMIT").await?;
    maintain(&client).await?;
    assert_eq!(one(&client, "SELECT count(*), min(state) FROM market.session_bars").await?, "2|final");
    Ok(())
}

#[tokio::test]
async fn listeners_hear_of_sealed_and_revised_sessions() -> Result<()> {
    let database: Database = cluster::database("listen").await?;
    let client = database.client().await?;
    let (listener, mut connection) = tokio_postgres::connect(&database.url, NoTls).await?;
    let (send, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(n) = message {
                let _ = send.send(n.payload().to_owned());
            }
        }
    });
    listener.batch_execute("LISTEN market_revisions").await?;
    past(&client, "SPY", 1).await?;
    store::instrument(&client, "BTC", "24/7").await?;
    running(&client, "BTC", 1, 10).await?;
    client.batch_execute("SELECT market.seal('BTC', (now() AT TIME ZONE 'UTC')::date)").await?;
    maintain(&client).await?;
    let day = one(&client, "SELECT market.next_session(current_date, 'XNYS', -1)").await?;
    client.batch_execute(&format!("SELECT market.bust_trade('SPY', (date '{day}' || ' 10:00:29 America/New_York')::timestamptz, 1); SELECT market.seal('SPY', '{day}')")).await?;
    for (state, revision) in [("final", 0), ("revised", 1)] {
        let said: serde_json::Value = serde_json::from_str(&heard.recv().await.context("heard nothing")?)?;
        let expected = serde_json::json!({"symbol": "SPY", "trade_date": day, "state": state, "revision": revision});
        assert_eq!(said, expected);
    }
    Ok(())
}

#[tokio::test]
async fn a_budget_ends_a_run_and_a_wrong_word_is_refused() -> Result<()> {
    let client = cluster::database("words").await?.client().await?;
    past(&client, "SPY", 1).await?;
    for (sql, code) in [
        ("CALL market.maintain('sweep')", "22023"),
        ("CALL market.maintain(budget => '-1 s')", "22023"),
        ("SELECT market.set_policy('retain')", "22023"),
        ("SELECT market.set_policy('retention')", "22023"),
        ("SELECT market.set_policy('retention', 'session_bars', keep_sessions => 5)", "22023"),
        ("SELECT market.set_policy('seal', options => '{\"quite\": \"1 s\"}')", "22023"),
        ("SELECT market.set_policy('seal', options => '{\"quiet\": \"soon\"}')", "22007"),
        ("SELECT market.set_policy('seal', symbol => 'SPX')", "42704"),
        ("SELECT market.set_policy('seal', calendar => 'XNYX')", "42704"),
        ("SELECT market.truncate_slot('session_bars')", "22023"),
        ("SELECT market.drop_partition('session_bars')", "22023"),
    ] {
        assert_eq!(state(client.simple_query(sql).await)?, code, "{sql}");
    }
    client.batch_execute("CALL market.maintain(budget => '1 microsecond')").await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.session_bars").await?, "0");
    client.batch_execute("CALL market.maintain(due => true)").await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.session_bars").await?, "1");
    client.batch_execute("CALL market.maintain(due => true)").await?;
    assert_eq!(
        one(&client, "SELECT count(*) FROM market.job_runs WHERE job = 'seal'").await?,
        "1",
        "not due again yet"
    );
    Ok(())
}
