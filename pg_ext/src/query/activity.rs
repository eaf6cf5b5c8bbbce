//! `activity_ohlc`: bars that end when enough was traded.

use super::ask::{Ends, known_at};
use super::walk::walk;
use crate::error::OrRaise;
use crate::fmgr::{Rows, arg, arg_is_null, arg_option, arg_text, float8, float8_of, int8, null, text};
use crate::instrument;
use crate::spi;
use crate::{time, v1};
use market::activity::{Activity, ActivityBar, ActivityFold};
use market::ohlc::Fill;
use market::{Day, Segments, Timeframe, money};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;

v1!(
    activity_ohlc_dates => pg_finfo_activity_ohlc_dates,
    activity_ohlc_instants => pg_finfo_activity_ohlc_instants,
    activity_ohlc_texts => pg_finfo_activity_ohlc_texts,
);

unsafe fn answer(fc: FunctionCallInfo, ends: Ends) -> Datum {
    for (i, name) in ["symbol", "kind", "threshold", "first", "last"].into_iter().enumerate() {
        if arg_is_null(fc, i) {
            crate::store::invalid(
                &format!("activity_ohlc: {name} is NULL"),
                "name a symbol, ticks, volume or notional, how much of it makes a bar, and a first and a last date",
            )
        }
    }
    let activity = Activity::parse(&arg_text(fc, 1), float8_of(arg(fc, 2))).or_raise();
    let when = ends.when(fc, 3);
    let segments = arg_option(fc, 5).map(|s| Segments::parse(&text(s)).or_raise());
    let known = known_at(fc, 6);
    let instrument = instrument::by_symbol(&arg_text(fc, 0), when.near(instrument::today));
    let mut rows = Rows::begin(fc, 13);
    // Any width within a session asks for the sessions of the range.
    let timeframe = Timeframe::Intraday(market::time::MINUTE);
    let request = when.request(&instrument.calendar, timeframe, segments, Fill::None, Day::Trade).or_raise();
    let Some((request, first, last)) = request else { return null(fc) };
    let mut bars: Vec<ActivityBar> = Vec::new();
    let mut fold = None;
    let mut walked = spi::connect(|c| {
        let dates = (first, last);
        walk(
            c,
            &instrument,
            dates,
            known,
            "activity",
            &mut |session, trades| {
                let mut here = fold.take().unwrap_or_else(|| ActivityFold::new(session, activity, request.segments));
                match trades {
                    Some(trades) => {
                        trades.iter().for_each(|trade| here.push(&trade));
                        fold = Some(here);
                    }
                    None => bars.extend(here.finish().into_iter().filter(|bar| request.range.contains(&bar.first_at))),
                }
                Ok(())
            },
            None,
        )
    });
    for b in &bars {
        let price = |p: i64| (b.bar.priced > 0).then(|| float8(money::to_f64(p)));
        rows.put([
            Some(Datum::from(time::pg_days(b.trade_date))),
            Some(Datum::from(b.number)),
            Some(int8(time::micros(b.first_at))),
            Some(int8(time::micros(b.last_at))),
            price(b.bar.open),
            price(b.bar.high),
            price(b.bar.low),
            price(b.bar.close),
            Some(float8(money::volume_to_f64(b.bar.volume))),
            Some(int8(b.bar.trades)),
            b.bar.vwap().map(float8),
            Some(Datum::from(b.complete)),
            Some(walked.shown(b.trade_date, b.trade_date)),
        ]);
    }
    null(fc)
}

/// `activity_ohlc(symbol text, kind text, threshold float8, first date, last date, segments text, known_at timestamptz)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn activity_ohlc_dates(fc: FunctionCallInfo) -> Datum {
    answer(fc, Ends::Dates)
}

/// `activity_ohlc(symbol text, kind text, threshold float8, first timestamptz, last timestamptz, segments text, known_at timestamptz)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn activity_ohlc_instants(fc: FunctionCallInfo) -> Datum {
    answer(fc, Ends::Instants)
}

/// `activity_ohlc(symbol text, kind text, threshold float8, first text, last text, segments text, known_at timestamptz)`: literals without a type
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn activity_ohlc_texts(fc: FunctionCallInfo) -> Datum {
    answer(fc, Ends::Texts)
}
