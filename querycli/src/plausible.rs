//! Whether a file can be what its name says, asked before a reader believes it.
//!
//! Readers take lengths and counts from the file and ask for as much memory; where there is not so much, Rust ends the
//! program, and nothing can catch that. So what a file claims is compared with how long it is. The same is asked of files here
//! and of objects elsewhere, of which only the end is fetched.

use crate::error::{Error, Result};
use crate::guard::caught_now;
use arrow::ipc::reader::FileReader;
use arrow::ipc::{MessageHeader, root_as_footer, root_as_message};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use std::fs::File;
use std::future::ready;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// What is wrong; nothing, if nothing is.
type Fault = Option<String>;

/// So much of a Parquet file's end is fetched at once: mostly all that tells of its columns.
const TAIL: u64 = 64 * 1024;

/// Schemas nest no deeper.
const DEEPEST: usize = 64;

/// The error of a file that can be none of its kind.
pub fn broken(shown: &str, why: &str) -> Error {
    Error::world(format!("{shown} {why}"), "is it complete, and what its name says?")
}

/// What a file of no bytes is told.
pub const EMPTY: &str = "is empty: nothing tells its columns";

/// How many bytes before the last 8 describe a Parquet file of this length.
fn described(length: u64, end: [u8; 8]) -> std::result::Result<u64, &'static str> {
    if &end[4..] != b"PAR1" {
        return Err("is no Parquet file: its end is missing");
    }
    let described = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    match described > 0 && described + 12 <= length {
        true => Ok(described),
        false => Err("is no Parquet file: its end is broken"),
    }
}

/// How a stretch of a file is read.
pub type Read<'a> = &'a (dyn Fn(Range<u64>) -> BoxFuture<'a, Result<Bytes>> + Sync);

/// Asks a Parquet file of a length.
///
/// # Errors
/// Those of `read`.
pub async fn parquet(length: u64, read: Read<'_>) -> Result<Fault> {
    if length < 12 {
        return Ok(Some("is no Parquet file: it is too short".into()));
    }
    let from = length.saturating_sub(TAIL);
    let mut tail = Tail { from, bytes: read(from..length).await? };
    let Some(end) = tail.bytes.last_chunk::<8>() else { return Ok(Some("is no Parquet file: it is cut".into())) };
    let described = match described(length, *end) {
        Ok(described) => described,
        Err(why) => return Ok(Some(why.into())),
    };
    let footer = length - 8 - described..length - 8;
    tail.reach(footer.start, read).await?;
    let described = tail.part(&footer);
    let broken = |why: &str| Ok(Some(format!("is no Parquet file: its end is broken: {why}")));
    if !thrift::footer_holds(described) {
        return broken("it claims to be longer than it is");
    }
    let metadata = match caught_now(|| ParquetMetaDataReader::decode_metadata(described)) {
        Ok(Ok(metadata)) => metadata,
        Ok(Err(error)) => return broken(&error.to_string()),
        Err(panic) => return broken(&panic.0),
    };
    let indexes = match caught_now(|| columns(&metadata, footer.start)) {
        Ok(Ok(indexes)) => indexes,
        Ok(Err(why)) => return broken(why),
        Err(panic) => return broken(&panic.0),
    };
    if let Some(first) = indexes.iter().map(|index| index.start).min() {
        tail.reach(first, read).await?;
    }
    match indexes.iter().all(|index| thrift::holds(tail.part(index))) {
        true => Ok(None),
        false => broken("an index of pages claims to be longer than it is"),
    }
}

/// The last bytes of a file.
struct Tail {
    from: u64,
    bytes: Bytes,
}

impl Tail {
    /// Fetches what is missing from a place on.
    async fn reach(&mut self, from: u64, read: Read<'_>) -> Result<()> {
        if from < self.from {
            let before = read(from..self.from).await?;
            self.bytes = [before, std::mem::take(&mut self.bytes)].concat().into();
            self.from = from;
        }
        Ok(())
    }

    fn part(&self, range: &Range<u64>) -> &[u8] {
        let at = |place: u64| usize::try_from(place.saturating_sub(self.from)).unwrap_or(usize::MAX);
        self.bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
    }
}

/// Where the indexes of pages are, if every column is where the file has bytes and has as many values as there are rows.
fn columns(metadata: &ParquetMetaData, end: u64) -> std::result::Result<Vec<Range<u64>>, &'static str> {
    let mut indexes = Vec::new();
    let mut rows = 0i64;
    for group in metadata.row_groups() {
        if group.num_rows() < 0 {
            return Err("it counts less than no rows");
        }
        rows = rows.saturating_add(group.num_rows());
        for column in group.columns() {
            let (start, length) = column.byte_range();
            if start.checked_add(length).is_none_or(|till| till > end) {
                return Err("a column lies beyond it");
            }
            // a scan without columns makes as many rows as are claimed
            if column.column_descr().max_rep_level() == 0 && column.num_values() != group.num_rows() {
                return Err("a column has not as many values as there are rows");
            }
            let index = |offset: Option<i64>, length: Option<i32>| Some((offset?, length?));
            for (offset, length) in [
                index(column.offset_index_offset(), column.offset_index_length()),
                index(column.column_index_offset(), column.column_index_length()),
            ]
            .into_iter()
            .flatten()
            {
                match (u64::try_from(offset), u64::try_from(length)) {
                    (Ok(offset), Ok(length)) if offset.checked_add(length).is_some_and(|till| till <= end) => {
                        indexes.push(offset..offset + length);
                    }
                    _ => return Err("an index of pages lies beyond it"),
                }
            }
        }
    }
    match rows == metadata.file_metadata().num_rows() {
        true => Ok(indexes),
        false => Err("it counts other rows than its parts"),
    }
}

/// Asks a Parquet file of this machine.
///
/// # Errors
/// A file that cannot be read.
pub async fn local_parquet(file: &Path) -> Result<Fault> {
    let unreadable = |error: std::io::Error| Error::world(format!("{} cannot be read: {error}", file.display()), "");
    let length = std::fs::metadata(file).map_err(unreadable)?.len();
    let stretch = |range: Range<u64>| {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
        let mut open = File::open(file)?;
        open.seek(SeekFrom::Start(range.start))?;
        open.read_exact(&mut bytes)?;
        Ok(Bytes::from(bytes))
    };
    parquet(length, &|range| Box::pin(ready(stretch(range).map_err(unreadable)))).await
}

/// Asks an Arrow file, or a stream in a file.
///
/// # Errors
/// A file that cannot be read.
pub fn arrow(file: &Path) -> std::io::Result<Fault> {
    let mut open = File::open(file)?;
    let length = open.metadata()?.len();
    let mut reader = ArrowFile { file: &mut open, length };
    let mut magic = [0; 6];
    let told = match length >= 24 && reader.read_at(0, &mut magic).is_ok() && &magic == b"ARROW1" {
        // Where the reader of files fails, DataFusion tries that of streams, which takes the first word for a length: of 1.3 GB.
        true => reader.blocks().and_then(|()| match caught_now(|| FileReader::try_new(File::open(file)?, None)) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(panic) => Err(panic.0),
        }),
        false => reader.stream(),
    };
    Ok(told.err().map(|why| format!("cannot be read: {why}")))
}

struct ArrowFile<'a> {
    file: &'a mut File,
    length: u64,
}

const NO_ARROW: &str = "it is no Arrow file";

type Told = std::result::Result<(), String>;

impl ArrowFile<'_> {
    fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Told {
        let read = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(bytes));
        read.map_err(|error| error.to_string())
    }

    fn bytes(&mut self, at: u64, count: u64) -> std::result::Result<Vec<u8>, String> {
        if at.checked_add(count).is_none_or(|till| till > self.length) {
            return Err("it claims to be longer than it is".into());
        }
        let mut bytes = vec![0; usize::try_from(count).map_err(|error| error.to_string())?];
        self.read_at(at, &mut bytes)?;
        Ok(bytes)
    }

    /// A file: its end says where its parts are.
    fn blocks(&mut self) -> Told {
        let mut end = [0; 10];
        self.read_at(self.length - 10, &mut end)?;
        let length = i32::from_le_bytes([end[0], end[1], end[2], end[3]]);
        let Some(length) = u64::try_from(length).ok().filter(|length| length + 18 <= self.length) else {
            return Err("its end is broken".into());
        };
        if &end[4..] != b"ARROW1" {
            return Err("its end is missing".into());
        }
        let footer = self.bytes(self.length - 10 - length, length)?;
        let footer = root_as_footer(&footer).map_err(|error| format!("its end is broken: {error}"))?;
        let blocks = footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten());
        for block in blocks {
            let place = (block.offset(), block.metaDataLength(), block.bodyLength());
            let (Ok(at), Ok(described @ 8..), Ok(body)) =
                (u64::try_from(place.0), u64::try_from(place.1), u64::try_from(place.2))
            else {
                return Err("its end is broken".into());
            };
            let message = self.bytes(at, described)?;
            let skipped = if message.starts_with(&[0xff; 4]) { 8 } else { 4 };
            self.message(&message[skipped..], at + described, body)?;
        }
        Ok(())
    }

    /// A stream: one message after the other.
    fn stream(&mut self) -> Told {
        let (mut at, mut first) = (0, true);
        // a stream may just end
        while at + 4 <= self.length {
            let mut word = [0; 4];
            self.read_at(at, &mut word)?;
            at += 4;
            if word == [0xff; 4] {
                self.read_at(at, &mut word)?;
                at += 4;
            }
            let length = u64::try_from(i32::from_le_bytes(word)).map_err(|_| NO_ARROW)?;
            if length == 0 {
                break;
            }
            let message = self.bytes(at, length).map_err(|why| if first { NO_ARROW.to_owned() } else { why })?;
            let body = root_as_message(&message).map_err(|_| NO_ARROW)?.bodyLength();
            let body = u64::try_from(body).map_err(|_| NO_ARROW)?;
            self.message(&message, at + length, body)?;
            at += length + body;
            first = false;
        }
        Ok(())
    }

    /// A message and the place of its body, which the file must have; what is packed in it must fit into memory.
    fn message(&mut self, message: &[u8], at: u64, body: u64) -> Told {
        if at.checked_add(body).is_none_or(|till| till > self.length) {
            return Err("it claims to be longer than it is".into());
        }
        let message = root_as_message(message).map_err(|error| format!("a message in it is broken: {error}"))?;
        let batch = match message.header_type() {
            MessageHeader::RecordBatch => message.header_as_record_batch(),
            MessageHeader::DictionaryBatch => message.header_as_dictionary_batch().and_then(|batch| batch.data()),
            _ => None,
        };
        let Some(batch) = batch else { return Ok(()) };
        let packed = batch.compression().is_some();
        let mut unpacked = 0u64;
        for buffer in batch.buffers().into_iter().flatten() {
            let (Ok(offset), Ok(length)) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length())) else {
                return Err("a message in it is broken".into());
            };
            if offset.checked_add(length).is_none_or(|till| till > body) {
                return Err("it claims to be longer than it is".into());
            }
            let mut claimed = length;
            if packed && length >= 8 {
                let mut bytes = [0; 8];
                self.read_at(at + offset, &mut bytes)?;
                // minus one says that it is not packed
                claimed = u64::try_from(i64::from_le_bytes(bytes)).unwrap_or(length);
                if !fits(claimed) {
                    return Err(format!("{claimed} bytes are packed in it, which are more than memory has"));
                }
            }
            unpacked = unpacked.saturating_add(claimed);
        }
        // A scan without columns makes as many rows as are claimed. A value takes a bit at least, but for columns of NULLs alone.
        let rows = u64::try_from(batch.length()).unwrap_or(u64::MAX);
        let other = batch.nodes().is_some_and(|nodes| !nodes.is_empty() && nodes.get(0).length() != batch.length());
        match other || rows > unpacked.saturating_mul(8).saturating_add(NULLS) {
            true => Err("it counts other rows than it has".into()),
            false => Ok(()),
        }
    }
}

/// So many rows a message may have that take no bytes.
const NULLS: u64 = 1 << 24;

/// Whether there is so much memory: the reader asks for it in one piece, in a way that ends the program if there is not.
fn fits(bytes: u64) -> bool {
    let mut piece = Vec::<u8>::new();
    let fits = usize::try_from(bytes).is_ok_and(|bytes| piece.try_reserve_exact(bytes).is_ok());
    std::hint::black_box(&piece);
    fits
}

/// The notation of Parquet's descriptions, Thrift's compact protocol
/// (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md), as far as counts can be too large.
mod thrift {
    use super::DEEPEST;

    /// Whether no list in a structure claims more elements than there are bytes left, each of which takes one at least.
    pub fn holds(bytes: &[u8]) -> bool {
        Reader(bytes).structure(0).is_some()
    }

    /// The same of a file's description, whose schema must not nest too deep either: readers recur.
    pub fn footer_holds(bytes: &[u8]) -> bool {
        let mut reader = Reader(bytes);
        let mut id = 0;
        loop {
            let Some(field) = reader.field(&mut id) else { return false };
            let Some(kind) = field else { return true };
            let read = if (id, kind) == (2, LIST) { reader.schema() } else { reader.value(kind, 1) };
            if read.is_none() {
                return false;
            }
        }
    }

    const LIST: u8 = 9;
    const STRUCT: u8 = 12;

    struct Reader<'a>(&'a [u8]);

    impl Reader<'_> {
        fn skip(&mut self, count: usize) -> Option<()> {
            self.0 = self.0.get(count..)?;
            Some(())
        }

        fn byte(&mut self) -> Option<u8> {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            Some(*first)
        }

        fn number(&mut self) -> Option<u64> {
            let mut number = 0;
            for shift in (0..70).step_by(7) {
                let byte = self.byte()?;
                number |= u64::from(byte & 0x7f).checked_shl(shift)?;
                if byte & 0x80 == 0 {
                    return Some(number);
                }
            }
            None
        }

        fn signed(&mut self) -> Option<i64> {
            let number = self.number()?;
            Some((number >> 1) as i64 ^ -((number & 1) as i64))
        }

        /// A count of what takes a byte at least.
        fn count(&mut self) -> Option<usize> {
            usize::try_from(self.number()?).ok().filter(|count| *count <= self.0.len())
        }

        /// The next field's kind; an inner `None` at a structure's end.
        fn field(&mut self, id: &mut i64) -> Option<Option<u8>> {
            let head = self.byte()?;
            if head == 0 {
                return Some(None);
            }
            *id = match head >> 4 {
                0 => self.signed()?,
                step => id.checked_add(i64::from(step))?,
            };
            Some(Some(head & 0xf))
        }

        fn structure(&mut self, depth: usize) -> Option<()> {
            let mut id = 0;
            while let Some(kind) = self.field(&mut id)? {
                self.value(kind, depth + 1)?;
            }
            Some(())
        }

        /// A list's length and the kind of its elements.
        fn list(&mut self) -> Option<(usize, u8)> {
            let head = self.byte()?;
            let count = match head >> 4 {
                15 => self.count()?,
                count => usize::from(count),
            };
            Some((count, head & 0xf)).filter(|(count, _)| *count <= self.0.len())
        }

        fn value(&mut self, kind: u8, depth: usize) -> Option<()> {
            if depth > DEEPEST {
                return None;
            }
            match kind {
                // a truth of a field is in its head
                1 | 2 => Some(()),
                3 => self.skip(1),
                4..=6 => self.number().map(drop),
                7 => self.skip(8),
                8 => {
                    let count = self.count()?;
                    self.skip(count)
                }
                LIST | 10 => {
                    let (count, kind) = self.list()?;
                    for _ in 0..count {
                        self.element(kind, depth + 1)?;
                    }
                    Some(())
                }
                11 => {
                    let count = self.count()?;
                    let kinds = if count == 0 { 0 } else { self.byte()? };
                    for _ in 0..count {
                        self.element(kinds >> 4, depth + 1)?;
                        self.element(kinds & 0xf, depth + 1)?;
                    }
                    Some(())
                }
                STRUCT => self.structure(depth),
                _ => None,
            }
        }

        fn element(&mut self, kind: u8, depth: usize) -> Option<()> {
            if matches!(kind, 1 | 2) { self.skip(1) } else { self.value(kind, depth) }
        }

        /// The schema: a list of elements, each with the number of its children in field 5.
        fn schema(&mut self) -> Option<()> {
            let (count, kind) = self.list()?;
            // how many elements are to come on each level
            let mut open: Vec<i64> = Vec::new();
            for _ in 0..count {
                let mut children = 0;
                if kind == STRUCT {
                    let mut id = 0;
                    while let Some(kind) = self.field(&mut id)? {
                        match (id, kind) {
                            (5, 5) => children = self.signed()?,
                            _ => self.value(kind, 2)?,
                        }
                    }
                } else {
                    self.element(kind, 2)?;
                }
                while open.last() == Some(&0) {
                    open.pop();
                }
                if let Some(left) = open.last_mut() {
                    *left -= 1;
                }
                if children > 0 {
                    open.push(children);
                }
                if open.len() > DEEPEST {
                    return None;
                }
            }
            Some(())
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn counts_beyond_the_bytes_do_not_hold() {
            // a list (field 1) of 2 numbers, and one that claims 2^31 of them
            assert!(holds(&[0x19, 0x25, 2, 4, 0]));
            assert!(!holds(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 7, 2, 4, 0]));
            // a text of 3 bytes, of which 2 are there
            assert!(!holds(&[0x18, 3, b'a', b'b']));
            assert!(!holds(&[]));
            // structures in structures
            let deep = |depth: usize| [vec![0x1c; depth], vec![0; depth + 1]].concat();
            assert!(holds(&deep(40)) && !holds(&deep(1000)));
        }

        #[test]
        fn a_schema_must_not_nest_too_deep() {
            // field 2 of the description: elements with one child each (field 5)
            let chain = |count: u8| {
                let mut bytes = vec![0x29, 0xfc, count];
                (0..count).for_each(|at| bytes.extend([0x55, if at + 1 == count { 0 } else { 2 }, 0]));
                bytes.push(0);
                bytes
            };
            assert!(footer_holds(&chain(30)) && !footer_holds(&chain(120)));
        }
    }
}
