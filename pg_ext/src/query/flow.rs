//! `session_flow`: the volume of each bar by the aggressor's side.

use super::ask::{Ends, known_at};
use super::walk::walk;
use crate::error::OrRaise;
use crate::fmgr::{Rows, arg_is_null, arg_option, arg_text, float8, int8, null, text};
use crate::instrument;
use crate::spi;
use crate::{time, v1};
use market::flow::{FlowAnswer, FlowFold};
use market::ohlc::Fill;
use market::{Day, Segments, Timeframe, money};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;

v1!(
    session_flow_dates => pg_finfo_session_flow_dates,
    session_flow_instants => pg_finfo_session_flow_instants,
    session_flow_texts => pg_finfo_session_flow_texts,
);

unsafe fn answer(fc: FunctionCallInfo, ends: Ends) -> Datum {
    for (i, name) in ["symbol", "timeframe", "first", "last"].into_iter().enumerate() {
        if arg_is_null(fc, i) {
            crate::store::invalid(
                &format!("session_flow: {name} is NULL"),
                "name a symbol, a timeframe such as 5m, and a first and a last date",
            )
        }
    }
    let timeframe = Timeframe::parse(&arg_text(fc, 1)).or_raise();
    let when = ends.when(fc, 2);
    let segments = arg_option(fc, 4).map(|s| Segments::parse(&text(s)).or_raise());
    let day = arg_option(fc, 5).map_or(Day::Trade, |d| Day::parse(&text(d)).or_raise());
    let known = known_at(fc, 6);
    let instrument = instrument::by_symbol(&arg_text(fc, 0), when.near(instrument::today));
    let mut rows = Rows::begin(fc, 11);
    let request = when.request(&instrument.calendar, timeframe, segments, Fill::None, day).or_raise();
    let Some((request, first, last)) = request else { return null(fc) };
    let segments = request.segments;
    let mut answer = FlowAnswer::new(&instrument.calendar, request);
    let mut fold = None;
    let mut walked = spi::connect(|c| {
        let dates = (first, last);
        walk(
            c,
            &instrument,
            dates,
            known,
            "flow",
            &mut |session, trades| {
                let mut here = fold.take().unwrap_or_else(|| FlowFold::new(session, timeframe, segments));
                match trades {
                    Some(trades) => {
                        trades.iter().for_each(|trade| here.push(&trade));
                        fold = Some(here);
                        Ok(())
                    }
                    None => answer.add(session, &here.finish()),
                }
            },
            None,
        )
    });
    for b in answer.finish() {
        let volume = |v: i128| Some(float8(money::volume_to_f64(v)));
        rows.put([
            Some(Datum::from(time::pg_days(b.label))),
            Some(int8(time::micros(b.open_at))),
            Some(int8(time::micros(b.close_at))),
            volume(b.sides.volume()),
            volume(b.sides.buy),
            volume(b.sides.sell),
            volume(b.sides.unknown),
            volume(b.sides.delta()),
            volume(b.session_delta),
            Some(int8(b.sides.trades)),
            Some(walked.shown(b.trade_date, b.last_date)),
        ]);
    }
    null(fc)
}

/// `session_flow(symbol text, timeframe text, first date, last date, segments text, day text, known_at timestamptz)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_flow_dates(fc: FunctionCallInfo) -> Datum {
    answer(fc, Ends::Dates)
}

/// `session_flow(symbol text, timeframe text, first timestamptz, last timestamptz, segments text, day text, known_at timestamptz)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_flow_instants(fc: FunctionCallInfo) -> Datum {
    answer(fc, Ends::Instants)
}

/// `session_flow(symbol text, timeframe text, first text, last text, segments text, day text, known_at timestamptz)`: literals without a type
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_flow_texts(fc: FunctionCallInfo) -> Datum {
    answer(fc, Ends::Texts)
}
