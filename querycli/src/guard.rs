//! What readers of files make of bytes that are no file: an error that names it, whether they say one or panic.
//!
//! The readers of Parquet and Arrow believe much of what a file says and panic where that leads nowhere; of a file that
//! somebody else wrote, or that a disk spoilt, that is no defect of the program and no reason for a backtrace. So panics are
//! caught in three places: where a file becomes a table (files.rs), where its bytes become rows (named.rs), and around the
//! whole of a statement (lib.rs). What is caught in the last and no reader's fault is a defect, and called one.

use crate::error::{Error, Result, external};
use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt};
use object_store::path::Path as Key;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The threads on which statements run; see [`quiet`].
pub const THREAD: &str = "querycli-worker";

/// Panics on the threads of statements print nothing: they are caught, and told as errors. `RUST_BACKTRACE` shows them.
pub fn quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let caught = std::thread::current().name() == Some(THREAD);
        if !caught || std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            usual(panic);
        }
    }));
}

/// What a panic said, in one line.
pub struct Panic(pub String);

impl Panic {
    fn of(payload: &(dyn Any + Send)) -> Panic {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked");
        Panic(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// Runs to the end, or to the panic.
///
/// Nothing that panicked is used again: what it held goes with it. That is why it may be asserted to be safe.
pub async fn caught<T>(work: impl Future<Output = T>) -> std::result::Result<T, Panic> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|payload| Panic::of(payload.as_ref()))
}

/// The same for what does not wait.
pub fn caught_now<T>(work: impl FnOnce() -> T) -> std::result::Result<T, Panic> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panic::of(payload.as_ref()))
}

/// A file whose reader panicked.
pub fn unreadable(name: &str, panic: &Panic) -> Error {
    Error::world(
        format!("{name} cannot be read: the reader gave up: {}", panic.0),
        "is it complete, and what its name says? if so, please report this; RUST_BACKTRACE=1 tells where it is",
    )
}

/// A panic of a statement: of a file that it reads, or else a defect.
pub fn defect(panic: &Panic, files: &str) -> Error {
    if !files.is_empty() {
        return unreadable(files, panic);
    }
    Error::world(
        format!("querycli has a defect: {}", panic.0),
        "please report it, with the statement; RUST_BACKTRACE=1 tells where it is",
    )
}

/// An error of reading a file, with the file's name; others as they are.
///
/// Expressions are computed where files are read, so that not all that fails there is the file's fault.
pub fn named(name: &str, error: DataFusionError) -> DataFusionError {
    if name.is_empty() || !of_reader(error.find_root()) {
        return error;
    }
    let cause = Error::from(error);
    let guessed = ["Error while parsing value", "Error parsing column"].iter().any(|said| cause.message.contains(said));
    let hint = match guessed {
        true => {
            "a column's type is what fits its first 1000 rows; name the types: CREATE EXTERNAL TABLE x (a text, ...) STORED AS CSV LOCATION 'FILE' OPTIONS ('format.has_header' 'true')"
        }
        false => "is it complete, and what its name says?",
    };
    external(Error::world(format!("{name} cannot be read: {}", cause.message), hint))
}

/// How errors begin that readers of CSV and Arrow call those of parsing; a CAST in SQL has others of the kind.
const OF_FILES: [&str; 13] = [
    "Error while parsing value",
    "Error parsing column",
    "Arrow file",
    "Expecting DictionaryBatch",
    "Failed to parse dictionary",
    "Failed to parse schema",
    "Field ",
    "Invalid footer",
    "Invalid metadata",
    "The buffer length",
    "The encapsulated message",
    "Unable to get",
    "Unsupported message",
];

fn of_reader(error: &DataFusionError) -> bool {
    use DataFusionError as E;
    match error {
        E::ParquetError(_) | E::ObjectStore(_) | E::IoError(_) => true,
        E::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::ParquetError(_)
            | ArrowError::CsvError(_)
            | ArrowError::JsonError(_)
            | ArrowError::IpcError(_)
            | ArrowError::IoError(..) => true,
            ArrowError::ParseError(text) => OF_FILES.iter().any(|begin| text.starts_with(begin)),
            // lengths and offsets of arrays that do not fit each other, or what is announced
            ArrowError::InvalidArgumentError(_) | ArrowError::SchemaError(_) => true,
            _ => false,
        },
        _ => false,
    }
}

/// Rows that end with an error where making them panics.
pub fn rows(rows: SendableRecordBatchStream, files: String) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let caught = AssertUnwindSafe(rows).catch_unwind().map(move |batch| match batch {
        Ok(batch) => batch,
        Err(payload) => Err(external(defect(&Panic::of(payload.as_ref()), &files))),
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, caught))
}

/// The same for the rows of a file.
pub fn rows_of<T: 'static>(
    rows: impl Stream<Item = datafusion::common::Result<T>> + Send + 'static,
    name: Arc<str>,
) -> BoxStream<'static, datafusion::common::Result<T>> {
    let caught = AssertUnwindSafe(rows).catch_unwind().map(move |batch| match batch {
        Ok(batch) => batch.map_err(|error| named(&name, error)),
        Err(payload) => Err(external(unreadable(&name, &Panic::of(payload.as_ref())))),
    });
    Box::pin(caught)
}

/// What the user calls the files of a session, by where they are and by table.
#[derive(Debug, Default)]
pub struct Names {
    places: Mutex<Vec<(ListingTableUrl, String)>>,
    tables: Mutex<BTreeMap<String, String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Names {
    /// What is below a place is shown below this name: copies and unpacked files lie elsewhere than the user said.
    pub fn place(&self, url: ListingTableUrl, shown: &str) {
        locked(&self.places).push((url, shown.trim_end_matches('/').to_owned()));
    }

    /// A table is read from what is shown so.
    pub fn table(&self, table: &str, shown: &str) {
        locked(&self.tables).insert(table.to_owned(), shown.to_owned());
    }

    /// The name of a file.
    pub fn of(&self, store: &ObjectStoreUrl, key: &Key) -> String {
        let places = locked(&self.places);
        let inside = places.iter().filter(|(url, _)| url.object_store() == *store && key.prefix_matches(url.prefix()));
        let Some((url, shown)) = inside.max_by_key(|(url, _)| url.prefix().as_ref().len()) else {
            return key.to_string();
        };
        let rest: Vec<String> =
            key.prefix_match(url.prefix()).into_iter().flatten().map(|part| part.as_ref().to_owned()).collect();
        std::iter::once(shown.clone()).chain(rest).collect::<Vec<_>>().join("/")
    }

    /// The files that some tables are read from, in a few words; empty if they are read from none.
    pub fn of_tables<'a>(&self, tables: impl Iterator<Item = &'a str>) -> String {
        let known = locked(&self.tables);
        let mut shown: Vec<&str> = tables.filter_map(|table| known.get(table)).map(String::as_str).collect();
        shown.sort_unstable();
        shown.dedup();
        match shown.as_slice() {
            [] | [_] => shown.concat(),
            several => format!("one of {}", several.join(", ")),
        }
    }
}

/// The first error of some questions to a store, of which 16 are asked at once.
///
/// # Errors
/// That of the first one that fails.
pub async fn each(questions: Vec<BoxFuture<'_, Result<()>>>) -> Result<()> {
    let mut answers = futures_util::stream::iter(questions).buffered(16);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}
