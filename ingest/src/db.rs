//! The server: connecting with errors a person can act on, instruments, `put_trades`, dead letters.

use crate::error::causes;
use crate::feed::{Name, Reject};
use crate::load::Stat;
use crate::{Error, Result};
use market::{Calendar, Symbol, TradeDate};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, Statement};

/// The SQL version of the extension this program speaks to; a later patch of it is fine too.
pub const EXTENSION: &str = "0.2.0";

/// Where the database is. Never prints a password.
#[derive(Clone)]
pub struct Place {
    config: Config,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Place {
    /// `market on localhost:5432 as postgres`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.config.get_user().unwrap_or("the current user");
        let database = self.config.get_dbname().unwrap_or(user);
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate().map(|(i, host)| {
            let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        });
        write!(f, "database \"{database}\" on {} as user \"{user}\"", hosts.collect::<Vec<_>>().join(","))
    }
}

impl Place {
    /// Reads `postgresql://user@host:port/database` or `host=... dbname=...`.
    ///
    /// # Errors
    /// A text that is neither. The text is not repeated: it may hold a password.
    pub fn parse(url: &str) -> Result<Place> {
        let mut config: Config = url.trim().parse().map_err(|e: tokio_postgres::Error| {
            Error::Usage(format!(
                "--db cannot be read as a connection URL ({}); write it like postgresql://user@localhost:5432/market",
                causes(&e)
            ))
        })?;
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        if config.get_application_name().is_none() {
            config.application_name("bellwether ingest");
        }
        Ok(Place { config })
    }

    /// Connects and checks that the database has a Bellwether we know.
    ///
    /// # Errors
    /// A server that is not there or refuses us, a database without the extension or with another version of it.
    pub async fn connect(&self) -> Result<Db> {
        let only_sockets = self.config.get_hosts().iter().all(|h| matches!(h, Host::Unix(_)));
        let client = if only_sockets || self.config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = self.config.connect(NoTls).await.map_err(|e| self.refused(&e))?;
            drive(connection);
            client
        } else {
            // As libpq: `prefer` and `require` encrypt and do not verify the name.
            let tls = native_tls::TlsConnector::builder()
                .danger_accept_invalid_certs(true)
                .danger_accept_invalid_hostnames(true)
                .build()
                .map_err(|e| Error::Connection(format!("TLS cannot be set up: {e}")))?;
            let tls = postgres_native_tls::MakeTlsConnector::new(tls);
            let (client, connection) = self.config.connect(tls).await.map_err(|e| self.refused(&e))?;
            drive(connection);
            client
        };
        let db = Db { client, put: None };
        db.check_version(self).await?;
        Ok(db)
    }

    fn refused(&self, error: &tokio_postgres::Error) -> Error {
        let advice = match error.code() {
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => {
                "; create it with createdb, then CREATE EXTENSION bellwether"
            }
            Some(_) => "; check the user and password in --db or BELLWETHER_DB",
            None => {
                "; is it running, and is the address in --db or BELLWETHER_DB right? `cargo xtask pg start` starts one, \
                 `cargo xtask pg url` prints its address"
            }
        };
        let reason = error.as_db_error().map_or_else(|| causes(error), |db| db.message().to_string());
        Error::Connection(format!("cannot connect to {self}: {reason}{advice}"))
    }
}

fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Whoever waits for an answer gets an error of its own.
            tracing::debug!("connection ended: {}", causes(&error));
        }
    });
}

/// An instrument as far as loading needs it.
#[derive(Clone, Debug)]
pub struct Instrument {
    /// Its id; 0 in a dry run without a database.
    pub id: i32,
    /// Its own symbol, `ESZ25`.
    pub symbol: String,
    /// Files its trades under trade dates.
    pub calendar: Calendar,
    /// Whether this run made it.
    pub created: bool,
}

/// Whether unknown symbols become instruments.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// When the root is a known product, the format implies a calendar, or --calendar says one
    #[default]
    Auto,
    /// Never: an unknown symbol is an error
    Never,
}

/// How unknown symbols become instruments.
#[derive(Clone, Debug, Default)]
pub struct Creating {
    /// `--create`.
    pub create: Create,
    /// `--calendar`.
    pub calendar: Option<String>,
    /// `--venue`.
    pub venue: Option<String>,
    /// `--currency`.
    pub currency: Option<String>,
    /// `--tick-size`.
    pub tick_size: Option<String>,
    /// `--multiplier`.
    pub multiplier: Option<String>,
}

/// What `put_trades` did with a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// Trades that were not there.
    pub added: i64,
    /// Trades that were there already.
    pub known: i64,
    /// Trades whose identity is there with other content; the server keeps them in `dead_letters`.
    pub conflicts: i64,
}

/// One connection.
pub struct Db {
    /// For statements of other modules.
    pub client: Client,
    put: Option<Statement>,
}

impl Db {
    async fn check_version(&self, place: &Place) -> Result<()> {
        let row = self
            .client
            .query_opt("SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'bellwether'", &[])
            .await
            .map_err(|e| Error::database("looking for the extension", &e))?;
        let Some(row) = row else {
            return Err(Error::Connection(format!(
                "{place} has no Bellwether: run CREATE EXTENSION bellwether in it (as a superuser)"
            )));
        };
        let found: String = row.get(0);
        let release = |v: &str| v.splitn(3, '.').take(2).map(str::to_string).collect::<Vec<_>>();
        if release(&found) != release(EXTENSION) {
            return Err(Error::Connection(format!(
                "{place} has Bellwether {found}, but this program speaks to {EXTENSION}: run ALTER EXTENSION bellwether UPDATE, \
                 or use the ingest of version {found}"
            )));
        }
        Ok(())
    }

    /// The instrument of a name at a date, made if `creating` allows.
    ///
    /// # Errors
    /// `Symbol` when there is none and none may be made.
    pub async fn instrument(&self, name: &Name, near: TradeDate, creating: &Creating) -> Result<Instrument> {
        let symbol = canonical(name, near)?;
        let text = symbol.to_string();
        let hint = match self.find(&text, near).await {
            Ok(found) => return Ok(found),
            Err(Error::Database { state, reason, .. }) if state == SqlState::UNDEFINED_OBJECT.code() => reason,
            Err(other) => return Err(other),
        };
        let Some(calendar) = calendar_for(name, &symbol, creating) else {
            return Err(unknown(name, &text, &hint));
        };
        // Unknown calendars fail here, with the nearest name, before anything is written.
        if let Some(id) = &calendar
            && Calendar::builtin(id).is_err()
        {
            self.calendar(id).await?;
        }
        let d = &name.defaults;
        let venue = creating.venue.as_ref().or(d.venue.as_ref());
        self.client
            .execute(
                "SELECT market.add_instrument(symbol => $1::text, calendar => $2::text, venue => $3::text, kind => $4::text, \
                 currency => $5::text, tick_size => $6::text::numeric, multiplier => $7::text::numeric)",
                &[&text, &calendar, &venue, &d.kind, &creating.currency, &creating.tick_size, &creating.multiplier],
            )
            .await
            .map_err(|e| Error::database(format!("adding the instrument {text}"), &e))?;
        let found = self.find(&text, near).await?;
        Ok(Instrument { created: true, ..found })
    }

    async fn find(&self, symbol: &str, near: TradeDate) -> Result<Instrument> {
        let row = self
            .client
            .query_one(
                "SELECT i.id, i.symbol, i.calendar FROM market.instruments AS i \
                 WHERE i.id = market.instrument_id($1::text, $2::date)",
                &[&symbol, &near.date()],
            )
            .await
            .map_err(|e| Error::database(format!("looking up the instrument {symbol}"), &e))?;
        let calendar: String = row.get(2);
        Ok(Instrument { id: row.get(0), symbol: row.get(1), calendar: self.calendar(&calendar).await?, created: false })
    }

    /// A calendar by id: the one shipped with this program, or the database's own.
    ///
    /// # Errors
    /// An id that neither knows.
    pub async fn calendar(&self, id: &str) -> Result<Calendar> {
        // as the server files them: the user's newest published version over the shipped one
        let shipped = Calendar::builtin(id);
        let canonical = shipped.as_ref().map_or(id, |shipped| shipped.id());
        let sql = "SELECT version, toml || exceptions FROM market.calendar_versions \
                   WHERE state = 'published' AND (calendar = $1 OR $1 = ANY (aliases) OR calendar = $2) \
                   ORDER BY calendar = $1 DESC, $1 = ANY (aliases) DESC, version DESC LIMIT 1";
        let doing = || format!("looking up the calendar {id}");
        match self.client.query_opt(sql, &[&id, &canonical]).await.map_err(|e| Error::database(doing(), &e))? {
            Some(row) => Ok(Calendar::versioned(&row.get::<_, String>(1), row.get::<_, i32>(0) as u32)?),
            None => Ok(shipped?),
        }
    }

    /// Sends one packed session.
    ///
    /// # Errors
    /// Whatever the server refuses; nothing of the session is stored then.
    pub async fn put_trades(&mut self, instrument: &Instrument, payload: &[u8]) -> Result<Put> {
        let doing = || format!("storing trades of {}", instrument.symbol);
        if self.put.is_none() {
            let sql = "SELECT added, known, conflicts FROM market.put_trades($1, $2)";
            self.put = Some(self.client.prepare(sql).await.map_err(|e| Error::database(doing(), &e))?);
        }
        let Some(statement) = &self.put else { return Ok(Put::default()) };
        let row = self
            .client
            .query_one(statement, &[&instrument.id, &payload])
            .await
            .map_err(|e| Error::database(doing(), &e))?;
        Ok(Put { added: row.get(0), known: row.get(1), conflicts: row.get(2) })
    }

    /// Notes what venues published; returns how much of it was new.
    ///
    /// # Errors
    /// Whatever the server refuses.
    pub async fn put_stats(&self, stats: &[Stat]) -> Result<u64> {
        let instant = chrono::DateTime::from_timestamp_nanos;
        let symbols: Vec<&str> = stats.iter().map(|s| s.symbol.as_str()).collect();
        let dates: Vec<chrono::NaiveDate> = stats.iter().map(|s| s.trade_date.date()).collect();
        let kinds: Vec<&str> = stats.iter().map(|s| s.published.kind.name()).collect();
        let values: Vec<i64> = stats.iter().map(|s| s.published.value).collect();
        let published: Vec<_> = stats.iter().map(|s| instant(s.published.ts)).collect();
        let known: Vec<_> = stats.iter().map(|s| instant(s.published.received.unwrap_or(s.published.ts))).collect();
        let status: Vec<Option<&str>> = stats.iter().map(|s| s.published.status).collect();
        let row = self
            .client
            .query_one(
                "SELECT count(*) FILTER (WHERE n.new) FROM (
                   SELECT market.put_stats(s.symbol, s.trade_date, s.kind, s.value * 1e-9, s.ts, s.known_at, s.status, 'databento') AS new
                   FROM unnest($1::text[], $2::date[], $3::text[], $4::int8[], $5::timestamptz[], $6::timestamptz[], $7::text[])
                     WITH ORDINALITY AS s (symbol, trade_date, kind, value, ts, known_at, status, nr) ORDER BY s.nr) AS n",
                &[&symbols, &dates, &kinds, &values, &published, &known, &status],
            )
            .await
            .map_err(|e| Error::database("storing statistics", &e))?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    /// Keeps refused lines. Loading a file again does not keep them twice.
    ///
    /// # Errors
    /// Whatever the server refuses.
    pub async fn dead_letters(&self, source: &str, rejects: &[Reject]) -> Result<()> {
        let lines: Vec<i64> = rejects.iter().map(|r| r.line as i64).collect();
        let reasons: Vec<&str> = rejects.iter().map(|r| r.reason.as_str()).collect();
        let raws: Vec<&str> = rejects.iter().map(|r| r.raw.as_str()).collect();
        self.client
            .execute(
                "INSERT INTO market.dead_letters (source, line, reason, raw) \
                 SELECT $1::text, n.line, n.reason, n.raw \
                 FROM unnest($2::int8[], $3::text[], $4::text[]) AS n (line, reason, raw) \
                 WHERE NOT EXISTS (SELECT FROM market.dead_letters AS d \
                   WHERE d.source = $1 AND d.line = n.line AND d.reason = n.reason AND d.raw = n.raw)",
                &[&source, &lines, &reasons, &raws],
            )
            .await
            .map_err(|e| Error::database("keeping refused lines in market.dead_letters", &e))?;
        Ok(())
    }
}

/// The symbol an instrument is stored under: contracts with a year of two digits.
fn canonical(name: &Name, near: TradeDate) -> Result<Symbol> {
    match Symbol::parse(&name.symbol, near)? {
        Symbol::Continuous { .. } => Err(Error::Symbol(format!(
            "\"{0}\" is a rule that picks a contract, not an instrument; load the contracts themselves, or rename it with \
             --symbol-map {0}=ESZ25",
            name.symbol
        ))),
        symbol => Ok(symbol),
    }
}

/// The calendar for a new instrument: `Some(None)` when its product knows it, `None` when it may not be made.
fn calendar_for(name: &Name, symbol: &Symbol, creating: &Creating) -> Option<Option<String>> {
    if creating.create == Create::Never {
        return None;
    }
    // First, so that --calendar XNYS for the shares of a file does not move its futures to New York.
    if let Symbol::Future { root, .. } = symbol
        && market::product(root).is_some()
    {
        return Some(None);
    }
    creating.calendar.clone().or_else(|| name.defaults.calendar.clone()).map(Some)
}

fn unknown(name: &Name, symbol: &str, server: &str) -> Error {
    let asked = if name.symbol == symbol { format!("\"{symbol}\"") } else { format!("\"{}\" ({symbol})", name.symbol) };
    Error::Symbol(format!(
        "there is no instrument {asked} ({server}), and its calendar cannot be told from its name; say it with --calendar XNYS, \
         or add the instrument first: SELECT market.add_instrument('{symbol}', calendar => 'XNYS'), \
         or rename it with --symbol-map {}=SYMBOL",
        name.symbol
    ))
}

/// Finds the instrument of a name; a trait so that routing can be tested, and run dry, without a server.
pub trait Resolve {
    /// The instrument of a name at a date.
    ///
    /// # Errors
    /// No such instrument, and no way to make it.
    fn resolve(&mut self, name: &Name, near: TradeDate) -> Result<Arc<Instrument>>;
}

/// Resolves against the database from a thread that is not the runtime's.
pub struct Remote {
    /// The runtime of the connection.
    pub runtime: tokio::runtime::Handle,
    /// The connection.
    pub db: Arc<Db>,
    /// How instruments are made.
    pub creating: Creating,
}

impl Resolve for Remote {
    fn resolve(&mut self, name: &Name, near: TradeDate) -> Result<Arc<Instrument>> {
        self.runtime.block_on(self.db.instrument(name, near, &self.creating)).map(Arc::new)
    }
}

/// Resolves by products and formats alone: what a dry run without a database does.
#[derive(Default)]
pub struct Local {
    /// How instruments would be made.
    pub creating: Creating,
    seen: HashMap<String, Arc<Instrument>>,
}

impl Local {
    /// No instruments yet.
    pub fn new(creating: Creating) -> Local {
        Local { creating, seen: HashMap::new() }
    }
}

impl Resolve for Local {
    fn resolve(&mut self, name: &Name, near: TradeDate) -> Result<Arc<Instrument>> {
        let symbol = canonical(name, near)?;
        let text = symbol.to_string();
        if let Some(known) = self.seen.get(&text) {
            return Ok(Arc::clone(known));
        }
        let calendar = match calendar_for(name, &symbol, &self.creating) {
            None => return Err(unknown(name, &text, "no database was asked")),
            Some(Some(id)) => id,
            Some(None) => {
                let product = symbol.root().and_then(market::product);
                product.map(|p| p.calendar.clone()).unwrap_or_default()
            }
        };
        let calendar = Calendar::builtin(&calendar)?;
        let id = self.seen.len() as i32 + 1;
        let made = Arc::new(Instrument { id, symbol: text.clone(), calendar, created: true });
        self.seen.insert(text, Arc::clone(&made));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_never_shows_its_password() {
        let place = Place::parse("postgresql://ann:s3cret@db.example:6000/market").expect("a URL");
        assert_eq!(place.to_string(), "database \"market\" on db.example:6000 as user \"ann\"");
        assert!(!format!("{place:?}").contains("s3cret"));
        let Err(error) = Place::parse("postgres//ann:s3cret@db") else { panic!("not a URL") };
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Place::parse(&format!("postgresql://ann:s3cret@/market?host={}&port=5999", dir.path().display()))
            .expect("a URL");
        let Err(error) = place.connect().await else { panic!("nobody listens there") };
        let text = error.to_string();
        assert!(
            text.contains("cannot connect") && text.contains("xtask pg start") && !text.contains("s3cret"),
            "{text}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}
