//! The tables of an archive without a database: `instruments`, `sessions` and `bars`, read from the manifests. `trades` is read
//! by the reader that reads the database's (db/trades.rs).

use super::manifest::Manifest;
use crate::db::{Condition, Db, Instrument, conditions};
use crate::error::{Result, external};
use crate::lazy::{Lazy, plan};
use crate::scalar::instant_type;
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::stream;
use market::TradeDate;
use std::sync::Arc;

/// What an archive has.
pub const TABLES: [&str; 4] = ["bars", "instruments", "sessions", "trades"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Instruments,
    Sessions,
    Bars,
}

#[derive(Debug)]
struct ArchiveTable {
    db: Arc<Db>,
    kind: Kind,
    schema: SchemaRef,
}

/// A table by name; `None` for a name that is none. `session_bars` is another name of `bars`.
///
/// # Errors
/// None yet; an archive that cannot be read is told when it is.
pub fn table(db: &Arc<Db>, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    let kind = match name {
        "instruments" => Kind::Instruments,
        "sessions" => Kind::Sessions,
        "bars" | "session_bars" => Kind::Bars,
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(ArchiveTable { db: Arc::clone(db), kind, schema: kind.schema() })))
}

impl Kind {
    /// The columns that the names of manifests tell.
    fn in_names(self) -> &'static [&'static str] {
        match self {
            Kind::Instruments => &["id", "symbol", "sessions", "first_date", "last_date"],
            Kind::Sessions => &["symbol", "trade_date"],
            Kind::Bars => &[],
        }
    }

    fn schema(self) -> SchemaRef {
        use DataType::{Date32, Float64, Int32, Int64, Utf8};
        let fields: Vec<(&str, DataType)> = match self {
            Kind::Instruments => vec![
                ("id", Int32),
                ("symbol", Utf8),
                ("kind", Utf8),
                ("calendar", Utf8),
                ("venue", Utf8),
                ("root", Utf8),
                ("expiry", Date32),
                ("currency", Utf8),
                ("tick_size", Float64),
                ("multiplier", Float64),
                ("sessions", Int64),
                ("first_date", Date32),
                ("last_date", Date32),
            ],
            Kind::Sessions => vec![
                ("symbol", Utf8),
                ("trade_date", Date32),
                ("calendar", Utf8),
                ("calendar_version", Int32),
                ("trades", Int64),
                ("first_ts", instant_type()),
                ("last_ts", instant_type()),
                ("digest", Int64),
                ("state", Utf8),
                ("revision", Int32),
                ("sealed_at", Utf8),
                ("bytes", Int64),
                ("file", Utf8),
                ("system_identifier", Utf8),
                ("timeline", Int32),
            ],
            Kind::Bars => vec![
                ("symbol", Utf8),
                ("instrument_id", Int32),
                ("trade_date", Date32),
                ("segment", Utf8),
                ("opens_at", instant_type()),
                ("closes_at", instant_type()),
                ("open", Float64),
                ("high", Float64),
                ("low", Float64),
                ("close", Float64),
                ("volume", Float64),
                ("notional", Float64),
                ("trades", Int64),
                ("priced", Int64),
                ("state", Utf8),
                ("revision", Int32),
                ("calendar_version", Int32),
                ("digest", Int64),
            ],
        };
        Arc::new(Schema::new(fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect::<Vec<_>>()))
    }
}

/// What a query wants, as far as it spares opening manifests.
#[derive(Clone, Debug)]
struct Wanted {
    /// What the names of the manifests tell suffices.
    names_alone: bool,
    instruments: Vec<Condition>,
    days: (TradeDate, TradeDate),
}

fn wanted(filters: &[Expr], kind: Kind) -> Wanted {
    let mut wanted =
        Wanted { names_alone: false, instruments: Vec::new(), days: (TradeDate(i32::MIN), TradeDate(i32::MAX)) };
    for condition in conditions(filters) {
        match (condition.column.as_str(), &condition.values[..]) {
            ("symbol", _) => wanted.instruments.push(condition),
            ("id", _) if kind == Kind::Instruments => wanted.instruments.push(condition),
            ("trade_date", [ScalarValue::Date32(Some(day))]) => {
                let day = TradeDate(*day);
                if matches!(condition.op, Operator::Eq | Operator::Gt | Operator::GtEq) {
                    wanted.days.0 = wanted.days.0.max(day);
                }
                if matches!(condition.op, Operator::Eq | Operator::Lt | Operator::LtEq) {
                    wanted.days.1 = wanted.days.1.min(day);
                }
            }
            _ => {}
        }
    }
    wanted
}

#[async_trait]
impl TableProvider for ArchiveTable {
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
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let mut wanted = wanted(filters, self.kind);
        let told = self.kind.in_names();
        let named = |column: &usize| told.contains(&self.schema.field(*column).name().as_str());
        wanted.names_alone = projection.is_some_and(|columns| columns.iter().all(named)) && !told.is_empty();
        let label = format!("manifests of {:?}", self.db);
        let (db, kind, schema) = (Arc::clone(&self.db), self.kind, Arc::clone(&self.schema));
        let make = Arc::new(move || {
            let (db, wanted, schema) = (Arc::clone(&db), wanted.clone(), Arc::clone(&schema));
            let of = Arc::clone(&schema);
            let batch = async move { rows(&db, kind, &wanted, of).map_err(external) };
            Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(batch))) as _
        });
        plan(vec![Lazy::new(Arc::clone(&self.schema), label, make)], Arc::clone(&self.schema), projection, limit)
    }
}

fn rows(db: &Db, kind: Kind, wanted: &Wanted, schema: SchemaRef) -> Result<RecordBatch> {
    let Some(archive) = &db.archive else { return Ok(RecordBatch::new_empty(schema)) };
    let mut found: Vec<(i32, Manifest)> = Vec::new();
    let mut spans: Vec<(i64, TradeDate, TradeDate)> = Vec::new();
    let mut wanting: Vec<(i32, String, TradeDate)> = Vec::new();
    if wanted.instruments.is_empty() {
        archive.expect_all()?;
    }
    for (id, symbol) in Instrument::archived(archive, &wanted.instruments)? {
        let mut days = archive.days(&symbol)?;
        if kind == Kind::Instruments {
            let (Some(&first), Some(&last)) = (days.first(), days.last()) else { continue };
            spans.push((days.len() as i64, first, last));
            days = vec![last];
        } else {
            days.retain(|day| wanted.days.0 <= *day && *day <= wanted.days.1);
        }
        wanting.extend(days.into_iter().map(|day| (id, symbol.clone(), day)));
    }
    if wanted.names_alone {
        return names(kind, &wanting, &spans, schema);
    }
    archive.expect(wanting.iter().map(|(_, symbol, day)| (symbol.as_str(), *day)));
    for (id, symbol, day) in &wanting {
        found.extend(archive.manifest(symbol, *day)?.map(|manifest| (*id, manifest)));
    }
    let columns = match kind {
        Kind::Instruments => instruments(&found, &spans),
        Kind::Sessions => sessions(&found)?,
        Kind::Bars => bars(&found)?,
    };
    RecordBatch::try_new(schema, columns).map_err(|error| crate::Error::world(error.to_string(), ""))
}

/// Rows of what names tell; nobody asks for the other columns.
fn names(
    kind: Kind,
    of: &[(i32, String, TradeDate)],
    spans: &[(i64, TradeDate, TradeDate)],
    schema: SchemaRef,
) -> Result<RecordBatch> {
    let day = |of: fn(&(i64, TradeDate, TradeDate)) -> TradeDate| -> ArrayRef {
        Arc::new(Date32Array::from_iter_values(spans.iter().map(|span| of(span).0)))
    };
    let column = |field: &Arc<Field>| -> ArrayRef {
        match (kind, field.name().as_str()) {
            (_, "symbol") => texts(of.iter().map(|(_, symbol, _)| Some(symbol.as_str()))),
            (Kind::Instruments, "id") => Arc::new(Int32Array::from_iter_values(of.iter().map(|(id, ..)| *id))),
            (Kind::Instruments, "sessions") => Arc::new(Int64Array::from_iter_values(spans.iter().map(|(n, ..)| *n))),
            (Kind::Instruments, "first_date") => day(|(_, first, _)| *first),
            (Kind::Instruments, "last_date") => day(|(_, _, last)| *last),
            (Kind::Sessions, "trade_date") => {
                Arc::new(Date32Array::from_iter_values(of.iter().map(|(_, _, day)| day.0)))
            }
            _ => new_null_array(field.data_type(), of.len()),
        }
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(schema, columns).map_err(|error| crate::Error::world(error.to_string(), ""))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn dates<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(
        values.map(|text| text.and_then(|text| TradeDate::parse(text).ok()).map(|day| day.0)).collect::<Date32Array>(),
    )
}

fn floats<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.map(|text| text.and_then(|text| text.parse().ok())).collect::<Float64Array>())
}

fn instants(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC"))
}

/// `2025-11-28 14:30:00+00`, as PostgreSQL prints it in UTC.
pub fn micros(text: &str) -> Option<i64> {
    let text = text.strip_suffix("+00")?;
    let at = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(at.and_utc().timestamp_micros())
}

fn instruments(found: &[(i32, Manifest)], spans: &[(i64, TradeDate, TradeDate)]) -> Vec<ArrayRef> {
    let terms = || found.iter().map(|(_, manifest)| &manifest.instrument);
    let day = |of: fn(&(i64, TradeDate, TradeDate)) -> TradeDate| -> ArrayRef {
        Arc::new(Date32Array::from_iter_values(spans.iter().map(|span| of(span).0)))
    };
    vec![
        Arc::new(Int32Array::from_iter_values(found.iter().map(|(id, _)| *id))),
        texts(found.iter().map(|(_, manifest)| Some(manifest.symbol.as_str()))),
        texts(terms().map(|terms| Some(terms.kind.as_str()))),
        texts(terms().map(|terms| Some(terms.calendar.as_str()))),
        texts(terms().map(|terms| terms.venue.as_deref())),
        texts(terms().map(|terms| terms.root.as_deref())),
        dates(terms().map(|terms| terms.expiry.as_deref())),
        texts(terms().map(|terms| terms.currency.as_deref())),
        floats(terms().map(|terms| terms.tick_size.as_deref())),
        floats(terms().map(|terms| terms.multiplier.as_deref())),
        Arc::new(Int64Array::from_iter_values(spans.iter().map(|(n, _, _)| *n))),
        day(|(_, first, _)| *first),
        day(|(_, _, last)| *last),
    ]
}

fn sessions(found: &[(i32, Manifest)]) -> Result<Vec<ArrayRef>> {
    let each = || found.iter().map(|(_, manifest)| manifest);
    let digests = each().map(|m| Ok(m.digest()? as i64)).collect::<Result<Vec<_>>>()?;
    let bytes = each().map(|m| m.contents().map(|content| content.bytes as i64).sum::<i64>());
    Ok(vec![
        texts(each().map(|m| Some(m.symbol.as_str()))),
        dates(each().map(|m| Some(m.trade_date.as_str()))),
        texts(each().map(|m| Some(m.instrument.calendar.as_str()))),
        Arc::new(Int32Array::from_iter_values(each().map(|m| m.calendar_version))),
        Arc::new(Int64Array::from_iter_values(each().map(|m| m.n as i64))),
        instants(each().map(|m| Some(m.first_ts.div_euclid(1000)))),
        instants(each().map(|m| Some(m.last_ts.div_euclid(1000)))),
        Arc::new(Int64Array::from(digests)),
        texts(each().map(|m| Some(m.state.as_str()))),
        Arc::new(Int32Array::from_iter_values(each().map(|m| m.revision))),
        texts(each().map(|m| Some(m.sealed_at.as_str()))),
        Arc::new(Int64Array::from_iter_values(bytes)),
        texts(each().map(|m| Some(m.trades.file.as_str()))),
        texts(each().map(|m| Some(m.origin.system_identifier.as_str()))),
        Arc::new(Int32Array::from_iter_values(each().map(|m| m.origin.timeline))),
    ])
}

fn bars(found: &[(i32, Manifest)]) -> Result<Vec<ArrayRef>> {
    let each = || found.iter().flat_map(|(id, m)| m.bars.iter().map(move |bar| (id, m, bar)));
    let digests = each().map(|(_, m, _)| Ok(m.digest()? as i64)).collect::<Result<Vec<_>>>()?;
    Ok(vec![
        texts(each().map(|(_, m, _)| Some(m.symbol.as_str()))),
        Arc::new(Int32Array::from_iter_values(each().map(|(id, _, _)| *id))),
        dates(each().map(|(_, m, _)| Some(m.trade_date.as_str()))),
        texts(each().map(|(_, _, bar)| Some(bar.segment.as_str()))),
        instants(each().map(|(_, _, bar)| bar.opens_at.as_deref().and_then(micros))),
        instants(each().map(|(_, _, bar)| bar.closes_at.as_deref().and_then(micros))),
        floats(each().map(|(_, _, bar)| bar.open.as_deref())),
        floats(each().map(|(_, _, bar)| bar.high.as_deref())),
        floats(each().map(|(_, _, bar)| bar.low.as_deref())),
        floats(each().map(|(_, _, bar)| bar.close.as_deref())),
        floats(each().map(|(_, _, bar)| Some(bar.volume.as_str()))),
        floats(each().map(|(_, _, bar)| Some(bar.notional.as_str()))),
        Arc::new(Int64Array::from_iter_values(each().map(|(_, _, bar)| bar.trades))),
        Arc::new(Int64Array::from_iter_values(each().map(|(_, _, bar)| bar.priced))),
        texts(each().map(|(_, m, _)| Some(m.state.as_str()))),
        Arc::new(Int32Array::from_iter_values(each().map(|(_, m, _)| m.revision))),
        Arc::new(Int32Array::from_iter_values(each().map(|(_, m, _)| m.calendar_version))),
        Arc::new(Int64Array::from(digests)),
    ])
}
