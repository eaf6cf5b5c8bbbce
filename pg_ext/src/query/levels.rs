//! `session_levels` and `session_profile`: the prices of a day that matter, and how much was traded at each.

use super::ask::known_at;
use super::state::State;
use super::walk::{Walked, walk};
use crate::error::{OrRaise, raise_with};
use crate::fmgr::{Rows, arg, arg_is_null, arg_option, arg_text, float8, float8_of, int8, null, text, varlena};
use crate::instrument::{self, Instrument};
use crate::spi::{self, Arg, Conn, Mode};
use crate::{plans, time, v1};
use market::levels::{Close, LevelsFold, LevelsRequest};
use market::profile::{ProfileFold, ProfileRequest};
use market::stat::{Stat, StatKind};
use market::{Nanos, Segments, TradeDate, money};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(STATS, TICK);
v1!(session_levels => pg_finfo_session_levels, session_profile => pg_finfo_session_profile);

/// The symbol and the day of a question; raises 22023 where one is NULL.
unsafe fn subject(fc: FunctionCallInfo, function: &str) -> (Instrument, TradeDate) {
    if arg_is_null(fc, 0) || arg_is_null(fc, 1) {
        crate::store::invalid(&format!("{function}: symbol and day must not be NULL"), "name a symbol and a trade date")
    }
    let day = time::trade_date(arg(fc, 1).value() as i32);
    (instrument::by_symbol(&arg_text(fc, 0), day), day)
}

/// What was published of a session and known at an instant (`None`: now), the latest of each kind.
fn stats(c: &Conn, instrument: &Instrument, date: TradeDate, known: Option<Nanos>) -> Vec<Stat> {
    let mut stats = Vec::new();
    c.run_planned_once(
        Mode::SameSnapshot,
        &STATS,
        c"SELECT DISTINCT ON (kind) kind, pg_catalog.round(value, 9)::text, ts FROM market.session_stats
          WHERE instrument_id = $1 AND trade_date = $2 AND kind IN ('settlement', 'preliminary_settlement', 'official_close')
            AND known_at <= $3 ORDER BY kind, known_at DESC",
        &[
            Arg::int4(instrument.id),
            Arg::date(time::pg_days(date)),
            Arg::timestamptz(known.map_or(i64::MAX, time::micros_floor)),
        ],
        &mut |v, nulls| {
            // SAFETY: two texts, NOT NULL.
            let (kind, value) = unsafe { (text(v[0]), text(v[1])) };
            let ts = (!nulls[2]).then(|| time::nanos_clamped(v[2].value() as i64));
            let value = money::parse_decimal(&value).or_raise();
            stats.push(Stat { kind: StatKind::parse(&kind).or_raise(), value, ts });
        },
    );
    stats
}

/// `session_levels(symbol text, day date, segments text, opening_minutes int4, close text, skip_shortened boolean, known_at timestamptz)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_levels(fc: FunctionCallInfo) -> Datum {
    let (instrument, day) = subject(fc, "session_levels");
    let request = LevelsRequest {
        segments: arg_option(fc, 2).map(|s| Segments::parse(&text(s)).or_raise()),
        opening: LevelsRequest::opening(arg_option(fc, 3).map_or(30, |n| i64::from(n.value() as i32))).or_raise(),
        close: arg_option(fc, 4).map(|close| Close::parse(&text(close)).or_raise()),
        skip_shortened: arg_option(fc, 5).is_some_and(|skip| skip.value() as u8 != 0),
    };
    let known = known_at(fc, 6);
    let mut rows = Rows::begin(fc, 8);
    let Some(mut fold) = LevelsFold::new(&instrument.calendar, day, request).or_raise() else { return null(fc) };
    let dates: Vec<TradeDate> = fold.sessions().map(|session| session.trade_date).collect();
    let (levels, walked) = spi::connect(|c| {
        let mut walked = Walked::default();
        for (side, date) in dates.iter().enumerate() {
            let mut gone = Vec::new();
            let mut each = |_: &market::Session<'_>, trades: Option<&market::Trades>| {
                trades.into_iter().flat_map(market::Trades::iter).for_each(|trade| fold.push(side, &trade));
                Ok(())
            };
            let mut minutes = |minutes: &[market::MinuteBar]| gone.extend_from_slice(minutes);
            walked = walked.and(walk(c, &instrument, (*date, *date), known, "levels", &mut each, Some(&mut minutes)));
            gone.iter().for_each(|minute| fold.push_minute(side, minute));
        }
        let prior = dates.first().filter(|prior| **prior < day);
        let stats = prior.map_or_else(Vec::new, |prior| stats(c, &instrument, *prior, known));
        (fold.finish(&stats), walked)
    });
    for level in &levels {
        let state = match level.published {
            Some(true) => State::Final,
            Some(false) => State::Provisional,
            None => walked.state(level.trade_date),
        };
        rows.put([
            Some(varlena(level.name.as_bytes())),
            level.value.map(float8),
            level.at.map(|at| int8(time::micros(at))),
            Some(varlena(level.kind.as_bytes())),
            Some(Datum::from(time::pg_days(level.trade_date))),
            Some(int8(time::micros(level.from))),
            Some(int8(time::micros(level.till))),
            Some(varlena(state.text().as_bytes())),
        ]);
    }
    null(fc)
}

/// The tick size of an instrument on a day.
fn tick_size(c: &Conn, instrument: &Instrument, day: TradeDate) -> Option<f64> {
    let mut tick = None;
    c.run_planned_once(
        Mode::SameSnapshot,
        &TICK,
        c"SELECT tick_size::float8 FROM market.instrument_terms WHERE instrument_id = $1 AND from_date <= $2 AND tick_size IS NOT NULL
          ORDER BY from_date DESC LIMIT 1",
        &[Arg::int4(instrument.id), Arg::date(time::pg_days(day))],
        &mut |v, _| tick = Some(float8_of(v[0])),
    );
    tick
}

/// `session_profile(symbol text, day date, segments text, bin float8, period text, value_area float8, known_at timestamptz)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_profile(fc: FunctionCallInfo) -> Datum {
    let (instrument, day) = subject(fc, "session_profile");
    let segments = arg_option(fc, 2).map(|s| Segments::parse(&text(s)).or_raise());
    let bin = arg_option(fc, 3).map(float8_of);
    let period = arg_option(fc, 4).map_or_else(|| "30m".to_owned(), |period| text(period));
    let value_area = arg_option(fc, 5).map_or(0.7, float8_of);
    let known = known_at(fc, 6);
    let mut rows = Rows::begin(fc, 13);
    let Some(session) = instrument.calendar.session(day).or_raise() else { return null(fc) };
    let segments = segments.unwrap_or_else(|| market::profile::default_segments(&session, &instrument.calendar));
    let (found, mut walked) = spi::connect(|c| {
        let Some(bin) = bin.or_else(|| tick_size(c, &instrument, day)) else {
            raise_with(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                &format!("session_profile: the tick size of {} on {day} is not known", instrument.symbol),
                "say how high a row is, as in bin => 0.25, or add a row to market.instrument_terms",
            )
        };
        let mut fold = ProfileFold::new(&session, ProfileRequest::new(segments, bin, &period, value_area).or_raise());
        let mut each = |_: &market::Session<'_>, trades: Option<&market::Trades>| {
            trades.into_iter().for_each(|trades| fold.push(trades));
            Ok(())
        };
        let walked = walk(c, &instrument, (day, day), known, "profile", &mut each, None);
        (fold.finish().or_raise(), walked)
    });
    let state = walked.shown(day, day);
    for row in &found {
        let volume = |v: i128| Some(float8(money::volume_to_f64(v)));
        rows.put([
            Some(float8(money::to_f64(row.price))),
            volume(row.sides.volume()),
            volume(row.sides.buy),
            volume(row.sides.sell),
            volume(row.sides.unknown),
            Some(int8(row.sides.trades)),
            Some(Datum::from(row.is_poc)),
            Some(Datum::from(row.in_value_area)),
            Some(Datum::from(row.tpo)),
            Some(varlena(row.periods.as_bytes())),
            Some(Datum::from(row.is_tpo_poc)),
            Some(Datum::from(row.in_tpo_value_area)),
            Some(state),
        ]);
    }
    null(fc)
}
