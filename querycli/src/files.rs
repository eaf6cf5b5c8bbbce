//! Parquet and CSV files as tables, and trades read out of them.

use crate::error::{Error, Result, external};
use crate::tables::Market;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt32Type};
use datafusion::catalog::TableProvider;
use datafusion::execution::context::SessionContext;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, col, lit};
use market::{NONE_I64, Trade, Trades, money};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Registers every file under its stem; a single one, and the first that has the columns of trades, also as `trades`.
///
/// # Errors
/// A file that is not there, of another kind, or that cannot be read.
pub async fn register(context: &SessionContext, market: &Market, files: &[PathBuf]) -> Result<()> {
    let mut trades: Option<Arc<dyn TableProvider>> = None;
    for file in files {
        let table = open(context, file).await?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let schema = table.schema();
        let has_trades = ["ts", "price", "size"].iter().all(|column| schema.column_with_name(column).is_some());
        if files.len() == 1 || (has_trades && trades.is_none()) {
            trades = Some(Arc::clone(&table));
        }
        if files.len() == 1 {
            market.put("t", Arc::clone(&table));
        }
        if market.put(&stem, table).is_some() && files.len() > 1 {
            return Err(Error::question(
                format!("two files are called \"{stem}\""),
                "rename one: the stem is the table's name",
            ));
        }
    }
    if let Some(table) = trades {
        // With a database `trades` is its view; the file keeps its own name.
        if market.db.is_none() {
            market.put("trades", Arc::clone(&table));
        }
        market.set_file_trades(table);
    }
    Ok(())
}

async fn open(context: &SessionContext, file: &Path) -> Result<Arc<dyn TableProvider>> {
    let shown = file.display();
    if !file.exists() {
        return Err(Error::question(format!("there is no file {shown}"), "name Parquet or CSV files"));
    }
    let path =
        file.to_str().ok_or_else(|| Error::question(format!("the name of {shown} is not UTF-8"), "rename it"))?;
    let extension = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let frame = match extension.as_str() {
        "parquet" | "pq" => {
            let dot = format!(".{extension}");
            context.read_parquet(path, ParquetReadOptions::default().file_extension(&dot)).await
        }
        "csv" => context.read_csv(path, CsvReadOptions::default()).await,
        _ => {
            return Err(Error::question(
                format!("{shown} is of no kind querycli reads"),
                "give .parquet or .csv files",
            ));
        }
    };
    let frame = frame.map_err(|error| {
        let cause = Error::from(error);
        Error::world(format!("{shown} cannot be read: {}", cause.message), "is it complete, and what its name says?")
    })?;
    Ok(frame.into_view())
}

/// The trades of a symbol in a file, sorted. Without `seq` the row's number orders trades of one instant.
///
/// # Errors
/// A table without the columns of trades, or a value that is none.
pub async fn trades(context: &SessionContext, table: Arc<dyn TableProvider>, symbol: &str) -> Result<Trades> {
    let schema = table.schema();
    let has = |name: &str| schema.column_with_name(name).is_some();
    for name in ["ts", "price", "size"] {
        if !has(name) {
            return Err(Error::question(
                format!("the file has no column \"{name}\""),
                "session_ohlc needs ts, price and size; rename columns, or group by session_bucket and use ohlc",
            ));
        }
    }
    let mut frame = context.read_table(table)?;
    if has("symbol") {
        frame = frame.filter(col("symbol").eq(lit(symbol)))?;
    }
    let wanted: Vec<&str> =
        ["ts", "price", "size", "ns", "seq", "sub", "flags"].into_iter().filter(|name| has(name)).collect();
    let batches = frame.select_columns(&wanted)?.collect().await?;
    let mut trades = Trades::new();
    for batch in &batches {
        push(batch, &mut trades)?;
    }
    trades.sort_by_key();
    Ok(trades)
}

fn push(batch: &RecordBatch, trades: &mut Trades) -> Result<()> {
    let column = |name: &str, kind: &DataType| -> Result<Option<arrow::array::ArrayRef>> {
        batch
            .column_by_name(name)
            .map(|c| cast(c, kind))
            .transpose()
            .map_err(|e| Error::from(external(Error::world(e.to_string(), ""))))
    };
    let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let (Some(ts), Some(price), Some(size)) =
        (column("ts", &instant)?, column("price", &DataType::Float64)?, column("size", &DataType::Float64)?)
    else {
        return Ok(());
    };
    let (seq, sub) = (column("seq", &DataType::Int64)?, column("sub", &DataType::Int32)?);
    let (ns, flags) = (column("ns", &DataType::Int64)?, column("flags", &DataType::UInt32)?);
    let numbered = trades.len() as i64;
    for row in 0..batch.num_rows() {
        if ts.is_null(row) || price.is_null(row) || size.is_null(row) {
            continue;
        }
        let whole = ts.as_primitive::<TimestampNanosecondType>().value(row);
        trades.push(Trade {
            ts: whole + ns.as_ref().map_or(0, |c| c.as_primitive::<Int64Type>().value(row)),
            seq: seq.as_ref().map_or(numbered + row as i64, |c| c.as_primitive::<Int64Type>().value(row)),
            sub: sub.as_ref().map_or(0, |c| c.as_primitive::<Int32Type>().value(row)),
            price: money::price_from_f64(price.as_primitive::<Float64Type>().value(row))?,
            size: money::size_from_f64(size.as_primitive::<Float64Type>().value(row))?,
            flags: flags.as_ref().map_or(0, |c| c.as_primitive::<UInt32Type>().value(row)),
            cond: 0,
            ts_recv: NONE_I64,
            trade_id: NONE_I64,
        });
    }
    Ok(())
}
