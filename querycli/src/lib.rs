//! `querycli`: SQL over a Bellwether database and over files, with the extension's functions under the same names.
//!
//! Sealed trades come as compressed blocks and are decoded here, by the crate that decodes them in the extension; so the
//! answers are equal.

mod aggregate;
pub mod archive;
mod auctions;
mod bars;
pub mod calendars;
mod db;
pub mod error;
mod files;
mod known;
mod lazy;
pub mod render;
mod rewrite;
mod scalar;
mod session;
mod sessions;
mod tables;

pub use error::{Error, Fault, Result};
pub use render::{Format, Rows};

use arrow::array::RecordBatch;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider};
use datafusion::execution::context::SessionContext;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use std::path::PathBuf;
use std::sync::Arc;

/// What a session is over.
#[derive(Clone, Default)]
pub struct Options {
    /// A database with the extension: `postgresql://user@host:port/database`.
    pub db: Option<String>,
    /// A read-only replica of it, to read from instead.
    pub read_db: Option<String>,
    /// An archive: instead of a database, or beside one for the trades that retention dropped there.
    pub archive: Option<String>,
    /// Parquet and CSV files, each a table named by its stem.
    pub files: Vec<PathBuf>,
    /// The calendar of the instruments in the files, where their symbol does not tell.
    pub calendar: Option<String>,
}

/// An open session. Every statement reads one snapshot of the database.
pub struct Session {
    context: SessionContext,
    market: Arc<tables::Market>,
}

impl Session {
    /// Connects and opens the files.
    ///
    /// # Errors
    /// A server that is not there, a database without the extension or with another version, a file that cannot be read.
    pub async fn open(options: Options) -> Result<Session> {
        let archive = options.archive.as_deref().map(archive::Archive::open).transpose()?.map(Arc::new);
        let db = match (options.read_db.as_ref().or(options.db.as_ref()), archive) {
            (Some(url), None) => Some(Arc::new(db::Db::connect(url).await?)),
            (Some(url), Some(archive)) => Some(Arc::new(db::Db::connect(url).await?.with_archive(archive))),
            (None, Some(archive)) => Some(Arc::new(db::Db::of_archive(archive)?)),
            (None, None) => None,
        };
        let calendars = match &db {
            Some(db) => Arc::clone(&db.calendars),
            None => Arc::default(),
        };
        if let Some(db) = &db {
            db.begin().await?;
        }
        if let Some(calendar) = &options.calendar {
            calendars.find(calendar)?;
        }
        let mut config =
            SessionConfig::new().with_information_schema(true).with_default_catalog_and_schema("bellwether", "market");
        config.options_mut().execution.time_zone = Some("UTC".into());
        let context = SessionContext::new_with_config(config);
        context.add_optimizer_rule(Arc::new(db::AggregatesInPostgres));
        let market = Arc::new(tables::Market::new(db, Arc::clone(&calendars), options.calendar, context.clone()));
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema("market", Arc::clone(&market) as _)?;
        context.register_catalog("bellwether", Arc::new(catalog));
        for function in scalar::functions(&calendars) {
            context.register_udf(function);
        }
        for function in aggregate::functions() {
            context.register_udaf(function);
        }
        sessions::register(&context, &calendars);
        auctions::register(&context, &calendars);
        bars::register(&context, &market);
        session::register(&context, &market);
        files::register(&context, &market, &options.files).await?;
        Ok(Session { context, market })
    }

    /// Runs statements one after the other; `each` gets the answer of every one as soon as it is there.
    ///
    /// # Errors
    /// At the first statement that fails.
    pub async fn run(&self, sql: &str, mut each: impl FnMut(Rows)) -> Result<()> {
        let parsed = DFParserBuilder::new(sql)
            .with_dialect(&PostgreSqlDialect {})
            .build()
            .and_then(|mut p| p.parse_statements());
        for statement in parsed? {
            each(self.statement(statement).await?);
        }
        Ok(())
    }

    /// The partitions of a query's answer as they come, to be read one after the other or at once: for those who do
    /// something else with many rows than print them.
    ///
    /// # Errors
    /// A statement that cannot be planned.
    pub async fn stream(&self, sql: &str) -> Result<Vec<datafusion::execution::SendableRecordBatchStream>> {
        if let Some(db) = &self.market.db {
            db.begin().await?;
        }
        Ok(self.context.sql(sql).await?.execute_stream_partitioned().await?)
    }

    async fn statement(&self, mut statement: Statement) -> Result<Rows> {
        rewrite::rewrite(&mut statement)?;
        if let Some(db) = &self.market.db {
            db.begin().await?;
        }
        let plan = self.context.state().statement_to_plan(statement).await?;
        let frame = self.context.execute_logical_plan(plan).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches: Vec<RecordBatch> = frame.collect().await?;
        Ok(Rows { schema, batches })
    }
}

/// The answer to one statement as PostgreSQL would print it, `NULL` for NULL: what the shared SQL spec compares.
///
/// # Errors
/// Those of [`Session::run`].
pub async fn run_sql(session: &Session, sql: &str) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    session
        .run(sql, |answer| {
            let texts = answer.texts().into_iter();
            rows = texts
                .map(|row| row.into_iter().map(|value| value.unwrap_or_else(|| "NULL".into())).collect())
                .collect();
        })
        .await?;
    Ok(rows)
}
