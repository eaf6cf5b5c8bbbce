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
//! DataFusion parses the join and has no operator for it. Ours ([`exec`]) holds the right table in memory, ordered by key and
//! instant, and looks each left row up as it comes. What does not fit is sorted and spilled instead ([`sorted`]).

mod exec;
mod filter;
mod index;
mod node;
mod sorted;

pub use filter::FiltersBelowAsof;
pub use node::Planner;

use crate::error::{Error, external};
use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, cast};
use datafusion::sql::sqlparser::ast::{Ident, Join, JoinConstraint, JoinOperator, Select, TableFactor, TableWithJoins};

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
        let sides = (left.schema().as_ref(), right.schema().as_ref());
        let keys = self.keys.into_iter().map(|pair| alike(pair, sides)).collect::<Result<_>>()?;
        let at = alike((left_at, right_at), sides)?;
        // Ties of one instant, in the order of trades.
        let columns = right.schema().columns();
        let ties = ["ns", "seq", "sub"]
            .iter()
            .filter_map(|name| columns.iter().find(|column| column.name == *name))
            .map(|column| Expr::Column(column.clone()))
            .filter(|column| column.get_type(right.schema()).is_ok_and(|kind| kind.is_integer()))
            .map(|column| cast(column, DataType::Int64))
            .collect();
        let kept: Vec<Expr> = left
            .schema()
            .columns()
            .into_iter()
            .chain(columns)
            .filter(|column| !self.merged.contains(column))
            .map(Expr::Column)
            .collect();
        let comparable = index::takes(&at.0.get_type(left.schema())?);
        let pairing = Pairing { keys, at, op, ties };
        let joined = match comparable {
            true => node::plan(left, right, pairing)?,
            false => sorted::plan(left, right, &pairing)?,
        };
        match self.merged.is_empty() {
            true => Ok(joined),
            false => LogicalPlanBuilder::from(joined).project(kept)?.build(),
        }
    }
}

/// Which rows belong together; left expressions stand first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Pairing {
    /// Equal, of the same type.
    keys: Vec<(Expr, Expr)>,
    /// The instants, of the same type.
    at: (Expr, Expr),
    /// `>=`, `>`, `<=` or `<`: left instant, operator, right instant.
    op: Operator,
    /// Of the right table: what orders its rows of one instant, as bigint.
    ties: Vec<Expr>,
}

/// Both cast to a type that holds the values of both.
fn alike((left, right): (Expr, Expr), sides: Sides<'_>) -> Result<(Expr, Expr)> {
    let (a, b) = (left.get_type(sides.0)?, right.get_type(sides.1)?);
    if a == b {
        return Ok((left, right));
    }
    let Some(common) = comparison_coercion(&a, &b) else {
        return Err(wrong(&format!("{left} is of type {a} and {right} of type {b}, which cannot be compared")));
    };
    Ok((left.cast_to(&common, sides.0)?, right.cast_to(&common, sides.1)?))
}
