//! Random streams of everything that happens to trades, on several connections at once, against a ledger in memory: after
//! every step every read of the connection equals the ledger's.
//!
//! The connections take turns, so a seed repeats a stream exactly: `BELLWETHER_SEED=7 BELLWETHER_STREAMS=1`. A stream that fails
//! prints its steps; `BELLWETHER_STEPS` makes it longer.

use anyhow::{Context, Result, ensure};
use futures_util::SinkExt;
use market::{Calendar, Correction, Key, NONE_I64, Segments, Session, Trade, TradeDate, Trades, block, flags, money};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tests::cluster::Database;
use tests::ledger::{Book, Effect, Ledger, Window};
use tests::model::{self, Gaps, Width};
use tests::store::{self, Chance, TICK};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

const MINUTE: i64 = 60_000_000_000;
/// Trades lie between these trade dates; the days around them are there for what a calendar moves.
const FIRST: &str = "2025-11-25";
const LAST: &str = "2025-12-02";
const CONNECTIONS: usize = 3;
const BOOKS: usize = 2;

/// A calendar of the user's own, to be changed.
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
"Thanksgiving" = "4th thu nov"
"#;

/// What the user changes it into: a holiday, an early close, other hours, a holiday less, a Saturday, a roll.
fn calendars() -> Vec<String> {
    vec![
        ACME.to_owned(),
        ACME.replace("[holidays]", "[closed]\n\"2025-12-02\" = \"flood\"\n[holidays]"),
        format!("{ACME}[[special]]\non = \"2025-11-28\"\nRTH = \"09:30-13:00\"\nPOST = \"13:00-17:00\"\n"),
        ACME.replace(
            "[holidays]",
            "[[hours]]\ndays = \"mon-fri\"\nfrom = 2025-11-24\nto = 2025-11-26\nPRE = \"04:00-09:00\"\nRTH = \"09:00-16:00\"\nPOST = \"16:00-20:00\"\n[holidays]",
        ),
        ACME.replace("\"Thanksgiving\" = \"4th thu nov\"\n", "\"Christmas\" = \"dec 25\"\n"),
        format!("{ACME}[[special]]\non = \"2025-11-29\"\nopen_day = true\nRTH = \"10:00-12:00\"\n"),
        ACME.replace("POST = \"16:00-20:00\"", "POST = \"16:00-20:00\"\nroll = \"20:00\""),
        ACME.replace("RTH  = \"09:30-16:00\"", "RTH  = \"09:30-12:00, 13:00-16:00\""),
    ]
}

/// What a session bar's question says, and what the model needs to answer it.
struct Question(&'static str, Width, &'static str, Gaps);

const QUESTIONS: [Question; 16] = [
    Question("5m", Width::Time(5 * MINUTE), "RTH", Gaps::None),
    Question("1h", Width::Time(60 * MINUTE), "ETH", Gaps::None),
    Question("65m", Width::Time(65 * MINUTE), "ETH", Gaps::Previous),
    Question("30s", Width::Time(MINUTE / 2), "RTH", Gaps::None),
    Question("1m", Width::Time(MINUTE), "ALL", Gaps::None),
    Question("90m", Width::Time(90 * MINUTE), "RTH", Gaps::Null),
    Question("15m", Width::Time(15 * MINUTE), "POST", Gaps::Previous),
    Question("4h", Width::Time(240 * MINUTE), "ALL", Gaps::None),
    Question("2h", Width::Time(120 * MINUTE), "OFF", Gaps::None),
    Question("1d", Width::Day, "RTH", Gaps::None),
    Question("1d", Width::Day, "ETH", Gaps::Previous),
    Question("1d", Width::Day, "ALL", Gaps::None),
    Question("1d", Width::Day, "OFF", Gaps::Null),
    Question("1w", Width::Week, "RTH", Gaps::None),
    Question("1w", Width::Week, "ETH", Gaps::Previous),
    Question("1w", Width::Week, "ALL", Gaps::Null),
];

/// A version of the calendar and its sessions.
struct Known {
    toml: String,
    sessions: Vec<Session<'static>>,
    windows: Vec<Window>,
}

impl Known {
    fn new(toml: String) -> Result<Known> {
        let calendar: &'static Calendar = Box::leak(Box::new(Calendar::from_toml(&toml)?));
        let sessions: Vec<_> = store::sessions(calendar, "2025-11-10", "2025-12-19")?;
        let windows = sessions.iter().map(|s| Window { date: s.trade_date.0, from: s.from, till: s.till }).collect();
        Ok(Known { toml, sessions, windows })
    }

    fn at(&self, ts: i64) -> usize {
        self.windows.iter().position(|w| w.holds(ts)).expect("trades lie between the sessions known here")
    }
}

/// An open transaction.
struct Open {
    /// What it saw first, if it looks at that for ever.
    snapshot: Option<Ledger>,
    effects: Vec<Effect>,
    /// How many effects and locks there were.
    savepoints: Vec<(usize, usize)>,
    locks: Vec<(usize, i32)>,
    publishes: bool,
}

struct Connection {
    client: Client,
    statements: HashMap<String, Statement>,
    open: Option<Open>,
}

impl Connection {
    async fn query(&mut self, sql: &str, arguments: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        if !self.statements.contains_key(sql) {
            let statement = self.client.prepare(sql).await.with_context(|| sql.to_owned())?;
            self.statements.insert(sql.to_owned(), statement);
        }
        self.client.query(&self.statements[sql], arguments).await.with_context(|| sql.to_owned())
    }
}

/// One stream: the connections, the ledger, and what has happened so far.
struct Stream {
    chance: Chance,
    connections: Vec<Connection>,
    ids: Vec<i32>,
    known: Vec<Known>,
    committed: Ledger,
    next_row: u64,
    instants: Vec<i64>,
    log: Vec<String>,
    over: bool,
    _database: Database,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.over {
            println!("the steps so far:");
            self.log.iter().for_each(|step| println!("  {step}"));
        }
    }
}

fn symbol(book: usize) -> String {
    format!("X{book}")
}

fn tell(t: &Trade) -> String {
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
    async fn new(name: &str, seed: u64) -> Result<Stream> {
        let (database, client) = {
            let database = tests::cluster::database(name).await?;
            let client = database.client().await?;
            (database, client)
        };
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
            connections.push(Connection { client: database.client().await?, statements: HashMap::new(), open: None });
        }
        let mut chance = Chance::seeded(seed);
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
            _database: database,
        })
    }

    fn view(&self, at: usize) -> Ledger {
        let Some(open) = &self.connections[at].open else { return self.committed.clone() };
        let mut view = open.snapshot.as_ref().unwrap_or(&self.committed).clone();
        open.effects.iter().for_each(|effect| view.apply(effect));
        view
    }

    /// What a step did: at once, or when the transaction commits.
    fn note(&mut self, at: usize, effects: Vec<Effect>) {
        match &mut self.connections[at].open {
            Some(open) => open.effects.extend(effects),
            None => effects.iter().for_each(|effect| self.committed.apply(effect)),
        }
    }

    /// Whether a writer may lock a session now; it would wait for whoever has it, or for a calendar that is being changed.
    fn is_free(&self, at: usize, book: usize, date: i32) -> bool {
        let others =
            |c: &Connection| c.open.as_ref().is_some_and(|open| open.publishes || open.locks.contains(&(book, date)));
        let old = self.connections[at].open.as_ref().is_some_and(|open| open.snapshot.is_some());
        !old && !self.connections.iter().enumerate().any(|(n, c)| n != at && others(c))
    }

    /// A writer has locked a session.
    fn locked(&mut self, at: usize, book: usize, date: i32) {
        if let Some(open) = &mut self.connections[at].open {
            open.locks.push((book, date));
        }
    }

    fn say(&mut self, at: usize, what: impl Into<String>) {
        self.log.push(format!("{} [{at}] {}", self.log.len(), what.into()));
    }

    fn new_trade(&mut self, book: &Book) -> Trade {
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
            ts_recv: key.ts / 1000 * 1000 + 1_000_000_000,
            trade_id: if key.sub == 0 { NONE_I64 } else { key.ts % 1_000_000 * 10 + key.seq },
        }
    }

    async fn insert(&mut self, at: usize) -> Result<()> {
        let (view, b) = (self.view(at), self.chance.within(0, BOOKS as i64) as usize);
        let trades: Vec<Trade> = (0..self.chance.within(1, 8)).map(|_| self.new_trade(&view.books[b])).collect();
        let id = self.ids[b];
        let connection = &mut self.connections[at];
        let how = self.chance.within(0, 3);
        match how {
            0 => {
                let slot = self.chance.within(0, 24);
                let optional = |v: i64, text: String| if v == NONE_I64 { "\\N".to_owned() } else { text };
                let micros = |ts: i64| market::time::format_instant(ts - ts.rem_euclid(1000));
                let lines: String = trades
                    .iter()
                    .map(|t| {
                        format!(
                            "{id}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{slot}\n",
                            micros(t.ts),
                            t.ts.rem_euclid(1000),
                            t.seq,
                            t.sub,
                            money::to_f64(t.price),
                            money::to_f64(t.size),
                            t.flags,
                            t.cond,
                            optional(t.ts_recv, micros(t.ts_recv.max(0))),
                            optional(t.trade_id, t.trade_id.to_string())
                        )
                    })
                    .collect();
                let copy = "COPY market.live_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, slot) FROM STDIN";
                let mut sink = std::pin::pin!(connection.client.copy_in(copy).await?);
                sink.send(std::io::Cursor::new(lines.into_bytes())).await?;
                ensure!(sink.finish().await? == trades.len() as u64);
            }
            1 => store::insert(&connection.client, id, &trades).await?,
            _ => {
                let sql =
                    "INSERT INTO market.trades (symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id)
                    VALUES ($1, timestamptz 'epoch' + $2::int8 * interval '1 microsecond', $3, $4, $5, $6, $7, $8, $9,
                            timestamptz 'epoch' + $10::int8 * interval '1 microsecond', $11)";
                for t in &trades {
                    let known = |v: i64, unit: i64| Some(v).filter(|v| *v != NONE_I64).map(|v| v.div_euclid(unit));
                    let arguments: [&(dyn ToSql + Sync); 11] = [
                        &symbol(b),
                        &t.ts.div_euclid(1000),
                        &(t.ts.rem_euclid(1000) as i16),
                        &t.seq,
                        &(t.sub as i16),
                        &money::to_f64(t.price),
                        &money::to_f64(t.size),
                        &(t.flags as i32),
                        &(t.cond as i32),
                        &known(t.ts_recv, 1000),
                        &known(t.trade_id, 1),
                    ];
                    connection.query(sql, &arguments).await?;
                }
            }
        }
        let list: Vec<String> = trades.iter().map(tell).collect();
        self.say(at, format!("insert {} ({how}): {}", symbol(b), list.join("; ")));
        let mut effects = Vec::new();
        for t in trades {
            self.next_row += 1;
            effects.push(Effect::Row(b, self.next_row, t));
        }
        self.note(at, effects);
        Ok(())
    }

    async fn put(&mut self, at: usize) -> Result<()> {
        let (view, b) = (self.view(at), self.chance.within(0, BOOKS as i64) as usize);
        let known = &self.known[view.calendar];
        let instant = self.instants[self.chance.within(0, self.instants.len() as i64) as usize];
        let w = known.windows[known.at(instant)];
        if !self.is_free(at, b, w.date) {
            return Ok(());
        }
        let mut sent: BTreeMap<Key, Trade> = BTreeMap::new();
        for t in view.books[b].visible().into_iter().filter(|t| w.holds(t.ts)) {
            if self.chance.once_in(2) {
                sent.insert(t.key(), t);
            }
        }
        for _ in 0..20 {
            let t = self.new_trade(&view.books[b]);
            if w.holds(t.ts) {
                sent.insert(t.key(), t);
            }
        }
        if self.chance.once_in(5) {
            // exactly what is sealed
            let sealed = view.books[b].sealed.iter().filter(|(k, _)| w.holds(k.ts));
            sent = sealed.map(|(k, t)| (*k, *t)).collect();
        }
        if sent.is_empty() {
            return Ok(());
        }
        let trades: Vec<Trade> = sent.into_values().collect();
        let list: Vec<String> = trades.iter().map(tell).collect();
        self.say(at, format!("put_trades {}: {}", symbol(b), list.join("; ")));
        let (effects, counts) = view.put(b, &w, &trades);
        let payload = block::encode_session(&trades.into_iter().collect::<Trades>())?;
        let sql = "SELECT added, known, conflicts FROM market.put_trades($1, $2)";
        let row = &self.connections[at].query(sql, &[&self.ids[b], &payload]).await?[0];
        let found: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(found, counts, "put_trades: added, known, conflicts");
        self.locked(at, b, w.date);
        self.note(at, effects);
        Ok(())
    }

    async fn seal(&mut self, at: usize) -> Result<()> {
        let (view, b) = (self.view(at), self.chance.within(0, BOOKS as i64) as usize);
        let known = &self.known[view.calendar];
        let instant = self.instants[self.chance.within(0, self.instants.len() as i64) as usize];
        let w = known.windows[known.at(instant)];
        if !self.is_free(at, b, w.date) {
            return Ok(());
        }
        let day = TradeDate(w.date).to_string();
        self.say(at, format!("seal {} {day}", symbol(b)));
        let book = &view.books[b];
        let rows =
            book.rows.values().filter(|t| w.holds(t.ts)).count() + book.marks.iter().filter(|k| w.holds(k.ts)).count();
        let sql = "SELECT market.seal($1, $2::text::date)";
        let taken: i64 = self.connections[at].query(sql, &[&symbol(b), &day]).await?[0].get(0);
        assert_eq!(taken, rows as i64, "rows sealed");
        self.locked(at, b, w.date);
        self.note(at, view.seal(b, &w));
        Ok(())
    }

    async fn correct(&mut self, at: usize) -> Result<()> {
        let (view, b) = (self.view(at), self.chance.within(0, BOOKS as i64) as usize);
        // one that is there, one that was, or one that is to come
        let key = self.new_trade(&view.books[b]).key();
        let known = &self.known[view.calendar];
        let w = known.windows[known.at(key.ts)];
        if !self.is_free(at, b, w.date) {
            return Ok(());
        }
        // a bust is the last word here; tests/correction_laws.rs takes some back
        let busted = view.books[b].words.get(&key).and_then(|words| words.last()) == Some(&Correction::Bust);
        let word = if busted || self.chance.once_in(2) {
            Correction::Bust
        } else {
            let flags =
                self.chance.once_in(2).then(|| [0, flags::NO_LAST, flags::BUY][self.chance.within(0, 3) as usize]);
            Correction::Replace {
                price: self.chance.within(9_980, 10_020) * TICK,
                size: self.chance.within(0, 40) * money::ONE,
                flags,
            }
        };
        self.say(
            at,
            format!("{} {}/{}/{}: {word:?}", symbol(b), market::time::format_instant(key.ts), key.seq, key.sub),
        );
        let (effects, seen) = view.say(b, key, word);
        let (micros, ns, sub) = (key.ts.div_euclid(1000), key.ts.rem_euclid(1000) as i16, key.sub as i16);
        let at_ts = "timestamptz 'epoch' + $2::int8 * interval '1 microsecond'";
        let rows = match word {
            Correction::Bust => {
                let sql = format!("SELECT market.bust_trade($1, {at_ts}, $3, $4, $5)");
                self.connections[at].query(&sql, &[&symbol(b), &micros, &key.seq, &ns, &sub]).await?
            }
            Correction::Replace { price, size, flags } => {
                let sql = format!("SELECT market.correct_trade($1, {at_ts}, $3, $6, $7, $4, $5, $8)");
                let (price, size, flags) = (money::to_f64(price), money::to_f64(size), flags.map(|f| f as i32));
                let all: [&(dyn ToSql + Sync); 8] = [&symbol(b), &micros, &key.seq, &ns, &sub, &price, &size, &flags];
                self.connections[at].query(&sql, &all).await?
            }
        };
        assert_eq!(rows[0].get::<_, bool>(0), seen, "whether the trade was there");
        self.locked(at, b, w.date);
        self.note(at, effects);
        Ok(())
    }

    async fn maintain(&mut self, at: usize) -> Result<()> {
        let others = |c: &Connection| c.open.as_ref().is_some_and(|open| open.publishes);
        if self.connections[at].open.is_some() || self.connections.iter().any(others) {
            return Ok(());
        }
        // a slot is not truncated under a transaction that looked at it, and waiting for it takes a tenth of a second
        let alone = self.connections.iter().all(|c| c.open.is_none());
        let job = ["seal", "verify", "slots", "partitions", "history"][self.chance.within(0, 5) as usize];
        if job == "slots" && !alone {
            return Ok(());
        }
        self.say(at, format!("maintain {job}"));
        self.connections[at].client.batch_execute(&format!("CALL market.maintain('{job}')")).await?;
        let state = "SELECT job, coalesce(last_error, '') FROM market.job_status WHERE job = $1";
        let rows = self.connections[at].query(state, &[&job]).await?;
        assert_eq!(rows[0].get::<_, String>(1), "", "maintain {job}");
        if job == "seal" {
            let taken: BTreeSet<(usize, i32)> =
                self.connections.iter().filter_map(|c| c.open.as_ref()).flat_map(|open| open.locks.clone()).collect();
            for b in 0..BOOKS {
                for w in self.known[self.committed.calendar].windows.clone() {
                    if !taken.contains(&(b, w.date)) {
                        let effects = self.committed.seal(b, &w);
                        self.note(at, effects);
                    }
                }
            }
        }
        Ok(())
    }

    async fn publish(&mut self, at: usize) -> Result<()> {
        let busy = |c: &Connection| c.open.as_ref().is_some_and(|open| open.publishes || !open.locks.is_empty());
        if self.connections.iter().enumerate().any(|(n, c)| n != at && busy(c))
            || self.connections[at].open.as_ref().is_some_and(|open| open.snapshot.is_some())
        {
            return Ok(());
        }
        let view = self.view(at);
        let next = (view.calendar + self.chance.within(1, self.known.len() as i64) as usize) % self.known.len();
        self.say(at, format!("publish calendar {next}"));
        let toml = self.known[next].toml.clone();
        self.connections[at].query("SELECT market.calendar_define($1)", &[&toml]).await?;
        self.connections[at].query("SELECT market.calendar_publish('ACME')", &[]).await?;
        let effects = view.publish(next, &self.known[next].windows);
        self.note(at, effects);
        if let Some(open) = &mut self.connections[at].open {
            open.publishes = true;
        }
        Ok(())
    }

    async fn transact(&mut self, at: usize) -> Result<()> {
        let snapshot = self.committed.clone();
        let chance = self.chance.within(0, 10);
        let connection = &mut self.connections[at];
        let what = match &mut connection.open {
            None => {
                let isolation = if chance < 4 { "REPEATABLE READ" } else { "READ COMMITTED" };
                let sql = format!("BEGIN ISOLATION LEVEL {isolation}");
                connection.client.batch_execute(&sql).await?;
                // the first statement takes the snapshot
                connection.client.batch_execute("SELECT FROM market.instruments").await?;
                connection.open = Some(Open {
                    snapshot: (chance < 4).then_some(snapshot),
                    effects: Vec::new(),
                    savepoints: Vec::new(),
                    locks: Vec::new(),
                    publishes: false,
                });
                sql
            }
            Some(open) => match chance {
                0..=2 => {
                    open.savepoints.push((open.effects.len(), open.locks.len()));
                    let sql = format!("SAVEPOINT s{}", open.savepoints.len());
                    connection.client.batch_execute(&sql).await?;
                    sql
                }
                3..=4 if !open.savepoints.is_empty() => {
                    let depth = 1 + chance as usize % open.savepoints.len();
                    let sql = format!("ROLLBACK TO SAVEPOINT s{depth}");
                    let (effects, locks) = open.savepoints[depth - 1];
                    open.effects.truncate(effects);
                    open.locks.truncate(locks);
                    open.savepoints.truncate(depth);
                    connection.client.batch_execute(&sql).await?;
                    sql
                }
                5 if !open.savepoints.is_empty() => {
                    let sql = format!("RELEASE SAVEPOINT s{}", open.savepoints.len());
                    open.savepoints.pop();
                    connection.client.batch_execute(&sql).await?;
                    sql
                }
                6..=7 => {
                    connection.client.batch_execute("ROLLBACK").await?;
                    connection.open = None;
                    "ROLLBACK".to_owned()
                }
                _ => {
                    connection.client.batch_execute("COMMIT").await?;
                    let effects = connection.open.take().map(|open| open.effects).unwrap_or_default();
                    effects.iter().for_each(|effect| self.committed.apply(effect));
                    "COMMIT".to_owned()
                }
            },
        };
        self.say(at, what);
        Ok(())
    }

    async fn step(&mut self) -> Result<()> {
        let at = self.chance.within(0, CONNECTIONS as i64) as usize;
        match self.chance.within(0, 20) {
            0..=5 => self.insert(at).await?,
            6..=8 => self.put(at).await?,
            9..=10 => self.seal(at).await?,
            11..=13 => self.correct(at).await?,
            14 => self.maintain(at).await?,
            15 => self.publish(at).await?,
            _ => self.transact(at).await?,
        }
        let book = self.chance.within(0, BOOKS as i64) as usize;
        self.check(at, book, 3).await?;
        let other = (at + 1 + self.chance.within(0, CONNECTIONS as i64 - 1) as usize) % CONNECTIONS;
        self.check(other, (book + 1) % BOOKS, 1).await
    }

    /// Every read of a connection equals the ledger's.
    async fn check(&mut self, at: usize, book: usize, questions: usize) -> Result<()> {
        let view = self.view(at);
        let known = &self.known[view.calendar];
        let book_view = &view.books[book];
        let visible = book_view.visible();
        let symbol = symbol(book);
        let what = |read: &str| format!("{symbol} on connection {at} by {read}");
        let connection = &mut self.connections[at];

        let expected: Vec<String> = visible.iter().map(|t| trade_text(known, t)).collect();
        let sql = "SELECT (EXTRACT(epoch FROM ts) * 1000000)::int8, ns, seq, sub, price, size, flags, cond,
                          (EXTRACT(epoch FROM ts_recv) * 1000000)::int8, trade_id, trade_date::text, segment
                   FROM market.trades WHERE symbol = $1 ORDER BY ts, ns, seq, sub";
        let found: Vec<String> = connection.query(sql, &[&symbol]).await?.iter().map(row_text).collect();
        store::same(&what("market.trades"), &found, &expected);

        let mut ends = [0; 2].map(|_| {
            let at = self.instants[self.chance.within(0, self.instants.len() as i64) as usize];
            at.div_euclid(1000) + self.chance.within(-1, 2)
        });
        ends.sort_unstable();
        let sql = "SELECT (EXTRACT(epoch FROM ts) * 1000000)::int8, ns, seq, sub, price, size, flags, cond,
                          (EXTRACT(epoch FROM ts_recv) * 1000000)::int8, trade_id, trade_date::text, segment
                   FROM market.trades_between($1, timestamptz 'epoch' + $2::int8 * interval '1 microsecond',
                                              timestamptz 'epoch' + $3::int8 * interval '1 microsecond')";
        let found: Vec<String> =
            connection.query(sql, &[&symbol, &ends[0], &ends[1]]).await?.iter().map(row_text).collect();
        let inside = |t: &&Trade| ends[0] * 1000 <= t.ts && t.ts < ends[1] * 1000;
        let expected: Vec<String> = visible.iter().filter(inside).map(|t| trade_text(known, t)).collect();
        store::same(&what("trades_between"), &found, &expected);

        let sql = "SELECT trade_date::text, (b).open, (b).high, (b).low, (b).close, (b).volume::float8, (b).trades
                   FROM (SELECT trade_date, market.ohlc(price, size, ts, seq) AS b FROM market.trades WHERE symbol = $1
                         GROUP BY trade_date) AS d ORDER BY 1";
        let price = |r: &Row, i| r.get::<_, Option<f64>>(i);
        let found: Vec<String> = connection
            .query(sql, &[&symbol])
            .await?
            .iter()
            .map(|r| {
                let prices = [1, 2, 3, 4].map(|i| price(r, i));
                format!("{} {prices:?} {:?} {}", r.get::<_, String>(0), r.get::<_, f64>(5), r.get::<_, i64>(6))
            })
            .collect();
        store::same(&what("the aggregate ohlc"), &found, &aggregates(known, &visible));

        let sql =
            "SELECT trade_date::text, what, expected, found FROM market.verify_bars($1, '2025-11-10', '2025-12-19')";
        let found: Vec<String> = connection
            .query(sql, &[&symbol])
            .await?
            .iter()
            .map(|r| [0, 1, 2, 3].map(|i| r.get::<_, String>(i)).join(" | "))
            .collect();
        store::same(&what("verify_bars"), &found, &[]);

        let source = ["auto", "minutes", "trades"][self.chance.within(0, 3) as usize];
        connection.query("SELECT set_config('bellwether.source', $1, false)", &[&source]).await?;
        for _ in 0..questions {
            let q = &QUESTIONS[self.chance.within(0, QUESTIONS.len() as i64) as usize];
            let days = [0; 2].map(|_| {
                let at = self.instants[self.chance.within(0, self.instants.len() as i64) as usize];
                known.windows[known.at(at)].date + self.chance.within(-1, 2) as i32
            });
            let days =
                if self.chance.once_in(4) { (days[0], days[0]) } else { (days[0].min(days[1]), days[0].max(days[1])) };
            let asked = [days.0, days.1].map(|d| TradeDate(d).to_string());
            let fill = match q.3 {
                Gaps::None => "none",
                Gaps::Previous => "previous",
                Gaps::Null => "null",
            };
            let sql = "SELECT trade_date::text, (EXTRACT(epoch FROM bar_at) * 1000000)::int8, (EXTRACT(epoch FROM bar_end) * 1000000)::int8,
                              open, high, low, close, volume, trades, vwap, state
                       FROM market.session_ohlc($1, $2, $3::text::date, $4::text::date, segments => $5, fill => $6) ORDER BY 2";
            let rows = connection.query(sql, &[&symbol, &q.0, &asked[0], &asked[1], &q.2, &fill]).await?;
            let segments = Segments::parse(q.2)?;
            let bars = model::bars(&known.sessions, &visible, q.1, segments, q.3, days);
            let expected: Vec<String> = bars
                .iter()
                .map(|bar| {
                    let date = TradeDate::parse(&bar.date).expect("a date").0;
                    let dates: Vec<i32> = match q.1 {
                        Width::Week => known
                            .windows
                            .iter()
                            .map(|w| w.date)
                            .filter(|d| model::week(*d) == model::week(date))
                            .collect(),
                        _ => vec![date],
                    };
                    let prices = bar.prices.map_or([None; 4], |p| p.map(Some));
                    let state = state(known, book_view, &dates);
                    format!("{} {:?} {prices:?} {:?} {} {state}", bar.date, bar.at, bar.volume, bar.trades)
                })
                .collect();
            let found: Vec<String> = rows
                .iter()
                .zip(expected.iter().map(Some).chain(std::iter::repeat(None)))
                .map(|(r, wanted)| {
                    let prices = [3, 4, 5, 6].map(|i| price(r, i));
                    let bar_at = (r.get::<_, i64>(1) * 1000, r.get::<_, i64>(2) * 1000);
                    let mut state: String = r.get(10);
                    if state != "provisional" && wanted.is_some_and(|w| w.ends_with("sealed")) {
                        "sealed".clone_into(&mut state);
                    }
                    format!(
                        "{} {bar_at:?} {prices:?} {:?} {} {state}",
                        r.get::<_, String>(0),
                        r.get::<_, f64>(7),
                        r.get::<_, i64>(8)
                    )
                })
                .collect();
            let read = format!("session_ohlc {} {} fill {fill} {asked:?} from {source}", q.0, q.2);
            store::same(&what(&read), &found, &expected);
            for (r, bar) in rows.iter().zip(&bars) {
                let near = match (r.get::<_, Option<f64>>(9), bar.vwap) {
                    (Some(f), Some(e)) => (f - e).abs() <= 1e-12 * e.abs(),
                    (f, e) => f == e,
                };
                assert!(near, "{}: vwap of {}", what(&read), bar.date);
            }
        }
        Ok(())
    }

    async fn run(&mut self, steps: usize) -> Result<()> {
        for _ in 0..steps {
            self.step().await?;
        }
        // everything ends, and everything is sealed
        for at in 0..CONNECTIONS {
            if self.connections[at].open.take().is_some() {
                self.connections[at].client.batch_execute("ROLLBACK").await?;
            }
        }
        for book in 0..BOOKS {
            self.check(0, book, QUESTIONS.len()).await?;
            for w in self.known[self.committed.calendar].windows.clone() {
                let day = TradeDate(w.date).to_string();
                self.connections[0].query("SELECT market.seal($1, $2::text::date)", &[&symbol(book), &day]).await?;
                let effects = self.committed.seal(book, &w);
                self.note(0, effects);
            }
            self.check(1, book, QUESTIONS.len()).await?;
        }
        let left = store::texts(&self.connections[0].client, "SELECT count(*) FROM market.live_trades").await?;
        assert_eq!(left, ["0"], "live rows");
        self.over = true;
        Ok(())
    }
}

fn trade_text(known: &Known, t: &Trade) -> String {
    let session = &known.sessions[known.at(t.ts)];
    let optional = |v: i64, unit: i64| Some(v).filter(|v| *v != NONE_I64).map(|v| v.div_euclid(unit));
    format!(
        "{} {} {} {} {:?} {:?} {} {} {:?} {:?} {} {}",
        t.ts.div_euclid(1000),
        t.ts.rem_euclid(1000),
        t.seq,
        t.sub,
        money::to_f64(t.price),
        money::to_f64(t.size),
        t.flags,
        t.cond,
        optional(t.ts_recv, 1000),
        optional(t.trade_id, 1),
        session.trade_date,
        model::place(session, t).0.name()
    )
}

fn row_text(r: &Row) -> String {
    format!(
        "{} {} {} {} {:?} {:?} {} {} {:?} {:?} {} {}",
        r.get::<_, i64>(0),
        r.get::<_, i16>(1),
        r.get::<_, i64>(2),
        r.get::<_, i16>(3),
        r.get::<_, f64>(4),
        r.get::<_, f64>(5),
        r.get::<_, i32>(6),
        r.get::<_, i32>(7),
        r.get::<_, Option<i64>>(8),
        r.get::<_, Option<i64>>(9),
        r.get::<_, String>(10),
        r.get::<_, String>(11)
    )
}

/// The aggregate knows neither flags nor nanoseconds: ties go to the lower price for the open, to the higher for the close.
fn aggregates(known: &Known, visible: &[Trade]) -> Vec<String> {
    let mut days: BTreeMap<String, Vec<&Trade>> = BTreeMap::new();
    for t in visible {
        days.entry(known.sessions[known.at(t.ts)].trade_date.to_string()).or_default().push(t);
    }
    days.iter()
        .map(|(date, trades)| {
            let place = |t: &&&Trade| (t.ts.div_euclid(1000), t.seq, t.price);
            let of = |t: Option<&&Trade>| t.map(|t| money::to_f64(t.price));
            let prices = [
                of(trades.iter().min_by_key(place)),
                of(trades.iter().max_by_key(|t| t.price)),
                of(trades.iter().min_by_key(|t| t.price)),
                of(trades.iter().max_by_key(place)),
            ];
            let volume: i128 = trades.iter().map(|t| i128::from(t.size)).sum();
            format!("{date} {prices:?} {:?} {}", money::volume_to_f64(volume), trades.len())
        })
        .collect()
}

/// The state of a bar over these trade dates; "sealed" if it is final or revised and nobody can say how often.
fn state(known: &Known, book: &Book, dates: &[i32]) -> String {
    let mut worst: Option<Option<i32>> = None;
    for w in known.windows.iter().filter(|w| dates.contains(&w.date)) {
        if book.waits(w) {
            return "provisional".to_owned();
        }
        if let Some(revised) = book.states.get(&w.date) {
            worst = Some(match (worst, revised) {
                (None, n) => *n,
                (Some(Some(a)), Some(b)) => Some(a.max(*b)),
                _ => None,
            });
        }
    }
    match worst {
        None => "provisional".to_owned(),
        Some(None) => "sealed".to_owned(),
        Some(Some(0)) => "final".to_owned(),
        Some(Some(n)) => format!("revised({n})"),
    }
}

/// A number that a nightly run sets higher.
fn number(name: &str, own: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(own)
}

#[tokio::test]
async fn every_read_equals_the_ledger_at_every_step() -> Result<()> {
    let (first, streams) = (number("BELLWETHER_SEED", 101), number("BELLWETHER_STREAMS", 3));
    for seed in first..first + streams {
        println!("seed {seed} (BELLWETHER_SEED={seed} BELLWETHER_STREAMS=1)");
        let mut stream = Stream::new("streams", seed).await?;
        stream.run(number("BELLWETHER_STEPS", 400) as usize).await.with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}
