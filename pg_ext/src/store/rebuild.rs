//! `rebuild_session`: what stands beside a session's blocks, made anew of its trades.

use super::live::{read_corrections, read_reported};
use super::parts::Parts;
use super::session::{Sealed, finish_state, rewrite, sealed};
use super::{lock_session, require_read_committed};
use crate::error::OrRaise;
use crate::fmgr::{arg, arg_is_null, arg_option, text, varlena};
use crate::instrument::{self, Instrument};
use crate::spi::{self, Arg, Conn, Mode};
use crate::{plans, time, v1};
use market::eligibility::Table;
use market::trade::flags::INELIGIBLE;
use market::{Correction, Session};
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::FunctionCallInfo;
use pgrx::prelude::*;

plans!(REFLAG, VERSION, CLEAR);
v1!(rebuild_session => pg_finfo_rebuild_session);

/// The flags of trades of their raw conditions; the others stay, and so does what a correction said. How many changed.
fn derive_flags(c: &Conn, instrument: i32, session: &Session<'_>, parts: &mut Parts, table: &Table) -> usize {
    let corrections = read_corrections(c, Mode::Fresh, instrument, session.from, session.till);
    let said = |key| matches!(corrections.get(key), Some(Correction::Replace { flags: Some(_), .. }));
    let derived = |flags: u32, cond: u32| (flags & !INELIGIBLE) | table.flags(cond);
    let changed = parts.reflag(|trade| if said(trade.key()) { trade.flags } else { derived(trade.flags, trade.cond) });
    let reported = read_reported(c, Mode::Fresh, instrument, session.from, session.till);
    for t in reported.trades().iter().filter(|t| derived(t.flags, t.cond) != t.flags) {
        let [ts, ns, seq, sub] = super::parts::key_args(t.key());
        c.execute(
            Mode::Fresh,
            &REFLAG,
            c"UPDATE market.reported_trades SET flags = $6 WHERE instrument_id = $1 AND ts = $2 AND ns = $3 AND seq = $4 AND sub = $5",
            &[Arg::int4(instrument), ts, ns, seq, sub, Arg::int4(derived(t.flags, t.cond) as i32)],
        );
    }
    changed
}

/// The version of the calendar a session's bars were made with.
fn version_of(c: &Conn, instrument: i32, session: &Session<'_>) -> Option<i32> {
    let mut found = None;
    c.run_planned_once(
        Mode::Fresh,
        &VERSION,
        c"SELECT min(calendar_version) FROM market.session_bars WHERE instrument_id = $1 AND trade_date = $2",
        &[Arg::int4(instrument), Arg::date(time::pg_days(session.trade_date))],
        &mut |v, nulls| found = (!nulls[0]).then(|| v[0].value() as i32),
    );
    found
}

fn rebuild(c: &Conn, instrument: &Instrument, session: &Session<'_>, table: Option<&Table>) -> &'static str {
    let before = sealed(c, instrument.id, session);
    if before.as_ref().is_some_and(|before| before.dropped) {
        return "dropped";
    }
    let mut parts = Parts::read(c, Mode::Fresh, instrument.id, session.trade_date);
    if parts.all.is_empty() {
        return "empty";
    }
    let reflagged = table.map_or(0, |table| derive_flags(c, instrument.id, session, &mut parts, table));
    if table.is_some()
        && reflagged == 0
        && let Some(before) = &before
    {
        finish_state(c, instrument.id, &instrument.calendar, session, before);
        return "same";
    }
    if before.is_none() {
        // without a summary nobody looks for minute bars that are there
        let key = [Arg::int4(instrument.id), Arg::date(time::pg_days(session.trade_date))];
        let sql = c"DELETE FROM market.bar_blocks WHERE instrument_id = $1 AND trade_date = $2";
        c.execute(Mode::Fresh, &CLEAR, sql, &key);
    }
    // another version of the calendar may give other bars of the same trades
    let version = instrument.calendar.version() as i32;
    let rekeyed = version_of(c, instrument.id, session).is_some_and(|made| made != version);
    let before = before.map(|before| Sealed { rekeyed, ..before });
    let changed = Some(super::maintain::now());
    rewrite(c, instrument.id, &instrument.calendar, session, &mut parts, before.as_ref(), changed);
    "rebuilt"
}

/// `rebuild_session(instrument int4, trade_date date, eligibility text) -> text`: how it went
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn rebuild_session(fc: FunctionCallInfo) -> Datum {
    require_read_committed("rebuild_session");
    if arg_is_null(fc, 0) || arg_is_null(fc, 1) {
        super::invalid("rebuild_session: instrument and trade_date must not be NULL", "see market.session_bars")
    }
    let table = arg_option(fc, 2).map(|name| market::eligibility::table(&text(name)).or_raise());
    let day = time::trade_date(arg(fc, 1).value() as i32);
    let instrument = instrument::for_writing(|| instrument::by_id(arg(fc, 0).value() as i32));
    let Some(session) = instrument.calendar.session(day).or_raise() else {
        return varlena(b"empty");
    };
    lock_session(instrument.id, day);
    varlena(spi::connect(|c| rebuild(c, &instrument, &session, table)).as_bytes())
}
