//! Bars as they were known at a past instant, and bars by receipt time.
//!
//! Where nothing of the sessions asked for became known later, today's bars are the answer and are read the usual way. Else the
//! sessions that differ are made of their trades: sealed ones that were known, with what was said of them by then.

use super::explain::seals;
use super::ohlc::bars_now;
use super::read::{self, Loaded, Overlay, Source};
use super::state::{State, raise_bare, raise_dropped, states};
use crate::error::OrRaise;
use crate::fmgr::{Bytes, Rows, arg, arg_is_null, arg_option, arg_text, int8, null, varlena};
use crate::instrument::{self, Instrument};
use crate::spi::{self, Arg, Conn, Mode};
use crate::store::read_as_of;
use crate::{plans, time, v1};
use market::block::{Core, PAGE};
use market::explain::Seal;
use market::known::{revision_as_of, why_provisional};
use market::minute::decode_minutes;
use market::ohlc::{Answer, Fill, OhlcRequest, SessionBar, SessionFold};
use market::{AsOf, Clock, LiveRows, Nanos, Op, Received, Segments, Session, Timeframe, TradeDate, Trades};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;
use std::collections::HashMap;

plans!(MINUTES, SEALED, GAPS, RECEIVED);
v1!(session_states => pg_finfo_session_states);

/// How trades are looked at.
#[derive(Clone, Copy, Default)]
pub struct View {
    /// As they were known at this instant; `None` for now.
    pub known: Option<Nanos>,
    /// By which of their times.
    pub clock: Clock,
}

impl View {
    /// Whether it is the usual one.
    pub fn is_plain(self) -> bool {
        self.known.is_none() && self.clock == Clock::Event
    }
}

/// Bars and the states of their sessions.
pub type Found = (Vec<SessionBar>, HashMap<TradeDate, State>);

/// What is known of a sealed session.
pub struct Sealed {
    /// Its revision today; `None` if it is provisional.
    pub revision: Option<i32>,
    /// The last revision of which a part was known.
    pub then: Option<i32>,
    /// Whether retention dropped its trades.
    pub dropped: bool,
    /// Whether it dropped its minute bars, too.
    pub bare: bool,
    /// When the first and the last of its trades became known.
    pub known: (Nanos, Nanos),
}

/// The sealed sessions of an instrument, and which revision of each was known at an instant.
pub fn sealed(
    c: &Conn,
    instrument: i32,
    (first, last): (TradeDate, TradeDate),
    until: Nanos,
) -> HashMap<TradeDate, Sealed> {
    let mut found = HashMap::new();
    c.run_planned_once(
        Mode::SameSnapshot,
        &SEALED,
        c"SELECT DISTINCT ON (b.trade_date) b.trade_date, CASE b.state WHEN 'provisional' THEN -1 WHEN 'final' THEN 0 ELSE b.revision END,
                 (SELECT max(r.revision) FROM market.session_revisions AS r WHERE r.instrument_id = b.instrument_id
                    AND r.trade_date = b.trade_date AND r.known_from <= $4),
                 b.trades_dropped_at IS NOT NULL, b.first_known_at, b.last_known_at, b.minutes_dropped_at IS NOT NULL
          FROM market.session_bars AS b WHERE b.instrument_id = $1 AND b.trade_date BETWEEN $2 AND $3 ORDER BY b.trade_date",
        &[
            Arg::int4(instrument),
            Arg::date(time::pg_days(first)),
            Arg::date(time::pg_days(last)),
            Arg::timestamptz(time::micros_floor(until)),
        ],
        &mut |v, nulls| {
            // before anybody kept these, anything may have been known at any time
            let edge = |i: usize, unknown: Nanos| if nulls[i] { unknown } else { time::nanos_clamped(v[i].value() as i64) };
            let sealed = Sealed {
                revision: Some(v[1].value() as i32).filter(|n| *n >= 0),
                then: (!nulls[2]).then(|| v[2].value() as i32),
                dropped: v[3].value() as u8 != 0,
                bare: v[6].value() as u8 != 0,
                known: (edge(4, Nanos::MIN), edge(5, Nanos::MAX)),
            };
            found.insert(time::trade_date(v[0].value() as i32), sealed);
        },
    );
    found
}

/// The spans of time that a feed's gaps, open at an instant, are about.
fn gaps(c: &Conn, instrument: i32, until: Nanos) -> Vec<(Nanos, Nanos)> {
    let mut found = Vec::new();
    c.run_planned_once(
        Mode::SameSnapshot,
        &GAPS,
        c"SELECT coalesce(from_ts, till_ts, noticed_at), coalesce(till_ts, from_ts, noticed_at) FROM market.feed_gaps
          WHERE instrument_id = $1 AND noticed_at <= $2 AND (closed_at IS NULL OR closed_at > $2)",
        &[Arg::int4(instrument), Arg::timestamptz(time::micros_floor(until))],
        &mut |v, _| found.push((time::nanos_clamped(v[0].value() as i64), time::nanos_clamped(v[1].value() as i64))),
    );
    found
}

/// The states of sessions as they were known at an instant, with what a provisional one waited for. Sessions without trades
/// have none.
fn states_and_reasons(
    c: &Conn,
    instrument: &Instrument,
    sessions: &[Session<'_>],
    sealed: &HashMap<TradeDate, Sealed>,
    as_of: &AsOf,
    until: Nanos,
) -> HashMap<TradeDate, (State, Option<&'static str>)> {
    let gaps = gaps(c, instrument.id, until);
    let mut states = HashMap::new();
    for session in sessions {
        let pending = as_of.is_pending(session.from, session.till);
        let Some(sealed) = sealed.get(&session.trade_date) else {
            if pending {
                states
                    .insert(session.trade_date, (State::Provisional, why_provisional(until, Nanos::MIN, true, false)));
            }
            continue;
        };
        let gap = gaps.iter().any(|gap| gap.0 < session.till && gap.1 >= session.from);
        let over = session.close(Segments::ETH).unwrap_or(session.till).saturating_add(instrument.calendar.grace());
        let pending = pending && !sealed.dropped;
        let state = match revision_as_of(sealed.revision, sealed.then, until, over, pending || gap) {
            None => (State::Provisional, why_provisional(until, over, pending, gap)),
            Some(0) => (State::Final, None),
            Some(n) => (State::Revised(n), None),
        };
        states.insert(session.trade_date, state);
    }
    states
}

/// The states of sessions as they were known at an instant. Sessions without trades have none.
pub fn states_as_of(
    c: &Conn,
    instrument: &Instrument,
    sessions: &[Session<'_>],
    sealed: &HashMap<TradeDate, Sealed>,
    as_of: &AsOf,
    until: Nanos,
) -> HashMap<TradeDate, State> {
    let states = states_and_reasons(c, instrument, sessions, sealed, as_of, until);
    states.into_iter().map(|(date, (state, _))| (date, state)).collect()
}

/// `session_states(symbol text, first date, last date, known_at timestamptz)
///  -> setof (trade_date, state, calendar_version, digest, sealed_at, reason)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_states(fc: FunctionCallInfo) -> Datum {
    let mut rows = Rows::begin(fc, 6);
    if (0..3).any(|i| arg_is_null(fc, i)) {
        return null(fc);
    }
    let (first, last) = (time::trade_date(arg(fc, 1).value() as i32), time::trade_date(arg(fc, 2).value() as i32));
    let instrument = instrument::by_symbol(&arg_text(fc, 0), last);
    let known = arg_option(fc, 3).map(|d| time::end_of_micro(d.value() as i64));
    // without an instant, as of all that is known: gaps that were closed are closed then
    let until = known.unwrap_or_else(|| time::nanos(pg_sys::GetCurrentTimestamp()));
    let sessions: Vec<Session<'_>> = instrument.calendar.sessions(first, last).or_raise().collect();
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return null(fc) };
    spi::connect(|c| {
        let as_of = read_as_of(c, Mode::SameSnapshot, instrument.id, head.from, tail.till, until);
        let sealed = sealed(c, instrument.id, (first, last), until);
        let states = states_and_reasons(c, &instrument, &sessions, &sealed, &as_of, until);
        let seals: HashMap<TradeDate, Seal> =
            seals(c, instrument.id, (first, last), known).into_iter().map(|seal| (seal.trade_date, seal)).collect();
        for session in &sessions {
            let Some((state, reason)) = states.get(&session.trade_date) else { continue };
            let seal = seals.get(&session.trade_date);
            let reason = reason.map(str::to_owned).or_else(|| seal.and_then(|seal| seal.reason.clone()));
            rows.put([
                Some(Datum::from(time::pg_days(session.trade_date))),
                Some(varlena(state.text().as_bytes())),
                seal.map(|seal| Datum::from(seal.calendar_version)),
                seal.map(|seal| int8(seal.digest)),
                seal.map(|seal| int8(time::micros(seal.sealed_at))),
                reason.filter(|_| *state == State::Provisional).map(|reason| varlena(reason.as_bytes())),
            ]);
        }
    });
    null(fc)
}

/// The bars of one instrument, and the states of their sessions.
pub fn bars(
    c: &Conn,
    instrument: &Instrument,
    request: &OhlcRequest,
    (first, last): (TradeDate, TradeDate),
    view: View,
) -> Found {
    let calendar = &instrument.calendar;
    let sessions: Vec<Session<'_>> = calendar.sessions(first, last).or_raise().collect();
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return Found::default() };
    let mut answer = Answer::new(calendar, request.clone());
    // filled bars show the close before the range, which may have been another one then
    let mut filled_alike = true;
    if request.fill == Fill::Previous {
        let close = close_before(c, instrument, request, first, view);
        filled_alike = close == close_before(c, instrument, request, first, View::default());
        if let Some(close) = close {
            answer.set_previous(close);
        }
    }
    let until = view.known.unwrap_or(Nanos::MAX);
    if view.clock == Clock::Received {
        let states = received(c, instrument, request, &sessions, view.known, &mut answer);
        return (answer.finish(), states);
    }
    let as_of = read_as_of(c, Mode::SameSnapshot, instrument.id, head.from, tail.till, until);
    let sealed = sealed(c, instrument.id, (first, last), until);
    let states = states_as_of(c, instrument, &sessions, &sealed, &as_of, until);
    // the cheap way: nothing of these sessions became known later
    if filled_alike && as_of.is_now && sealed.values().all(|sealed| sealed.known.1 <= until) {
        let (bars, _) = bars_now(c, instrument, request, (first, last));
        return (bars, states);
    }
    let rows = &as_of.rows;
    let minutes = read::source() != Source::Trades && sessions.iter().all(|s| request.minutes_suffice(s));
    let differs = |s: &Session<'_>| {
        let sealed = sealed.get(&s.trade_date);
        // a trade that came after retention dropped its session's trades changes no bar
        let dropped = sealed.is_some_and(|sealed| sealed.dropped);
        read::rows_of_session(rows, s).any(|i| !dropped || rows.ops[i] != Op::Trade)
            || sealed.is_some_and(|sealed| sealed.known.1 > until)
    };
    let mut made: HashMap<TradeDate, Vec<SessionBar>> = HashMap::new();
    if minutes {
        let same: HashMap<TradeDate, &Session<'_>> =
            sessions.iter().filter(|s| !differs(s)).map(|s| (s.trade_date, s)).collect();
        let bare = |date: &&TradeDate| sealed.get(date).is_some_and(|sealed| sealed.bare);
        if let Some(oldest) = same.keys().filter(bare).min() {
            raise_bare(instrument, *oldest, same.keys().filter(bare).count());
        }
        from_minutes(c, instrument, request, (first, last), &same, &mut made);
    }
    let of_trades = |s: &&Session<'_>| !minutes || differs(s);
    let needs = |s: &Session<'_>| sealed.get(&s.trade_date).is_none_or(|sealed| sealed.known.0 <= until);
    let lost = |s: &&Session<'_>| needs(s) && sealed.get(&s.trade_date).is_some_and(|sealed| sealed.dropped);
    let lost: Vec<TradeDate> = sessions.iter().filter(of_trades).filter(lost).map(|s| s.trade_date).collect();
    if let Some(oldest) = lost.first() {
        raise_dropped(instrument, *oldest, lost.len());
    }
    let mut core = Core::new();
    for session in sessions.iter().filter(of_trades) {
        let mut fold = SessionFold::new(session, request.timeframe, request.segments);
        let mut overlay = Overlay::new(rows, read::rows_of_session(rows, session)).known(Some(until));
        let sealed = needs(session);
        each_page(c, instrument, session.trade_date, sealed, &mut overlay, &mut |trades| {
            push(&mut fold, &mut core, trades)
        });
        let mut bars = Vec::new();
        fold.finish(&mut bars);
        made.insert(session.trade_date, bars);
    }
    for session in &sessions {
        answer.add(session, &made.remove(&session.trade_date).unwrap_or_default()).or_raise();
    }
    (answer.finish(), states)
}

fn push(fold: &mut SessionFold<'_>, core: &mut Core, trades: &Trades) {
    for from in (0..trades.len()).step_by(PAGE) {
        core.set(trades, from..(from + PAGE).min(trades.len()));
        fold.push_core(core);
    }
}

/// The trades of one session's blocks and of the rows over them, page by page in order.
fn each_page(
    c: &Conn,
    instrument: &Instrument,
    date: TradeDate,
    sealed: bool,
    overlay: &mut Overlay<'_>,
    each: &mut dyn FnMut(&Trades),
) {
    if sealed {
        read::each_block(c, instrument, date, date, &mut |part| {
            // SAFETY: the datum lives until the row's closure returns, and so does `loaded`.
            let mut loaded = unsafe { Loaded::fetch(part.payload, true, None) };
            for page in 0..loaded.header.pages.len() {
                each(overlay.merge(&mut loaded, page));
                read::check_interrupts();
            }
        });
    }
    each(overlay.rest());
}

fn from_minutes(
    c: &Conn,
    instrument: &Instrument,
    request: &OhlcRequest,
    (first, last): (TradeDate, TradeDate),
    sessions: &HashMap<TradeDate, &Session<'_>>,
    made: &mut HashMap<TradeDate, Vec<SessionBar>>,
) {
    let mut minutes = Vec::new();
    c.run(
        Mode::SameSnapshot,
        &MINUTES,
        c"SELECT trade_date, payload FROM market.bar_blocks WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3 ORDER BY trade_date",
        &[Arg::int4(instrument.id), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))],
        &mut |v, _| {
            let date = time::trade_date(v[0].value() as i32);
            let Some(session) = sessions.get(&date) else { return };
            // SAFETY: a bytea, NOT NULL, alive until the closure returns.
            let bytes = unsafe { Bytes::whole(v[1]) };
            minutes.clear();
            decode_minutes(bytes.get(), &mut minutes).or_raise();
            let mut fold = SessionFold::new(session, request.timeframe, request.segments);
            fold.push_minutes(&minutes);
            let mut bars = Vec::new();
            fold.finish(&mut bars);
            made.insert(date, bars);
        },
    );
}

/// A session of event times of which trades were received at other times.
struct Other {
    date: TradeDate,
    window: (Nanos, Nanos),
    known: (Nanos, Nanos),
    dropped: bool,
}

/// The sealed sessions of an instrument with trades that were received in `[from, till)`.
fn received_in(c: &Conn, instrument: &Instrument, from: Nanos, till: Nanos) -> Vec<Other> {
    let mut found = Vec::new();
    c.run_planned_once(
        Mode::SameSnapshot,
        &RECEIVED,
        c"SELECT trade_date, min(first_known_at), max(last_known_at), bool_or(trades_dropped_at IS NOT NULL) FROM market.session_bars
          WHERE instrument_id = $1 AND (last_known_at IS NULL OR last_known_at >= $2) AND (first_known_at IS NULL OR first_known_at < $3)
          GROUP BY trade_date ORDER BY trade_date",
        &[Arg::int4(instrument.id), Arg::timestamptz(time::micros_floor(from)), Arg::timestamptz(time::micros_floor(till))],
        &mut |v, nulls| {
            let date = time::trade_date(v[0].value() as i32);
            let edge = |i: usize, unknown: Nanos| if nulls[i] { unknown } else { time::end_of_micro(v[i].value() as i64) };
            let Ok(Some(session)) = instrument.calendar.session(date) else { return };
            found.push(Other {
                date,
                window: (session.from, session.till),
                known: (edge(1, Nanos::MIN), edge(2, Nanos::MAX)),
                dropped: v[3].value() as u8 != 0,
            });
        },
    );
    found
}

/// Adds the bars of trades by their receipt; the states of the sessions.
fn received(
    c: &Conn,
    instrument: &Instrument,
    request: &OhlcRequest,
    sessions: &[Session<'_>],
    known: Option<Nanos>,
    answer: &mut Answer<'_>,
) -> HashMap<TradeDate, State> {
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return HashMap::new() };
    let (first, last) = (head.trade_date, tail.trade_date);
    let others = received_in(c, instrument, head.from, tail.till);
    if let Some(oldest) = others.iter().find(|other| other.dropped) {
        raise_dropped(instrument, oldest.date, others.iter().filter(|other| other.dropped).count());
    }
    // a row may be received at any time, whenever its trade happened
    let (rows, mut states) = match known {
        None => (read::live_rows(c, instrument.id, Nanos::MIN, Nanos::MAX), states(c, instrument, first, last).0),
        Some(until) => {
            let as_of = read_as_of(c, Mode::SameSnapshot, instrument.id, Nanos::MIN, Nanos::MAX, until);
            let sealed = sealed(c, instrument.id, (first, last), until);
            let states = states_as_of(c, instrument, sessions, &sealed, &as_of, until);
            (as_of.rows, states)
        }
    };
    let mut core = Core::new();
    for session in sessions {
        let (from, till) = (session.from, session.till);
        let mut all = Received::default();
        let near: Vec<&Other> = others.iter().filter(|other| other.known.0 < till && other.known.1 >= from).collect();
        for other in &near {
            let range = rows.trades.lower_bound(other.window.0)..rows.trades.lower_bound(other.window.1);
            let mut overlay = Overlay::new(&rows, range).known(known);
            each_page(c, instrument, other.date, true, &mut overlay, &mut |trades| all.push(trades, from, till));
        }
        let mut live = LiveRows::default();
        for i in 0..rows.len() {
            let at = rows.trades.known(i);
            if rows.ops[i] != Op::Bust && from <= at && at < till {
                live.push(rows.trades.get(i), rows.ops[i]);
            }
        }
        if known.is_none() && !live.is_empty() {
            states.insert(session.trade_date, State::Provisional);
        }
        let elsewhere = |ts: Nanos| !near.iter().any(|other| other.window.0 <= ts && ts < other.window.1);
        let alone: Trades = live.trades.iter().filter(|t| elsewhere(t.ts)).collect();
        all.push(&alone, from, till);
        let mut fold = SessionFold::new(session, request.timeframe, request.segments);
        push(&mut fold, &mut core, &all.finish());
        let mut bars = Vec::new();
        fold.finish(&mut bars);
        answer.add(session, &bars).or_raise();
        pg_sys::check_for_interrupts!();
    }
    states
}

/// How far back a close is looked for to fill the first gap with.
const LOOK_BACK_DAYS: i32 = 14;

fn close_before(c: &Conn, instrument: &Instrument, request: &OhlcRequest, first: TradeDate, view: View) -> Option<i64> {
    let from = first.plus(-LOOK_BACK_DAYS).max(instrument.calendar.known().0);
    if from >= first {
        return None;
    }
    let days = OhlcRequest::new(Timeframe::Days(1), request.segments);
    let (before, _) = bars(c, instrument, &days, (from, first.plus(-1)), view);
    let date = before.iter().rev().find(|b| b.bar.priced > 0)?.trade_date;
    // the close of the last bar of this width, which a day's need not be: some trades close a bar only if they open it
    let request = OhlcRequest { day: request.day, ..OhlcRequest::new(request.timeframe, request.segments) };
    let (from, till) = request.dates(&instrument.calendar, date, date).or_raise();
    let (last, _) = bars(c, instrument, &request, (from, till), view);
    last.iter().rev().find(|b| b.bar.priced > 0).map(|b| b.bar.close)
}
