//! Halts and outages of a whole market, as `calendar_exceptions` has them.

use crate::fmgr::text;
use crate::spi::{self, Arg, Mode};
use crate::{plans, time};
use market::calendar::Halt;
use market::{Calendar, Nanos, TradeDate};

plans!(HALTS);

/// Those of a calendar between two trade dates, in order. Halts of one instrument are not its calendar's.
pub fn of(calendar: &Calendar, first: TradeDate, last: TradeDate) -> Vec<Halt> {
    let names: Vec<&str> =
        std::iter::once(calendar.id()).chain(calendar.aliases().iter().map(String::as_str)).collect();
    let mut all = Vec::new();
    spi::connect(|c| {
        c.run_planned_once(
            Mode::SameSnapshot,
            &HALTS,
            c"SELECT from_ts, coalesce(till_ts, 'infinity'), coalesce(note, kind) FROM market.calendar_exceptions
              WHERE calendar = ANY (pg_catalog.string_to_array($1, pg_catalog.chr(31))) AND trade_date BETWEEN $2 AND $3
                AND kind <> 'schedule' AND instrument_id IS NULL ORDER BY from_ts",
            &[Arg::text(&names.join("\u{1f}")), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))],
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
