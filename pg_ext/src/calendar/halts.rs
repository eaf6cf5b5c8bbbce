//! Halts and outages as `calendar_exceptions` has them: of a whole market, and of one instrument.

use crate::error::OrRaise;
use crate::fmgr::{arg_option, float8, null, text};
use crate::spi::{self, Arg, Mode};
use crate::{instrument, plans, time, v1};
use market::calendar::Halt;
use market::time::DAY;
use market::{Calendar, Nanos, Segments, TradeDate};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(HALTS);

v1!(halted_seconds => pg_finfo_halted_seconds);

/// Those of a calendar's whole market that last into the sessions between two trade dates, in order.
pub fn of(calendar: &Calendar, first: TradeDate, last: TradeDate) -> Vec<Halt> {
    let mut sessions = calendar.sessions(first, last).or_raise();
    let Some(begins) = sessions.next() else { return Vec::new() };
    let ends = sessions.last().map_or(begins.till, |session| session.till);
    between(calendar, None, begins.from, ends)
}

/// Those of a calendar's whole market, and of an instrument, that overlap `from <= t < till`, in order.
fn between(calendar: &Calendar, instrument: Option<i32>, from: Nanos, till: Nanos) -> Vec<Halt> {
    let names: Vec<&str> =
        std::iter::once(calendar.id()).chain(calendar.aliases().iter().map(String::as_str)).collect();
    let mut all = Vec::new();
    spi::connect(|c| {
        c.run_planned_once(
            Mode::SameSnapshot,
            &HALTS,
            // two scans of the index on instrument_id and from_ts
            c"SELECT from_ts, coalesce(till_ts, 'infinity'), coalesce(note, kind) FROM market.calendar_exceptions
              WHERE instrument_id IS NULL AND calendar = ANY (pg_catalog.string_to_array($1, pg_catalog.chr(31)))
                AND from_ts < $3 AND (till_ts IS NULL OR till_ts > $2) AND kind <> 'schedule'
              UNION ALL
              SELECT from_ts, coalesce(till_ts, 'infinity'), coalesce(note, kind) FROM market.calendar_exceptions
              WHERE instrument_id = $4 AND from_ts < $3 AND (till_ts IS NULL OR till_ts > $2) AND kind <> 'schedule'
              ORDER BY 1, 2",
            &[
                Arg::text(&names.join("\u{1f}")),
                Arg::timestamptz(time::micros_floor(from)),
                Arg::timestamptz(time::micros_floor(till)),
                Arg::option(pg_sys::INT4OID, instrument.map(Datum::from)),
            ],
            &mut |v, _| {
                let at = |i: usize| time::nanos_clamped(v[i].value() as i64);
                // SAFETY: the column is text and NOT NULL.
                let note = unsafe { text(v[2]) };
                all.push(Halt { from: at(0).max(Nanos::MIN + 1), till: at(1), note });
            },
        );
    });
    all
}

/// `halted_seconds(symbol, from_ts, till, segments) -> float8`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn halted_seconds(fc: FunctionCallInfo) -> Datum {
    let (Some(symbol), Some(from), Some(till)) = (arg_option(fc, 0), arg_option(fc, 1), arg_option(fc, 2)) else {
        return null(fc);
    };
    let (from, till) = (time::nanos(from.value() as i64), time::nanos(till.value() as i64));
    let segments = arg_option(fc, 3).map_or(Segments::ETH, |name| Segments::parse(&text(name)).or_raise());
    let found = instrument::by_symbol(&text(symbol), TradeDate(from.div_euclid(DAY) as i32));
    let halts = between(&found.calendar, Some(found.id), from, till);
    float8(found.calendar.halted(from, till, segments, &halts).or_raise() as f64 / 1e9)
}
