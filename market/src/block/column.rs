//! One column of one page: integers in, bytes out, and back.

use super::header::{Chunk, Encoding};
use crate::error::{Error, Result};
use pco::metadata::{DeltaEncoding, Mode};
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec, ModeSpec};

/// Longest lookback window (as a power of two) that is read; format 1 writes none.
const MAX_WINDOW_LOG: u32 = 15;

/// Buffers that decoding reuses from page to page.
#[derive(Default)]
pub(crate) struct Scratch {
    pco: DecompressorScratch,
    pub(super) column: Vec<i64>,
}

/// How neighbours in a column relate, which spares the search for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// Each near the one before: times, prices, ids.
    Walk,
    /// Drawn one by one: sizes, conditions.
    Draw,
}

/// The higher levels cost more time than the last percent of size is worth.
const LEVEL: usize = 4;

pub(crate) struct Encoder {
    files: FileCompressor,
    walk: ChunkConfig,
    draw: ChunkConfig,
    buffer: Vec<i64>,
}

impl Encoder {
    pub(crate) fn new() -> Encoder {
        // Units are taken out before, so there is no multiple left for a mode to find.
        let plain = ChunkConfig::default().with_compression_level(LEVEL).with_mode_spec(ModeSpec::Classic);
        Encoder {
            files: FileCompressor::default(),
            walk: plain.clone().with_delta_spec(DeltaSpec::TryConsecutive(1)),
            draw: plain.with_delta_spec(DeltaSpec::NoOp),
            buffer: Vec::new(),
        }
    }

    /// Appends the column to `out`.
    pub(crate) fn column(&mut self, values: &[i64], shape: Shape, out: &mut Vec<u8>) -> Result<Chunk> {
        let start = out.len();
        let first = values.first().copied().unwrap_or_default();
        if values.iter().all(|&value| value == first) {
            if first != 0 {
                out.extend_from_slice(&first.to_le_bytes());
            }
            return Ok(Chunk { encoding: Encoding::Const, len: (out.len() - start) as u32 });
        }
        let config = if shape == Shape::Walk { &self.walk } else { &self.draw };
        let failed = |error: pco::errors::PcoError| Error::invalid("column", error.to_string(), "another block size");
        self.files.write_header(&mut *out).map_err(failed)?;
        let mut chunk = self.files.chunk_compressor::<i64>(values, config).map_err(failed)?;
        chunk.write_meta(&mut *out).map_err(failed)?;
        chunk.write_page(0, &mut *out).map_err(failed)?;
        let len = u32::try_from(out.len() - start)
            .map_err(|_| Error::invalid("column", "a chunk over 4 GB", "another block size"))?;
        Ok(Chunk { encoding: Encoding::Pco, len })
    }

    /// Like [`column`](Encoder::column), of values made one by one.
    pub(crate) fn column_of(
        &mut self,
        values: impl Iterator<Item = i64>,
        shape: Shape,
        out: &mut Vec<u8>,
    ) -> Result<Chunk> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend(values);
        let chunk = self.column(&buffer, shape, out);
        self.buffer = buffer;
        chunk
    }
}

/// Decodes a chunk of `out.len()` integers.
///
/// `bytes` begin with the chunk and may go on after it: what pco overshoots is then read from there instead of being copied
/// to a padded buffer. `SameAsSeq` is the caller's to resolve; deltas decode to differences.
pub(super) fn decode(bytes: &[u8], chunk: Chunk, out: &mut [i64], scratch: &mut DecompressorScratch) -> Result<()> {
    let corrupt = |reason: String| Error::corrupt("column", reason);
    let len = chunk.len as usize;
    match chunk.encoding {
        Encoding::Const | Encoding::DeltaConst => {
            let value = match (len, bytes.first_chunk::<8>()) {
                (0, _) => 0,
                (8, Some(value)) => i64::from_le_bytes(*value),
                _ => return Err(corrupt("a constant of another length".into())),
            };
            out.fill(value);
            Ok(())
        }
        Encoding::SameAsSeq => Err(corrupt("no column to be the same as".into())),
        Encoding::Pco | Encoding::Delta => {
            let failed = |error: pco::errors::PcoError| corrupt(error.to_string());
            let (file, rest) = FileDecompressor::new(bytes).map_err(failed)?;
            let (reader, rest) = file.chunk_decompressor::<i64, _>(rest).map_err(failed)?;
            let window = match &reader.meta().delta_encoding {
                DeltaEncoding::Lookback { config, .. } => config.window_n_log,
                _ => 0,
            };
            // Both would let a few bytes ask for much memory.
            if window > MAX_WINDOW_LOG || matches!(reader.meta().mode, Mode::Dict(_)) {
                return Err(corrupt("a mode that format 1 does not write".into()));
            }
            let mut page = reader.page_decompressor_with_scratch(rest, out.len(), scratch).map_err(failed)?;
            let progress = page.read(out).map_err(failed)?;
            let used = bytes.len() - page.into_src().len();
            if progress.n_processed != out.len() || !progress.finished || used != len {
                return Err(corrupt("another number of values".into()));
            }
            Ok(())
        }
    }
}

impl Scratch {
    /// Decodes a chunk into `out`, which gets exactly `n` integers.
    pub(super) fn decode(&mut self, bytes: &[u8], chunk: Chunk, n: usize, out: &mut Vec<i64>) -> Result<()> {
        // What is there already will be overwritten: only growth pays for zeros.
        out.resize(n, 0);
        decode(bytes, chunk, out, &mut self.pco)
    }

    /// Decodes a chunk of `n` integers and appends them.
    pub(super) fn append(&mut self, bytes: &[u8], chunk: Chunk, n: usize, out: &mut Vec<i64>) -> Result<()> {
        let start = out.len();
        out.resize(start + n, 0);
        decode(bytes, chunk, &mut out[start..], &mut self.pco)
    }

    /// Decodes a chunk of `n` integers of a narrower type and appends them.
    pub(super) fn append_narrow<T: TryFrom<i64> + Copy>(
        &mut self,
        bytes: &[u8],
        chunk: Chunk,
        n: usize,
        out: &mut Vec<T>,
    ) -> Result<()> {
        let narrow = |value: i64| {
            T::try_from(value).map_err(|_| Error::corrupt("column", format!("{value} is out of the column's range")))
        };
        if chunk.encoding == Encoding::Const {
            let mut value = [0];
            decode(bytes, chunk, &mut value, &mut self.pco)?;
            let value = narrow(value[0])?;
            out.extend(std::iter::repeat_n(value, n));
            return Ok(());
        }
        out.reserve(n);
        for &value in self.decode_here(bytes, chunk, n)? {
            out.push(narrow(value)?);
        }
        Ok(())
    }

    /// Decodes a chunk into the scratch column.
    pub(super) fn decode_here(&mut self, bytes: &[u8], chunk: Chunk, n: usize) -> Result<&[i64]> {
        self.column.resize(n, 0);
        decode(bytes, chunk, &mut self.column, &mut self.pco)?;
        Ok(&self.column)
    }
}

/// The largest integer that divides all values, found without dividing each: 1 for no values or only zeros.
pub(crate) fn unit(values: impl Iterator<Item = i64> + Clone) -> i64 {
    let mut unit = Divisor::new(0);
    for value in values {
        if !unit.divides(value) {
            unit = Divisor::new(gcd(unit.value, value.unsigned_abs()));
            if unit.value == 1 {
                break;
            }
        }
    }
    i64::try_from(unit.value).unwrap_or(1).max(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Exact division by multiplication with the inverse modulo 2^64.
#[derive(Clone, Copy)]
pub(crate) struct Divisor {
    value: u64,
    shift: u32,
    inverse: u64,
    most: u64,
}

impl Divisor {
    /// `value` 0 divides only 0.
    pub(crate) fn new(value: u64) -> Divisor {
        let shift = value.trailing_zeros() % 64;
        let odd = (value >> shift) | 1;
        // Newton's iteration doubles the number of right bits, beginning with three.
        let mut inverse = odd;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        let most = u64::MAX.checked_div(value).unwrap_or(0);
        Divisor { value, shift, inverse, most }
    }

    #[inline]
    fn divides(&self, value: i64) -> bool {
        // A multiple's quotient is small; the product of anything else with the inverse is not. The rotation moves low bits
        // that a shift would lose to the top, where they make the quotient too large.
        let quotient = value.unsigned_abs().wrapping_mul(self.inverse).rotate_right(self.shift);
        quotient <= self.most
    }

    /// The quotient of a value that it divides.
    #[inline]
    pub(crate) fn divide(&self, value: i64) -> i64 {
        let quotient = (value.unsigned_abs() >> self.shift).wrapping_mul(self.inverse) as i64;
        if value < 0 { quotient.wrapping_neg() } else { quotient }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_divides_everything_and_is_the_largest() {
        for (values, expected) in [
            (vec![], 1),
            (vec![0, 0], 1),
            (vec![7], 7),
            (vec![0, 250_000_000, 5_100_750_000_000], 250_000_000),
            (vec![-37_630_000_000, 20_000_000], 10_000_000),
            (vec![i64::MIN, 0], 1),
            (vec![i64::MIN, 6], 2),
            (vec![i64::MAX, i64::MAX], i64::MAX),
            (vec![12, 18, 5], 1),
        ] {
            let found = unit(values.iter().copied());
            assert_eq!(found, expected, "{values:?}");
            let divisor = Divisor::new(found as u64);
            for value in values {
                assert_eq!(divisor.divide(value), value / found, "{value} / {found}");
            }
        }
    }

    #[test]
    fn divisibility_needs_no_division() {
        for divisor in [1u64, 2, 3, 8, 10, 48, 1000, 250_000_000, 1 << 40] {
            let fast = Divisor::new(divisor);
            for value in (-3000i64..3000).chain([i64::MAX, i64::MIN, i64::MIN + 1, 1 << 41, 3 << 40]) {
                assert_eq!(fast.divides(value), value.unsigned_abs() % divisor == 0, "{value} by {divisor}");
            }
        }
    }
}
