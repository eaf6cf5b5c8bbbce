//! Aligned columns, as psql prints them.

use super::{Sink, failed, headings, texts};
use crate::error::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::io::Write;
use unicode_width::UnicodeWidthStr;

/// Widths are those of the first rows, so that a long answer is printed while it comes and held nowhere.
const MEASURED: usize = 10_000;

pub(super) type Row = Vec<Option<String>>;

pub struct Table<'w> {
    out: &'w mut (dyn Write + Send),
    names: Vec<String>,
    right: Vec<bool>,
    waiting: Vec<Row>,
    widths: Option<Vec<usize>>,
    count: usize,
}

/// What a terminal would obey, written out as psql does; a line's end is one.
pub(super) fn tame(text: String) -> String {
    if !text.chars().any(|c| c.is_control() && c != '\n') {
        return text;
    }
    let mut tame = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => tame.push(c),
            '\t' => tame.push_str("\\t"),
            '\r' => tame.push_str("\\r"),
            c if c.is_control() => tame.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => tame.push(c),
        }
    }
    tame
}

/// Columns that a terminal gives to a text: two to 漢, none to a combining accent.
pub(super) fn length(text: &str) -> usize {
    text.width()
}

/// A text with blanks up to a width: how much of them goes before it?
fn padded(text: &str, width: usize, before: fn(usize) -> usize) -> String {
    let blanks = width.saturating_sub(length(text));
    let before = before(blanks);
    format!(" {}{text}{} ", " ".repeat(before), " ".repeat(blanks - before))
}

/// `(3 rows)`.
pub(super) fn footer(count: usize, cut: bool) -> String {
    let plural = if count == 1 { "" } else { "s" };
    let more = if cut { "; there are more" } else { "" };
    format!("({count} row{plural}{more})")
}

impl<'w> Table<'w> {
    pub fn new(schema: &SchemaRef, out: &'w mut (dyn Write + Send)) -> Table<'w> {
        let right = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
        Table {
            out,
            names: headings(schema).into_iter().map(tame).collect(),
            right,
            waiting: Vec::new(),
            widths: None,
            count: 0,
        }
    }

    fn line(&mut self, cells: &[String]) -> Result<()> {
        writeln!(self.out, "{}", cells.join("|").trim_end()).map_err(failed)
    }

    /// Prints the head, if it is not there, and the rows that wait.
    fn flush(&mut self) -> Result<()> {
        let widths = match self.widths.take() {
            Some(widths) => widths,
            None => {
                let widths = self.measure();
                let head: Vec<String> = self
                    .names
                    .iter()
                    .zip(&widths)
                    .map(|(name, width)| padded(name, *width, |blanks| blanks / 2))
                    .collect();
                self.line(&head)?;
                let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
                writeln!(self.out, "{rule}").map_err(failed)?;
                widths
            }
        };
        for row in std::mem::take(&mut self.waiting) {
            // A value of several lines takes as many, the others beside it are blank there.
            let values: Vec<Vec<&str>> =
                row.iter().map(|value| value.as_deref().unwrap_or("").split('\n').collect()).collect();
            for at in 0..values.iter().map(Vec::len).max().unwrap_or(1) {
                let cells = values.iter().zip(&widths).zip(&self.right).map(|((lines, width), right)| {
                    let value = lines.get(at).copied().unwrap_or("");
                    padded(value, *width, if *right { |blanks| blanks } else { |_| 0 })
                });
                let cells: Vec<String> = cells.collect();
                self.line(&cells)?;
            }
        }
        self.widths = Some(widths);
        Ok(())
    }

    fn measure(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.names.iter().map(|name| length(name)).collect();
        for row in &self.waiting {
            for (width, value) in widths.iter_mut().zip(row) {
                *width = value.iter().flat_map(|value| value.split('\n')).map(length).fold(*width, usize::max);
            }
        }
        widths
    }
}

impl Sink for Table<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.count += batch.num_rows();
        let tamed = |row: Row| row.into_iter().map(|value| value.map(tame)).collect::<Row>();
        self.waiting.extend(texts(batch).map(tamed));
        if self.widths.is_some() || self.waiting.len() >= MEASURED {
            self.flush()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, cut: bool) -> Result<()> {
        self.flush()?;
        writeln!(self.out, "{}", footer(self.count, cut)).map_err(failed)
    }
}
