//! Busts and corrections: what the venue took back outranks what was reported, now and when its file is loaded again.

use super::live::read_apart;
use super::parts::{Parts, key_args};
use super::session::sealed;
use super::{invalid, lock_session, require_read_committed};
use crate::error::{OrRaise, raise_with};
use crate::fmgr::{arg, arg_is_null, arg_option, arg_text, float8, float8_of, int8, text};
use crate::instrument::Instrument;
use crate::spi::{self, Arg, Conn, Mode};
use crate::{instrument, plans, time, v1};
use market::{Correction, Key, NONE_I64, Nanos, Op, Trade, TradeDate, money};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(LOG, MARK, UNMARK, FLAGS);
v1!(
    bust_trade => pg_finfo_bust_trade,
    correct_trade => pg_finfo_correct_trade,
    bust_trade_id => pg_finfo_bust_trade_id,
    correct_trade_id => pg_finfo_correct_trade_id,
);

/// How a trade is named.
enum Name {
    /// By (ts, seq); SQL may leave out ns and sub.
    Identity { pg_micros: i64, seq: i64, ns: Option<i16>, sub: Option<i16> },
    /// By the venue's id.
    Id(i64),
}

impl Name {
    fn is(&self, trade: &Trade) -> bool {
        match *self {
            Name::Id(id) => trade.trade_id == id,
            Name::Identity { pg_micros, seq, ns, sub } => {
                let at = time::micros_and_ns(trade.ts);
                at.0 == pg_micros
                    && trade.seq == seq
                    && ns.is_none_or(|ns| ns == at.1)
                    && sub.is_none_or(|sub| i32::from(sub) == trade.sub)
            }
        }
    }
}

/// Which trade is meant, and the session whose lock is held.
struct Asked {
    instrument: Instrument,
    trade_date: TradeDate,
    from: Nanos,
    till: Nanos,
    name: Name,
}

/// A trade of the asked name.
struct Candidate {
    /// As it lies in a block or row, without marks.
    base: Trade,
    /// As readers see it; `None` if it is busted.
    seen: Option<Trade>,
}

impl Asked {
    /// Reads (symbol, ts, seq) and the optional ns and sub, and locks the session.
    unsafe fn by_identity(fc: FunctionCallInfo, what: &str, ns: usize) -> Asked {
        require_read_committed(what);
        if (0..3).any(|i| arg_is_null(fc, i)) {
            invalid(&format!("{what}: symbol, ts and seq must not be NULL"), "name the trade: see market.trades")
        }
        let pg_micros = arg(fc, 1).value() as i64;
        let ts = time::nanos(pg_micros);
        let (symbol, near) = (arg_text(fc, 0), TradeDate(ts.div_euclid(market::time::DAY) as i32));
        let instrument = instrument::for_writing(|| instrument::by_symbol(&symbol, near));
        let filing = instrument.calendar.filing(ts);
        let int2 = |i| arg_option(fc, i).map(|d| d.value() as i16);
        let name = Name::Identity { pg_micros, seq: arg(fc, 2).value() as i64, ns: int2(ns), sub: int2(ns + 1) };
        lock_session(instrument.id, filing.trade_date);
        Asked { trade_date: filing.trade_date, from: filing.from, till: filing.till, name, instrument }
    }

    /// Reads (symbol, trade_id, trade_date), and locks the session.
    unsafe fn by_id(fc: FunctionCallInfo, what: &str) -> Asked {
        require_read_committed(what);
        if (0..3).any(|i| arg_is_null(fc, i)) {
            invalid(
                &format!("{what}: symbol, trade_id and trade_date must not be NULL"),
                "name the trade: see market.trades",
            )
        }
        let trade_date = time::trade_date(arg(fc, 2).value() as i32);
        let symbol = arg_text(fc, 0);
        let instrument = instrument::for_writing(|| instrument::by_symbol(&symbol, trade_date));
        let Some((from, till)) = instrument.calendar.session(trade_date).or_raise().map(|s| (s.from, s.till)) else {
            invalid(
                &format!("{trade_date} is no trade date of {}", instrument.calendar.id()),
                "see market.sessions(); Sunday evenings belong to Monday",
            )
        };
        lock_session(instrument.id, trade_date);
        Asked { name: Name::Id(arg(fc, 1).value() as i64), instrument, trade_date, from, till }
    }

    fn candidates(&self, c: &Conn) -> Vec<Candidate> {
        // rows in the same microsecond are enough for a name by ts
        let (from, till) = match self.name {
            Name::Id(_) => (self.from, self.till),
            Name::Identity { pg_micros, .. } => {
                let ts = time::nanos(pg_micros);
                (ts, ts.saturating_add(1000))
            }
        };
        let live = read_apart(c, Mode::Fresh, self.instrument.id, from, till);
        let mut found: Vec<Trade> = Vec::new();
        for part in &Parts::read(c, Mode::Fresh, self.instrument.id, self.trade_date).all {
            let start = part.trades.lower_bound(from);
            let trades = (start..part.trades.len()).map(|i| part.trades.get(i));
            found.extend(trades.take_while(|t| t.ts < till).filter(|t| self.name.is(t)));
        }
        for t in live.trades.iter().filter(|t| self.name.is(t)) {
            // what is sealed outranks a row of the same identity
            if !found.iter().any(|f| f.key() == t.key()) {
                found.push(t);
            }
        }
        let seen = |base: Trade| match super::live::find(&live.marks.trades, base.key()) {
            Some(at) if live.marks.ops[at] == Op::Bust => None,
            Some(at) => Some(live.marks.trades.get(at)),
            None => Some(base),
        };
        found.into_iter().map(|base| Candidate { base, seen: seen(base) }).collect()
    }

    /// Raises 55000 if retention dropped the session's trades: its bars could not follow.
    fn require_trades(&self, c: &Conn) {
        let session = self.instrument.calendar.session(self.trade_date).ok().flatten();
        if session.and_then(|s| sealed(c, self.instrument.id, &s)).is_some_and(|sealed| sealed.dropped) {
            raise_with(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                &format!("retention dropped the trades of trade date {}", self.trade_date),
                "load the session's trades again, all of them, and then say what changed",
            )
        }
    }

    /// The one trade of this name, if it has come; raises 22023 with the candidates if there are several.
    fn resolve(&self, c: &Conn) -> Option<Candidate> {
        let mut found = self.candidates(c);
        // a busted one is meant only where there is no other
        if found.iter().any(|f| f.seen.is_some()) {
            found.retain(|f| f.seen.is_some());
        }
        if found.len() > 1 {
            let show = |f: &Candidate| {
                let t = f.seen.unwrap_or(f.base);
                let (price, size) = (money::to_f64(t.price), money::to_f64(t.size));
                let at = market::time::format_instant(t.ts);
                format!(
                    "(ts {at}, ns {}, seq {}, sub {}, price {price}, size {size})",
                    t.ts.rem_euclid(1000),
                    t.seq,
                    t.sub
                )
            };
            let list: Vec<_> = found.iter().map(show).collect();
            let symbol = &self.instrument.symbol;
            invalid(
                &format!("{} trades of {symbol} have this name: {}", found.len(), list.join(", ")),
                "add ns and sub to name one of them",
            )
        }
        found.pop()
    }

    /// Logs the change and marks the live rows, so that the next statement reads it; whether a trade was there.
    fn change(&self, correction: Correction, reason: Option<&str>) -> bool {
        spi::connect(|c| {
            self.require_trades(c);
            let found = self.resolve(c);
            let (key, old) = match (&found, &self.name) {
                (Some(f), _) => (f.base.key(), f.seen),
                (None, &Name::Identity { pg_micros, seq, ns, sub }) => {
                    if ns.is_none() || sub.is_none() {
                        warning!(
                            "no such trade has come yet; it is awaited with ns {} and sub {}",
                            ns.unwrap_or(0),
                            sub.unwrap_or(0)
                        );
                    }
                    let ts = time::nanos(pg_micros) + i64::from(ns.unwrap_or(0));
                    (Key { ts, seq, sub: sub.map_or(0, i32::from) }, None)
                }
                (None, Name::Id(id)) => raise_with(
                    PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                    &format!("no trade of {} on {} has trade_id {id}", self.instrument.symbol, self.trade_date),
                    "see market.trades; a trade that has not come yet is named by ts and seq",
                ),
            };
            let correction = with_flags(c, self.instrument.id, key, found.as_ref().map(|f| f.base), correction);
            log(c, self.instrument.id, key, old, correction, reason);
            // a change of a trade that has not come is applied when it comes
            mark(c, self.instrument.id, key, found.map(|f| (f.base, correction)));
            old.is_some()
        })
    }
}

/// A correction that names no flags keeps those the trade has: of an earlier correction, else as it was reported. They are
/// said in the log, because a later seal may pack another row of the identity. A trade to come brings its own.
fn with_flags(c: &Conn, instrument: i32, key: Key, base: Option<Trade>, correction: Correction) -> Correction {
    let Correction::Replace { price, size, flags: None } = correction else { return correction };
    let mut flags = base.map(|t| t.flags);
    let [ts, ns, seq, sub] = key_args(key);
    c.run_planned_once(
        Mode::Fresh,
        &FLAGS,
        c"SELECT new_flags FROM market.trade_corrections
          WHERE instrument_id = $1 AND ts = $2 AND ns = $3 AND seq = $4 AND sub = $5 AND new_flags IS NOT NULL ORDER BY id DESC LIMIT 1",
        &[Arg::int4(instrument), ts, ns, seq, sub],
        &mut |v, _| flags = Some(v[0].value() as u32),
    );
    Correction::Replace { price, size, flags }
}

/// Appends to the log of corrections.
pub fn log(c: &Conn, instrument: i32, key: Key, old: Option<Trade>, correction: Correction, reason: Option<&str>) {
    let [ts, ns, seq, sub] = key_args(key);
    let number = |v: Option<i64>| Arg::option(pg_sys::FLOAT8OID, v.map(|v| float8(money::to_f64(v))));
    let (action, new) = match correction {
        Correction::Bust => ("bust", None),
        Correction::Replace { price, size, flags } => ("correct", Some((price, size, flags))),
    };
    c.execute(
        Mode::Fresh,
        &LOG,
        c"INSERT INTO market.trade_corrections (instrument_id, ts, ns, seq, sub, action, old_price, old_size, new_price, new_size, new_flags, reason)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &[
            Arg::int4(instrument),
            ts,
            ns,
            seq,
            sub,
            Arg::text(action),
            number(old.map(|t| t.price)),
            number(old.map(|t| t.size)),
            number(new.map(|n| n.0)),
            number(new.map(|n| n.1)),
            Arg::option(pg_sys::INT4OID, new.and_then(|n| n.2).map(|flags| Datum::from(flags as i32))),
            reason.map_or(Arg::null(pg_sys::TEXTOID), Arg::text),
        ],
    );
}

/// Puts the mark of a change over a trade, in place of an earlier one: the newest change is the one that counts.
fn mark(c: &Conn, instrument: i32, key: Key, found: Option<(Trade, Correction)>) {
    let [ts, ns, seq, sub] = key_args(key);
    let id = Arg::int4(instrument);
    let same = c"DELETE FROM market.live_trades WHERE instrument_id = $1 AND ts = $2 AND ns = $3 AND seq = $4 AND sub = $5 AND op <> 't'";
    c.execute(Mode::Fresh, &UNMARK, same, &[id, ts, ns, seq, sub]);
    let Some((base, correction)) = found else { return };
    let now = correction.apply(base);
    let t = now.unwrap_or(base);
    let optional = |v: i64, datum: Datum| (v != NONE_I64).then_some(datum);
    c.execute(
        Mode::Fresh,
        &MARK,
        c"INSERT INTO market.live_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, op)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN $12 THEN 'c' ELSE 'b' END::\"char\")",
        &[
            id,
            ts,
            ns,
            seq,
            sub,
            Arg::new(pg_sys::FLOAT8OID, float8(money::to_f64(t.price))),
            Arg::new(pg_sys::FLOAT8OID, float8(money::to_f64(t.size))),
            Arg::int4(t.flags as i32),
            Arg::int4(t.cond as i32),
            Arg::option(pg_sys::TIMESTAMPTZOID, optional(t.ts_recv, int8(time::micros(t.ts_recv)))),
            Arg::option(pg_sys::INT8OID, optional(t.trade_id, int8(t.trade_id))),
            Arg::new(pg_sys::BOOLOID, Datum::from(now.is_some())),
        ],
    );
}

/// Reads the new content at `price`, `price + 1` and `flags`.
unsafe fn replacement(fc: FunctionCallInfo, price: usize, flags: usize) -> Correction {
    let (Some(new_price), Some(size)) = (arg_option(fc, price), arg_option(fc, price + 1)) else {
        invalid(
            "correct_trade: price and size must not be NULL",
            "give the whole new content; market.bust_trade() takes a trade away",
        )
    };
    Correction::Replace {
        price: money::price_from_f64(float8_of(new_price)).or_raise(),
        size: money::size_from_f64(float8_of(size)).or_raise(),
        flags: arg_option(fc, flags).map(|d| d.value() as u32),
    }
}

/// `bust_trade(symbol, ts, seq, ns, sub, reason) -> boolean`: whether a trade was there to bust
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bust_trade(fc: FunctionCallInfo) -> Datum {
    let reason = arg_option(fc, 5).map(|d| text(d));
    Datum::from(Asked::by_identity(fc, "bust_trade", 3).change(Correction::Bust, reason.as_deref()))
}

/// `correct_trade(symbol, ts, seq, price, size, ns, sub, flags, reason) -> boolean`: whether a trade was there to correct
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn correct_trade(fc: FunctionCallInfo) -> Datum {
    let new = replacement(fc, 3, 7);
    let reason = arg_option(fc, 8).map(|d| text(d));
    Datum::from(Asked::by_identity(fc, "correct_trade", 5).change(new, reason.as_deref()))
}

/// `bust_trade(symbol, trade_id, trade_date, reason) -> boolean`: as `bust_trade`, by the venue's id
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bust_trade_id(fc: FunctionCallInfo) -> Datum {
    let reason = arg_option(fc, 3).map(|d| text(d));
    Datum::from(Asked::by_id(fc, "bust_trade").change(Correction::Bust, reason.as_deref()))
}

/// `correct_trade(symbol, trade_id, trade_date, price, size, flags, reason) -> boolean`: as `correct_trade`, by the venue's id
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn correct_trade_id(fc: FunctionCallInfo) -> Datum {
    let new = replacement(fc, 3, 5);
    let reason = arg_option(fc, 6).map(|d| text(d));
    Datum::from(Asked::by_id(fc, "correct_trade").change(new, reason.as_deref()))
}
