//! What maintenance asks of the store: which sessions have live rows, whether anybody is at work on one, and whether a
//! relation holds a row that some snapshot may still see. The steps themselves are SQL: sql/extension/56_maintenance.sql.

use super::ring::{Ring, Span};
use super::{live, require_read_committed, try_lock_session};
use crate::error::raise_with;
use crate::fmgr::{Rows, arg, arg_option, float8, int8, null, varlena};
use crate::instrument::{self, Instrument};
use crate::spi::{self, Mode};
use crate::{time, v1};
use market::{Nanos, Segments, TradeDate};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, Oid};
use pgrx::prelude::*;
use std::collections::HashMap;

v1!(
    live_sessions => pg_finfo_live_sessions,
    live_rows => pg_finfo_live_rows,
    unsealed_trades => pg_finfo_unsealed_trades,
    try_lock_session_sql => pg_finfo_try_lock_session_sql,
    all_dead => pg_finfo_all_dead,
);

const HOUR: Nanos = 3_600_000_000_000;
/// Slots in the ring of `live_trades`.
const SLOTS: i64 = 24;

/// The live rows of one session.
struct Tail {
    trade_date: TradeDate,
    from: Nanos,
    till: Nanos,
    projected: bool,
    trades: i64,
    marks: i64,
    first: i64,
    last: i64,
    slot_age: i64,
}

/// The sessions of one instrument with live rows. Rows come in runs, so the last one found is tried first.
struct Tails {
    instrument: Option<Instrument>,
    all: Vec<Tail>,
    at: usize,
}

impl Tails {
    fn new(instrument: Option<Instrument>) -> Tails {
        Tails { instrument, all: Vec::new(), at: 0 }
    }

    fn find(&mut self, ts: Nanos) -> &mut Tail {
        let holds = |t: &Tail| t.from <= ts && ts < t.till;
        if !self.all.get(self.at).is_some_and(holds) {
            self.at = self.all.iter().position(holds).unwrap_or_else(|| {
                self.all.push(self.file(ts));
                self.all.len() - 1
            });
        }
        &mut self.all[self.at]
    }

    fn file(&self, ts: Nanos) -> Tail {
        let day = ts.div_euclid(market::time::DAY);
        let (trade_date, from, till, projected) = match &self.instrument {
            Some(instrument) => {
                let filing = instrument.calendar.filing(ts);
                (filing.trade_date, filing.from, filing.till, filing.projected)
            }
            None => {
                let midnight = day.saturating_mul(market::time::DAY);
                (TradeDate(day as i32), midnight, midnight.saturating_add(market::time::DAY), true)
            }
        };
        Tail { trade_date, from, till, projected, trades: 0, marks: 0, first: i64::MAX, last: i64::MIN, slot_age: 0 }
    }

    /// When a session is over for good, and the word for its state now.
    fn state(&self, tail: &Tail, now: Nanos) -> (Option<Nanos>, &'static str) {
        let Some(instrument) = &self.instrument else { return (None, "no instrument") };
        if tail.projected {
            return (None, "projected");
        }
        let Ok(Some(session)) = instrument.calendar.session(tail.trade_date) else { return (None, "projected") };
        let ends = session.close(Segments::ETH).unwrap_or(session.till).saturating_add(instrument.calendar.grace());
        (Some(ends), if now >= ends { "over" } else { "running" })
    }
}

/// The transaction's start.
pub fn now() -> Nanos {
    // SAFETY: reads the transaction's start.
    time::nanos_clamped(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() })
}

/// The tails to be of an instrument; `None` where row-level security hides it: one that is not there may be hidden.
fn tails_of(id: i32) -> Option<Tails> {
    match instrument::find(id) {
        Some(found) => Some(Tails::new(Some(found))),
        None => (!instrument::some_are_hidden()).then(|| Tails::new(None)),
    }
}

/// `live_sessions() -> setof (instrument_id, trade_date, trades, marks, first_ts, last_ts, ends_at, slot_age, state)`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn live_sessions(fc: FunctionCallInfo) -> Datum {
    let mut out = Rows::begin(fc, 9);
    let now = now();
    spi::connect(|c| {
        let mut tails: HashMap<i32, Option<Tails>> = HashMap::new();
        let slot_now = now.div_euclid(HOUR).rem_euclid(SLOTS);
        Ring::open(c).read(
            Mode::SameSnapshot,
            Span::ALL,
            |_| true,
            |row| {
                let of = tails.entry(row.instrument).or_insert_with(|| tails_of(row.instrument));
                let Some(of) = of else { return };
                let tail = of.find(time::nanos_clamped(row.micros));
                if row.op == b't' {
                    tail.trades += 1;
                } else {
                    tail.marks += 1;
                }
                tail.first = tail.first.min(row.micros);
                tail.last = tail.last.max(row.micros);
                let age = (slot_now - i64::from(row.slot)).rem_euclid(SLOTS);
                tail.slot_age = tail.slot_age.max(age);
            },
        );
        for (id, of) in tails.iter().filter_map(|(id, of)| Some((id, of.as_ref()?))) {
            for tail in &of.all {
                let (ends, state) = of.state(tail, now);
                out.put([
                    Some(Datum::from(*id)),
                    Some(Datum::from(time::pg_days(tail.trade_date))),
                    Some(int8(tail.trades)),
                    Some(int8(tail.marks)),
                    Some(int8(tail.first)),
                    Some(int8(tail.last)),
                    ends.map(|ends| int8(time::micros(ends))),
                    Some(Datum::from(tail.slot_age as i32)),
                    Some(varlena(state.as_bytes())),
                ]);
            }
        }
    });
    null(fc)
}

/// `live_rows(instrument int4, trade_date date) -> int8`: live rows of a session, as they are now
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn live_rows(fc: FunctionCallInfo) -> Datum {
    let instrument = instrument::by_id(arg(fc, 0).value() as i32);
    let day = time::trade_date(arg(fc, 1).value() as i32);
    let Ok(Some(session)) = instrument.calendar.session(day) else { return int8(0) };
    int8(spi::connect(|c| live::read_apart(c, Mode::Fresh, instrument.id, session.from, session.till).rows as i64))
}

/// `unsealed_trades(instrument int4, first timestamptz, last timestamptz) -> setof (ts, ns, seq, sub, price, size, flags, cond, ts_recv,
/// trade_id, op, known_at)`: rows of `live_trades` of an instrument as they lie there
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn unsealed_trades(fc: FunctionCallInfo) -> Datum {
    let mut out = Rows::begin(fc, 12);
    let Some(id) = arg_option(fc, 0) else { return null(fc) };
    let instrument = instrument::by_id(id.value() as i32);
    let bound = |i: usize, open: i64| arg_option(fc, i).map_or(open, |d| d.value() as i64);
    let span = Span { first: bound(1, i64::MIN), last: bound(2, i64::MAX) };
    spi::connect(|c| {
        Ring::open(c).read(
            Mode::SameSnapshot,
            span,
            |id| id == instrument.id,
            |row| {
                out.put([
                    Some(int8(row.micros)),
                    Some(Datum::from(row.ns)),
                    Some(int8(row.seq)),
                    Some(Datum::from(row.sub)),
                    Some(float8(row.price)),
                    Some(float8(row.size)),
                    Some(Datum::from(row.flags as i32)),
                    Some(Datum::from(row.cond as i32)),
                    row.ts_recv.map(int8),
                    row.trade_id.map(int8),
                    Some(Datum::from(row.op as i8)),
                    row.known_at.map(int8),
                ]);
            },
        );
    });
    null(fc)
}

/// `try_lock_session(instrument int4, trade_date date) -> boolean`: the session's lock to the end of the transaction,
/// unless somebody holds it
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn try_lock_session_sql(fc: FunctionCallInfo) -> Datum {
    require_read_committed("try_lock_session");
    // the calendar's lock comes first, as for every writer
    let instrument = instrument::for_writing(|| instrument::by_id(arg(fc, 0).value() as i32));
    Datum::from(try_lock_session(instrument.id, time::trade_date(arg(fc, 1).value() as i32)))
}

/// `all_dead(relation regclass) -> boolean`: whether nothing in a table is visible to any snapshot, now or later
///
/// What decides is each row's own history and not when the table was last written: rows that came and went while an old
/// snapshot was open keep it from being emptied for as long as that snapshot lives.
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn all_dead(fc: FunctionCallInfo) -> Datum {
    let oid = Oid::from(arg(fc, 0).value() as u32);
    let relation = pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as i32);
    if relation.is_null() {
        raise_with(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, "the table is gone", "look at market.partition_status")
    }
    let form = (*relation).rd_rel;
    if (*form).relkind != pg_sys::RELKIND_RELATION as std::ffi::c_char || (*form).relam != pg_sys::HEAP_TABLE_AM_OID {
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        raise_with(
            PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            "all_dead needs an ordinary heap table",
            "name a partition, not its parent",
        )
    }
    // brings the horizons that the test below uses up to date; by itself it would go by older ones
    pg_sys::GetOldestNonRemovableTransactionId(relation);
    // SAFETY: the snapshot is plain data, outlives the scan, and is of the kind that VACUUM's own checks use.
    let mut snapshot: pg_sys::SnapshotData = std::mem::zeroed();
    snapshot.snapshot_type = pg_sys::SnapshotType::SNAPSHOT_NON_VACUUMABLE;
    snapshot.vistest = pg_sys::GlobalVisTestFor(relation);
    let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_ALLOW_STRAT;
    let scan = pg_sys::heap_beginscan(relation, &mut snapshot, 0, std::ptr::null_mut(), std::ptr::null_mut(), flags);
    let found = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
    pg_sys::heap_endscan(scan);
    pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
    Datum::from(found.is_null())
}
