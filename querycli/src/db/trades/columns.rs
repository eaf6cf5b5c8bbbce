//! Pages of trades as the columns that a query asks for.

use super::Places;
use crate::db::Instrument;
use crate::error::{Error, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch,
    RecordBatchOptions, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{Int32Type, SchemaRef, TimestampMicrosecondType};
use market::block::{Core, PAGE};
use market::{NONE_I64, Nanos, Segment, TradeDate, Trades, money};
use std::sync::Arc;

/// A page as it was decoded.
pub enum Page<'a> {
    /// All columns.
    Trades(&'a Trades),
    /// What bars are made of, and perhaps the sequences.
    Core(&'a Core, &'a [i64]),
    /// Columns of a Parquet file, which are those of the view.
    Archived(&'a RecordBatch),
}

/// The trades of one instrument as rows of a schema.
pub struct Table {
    instrument: Instrument,
    schema: SchemaRef,
    places: Places,
    /// Whether the schema has the trade date, and the segment.
    placed: (bool, bool),
    symbol: Repeated,
    calendar: Repeated,
    segments: [Repeated; 5],
}

/// Rows up to an end that belong to the same trade date and segment.
type Stretch = (usize, TradeDate, Segment);

impl Table {
    /// Of an instrument.
    pub fn new(instrument: Instrument, schema: SchemaRef) -> Table {
        let has = |name| schema.column_with_name(name).is_some();
        Table {
            places: Places::new(instrument.calendar),
            placed: (has("trade_date"), has("segment")),
            symbol: Repeated::new(&instrument.symbol),
            calendar: Repeated::new(instrument.calendar.id()),
            segments: Segment::ALL.map(|segment| Repeated::new(segment.name())),
            instrument,
            schema,
        }
    }

    /// The page's rows.
    ///
    /// # Errors
    /// A column that was not decoded, which is a bug.
    pub fn batch(&mut self, page: &Page<'_>) -> Result<RecordBatch> {
        let rows = page.rows();
        let stretches = if self.placed.0 || self.placed.1 { self.stretches(page)? } else { Vec::new() };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for field in Arc::clone(&self.schema).fields() {
            columns.push(match field.name().as_str() {
                "symbol" => self.symbol.rows(rows),
                "calendar" => self.calendar.rows(rows),
                "instrument_id" => Arc::new(Int32Array::from_value(self.instrument.id, rows)),
                "trade_date" => days(&stretches, rows),
                "segment" => self.segments(&stretches, rows),
                name => page.column(name)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| Error::world(error.to_string(), ""))
    }

    fn stretches(&mut self, page: &Page<'_>) -> Result<Vec<Stretch>> {
        // The trade date is the same whatever the flags.
        let flagged = self.placed.1;
        Ok(match page {
            Page::Trades(trades) => self.places.stretches(&trades.ts, |i| if flagged { trades.flags[i] } else { 0 }),
            Page::Core(core, _) if core.flags.is_empty() || !flagged => self.places.stretches(&core.ts, |_| 0),
            Page::Core(core, _) => self.places.stretches(&core.ts, |i| core.flags[i]),
            Page::Archived(batch) => {
                let ts = page.column("ts")?;
                let micros = ts.as_primitive::<TimestampMicrosecondType>().values();
                // Sessions and their parts begin with whole microseconds.
                let ts: Vec<Nanos> = micros.iter().map(|ts| ts * 1000).collect();
                match batch.column_by_name("flags").filter(|_| flagged) {
                    Some(flags) => {
                        let flags = flags.as_primitive::<Int32Type>().values();
                        self.places.stretches(&ts, |i| flags[i] as u32)
                    }
                    None => self.places.stretches(&ts, |_| 0),
                }
            }
        })
    }

    fn segments(&mut self, stretches: &[Stretch], rows: usize) -> ArrayRef {
        if let [(_, _, segment), rest @ ..] = stretches
            && rest.iter().all(|(_, _, other)| other == segment)
        {
            return self.segments[*segment as usize].rows(rows);
        }
        names_of(stretches)
    }
}

/// The names of the segments, row by row.
pub fn names_of(stretches: &[Stretch]) -> ArrayRef {
    let rows = stretches.last().map_or(0, |(end, ..)| *end);
    let mut names = StringBuilder::with_capacity(rows, 4 * rows);
    let mut start = 0;
    for (end, _, segment) in stretches {
        (start..*end).for_each(|_| names.append_value(segment.name()));
        start = *end;
    }
    Arc::new(names.finish())
}

/// The trade dates, row by row.
pub fn days(stretches: &[Stretch], rows: usize) -> ArrayRef {
    let mut days = Vec::with_capacity(rows);
    for (end, day, _) in stretches {
        days.resize(*end, day.0);
    }
    Arc::new(Date32Array::from(days))
}

impl Page<'_> {
    fn rows(&self) -> usize {
        match self {
            Page::Trades(trades) => trades.len(),
            Page::Core(core, _) => core.len(),
            Page::Archived(batch) => batch.num_rows(),
        }
    }

    /// A column of what was decoded.
    ///
    /// # Errors
    /// One that was not decoded, which is a bug.
    pub fn column(&self, name: &str) -> Result<ArrayRef> {
        let column: Option<ArrayRef> = match self {
            Page::Archived(batch) => batch.column_by_name(name).cloned(),
            Page::Core(core, seq) => match name {
                "ts" => Some(micros(&core.ts)),
                "ns" => Some(nanos(&core.ts)),
                "price" => Some(Arc::new(Float64Array::from(floats(&core.price, core.price_unit)))),
                "size" => Some(Arc::new(Float64Array::from(floats(&core.size, core.size_unit)))),
                "seq" if seq.len() == core.len() => Some(Arc::new(Int64Array::from(seq.to_vec()))),
                _ => None,
            },
            Page::Trades(trades) => column_of(trades, name),
        };
        column.ok_or_else(|| {
            Error::world(format!("the column {name} was not decoded"), "this is a bug; please report it")
        })
    }
}

fn column_of(trades: &Trades, name: &str) -> Option<ArrayRef> {
    let bits =
        |bits: &[u32]| -> ArrayRef { Arc::new(Int32Array::from_iter_values(bits.iter().map(|bits| *bits as i32))) };
    Some(match name {
        "ts" => micros(&trades.ts),
        "ns" => nanos(&trades.ts),
        "price" => Arc::new(Float64Array::from(floats(&trades.price, 1))),
        "size" => Arc::new(Float64Array::from(floats(&trades.size, 1))),
        "seq" => Arc::new(Int64Array::from(trades.seq.clone())),
        "sub" => Arc::new(Int16Array::from_iter_values(trades.sub.iter().map(|sub| *sub as i16))),
        "flags" => bits(&trades.flags),
        "cond" => bits(&trades.cond),
        "ts_recv" => micros(&trades.ts_recv),
        "trade_id" if trades.trade_id.contains(&NONE_I64) => {
            Arc::new(Int64Array::from_iter(trades.trade_id.iter().map(|id| (*id != NONE_I64).then_some(*id))))
        }
        "trade_id" => Arc::new(Int64Array::from(trades.trade_id.clone())),
        _ => return None,
    })
}

/// Whole microseconds; NULL where there is no time.
fn micros(values: &[i64]) -> ArrayRef {
    let whole = |ts: &i64| ts.div_euclid(1000);
    // Without a NULL there is no bitmap to build.
    let array = match values.contains(&NONE_I64) {
        true => {
            TimestampMicrosecondArray::from_iter(values.iter().map(|ts| (*ts != NONE_I64).then_some(ts).map(whole)))
        }
        false => TimestampMicrosecondArray::from_iter_values(values.iter().map(whole)),
    };
    Arc::new(array.with_timezone("UTC"))
}

/// The nanoseconds behind them.
fn nanos(values: &[i64]) -> ArrayRef {
    Arc::new(Int16Array::from_iter_values(values.iter().map(|ts| ts.rem_euclid(1000) as i16)))
}

/// The same text on every row: one array, of which each page takes as much as it has rows.
pub struct Repeated {
    text: String,
    array: StringArray,
}

impl Repeated {
    /// Of no rows yet.
    pub fn new(text: &str) -> Repeated {
        Repeated { text: text.to_owned(), array: StringArray::new_null(0) }
    }

    /// So many rows.
    pub fn rows(&mut self, rows: usize) -> ArrayRef {
        if self.array.len() < rows {
            let texts = std::iter::repeat_n(self.text.as_str(), rows.max(PAGE));
            self.array = StringArray::from_iter_values(texts);
        }
        Arc::new(self.array.slice(0, rows))
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
