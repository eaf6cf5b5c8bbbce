//! Live rows and corrections of one instrument, as the domain sees them.

use crate::error::OrRaise;
use crate::fmgr::{float8, float8_of, int8};
use crate::spi::{Arg, Conn, Mode, PlanCell};
use crate::{plans, time};
use market::{AsOf, Correction, Corrections, Key, LiveRows, NONE_I64, Nanos, Op, Reported, Trade, Trades, money};
use pgrx::pg_sys::{self, Datum, Oid};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::thread::LocalKey;

plans!(LIVE, LIVE_OF, TAKE, CORRECTIONS, REPORTED, KEEP, SLOTS_OF);

/// Adds a row of all columns as they lie in the table: a scan that selects them in this order copies none. A trade that nobody
/// received is received when its row came.
///
/// ts, seq, price, size, instrument_id, ns, sub, flags, cond, ts_recv, trade_id, op, slot, known_at
fn push_row(rows: &mut LiveRows, v: &[Datum], nulls: &[bool]) {
    let ts = time::nanos(v[0].value() as i64).saturating_add(i64::from(v[5].value() as i16));
    let mut trade = Trade {
        ts,
        seq: v[1].value() as i64,
        sub: i32::from(v[6].value() as i16),
        price: money::price_from_f64(float8_of(v[2])).or_raise(),
        size: money::size_from_f64(float8_of(v[3])).or_raise(),
        flags: v[7].value() as u32,
        cond: v[8].value() as u32,
        ts_recv: if nulls[9] { NONE_I64 } else { time::nanos(v[9].value() as i64) },
        trade_id: if nulls[10] { NONE_I64 } else { v[10].value() as i64 },
    };
    let op = Op::from_u8(v[11].value() as u8).or_raise();
    let came = if nulls[13] { NONE_I64 } else { time::nanos(v[13].value() as i64) };
    if op == Op::Trade && trade.ts_recv == NONE_I64 {
        trade.ts_recv = came;
    }
    rows.push_known(trade, op, if op == Op::Trade || came == NONE_I64 { trade.known() } else { came });
}

/// The microseconds that select the instants `[from, till)`: rows of the first and the last microsecond are checked again.
fn micros_range(from: Nanos, till: Nanos) -> [Arg; 2] {
    [Arg::timestamptz(time::micros_floor(from)), Arg::timestamptz(time::micros_floor(till))]
}

fn fetch(
    c: &Conn,
    mode: Mode,
    cell: &'static PlanCell,
    sql: &CStr,
    instrument: i32,
    (from, till): (Nanos, Nanos),
    pages: u64,
) -> LiveRows {
    let mut rows = LiveRows::default();
    // growing step by step would copy what is there again and again
    rows.reserve(usize::try_from(pages.saturating_mul(ROWS_A_PAGE)).unwrap_or(MOST_RESERVED).min(MOST_RESERVED));
    let [a, z] = micros_range(from, till);
    let args = [Arg::int4(instrument), a, z];
    let mut each = |v: &[Datum], nulls: &[bool]| push_row(&mut rows, v, nulls);
    c.run_planned_once(mode, cell, sql, &args, &mut each);
    rows.within(from, till)
}

thread_local! {
    static SLOTS: RefCell<Vec<Oid>> = const { RefCell::new(Vec::new()) };
    // how many pages the slots had when LIVE, LIVE_OF and TAKE were planned
    static PLANNED_FOR: Cell<u64> = const { Cell::new(0) };
    static PLANNED_FOR_MANY: Cell<u64> = const { Cell::new(0) };
    static PLANNED_FOR_TAKING: Cell<u64> = const { Cell::new(0) };
}

/// A page holds about so many rows.
const ROWS_A_PAGE: u64 = 80;
/// Memory is reserved for at most so many rows; what is not used is never touched.
const MOST_RESERVED: usize = 65_536;

/// Pages in all slots of the ring. An empty ring needs no query, and planning one over its 24 slots takes a millisecond.
fn live_pages(c: &Conn) -> u64 {
    let known = SLOTS.with_borrow(|slots| pages_of(slots));
    known.unwrap_or_else(|| {
        let mut slots = Vec::new();
        c.run(
            Mode::SameSnapshot,
            &SLOTS_OF,
            c"SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = 'market.live_trades'::pg_catalog.regclass",
            &[],
            &mut |v, _| slots.push(Oid::from(v[0].value() as u32)),
        );
        let pages = pages_of(&slots).unwrap_or(u64::MAX);
        SLOTS.set(slots);
        pages
    })
}

/// `None` if the slots are not known or one is gone: the extension was made anew.
fn pages_of(slots: &[Oid]) -> Option<u64> {
    let mut pages = 0;
    for slot in slots {
        // SAFETY: a relation that could be opened is closed again; the lock goes with the transaction's others.
        unsafe {
            let relation = pg_sys::try_relation_open(*slot, pg_sys::AccessShareLock as i32);
            if relation.is_null() {
                return None;
            }
            pages += u64::from(pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM));
            pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        }
    }
    (!slots.is_empty()).then_some(pages)
}

/// Makes the next query plan anew if the ring has grown or shrunk much: a plan made for a small one scans a large one from
/// end to end.
fn plan_for(c: &Conn, pages: u64, cell: &'static PlanCell, planned: &'static LocalKey<Cell<u64>>) {
    let before = planned.get();
    if pages > before.saturating_mul(2).saturating_add(32) || before > pages.saturating_mul(2).saturating_add(32) {
        c.forget(cell);
        planned.set(pages);
    }
}

/// The live rows of an instrument with `from <= ts < till` as they lie in the table.
pub fn read_rows(c: &Conn, mode: Mode, instrument: i32, from: Nanos, till: Nanos) -> LiveRows {
    let pages = live_pages(c);
    if may_skip(pages) {
        return LiveRows::default();
    }
    plan_for(c, pages, &LIVE, &PLANNED_FOR);
    let sql = c"SELECT ts, seq, price, size, instrument_id, ns, sub, flags, cond, ts_recv, trade_id, op, slot, known_at
                FROM market.live_trades WHERE instrument_id = $1 AND ts >= $2 AND ts <= $3";
    fetch(c, mode, &LIVE, sql, instrument, (from, till), pages)
}

/// Whether a ring of so many pages need not be looked at. A SERIALIZABLE reader must be known to have looked, or two of them
/// that each insert a row would both see none.
fn may_skip(pages: u64) -> bool {
    // SAFETY: reads a global.
    pages == 0 && unsafe { pg_sys::XactIsoLevel } != pg_sys::XACT_SERIALIZABLE as i32
}

/// Whether the ring has any row, or must be looked at all the same.
pub fn any_live(c: &Conn) -> bool {
    !may_skip(live_pages(c))
}

/// The live rows of several instruments with `from <= ts < till`, settled: one pass over the ring for all of them.
pub fn read_live_of(c: &Conn, mode: Mode, ids: &[i32], from: Nanos, till: Nanos) -> HashMap<i32, LiveRows> {
    let mut of: HashMap<i32, LiveRows> = HashMap::with_capacity(ids.len());
    let [a, z] = micros_range(from, till);
    plan_for(c, live_pages(c), &LIVE_OF, &PLANNED_FOR_MANY);
    c.run_planned_once(
        mode,
        &LIVE_OF,
        c"SELECT ts, seq, price, size, instrument_id, ns, sub, flags, cond, ts_recv, trade_id, op, slot, known_at
          FROM market.live_trades WHERE instrument_id = ANY ($1) AND ts >= $2 AND ts <= $3",
        &[Arg::int4_array(ids), a, z],
        &mut |v, nulls| push_row(of.entry(v[4].value() as i32).or_default(), v, nulls),
    );
    of.into_iter()
        .map(|(id, rows)| {
            let mut rows = rows.within(from, till);
            rows.settle();
            (id, rows)
        })
        .collect()
}

/// The live rows of an instrument with `from <= ts < till`, settled.
pub fn read_live(c: &Conn, mode: Mode, instrument: i32, from: Nanos, till: Nanos) -> LiveRows {
    let mut rows = read_rows(c, mode, instrument, from, till);
    rows.settle();
    rows
}

/// Live rows taken apart. Settling them together would lose a trade behind the mark that corrects it.
pub struct Taken {
    /// Trades, one an identity, in order.
    pub trades: Trades,
    /// Trades whose identity came more than once, with other content than the one that counts.
    pub conflicts: Vec<Trade>,
    /// Tombstones and corrections, one an identity, in order.
    pub marks: LiveRows,
    /// How many rows there were.
    pub rows: usize,
}

fn take_apart(rows: LiveRows) -> Taken {
    let n = rows.len();
    let (mut trades, mut marks) = (LiveRows::default(), LiveRows::default());
    for i in 0..n {
        let side = if rows.ops[i] == Op::Trade { &mut trades } else { &mut marks };
        side.push_known(rows.trades.get(i), rows.ops[i], rows.known[i]);
    }
    marks.settle();
    let mut conflicts = Vec::new();
    let all = if trades.trades.is_strictly_sorted() { None } else { Some(trades.trades.clone()) };
    trades.settle();
    if let Some(all) = all.filter(|all| all.len() > trades.len()) {
        for t in all.iter() {
            if trades.trades.find(t.key()).is_some_and(|at| !trades.trades.get(at).same_report(&t)) {
                conflicts.push(t);
            }
        }
    }
    Taken { trades: trades.trades, conflicts, marks, rows: n }
}

/// The live rows of an instrument with `from <= ts < till`, taken apart.
pub fn read_apart(c: &Conn, mode: Mode, instrument: i32, from: Nanos, till: Nanos) -> Taken {
    take_apart(read_rows(c, mode, instrument, from, till))
}

/// Deletes the live rows of a storage window and returns them. Windows begin and end on whole microseconds.
pub fn take_live(c: &Conn, instrument: i32, from: Nanos, till: Nanos) -> Taken {
    let pages = live_pages(c);
    if pages == 0 {
        return take_apart(LiveRows::default());
    }
    let sql = c"DELETE FROM market.live_trades WHERE instrument_id = $1 AND ts >= $2 AND ts < $3
                RETURNING ts, seq, price, size, instrument_id, ns, sub, flags, cond, ts_recv, trade_id, op, slot, known_at";
    // planning over the ring's slots takes longer than taking a few rows
    plan_for(c, pages, &TAKE, &PLANNED_FOR_TAKING);
    take_apart(fetch(c, Mode::Fresh, &TAKE, sql, instrument, (from, till), pages))
}

/// Busts and corrections of an instrument with `from <= ts < till`: the last word on each identity.
pub fn read_corrections(c: &Conn, mode: Mode, instrument: i32, from: Nanos, till: Nanos) -> Corrections {
    read_corrections_until(c, mode, instrument, (from, till), Nanos::MAX)
}

/// As `read_corrections`: the last word that was known at an instant, and whether later ones followed.
pub fn read_corrections_until(
    c: &Conn,
    mode: Mode,
    instrument: i32,
    (from, till): (Nanos, Nanos),
    until: Nanos,
) -> Corrections {
    let mut found = Corrections::until(until);
    let [a, z] = micros_range(from, till);
    c.run_planned_once(
        mode,
        &CORRECTIONS,
        c"SELECT ts, ns, seq, sub, action = 'bust', new_price, new_size, new_flags, known_at
          FROM market.trade_corrections WHERE instrument_id = $1 AND ts >= $2 AND ts <= $3
          ORDER BY ts, ns, seq, sub, known_at, id",
        &[Arg::int4(instrument), a, z],
        &mut |v, nulls| {
            let ts = time::nanos(v[0].value() as i64).saturating_add(i64::from(v[1].value() as i16));
            if ts < from || ts >= till {
                return;
            }
            let key = Key { ts, seq: v[2].value() as i64, sub: i32::from(v[3].value() as i16) };
            let correction = if v[4].value() as u8 != 0 || nulls[5] || nulls[6] {
                Correction::Bust
            } else {
                Correction::Replace {
                    price: money::price_from_f64(float8_of(v[5])).or_raise(),
                    size: money::size_from_f64(float8_of(v[6])).or_raise(),
                    flags: (!nulls[7]).then(|| v[7].value() as u32),
                }
            };
            found.push(key, correction, time::nanos_clamped(v[8].value() as i64));
        },
    );
    found
}

/// What was reported, with `from <= ts < till`, of identities that the venue busted or corrected.
pub fn read_reported(c: &Conn, mode: Mode, instrument: i32, from: Nanos, till: Nanos) -> Reported {
    let mut found = Reported::default();
    let [a, z] = micros_range(from, till);
    c.run_planned_once(
        mode,
        &REPORTED,
        c"SELECT ts, seq, price, size, instrument_id, ns, sub, flags, cond, ts_recv, trade_id, 't'::\"char\", 0::int2, known_at
          FROM market.reported_trades WHERE instrument_id = $1 AND ts >= $2 AND ts <= $3 ORDER BY ts, ns, seq, sub",
        &[Arg::int4(instrument), a, z],
        &mut |v, nulls| {
            let mut row = LiveRows::default();
            push_row(&mut row, v, nulls);
            let mut trade = row.trades.get(0);
            if nulls[9] {
                trade.ts_recv = NONE_I64;
            }
            if trade.ts >= from && trade.ts < till {
                found.push(trade, time::nanos_clamped(v[13].value() as i64));
            }
        },
    );
    found
}

/// Keeps what was reported of an identity, before a bust or correction takes its place. What is kept already stays.
pub fn keep_reported(c: &Conn, instrument: i32, trade: Trade, known: Nanos) {
    let (micros, ns) = time::micros_and_ns(trade.ts);
    let optional = |v: i64, datum: Datum| (v != NONE_I64).then_some(datum);
    c.insert(
        &KEEP,
        c"INSERT INTO market.reported_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, known_at)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
        &[
            Arg::int4(instrument),
            Arg::timestamptz(micros),
            Arg::int2(ns),
            Arg::int8(trade.seq),
            Arg::int2(trade.sub as i16),
            Arg::new(pg_sys::FLOAT8OID, float8(money::to_f64(trade.price))),
            Arg::new(pg_sys::FLOAT8OID, float8(money::to_f64(trade.size))),
            Arg::int4(trade.flags as i32),
            Arg::int4(trade.cond as i32),
            Arg::option(pg_sys::TIMESTAMPTZOID, optional(trade.ts_recv, int8(time::micros(trade.ts_recv)))),
            Arg::option(pg_sys::INT8OID, optional(trade.trade_id, int8(trade.trade_id))),
            Arg::timestamptz(time::micros(known)),
        ],
    );
}

/// The live rows of an instrument with `from <= ts < till` as they were known at an instant, and what else lies over sealed
/// trades then.
pub fn read_as_of(c: &Conn, mode: Mode, instrument: i32, from: Nanos, till: Nanos, until: Nanos) -> AsOf {
    let rows = read_rows(c, mode, instrument, from, till);
    let log = read_corrections_until(c, mode, instrument, (from, till), until);
    let reported = match log.is_empty() {
        true => Reported::default(),
        false => read_reported(c, mode, instrument, from, till),
    };
    AsOf::new(rows, &log, &reported)
}
