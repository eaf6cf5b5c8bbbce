//! The table `trades`: sealed blocks, decoded here, with live rows over them.

use super::filter::{self, Condition};
use super::{Blocks, Db, Instrument, Narrow, Overlay, Part, live_rows};
use crate::archive::Columns;
use crate::error::{Error, Result, external};
use crate::lazy::{Lazy, measured};
use crate::scalar;
use arrow::array::{
    Array, ArrayRef, Date32Array, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray, TimestampMicrosecondArray,
};
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
use market::block::{self, Core, Header};
use market::{Filing, NONE_I64, Nanos, Segment, Session, TradeDate, Trades, money};
use std::collections::VecDeque;
use std::sync::Arc;

/// The view `market.trades`.
#[derive(Debug)]
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
    /// Every how many instruments this partition takes one, and which.
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
        let scope = Scope::new(filters);
        let label = format!("trades of {:?}: {}", self.db, scope.label());
        let single = |condition: &Condition| condition.op == Operator::Eq && condition.values.len() == 1;
        let parts = match scope.instruments.iter().any(single) {
            true => 1,
            false => session.config().target_partitions().clamp(1, MOST_PARTITIONS),
        };
        let metrics = ExecutionPlanMetricsSet::new();
        let part = |number| {
            let scope = Scope { share: (parts, number), ..scope.clone() };
            let (db, of, work) = (Arc::clone(&self.db), Arc::clone(&schema), Work::new(&metrics, number));
            let make = Arc::new(move || stream_of(Arc::clone(&db), scope.clone(), Arc::clone(&of), work.clone()));
            Lazy::new(Arc::clone(&schema), label.clone(), make)
        };
        measured((0..parts).map(part).collect(), Arc::clone(&schema), None, limit, metrics.clone())
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

fn stream_of(db: Arc<Db>, scope: Scope, schema: SchemaRef, work: Work) -> SendableRecordBatchStream {
    let of = Arc::clone(&schema);
    let opened = async move {
        let reader = Reader::open(db, scope, of, work).await.map_err(external)?;
        Ok::<_, DataFusionError>(stream::try_unfold(reader, |mut reader| async move {
            let batch = reader.next().await.map_err(external)?;
            Ok(batch.map(|batch| (batch, reader)))
        }))
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(opened).try_flatten()))
}

/// Reads instrument after instrument, block after block.
struct Reader {
    db: Arc<Db>,
    scope: Scope,
    schema: SchemaRef,
    /// Whether a query asks for more than the columns that bars are made of.
    ids: bool,
    instruments: VecDeque<Instrument>,
    current: Option<Current>,
    ready: VecDeque<RecordBatch>,
    work: Work,
}

struct Current {
    instrument: Instrument,
    blocks: Blocks,
    /// Of the archived session that is being read.
    pages: Option<Box<crate::archive::Pages>>,
    /// Whether archived pages have their identities, because live rows may lie over them.
    keys: bool,
    overlay: Overlay,
    places: Places,
    names: Option<StringArray>,
}

impl Reader {
    async fn open(db: Arc<Db>, scope: Scope, schema: SchemaRef, work: Work) -> Result<Reader> {
        let (parts, number) = scope.share;
        let all = Instrument::all(&db, &scope.instruments).await?;
        let instruments = all.into_iter().skip(number).step_by(parts).collect();
        let ids = ["seq", "sub", "flags", "cond", "ts_recv", "trade_id"]
            .iter()
            .any(|name| schema.column_with_name(name).is_some());
        Ok(Reader { db, scope, schema, ids, instruments, current: None, ready: VecDeque::new(), work })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.work.output_rows.add(batch.num_rows());
                return Ok(Some(batch));
            }
            let Some(current) = &mut self.current else {
                let Some(instrument) = self.instruments.pop_front() else { return Ok(None) };
                self.current = Some(self.start(instrument).await?);
                continue;
            };
            if let Some(pages) = &mut current.pages {
                match pages.next()? {
                    Some(page) => {
                        self.work.pages_decoded.add(1);
                        let page = if current.keys { current.overlay.over(&page).clone() } else { page };
                        self.ready.push_back(current.batch(&Page::Trades(&page), &self.schema)?);
                    }
                    None => current.pages = None,
                }
                continue;
            }
            match current.blocks.next().await? {
                Some((_, Part::Block(bytes))) => {
                    let (before, pages) = (self.ready.len(), Header::parse(&bytes)?.pages.len());
                    current.block(&bytes, &self.scope, self.ids, &self.schema, &mut self.ready)?;
                    let decoded = self.ready.len() - before;
                    self.work.blocks.add(1);
                    self.work.pages_decoded.add(decoded);
                    self.work.pages_skipped.add(pages - decoded);
                }
                Some((_, Part::Pages(pages))) => {
                    self.work.archived_sessions.add(1);
                    current.pages = Some(pages);
                }
                None => {
                    let rest = current.overlay.rest().clone();
                    if !rest.is_empty() {
                        self.ready.push_back(current.batch(&Page::Trades(&rest), &self.schema)?);
                    }
                    self.current = None;
                }
            }
        }
    }

    async fn start(&mut self, instrument: Instrument) -> Result<Current> {
        let (low, high) = self.scope.instants;
        let (mut from, mut till) = (low, high.saturating_add(1));
        let (mut first, mut last) = self.scope.days;
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
        let clamp = |day: TradeDate| TradeDate(day.0.clamp(-365_000, 365_000));
        let rows = Arc::new(live_rows(&self.db, instrument.id, from, till).await?);
        let keys = self.ids || !rows.is_empty();
        let columns = if keys { Columns::All } else { Columns::Core };
        let narrow = Narrow { instants: (low, high), columns, ..Narrow::default() };
        let blocks = Blocks::open(&self.db, instrument.id, clamp(first), clamp(last), narrow).await?;
        let overlay = Overlay::new(Arc::clone(&rows), 0..rows.len());
        let places = Places::new(instrument.calendar);
        Ok(Current { instrument, blocks, pages: None, keys: !rows.is_empty(), overlay, places, names: None })
    }
}

/// A page as it was decoded.
enum Page<'a> {
    Trades(&'a Trades),
    Core(&'a Core),
}

impl Current {
    fn block(
        &mut self,
        bytes: &[u8],
        scope: &Scope,
        ids: bool,
        schema: &SchemaRef,
        ready: &mut VecDeque<RecordBatch>,
    ) -> Result<()> {
        let header = Header::parse(bytes)?;
        let (mut trades, mut core) = (Trades::new(), Core::new());
        for (at, page) in header.pages.iter().enumerate() {
            if self.overlay.hits(page.last) {
                let merged = self.overlay.merge(bytes, &header, at)?.clone();
                ready.push_back(self.batch(&Page::Trades(&merged), schema)?);
            } else if page.first.ts > scope.instants.1 || page.last.ts < scope.instants.0 {
                continue;
            } else if ids {
                trades.clear();
                block::decode_page(bytes, &header, at, &mut trades)?;
                ready.push_back(self.batch(&Page::Trades(&trades), schema)?);
            } else {
                block::decode_core(bytes, &header, at, &mut core)?;
                ready.push_back(self.batch(&Page::Core(&core), schema)?);
            }
        }
        Ok(())
    }

    /// The symbol on every row: one array, of which each page takes as much as it has rows.
    fn names(&mut self, rows: usize) -> ArrayRef {
        if self.names.as_ref().is_none_or(|names| names.len() < rows) {
            let symbol = self.instrument.symbol.as_str();
            self.names = Some(StringArray::from_iter_values(std::iter::repeat_n(symbol, rows.max(block::PAGE))));
        }
        match &self.names {
            Some(names) => Arc::new(names.slice(0, rows)),
            None => Arc::new(StringArray::new_null(rows)),
        }
    }

    fn batch(&mut self, page: &Page<'_>, schema: &SchemaRef) -> Result<RecordBatch> {
        let ts = match page {
            Page::Trades(trades) => &trades.ts,
            Page::Core(core) => &core.ts,
        };
        let rows = ts.len();
        let needs_place = ["trade_date", "segment"].iter().any(|name| schema.column_with_name(name).is_some());
        let places: Vec<(TradeDate, Segment)> = match needs_place {
            true => (0..rows).map(|i| self.places.place(ts[i], flags(page, i))).collect(),
            false => Vec::new(),
        };
        let whole = |values: &[i64]| -> ArrayRef {
            // Without a NULL there is no bitmap to build.
            let none = values.contains(&NONE_I64);
            let array = match none {
                true => TimestampMicrosecondArray::from_iter(
                    values.iter().map(|ts| (*ts != NONE_I64).then(|| ts.div_euclid(1000))),
                ),
                false => TimestampMicrosecondArray::from_iter_values(values.iter().map(|ts| ts.div_euclid(1000))),
            };
            Arc::new(array.with_timezone("UTC"))
        };
        let money = |price: bool| -> ArrayRef {
            let (values, unit) = match (page, price) {
                (Page::Trades(t), true) => (&t.price, 1),
                (Page::Trades(t), false) => (&t.size, 1),
                (Page::Core(c), true) => (&c.price, c.price_unit),
                (Page::Core(c), false) => (&c.size, c.size_unit),
            };
            Arc::new(Float64Array::from(floats(values, unit)))
        };
        let of_trades = |make: &dyn Fn(&Trades) -> ArrayRef| -> Result<ArrayRef> {
            match page {
                Page::Trades(trades) => Ok(make(trades)),
                Page::Core(_) => Err(Error::world("a column was not decoded", "this is a bug; please report it")),
            }
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            columns.push(match field.name().as_str() {
                "symbol" => self.names(rows),
                "instrument_id" => {
                    Arc::new(Int32Array::from_iter_values(std::iter::repeat_n(self.instrument.id, rows)))
                }
                "ts" => whole(ts),
                "ns" => Arc::new(Int16Array::from_iter_values(ts.iter().map(|ts| ts.rem_euclid(1000) as i16))),
                "price" => money(true),
                "size" => money(false),
                "seq" => of_trades(&|t| Arc::new(Int64Array::from(t.seq.clone())))?,
                "sub" => of_trades(&|t| Arc::new(Int16Array::from_iter_values(t.sub.iter().map(|sub| *sub as i16))))?,
                "flags" => {
                    of_trades(&|t| Arc::new(Int32Array::from_iter_values(t.flags.iter().map(|flags| *flags as i32))))?
                }
                "cond" => {
                    of_trades(&|t| Arc::new(Int32Array::from_iter_values(t.cond.iter().map(|cond| *cond as i32))))?
                }
                "ts_recv" => of_trades(&|t| whole(&t.ts_recv))?,
                "trade_id" => of_trades(&|t| {
                    Arc::new(Int64Array::from_iter(t.trade_id.iter().map(|id| (*id != NONE_I64).then_some(*id))))
                })?,
                "trade_date" => Arc::new(Date32Array::from_iter_values(places.iter().map(|(day, _)| day.0))),
                _ => Arc::new(StringArray::from_iter_values(places.iter().map(|(_, segment)| segment.name()))),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .map_err(|error| Error::world(error.to_string(), ""))
    }
}

/// Fixed-point numbers as floats. What fits is one division each, without a branch.
fn floats(values: &[i64], unit: i64) -> Vec<f64> {
    let widest = values.iter().fold(0u64, |widest, value| widest | value.unsigned_abs());
    match widest.checked_mul(unit.unsigned_abs()) {
        Some(widest) if widest < 1 << 53 => values.iter().map(|value| (value * unit) as f64 / 1e9).collect(),
        _ => values.iter().map(|value| money::to_f64(value * unit)).collect(),
    }
}

fn flags(page: &Page<'_>, at: usize) -> u32 {
    match page {
        Page::Trades(trades) => trades.flags[at],
        Page::Core(core) => core.flags.get(at).copied().unwrap_or(0),
    }
}

/// Finds trade date and segment of sorted trades; beyond the known range they are `OFF` of their projected trade date.
pub struct Places {
    calendar: &'static market::Calendar,
    session: Option<Session<'static>>,
    filing: Option<Filing>,
}

impl Places {
    /// Of a calendar.
    pub fn new(calendar: &'static market::Calendar) -> Places {
        Places { calendar, session: None, filing: None }
    }

    /// Where a trade belongs.
    pub fn place(&mut self, ts: Nanos, flags: u32) -> (TradeDate, Segment) {
        if let Some(session) = &self.session
            && session.from <= ts
            && ts < session.till
        {
            return (session.trade_date, session.place(ts, flags).0);
        }
        if let Ok(session) = self.calendar.session_at(ts) {
            self.session = Some(session);
            return (session.trade_date, session.place(ts, flags).0);
        }
        let filing = match self.filing {
            Some(filing) if filing.from <= ts && ts < filing.till => filing,
            _ => self.calendar.filing(ts),
        };
        self.filing = Some(filing);
        (filing.trade_date, Segment::Off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_any_width_are_those_of_the_domain() {
        for (values, unit) in [
            (vec![0, 1, -1, 9_007_199_254_740_991], 1),
            (vec![9_007_199_254_740_992, -9_007_199_254_740_993, i64::MAX, -i64::MAX], 1),
            (vec![67_942, -3_763, 0], 10_000_000),
            (vec![900_719_925, 900_719_926, 922_337_203], 10_000_000),
        ] {
            let expected: Vec<f64> = values.iter().map(|value| money::to_f64(value * unit)).collect();
            assert_eq!(floats(&values, unit), expected);
        }
    }
}
