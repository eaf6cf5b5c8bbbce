//! Bars of trades, made page by page where these are decoded: the scan under a grouping (../grouped.rs).

use super::columns::{Page, Repeated, days, names_of};
use super::{Places, Scope, TradesTable};
use crate::aggregate;
use crate::db::Instrument;
use crate::error::{Error, Result};
use crate::scalar::instant_type;
use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use market::{BarBuilder, BucketCursor, Calendar, Nanos, Segment, Segments, Timeframe, TradeDate, money};
use std::collections::HashMap;
use std::sync::Arc;

/// How trades are grouped by their time.
#[derive(Clone, Debug)]
pub enum Bucketing {
    /// Steps of so many nanoseconds of UTC: `date_trunc`.
    Utc(i64),
    /// `session_bucket`.
    Session {
        /// Its timeframe.
        timeframe: Timeframe,
        /// Its calendar; that of the instrument if it is not named.
        calendar: Option<&'static Calendar>,
        /// Its segments; the calendar's main ones if they are not named.
        segments: Option<Segments>,
    },
}

/// What to fold.
#[derive(Clone, Debug)]
pub struct Fold {
    /// `symbol`, `instrument_id`, `calendar`, `trade_date`, `segment`, as far as they are asked for; `bucket`; `bar`; `n`.
    pub schema: SchemaRef,
    bucketing: Option<Bucketing>,
    /// Half-open.
    instants: (Nanos, Nanos),
}

/// A table with a bar a group.
#[derive(Debug)]
pub struct FoldTable {
    table: TradesTable,
    hints: Vec<Expr>,
    fold: Fold,
}

impl FoldTable {
    /// Of trades with times in `instants` (half-open); `hints` say what else the query will look at. `columns` are among those
    /// that all trades of a stretch share.
    pub fn new(
        table: &TradesTable,
        hints: &[Expr],
        instants: (Nanos, Nanos),
        columns: Vec<&str>,
        bucketing: Option<Bucketing>,
    ) -> FoldTable {
        let mut fields: Vec<Field> = Vec::new();
        for column in columns {
            if let Ok(field) = table.schema().field_with_name(column)
                && !fields.contains(field)
            {
                fields.push(field.clone());
            }
        }
        if bucketing.is_some() {
            fields.push(Field::new("bucket", instant_type(), true));
        }
        fields.push(Field::new("bar", DataType::Struct(aggregate::fields()), true));
        fields.push(Field::new("n", DataType::Int64, true));
        let fold = Fold { schema: Arc::new(Schema::new(fields)), bucketing, instants };
        FoldTable { table: table.clone(), hints: hints.to_vec(), fold }
    }
}

#[async_trait]
impl TableProvider for FoldTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.fold.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let mut scope = Scope::new(&self.hints);
        let (from, till) = self.fold.instants;
        scope.instants.0 = scope.instants.0.max(from);
        if till != Nanos::MAX {
            scope.instants.1 = scope.instants.1.min(till - 1);
        }
        self.table.plan(session, scope, super::Form::Bars(self.fold.clone()), projection, limit)
    }
}

/// A group within an instrument.
type Key = (Option<Nanos>, TradeDate, Segment);

/// Makes the bars of one instrument.
pub struct Bars {
    fold: Fold,
    instrument: Instrument,
    places: Places,
    cursor: Option<BucketCursor<'static>>,
    /// Whether the trade date or the segment is asked for, and the segment.
    placed: (bool, bool),
    groups: HashMap<Key, usize>,
    keys: Vec<Key>,
    bars: Vec<BarBuilder>,
    buffers: Buffers,
}

#[derive(Default)]
struct Buffers {
    ts: Vec<i64>,
    price: Vec<i64>,
    size: Vec<i64>,
}

impl Bars {
    /// Of an instrument.
    pub fn new(instrument: Instrument, fold: &Fold) -> Bars {
        let has = |name| fold.schema.column_with_name(name).is_some();
        let cursor = match &fold.bucketing {
            Some(Bucketing::Session { timeframe, calendar, segments }) => {
                let calendar = calendar.unwrap_or(instrument.calendar);
                Some(BucketCursor::new(calendar, *timeframe, segments.unwrap_or(calendar.main())))
            }
            _ => None,
        };
        Bars {
            placed: (has("trade_date") || has("segment"), has("segment")),
            fold: fold.clone(),
            places: Places::new(instrument.calendar),
            instrument,
            cursor,
            groups: HashMap::new(),
            keys: Vec::new(),
            bars: Vec::new(),
            buffers: Buffers::default(),
        }
    }

    /// Takes a page.
    ///
    /// # Errors
    /// A time beyond the calendar's known range, a price that is none.
    pub fn push(&mut self, page: &Page<'_>) -> Result<()> {
        let mut buffers = std::mem::take(&mut self.buffers);
        let done = self.push_with(page, &mut buffers);
        self.buffers = buffers;
        done
    }

    fn push_with(&mut self, page: &Page<'_>, b: &mut Buffers) -> Result<()> {
        let scaled = |values: &[i64], unit: i64, out: &mut Vec<i64>| {
            out.clear();
            out.extend(values.iter().map(|value| value.wrapping_mul(unit)));
        };
        // SQL's ts has whole microseconds, so that is what the order goes by.
        let whole = |ts: &[i64], out: &mut Vec<i64>| {
            out.clear();
            out.extend(ts.iter().map(|ts| ts.div_euclid(1000) * 1000));
        };
        match page {
            Page::Trades(trades) => {
                whole(&trades.ts, &mut b.ts);
                self.rows(&b.ts, &trades.price, &trades.size, &trades.seq, |i| trades.flags[i])
            }
            Page::Core(core, seq) => {
                whole(&core.ts, &mut b.ts);
                scaled(&core.price, core.price_unit, &mut b.price);
                scaled(&core.size, core.size_unit, &mut b.size);
                let flags = |i: usize| core.flags.get(i).copied().unwrap_or(0);
                self.rows(&b.ts, &b.price, &b.size, seq, flags)
            }
            Page::Archived(_) => {
                let (ts, price, size) = (page.column("ts")?, page.column("price")?, page.column("size")?);
                scaled(ts.as_primitive::<TimestampMicrosecondType>().values(), 1000, &mut b.ts);
                money::prices_from_f64(price.as_primitive::<Float64Type>().values(), &mut b.price)?;
                money::sizes_from_f64(size.as_primitive::<Float64Type>().values(), &mut b.size)?;
                let seq = page.column("seq")?;
                let seq = seq.as_primitive::<Int64Type>().values();
                if !self.placed.1 {
                    return self.rows(&b.ts, &b.price, &b.size, seq, |_| 0);
                }
                let flags = page.column("flags")?;
                let flags = flags.as_primitive::<Int32Type>().values();
                self.rows(&b.ts, &b.price, &b.size, seq, |i| flags[i] as u32)
            }
        }
    }

    /// Sorted trades, prices and sizes in 1e-9.
    fn rows(
        &mut self,
        ts: &[Nanos],
        price: &[i64],
        size: &[i64],
        seq: &[i64],
        flags: impl Fn(usize) -> u32,
    ) -> Result<()> {
        let (from, till) = self.fold.instants;
        let (first, last) = (ts.partition_point(|ts| *ts < from), ts.partition_point(|ts| *ts < till));
        if first >= last {
            return Ok(());
        }
        let stretches = match self.placed {
            (false, _) => vec![(last, TradeDate(0), Segment::Off)],
            // The trade date is the same whatever the flags.
            (true, false) => self.places.stretches(&ts[..last], |_| 0),
            (true, true) => self.places.stretches(&ts[..last], flags),
        };
        let mut at = first;
        for (end, day, segment) in stretches {
            while at < end {
                let (bucket, till) = self.bucket(ts[at])?;
                let next = at + ts[at..end].iter().take_while(|ts| **ts < till).count().max(1);
                let bar = self.bar((bucket, day, segment));
                bar.push_run(&price[at..next], &size[at..next], &ts[at..next], &seq[at..next])?;
                at = next;
            }
        }
        Ok(())
    }

    /// The bucket of an instant, and its end as far as it is known.
    fn bucket(&mut self, ts: Nanos) -> Result<(Option<Nanos>, Nanos)> {
        match (&self.fold.bucketing, &mut self.cursor) {
            (Some(Bucketing::Utc(width)), _) => {
                let open = ts.div_euclid(*width) * width;
                Ok((Some(open), open.saturating_add(*width)))
            }
            (_, Some(cursor)) => {
                let bucket = cursor.bucket_at(ts)?;
                Ok((bucket.map(|bucket| bucket.open), cursor.stretch().1))
            }
            _ => Ok((None, Nanos::MAX)),
        }
    }

    fn bar(&mut self, key: Key) -> &mut BarBuilder {
        let at = match self.keys.last() == Some(&key) {
            true => self.keys.len() - 1,
            false => *self.groups.entry(key).or_insert_with(|| {
                self.keys.push(key);
                self.bars.push(BarBuilder::new());
                self.keys.len() - 1
            }),
        };
        &mut self.bars[at]
    }

    /// The instrument's bars; `None` if it has none.
    ///
    /// # Errors
    /// A sum that is too large.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let rows = self.keys.len();
        if rows == 0 {
            return Ok(None);
        }
        let bars: Vec<_> = self.bars.iter().map(BarBuilder::finish).collect();
        let stretches: Vec<_> = self.keys.iter().enumerate().map(|(at, key)| (at + 1, key.1, key.2)).collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for field in self.fold.schema.fields() {
            columns.push(match field.name().as_str() {
                "symbol" => Repeated::new(&self.instrument.symbol).rows(rows),
                "calendar" => Repeated::new(self.instrument.calendar.id()).rows(rows),
                "instrument_id" => Arc::new(Int32Array::from_value(self.instrument.id, rows)),
                "trade_date" => days(&stretches, rows),
                "segment" => names_of(&stretches),
                "bucket" => {
                    let opens = self.keys.iter().map(|key| key.0.map(|open| open.div_euclid(1000)));
                    Arc::new(TimestampMicrosecondArray::from_iter(opens).with_timezone("UTC"))
                }
                "bar" => aggregate::write(&bars).map_err(Error::from)?,
                _ => Arc::new(Int64Array::from_iter(bars.iter().map(|bar| bar.map(|bar| bar.bar.trades)))),
            });
        }
        (self.groups, self.keys, self.bars) = Default::default();
        let batch = RecordBatch::try_new(Arc::clone(&self.fold.schema), columns);
        batch.map(Some).map_err(|error| Error::world(error.to_string(), ""))
    }
}
