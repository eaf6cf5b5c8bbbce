//! A line for every column, as psql prints them after `\x`: for rows that are wider than the screen.

use super::table::{Row, footer, length, tame};
use super::{Sink, failed, headings, texts};
use crate::error::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::io::Write;

pub struct Expanded<'w> {
    out: &'w mut (dyn Write + Send),
    names: Vec<String>,
    count: usize,
}

impl<'w> Expanded<'w> {
    pub fn new(schema: &SchemaRef, out: &'w mut (dyn Write + Send)) -> Expanded<'w> {
        let names = headings(schema).into_iter().map(|name| tame(name).replace('\n', " "));
        Expanded { out, names: names.collect(), count: 0 }
    }

    fn record(&mut self, row: &Row, name: usize, value: usize) -> std::io::Result<()> {
        self.count += 1;
        let mut head = format!("-[ RECORD {} ]", self.count);
        if head.len() <= name + 1 {
            head = format!("{head:-<width$}+", width = name + 1);
        }
        writeln!(self.out, "{head:-<width$}", width = name + 3 + value)?;
        for (heading, value) in self.names.iter().zip(row) {
            let mut heading = heading.as_str();
            for line in value.as_deref().unwrap_or_default().split('\n') {
                let blanks = " ".repeat(name.saturating_sub(length(heading)));
                writeln!(self.out, "{}", format!("{heading}{blanks} | {line}").trim_end())?;
                heading = "";
            }
        }
        Ok(())
    }
}

impl Sink for Expanded<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let tamed = |row: Row| row.into_iter().map(|value| value.map(tame)).collect::<Row>();
        let rows: Vec<Row> = texts(batch).map(tamed).collect();
        let name = self.names.iter().map(|name| length(name)).max().unwrap_or_default();
        let values = rows.iter().flatten().flatten().flat_map(|value| value.split('\n'));
        let value = values.map(length).max().unwrap_or_default();
        rows.iter().try_for_each(|row| self.record(row, name, value)).map_err(failed)
    }

    fn finish(self: Box<Self>, cut: bool) -> Result<()> {
        writeln!(self.out, "{}", footer(self.count, cut)).map_err(failed)
    }
}
