//! Groupings of trades that are folded where their pages are decoded, so that no trade becomes a row.
//!
//! `SELECT symbol, session_bucket('5m', ts, calendar), ohlc(price, size, ts, seq) FROM trades ... GROUP BY ...`: where the keys are
//! among symbol, instrument_id, calendar, trade_date, segment and one bucket, the aggregates among `ohlc(price, size, ts, seq)`,
//! `vwap(price, size)` and `count(*)`, and the conditions are on keys or are ranges of ts, the scan returns a bar a group and
//! stretch, and what is left is to roll them up. Everything else is grouped by DataFusion, with the same answer.

use super::filter;
use super::trades::{Bucketing, FoldTable, TradesTable};
use crate::known::Calendars;
use crate::{aggregate, scalar};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::functions_aggregate::sum::sum;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Operator};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use market::{Nanos, Segments, Timeframe};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// The rule.
pub struct BarsWhereDecoded(pub Arc<Calendars>);

impl std::fmt::Debug for BarsWhereDecoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl OptimizerRule for BarsWhereDecoded {
    fn name(&self) -> &str {
        "bars_where_decoded"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, node: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Aggregate(aggregate) = &node
            && let Some(source) = Source::of(&aggregate.input)
            && let Some(folded) = self.folded(aggregate, &source)?
        {
            return Ok(Transformed::yes(folded));
        }
        Ok(Transformed::no(node))
    }
}

/// A scan of trades with conditions and columns computed of its own.
struct Source {
    table: Arc<TradesTable>,
    /// What the scan was told of the conditions.
    hints: Vec<Expr>,
    conditions: Vec<Expr>,
    /// What a column of the plan is, over columns of the scan without qualifier.
    columns: HashMap<Column, Expr>,
}

impl Source {
    fn of(plan: &LogicalPlan) -> Option<Source> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source).ok()?;
                let table = (provider.as_ref() as &dyn Any).downcast_ref::<TradesTable>()?;
                let columns = scan.projected_schema.iter().map(|(qualifier, field)| {
                    let own = Expr::Column(Column::from_name(field.name()));
                    (Column::new(qualifier.cloned(), field.name()), own)
                });
                let columns = columns.collect();
                let mut source =
                    Source { table: Arc::new(table.clone()), hints: Vec::new(), conditions: Vec::new(), columns };
                source.hints = scan.filters.iter().map(|hint| source.over_scan(hint)).collect::<Option<_>>()?;
                scan.fetch.is_none().then_some(source)
            }
            LogicalPlan::Filter(filter) => {
                let mut source = Source::of(&filter.input)?;
                let all = source.over_scan(&filter.predicate)?;
                source.conditions.extend(split_conjunction(&all).into_iter().cloned());
                Some(source)
            }
            LogicalPlan::Projection(projection) => {
                let mut source = Source::of(&projection.input)?;
                let mut columns = HashMap::new();
                for ((qualifier, field), expr) in projection.schema.iter().zip(&projection.expr) {
                    let expr = source.over_scan(&expr.clone().unalias())?;
                    columns.insert(Column::new(qualifier.cloned(), field.name()), expr);
                }
                source.columns = columns;
                Some(source)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let mut source = Source::of(&alias.input)?;
                let mut columns = HashMap::new();
                for ((qualifier, field), inner) in alias.schema.iter().zip(alias.input.schema().columns()) {
                    columns.insert(Column::new(qualifier.cloned(), field.name()), source.columns.get(&inner)?.clone());
                }
                source.columns = columns;
                Some(source)
            }
            _ => None,
        }
    }

    /// An expression over the scan's columns; `None` for one with a column from elsewhere.
    fn over_scan(&self, expr: &Expr) -> Option<Expr> {
        let mut foreign = false;
        let replaced = expr.clone().transform_down(|part| {
            let Expr::Column(column) = &part else { return Ok(Transformed::no(part)) };
            match self.columns.get(column) {
                Some(known) => Ok(Transformed::new(known.clone(), true, TreeNodeRecursion::Jump)),
                None => {
                    foreign = true;
                    Ok(Transformed::no(part))
                }
            }
        });
        // A common expression keeps its old name as an alias, in the middle of others.
        replaced.ok().filter(|_| !foreign).map(|done| done.data.unalias_nested().data)
    }
}

/// Columns that every trade of a stretch has in common.
const SHARED: [&str; 5] = ["symbol", "instrument_id", "calendar", "trade_date", "segment"];
/// What the scan of bars calls its bucket, its bar and the number of trades.
const BUCKET: &str = "bucket";
const BAR: &str = "bar";
const TRADES: &str = "n";

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

/// The column `ts`, in whatever unit a function takes it.
fn is_ts(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(cast) => is_ts(&cast.expr),
        expr => column(expr) == Some("ts"),
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

impl BarsWhereDecoded {
    fn folded(&self, aggregate: &Aggregate, source: &Source) -> Result<Option<LogicalPlan>> {
        let over = |expr: &Expr| source.over_scan(&expr.clone().unalias());
        let Some(keys) = aggregate.group_expr.iter().map(over).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let Some(calls) = aggregate.aggr_expr.iter().map(over).collect::<Option<Vec<_>>>() else { return Ok(None) };
        if keys.is_empty() || calls.is_empty() {
            return Ok(None);
        }
        let mut bucket: Option<(&Expr, Bucketing)> = None;
        let mut columns: Vec<&str> = Vec::new();
        for key in &keys {
            match column(key) {
                Some(name) => match SHARED.iter().find(|shared| **shared == name) {
                    Some(shared) => columns.push(shared),
                    None => return Ok(None),
                },
                None => match (&bucket, self.bucketing(key)) {
                    (None, Some(found)) => bucket = Some((key, found)),
                    (Some((known, _)), Some(_)) if *known == key => {}
                    _ => return Ok(None),
                },
            }
        }
        let Some(functions) = calls.iter().map(function).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let mut instants = (i64::MIN, i64::MAX);
        let mut conditions = Vec::new();
        for condition in &source.conditions {
            // What changes from row to row is no condition on a group.
            if condition.is_volatile() {
                return Ok(None);
            }
            if narrow(condition, &mut instants) {
                continue;
            }
            match shared_alone(condition, bucket.as_ref().map(|(expr, _)| *expr), &mut columns) {
                Some(condition) => conditions.push(condition),
                None => return Ok(None),
            }
        }
        let bucketing = bucket.as_ref().map(|(_, found)| found.clone());
        let table = FoldTable::new(&source.table, &source.hints, instants, columns, bucketing);
        let mut plan = LogicalPlanBuilder::scan("folded", provider_as_source(Arc::new(table)), None)?;
        if let Some(all) = conjunction(conditions) {
            plan = plan.filter(all)?;
        }
        let folded = |name: &str| Expr::Column(Column::new(Some("folded"), name));
        let group = keys.iter().map(|key| folded(column(key).unwrap_or(BUCKET)));
        let rollup = aggregate::rollup().call(vec![folded(BAR)]).alias("whole");
        let counted = sum(folded(TRADES)).alias("counted");
        let plan = plan.aggregate(group.collect::<Vec<_>>(), vec![rollup, counted])?;
        let whole = || Expr::Column(Column::from_name("whole"));
        let answers =
            keys.iter().map(|key| folded(column(key).unwrap_or(BUCKET))).chain(functions.into_iter().map(|function| {
                match function {
                    Function::Ohlc => whole(),
                    Function::Vwap => scalar::bar_vwap_function(&self.0).call(vec![whole()]),
                    Function::Count => Expr::Column(Column::from_name("counted")),
                }
            }));
        let named = answers
            .zip(aggregate.schema.iter())
            .map(|(expr, (qualifier, field))| expr.alias_qualified(qualifier.cloned(), field.name()));
        Ok(Some(plan.project(named.collect::<Vec<_>>())?.build()?))
    }

    /// A key that is a bucket of ts.
    fn bucketing(&self, key: &Expr) -> Option<Bucketing> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = key else { return None };
        match (func.name(), &args[..]) {
            ("date_trunc", [unit, ts]) if column(ts) == Some("ts") => {
                let width = match text(unit)?.to_ascii_lowercase().as_str() {
                    "second" => market::time::SECOND,
                    "minute" => market::time::MINUTE,
                    "hour" => market::time::HOUR,
                    _ => return None,
                };
                Some(Bucketing::Utc(width))
            }
            ("session_bucket", [timeframe, ts, calendar, rest @ ..]) if is_ts(ts) => {
                let calendar = match column(calendar) {
                    Some("calendar") => None,
                    Some(_) => return None,
                    None => Some(self.0.find(text(calendar)?).ok()?),
                };
                let segments = match rest {
                    [] => None,
                    [segments] => Some(Segments::parse(text(segments)?).ok()?),
                    _ => return None,
                };
                let timeframe = Timeframe::parse(text(timeframe)?).ok()?;
                Some(Bucketing::Session { timeframe, calendar, segments })
            }
            _ => None,
        }
    }
}

enum Function {
    Ohlc,
    Vwap,
    Count,
}

fn function(call: &Expr) -> Option<Function> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = call else { return None };
    if params.distinct || params.filter.is_some() || !params.order_by.is_empty() || params.null_treatment.is_some() {
        return None;
    }
    let names: Vec<Option<&str>> = params.args.iter().map(column).collect();
    match (func.name(), &names[..]) {
        ("ohlc", [Some("price"), Some("size"), _, Some("seq")]) if is_ts(&params.args[2]) => Some(Function::Ohlc),
        ("vwap", [Some("price"), Some("size")]) => Some(Function::Vwap),
        ("count", [None]) => match &params.args[0] {
            Expr::Literal(value, _) if !value.is_null() => Some(Function::Count),
            _ => None,
        },
        _ => None,
    }
}

/// Takes a range of ts; `false` for another condition.
fn narrow(condition: &Expr, instants: &mut (Nanos, Nanos)) -> bool {
    let Some(found) = filter::whole(condition) else { return false };
    let mut within = *instants;
    for one in found {
        let [ScalarValue::TimestampMicrosecond(Some(micros), _)] = one.values[..] else { return false };
        let Some(ts) = micros.checked_mul(1000).filter(|_| one.column == "ts") else { return false };
        let (low, high) = &mut within;
        match one.op {
            Operator::GtEq => *low = (*low).max(ts),
            Operator::Gt => *low = (*low).max(ts.saturating_add(1000)),
            Operator::Lt => *high = (*high).min(ts),
            Operator::LtEq => *high = (*high).min(ts.saturating_add(1000)),
            _ => return false,
        }
    }
    *instants = within;
    true
}

/// A condition over what the scan of bars returns; the columns it needs are added.
fn shared_alone<'c>(condition: &Expr, bucket: Option<&Expr>, columns: &mut Vec<&'c str>) -> Option<Expr>
where
    'static: 'c,
{
    let mut foreign = false;
    let folded = |name: &str| Expr::Column(Column::new(Some("folded"), name));
    let replaced = condition.clone().transform_down(|part| {
        if Some(&part) == bucket {
            return Ok(Transformed::new(folded(BUCKET), true, TreeNodeRecursion::Jump));
        }
        let Expr::Column(column) = &part else { return Ok(Transformed::no(part)) };
        match SHARED.iter().find(|shared| **shared == column.name) {
            Some(shared) => {
                columns.push(shared);
                Ok(Transformed::new(folded(shared), true, TreeNodeRecursion::Jump))
            }
            None => {
                foreign = true;
                Ok(Transformed::no(part))
            }
        }
    });
    replaced.ok().map(|done| done.data).filter(|_| !foreign)
}
