//! Where DataFusion would answer otherwise than PostgreSQL, without a word: times in texts, time zones, and floats that become
//! whole numbers.
//!
//! Functions that both have under one name are replaced here, and a rule of the analyzer, which comes after types have been
//! made to agree, looks at what is cast.

mod date;
mod format;
mod instant;
mod zone;

pub use format::chrono as chrono_pattern;
pub use instant::{column as read_instants, read as read_instant};

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// Registers the functions and the rule.
pub fn register(context: &mut SessionContext) -> Result<()> {
    context.register_expr_planner(Arc::new(date::Dates))?;
    context.register_udf(zone::function().into())?;
    context.register_udf(format::function().into())?;
    context.add_analyzer_rule(Arc::new(AsPostgres {
        rounded: Arc::new(ScalarUDF::new_from_impl(Rounded::new())),
        instants: Arc::new(instant::function()),
    }));
    Ok(())
}

#[derive(Debug)]
struct AsPostgres {
    rounded: Arc<ScalarUDF>,
    instants: Arc<ScalarUDF>,
}

impl AnalyzerRule for AsPostgres {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let changed = expr.transform_up(|expr| Ok(self.cast(expr, &schema)))?;
                Ok(changed.update_data(|expr| name.restore(expr)))
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "as_postgres"
    }
}

impl AsPostgres {
    fn cast(&self, expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
        let Expr::Cast(Cast { expr: inner, field }) = &expr else { return Transformed::no(expr) };
        let changed = match (inner.as_ref(), field.data_type()) {
            (Expr::Literal(value, _), kind @ DataType::Timestamp(..)) => {
                let written = value.try_as_str().flatten().and_then(instant::read);
                written.and_then(|written| written.scalar(kind)).map(|value| Expr::Literal(value, None))
            }
            // as a constant, but row by row
            (inner, DataType::Timestamp(..)) if inner.get_type(schema).is_ok_and(|kind| kind.is_string()) => {
                let inner = self.instants.call(vec![inner.clone()]);
                Some(Expr::Cast(Cast { expr: Box::new(inner), field: Arc::clone(field) }))
            }
            // A fraction in SQL is a numeric, whose halves go away from zero.
            (Expr::Literal(ScalarValue::Float64(Some(value)), _), kind) if kind.is_signed_integer() => {
                let inner = Expr::Literal(ScalarValue::Float64(Some(value.round())), None);
                Some(Expr::Cast(Cast { expr: Box::new(inner), field: Arc::clone(field) }))
            }
            (inner, kind) if kind.is_signed_integer() => match inner.get_type(schema) {
                Ok(DataType::Float64 | DataType::Float32) if !is_rounded(inner) => {
                    let inner = self.rounded.call(vec![inner.clone()]);
                    Some(Expr::Cast(Cast { expr: Box::new(inner), field: Arc::clone(field) }))
                }
                _ => None,
            },
            _ => None,
        };
        changed.map_or_else(|| Transformed::no(expr), Transformed::yes)
    }
}

fn is_rounded(expr: &Expr) -> bool {
    let whole = ["floor", "ceil", "round", "trunc", NAME];
    matches!(expr, Expr::ScalarFunction(call) if whole.contains(&call.func.name()))
}

const NAME: &str = "rounded";

/// To the nearest whole number, halves to the even one: how PostgreSQL casts a float8 to an integer, which DataFusion cuts.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounded(Signature);

impl Rounded {
    fn new() -> Rounded {
        Rounded(Signature::any(1, Volatility::Immutable))
    }
}

impl ScalarUDFImpl for Rounded {
    fn name(&self) -> &'static str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        each(&args, |column| {
            let floats = cast(column, &DataType::Float64)?;
            let rounded = floats.as_primitive::<Float64Type>().unary(f64::round_ties_even);
            let rounded: Float64Array = rounded;
            Ok(Arc::new(rounded))
        })
    }
}

/// A function of its last argument's rows: one value for all if that is one.
fn each(args: &ScalarFunctionArgs, answer: impl Fn(&ArrayRef) -> Result<ArrayRef>) -> Result<ColumnarValue> {
    match args.args.last() {
        Some(ColumnarValue::Array(column)) => Ok(ColumnarValue::Array(answer(column)?)),
        Some(ColumnarValue::Scalar(value)) => {
            let answer = answer(&value.to_array()?)?;
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?))
        }
        None => Ok(ColumnarValue::Scalar(ScalarValue::Null)),
    }
}

/// Microseconds, as PostgreSQL counts them: of UTC where there is a zone, else of a clock on a wall.
fn micros(zone: bool) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zone.then(|| "UTC".into()))
}
