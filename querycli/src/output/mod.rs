//! Rows on their way out: formats, and sinks that write batches as they come.

mod columnar;
mod expanded;
mod table;
mod target;
mod text;
pub mod value;

pub use target::Target;

use crate::error::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::ValueEnum;
use std::io::Write;
use std::path::Path;

/// How rows are printed.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns, as psql prints them
    #[default]
    Table,
    /// A line for every column, as psql prints them after \\x
    Expanded,
    /// RFC 4180 with a header; NULL is empty, an empty text is ""
    Csv,
    /// Tab-separated with a header; tabs, line ends and backslashes are escaped, NULL is \N
    Tsv,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
    /// A table for Markdown pages
    Markdown,
    /// Apache Parquet, zstd-compressed; to a file or a pipe
    Parquet,
    /// Arrow IPC file; to a file or a pipe
    Arrow,
}

impl Format {
    /// Every format by its name.
    pub const NAMES: [(&'static str, Format); 9] = [
        ("table", Format::Table),
        ("expanded", Format::Expanded),
        ("csv", Format::Csv),
        ("tsv", Format::Tsv),
        ("json", Format::Json),
        ("ndjson", Format::Ndjson),
        ("markdown", Format::Markdown),
        ("parquet", Format::Parquet),
        ("arrow", Format::Arrow),
    ];

    /// By name, as in `\format csv`.
    ///
    /// # Errors
    /// A name that no format has.
    pub fn parse(name: &str) -> Result<Format> {
        let found = Format::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, format)| *format).ok_or_else(|| {
            let names: Vec<&str> = Format::NAMES.iter().map(|(name, _)| *name).collect();
            Error::question(format!("unknown format \"{name}\""), format!("use {}", names.join(", ")))
        })
    }

    /// What a file's name asks for; `None` if it does not tell.
    pub fn of_file(file: &Path) -> Option<Format> {
        Some(match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Format::Csv,
            "tsv" | "tab" => Format::Tsv,
            "json" => Format::Json,
            "ndjson" | "jsonl" => Format::Ndjson,
            "md" | "markdown" => Format::Markdown,
            "parquet" | "pq" => Format::Parquet,
            "arrow" | "feather" | "ipc" => Format::Arrow,
            "txt" => Format::Table,
            _ => return None,
        })
    }

    /// Whether its last line says that there are more rows.
    pub fn tells_of_more(self) -> bool {
        matches!(self, Format::Table | Format::Expanded)
    }

    /// Whether people cannot read it.
    pub fn is_binary(self) -> bool {
        matches!(self, Format::Parquet | Format::Arrow)
    }
}

/// Where the rows of one statement go, in one format.
pub trait Sink {
    /// Some rows.
    ///
    /// # Errors
    /// A reader that went away, a disk that is full.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// No more rows; `cut` says that there are more, but not here.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn finish(self: Box<Self>, cut: bool) -> Result<()>;
}

impl Format {
    /// A sink for rows of a schema.
    ///
    /// # Errors
    /// A schema that the format cannot hold, a reader that went away.
    pub fn sink<'w>(self, schema: &SchemaRef, out: &'w mut (dyn Write + Send)) -> Result<Box<dyn Sink + 'w>> {
        Ok(match self {
            Format::Table => Box::new(table::Table::new(schema, out)),
            Format::Expanded => Box::new(expanded::Expanded::new(schema, out)),
            Format::Csv | Format::Tsv | Format::Json | Format::Ndjson | Format::Markdown => {
                Box::new(text::Lines::new(self, schema, out)?)
            }
            Format::Parquet => Box::new(columnar::Parquet::new(schema, out)?),
            Format::Arrow => Box::new(columnar::ArrowFile::new(schema, out)?),
        })
    }
}

/// Names as PostgreSQL gives them: a call without a name of its own is called like its function.
fn headings(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| value::heading(field.name()).to_owned()).collect()
}

/// The same, but no name twice: where names are keys, those that would meet keep the whole expression.
fn keys(schema: &SchemaRef) -> Vec<String> {
    let short = headings(schema);
    let once = |name: &str| short.iter().filter(|other| *other == name).count() == 1;
    let fields = schema.fields().iter().zip(&short);
    fields.map(|(field, short)| if once(short) { short.clone() } else { field.name().clone() }).collect()
}

/// A failed write. [`is_broken_pipe`] recognises the harmless one.
pub(crate) fn failed(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Error::world(BROKEN_PIPE, ""),
        _ => Error::world(format!("cannot write: {error}"), "is the disk full?"),
    }
}

const BROKEN_PIPE: &str = "the reader of the output went away";

/// Whether whoever reads has enough, as in `querycli ... | head`: not an error.
pub fn is_broken_pipe(error: &Error) -> bool {
    error.message == BROKEN_PIPE
}

/// The answer to one statement, all of it.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Names and types.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl Rows {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every value as text, `None` for NULL.
    pub fn texts(&self) -> Vec<Vec<Option<String>>> {
        self.batches.iter().flat_map(texts).collect()
    }
}

/// Every value of a batch as text, row by row.
fn texts(batch: &RecordBatch) -> impl Iterator<Item = Vec<Option<String>>> + '_ {
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| value::text(column, row)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn sample() -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("count(*)", DataType::Int64, true),
            Field::new("a \"text\"", DataType::Utf8, true),
            Field::new("price", DataType::Float64, true),
            Field::new("open", DataType::Boolean, true),
        ]));
        RecordBatch::try_new(
            schema,
            vec![
                Arc::new(Int64Array::from(vec![Some(1), None, Some(-30)])),
                Arc::new(StringArray::from(vec![Some("a|b, \"c\""), Some(""), Some("tab\there\nnew \\ line")])),
                Arc::new(Float64Array::from(vec![Some(680.25), Some(f64::NAN), None])),
                Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            ],
        )
        .unwrap_or_else(|error| unreachable!("the columns fit: {error}"))
    }

    fn printed(format: Format) -> String {
        let batch = sample();
        let mut out = Vec::new();
        let mut sink = format.sink(&batch.schema(), &mut out).expect("a sink");
        // in two pieces, as a stream comes
        sink.write(&batch.slice(0, 1)).expect("written");
        sink.write(&batch.slice(1, 2)).expect("written");
        sink.finish(false).expect("finished");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn text_formats_keep_every_character() {
        let csv = "count,\"a \"\"text\"\"\",price,open\n1,\"a|b, \"\"c\"\"\",680.25,t\n,\"\",NaN,\n-30,\"tab\there\nnew \\ line\",,f\n";
        assert_eq!(printed(Format::Csv), csv);
        let tsv = "count\ta \"text\"\tprice\topen\n1\ta|b, \"c\"\t680.25\tt\n\\N\t\tNaN\t\\N\n-30\ttab\\there\\nnew \\\\ line\t\\N\tf\n";
        assert_eq!(printed(Format::Tsv), tsv);
    }

    /// Columns are counted as terminals show them: 漢 takes two, a flag of two letters two, a combining accent none.
    #[test]
    fn wide_characters_stay_in_their_columns() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("名前", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
        ]));
        let names = StringArray::from(vec!["日経平均", "🇯🇵", "e\u{301}cu", "🙂", "plain"]);
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(names), Arc::new(Int64Array::from(vec![1, 22, 333, 4, 5]))];
        let batch = RecordBatch::try_new(schema, columns).expect("the columns fit");
        let mut out = Vec::new();
        let mut sink = Format::Table.sink(&batch.schema(), &mut out).expect("a sink");
        sink.write(&batch).expect("written");
        sink.finish(false).expect("finished");
        let text = String::from_utf8(out).expect("text");
        let expected = "   名前   |  n\n----------+-----\n 日経平均 |   1\n 🇯🇵       |  22\n e\u{301}cu      | 333\n 🙂       |   4\n plain    |   5\n(5 rows)\n";
        assert_eq!(text, expected);
    }

    /// Expected: psql 15's, but for its blank line at the end.
    #[test]
    fn a_row_may_be_a_page() {
        let expected = "-[ RECORD 1 ]------
count    | 1
a \"text\" | a|b, \"c\"
price    | 680.25
open     | t
-[ RECORD 2 ]--------
count    |
a \"text\" |
price    | NaN
open     |
-[ RECORD 3 ]--------
count    | -30
a \"text\" | tab\\there
         | new \\ line
price    |
open     | f
(3 rows)
";
        assert_eq!(printed(Format::Expanded), expected);
    }

    #[test]
    fn names_that_would_meet_stay_whole() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("max(price)", DataType::Int64, true),
            Field::new("max(size)", DataType::Int64, true),
            Field::new("count(*)", DataType::Int64, true),
        ]));
        assert_eq!(headings(&schema), ["max", "max", "count"]);
        assert_eq!(keys(&schema), ["max(price)", "max(size)", "count"]);
    }
}
