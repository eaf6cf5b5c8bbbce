//! Busts and corrections: what the venue took back outranks what was reported, now and when its file is loaded again.

use super::parts::{Parts, key_args};
use super::{invalid, live, lock_session, require_read_committed};
use crate::error::OrRaise;
use crate::fmgr::{arg, arg_is_null, arg_option, arg_text, float8, float8_of, text};
use crate::instrument::Instrument;
use crate::spi::{self, Arg, Conn, Mode};
use crate::{instrument, plans, time, v1};
use market::{Filing, Key, Op, Trade, money};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(LOG, MARK, UNMARK);
v1!(bust_trade => pg_finfo_bust_trade, correct_trade => pg_finfo_correct_trade);

/// Which trade is meant: SQL may leave out ns and sub.
struct Asked {
    instrument: Instrument,
    pg_micros: i64,
    seq: i64,
    ns: Option<i16>,
    sub: Option<i16>,
    filing: Filing,
}

impl Asked {
    /// Reads (symbol, ts, seq) and the optional ns and sub.
    unsafe fn read(fc: FunctionCallInfo, what: &str, ns: usize) -> Asked {
        require_read_committed(what);
        if (0..3).any(|i| arg_is_null(fc, i)) {
            invalid(&format!("{what}: symbol, ts and seq must not be NULL"), "name the trade: see market.trades")
        }
        let pg_micros = arg(fc, 1).value() as i64;
        let ts = time::nanos(pg_micros);
        let near = market::TradeDate(ts.div_euclid(market::time::DAY) as i32);
        let instrument = instrument::by_symbol(&arg_text(fc, 0), near);
        let filing = instrument.calendar.filing(ts);
        let int2 = |i| arg_option(fc, i).map(|d| d.value() as i16);
        Asked { pg_micros, seq: arg(fc, 2).value() as i64, ns: int2(ns), sub: int2(ns + 1), filing, instrument }
    }

    fn matches(&self, key: Key) -> bool {
        let (micros, ns) = time::micros_and_ns(key.ts);
        micros == self.pg_micros
            && key.seq == self.seq
            && self.ns.is_none_or(|n| n == ns)
            && self.sub.is_none_or(|s| i32::from(s) == key.sub)
    }

    /// The trade as readers see it now, or the identity to keep for a trade that has not come yet.
    fn resolve(&self, c: &Conn) -> (Key, Option<Trade>) {
        let Filing { trade_date, from, till, .. } = self.filing;
        let rows = live::read_live(c, Mode::Fresh, self.instrument.id, from, till);
        let mut found: Vec<(Trade, Op)> = Vec::new();
        for i in (0..rows.len()).filter(|&i| self.matches(rows.trades.key(i))) {
            found.push((rows.trades.get(i), rows.ops[i]));
        }
        let parts = Parts::read(c, Mode::Fresh, self.instrument.id, trade_date);
        for part in &parts.all {
            let start = part.trades.lower_bound(time::nanos(self.pg_micros));
            for t in (start..part.trades.len())
                .map(|i| part.trades.get(i))
                .take_while(|t| t.ts < time::nanos(self.pg_micros) + 1000)
            {
                if self.matches(t.key()) && !found.iter().any(|(f, _)| f.key() == t.key()) {
                    found.push((t, Op::Trade));
                }
            }
        }
        if found.len() > 1 {
            let list: Vec<_> = found
                .iter()
                .map(|(t, _)| {
                    format!(
                        "(ns {}, sub {}, price {}, size {})",
                        t.ts.rem_euclid(1000),
                        t.sub,
                        money::to_f64(t.price),
                        money::to_f64(t.size)
                    )
                })
                .collect();
            invalid(
                &format!(
                    "{} trades of {} have this ts and seq: {}",
                    found.len(),
                    self.instrument.symbol,
                    list.join(", ")
                ),
                "add ns and sub to name one of them",
            )
        }
        match found.pop() {
            Some((t, op)) => (t.key(), (op != Op::Bust).then_some(t)),
            None => {
                let ts = time::nanos(self.pg_micros) + i64::from(self.ns.unwrap_or(0));
                (Key { ts, seq: self.seq, sub: self.sub.map_or(0, i32::from) }, None)
            }
        }
    }

    /// Logs the correction and marks the live rows, so that the next statement reads it.
    fn record(&self, c: &Conn, key: Key, old: Option<Trade>, new: Option<Trade>, reason: Option<String>) {
        let [ts, ns, seq, sub] = key_args(key);
        let id = Arg::int4(self.instrument.id);
        let price = |t: Option<Trade>| Arg::option(pg_sys::FLOAT8OID, t.map(|t| float8(money::to_f64(t.price))));
        let size = |t: Option<Trade>| Arg::option(pg_sys::FLOAT8OID, t.map(|t| float8(money::to_f64(t.size))));
        c.execute(
            Mode::Fresh,
            &LOG,
            c"INSERT INTO market.trade_corrections (instrument_id, ts, ns, seq, sub, action, old_price, old_size, new_price, new_size, new_flags, reason)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            &[
                id,
                ts,
                ns,
                seq,
                sub,
                Arg::text(if new.is_some() { "correct" } else { "bust" }),
                price(old),
                size(old),
                price(new),
                size(new),
                Arg::option(pg_sys::INT4OID, new.map(|t| Datum::from(t.flags as i32))),
                reason.as_deref().map_or(Arg::null(pg_sys::TEXTOID), Arg::text),
            ],
        );
        // one mark an identity: the newest correction is the one that counts
        let same = c"DELETE FROM market.live_trades WHERE instrument_id = $1 AND ts = $2 AND ns = $3 AND seq = $4 AND sub = $5 AND op <> 't'";
        c.execute(Mode::Fresh, &UNMARK, same, &[id, ts, ns, seq, sub]);
        let mark = new.or(old);
        let optional = |v: i64, datum: Datum| (v != market::NONE_I64).then_some(datum);
        let recv = mark.and_then(|t| optional(t.ts_recv, crate::fmgr::int8(time::micros(t.ts_recv))));
        let trade_id = mark.and_then(|t| optional(t.trade_id, crate::fmgr::int8(t.trade_id)));
        c.execute(
            Mode::Fresh,
            &MARK,
            c"INSERT INTO market.live_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, op)
              VALUES ($1, $2, $3, $4, $5, coalesce($6, 0), coalesce($7, 0), $8, $9, $10, $11, CASE WHEN $12 THEN 'c' ELSE 'b' END::\"char\")",
            &[
                id,
                ts,
                ns,
                seq,
                sub,
                price(mark),
                size(mark),
                Arg::int4(mark.map_or(0, |t| t.flags as i32)),
                Arg::int4(mark.map_or(0, |t| t.cond as i32)),
                Arg::option(pg_sys::TIMESTAMPTZOID, recv),
                Arg::option(pg_sys::INT8OID, trade_id),
                Arg::new(pg_sys::BOOLOID, Datum::from(new.is_some())),
            ],
        );
    }
}

/// `bust_trade(symbol, ts, seq, ns, sub, reason) -> boolean`: whether a trade was there to bust
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bust_trade(fc: FunctionCallInfo) -> Datum {
    let asked = Asked::read(fc, "bust_trade", 3);
    let reason = arg_option(fc, 5).map(|d| text(d));
    lock_session(asked.instrument.id, asked.filing.trade_date);
    let hit = spi::connect(|c| {
        let (key, old) = asked.resolve(c);
        asked.record(c, key, old, None, reason);
        old.is_some()
    });
    Datum::from(hit)
}

/// `correct_trade(symbol, ts, seq, price, size, ns, sub, flags, reason) -> boolean`: whether a trade was there to correct
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn correct_trade(fc: FunctionCallInfo) -> Datum {
    let asked = Asked::read(fc, "correct_trade", 5);
    let (Some(price), Some(size)) = (arg_option(fc, 3), arg_option(fc, 4)) else {
        invalid(
            "correct_trade: price and size must not be NULL",
            "give the whole new content; market.bust_trade() takes a trade away",
        )
    };
    let price = money::price_from_f64(float8_of(price)).or_raise();
    let size = money::size_from_f64(float8_of(size)).or_raise();
    let flags = arg_option(fc, 7).map(|d| d.value() as u32);
    let reason = arg_option(fc, 8).map(|d| text(d));
    lock_session(asked.instrument.id, asked.filing.trade_date);
    let hit = spi::connect(|c| {
        let (key, old) = asked.resolve(c);
        let base = old.unwrap_or(Trade { ts: key.ts, seq: key.seq, sub: key.sub, ..Trade::default() });
        let new = Trade { price, size, flags: flags.unwrap_or(base.flags), ..base };
        asked.record(c, key, old, Some(new), reason);
        old.is_some()
    });
    Datum::from(hit)
}
