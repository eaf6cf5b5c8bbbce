//! Tables whose rows are made when they are read, not when the statement is planned.

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
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
    let parts = parts.into_iter().map(|part| Arc::new(part) as Arc<dyn PartitionStream>).collect();
    Ok(Arc::new(StreamingTableExec::try_new(schema, parts, projection, vec![], false, limit)?))
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
