//! Files and folders as tables (Parquet, CSV, JSON, Arrow; packed or not), and trades read out of them.

use crate::error::{Error, Fault, Result, external};
use crate::guard::{Panic, caught, unreadable};
use crate::plausible::{EMPTY, arrow, broken, local_parquet};
use crate::postgres::read_instants;
use crate::remote;
use crate::separated::{common, head_of, separated};
use crate::tables::Market;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt32Type};
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::context::SessionContext;
use datafusion::execution::options::ArrowReadOptions;
use datafusion::prelude::{CsvReadOptions, JsonReadOptions, ParquetReadOptions, col, lit};
use market::{NONE_I64, Trade, Trades, money};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Registers every file under its stem; a single one, and the first that has the columns of trades, also as `trades`.
///
/// # Errors
/// A file that is not there, of another kind, or that cannot be read.
pub async fn register(context: &SessionContext, market: &Market, files: &[PathBuf]) -> Result<()> {
    let mut trades: Option<Arc<dyn TableProvider>> = None;
    for file in files {
        let table = open(context, market, file).await?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let schema = table.schema();
        let has_trades = ["ts", "price", "size"].iter().all(|column| schema.column_with_name(column).is_some());
        if files.len() == 1 || (has_trades && trades.is_none()) {
            trades = Some(Arc::clone(&table));
        }
        if files.len() == 1 {
            market.put("t", Arc::clone(&table));
        }
        for name in [stem.as_str(), "t", "trades"] {
            if name == stem || files.len() == 1 {
                market.names.table(name, &file.to_string_lossy());
            }
        }
        if market.put(&stem, table).is_some() && files.len() > 1 {
            return Err(Error::question(
                format!("two files are called \"{stem}\""),
                "rename one: the stem is the table's name",
            ));
        }
    }
    if let Some(table) = trades {
        // With a database `trades` is its view; the file keeps its own name.
        if market.db.is_none() {
            market.put("trades", Arc::clone(&table));
        }
        market.set_file_trades(table);
    }
    Ok(())
}

/// What a file holds, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Apache Parquet.
    Parquet,
    /// Text with this byte between columns; by its name, of which the comma is a guess (separated.rs).
    Separated(u8),
    /// An array of objects, or an object a line.
    Json,
    /// Arrow IPC.
    Arrow,
}

/// How a file is packed, by the end of its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packed {
    /// Not at all.
    No,
    /// `.gz`.
    Gzip,
    /// `.zst`.
    Zstd,
}

/// Kind, extension without the packing, and packing; `None` for a name that says nothing.
pub fn kind_of(name: &str) -> Option<(Kind, String, Packed)> {
    let lower = name.to_ascii_lowercase();
    let ends = [(".gz", Packed::Gzip), (".zst", Packed::Zstd)];
    let (bare, packed) = ends
        .iter()
        .find_map(|(end, packed)| Some((lower.strip_suffix(end)?, *packed)))
        .unwrap_or((lower.as_str(), Packed::No));
    let (_, extension) = bare.rsplit_once('.')?;
    let kind = match extension {
        "parquet" | "pq" => Kind::Parquet,
        "csv" => Kind::Separated(b','),
        "tsv" => Kind::Separated(b'\t'),
        "json" | "ndjson" | "jsonl" => Kind::Json,
        "arrow" | "ipc" | "feather" => Kind::Arrow,
        _ => return None,
    };
    // as it is written: DataFusion compares it with the end of names
    let written = &name[..bare.len()];
    let extension = written.rsplit_once('.').map_or("", |(_, extension)| extension);
    Some((kind, format!(".{extension}"), packed))
}

/// What a user may name.
pub const KINDS: &str =
    "give .parquet, .csv, .tsv, .json, .ndjson or .arrow files, also as .gz or .zst, or a folder of such files";

/// The data files below a folder, sorted; hidden ones and those named with a `_` are none.
fn below(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['.', '_']) {
            continue;
        }
        if path.is_dir() {
            below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// Columns that a folder's layout tells: `symbol=ESZ25/trade_date=2025-11-28/...`.
pub fn partitions(folder: &Path, file: &Path) -> Vec<(String, DataType)> {
    let inner = file.strip_prefix(folder).unwrap_or(file).parent().unwrap_or(Path::new(""));
    let column = |part: std::path::Component<'_>| {
        let part = part.as_os_str().to_string_lossy().into_owned();
        let (name, value) = part.split_once('=')?;
        let kind = match market::TradeDate::parse(value) {
            Ok(_) => DataType::Date32,
            Err(_) => DataType::Utf8,
        };
        Some((name.to_owned(), kind))
    };
    inner.components().filter_map(column).collect()
}

/// Files of one kind that are one table.
#[derive(Clone)]
pub struct Source {
    /// Where they are, for DataFusion; a folder ends with `/`.
    pub path: String,
    /// What they hold.
    pub kind: Kind,
    /// How their names end.
    pub extension: String,
    /// What the folder's layout tells.
    pub columns: Vec<(String, DataType)>,
    /// The files of a folder.
    pub members: Vec<String>,
    /// Whether JSON is one array.
    pub array: bool,
}

/// Opens a file or a folder, of this machine or of an object store.
///
/// # Errors
/// What is not there, is of no kind that is known, or cannot be read.
pub async fn open(context: &SessionContext, market: &Market, asked: &Path) -> Result<Arc<dyn TableProvider>> {
    if remote::is_remote(asked) {
        return remote::open(context, market, asked).await;
    }
    local(context, market, asked, &asked.display().to_string()).await
}

/// A file as a URL: DataFusion takes `*`, `?` and `[` in a path for a pattern, and reads other files too.
fn url_of(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let mut url = "file://".to_owned();
    for byte in path.to_str()?.trim_end_matches('/').bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'=' => url.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => url.push(char::from(byte)),
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(url)
}

/// Opens what lies here, which the user may call otherwise: copies of objects lie in temporary folders.
///
/// # Errors
/// Those of [`open`].
pub async fn local(
    context: &SessionContext,
    market: &Market,
    asked: &Path,
    shown: &str,
) -> Result<Arc<dyn TableProvider>> {
    if !asked.exists() {
        return Err(Error::question(format!("there is no file {shown}"), KINDS));
    }
    let unreadable = |error: std::io::Error| Error::world(format!("{shown} cannot be read: {error}"), "");
    let mut files = Vec::new();
    if asked.is_dir() {
        below(asked, &mut files).map_err(unreadable)?;
    } else {
        files.push(asked.to_owned());
    }
    let kinds: Vec<_> = files
        .iter()
        .map(|file| kind_of(&file.file_name().unwrap_or_default().to_string_lossy()))
        .collect::<Option<_>>()
        .unwrap_or_default();
    let Some((kind, extension, _)) = kinds.first().cloned() else {
        let what = if asked.is_dir() { "has files of no kind, or none," } else { "is of no kind" };
        return Err(Error::question(format!("{shown} {what} querycli reads"), KINDS));
    };
    if kinds.iter().any(|(other, end, _)| (*other, end) != (kind, &extension)) {
        return Err(Error::question(
            format!("{shown} has files of several kinds"),
            "name a folder of one kind, or its files",
        ));
    }
    let columns = if asked.is_dir() { partitions(asked, &files[0]) } else { Vec::new() };
    // What is packed is unpacked into a folder of the same shape, which goes with the session.
    let mut place = asked.to_owned();
    if kinds.iter().any(|(_, _, packed)| *packed != Packed::No) {
        let folder = tempfile::tempdir().map_err(unreadable)?;
        for (file, (_, _, packed)) in files.iter().zip(&kinds) {
            unpack(asked, file, *packed, folder.path()).map_err(unreadable)?;
        }
        place = match asked.is_dir() {
            true => folder.path().to_owned(),
            false => folder.path().join(unpacked(Path::new(asked.file_name().unwrap_or_default()), kinds[0].2)),
        };
        market.keep(folder);
    }
    let url = |path: &Path| {
        url_of(path).ok_or_else(|| Error::question(format!("the name of {shown} is not UTF-8"), "rename it"))
    };
    let mut source = Source {
        path: url(&place)?,
        kind,
        extension,
        columns,
        members: Vec::new(),
        array: kind == Kind::Json && starts_array(&place, &files[0]),
    };
    let mut members = Vec::new();
    if place.is_dir() {
        source.path.push('/');
        below(&place, &mut members).map_err(unreadable)?;
        source.members = members.iter().map(|file| url(file)).collect::<Result<_>>()?;
    }
    if matches!(kind, Kind::Separated(_)) {
        let alone = members.is_empty().then_some(&place);
        let head = head_of(members.iter().chain(alone).map(PathBuf::as_path));
        source.kind = separated(kind, &head, shown)?;
    }
    market.names.place(ListingTableUrl::parse(&source.path)?, shown);
    match members.is_empty() {
        true => plausible(&place, kind, shown).await?,
        // an empty one among others has no rows to miss
        false => {
            for member in members.iter().map(PathBuf::as_path) {
                if std::fs::metadata(member).is_ok_and(|found| found.len() > 0) {
                    let inner = member.strip_prefix(&place).unwrap_or(member);
                    plausible(member, kind, &format!("{}/{}", shown.trim_end_matches('/'), inner.display())).await?;
                }
            }
        }
    }
    read(context, market, &source, shown).await
}

/// The table of a source.
///
/// # Errors
/// Files that are not what their names say.
pub async fn read(
    context: &SessionContext,
    market: &Market,
    source: &Source,
    shown: &str,
) -> Result<Arc<dyn TableProvider>> {
    let failure = match caught(table(context, source, shown)).await {
        Ok(Ok(frame)) => return Ok(frame.into_view()),
        Ok(Err(error)) => Failure::Error(error),
        Err(panic) => Failure::Panic(panic),
    };
    if failure.is_of_one() {
        // which one of a folder's files it is, readers do not say
        for member in &source.members {
            let alone = Source { path: member.clone(), columns: Vec::new(), members: Vec::new(), ..source.clone() };
            let failure = match caught(frame(context, &alone, Vec::new())).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => Failure::Error(error),
                Err(panic) => Failure::Panic(panic),
            };
            let url = ListingTableUrl::parse(member)?;
            return Err(failure.of(&market.names.of(&url.object_store(), url.prefix())));
        }
    }
    Err(failure.of(shown))
}

/// How a file did not become a table.
enum Failure {
    Error(DataFusionError),
    Panic(Panic),
}

impl Failure {
    /// Whether one file is broken, and not several that do not go together.
    fn is_of_one(&self) -> bool {
        match self {
            Failure::Panic(_) => true,
            Failure::Error(error) => !merging(error) && !matches!(error.find_root(), DataFusionError::External(_)),
        }
    }

    fn of(self, shown: &str) -> Error {
        let error = match self {
            Failure::Panic(panic) => return unreadable(shown, &panic),
            Failure::Error(error) => error,
        };
        let hint = match merging(&error) {
            true => "files of one folder must agree on a column's type; name the files one by one, and CAST in SQL",
            false => "is it complete, and what its name says?",
        };
        let cause = Error::from(error);
        // what is ours says all
        if cause.fault == Fault::Question && !cause.hint.is_empty() {
            return cause;
        }
        Error::world(format!("{shown} cannot be read: {}", cause.message), hint)
    }
}

fn merging(error: &DataFusionError) -> bool {
    error.strip_backtrace().contains("Fail to merge schema")
}

async fn table(context: &SessionContext, source: &Source, shown: &str) -> datafusion::common::Result<DataFrame> {
    match frame(context, source, source.columns.clone()).await {
        Err(error) if !source.columns.is_empty() && is_duplicate(&error) => {
            // Files may repeat what the layout tells: then the column is the files'.
            let own = frame(context, source, Vec::new()).await?;
            let repeated = |(name, _): &(String, DataType)| own.schema().as_arrow().column_with_name(name).is_some();
            let kept: Vec<_> = source.columns.iter().take_while(|column| !repeated(column)).cloned().collect();
            // A path is read from its beginning, up to the first folder that is not wanted.
            if let Some((name, _)) = source.columns[kept.len()..].iter().find(|column| !repeated(column)) {
                let (first, _) = &source.columns[kept.len()];
                return Err(external(Error::question(
                    format!(
                        "{shown}: the column \"{first}\" is in the files and in the names of folders, and below those are folders of \"{name}\", which is not in the files"
                    ),
                    "name the files one by one, write both columns into the files, or leave both out of them",
                )));
            }
            match kept.is_empty() {
                true => Ok(own),
                false => frame(context, source, kept).await,
            }
        }
        other => other,
    }
}

fn is_duplicate(error: &DataFusionError) -> bool {
    let DataFusionError::SchemaError(schema, _) = error.find_root() else { return false };
    matches!(
        **schema,
        SchemaError::DuplicateQualifiedField { .. }
            | SchemaError::DuplicateUnqualifiedField { .. }
            | SchemaError::AmbiguousReference { .. }
    )
}

async fn frame(
    context: &SessionContext,
    source: &Source,
    columns: Vec<(String, DataType)>,
) -> datafusion::common::Result<DataFrame> {
    let (path, extension) = (source.path.as_str(), source.extension.as_str());
    match source.kind {
        Kind::Parquet => {
            let options = ParquetReadOptions::default().file_extension(extension).table_partition_cols(columns);
            context.read_parquet(path, options).await
        }
        Kind::Separated(delimiter) => {
            let schema = match source.members.is_empty() {
                true => None,
                false => Some(common(context, source, delimiter).await?),
            };
            let mut options = CsvReadOptions::default().file_extension(extension).delimiter(delimiter);
            options.schema = schema.as_ref();
            context.read_csv(path, options.table_partition_cols(columns)).await
        }
        Kind::Json => {
            let options = JsonReadOptions::default().file_extension(extension).table_partition_cols(columns);
            context.read_json(path, options.newline_delimited(!source.array)).await
        }
        Kind::Arrow => {
            let mut options = ArrowReadOptions::default().table_partition_cols(columns);
            options.file_extension = extension;
            context.read_arrow(path, options).await
        }
    }
}

/// Refuses a file that can be none of its kind.
async fn plausible(file: &Path, kind: Kind, shown: &str) -> Result<()> {
    let unreadable = |error: std::io::Error| Error::world(format!("{shown} cannot be read: {error}"), "");
    // JSON without rows is an empty file
    if std::fs::metadata(file).map_err(unreadable)?.len() == 0 && kind != Kind::Json {
        return Err(broken(shown, EMPTY));
    }
    let fault = match kind {
        Kind::Parquet => local_parquet(file).await?,
        Kind::Arrow => arrow(file).map_err(unreadable)?,
        _ => None,
    };
    fault.map_or(Ok(()), |why| Err(broken(shown, &why)))
}

/// The name without `.gz` or `.zst`.
fn unpacked(file: &Path, packed: Packed) -> PathBuf {
    if packed == Packed::No { file.to_owned() } else { file.with_extension("") }
}

fn unpack(asked: &Path, file: &Path, packed: Packed, into: &Path) -> std::io::Result<()> {
    let inner = match file.strip_prefix(asked) {
        Ok(inner) if !inner.as_os_str().is_empty() => inner,
        _ => Path::new(file.file_name().unwrap_or_default()),
    };
    let target = into.join(unpacked(inner, packed));
    std::fs::create_dir_all(target.parent().unwrap_or(into))?;
    let (from, mut to) = (std::fs::File::open(file)?, std::fs::File::create(target)?);
    match packed {
        Packed::No => std::io::copy(&mut std::io::BufReader::new(from), &mut to)?,
        Packed::Gzip => std::io::copy(&mut flate2::read::MultiGzDecoder::new(from), &mut to)?,
        Packed::Zstd => std::io::copy(&mut zstd::Decoder::new(from)?, &mut to)?,
    };
    Ok(())
}

/// Whether a JSON file is one array rather than an object a line.
fn starts_array(place: &Path, first: &Path) -> bool {
    let file = if place.is_dir() { first } else { place };
    let mut head = [0; 256];
    let read = std::fs::File::open(file).and_then(|mut file| std::io::Read::read(&mut file, &mut head)).unwrap_or(0);
    is_array(&head[..read])
}

/// Whether JSON that begins so is one.
pub fn is_array(head: &[u8]) -> bool {
    head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// The trades of a symbol in a file, sorted. Without `seq` the row's number orders trades of one instant.
///
/// # Errors
/// A table without the columns of trades, or a value that is none.
pub async fn trades(context: &SessionContext, table: Arc<dyn TableProvider>, symbol: &str) -> Result<Trades> {
    let schema = table.schema();
    let has = |name: &str| schema.column_with_name(name).is_some();
    for name in ["ts", "price", "size"] {
        if !has(name) {
            return Err(Error::question(
                format!("the file has no column \"{name}\""),
                "session_ohlc needs ts, price and size; rename columns, or group by session_bucket and use ohlc",
            ));
        }
    }
    let mut frame = context.read_table(table)?;
    if has("symbol") {
        frame = frame.filter(col("symbol").eq(lit(symbol)))?;
    }
    let wanted: Vec<&str> =
        ["ts", "price", "size", "ns", "seq", "sub", "flags"].into_iter().filter(|name| has(name)).collect();
    let batches = frame.select_columns(&wanted)?.collect().await?;
    let mut trades = Trades::new();
    for batch in &batches {
        push(batch, &mut trades)?;
    }
    trades.sort_by_key();
    Ok(trades)
}

fn push(batch: &RecordBatch, trades: &mut Trades) -> Result<()> {
    let column = |name: &str, kind: &DataType| -> Result<Option<arrow::array::ArrayRef>> {
        let found = batch.column_by_name(name);
        if let Some(texts) = found.filter(|_| kind.is_temporal()).filter(|c| c.data_type().is_string()) {
            return Ok(Some(
                cast(&read_instants(texts)?, kind).map_err(|e| external(Error::world(e.to_string(), "")))?,
            ));
        }
        found.map(|c| cast(c, kind)).transpose().map_err(|e| Error::from(external(Error::world(e.to_string(), ""))))
    };
    let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let (Some(ts), Some(price), Some(size)) =
        (column("ts", &instant)?, column("price", &DataType::Float64)?, column("size", &DataType::Float64)?)
    else {
        return Ok(());
    };
    let (seq, sub) = (column("seq", &DataType::Int64)?, column("sub", &DataType::Int32)?);
    let (ns, flags) = (column("ns", &DataType::Int64)?, column("flags", &DataType::UInt32)?);
    let numbered = trades.len() as i64;
    for row in 0..batch.num_rows() {
        if ts.is_null(row) || price.is_null(row) || size.is_null(row) {
            continue;
        }
        let whole = ts.as_primitive::<TimestampNanosecondType>().value(row);
        trades.push(Trade {
            ts: whole + ns.as_ref().map_or(0, |c| c.as_primitive::<Int64Type>().value(row)),
            seq: seq.as_ref().map_or(numbered + row as i64, |c| c.as_primitive::<Int64Type>().value(row)),
            sub: sub.as_ref().map_or(0, |c| c.as_primitive::<Int32Type>().value(row)),
            price: money::price_from_f64(price.as_primitive::<Float64Type>().value(row))?,
            size: money::size_from_f64(size.as_primitive::<Float64Type>().value(row))?,
            flags: flags.as_ref().map_or(0, |c| c.as_primitive::<UInt32Type>().value(row)),
            cond: 0,
            ts_recv: NONE_I64,
            trade_id: NONE_I64,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_a_file_holds() {
        let check = |name: &str, expected: Option<(Kind, &str, Packed)>| {
            let expected = expected.map(|(kind, extension, packed)| (kind, extension.to_owned(), packed));
            assert_eq!(kind_of(name), expected, "{name}");
        };
        check("a.parquet", Some((Kind::Parquet, ".parquet", Packed::No)));
        check("a.b.CSV.gz", Some((Kind::Separated(b','), ".CSV", Packed::Gzip)));
        check("a.tsv.zst", Some((Kind::Separated(b'\t'), ".tsv", Packed::Zstd)));
        check("a.ndjson", Some((Kind::Json, ".ndjson", Packed::No)));
        check("a.feather", Some((Kind::Arrow, ".feather", Packed::No)));
        for name in ["a", "a.gz", "a.txt", "csv", "a.csv.bz2"] {
            check(name, None);
        }
    }

    #[test]
    fn a_folder_tells_columns() {
        let file = Path::new("/x/symbol=ESZ25/trade_date=2025-11-28/0.parquet");
        let expected = [("symbol".to_owned(), DataType::Utf8), ("trade_date".to_owned(), DataType::Date32)];
        assert_eq!(partitions(Path::new("/x"), file), expected);
        assert_eq!(partitions(Path::new("/x/symbol=ESZ25"), file), expected[1..]);
        assert_eq!(partitions(Path::new("/x"), Path::new("/x/0.parquet")), []);
    }
}
