//! What one statement may cost: it ends when it is cancelled or its time is up, also inside the library's loops, and a long read
//! needs no more memory than a short one.

use anyhow::{Context, Result, ensure};
use market::{Calendar, Trades, block};
use tests::cluster;
use tests::store::{self, Chance, insert, put, sessions, state, texts};
use tokio_postgres::{Client, error::SqlState};

/// Takes the time limit away again, a statement that may itself need longer than the limit.
async fn no_timeout(client: &Client) -> Result<()> {
    loop {
        match client.batch_execute("SET statement_timeout = 0").await {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {}
            ended => return Ok(ended?),
        }
    }
}

/// Every statement that goes through many trades, with what the time allows: a thousandth of a second, in which none of them is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_time_is_up_ends_inside_the_loops() -> Result<()> {
    let client = cluster::database("timeout").await?.client().await?;
    let id = store::instrument(&client, "X", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-25", "2025-11-28")?;
    let mut chance = Chance::new(91);
    let whole: Vec<Trades> = days.iter().map(|day| store::session_trades(&mut chance, day, 200_000, false)).collect();
    put(&client, id, &whole[0]).await?;
    put(&client, id, &whole[1]).await?;
    // the last day: rows
    insert(&client, id, &whole[2].slice(0..100_000).iter().collect::<Vec<_>>()).await?;
    let everything = "SELECT count(*), sum(size), md5(string_agg(price::text, ',' ORDER BY ts, ns, seq, sub)) FROM market.trades WHERE symbol = 'X'";
    let before = texts(&client, everything).await?;
    let day = |at: usize| days[at].trade_date.to_string();
    let (first, second, last) = (day(0), day(1), day(2));
    for sql in [
        format!("SELECT * FROM market.verify_bars('X', '{first}', '{last}')"),
        format!("SELECT * FROM market.session_ohlc('X', '30s', date '{first}', date '{second}')"),
        format!("SELECT * FROM market.session_ohlc('X', '5m', date '{last}', date '{last}')"),
        format!("SELECT count(*) FROM market.trades_between('X', '{first}', '{last}')"),
        format!("SELECT count(*) FROM market.trades WHERE symbol = 'X' AND trade_date = '{first}'"),
        format!("SELECT * FROM market.explain_bar('X', '1d', '{first} 15:00+00')"),
        format!("SELECT market.seal('X', '{last}')"),
        "SELECT * FROM market.live_sessions()".to_owned(),
        format!(
            "SELECT market.bust_trade('X', ts, seq, ns, sub) FROM market.trades_between('X', '{first} 15:00+00', '{first} 15:10+00')"
        ),
        "CALL market.maintain('seal')".to_owned(),
    ] {
        client.batch_execute("SET statement_timeout = '1ms'").await?;
        let ended = client.simple_query(&sql).await;
        no_timeout(&client).await.context("the connection lives")?;
        assert_eq!(state(ended).with_context(|| sql.clone())?, "57014", "{sql}");
    }
    let payload = block::encode_session(&whole[2])?;
    client.batch_execute("SET statement_timeout = '1ms'").await?;
    let ended = client.query("SELECT market.put_trades($1, $2)", &[&id, &payload]).await;
    no_timeout(&client).await?;
    assert_eq!(state(ended)?, "57014", "put_trades");
    // nothing is half done
    assert_eq!(texts(&client, everything).await?, before);
    assert_eq!(store::verify(&client, "X").await?, Vec::<String>::new());
    Ok(())
}

/// A run of maintenance waits for a lock that a test holds, so that the cancel meets it at work.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_statement_lets_go_of_its_locks() -> Result<()> {
    let database = cluster::database("cancelled").await?;
    let (client, other, watcher) = (database.client().await?, database.client().await?, database.client().await?);
    let id = store::instrument(&client, "X", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let day = sessions(&calendar, "2025-11-25", "2025-11-25")?;
    insert(&client, id, &store::session_trades(&mut Chance::new(92), &day[0], 500, false).iter().collect::<Vec<_>>())
        .await?;
    let pid = texts(&client, "SELECT pg_backend_pid()").await?.remove(0);
    other.batch_execute("BEGIN; LOCK TABLE market.session_bars IN ACCESS EXCLUSIVE MODE").await?;
    let seal = tokio::spawn(async move {
        (client.simple_query("SELECT market.seal('X', '2025-11-25')").await.map(|_| ()), client)
    });
    let waits = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
    while texts(&watcher, &waits).await? == ["0"] {
        tokio::task::yield_now().await;
    }
    let held = format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND locktype = 'advisory'");
    ensure!(texts(&watcher, &held).await? != ["0"], "it holds the session's lock");
    assert_eq!(texts(&watcher, &format!("SELECT pg_cancel_backend({pid})")).await?, ["t"]);
    let (ended, client) = seal.await?;
    assert_eq!(state(ended)?, "57014");
    // the error is sent before its transaction is gone: the next answer is not
    texts(&client, "SELECT 1").await?;
    assert_eq!(texts(&watcher, &held).await?, ["0"]);
    other.batch_execute("COMMIT").await?;
    assert_eq!(texts(&client, "SELECT market.seal('X', '2025-11-25') > 0").await?, ["t"]);
    assert_eq!(store::verify(&client, "X").await?, Vec::<String>::new());
    Ok(())
}

/// A number of /proc/PID/status, in bytes.
fn status(pid: &str, field: &str) -> Result<i64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<i64>()? * 1024)
}

/// How much memory a query needs above what its backend has, at its peak.
async fn peak(client: &Client, pid: &str, sql: &str) -> Result<i64> {
    // twice: caches are filled and the pages that it shares with others are its own already
    texts(client, sql).await?;
    let before = status(pid, "VmRSS")?;
    // makes the peak what it is now
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    ensure!(!texts(client, sql).await?.is_empty(), "no rows: {sql}");
    Ok(status(pid, "VmHWM")? - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_read_needs_no_more_memory_than_a_short_one() -> Result<()> {
    let database = cluster::database("memory").await?;
    let client = database.client().await?;
    let id = store::instrument(&client, "X", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2024-12-02", "2025-11-28")?;
    let mut chance = Chance::new(93);
    for day in &days {
        put(&client, id, &store::session_trades(&mut chance, day, 8_000, false)).await?;
    }
    client.batch_execute("SET work_mem = '4MB'").await?;
    let pid = texts(&client, "SELECT pg_backend_pid()").await?.remove(0);
    if std::fs::write(format!("/proc/{pid}/clear_refs"), "5").is_err() {
        println!("skipped: the server's process is not on this machine or not ours");
        return Ok(());
    }
    // two million trades; as rows of a result they are more than 100 MB
    let (from, till) = (days[0].trade_date.to_string(), days[days.len() - 1].trade_date.to_string());
    let late = days[days.len() - 10].trade_date.to_string();
    for (what, sql) in [
        ("trades_between", "SELECT count(*) FROM market.trades_between('X', '$FROM', '2025-12-01')"),
        ("market.trades", "SELECT count(*) FROM market.trades WHERE symbol = 'X' AND trade_date >= '$FROM'"),
        ("verify_bars", "SELECT count(*) FROM market.verify_bars('X', '$FROM', '$TILL')"),
        ("bars of trades", "SELECT count(*) FROM market.session_ohlc('X', '90s', date '$FROM', date '$TILL')"),
        ("bars of minutes", "SELECT count(*) FROM market.session_ohlc('X', '5m', date '$FROM', date '$TILL')"),
        ("daily bars", "SELECT count(*) FROM market.session_ohlc('X', '1d', date '$FROM', date '$TILL')"),
    ] {
        let of = |first: &str| sql.replace("$FROM", first).replace("$TILL", &till);
        let (short, long) = (peak(&client, &pid, &of(&late)).await?, peak(&client, &pid, &of(&from)).await?);
        println!("{what}: ten sessions {} kB, {} sessions {} kB", short / 1024, days.len(), long / 1024);
        // a function's result stays in memory up to 64 MB, then goes to disk; all else is a page, whatever is read
        let most = if what == "trades_between" { 80 << 20 } else { 12 << 20 };
        ensure!(long < most, "{what}: {short} bytes for ten sessions, {long} for {}", days.len());
    }
    Ok(())
}
