//! Whether sessions are final, and whether their trades are still there.

use crate::instrument::Instrument;
use crate::spi::{Arg, Conn, Mode};
use crate::{plans, time};
use market::TradeDate;
use pgrx::prelude::*;
use std::collections::{HashMap, HashSet};

plans!(STATES);

/// Whether a session's bars are final, as the output says it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The session runs, or rows of it are not sealed.
    Provisional,
    /// Sealed after its end.
    Final,
    /// Sealed again so often.
    Revised(i32),
}

impl State {
    /// As the queries give it: below zero provisional, else how often it was sealed again.
    pub fn of_revision(revision: i32) -> State {
        match revision {
            0 => State::Final,
            n if n < 0 => State::Provisional,
            n => State::Revised(n),
        }
    }

    /// The less certain of two.
    pub fn worst(self, other: State) -> State {
        match (self, other) {
            (State::Provisional, _) | (_, State::Provisional) => State::Provisional,
            (State::Revised(a), State::Revised(b)) => State::Revised(a.max(b)),
            (State::Revised(n), State::Final) | (State::Final, State::Revised(n)) => State::Revised(n),
            (State::Final, State::Final) => State::Final,
        }
    }

    /// As the output says it.
    pub fn text(self) -> String {
        match self {
            State::Provisional => "provisional".to_owned(),
            State::Final => "final".to_owned(),
            State::Revised(n) => format!("revised({n})"),
        }
    }
}

/// Raises 55000: the bars asked for are made of trades, and they are gone.
pub fn raise_dropped(instrument: &Instrument, oldest: TradeDate, sessions: usize) -> ! {
    crate::error::raise_with(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        &format!(
            "these bars of {} are made of trades, and retention dropped those of {sessions} sessions asked for, the first {oldest}",
            instrument.symbol
        ),
        "ask for a timeframe of whole minutes, whose bars are kept, or for later sessions; market.session_bars tells which have their trades",
    )
}

/// Raises 55000: the bars asked for are made of minute bars or trades, and both are gone.
pub fn raise_bare(instrument: &Instrument, oldest: TradeDate, sessions: usize) -> ! {
    crate::error::raise_with(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        &format!(
            "these bars of {} are made of minute bars, and retention dropped those of {sessions} sessions asked for, the first {oldest}",
            instrument.symbol
        ),
        "ask for whole sessions (1d, 1w ...), whose bars are kept, or for later ones; market.session_bars tells which have their minute bars",
    )
}

/// What retention left of sessions.
#[derive(Default)]
pub struct Dropped {
    /// Sessions without their trades.
    pub trades: HashSet<TradeDate>,
    /// Of these, sessions without their minute bars.
    pub minutes: HashSet<TradeDate>,
}

/// The states of the sealed sessions; what is not there is provisional. And what retention dropped.
pub fn states(
    c: &Conn,
    instrument: &Instrument,
    first: TradeDate,
    last: TradeDate,
) -> (HashMap<TradeDate, State>, Dropped) {
    let (mut states, mut dropped) = (HashMap::new(), Dropped::default());
    c.run_planned_once(
        Mode::SameSnapshot,
        &STATES,
        c"SELECT trade_date, CASE state WHEN 'provisional' THEN -1 WHEN 'final' THEN 0 ELSE revision END, trades_dropped_at IS NOT NULL, minutes_dropped_at IS NOT NULL
          FROM market.session_bars
          WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3",
        &[Arg::int4(instrument.id), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))],
        &mut |v, _| {
            let state = State::of_revision(v[1].value() as i32);
            let date = time::trade_date(v[0].value() as i32);
            states.insert(date, state);
            if v[2].value() as u8 != 0 {
                dropped.trades.insert(date);
            }
            if v[3].value() as u8 != 0 {
                dropped.minutes.insert(date);
            }
        },
    );
    (states, dropped)
}
