//! Sessions of an instrument one after the other, with their trades as readers see them: what levels, profiles, flow and
//! activity bars are made of.

use super::state::{State, states};
use super::trades::{read_trades_as_of, read_trades_under};
use super::{known, read};
use crate::error::{OrRaise, raise_with};
use crate::fmgr::{Bytes, varlena};
use crate::instrument::Instrument;
use crate::spi::{Arg, Conn, Mode};
use crate::store::read_as_of;
use crate::{plans, time};
use market::by_session::{BySession, Each};
use market::{MinuteBar, Nanos, Op, Session, TradeDate, Trades, decode_minutes};
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;
use std::collections::HashMap;

plans!(MINUTES);

/// What is known of the sessions of a walk.
#[derive(Default)]
pub struct Walked {
    states: HashMap<TradeDate, State>,
    shown: Option<(State, Datum)>,
}

impl Walked {
    /// The state of a session.
    pub fn state(&self, date: TradeDate) -> State {
        self.states.get(&date).copied().unwrap_or(State::Provisional)
    }

    /// The state of what is made of these trade dates, as the output says it; sessions without trades do not count.
    pub fn shown(&mut self, first: TradeDate, last: TradeDate) -> Datum {
        let days = (first.0..=last.0).filter_map(|day| self.states.get(&TradeDate(day)).copied());
        let state = days.reduce(State::worst).unwrap_or(State::Provisional);
        // Rows are cheapest where texts are the same datum.
        match self.shown {
            Some((known, datum)) if known == state => datum,
            _ => {
                let datum = varlena(state.text().as_bytes());
                self.shown = Some((state, datum));
                datum
            }
        }
    }

    /// Adds what is known of other sessions.
    pub fn and(mut self, other: Walked) -> Walked {
        self.states.extend(other.states);
        self
    }
}

/// Takes the minute bars of sessions whose trades are gone.
type Minutes<'m> = &'m mut dyn FnMut(&[MinuteBar]);

/// Hands the trades of the sessions `first..=last`, now or as they were known at an instant, to `each`. Raises 55000 where
/// retention dropped them, unless `minutes` takes the minute bars of such a session.
pub fn walk<'i>(
    c: &Conn,
    instrument: &'i Instrument,
    (first, last): (TradeDate, TradeDate),
    known: Option<Nanos>,
    what: &str,
    each: Each<'_, 'i>,
    minutes: Option<Minutes<'_>>,
) -> Walked {
    let sessions: Vec<Session<'i>> = instrument.calendar.sessions(first, last).or_raise().collect();
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return Walked::default() };
    let (from, till) = (head.from, tail.till);
    if let Some(until) = known {
        return walk_known(c, instrument, sessions, until, what, each, minutes);
    }
    let (mut states, dropped) = states(c, instrument, first, last);
    match (minutes, dropped.trades.iter().min()) {
        (_, None) => {}
        (Some(take), Some(_)) if dropped.minutes.is_empty() => {
            take(&stored_minutes(c, instrument, first, last));
            return Walked { states, shown: None };
        }
        (_, Some(oldest)) => raise_lost(instrument, what, dropped.trades.len(), *oldest),
    }
    let rows = read::live_rows(c, instrument.id, from, till);
    for session in sessions.iter().filter(|session| !read::rows_of_session(&rows, session).is_empty()) {
        states.insert(session.trade_date, State::Provisional);
    }
    let mut sessions = BySession::new(sessions);
    read_trades_under(c, instrument, &rows, from, till, &mut |trades| sessions.push(trades, &mut *each).or_raise());
    sessions.finish(each).or_raise();
    Walked { states, shown: None }
}

fn raise_lost(instrument: &Instrument, what: &str, sessions: usize, oldest: TradeDate) -> ! {
    raise_with(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        &format!(
            "{what} of {} is made of trades, and retention dropped those of {sessions} sessions asked for, the first {oldest}",
            instrument.symbol
        ),
        "ask for later sessions; market.session_bars tells which have their trades",
    )
}

/// As `walk`, as it was known at an instant.
fn walk_known<'i>(
    c: &Conn,
    instrument: &'i Instrument,
    sessions: Vec<Session<'i>>,
    until: Nanos,
    what: &str,
    each: Each<'_, 'i>,
    minutes: Option<Minutes<'_>>,
) -> Walked {
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return Walked::default() };
    let (from, till, first, last) = (head.from, tail.till, head.trade_date, tail.trade_date);
    let as_of = read_as_of(c, Mode::SameSnapshot, instrument.id, from, till, until);
    let sealed = known::sealed(c, instrument.id, (first, last), until);
    let states = known::states_as_of(c, instrument, &sessions, &sealed, &as_of, until);
    let mut rows = as_of.rows;
    let (mut lost, mut same) = (Vec::new(), true);
    for session in &sessions {
        let Some(sealed) = sealed.get(&session.trade_date).filter(|sealed| sealed.dropped) else { continue };
        // what came after retention dropped the session's trades changes nothing of it; a correction would
        let corrected = read::rows_of_session(&rows, session).any(|i| rows.ops[i] != Op::Trade);
        rows.forget(session.from, session.till);
        if sealed.known.0 <= until {
            same &= !corrected && sealed.known.1 <= until && !sealed.bare;
            lost.push(session.trade_date);
        }
    }
    match (minutes, lost.first()) {
        (_, None) => {}
        (Some(take), Some(_)) if same => {
            take(&stored_minutes(c, instrument, first, last));
            return Walked { states, shown: None };
        }
        (_, Some(oldest)) => raise_lost(instrument, what, lost.len(), *oldest),
    }
    let mut sessions = BySession::new(sessions);
    let mut push = |trades: &Trades| sessions.push(trades, &mut *each).or_raise();
    read_trades_as_of(c, instrument, &rows, (from, till), until, &mut push);
    sessions.finish(each).or_raise();
    Walked { states, shown: None }
}

/// The minute bars of sealed sessions, which outlive their trades.
fn stored_minutes(c: &Conn, instrument: &Instrument, first: TradeDate, last: TradeDate) -> Vec<MinuteBar> {
    let mut minutes = Vec::new();
    c.run(
        Mode::SameSnapshot,
        &MINUTES,
        c"SELECT payload FROM market.bar_blocks WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3 ORDER BY trade_date",
        &[Arg::int4(instrument.id), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))],
        &mut |v, _| {
            // SAFETY: a bytea, NOT NULL, alive until the closure returns.
            let bytes = unsafe { Bytes::whole(v[0]) };
            decode_minutes(bytes.get(), &mut minutes).or_raise();
        },
    );
    minutes
}
