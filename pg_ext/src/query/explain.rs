//! `explain_bar`: where a bar begins and ends, which trades made it, and what was said of them. The words are the domain's.

use super::known::{self, View};
use super::ohlc::one_bar;
use super::state::State;
use super::trades::read_trades_known;
use crate::error::OrRaise;
use crate::fmgr::{Rows, arg, arg_is_null, arg_option, arg_text, float8_of, null, text, varlena};
use crate::instrument::{self, Instrument};
use crate::spi::{self, Arg, Conn, Mode};
use crate::store::read_reported;
use crate::{plans, time, v1};
use market::explain::{Explain, Line, Said, Seal};
use market::ohlc::OhlcRequest;
use market::{Bar, Clock, Nanos, Segments, Session, Timeframe, Trade, TradeDate, money};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(SAID, SEALS);
v1!(explain_bar => pg_finfo_explain_bar);

fn known_arg(known: Option<Nanos>) -> Arg {
    Arg::option(pg_sys::TIMESTAMPTZOID, known.map(|until| crate::fmgr::int8(time::micros_floor(until))))
}

/// What the log says of a session's trades, up to an instant.
fn said(c: &Conn, instrument: &Instrument, session: &Session<'_>, known: Option<Nanos>) -> Vec<Said> {
    let mut all = Vec::new();
    c.run_planned_once(
        Mode::SameSnapshot,
        &SAID,
        c"SELECT ts, ns, seq, sub, action = 'bust', old_price, old_size, new_price, new_size, known_at, by_user, reason
          FROM market.trade_corrections WHERE instrument_id = $1 AND ts >= $2 AND ts < $3 AND ($4 IS NULL OR known_at <= $4)
          ORDER BY known_at, id",
        &[
            Arg::int4(instrument.id),
            Arg::timestamptz(time::micros_floor(session.from)),
            Arg::timestamptz(time::micros_floor(session.till)),
            known_arg(known),
        ],
        &mut |v, nulls| {
            let ts = time::nanos(v[0].value() as i64).saturating_add(i64::from(v[1].value() as i16));
            let trade =
                Trade { ts, seq: v[2].value() as i64, sub: i32::from(v[3].value() as i16), ..Trade::default() };
            let pair = |at: usize| {
                let number = |at: usize| (!nulls[at]).then(|| money::price_from_f64(float8_of(v[at])).or_raise());
                number(at).zip(number(at + 1))
            };
            all.push(Said {
                trade,
                old: pair(5),
                new: pair(7).filter(|_| v[4].value() as u8 == 0),
                known: time::nanos_clamped(v[9].value() as i64),
                // SAFETY: text, NOT NULL.
                by: unsafe { text(v[10]) },
                // SAFETY: text, not NULL here.
                reason: (!nulls[11]).then(|| unsafe { text(v[11]) }),
            });
        },
    );
    if !all.is_empty() {
        // flags say in which bar an auction's print is
        let reported = read_reported(c, Mode::SameSnapshot, instrument.id, session.from, session.till);
        all.iter_mut().for_each(|said| said.trade = reported.get(said.trade.key()).map_or(said.trade, |found| found.0));
    }
    all
}

/// How sessions are sealed, or were at an instant.
pub fn seals(c: &Conn, instrument: i32, (first, last): (TradeDate, TradeDate), known: Option<Nanos>) -> Vec<Seal> {
    let mut all = Vec::new();
    c.run_planned_once(
        Mode::SameSnapshot,
        &SEALS,
        c"SELECT * FROM (SELECT DISTINCT ON (b.trade_date) b.trade_date,
                   CASE b.state WHEN 'revised' THEN pg_catalog.format('revised(%s)', b.revision) ELSE b.state END,
                   b.calendar_version, b.digest, b.sealed_at, b.reason
            FROM market.session_bars AS b
            WHERE $4 IS NULL AND b.instrument_id = $1 AND b.trade_date BETWEEN $2 AND $3 ORDER BY b.trade_date) AS now
          UNION ALL
          SELECT * FROM (SELECT DISTINCT ON (r.trade_date) r.trade_date,
                   CASE r.revision WHEN 0 THEN 'final' ELSE pg_catalog.format('revised(%s)', r.revision) END,
                   r.calendar_version, r.digest, r.sealed_at, NULL::text
            FROM market.session_revisions AS r
            WHERE r.known_from <= $4 AND r.instrument_id = $1 AND r.trade_date BETWEEN $2 AND $3
            ORDER BY r.trade_date, r.revision DESC) AS before
          ORDER BY 1",
        &[Arg::int4(instrument), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last)), known_arg(known)],
        &mut |v, nulls| {
            all.push(Seal {
                trade_date: time::trade_date(v[0].value() as i32),
                // SAFETY: text, NOT NULL.
                state: unsafe { text(v[1]) },
                calendar_version: v[2].value() as i32,
                digest: v[3].value() as i64,
                sealed_at: time::nanos_clamped(v[4].value() as i64),
                // SAFETY: text, not NULL here.
                reason: (!nulls[5]).then(|| unsafe { text(v[5]) }),
            });
        },
    );
    all
}

/// The bar as readers get it, and its state.
fn bar_of(
    c: &Conn,
    instrument: &Instrument,
    timeframe: Timeframe,
    segments: Segments,
    explain: &Explain<'_>,
    known: Option<Nanos>,
) -> Option<(Bar, State)> {
    let open = explain.bucket.open;
    if known.is_none() {
        return one_bar(c, instrument, timeframe, segments, explain.dates, open);
    }
    let request = OhlcRequest::new(timeframe, segments);
    let view = View { known, clock: Clock::Event };
    let (bars, states) = known::bars(c, instrument, &request, explain.dates, view);
    let bar = bars.iter().find(|bar| bar.open_at == open)?;
    let days = (explain.dates.0.0..=explain.dates.1.0).filter_map(|day| states.get(&TradeDate(day)).copied());
    Some((bar.bar, days.reduce(State::worst).unwrap_or(State::Provisional)))
}

/// `explain_bar(symbol text, timeframe text, at timestamptz, segments text, known_at timestamptz) -> setof (item, value)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn explain_bar(fc: FunctionCallInfo) -> Datum {
    if (0..3).any(|i| arg_is_null(fc, i)) {
        crate::store::invalid("explain_bar: symbol, timeframe and at must not be NULL", "name an instant in the bar")
    }
    let at = time::nanos(arg(fc, 2).value() as i64);
    let instrument = instrument::by_symbol(&arg_text(fc, 0), TradeDate(at.div_euclid(market::time::DAY) as i32));
    let calendar = &instrument.calendar;
    let timeframe = Timeframe::parse(&arg_text(fc, 1)).or_raise();
    let segments = arg_option(fc, 3).map_or(calendar.main(), |s| Segments::parse(&text(s)).or_raise());
    let known = arg_option(fc, 4).map(|d| time::end_of_micro(d.value() as i64));
    let mut rows = Rows::begin(fc, 2);
    let begun = Explain::begin(&instrument.symbol, calendar, timeframe, at, segments, known).or_raise();
    let lines: Vec<Line> = match begun {
        Err(lines) => lines,
        Ok(mut explain) => spi::connect(|c| {
            for session in explain.sessions.clone() {
                read_trades_known(c, &instrument, (session.from, session.till), known, &mut |trades| {
                    explain.push(&session, trades);
                });
                said(c, &instrument, &session, known).into_iter().for_each(|said| explain.said(&session, said));
            }
            let bar = bar_of(c, &instrument, timeframe, segments, &explain, known);
            let seals = seals(c, instrument.id, explain.dates, known);
            explain.finish(bar.map(|(bar, state)| (bar, state.text())), &seals)
        }),
    };
    for (item, value) in &lines {
        rows.put([Some(varlena(item.as_bytes())), Some(varlena(value.as_bytes()))]);
    }
    null(fc)
}
