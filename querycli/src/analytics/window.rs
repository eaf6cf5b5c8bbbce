//! The series functions as window functions of SQL.

use super::{doc, indicator, regime, volatility};
use crate::error::{Error, external};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Series {
    Returns,
    LogReturns,
    Drawdown,
    Sma,
    Ema,
    Rsi,
    Atr,
    Macd,
    Bollinger,
    VwapBands,
    Close,
    Parkinson,
    GarmanKlass,
    YangZhang,
    Zscore,
    Anomaly,
    Adx,
    Regime,
}

use Series as S;

const BANDS: &[&str] = &["lower", "middle", "upper"];
const MACD: &[&str] = &["macd", "signal", "histogram"];
const ADX: &[&str] = &["adx", "plus", "minus"];

impl Series {
    const ALL: [Series; 18] = [
        S::Returns,
        S::LogReturns,
        S::Drawdown,
        S::Sma,
        S::Ema,
        S::Rsi,
        S::Atr,
        S::Macd,
        S::Bollinger,
        S::VwapBands,
        S::Close,
        S::Parkinson,
        S::GarmanKlass,
        S::YangZhang,
        S::Zscore,
        S::Anomaly,
        S::Adx,
        S::Regime,
    ];

    fn name(self) -> &'static str {
        match self {
            S::Returns => "returns",
            S::LogReturns => "log_returns",
            S::Drawdown => "drawdown",
            S::Sma => "sma",
            S::Ema => "ema",
            S::Rsi => "rsi",
            S::Atr => "atr",
            S::Macd => "macd",
            S::Bollinger => "bollinger",
            S::VwapBands => "vwap_bands",
            S::Close => "close_volatility",
            S::Parkinson => "parkinson_volatility",
            S::GarmanKlass => "garman_klass_volatility",
            S::YangZhang => "yang_zhang_volatility",
            S::Zscore => "zscore",
            S::Anomaly => "anomaly",
            S::Adx => "adx",
            S::Regime => "regime",
        }
    }

    /// How many arguments are series, and how many are numbers that hold for the whole window.
    fn arity(self) -> (usize, usize) {
        match self {
            S::Returns | S::LogReturns | S::Drawdown => (1, 0),
            S::Sma | S::Ema | S::Rsi | S::Close | S::Zscore | S::Anomaly => (1, 1),
            S::Bollinger => (1, 2),
            S::Macd => (1, 3),
            S::Parkinson => (2, 1),
            S::VwapBands => (2, 1),
            S::Atr | S::Adx | S::Regime => (3, 1),
            S::GarmanKlass | S::YangZhang => (4, 1),
        }
    }

    /// The names of the answer's parts; none if it is one number.
    fn parts(self) -> &'static [&'static str] {
        match self {
            S::Macd => MACD,
            S::Adx => ADX,
            S::Bollinger | S::VwapBands => BANDS,
            _ => &[],
        }
    }

    fn answer(self) -> DataType {
        match (self, self.parts()) {
            (S::Anomaly, _) => DataType::Boolean,
            (S::Regime, _) => DataType::Utf8,
            (_, []) => DataType::Float64,
            (_, parts) => DataType::Struct(fields(parts)),
        }
    }

    /// The answer of what was computed, a part a column.
    fn column(self, parts: Vec<Float64Array>) -> Result<ArrayRef> {
        let one = |mut parts: Vec<Float64Array>| parts.remove(0);
        Ok(match self.parts() {
            [] => match self {
                S::Anomaly => {
                    Arc::new(BooleanArray::from_iter(one(parts).iter().map(|flag| flag.map(|flag| flag != 0.0))))
                }
                S::Regime => {
                    let name = |number: f64| regime::REGIMES.get(number as usize).copied();
                    Arc::new(StringArray::from_iter(one(parts).iter().map(|number| number.and_then(name))))
                }
                _ => Arc::new(one(parts)),
            },
            names => {
                let columns = parts.into_iter().map(|part| Arc::new(part) as ArrayRef).collect();
                Arc::new(StructArray::try_new(fields(names), columns, None)?)
            }
        })
    }

    fn compute(self, of: &[Vec<f64>], n: &[f64]) -> Result<Vec<Vec<f64>>> {
        let count = |at: usize| -> Result<usize> {
            let value = n.get(at).copied().unwrap_or(f64::NAN);
            match (1.0..=1e6).contains(&value) && value.fract() == 0.0 {
                true => Ok(value as usize),
                false => Err(external(Error::question(
                    format!("{}: {value} is no number of rows", self.name()),
                    "name a whole number from 1 on",
                ))),
            }
        };
        let width = || n.last().copied().unwrap_or(f64::NAN);
        Ok(match self {
            S::Returns => vec![indicator::returns(&of[0])],
            S::LogReturns => vec![indicator::log_returns(&of[0])],
            S::Drawdown => vec![indicator::drawdown(&of[0])],
            S::Sma => vec![indicator::sma(&of[0], count(0)?)],
            S::Ema => vec![indicator::ema(&of[0], count(0)?)],
            S::Rsi => vec![indicator::rsi(&of[0], count(0)?)],
            S::Atr => vec![indicator::atr(&of[0], &of[1], &of[2], count(0)?)],
            S::Macd => indicator::macd(&of[0], count(0)?, count(1)?, count(2)?).to_vec(),
            S::Bollinger => indicator::bollinger(&of[0], count(0)?, width()).to_vec(),
            S::VwapBands => indicator::vwap_bands(&of[0], &of[1], width()).to_vec(),
            S::Close => vec![volatility::close(&of[0], count(0)?)],
            S::Parkinson => vec![volatility::parkinson(&of[0], &of[1], count(0)?)],
            S::GarmanKlass => vec![volatility::garman_klass(&of[0], &of[1], &of[2], &of[3], count(0)?)],
            S::YangZhang => vec![volatility::yang_zhang(&of[0], &of[1], &of[2], &of[3], count(0)?)],
            S::Zscore => vec![regime::zscore(&of[0], count(0)?)],
            S::Anomaly => vec![regime::anomaly(&of[0], count(0)?)],
            S::Adx => regime::adx(&of[0], &of[1], &of[2], count(0)?).to_vec(),
            S::Regime => vec![regime::regime(&of[0], &of[1], &of[2], count(0)?)],
        })
    }
}

fn fields(parts: &[&str]) -> Fields {
    parts.iter().map(|part| Field::new(*part, DataType::Float64, true)).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SeriesFunction {
    series: Series,
    signature: Signature,
}

/// All of them.
pub fn functions() -> Vec<WindowUDF> {
    let made = Series::ALL.into_iter().map(|series| {
        let signature = Signature::user_defined(Volatility::Immutable);
        WindowUDF::new_from_impl(SeriesFunction { series, signature })
    });
    made.collect()
}

impl WindowUDFImpl for SeriesFunction {
    fn name(&self) -> &str {
        self.series.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let (series, numbers) = self.series.arity();
        if given.len() != series + numbers {
            let signature = doc(self.name()).map_or_else(String::new, |doc| doc.signature());
            return plan_err!("it takes {} arguments, not {}: {signature}", series + numbers, given.len());
        }
        if let Some(wrong) = given.iter().find(|kind| !kind.is_numeric() && **kind != DataType::Null) {
            return plan_err!("{} takes numbers, not {wrong}", self.name());
        }
        Ok(vec![DataType::Float64; given.len()])
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Evaluator(self.series)))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), self.series.answer(), true)))
    }
}

#[derive(Debug)]
struct Evaluator(Series);

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let (series, _) = self.0.arity();
        let columns = values.iter().map(|column| cast(column, &DataType::Float64)).collect::<Result<Vec<_>, _>>()?;
        let columns: Vec<&Float64Array> = columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        let known: Vec<usize> =
            (0..rows).filter(|row| columns[..series].iter().all(|column| column.is_valid(*row))).collect();
        let of: Vec<Vec<f64>> =
            columns[..series].iter().map(|column| known.iter().map(|row| column.value(*row)).collect()).collect();
        // Numbers are the same in every row; the first one stands for all.
        let numbers: Vec<f64> = columns[series..]
            .iter()
            .map(|column| if rows > 0 && column.is_valid(0) { column.value(0) } else { f64::NAN })
            .collect();
        let parts = self.0.compute(&of, &numbers)?;
        let spread = parts.iter().map(|part| {
            let mut column = vec![None; rows];
            for (row, value) in known.iter().zip(part) {
                column[*row] = (!value.is_nan()).then_some(*value);
            }
            Float64Array::from(column)
        });
        self.0.column(spread.collect())
    }
}
