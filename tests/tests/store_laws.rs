//! The laws of the store, on a real server: no way of storing trades changes an answer, nothing is lost or counted twice.

use anyhow::{Result, ensure};
use market::{Calendar, Trade, Trades, flags};
use tests::store::{
    self, Chance, Put, TICK, flat, fresh, generate, insert, put, same, seal, sessions, texts, verify, view,
};
use tokio_postgres::{Client, IsolationLevel};

const EVERYTHING: &str = "SELECT * FROM market.session_ohlc('X', '5m', '2025-11-20', '2025-12-05', segments => 'ALL')";

/// Bars without their state, which says how they are stored.
async fn answers(client: &Client, symbol: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for (timeframe, segments) in [("1m", "ALL"), ("30s", "ETH"), ("1d", "RTH"), ("1d", "ETH"), ("1w", "ALL")] {
        let sql = format!(
            "SELECT trade_date, bar_at, bar_end, open, high, low, close, volume, trades, vwap
             FROM market.session_ohlc('{symbol}', '{timeframe}', '2025-11-20', '2025-12-05', segments => '{segments}') ORDER BY 2"
        );
        all.extend(texts(client, &sql).await?.into_iter().map(|row| format!("{timeframe} {segments} {row}")));
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn seal_changes_no_answer() -> Result<()> {
    let (_db, client, id) = fresh("seal", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-12-01")?;
    let mut chance = Chance::new(11);
    let mut trades = flat(&generate(&mut chance, &days, 1500));
    chance.shuffle(&mut trades);
    let (first, late) = trades.split_at(trades.len() * 3 / 4);
    insert(&client, id, first).await?;
    for round in [first, late] {
        if round.len() == late.len() {
            insert(&client, id, late).await?;
        }
        // some are taken back, some corrected, wherever they lie
        for t in round.iter().step_by(97) {
            let at = format!("timestamptz 'epoch' + {} * interval '1 microsecond'", t.ts.div_euclid(1000));
            let identity =
                format!("'X', {at}, {}, ns => {}::int2, sub => {}::int2", t.seq, t.ts.rem_euclid(1000), t.sub);
            let call = match t.seq % 2 {
                0 => format!("market.bust_trade({identity})"),
                _ => format!(
                    "market.correct_trade({identity}, price => {}, size => 7)",
                    market::money::to_f64(t.price) + 1.0
                ),
            };
            assert_eq!(texts(&client, &format!("SELECT {call}")).await?, ["t"], "{call}");
        }
        let before = (answers(&client, "X").await?, view(&client, "X").await?);
        for day in &days {
            seal(&client, "X", day).await?;
            same("bars", &answers(&client, "X").await?, &before.0);
        }
        same("trades", &view(&client, "X").await?, &before.1);
        assert_eq!(texts(&client, "SELECT count(*) FROM market.live_trades").await?, ["0"]);
        same("verify", &verify(&client, "X").await?, &[]);
        let between =
            format!("SELECT {} FROM market.trades_between('X', '-infinity', 'infinity')", store::TRADE_COLUMNS);
        same("trades_between", &texts(&client, &between).await?, &before.1);
    }
    Ok(())
}

/// A correction of a trade that nobody has reported waits for it, as a bust does.
#[tokio::test]
async fn a_correction_waits_for_its_trade() -> Result<()> {
    let (_db, client, id) = fresh("orphan", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let t = Trade {
        ts: days[0].spans.to_vec()[1].open + 5_000,
        seq: 3,
        price: 100 * TICK,
        size: 1,
        cond: 5,
        ..Trade::default()
    };
    client.batch_execute("SELECT market.correct_trade('X', '2025-11-26 14:30:00.000005+00', 3, 42, 9)").await?;
    assert_eq!(view(&client, "X").await?.len(), 0);
    seal(&client, "X", &days[0]).await?;
    assert_eq!(view(&client, "X").await?.len(), 0);
    insert(&client, id, &[t]).await?;
    let before = (view(&client, "X").await?, answers(&client, "X").await?);
    assert!(before.0[0].contains("|42|9|0|5|"), "{:?}", before.0);
    for _ in 0..2 {
        seal(&client, "X", &days[0]).await?;
        same("trades", &view(&client, "X").await?, &before.0);
        same("bars", &answers(&client, "X").await?, &before.1);
        // it is reported once more, with what it was
        insert(&client, id, &[t]).await?;
        same("trades, reported again", &view(&client, "X").await?, &before.0);
    }
    assert_eq!(put(&client, id, &[t].into_iter().collect()).await?, Put { added: 0, known: 1, conflicts: 0 });
    assert_eq!(texts(&client, "SELECT count(*) FROM market.dead_letters").await?, ["0"]);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// A part that is gone comes back when its trades are sent again.
#[tokio::test]
async fn sending_trades_again_repairs_a_lost_part() -> Result<()> {
    let (_db, client, id) = fresh("repair", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let all = store::session_trades(&mut Chance::new(21), &days[0], 1000, true);
    put(&client, id, &all).await?;
    let before = (view(&client, "X").await?, answers(&client, "X").await?);
    client.batch_execute("DELETE FROM market.trade_blocks").await?;
    assert_eq!(put(&client, id, &all).await?.added, all.len() as i64);
    same("trades", &view(&client, "X").await?, &before.0);
    same("bars", &answers(&client, "X").await?, &before.1);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

#[tokio::test]
async fn reseal_is_idempotent() -> Result<()> {
    let (_db, client, id) = fresh("reseal", "CME_EQUITY").await?;
    let calendar = Calendar::builtin("CME_EQUITY")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-28")?;
    let trades = generate(&mut Chance::new(12), &days, 800);
    insert(&client, id, &flat(&trades)).await?;
    for (day, trades) in days.iter().zip(&trades) {
        assert_eq!(seal(&client, "X", day).await?, trades.len() as i64);
    }
    let stored = "SELECT tableoid::regclass, ctid, xmin FROM market.trade_blocks UNION ALL SELECT tableoid::regclass, ctid, xmin FROM market.bar_blocks
                  UNION ALL SELECT tableoid::regclass, ctid, xmin FROM market.session_bars ORDER BY 1, 2";
    let before = texts(&client, stored).await?;
    for day in &days {
        assert_eq!(seal(&client, "X", day).await?, 0);
    }
    assert_eq!(texts(&client, stored).await?, before, "nothing is written");
    // the same rows once more: packed away, and nothing changes
    insert(&client, id, &flat(&trades)).await?;
    for (day, trades) in days.iter().zip(&trades) {
        assert_eq!(seal(&client, "X", day).await?, trades.len() as i64);
    }
    assert_eq!(texts(&client, stored).await?, before, "nothing is written");
    same("dead letters", &texts(&client, "SELECT raw FROM market.dead_letters").await?, &[]);
    Ok(())
}

#[tokio::test]
async fn put_trades_twice_is_once() -> Result<()> {
    let (_db, client, id) = fresh("twice", "XHKG").await?;
    let calendar = Calendar::builtin("XHKG")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let mut chance = Chance::new(13);
    let all = store::session_trades(&mut chance, &days[0], 3000, true);
    let half: Trades = all.iter().filter(|_| chance.once_in(2)).collect();
    let n = |trades: &Trades| trades.len() as i64;
    let put_of = |added, known, conflicts| Put { added, known, conflicts };
    assert_eq!(put(&client, id, &half).await?, put_of(n(&half), 0, 0));
    assert_eq!(put(&client, id, &half).await?, put_of(0, n(&half), 0));
    assert_eq!(put(&client, id, &all).await?, put_of(n(&all) - n(&half), n(&half), 0));
    let before = answers(&client, "X").await?;
    assert_eq!(put(&client, id, &half).await?, put_of(0, n(&half), 0));
    // the same identities with other content never overwrite
    let other: Trades = half.iter().map(|t| Trade { price: t.price + TICK, ..t }).collect();
    for _ in 0..2 {
        assert_eq!(put(&client, id, &other).await?, put_of(0, 0, n(&half)));
    }
    same("bars", &answers(&client, "X").await?, &before);
    assert_eq!(texts(&client, "SELECT count(*) FROM market.dead_letters").await?, [n(&half).to_string()]);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// What is known first stays, also while it is still a row.
#[tokio::test]
async fn put_trades_does_not_overwrite_live_rows() -> Result<()> {
    let (_db, client, id) = fresh("overwrite", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let all = store::session_trades(&mut Chance::new(14), &days[0], 500, true);
    insert(&client, id, &all.iter().step_by(2).collect::<Vec<_>>()).await?;
    let bars = answers(&client, "X").await?;
    let other: Trades = all.iter().step_by(2).map(|t| Trade { price: t.price + TICK, ..t }).collect();
    assert_eq!(put(&client, id, &other).await?, Put { added: 0, known: 0, conflicts: other.len() as i64 });
    same("bars", &answers(&client, "X").await?, &bars);
    let done = put(&client, id, &all).await?;
    assert_eq!((done.added, done.known, done.conflicts), ((all.len() / 2) as i64, all.len().div_ceil(2) as i64, 0));
    let bars = answers(&client, "X").await?;
    seal(&client, "X", &days[0]).await?;
    same("bars, sealed", &answers(&client, "X").await?, &bars);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// Two rows of one identity with other content: one counts, the other is kept as a dead letter when they are sealed.
#[tokio::test]
async fn conflicting_rows_are_not_lost_silently() -> Result<()> {
    let (_db, client, id) = fresh("rivals", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let t = Trade { ts: days[0].spans.to_vec()[1].open, seq: 1, price: 100 * TICK, size: 1, ..Trade::default() };
    insert(&client, id, &[t, t, Trade { price: 101 * TICK, ..t }]).await?;
    let bars = answers(&client, "X").await?;
    assert_eq!(seal(&client, "X", &days[0]).await?, 3);
    same("bars", &answers(&client, "X").await?, &bars);
    assert_eq!(texts(&client, "SELECT count(*) FROM market.dead_letters WHERE raw LIKE '%price=1.01%'").await?, ["1"]);
    assert_eq!(texts(&client, "SELECT count(*) FROM market.dead_letters").await?, ["1"]);
    Ok(())
}

/// Trades that count for nothing make no bar, and are stored all the same.
#[tokio::test]
async fn trades_that_count_for_nothing_are_kept() -> Result<()> {
    let (_db, client, id) = fresh("nothing", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let none = flags::NO_LAST | flags::NO_HIGH_LOW | flags::NO_VOLUME;
    let t = Trade {
        ts: days[0].spans.to_vec()[1].open,
        seq: 1,
        price: 100 * TICK,
        size: 1,
        flags: none,
        ..Trade::default()
    };
    let one: Trades = [t].into_iter().collect();
    let two: Trades = [t, Trade { seq: 2, ..t }].into_iter().collect();
    assert_eq!(put(&client, id, &one).await?, Put { added: 1, known: 0, conflicts: 0 });
    assert_eq!(put(&client, id, &one).await?, Put { added: 0, known: 1, conflicts: 0 });
    assert_eq!(put(&client, id, &two).await?, Put { added: 1, known: 1, conflicts: 0 });
    assert_eq!(view(&client, "X").await?.len(), 2);
    same("bars", &answers(&client, "X").await?, &[]);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// A filled bar is as final as its session, though no trade of it lies in the segments asked for.
#[tokio::test]
async fn a_filled_day_has_the_state_of_its_session() -> Result<()> {
    let (_db, client, id) = fresh("filled", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let early = Trade {
        ts: days[0].spans.to_vec()[0].open,
        seq: 1,
        price: 100 * TICK,
        size: market::money::ONE,
        ..Trade::default()
    };
    put(&client, id, &[early].into_iter().collect()).await?;
    for source in ["auto", "minutes", "trades"] {
        client.batch_execute(&format!("SET bellwether.source = {source}")).await?;
        for fill in ["previous", "null"] {
            let sql = format!(
                "SELECT trades, state FROM market.session_ohlc('X', '1d', '2025-11-26', '2025-11-26', segments => 'RTH', fill => '{fill}')"
            );
            assert_eq!(texts(&client, &sql).await?, ["0|final"], "{source}, {fill}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn late_trade_is_seen_at_once() -> Result<()> {
    let (_db, mut client, id) = fresh("late", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-28")?;
    let trades = generate(&mut Chance::new(15), &days, 500);
    for day in &trades {
        put(&client, id, day).await?;
    }
    let day = async |c: &Client| -> Result<(f64, i64, String)> {
        let sql = "SELECT high, trades, state FROM market.session_ohlc('X', '1d', '2025-11-26', '2025-11-26')";
        let r = c.query_one(sql, &[]).await?;
        Ok((r.get(0), r.get(1), r.get(2)))
    };
    let (_, n, state) = day(&client).await?;
    assert_eq!(state, "final");
    // inside the transaction that inserts it, through the view, and for others after the commit
    let transaction = client.transaction().await?;
    transaction
        .execute("INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('X', '2025-11-26 15:00+00', 777, 5000, 1)", &[])
        .await?;
    let (high, seen, state) = day(transaction.client()).await?;
    assert_eq!((high, seen, state.as_str()), (5000.0, n + 1, "provisional"));
    transaction.commit().await?;
    for source in ["auto", "minutes", "trades"] {
        client.batch_execute(&format!("SET bellwether.source = {source}")).await?;
        let (high, seen, _) = day(&client).await?;
        assert_eq!((high, seen), (5000.0, n + 1), "{source}");
    }
    seal(&client, "X", &days[0]).await?;
    let (high, seen, state) = day(&client).await?;
    assert_eq!((high, seen, state.as_str()), (5000.0, n + 1, "revised(1)"));
    Ok(())
}

#[tokio::test]
async fn bust_survives_a_reload() -> Result<()> {
    let (_db, client, id) = fresh("bust", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let all = store::session_trades(&mut Chance::new(16), &days[0], 400, true);
    let t = Trade { ts: days[0].spans.to_vec()[1].open + 1, seq: 999, price: 900 * TICK, size: 1, ..Trade::default() };
    let with: Trades = {
        let mut all = all.clone();
        all.push(t);
        all.sort_by_key();
        all
    };
    put(&client, id, &all).await?;
    let without = (answers(&client, "X").await?, view(&client, "X").await?);
    let clean = async |what: &str| -> Result<()> {
        same(what, &answers(&client, "X").await?, &without.0);
        same(what, &view(&client, "X").await?, &without.1);
        same(what, &verify(&client, "X").await?, &[]);
        Ok(())
    };
    let bust = "SELECT market.bust_trade('X', '2025-11-26 14:30+00', 999, ns => 1::int2)";
    // before it has come at all
    assert_eq!(texts(&client, bust).await?, ["f"]);
    clean("a bust waits").await?;
    insert(&client, id, &[t]).await?;
    clean("the row came").await?;
    seal(&client, "X", &days[0]).await?;
    clean("sealed").await?;
    assert_eq!(put(&client, id, &with).await?, Put { added: 0, known: with.len() as i64, conflicts: 0 });
    clean("reloaded").await?;
    insert(&client, id, &[t]).await?;
    clean("the row came again").await?;
    seal(&client, "X", &days[0]).await?;
    clean("and was sealed").await?;
    // a correction after the bust brings it back, with the new content, sealed or not; a bust takes that away
    assert_eq!(
        texts(&client, "SELECT market.correct_trade('X', '2025-11-26 14:30+00', 999, 9, 1, ns => 1::int2)").await?,
        ["f"]
    );
    assert_eq!(view(&client, "X").await?.len(), without.1.len() + 1);
    seal(&client, "X", &days[0]).await?;
    put(&client, id, &with).await?;
    assert_eq!(view(&client, "X").await?.len(), without.1.len() + 1);
    assert_eq!(texts(&client, "SELECT price FROM market.trades WHERE symbol = 'X' AND seq = 999").await?, ["9"]);
    assert_eq!(texts(&client, bust).await?, ["t"]);
    clean("busted again").await?;
    put(&client, id, &with).await?;
    clean("reloaded with the tombstone still there").await?;
    seal(&client, "X", &days[0]).await?;
    clean("the end").await?;
    Ok(())
}

#[tokio::test]
async fn bust_rewrites_exactly_the_bars_hit() -> Result<()> {
    let (_db, client, id) = fresh("exactly", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-12-01")?;
    let mut chance = Chance::new(17);
    let open = days[0].spans.to_vec()[1].open;
    let big: Trades = (0..150_000i64)
        .map(|i| Trade {
            ts: open + i * 150_000_000,
            seq: i,
            price: (10_000 + chance.within(0, 50)) * TICK,
            size: market::money::ONE,
            ..Trade::default()
        })
        .collect();
    put(&client, id, &big).await?;
    for day in &days[1..] {
        put(&client, id, &store::session_trades(&mut chance, day, 300, true)).await?;
    }
    let held = view(&client, "X").await?.len();
    let rows = "SELECT 'block', trade_date, part, xmin FROM market.trade_blocks UNION ALL
                SELECT 'minutes', trade_date, 0, xmin FROM market.bar_blocks UNION ALL
                SELECT segment, trade_date, 1, xmin FROM market.session_bars ORDER BY 1, 2, 3";
    let (stored, bars) = (texts(&client, rows).await?, answers(&client, "X").await?);
    let i = 70_000;
    let at = big.ts[i];
    client
        .execute(
            "SELECT market.bust_trade('X', timestamptz 'epoch' + $1::int8 * interval '1 microsecond', $2)",
            &[&(at / 1000), &(i as i64)],
        )
        .await?;
    let changed =
        |a: &[String], b: &[String]| -> Vec<String> { a.iter().filter(|r| !b.contains(r)).cloned().collect() };
    let hit = answers(&client, "X").await?;
    // the minute, the half minute, the day twice, the week
    assert_eq!(changed(&hit, &bars).len(), 5, "{:?}", changed(&hit, &bars));
    assert_eq!(hit.len(), bars.len());
    assert_eq!(texts(&client, rows).await?, stored, "a bust is a row");
    assert_eq!(seal(&client, "X", &days[0]).await?, 1);
    same("sealed", &answers(&client, "X").await?, &hit);
    let rewritten: Vec<String> = changed(&texts(&client, rows).await?, &stored)
        .iter()
        .map(|r| r.rsplit_once('|').map_or("", |r| r.0).to_owned())
        .collect();
    assert_eq!(rewritten, ["RTH|2025-11-26|1", "block|2025-11-26|1", "minutes|2025-11-26|0"]);
    same("verify", &verify(&client, "X").await?, &[]);

    // late rows before the first part, between parts and behind the last; then the first part is emptied
    let late: Vec<Trade> =
        [days[0].from, at + 1, days[0].till - 1].into_iter().map(|ts| Trade { ts, seq: 5, ..big.get(0) }).collect();
    insert(&client, id, &late).await?;
    let hit = (answers(&client, "X").await?, view(&client, "X").await?);
    assert_eq!(hit.1.len(), held - 1 + late.len());
    seal(&client, "X", &days[0]).await?;
    same("late bars", &answers(&client, "X").await?, &hit.0);
    same("late trades", &view(&client, "X").await?, &hit.1);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

#[tokio::test]
async fn verify_finds_every_planted_error() -> Result<()> {
    let (_db, mut client, id) = fresh("planted", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-28")?;
    let mut chance = Chance::new(18);
    for day in &generate(&mut chance, &days, 700) {
        put(&client, id, day).await?;
    }
    same("nothing is planted", &verify(&client, "X").await?, &[]);
    let mut plants: Vec<String> = Vec::new();
    for table in ["trade_blocks", "bar_blocks"] {
        let sql = format!("SELECT octet_length(payload) FROM market.{table} WHERE trade_date = '2025-11-26'");
        let len: i32 = client.query_one(&sql, &[]).await?.get(0);
        for _ in 0..40 {
            let (at, bit) = (chance.within(0, i64::from(len)), 1 << chance.within(0, 8));
            plants.push(format!(
                "UPDATE market.{table} SET payload = set_byte(payload, {at}, get_byte(payload, {at}) # {bit}) WHERE trade_date = '2025-11-26'"
            ));
        }
        plants.push(format!(
            "UPDATE market.{table} SET payload = substr(payload, 1, {}) WHERE trade_date = '2025-11-26'",
            len / 2
        ));
        plants.push(format!("UPDATE market.{table} SET payload = payload || '\\x00' WHERE trade_date = '2025-11-26'"));
        plants.push(format!("UPDATE market.{table} SET payload = '' WHERE trade_date = '2025-11-26'"));
        plants.push(format!("UPDATE market.{table} SET n = n + 1 WHERE trade_date = '2025-11-26'"));
        plants.push(format!("DELETE FROM market.{table} WHERE trade_date = '2025-11-26'"));
        plants.push(format!("UPDATE market.{table} AS a SET payload = b.payload FROM market.{table} AS b WHERE a.trade_date = '2025-11-26' AND b.trade_date = '2025-11-28'"));
    }
    for end in ["first", "last"] {
        plants.push(format!("UPDATE market.trade_blocks SET {end}_ts = {end}_ts + interval '1 microsecond'"));
        for column in ["ns", "seq", "sub"] {
            plants.push(format!("UPDATE market.trade_blocks SET {end}_{column} = {end}_{column} + 1"));
        }
    }
    for column in [
        "open",
        "high",
        "low",
        "close",
        "volume",
        "notional",
        "trades",
        "priced",
        "digest",
        "revision",
        "calendar_version",
    ] {
        plants.push(format!("UPDATE market.session_bars SET {column} = {column} + 1 WHERE segment = 'RTH'"));
    }
    for column in ["opens_at", "closes_at", "first_known_at", "last_known_at"] {
        plants.push(format!(
            "UPDATE market.session_bars SET {column} = {column} + interval '1 second' WHERE segment = 'RTH'"
        ));
    }
    plants.push("UPDATE market.session_bars SET mergeable = NOT mergeable WHERE segment = 'RTH'".into());
    plants.push("UPDATE market.session_bars SET state = 'revised' WHERE segment = 'RTH'".into());
    plants.push(
        "UPDATE market.session_bars SET open = NULL, high = NULL, low = NULL, close = NULL WHERE segment = 'RTH'"
            .into(),
    );
    plants.push("UPDATE market.session_bars SET trade_date = trade_date + 20 WHERE trade_date = '2025-11-26'".into());
    plants.push("DELETE FROM market.session_bars WHERE segment = 'RTH'".into());
    plants.push("DELETE FROM market.session_bars".into());
    let mut missed = Vec::new();
    for plant in plants {
        let transaction = client.transaction().await?;
        ensure!(transaction.execute(&plant, &[]).await? > 0, "{plant}");
        if verify(transaction.client(), "X").await?.is_empty() {
            missed.push(plant);
        }
        transaction.rollback().await?;
    }
    same("missed", &missed, &[]);
    same("nothing is left", &verify(&client, "X").await?, &[]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_snapshots_see_all_trades() -> Result<()> {
    let (db, client, id) = fresh("snapshots", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let all: Vec<Trade> = store::session_trades(&mut Chance::new(19), &days[0], 3000, true).iter().collect();
    insert(&client, id, &all[..1000]).await?;
    let count = "SELECT sum(trades) FROM market.session_ohlc('X', '5m', '2025-11-26', '2025-11-26', segments => 'ALL')";

    // a snapshot that is older than two seals
    let mut old = db.client().await?;
    let old = old.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
    let before = (texts(old.client(), EVERYTHING).await?, view(old.client(), "X").await?);
    // a reader that wrote first, so that it has a transaction id
    let mut writer = db.client().await?;
    let writer = writer.transaction().await?;
    insert(writer.client(), id, &[Trade { ts: all[0].ts, seq: 12_345, flags: 7, ..all[0] }]).await?;
    seal(&client, "X", &days[0]).await?;
    insert(&client, id, &all[1000..2000]).await?;
    assert_eq!(view(writer.client(), "X").await?.len(), 2001);
    seal(&client, "X", &days[0]).await?;
    assert_eq!(view(writer.client(), "X").await?.len(), 2001);
    same("bars of an old snapshot", &texts(old.client(), EVERYTHING).await?, &before.0);
    same("trades of an old snapshot", &view(old.client(), "X").await?, &before.1);
    writer.rollback().await?;
    old.rollback().await?;

    // readers that race seals and late rows: every answer has all that was there before, each once
    insert(&client, id, &all[2000..]).await?;
    let expected = texts(&client, count).await?;
    let racing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let mut readers = Vec::new();
    for at in 0..3 {
        let (reader, racing, expected) = (db.client().await?, racing.clone(), expected.clone());
        readers.push(tokio::spawn(async move {
            let mut looks = 0;
            while racing.load(std::sync::atomic::Ordering::Relaxed) {
                if at == 0 {
                    assert_eq!(
                        texts(&reader, "SELECT count(*) FROM market.trades WHERE symbol = 'X'").await?,
                        ["3000"]
                    );
                } else {
                    reader.batch_execute("BEGIN; CREATE TEMP TABLE own_xid () ON COMMIT DROP").await?;
                    assert_eq!(texts(&reader, count).await?, expected);
                    reader.batch_execute("COMMIT").await?;
                }
                looks += 1;
            }
            anyhow::Ok(looks)
        }));
    }
    // two sealers at once; the same rows come again and again
    let mut sealers = Vec::new();
    for part in [&all[..1500], &all[1500..]] {
        let (client, part) = (db.client().await?, part.to_vec());
        sealers.push(tokio::spawn(async move {
            let calendar = Calendar::builtin("XNYS")?;
            let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
            for _ in 0..15 {
                insert(&client, id, &part).await?;
                seal(&client, "X", &days[0]).await?;
            }
            anyhow::Ok(())
        }));
    }
    for sealer in sealers {
        sealer.await??;
    }
    racing.store(false, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        println!("{} looks", reader.await??);
    }
    seal(&client, "X", &days[0]).await?;
    assert_eq!(view(&client, "X").await?.len(), 3000);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// Two loads of different halves at once: all trades are there, each once.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_puts_lose_nothing() -> Result<()> {
    let (db, client, id) = fresh("halves", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let all = store::session_trades(&mut Chance::new(20), &days[0], 4000, true);
    let mut loads = Vec::new();
    for k in 0..4 {
        let (client, part) = (db.client().await?, all.iter().skip(k).step_by(3).collect::<Trades>());
        loads.push(tokio::spawn(async move { put(&client, id, &part).await }));
    }
    let mut added = 0;
    for load in loads {
        added += load.await??.added;
    }
    assert_eq!(added, all.len() as i64);
    assert_eq!(view(&client, "X").await?.len(), all.len());
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}
