//! Digest: one number that says whether two copies hold the same trades in the same order, however they are paged.

use crate::trade::Trades;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const COLUMNS: usize = 9;

/// A running digest. Columns are hashed apart (as little-endian fixed-point values, not in a block's units), so it does not
/// depend on how trades are cut into pages, blocks or files.
pub struct Digest {
    columns: [Xxh3; COLUMNS],
    n: u64,
    bytes: Vec<u8>,
}

impl Default for Digest {
    fn default() -> Digest {
        Digest::new()
    }
}

impl Digest {
    /// The digest of no trades.
    pub fn new() -> Digest {
        Digest { columns: std::array::from_fn(|_| Xxh3::new()), n: 0, bytes: Vec::new() }
    }

    /// Adds trades, in their order.
    pub fn update(&mut self, trades: &Trades) -> &mut Digest {
        self.n = self.n.wrapping_add(trades.len() as u64);
        let Digest { columns, bytes, .. } = self;
        let [ts, seq, sub, price, size, flags, cond, ts_recv, trade_id] = columns;
        for (hash, column) in [
            (ts, &trades.ts),
            (seq, &trades.seq),
            (price, &trades.price),
            (size, &trades.size),
            (ts_recv, &trades.ts_recv),
            (trade_id, &trades.trade_id),
        ] {
            add(hash, bytes, column, |value: i64| value.to_le_bytes());
        }
        add(sub, bytes, &trades.sub, |value: i32| value.to_le_bytes());
        add(flags, bytes, &trades.flags, |value: u32| value.to_le_bytes());
        add(cond, bytes, &trades.cond, |value: u32| value.to_le_bytes());
        self
    }

    /// The number.
    pub fn finish(&self) -> u64 {
        let mut all = Vec::with_capacity(8 * (COLUMNS + 1));
        all.extend_from_slice(&self.n.to_le_bytes());
        for column in &self.columns {
            all.extend_from_slice(&column.digest().to_le_bytes());
        }
        xxh3_64(&all)
    }
}

/// The digest of these trades alone.
pub fn digest(trades: &Trades) -> u64 {
    Digest::new().update(trades).finish()
}

/// `le` is a type of its own, so that the loop becomes one copy.
fn add<T: Copy, const N: usize>(hash: &mut Xxh3, bytes: &mut Vec<u8>, column: &[T], le: impl Fn(T) -> [u8; N]) {
    for chunk in column.chunks(1024) {
        bytes.resize(chunk.len() * N, 0);
        let (places, _) = bytes.as_chunks_mut::<N>();
        for (place, &value) in places.iter_mut().zip(chunk) {
            *place = le(value);
        }
        hash.update(bytes);
    }
}
