//! The store that a session reads: a database (one read-only snapshot a statement, shared by all its connections), an
//! archive, or a database whose dropped trades the archive has.
//!
//! Readers ask for instruments, blocks, minute bars and states (read.rs) and need not know which it is. What only a database
//! has is asked for by [`Db::copy`] and [`Db::leader`], which say so where there is none.

mod copy;
mod filter;
mod grouped;
mod pushdown;
mod read;
mod refused;
mod table;
mod trades;
mod working;

pub use copy::{CopyRows, Fields};
pub use filter::{Condition, conditions};
pub use grouped::BarsWhereDecoded;
pub use pushdown::AggregatesInPostgres;
pub use read::{
    Blocks, Instrument, Minutes, Narrow, Overlay, Part, live_rows, read_reported, rows_as_of, sealed_states,
};
pub use table::PgTable;
pub use trades::{Places, TradesTable};
use working::Working;

use crate::archive::Archive;
use crate::credentials::{Login, World};
use crate::error::{Error, Result};
use crate::known::Calendars;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};

/// The SQL version of the extension this program understands; a later patch of it is fine too.
const EXTENSION: &str = "0.2";
const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
// Plans write timestamps as UTC and texts without escapes, whatever the server's or the role's settings say. Where the server
// can see that a client is gone, it ends what that client asked for.
const SETTINGS: &str = "SET TimeZone = 'UTC'; SET standard_conforming_strings = on; SET extra_float_digits = 1; \
     SET search_path = pg_catalog, market; SET DateStyle = 'ISO, YMD'; \
     SELECT set_config('client_connection_check_interval', '1s', false) WHERE version() LIKE '%linux%'";

/// A database with the extension, an archive, or both.
pub struct Db {
    server: Option<Server>,
    /// The archive, if one was named.
    pub archive: Option<Arc<Archive>>,
    /// Which symbol an id of an instrument is of: the archive knows symbols alone.
    symbols: Mutex<HashMap<i32, String>>,
    /// Its calendars over the program's, as of the snapshot.
    pub calendars: Arc<Calendars>,
    /// Tables and views of the schema `market`.
    pub relations: Vec<String>,
}

/// The connections to a database.
struct Server {
    login: Arc<Login>,
    leader: tokio::sync::Mutex<Client>,
    snapshot: Mutex<String>,
    idle: Mutex<Vec<Client>>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.server, &self.archive) {
            (Some(server), _) => f.write_str(&place(&server.login.config)),
            (None, Some(archive)) => write!(f, "archive {}", archive.location()),
            (None, None) => f.write_str("nothing"),
        }
    }
}

/// `database "market" on localhost:5432 as user "postgres"`: never the password.
fn place(config: &Config) -> String {
    let user = config.get_user().unwrap_or("the current user");
    let database = config.get_dbname().unwrap_or(user);
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    format!("database \"{database}\" on {} as user \"{user}\"", hosts.collect::<Vec<_>>().join(","))
}

fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // A connection that breaks shows up as an error of the next query.
    tokio::spawn(async move { drop(connection.await) });
}

/// Whether its connections are without TLS.
fn plain(login: &Login) -> bool {
    let sockets = login.config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    sockets || login.config.get_ssl_mode() == SslMode::Disable
}

async fn client(login: &Login) -> Result<Client> {
    let config = &login.config;
    let refused = |error: tokio_postgres::Error| refused::refused(config, &error);
    let client = if plain(login) {
        let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
        drive(connection);
        client
    } else {
        let tls = login.tls.connector()?;
        let (client, connection) = config.connect(tls).await.map_err(refused)?;
        drive(connection);
        client
    };
    client.batch_execute(SETTINGS).await?;
    Ok(client)
}

impl Db {
    /// Connects, and checks that the database has a Bellwether this program knows.
    ///
    /// # Errors
    /// A text that is no URL (it is not repeated: it may hold a password), a server that is not there or refuses, a database
    /// without the extension or with another version of it.
    pub async fn connect(url: &str) -> Result<Db> {
        let login = World { variable: &|name| std::env::var(name).ok() }.login(url)?;
        let config = &login.config;
        let leader = client(&login).await?;
        let version = leader.query_opt("SELECT extversion FROM pg_extension WHERE extname = 'bellwether'", &[]).await?;
        match version.map(|row| row.get::<_, String>(0)) {
            None => {
                return Err(Error::world(
                    format!("{} has no extension bellwether", place(config)),
                    "run CREATE EXTENSION bellwether there, or name another database",
                ));
            }
            Some(version) if version != EXTENSION && !version.starts_with(&format!("{EXTENSION}.")) => {
                return Err(Error::world(
                    format!("{} has bellwether {version}; this querycli speaks {EXTENSION}", place(config)),
                    "run ALTER EXTENSION bellwether UPDATE there, or use the querycli of that version",
                ));
            }
            Some(_) => {}
        }
        let relations = leader
            .query(
                "SELECT relname::text FROM pg_class WHERE relnamespace = 'market'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
                 AND NOT relispartition AND relname <> 'trades_scan' ORDER BY relname",
                &[],
            )
            .await?;
        let relations = relations.iter().map(|row| row.get(0)).collect();
        let server = Server {
            login: Arc::new(login),
            leader: tokio::sync::Mutex::new(leader),
            snapshot: Mutex::default(),
            idle: Mutex::default(),
        };
        Ok(Db { server: Some(server), archive: None, symbols: Mutex::default(), calendars: Arc::default(), relations })
    }

    /// An archive without a database.
    ///
    /// # Errors
    /// A calendar in it that cannot be read.
    pub fn of_archive(archive: Arc<Archive>) -> Result<Db> {
        let calendars = Arc::new(Calendars::of_archive(&archive)?);
        Ok(Db { server: None, archive: Some(archive), symbols: Mutex::default(), calendars, relations: Vec::new() })
    }

    /// The trades that retention dropped come from this archive.
    #[must_use]
    pub fn with_archive(mut self, archive: Arc<Archive>) -> Db {
        self.archive = Some(archive);
        self
    }

    /// Whether there is a server, which has more than trades and bars.
    pub fn has_server(&self) -> bool {
        self.server.is_some()
    }

    fn server(&self) -> Result<&Server> {
        self.server.as_ref().ok_or_else(|| {
            Error::question(
                "this needs a database, and there is only an archive",
                "name one with --db; an archive has trades, instruments, sessions and bars",
            )
        })
    }

    fn remember(&self, id: i32, symbol: &str) {
        self.symbols.lock().unwrap_or_else(PoisonError::into_inner).insert(id, symbol.to_owned());
    }

    /// The archive and what it calls an instrument.
    fn archived(&self, instrument: i32) -> Option<(&Arc<Archive>, String)> {
        let archive = self.archive.as_ref()?;
        let symbol = self.symbols.lock().unwrap_or_else(PoisonError::into_inner).get(&instrument).cloned()?;
        Some((archive, symbol))
    }

    /// Takes a new snapshot: everything read until the next call is of this moment.
    ///
    /// # Errors
    /// A connection that broke.
    pub async fn begin(&self) -> Result<()> {
        if let Some(archive) = &self.archive {
            archive.forget();
        }
        let Some(server) = &self.server else { return Ok(()) };
        let leader = server.leader.lock().await;
        let open = !server.snapshot.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        leader.batch_execute(&format!("{}{BEGIN}", if open { "ROLLBACK; " } else { "" })).await?;
        self.calendars.refresh(&leader).await?;
        let id: String = leader.query_one("SELECT pg_export_snapshot()", &[]).await?.get(0);
        *server.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = id;
        Ok(())
    }

    /// Gives the snapshot back: what follows writes, and may need locks that an open transaction would keep it from.
    ///
    /// # Errors
    /// A connection that broke.
    pub async fn end(&self) -> Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        server.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let leader = server.leader.lock().await;
        let open = !std::mem::take(&mut *server.snapshot.lock().unwrap_or_else(PoisonError::into_inner)).is_empty();
        if open {
            leader.batch_execute("ROLLBACK").await?;
        }
        Ok(())
    }

    /// The connection for short questions, inside the snapshot.
    ///
    /// # Errors
    /// If there is only an archive.
    pub async fn leader(&self) -> Result<tokio::sync::MutexGuard<'_, Client>> {
        Ok(self.server()?.leader.lock().await)
    }

    /// Streams a query's rows, on a connection of its own inside the snapshot.
    ///
    /// # Errors
    /// What the server says; if there is only an archive.
    pub async fn copy(self: &Arc<Self>, sql: &str) -> Result<CopyRows> {
        let server = self.server()?;
        let pooled = server.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (client, end) = match pooled {
            Some(client) if !client.is_closed() => (client, "ROLLBACK; "),
            _ => (client(&server.login).await?, ""),
        };
        let snapshot = server.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let working = Working::new(client, self);
        working.batch_execute(&format!("{end}{BEGIN}; SET TRANSACTION SNAPSHOT {}", literal(&snapshot))).await?;
        let stream = working.copy_out(&format!("COPY ({sql}) TO STDOUT (FORMAT binary)")).await?;
        Ok(CopyRows::new(stream, working))
    }

    /// A connection of its own, outside the snapshot: for writing.
    ///
    /// # Errors
    /// A server that is not there; if there is only an archive.
    pub async fn writer(&self) -> Result<Client> {
        client(&self.server()?.login).await
    }

    /// Gives a connection back whose stream has ended.
    fn give_back(&self, client: Client) {
        if let Some(server) = &self.server {
            server.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        }
    }
}

/// A text as a SQL literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as a SQL identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An instant as a SQL literal, cut to microseconds; the ends of time are infinities.
pub fn timestamptz(ts: market::Nanos) -> String {
    match ts {
        i64::MIN => "timestamptz '-infinity'".into(),
        i64::MAX => "timestamptz 'infinity'".into(),
        _ => {
            let at = chrono::DateTime::from_timestamp_micros(ts.div_euclid(1000)).unwrap_or_default();
            format!("timestamptz '{}'", at.format("%Y-%m-%d %H:%M:%S%.6f+00"))
        }
    }
}

/// A date as a SQL literal.
pub fn date(day: market::TradeDate) -> String {
    format!("date '{day}'")
}
