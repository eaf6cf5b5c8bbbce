//! Trades to blocks.

use super::column::{Divisor, Encoder, Shape, unit};
use super::header::{self, Chunk, Encoding, Kind, MAX_COLUMNS, NO_CHUNK, Page};
use super::{PAGE, PART};
use crate::error::{Error, Result};
use crate::trade::{Key, NONE_I64, Trades, flags};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// Encodes a stretch of trades as one block. At most [`PART`] trades, sorted strictly by identity.
///
/// # Errors
/// `Invalid` for an empty or too long stretch, for trades that are not sorted strictly, and for negative sizes.
pub fn encode(trades: &Trades, range: Range<usize>) -> Result<Vec<u8>> {
    check(trades, &range)?;
    let core = [&trades.ts[range.clone()], &trades.price[range.clone()], &trades.size[range.clone()]];
    let units = core.map(|column| unit(column.iter().copied()));
    let divisors = units.map(|unit| Divisor::new(unit.unsigned_abs()));
    let mut encoder = Encoder::new();
    let (mut core_zone, mut ids_zone) = (Vec::new(), Vec::new());
    let mut pages = Vec::with_capacity(range.len().div_ceil(PAGE));
    for start in range.clone().step_by(PAGE) {
        let rows = start..range.end.min(start + PAGE);
        let plain = trades.flags[rows.clone()].iter().fold(0, |all, flags| all | flags) & flags::INELIGIBLE == 0;
        let mut chunks = [NO_CHUNK; MAX_COLUMNS];
        let core_at = core_zone.len();
        let columns = [(&trades.ts, Shape::Walk), (&trades.price, Shape::Walk), (&trades.size, Shape::Draw)];
        for ((chunk, divisor), (column, shape)) in chunks.iter_mut().zip(divisors).zip(columns) {
            let values = column[rows.clone()].iter().map(|&value| divisor.divide(value));
            *chunk = encoder.column_of(values, shape, &mut core_zone)?;
        }
        chunks[3] = small(&mut encoder, &trades.flags[rows.clone()], &mut core_zone)?;
        let ids_at = ids_zone.len();
        encode_ids(&mut encoder, trades, rows.clone(), &mut chunks[4..], &mut ids_zone)?;
        pages.push(Page {
            n: rows.len(),
            first: trades.key(rows.start),
            last: trades.key(rows.end - 1),
            plain,
            core: 0..0,
            ids: 0..0,
            core_sum: xxh3_64(&core_zone[core_at..]),
            ids_sum: xxh3_64(&ids_zone[ids_at..]),
            chunks,
        });
    }
    assemble(Kind::Trades, units, &pages, &core_zone, &ids_zone)
}

fn check(trades: &Trades, range: &Range<usize>) -> Result<()> {
    if range.is_empty() || range.len() > PART || range.end > trades.len() {
        let asked = format!("{} trades", range.len());
        return Err(Error::invalid("block", asked, format!("1 to {PART} trades a block")));
    }
    if let Some(i) = (range.start + 1..range.end).find(|&i| trades.key(i - 1) >= trades.key(i)) {
        let Key { ts, seq, sub } = trades.key(i);
        let asked = format!("trade {} (seq {seq}, sub {sub})", crate::time::format_instant(ts));
        return Err(Error::invalid("order of trades", asked, "trades sorted by (ts, seq, sub) without duplicates"));
    }
    match range.clone().find(|&i| trades.size[i] < 0) {
        Some(i) => trades.get(i).check(),
        None => Ok(()),
    }
}

fn small(encoder: &mut Encoder, values: &[u32], out: &mut Vec<u8>) -> Result<Chunk> {
    encoder.column_of(values.iter().map(|&value| i64::from(value)), Shape::Draw, out)
}

/// seq, sub, cond, trade_id, ts_recv.
fn encode_ids(
    encoder: &mut Encoder,
    trades: &Trades,
    rows: Range<usize>,
    chunks: &mut [Chunk],
    out: &mut Vec<u8>,
) -> Result<()> {
    let seq = &trades.seq[rows.clone()];
    let ids = &trades.trade_id[rows.clone()];
    let (ts, recv) = (&trades.ts[rows.clone()], &trades.ts_recv[rows.clone()]);
    chunks[0] = encoder.column(seq, Shape::Walk, out)?;
    chunks[1] = encoder.column_of(trades.sub[rows.clone()].iter().map(|&sub| i64::from(sub)), Shape::Draw, out)?;
    chunks[2] = small(encoder, &trades.cond[rows], out)?;
    chunks[3] = if ids == seq {
        Chunk { encoding: Encoding::SameAsSeq, len: 0 }
    } else {
        encoder.column(ids, Shape::Walk, out)?
    };
    chunks[4] = if recv.contains(&NONE_I64) {
        encoder.column(recv, Shape::Walk, out)?
    } else {
        let chunk =
            encoder.column_of(ts.iter().zip(recv).map(|(ts, recv)| recv.wrapping_sub(*ts)), Shape::Draw, out)?;
        let encoding = if chunk.encoding == Encoding::Pco { Encoding::Delta } else { Encoding::DeltaConst };
        Chunk { encoding, ..chunk }
    };
    Ok(())
}

/// Encodes columns of one page each as a block of minute bars.
pub(crate) fn encode_columns(
    units: [i64; 3],
    columns: &[(Vec<i64>, Shape)],
    keys: impl Fn(usize) -> Key,
) -> Result<Vec<u8>> {
    let n = columns.first().map_or(0, |(column, _)| column.len());
    if n == 0 || n > PART {
        return Err(Error::invalid("block", format!("{n} bars"), format!("1 to {PART} bars a block")));
    }
    let mut encoder = Encoder::new();
    let mut zone = Vec::new();
    let mut pages = Vec::with_capacity(n.div_ceil(PAGE));
    for start in (0..n).step_by(PAGE) {
        let rows = start..n.min(start + PAGE);
        let at = zone.len();
        let mut chunks = [NO_CHUNK; MAX_COLUMNS];
        for (chunk, (column, shape)) in chunks.iter_mut().zip(columns) {
            *chunk = encoder.column(&column[rows.clone()], *shape, &mut zone)?;
        }
        pages.push(Page {
            n: rows.len(),
            first: keys(rows.start),
            last: keys(rows.end - 1),
            plain: true,
            core: 0..0,
            ids: 0..0,
            core_sum: xxh3_64(&zone[at..]),
            ids_sum: xxh3_64(&[]),
            chunks,
        });
    }
    assemble(Kind::Minutes, units, &pages, &zone, &[])
}

fn assemble(kind: Kind, units: [i64; 3], pages: &[Page], core: &[u8], ids: &[u8]) -> Result<Vec<u8>> {
    let mut block = Vec::with_capacity(header::Header::MAX_PREFIX + core.len() + ids.len());
    header::write(kind, units, pages, &mut block)?;
    block.extend_from_slice(core);
    block.extend_from_slice(ids);
    Ok(block)
}

const PAYLOAD_MAGIC: [u8; 4] = *b"BELP";
/// Longest payload, and most trades in it: what `put_trades` takes.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;
const MAX_TRADES: usize = 4_000_000;
const MAX_PARTS: usize = 65_536;

/// Packs sorted trades of one session as a payload for `put_trades`.
///
/// # Errors
/// Those of [`encode`]; `Invalid` over 4 million trades (send those in several payloads).
pub fn encode_session(trades: &Trades) -> Result<Vec<u8>> {
    if trades.len() > MAX_TRADES {
        return Err(Error::invalid(
            "payload",
            format!("{} trades", trades.len()),
            "at most 4,000,000 trades a payload",
        ));
    }
    let n = trades.len();
    let parts =
        (0..n).step_by(PART).map(|start| encode(trades, start..n.min(start + PART))).collect::<Result<Vec<_>>>()?;
    Ok(pack_payload(&parts))
}

/// Joins the blocks of one session of one instrument: magic, count, lengths, blocks.
pub fn pack_payload(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(8 + 4 * parts.len() + parts.iter().map(Vec::len).sum::<usize>());
    payload.extend_from_slice(&PAYLOAD_MAGIC);
    payload.extend_from_slice(&(parts.len() as u32).to_le_bytes());
    for part in parts {
        payload.extend_from_slice(&(part.len() as u32).to_le_bytes());
    }
    for part in parts {
        payload.extend_from_slice(part);
    }
    payload
}

/// Where the blocks of a payload lie. Their headers are not read yet.
///
/// # Errors
/// `Corrupt` for anything [`pack_payload`] does not make; `Invalid` over 64 MB.
pub fn unpack_payload(payload: &[u8]) -> Result<Vec<Range<usize>>> {
    let corrupt = |reason: &str| Error::corrupt("payload", reason);
    if payload.len() > MAX_PAYLOAD {
        return Err(Error::invalid("payload", format!("{} bytes", payload.len()), "at most 64 MB a payload"));
    }
    let rest = payload.strip_prefix(&PAYLOAD_MAGIC).ok_or_else(|| corrupt("not a payload"))?;
    let (count, rest) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt("truncated"))?;
    let count = u32::from_le_bytes(*count) as usize;
    if count > MAX_PARTS || rest.len() < 4 * count {
        return Err(corrupt("impossible number of parts"));
    }
    let mut at = 8 + 4 * count;
    let mut parts = Vec::with_capacity(count);
    for len in rest[..4 * count].chunks_exact(4) {
        let len = u32::from_le_bytes(len.try_into().unwrap_or_default()) as usize;
        let end = at.checked_add(len).filter(|&end| end <= payload.len()).ok_or_else(|| corrupt("truncated"))?;
        parts.push(at..end);
        at = end;
    }
    if at == payload.len() { Ok(parts) } else { Err(corrupt("bytes after the last part")) }
}
