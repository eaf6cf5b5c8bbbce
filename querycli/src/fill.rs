//! `fill_previous`: the last known value of a series, of any type.

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use std::sync::Arc;

/// The window function.
pub fn fill_previous() -> WindowUDF {
    WindowUDF::new_from_impl(FillPrevious { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FillPrevious {
    signature: Signature,
}

impl WindowUDFImpl for FillPrevious {
    fn name(&self) -> &'static str {
        "fill_previous"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [one] => Ok(vec![one.clone()]),
            _ => plan_err!("fill_previous takes one value, as in fill_previous(close) OVER (ORDER BY bar_at)"),
        }
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(LastKnown))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let kind = args.get_input_field(0).map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Arc::new(Field::new(args.name(), kind, true)))
    }
}

#[derive(Debug)]
struct LastKnown;

impl PartitionEvaluator for LastKnown {
    // All at once: DataFusion's last_value looks at every row before each row again.
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let mut known = None;
        let places = (0..rows).map(|row| {
            if values[0].is_valid(row) {
                known = Some(row as u64);
            }
            known
        });
        Ok(take(&values[0], &UInt64Array::from_iter(places), None)?)
    }
}
