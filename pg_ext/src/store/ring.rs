//! The ring of `live_trades`, read and emptied below the executor, page by page.
//!
//! Nobody but the owner may read the table itself: rows of instruments that a policy hides lie between the others, and a policy of
//! its own would refuse COPY. Who calls this has found the instrument under the caller's rights. It is also several times faster than
//! a query: a row of another instrument or time costs the look at two of its columns.

use super::require_writable;
use crate::error::{OrRaise, raise_with};
use crate::spi::{Conn, Mode};
use crate::{plans, time};
use market::{NONE_I64, Nanos, Op, Trade, money};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::cell::RefCell;

plans!(SLOTS_OF);

thread_local! {
    static SLOTS: RefCell<Vec<Oid>> = const { RefCell::new(Vec::new()) };
}

/// A row as it lies in a slot.
#[derive(Clone, Copy, Default)]
pub struct Row {
    /// Whose trade it is.
    pub instrument: i32,
    /// Event time, PostgreSQL's microseconds.
    pub micros: i64,
    /// Nanoseconds beyond them.
    pub ns: i16,
    /// With `sub` and the time its identity.
    pub seq: i64,
    /// Ordinal among the records of one message.
    pub sub: i16,
    /// As it was written.
    pub price: f64,
    /// As it was written.
    pub size: f64,
    /// Eligibility.
    pub flags: u32,
    /// Raw condition.
    pub cond: u32,
    /// When it was received, where known.
    pub ts_recv: Option<i64>,
    /// The venue's id, where it has one.
    pub trade_id: Option<i64>,
    /// `t`, `b` or `c`.
    pub op: u8,
    /// Its slot.
    pub slot: i16,
    /// When the row came, where known.
    pub known_at: Option<i64>,
    /// Where it lies: page and line.
    pub at: (u32, u16),
}

impl Row {
    /// The trade, its mark, and since when it is known: a trade that nobody received is received when its row came.
    pub fn read(&self) -> (Trade, Op, Nanos) {
        let nanos = |micros: Option<i64>| micros.map_or(NONE_I64, time::nanos);
        let mut trade = Trade {
            ts: time::nanos(self.micros).saturating_add(i64::from(self.ns)),
            seq: self.seq,
            sub: i32::from(self.sub),
            price: money::price_from_f64(self.price).or_raise(),
            size: money::size_from_f64(self.size).or_raise(),
            flags: self.flags,
            cond: self.cond,
            ts_recv: nanos(self.ts_recv),
            trade_id: self.trade_id.unwrap_or(NONE_I64),
        };
        let op = Op::from_u8(self.op).or_raise();
        let came = nanos(self.known_at);
        if op == Op::Trade && trade.ts_recv == NONE_I64 {
            trade.ts_recv = came;
        }
        (trade, op, if op == Op::Trade || came == NONE_I64 { trade.known() } else { came })
    }
}

/// What to read: rows of these microseconds, both included.
#[derive(Clone, Copy)]
pub struct Span {
    /// First microsecond.
    pub first: i64,
    /// Last microsecond.
    pub last: i64,
}

impl Span {
    /// Of all times.
    pub const ALL: Span = Span { first: i64::MIN, last: i64::MAX };

    /// The microseconds that hold the instants `[from, till)`: rows of the first and the last one are to be checked again.
    pub fn of(from: Nanos, till: Nanos) -> Span {
        Span { first: time::micros_floor(from), last: time::micros_floor(till) }
    }
}

/// A policy on the ring itself would not be followed here, and what it hides would be shown: the policies of `instruments` hold.
fn refuse_policies() {
    if crate::instrument::is_restricted(c"live_trades") {
        raise_with(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "market.live_trades has row-level security of its own",
            "write the policy on market.instruments, which all tables follow, and ALTER TABLE market.live_trades DISABLE ROW LEVEL SECURITY",
        );
    }
}

/// The ring, its slots open.
pub struct Ring(Vec<Slot>);

impl Ring {
    /// Opens the slots. They are looked up once a backend: planning a query over them takes a millisecond.
    pub fn open(c: &Conn) -> Ring {
        refuse_policies();
        let known = SLOTS.with_borrow(Clone::clone);
        let all = |oids: &[Oid]| oids.iter().map(|slot| Slot::open(*slot)).collect::<Option<Vec<Slot>>>();
        if let Some(slots) = all(&known).filter(|slots| !slots.is_empty()) {
            return Ring(slots);
        }
        let mut found = Vec::new();
        c.run(
            Mode::SameSnapshot,
            &SLOTS_OF,
            c"SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = 'market.live_trades'::pg_catalog.regclass ORDER BY inhrelid",
            &[],
            &mut |v, _| found.push(Oid::from(v[0].value() as u32)),
        );
        let slots = all(&found).unwrap_or_default();
        SLOTS.set(found);
        Ring(slots)
    }

    /// Pages in all slots: an empty ring needs no look.
    pub fn pages(&self) -> u64 {
        self.0.iter().map(|slot| u64::from(slot.pages())).sum()
    }

    /// Calls `each` with every row of an instrument that is `wanted` and of the span, as a reader's statement or a writer's next
    /// one sees them.
    pub fn read(&self, mode: Mode, span: Span, wanted: impl Fn(i32) -> bool, mut each: impl FnMut(&Row)) {
        under(mode, |snapshot| {
            for slot in &self.0 {
                slot.scan(snapshot, span, &wanted, &mut each);
            }
        });
    }

    /// Deletes the rows of an instrument and a span that are `wanted`, as a writer's next statement sees them, and calls `each` with
    /// every one.
    fn delete(&self, instrument: i32, span: Span, wanted: impl Fn(&Row) -> bool, mut each: impl FnMut(&Row)) {
        require_writable(c"DELETE");
        let mut rows = Vec::new();
        under(Mode::Fresh, |snapshot| {
            for slot in &self.0 {
                rows.clear();
                let of = |id| id == instrument;
                slot.scan(snapshot, span, &of, &mut |row: &Row| rows.extend(wanted(row).then_some(*row)));
                if rows.is_empty() {
                    continue;
                }
                slot.lock_for_writing();
                rows.iter().filter(|row| slot.delete(row)).for_each(&mut each);
            }
        });
    }

    /// Deletes the rows of an instrument and gives them to `each`. Windows begin and end on whole microseconds: the last one of the
    /// span is left.
    pub fn take(&self, instrument: i32, span: Span, each: impl FnMut(&Row)) {
        self.delete(instrument, span, |row| row.micros < span.last, each);
    }

    /// Deletes the marks, not the trades, of one identity.
    pub fn unmark(&self, instrument: i32, micros: i64, ns: i16, seq: i64, sub: i16) {
        let marks = |row: &Row| row.op != b't' && (row.ns, row.seq, row.sub) == (ns, seq, sub);
        self.delete(instrument, Span { first: micros, last: micros }, marks, |_| {});
    }
}

/// Runs `f` with the snapshot that a query in this mode would have.
fn under(mode: Mode, f: impl FnOnce(pg_sys::Snapshot)) {
    // SAFETY: push and pop are paired; an error unwinds through the transaction's abort, which pops for us.
    unsafe {
        if mode == Mode::SameSnapshot {
            return f(pg_sys::GetActiveSnapshot());
        }
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        f(pg_sys::GetActiveSnapshot());
        pg_sys::PopActiveSnapshot();
        pg_sys::CommandCounterIncrement();
    }
}

/// Where the columns of a slot lie. Those that are never NULL come first.
const SEQ: usize = 8;
const PRICE: usize = 16;
const SIZE: usize = 24;
const INSTRUMENT: usize = 32;
const NS: usize = 36;
const SUB: usize = 38;
const FLAGS: usize = 40;
const COND: usize = 44;
const REST: usize = 48;
/// Numbers of the columns behind them, from 0.
const TS_RECV: usize = 9;
const TRADE_ID: usize = 10;
const KNOWN_AT: usize = 13;
/// Types of all columns, in order: the offsets above are theirs.
const TYPES: [Oid; 14] = [
    pg_sys::TIMESTAMPTZOID,
    pg_sys::INT8OID,
    pg_sys::FLOAT8OID,
    pg_sys::FLOAT8OID,
    pg_sys::INT4OID,
    pg_sys::INT2OID,
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT4OID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::INT8OID,
    pg_sys::CHAROID,
    pg_sys::INT2OID,
    pg_sys::TIMESTAMPTZOID,
];

/// A slot that is open; its lock goes with the transaction's others.
struct Slot(pg_sys::Relation);

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: it was opened; the lock is kept, as a query would keep it.
        unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as i32) }
    }
}

impl Slot {
    /// `None` if it is gone: the extension was made anew.
    fn open(oid: Oid) -> Option<Slot> {
        // SAFETY: a relation that could be opened is closed by `drop`.
        let relation = unsafe { pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as i32) };
        (!relation.is_null()).then_some(Slot(relation))
    }

    /// As a DELETE locks its table.
    fn lock_for_writing(&self) {
        // SAFETY: the relation is open, so it is there.
        unsafe { pg_sys::LockRelationOid((*self.0).rd_id, pg_sys::RowExclusiveLock as i32) }
    }

    fn pages(&self) -> u32 {
        // SAFETY: the relation is open.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.0, pg_sys::ForkNumber::MAIN_FORKNUM) }
    }

    /// Raises if the columns do not lie where this library reads them.
    fn check(&self) {
        // SAFETY: the relation is open, and its description lives as long.
        let fits = unsafe {
            let desc = (*self.0).rd_att;
            (*desc).natts as usize == TYPES.len()
                && TYPES.iter().enumerate().all(|(i, oid)| pg_sys::SPI_gettypeid(desc, i as i32 + 1) == *oid)
        };
        if !fits {
            crate::fmgr::older("market.live_trades is not the one of this library");
        }
    }

    fn scan(&self, snapshot: pg_sys::Snapshot, span: Span, wanted: &impl Fn(i32) -> bool, each: &mut impl FnMut(&Row)) {
        let pages = self.pages();
        // SAFETY: the relation is open; pages are pinned and share-locked while they are looked at.
        unsafe {
            if pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32 {
                // whoever else is serializable must know that this one looked; a heap scan tells it
                let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN;
                let none = std::ptr::null_mut();
                pg_sys::heap_endscan(pg_sys::heap_beginscan(self.0, snapshot, 0, none, std::ptr::null_mut(), flags));
            }
            if pages == 0 {
                return;
            }
            self.check();
            let strategy = if pages > pg_sys::NBuffers as u32 / 4 {
                pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD)
            } else {
                std::ptr::null_mut()
            };
            let mut rows: Vec<Row> = Vec::with_capacity(ROWS_A_PAGE);
            for block in 0..pages {
                if block % 64 == 0 {
                    pg_sys::check_for_interrupts!();
                }
                let (fork, normal) = (pg_sys::ForkNumber::MAIN_FORKNUM, pg_sys::ReadBufferMode::RBM_NORMAL);
                let buffer = pg_sys::ReadBufferExtended(self.0, fork, block, normal, strategy);
                pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
                rows.clear();
                self.look(buffer, block, snapshot, span, wanted, &mut rows);
                // nothing that may take long or raise happens under the lock
                pg_sys::UnlockReleaseBuffer(buffer);
                rows.iter().for_each(&mut *each);
            }
            if !strategy.is_null() {
                pg_sys::FreeAccessStrategy(strategy);
            }
        }
    }

    /// The visible and wanted rows of a page.
    unsafe fn look(
        &self,
        buffer: pg_sys::Buffer,
        block: u32,
        snapshot: pg_sys::Snapshot,
        span: Span,
        wanted: &impl Fn(i32) -> bool,
        rows: &mut Vec<Row>,
    ) {
        let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
        let header = &*page.cast::<pg_sys::PageHeaderData>();
        let serializable = pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32;
        // as in a heap scan: a standby may not trust the flag
        let all_visible = u32::from(header.pd_flags) & pg_sys::PD_ALL_VISIBLE != 0
            && !(*snapshot).takenDuringRecovery
            && !serializable;
        let lines = pg_sys::PageGetMaxOffsetNumber(page.cast()) as usize;
        let line = page.add(std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp)).cast::<pg_sys::ItemIdData>();
        for i in 0..lines {
            let item = &*line.add(i);
            if item.lp_flags() != pg_sys::LP_NORMAL {
                continue;
            }
            let tuple = page.add(item.lp_off() as usize);
            let head = tuple.cast::<pg_sys::HeapTupleHeaderData>();
            let data = tuple.add((*head).t_hoff as usize);
            let micros = data.cast::<i64>().read_unaligned();
            let instrument = data.add(INSTRUMENT).cast::<i32>().read_unaligned();
            if micros < span.first || micros > span.last || !wanted(instrument) {
                continue;
            }
            if !serializable && plainly_gone(head, snapshot) {
                continue;
            }
            let at = (block, i as u16 + 1);
            if !(all_visible || (!serializable && plainly_visible(head, snapshot))) {
                let mut found = pg_sys::HeapTupleData {
                    t_len: item.lp_len(),
                    t_self: item_pointer(at),
                    t_tableOid: (*self.0).rd_id,
                    t_data: head,
                };
                let visible = pg_sys::HeapTupleSatisfiesVisibility(&mut found, snapshot, buffer);
                if serializable {
                    pg_sys::HeapCheckForSerializableConflictOut(visible, self.0, &mut found, buffer, snapshot);
                }
                if !visible {
                    continue;
                }
            }
            rows.push(decode(head, data, micros, instrument, at));
        }
    }

    /// Deletes a row that was read; `false` if somebody else did meanwhile.
    fn delete(&self, row: &Row) -> bool {
        let mut at = item_pointer(row.at);
        // SAFETY: the relation is open and locked for writing; the row was visible to this transaction.
        let result = unsafe {
            let mut failure: pg_sys::TM_FailureData = std::mem::zeroed();
            let command = pg_sys::GetCurrentCommandId(true);
            let none = std::ptr::null_mut();
            pg_sys::heap_delete(self.0, &mut at, command, none, true, &mut failure, false)
        };
        match result {
            pg_sys::TM_Result::TM_Ok => true,
            pg_sys::TM_Result::TM_Deleted => false,
            _ => raise_with(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "a live row was changed meanwhile",
                "try again",
            ),
        }
    }
}

/// A page holds about so many rows.
pub const ROWS_A_PAGE: usize = 80;

fn item_pointer((block, offset): (u32, u16)) -> pg_sys::ItemPointerData {
    pg_sys::ItemPointerData {
        ip_blkid: pg_sys::BlockIdData { bi_hi: (block >> 16) as u16, bi_lo: block as u16 },
        ip_posid: offset,
    }
}

/// Whether a row is visible without a further look: known to be committed before every transaction that the snapshot doubts, and not
/// deleted. `false` says nothing.
#[inline]
unsafe fn plainly_visible(head: pg_sys::HeapTupleHeader, snapshot: pg_sys::Snapshot) -> bool {
    let mask = u32::from((*head).t_infomask);
    if (*snapshot).snapshot_type != pg_sys::SnapshotType::SNAPSHOT_MVCC || mask & pg_sys::HEAP_XMAX_INVALID == 0 {
        return false;
    }
    let frozen = mask & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
    let committed = mask & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_COMMITTED;
    // transaction ids are a ring, too
    let before = |xid: u32, other: u32| (xid.wrapping_sub(other) as i32) < 0;
    let (xmin, doubted) = ((*head).t_choice.t_heap.t_xmin.into_inner(), (*snapshot).xmin.into_inner());
    frozen || (committed && xmin > pg_sys::FirstNormalTransactionId.into_inner() && before(xmin, doubted))
}

/// Whether a row was deleted for good before every transaction that the snapshot doubts. `false` says nothing.
#[inline]
unsafe fn plainly_gone(head: pg_sys::HeapTupleHeader, snapshot: pg_sys::Snapshot) -> bool {
    let mask = u32::from((*head).t_infomask);
    let locked_only = mask & (pg_sys::HEAP_XMAX_LOCK_ONLY | pg_sys::HEAP_XMAX_IS_MULTI) != 0;
    let committed = mask & (pg_sys::HEAP_XMAX_COMMITTED | pg_sys::HEAP_XMAX_INVALID) == pg_sys::HEAP_XMAX_COMMITTED;
    if locked_only || !committed || (*snapshot).snapshot_type != pg_sys::SnapshotType::SNAPSHOT_MVCC {
        return false;
    }
    let (xmax, doubted) = ((*head).t_choice.t_heap.t_xmax.into_inner(), (*snapshot).xmin.into_inner());
    xmax >= pg_sys::FirstNormalTransactionId.into_inner() && (xmax.wrapping_sub(doubted) as i32) < 0
}

#[inline]
unsafe fn decode(head: pg_sys::HeapTupleHeader, data: *const u8, micros: i64, instrument: i32, at: (u32, u16)) -> Row {
    let has_nulls = u32::from((*head).t_infomask) & pg_sys::HEAP_HASNULL != 0;
    let columns = (u32::from((*head).t_infomask2) & pg_sys::HEAP_NATTS_MASK) as usize;
    let bits = head.cast::<u8>().add(std::mem::offset_of!(pg_sys::HeapTupleHeaderData, t_bits));
    let is_null = |i: usize| i >= columns || (has_nulls && *bits.add(i / 8) & (1 << (i % 8)) == 0);
    let mut offset = REST;
    let wide = |i: usize, offset: &mut usize| {
        (!is_null(i)).then(|| {
            *offset = (*offset + 7) & !7;
            *offset += 8;
            data.add(*offset - 8).cast::<i64>().read_unaligned()
        })
    };
    let ts_recv = wide(TS_RECV, &mut offset);
    let trade_id = wide(TRADE_ID, &mut offset);
    let op = *data.add(offset);
    offset = (offset + 2) & !1;
    let slot = data.add(offset).cast::<i16>().read_unaligned();
    offset += 2;
    let known_at = wide(KNOWN_AT, &mut offset);
    Row {
        instrument,
        micros,
        ns: data.add(NS).cast::<i16>().read_unaligned(),
        seq: data.add(SEQ).cast::<i64>().read_unaligned(),
        sub: data.add(SUB).cast::<i16>().read_unaligned(),
        price: data.add(PRICE).cast::<f64>().read_unaligned(),
        size: data.add(SIZE).cast::<f64>().read_unaligned(),
        flags: data.add(FLAGS).cast::<u32>().read_unaligned(),
        cond: data.add(COND).cast::<u32>().read_unaligned(),
        ts_recv,
        trade_id,
        op,
        slot,
        known_at,
        at,
    }
}
