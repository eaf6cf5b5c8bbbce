//! `ASOF JOIN` in a logical plan, and its way into a physical one.

use super::exec::AsofExec;
use super::{Pairing, sorted};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_err};
use datafusion::execution::SessionState;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Every left row with the right row that belongs to it; the columns of both, the left's first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AsofNode {
    pub(super) left: LogicalPlan,
    pub(super) right: LogicalPlan,
    pub(super) pairing: Pairing,
    schema: DFSchemaRef,
}

impl AsofNode {
    pub(super) fn new(left: LogicalPlan, right: LogicalPlan, pairing: Pairing) -> Result<AsofNode> {
        let fields = right.schema().iter();
        let fields =
            fields.map(|(table, field)| (table.cloned(), Arc::new(field.as_ref().clone().with_nullable(true))));
        let nullable = DFSchema::new_with_metadata(fields.collect(), right.schema().metadata().clone())?;
        let schema = Arc::new(left.schema().join(&nullable)?);
        Ok(AsofNode { left, right, pairing, schema })
    }
}

/// The join as a plan.
pub fn plan(left: LogicalPlan, right: LogicalPlan, pairing: Pairing) -> Result<LogicalPlan> {
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(AsofNode::new(left, right, pairing)?) }))
}

// Nodes have no order; equal ones are equal.
impl PartialOrd for AsofNode {
    fn partial_cmp(&self, other: &AsofNode) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.at.0, self.op, self.at.1)?;
        self.keys.iter().try_for_each(|(left, right)| write!(f, ", {left} = {right}"))
    }
}

impl UserDefinedLogicalNodeCore for AsofNode {
    fn name(&self) -> &'static str {
        "AsofJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let Pairing { keys, at, ties, .. } = &self.pairing;
        let pairs = keys.iter().chain([at]).flat_map(|(left, right)| [left.clone(), right.clone()]);
        pairs.chain(ties.iter().cloned()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsofJoin: {}", self.pairing)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<AsofNode> {
        let mut exprs = exprs.into_iter();
        let mut pairs = Vec::new();
        for _ in 0..=self.pairing.keys.len() {
            let (Some(left), Some(right)) = (exprs.next(), exprs.next()) else {
                return internal_err!("an ASOF JOIN lost an expression");
            };
            pairs.push((left, right));
        }
        let (Some(at), Ok([left, right])) = (pairs.pop(), <[LogicalPlan; 2]>::try_from(inputs)) else {
            return internal_err!("an ASOF JOIN lost a table");
        };
        let pairing = Pairing { keys: pairs, at, op: self.pairing.op, ties: exprs.collect() };
        AsofNode::new(left, right, pairing)
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let middle = self.left.schema().fields().len();
        let mut needed = [Vec::new(), Vec::new()];
        for &at in output {
            match at.checked_sub(middle) {
                None => needed[0].push(at),
                Some(at) => needed[1].push(at),
            }
        }
        let schemas = [self.left.schema(), self.right.schema()];
        for expr in UserDefinedLogicalNodeCore::expressions(self) {
            for column in expr.column_refs() {
                for (needed, schema) in needed.iter_mut().zip(schemas) {
                    needed.extend(schema.maybe_index_of_column(column));
                }
            }
        }
        for side in &mut needed {
            side.sort_unstable();
            side.dedup();
        }
        Some(needed.into())
    }
}

/// DataFusion's planner, and ours for the join.
#[derive(Debug)]
pub struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Planner)]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for Planner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [left, right]) = (node.as_any().downcast_ref::<AsofNode>(), inputs) else { return Ok(None) };
        let Some(state) = session.as_any().downcast_ref::<SessionState>() else {
            return internal_err!("an ASOF JOIN is planned without the state of its session");
        };
        let left_expr = |expr: &Expr| planner.create_physical_expr(expr, node.left.schema(), session, context);
        let right_expr = |expr: &Expr| planner.create_physical_expr(expr, node.right.schema(), session, context);
        let Pairing { keys, at, op, ties } = &node.pairing;
        let keys =
            keys.iter().map(|(left, right)| Ok((left_expr(left)?, right_expr(right)?))).collect::<Result<_>>()?;
        let at = (left_expr(&at.0)?, right_expr(&at.1)?);
        let ties = ties.iter().map(right_expr).collect::<Result<_>>()?;
        // Planned when it turns out that memory does not suffice.
        let (state, again) = (state.clone(), node.clone());
        let by_sorting = move || {
            let (state, node) = (state.clone(), again.clone());
            let plan = async move {
                let plan = sorted::plan(node.left, node.right, &node.pairing)?;
                state.create_physical_plan(&plan).await
            };
            Box::pin(plan) as _
        };
        let pairing = super::exec::Pairing { keys, at, op: *op, ties, shown: node.pairing.to_string() };
        let schema = Arc::clone(node.schema.inner());
        let exec = AsofExec::new(Arc::clone(left), Arc::clone(right), pairing, schema, Arc::new(by_sorting))?;
        Ok(Some(Arc::new(exec)))
    }
}
