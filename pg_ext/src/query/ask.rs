//! The arguments of `session_ohlc`: what is asked for, in which range.

use super::known::View;
use crate::error::OrRaise;
use crate::fmgr::{arg, arg_option, arg_text, text};
use crate::{instrument, time};
use market::ohlc::{Fill, OhlcRequest};
use market::{Calendar, Clock, Day, Nanos, Segments, Timeframe, TradeDate, When};
use pgrx::pg_sys::{self, FunctionCallInfo};

/// What is asked for of every symbol; segments default to the calendar's main ones.
pub struct Ask {
    timeframe: Timeframe,
    segments: Option<Segments>,
    fill: Fill,
    day: Day,
    when: When,
    /// As they were known when, by which clock.
    pub view: View,
}

/// How the range's ends are declared in SQL.
#[derive(Clone, Copy, PartialEq)]
pub enum Ends {
    /// `date`.
    Dates,
    /// `timestamptz`.
    Instants,
    /// Literals: two dates such as 2025-11-28 are trade dates, anything else are instants.
    Texts,
}

impl Ends {
    /// The range whose ends are the arguments `at` and `at + 1`, neither of them NULL.
    ///
    /// # Safety
    /// `fc` is the call of a function whose arguments there are declared so.
    pub unsafe fn when(self, fc: FunctionCallInfo, at: usize) -> When {
        let (a, z) = (arg(fc, at).value(), arg(fc, at + 1).value());
        let when = match self {
            Ends::Dates => When::Dates(time::trade_date(a as i32), time::trade_date(z as i32)),
            Ends::Instants => When::Instants(time::nanos_clamped(a as i64), time::nanos_clamped(z as i64)),
            Ends::Texts => {
                let (a, z) = (arg_text(fc, at), arg_text(fc, at + 1));
                match (TradeDate::parse(&a), TradeDate::parse(&z)) {
                    (Ok(first), Ok(last)) => When::Dates(first, last),
                    _ => When::Instants(instant_of(&a), instant_of(&z)),
                }
            }
        };
        when.check().or_raise()
    }
}

/// The argument `known_at`: the last instant of its microsecond; `None` for now.
///
/// # Safety
/// `fc` is the call of a function whose argument there is a `timestamptz`.
pub unsafe fn known_at(fc: FunctionCallInfo, at: usize) -> Option<Nanos> {
    arg_option(fc, at).map(|d| time::end_of_micro(d.value() as i64))
}

/// A literal as an instant, as PostgreSQL reads it.
fn instant_of(literal: &str) -> Nanos {
    let Ok(literal) = std::ffi::CString::new(literal) else {
        crate::store::invalid("a date has a zero byte in it", "use dates such as 2025-11-28 or instants")
    };
    // SAFETY: timestamptz_in takes a C string, an oid and a modifier, and returns by value.
    let micros = unsafe {
        pg_sys::OidInputFunctionCall(
            pg_sys::F_TIMESTAMPTZ_IN.into(),
            literal.as_ptr().cast_mut(),
            pg_sys::InvalidOid,
            -1,
        )
    };
    time::nanos_clamped(micros.value() as i64)
}

impl Ask {
    /// Reads (symbol, timeframe, first, last, segments, fill, known_at, clock, day).
    ///
    /// # Safety
    /// `fc` is the call of an overload of `session_ohlc` with these ends.
    pub unsafe fn read(fc: FunctionCallInfo, ends: Ends) -> Ask {
        for (i, name) in [(0, "symbol"), (1, "timeframe"), (2, "first"), (3, "last")] {
            if arg_option(fc, i).is_none() {
                crate::store::invalid(
                    &format!("session_ohlc: {name} is NULL"),
                    "name a symbol, a timeframe such as 5m, and a first and a last date",
                )
            }
        }
        let optional = |i| arg_option(fc, i).map(|d| text(d));
        let view = View {
            known: known_at(fc, 6),
            clock: optional(7).map_or(Clock::Event, |clock| Clock::parse(&clock).or_raise()),
        };
        Ask {
            timeframe: Timeframe::parse(&arg_text(fc, 1)).or_raise(),
            segments: optional(4).map(|s| Segments::parse(&s).or_raise()),
            fill: optional(5).map_or(Fill::None, |f| Fill::parse(&f).or_raise()),
            day: optional(8).map_or(Day::Trade, |day| Day::parse(&day).or_raise()),
            when: ends.when(fc, 2),
            view,
        }
    }

    /// Whether bars of whole sessions, or of several, are asked for.
    pub fn of_sessions(&self) -> bool {
        !self.timeframe.is_intraday()
    }

    /// A date near which a symbol such as `ESZ5` is meant.
    pub fn near(&self) -> TradeDate {
        self.when.near(instrument::today)
    }

    /// The request of one calendar and its trade dates; `None` if no session can have a bar in the range.
    pub fn on(&self, calendar: &Calendar) -> Option<(OhlcRequest, TradeDate, TradeDate)> {
        self.when.request(calendar, self.timeframe, self.segments, self.fill, self.day).or_raise()
    }
}
