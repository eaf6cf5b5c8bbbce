//! What a session is made into beside bars: levels, profile, flow, bars of activity, and what venues publish about it.

mod activity;
mod flow;
mod grid;
mod levels;
mod stats;
mod walk;

use crate::error::{Error, Result, external};
use crate::lazy::LazyTable;
use crate::scalar::instant_type;
use crate::tables::Market;
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::stream;
use market::{Nanos, TradeDate, money};
use std::future::Future;
use std::sync::Arc;

/// Registers the table functions.
pub fn register(context: &SessionContext, market: &Arc<Market>) {
    context.register_udtf("activity_ohlc", Arc::new(activity::ActivityOhlc(Arc::clone(market))));
    context.register_udtf("session_flow", Arc::new(flow::SessionFlow(Arc::clone(market))));
    context.register_udtf("session_grid", Arc::new(grid::SessionGrid(Arc::clone(market))));
    context.register_udtf("session_levels", Arc::new(levels::SessionLevels(Arc::clone(market))));
    context.register_udtf("session_profile", Arc::new(levels::SessionProfile(Arc::clone(market))));
    context.register_udtf("session_stat", Arc::new(stats::SessionStat(Arc::clone(market))));
}

/// A table whose one batch is made when it is read.
fn table<Made: Future<Output = Result<Vec<ArrayRef>>> + Send + 'static>(
    label: &str,
    fields: &[(&str, DataType)],
    make: impl Fn() -> Made + Send + Sync + 'static,
) -> Arc<dyn TableProvider> {
    let fields: Vec<Field> = fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let of = Arc::clone(&schema);
    let make = Arc::new(move || {
        let (schema, columns) = (Arc::clone(&of), make());
        let batch = async move {
            let columns = columns.await.map_err(external)?;
            RecordBatch::try_new(schema, columns).map_err(|error| external(Error::world(error.to_string(), "")))
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&of), stream::once(batch))) as _
    });
    Arc::new(LazyTable::new(schema, label, make))
}

/// `timestamptz`.
fn instant() -> DataType {
    instant_type()
}

fn instants(values: impl Iterator<Item = Option<Nanos>>) -> ArrayRef {
    let micros = values.map(|ts| ts.map(|ts| ts.div_euclid(1000)));
    Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
}

fn dates(values: impl Iterator<Item = TradeDate>) -> ArrayRef {
    Arc::new(Date32Array::from_iter_values(values.map(|date| date.0)))
}

fn floats(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(Float64Array::from_iter(values))
}

fn volumes(values: impl Iterator<Item = i128>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values.map(money::volume_to_f64)))
}

fn texts<T: AsRef<str>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn booleans(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(values.map(Some)))
}

/// A date near which a symbol such as `ESZ5` is meant where the question has none.
fn today() -> TradeDate {
    TradeDate::new(chrono::Utc::now().date_naive())
}
