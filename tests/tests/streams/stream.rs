//! A stream: connections that take turns, the ledger, what is in flight, and the trades that chance makes.

use crate::calendars::{ACME, Known, calendars};
use crate::{BOOKS, CONNECTIONS, FIRST, LAST};
use anyhow::{Context, Result};
use market::{Key, NONE_I64, Trade, TradeDate, flags, money};
use std::collections::HashMap;
use tests::cluster::{self, Database};
use tests::ledger::{Book, Effect, Ledger};
use tests::store::{self, Chance, TICK};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use xtask::server::Server;

/// An open transaction.
pub struct Open {
    /// What it saw first, if it looks at that for ever.
    pub snapshot: Option<Ledger>,
    pub effects: Vec<Effect>,
    /// How many effects and locks there were.
    pub savepoints: Vec<(usize, usize)>,
    pub locks: Vec<(usize, i32)>,
    pub publishes: bool,
}

pub struct Connection {
    pub client: Client,
    /// What it has set, for one that takes its place.
    pub settings: String,
    pub statements: HashMap<String, Statement>,
    pub open: Option<Open>,
}

impl Connection {
    pub async fn query(&mut self, sql: &str, arguments: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        if !self.statements.contains_key(sql) {
            let statement = self.client.prepare(sql).await.with_context(|| sql.to_owned())?;
            self.statements.insert(sql.to_owned(), statement);
        }
        self.client.query(&self.statements[sql], arguments).await.with_context(|| sql.to_owned())
    }
}

/// One stream: the connections, the ledger, and what has happened so far.
pub struct Stream {
    pub chance: Chance,
    pub connections: Vec<Connection>,
    pub ids: Vec<i32>,
    pub known: Vec<Known>,
    pub committed: Ledger,
    pub next_row: u64,
    pub instants: Vec<i64>,
    pub log: Vec<String>,
    pub over: bool,
    /// A server of its own, which may die.
    pub server: Option<Server>,
    database: Database,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.over {
            println!("the steps so far:");
            self.log.iter().for_each(|step| println!("  {step}"));
        }
    }
}

/// When a trade of an identity is received, whatever its content; `NONE_I64` for one that is received when its row comes.
pub fn receipt(key: Key) -> i64 {
    let at = key.ts / 1000 * 1000;
    match (key.ts / 1000 + key.seq) % 6 {
        0 => NONE_I64,
        // days later: late, and in no order
        1 => at + 86_400_000_000_000 * (1 + key.seq),
        2 => at + 7_000_000 * key.seq,
        _ => at + 1_000_000_000,
    }
}

pub fn symbol(book: usize) -> String {
    format!("X{book}")
}

pub fn tell(t: &Trade) -> String {
    let optional = |v: i64| if v == NONE_I64 { "-".to_owned() } else { v.to_string() };
    format!(
        "{} {}/{} {}x{} flags {} cond {} recv {} id {}",
        market::time::format_instant(t.ts),
        t.seq,
        t.sub,
        money::to_f64(t.price),
        money::to_f64(t.size),
        t.flags,
        t.cond,
        optional(t.ts_recv),
        optional(t.trade_id)
    )
}

impl Stream {
    /// In a database that has the extension and nothing else.
    pub async fn new(database: Database, server: Option<Server>, seed: u64) -> Result<Stream> {
        let client = database.client().await?;
        client.execute("SELECT market.calendar_define($1)", &[&ACME]).await?;
        client.batch_execute("SELECT market.calendar_publish('ACME'); SELECT market.set_policy('seal', 'trades', options => '{\"quiet\": \"0 seconds\"}')").await?;
        let mut ids = Vec::new();
        for book in 0..BOOKS {
            ids.push(store::instrument(&client, &symbol(book), "ACME").await?);
        }
        // made now: two transactions that both need a new month would wait for each other
        client
            .batch_execute(
                "SELECT market.ensure_partitions(d) FROM (VALUES (date '2025-11-25'), ('2025-12-01')) AS v(d)",
            )
            .await?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let (client, settings) = (database.client().await?, String::new());
            connections.push(Connection { client, settings, statements: HashMap::new(), open: None });
        }
        let mut chance = Chance::seeded(seed);
        for connection in &mut connections {
            // sessions of many parts, and of one
            let part = [2, 5, 20, 65_536][chance.within(0, 4) as usize];
            // live rows read page by page, and as those of a long ring are
            let pages = [0, 16_384][chance.within(0, 2) as usize];
            connection.settings = format!("SET bellwether.part_trades = {part}; SET bellwether.ring_pages = {pages}");
            connection.client.batch_execute(&connection.settings).await?;
        }
        let known: Vec<Known> = calendars().into_iter().map(Known::new).collect::<Result<_>>()?;
        let mut instants = Vec::new();
        let (first, last) = (TradeDate::parse(FIRST)?, TradeDate::parse(LAST)?);
        let days: Vec<_> = known[0].sessions.iter().filter(|s| (first..=last).contains(&s.trade_date)).collect();
        for _ in 0..60 {
            let session = days[chance.within(0, days.len() as i64) as usize];
            let span = session.spans.to_vec()[chance.within(0, session.spans.len() as i64) as usize];
            instants.push(match chance.within(0, 12) {
                0 => span.open,
                1 => span.close - 1,
                2 => span.close,
                3 => span.close + chance.within(0, 3),
                4 => session.till - 1,
                5 => session.from,
                6 => chance.within(session.from, session.till),
                _ => chance.within(span.open, span.close),
            });
        }
        // the holiday, and the Saturday
        instants.extend([1_764_252_000_000_000_000, 1_764_432_000_000_000_123]);
        let committed = Ledger { books: vec![Book::default(); BOOKS], calendar: 0 };
        Ok(Stream {
            chance,
            connections,
            ids,
            known,
            committed,
            next_row: 0,
            instants,
            log: Vec::new(),
            over: false,
            server,
            database,
        })
    }

    /// The server dies at once and is started again: what was committed is there, and nothing of what was not.
    pub async fn crash(&mut self) -> Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        cluster::kill(server)?;
        server.start()?;
        cluster::patiently(server).await?;
        for connection in &mut self.connections {
            connection.client = self.database.client().await?;
            connection.client.batch_execute(&connection.settings).await?;
            connection.statements.clear();
            connection.open = None;
        }
        self.say(0, "the server dies");
        Ok(())
    }

    pub fn view(&self, at: usize) -> Ledger {
        let Some(open) = &self.connections[at].open else { return self.committed.clone() };
        let mut view = open.snapshot.as_ref().unwrap_or(&self.committed).clone();
        open.effects.iter().for_each(|effect| view.apply(effect));
        view
    }

    /// What a step did: at once, or when the transaction commits.
    pub fn note(&mut self, at: usize, effects: Vec<Effect>) {
        match &mut self.connections[at].open {
            Some(open) => open.effects.extend(effects),
            None => effects.iter().for_each(|effect| self.committed.apply(effect)),
        }
    }

    /// Whether a writer may lock a session now; it would wait for whoever has it, or for a calendar that is being changed.
    pub fn is_free(&self, at: usize, book: usize, date: i32) -> bool {
        let others =
            |c: &Connection| c.open.as_ref().is_some_and(|open| open.publishes || open.locks.contains(&(book, date)));
        let old = self.connections[at].open.as_ref().is_some_and(|open| open.snapshot.is_some());
        !old && !self.connections.iter().enumerate().any(|(n, c)| n != at && others(c))
    }

    /// A writer has locked a session.
    pub fn locked(&mut self, at: usize, book: usize, date: i32) {
        if let Some(open) = &mut self.connections[at].open {
            open.locks.push((book, date));
        }
    }

    pub fn say(&mut self, at: usize, what: impl Into<String>) {
        self.log.push(format!("{} [{at}] {}", self.log.len(), what.into()));
    }

    pub fn new_trade(&mut self, book: &Book) -> Trade {
        let keys: Vec<Key> = book.keys().into_iter().chain(book.words.keys().copied()).collect();
        let c = &mut self.chance;
        let key = if !keys.is_empty() && c.once_in(3) {
            keys[c.within(0, keys.len() as i64) as usize]
        } else {
            let ts = self.instants[c.within(0, self.instants.len() as i64) as usize];
            Key { ts: ts + c.within(0, 2), seq: c.within(0, 3), sub: c.within(0, 2) as i32 }
        };
        // as it is already, or with other content
        if let Some(t) = book.reported(key)
            && c.once_in(2)
        {
            return t;
        }
        let sets = [
            0,
            0,
            0,
            flags::NO_LAST,
            flags::NO_HIGH_LOW,
            flags::NO_VOLUME,
            flags::LAST_IF_FIRST,
            flags::NO_LAST | flags::NO_HIGH_LOW,
            flags::AUCTION_OPEN,
            flags::AUCTION_CLOSE,
            flags::NOT_IN_RTH,
            flags::BUY | flags::LAST_IF_FIRST,
        ];
        Trade {
            ts: key.ts,
            seq: key.seq,
            sub: key.sub,
            price: c.within(9_990, 10_010) * TICK,
            size: c.within(0, 30) * money::ONE,
            flags: sets[c.within(0, sets.len() as i64) as usize],
            // of one identity always the same: a correction names price, size and flags
            cond: (key.ts % 3 + key.seq) as u32,
            ts_recv: receipt(key),
            trade_id: if key.sub == 0 { NONE_I64 } else { key.ts % 1_000_000 * 10 + key.seq },
        }
    }

    /// Begins a transaction of its own, unless the connection has one open; when it began, which is since when what it brings
    /// is known.
    pub async fn begin(&mut self, at: usize) -> Result<i64> {
        if self.connections[at].open.is_none() {
            self.connections[at].client.batch_execute("BEGIN").await?;
        }
        let sql = "SELECT (EXTRACT(epoch FROM now()) * 1000000)::int8";
        Ok(self.connections[at].query(sql, &[]).await?[0].get::<_, i64>(0) * 1000)
    }

    /// Commits what [`begin`](Stream::begin) began.
    pub async fn end(&mut self, at: usize) -> Result<()> {
        if self.connections[at].open.is_none() {
            self.connections[at].client.batch_execute("COMMIT").await?;
        }
        Ok(())
    }
}
