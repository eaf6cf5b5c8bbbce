//! What was committed survives a server that dies at once.

use anyhow::{Context, Result, ensure};
use market::money::ONE;
use market::{Calendar, Key, Session, Trade, Trades};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::cluster::{self, durable, until};
use tests::store::{self, Chance, insert, put, seal, sessions, texts, verify, view};
use tokio_postgres::Client;

const STORED: &str = "SELECT 'block', trade_date, part, md5(payload) FROM market.trade_blocks
                      UNION ALL SELECT 'minutes', trade_date, n, md5(payload) FROM market.bar_blocks
                      UNION ALL SELECT segment, trade_date, revision, digest::text FROM market.session_bars ORDER BY 1, 2, 3";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_has_all_that_was_committed() -> Result<()> {
    let (server, lifeline) = durable("crash", "")?;
    let client = cluster::patiently(&server).await?;
    client.batch_execute("CREATE EXTENSION bellwether").await?;
    let id = store::instrument(&client, "SPY", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-24", "2025-12-01")?;
    let mut chance = Chance::new(61);
    let (mut before, mut held) = (Vec::new(), Vec::new());
    for (round, day) in days.iter().take(4).enumerate() {
        let client = cluster::patiently(&server).await?;
        if round > 0 {
            assert_eq!(texts(&client, STORED).await?, before, "after crash {round}");
            assert_eq!(view(&client, "SPY").await?, held, "after crash {round}");
            assert_eq!(verify(&client, "SPY").await?, Vec::<String>::new());
        }
        let trades = store::session_trades(&mut chance, day, 2000, true);
        match round % 2 {
            0 => {
                put(&client, id, &trades).await?;
            }
            _ => {
                insert(&client, id, &trades.iter().collect::<Vec<_>>()).await?;
                seal(&client, "SPY", day).await?;
            }
        }
        let late: Vec<_> = trades.iter().step_by(50).map(|t| Trade { seq: t.seq + 100, ..t }).collect();
        insert(&client, id, &late).await?;
        before = texts(&client, STORED).await?;
        held = view(&client, "SPY").await?;
        // and something unfinished, which must be gone: a put, a seal
        let mut open = cluster::patiently(&server).await?;
        let open = open.transaction().await?;
        let next: Trades = store::session_trades(&mut chance, &days[4], 500, true);
        put(open.client(), id, &next).await?;
        seal(open.client(), "SPY", day).await?;
        cluster::kill(&server)?;
        server.start()?;
    }
    let client = cluster::patiently(&server).await?;
    assert_eq!(texts(&client, STORED).await?, before);
    assert_eq!(view(&client, "SPY").await?, held);
    for day in &days {
        seal(&client, "SPY", day).await?;
    }
    assert_eq!(view(&client, "SPY").await?, held, "sealed after all");
    assert_eq!(verify(&client, "SPY").await?, Vec::<String>::new());
    drop(lifeline);
    Ok(())
}

/// One writer: an instrument of its own, what is committed of it, and what may be.
struct Writer {
    symbol: String,
    id: i32,
    held: Held,
    /// As it is if the step that the crash interrupted was committed.
    doubt: Option<Held>,
    next: i64,
    chance: Chance,
}

/// Price and size of every trade.
type Held = BTreeMap<Key, (i64, i64)>;

/// The sessions that trades are made for. No calendar of the test changes which trade date they have.
const DAYS: [&str; 2] = ["2025-11-24", "2025-12-02"];

const ACME: &str = r#"schema = 1
id = "ACME"
tz = "America/New_York"
main = "RTH"
known = [2025-11-01, 2025-12-31]
[[hours]]
days = "mon-fri"
PRE  = "04:00-09:30"
RTH  = "09:30-16:00"
POST = "16:00-20:00"
[holidays]
"#;

impl Writer {
    fn trades(&mut self, session: &Session<'_>, n: usize) -> Vec<Trade> {
        let mut all: Vec<Trade> = store::session_trades(&mut self.chance, session, n, true).iter().collect();
        for t in &mut all {
            self.next += 1;
            t.seq = self.next;
        }
        all
    }

    /// One step: what it does, and what is held after it.
    async fn step(&mut self, client: &Client, days: &[Session<'_>]) -> Result<Held> {
        let mut held = self.held.clone();
        let day = days[self.chance.within(0, days.len() as i64) as usize];
        let add = |held: &mut Held, trades: &[Trade]| held.extend(trades.iter().map(|t| (t.key(), (t.price, t.size))));
        match self.chance.within(0, 7) {
            0 | 1 => {
                let trades = self.trades(&day, 30);
                add(&mut held, &trades);
                self.doubt = Some(held.clone());
                insert(client, self.id, &trades).await?;
            }
            2 => {
                let trades: Trades = self.trades(&day, 200).into_iter().collect();
                add(&mut held, &trades.iter().collect::<Vec<_>>());
                self.doubt = Some(held.clone());
                put(client, self.id, &trades).await?;
            }
            3 => {
                self.doubt = Some(held.clone());
                seal(client, &self.symbol, &day).await?;
            }
            4 | 5 if !held.is_empty() => {
                let at = self.chance.within(0, held.len() as i64) as usize;
                let key = held.keys().nth(at).copied().context("one of them")?;
                let name = format!(
                    "'{}', timestamptz 'epoch' + {} * interval '1 microsecond', {}, ns => {}::int2, sub => {}::int2",
                    self.symbol,
                    key.ts.div_euclid(1000),
                    key.seq,
                    key.ts.rem_euclid(1000),
                    key.sub
                );
                let call = if self.chance.once_in(2) {
                    held.remove(&key);
                    format!("SELECT market.bust_trade({name})")
                } else {
                    held.insert(key, (42 * ONE, 7 * ONE));
                    format!("SELECT market.correct_trade({name}, price => 42, size => 7)")
                };
                self.doubt = Some(held.clone());
                client.batch_execute(&call).await?;
            }
            _ => {
                // all of it or nothing
                let (rows, block) = (self.trades(&day, 20), self.trades(&day, 50));
                add(&mut held, &rows);
                add(&mut held, &block);
                self.doubt = Some(held.clone());
                client.batch_execute("BEGIN").await?;
                insert(client, self.id, &rows).await?;
                put(client, self.id, &block.into_iter().collect()).await?;
                seal(client, &self.symbol, &day).await?;
                client.batch_execute("COMMIT").await?;
            }
        }
        Ok(held)
    }

    /// Goes on until the server is gone.
    async fn work(mut self, client: Client, done: Arc<AtomicUsize>) -> Result<Writer> {
        let calendar = Calendar::from_toml(ACME)?;
        let days = sessions(&calendar, DAYS[0], DAYS[1])?;
        loop {
            match self.step(&client, &days).await {
                Ok(held) => {
                    self.held = held;
                    self.doubt = None;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return gone(error).map(|()| self),
            }
        }
    }

    /// After the crash: everything that was committed, and of the step it interrupted all or nothing.
    async fn check(&mut self, client: &Client) -> Result<()> {
        let sql = "SELECT (EXTRACT(epoch FROM ts) * 1000000)::int8, ns, seq, sub, price, size FROM market.trades WHERE symbol = $1";
        let mut found = Held::new();
        for r in client.query(sql, &[&self.symbol]).await? {
            let ts = r.get::<_, i64>(0) * 1000 + i64::from(r.get::<_, i16>(1));
            let key = Key { ts, seq: r.get(2), sub: i32::from(r.get::<_, i16>(3)) };
            let number = |i| market::money::price_from_f64(r.get(i));
            ensure!(found.insert(key, (number(4)?, number(5)?)).is_none(), "{key:?} is there twice");
        }
        let after = self.doubt.take();
        if after.as_ref().is_some_and(|after| *after == found) {
            self.held = found;
        } else {
            let lost: Vec<_> = self.held.iter().filter(|(k, v)| found.get(k) != Some(v)).collect();
            let more: Vec<_> = found.iter().filter(|(k, v)| self.held.get(k) != Some(v)).collect();
            ensure!(lost.is_empty() && more.is_empty(), "{}: lost {lost:?}, and unasked for {more:?}", self.symbol);
        }
        // a second way to the same trades
        let counted = format!("SELECT count(*) FROM market.trades_between('{}', '-infinity', 'infinity')", self.symbol);
        assert_eq!(texts(client, &counted).await?, [self.held.len().to_string()], "{}", self.symbol);
        assert_eq!(verify(client, &self.symbol).await?, Vec::<String>::new(), "{}", self.symbol);
        Ok(())
    }
}

/// Whether an error says that the server went away; any other is a failure.
fn gone(error: anyhow::Error) -> Result<()> {
    let server = error.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error());
    match server {
        Some(said) if !said.code().code().starts_with("57P") => Err(error),
        _ => Ok(()),
    }
}

/// Runs statements over and over until the server is gone.
async fn again(client: Client, statements: Vec<String>) -> Result<usize> {
    for round in 0.. {
        for sql in &statements {
            if let Err(error) = client.batch_execute(sql).await {
                return gone(error.into()).map(|()| round);
            }
        }
    }
    Ok(0)
}

/// Several writers, maintenance and a changing calendar at work when the server is killed, at moments that nobody chose.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_any_moment_loses_no_committed_trade() -> Result<()> {
    let rounds = std::env::var("BELLWETHER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let (server, _lifeline) = durable("killed", "")?;
    let client = cluster::patiently(&server).await?;
    client.batch_execute("CREATE EXTENSION bellwether").await?;
    client.execute("SELECT market.calendar_define($1)", &[&ACME]).await?;
    client.batch_execute("SELECT market.calendar_publish('ACME'); SELECT market.set_policy('seal', 'trades', options => '{\"quiet\": \"0 seconds\"}')").await?;
    let mut chance = Chance::new(62);
    let mut writers = Vec::new();
    for n in 0..3 {
        let symbol = format!("X{n}");
        let id = store::instrument(&client, &symbol, "ACME").await?;
        let chance = Chance::seeded(chance.bits());
        writers.push(Writer { symbol, id, held: Held::new(), doubt: None, next: 0, chance });
    }
    // other hours, which build sessions anew, and back
    let hours = "[[hours]]\ndays = \"mon-fri\"\nfrom = 2025-11-24\nto = 2025-11-26\nPRE = \"04:00-09:00\"\nRTH = \"09:00-16:00\"\nPOST = \"16:00-20:00\"\n[holidays]";
    let publish = |toml: &str| {
        format!(
            "BEGIN; SELECT market.calendar_define($toml${toml}$toml$); SELECT market.calendar_publish('ACME'); COMMIT"
        )
    };
    let publishing = vec![publish(&ACME.replace("[holidays]", hours)), publish(ACME)];
    drop(client);
    for round in 0..rounds {
        let done = Arc::new(AtomicUsize::new(0));
        let mut works = Vec::new();
        for writer in writers {
            works.push(tokio::spawn(writer.work(cluster::patiently(&server).await?, done.clone())));
        }
        let maintaining =
            tokio::spawn(again(cluster::patiently(&server).await?, vec!["CALL market.maintain()".to_owned()]));
        let publishing = tokio::spawn(again(cluster::patiently(&server).await?, publishing.clone()));
        let wanted = chance.within(20, 120) as usize;
        until("so many steps", || async {
            ensure!(!works.iter().any(|work| work.is_finished()), "a writer failed");
            Ok(done.load(Ordering::Relaxed) >= wanted)
        })
        .await
        .ok();
        cluster::kill(&server)?;
        writers = Vec::new();
        for work in works {
            writers.push(work.await??);
        }
        let times = (maintaining.await??, publishing.await??);
        println!(
            "round {round}: killed after {} steps, {times:?} times maintained and published",
            done.load(Ordering::Relaxed)
        );
        server.start()?;
        let client = cluster::patiently(&server).await?;
        for writer in &mut writers {
            writer.check(&client).await.with_context(|| format!("round {round}"))?;
        }
    }
    let client = cluster::patiently(&server).await?;
    client.batch_execute("CALL market.maintain()").await?;
    assert_eq!(texts(&client, "SELECT count(*) FROM market.live_trades").await?, ["0"]);
    assert_eq!(texts(&client, "SELECT raw FROM market.dead_letters").await?, Vec::<String>::new());
    // what the crashes interrupted is said to be so
    let failed = "SELECT job, last_error FROM market.job_status WHERE last_error NOT LIKE 'interrupted%'";
    assert_eq!(texts(&client, failed).await?, Vec::<String>::new());
    for writer in &mut writers {
        writer.check(&client).await?;
    }
    server.stop()
}
