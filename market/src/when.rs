//! The range of an answer: trade dates, or instants.

use crate::bucket::Day;
use crate::calendar::Calendar;
use crate::error::{Error, Result};
use crate::ohlc::{Fill, OhlcRequest};
use crate::session::Segments;
use crate::time::{DAY, Nanos, TradeDate};
use crate::timeframe::Timeframe;

/// The range of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Trade dates, both included.
    Dates(TradeDate, TradeDate),
    /// Instants, half-open; the least and the greatest stand for the ends of what the calendar knows.
    Instants(Nanos, Nanos),
}

impl When {
    /// # Errors
    /// `Invalid` if the range ends before it begins.
    pub fn check(self) -> Result<When> {
        let backwards = match self {
            When::Dates(first, last) => first > last,
            When::Instants(first, last) => first > last,
        };
        if !backwards {
            return Ok(self);
        }
        let input = match self {
            When::Dates(first, last) => format!("{first} to {last}"),
            When::Instants(first, last) => {
                format!("{} to {}", crate::time::format_instant(first), crate::time::format_instant(last))
            }
        };
        let allowed = "the earlier end first; dates are both included, instants half-open";
        Err(Error::invalid("range", input, allowed))
    }

    /// A date near which a symbol such as `ESZ5` is meant; `today` where the range says nothing.
    pub fn near(self, today: impl FnOnce() -> TradeDate) -> TradeDate {
        let day = |ts: Nanos| TradeDate(ts.div_euclid(DAY) as i32);
        match self {
            When::Dates(_, last) => last,
            When::Instants(Nanos::MIN, Nanos::MAX) => today(),
            When::Instants(first, Nanos::MAX) => day(first),
            When::Instants(_, last) => day(last),
        }
    }

    /// The request for this range of one calendar, and the trade dates to fold for it; `None` if no session can have a bar
    /// in it. Segments default to the calendar's main ones.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    pub fn request(
        self,
        calendar: &Calendar,
        timeframe: Timeframe,
        segments: Option<Segments>,
        fill: Fill,
        day: Day,
    ) -> Result<Option<(OhlcRequest, TradeDate, TradeDate)>> {
        let (first, last, range) = match self {
            When::Dates(first, last) => (first, last, OhlcRequest::EVER),
            When::Instants(first, last) => {
                // A finite instant beyond what the calendar knows is an error, an infinite one is not.
                let (begin, end) = calendar.window();
                let a = if first == Nanos::MIN { begin } else { first };
                let z = if last == Nanos::MAX { end } else { last };
                if a >= z {
                    return Ok(None);
                }
                (calendar.trade_date(a)?, calendar.trade_date(z - 1)?, first..last)
            }
        };
        let request = OhlcRequest { timeframe, segments: segments.unwrap_or(calendar.main()), fill, day, range };
        let (first, last) = request.dates(calendar, first, last)?;
        Ok(Some((request, first, last)))
    }
}
