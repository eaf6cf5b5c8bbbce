//! `querycli`: SQL over a Bellwether database and over files, with the extension's functions under the same names.
//!
//! Sealed trades come as compressed blocks and are decoded here, by the crate that decodes them in the extension; so the
//! answers are equal.

mod aggregate;
mod analytics;
pub mod archive;
mod asof;
mod auctions;
mod bars;
mod between;
pub mod calendars;
mod chart;
pub mod cli;
mod commands;
mod credentials;
mod db;
pub mod error;
mod execute;
mod explain;
mod files;
mod fill;
mod guard;
mod halted;
mod known;
mod lazy;
mod limit;
mod manual;
mod named;
mod names;
pub mod output;
mod plausible;
mod postgres;
mod progress;
mod remote;
mod rewrite;
mod scalar;
mod separated;
mod session;
mod sessions;
mod shell;
mod spelled;
mod tables;
mod unpacked;

pub use error::{Error, Fault, Result};
pub use output::{Format, Rows};

use arrow::array::RecordBatch;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider};
use datafusion::common::TableReference;
use datafusion::execution::context::SessionContext;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder};
use datafusion::optimizer::Optimizer;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use futures_util::TryStreamExt;
use std::collections::VecDeque;
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
    /// Files and folders, here or in object stores, each a table named by its stem.
    pub files: Vec<PathBuf>,
    /// The calendar of the instruments in the files, where their symbol does not tell.
    pub calendar: Option<String>,
    /// Bytes that sorts, joins and groups may hold before they go to disk.
    pub memory: Option<usize>,
}

/// An open session. Every statement reads one snapshot of the database.
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
    market: Arc<tables::Market>,
    _unpacked: Arc<unpacked::Unpacked>,
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
        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(memory) = options.memory {
            runtime = runtime.with_memory_pool(Arc::new(FairSpillPool::new(memory)));
            // Merging sorted runs needs some of it; the default of 10 MB would be all of a small pool.
            config.options_mut().execution.sort_spill_reservation_bytes = (memory / 16).min(10 << 20);
        }
        let names = Arc::<guard::Names>::default();
        // Behind the rule that brings conditions down to the join, before the one that puts a projection in between.
        let mut rules = Optimizer::new().rules;
        let place = rules.iter().position(|rule| rule.name() == "push_down_filter").map_or(rules.len(), |at| at + 1);
        rules.insert(place, Arc::new(asof::FiltersBelowAsof));
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime.build_arc()?)
            .with_default_features()
            .with_optimizer_rules(rules)
            .with_physical_optimizer_rule(Arc::new(named::NameFiles(Arc::clone(&names))))
            .with_query_planner(Arc::new(asof::Planner));
        let mut context = SessionContext::new_with_state(state.build());
        postgres::register(&mut context)?;
        context.add_optimizer_rule(Arc::new(db::AggregatesInPostgres));
        context.add_optimizer_rule(Arc::new(db::BarsWhereDecoded(Arc::clone(&calendars))));
        let unpacked = Arc::<unpacked::Unpacked>::default();
        let kept = Arc::downgrade(&unpacked);
        let market = tables::Market::new(db, Arc::clone(&calendars), options.calendar, context.clone(), names, kept);
        let market = Arc::new(market);
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema("market", Arc::clone(&market) as _)?;
        context.register_catalog("bellwether", Arc::new(catalog));
        for function in scalar::functions(&calendars) {
            context.register_udf(function);
        }
        for function in aggregate::functions() {
            context.register_udaf(function);
        }
        context.register_udwf(fill::fill_previous());
        context.register_relation_planner(Arc::new(asof::AsofPlanner))?;
        analytics::register(&context);
        sessions::register(&context, &calendars);
        auctions::register(&context, &calendars);
        bars::register(&context, &market);
        session::register(&context, &market);
        between::register(&context, &market);
        explain::register(&context, &market);
        halted::register(&context, &market);
        files::register(&context, &market, &options.files).await?;
        Ok(Session { context, market, _unpacked: unpacked })
    }

    /// The statements of a text.
    ///
    /// # Errors
    /// Where the text is no SQL.
    pub fn parse(sql: &str) -> Result<VecDeque<Statement>> {
        let parsed = DFParserBuilder::new(sql)
            .with_dialect(&PostgreSqlDialect {})
            .build()
            .and_then(|mut p| p.parse_statements());
        Ok(parsed?)
    }

    /// Runs statements one after the other; `each` gets the answer of every one as soon as it is there.
    ///
    /// # Errors
    /// At the first statement that fails.
    pub async fn run(&self, sql: &str, mut each: impl FnMut(Rows)) -> Result<()> {
        for statement in Session::parse(sql)? {
            let stream = self.begin(statement).await?;
            let schema = stream.schema();
            let batches: Vec<RecordBatch> = stream.try_collect().await?;
            each(Rows { schema, batches });
        }
        Ok(())
    }

    /// The partitions of a query's answer as they come, to be read one after the other or at once: for those who do
    /// something else with many rows than print them.
    ///
    /// # Errors
    /// A statement that cannot be planned.
    pub async fn stream(&self, sql: &str) -> Result<Vec<SendableRecordBatchStream>> {
        if let Some(db) = &self.market.db {
            db.begin().await?;
        }
        Ok(self.context.sql(sql).await?.execute_stream_partitioned().await?)
    }

    /// The answer of the only statement in a text.
    ///
    /// # Errors
    /// Those of [`Session::run`].
    pub async fn rows(&self, sql: &str) -> Result<Rows> {
        let mut last = None;
        self.run(sql, |rows| last = Some(rows)).await?;
        last.ok_or_else(|| Error::question("there is no statement to run", ""))
    }

    /// Begins a statement in a new snapshot; its rows come as they are made.
    ///
    /// # Errors
    /// What is wrong with the statement, or with what it reads.
    pub async fn begin(&self, mut statement: Statement) -> Result<SendableRecordBatchStream> {
        rewrite::rewrite(&mut statement)?;
        if let Some(db) = &self.market.db {
            db.begin().await?;
        }
        if rewrite::changes_tables(&statement) {
            return self.answer(statement).await.map_err(|error| match error.hint.as_str() {
                "" => Error { hint: "querycli reads and changes nothing but tables of its own session, made with CREATE TABLE; write with ingest, psql or COPY".into(), ..error },
                _ => error,
            });
        }
        self.answer(statement).await
    }

    async fn answer(&self, statement: Statement) -> Result<SendableRecordBatchStream> {
        let tables = self.context.state().resolve_table_references(&statement).unwrap_or_default();
        let files = self.market.names.of_tables(tables.iter().map(TableReference::table));
        let begun = guard::caught(async {
            let plan = self.context.state().statement_to_plan(statement).await?;
            self.context.execute_logical_plan(plan).await?.execute_stream().await
        });
        match begun.await {
            Ok(Ok(rows)) => Ok(guard::rows(rows, files)),
            Ok(Err(error)) => Err(guard::named(&files, error).into()),
            Err(panic) => Err(guard::defect(&panic, &files)),
        }
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
