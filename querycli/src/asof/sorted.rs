//! The join by sorting, for a right table that does not fit into memory: both tables are put one below the other, sorted by key
//! and instant, and the last right row is carried down: a sort and a window, which spill to disk as any other.

use super::Pairing;
use crate::fill::fill_previous;
use datafusion::common::{Column, ExprSchema, Result, ScalarValue};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions::core::named_struct;
use datafusion::logical_expr::expr::{ScalarFunction, WindowFunction};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, WindowFunctionDefinition, col, lit,
};
use std::sync::Arc;

/// All columns of both tables, the left's first.
pub fn plan(left: LogicalPlan, right: LogicalPlan, pairing: &Pairing) -> Result<LogicalPlan> {
    let (left_schema, right_schema) = (Arc::clone(left.schema()), Arc::clone(right.schema()));
    let (left_columns, right_columns) = (left_schema.columns(), right_schema.columns());
    let place = |at: usize| format!("__{at}");

    // The right row as one value: NULL in it are its own.
    let parts = right_columns.iter().enumerate();
    let parts = parts.flat_map(|(at, column)| [lit(place(at)), Expr::Column(column.clone())]);
    let row = Expr::ScalarFunction(ScalarFunction::new_udf(named_struct(), parts.collect()));
    let kind = row.get_type(&right_schema)?;

    let mut above: Vec<Expr> = Vec::new();
    let mut below: Vec<Expr> = Vec::new();
    let mut pair = |name: String, upper: Expr, lower: Expr| {
        above.push(upper.alias(&name));
        below.push(lower.alias(&name));
    };
    for (at, column) in left_columns.iter().enumerate() {
        let null = ScalarValue::try_from(left_schema.data_type(column)?)?;
        pair(format!("l{at}"), Expr::Literal(null, None), Expr::Column(column.clone()));
    }
    for (at, (left, right)) in pairing.keys.iter().enumerate() {
        pair(format!("k{at}"), right.clone(), left.clone());
    }
    let (left_at, right_at) = pairing.at.clone();
    pair("at".into(), right_at.clone(), left_at);
    for (at, tie) in pairing.ties.iter().enumerate() {
        pair(format!("t{at}"), tie.clone(), lit(ScalarValue::Int64(None)));
    }
    pair("row".into(), row, Expr::Literal(ScalarValue::try_from(&kind)?, None));
    pair("is_left".into(), lit(false), lit(true));

    let mut known = right_at.is_not_null();
    for (_, key) in &pairing.keys {
        known = known.and(key.clone().is_not_null());
    }
    let right = LogicalPlanBuilder::from(right).filter(known)?.project(above)?.build()?;
    let left = LogicalPlanBuilder::from(left).project(below)?.build()?;
    let stacked = LogicalPlanBuilder::from(right).union(left)?.build()?;

    // Backwards in time where the next right row is wanted. Rows without an instant come first and find nothing.
    let backward = matches!(pairing.op, Operator::GtEq | Operator::Gt);
    let same_counts = matches!(pairing.op, Operator::GtEq | Operator::LtEq);
    let mut order = vec![col("at").sort(backward, true), col("is_left").sort(same_counts, true)];
    order.extend((0..pairing.ties.len()).map(|at| col(format!("t{at}")).sort(backward, true)));
    let function = WindowFunctionDefinition::WindowUDF(Arc::new(fill_previous()));
    let carried = Expr::from(WindowFunction::new(function, vec![col("row")]))
        .partition_by((0..pairing.keys.len()).map(|at| col(format!("k{at}"))).collect())
        .order_by(order)
        .build()?;
    let name = carried.schema_name().to_string();
    let carried = LogicalPlanBuilder::window_plan(stacked, vec![carried])?;

    let renamed = |value: Expr, column: &Column| match &column.relation {
        Some(relation) => value.alias_qualified(Some(relation.clone()), &column.name),
        None => value.alias(&column.name),
    };
    let lefts = left_columns.iter().enumerate().map(|(at, column)| renamed(col(format!("l{at}")), column));
    let part = |at| get_field(Expr::Column(Column::from_name(&name)), place(at));
    let rights = right_columns.iter().enumerate().map(|(at, column)| renamed(part(at), column));
    let answer: Vec<Expr> = lefts.chain(rights).collect();
    LogicalPlanBuilder::from(carried).filter(col("is_left"))?.project(answer)?.build()
}
