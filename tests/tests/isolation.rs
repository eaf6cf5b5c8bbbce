//! Readers and writers at every isolation level while trades move from rows to blocks: no trade is lost or counted twice.

use anyhow::{Context, Result, ensure};
use market::{Calendar, Key, Session, Trade, Trades, money};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tests::cluster::{Database, until};
use tests::store::{Chance, TICK, fresh, insert, put, same, seal, sessions, state, texts, verify, view};
use tokio_postgres::{Client, IsolationLevel};

const LEVELS: [IsolationLevel; 3] =
    [IsolationLevel::ReadCommitted, IsolationLevel::RepeatableRead, IsolationLevel::Serializable];

/// Every way to count the trades of X, and to add up their sizes.
const COUNTS: &str = "
    SELECT 'view', count(*), sum(size::numeric) FROM market.trades WHERE symbol = 'X'
    UNION ALL SELECT 'function', count(*), sum(size::numeric) FROM market.trades_between('X', '-infinity', 'infinity')
    UNION ALL SELECT 'minutes', sum(trades), sum(volume::numeric) FROM market.session_ohlc('X', '1m', '2025-11-20', '2025-12-05', segments => 'ALL')
    UNION ALL SELECT 'seconds', sum(trades), sum(volume::numeric) FROM market.session_ohlc('X', '30s', '2025-11-20', '2025-12-05', segments => 'ALL')
    UNION ALL SELECT 'days', sum(trades), sum(volume::numeric) FROM market.session_ohlc('X', '1d', '2025-11-20', '2025-12-05', segments => 'ALL')";

/// Trades of one session that count for everything, one a second.
fn plain(session: &Session<'_>, from: i64, n: i64) -> Vec<Trade> {
    let open = session.spans.to_vec()[0].open;
    let trade = |i: i64| Trade {
        ts: open + i * 1_000_000_000,
        seq: i,
        price: (10_000 + i % 17) * TICK,
        size: (1 + i % 3) * money::ONE,
        ..Trade::default()
    };
    (from..from + n).map(trade).collect()
}

/// What [`COUNTS`] must say of these.
fn counted(trades: &[Trade]) -> Vec<String> {
    let size: i64 = trades.iter().map(|t| t.size / money::ONE).sum();
    ["view", "function", "minutes", "seconds", "days"].map(|way| format!("{way}|{}|{size}", trades.len())).to_vec()
}

async fn at_level(client: &mut Client, level: IsolationLevel) -> Result<tokio_postgres::Transaction<'_>> {
    Ok(client.build_transaction().isolation_level(level).start().await?)
}

#[tokio::test]
async fn readers_of_every_level_count_each_trade_once_across_seals() -> Result<()> {
    let (db, client, id) = fresh("levels", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let mut n = 400;
    insert(&client, id, &plain(&days[0], 0, n)).await?;
    for level in LEVELS {
        for wrote_first in [false, true] {
            for sealed_between in [false, true] {
                let what = format!("{level:?}, wrote first: {wrote_first}, sealed twice: {sealed_between}");
                let mut all = plain(&days[0], 0, n);
                let mut reader = db.client().await?;
                let reader = at_level(&mut reader, level).await?;
                if wrote_first {
                    // so that the reader has a transaction id, and a row that nobody else sees
                    let own = Trade { seq: 1_000_000, ..all[0] };
                    insert(reader.client(), id, &[own]).await?;
                    all.push(own);
                }
                same(&what, &texts(reader.client(), COUNTS).await?, &counted(&all));
                seal(&client, "X", &days[0]).await?;
                same(&what, &texts(reader.client(), COUNTS).await?, &counted(&all));
                let late = plain(&days[0], n, 10);
                n += 10;
                insert(&client, id, &late).await?;
                if sealed_between {
                    seal(&client, "X", &days[0]).await?;
                }
                if matches!(level, IsolationLevel::ReadCommitted) {
                    all.extend(late);
                }
                same(&what, &texts(reader.client(), COUNTS).await?, &counted(&all));
                reader.rollback().await?;
                same(&what, &texts(&client, COUNTS).await?, &counted(&plain(&days[0], 0, n)));
            }
        }
    }
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// What a snapshot that is older than the lock would not see would be lost: such writers are refused.
#[tokio::test]
async fn writers_that_lock_a_session_want_read_committed() -> Result<()> {
    let (db, client, id) = fresh("refused", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let trades = plain(&days[0], 0, 10);
    insert(&client, id, &trades).await?;
    let payload = market::block::encode_session(&trades.into_iter().collect::<Trades>())?;
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        for sql in [
            "SELECT market.seal('X', '2025-11-26')",
            "SELECT market.bust_trade('X', '2025-11-26 09:00+00', 0)",
            "SELECT market.correct_trade('X', '2025-11-26 09:00+00', 0, 1, 1)",
            "SELECT market.calendar_publish('XNYS')",
            "SELECT market.put_trades(1, $1)",
        ] {
            let mut writer = db.client().await?;
            let writer = at_level(&mut writer, level).await?;
            let refused = match sql.contains("$1") {
                true => writer.query(sql, &[&payload]).await.map(drop),
                false => writer.batch_execute(sql).await,
            };
            assert_eq!(state(refused)?, "25001", "{sql} in {level:?}");
            writer.rollback().await?;
        }
    }
    assert_eq!(view(&client, "X").await?.len(), 10);
    Ok(())
}

/// Of two transactions that read the same trades and each add one because of it, one must be told to try again: also where
/// there are no rows to read yet.
#[tokio::test]
async fn serializable_readers_that_write_do_not_both_see_the_past() -> Result<()> {
    let (db, client, id) = fresh("skew", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    insert(&client, id, &plain(&days[0], 0, 50)).await?;
    let reads = [
        "SELECT count(*) FROM market.trades WHERE symbol = 'X'",
        "SELECT sum(trades)::int8 FROM market.session_ohlc('X', '1d', '2025-11-26', '2025-11-26', segments => 'ALL')",
        "SELECT count(*) FROM market.trades_between('X', '2025-11-26', '2025-11-27')",
    ];
    let mut held = 50;
    for empty in [false, true] {
        for read in reads {
            if empty {
                seal(&client, "X", &days[0]).await?;
                // no page is left in any slot
                client.batch_execute("DO $$ DECLARE s text; BEGIN FOR s IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'market.live_trades'::regclass LOOP EXECUTE 'TRUNCATE ' || s; END LOOP; END $$").await?;
            }
            let (mut one, mut two) = (db.client().await?, db.client().await?);
            let one = at_level(&mut one, IsolationLevel::Serializable).await?;
            let two = at_level(&mut two, IsolationLevel::Serializable).await?;
            let mut failed = 0;
            let mut open = Vec::new();
            for transaction in [one, two] {
                let seen: i64 = transaction.query_one(read, &[]).await?.get(0);
                assert_eq!(seen, held, "{read}");
                open.push(transaction);
            }
            for (n, transaction) in open.into_iter().enumerate() {
                let own = Trade { seq: held * 10 + n as i64, ..plain(&days[0], 7, 1)[0] };
                let written = match insert(transaction.client(), id, &[own]).await {
                    Ok(()) => transaction.commit().await.map_err(anyhow::Error::from),
                    Err(error) => Err(error),
                };
                if let Err(error) = written {
                    let error = error.downcast::<tokio_postgres::Error>()?;
                    assert_eq!(state::<()>(Err(error))?, "40001", "{read}");
                    failed += 1;
                }
            }
            assert_eq!(failed, 1, "{read}, no rows: {empty}");
            held += 1;
        }
    }
    for read in reads {
        assert_eq!(texts(&client, read).await?, [held.to_string()], "{read}");
    }
    Ok(())
}

/// A snapshot that is older than a seal keeps the slot whose rows it sees, and one that is older than a drop the month.
#[tokio::test]
async fn an_old_snapshot_keeps_what_it_sees_from_truncate_and_drop() -> Result<()> {
    let (db, client, id) = fresh("kept", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-10-27", "2025-10-31")?;
    let mut all = Vec::new();
    for day in &days {
        insert(&client, id, &plain(day, 0, 100)).await?;
        all.extend(plain(day, 0, 100));
    }
    let slot = texts(&client, "SELECT (market.current_slot() + 12) % 24").await?[0].clone();
    client.batch_execute(&format!("UPDATE market.live_trades SET slot = {slot}")).await?;
    let ask = "SELECT count(*), sum(size::numeric) FROM market.trades WHERE symbol = 'X'
               UNION ALL SELECT sum(trades), sum(volume::numeric) FROM market.session_ohlc('X', '30s', '2025-10-27', '2025-10-31', segments => 'ALL')";
    let size: i64 = all.iter().map(|t| t.size / money::ONE).sum();
    let expected = vec![format!("500|{size}"); 2];
    let pages = format!("SELECT pg_relation_size('market.live_trades_{slot}') > 0");
    let month = "SELECT to_regclass('market.trade_blocks_202510') IS NOT NULL";

    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let mut old = db.client().await?;
        let old = at_level(&mut old, level).await?;
        same("first", &texts(old.client(), ask).await?, &expected);
        for day in &days {
            seal(&client, "X", day).await?;
        }
        for _ in 0..2 {
            client.batch_execute("CALL market.maintain('slots')").await?;
            same("an old snapshot", &texts(old.client(), ask).await?, &expected);
        }
        if matches!(level, IsolationLevel::RepeatableRead) {
            assert_eq!(texts(&client, &pages).await?, ["t"], "its rows are still there");
        }
        old.commit().await?;
        // whoever vacuums it just now is not waited for
        until("nobody sees the rows any more", || async {
            client.batch_execute("CALL market.maintain('slots')").await?;
            Ok(texts(&client, &pages).await? == ["f"])
        })
        .await?;
        same("now", &texts(&client, ask).await?, &expected);
    }

    // retention lets everything go
    client.batch_execute("SELECT market.set_policy('retention', 'trades', keep_sessions => 1, symbol => 'X')").await?;
    client.batch_execute("CALL market.maintain('verify')").await?;
    let mut old = db.client().await?;
    let old = at_level(&mut old, IsolationLevel::RepeatableRead).await?;
    same("before it is dropped", &texts(old.client(), ask).await?, &expected);
    client.batch_execute("CALL market.maintain('retention')").await?;
    assert_eq!(texts(&client, "SELECT count(*) FROM market.trades WHERE symbol = 'X'").await?, ["0"]);
    client.batch_execute("CALL market.maintain('partitions')").await?;
    assert_eq!(texts(&client, month).await?, ["t"], "the month is still seen");
    same("an old snapshot of dropped trades", &texts(old.client(), ask).await?, &expected);
    old.commit().await?;
    until("nobody sees the month any more", || async {
        client.batch_execute("CALL market.maintain('partitions')").await?;
        Ok(texts(&client, month).await? == ["f"])
    })
    .await
}

/// Each worker of a parallel plan reads under the leader's snapshot, whatever is sealed while they read.
#[tokio::test(flavor = "multi_thread")]
async fn parallel_workers_count_each_trade_once_while_sessions_are_sealed() -> Result<()> {
    let (db, client, id) = fresh("workers", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-24", "2025-11-28")?;
    let mut all = Vec::new();
    for day in &days {
        all.extend(plain(day, 0, 300));
    }
    insert(&client, id, &all).await?;
    client
        .batch_execute(
            "CREATE TABLE ask (symbol text, day date) WITH (parallel_workers = 3);
             INSERT INTO ask SELECT 'X', trade_date FROM market.sessions('XNYS', date '2025-11-24', date '2025-11-28', 'RTH'),
                    generate_series(1, 4);
             ANALYZE ask",
        )
        .await?;
    let force = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 3";
    let sql = "SELECT a.day, sum(b.trades), sum(b.volume::numeric) FROM ask AS a,
                 LATERAL market.session_ohlc(a.symbol, '30s', a.day, a.day, segments => 'ALL') AS b GROUP BY a.day ORDER BY a.day";
    let expected: Vec<String> = days
        .iter()
        .map(|d| {
            let size: i64 = plain(d, 0, 300).iter().map(|t| t.size / money::ONE).sum();
            format!("{}|{}|{}", d.trade_date, 4 * 300, 4 * size)
        })
        .collect();
    client.batch_execute(force).await?;
    let plan = texts(&client, &format!("EXPLAIN (ANALYZE, COSTS OFF) {sql}")).await?.join("\n");
    ensure!(plan.contains("Workers Launched: ") && !plan.contains("Workers Launched: 0"), "no workers:\n{plan}");
    same("before", &texts(&client, sql).await?, &expected);

    let racing = Arc::new(AtomicBool::new(true));
    let mut readers = Vec::new();
    for level in LEVELS {
        let (mut reader, racing, expected) = (db.client().await?, racing.clone(), expected.clone());
        readers.push(tokio::spawn(async move {
            reader.batch_execute(force).await?;
            let mut looks = 0;
            while racing.load(Ordering::Relaxed) {
                let transaction = at_level(&mut reader, level).await?;
                for _ in 0..2 {
                    same(&format!("{level:?}"), &texts(transaction.client(), sql).await?, &expected);
                }
                transaction.commit().await?;
                looks += 1;
            }
            anyhow::Ok(looks)
        }));
    }
    for _ in 0..8 {
        for day in &days {
            seal(&client, "X", day).await?;
        }
        // the same trades once more, which changes nothing
        insert(&client, id, &all).await?;
    }
    racing.store(false, Ordering::Relaxed);
    for reader in readers {
        println!("{} looks", reader.await??);
    }
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}

/// What one of the writers below has done for good.
#[derive(Default)]
struct Done {
    added: BTreeSet<Key>,
    busted: BTreeSet<Key>,
}

async fn bust(client: &Client, t: &Trade) -> Result<()> {
    let sql = "SELECT market.bust_trade('X', timestamptz 'epoch' + $1::int8 * interval '1 microsecond', $2, 0::int2, 0::int2)";
    client.query(sql, &[&t.ts.div_euclid(1000), &t.seq]).await?;
    Ok(())
}

/// Readers that look while others work: within a snapshot all ways to count agree, no identity is there twice, and the trades
/// that nobody touches are always all there.
async fn look(db: &Database, level: IsolationLevel, untouched: i64, racing: &AtomicBool) -> Result<usize> {
    let mut reader = db.client().await?;
    let mut looks = 0;
    let untouched_sql = "SELECT count(*) FILTER (WHERE seq < 1000000), count(*) - count(DISTINCT (ts, ns, seq, sub)) FROM market.trades WHERE symbol = 'X'";
    while racing.load(Ordering::Relaxed) {
        let transaction = at_level(&mut reader, level).await?;
        let first = texts(transaction.client(), COUNTS).await?;
        // one statement is one snapshot, whatever the level
        let numbers: BTreeSet<_> =
            first.iter().filter_map(|row| row.split_once('|')).map(|(_, n)| n.to_owned()).collect();
        ensure!(numbers.len() == 1, "{level:?}: {first:?}");
        assert_eq!(texts(transaction.client(), untouched_sql).await?, [format!("{untouched}|0")], "{level:?}");
        if !matches!(level, IsolationLevel::ReadCommitted) {
            assert_eq!(texts(transaction.client(), COUNTS).await?, first, "{level:?}");
        }
        transaction.commit().await?;
        looks += 1;
    }
    Ok(looks)
}

/// Late rows, blocks, busts, seals and maintenance at once, on connections of their own.
#[tokio::test(flavor = "multi_thread")]
async fn seals_late_rows_and_busts_at_once_lose_nothing() -> Result<()> {
    let (db, client, id) = fresh("at_once", "XNYS").await?;
    let calendar: &'static Calendar = Box::leak(Box::new(Calendar::builtin("XNYS")?));
    let days = sessions(calendar, "2025-11-25", "2025-11-28")?;
    let mut base = Vec::new();
    for day in &days {
        let trades = plain(day, 0, 200);
        put(&client, id, &trades.iter().step_by(2).copied().collect()).await?;
        insert(&client, id, &trades.iter().skip(1).step_by(2).copied().collect::<Vec<_>>()).await?;
        base.extend(trades);
    }
    client.batch_execute("SELECT market.set_policy('seal', 'trades', options => '{\"quiet\": \"0 seconds\"}')").await?;
    let (db, racing) = (Arc::new(db), Arc::new(AtomicBool::new(true)));
    let mut readers = Vec::new();
    for level in LEVELS {
        let (db, racing, untouched) = (db.clone(), racing.clone(), base.len() as i64);
        readers.push(tokio::spawn(async move { look(&db, level, untouched, &racing).await }));
    }
    let mut chance = Chance::new(91);
    let mut writers = Vec::new();
    for n in 0..4i64 {
        let (client, days, mut chance) = (db.client().await?, days.clone(), Chance::seeded(chance.bits()));
        writers.push(tokio::spawn(async move {
            let (mut done, mut next) = (Done::default(), (n + 1) * 1_000_000);
            let mut mine: Vec<Trade> = Vec::new();
            for _ in 0..40 {
                let day = &days[chance.within(0, days.len() as i64) as usize];
                let some: Vec<Trade> = plain(day, chance.within(0, 5_000), chance.within(1, 30))
                    .into_iter()
                    .map(|t| {
                        next += 1;
                        Trade { seq: next, ..t }
                    })
                    .collect();
                match chance.within(0, 5) {
                    0 | 1 => insert(&client, id, &some).await?,
                    2 => {
                        put(&client, id, &some.iter().copied().collect()).await?;
                    }
                    3 => {
                        seal(&client, "X", day).await?;
                        continue;
                    }
                    _ => {
                        if let Some(t) = mine.pop() {
                            bust(&client, &t).await?;
                            done.busted.insert(t.key());
                        }
                        continue;
                    }
                }
                done.added.extend(some.iter().map(Trade::key));
                mine.extend(some);
                chance.shuffle(&mut mine);
            }
            anyhow::Ok(done)
        }));
    }
    let maintaining = {
        let (client, racing) = (db.client().await?, racing.clone());
        tokio::spawn(async move {
            while racing.load(Ordering::Relaxed) {
                client.batch_execute("CALL market.maintain()").await?;
            }
            anyhow::Ok(())
        })
    };
    let mut expected: BTreeSet<Key> = base.iter().map(Trade::key).collect();
    for writer in writers {
        let done = writer.await?.context("a writer")?;
        expected.extend(done.added);
        expected.retain(|key| !done.busted.contains(key));
    }
    racing.store(false, Ordering::Relaxed);
    maintaining.await?.context("maintenance")?;
    for reader in readers {
        println!("{} looks", reader.await?.context("a reader")?);
    }
    for round in ["as it was left", "sealed"] {
        let rows = client
            .query("SELECT (EXTRACT(epoch FROM ts) * 1000000)::int8, seq FROM market.trades WHERE symbol = 'X'", &[])
            .await?;
        let found: Vec<Key> =
            rows.iter().map(|r| Key { ts: r.get::<_, i64>(0) * 1000, seq: r.get(1), sub: 0 }).collect();
        assert_eq!(found.len(), expected.len(), "{round}: trades");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{round}");
        same(round, &verify(&client, "X").await?, &[]);
        for day in &days {
            seal(&client, "X", day).await?;
        }
    }
    assert_eq!(texts(&client, "SELECT count(*) FROM market.live_trades").await?, ["0"]);
    assert_eq!(texts(&client, "SELECT raw FROM market.dead_letters").await?, Vec::<String>::new());
    let failed = "SELECT job, last_error FROM market.job_status WHERE last_error IS NOT NULL";
    same("failed jobs", &texts(&client, failed).await?, &[]);
    Ok(())
}
