//! Conditions on an `ASOF JOIN` that its tables can check before it.
//!
//! A condition on left columns picks left rows, so it may come first. One on a key that both tables have is the right table's
//! too, and so is a bound on the instant, on the side where right rows are looked for: nothing beyond it belongs to a left row.

use super::node::AsofNode;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The rule.
#[derive(Debug)]
pub struct FiltersBelowAsof;

impl OptimizerRule for FiltersBelowAsof {
    fn name(&self) -> &str {
        "filters_below_asof"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Extension(extension) = filter.input.as_ref() else { return Ok(Transformed::no(plan)) };
        let Some(node) = extension.node.as_any().downcast_ref::<AsofNode>() else { return Ok(Transformed::no(plan)) };
        let of_left = |expr: &Expr| {
            let columns = expr.column_refs();
            !expr.is_volatile()
                && !columns.is_empty()
                && columns.iter().all(|column| node.left.schema().has_column(column))
        };
        let (below, above): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(of_left);
        let mut right = Vec::new();
        for condition in &below {
            right.extend(of_right(condition, node)?);
        }
        let Some(left) = conjunction(below) else { return Ok(Transformed::no(plan)) };
        let mut tables = [node.left.clone(), node.right.clone()].map(LogicalPlanBuilder::from);
        tables = match tables {
            [one, other] => [
                one.filter(left)?,
                match conjunction(right) {
                    Some(condition) => other.filter(condition)?,
                    None => other,
                },
            ],
        };
        let [left, right] = tables;
        let mut joined = super::node::plan(left.build()?, right.build()?, node.pairing.clone())?;
        if let Some(condition) = conjunction(above) {
            joined = LogicalPlanBuilder::from(joined).filter(condition)?.build()?;
        }
        Ok(Transformed::yes(joined))
    }
}

/// What a condition on left columns says about right rows.
fn of_right(condition: &Expr, node: &AsofNode) -> Result<Option<Expr>> {
    let pairing = &node.pairing;
    let columns = pairing.keys.iter().filter_map(|pair| match pair {
        (Expr::Column(left), Expr::Column(right)) => Some((left, right)),
        _ => None,
    });
    let columns: Vec<(&Column, &Column)> = columns.collect();
    let other = |column: &Column| columns.iter().find(|(left, _)| *left == column).map(|(_, right)| (*right).clone());
    if condition.column_refs().into_iter().all(|column| other(column).is_some()) {
        let renamed = condition.clone().transform(|expr| {
            Ok(match &expr {
                Expr::Column(column) => match other(column) {
                    Some(right) => Transformed::yes(Expr::Column(right)),
                    None => Transformed::no(expr),
                },
                _ => Transformed::no(expr),
            })
        })?;
        return Ok(Some(renamed.data));
    }
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return Ok(None) };
    let instant = [&pairing.at.0, bare(&pairing.at.0, node)?];
    let (op, bound) = match (instant.contains(&left.as_ref()), instant.contains(&right.as_ref())) {
        (true, false) => (Some(*op), right),
        (false, true) => (op.swap(), left),
        _ => return Ok(None),
    };
    let backward = matches!(pairing.op, Operator::GtEq | Operator::Gt);
    let towards = match op {
        Some(Operator::Lt | Operator::LtEq) => backward,
        Some(Operator::Gt | Operator::GtEq) => !backward,
        _ => false,
    };
    if !towards || !matches!(bound.as_ref(), Expr::Literal(..)) {
        return Ok(None);
    }
    // At the bound itself a right row may still belong to a left row just inside of it, never beyond.
    let op = if backward { Operator::LtEq } else { Operator::GtEq };
    let kind = pairing.at.1.get_type(node.right.schema())?;
    let bound = bound.as_ref().clone().cast_to(&kind, node.left.schema())?;
    Ok(Some(Expr::BinaryExpr(BinaryExpr { left: Box::new(pairing.at.1.clone()), op, right: Box::new(bound) })))
}

/// An instant without the cast that only makes its unit the other table's: conditions are on what is below it.
fn bare<'a>(at: &'a Expr, node: &AsofNode) -> Result<&'a Expr> {
    let Expr::Cast(cast) = at else { return Ok(at) };
    let below = cast.expr.get_type(node.left.schema())?;
    Ok(match (below, cast.field.data_type()) {
        (DataType::Timestamp(..) | DataType::Date32, DataType::Timestamp(..)) => &cast.expr,
        _ => at,
    })
}
