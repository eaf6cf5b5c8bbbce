//! Tables whose rows are made when they are read, not when the statement is planned.

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};
use std::fmt;
use std::sync::Arc;

/// Makes the rows of one partition.
pub type Make = Arc<dyn Fn() -> SendableRecordBatchStream + Send + Sync>;

/// One partition.
pub struct Lazy {
    schema: SchemaRef,
    make: Make,
    /// What EXPLAIN shows.
    label: String,
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl Lazy {
    /// A partition of this schema.
    pub fn new(schema: SchemaRef, label: String, make: Make) -> Lazy {
        Lazy { schema, make, label }
    }
}

impl PartitionStream for Lazy {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        (self.make)()
    }
}

/// A plan of partitions; `projection` is applied to what they yield.
///
/// # Errors
/// Those of DataFusion.
pub fn plan(
    parts: Vec<Lazy>,
    schema: SchemaRef,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    measured(parts, schema, projection, limit, ExecutionPlanMetricsSet::new())
}

/// As [`plan`], with what EXPLAIN ANALYZE shows of its work.
///
/// # Errors
/// Those of DataFusion.
pub fn measured(
    parts: Vec<Lazy>,
    schema: SchemaRef,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
) -> Result<Arc<dyn ExecutionPlan>> {
    let label = parts.first().map(|part| part.label.clone()).unwrap_or_default();
    let parts = parts.into_iter().map(|part| Arc::new(part) as Arc<dyn PartitionStream>).collect();
    let inner = StreamingTableExec::try_new(schema, parts, projection, vec![], false, limit)?;
    Ok(Arc::new(Labelled { inner: Arc::new(inner), label, metrics }))
}

/// A scan that EXPLAIN shows by what it reads: the SQL that is sent, the bounds of the blocks.
struct Labelled {
    inner: Arc<dyn ExecutionPlan>,
    label: String,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl DisplayAs for Labelled {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In the tree the name stands above, and a row is short.
        if matches!(kind, DisplayFormatType::TreeRender) {
            return writeln!(f, "{}", self.label);
        }
        let partitions = self.inner.properties().partitioning.partition_count();
        write!(f, "BellwetherScan: {}", self.label)?;
        if partitions > 1 {
            write!(f, ", {partitions} partitions")?;
        }
        match self.inner.fetch() {
            Some(rows) => write!(f, ", at most {rows} rows"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for Labelled {
    fn name(&self) -> &'static str {
        "BellwetherScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn fetch(&self) -> Option<usize> {
        self.inner.fetch()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.inner.execute(partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// What a table function answers.
pub struct LazyTable {
    schema: SchemaRef,
    label: String,
    make: Make,
}

impl fmt::Debug for LazyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl LazyTable {
    /// A table of this schema.
    pub fn new(schema: SchemaRef, label: &str, make: Make) -> LazyTable {
        LazyTable { schema, label: label.to_owned(), make }
    }
}

#[async_trait::async_trait]
impl TableProvider for LazyTable {
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
        let part = Lazy::new(Arc::clone(&self.schema), self.label.clone(), Arc::clone(&self.make));
        plan(vec![part], Arc::clone(&self.schema), projection, limit)
    }
}
