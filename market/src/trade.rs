//! Trades: what one is, which two are the same, and how two sets of them become one.

use crate::error::{Error, Result};
use crate::time::Nanos;
use std::ops::Range;

/// Stands for an absent `ts_recv` or `trade_id`.
pub const NONE_I64: i64 = i64::MIN;

/// Bits of [`Trade::flags`]. Zero is an ordinary trade that counts for everything.
pub mod flags {
    /// Does not update open and close.
    pub const NO_LAST: u32 = 1;
    /// Does not update high and low.
    pub const NO_HIGH_LOW: u32 = 2;
    /// Does not count for volume, notional and the number of trades.
    pub const NO_VOLUME: u32 = 4;
    /// Updates the close only if it is the first trade of its bar that may.
    pub const LAST_IF_FIRST: u32 = 8;
    /// A print of the opening auction.
    pub const AUCTION_OPEN: u32 = 16;
    /// A print of the closing auction.
    pub const AUCTION_CLOSE: u32 = 32;
    /// Executed off the book.
    pub const OFF_BOOK: u32 = 64;
    /// A block trade.
    pub const BLOCK: u32 = 128;
    /// A leg of a spread.
    pub const SPREAD: u32 = 256;
    /// The aggressor bought.
    pub const BUY: u32 = 512;
    /// The aggressor sold.
    pub const SELL: u32 = 1024;
    /// Outside a plausible band; kept, never rejected.
    pub const SUSPECT: u32 = 2048;
    /// Form T: updates no price inside the regular hours.
    pub const NOT_IN_RTH: u32 = 4096;
    /// The bits that change how a trade enters a bar. A trade without any of them is plain.
    pub const INELIGIBLE: u32 =
        NO_LAST | NO_HIGH_LOW | NO_VOLUME | LAST_IF_FIRST | AUCTION_OPEN | AUCTION_CLOSE | NOT_IN_RTH;
}

/// One execution as reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trade {
    /// The venue's event time.
    pub ts: Nanos,
    /// The venue's sequence, or the line of the session's file.
    pub seq: i64,
    /// Ordinal among the records that share `(ts, seq)`.
    pub sub: i32,
    /// In 1e-9; may be negative.
    pub price: i64,
    /// In 1e-9; zero or more.
    pub size: i64,
    /// Eligibility, see [`flags`].
    pub flags: u32,
    /// The venue's raw condition.
    pub cond: u32,
    /// When it was received, or [`NONE_I64`].
    pub ts_recv: i64,
    /// The venue's id, or [`NONE_I64`].
    pub trade_id: i64,
}

impl Default for Trade {
    fn default() -> Trade {
        Trade { ts: 0, seq: 0, sub: 0, price: 0, size: 0, flags: 0, cond: 0, ts_recv: NONE_I64, trade_id: NONE_I64 }
    }
}

/// The identity and total order of an instrument's trades.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Key {
    /// The venue's event time.
    pub ts: Nanos,
    /// The venue's sequence.
    pub seq: i64,
    /// Ordinal within `(ts, seq)`.
    pub sub: i32,
}

impl Trade {
    /// Its identity.
    pub fn key(&self) -> Key {
        Key { ts: self.ts, seq: self.seq, sub: self.sub }
    }

    /// Since when it is known: its receipt, or its event time where nobody noted one.
    #[inline]
    pub fn known(&self) -> Nanos {
        if self.ts_recv == NONE_I64 { self.ts } else { self.ts_recv }
    }

    /// Whether another says the same, whenever either was received.
    pub fn same_report(&self, other: &Trade) -> bool {
        *self == Trade { ts_recv: self.ts_recv, ..*other }
    }

    /// Whether it can be stored.
    ///
    /// # Errors
    /// `Invalid` for a negative size.
    pub fn check(&self) -> Result<()> {
        if self.size < 0 {
            return Err(Error::invalid("size", crate::money::to_f64(self.size).to_string(), "a size of zero or more"));
        }
        Ok(())
    }
}

/// Trades as columns of equal length; the fields mean what they mean in [`Trade`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Trades {
    pub ts: Vec<i64>,
    pub seq: Vec<i64>,
    pub sub: Vec<i32>,
    pub price: Vec<i64>,
    pub size: Vec<i64>,
    pub flags: Vec<u32>,
    pub cond: Vec<u32>,
    pub ts_recv: Vec<i64>,
    pub trade_id: Vec<i64>,
}

impl Trades {
    /// No trades.
    pub fn new() -> Trades {
        Trades::default()
    }

    /// No trades, with room for `n`.
    pub fn with_capacity(n: usize) -> Trades {
        let mut trades = Trades::default();
        trades.reserve(n);
        trades
    }

    /// Makes room for `n` more.
    pub fn reserve(&mut self, n: usize) {
        self.ts.reserve(n);
        self.seq.reserve(n);
        self.sub.reserve(n);
        self.price.reserve(n);
        self.size.reserve(n);
        self.flags.reserve(n);
        self.cond.reserve(n);
        self.ts_recv.reserve(n);
        self.trade_id.reserve(n);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Keeps the first `n`.
    pub fn truncate(&mut self, n: usize) {
        self.ts.truncate(n);
        self.seq.truncate(n);
        self.sub.truncate(n);
        self.price.truncate(n);
        self.size.truncate(n);
        self.flags.truncate(n);
        self.cond.truncate(n);
        self.ts_recv.truncate(n);
        self.trade_id.truncate(n);
    }

    /// Adds one at the end.
    #[inline]
    pub fn push(&mut self, trade: Trade) {
        self.ts.push(trade.ts);
        self.seq.push(trade.seq);
        self.sub.push(trade.sub);
        self.price.push(trade.price);
        self.size.push(trade.size);
        self.flags.push(trade.flags);
        self.cond.push(trade.cond);
        self.ts_recv.push(trade.ts_recv);
        self.trade_id.push(trade.trade_id);
    }

    /// The one at `i`, which must be below [`len`](Trades::len).
    #[inline]
    pub fn get(&self, i: usize) -> Trade {
        Trade {
            ts: self.ts[i],
            seq: self.seq[i],
            sub: self.sub[i],
            price: self.price[i],
            size: self.size[i],
            flags: self.flags[i],
            cond: self.cond[i],
            ts_recv: self.ts_recv[i],
            trade_id: self.trade_id[i],
        }
    }

    /// Puts another in the place of the one at `i`, which must be below [`len`](Trades::len).
    pub fn set(&mut self, i: usize, trade: Trade) {
        self.ts[i] = trade.ts;
        self.seq[i] = trade.seq;
        self.sub[i] = trade.sub;
        self.price[i] = trade.price;
        self.size[i] = trade.size;
        self.flags[i] = trade.flags;
        self.cond[i] = trade.cond;
        self.ts_recv[i] = trade.ts_recv;
        self.trade_id[i] = trade.trade_id;
    }

    /// The identity of the one at `i`, which must be below [`len`](Trades::len).
    #[inline]
    pub fn key(&self, i: usize) -> Key {
        Key { ts: self.ts[i], seq: self.seq[i], sub: self.sub[i] }
    }

    /// Since when the one at `i` is known; see [`Trade::known`].
    #[inline]
    pub fn known(&self, i: usize) -> Nanos {
        if self.ts_recv[i] == NONE_I64 { self.ts[i] } else { self.ts_recv[i] }
    }

    /// Since when the first and the last of them to become known are; `None` of none.
    pub fn known_range(&self) -> Option<(Nanos, Nanos)> {
        let (mut first, mut last) = (Nanos::MAX, Nanos::MIN);
        for (&recv, &ts) in self.ts_recv.iter().zip(&self.ts) {
            let known = if recv == NONE_I64 { ts } else { recv };
            (first, last) = (first.min(known), last.max(known));
        }
        (!self.is_empty()).then_some((first, last))
    }

    /// Keeps those that were known at an instant.
    pub fn keep_known(&mut self, until: Nanos) {
        if self.known_range().is_none_or(|(_, last)| last <= until) {
            return;
        }
        let mut kept = Trades::with_capacity(self.len());
        let mut from = 0;
        for i in 0..=self.len() {
            if i == self.len() || self.known(i) > until {
                kept.append_range(self, from..i);
                from = i + 1;
            }
        }
        *self = kept;
    }

    /// Where an identity is, if it is there; the trades must be sorted.
    pub fn find(&self, key: Key) -> Option<usize> {
        let at = self.lower_bound(key.ts);
        let same_ts = self.ts[at..].partition_point(|&ts| ts == key.ts);
        let at = at + partition(0, same_ts, |k| self.key(at + k) < key);
        (at < self.len() && self.key(at) == key).then_some(at)
    }

    /// All, in the order in which they lie.
    pub fn iter(&self) -> impl Iterator<Item = Trade> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Adds all of `other` at the end.
    pub fn append(&mut self, other: &Trades) {
        self.append_range(other, 0..other.len());
    }

    /// Adds a stretch of `other` at the end; the range must lie within it.
    pub fn append_range(&mut self, other: &Trades, range: Range<usize>) {
        self.ts.extend_from_slice(&other.ts[range.clone()]);
        self.seq.extend_from_slice(&other.seq[range.clone()]);
        self.sub.extend_from_slice(&other.sub[range.clone()]);
        self.price.extend_from_slice(&other.price[range.clone()]);
        self.size.extend_from_slice(&other.size[range.clone()]);
        self.flags.extend_from_slice(&other.flags[range.clone()]);
        self.cond.extend_from_slice(&other.cond[range.clone()]);
        self.ts_recv.extend_from_slice(&other.ts_recv[range.clone()]);
        self.trade_id.extend_from_slice(&other.trade_id[range]);
    }

    /// A copy of a stretch, which must lie within.
    pub fn slice(&self, range: Range<usize>) -> Trades {
        let mut part = Trades::with_capacity(range.len());
        part.append_range(self, range);
        part
    }

    /// Whether identities never go back. Equal ones may follow each other.
    pub fn is_sorted(&self) -> bool {
        (1..self.len()).all(|i| self.key(i - 1) <= self.key(i))
    }

    /// Whether identities always grow, so that all differ.
    pub fn is_strictly_sorted(&self) -> bool {
        (1..self.len()).all(|i| self.key(i - 1) < self.key(i))
    }

    /// Sorts by identity; equal identities keep their order.
    pub fn sort_by_key(&mut self) {
        if self.is_sorted() {
            return;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&i| self.key(i));
        let mut sorted = Trades::with_capacity(self.len());
        for i in order {
            sorted.push(self.get(i));
        }
        *self = sorted;
    }

    /// The first index whose time is at or after `ts`; the trades must be sorted.
    pub fn lower_bound(&self, ts: Nanos) -> usize {
        self.ts.partition_point(|&at| at < ts)
    }
}

impl FromIterator<Trade> for Trades {
    fn from_iter<I: IntoIterator<Item = Trade>>(iter: I) -> Trades {
        let mut trades = Trades::new();
        for trade in iter {
            trades.push(trade);
        }
        trades
    }
}

/// What [`merge`] did with the new rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Merge {
    /// Rows of a new identity.
    pub added: usize,
    /// Rows that were there already, with the same content.
    pub known: usize,
    /// Rows whose identity was there with other content; they change nothing.
    pub conflicts: Vec<Trade>,
    /// Since when the first of the added ones is known.
    pub first_known: Option<Nanos>,
}

/// The earlier of two instants that may be missing.
pub fn earlier(a: Option<Nanos>, b: Option<Nanos>) -> Option<Nanos> {
    a.into_iter().chain(b).min()
}

/// The union by identity of two sorted sets, appended to `out`. What is in the block stays as it is.
///
/// Both inputs must be sorted; `rows` may hold an identity more than once (the first one wins).
pub fn merge(block: &Trades, rows: &Trades, out: &mut Trades) -> Merge {
    let mut result = Merge::default();
    let start = out.len();
    out.reserve(block.len() + rows.len());
    let mut at = 0;
    for i in 0..rows.len() {
        let key = rows.key(i);
        let till = at + partition(at, block.len(), |k| block.key(k) < key);
        out.append_range(block, at..till);
        at = till;
        let twin = if at < block.len() && block.key(at) == key {
            Some(block.get(at))
        } else if out.len() > start && out.key(out.len() - 1) == key {
            Some(out.get(out.len() - 1))
        } else {
            None
        };
        match twin {
            None => {
                out.push(rows.get(i));
                result.added += 1;
                result.first_known = earlier(result.first_known, Some(rows.known(i)));
            }
            Some(twin) if twin.same_report(&rows.get(i)) => result.known += 1,
            Some(_) => result.conflicts.push(rows.get(i)),
        }
    }
    out.append_range(block, at..block.len());
    result
}

/// How many of `from..to` come before the answer turns from yes to no; looks near `from` first, because late rows come in runs.
fn partition(from: usize, to: usize, before: impl Fn(usize) -> bool) -> usize {
    let mut step = 1;
    let mut low = from;
    while low + step <= to && before(low + step - 1) {
        low += step;
        step *= 2;
    }
    let mut high = (low + step).min(to);
    while low < high {
        let mid = low + (high - low) / 2;
        if before(mid) { low = mid + 1 } else { high = mid }
    }
    low - from
}

/// What a live row does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Op {
    /// A trade, sealed later.
    Trade = b't',
    /// A tombstone: the venue cancelled the trade of this identity.
    Bust = b'b',
    /// A correction: the trade of this identity has this content now.
    Correction = b'c',
}

impl Op {
    /// Reads the `op` column of a live row.
    ///
    /// # Errors
    /// `Corrupt` for a letter that is none.
    pub fn from_u8(code: u8) -> Result<Op> {
        match code {
            b't' => Ok(Op::Trade),
            b'b' => Ok(Op::Bust),
            b'c' => Ok(Op::Correction),
            _ => Err(Error::corrupt("live row", format!("unknown op {code}"))),
        }
    }
}

/// Live rows of one instrument: late trades, the running session's trades, tombstones and corrections.
#[derive(Clone, Debug, Default)]
pub struct LiveRows {
    /// One row per identity after [`LiveRows::settle`]; of a tombstone only the identity matters.
    pub trades: Trades,
    /// What each row does.
    pub ops: Vec<Op>,
    /// Since when each is known: a trade's receipt, or when the venue busted or corrected it.
    pub known: Vec<Nanos>,
}

impl LiveRows {
    /// Makes room for so many more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.trades.reserve(rows);
        self.ops.reserve(rows);
        self.known.reserve(rows);
    }

    /// Adds a row, in any order, that is known since its trade was received.
    pub fn push(&mut self, trade: Trade, op: Op) {
        self.push_known(trade, op, trade.known());
    }

    /// Adds a row, in any order.
    pub fn push_known(&mut self, trade: Trade, op: Op, known: Nanos) {
        self.trades.push(trade);
        self.ops.push(op);
        self.known.push(known);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The rows with `from <= ts < till`, in the order in which they lie.
    pub fn within(self, from: Nanos, till: Nanos) -> LiveRows {
        let inside = |ts: Nanos| from <= ts && ts < till;
        if self.trades.ts.iter().all(|&ts| inside(ts)) {
            return self;
        }
        let mut kept = LiveRows::default();
        for i in (0..self.len()).filter(|&i| inside(self.trades.ts[i])) {
            kept.push_known(self.trades.get(i), self.ops[i], self.known[i]);
        }
        kept
    }

    /// Sorts by identity and leaves one row of each: busts and corrections outrank trades; of those the one that became known
    /// last counts (a bust before a correction, of corrections the one pushed last), of trades the one received first (of
    /// those the one with the smallest content, so that the order of rows in a table does not matter).
    pub fn settle(&mut self) {
        if self.trades.is_strictly_sorted() {
            return;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        let rest = |i: usize| {
            let (op, t, known) = (self.ops[i], self.trades.get(i), self.known[i]);
            let content = (t.price, t.size, t.flags, t.cond, t.trade_id);
            match op {
                Op::Trade => (2u8, known, 0u8, 0, content),
                Op::Bust => (0, known.saturating_neg(), 0, 0, content),
                Op::Correction => (0, known.saturating_neg(), 1, usize::MAX - i, content),
            }
        };
        // Most identities differ, so the rest is seldom looked at.
        order.sort_by(|&a, &b| self.trades.key(a).cmp(&self.trades.key(b)).then_with(|| rest(a).cmp(&rest(b))));
        let mut settled = LiveRows { trades: Trades::with_capacity(order.len()), ..LiveRows::default() };
        for i in order {
            let n = settled.len();
            if n == 0 || settled.trades.key(n - 1) != self.trades.key(i) {
                settled.push_known(self.trades.get(i), self.ops[i], self.known[i]);
            }
        }
        *self = settled;
    }

    /// The rows of `range` that are trades now, appended to `out`: what [`overlay`] does over nothing.
    pub fn visible(&self, range: Range<usize>, out: &mut Trades) {
        if !self.ops[range.clone()].contains(&Op::Bust) {
            return out.append_range(&self.trades, range);
        }
        for i in range {
            if self.ops[i] != Op::Bust {
                out.push(self.trades.get(i));
            }
        }
    }

    /// Takes the rows with `from <= ts < till` away; the rows must be settled.
    pub fn forget(&mut self, from: Nanos, till: Nanos) {
        let (first, last) = (self.trades.lower_bound(from), self.trades.lower_bound(till));
        if first >= last {
            return;
        }
        let mut kept = self.trades.slice(0..first);
        kept.append_range(&self.trades, last..self.len());
        self.trades = kept;
        self.ops.drain(first..last);
        self.known.drain(first..last);
    }

    /// The first index whose identity is above `key`; the rows must be settled.
    pub fn after(&self, key: Key) -> usize {
        partition(0, self.len(), |i| self.trades.key(i) <= key)
    }
}

/// A sealed page as readers see it: corrections over live rows over blocks, by identity, appended to `out` in order.
///
/// `page` is sorted, `live` is settled, and `range` are the live rows that fall on this page: those up to its last
/// identity that no earlier page took. A sealed trade stays where a live one has the same identity: only corrections change
/// what is stored, so that sealing changes no answer.
pub fn overlay(page: &Trades, live: &LiveRows, range: Range<usize>, out: &mut Trades) {
    out.reserve(page.len() + range.len());
    let mut at = 0;
    for i in range {
        let key = live.trades.key(i);
        let till = at + partition(at, page.len(), |k| page.key(k) < key);
        out.append_range(page, at..till);
        at = till;
        let sealed = at < page.len() && page.key(at) == key;
        match live.ops[i] {
            Op::Trade if sealed => out.push(page.get(at)),
            Op::Trade | Op::Correction => out.push(live.trades.get(i)),
            Op::Bust => {}
        }
        at += usize::from(sealed);
    }
    out.append_range(page, at..page.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trade(ts: i64, seq: i64, price: i64) -> Trade {
        Trade { ts, seq, price, size: 1, ..Trade::default() }
    }

    fn trades(list: &[(i64, i64, i64)]) -> Trades {
        list.iter().map(|&(ts, seq, price)| trade(ts, seq, price)).collect()
    }

    #[test]
    fn merge_adds_what_is_new_and_reports_what_differs() {
        let block = trades(&[(1, 1, 10), (2, 2, 20), (4, 4, 40)]);
        let rows = trades(&[(0, 0, 5), (2, 2, 20), (3, 3, 30), (3, 3, 30), (4, 4, 41), (5, 5, 50)]);
        let mut out = Trades::new();
        let done = merge(&block, &rows, &mut out);
        assert_eq!((done.added, done.known), (3, 2));
        assert_eq!(done.conflicts, vec![trade(4, 4, 41)]);
        assert_eq!(out, trades(&[(0, 0, 5), (1, 1, 10), (2, 2, 20), (3, 3, 30), (4, 4, 40), (5, 5, 50)]));
    }

    #[test]
    fn corrections_outrank_blocks_and_blocks_outrank_live_rows() {
        let page = trades(&[(1, 1, 10), (2, 2, 20), (3, 3, 30), (4, 4, 40)]);
        let mut live = LiveRows::default();
        live.push(trade(3, 3, 31), Op::Trade);
        live.push(trade(2, 2, 21), Op::Correction);
        live.push(trade(2, 2, 22), Op::Correction);
        live.push(trade(2, 2, 23), Op::Trade);
        live.push(trade(4, 4, 0), Op::Bust);
        live.push(trade(4, 4, 44), Op::Correction);
        live.push(trade(2, 5, 25), Op::Trade);
        live.settle();
        let mut out = Trades::new();
        overlay(&page, &live, 0..live.len(), &mut out);
        assert_eq!(out, trades(&[(1, 1, 10), (2, 2, 22), (2, 5, 25), (3, 3, 30)]));
    }

    #[test]
    fn sorting_keeps_the_order_of_equal_identities() {
        let mut some = trades(&[(2, 1, 1), (1, 1, 2), (2, 1, 3), (1, 0, 4)]);
        some.sort_by_key();
        assert_eq!(some, trades(&[(1, 0, 4), (1, 1, 2), (2, 1, 1), (2, 1, 3)]));
    }
}
