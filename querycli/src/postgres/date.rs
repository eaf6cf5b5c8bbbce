//! A date and an interval make a timestamp: DataFusion makes a date of them, and forgets the hours.

use super::micros;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Plans `date + interval` and `date - interval`.
#[derive(Debug)]
pub struct Dates;

impl ExprPlanner for Dates {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let is = |expr: &Expr, wanted: fn(&DataType) -> bool| expr.get_type(schema).is_ok_and(|kind| wanted(&kind));
        let date = |expr: &Expr| is(expr, |kind| *kind == DataType::Date32);
        let interval = |expr: &Expr| is(expr, |kind| matches!(kind, DataType::Interval(_)));
        let RawBinaryExpr { op, mut left, mut right } = expr;
        match op {
            BinaryOperator::Plus | BinaryOperator::Minus if date(&left) && interval(&right) => {
                left = cast(left, micros(false))
            }
            BinaryOperator::Plus if interval(&left) && date(&right) => right = cast(right, micros(false)),
            _ => {}
        }
        // what follows plans it, now of a timestamp
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}
