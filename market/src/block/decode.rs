//! Blocks to trades.

use super::column::Scratch;
use super::header::{Chunk, Encoding, Header, Kind, Page};
use crate::error::{Error, Result};
use crate::trade::{Key, Trades};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// The columns of a page that bars are made of, and the buffers to decode them; reuse one for many pages.
#[derive(Default)]
pub struct Core {
    /// Nanoseconds, in order.
    pub ts: Vec<i64>,
    /// Times `price_unit` is 1e-9.
    pub price: Vec<i64>,
    /// Times `size_unit` is 1e-9.
    pub size: Vec<i64>,
    /// Eligibility; empty if all trades are plain.
    pub flags: Vec<u32>,
    /// 1e-9 in a unit of price.
    pub price_unit: i64,
    /// 1e-9 in a unit of size.
    pub size_unit: i64,
    scratch: Scratch,
}

impl Core {
    /// An empty page.
    pub fn new() -> Core {
        Core { price_unit: 1, size_unit: 1, ..Core::default() }
    }

    /// How many trades.
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Takes a stretch of sorted trades as a page (in units of 1e-9): live rows, or the result of
    /// [`overlay`](crate::trade::overlay). The range must lie within.
    pub fn set(&mut self, trades: &Trades, range: Range<usize>) {
        let fill = |to: &mut Vec<i64>, from: &[i64]| {
            to.clear();
            to.extend_from_slice(&from[range.clone()]);
        };
        fill(&mut self.ts, &trades.ts);
        fill(&mut self.price, &trades.price);
        fill(&mut self.size, &trades.size);
        self.flags.clear();
        let flags = &trades.flags[range.clone()];
        if flags.iter().fold(0, |all, flags| all | flags) & crate::trade::flags::INELIGIBLE != 0 {
            self.flags.extend_from_slice(flags);
        }
        (self.price_unit, self.size_unit) = (1, 1);
    }
}

fn corrupt(reason: &str) -> Error {
    Error::corrupt("block", reason)
}

fn page_of(h: &Header, kind: Kind, page: usize) -> Result<&Page> {
    if h.kind != kind {
        return Err(corrupt("holds something else"));
    }
    h.pages.get(page).ok_or_else(|| corrupt("no such page"))
}

/// The bytes of a zone of a page, once their checksum is right.
fn zone(bytes: &[u8], range: Range<usize>, sum: u64) -> Result<&[u8]> {
    let zone = bytes.get(range).ok_or_else(|| corrupt("truncated"))?;
    if xxh3_64(zone) == sum { Ok(zone) } else { Err(corrupt("page checksum")) }
}

/// Splits off the chunk's place; the lengths were added up when the header was read.
fn next<'b>(zone: &mut &'b [u8], chunk: Chunk) -> &'b [u8] {
    let chunk_and_rest = *zone;
    *zone = zone.get(chunk.len as usize..).unwrap_or_default();
    chunk_and_rest
}

/// Decodes what bars are made of; needs only the first `h.core_end` bytes of the block. Returns the number of trades.
///
/// # Errors
/// `Corrupt` if the checksum, the encoding or the order of times is wrong.
pub fn decode_core(bytes: &[u8], h: &Header, page: usize, out: &mut Core) -> Result<usize> {
    let page = page_of(h, Kind::Trades, page)?;
    let n = page.n;
    let mut rest = zone(bytes, page.core.clone(), page.core_sum)?;
    let [ts, price, size, flags] = [page.chunks[0], page.chunks[1], page.chunks[2], page.chunks[3]];
    out.scratch.decode(next(&mut rest, ts), ts, n, &mut out.ts)?;
    out.scratch.decode(next(&mut rest, price), price, n, &mut out.price)?;
    out.scratch.decode(next(&mut rest, size), size, n, &mut out.size)?;
    let sorted = scale_sorted(&mut out.ts, h.ts_unit);
    if out.ts.first() != Some(&page.first.ts) || out.ts.last() != Some(&page.last.ts) || !sorted {
        return Err(corrupt("times out of order"));
    }
    out.flags.clear();
    if !page.plain {
        let values = out.scratch.decode_here(next(&mut rest, flags), flags, n)?;
        narrow(values, &mut out.flags)?;
    }
    (out.price_unit, out.size_unit) = (h.price_unit, h.size_unit);
    Ok(n)
}

/// Decodes what a bar of every trade is made of, whatever its flags: times, prices and sizes into `out`, which gets no flags,
/// and sequences into `seq`. Returns the number of trades.
///
/// # Errors
/// As [`decode_core`].
pub fn decode_keyed(bytes: &[u8], h: &Header, page: usize, out: &mut Core, seq: &mut Vec<i64>) -> Result<usize> {
    let page = page_of(h, Kind::Trades, page)?;
    let n = page.n;
    let mut core = zone(bytes, page.core.clone(), page.core_sum)?;
    let mut ids = zone(bytes, page.ids.clone(), page.ids_sum)?;
    let [ts, price, size, _, sequence] =
        [page.chunks[0], page.chunks[1], page.chunks[2], page.chunks[3], page.chunks[4]];
    out.scratch.decode(next(&mut core, ts), ts, n, &mut out.ts)?;
    out.scratch.decode(next(&mut core, price), price, n, &mut out.price)?;
    out.scratch.decode(next(&mut core, size), size, n, &mut out.size)?;
    out.scratch.decode(next(&mut ids, sequence), sequence, n, seq)?;
    let sorted = scale_sorted(&mut out.ts, h.ts_unit);
    let ends = |ts: Option<&i64>, seq: Option<&i64>| ts.zip(seq).map(|(ts, seq)| (*ts, *seq));
    let right = ends(out.ts.first(), seq.first()) == Some((page.first.ts, page.first.seq))
        && ends(out.ts.last(), seq.last()) == Some((page.last.ts, page.last.seq));
    if !right || !sorted {
        return Err(corrupt("times out of order"));
    }
    out.flags.clear();
    (out.price_unit, out.size_unit) = (h.price_unit, h.size_unit);
    Ok(n)
}

/// Decodes the sequences of a page alone, in the buffers of `buffers`, whose columns stay as they are.
///
/// # Errors
/// `Corrupt` if the checksum, the encoding or the ends are wrong.
pub fn decode_seq(bytes: &[u8], h: &Header, page: usize, buffers: &mut Core, seq: &mut Vec<i64>) -> Result<()> {
    let page = page_of(h, Kind::Trades, page)?;
    let mut ids = zone(bytes, page.ids.clone(), page.ids_sum)?;
    let chunk = page.chunks[4];
    buffers.scratch.decode(next(&mut ids, chunk), chunk, page.n, seq)?;
    match (seq.first(), seq.last()) == (Some(&page.first.seq), Some(&page.last.seq)) {
        true => Ok(()),
        false => Err(corrupt("keys differ from the page directory")),
    }
}

/// Multiplies by the unit and says whether the products never go back; in one pass, without an early exit.
fn scale_sorted(ts: &mut [i64], unit: i64) -> bool {
    let (mut before, mut back) = (i64::MIN, false);
    for value in ts {
        let at = value.wrapping_mul(unit);
        back |= at < before;
        before = at;
        *value = at;
    }
    !back
}

fn narrow<T: TryFrom<i64>>(values: &[i64], out: &mut Vec<T>) -> Result<()> {
    out.reserve(values.len());
    for &value in values {
        out.push(T::try_from(value).map_err(|_| corrupt("a value out of its column's range"))?);
    }
    Ok(())
}

/// Decodes all columns of a page, in nanoseconds and 1e-9, and appends them. On an error `out` is as before.
///
/// # Errors
/// `Corrupt` if a checksum, an encoding, the order of identities or a value is wrong.
pub fn decode_page(bytes: &[u8], h: &Header, page: usize, out: &mut Trades) -> Result<()> {
    decode_page_with(bytes, h, page, out, &mut Scratch::default())
}

fn decode_page_with(bytes: &[u8], h: &Header, page: usize, out: &mut Trades, scratch: &mut Scratch) -> Result<()> {
    let start = out.len();
    let done = append_page(bytes, h, page_of(h, Kind::Trades, page)?, start, out, scratch);
    if done.is_err() {
        // Columns may have grown unevenly; each is cut by itself.
        out.truncate(start);
    }
    done
}

fn append_page(
    bytes: &[u8],
    h: &Header,
    page: &Page,
    start: usize,
    out: &mut Trades,
    scratch: &mut Scratch,
) -> Result<()> {
    let (n, c) = (page.n, &page.chunks);
    let mut core = zone(bytes, page.core.clone(), page.core_sum)?;
    scratch.append(next(&mut core, c[0]), c[0], n, &mut out.ts)?;
    scratch.append(next(&mut core, c[1]), c[1], n, &mut out.price)?;
    scratch.append(next(&mut core, c[2]), c[2], n, &mut out.size)?;
    scratch.append_narrow(next(&mut core, c[3]), c[3], n, &mut out.flags)?;
    checked_scale(&mut out.ts[start..], h.ts_unit)?;
    checked_scale(&mut out.price[start..], h.price_unit)?;
    checked_scale(&mut out.size[start..], h.size_unit)?;
    let mut ids = zone(bytes, page.ids.clone(), page.ids_sum)?;
    scratch.append(next(&mut ids, c[4]), c[4], n, &mut out.seq)?;
    scratch.append_narrow(next(&mut ids, c[5]), c[5], n, &mut out.sub)?;
    scratch.append_narrow(next(&mut ids, c[6]), c[6], n, &mut out.cond)?;
    match c[7].encoding {
        Encoding::SameAsSeq if c[7].len == 0 => out.trade_id.extend_from_slice(&out.seq[start..]),
        _ => scratch.append(next(&mut ids, c[7]), c[7], n, &mut out.trade_id)?,
    }
    scratch.append(next(&mut ids, c[8]), c[8], n, &mut out.ts_recv)?;
    if matches!(c[8].encoding, Encoding::Delta | Encoding::DeltaConst) {
        for (recv, ts) in out.ts_recv[start..].iter_mut().zip(&out.ts[start..]) {
            *recv = recv.wrapping_add(*ts);
        }
    }
    check_page(page, start, out)
}

fn checked_scale(values: &mut [i64], unit: i64) -> Result<()> {
    if unit == 1 {
        return Ok(());
    }
    let mut overflow = false;
    for value in values {
        let (scaled, over) = value.overflowing_mul(unit);
        *value = scaled;
        overflow |= over;
    }
    if overflow { Err(corrupt("a value out of range")) } else { Ok(()) }
}

fn check_page(page: &Page, start: usize, out: &Trades) -> Result<()> {
    let end = out.len();
    if out.key(start) != page.first || out.key(end - 1) != page.last {
        return Err(corrupt("keys differ from the page directory"));
    }
    // Most neighbours differ in time; the others are compared in full.
    let (ts, next) = (&out.ts[start..end - 1], &out.ts[start + 1..end]);
    let out_of_order =
        |(i, (before, after)): (usize, (&i64, &i64))| before >= after && out.key(start + i) >= out.key(start + i + 1);
    if ts.iter().zip(next).enumerate().any(out_of_order) {
        return Err(corrupt("identities out of order"));
    }
    if out.size[start..].iter().fold(0, |all, size| all | size) < 0 {
        return Err(corrupt("a negative size"));
    }
    let plain = out.flags[start..].iter().fold(0, |all, flags| all | flags) & crate::trade::flags::INELIGIBLE == 0;
    if plain != page.plain {
        return Err(corrupt("flags differ from the page directory"));
    }
    Ok(())
}

/// Decodes and checks a whole block of trades: what `put_trades` does with what a client sent.
///
/// # Errors
/// `Corrupt` for anything [`encode`](super::encode) does not make.
pub fn check_block(bytes: &[u8], out: &mut Trades) -> Result<Header> {
    let header = Header::parse(bytes)?;
    if bytes.len() != header.len {
        return Err(corrupt("another length than the header says"));
    }
    let start = out.len();
    let mut scratch = Scratch::default();
    for page in 0..header.pages.len() {
        if let Err(error) = decode_page_with(bytes, &header, page, out, &mut scratch) {
            out.truncate(start);
            return Err(error);
        }
    }
    Ok(header)
}

/// Decodes the columns of a block of minute bars, a call of `row` for each bar in order.
pub(crate) fn decode_columns<const N: usize>(
    bytes: &[u8],
    h: &Header,
    scratch: &mut [Vec<i64>; N],
    buffers: &mut Scratch,
    mut row: impl FnMut(&[&[i64]; N], usize) -> Result<Key>,
) -> Result<()> {
    for page in 0..h.pages.len() {
        let page = page_of(h, Kind::Minutes, page)?;
        let mut rest = zone(bytes, page.core.clone(), page.core_sum)?;
        for (column, &chunk) in scratch.iter_mut().zip(&page.chunks) {
            buffers.decode(next(&mut rest, chunk), chunk, page.n, column)?;
        }
        let columns: [&[i64]; N] = std::array::from_fn(|i| scratch[i].as_slice());
        let mut before: Option<Key> = None;
        for i in 0..page.n {
            let key = row(&columns, i)?;
            let right = match before {
                None => key == page.first,
                Some(before) => before < key,
            };
            if !right || (i + 1 == page.n && key != page.last) {
                return Err(corrupt("keys differ from the page directory"));
            }
            before = Some(key);
        }
    }
    Ok(())
}
