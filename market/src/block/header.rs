//! The header of a block: what is in it, where its pages begin and end, and their checksums.

use crate::block::{PAGE, PART};
use crate::error::{Error, Result};
use crate::time::Nanos;
use crate::trade::Key;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

pub(super) const MAGIC: [u8; 4] = *b"BELL";
pub(super) const VERSION: u8 = 1;
const FIXED: usize = 64;
const CHECKSUM: Range<usize> = 56..64;
const ENTRY: usize = 64;
const MAX_PAGES: usize = 16;
pub(super) const MAX_COLUMNS: usize = 12;
const LEN_BITS: u32 = 28;
const PLAIN: u32 = 1;

/// What a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Trades.
    Trades = 1,
    /// Minute bars.
    Minutes = 2,
}

impl Kind {
    /// Columns, and how many of them are in the core zone.
    pub(super) const fn columns(self) -> (usize, usize) {
        match self {
            Kind::Trades => (9, 4),
            Kind::Minutes => (12, 12),
        }
    }
}

/// How a column chunk is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Encoding {
    Const = 0,
    Pco = 1,
    SameAsSeq = 2,
    Delta = 3,
    DeltaConst = 4,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub encoding: Encoding,
    pub len: u32,
}

pub(super) const NO_CHUNK: Chunk = Chunk { encoding: Encoding::Const, len: 0 };

/// A page of a block.
#[derive(Clone, Debug)]
pub struct Page {
    /// How many trades (or bars).
    pub n: usize,
    /// The lowest identity.
    pub first: Key,
    /// The highest identity.
    pub last: Key,
    /// No trade has a flag that changes how it enters a bar.
    pub plain: bool,
    /// Where its core chunks lie in the block.
    pub core: Range<usize>,
    /// Where its ids chunks lie in the block.
    pub ids: Range<usize>,
    pub(super) core_sum: u64,
    pub(super) ids_sum: u64,
    pub(super) chunks: [Chunk; MAX_COLUMNS],
}

/// The header of a block.
#[derive(Clone, Debug)]
pub struct Header {
    /// What the block holds.
    pub kind: Kind,
    /// How many trades (or bars).
    pub n: usize,
    /// The lowest identity.
    pub first: Key,
    /// The highest identity.
    pub last: Key,
    /// Its pages; at least one.
    pub pages: Vec<Page>,
    /// Length of the prefix that holds all that bars are made of.
    pub core_end: usize,
    /// Length of the block.
    pub len: usize,
    /// Nanoseconds in the unit of stored times.
    pub ts_unit: i64,
    /// 1e-9 in the unit of stored prices.
    pub price_unit: i64,
    /// 1e-9 in the unit of stored sizes.
    pub size_unit: i64,
}

fn corrupt(reason: &str) -> Error {
    Error::corrupt("block", reason)
}

/// Reads fields one after the other; all reads lie within bytes whose length was checked before.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let field = self.bytes.get(self.at..self.at + N).and_then(|field| field.try_into().ok()).unwrap_or([0; N]);
        self.at += N;
        field
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.take())
    }

    fn key(&mut self) -> Key {
        Key { ts: self.i64(), seq: self.i64(), sub: i32::from_le_bytes(self.take()) }
    }
}

impl Header {
    /// The header of every legal block fits in a prefix of this length.
    pub const MAX_PREFIX: usize = FIXED + MAX_PAGES * (ENTRY + 4 * MAX_COLUMNS);

    /// Reads the header from the block, or from a prefix of at least [`Header::MAX_PREFIX`] bytes of it.
    ///
    /// # Errors
    /// `Corrupt` for anything that is not the header of a block of a known version.
    pub fn parse(prefix: &[u8]) -> Result<Header> {
        if prefix.len() < FIXED {
            return Err(corrupt("shorter than a header"));
        }
        let mut fields = Fields { bytes: prefix, at: 0 };
        if fields.take() != MAGIC {
            return Err(corrupt("not a block"));
        }
        let [version, kind, columns, core_columns] = fields.take();
        if version != VERSION {
            return Err(Error::corrupt("block", format!("unknown version {version}")));
        }
        let kind = match kind {
            1 => Kind::Trades,
            2 => Kind::Minutes,
            _ => return Err(Error::corrupt("block", format!("unknown kind {kind}"))),
        };
        if (columns as usize, core_columns as usize) != kind.columns() {
            return Err(corrupt("wrong number of columns"));
        }
        let n = fields.u32() as usize;
        let pages = u16::from_le_bytes(fields.take()) as usize;
        let zero = u16::from_le_bytes(fields.take());
        let head_len = fields.u32() as usize;
        let (core_len, ids_len) = (fields.u32() as usize, fields.u32() as usize);
        let zeros = u32::from(zero) | fields.u32();
        let [ts_unit, price_unit, size_unit] = [fields.i64(), fields.i64(), fields.i64()];
        let entry = ENTRY + 4 * usize::from(columns);
        if pages == 0 || pages > MAX_PAGES || n == 0 || n > PART || zeros != 0 || head_len != FIXED + pages * entry {
            return Err(corrupt("impossible counts"));
        }
        if ts_unit <= 0 || price_unit <= 0 || size_unit <= 0 {
            return Err(corrupt("impossible units"));
        }
        let Some(head) = prefix.get(..head_len) else {
            return Err(corrupt("truncated header"));
        };
        let sum = fields.u64();
        if sum != header_sum(head) {
            return Err(corrupt("header checksum"));
        }
        let mut header = Header {
            kind,
            n,
            first: Key::default(),
            last: Key::default(),
            pages: Vec::with_capacity(pages),
            core_end: head_len + core_len,
            len: head_len + core_len + ids_len,
            ts_unit,
            price_unit,
            size_unit,
        };
        let (mut core_at, mut ids_at, mut total) = (head_len, header.core_end, 0);
        for _ in 0..pages {
            let page = parse_page(&mut fields, kind, core_at, ids_at)?;
            (core_at, ids_at, total) = (page.core.end, page.ids.end, total + page.n);
            if header.pages.last().is_some_and(|before: &Page| before.last >= page.first) {
                return Err(corrupt("pages out of order"));
            }
            header.pages.push(page);
        }
        if core_at != header.core_end || ids_at != header.len || total != n {
            return Err(corrupt("page directory does not add up"));
        }
        if let (Some(first), Some(last)) = (header.pages.first(), header.pages.last()) {
            (header.first, header.last) = (first.first, last.last);
        }
        Ok(header)
    }

    /// The bytes of the block that hold the core chunks of these pages, for fetching a slice of a large block.
    pub fn core_span(&self, pages: Range<usize>) -> Range<usize> {
        match self.pages.get(pages) {
            Some([first, .., last]) => first.core.start..last.core.end,
            Some([only]) => only.core.clone(),
            _ => 0..0,
        }
    }

    /// The pages that may hold trades with times in `[from, till)`.
    pub fn pages_between(&self, from: Nanos, till: Nanos) -> Range<usize> {
        let start = self.pages.partition_point(|page| page.last.ts < from);
        let end = self.pages.partition_point(|page| page.first.ts < till);
        start..end.max(start)
    }
}

fn parse_page(fields: &mut Fields<'_>, kind: Kind, core_at: usize, ids_at: usize) -> Result<Page> {
    let n = fields.u32() as usize;
    let bits = fields.u32();
    let (first, last) = (fields.key(), fields.key());
    let (core_sum, ids_sum) = (fields.u64(), fields.u64());
    if n == 0 || n > PAGE || bits & !PLAIN != 0 || first > last || (n > 1 && first == last) {
        return Err(corrupt("impossible page"));
    }
    let (columns, core_columns) = kind.columns();
    let mut chunks = [NO_CHUNK; MAX_COLUMNS];
    let (mut core_end, mut ids_end) = (core_at, ids_at);
    for (i, chunk) in chunks.iter_mut().enumerate().take(columns) {
        let word = fields.u32();
        let encoding = match word >> LEN_BITS {
            0 => Encoding::Const,
            1 => Encoding::Pco,
            2 => Encoding::SameAsSeq,
            3 => Encoding::Delta,
            4 => Encoding::DeltaConst,
            _ => return Err(corrupt("unknown column encoding")),
        };
        *chunk = Chunk { encoding, len: word & ((1 << LEN_BITS) - 1) };
        let end = if i < core_columns { &mut core_end } else { &mut ids_end };
        *end += chunk.len as usize;
    }
    let plain = bits & PLAIN != 0;
    Ok(Page { n, first, last, plain, core: core_at..core_end, ids: ids_at..ids_end, core_sum, ids_sum, chunks })
}

fn header_sum(head: &[u8]) -> u64 {
    let mut bytes = head.to_vec();
    if let Some(sum) = bytes.get_mut(CHECKSUM) {
        sum.fill(0);
    }
    xxh3_64(&bytes)
}

/// The header and directory as bytes. `pages` hold the checksums and chunks; ranges follow from them.
pub(super) fn write(kind: Kind, units: [i64; 3], pages: &[Page], out: &mut Vec<u8>) -> Result<()> {
    let (columns, core_columns) = kind.columns();
    let head_len = FIXED + pages.len() * (ENTRY + 4 * columns);
    let zone = |columns: Range<usize>| -> u64 {
        pages.iter().flat_map(|page| &page.chunks[columns.clone()]).map(|chunk| u64::from(chunk.len)).sum()
    };
    let too_large = || Error::invalid("block", "a column chunk over 256 MB", "at most 65,536 trades a block");
    let fits = |len: u64| u32::try_from(len).map_err(|_| too_large());
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind as u8, columns as u8, core_columns as u8]);
    out.extend_from_slice(&(pages.iter().map(|page| page.n).sum::<usize>() as u32).to_le_bytes());
    out.extend_from_slice(&(pages.len() as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(head_len as u32).to_le_bytes());
    out.extend_from_slice(&fits(zone(0..core_columns))?.to_le_bytes());
    out.extend_from_slice(&fits(zone(core_columns..columns))?.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for unit in units {
        out.extend_from_slice(&unit.to_le_bytes());
    }
    out.extend_from_slice(&[0; 8]);
    for page in pages {
        out.extend_from_slice(&(page.n as u32).to_le_bytes());
        out.extend_from_slice(&if page.plain { PLAIN } else { 0 }.to_le_bytes());
        for key in [page.first, page.last] {
            out.extend_from_slice(&key.ts.to_le_bytes());
            out.extend_from_slice(&key.seq.to_le_bytes());
            out.extend_from_slice(&key.sub.to_le_bytes());
        }
        out.extend_from_slice(&page.core_sum.to_le_bytes());
        out.extend_from_slice(&page.ids_sum.to_le_bytes());
        for chunk in &page.chunks[..columns] {
            if chunk.len >> LEN_BITS != 0 {
                return Err(too_large());
            }
            out.extend_from_slice(&((chunk.encoding as u32) << LEN_BITS | chunk.len).to_le_bytes());
        }
    }
    let sum = xxh3_64(&out[start..]);
    out[start..][CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}
