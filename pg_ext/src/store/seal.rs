//! `seal`: the live rows of a session into its blocks.

use super::parts::Parts;
use super::put::{dead_letters, ensure_partitions};
use super::session::{rewrite, sealed};
use super::{live, lock_session, require_read_committed};
use crate::error::{OrRaise, raise_with};
use crate::fmgr::{arg, arg_text, int8};
use crate::spi::{self, Conn, Mode};
use crate::{instrument, time, v1};
use market::{LiveRows, Op, Session, Trades};
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
    let instrument = instrument::by_symbol(&arg_text(fc, 0), day);
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
    let rows = live::take_live(c, instrument.id, session.from, session.till);
    if rows.is_empty() {
        return 0;
    }
    let before = sealed(c, instrument.id, session);
    let corrections = live::read_corrections(c, Mode::Fresh, instrument.id, session.from, session.till);
    let mut parts = Parts::read(c, Mode::Fresh, instrument.id, session.trade_date);
    ensure_partitions(c, session);
    let done = parts.merge(&trades_of(&rows, &corrections));
    let corrected = parts.correct(&corrections);
    if done.added + corrected > 0 {
        rewrite(c, instrument.id, &instrument.calendar, session, &mut parts, before.as_ref());
    }
    dead_letters(c, instrument.id, "seal", &done.conflicts);
    rows.len() as i64
}

/// The rows that may become trades: a busted identity never does, and a tombstone alone is none.
fn trades_of(rows: &LiveRows, corrections: &LiveRows) -> Trades {
    let mut trades = Trades::with_capacity(rows.len());
    for i in 0..rows.len() {
        let trade = rows.trades.get(i);
        let at = corrections.after(trade.key());
        let corrected = at > 0 && corrections.trades.key(at - 1) == trade.key();
        if rows.ops[i] == Op::Trade && !(corrected && corrections.ops[at - 1] == Op::Bust) {
            trades.push(trade);
        }
    }
    trades
}
