//! `ohlc`, `rollup` and `vwap`: bars of any rows in any plan. The state is `market`'s `BarBuilder`, as in the extension, so
//! the answers are equal to the bit.

use crate::error::external;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Decimal128Array, Float64Array, Int64Array, StructArray,
    TimestampNanosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Fields, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType,
};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use market::{Bar, BarBuilder, Error, KeyedBar, money};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Ohlc,
    Rollup,
    Vwap,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BarAggregate {
    kind: Kind,
    signature: Signature,
}

/// All of them.
pub fn functions() -> Vec<AggregateUDF> {
    [Kind::Ohlc, Kind::Rollup, Kind::Vwap].map(of_kind).into()
}

/// `rollup`.
pub fn rollup() -> AggregateUDF {
    of_kind(Kind::Rollup)
}

fn of_kind(kind: Kind) -> AggregateUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    AggregateUDF::new_from_impl(BarAggregate { kind, signature })
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// The columns of `market.bar`; volume and notional are exact.
pub fn fields() -> Fields {
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    let price = |name: &str| field(name, DataType::Float64);
    let count = |name: &str| field(name, DataType::Int64);
    Fields::from(vec![
        price("open"),
        price("high"),
        price("low"),
        price("close"),
        field("volume", DataType::Decimal128(38, 9)),
        field("notional", DataType::Decimal128(38, 18)),
        count("trades"),
        count("priced"),
        field("first_ts", instant()),
        count("first_seq"),
        field("last_ts", instant()),
        count("last_seq"),
    ])
}

impl AggregateUDFImpl for BarAggregate {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Ohlc => "ohlc",
            Kind::Rollup => "rollup",
            Kind::Vwap => "vwap",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let number = DataType::Float64;
        match (self.kind, given) {
            (Kind::Ohlc, [_, _, DataType::Timestamp(..) | DataType::Date32 | DataType::Null, _]) => {
                Ok(vec![number.clone(), number, instant(), DataType::Int64])
            }
            (Kind::Ohlc, [_, _, other, _]) => plan_err!("ohlc: ts is of type {other}, not timestamptz"),
            (Kind::Ohlc, _) => plan_err!("ohlc takes price, size, ts and seq, not {} arguments", given.len()),
            (Kind::Vwap, [_, _]) => Ok(vec![number.clone(), number]),
            (Kind::Vwap, _) => plan_err!("vwap takes a price and a size, or a bar"),
            (Kind::Rollup, [DataType::Struct(_)]) => Ok(given.to_vec()),
            (Kind::Rollup, _) => plan_err!("rollup takes bars as ohlc makes them"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Vwap => DataType::Float64,
            _ => DataType::Struct(fields()),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[bar]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One(Groups::new(self.kind, vec![BarBuilder::new()]))))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self.kind, Vec::new())))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// A bar in the making per group.
struct Groups {
    kind: Kind,
    bars: Vec<BarBuilder>,
    fixed: Fixed,
}

/// Rows that are converted and pushed at a time: their columns stay in the nearest cache.
const STEP: usize = 1024;

/// Prices and sizes of some rows in fixed point; the buffers stay from batch to batch.
#[derive(Default)]
struct Fixed {
    price: Vec<i64>,
    size: Vec<i64>,
}

impl Groups {
    fn new(kind: Kind, bars: Vec<BarBuilder>) -> Groups {
        Groups { kind, bars, fixed: Fixed::default() }
    }

    fn push(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let counts = |row: usize| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        match self.kind {
            Kind::Rollup => {
                let bars = Bars::new(&values[0])?;
                for (row, group) in groups.iter().enumerate().filter(|(row, _)| counts(*row)) {
                    if let Some(bar) = bars.get(row)? {
                        self.bars[*group].push_bar(&bar);
                    }
                }
            }
            Kind::Vwap => {
                let (price, size) = (values[0].as_primitive::<Float64Type>(), values[1].as_primitive::<Float64Type>());
                if filter.is_none() && price.null_count() == 0 && size.null_count() == 0 {
                    return self.push_vwap(price.values(), size.values(), groups);
                }
                for (row, group) in groups.iter().enumerate() {
                    if counts(row) && price.is_valid(row) && size.is_valid(row) {
                        let (price, size) = (Some(price.value(row)), Some(size.value(row)));
                        self.bars[*group].push_f64(price, size, 0, 0).map_err(external)?;
                    }
                }
            }
            Kind::Ohlc => self.push_trades(values, groups, filter)?,
        }
        Ok(())
    }

    fn push_vwap(&mut self, price: &[f64], size: &[f64], groups: &[usize]) -> Result<()> {
        // The order of trades does not matter to a mean; counting them keeps the columns sorted.
        let order: Vec<i64> = (0..price.len() as i64).collect();
        self.push_complete(price, size, &order, &order, groups)
    }

    /// Rows that have all of their values.
    fn push_complete(&mut self, price: &[f64], size: &[f64], ts: &[i64], seq: &[i64], groups: &[usize]) -> Result<()> {
        for start in (0..groups.len()).step_by(STEP) {
            let rows = start..groups.len().min(start + STEP);
            let Fixed { price: exact_price, size: exact_size } = &mut self.fixed;
            money::prices_from_f64(&price[rows.clone()], exact_price).map_err(external)?;
            money::sizes_from_f64(&size[rows.clone()], exact_size).map_err(external)?;
            let (ts, seq) = (&ts[rows.clone()], &seq[rows.clone()]);
            BarBuilder::push_groups(&mut self.bars, &groups[rows], exact_price, exact_size, ts, seq)
                .map_err(external)?;
        }
        Ok(())
    }

    fn push_trades(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let (price, size) = (values[0].as_primitive::<Float64Type>(), values[1].as_primitive::<Float64Type>());
        let (ts, seq) = (values[2].as_primitive::<TimestampNanosecondType>(), values[3].as_primitive::<Int64Type>());
        if values.iter().all(|column| column.null_count() == 0) && filter.is_none() {
            return self.push_complete(price.values(), size.values(), ts.values(), seq.values(), groups);
        }
        for (row, group) in groups.iter().enumerate() {
            let (no_price, no_size) = (price.is_null(row), size.is_null(row));
            let counts = filter.is_none_or(|f| f.is_valid(row) && f.value(row));
            if !counts || ts.is_null(row) || (no_price && no_size) {
                continue;
            }
            let seq = if seq.is_null(row) { 0 } else { seq.value(row) };
            let price = (!no_price).then(|| price.value(row));
            let size = (!no_size).then(|| size.value(row));
            self.bars[*group].push_f64(price, size, ts.value(row), seq).map_err(external)?;
        }
        Ok(())
    }

    fn grow(&mut self, total: usize) {
        if self.bars.len() < total {
            self.bars.resize(total, BarBuilder::new());
        }
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        self.push(values, groups, filter)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let states = values[0].as_binary::<i32>();
        for (row, group) in groups.iter().enumerate() {
            if states.is_valid(row) {
                self.bars[*group].merge(&BarBuilder::decode(states.value(row)).map_err(external)?);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let bars: Vec<Option<KeyedBar>> = emit.take_needed(&mut self.bars).iter().map(BarBuilder::finish).collect();
        match self.kind {
            Kind::Vwap => Ok(Arc::new(Float64Array::from_iter(bars.iter().map(|bar| bar.and_then(|b| b.bar.vwap()))))),
            _ => write(&bars),
        }
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let states = emit.take_needed(&mut self.bars);
        let mut encoded = BinaryBuilder::with_capacity(states.len(), states.len() * BarBuilder::ENCODED_LEN);
        states.iter().for_each(|state| encoded.append_value(state.encode()));
        Ok(vec![Arc::new(encoded.finish())])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each = Groups::new(self.kind, vec![BarBuilder::new(); rows]);
        each.push(values, &(0..rows).collect::<Vec<_>>(), filter)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.bars.capacity() * size_of::<BarBuilder>() + 2 * self.fixed.price.capacity() * size_of::<i64>()
    }
}

/// An aggregate without groups.
struct One(Groups);

impl std::fmt::Debug for One {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "One({:?})", self.0.kind)
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let groups = vec![0; values[0].len()];
        self.0.push(values, &groups, None)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let groups = vec![0; states[0].len()];
        GroupsAccumulator::merge_batch(&mut self.0, states, &groups, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut copy = Groups::new(self.0.kind, self.0.bars.clone());
        ScalarValue::try_from_array(&GroupsAccumulator::evaluate(&mut copy, EmitTo::All)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.0.bars[0].encode().into()))])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + size_of::<BarBuilder>()
    }
}

/// Bars as an array of `market.bar`; NULL where there was no trade.
///
/// # Errors
/// A sum that is too large for the column.
pub fn write(bars: &[Option<KeyedBar>]) -> Result<ArrayRef> {
    let priced = |bar: &Option<KeyedBar>| bar.filter(|b| b.bar.priced > 0);
    let price = |of: fn(&Bar) -> i64| -> ArrayRef {
        Arc::new(Float64Array::from_iter(bars.iter().map(|bar| priced(bar).map(|b| money::to_f64(of(&b.bar))))))
    };
    let count = |of: fn(&Bar) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter(bars.iter().map(|bar| bar.map(|b| of(&b.bar)))))
    };
    let seq = |of: fn(&KeyedBar) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter(bars.iter().map(|bar| priced(bar).map(|b| of(&b)))))
    };
    let ts = |of: fn(&KeyedBar) -> i64| -> ArrayRef {
        let values = bars.iter().map(|bar| priced(bar).map(|b| of(&b)));
        Arc::new(TimestampNanosecondArray::from_iter(values).with_timezone("UTC"))
    };
    let sum = |what: &'static str, scale: i8, of: fn(&Bar) -> i128| -> Result<ArrayRef> {
        let values = bars.iter().map(|bar| bar.map(|b| of(&b.bar)));
        let array = Decimal128Array::from_iter(values).with_precision_and_scale(38, scale)?;
        let fits = array.validate_decimal_precision(38);
        fits.map_err(|_| external(Error::Overflow { what, input: "sum".into() }))?;
        Ok(Arc::new(array))
    };
    let columns = vec![
        price(|b| b.open),
        price(|b| b.high),
        price(|b| b.low),
        price(|b| b.close),
        sum("volume", 9, |b| b.volume)?,
        sum("notional", 18, |b| b.notional)?,
        count(|b| b.trades),
        count(|b| b.priced),
        ts(|k| k.first.0),
        seq(|k| k.first.1),
        ts(|k| k.last.0),
        seq(|k| k.last.1),
    ];
    let present = NullBuffer::from_iter(bars.iter().map(Option::is_some));
    Ok(Arc::new(StructArray::try_new(fields(), columns, Some(present))?))
}

/// An array of bars, to read.
pub struct Bars {
    rows: StructArray,
    columns: Vec<ArrayRef>,
}

impl Bars {
    /// Takes any struct that has the columns of a bar.
    ///
    /// # Errors
    /// A column that is missing or cannot be read as what it should be.
    pub fn new(array: &ArrayRef) -> Result<Bars> {
        let rows = array.as_struct().clone();
        let mut columns = Vec::new();
        for field in fields().iter() {
            let Some(column) = rows.column_by_name(field.name()) else {
                return plan_err!("a bar has no column \"{}\"; bars are what ohlc makes", field.name());
            };
            columns.push(cast(column, field.data_type())?);
        }
        Ok(Bars { rows, columns })
    }

    /// The bar of a row; `None` for NULL.
    ///
    /// # Errors
    /// A price that is none.
    pub fn get(&self, row: usize) -> Result<Option<KeyedBar>> {
        if self.rows.is_null(row) {
            return Ok(None);
        }
        let price = |at: usize| -> Result<i64> {
            let column = self.columns[at].as_primitive::<Float64Type>();
            if column.is_null(row) { Ok(0) } else { money::price_from_f64(column.value(row)).map_err(external) }
        };
        let long = |at: usize| self.columns[at].as_primitive::<Int64Type>().value(row);
        let ts = |at: usize| self.columns[at].as_primitive::<TimestampNanosecondType>().value(row);
        let sum = |at: usize| self.columns[at].as_primitive::<Decimal128Type>().value(row);
        let bar = Bar {
            open: price(0)?,
            high: price(1)?,
            low: price(2)?,
            close: price(3)?,
            volume: sum(4),
            notional: sum(5),
            trades: long(6),
            priced: long(7),
            weak_close: false,
        };
        Ok(Some(KeyedBar { bar, first: (ts(8), long(9)), last: (ts(10), long(11)) }))
    }
}
