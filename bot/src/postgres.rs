//! Numbers from PostgreSQL: read-only, with a time limit, over a few connections. Every statement is a constant with
//! parameters.

use crate::error::Failure;
use crate::instruments::{Directory, Instrument};
use crate::numbers::{Asked, Bar, Numbers, Prices, Snapshot};
use anyhow::{Context, Result, anyhow};
use chrono::{DateTime, NaiveDate, Utc};
use market::TradeDate;
use serenity::async_trait;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls, Row};

/// Connections held at most; further questions wait their turn.
const CONNECTIONS: usize = 4;
/// How long a question waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// The start of every answer's transaction.
const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SET LOCAL statement_timeout = '8s'; SET LOCAL lock_timeout = '2s'; SET LOCAL search_path = pg_catalog";

/// What the operator can do about it.
const UNREACHABLE: &str =
    "cannot connect to the database of --db; `cargo xtask pg start` starts one and `cargo xtask pg url` prints its URL";

const INSTRUMENTS: &str = "
SELECT i.symbol, i.kind, i.calendar, i.root, i.expiry, i.currency,
       (SELECT t.tick_size::float8 FROM market.instrument_terms t
         WHERE t.instrument_id = i.id ORDER BY t.from_date DESC LIMIT 1) AS tick_size,
       (SELECT pg_catalog.max(b.trade_date) FROM market.session_bars b WHERE b.instrument_id = i.id) AS last_session
  FROM market.instruments i
 ORDER BY i.symbol";

const BARS: &str = "
SELECT trade_date, bar_at, bar_end, open, high, low, close, volume::float8 AS volume, trades::int8 AS trades, vwap, state
  FROM market.session_ohlc($1::text, $2::text, $3::date, $4::date, $5::text)
 ORDER BY bar_at";

/// A database with the extension.
#[derive(Clone)]
pub struct Postgres {
    config: Arc<Config>,
    idle: Arc<Mutex<Vec<Client>>>,
    turns: Arc<Semaphore>,
}

impl Postgres {
    /// Reads a libpq URL or keyword string. Connects at the first question.
    ///
    /// # Errors
    /// If the text is not a connection URL; it is not repeated, since it may hold a password.
    pub fn new(url: &str) -> Result<Postgres> {
        let mut config: Config = url.trim().parse().map_err(|_| {
            anyhow!("--db cannot be read as a connection URL; write it like postgresql://user@localhost:5432/market")
        })?;
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_application_name().is_none() {
            config.application_name("bellwether bot");
        }
        let turns = Arc::new(Semaphore::new(CONNECTIONS));
        Ok(Postgres { config: Arc::new(config), idle: Arc::default(), turns })
    }

    async fn begin(&self) -> Result<Reading> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned())
            .await
            .context("all connections are busy")??;
        // A pooled connection may have died since; one more try with a new one tells.
        while let Some(client) = self.pop() {
            if !client.is_closed() && client.batch_execute(BEGIN).await.is_ok() {
                return Ok(self.reading(client, turn));
            }
        }
        let client = self.connect().await?;
        client.batch_execute(BEGIN).await.context("cannot begin")?;
        Ok(self.reading(client, turn))
    }

    fn reading(&self, client: Client, turn: OwnedSemaphorePermit) -> Reading {
        Reading { client, idle: Arc::clone(&self.idle), _turn: turn }
    }

    fn pop(&self) -> Option<Client> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn connect(&self) -> Result<Client> {
        let sockets = self.config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        if sockets || self.config.get_ssl_mode() == SslMode::Disable {
            let (client, connection) = self.config.connect(NoTls).await.context(UNREACHABLE)?;
            drive(connection);
            return Ok(client);
        }
        // As libpq: `prefer` and `require` encrypt and do not verify the name.
        let tls = native_tls::TlsConnector::builder()
            .danger_accept_invalid_certs(true)
            .danger_accept_invalid_hostnames(true)
            .build()?;
        let connected = self.config.connect(postgres_native_tls::MakeTlsConnector::new(tls)).await;
        let (client, connection) = connected.context(UNREACHABLE)?;
        drive(connection);
        Ok(client)
    }
}

fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    // A connection that breaks shows up as an error of the next query.
    tokio::spawn(async move { drop(connection.await) });
}

#[async_trait]
impl Numbers for Postgres {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Failure> {
        match self.begin().await {
            Ok(reading) => Ok(Box::new(reading)),
            Err(error) => Err(Failure::new(error)),
        }
    }
}

/// An open read-only transaction. Dropping it closes the connection and so ends the transaction.
struct Reading {
    client: Client,
    idle: Arc<Mutex<Vec<Client>>>,
    _turn: OwnedSemaphorePermit,
}

#[async_trait]
impl Snapshot for Reading {
    async fn directory(&mut self) -> Result<Directory, Failure> {
        let rows = self.client.query(INSTRUMENTS, &[]).await;
        let rows = rows
            .context("cannot read the instruments (is the extension installed, and may this role read it?)")
            .map_err(Failure::new)?;
        let instruments: Result<Vec<_>, _> = rows.iter().map(instrument).collect();
        Ok(Directory::new(instruments.context("unexpected columns of instruments").map_err(Failure::new)?))
    }

    async fn bars(&mut self, asked: &Asked) -> Result<Vec<Bar>, Failure> {
        let (timeframe, segments) = (asked.timeframe.to_string(), asked.segments.to_string());
        let (first, last) = (asked.first.date(), asked.last.date());
        let rows = self.client.query(BARS, &[&asked.symbol, &timeframe, &first, &last, &segments]).await;
        let rows = rows.with_context(|| format!("cannot read {asked:?}")).map_err(Failure::new)?;
        let bars: Result<Vec<_>> = rows.iter().map(bar).collect();
        bars.map_err(Failure::new)
    }

    async fn finish(self: Box<Self>) {
        if self.client.batch_execute("COMMIT").await.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.client);
        }
    }
}

fn instrument(row: &Row) -> Result<Instrument, tokio_postgres::Error> {
    let last_session: Option<NaiveDate> = row.try_get("last_session")?;
    Ok(Instrument {
        symbol: row.try_get("symbol")?,
        kind: row.try_get("kind")?,
        calendar: row.try_get("calendar")?,
        root: row.try_get("root")?,
        expiry: row.try_get("expiry")?,
        currency: row.try_get("currency")?,
        tick_size: row.try_get("tick_size")?,
        last_session: last_session.map(TradeDate::new),
    })
}

fn bar(row: &Row) -> Result<Bar> {
    let instant = |column| -> Result<i64> {
        let at: DateTime<Utc> = row.try_get(column)?;
        at.timestamp_nanos_opt().context("an instant beyond 2262")
    };
    let price = |column| row.try_get::<_, Option<f64>>(column);
    let prices = match (price("open")?, price("high")?, price("low")?, price("close")?) {
        (Some(open), Some(high), Some(low), Some(close)) => Some(Prices { open, high, low, close }),
        _ => None,
    };
    Ok(Bar {
        trade_date: TradeDate::new(row.try_get("trade_date")?),
        open_at: instant("bar_at")?,
        close_at: instant("bar_end")?,
        prices,
        volume: row.try_get::<_, Option<f64>>("volume")?.unwrap_or(0.0),
        trades: row.try_get::<_, Option<i64>>("trades")?.unwrap_or(0),
        vwap: row.try_get("vwap")?,
        state: row.try_get::<_, Option<String>>("state")?.unwrap_or_default(),
    })
}
