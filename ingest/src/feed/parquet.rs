//! Parquet through Arrow, with the same column mapping as CSV. Columns stay columns until a row is refused.

use super::csv::{condition, decimal, side};
use super::{Batch, Broken, Feed, Names, Ordinal, Reject};
use crate::clock::Clock;
use crate::columns::{Places, Rules, scaled};
use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray, cast::as_primitive_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int32Type, Int64Type, Schema, TimeUnit};
use market::money::{self, ONE};
use market::trade::NONE_I64;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::reader::ChunkReader;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// A packed Parquet file has to be unpacked into memory, because it is read from its end.
const LARGEST_PACKED: u64 = 1 << 30;

/// Opens a Parquet file, or the bytes of a packed one.
///
/// # Errors
/// Bytes that are no Parquet, a column that is missing.
pub fn open<'r>(
    file: Option<&Path>,
    reader: Box<dyn Read + 'r>,
    rules: &Rules,
    names: &mut Names,
) -> Result<Box<dyn Feed + 'r>, Broken> {
    match file {
        Some(path) => {
            let file = File::open(path).map_err(|e| Broken::new(format!("cannot be opened: {e}")))?;
            feed(file, rules, names)
        }
        None => {
            let mut bytes = vec![];
            let read = reader.take(LARGEST_PACKED).read_to_end(&mut bytes).map_err(|e| Broken::read(0, &e))?;
            if read as u64 == LARGEST_PACKED {
                return Err(Broken::new(
                    "is more than 1 GiB of packed Parquet, which is read in memory; unpack it first",
                ));
            }
            feed(bytes::Bytes::from(bytes), rules, names)
        }
    }
}

fn feed<'r, R: ChunkReader + 'static>(
    source: R,
    rules: &Rules,
    names: &mut Names,
) -> Result<Box<dyn Feed + 'r>, Broken> {
    let broken = |e: parquet::errors::ParquetError| {
        Broken::new(format!(
            "is not a whole Parquet file ({e}); its directory is at its end, so nothing of a truncated one can be read"
        ))
    };
    let metadata = ArrowReaderMetadata::load(&source, ArrowReaderOptions::new()).map_err(broken)?;
    let columns: Vec<String> = metadata.schema().fields().iter().map(|f| f.name().clone()).collect();
    let places = rules.places(&columns)?;
    let only = match &rules.mapping.symbol {
        Some(symbol) => Some(names.id(symbol.as_bytes()).map_err(|e| Broken::new(format!("--symbol: {e}")))?),
        None => None,
    };
    // Symbols come as a dictionary and a code a row, so that each is looked up once a batch, not once a row.
    let mut fields: Vec<Arc<Field>> = metadata.schema().fields().iter().cloned().collect();
    if let Some(at) = places.symbol
        && matches!(fields[at].data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    {
        let codes = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        fields[at] = Arc::new(Field::new(fields[at].name(), codes, fields[at].is_nullable()));
    }
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    let metadata = ArrowReaderMetadata::load(&source, options).unwrap_or(metadata);
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata);
    let wanted = [
        Some(places.time),
        places.date,
        Some(places.price),
        Some(places.size),
        places.side,
        places.symbol,
        places.condition,
        places.seq,
        places.trade_id,
        places.recv,
    ];
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.into_iter().flatten());
    let reader = builder.with_projection(mask).with_batch_size(Batch::FULL).build().map_err(broken)?;
    let clock = rules.clock();
    Ok(Box::new(Parquet {
        reader,
        columns,
        rules: rules.clone(),
        places,
        recv_clock: clock.clone(),
        clock,
        only,
        ordinals: vec![],
        row: 0,
    }))
}

struct Parquet {
    reader: ParquetRecordBatchReader,
    columns: Vec<String>,
    rules: Rules,
    places: Places,
    clock: Clock,
    recv_clock: Clock,
    only: Option<u32>,
    ordinals: Vec<Ordinal>,
    row: u64,
}

/// Rows that are refused, each with its first reason.
type Bad = BTreeMap<usize, String>;

impl Feed for Parquet {
    fn fill(&mut self, batch: &mut Batch, names: &mut Names) -> Result<bool, Broken> {
        match self.reader.next() {
            None => Ok(false),
            Some(Ok(rows)) => {
                self.add(&rows, batch, names)?;
                self.row += rows.num_rows() as u64;
                Ok(true)
            }
            Some(Err(e)) => Err(Broken::at(self.row, format!("is corrupt after row {}: {e}", self.row))),
        }
    }
}

impl Parquet {
    fn column(&self, rows: &RecordBatch, place: usize) -> Result<ArrayRef, Broken> {
        rows.column_by_name(&self.columns[place])
            .cloned()
            .ok_or_else(|| Broken::new(format!("lost its column \"{}\"", self.columns[place])))
    }

    fn add(&mut self, rows: &RecordBatch, batch: &mut Batch, names: &mut Names) -> Result<(), Broken> {
        let n = rows.num_rows();
        let p = self.places;
        let mut bad = Bad::new();
        if p.date.is_some() {
            return Err(Broken::new("has its dates in a column of their own, which is read from CSV only"));
        }
        let ts = instants(&self.column(rows, p.time)?, &mut self.clock, self.rules.zone.is_some(), "time", &mut bad)?;
        let mut price = numbers(&self.column(rows, p.price)?, "price", &mut bad)?;
        if let Some(scale) = self.rules.scale {
            for (row, value) in price.iter_mut().enumerate() {
                match scaled(*value, scale) {
                    Ok(exact) => *value = exact,
                    Err(reason) => refuse(&mut bad, row, || reason),
                }
            }
        }
        let size = numbers(&self.column(rows, p.size)?, "size", &mut bad)?;
        for (row, value) in size.iter().enumerate() {
            if *value < 0 {
                refuse(&mut bad, row, || format!("size {} is negative", money::to_f64(*value)));
            }
        }
        let name = match (self.only, p.symbol) {
            (Some(name), _) => vec![name; n],
            (None, Some(at)) => symbols(&self.column(rows, at)?, names, &mut bad)?,
            (None, None) => return Err(Broken::new("has no symbols; say --symbol")),
        };
        let mut flags = match p.side {
            Some(at) => texts(&self.column(rows, at)?, "side", &mut bad, side)?,
            None => vec![0; n],
        };
        let table = self.rules.table;
        let cond = match p.condition {
            Some(at) => texts(&self.column(rows, at)?, "condition", &mut bad, |t| condition(t, table))?,
            None => vec![0; n],
        };
        if p.condition.is_some() {
            flags.iter_mut().zip(&cond).for_each(|(f, c)| *f |= table.flags(*c));
        }
        let trade_id = match p.trade_id {
            Some(at) => integers(&self.column(rows, at)?, "trade id", &mut bad)?,
            None => vec![NONE_I64; n],
        };
        let (seq, sub) = match p.seq {
            Some(at) => {
                let seq = integers(&self.column(rows, at)?, "sequence", &mut bad)?;
                let last = name.iter().max().map_or(0, |m| *m as usize + 1);
                if self.ordinals.len() < last {
                    self.ordinals.resize(last, Ordinal::default());
                }
                let sub = (0..n).map(|i| self.ordinals[name[i] as usize].of(ts[i], seq[i])).collect();
                (seq, sub)
            }
            None if p.trade_id.is_some() => (trade_id.clone(), vec![0; n]),
            None => ((0..n as i64).map(|i| self.row as i64 + i + 1).collect(), vec![0; n]),
        };
        let ts_recv = match p.recv {
            Some(at) => {
                let zone = self.rules.zone.is_some();
                instants(&self.column(rows, at)?, &mut self.recv_clock, zone, "time of receipt", &mut bad)?
            }
            None => vec![NONE_I64; n],
        };
        let all = market::trade::Trades { ts, seq, sub, price, size, flags, cond, ts_recv, trade_id };
        // Good stretches between the refused rows.
        let mut from = 0;
        for row in bad.keys().copied().chain([n]) {
            batch.names.extend_from_slice(&name[from..row]);
            batch.trades.append_range(&all, from..row);
            from = row + 1;
        }
        for (row, reason) in bad {
            let raw = show_row(rows, row);
            batch.rejects.push(Reject::new(self.row + row as u64 + 1, reason, raw.as_bytes()));
        }
        Ok(())
    }
}

fn refuse(bad: &mut Bad, row: usize, reason: impl FnOnce() -> String) {
    bad.entry(row).or_insert_with(reason);
}

fn show_row(rows: &RecordBatch, row: usize) -> String {
    let options = arrow::util::display::FormatOptions::default().with_null("");
    rows.columns()
        .iter()
        .map(|c| {
            arrow::util::display::ArrayFormatter::try_new(c, &options)
                .ok()
                .and_then(|f| f.value(row).try_to_string().ok())
                .unwrap_or_default()
        })
        .collect::<Vec<_>>()
        .join(",")
}

fn refuse_nulls(array: &dyn Array, what: &str, bad: &mut Bad) {
    if array.null_count() > 0 {
        for row in (0..array.len()).filter(|row| array.is_null(*row)) {
            refuse(bad, row, || format!("{what} is missing"));
        }
    }
}

fn type_error(what: &str, array: &dyn Array) -> Broken {
    Broken::new(format!("its column of the {what} has the type {}, which cannot be read as one", array.data_type()))
}

fn as_text(array: &ArrayRef, what: &str) -> Result<StringArray, Broken> {
    let text = cast(array, &DataType::Utf8).map_err(|_| type_error(what, array))?;
    Ok(text.as_string::<i32>().clone())
}

fn as_integers(array: &ArrayRef, what: &str) -> Result<PrimitiveArray<Int64Type>, Broken> {
    let whole = cast(array, &DataType::Int64).map_err(|_| type_error(what, array))?;
    Ok(as_primitive_array::<Int64Type>(&whole).clone())
}

fn instants(
    array: &ArrayRef,
    clock: &mut Clock,
    has_zone: bool,
    what: &str,
    bad: &mut Bad,
) -> Result<Vec<i64>, Broken> {
    refuse_nulls(array, what, bad);
    match array.data_type() {
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1000,
                TimeUnit::Nanosecond => 1,
            };
            if zone.is_none() && !has_zone {
                return Err(Broken::new(format!(
                    "its column of the {what} says no time zone: say --zone UTC or --zone America/New_York"
                )));
            }
            let raw = as_integers(array, what)?;
            let mut out = Vec::with_capacity(raw.len());
            for (row, value) in raw.values().iter().enumerate() {
                let instant =
                    value.checked_mul(unit).filter(|t| *t != NONE_I64).ok_or_else(|| "is out of range".to_string());
                let instant =
                    if zone.is_none() { instant.and_then(|civil| clock.civil_to_instant(civil)) } else { instant };
                out.push(instant.unwrap_or_else(|reason| {
                    refuse(bad, row, || format!("{what} {value} {reason}"));
                    0
                }));
            }
            Ok(out)
        }
        DataType::Int64 | DataType::UInt64 | DataType::Int32 | DataType::UInt32 => {
            let raw = as_integers(array, what)?;
            let mut unit = None;
            let mut out = Vec::with_capacity(raw.len());
            for (row, value) in raw.values().iter().enumerate() {
                if raw.is_null(row) {
                    out.push(0);
                    continue;
                }
                if unit.is_none() {
                    unit = clock.unit(*value);
                }
                let instant = match unit {
                    Some(unit) => value.checked_mul(unit).ok_or_else(|| "is out of range".to_string()),
                    None => clock.parse(value.to_string().as_bytes()),
                };
                out.push(instant.unwrap_or_else(|reason| {
                    refuse(bad, row, || format!("{what} {value} {reason}"));
                    0
                }));
            }
            Ok(out)
        }
        _ => {
            let text = as_text(array, what)?;
            let mut out = Vec::with_capacity(text.len());
            for row in 0..text.len() {
                let instant = if text.is_null(row) { Ok(0) } else { clock.parse(text.value(row).as_bytes()) };
                out.push(instant.unwrap_or_else(|reason| {
                    refuse(bad, row, || format!("{what} \"{}\" {reason}", text.value(row)));
                    0
                }));
            }
            Ok(out)
        }
    }
}

/// Prices or sizes in nanos.
fn numbers(array: &ArrayRef, what: &'static str, bad: &mut Bad) -> Result<Vec<i64>, Broken> {
    refuse_nulls(array, what, bad);
    let mut out = Vec::with_capacity(array.len());
    match array.data_type() {
        DataType::Float64 => {
            for (row, value) in as_primitive_array::<Float64Type>(array).values().iter().enumerate() {
                out.push(money::from_f64(what, *value).unwrap_or_else(|_| {
                    refuse(bad, row, || format!("{what} {value} is not a number between -9.2e9 and 9.2e9"));
                    0
                }));
            }
        }
        DataType::Int64
        | DataType::Int32
        | DataType::Int16
        | DataType::UInt64
        | DataType::UInt32
        | DataType::UInt16 => {
            for (row, value) in as_integers(array, what)?.values().iter().enumerate() {
                out.push(value.checked_mul(ONE).unwrap_or_else(|| {
                    refuse(bad, row, || format!("{what} {value} is out of range; is it a count of a --price-scale?"));
                    0
                }));
            }
        }
        DataType::Decimal128(_, scale) => {
            let (up, down) = match 9 - i32::from(*scale) {
                up if up >= 0 => (10i128.checked_pow(up as u32), 1),
                down => (Some(1), 10i128.checked_pow(down.unsigned_abs()).unwrap_or(i128::MAX)),
            };
            for (row, value) in as_primitive_array::<Decimal128Type>(array).values().iter().enumerate() {
                let exact = up.and_then(|up| value.checked_mul(up)).filter(|v| v % down == 0).map(|v| v / down);
                out.push(exact.and_then(|v| i64::try_from(v).ok()).unwrap_or_else(|| {
                    refuse(bad, row, || format!("{what} is out of range or has more than nine decimals"));
                    0
                }));
            }
        }
        // Text, and floats of 32 bits, whose shortest decimal is what was meant.
        _ => {
            let text = as_text(array, what)?;
            for row in 0..text.len() {
                let value = if text.is_null(row) { Ok(0) } else { decimal(text.value(row).as_bytes(), what) };
                out.push(value.unwrap_or_else(|reason| {
                    refuse(bad, row, || reason);
                    0
                }));
            }
        }
    }
    Ok(out)
}

fn integers(array: &ArrayRef, what: &str, bad: &mut Bad) -> Result<Vec<i64>, Broken> {
    refuse_nulls(array, what, bad);
    let whole = as_integers(array, what)?;
    // A cast turns what is no integer into a null.
    refuse_nulls(&whole, what, bad);
    Ok(whole.values().to_vec())
}

fn texts(
    array: &ArrayRef,
    what: &str,
    bad: &mut Bad,
    read: impl Fn(&[u8]) -> Result<u32, String>,
) -> Result<Vec<u32>, Broken> {
    let text = as_text(array, what)?;
    let mut last: Option<(String, u32)> = None;
    let mut out = Vec::with_capacity(text.len());
    for row in 0..text.len() {
        let value = if text.is_null(row) { "" } else { text.value(row) };
        let code = match &last {
            Some((seen, code)) if seen == value => *code,
            _ => {
                let code = read(value.as_bytes()).unwrap_or_else(|reason| {
                    refuse(bad, row, || reason);
                    0
                });
                // A refused value has to be refused again.
                last = (!bad.contains_key(&row)).then(|| (value.to_string(), code));
                code
            }
        };
        out.push(code);
    }
    Ok(out)
}

fn symbols(array: &ArrayRef, names: &mut Names, bad: &mut Bad) -> Result<Vec<u32>, Broken> {
    refuse_nulls(array, "symbol", bad);
    let codes: DictionaryArray<Int32Type> = match array.data_type() {
        DataType::Dictionary(key, _) if **key == DataType::Int32 => array.as_dictionary::<Int32Type>().clone(),
        _ => {
            let codes = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            let coded = cast(array, &codes).map_err(|_| type_error("symbol", array))?;
            coded.as_dictionary::<Int32Type>().clone()
        }
    };
    let values = as_text(codes.values(), "symbol")?;
    let ids: Vec<Result<u32, String>> = values.iter().map(|v| names.id(v.unwrap_or_default().as_bytes())).collect();
    let mut out = Vec::with_capacity(codes.len());
    for (row, key) in codes.keys().values().iter().enumerate() {
        let id = if codes.is_null(row) { None } else { ids.get(*key as usize) };
        out.push(match id {
            Some(Ok(id)) => *id,
            Some(Err(reason)) => {
                refuse(bad, row, || reason.clone());
                0
            }
            None => 0,
        });
    }
    Ok(out)
}
