//! What is asked? A closed set: every question is one of these, or refused.

use crate::error::{Refusal, RefusalKind};
use crate::instruments::{Directory, Ticker};
use crate::lexicon::{self, Stat, Word};
use crate::when::{self, When};
use market::{Segments, Timeframe};

/// A question, understood. Dates stay symbolic: a calendar and a clock resolve them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// A measure of the selected segments over one or more sessions.
    Stat {
        /// Of what.
        symbol: Ticker,
        /// Which measure.
        stat: Stat,
        /// `None` is the calendar's main selection.
        segments: Option<Segments>,
        /// Of which sessions.
        when: When,
    },
    /// A candlestick chart.
    Chart {
        /// Of what.
        symbol: Ticker,
        /// `None` picks one that fits.
        timeframe: Option<Timeframe>,
        /// `None` is the calendar's main selection.
        segments: Option<Segments>,
        /// Of which sessions.
        when: When,
    },
    /// Opening hours.
    Hours {
        /// Whose.
        whom: Whom,
        /// Which of them.
        asked: Hours,
        /// `None` is the calendar's main selection.
        segments: Option<Segments>,
        /// `None` is now.
        when: Option<When>,
    },
    /// What can be asked.
    Help,
}

/// Whose hours are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Those of an instrument's calendar.
    Symbol(Ticker),
    /// A calendar's, by id.
    Calendar(&'static str),
}

/// What is asked about hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    /// Is it open?
    IsOpen,
    /// When does it open?
    Opens,
    /// When does it close?
    Closes,
    /// The spans of the session.
    Schedule,
}

/// Understands a question.
///
/// # Errors
/// A refusal that says which word, or what is missing or said twice.
pub fn understand(question: &str, directory: &Directory) -> Result<Intent, Refusal> {
    let words = lexicon::read(question, directory)?;
    let (when, words) = when::extract(&words)?;
    let mut slots = Slots::default();
    for word in &words {
        slots.put(word)?;
    }
    slots.intent(when)
}

/// What a question says, each at most once.
#[derive(Default)]
struct Slots {
    symbol: Option<Ticker>,
    place: Option<&'static str>,
    stat: Option<Stat>,
    second_stat: Option<Stat>,
    segments: Option<Segments>,
    timeframe: Option<Timeframe>,
    asks_what: bool,
    asks_chart: bool,
    asks_is: bool,
    asks_when: bool,
    asks_time: bool,
    asks_hours: bool,
    asks_state: bool,
    asks_next: bool,
    asks_help: bool,
}

impl Slots {
    fn put(&mut self, word: &Word) -> Result<(), Refusal> {
        match word {
            Word::What => self.asks_what = true,
            Word::Chart => self.asks_chart = true,
            Word::Is => self.asks_is = true,
            Word::When => self.asks_when = true,
            Word::Time => self.asks_time = true,
            Word::Hours => self.asks_hours = true,
            Word::State => self.asks_state = true,
            Word::Next => self.asks_next = true,
            Word::Help => self.asks_help = true,
            Word::Symbol(ticker) => once(&mut self.symbol, ticker.clone(), "one symbol at a time")?,
            Word::Place(calendar) => once(&mut self.place, *calendar, "one exchange at a time")?,
            Word::Segments(segments) => {
                self.segments = Some(self.segments.map_or(*segments, |before| before.union(*segments)));
            }
            Word::Timeframe(timeframe) => once(&mut self.timeframe, *timeframe, "one timeframe, such as 5m")?,
            Word::Stat(stat) => match (self.stat, *stat) {
                (None, stat) => self.stat = Some(stat),
                (Some(before), stat) if before == stat => {}
                // "high and low", "open high low close": several measures are the bar.
                (Some(before), stat) => (self.stat, self.second_stat) = (Some(stat), Some(before)),
            },
            Word::Session => {}
            Word::To => {}
            Word::This => {}
            _ => return Err(unclear("I know those words, but not in this order.")),
        }
        Ok(())
    }

    fn intent(self, when: Option<When>) -> Result<Intent, Refusal> {
        let nothing_else = self.symbol.is_none() && self.place.is_none();
        if self.asks_help && nothing_else {
            return Ok(Intent::Help);
        }
        let opens = self.stat == Some(Stat::Open);
        let closes = self.stat == Some(Stat::Close);
        let asks_instant = self.asks_when || self.asks_time || self.asks_next;
        // "is NY open?", "was ES closed on ...": a state. "what is ES's open?" and "ES open yesterday" ask for a price.
        let about_state = self.asks_state || (self.asks_is && !self.asks_what && opens && self.second_stat.is_none());
        let hours = if self.asks_hours && self.stat.is_none() {
            Some(Hours::Schedule)
        } else if asks_instant && (opens || closes) {
            Some(if opens { Hours::Opens } else { Hours::Closes })
        } else if about_state && !self.asks_chart {
            Some(Hours::IsOpen)
        } else if self.symbol.is_none() && self.place.is_some() {
            Some(if opens || self.stat.is_none() { Hours::IsOpen } else { Hours::Schedule })
        } else {
            None
        };
        if let Some(asked) = hours {
            return self.hours(asked, when);
        }
        let Some(symbol) = self.symbol else {
            let hint = "Name a symbol, as in: what was ES's RTH high yesterday?";
            return Err(Refusal::new(RefusalKind::Unclear, "I do not see which symbol you mean.", hint));
        };
        if self.place.is_some() {
            return Err(unclear("I see both a symbol and an exchange; ask for one of them."));
        }
        if asks_instant {
            return Err(unclear("I can say when a market opens or closes, not when a price was reached."));
        }
        let segments = self.segments;
        match (self.asks_chart || self.timeframe.is_some(), self.stat) {
            (true, None) => {
                let when = when.unwrap_or(When::LastSessions(default_sessions(self.timeframe)));
                Ok(Intent::Chart { symbol, timeframe: self.timeframe, segments, when })
            }
            (true, Some(Stat::Bar | Stat::Open | Stat::High | Stat::Low | Stat::Close)) if self.asks_chart => {
                let when = when.unwrap_or(When::LastSessions(default_sessions(self.timeframe)));
                Ok(Intent::Chart { symbol, timeframe: self.timeframe, segments, when })
            }
            (true, Some(_)) => Err(unclear("I see both a measure and a timeframe or chart; ask for one of them.")),
            (false, stat) => {
                let stat = if self.second_stat.is_some() { Stat::Bar } else { stat.unwrap_or(Stat::Bar) };
                Ok(Intent::Stat { symbol, stat, segments, when: when.unwrap_or(When::Latest) })
            }
        }
    }

    fn hours(self, asked: Hours, when: Option<When>) -> Result<Intent, Refusal> {
        let whom = match (self.symbol, self.place) {
            (Some(symbol), None) => Whom::Symbol(symbol),
            (None, Some(calendar)) => Whom::Calendar(calendar),
            (Some(_), Some(_)) => return Err(unclear("I see both a symbol and an exchange; ask for one of them.")),
            (None, None) => {
                let hint = "Name a symbol or an exchange, as in: is NY open? when does ES open?";
                return Err(Refusal::new(RefusalKind::Unclear, "I do not see whose hours you mean.", hint));
            }
        };
        Ok(Intent::Hours { whom, asked, segments: self.segments, when })
    }
}

/// How many sessions a chart shows when the question does not say.
fn default_sessions(timeframe: Option<Timeframe>) -> u32 {
    match timeframe {
        Some(Timeframe::Intraday(width)) if width < 5 * market::time::MINUTE => 1,
        Some(Timeframe::Intraday(width)) if width < market::time::HOUR => 3,
        Some(Timeframe::Intraday(_)) => 10,
        Some(Timeframe::Days(_)) => 60,
        Some(_) => 260,
        None => 1,
    }
}

fn once<T: PartialEq>(slot: &mut Option<T>, value: T, allowed: &str) -> Result<(), Refusal> {
    match slot {
        Some(before) if *before != value => Err(unclear(&format!("I can answer for {allowed}."))),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

pub(crate) fn unclear(message: &str) -> Refusal {
    Refusal::new(
        RefusalKind::Unclear,
        message,
        "Ask like this: what was ES's RTH high yesterday? chart ES 15m last 3 sessions. when does ES open?",
    )
}
