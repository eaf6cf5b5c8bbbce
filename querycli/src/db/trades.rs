//! The table `trades`: sealed blocks, decoded here, with live rows over them.

use super::filter::{self, Condition};
use super::{Blocks, Db, Instrument, Overlay, live_rows, timestamptz};
use crate::error::{Error, Result, external};
use crate::lazy::{Lazy, plan};
use crate::scalar;
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session as DataFusionSession, TableProvider};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
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

/// What a query asks of the trades, as far as it spares reading.
#[derive(Clone, Debug)]
struct Scope {
    /// Conditions on `market.instruments`.
    instruments: String,
    days: (TradeDate, TradeDate),
    /// Both ends included.
    instants: (Nanos, Nanos),
}

impl Scope {
    fn new(filters: &[Expr]) -> Scope {
        let mut scope = Scope {
            instruments: "true".into(),
            days: (TradeDate(i32::MIN), TradeDate(i32::MAX)),
            instants: (i64::MIN, i64::MAX),
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
                if let Some(sql) = filter::sql(&condition) {
                    self.instruments = format!("{} AND {sql}", self.instruments);
                }
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
        _: &dyn DataFusionSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&wanted)?);
        let scope = Scope::new(filters);
        let label = format!("trades: instruments {}, {} to {}", scope.instruments, scope.days.0, scope.days.1);
        let (db, of) = (Arc::clone(&self.db), Arc::clone(&schema));
        let make = Arc::new(move || stream_of(Arc::clone(&db), scope.clone(), Arc::clone(&of)));
        plan(vec![Lazy::new(Arc::clone(&schema), label, make)], schema, None, limit)
    }
}

fn stream_of(db: Arc<Db>, scope: Scope, schema: SchemaRef) -> SendableRecordBatchStream {
    let of = Arc::clone(&schema);
    let opened = async move {
        let reader = Reader::open(db, scope, of).await.map_err(external)?;
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
}

struct Current {
    instrument: Instrument,
    blocks: Blocks,
    overlay: Overlay,
    places: Places,
}

impl Reader {
    async fn open(db: Arc<Db>, scope: Scope, schema: SchemaRef) -> Result<Reader> {
        let sql =
            format!("SELECT id, symbol, calendar FROM market.instruments WHERE {} ORDER BY id", scope.instruments);
        let rows = db.leader().await.query(&sql, &[]).await?;
        let mut instruments = VecDeque::new();
        for row in rows {
            instruments.push_back(Instrument {
                id: row.get(0),
                symbol: row.get(1),
                calendar: db.calendars.find(row.get(2))?,
            });
        }
        let ids = ["seq", "sub", "flags", "cond", "ts_recv", "trade_id"]
            .iter()
            .any(|name| schema.column_with_name(name).is_some());
        Ok(Reader { db, scope, schema, ids, instruments, current: None, ready: VecDeque::new() })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let Some(current) = &mut self.current else {
                let Some(instrument) = self.instruments.pop_front() else { return Ok(None) };
                self.current = Some(self.start(instrument).await?);
                continue;
            };
            match current.blocks.next().await? {
                Some((_, bytes)) => current.block(&bytes, &self.scope, self.ids, &self.schema, &mut self.ready)?,
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

    async fn start(&self, instrument: Instrument) -> Result<Current> {
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
        let also = format!("AND last_ts >= {} AND first_ts <= {}", timestamptz(low), timestamptz(high));
        let rows = Arc::new(live_rows(&self.db, instrument.id, from, till).await?);
        let blocks = Blocks::open(&self.db, instrument.id, clamp(first), clamp(last), &also).await?;
        let overlay = Overlay::new(Arc::clone(&rows), 0..rows.len());
        let places = Places { calendar: instrument.calendar, session: None, filing: None };
        Ok(Current { instrument, blocks, overlay, places })
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
            let micros = values.iter().map(|ts| (*ts != NONE_I64).then(|| ts.div_euclid(1000)));
            Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
        };
        let money = |price: bool| -> ArrayRef {
            let (values, unit) = match (page, price) {
                (Page::Trades(t), true) => (&t.price, 1),
                (Page::Trades(t), false) => (&t.size, 1),
                (Page::Core(c), true) => (&c.price, c.price_unit),
                (Page::Core(c), false) => (&c.size, c.size_unit),
            };
            Arc::new(Float64Array::from_iter_values(values.iter().map(|value| money::to_f64(value * unit))))
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
                "symbol" => {
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(self.instrument.symbol.as_str(), rows)))
                }
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

fn flags(page: &Page<'_>, at: usize) -> u32 {
    match page {
        Page::Trades(trades) => trades.flags[at],
        Page::Core(core) => core.flags.get(at).copied().unwrap_or(0),
    }
}

/// Finds trade date and segment of sorted trades; beyond the known range they are `OFF` of their projected trade date.
struct Places {
    calendar: &'static market::Calendar,
    session: Option<Session<'static>>,
    filing: Option<Filing>,
}

impl Places {
    fn place(&mut self, ts: Nanos, flags: u32) -> (TradeDate, Segment) {
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
