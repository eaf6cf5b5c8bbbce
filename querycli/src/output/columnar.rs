//! Parquet and Arrow files, written as the rows come.

use super::{Sink, failed, keys};
use crate::error::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::sync::Arc;

/// What a file says of its columns: names that are columns' names, and every column may be NULL.
fn plain(schema: &SchemaRef) -> SchemaRef {
    let names = keys(schema);
    let fields = schema.fields().iter().zip(names);
    let fields: Vec<Field> = fields.map(|(field, name)| Field::new(name, field.data_type().clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())
        .map_err(|error| Error::world(format!("cannot write: {error}"), ""))
}

/// Writes through, and tells a reader that went away from a value that cannot be written.
struct Through<'w> {
    out: &'w mut (dyn Write + Send),
}

impl Write for Through<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn refused(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return failed(std::io::Error::new(io.kind(), io.to_string()));
        }
        cause = inner.source();
    }
    Error::world(format!("cannot write: {error}"), "cast columns of unusual types to text")
}

pub struct Parquet<'w> {
    writer: ArrowWriter<Through<'w>>,
    schema: SchemaRef,
}

impl<'w> Parquet<'w> {
    pub fn new(schema: &SchemaRef, out: &'w mut (dyn Write + Send)) -> Result<Parquet<'w>> {
        let schema = plain(schema);
        let level = ZstdLevel::try_new(3).map_err(|error| refused(&error))?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let writer = ArrowWriter::try_new(Through { out }, Arc::clone(&schema), Some(properties));
        Ok(Parquet { writer: writer.map_err(|error| refused(&error))?, schema })
    }
}

impl Sink for Parquet<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(&renamed(batch, &self.schema)?).map_err(|error| refused(&error))
    }

    fn finish(self: Box<Self>, _: bool) -> Result<()> {
        self.writer.close().map(drop).map_err(|error| refused(&error))
    }
}

pub struct ArrowFile<'w> {
    writer: FileWriter<Through<'w>>,
    schema: SchemaRef,
}

impl<'w> ArrowFile<'w> {
    pub fn new(schema: &SchemaRef, out: &'w mut (dyn Write + Send)) -> Result<ArrowFile<'w>> {
        let schema = plain(schema);
        let writer = FileWriter::try_new(Through { out }, &schema).map_err(|error| refused(&error))?;
        Ok(ArrowFile { writer, schema })
    }
}

impl Sink for ArrowFile<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(&renamed(batch, &self.schema)?).map_err(|error| refused(&error))
    }

    fn finish(mut self: Box<Self>, _: bool) -> Result<()> {
        self.writer.finish().map_err(|error| refused(&error))
    }
}
