//! Whole aggregates that PostgreSQL computes itself, because its answer is DataFusion's to the bit.
//!
//! Only what is on a list: `count`, `min` and `max` of integers, dates and instants, `sum` of integers whose sum is a bigint in
//! both. Not floats (NaN sorts differently), not texts beyond grouping (collations), not numerics (types differ), nothing with
//! DISTINCT, FILTER or ORDER BY inside, and only over conditions that PostgreSQL checks alone.

use super::{Db, PgTable, identifier};
use crate::lazy::{Lazy, plan};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, TableScan, TableType};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use std::any::Any;
use std::sync::Arc;

/// The rule.
#[derive(Debug)]
pub struct AggregatesInPostgres;

impl OptimizerRule for AggregatesInPostgres {
    fn name(&self) -> &str {
        "aggregates_in_postgres"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, node: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Aggregate(aggregate) = &node
            && let LogicalPlan::TableScan(scan) = aggregate.input.as_ref()
            && let Some(pushed) = pushed(aggregate, scan)?
        {
            return Ok(Transformed::yes(pushed));
        }
        Ok(Transformed::no(node))
    }
}

/// The aggregate as a scan of its SQL, under the names the plan above uses; `None` if PostgreSQL could answer otherwise.
fn pushed(aggregate: &Aggregate, scan: &TableScan) -> Result<Option<LogicalPlan>> {
    let provider = source_as_provider(&scan.source)?;
    let Some(table) = (provider.as_ref() as &dyn Any).downcast_ref::<PgTable>() else { return Ok(None) };
    if scan.fetch.is_some() {
        return Ok(None);
    }
    let Some(conditions) = table.checked_alone(&scan.filters) else { return Ok(None) };
    let exprs = aggregate.group_expr.iter().map(|expr| group(table, expr));
    let Some(groups) = exprs.collect::<Option<Vec<String>>>() else { return Ok(None) };
    let exprs = aggregate.aggr_expr.iter().map(|expr| function(table, expr));
    let Some(functions) = exprs.collect::<Option<Vec<String>>>() else { return Ok(None) };
    let columns: Vec<String> = groups.iter().chain(&functions).cloned().collect();
    if columns.is_empty() || columns.len() != aggregate.schema.fields().len() {
        return Ok(None);
    }
    let mut sql = format!("SELECT {} FROM market.{}", columns.join(", "), identifier(table.name()));
    if !conditions.is_empty() {
        sql = format!("{sql} WHERE {}", conditions.join(" AND "));
    }
    if !groups.is_empty() {
        sql = format!("{sql} GROUP BY {}", groups.join(", "));
    }
    let fields = aggregate.schema.fields().iter().enumerate().map(|(at, field)| {
        let name = format!("column{at}");
        field.as_ref().clone().with_name(name)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let answer = Answer { db: table.db(), sql, schema };
    let inner = LogicalPlanBuilder::scan("postgres", provider_as_source(Arc::new(answer)), None)?;
    let named = aggregate.schema.iter().enumerate().map(|(at, (qualifier, field))| {
        let column = Expr::Column(datafusion::common::Column::new(Some("postgres"), format!("column{at}")));
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    Ok(Some(inner.project(named.collect::<Vec<_>>())?.build()?))
}

fn group(table: &PgTable, expr: &Expr) -> Option<String> {
    let Expr::Column(column) = expr else { return None };
    match table.plain(&column.name)? {
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => None,
        _ => Some(identifier(&column.name)),
    }
}

fn function(table: &PgTable, expr: &Expr) -> Option<String> {
    let expr = match expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        expr => expr,
    };
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else { return None };
    if params.distinct || params.filter.is_some() || !params.order_by.is_empty() || params.null_treatment.is_some() {
        return None;
    }
    let [argument] = &params.args[..] else { return None };
    let column = match argument {
        Expr::Literal(value, _) if func.name() == "count" && !value.is_null() => return Some("count(*)".into()),
        Expr::Column(column) => column,
        // DataFusion widens small integers before it adds them; PostgreSQL's sum of them is a bigint by itself
        Expr::Cast(cast) if func.name() == "sum" => match cast.expr.as_ref() {
            Expr::Column(column) => column,
            _ => return None,
        },
        _ => return None,
    };
    let kind = table.plain(&column.name)?;
    let name = identifier(&column.name);
    let ordered = matches!(
        kind,
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32 | DataType::Timestamp(..)
    );
    match (func.name(), kind) {
        ("count", _) => Some(format!("count({name})")),
        ("min" | "max", _) if ordered => Some(format!("{}({name})", func.name())),
        ("sum", DataType::Int16 | DataType::Int32) => Some(format!("sum({name})")),
        _ => None,
    }
}

/// The answer to an aggregate.
#[derive(Debug)]
struct Answer {
    db: Arc<Db>,
    sql: String,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for Answer {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (db, sql, schema) = (Arc::clone(&self.db), self.sql.clone(), Arc::clone(&self.schema));
        let make = Arc::new(move || super::table::stream_of(Arc::clone(&db), sql.clone(), Arc::clone(&schema)));
        let part = Lazy::new(Arc::clone(&self.schema), format!("PostgreSQL: {}", self.sql), make);
        plan(vec![part], Arc::clone(&self.schema), projection, limit)
    }
}
