//! Any table or view of the schema `market`, by binary COPY.

use super::{CopyRows, Db, Fields, filter, identifier};
use crate::error::{Error, Result, external};
use crate::lazy::{Lazy, plan};
use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int16Builder,
    Int32Builder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::{TryStreamExt, stream};
use std::sync::Arc;
use tokio_postgres::types::Type;

const BATCH: usize = 8192;
/// Exact numbers: 20 digits before the point, 18 behind it.
const NUMERIC: DataType = DataType::Decimal128(38, 18);

/// A relation of the schema `market`.
#[derive(Debug)]
pub struct PgTable {
    db: Arc<Db>,
    name: String,
    schema: SchemaRef,
    /// How each column is selected: types that Arrow has none for come as text.
    selects: Vec<String>,
}

fn arrow_type(kind: &Type) -> Option<DataType> {
    Some(match *kind {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::TEXT | Type::VARCHAR | Type::NAME => DataType::Utf8,
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::DATE => DataType::Date32,
        Type::NUMERIC => NUMERIC,
        _ => return None,
    })
}

impl PgTable {
    /// Looks the columns up.
    ///
    /// # Errors
    /// What the server says.
    pub async fn open(db: Arc<Db>, name: &str) -> Result<PgTable> {
        let statement = db.leader().await?.prepare(&format!("SELECT * FROM market.{}", identifier(name))).await?;
        let (mut fields, mut selects) = (Vec::new(), Vec::new());
        for column in statement.columns() {
            let quoted = identifier(column.name());
            let kind = arrow_type(column.type_());
            selects.push(match kind {
                Some(NUMERIC) | None => format!("{quoted}::text"),
                Some(_) => quoted,
            });
            fields.push(Field::new(column.name(), kind.unwrap_or(DataType::Utf8), true));
        }
        Ok(PgTable { db, name: name.to_owned(), schema: Arc::new(Schema::new(fields)), selects })
    }

    /// Its name in the schema `market`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database it is in.
    pub fn db(&self) -> Arc<Db> {
        Arc::clone(&self.db)
    }

    /// The type of a column that PostgreSQL has as we have it; `None` for one that comes as text.
    pub fn plain(&self, column: &str) -> Option<&DataType> {
        let (at, field) = self.schema.column_with_name(column)?;
        (self.selects[at] == identifier(column)).then(|| field.data_type())
    }

    /// The conditions in SQL if PostgreSQL can check all of them as we would; nobody need check them again.
    pub fn checked_alone(&self, filters: &[Expr]) -> Option<Vec<String>> {
        let mut found = Vec::new();
        for filter in filters {
            let conditions = filter::whole(filter)?;
            for condition in conditions {
                self.plain(&condition.column)?;
                found.push(filter::sql(&condition)?);
            }
        }
        Some(found)
    }
}

#[async_trait]
impl TableProvider for PgTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        let alone = |filter: &&Expr| match self.checked_alone(std::slice::from_ref(*filter)) {
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(alone).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.selects.len()).collect());
        let schema = Arc::new(self.schema.project(&wanted)?);
        let columns: Vec<&str> = wanted.iter().map(|at| self.selects[*at].as_str()).collect();
        let mut sql = format!("SELECT {} FROM market.{}", columns.join(", "), identifier(&self.name));
        let checked: Vec<String> = filter::conditions(filters)
            .iter()
            // text columns of other types cannot be compared with texts
            .filter(|condition| self.selects.iter().any(|select| *select == identifier(&condition.column)))
            .filter_map(filter::sql)
            .collect();
        if !checked.is_empty() {
            sql = format!("{sql} WHERE {}", checked.join(" AND "));
        }
        // What PostgreSQL does not check is checked above us, and then the limit counts there.
        if let (Some(limit), Some(_)) = (limit, self.checked_alone(filters)) {
            sql = format!("{sql} LIMIT {limit}");
        }
        let (db, rows_schema, label) = (Arc::clone(&self.db), Arc::clone(&schema), format!("PostgreSQL: {sql}"));
        let make = Arc::new(move || stream_of(Arc::clone(&db), sql.clone(), Arc::clone(&rows_schema)));
        plan(vec![Lazy::new(Arc::clone(&schema), label, make)], schema, None, limit)
    }
}

/// The rows of a query, streamed.
pub fn stream_of(db: Arc<Db>, sql: String, schema: SchemaRef) -> SendableRecordBatchStream {
    let of = Arc::clone(&schema);
    let opened = async move {
        let rows = db.copy(&sql).await.map_err(external)?;
        Ok::<_, DataFusionError>(stream::try_unfold((rows, of), |(mut rows, schema)| async move {
            let batch = batch(&mut rows, &schema).await.map_err(external)?;
            Ok(batch.map(|batch| (batch, (rows, schema))))
        }))
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(opened).try_flatten()))
}

async fn batch(rows: &mut CopyRows, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
    let mut columns: Vec<Column> = schema.fields().iter().map(|field| Column::new(field.data_type())).collect();
    let mut count = 0;
    while count < BATCH {
        let Some(fields) = rows.next().await? else { break };
        for (at, column) in columns.iter_mut().enumerate() {
            column.push(&fields, at)?;
        }
        count += 1;
    }
    if count == 0 {
        return Ok(None);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let arrays = columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map(Some)
        .map_err(|error| Error::world(error.to_string(), ""))
}

enum Column {
    Bool(BooleanBuilder),
    I16(Int16Builder),
    I32(Int32Builder),
    I64(Int64Builder),
    F32(Float32Builder),
    F64(Float64Builder),
    Text(StringBuilder),
    Date(Date32Builder),
    Instant(TimestampMicrosecondBuilder),
    Numeric(Decimal128Builder),
}

impl Column {
    fn new(kind: &DataType) -> Column {
        match kind {
            DataType::Boolean => Column::Bool(BooleanBuilder::new()),
            DataType::Int16 => Column::I16(Int16Builder::new()),
            DataType::Int32 => Column::I32(Int32Builder::new()),
            DataType::Int64 => Column::I64(Int64Builder::new()),
            DataType::Float32 => Column::F32(Float32Builder::new()),
            DataType::Float64 => Column::F64(Float64Builder::new()),
            DataType::Date32 => Column::Date(Date32Builder::new()),
            DataType::Timestamp(..) => Column::Instant(TimestampMicrosecondBuilder::new()),
            DataType::Decimal128(..) => Column::Numeric(Decimal128Builder::new()),
            _ => Column::Text(StringBuilder::new()),
        }
    }

    fn push(&mut self, fields: &Fields, at: usize) -> Result<()> {
        match self {
            Column::Bool(b) => b.append_option(fields.bool(at)?),
            Column::I16(b) => b.append_option(fields.i16(at)?),
            Column::I32(b) => b.append_option(fields.i32(at)?),
            Column::I64(b) => b.append_option(fields.i64(at)?),
            Column::F32(b) => b.append_option(fields.f32(at)?),
            Column::F64(b) => b.append_option(fields.f64(at)?),
            Column::Text(b) => b.append_option(fields.text(at)?),
            Column::Date(b) => b.append_option(fields.days(at)?),
            Column::Instant(b) => b.append_option(fields.micros(at)?),
            Column::Numeric(b) => b.append_option(fields.text(at)?.map(numeric).transpose()?),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Column::Bool(b) => Arc::new(b.finish()),
            Column::I16(b) => Arc::new(b.finish()),
            Column::I32(b) => Arc::new(b.finish()),
            Column::I64(b) => Arc::new(b.finish()),
            Column::F32(b) => Arc::new(b.finish()),
            Column::F64(b) => Arc::new(b.finish()),
            Column::Text(b) => Arc::new(b.finish()),
            Column::Date(b) => Arc::new(b.finish()),
            Column::Instant(b) => Arc::new(b.finish().with_timezone("UTC")),
            Column::Numeric(b) => {
                let numbers = b.finish().with_precision_and_scale(38, 18);
                Arc::new(numbers.map_err(|error| Error::world(error.to_string(), ""))?)
            }
        })
    }
}

fn numeric(text: &str) -> Result<i128> {
    let refused = || {
        Error::world(
            format!("the number {text} does not fit"),
            "20 digits before and 18 behind the point fit; leave the column out",
        )
    };
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part = part.trim_end_matches('0');
    if part.len() > 18 || whole.len() > 20 {
        return Err(refused());
    }
    let value: i128 = format!("{whole}{part:0<18}").parse().map_err(|_| refused())?;
    Ok(if negative { -value } else { value })
}
