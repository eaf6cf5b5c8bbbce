//! Live rows and corrections of one instrument, as the domain sees them.

use super::as_owner;
use super::ring::{self, Ring, Row, Span};
use crate::error::OrRaise;
use crate::fmgr::{float8, float8_of, int8};
use crate::spi::{Arg, Conn, Mode, PlanCell};
use crate::{plans, time};
use market::{AsOf, Correction, Corrections, Key, LiveRows, NONE_I64, Nanos, Op, Reported, Trade, Trades, money};
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys::{self, Datum};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::thread::LocalKey;

plans!(LIVE, LIVE_OF, TAKE, CORRECTIONS, REPORTED, KEEP);

/// Adds a row as a query gives it.
///
/// ts, seq, price, size, instrument_id, ns, sub, flags, cond, ts_recv, trade_id, op, slot, known_at
fn push_row(rows: &mut LiveRows, v: &[Datum], nulls: &[bool]) {
    let optional = |i: usize| (!nulls[i]).then(|| v[i].value() as i64);
    let row = Row {
        micros: v[0].value() as i64,
        seq: v[1].value() as i64,
        price: float8_of(v[2]),
        size: float8_of(v[3]),
        instrument: v[4].value() as i32,
        ns: v[5].value() as i16,
        sub: v[6].value() as i16,
        flags: v[7].value() as u32,
        cond: v[8].value() as u32,
        ts_recv: optional(9),
        trade_id: optional(10),
        op: v[11].value() as u8,
        slot: v[12].value() as i16,
        known_at: optional(13),
        ..Row::default()
    };
    push(rows, &row);
}

#[inline]
fn push(rows: &mut LiveRows, row: &Row) {
    let (trade, op, known) = row.read();
    rows.push_known(trade, op, known);
}

fn span_args(span: Span) -> [Arg; 2] {
    [Arg::timestamptz(span.first), Arg::timestamptz(span.last)]
}

thread_local! {
    // how many pages the slots had when LIVE, LIVE_OF and TAKE were planned
    static PLANNED_FOR: Cell<u64> = const { Cell::new(0) };
    static PLANNED_FOR_MANY: Cell<u64> = const { Cell::new(0) };
    static PLANNED_FOR_TAKING: Cell<u64> = const { Cell::new(0) };
}

/// Memory is reserved for at most so many rows; what is not used is never touched.
const MOST_RESERVED: usize = 65_536;

/// A ring of more pages is asked by a query, which knows by the BRIN index which of them to leave out.
static RING_PAGES: GucSetting<i32> = GucSetting::<i32>::new(16_384);

/// Defines the setting of the ring; called once, when the library is loaded.
pub fn define_settings() {
    GucRegistry::define_int_guc(
        c"bellwether.ring_pages",
        c"Most pages of live rows that are read one by one; of more, those that an index names.",
        c"For tests and measuring. All give the same rows.",
        &RING_PAGES,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Whether a ring of so many pages is read page by page.
fn is_short(pages: u64) -> bool {
    i64::try_from(pages).is_ok_and(|pages| pages <= i64::from(RING_PAGES.get()))
}

/// Growing step by step would copy what is there again and again.
fn with_room(pages: u64) -> LiveRows {
    let mut rows = LiveRows::default();
    let room = usize::try_from(pages).unwrap_or(MOST_RESERVED).saturating_mul(ring::ROWS_A_PAGE).min(MOST_RESERVED);
    rows.reserve(room);
    rows
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
    let ring = Ring::open(c);
    let pages = ring.pages();
    if may_skip(pages) {
        return LiveRows::default();
    }
    let mut rows = with_room(pages);
    let span = Span::of(from, till);
    if is_short(pages) {
        ring.read(mode, span, |id| id == instrument, |row| push(&mut rows, row));
        return rows.within(from, till);
    }
    let sql = c"SELECT ts, seq, price, size, instrument_id, ns, sub, flags, cond, ts_recv, trade_id, op, slot, known_at
                FROM market.live_trades WHERE instrument_id = $1 AND ts >= $2 AND ts <= $3";
    let [a, z] = span_args(span);
    as_owner(|| {
        plan_for(c, pages, &LIVE, &PLANNED_FOR);
        let mut each = |v: &[Datum], nulls: &[bool]| push_row(&mut rows, v, nulls);
        c.run_planned_once(mode, &LIVE, sql, &[Arg::int4(instrument), a, z], &mut each);
    });
    rows.within(from, till)
}

/// Whether a ring of so many pages need not be looked at. A SERIALIZABLE reader must be known to have looked, or two of them
/// that each insert a row would both see none.
fn may_skip(pages: u64) -> bool {
    // SAFETY: reads a global.
    pages == 0 && unsafe { pg_sys::XactIsoLevel } != pg_sys::XACT_SERIALIZABLE as i32
}

/// Whether the ring has any row, or must be looked at all the same.
pub fn any_live(c: &Conn) -> bool {
    !may_skip(Ring::open(c).pages())
}

/// The live rows of several instruments with `from <= ts < till`, settled: one pass over the ring for all of them.
pub fn read_live_of(c: &Conn, mode: Mode, ids: &[i32], from: Nanos, till: Nanos) -> HashMap<i32, LiveRows> {
    let mut of: HashMap<i32, LiveRows> = HashMap::with_capacity(ids.len());
    let ring = Ring::open(c);
    let pages = ring.pages();
    let span = Span::of(from, till);
    if is_short(pages) {
        let wanted: HashSet<i32> = ids.iter().copied().collect();
        let each = |row: &Row| push(of.entry(row.instrument).or_default(), row);
        ring.read(mode, span, |id| wanted.contains(&id), each);
    } else {
        let [a, z] = span_args(span);
        as_owner(|| {
            plan_for(c, pages, &LIVE_OF, &PLANNED_FOR_MANY);
            c.run_planned_once(
                mode,
                &LIVE_OF,
                c"SELECT ts, seq, price, size, instrument_id, ns, sub, flags, cond, ts_recv, trade_id, op, slot, known_at
                  FROM market.live_trades WHERE instrument_id = ANY ($1) AND ts >= $2 AND ts <= $3",
                &[Arg::int4_array(ids), a, z],
                &mut |v, nulls| push_row(of.entry(v[4].value() as i32).or_default(), v, nulls),
            );
        });
    }
    of.into_iter()
        .map(|(id, rows)| {
            let mut rows = rows.within(from, till);
            rows.settle();
            (id, rows)
        })
        .collect()
}

/// The instruments, of all, with live rows in a span.
pub fn live_instruments(c: &Conn, span: Span) -> HashSet<i32> {
    let mut ids = HashSet::new();
    Ring::open(c).read(
        Mode::SameSnapshot,
        span,
        |_| true,
        |row| {
            ids.insert(row.instrument);
        },
    );
    ids
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
    let ring = Ring::open(c);
    let pages = ring.pages();
    let span = Span::of(from, till);
    let mut rows = with_room(pages);
    if is_short(pages) {
        if pages > 0 {
            ring.take(instrument, span, |row| push(&mut rows, row));
        }
        return take_apart(rows.within(from, till));
    }
    let sql = c"DELETE FROM market.live_trades WHERE instrument_id = $1 AND ts >= $2 AND ts < $3
                RETURNING ts, seq, price, size, instrument_id, ns, sub, flags, cond, ts_recv, trade_id, op, slot, known_at";
    let [a, z] = span_args(span);
    as_owner(|| {
        // planning over the ring's slots takes longer than taking a few rows
        plan_for(c, pages, &TAKE, &PLANNED_FOR_TAKING);
        let mut each = |v: &[Datum], nulls: &[bool]| push_row(&mut rows, v, nulls);
        c.run_planned_once(Mode::Fresh, &TAKE, sql, &[Arg::int4(instrument), a, z], &mut each);
    });
    take_apart(rows.within(from, till))
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
    let [a, z] = span_args(Span::of(from, till));
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
    let [a, z] = span_args(Span::of(from, till));
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
