//! Halts and outages as `calendar_exceptions` has them: of a whole market, and of one instrument.

use crate::error::OrRaise;
use crate::fmgr::{Rows, arg, arg_option, float8, null, text, varlena};
use crate::spi::{self, Arg, Mode};
use crate::{instrument, plans, time, v1};
use market::calendar::Halt;
use market::time::DAY;
use market::{Calendar, Nanos, Segments, TradeDate};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(HALTS, NOTED);

v1!(
    halted_seconds => pg_finfo_halted_seconds,
    instrument_halts => pg_finfo_instrument_halts,
);

/// Those of a calendar's whole market that last into the sessions between two trade dates, in order.
pub fn of(calendar: &Calendar, first: TradeDate, last: TradeDate) -> Vec<Halt> {
    let mut sessions = calendar.sessions(first, last).or_raise();
    let Some(begins) = sessions.next() else { return Vec::new() };
    let ends = sessions.last().map_or(begins.till, |session| session.till);
    between(calendar, None, begins.from, ends)
}

/// The names under which a calendar's halts may be noted.
fn names(calendar: &Calendar) -> String {
    let all: Vec<&str> = std::iter::once(calendar.id()).chain(calendar.aliases().iter().map(String::as_str)).collect();
    all.join("\u{1f}")
}

/// Those of a calendar's whole market, and of an instrument, that overlap `from <= t < till`, in order.
fn between(calendar: &Calendar, instrument: Option<i32>, from: Nanos, till: Nanos) -> Vec<Halt> {
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
                Arg::text(&names(calendar)),
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

/// `instrument_halts(instrument int4) -> setof (calendar, trade_date, whole_market, kind, from_ts, till_ts, note, source, first_date,
/// last_date)`: each as it was noted, with the trade dates it began and ended on.
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn instrument_halts(fc: FunctionCallInfo) -> Datum {
    let found = instrument::by_id(arg(fc, 0).value() as i32);
    let mut rows = Rows::begin(fc, 10);
    // the ends of time have no trade date: a date that is one of theirs in SQL, too
    let day = |micros: i64, last: bool| match micros {
        i64::MIN => Datum::from(i32::MIN),
        i64::MAX => Datum::from(i32::MAX),
        micros => {
            let ts = time::nanos_clamped(micros).saturating_sub(i64::from(last));
            Datum::from(time::pg_days(found.calendar.filing(ts).trade_date))
        }
    };
    spi::connect(|c| {
        c.run_planned_once(
            Mode::SameSnapshot,
            &NOTED,
            c"SELECT calendar, trade_date, instrument_id IS NULL, kind, from_ts, till_ts, note, source FROM market.calendar_exceptions
              WHERE instrument_id IS NULL AND calendar = ANY (pg_catalog.string_to_array($1, pg_catalog.chr(31))) AND kind <> 'schedule'
              UNION ALL
              SELECT calendar, trade_date, instrument_id IS NULL, kind, from_ts, till_ts, note, source FROM market.calendar_exceptions
              WHERE instrument_id = $2 AND kind <> 'schedule'
              ORDER BY 5, 6, 3, 4, 7, 1",
            &[Arg::text(&names(&found.calendar)), Arg::int4(found.id)],
            &mut |v, nulls| {
                // SAFETY: the columns are text.
                let string = |i: usize| (!nulls[i]).then(|| varlena(unsafe { text(v[i]) }.as_bytes()));
                let (from, till) = (v[4].value() as i64, if nulls[5] { i64::MAX } else { v[5].value() as i64 });
                rows.put([
                    string(0),
                    Some(v[1]),
                    Some(v[2]),
                    string(3),
                    Some(v[4]),
                    (!nulls[5]).then_some(v[5]),
                    string(6),
                    string(7),
                    Some(day(from, false)),
                    Some(day(till, true)),
                ]);
            },
        );
    });
    null(fc)
}
