//! The join at work: right rows are collected first, left rows pass by.

use super::index::Index;
use arrow::array::{Array, ArrayData, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::projection::{EmbeddedProjection, ProjectionExec, try_embed_projection};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, Partitioning, PlanProperties,
    execute_stream,
};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Which rows belong together; left expressions stand first.
#[derive(Clone)]
pub struct Pairing {
    pub keys: Vec<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>,
    pub at: (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>),
    pub op: Operator,
    pub ties: Vec<Arc<dyn PhysicalExpr>>,
    /// As EXPLAIN shows it.
    pub shown: String,
}

/// Plans the same join by sorting.
pub type BySorting = Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn ExecutionPlan>>> + Send + Sync>;

/// How the join is done, decided when the right table has been seen.
enum Way {
    Index(Arc<Index>),
    Sorting(Arc<dyn ExecutionPlan>),
}

/// Places in one column of a text array are numbers of 32 bits.
const MOST_BYTES: usize = i32::MAX as usize;

/// See the module.
#[derive(Clone)]
pub struct AsofExec {
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    pairing: Arc<Pairing>,
    /// Of all columns.
    whole: SchemaRef,
    /// Those that are wanted.
    projection: Vec<usize>,
    by_sorting: BySorting,
    properties: Arc<PlanProperties>,
    way: Arc<OnceCell<Way>>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for AsofExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsofExec({})", self.pairing.shown)
    }
}

/// What every partition promises: neither an order nor a way of partitioning, as sorting would keep neither.
fn properties(left: &Arc<dyn ExecutionPlan>, whole: &SchemaRef, projection: &[usize]) -> Result<Arc<PlanProperties>> {
    Ok(Arc::new(PlanProperties::new(
        EquivalenceProperties::new(Arc::new(whole.project(projection)?)),
        Partitioning::UnknownPartitioning(left.properties().partitioning.partition_count()),
        EmissionType::Incremental,
        Boundedness::Bounded,
    )))
}

impl AsofExec {
    pub fn new(
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
        pairing: Pairing,
        whole: SchemaRef,
        by_sorting: BySorting,
    ) -> Result<AsofExec> {
        let projection: Vec<usize> = (0..whole.fields().len()).collect();
        Ok(AsofExec {
            properties: properties(&left, &whole, &projection)?,
            left,
            right,
            pairing: Arc::new(pairing),
            whole,
            projection,
            by_sorting,
            way: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// The same join of other inputs or columns, which has not begun.
    fn with(
        &self,
        left: &Arc<dyn ExecutionPlan>,
        right: &Arc<dyn ExecutionPlan>,
        projection: Vec<usize>,
    ) -> Result<AsofExec> {
        Ok(AsofExec {
            properties: properties(left, &self.whole, &projection)?,
            left: Arc::clone(left),
            right: Arc::clone(right),
            projection,
            way: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
            ..self.clone()
        })
    }

    /// The wanted columns of the right table, by their place in it.
    fn right_columns(&self) -> Vec<usize> {
        let middle = self.left.schema().fields().len();
        self.projection.iter().filter_map(|at| at.checked_sub(middle)).collect()
    }

    async fn choose(&self, context: &Arc<TaskContext>, right_rows: &Count) -> Result<Way> {
        let memory = MemoryConsumer::new("AsofJoin").register(context.memory_pool());
        if let Some(table) = collect(self.right.execute(0, Arc::clone(context))?, &memory).await? {
            right_rows.add(table.num_rows());
            let index = Index::new(&table, &self.pairing, &self.right_columns(), memory)?;
            return Ok(Way::Index(Arc::new(index)));
        }
        drop(memory);
        Ok(Way::Sorting((self.by_sorting)().await?))
    }

    /// The answer to a batch of left rows.
    fn answer(&self, index: &Index, left: &RecordBatch, hints: &mut [usize]) -> Result<RecordBatch> {
        let found = index.find(left, &self.pairing, hints)?;
        let middle = left.num_columns();
        let mut taken = 0;
        let column = |at: &usize| {
            if *at < middle {
                return Ok(Arc::clone(left.column(*at)));
            }
            taken += 1;
            index.take(taken - 1, &found)
        };
        let columns = self.projection.iter().map(column).collect::<Result<Vec<_>>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(left.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &rows)?)
    }

    async fn run(self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let right_rows = MetricBuilder::new(&self.metrics).counter("right_rows", partition);
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let way = Arc::clone(&self.way);
        let schema = self.schema();
        let batches = match way.get_or_try_init(|| self.choose(&context, &right_rows)).await? {
            Way::Index(index) => {
                let left = self.left.execute(partition, context)?;
                let (index, mut hints) = (Arc::clone(index), index.hints());
                let mut answer = move |batch: RecordBatch| {
                    let _time = metrics.elapsed_compute().timer();
                    let answer = self.answer(&index, &batch, &mut hints)?;
                    Ok(answer.record_output(&metrics))
                };
                left.map(move |batch| batch.and_then(&mut answer)).boxed()
            }
            // All of it is the first partition's.
            Way::Sorting(plan) if partition == 0 => {
                MetricBuilder::new(&self.metrics).counter("sorted", partition).add(1);
                let rows = execute_stream(Arc::clone(plan), context)?;
                let (projection, schema) = (self.projection.clone(), Arc::clone(&schema));
                let project = move |batch: RecordBatch| {
                    let columns = projection.iter().map(|at| Arc::clone(batch.column(*at))).collect();
                    let count = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                    let wanted = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &count)?;
                    Ok(wanted.record_output(&metrics))
                };
                rows.map(move |batch| batch.and_then(&project)).boxed()
            }
            Way::Sorting(_) => stream::empty().boxed(),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// All rows of a table, if memory suffices for them and their index.
async fn collect(mut rows: SendableRecordBatchStream, memory: &MemoryReservation) -> Result<Option<RecordBatch>> {
    let (mut batches, mut bytes, mut count) = (Vec::new(), 0, 0);
    let mut seen = HashSet::new();
    while let Some(batch) = rows.try_next().await? {
        let (mut held, mut copied) = (0, 0);
        for column in batch.columns() {
            let data = column.to_data();
            held += not_seen(&data, &mut seen);
            copied += data.get_slice_memory_size()?;
        }
        bytes += copied;
        count += batch.num_rows();
        if bytes > MOST_BYTES || count >= u32::MAX as usize {
            return Ok(None);
        }
        // They are copied into one table and from there into its order; a row's place and instant are another 16 bytes.
        match memory.try_grow(held + 2 * copied + 16 * batch.num_rows()) {
            Err(error) if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) => return Ok(None),
            other => other?,
        }
        batches.push(batch);
    }
    Ok(Some(concat_batches(&rows.schema(), &batches)?))
}

/// The bytes of buffers that no batch before had: an aggregate's batches are slices of one.
fn not_seen(data: &ArrayData, seen: &mut HashSet<usize>) -> usize {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    let own = data.buffers().iter().chain(nulls).filter(|buffer| seen.insert(buffer.data_ptr().as_ptr() as usize));
    let own: usize = own.map(Buffer::capacity).sum();
    own + data.child_data().iter().map(|child| not_seen(child, seen)).sum::<usize>()
}

impl EmbeddedProjection for AsofExec {
    fn with_projection(&self, projection: Option<Vec<usize>>) -> Result<AsofExec> {
        let Some(wanted) = projection else { return Ok(self.clone()) };
        self.with(&self.left, &self.right, wanted.iter().map(|at| self.projection[*at]).collect())
    }
}

impl DisplayAs for AsofExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In the tree the name stands above.
        match kind {
            DisplayFormatType::TreeRender => writeln!(f, "{}", self.pairing.shown),
            _ => write!(f, "AsofJoinExec: {}", self.pairing.shown),
        }
    }
}

impl ExecutionPlan for AsofExec {
    fn name(&self) -> &'static str {
        "AsofJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::UnspecifiedDistribution, Distribution::SinglePartition])
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let Pairing { keys, at, ties, .. } = self.pairing.as_ref();
        let pairs = keys.iter().chain([at]).flat_map(|(left, right)| [left, right]);
        for expr in pairs.chain(ties) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([left, right]) = <[_; 2]>::try_from(children) else {
            return internal_err!("an ASOF JOIN is of two tables");
        };
        Ok(Arc::new(self.with(&left, &right, self.projection.clone())?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let run = stream::once(self.clone().run(partition, context)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), run)))
    }

    fn try_swapping_with_projection(&self, projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        try_embed_projection(projection, self)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    #[test]
    fn a_buffer_is_counted_once_however_many_slices_there_are() {
        let whole = Int64Array::from_iter((0..1000).map(|i| (i % 7 > 0).then_some(i)));
        let mut seen = HashSet::new();
        let bytes: usize = (0..10).map(|i| not_seen(&whole.slice(i * 100, 100).to_data(), &mut seen)).sum();
        assert!((8000 + 125..8000 + 125 + 128).contains(&bytes), "{bytes}");
    }
}
