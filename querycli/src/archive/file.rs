//! A session's trades as one Parquet file, and back to the bit.
//!
//! Columns are those of the view `market.trades`, so that any reader of Parquet shows what SQL shows; symbol and trade date
//! are in the path. Prices are floats, as there. Where a float does not hold a number exactly, which takes more than 15
//! digits, `price_nanos` or `size_nanos` (1e-9) stands beside it.

use crate::error::{Error, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use bytes::Bytes;
use market::block::PAGE;
use market::{NONE_I64, Nanos, Trades, money};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, RowGroupMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use std::ops::Range;
use std::sync::Arc;

/// Trades in a row group: what a reader can skip.
const GROUP: usize = 8 * PAGE;
const ZSTD: i32 = 3;

/// Which columns to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Columns {
    /// ts, price, size, flags: what bars are made of. The others stay empty.
    Core,
    /// All.
    All,
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn broken(what: impl std::fmt::Display) -> Error {
    Error::world(format!("an archived Parquet file cannot be read: {what}"), "run querycli archive verify")
}

/// The file's bytes. The same trades give the same bytes.
///
/// # Errors
/// A `sub` beyond SQL's smallint, which no stored trade has.
pub fn write(trades: &Trades, labels: &[(&str, String)]) -> Result<Vec<u8>> {
    let exact = |values: &[i64], read: fn(f64) -> market::Result<i64>| {
        values.iter().all(|&value| read(money::to_f64(value)).is_ok_and(|back| back == value))
    };
    let price_exact = exact(&trades.price, money::price_from_f64);
    let size_exact = exact(&trades.size, money::size_from_f64);
    let field = |name: &str, kind: DataType, nullable: bool| Field::new(name, kind, nullable);
    let mut fields = vec![
        field("ts", instant(), false),
        field("ns", DataType::Int16, false),
        field("seq", DataType::Int64, false),
        field("sub", DataType::Int16, false),
        field("price", DataType::Float64, false),
        field("size", DataType::Float64, false),
        field("flags", DataType::Int32, false),
        field("cond", DataType::Int32, false),
        field("ts_recv", instant(), true),
        field("recv_ns", DataType::Int16, false),
        field("trade_id", DataType::Int64, true),
    ];
    if !price_exact {
        fields.push(field("price_nanos", DataType::Int64, false));
    }
    if !size_exact {
        fields.push(field("size_nanos", DataType::Int64, false));
    }
    let schema = Arc::new(Schema::new(fields));
    let failed =
        |error: parquet::errors::ParquetError| Error::world(format!("a Parquet file cannot be made: {error}"), "");
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), Some(properties(labels)?)).map_err(failed)?;
    for start in (0..trades.len()).step_by(GROUP) {
        let rows = start..trades.len().min(start + GROUP);
        let mut columns = columns(trades, rows.clone())?;
        let nanos = |values: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(values[rows.clone()].to_vec())) };
        if !price_exact {
            columns.push(nanos(&trades.price));
        }
        if !size_exact {
            columns.push(nanos(&trades.size));
        }
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(broken)?;
        writer.write(&batch).map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    Ok(bytes)
}

fn columns(trades: &Trades, rows: Range<usize>) -> Result<Vec<ArrayRef>> {
    let whole = |values: &[i64]| -> ArrayRef {
        let micros = values[rows.clone()].iter().map(|&ts| (ts != NONE_I64).then(|| ts.div_euclid(1000)));
        Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
    };
    let rest = |values: &[i64]| -> ArrayRef {
        let nanos = values[rows.clone()].iter().map(|&ts| if ts == NONE_I64 { 0 } else { ts.rem_euclid(1000) as i16 });
        Arc::new(Int16Array::from_iter_values(nanos))
    };
    let float = |values: &[i64]| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(values[rows.clone()].iter().map(|&value| money::to_f64(value))))
    };
    let bits = |values: &[u32]| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(values[rows.clone()].iter().map(|&bits| bits as i32)))
    };
    let mut subs = Vec::with_capacity(rows.len());
    for &sub in &trades.sub[rows.clone()] {
        subs.push(i16::try_from(sub).map_err(|_| broken(format!("sub {sub} of a trade is out of range")))?);
    }
    let ids = trades.trade_id[rows.clone()].iter().map(|&id| (id != NONE_I64).then_some(id));
    Ok(vec![
        whole(&trades.ts),
        rest(&trades.ts),
        Arc::new(Int64Array::from(trades.seq[rows.clone()].to_vec())),
        Arc::new(Int16Array::from(subs)),
        float(&trades.price),
        float(&trades.size),
        bits(&trades.flags),
        bits(&trades.cond),
        whole(&trades.ts_recv),
        rest(&trades.ts_recv),
        Arc::new(Int64Array::from_iter(ids)),
    ])
}

fn properties(labels: &[(&str, String)]) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(ZSTD).map_err(broken)?;
    let sorted = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
    let labels = labels.iter().map(|(key, value)| KeyValue::new(format!("bellwether.{key}"), value.clone()));
    let mut builder = WriterProperties::builder()
        .set_created_by("bellwether".into())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(GROUP))
        .set_data_page_row_count_limit(PAGE)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some((0..4).map(sorted).collect()))
        .set_key_value_metadata(Some(labels.collect()));
    // Walks: their differences are small, their values all differ.
    for name in ["ts", "seq", "ts_recv", "trade_id"] {
        builder = builder
            .set_column_dictionary_enabled(ColumnPath::from(name), false)
            .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED);
    }
    Ok(builder.build())
}

/// Reads page after page of a file whose bytes were checked.
pub struct Reader {
    batches: ParquetRecordBatchReader,
}

impl Reader {
    /// The trades whose row groups may hold times in `instants` (both ends included).
    ///
    /// # Errors
    /// A file that is none of ours.
    pub fn open(bytes: Bytes, wanted: Columns, instants: (Nanos, Nanos)) -> Result<Reader> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(broken)?;
        let groups: Vec<usize> = (0..builder.metadata().num_row_groups())
            .filter(|&at| overlaps(builder.metadata().row_group(at), instants))
            .collect();
        let core = ["ts", "ns", "price", "size", "flags", "price_nanos", "size_nanos"];
        let mask = match wanted {
            Columns::All => ProjectionMask::all(),
            Columns::Core => ProjectionMask::columns(builder.parquet_schema(), core),
        };
        let batches = builder.with_row_groups(groups).with_projection(mask).with_batch_size(PAGE).build();
        Ok(Reader { batches: batches.map_err(broken)? })
    }

    /// The next page; `None` at the end.
    ///
    /// # Errors
    /// A column that is missing or of another type.
    pub fn next_page(&mut self) -> Result<Option<Trades>> {
        match self.batches.next() {
            None => Ok(None),
            Some(batch) => trades(&batch.map_err(broken)?).map(Some),
        }
    }
}

/// Columns of a file as they are, page after page.
pub struct Batches {
    batches: ParquetRecordBatchReader,
}

impl Batches {
    /// Those columns of a file whose bytes were checked that have one of the names, of the row groups that may hold times in
    /// `instants` (both ends included).
    ///
    /// # Errors
    /// A file that is none of ours.
    pub fn open(bytes: Bytes, names: &[String], instants: (Nanos, Nanos)) -> Result<Batches> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(broken)?;
        let groups = (0..builder.metadata().num_row_groups())
            .filter(|&at| overlaps(builder.metadata().row_group(at), instants))
            .collect();
        let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().map(String::as_str));
        let batches = builder.with_row_groups(groups).with_projection(mask).with_batch_size(PAGE).build();
        Ok(Batches { batches: batches.map_err(broken)? })
    }

    /// The next page; `None` at the end.
    ///
    /// # Errors
    /// A page that cannot be decoded.
    pub fn next_page(&mut self) -> Result<Option<RecordBatch>> {
        self.batches.next().transpose().map_err(broken)
    }
}

/// Whether the row group's times meet the range; without statistics they may.
fn overlaps(group: &RowGroupMetaData, (low, high): (Nanos, Nanos)) -> bool {
    let ts = group.columns().iter().find(|column| column.column_path().string() == "ts");
    match ts.and_then(|column| column.statistics()) {
        Some(Statistics::Int64(times)) => {
            let first = times.min_opt().map_or(i64::MIN, |micros| micros.saturating_mul(1000));
            let last = times.max_opt().map_or(i64::MAX, |micros| micros.saturating_mul(1000).saturating_add(999));
            first <= high && last >= low
        }
        _ => true,
    }
}

/// All trades of a file.
///
/// # Errors
/// Those of [`Reader`].
pub fn read(bytes: Bytes) -> Result<Trades> {
    let mut all = Trades::new();
    let mut reader = Reader::open(bytes, Columns::All, (i64::MIN, i64::MAX))?;
    while let Some(page) = reader.next_page()? {
        all.append(&page);
    }
    Ok(all)
}

fn trades(batch: &RecordBatch) -> Result<Trades> {
    let column = |name: &str, kind: DataType| -> Result<Option<&ArrayRef>> {
        match batch.column_by_name(name) {
            Some(column) if *column.data_type() != kind => {
                Err(broken(format!("its column {name} is of type {}", column.data_type())))
            }
            other => Ok(other),
        }
    };
    let needed = |name: &str, kind: DataType| -> Result<&ArrayRef> {
        column(name, kind)?.ok_or_else(|| broken(format!("it has no column {name}")))
    };
    let times = |micros: &ArrayRef, ns: &ArrayRef| -> Vec<i64> {
        let (micros, ns) = (micros.as_primitive::<TimestampMicrosecondType>(), ns.as_primitive::<Int16Type>());
        let joined = |micros: i64, ns: i16| micros.wrapping_mul(1000).wrapping_add(i64::from(ns));
        if micros.null_count() == 0 {
            return micros.values().iter().zip(ns.values()).map(|(&m, &n)| joined(m, n)).collect();
        }
        micros.iter().zip(ns.values()).map(|(m, &n)| m.map_or(NONE_I64, |m| joined(m, n))).collect()
    };
    let fixed = |name: &str, nanos: &str, read: fn(&[f64], &mut Vec<i64>) -> market::Result<()>| -> Result<Vec<i64>> {
        if let Some(exact) = column(nanos, DataType::Int64)? {
            return Ok(exact.as_primitive::<Int64Type>().values().to_vec());
        }
        let floats = needed(name, DataType::Float64)?.as_primitive::<Float64Type>();
        let mut values = Vec::new();
        read(floats.values(), &mut values)?;
        Ok(values)
    };
    let bits = |column: &ArrayRef| -> Vec<u32> {
        column.as_primitive::<Int32Type>().values().iter().map(|&bits| bits as u32).collect()
    };
    let mut out = Trades {
        ts: times(needed("ts", instant())?, needed("ns", DataType::Int16)?),
        price: fixed("price", "price_nanos", money::prices_from_f64)?,
        size: fixed("size", "size_nanos", money::sizes_from_f64)?,
        flags: bits(needed("flags", DataType::Int32)?),
        ..Trades::default()
    };
    if let Some(seq) = column("seq", DataType::Int64)? {
        out.seq = seq.as_primitive::<Int64Type>().values().to_vec();
        let sub = needed("sub", DataType::Int16)?.as_primitive::<Int16Type>();
        out.sub = sub.values().iter().map(|&sub| i32::from(sub)).collect();
        out.cond = bits(needed("cond", DataType::Int32)?);
        out.ts_recv = times(needed("ts_recv", instant())?, needed("recv_ns", DataType::Int16)?);
        let ids = needed("trade_id", DataType::Int64)?.as_primitive::<Int64Type>();
        out.trade_id = ids.iter().map(|id| id.unwrap_or(NONE_I64)).collect();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::Trade;

    /// Numbers at every edge that a column has.
    fn hostile(n: i64) -> Trades {
        let edge = |at: i64, edges: &[i64]| edges[(at as usize) % edges.len()];
        (0..n)
            .map(|i| Trade {
                ts: -1_000_000_007 + i / 3 * 999,
                seq: edge(i, &[i64::MIN, -1, 0, 1, i64::MAX]),
                sub: (i % 3) as i32,
                price: edge(i, &[-37_630_000_000, 0, 1, 123_456_789_123_456_789, i64::MAX, -i64::MAX]),
                size: edge(i, &[0, 1, 9_007_199_254_740_993, i64::MAX]),
                flags: edge(i, &[0, 1, i64::from(u32::MAX)]) as u32,
                cond: edge(i, &[0, 0x2000, i64::from(u32::MAX)]) as u32,
                ts_recv: edge(i, &[NONE_I64, NONE_I64 + 1, -1, 0, 1_764_000_000_123_456_789, i64::MAX]),
                trade_id: edge(i, &[NONE_I64, NONE_I64 + 1, -1, 0, i64::MAX]),
            })
            .collect()
    }

    #[test]
    fn trades_come_back_to_the_bit() -> Result<()> {
        for n in [1, 2, 1000, 140_000] {
            let trades = hostile(n);
            let bytes = write(&trades, &[("digest", "x".into())])?;
            assert_eq!(bytes, write(&trades, &[("digest", "x".into())])?, "the same bytes every time");
            let back = read(bytes.into())?;
            assert!(back == trades, "{n} trades");
            assert_eq!(market::digest(&back), market::digest(&trades));
        }
        Ok(())
    }

    #[test]
    fn ordinary_prices_need_no_second_column() -> Result<()> {
        let trades: Trades = (0..50)
            .map(|i| Trade {
                ts: i,
                price: 167_422_500_000 + i * 10_000_000,
                size: i * 1_000_000_000,
                ..Trade::default()
            })
            .collect();
        let bytes = Bytes::from(write(&trades, &[])?);
        let schema = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).map_err(broken)?.schema().clone();
        assert!(schema.column_with_name("price_nanos").is_none());
        assert_eq!(schema.fields().len(), 11);
        assert!(read(bytes)? == trades);
        Ok(())
    }

    #[test]
    fn row_groups_outside_the_range_are_not_read() -> Result<()> {
        let n = 3 * GROUP as i64;
        let trades: Trades = (0..n).map(|i| Trade { ts: i * 1000, ..Trade::default() }).collect();
        let bytes = Bytes::from(write(&trades, &[])?);
        let middle = GROUP as i64 * 1000 + 5000;
        let mut reader = Reader::open(bytes, Columns::Core, (middle, middle))?;
        let mut found = Vec::new();
        while let Some(page) = reader.next_page()? {
            assert!(page.seq.is_empty() && page.price.len() == page.ts.len());
            found.extend(page.ts);
        }
        assert_eq!((found.first(), found.len()), (Some(&(GROUP as i64 * 1000)), GROUP));
        Ok(())
    }
}
