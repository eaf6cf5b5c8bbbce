//! The laws of corrections: what the venue took back or replaced outranks data, before and after every seal and load.

use anyhow::{Context, Result, ensure};
use tests::cluster;
use tokio_postgres::{Client, SimpleQueryMessage};

const DAY: &str = "2025-11-25";

async fn rows(client: &Client, sql: &str) -> Result<Vec<String>> {
    let messages = client.simple_query(sql).await.with_context(|| sql.to_string())?;
    let text = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let fields: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
            Some(fields.join("|"))
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(text).collect())
}

async fn one(client: &Client, sql: &str) -> Result<String> {
    rows(client, sql).await?.into_iter().next().with_context(|| format!("no row from {sql}"))
}

async fn instrument(client: &Client) -> Result<()> {
    Ok(client.batch_execute("SELECT market.add_instrument('SPY', calendar => 'XNYS', tick_size => 0.01)").await?)
}

async fn insert(client: &Client, values: &str) -> Result<()> {
    let sql = format!("INSERT INTO market.trades (symbol, ts, seq, price, size, sub, trade_id) VALUES {values}");
    Ok(client.batch_execute(&sql).await?)
}

/// Three trades at 100, 101 and 102, ten seconds apart.
async fn three_trades(client: &Client) -> Result<()> {
    instrument(client).await?;
    let row = |n: i32| format!("('SPY', '{DAY} 15:00:{}0+00', {n}, {}, {n}, 0, {})", n - 1, 99 + n, 900 + n);
    insert(client, &[row(1), row(2), row(3)].join(", ")).await
}

/// The day's bar without its state, and its trades.
async fn answer(client: &Client) -> Result<Vec<String>> {
    let bar = format!(
        "SELECT open, high, low, close, volume, trades FROM market.session_ohlc('SPY', '1d', '{DAY}', '{DAY}')"
    );
    let trades =
        "SELECT ts, seq, sub, price, size, flags FROM market.trades WHERE symbol = 'SPY' ORDER BY ts, ns, seq, sub";
    Ok([rows(client, &bar).await?, rows(client, trades).await?].concat())
}

async fn seal(client: &Client) -> Result<String> {
    one(client, &format!("SELECT market.seal('SPY', '{DAY}')")).await
}

/// Seals, and the answer is what it was before.
async fn seal_changes_nothing(client: &Client) -> Result<()> {
    let before = answer(client).await?;
    seal(client).await?;
    assert_eq!(answer(client).await?, before);
    let verify = format!("SELECT * FROM market.verify_bars('SPY', '{DAY}', '{DAY}')");
    assert_eq!(rows(client, &verify).await?, Vec::<String>::new());
    assert_eq!(one(client, "SELECT count(*) FROM market.live_trades").await?, "0");
    Ok(())
}

fn correct(seq: i32, price: i32) -> String {
    format!("SELECT market.correct_trade('SPY', '{DAY} 15:00:{}0+00', {seq}, {price}, 5)", seq - 1)
}

#[tokio::test]
async fn a_corrected_live_trade_survives_its_seal() -> Result<()> {
    let client = cluster::database("correct_live").await?.client().await?;
    three_trades(&client).await?;
    assert_eq!(one(&client, &correct(2, 111)).await?, "t");
    ensure!(answer(&client).await?[0].starts_with("100|111|100|102|9|3"));
    seal_changes_nothing(&client).await?;
    assert_eq!(one(&client, &correct(2, 112)).await?, "t", "a sealed one is corrected as well");
    ensure!(answer(&client).await?[0].starts_with("100|112|100|102|9|3"));
    seal_changes_nothing(&client).await
}

#[tokio::test]
async fn a_correction_of_a_trade_to_come_waits_for_it_unseen() -> Result<()> {
    let client = cluster::database("correct_early").await?.client().await?;
    three_trades(&client).await?;
    let before = answer(&client).await?;
    let early = format!("SELECT market.correct_trade('SPY', '{DAY} 15:00:30+00', 4, 200, 5)");
    assert_eq!(one(&client, &early).await?, "f");
    assert_eq!(answer(&client).await?, before);
    seal_changes_nothing(&client).await?;
    insert(&client, &format!("('SPY', '{DAY} 15:00:30+00', 4, 50, 1, 0, 904)")).await?;
    ensure!(answer(&client).await?[0].starts_with("100|200|100|200|11|4"));
    seal_changes_nothing(&client).await
}

/// The prices are not the flags: a trade that came flagged after its correction stays out of the day's high.
#[tokio::test]
async fn a_correction_that_names_no_flags_keeps_the_reported_ones_in_both_engines() -> Result<()> {
    let database = cluster::database("correct_flags").await?;
    let client = database.client().await?;
    three_trades(&client).await?;
    let correct = format!("SELECT market.correct_trade('SPY', '{DAY} 15:00:30+00', 4, 200, 5)");
    assert_eq!(one(&client, &correct).await?, "f");
    let flags = market::flags::NO_HIGH_LOW | market::flags::NO_LAST;
    let late = format!(
        "INSERT INTO market.trades (symbol, ts, seq, price, size, flags) VALUES ('SPY', '{DAY} 15:00:30+00', 4, 50, 1, {flags})"
    );
    client.batch_execute(&late).await?;
    let bars = format!(
        "SELECT open, high, low, close, volume, trades FROM market.session_ohlc('SPY', '1d', date '{DAY}', date '{DAY}')"
    );
    for sealed in [false, true] {
        if sealed {
            seal_changes_nothing(&client).await?;
        }
        ensure!(answer(&client).await?[0].starts_with("100|102|100|102|11|4"), "sealed: {sealed}");
        let out = database.program("querycli", &["--format", "csv", "-c", &bars])?.output()?;
        let (said, errors) = (String::from_utf8(out.stdout)?, String::from_utf8(out.stderr)?);
        let row = said.lines().nth(1).with_context(|| errors.clone())?;
        assert_eq!(row.replace(".0", ""), "100,102,100,102,11,4", "sealed: {sealed}");
    }
    Ok(())
}

#[tokio::test]
async fn the_last_word_on_a_trade_counts() -> Result<()> {
    let client = cluster::database("last_word").await?.client().await?;
    three_trades(&client).await?;
    seal(&client).await?;
    assert_eq!(one(&client, &format!("SELECT market.bust_trade('SPY', 903, '{DAY}')")).await?, "t");
    ensure!(answer(&client).await?[0].starts_with("100|101|100|101|3|2"));
    assert_eq!(one(&client, &format!("SELECT market.bust_trade('SPY', 903, '{DAY}')")).await?, "f", "busted already");
    assert_eq!(one(&client, &correct(3, 103)).await?, "f");
    ensure!(answer(&client).await?[0].starts_with("100|103|100|103|8|3"), "the bust was taken back");
    seal_changes_nothing(&client).await
}

#[tokio::test]
async fn an_ambiguous_name_is_refused_with_the_candidates() -> Result<()> {
    let client = cluster::database("ambiguous").await?.client().await?;
    instrument(&client).await?;
    insert(&client, &format!("('SPY', '{DAY} 15:00+00', 1, 100, 1, 0, 1), ('SPY', '{DAY} 15:00+00', 1, 101, 1, 1, 2)"))
        .await?;
    let bust = |rest: &str| format!("SELECT market.bust_trade('SPY', '{DAY} 15:00+00', 1{rest})");
    let error = client.simple_query(&bust("")).await.expect_err("refused");
    let error = error.as_db_error().context("an error of the server")?;
    assert_eq!(error.code().code(), "22023");
    ensure!(error.message().contains("sub 0") && error.message().contains("sub 1"), "{}", error.message());
    assert_eq!(one(&client, &bust(", sub => 1::int2")).await?, "t");
    ensure!(answer(&client).await?[0].starts_with("100|100|100|100|1|1"));
    seal_changes_nothing(&client).await
}

#[tokio::test]
async fn one_identity_with_two_contents_is_one_trade_and_a_dead_letter() -> Result<()> {
    let client = cluster::database("conflict").await?.client().await?;
    instrument(&client).await?;
    insert(&client, &format!("('SPY', '{DAY} 15:00+00', 1, 100, 1, 0, 1), ('SPY', '{DAY} 15:00+00', 1, 101, 1, 0, 1)"))
        .await?;
    seal_changes_nothing(&client).await?;
    assert_eq!(one(&client, "SELECT count(*) FROM market.dead_letters").await?, "1");
    Ok(())
}

#[tokio::test]
async fn prices_beyond_fixed_point_are_refused_where_they_come_in() -> Result<()> {
    let client = cluster::database("too_large").await?.client().await?;
    three_trades(&client).await?;
    for bad in ["1e10, 1", "'nan', 1", "1, -1", "1, 1e10"] {
        let sql = format!(
            "INSERT INTO market.live_trades (instrument_id, ts, price, size) VALUES (1, '{DAY} 15:00+00', {bad})"
        );
        ensure!(client.batch_execute(&sql).await.is_err(), "taken: {bad}");
    }
    seal_changes_nothing(&client).await
}

/// What is sealed outranks a row of its identity, also when it was corrected before it was sealed.
#[tokio::test]
async fn a_row_that_comes_after_its_sealed_correction_changes_no_answer() -> Result<()> {
    let client = cluster::database("correct_then_row").await?.client().await?;
    three_trades(&client).await?;
    assert_eq!(one(&client, &correct(2, 111)).await?, "t");
    seal_changes_nothing(&client).await?;
    let all = "SELECT ts, seq, sub, price, size, flags, cond, ts_recv, trade_id FROM market.trades WHERE symbol = 'SPY' ORDER BY ts, seq, sub";
    let before = rows(&client, all).await?;
    let again = format!(
        "INSERT INTO market.trades (symbol, ts, seq, price, size, flags, cond, trade_id)
         VALUES ('SPY', '{DAY} 15:00:10+00', 2, 101, 2, 1, 77, 9)"
    );
    client.batch_execute(&again).await?;
    assert_eq!(rows(&client, all).await?, before);
    seal_changes_nothing(&client).await?;
    assert_eq!(rows(&client, all).await?, before);
    Ok(())
}

/// Flags that a correction does not name stay as they are, whether or not an earlier one that named them was sealed between.
#[tokio::test]
async fn flags_of_an_earlier_correction_stay_whenever_it_was_sealed() -> Result<()> {
    let mut answers = Vec::new();
    for sealed in [[false, false], [true, false], [false, true], [true, true]] {
        let client = cluster::database("correct_twice").await?.client().await?;
        three_trades(&client).await?;
        let flagged = correct(2, 111).replace(", 5)", ", 5, flags => 1)");
        for (call, seals) in [flagged, correct(2, 112)].iter().zip(sealed) {
            assert_eq!(one(&client, call).await?, "t", "{call}");
            if seals {
                seal_changes_nothing(&client).await?;
            }
        }
        ensure!(answer(&client).await?.iter().any(|row| row.ends_with("|2|0|112|5|1")), "{:?}", answer(&client).await?);
        seal_changes_nothing(&client).await?;
        answers.push(answer(&client).await?);
    }
    ensure!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
    Ok(())
}
