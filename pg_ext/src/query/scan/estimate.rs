//! What a call of `session_ohlc` may cost and return, from what its arguments say before they are evaluated.

use super::super::ask::Ends;
use crate::fmgr::{text, text_array};
use crate::{time, v1};
use market::{Timeframe, TradeDate};
use pgrx::pg_sys::{self, Datum, FuncExpr, FunctionCallInfo, Node};
use pgrx::prelude::*;

v1!(session_ohlc_support => pg_finfo_session_ohlc_support);

/// What is expected of one call.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// How many bars.
    pub rows: f64,
    /// The work that is not done row by row, in pages read sequentially.
    pub work: f64,
    /// How many pieces the work can be shared in.
    pub pieces: f64,
}

/// What is taken for arguments that are known only at execution.
const SYMBOLS: usize = 10;
const SESSIONS: f64 = 20.0;
/// Minutes of a day in which there are bars, with all hours and with regular ones.
const ALL_HOURS: f64 = 900.0;
const REGULAR_HOURS: f64 = 390.0;
/// Reading what is stored of a session, and making a bar of it.
const PER_SESSION: f64 = 10.0;
const PER_BAR: f64 = 0.01;

/// The value of an argument, if it is a constant and not NULL.
pub unsafe fn constant(function: *mut FuncExpr, at: i32) -> Option<Datum> {
    let node = argument(function, at);
    if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_Const {
        return None;
    }
    let constant = node.cast::<pg_sys::Const>();
    (!(*constant).constisnull).then_some((*constant).constvalue)
}

/// The expression of an argument; null if there are not as many.
pub unsafe fn argument(function: *mut FuncExpr, at: i32) -> *mut Node {
    let arguments = (*function).args;
    if arguments.is_null() || at >= (*arguments).length {
        return std::ptr::null_mut();
    }
    (*(*arguments).elements.add(at as usize)).ptr_value.cast()
}

/// How the range's ends are declared, and whether many symbols are asked for; `None` for a function that is no overload.
pub unsafe fn overload(function: *mut FuncExpr) -> Option<(Ends, bool)> {
    let kind = |at| {
        let node = argument(function, at);
        if node.is_null() { pg_sys::InvalidOid } else { pg_sys::exprType(node) }
    };
    let many = match kind(0) {
        pg_sys::TEXTOID => false,
        pg_sys::TEXTARRAYOID => true,
        _ => return None,
    };
    let ends = match kind(2) {
        pg_sys::DATEOID => Ends::Dates,
        pg_sys::TIMESTAMPTZOID => Ends::Instants,
        pg_sys::TEXTOID => Ends::Texts,
        _ => return None,
    };
    Some((ends, many))
}

unsafe fn sessions(function: *mut FuncExpr, ends: Ends) -> Option<f64> {
    let (first, last) = (constant(function, 2)?, constant(function, 3)?);
    let days = match ends {
        Ends::Dates => time::trade_date(last.value() as i32).0.saturating_sub(time::trade_date(first.value() as i32).0),
        Ends::Instants => {
            let (first, last) = (time::nanos_clamped(first.value() as i64), time::nanos_clamped(last.value() as i64));
            (last.saturating_sub(first) / 86_400_000_000_000) as i32
        }
        Ends::Texts => {
            let day = |d: Datum| TradeDate::parse(text(d).get(..10).unwrap_or_default()).ok();
            day(last)?.0.saturating_sub(day(first)?.0)
        }
    };
    Some((f64::from(days.clamp(0, 36_500)) * 5.0 / 7.0).floor() + 1.0)
}

/// What is expected of this call of an overload of `session_ohlc`.
pub unsafe fn estimate(function: *mut FuncExpr) -> Option<Estimate> {
    let (ends, many) = overload(function)?;
    let symbols = match many {
        false => 1,
        true => constant(function, 0).map_or(SYMBOLS, |symbols| text_array_len(symbols)),
    };
    let sessions = sessions(function, ends).unwrap_or(SESSIONS) * symbols as f64;
    let timeframe = constant(function, 1).and_then(|d| Timeframe::parse(&text(d)).ok());
    let regular = constant(function, 4).is_some_and(|d| text(d).eq_ignore_ascii_case("RTH"));
    let minutes = if regular { REGULAR_HOURS } else { ALL_HOURS };
    Some(match timeframe {
        None => Estimate { rows: sessions, work: sessions * PER_SESSION, pieces: symbols as f64 },
        Some(Timeframe::Intraday(width)) => {
            let bars = (minutes * 60e9 / width as f64).ceil();
            // trades are read where minutes do not add up to the bars
            let made_of = if width % 60_000_000_000 == 0 { minutes } else { bars.max(10.0 * minutes) };
            let work = PER_SESSION + PER_BAR * made_of;
            let pieces = (sessions / super::run::sessions_together(width) as f64).ceil().max(symbols as f64);
            Estimate { rows: sessions * bars, work: sessions * work, pieces }
        }
        // session bars are stored, and read for all symbols together
        Some(Timeframe::Days(days)) => {
            Estimate { rows: (sessions / f64::from(days.max(1))).ceil(), work: sessions * PER_BAR, pieces: 1.0 }
        }
        Some(_) => Estimate { rows: (sessions / 5.0).ceil(), work: sessions * PER_BAR, pieces: 1.0 },
    })
}

unsafe fn text_array_len(symbols: Datum) -> usize {
    // a NULL among them is refused at execution
    let array = pg_sys::pg_detoast_datum(symbols.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
    if pg_sys::array_contains_nulls(array) { SYMBOLS } else { text_array(symbols).len().max(1) }
}

/// `session_ohlc_support(internal) -> internal`: tells the planner how many bars to expect
///
/// # Safety
/// Called by PostgreSQL's planner.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_ohlc_support(fc: FunctionCallInfo) -> Datum {
    let request = crate::fmgr::arg(fc, 0).cast_mut_ptr::<Node>();
    let none = Datum::from(0usize);
    if (*request).type_ != pg_sys::NodeTag::T_SupportRequestRows {
        return none;
    }
    let rows = request.cast::<pg_sys::SupportRequestRows>();
    let node = (*rows).node;
    if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_FuncExpr {
        return none;
    }
    match estimate(node.cast()) {
        Some(estimate) => {
            (*rows).rows = estimate.rows.max(1.0);
            Datum::from(request)
        }
        None => none,
    }
}
