//! `seal`: the live rows of a session into its blocks.

use super::live::Taken;
use super::parts::Parts;
use super::put::{DROPPED, dead_letters, ensure_partitions, refuse};
use super::reported::Reports;
use super::session::{finish_state, rewrite, sealed};
use super::{correct, live, lock_session, require_read_committed};
use crate::error::{OrRaise, raise_with};
use crate::fmgr::{arg, arg_text, int8, keep_memory};
use crate::spi::{self, Conn, Mode};
use crate::{instrument, time, v1};
use market::trade::earlier;
use market::{Correction, Corrections, Op, Session};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;

v1!(seal => pg_finfo_seal);

/// `seal(symbol text, trade_date date) -> int8`: how many live rows went into the blocks
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn seal(fc: FunctionCallInfo) -> Datum {
    require_read_committed("seal");
    let day = time::trade_date(arg(fc, 1).value() as i32);
    let symbol = arg_text(fc, 0);
    let instrument = instrument::for_writing(|| instrument::by_symbol(&symbol, day));
    let Some(session) = instrument.calendar.session(day).or_raise() else {
        raise_with(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            &format!("{day} is no trade date of {}", instrument.calendar.id()),
            "see market.sessions(); Sunday evenings belong to Monday",
        )
    };
    lock_session(instrument.id, day);
    int8(spi::connect(|c| seal_session(c, &instrument, &session)))
}

/// Packs the live rows of a session under its lock: merges trades, applies busts and corrections, rewrites what changed.
pub fn seal_session(c: &Conn, instrument: &instrument::Instrument, session: &Session<'_>) -> i64 {
    // the columns of a whole session come and go, for each of them
    keep_memory();
    let taken = live::take_live(c, instrument.id, session.from, session.till);
    let before = sealed(c, instrument.id, session);
    if before.as_ref().is_some_and(|before| before.dropped) {
        // without its trades nobody can tell what a late one does to the bars
        refuse(c, instrument.id, "seal", DROPPED, taken.trades.iter().chain(taken.conflicts));
        return taken.rows as i64;
    }
    if taken.rows == 0 {
        if let Some(before) = &before {
            finish_state(c, instrument.id, &instrument.calendar, session, before);
        }
        return 0;
    }
    let mut corrections = live::read_corrections(c, Mode::Fresh, instrument.id, session.from, session.till);
    let mut parts = Parts::read(c, Mode::Fresh, instrument.id, session.trade_date);
    if keep_marks(c, instrument.id, &taken, &corrections) {
        corrections = live::read_corrections(c, Mode::Fresh, instrument.id, session.from, session.till);
    }
    let mut reports = Reports::read(c, instrument.id, session, &corrections);
    reports.keep(c, &corrections, &parts, &[&taken.trades], Some(&taken));
    let (mut news, _) = reports.split(&taken.trades, &corrections, &parts);
    reports.bring_back(&mut news, &corrections, &parts);
    ensure_partitions(c, session);
    let done = parts.merge(&news);
    let corrected = parts.correct(&corrections);
    if done.added > 0 || corrected.is_some() {
        let changed = earlier(done.first_known, corrected);
        rewrite(c, instrument.id, &instrument.calendar, session, &mut parts, before.as_ref(), changed);
    } else if let Some(before) = &before {
        finish_state(c, instrument.id, &instrument.calendar, session, before);
    }
    dead_letters(c, instrument.id, "seal", &done.conflicts);
    dead_letters(c, instrument.id, "seal", &taken.conflicts);
    taken.rows as i64
}

/// Writes marks that came as rows, not by `bust_trade` or `correct_trade`, into the log, so that they outlive their rows;
/// whether there were any.
fn keep_marks(c: &Conn, instrument: i32, taken: &Taken, corrections: &Corrections) -> bool {
    let mut any = false;
    for i in 0..taken.marks.len() {
        let mark = taken.marks.trades.get(i);
        let correction = match taken.marks.ops[i] {
            Op::Correction => Correction::Replace { price: mark.price, size: mark.size, flags: Some(mark.flags) },
            _ => Correction::Bust,
        };
        if corrections.get(mark.key()).is_some_and(|known| known.apply(mark) == correction.apply(mark)) {
            continue;
        }
        correct::log(
            c,
            instrument,
            mark.key(),
            None,
            correction,
            Some("came as a row of live_trades"),
            Some(taken.marks.known[i]),
        );
        any = true;
    }
    any
}
