//! Live rows and corrections of one instrument, as the domain sees them.

use crate::error::OrRaise;
use crate::fmgr::float8_of;
use crate::spi::{Arg, Conn, Mode};
use crate::{plans, time};
use market::{LiveRows, NONE_I64, Nanos, Op, Trade, money};
use pgrx::pg_sys::Datum;

plans!(LIVE, TAKE, CORRECTIONS);

/// A row of (ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, op).
fn push_row(rows: &mut LiveRows, v: &[Datum], nulls: &[bool]) {
    let ts = time::nanos(v[0].value() as i64).saturating_add(i64::from(v[1].value() as i16));
    let trade = Trade {
        ts,
        seq: v[2].value() as i64,
        sub: i32::from(v[3].value() as i16),
        price: money::price_from_f64(float8_of(v[4])).or_raise(),
        size: money::size_from_f64(float8_of(v[5])).or_raise(),
        flags: v[6].value() as u32,
        cond: v[7].value() as u32,
        ts_recv: if nulls[8] { NONE_I64 } else { time::nanos(v[8].value() as i64) },
        trade_id: if nulls[9] { NONE_I64 } else { v[9].value() as i64 },
    };
    rows.push(trade, Op::from_u8(v[10].value() as u8).or_raise());
}

/// The microseconds that select the instants `[from, till)`: rows of the first and the last microsecond are checked again.
fn micros_range(from: Nanos, till: Nanos) -> [Arg; 2] {
    [Arg::timestamptz(time::micros_floor(from)), Arg::timestamptz(time::micros_floor(till))]
}

fn keep(rows: &mut LiveRows, from: Nanos, till: Nanos) {
    let outside = |ts: Nanos| ts < from || ts >= till;
    if rows.trades.ts.iter().any(|&ts| outside(ts)) {
        let mut kept = LiveRows::default();
        for i in 0..rows.len() {
            if !outside(rows.trades.ts[i]) {
                kept.push(rows.trades.get(i), rows.ops[i]);
            }
        }
        *rows = kept;
    }
    rows.settle();
}

/// The live rows of an instrument with `from <= ts < till`, settled.
pub fn read_live(c: &Conn, mode: Mode, instrument: i32, from: Nanos, till: Nanos) -> LiveRows {
    let mut rows = LiveRows::default();
    let [a, z] = micros_range(from, till);
    c.run(
        mode,
        &LIVE,
        c"SELECT ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, op FROM market.live_trades
          WHERE instrument_id = $1 AND ts >= $2 AND ts <= $3",
        &[Arg::int4(instrument), a, z],
        &mut |v, nulls| push_row(&mut rows, v, nulls),
    );
    keep(&mut rows, from, till);
    rows
}

/// Deletes the live rows of a storage window and returns them, settled. Windows begin and end on whole microseconds.
pub fn take_live(c: &Conn, instrument: i32, from: Nanos, till: Nanos) -> LiveRows {
    let mut rows = LiveRows::default();
    let [a, z] = micros_range(from, till);
    c.run(
        Mode::Fresh,
        &TAKE,
        c"DELETE FROM market.live_trades WHERE instrument_id = $1 AND ts >= $2 AND ts < $3
          RETURNING ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, op",
        &[Arg::int4(instrument), a, z],
        &mut |v, nulls| push_row(&mut rows, v, nulls),
    );
    keep(&mut rows, from, till);
    rows
}

/// Busts and corrections of an instrument in a window, the last word on each identity, settled.
pub fn read_corrections(c: &Conn, mode: Mode, instrument: i32, from: Nanos, till: Nanos) -> LiveRows {
    let mut rows = LiveRows::default();
    let [a, z] = micros_range(from, till);
    c.run(
        mode,
        &CORRECTIONS,
        c"SELECT DISTINCT ON (ts, ns, seq, sub) ts, ns, seq, sub, coalesce(new_price, 0), coalesce(new_size, 0), coalesce(new_flags, 0), 0,
                 NULL::timestamptz, NULL::int8, CASE action WHEN 'bust' THEN 'b' ELSE 'c' END::\"char\"
          FROM market.trade_corrections WHERE instrument_id = $1 AND ts >= $2 AND ts <= $3
          ORDER BY ts, ns, seq, sub, id DESC",
        &[Arg::int4(instrument), a, z],
        &mut |v, nulls| push_row(&mut rows, v, nulls),
    );
    keep(&mut rows, from, till);
    rows
}
