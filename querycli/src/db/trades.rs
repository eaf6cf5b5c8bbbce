//! The table `trades`: sealed blocks, decoded here, with live rows over them.

mod archived;
mod columns;
mod fold;
mod places;
mod stored;

pub use fold::{Bucketing, FoldTable};
pub use places::Places;

use super::filter::{self, Condition};
use super::{Db, Instrument};
use crate::error::{Result, external};
use crate::lazy::{Lazy, measured};
use crate::scalar;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session as DataFusionSession, TableProvider};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::{TryStreamExt, stream};
use market::{Nanos, TradeDate};
use std::sync::Arc;

/// The view `market.trades`.
#[derive(Clone, Debug)]
pub struct TradesTable {
    db: Arc<Db>,
    schema: SchemaRef,
}

impl TradesTable {
    /// Of a database.
    pub fn new(db: Arc<Db>) -> TradesTable {
        let field = |name: &str, kind: DataType| Field::new(name, kind, true);
        let schema = Schema::new(vec![
            field("symbol", DataType::Utf8),
            field("ts", scalar::instant_type()),
            field("ns", DataType::Int16),
            field("seq", DataType::Int64),
            field("sub", DataType::Int16),
            field("price", DataType::Float64),
            field("size", DataType::Float64),
            field("flags", DataType::Int32),
            field("cond", DataType::Int32),
            field("ts_recv", scalar::instant_type()),
            field("trade_id", DataType::Int64),
            field("trade_date", DataType::Date32),
            field("segment", DataType::Utf8),
            field("instrument_id", DataType::Int32),
            field("calendar", DataType::Utf8),
        ]);
        TradesTable { db, schema: Arc::new(schema) }
    }
}

/// Instruments are read on so many connections at most: each one is a connection to the server.
const MOST_PARTITIONS: usize = 4;

/// What a query asks of the trades, as far as it spares reading.
#[derive(Clone, Debug)]
struct Scope {
    /// Conditions on `market.instruments`.
    instruments: Vec<Condition>,
    days: (TradeDate, TradeDate),
    /// Both ends included.
    instants: (Nanos, Nanos),
    /// Every how many instruments, or archived sessions, this partition takes one, and which.
    share: (usize, usize),
}

impl Scope {
    fn new(filters: &[Expr]) -> Scope {
        let mut scope = Scope {
            instruments: Vec::new(),
            days: (TradeDate(i32::MIN), TradeDate(i32::MAX)),
            instants: (i64::MIN, i64::MAX),
            share: (1, 0),
        };
        for condition in filter::conditions(filters) {
            scope.narrow(condition);
        }
        scope
    }

    fn narrow(&mut self, mut condition: Condition) {
        match condition.column.as_str() {
            "symbol" | "instrument_id" => {
                if condition.column == "instrument_id" {
                    condition.column = "id".into();
                }
                self.instruments.push(condition);
            }
            "trade_date" => {
                if let [ScalarValue::Date32(Some(day))] = condition.values[..] {
                    let (low, high) = bounds(condition.op);
                    if low {
                        self.days.0 = self.days.0.max(TradeDate(day));
                    }
                    if high {
                        self.days.1 = self.days.1.min(TradeDate(day));
                    }
                }
            }
            "ts" => {
                if let [ScalarValue::TimestampMicrosecond(Some(micros), _)] = condition.values[..]
                    && let Some(ts) = micros.checked_mul(1000)
                {
                    let (low, high) = bounds(condition.op);
                    if low {
                        self.instants.0 = self.instants.0.max(ts);
                    }
                    if high {
                        // All nanoseconds of that microsecond.
                        self.instants.1 = self.instants.1.min(ts.saturating_add(999));
                    }
                }
            }
            _ => {}
        }
    }
}

impl Scope {
    /// What EXPLAIN shows: what bounds the reading.
    fn label(&self) -> String {
        let mut said: Vec<String> = self.instruments.iter().filter_map(filter::sql).collect();
        let day = |word: &str, day: TradeDate| format!("trade_date {word} {day}");
        let instant = |word: &str, ts: Nanos| format!("ts {word} {}", market::time::format_instant(ts));
        let bounds = [
            (self.days.0.0 != i32::MIN).then(|| day("from", self.days.0)),
            (self.days.1.0 != i32::MAX).then(|| day("to", self.days.1)),
            (self.instants.0 != i64::MIN).then(|| instant("from", self.instants.0)),
            (self.instants.1 != i64::MAX).then(|| instant("to", self.instants.1)),
        ];
        said.extend(bounds.into_iter().flatten());
        if said.is_empty() { "all blocks".into() } else { format!("blocks with {}", said.join(", ")) }
    }

    /// The trade dates that can have such trades, and the times that such trade dates can have (half-open).
    fn reach(&self) -> ((TradeDate, TradeDate), (Nanos, Nanos)) {
        let (low, high) = self.instants;
        let (mut from, mut till) = (low, high.saturating_add(1));
        let (mut first, mut last) = self.days;
        // A trade date's storage window lies within a month of it, whatever the holidays.
        const MONTH: i32 = 31;
        let day = |ts: Nanos| TradeDate(ts.div_euclid(market::time::DAY) as i32);
        let midnight = |day: TradeDate| i64::from(day.0).saturating_mul(market::time::DAY);
        first = first.max(if low == i64::MIN { first } else { day(low).plus(-MONTH) });
        last = last.min(if high == i64::MAX { last } else { day(high).plus(MONTH) });
        if first.0 != i32::MIN {
            from = from.max(midnight(first.plus(-MONTH)));
        }
        if last.0 != i32::MAX {
            till = till.min(midnight(last.plus(MONTH)));
        }
        ((first, last), (from, till))
    }
}

/// Whether a condition bounds from below and from above.
fn bounds(op: Operator) -> (bool, bool) {
    match op {
        Operator::Eq => (true, true),
        Operator::Gt | Operator::GtEq => (true, false),
        Operator::Lt | Operator::LtEq => (false, true),
        _ => (false, false),
    }
}

#[async_trait]
impl TableProvider for TradesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn DataFusionSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&wanted)?);
        self.plan(session, Scope::new(filters), Form::Rows(schema), None, limit)
    }
}

impl TradesTable {
    /// The plan of reading what is in scope.
    fn plan(
        &self,
        session: &dyn DataFusionSession,
        scope: Scope,
        form: Form,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let label = format!("{} of {:?}: {}", form.name(), self.db, scope.label());
        let single = |condition: &Condition| condition.op == Operator::Eq && condition.values.len() == 1;
        let parts = match scope.instruments.iter().any(single) {
            true => 1,
            false => session.config().target_partitions().clamp(1, MOST_PARTITIONS),
        };
        let metrics = ExecutionPlanMetricsSet::new();
        let part = |number| {
            let scope = Scope { share: (parts, number), ..scope.clone() };
            let (db, of, work) = (Arc::clone(&self.db), form.clone(), Work::new(&metrics, number));
            let make = Arc::new(move || stream_of(Arc::clone(&db), scope.clone(), of.clone(), work.clone()));
            Lazy::new(Arc::clone(form.schema()), label.clone(), make)
        };
        measured((0..parts).map(part).collect(), Arc::clone(form.schema()), projection, limit, metrics.clone())
    }
}

/// What EXPLAIN ANALYZE shows.
#[derive(Clone)]
struct Work {
    blocks: Count,
    archived_sessions: Count,
    pages_decoded: Count,
    pages_skipped: Count,
    output_rows: Count,
}

impl Work {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Work {
        let count = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        Work {
            blocks: count("blocks"),
            archived_sessions: count("archived_sessions"),
            pages_decoded: count("pages_decoded"),
            pages_skipped: count("pages_skipped"),
            output_rows: MetricBuilder::new(metrics).output_rows(partition),
        }
    }
}

/// What becomes of pages.
#[derive(Clone, Debug)]
enum Form {
    /// Rows with these columns.
    Rows(SchemaRef),
    /// A bar a group.
    Bars(fold::Fold),
}

impl Form {
    fn schema(&self) -> &SchemaRef {
        match self {
            Form::Rows(schema) => schema,
            Form::Bars(fold) => &fold.schema,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Form::Rows(_) => "trades",
            Form::Bars(_) => "bars, folded where trades are decoded,",
        }
    }

    fn asks(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.schema().column_with_name(name).is_some())
    }

    /// Begins with an instrument.
    fn of(&self, instrument: Instrument) -> Maker {
        match self {
            Form::Rows(schema) => Maker::Rows(Box::new(columns::Table::new(instrument, Arc::clone(schema)))),
            Form::Bars(fold) => Maker::Bars(Box::new(fold::Bars::new(instrument, fold))),
        }
    }
}

/// Makes what is asked for of the pages of one instrument.
enum Maker {
    Rows(Box<columns::Table>),
    Bars(Box<fold::Bars>),
}

impl Maker {
    fn page(&mut self, page: &columns::Page<'_>) -> Result<Option<RecordBatch>> {
        match self {
            Maker::Rows(table) => table.batch(page).map(Some),
            Maker::Bars(bars) => bars.push(page).map(|()| None),
        }
    }

    /// What is left at the end.
    fn finish(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Maker::Rows(_) => Ok(None),
            Maker::Bars(bars) => bars.finish(),
        }
    }
}

fn stream_of(db: Arc<Db>, scope: Scope, form: Form, work: Work) -> SendableRecordBatchStream {
    let schema = Arc::clone(form.schema());
    let opened = async move {
        let reader = Reader::open(db, scope, form, work).await.map_err(external)?;
        Ok::<_, DataFusionError>(stream::try_unfold(reader, |mut reader| async move {
            let batch = match &mut reader {
                Reader::Stored(reader) => reader.next().await,
                Reader::Archived(reader) => reader.next(),
            };
            Ok(batch.map_err(external)?.map(|batch| (batch, reader)))
        }))
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(opened).try_flatten()))
}

enum Reader {
    /// A database, perhaps with an archive beside it.
    Stored(Box<stored::Reader>),
    /// An archive alone, over whose trades nothing lies.
    Archived(Box<archived::Reader>),
}

impl Reader {
    async fn open(db: Arc<Db>, scope: Scope, form: Form, work: Work) -> Result<Reader> {
        Ok(match db.has_server() {
            true => Reader::Stored(Box::new(stored::Reader::open(db, scope, form, work).await?)),
            false => Reader::Archived(Box::new(archived::Reader::open(db, scope, form, work)?)),
        })
    }
}
