//! Busts and corrections: what the venue took back outranks what was reported, now and when its file is loaded again.

use super::live::{keep_reported, read_apart, read_corrections, read_reported};
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

plans!(LOG, MARK);
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
    /// As it was first reported.
    reported: Trade,
    /// Since when that was known.
    known: Nanos,
    /// As readers see it; `None` if it is busted.
    seen: Option<Trade>,
    /// A tombstone or correction that came as a row and is in no log yet.
    mark: Option<(Correction, Nanos)>,
}

/// What is asked for: the change, why, and when it became known (now, if nobody says).
struct Change {
    correction: Correction,
    reason: Option<String>,
    known: Option<Nanos>,
}

impl Change {
    /// Reads the reason at `reason` and known_at behind it; raises 22023 for a time to come.
    unsafe fn read(fc: FunctionCallInfo, correction: Correction, reason: usize) -> Change {
        let known = arg_option(fc, reason + 1).map(|d| time::nanos(d.value() as i64));
        if known.is_some_and(|known| known > time::nanos(pg_sys::GetCurrentTimestamp())) {
            invalid(
                "known_at lies in the future",
                "say when the venue told of the change, or leave it out: it is known from now on",
            )
        }
        Change { correction, reason: arg_option(fc, reason).map(|d| text(d)), known }
    }
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

    /// Instants in which a trade of the name may lie: its microsecond, or the whole session.
    fn range(&self) -> (Nanos, Nanos) {
        match self.name {
            Name::Id(_) => (self.from, self.till),
            Name::Identity { pg_micros, .. } => {
                let ts = time::nanos(pg_micros);
                (ts, ts.saturating_add(1000))
            }
        }
    }

    fn candidates(&self, c: &Conn) -> Vec<Candidate> {
        let (from, till) = self.range();
        let live = read_apart(c, Mode::Fresh, self.instrument.id, from, till);
        let log = read_corrections(c, Mode::Fresh, self.instrument.id, from, till);
        let reported = read_reported(c, Mode::Fresh, self.instrument.id, from, till);
        // what it is without marks, and as it was reported, by the first that has the name: blocks outrank rows
        let mut found: Vec<(Trade, Trade, Nanos)> = Vec::new();
        for part in &Parts::read(c, Mode::Fresh, self.instrument.id, self.trade_date).all {
            let start = part.trades.lower_bound(from);
            let trades = (start..part.trades.len()).map(|i| part.trades.get(i));
            for t in trades.take_while(|t| t.ts < till).filter(|t| self.name.is(t)) {
                let (first, known) = reported.get(t.key()).unwrap_or((t, t.known()));
                found.push((t, first, known));
            }
        }
        let sealed = found.len();
        let mut add = |now: Trade, known: Nanos| {
            if !self.name.is(&now) || found.iter().any(|f| f.0.key() == now.key()) {
                return;
            }
            let (first, known) = reported.get(now.key()).unwrap_or((now, known));
            let corrected = log.get(now.key()).and_then(|word| word.apply(first));
            found.push((corrected.unwrap_or(now), first, known));
        };
        live.trades.iter().for_each(|t| add(t, t.known()));
        reported.trades().iter().for_each(|t| add(t, t.known()));
        // a correction that came as a row is a trade, though none is under it
        for i in (0..live.marks.len()).filter(|&i| live.marks.ops[i] == Op::Correction) {
            add(live.marks.trades.get(i), live.marks.known[i]);
        }
        let candidate = |(i, (now, reported, known)): (usize, (Trade, Trade, Nanos))| {
            let word = log.get(reported.key());
            let mark = live.marks.trades.find(reported.key()).map(|at| (live.marks.trades.get(at), at));
            let mark = mark.map(|(content, at)| match live.marks.ops[at] {
                Op::Bust => (Correction::Bust, None, live.marks.known[at]),
                _ => {
                    let Trade { price, size, flags, .. } = content;
                    (Correction::Replace { price, size, flags: Some(flags) }, Some(content), live.marks.known[at])
                }
            });
            let seen = match mark {
                Some((_, seen, _)) => seen,
                None if i >= sealed && word == Some(Correction::Bust) => None,
                None => Some(now),
            };
            let logged = |mark: Correction| word.is_some_and(|word| word.apply(reported) == mark.apply(reported));
            let mark = mark.map(|(mark, _, known)| (mark, known)).filter(|(mark, _)| !logged(*mark));
            Candidate { reported, known, seen, mark }
        };
        found.into_iter().enumerate().map(candidate).collect()
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
                let t = f.seen.unwrap_or(f.reported);
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
    fn change(&self, change: &Change) -> bool {
        let id = self.instrument.id;
        spi::connect(|c| {
            self.require_trades(c);
            let found = self.resolve(c);
            let (key, old) = match (&found, &self.name) {
                (Some(f), _) => (f.reported.key(), f.seen),
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
            if let Some(f) = &found {
                keep_reported(c, id, f.reported, f.known);
                if let Some((mark, known)) = f.mark {
                    log(c, id, key, None, mark, Some("came as a row of live_trades"), Some(known));
                }
            }
            log(c, id, key, old, change.correction, change.reason.as_deref(), change.known);
            // the last word may be another one, if this one became known earlier; of a trade that has not come it waits
            let words = read_corrections(c, Mode::Fresh, id, key.ts, key.ts.saturating_add(1));
            let word = words.word(key).and_then(|word| Some((word.last?, word.known)));
            mark(c, id, key, found.zip(word).map(|(f, (last, known))| (f.reported, last, known)));
            old.is_some()
        })
    }
}

/// Appends to the log of corrections.
pub fn log(
    c: &Conn,
    instrument: i32,
    key: Key,
    old: Option<Trade>,
    correction: Correction,
    reason: Option<&str>,
    known: Option<Nanos>,
) {
    let [ts, ns, seq, sub] = key_args(key);
    let number = |v: Option<i64>| Arg::option(pg_sys::FLOAT8OID, v.map(|v| float8(money::to_f64(v))));
    let (action, new) = match correction {
        Correction::Bust => ("bust", None),
        Correction::Replace { price, size, flags } => ("correct", Some((price, size, flags))),
    };
    c.execute(
        Mode::Fresh,
        &LOG,
        c"INSERT INTO market.trade_corrections (instrument_id, ts, ns, seq, sub, action, old_price, old_size, new_price, new_size, new_flags, reason, known_at)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, coalesce($13, pg_catalog.now()))",
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
            Arg::option(pg_sys::TIMESTAMPTZOID, known.map(|known| int8(time::micros(known)))),
        ],
    );
}

/// Puts the mark of a change, and since when it is known, over a trade, in place of an earlier one: the last word counts.
fn mark(c: &Conn, instrument: i32, key: Key, found: Option<(Trade, Correction, Nanos)>) {
    let [ts, ns, seq, sub] = key_args(key);
    let id = Arg::int4(instrument);
    let (micros, nanos) = time::micros_and_ns(key.ts);
    super::ring::Ring::open(c).unmark(instrument, micros, nanos, key.seq, key.sub as i16);
    let Some((reported, correction, known)) = found else { return };
    let now = correction.apply(reported);
    let t = now.unwrap_or(reported);
    let optional = |v: i64, datum: Datum| (v != NONE_I64).then_some(datum);
    c.execute(
        Mode::Fresh,
        &MARK,
        c"INSERT INTO market.live_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, op, known_at)
          VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN $12 THEN 'c' ELSE 'b' END::\"char\", $13)",
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
            Arg::timestamptz(time::micros(known)),
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

/// `bust_trade(symbol, ts, seq, ns, sub, reason, known_at) -> boolean`: whether a trade was there to bust
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bust_trade(fc: FunctionCallInfo) -> Datum {
    let change = Change::read(fc, Correction::Bust, 5);
    Datum::from(Asked::by_identity(fc, "bust_trade", 3).change(&change))
}

/// `correct_trade(symbol, ts, seq, price, size, ns, sub, flags, reason, known_at) -> boolean`: whether a trade was there to correct
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn correct_trade(fc: FunctionCallInfo) -> Datum {
    let change = Change::read(fc, replacement(fc, 3, 7), 8);
    Datum::from(Asked::by_identity(fc, "correct_trade", 5).change(&change))
}

/// `bust_trade(symbol, trade_id, trade_date, reason, known_at) -> boolean`: as `bust_trade`, by the venue's id
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bust_trade_id(fc: FunctionCallInfo) -> Datum {
    let change = Change::read(fc, Correction::Bust, 3);
    Datum::from(Asked::by_id(fc, "bust_trade").change(&change))
}

/// `correct_trade(symbol, trade_id, trade_date, price, size, flags, reason, known_at) -> boolean`: as `correct_trade`, by the venue's id
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn correct_trade_id(fc: FunctionCallInfo) -> Datum {
    let change = Change::read(fc, replacement(fc, 3, 5), 6);
    Datum::from(Asked::by_id(fc, "correct_trade").change(&change))
}
