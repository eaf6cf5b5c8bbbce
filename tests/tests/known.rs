//! `known_at` against a model that keeps every event with the time since which it is known, and replays them up to an instant.

use anyhow::{Context, Result, ensure};
use market::{Calendar, Key, NONE_I64, Segments, Session, Trade, Trades};
use std::collections::BTreeMap;
use tests::cluster::Database;
use tests::model::{self, Gaps, Shown, Width};
use tests::store::{self, Chance, TICK, fresh, insert, put, same, seal, sessions, texts, verify};
use tokio_postgres::Client;

const MINUTE: i64 = 60_000_000_000;

/// What a venue says of a trade it has reported.
#[derive(Clone, Copy)]
enum Said {
    Bust,
    Correct { price: i64, size: i64, flags: Option<u32> },
}

/// All events, each with the time since which it is known.
#[derive(Default)]
struct Ledger {
    reports: BTreeMap<Key, (Trade, i64)>,
    said: BTreeMap<Key, Vec<(i64, usize, Said)>>,
    count: usize,
    times: Vec<i64>,
}

impl Ledger {
    fn report(&mut self, t: Trade, known: i64) {
        self.reports.entry(t.key()).or_insert((t, known));
        self.times.push(known);
    }

    fn say(&mut self, key: Key, known: i64, said: Said) {
        self.count += 1;
        self.said.entry(key).or_default().push((known, self.count, said));
        self.times.push(known);
    }

    /// The trades as they were known at an instant.
    fn replay(&self, until: i64) -> Vec<Trade> {
        let mut trades = Vec::new();
        for (key, (report, known)) in &self.reports {
            if *known > until {
                continue;
            }
            let mut trade = Some(*report);
            let mut flags = report.flags;
            let mut words: Vec<_> = self.said.get(key).into_iter().flatten().filter(|said| said.0 <= until).collect();
            words.sort_by_key(|said| (said.0, said.1));
            for (_, _, said) in words {
                trade = match *said {
                    Said::Bust => None,
                    Said::Correct { price, size, flags: new } => {
                        flags = new.unwrap_or(flags);
                        Some(Trade { price, size, flags, ..*report })
                    }
                };
            }
            trades.extend(trade);
        }
        trades
    }
}

fn instant(ts: i64) -> String {
    format!("timestamptz 'epoch' + {} * interval '1 microsecond'", ts.div_euclid(1000))
}

async fn say(client: &Client, key: Key, known: i64, said: Said) -> Result<()> {
    let identity = format!(
        "'X', {}, {}, ns => {}::int2, sub => {}::int2, known_at => {}, reason => 'a test'",
        instant(key.ts),
        key.seq,
        key.ts.rem_euclid(1000),
        key.sub,
        instant(known)
    );
    let call = match said {
        Said::Bust => format!("market.bust_trade({identity})"),
        Said::Correct { price, size, flags } => format!(
            "market.correct_trade({identity}, price => {}, size => {}{})",
            market::money::to_f64(price),
            market::money::to_f64(size),
            flags.map_or(String::new(), |flags| format!(", flags => {flags}"))
        ),
    };
    texts(client, &format!("SELECT {call}")).await?;
    Ok(())
}

const QUESTIONS: [(&str, Width, &str, Gaps); 6] = [
    ("5m", Width::Time(5 * MINUTE), "RTH", Gaps::None),
    ("1m", Width::Time(MINUTE), "ALL", Gaps::None),
    ("30s", Width::Time(MINUTE / 2), "ETH", Gaps::None),
    ("1d", Width::Day, "RTH", Gaps::None),
    ("1d", Width::Day, "ETH", Gaps::Previous),
    ("1w", Width::Week, "ALL", Gaps::None),
];

const COLUMNS: &str = "trade_date, bar_at, bar_end, open, high, low, close, volume, trades";

/// Bars as both engines print them, without their state.
fn bars_sql(timeframe: &str, segments: &str, gaps: Gaps, known: Option<i64>) -> String {
    let fill = if gaps == Gaps::Previous { "previous" } else { "none" };
    let known = known.map_or(String::new(), |ts| {
        format!(", known_at => timestamptz '{}'", market::time::format_instant(ts - ts.rem_euclid(1000)))
    });
    format!(
        "SELECT {COLUMNS} FROM market.session_ohlc('X', '{timeframe}', date '2025-11-24', date '2025-11-28', segments => '{segments}', fill => '{fill}'{known}) ORDER BY bar_at"
    )
}

async fn ask(client: &Client, timeframe: &str, segments: &str, gaps: Gaps, known: i64) -> Result<Vec<Shown>> {
    let fill = if gaps == Gaps::Previous { "previous" } else { "none" };
    let sql = format!(
        "SELECT trade_date::text, (EXTRACT(epoch FROM bar_at) * 1000000)::int8, (EXTRACT(epoch FROM bar_end) * 1000000)::int8,
                open, high, low, close, volume, trades
         FROM market.session_ohlc('X', '{timeframe}', date '2025-11-24', date '2025-11-28', segments => '{segments}', fill => '{fill}',
              known_at => {}) ORDER BY 2",
        instant(known)
    );
    let rows = client.query(&sql, &[]).await.with_context(|| sql.clone())?;
    Ok(rows
        .iter()
        .map(|r| {
            let price = |i| r.get::<_, Option<f64>>(i);
            let prices = match (price(3), price(4), price(5), price(6)) {
                (Some(o), Some(h), Some(l), Some(c)) => Some([o, h, l, c]),
                _ => None,
            };
            let at = (r.get::<_, i64>(1) * 1000, r.get::<_, i64>(2) * 1000);
            Shown { date: r.get(0), at, prices, volume: r.get(7), trades: r.get(8), vwap: None }
        })
        .collect())
}

struct World<'c> {
    client: Client,
    id: i32,
    all: Vec<Session<'c>>,
    days: Vec<Session<'c>>,
    ledger: Ledger,
    chance: Chance,
}

impl World<'_> {
    /// An instant worth asking about: when something became known, or just before.
    fn pick(&mut self) -> i64 {
        let n = self.ledger.times.len() as i64;
        let at = self.ledger.times[self.chance.within(0, n) as usize];
        // whole microseconds, as SQL asks
        (at - self.chance.within(0, 2) * 1000).div_euclid(1000) * 1000 + 999
    }

    async fn check(&mut self, what: &str) -> Result<()> {
        for until in [self.pick(), self.pick(), i64::MAX / 2] {
            let trades = self.ledger.replay(until);
            let at = if until == i64::MAX / 2 { 4_000_000_000_000_000_000 } else { until };
            for (timeframe, width, segments, gaps) in QUESTIONS {
                let asked = (market::TradeDate::parse("2025-11-24")?.0, market::TradeDate::parse("2025-11-28")?.0);
                let mut expected = model::bars(&self.all, &trades, width, Segments::parse(segments)?, gaps, asked);
                expected.iter_mut().for_each(|bar| bar.vwap = None);
                let found = ask(&self.client, timeframe, segments, gaps, at).await?;
                let what = format!("{what}: {timeframe} {segments} as of {}", market::time::format_instant(at));
                for (f, e) in found.iter().zip(&expected) {
                    assert_eq!(f, e, "{what}");
                }
                assert_eq!(found.len(), expected.len(), "{what}: bars");
            }
            let sql = format!(
                "SELECT (EXTRACT(epoch FROM ts) * 1000000)::int8 * 1000 + ns, seq, sub, price, size, flags
                 FROM market.trades_between('X', '-infinity', 'infinity', known_at => {})",
                instant(at)
            );
            let expected: Vec<String> = trades
                .iter()
                .map(|t| {
                    let (price, size) = (market::money::to_f64(t.price), market::money::to_f64(t.size));
                    format!("{}|{}|{}|{price}|{size}|{}", t.ts, t.seq, t.sub, t.flags)
                })
                .collect();
            same(&format!("{what}: trades"), &texts(&self.client, &sql).await?, &expected);
        }
        Ok(())
    }

    /// A report of some trade, received within minutes, hours or the next day.
    fn trade(&mut self, seq: i64) -> Trade {
        let day = self.days[self.chance.within(0, self.days.len() as i64) as usize];
        let span = day.spans.to_vec()[self.chance.within(0, day.spans.len() as i64) as usize];
        let ts = self.chance.within(span.open, span.close);
        let delay = match self.chance.within(0, 6) {
            0 => 30 * 60 * MINUTE,
            1 => 3 * 60 * MINUTE,
            2 => -1000,
            _ => self.chance.within(0, MINUTE),
        };
        let flags = [0, 0, 0, market::flags::NO_HIGH_LOW, market::flags::NO_VOLUME, market::flags::LAST_IF_FIRST];
        Trade {
            ts,
            seq,
            price: (10_000 + self.chance.within(-50, 50)) * TICK,
            size: self.chance.within(1, 100) * market::money::ONE,
            flags: flags[self.chance.within(0, 6) as usize],
            ts_recv: (ts + delay).div_euclid(1000) * 1000,
            ..Trade::default()
        }
    }

    async fn step(&mut self, n: i64) -> Result<&'static str> {
        match self.chance.within(0, 10) {
            0..=2 => {
                let some: Vec<Trade> = (0..20).map(|i| self.trade(n * 100 + i)).collect();
                insert(&self.client, self.id, &some).await?;
                some.iter().for_each(|t| self.ledger.report(*t, t.ts_recv));
                // the feed says some of it again, later
                let again: Vec<Trade> =
                    some.iter().step_by(5).map(|t| Trade { ts_recv: t.ts_recv + MINUTE, ..*t }).collect();
                insert(&self.client, self.id, &again).await?;
                Ok("rows")
            }
            3 => {
                let day = self.days[self.chance.within(0, self.days.len() as i64) as usize];
                let mut some: Vec<Trade> = (0..60).map(|i| self.trade(n * 100 + i)).collect();
                some.retain(|t| day.from <= t.ts && t.ts < day.till);
                // a file of history does not say when its trades were received
                some.iter_mut().step_by(2).for_each(|t| t.ts_recv = NONE_I64);
                let mut packed: Trades = some.iter().copied().collect();
                packed.sort_by_key();
                if !packed.is_empty() {
                    put(&self.client, self.id, &packed).await?;
                }
                some.iter().for_each(|t| self.ledger.report(*t, t.known()));
                Ok("a load")
            }
            4 | 5 => {
                let day = self.days[self.chance.within(0, self.days.len() as i64) as usize];
                seal(&self.client, "X", &day).await?;
                Ok("a seal")
            }
            _ => {
                let keys: Vec<Key> = self.ledger.reports.keys().copied().collect();
                let waits = keys.is_empty() || self.chance.once_in(6);
                let mut trade = self.trade(n * 100);
                let key = match waits {
                    true => trade.key(),
                    false => keys[self.chance.within(0, keys.len() as i64) as usize],
                };
                let known = (key.ts + self.chance.within(0, 40 * 60) * MINUTE).div_euclid(1000) * 1000;
                let said = match self.chance.within(0, 5) {
                    0 | 1 => Said::Bust,
                    at => Said::Correct {
                        price: (10_000 + self.chance.within(-99, 99)) * TICK,
                        size: self.chance.within(1, 50) * market::money::ONE,
                        flags: (at == 2).then_some(market::flags::NO_LAST),
                    },
                };
                say(&self.client, key, known, said).await?;
                self.ledger.say(key, known, said);
                if waits && self.chance.once_in(2) {
                    trade.ts = key.ts;
                    insert(&self.client, self.id, &[trade]).await?;
                    self.ledger.report(trade, trade.ts_recv);
                }
                Ok("a word of the venue")
            }
        }
    }
}

async fn engines_agree(database: &Database, sql: &str) -> Result<()> {
    use sqllogictest::{AsyncDB, DBOutput};
    let postgres = tests::slt::Postgres::connect(database).await?.run(sql).await?;
    let querycli = tests::slt::QueryCli::new(database).run(sql).await?;
    let (DBOutput::Rows { rows: a, .. }, DBOutput::Rows { rows: b, .. }) = (postgres, querycli) else {
        anyhow::bail!("no rows: {sql}");
    };
    let differs = a.iter().zip(&b).find(|(a, b)| a != b);
    ensure!(differs.is_none() && a.len() == b.len(), "{sql}: {differs:?}, {} and {} rows", a.len(), b.len());
    Ok(())
}

async fn bars_as_known_are_the_models(calendar: &str, seed: u64) -> Result<()> {
    let (database, client, id) = fresh("known", calendar).await?;
    let known = Calendar::builtin(calendar)?;
    let all = sessions(&known, "2025-11-03", "2025-12-14")?;
    let days = sessions(&known, "2025-11-25", "2025-11-28")?;
    let mut world = World { client, id, all, days, ledger: Ledger::default(), chance: Chance::new(seed) };
    let first = world.trade(1);
    insert(&world.client, id, &[first]).await?;
    world.ledger.report(first, first.ts_recv);
    for n in 1..70 {
        let what = world.step(n).await?;
        if n % 4 == 0 {
            world.check(&format!("step {n}, after {what}")).await?;
        }
    }
    let instants: Vec<Option<i64>> = [None, Some(world.pick()), Some(world.pick()), Some(world.pick())].into();
    for known in &instants {
        for (timeframe, _, segments, gaps) in QUESTIONS {
            engines_agree(&database, &bars_sql(timeframe, segments, gaps, *known)).await?;
        }
    }
    // sealing everything changes no answer, of no instant
    for day in world.days.clone() {
        seal(&world.client, "X", &day).await?;
    }
    world.check("sealed").await?;
    same("verify", &verify(&world.client, "X").await?, &[]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_of_an_equity_as_known_are_the_models() -> Result<()> {
    bars_as_known_are_the_models("XNYS", 41).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_of_a_future_as_known_are_the_models() -> Result<()> {
    bars_as_known_are_the_models("CME_EQUITY", 42).await
}

/// A session's state at an instant: it ran, it was final, something came late, something was taken back.
#[tokio::test(flavor = "multi_thread")]
async fn states_as_known_tell_the_sessions_life() -> Result<()> {
    let (database, client, id) = fresh("states", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let at = |hour: i64, minute: i64| days[0].spans.to_vec()[1].open - (14 * 60 + 30 - hour * 60 - minute) * MINUTE;
    let t = |seq, price: i64, ts, recv| Trade {
        ts,
        seq,
        price: price * 100 * TICK,
        size: market::money::ONE,
        ts_recv: recv,
        ..Trade::default()
    };
    insert(&client, id, &[t(1, 100, at(15, 0), at(15, 0)), t(2, 110, at(16, 0), at(16, 1))]).await?;
    seal(&client, "X", &days[0]).await?;
    insert(&client, id, &[t(3, 120, at(16, 30), at(30, 0))]).await?;
    seal(&client, "X", &days[0]).await?;
    say(&client, t(1, 0, at(15, 0), 0).key(), at(40, 0), Said::Bust).await?;
    seal(&client, "X", &days[0]).await?;
    insert(&client, id, &[t(4, 90, at(17, 0), at(50, 0))]).await?;
    // Wednesday's close and grace are over by 22:00 UTC on the 26th and 01:30 on the 27th
    let expected = [
        ("2025-11-26 14:59:59+00", None),
        ("2025-11-26 15:00:00+00", Some("100|100|provisional")),
        ("2025-11-26 16:01:00+00", Some("110|100|provisional")),
        ("2025-11-27 05:59:59+00", Some("110|100|final")),
        ("2025-11-27 06:00:00+00", Some("120|100|revised(1)")),
        ("2025-11-27 15:59:59+00", Some("120|100|revised(1)")),
        ("2025-11-27 16:00:00+00", Some("120|110|revised(2)")),
        ("2025-11-28 02:00:00+00", Some("120|90|provisional")),
    ];
    for (known, bar) in expected {
        let sql = format!(
            "SELECT high, low, state FROM market.session_ohlc('X', '1d', date '2025-11-26', date '2025-11-26', known_at => timestamptz '{known}')"
        );
        let expected: Vec<String> = bar.map(str::to_owned).into_iter().collect();
        same(known, &texts(&client, &sql).await?, &expected);
        engines_agree(&database, &sql).await?;
    }
    // a gap of the feed that was open for a while
    client
        .execute(
            "INSERT INTO market.feed_gaps (feed, instrument_id, first_missing, last_missing, from_ts, till_ts, noticed_at, closed_at)
             VALUES ('f', $1, 5, 6, '2025-11-26 18:00+00', '2025-11-26 18:01+00', '2025-11-26 18:02+00', '2025-11-27 07:00+00')",
            &[&id],
        )
        .await?;
    for (known, state) in [("2025-11-27 06:59+00", "provisional"), ("2025-11-27 07:00+00", "revised(1)")] {
        let sql = format!(
            "SELECT state FROM market.session_ohlc('X', '1d', date '2025-11-26', date '2025-11-26', known_at => timestamptz '{known}')"
        );
        same(known, &texts(&client, &sql).await?, &[state.to_owned()]);
    }
    let error = client
        .batch_execute("SELECT market.bust_trade('X', '2025-11-26 15:00+00', 1, known_at => now() + interval '1 hour')")
        .await
        .expect_err("the future is refused");
    assert_eq!(error.code().map(|code| code.code()), Some("22023"));
    Ok(())
}

/// Bars by receipt: a trade counts where it was received, in whatever session it happened.
#[tokio::test(flavor = "multi_thread")]
async fn bars_by_receipt_count_trades_where_they_were_received() -> Result<()> {
    let (database, client, id) = fresh("received", "CME_EQUITY").await?;
    let calendar = Calendar::builtin("CME_EQUITY")?;
    let all = sessions(&calendar, "2025-11-03", "2025-12-14")?;
    let days = sessions(&calendar, "2025-11-24", "2025-11-26")?;
    let mut chance = Chance::new(43);
    let mut trades = Vec::new();
    for (n, day) in days.iter().enumerate() {
        let mut some: Trades = store::session_trades(&mut chance, day, 300, false);
        for i in 0..some.len() {
            let delay = if chance.once_in(20) { 26 * 60 * MINUTE } else { chance.within(0, 2 * MINUTE) };
            some.ts_recv[i] = if chance.once_in(9) { NONE_I64 } else { (some.ts[i] + delay) / 1000 * 1000 };
        }
        trades.extend(some.iter());
        match n {
            0 => {
                put(&client, id, &some).await?;
            }
            _ => {
                let with: Vec<Trade> = some.iter().map(|t| Trade { ts_recv: t.known() / 1000 * 1000, ..t }).collect();
                insert(&client, id, &with).await?;
                if n == 1 {
                    seal(&client, "X", day).await?;
                }
            }
        }
    }
    let received: Vec<Trade> = trades
        .iter()
        .enumerate()
        // the model orders by (ts, seq, sub): of one receipt the venue's order counts
        .map(|(i, t)| Trade { ts: t.known(), seq: i as i64, sub: 0, ..*t })
        .map(|t| if days[1].from <= t.ts { Trade { ts: t.ts / 1000 * 1000, ..t } } else { t })
        .collect();
    for (timeframe, width, segments, gaps) in QUESTIONS {
        let asked = (market::TradeDate::parse("2025-11-24")?.0, market::TradeDate::parse("2025-11-28")?.0);
        let mut expected = model::bars(&all, &received, width, Segments::parse(segments)?, gaps, asked);
        expected.iter_mut().for_each(|bar| bar.vwap = None);
        let fill = if gaps == Gaps::Previous { "previous" } else { "none" };
        let call = format!(
            "market.session_ohlc('X', '{timeframe}', date '2025-11-24', date '2025-11-28', segments => '{segments}', fill => '{fill}', clock => 'recv')"
        );
        let rows = client
            .query(
                &format!(
                    "SELECT trade_date::text, (EXTRACT(epoch FROM bar_at) * 1000000)::int8, (EXTRACT(epoch FROM bar_end) * 1000000)::int8,
                            open, high, low, close, volume, trades FROM {call} ORDER BY 2"
                ),
                &[],
            )
            .await?;
        assert_eq!(rows.len(), expected.len(), "{call}");
        for (r, e) in rows.iter().zip(&expected) {
            let price = |i| r.get::<_, Option<f64>>(i);
            let prices = price(3).zip(price(4)).zip(price(5)).zip(price(6)).map(|(((o, h), l), c)| [o, h, l, c]);
            let at = (r.get::<_, i64>(1) * 1000, r.get::<_, i64>(2) * 1000);
            let found = Shown { date: r.get(0), at, prices, volume: r.get(7), trades: r.get(8), vwap: None };
            assert_eq!(&found, e, "{call}");
        }
        engines_agree(&database, &format!("SELECT {COLUMNS} FROM {call} ORDER BY bar_at")).await?;
    }
    Ok(())
}

/// `explain_bar` names a trade for each price of the bar, found another way than the bar; both engines say the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_trades_that_made_a_bar_are_named() -> Result<()> {
    let (database, client, id) = fresh("explain", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    let mut chance = Chance::new(44);
    let trades = store::session_trades(&mut chance, &days[0], 400, true);
    put(&client, id, &trades).await?;
    let mut seen = 0;
    for (timeframe, segments) in [("5m", "RTH"), ("1h", "ETH"), ("1d", "RTH"), ("1d", "ALL")] {
        let sql = format!(
            "SELECT bar_at, open, high, low, close FROM market.session_ohlc('X', '{timeframe}', date '2025-11-26', date '2025-11-26', segments => '{segments}')
             WHERE open IS NOT NULL ORDER BY random() LIMIT 20"
        );
        for row in texts(&client, &sql).await? {
            let fields: Vec<&str> = row.split('|').collect();
            let explain = format!(
                "SELECT item, value FROM market.explain_bar('X', '{timeframe}', timestamptz '{}', segments => '{segments}')",
                fields[0]
            );
            for (item, price) in ["open", "high", "low", "close"].into_iter().zip(&fields[1..]) {
                let made = texts(&client, &format!("{explain} WHERE item = '{item}'")).await?;
                let said = format!(" at {price}");
                let named = made.first().is_some_and(|m| m.contains(&format!("{said},")) || m.ends_with(&said));
                ensure!(named, "{timeframe} {segments} {}: {item} is {price}, made by {made:?}", fields[0]);
                seen += 1;
            }
        }
    }
    ensure!(seen > 150, "only {seen} prices");
    engines_agree(&database, "SELECT item, value FROM market.explain_bar('X', '1d', timestamptz '2025-11-26 15:00:00+00') WHERE item <> 'sealed'").await
}

/// A backfill does the newest sessions first, goes on where it was, and says how far it came.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_goes_on_where_it_was() -> Result<()> {
    let (_database, client, id) = fresh("backfill", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-17", "2025-11-28")?;
    let mut chance = Chance::new(45);
    for day in &days[..8] {
        put(&client, id, &store::session_trades(&mut chance, day, 100, true)).await?;
    }
    // the last one is over, and its rows were never sealed
    let rows: Vec<Trade> = store::session_trades(&mut chance, &days[8], 100, true).iter().collect();
    insert(&client, id, &rows).await?;
    let bars = "SELECT trade_date, bar_at, open, high, low, close, volume, trades FROM market.session_ohlc('X', '5m', '2025-11-17', '2025-11-28', segments => 'ALL') ORDER BY 2";
    let before = texts(&client, bars).await?;
    // bars of two sessions are lost, those of a third are of an old version
    client.batch_execute("DELETE FROM market.bar_blocks WHERE trade_date = '2025-11-18'; DELETE FROM market.session_bars WHERE trade_date = '2025-11-20'; UPDATE market.session_bars SET calendar_version = 0 WHERE trade_date = '2025-11-19'").await?;
    let steps = "SELECT trade_date FROM market.backfill_steps('bars', NULL, NULL, NULL)";
    let wanted = ["2025-11-28", "2025-11-20", "2025-11-19", "2025-11-18"].map(str::to_owned);
    same("steps", &texts(&client, steps).await?, &wanted);
    client.batch_execute("CALL market.backfill(most => 3)").await?;
    let progress = "SELECT phase, sessions_done, sessions_total, at_date FROM market.backfill_progress";
    same("a part", &texts(&client, progress).await?, &["running|3|4|2025-11-19".to_owned()]);
    client.batch_execute("CALL market.backfill()").await?;
    same("the rest", &texts(&client, progress).await?, &["done|4|4|2025-11-18".to_owned()]);
    same("bars", &texts(&client, bars).await?, &before);
    same("verify", &verify(&client, "X").await?, &[]);
    same("nothing is left", &texts(&client, steps).await?, &[]);
    // flags of raw conditions: 0x1000000 is in no bar at all
    let t = Trade {
        ts: days[0].spans.to_vec()[1].open,
        seq: 77,
        cond: 0x0100_0000,
        price: 999 * TICK,
        size: market::money::ONE,
        ..Trade::default()
    };
    put(&client, id, &[t].into_iter().collect()).await?;
    let counts = "SELECT count(*) FROM market.trades WHERE symbol = 'X' AND seq = 77 AND flags = 7";
    same("not yet", &texts(&client, counts).await?, &["0".to_owned()]);
    client.batch_execute("CALL market.backfill('flags', symbol => 'X', eligibility => 'lean-us-equity')").await?;
    same("derived", &texts(&client, counts).await?, &["1".to_owned()]);
    same("verify", &verify(&client, "X").await?, &[]);
    for bad in ["'bars', eligibility => 'lean-us-equity'", "'flags'", "'nothing'", "'all', symbol => 'NOSUCH'"] {
        ensure!(client.batch_execute(&format!("CALL market.backfill({bad})")).await.is_err(), "taken: {bad}");
    }
    Ok(())
}

/// A backfill that is cancelled in the middle of a session leaves that session as it was and the later ones done; called again it
/// does the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_cancelled_leaves_nothing_half_done() -> Result<()> {
    let (database, client, id) = fresh("cancelled", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-17", "2025-11-26")?;
    let mut chance = Chance::new(46);
    for day in &days {
        put(&client, id, &store::session_trades(&mut chance, day, 100, true)).await?;
    }
    let stored = "SELECT trade_date, 'bar', segment, open, high, low, close, volume, notional, digest, calendar_version FROM market.session_bars
        UNION ALL SELECT trade_date, 'minutes', n::text, NULL, NULL, NULL, NULL, NULL, NULL, hashtextextended(encode(payload, 'hex'), 0), NULL FROM market.bar_blocks
        ORDER BY 1, 2, 3";
    let before = texts(&client, stored).await?;
    // all are of an old version, and in the middle one the work comes to a halt after its bars were taken away
    client
        .batch_execute(
            "UPDATE market.session_bars SET calendar_version = 0;
             CREATE FUNCTION public.halt() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN IF NEW.trade_date = '2025-11-20' THEN PERFORM pg_sleep(3600); END IF; RETURN NEW; END $$;
             CREATE TRIGGER halt BEFORE INSERT ON market.session_bars FOR EACH ROW EXECUTE FUNCTION public.halt()",
        )
        .await?;
    let old = texts(&client, stored).await?;
    let of = |rows: &[String], from: &str, till: &str| -> Vec<String> {
        rows.iter().filter(|row| from <= &row[..10] && &row[..10] < till).cloned().collect()
    };
    let worker = database.client().await?;
    let pid: i32 = worker.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let backfill = tokio::spawn(async move { worker.batch_execute("CALL market.backfill()").await.map(|()| worker) });
    let halted = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
    while texts(&client, &halted).await? != ["1"] {
        ensure!(!backfill.is_finished(), "it never came to the session");
        tokio::task::yield_now().await;
    }
    let progress = "SELECT phase, sessions_done, sessions_total, at_date FROM market.backfill_progress";
    same("at work", &texts(&client, progress).await?, &["running|4|8|2025-11-21".to_owned()]);
    assert_eq!(texts(&client, &format!("SELECT pg_cancel_backend({pid})")).await?, ["t"]);
    assert_eq!(store::state(backfill.await?.map(|_| ()))?, "57014");
    // the server answers a moment before it says that the connection is idle
    for _ in 0..100_000 {
        if !texts(&client, progress).await?.concat().starts_with("running") {
            break;
        }
    }
    same("cancelled", &texts(&client, progress).await?, &["interrupted|4|8|2025-11-21".to_owned()]);
    let now = texts(&client, stored).await?;
    same("those that are done", &of(&now, "2025-11-21", "2026"), &of(&before, "2025-11-21", "2026"));
    same("those that are not", &of(&now, "2025", "2025-11-21"), &of(&old, "2025", "2025-11-21"));
    client.batch_execute("DROP TRIGGER halt ON market.session_bars").await?;
    client.batch_execute("CALL market.backfill()").await?;
    same("the rest", &texts(&client, progress).await?, &["done|8|8|2025-11-17".to_owned()]);
    same("all", &texts(&client, stored).await?, &before);
    same("verify", &verify(&client, "X").await?, &[]);
    Ok(())
}
