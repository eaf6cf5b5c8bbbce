//! Trades into and out of a test's database, and the seeded chance that makes them.

use crate::cluster::{self, Database};
use anyhow::{Context, Result, ensure};
use market::{Calendar, NONE_I64, Session, Trade, Trades, block, flags};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use tokio_postgres::Client;

/// A seeded generator (splitmix64): the same trades on every machine.
pub struct Chance(u64);

impl Chance {
    /// Prints the seed; `BELLWETHER_SEED` replaces the test's own.
    pub fn new(own: u64) -> Chance {
        let seed = std::env::var("BELLWETHER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(own);
        println!("seed {seed} (BELLWETHER_SEED)");
        Chance(seed)
    }

    /// One that another has chosen the seed of.
    pub fn seeded(seed: u64) -> Chance {
        Chance(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..high`.
    pub fn within(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low).max(1) as u64) as i64
    }

    /// Yes, once in `n`.
    pub fn once_in(&mut self, n: i64) -> bool {
        self.within(0, n) == 0
    }

    /// In another order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.within(0, i as i64 + 1) as usize);
        }
    }
}

/// One cent.
pub const TICK: i64 = 10_000_000;

/// Sorted trades of one session: ties of ts and seq, every kind of flag, prints at the edges of segments, auction prints
/// before the open and after the close, trades outside the session. `hard` lets flags and edges in, else all are plain.
pub fn session_trades(chance: &mut Chance, session: &Session<'_>, n: usize, hard: bool) -> Trades {
    let mut all = BTreeMap::new();
    let mut price = 100 * 100;
    while all.len() < n {
        let span = session.spans.get(chance.within(0, session.spans.len() as i64) as usize).expect("within its length");
        let ts = match chance.within(0, if hard { 20 } else { 1 }) {
            1 => span.open + chance.within(0, 3),
            2 => span.close - 1 - chance.within(0, 2),
            3 => span.close + chance.within(0, 2),
            4 => chance.within(session.from, session.till),
            _ => chance.within(span.open, span.close),
        };
        let ts = ts.clamp(session.from, session.till - 1);
        price += chance.within(-3, 4);
        let ties = if chance.once_in(8) { 1 + chance.within(0, 4) } else { 1 };
        for tie in 0..ties {
            let bits = [
                flags::NO_LAST,
                flags::NO_HIGH_LOW,
                flags::NO_VOLUME,
                flags::LAST_IF_FIRST,
                flags::AUCTION_OPEN,
                flags::AUCTION_CLOSE,
                flags::NOT_IN_RTH,
                flags::BUY,
                flags::OFF_BOOK,
            ];
            let mut set = 0;
            while hard && chance.once_in(3) {
                set |= bits[chance.within(0, bits.len() as i64) as usize];
            }
            let trade = Trade {
                ts,
                seq: chance.within(0, 4) + if chance.once_in(50) { -5 } else { 0 },
                sub: tie as i32,
                price: (price + chance.within(-5, 6)) * TICK,
                size: chance.within(0, 300) * market::money::ONE / if chance.once_in(9) { 1000 } else { 1 },
                flags: set,
                cond: chance.within(0, 3) as u32,
                ts_recv: if chance.once_in(3) { NONE_I64 } else { (ts + 1_000_000_000) / 1000 * 1000 },
                trade_id: if chance.once_in(3) { NONE_I64 } else { chance.within(0, 1 << 40) },
            };
            all.entry(trade.key()).or_insert(trade);
        }
    }
    all.into_values().collect()
}

/// Adds an instrument and returns its id.
///
/// # Errors
/// What the server says.
pub async fn instrument(client: &Client, symbol: &str, calendar: &str) -> Result<i32> {
    let row = client
        .query_one("SELECT market.add_instrument($1, calendar => $2, tick_size => 0.01)", &[&symbol, &calendar])
        .await?;
    Ok(row.get(0))
}

/// Inserts live rows in the order given.
///
/// # Errors
/// What the server says.
pub async fn insert(client: &Client, id: i32, trades: &[Trade]) -> Result<()> {
    for some in trades.chunks(20_000) {
        let column = |f: fn(&Trade) -> i64| -> Vec<i64> { some.iter().map(f).collect() };
        let optional = |f: fn(&Trade) -> i64, unit: i64| -> Vec<Option<i64>> {
            some.iter().map(|t| Some(f(t)).filter(|v| *v != NONE_I64).map(|v| v.div_euclid(unit))).collect()
        };
        let floats = |f: fn(&Trade) -> i64| -> Vec<f64> { some.iter().map(|t| market::money::to_f64(f(t))).collect() };
        client
            .execute(
                "INSERT INTO market.live_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id)
                 SELECT $1, timestamptz 'epoch' + us * interval '1 microsecond', ns, seq, sub, price, size, flags, cond,
                        timestamptz 'epoch' + recv * interval '1 microsecond', trade_id
                 FROM unnest($2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::float8[], $7::float8[], $8::int8[], $9::int8[],
                             $10::int8[], $11::int8[])
                   AS t (us, ns, seq, sub, price, size, flags, cond, recv, trade_id)",
                &[
                    &id,
                    &column(|t| t.ts.div_euclid(1000)),
                    &column(|t| t.ts.rem_euclid(1000)),
                    &column(|t| t.seq),
                    &column(|t| i64::from(t.sub)),
                    &floats(|t| t.price),
                    &floats(|t| t.size),
                    &column(|t| i64::from(t.flags)),
                    &column(|t| i64::from(t.cond)),
                    &optional(|t| t.ts_recv, 1000),
                    &optional(|t| t.trade_id, 1),
                ],
            )
            .await?;
    }
    Ok(())
}

/// What `put_trades` answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Put {
    /// New ones.
    pub added: i64,
    /// Those that were there.
    pub known: i64,
    /// Those that were there with other content.
    pub conflicts: i64,
}

/// Packs sorted trades of one session and sends them.
///
/// # Errors
/// What the server says.
pub async fn put(client: &Client, id: i32, trades: &Trades) -> Result<Put> {
    put_bytes(client, id, &block::encode_session(trades)?).await
}

/// Sends trades, a call for each trade date of a calendar.
///
/// # Errors
/// Trades outside of its days; what the server says.
pub async fn put_days(client: &Client, id: i32, calendar: &Calendar, trades: Vec<Trade>) -> Result<()> {
    let mut by_date = BTreeMap::<_, Trades>::new();
    for trade in trades {
        by_date.entry(calendar.trade_date(trade.ts)?).or_default().push(trade);
    }
    for trades in by_date.values() {
        put(client, id, trades).await?;
    }
    Ok(())
}

/// Sends a payload.
///
/// # Errors
/// What the server says.
pub async fn put_bytes(client: &Client, id: i32, payload: &[u8]) -> Result<Put> {
    let row =
        client.query_one("SELECT added, known, conflicts FROM market.put_trades($1, $2)", &[&id, &payload]).await?;
    Ok(Put { added: row.get(0), known: row.get(1), conflicts: row.get(2) })
}

/// Seals a session; the number of rows packed.
///
/// # Errors
/// What the server says.
pub async fn seal(client: &Client, symbol: &str, session: &Session<'_>) -> Result<i64> {
    let day = session.trade_date.to_string();
    Ok(client.query_one("SELECT market.seal($1, $2::text::date)", &[&symbol, &day]).await?.get(0))
}

/// Every row of a query as text, columns joined by `|`; NULL is `-`.
///
/// # Errors
/// What the server says.
pub async fn texts(client: &Client, sql: &str) -> Result<Vec<String>> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await.with_context(|| format!("in {sql}"))? {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|at| row.get(at).unwrap_or("-")).collect::<Vec<_>>().join("|"));
        }
    }
    Ok(rows)
}

/// The sessions of a calendar between two dates, both included.
///
/// # Errors
/// For dates that are none.
pub fn sessions<'c>(calendar: &'c Calendar, first: &str, last: &str) -> Result<Vec<Session<'c>>> {
    let found: Vec<_> = calendar.sessions(market::TradeDate::parse(first)?, market::TradeDate::parse(last)?)?.collect();
    ensure!(!found.is_empty(), "no sessions");
    Ok(found)
}

/// A new database with the instrument `X`, a connection to it, and the id.
///
/// # Errors
/// What the server says.
pub async fn fresh(name: &str, calendar: &str) -> Result<(Database, Client, i32)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    let id = instrument(&client, "X", calendar).await?;
    Ok((database, client, id))
}

/// All trades of some sessions, in order.
pub fn generate(chance: &mut Chance, days: &[Session<'_>], n: usize) -> Vec<Trades> {
    days.iter().map(|s| session_trades(chance, s, n, true)).collect()
}

/// The trades of some sessions as one.
pub fn flat(days: &[Trades]) -> Vec<Trade> {
    days.iter().flat_map(Trades::iter).collect()
}

/// The same rows, or the first that is not.
pub fn same(what: &str, found: &[String], expected: &[String]) {
    for (at, (f, e)) in found.iter().zip(expected).enumerate() {
        assert_eq!(f, e, "{what}: row {at} of {}", expected.len());
    }
    assert_eq!(found.len(), expected.len(), "{what}: rows");
}

/// The differences that `verify_bars` finds.
///
/// # Errors
/// What the server says.
pub async fn verify(client: &Client, symbol: &str) -> Result<Vec<String>> {
    texts(
        client,
        &format!(
            "SELECT trade_date, what, expected, found FROM market.verify_bars('{symbol}', '2013-01-01', '2026-12-31')"
        ),
    )
    .await
}

/// The columns of a trade, for the view and trades_between alike. A receipt that no source gave is when the row came, and left
/// out: it differs between databases.
pub const TRADE_COLUMNS: &str = "ts, ns, seq, sub, price, size, flags, cond,
    CASE WHEN ts_recv < ts + interval '1 day' THEN ts_recv END, trade_id, trade_date, segment";

/// All trades of a symbol as the view shows them, in order.
///
/// # Errors
/// What the server says.
pub async fn view(client: &Client, symbol: &str) -> Result<Vec<String>> {
    let sql = format!("SELECT {TRADE_COLUMNS} FROM market.trades WHERE symbol = '{symbol}' ORDER BY ts, ns, seq, sub");
    texts(client, &sql).await
}

/// The SQLSTATE of an error that must have come.
///
/// # Errors
/// If there was none, or it did not come from the server.
pub fn state<T>(result: Result<T, tokio_postgres::Error>) -> Result<String> {
    let error = result.err().context("this must fail")?;
    let db = error.as_db_error().with_context(|| format!("not an answer of the server: {error}"))?;
    Ok(db.code().code().to_owned())
}

/// A database made of another's dump.
///
/// # Errors
/// What pg_dump or pg_restore say.
pub async fn copied(database: &Database, name: &str) -> Result<Database> {
    let restored = cluster::empty_database(name).await?;
    let mut dump = Command::new(cluster::cluster()?.client_program("pg_dump")?);
    let mut dump = dump.args(["-Fc", "-d", &database.url]).stdout(Stdio::piped()).spawn()?;
    let archive = dump.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let out = Command::new(cluster::cluster()?.client_program("pg_restore")?)
        .args(["-1", "-e", "-d", &restored.url])
        .stdin(archive)
        .output()?;
    ensure!(dump.wait()?.success(), "pg_dump failed");
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(restored)
}
