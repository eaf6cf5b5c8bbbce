//! Sharpe, Sortino and beta as aggregates: sums that merge, whatever the order of rows.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Measure {
    Sharpe,
    Sortino,
    Beta,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MeasureFunction {
    measure: Measure,
    signature: Signature,
}

/// All of them.
pub fn functions() -> Vec<AggregateUDF> {
    let made = [Measure::Sharpe, Measure::Sortino, Measure::Beta].into_iter().map(|measure| {
        let signature = Signature::user_defined(Volatility::Immutable);
        AggregateUDF::new_from_impl(MeasureFunction { measure, signature })
    });
    made.collect()
}

impl AggregateUDFImpl for MeasureFunction {
    fn name(&self) -> &str {
        match self.measure {
            Measure::Sharpe => "sharpe",
            Measure::Sortino => "sortino",
            Measure::Beta => "beta",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [a, b] if [a, b].iter().all(|kind| kind.is_numeric() || **kind == DataType::Null) => {
                Ok(vec![DataType::Float64; 2])
            }
            _ => plan_err!("{} takes two numbers", self.name()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name: &str| Arc::new(Field::new(format!("{}[{name}]", args.name), DataType::Float64, true));
        Ok(State::NAMES.iter().map(|name| field(name)).collect())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sums { measure: self.measure, state: State::default() }))
    }
}

/// Means and centred sums of two columns, and the squares of what is below zero in the first.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    n: f64,
    mean: f64,
    other: f64,
    squares: f64,
    products: f64,
    other_squares: f64,
    below: f64,
    periods: f64,
}

impl State {
    const NAMES: [&'static str; 8] = ["n", "mean", "other", "squares", "products", "other_squares", "below", "periods"];

    fn values(self) -> [f64; 8] {
        [self.n, self.mean, self.other, self.squares, self.products, self.other_squares, self.below, self.periods]
    }

    fn of(values: [f64; 8]) -> State {
        let [n, mean, other, squares, products, other_squares, below, periods] = values;
        State { n, mean, other, squares, products, other_squares, below, periods }
    }

    fn one(value: f64, second: f64) -> State {
        State { n: 1.0, mean: value, other: second, below: value.min(0.0).powi(2), periods: second, ..State::default() }
    }

    /// Chan, Golub and LeVeque's merge of centred sums (1979).
    fn merge(self, more: State) -> State {
        if self.n == 0.0 || more.n == 0.0 {
            return if self.n == 0.0 { more } else { self };
        }
        let n = self.n + more.n;
        let (off, other_off) = (more.mean - self.mean, more.other - self.other);
        let share = self.n * more.n / n;
        State {
            n,
            mean: self.mean + off * more.n / n,
            other: self.other + other_off * more.n / n,
            squares: self.squares + more.squares + off * off * share,
            products: self.products + more.products + off * other_off * share,
            other_squares: self.other_squares + more.other_squares + other_off * other_off * share,
            below: self.below + more.below,
            periods: self.periods.max(more.periods),
        }
    }
}

#[derive(Debug)]
struct Sums {
    measure: Measure,
    state: State,
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (first, second) = (cast(&values[0], &DataType::Float64)?, cast(&values[1], &DataType::Float64)?);
        let (first, second) = (first.as_primitive::<Float64Type>(), second.as_primitive::<Float64Type>());
        for row in (0..first.len()).filter(|row| first.is_valid(*row) && second.is_valid(*row)) {
            self.state = self.state.merge(State::one(first.value(row), second.value(row)));
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let columns: Vec<_> = states.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        for row in 0..columns.first().map_or(0, |column| column.len()) {
            let mut values = [0.0; 8];
            for (value, column) in values.iter_mut().zip(&columns) {
                *value = column.value(row);
            }
            self.state = self.state.merge(State::of(values));
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.state.values().into_iter().map(|value| ScalarValue::Float64(Some(value))).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = &self.state;
        let value = match self.measure {
            Measure::Sharpe => state.mean / (state.squares / (state.n - 1.0)).sqrt() * state.periods.sqrt(),
            Measure::Sortino => state.mean / (state.below / state.n).sqrt() * state.periods.sqrt(),
            Measure::Beta => state.products / state.other_squares,
        };
        // Nothing to divide by is no answer.
        Ok(ScalarValue::Float64(value.is_finite().then_some(value)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
