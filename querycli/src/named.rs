//! Scans of files whose errors and panics name the file.
//!
//! DataFusion's scans read many files in one stream and do not say of which an error is. The last rule of the optimizer puts
//! this around what opens each of them.

use crate::error::external;
use crate::guard::{self, Names, caught, caught_now, named, unreadable};
use arrow::array::RecordBatch;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, PhysicalExpr};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures_util::stream::BoxStream;
use object_store::ObjectStore;
use std::fmt;
use std::sync::Arc;

/// Puts names around scans. Comes last: rules before it look at what kind of files a scan has.
#[derive(Debug)]
pub struct NameFiles(pub Arc<Names>);

impl PhysicalOptimizerRule for NameFiles {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let scan = node.downcast_ref::<DataSourceExec>().and_then(|scan| scan.data_source().downcast_ref());
            let Some(config) = scan.filter(|config: &&FileScanConfig| !config.file_source.is::<Named>()) else {
                return Ok(Transformed::no(node));
            };
            let mut config = config.clone();
            config.file_source = Arc::new(Named { inner: config.file_source, names: Arc::clone(&self.0) });
            Ok(Transformed::yes(DataSourceExec::from_data_source(config) as _))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "name_files"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

struct Named {
    inner: Arc<dyn FileSource>,
    names: Arc<Names>,
}

impl FileSource for Named {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        Ok(Box::new(Files {
            inner: self.inner.create_morselizer(store, config, partition)?,
            store: config.object_store_url.clone(),
            names: Arc::clone(&self.names),
        }))
    }

    fn with_batch_size(&self, rows: usize) -> Arc<dyn FileSource> {
        Arc::new(Named { inner: self.inner.with_batch_size(rows), names: Arc::clone(&self.names) })
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(kind, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

/// Runs a step of reading a file.
fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    match caught_now(work) {
        Ok(done) => done.map_err(|error| named(name, error)),
        Err(panic) => Err(external(unreadable(name, &panic))),
    }
}

#[derive(Debug)]
struct Files {
    inner: Box<dyn Morselizer>,
    store: ObjectStoreUrl,
    names: Arc<Names>,
}

impl Morselizer for Files {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let name: Arc<str> = self.names.of(&self.store, &file.object_meta.location).into();
        let inner = step(&name, || self.inner.plan_file(file))?;
        Ok(Box::new(Planner { inner, name }))
    }
}

#[derive(Debug)]
struct Planner {
    inner: Box<dyn MorselPlanner>,
    name: Arc<str>,
}

impl MorselPlanner for Planner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Planner { inner, name } = *self;
        let Some(mut plan) = step(&name, || inner.plan())? else { return Ok(None) };
        let planner = |inner| Box::new(Planner { inner, name: Arc::clone(&name) }) as Box<dyn MorselPlanner>;
        let rows = |inner| Box::new(Rows { inner, name: Arc::clone(&name) }) as Box<dyn Morsel>;
        let mut named_plan = MorselPlan::new()
            .with_morsels(plan.take_morsels().into_iter().map(rows).collect())
            .with_planners(plan.take_ready_planners().into_iter().map(planner).collect());
        if let Some(pending) = plan.take_pending_planner() {
            let name = Arc::clone(&name);
            named_plan.set_pending_planner(async move {
                match caught(pending).await {
                    Ok(Ok(inner)) => Ok(Box::new(Planner { inner, name }) as Box<dyn MorselPlanner>),
                    Ok(Err(error)) => Err(named(&name, error)),
                    Err(panic) => Err(external(unreadable(&name, &panic))),
                }
            });
        }
        Ok(Some(named_plan))
    }
}

#[derive(Debug)]
struct Rows {
    inner: Box<dyn Morsel>,
    name: Arc<str>,
}

impl Morsel for Rows {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Rows { inner, name } = *self;
        match caught_now(|| inner.into_stream()) {
            Ok(stream) => guard::rows_of(stream, name),
            Err(panic) => {
                let gone = Err(external(unreadable(&name, &panic)));
                Box::pin(futures_util::stream::once(std::future::ready(gone)))
            }
        }
    }
}
