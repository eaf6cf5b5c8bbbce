//! `ASOF JOIN`: to each row of the left table the last row of the right one that is not later.
//!
//! ```sql
//! SELECT t.ts, t.price, q.bid
//! FROM trades AS t ASOF JOIN quotes AS q MATCH_CONDITION (t.ts >= q.ts) ON t.symbol = q.symbol
//! ```
//!
//! Every left row stays, with NULLs where nothing matches. `>` leaves out what is at the same instant, `<=` and `<` look ahead.
//! Of several right rows of one instant the last in the order of trades (`ns, seq, sub`, where there are such columns) is taken.
//!
//! DataFusion parses the join and has no operator for it. So both tables are put one below the other, sorted by key and instant,
//! and the last right row is carried down: a sort and a window, which spill to disk as any other.

use crate::error::{Error, external};
use crate::fill::fill_previous;
use datafusion::common::{Column, DFSchema, ExprSchema, Result, ScalarValue};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions::core::named_struct;
use datafusion::logical_expr::expr::{ScalarFunction, WindowFunction};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprFunctionExt, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator,
    WindowFunctionDefinition, cast, col, lit,
};
use datafusion::sql::sqlparser::ast::{Ident, Join, JoinConstraint, JoinOperator, Select, TableFactor, TableWithJoins};
use std::sync::Arc;

/// Puts each `ASOF JOIN` of a statement in parentheses with all that stands left of it, where [`AsofPlanner`] finds it.
pub fn wrap(select: &mut Select) {
    select.from.iter_mut().for_each(wrap_joins);
}

fn wrap_joins(tables: &mut TableWithJoins) {
    let inner = |factor: &mut TableFactor| {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            wrap_joins(table_with_joins);
        }
    };
    inner(&mut tables.relation);
    for mut join in std::mem::take(&mut tables.joins) {
        inner(&mut join.relation);
        let asof = matches!(join.join_operator, JoinOperator::AsOf { .. });
        tables.joins.push(join);
        if asof {
            // Any relation will do: it is replaced at once.
            let nothing = TableFactor::NestedJoin { table_with_joins: Box::new(empty()), alias: None };
            let relation = std::mem::replace(&mut tables.relation, nothing);
            let whole = TableWithJoins { relation, joins: std::mem::take(&mut tables.joins) };
            tables.relation = TableFactor::NestedJoin { table_with_joins: Box::new(whole), alias: None };
        }
    }
}

fn empty() -> TableWithJoins {
    let function = TableFactor::TableFunction {
        expr: datafusion::sql::sqlparser::ast::Expr::Identifier(Ident::new("nothing")),
        alias: None,
    };
    TableWithJoins { relation: function, joins: Vec::new() }
}

/// Plans what [`wrap`] has wrapped.
#[derive(Debug)]
pub struct AsofPlanner;

impl RelationPlanner for AsofPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (mut tables, alias) = match relation {
            TableFactor::NestedJoin { table_with_joins, alias } => (table_with_joins, alias),
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let asof = tables.joins.pop_if(|join| matches!(join.join_operator, JoinOperator::AsOf { .. }));
        let Some(Join { relation, join_operator: JoinOperator::AsOf { match_condition, constraint }, .. }) = asof
        else {
            return Ok(RelationPlanning::Original(Box::new(TableFactor::NestedJoin {
                table_with_joins: tables,
                alias,
            })));
        };
        let left = match tables.joins.is_empty() {
            true => tables.relation,
            false => TableFactor::NestedJoin { table_with_joins: tables, alias: None },
        };
        let (left, right) = (context.plan(left)?, context.plan(relation)?);
        let both = left.schema().join(right.schema())?;
        let mut asof = Asof { keys: Vec::new(), merged: Vec::new(), at: None };
        let sides = (left.schema().as_ref(), right.schema().as_ref());
        asof.condition(context.sql_to_expr(match_condition, &both)?, sides)?;
        match constraint {
            JoinConstraint::None => {}
            JoinConstraint::On(on) => asof.on(context.sql_to_expr(on, &both)?, sides)?,
            JoinConstraint::Using(names) => {
                for name in names {
                    let Some(Some(name)) = name.0.first().map(|part| part.as_ident().cloned()) else {
                        return Err(wrong("USING names no column"));
                    };
                    asof.using(context.normalize_ident(name), sides)?;
                }
            }
            JoinConstraint::Natural => return Err(wrong("ASOF JOIN is never NATURAL")),
        }
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(asof.plan(left, right)?, alias))))
    }
}

fn wrong(message: &str) -> datafusion::common::DataFusionError {
    external(Error::question(
        message,
        "as in FROM trades AS t ASOF JOIN quotes AS q MATCH_CONDITION (t.ts >= q.ts) ON t.symbol = q.symbol",
    ))
}

type Sides<'a> = (&'a DFSchema, &'a DFSchema);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// The side that all columns of an expression are of.
fn side(expr: &Expr, (left, right): Sides<'_>) -> Option<Side> {
    let columns = expr.column_refs();
    let all = |schema: &DFSchema| !columns.is_empty() && columns.iter().all(|column| schema.has_column(column));
    match (all(left), all(right)) {
        (true, false) => Some(Side::Left),
        (false, true) => Some(Side::Right),
        _ => None,
    }
}

/// What is left of an operator and what is right of it, the left table's first; whether they changed places.
fn apart(binary: BinaryExpr, sides: Sides<'_>) -> Option<(Expr, Operator, Expr)> {
    let (first, second) = (*binary.left, *binary.right);
    match (side(&first, sides)?, side(&second, sides)?) {
        (Side::Left, Side::Right) => Some((first, binary.op, second)),
        (Side::Right, Side::Left) => Some((second, binary.op.swap()?, first)),
        _ => None,
    }
}

struct Asof {
    /// Left and right expressions that must be equal.
    keys: Vec<(Expr, Expr)>,
    /// Columns of the right table that `USING` made one with the left's.
    merged: Vec<Column>,
    /// Left instant, operator, right instant.
    at: Option<(Expr, Operator, Expr)>,
}

impl Asof {
    fn condition(&mut self, condition: Expr, sides: Sides<'_>) -> Result<()> {
        let wanted = [Operator::GtEq, Operator::Gt, Operator::LtEq, Operator::Lt];
        let found = match condition {
            Expr::BinaryExpr(binary) => apart(binary, sides),
            _ => None,
        };
        match found.filter(|(_, op, _)| wanted.contains(op)) {
            Some(found) => self.at = Some(found),
            None => {
                return Err(wrong(
                    "MATCH_CONDITION compares the instant of one table with that of the other by >=, >, <= or <",
                ));
            }
        }
        Ok(())
    }

    fn on(&mut self, on: Expr, sides: Sides<'_>) -> Result<()> {
        for condition in split_conjunction_owned(on) {
            let found = match condition {
                Expr::BinaryExpr(binary) if binary.op == Operator::Eq => apart(binary, sides),
                _ => None,
            };
            let Some((left, _, right)) = found else {
                return Err(wrong(
                    "ON of an ASOF JOIN says which columns of the two tables are equal, and nothing else",
                ));
            };
            self.keys.push((left, right));
        }
        Ok(())
    }

    fn using(&mut self, name: String, (left, right): Sides<'_>) -> Result<()> {
        let find = |schema: &DFSchema| -> Result<Column> {
            let found = schema.columns_with_unqualified_name(&name);
            match found.as_slice() {
                [one] => Ok(one.clone()),
                _ => Err(wrong(&format!("USING ({name}) is no column of both tables"))),
            }
        };
        let (left, right) = (find(left)?, find(right)?);
        self.merged.push(right.clone());
        self.keys.push((Expr::Column(left), Expr::Column(right)));
        Ok(())
    }

    fn plan(self, left: LogicalPlan, right: LogicalPlan) -> Result<LogicalPlan> {
        let Some((left_at, op, right_at)) = self.at else { return Err(wrong("MATCH_CONDITION is missing")) };
        let (left_schema, right_schema) = (Arc::clone(left.schema()), Arc::clone(right.schema()));
        let (left_columns, right_columns) = (left_schema.columns(), right_schema.columns());
        let place = |at: usize| format!("__{at}");

        // The right row as one value: NULL in it are its own.
        let parts = right_columns.iter().enumerate();
        let parts = parts.flat_map(|(at, column)| [lit(place(at)), Expr::Column(column.clone())]);
        let row = Expr::ScalarFunction(ScalarFunction::new_udf(named_struct(), parts.collect()));
        let kind = row.get_type(&right_schema)?;

        // Ties of one instant, in the order of trades.
        let ties: Vec<&Column> = ["ns", "seq", "sub"]
            .iter()
            .filter_map(|name| right_columns.iter().find(|column| column.name == *name))
            .filter(|column| right_schema.data_type(column).is_ok_and(|kind| kind.is_integer()))
            .collect();

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
        for (at, (left, right)) in self.keys.iter().enumerate() {
            pair(format!("k{at}"), right.clone(), left.clone());
        }
        pair("at".into(), right_at.clone(), left_at);
        for (at, tie) in ties.iter().enumerate() {
            let number = cast(Expr::Column((*tie).clone()), arrow::datatypes::DataType::Int64);
            pair(format!("t{at}"), number, lit(ScalarValue::Int64(None)));
        }
        pair("row".into(), row, Expr::Literal(ScalarValue::try_from(&kind)?, None));
        pair("is_left".into(), lit(false), lit(true));

        let mut known = right_at.is_not_null();
        for (_, key) in &self.keys {
            known = known.and(key.clone().is_not_null());
        }
        let right = LogicalPlanBuilder::from(right).filter(known)?.project(above)?.build()?;
        let left = LogicalPlanBuilder::from(left).project(below)?.build()?;
        let stacked = LogicalPlanBuilder::from(right).union(left)?.build()?;

        // Backwards in time where the next right row is wanted. Rows without an instant come first and find nothing.
        let backward = matches!(op, Operator::GtEq | Operator::Gt);
        let same_counts = matches!(op, Operator::GtEq | Operator::LtEq);
        let mut order = vec![col("at").sort(backward, true), col("is_left").sort(same_counts, true)];
        order.extend((0..ties.len()).map(|at| col(format!("t{at}")).sort(backward, true)));
        let function = WindowFunctionDefinition::WindowUDF(Arc::new(fill_previous()));
        let carried = Expr::from(WindowFunction::new(function, vec![col("row")]))
            .partition_by((0..self.keys.len()).map(|at| col(format!("k{at}"))).collect())
            .order_by(order)
            .build()?;
        let name = carried.schema_name().to_string();
        let carried = LogicalPlanBuilder::window_plan(stacked, vec![carried])?;

        let mut answer: Vec<Expr> = Vec::new();
        let renamed = |value: Expr, column: &Column| match &column.relation {
            Some(relation) => value.alias_qualified(Some(relation.clone()), &column.name),
            None => value.alias(&column.name),
        };
        for (at, column) in left_columns.iter().enumerate() {
            answer.push(renamed(col(format!("l{at}")), column));
        }
        for (at, column) in right_columns.iter().enumerate().filter(|(_, column)| !self.merged.contains(column)) {
            answer.push(renamed(get_field(Expr::Column(Column::from_name(&name)), place(at)), column));
        }
        LogicalPlanBuilder::from(carried).filter(col("is_left"))?.project(answer)?.build()
    }
}
