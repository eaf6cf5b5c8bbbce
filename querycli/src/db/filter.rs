//! Conditions of a query that PostgreSQL may check for us. DataFusion checks them again, so leaving one out is always right.

use super::{identifier, literal};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// `column op constant`.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The column's name.
    pub column: String,
    /// One of = < <= > >=, or IN as = over several values.
    pub op: Operator,
    /// One constant, or those of an IN list.
    pub values: Vec<ScalarValue>,
}

/// The conditions in a filter that have this shape; the parts of an AND are taken apart.
pub fn conditions(filters: &[Expr]) -> Vec<Condition> {
    let mut found = Vec::new();
    for filter in filters {
        collect(filter, &mut found);
    }
    found
}

/// The conditions of a filter that consists of nothing else; `None` if something in it has another shape.
pub fn whole(filter: &Expr) -> Option<Vec<Condition>> {
    if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) = filter {
        return Some(whole(left)?.into_iter().chain(whole(right)?).collect());
    }
    let mut found = Vec::new();
    collect(filter, &mut found);
    (!found.is_empty()).then_some(found)
}

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

fn constant(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value),
        _ => None,
    }
}

/// One column and the constants it may equal: `column = 1 OR column = 2`.
fn any_of(expr: &Expr) -> Option<(&str, Vec<ScalarValue>)> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((one, mut values), (other, more)) = (any_of(left)?, any_of(right)?);
            values.extend(more);
            (one == other).then_some((one, values))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            Some((column(left)?, vec![constant(right)?.clone()]))
        }
        _ => None,
    }
}

fn collect(expr: &Expr, found: &mut Vec<Condition>) {
    let mut add = |column: &str, op: Operator, values: Vec<ScalarValue>| {
        found.push(Condition { column: column.to_owned(), op, values });
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            collect(left, found);
            collect(right, found);
        }
        // DataFusion writes a short IN as equalities joined by OR
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
            if let Some((column, values)) = any_of(expr) {
                add(column, Operator::Eq, values);
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            use Operator::{Eq, Gt, GtEq, Lt, LtEq};
            if !matches!(op, Eq | Lt | LtEq | Gt | GtEq) {
                return;
            }
            if let (Some(column), Some(value)) = (column(left), constant(right)) {
                add(column, *op, vec![value.clone()]);
            } else if let (Some(value), Some(column)) = (constant(left), column(right))
                && let Some(swapped) = op.swap()
            {
                add(column, swapped, vec![value.clone()]);
            }
        }
        Expr::Between(between) if !between.negated => {
            if let (Some(column), Some(low), Some(high)) =
                (column(&between.expr), constant(&between.low), constant(&between.high))
            {
                add(column, Operator::GtEq, vec![low.clone()]);
                add(column, Operator::LtEq, vec![high.clone()]);
            }
        }
        Expr::InList(list) if !list.negated => {
            let values: Option<Vec<_>> = list.list.iter().map(|value| constant(value).cloned()).collect();
            if let (Some(column), Some(values)) = (column(&list.expr), values) {
                add(column, Operator::Eq, values);
            }
        }
        _ => {}
    }
}

/// The condition in SQL; `None` for types that the two engines may compare differently (texts by collation, floats by NaN).
pub fn sql(condition: &Condition) -> Option<String> {
    let one = |value: &ScalarValue| -> Option<String> {
        if let Some(text) = value.try_as_str().flatten() {
            return (condition.op == Operator::Eq && !text.contains('\0')).then(|| literal(text));
        }
        match value.data_type() {
            kind if kind.is_integer() => Some(value.to_string()),
            DataType::Date32 => match value {
                ScalarValue::Date32(Some(days)) => Some(super::date(market::TradeDate(*days))),
                _ => None,
            },
            // DataFusion has given the constant the column's own unit, so nothing is cut.
            DataType::Timestamp(..) => match value {
                ScalarValue::TimestampMicrosecond(Some(micros), _) => micros.checked_mul(1000).map(super::timestamptz),
                _ => None,
            },
            _ => None,
        }
    };
    let values: Vec<String> = condition.values.iter().map(one).collect::<Option<_>>()?;
    match values.as_slice() {
        [] => None,
        [value] => Some(format!("{} {} {value}", identifier(&condition.column), condition.op)),
        values => Some(format!("{} IN ({})", identifier(&condition.column), values.join(", "))),
    }
}
