//! Formats of which every row is a line: csv, tsv, json, ndjson, markdown.

use super::value::{json, json_text};
use super::{Format, Sink, failed, headings, keys, texts};
use crate::error::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::io::Write;

pub struct Lines<'w> {
    out: &'w mut (dyn Write + Send),
    format: Format,
    keys: Vec<String>,
    rows: usize,
}

fn csv(text: &str) -> String {
    match text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// As PostgreSQL's COPY writes it.
fn tsv(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn markdown(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(|c: char| c.is_control(), " ")
}

impl<'w> Lines<'w> {
    pub fn new(format: Format, schema: &SchemaRef, out: &'w mut (dyn Write + Send)) -> Result<Lines<'w>> {
        let names = headings(schema);
        let spelled = |f: fn(&str) -> String| names.iter().map(|name| f(name)).collect::<Vec<_>>();
        match format {
            Format::Csv => writeln!(out, "{}", spelled(csv).join(",")),
            Format::Tsv => writeln!(out, "{}", spelled(tsv).join("\t")),
            Format::Json => write!(out, "["),
            Format::Markdown => {
                let rules = schema.fields().iter().map(|f| if f.data_type().is_numeric() { "---:" } else { "---" });
                let rules: Vec<&str> = rules.collect();
                writeln!(out, "| {} |\n| {} |", spelled(markdown).join(" | "), rules.join(" | "))
            }
            _ => Ok(()),
        }
        .map_err(failed)?;
        let keys = keys(schema).iter().map(|key| json_text(key)).collect();
        Ok(Lines { out, format, keys, rows: 0 })
    }

    fn objects(&mut self, batch: &RecordBatch) -> std::io::Result<()> {
        for row in 0..batch.num_rows() {
            let cells =
                self.keys.iter().zip(batch.columns()).map(|(key, column)| format!("{key}:{}", json(column, row)));
            let object = cells.collect::<Vec<_>>().join(",");
            match (self.format, self.rows + row) {
                (Format::Json, 0) => write!(self.out, "\n{{{object}}}")?,
                (Format::Json, _) => write!(self.out, ",\n{{{object}}}")?,
                _ => writeln!(self.out, "{{{object}}}")?,
            }
        }
        Ok(())
    }

    fn lines(&mut self, batch: &RecordBatch) -> std::io::Result<()> {
        for row in texts(batch) {
            let cell = |null: &str, f: fn(&str) -> String| {
                let cells = row.iter().map(|value| value.as_deref().map_or_else(|| null.to_owned(), f));
                cells.collect::<Vec<_>>()
            };
            match self.format {
                Format::Csv => writeln!(self.out, "{}", cell("", csv).join(","))?,
                Format::Tsv => writeln!(self.out, "{}", cell("\\N", tsv).join("\t"))?,
                _ => writeln!(self.out, "| {} |", cell("", markdown).join(" | "))?,
            }
        }
        Ok(())
    }
}

impl Sink for Lines<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self.format {
            Format::Json | Format::Ndjson => self.objects(batch),
            _ => self.lines(batch),
        }
        .map_err(failed)?;
        self.rows += batch.num_rows();
        Ok(())
    }

    fn finish(self: Box<Self>, _: bool) -> Result<()> {
        match self.format {
            Format::Json => self.out.write_all(b"\n]\n").map_err(failed),
            _ => Ok(()),
        }
    }
}
