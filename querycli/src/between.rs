//! `trades_between`: the trades of a symbol between two instants, now or as they were known.

use crate::bars::known::trades_known;
use crate::db::{Instrument, Places};
use crate::error::{Error, Result, external};
use crate::lazy::LazyTable;
use crate::scalar::instant_type;
use crate::sessions::Arguments;
use crate::tables::Market;
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{MemTable, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::stream;
use market::{NONE_I64, Nanos, TradeDate, money};
use std::sync::Arc;

/// Registers the table function.
pub fn register(context: &SessionContext, market: &Arc<Market>) {
    context.register_udtf("trades_between", Arc::new(TradesBetween(Arc::clone(market))));
}

#[derive(Debug)]
struct TradesBetween(Arc<Market>);

#[derive(Clone)]
struct Ask {
    symbol: String,
    range: (Nanos, Nanos),
    known: Option<Nanos>,
}

fn schema() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        field("ts", instant_type()),
        field("ns", DataType::Int16),
        field("seq", DataType::Int64),
        field("sub", DataType::Int16),
        field("price", DataType::Float64),
        field("size", DataType::Float64),
        field("flags", DataType::Int32),
        field("cond", DataType::Int32),
        field("ts_recv", instant_type()),
        field("trade_id", DataType::Int64),
        field("segment", DataType::Utf8),
        field("trade_date", DataType::Date32),
    ]))
}

impl TableFunctionImpl for TradesBetween {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let args = Arguments::new("trades_between", &args);
        let schema = schema();
        let (Some(symbol), Some(from), Some(till)) = (args.text(0)?, args.instant(1)?, args.instant(2)?) else {
            // no rows for NULL, as in SQL
            return Ok(Arc::new(MemTable::try_new(schema, vec![vec![]])?));
        };
        let known = args.instant(3)?.map(|ts| ts.div_euclid(1000).saturating_mul(1000).saturating_add(999));
        if self.0.db.is_none() {
            return Err(external(Error::question(
                "trades_between: there is no database to read trades of",
                "name one with --db; the trades of a file are a table of its own",
            )));
        }
        let ask = Ask { symbol, range: (from, till), known };
        let (market, of_rows) = (Arc::clone(&self.0), Arc::clone(&schema));
        let label = format!("trades_between: {}", ask.symbol);
        let make = Arc::new(move || {
            let (market, ask, schema) = (Arc::clone(&market), ask.clone(), Arc::clone(&of_rows));
            let rows = async move { rows(&market, &ask, schema).await.map_err(external) };
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&of_rows), stream::once(rows))) as _
        });
        Ok(Arc::new(LazyTable::new(schema, &label, make)))
    }
}

async fn rows(market: &Market, ask: &Ask, schema: SchemaRef) -> Result<RecordBatch> {
    let Some(db) = &market.db else { return Ok(RecordBatch::new_empty(schema)) };
    let near = match ask.range.1 {
        Nanos::MAX => TradeDate::new(chrono::Utc::now().date_naive()),
        till => TradeDate(till.div_euclid(market::time::DAY) as i32),
    };
    let instrument = Instrument::find(db, &ask.symbol, near).await?;
    let date = |ts: Nanos| instrument.calendar.filing(ts).trade_date;
    let (first, last) = (date(ask.range.0), date(ask.range.1.saturating_sub(1)));
    let instrument = instrument.on(db, first, last)?;
    let trades = trades_known(db, &instrument, ask.range, ask.known).await?;
    let mut places = Places::new(instrument.calendar);
    let places: Vec<_> = (0..trades.len()).map(|i| places.place(trades.ts[i], trades.flags[i])).collect();
    let instants = |values: &[i64]| -> ArrayRef {
        let micros = values.iter().map(|ts| (*ts != NONE_I64).then(|| ts.div_euclid(1000)));
        Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
    };
    let money = |values: &[i64]| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(values.iter().map(|value| money::to_f64(*value))))
    };
    let columns: Vec<ArrayRef> = vec![
        instants(&trades.ts),
        Arc::new(Int16Array::from_iter_values(trades.ts.iter().map(|ts| ts.rem_euclid(1000) as i16))),
        Arc::new(Int64Array::from(trades.seq.clone())),
        Arc::new(Int16Array::from_iter_values(trades.sub.iter().map(|sub| *sub as i16))),
        money(&trades.price),
        money(&trades.size),
        Arc::new(Int32Array::from_iter_values(trades.flags.iter().map(|flags| *flags as i32))),
        Arc::new(Int32Array::from_iter_values(trades.cond.iter().map(|cond| *cond as i32))),
        instants(&trades.ts_recv),
        Arc::new(Int64Array::from_iter(trades.trade_id.iter().map(|id| (*id != NONE_I64).then_some(*id)))),
        Arc::new(StringArray::from_iter_values(places.iter().map(|(_, segment)| segment.name()))),
        Arc::new(Date32Array::from_iter_values(places.iter().map(|(day, _)| day.0))),
    ];
    RecordBatch::try_new(schema, columns).map_err(|error| Error::world(error.to_string(), ""))
}
