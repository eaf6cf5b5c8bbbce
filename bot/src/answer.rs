//! The answer to an understood question: words, numbers and a chart, without a thought for where they will be shown.

use crate::chart::{Chart, Frame};
use crate::error::{Failure, Refusal, RefusalKind, Unanswered};
use crate::hours;
use crate::instruments::{Instrument, Ticker};
use crate::intent::{self, Intent};
use crate::lexicon::{Stat, unknown_symbol};
use crate::numbers::{Asked, Bar, Numbers, Prices, Snapshot};
use crate::when::{Clock, Period, When};
use crate::wording;
use market::{Calendar, Nanos, Segments, Timeframe};
use serenity::async_trait;

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// What is answered: `ES RTH high, Mon 24 Nov 2025`.
    pub title: String,
    /// The answer itself: `6,012.25 points`.
    pub headline: String,
    /// What it rests on: contract, hours, state.
    pub notes: Vec<String>,
    /// Rows of numbers, the head first.
    pub table: Vec<Vec<String>>,
    /// A picture.
    pub chart: Option<Chart>,
}

/// Answers questions: what the transports know of this crate.
#[async_trait]
pub trait Answerer: Send + Sync {
    /// Answers a question asked at an instant.
    async fn answer(&self, question: &str, now: Nanos) -> Result<Answer, Unanswered>;
}

/// Answers from a source of numbers.
pub struct Desk<N> {
    numbers: N,
}

impl<N: Numbers> Desk<N> {
    /// A desk with these numbers.
    pub fn new(numbers: N) -> Desk<N> {
        Desk { numbers }
    }
}

#[async_trait]
impl<N: Numbers> Answerer for Desk<N> {
    async fn answer(&self, question: &str, now: Nanos) -> Result<Answer, Unanswered> {
        let mut snapshot = self.numbers.snapshot().await?;
        let answered = answer(question, now, snapshot.as_mut()).await;
        // After a failure the transaction is of no further use, and dropping it closes the connection.
        if !matches!(answered, Err(Unanswered::Failed(_))) {
            snapshot.finish().await;
        }
        answered
    }
}

async fn answer(question: &str, now: Nanos, snapshot: &mut dyn Snapshot) -> Result<Answer, Unanswered> {
    let directory = snapshot.directory().await?;
    match intent::understand(question, &directory)? {
        Intent::Help => Ok(help(directory.some_names(12))),
        Intent::Hours { whom, asked, segments, when } => {
            let (name, calendar) = match whom {
                intent::Whom::Calendar(id) => (id.to_string(), calendar(id)?),
                intent::Whom::Symbol(ticker) => {
                    let name = ticker.name();
                    let instrument = directory.any(&ticker).ok_or_else(|| unknown_symbol(&name, &directory))?;
                    (name, calendar(&instrument.calendar)?)
                }
            };
            hours::answer(&name, &calendar, asked, segments, when, now)
        }
        Intent::Stat { symbol, stat, segments, when } => {
            let asked = Question::new(&directory, &symbol, segments, when, now)?;
            asked.stat(stat, snapshot).await
        }
        Intent::Chart { symbol, timeframe, segments, when } => {
            let asked = Question::new(&directory, &symbol, segments, when, now)?;
            asked.chart(timeframe, snapshot).await
        }
    }
}

fn calendar(id: &str) -> Result<Calendar, Failure> {
    Calendar::builtin(id).map_err(Failure::new)
}

/// What both kinds of questions about numbers share.
struct Question<'d> {
    ticker: Ticker,
    candidates: Vec<&'d Instrument>,
    calendar: Calendar,
    segments: Segments,
    period: Period,
    now: Nanos,
}

/// The contract that is meant, and its session bars.
struct Found<'d> {
    instrument: &'d Instrument,
    days: Vec<Bar>,
}

impl<'d> Question<'d> {
    fn new(
        directory: &'d crate::instruments::Directory,
        ticker: &Ticker,
        segments: Option<Segments>,
        when: When,
        now: Nanos,
    ) -> Result<Question<'d>, Unanswered> {
        let unknown = || unknown_symbol(&ticker.name(), directory);
        let calendar = calendar(&directory.any(ticker).ok_or_else(unknown)?.calendar)?;
        if when == When::Tomorrow {
            let hint = "Ask when it opens instead.";
            return Err(Refusal::new(RefusalKind::NoSession, "I cannot see into the future.", hint).into());
        }
        let clock = Clock::new(&calendar, now)?;
        let period = clock.resolve(when)?;
        if period.first > clock.today.unwrap_or(clock.latest).max(clock.latest) {
            let message = format!("The session of {} has not begun.", wording::date(period.first));
            return Err(Refusal::new(RefusalKind::NoSession, message, "I cannot see into the future.").into());
        }
        let candidates = directory.candidates(ticker, period.last);
        if candidates.is_empty() {
            return Err(unknown().into());
        }
        let segments = segments.unwrap_or_else(|| calendar.main());
        check_segments(&calendar, segments, &period)?;
        Ok(Question { ticker: ticker.clone(), candidates, calendar, segments, period, now })
    }

    fn asked(&self, instrument: &Instrument, timeframe: Timeframe, segments: Segments) -> Asked {
        let (first, last) = (self.period.first, self.period.last);
        Asked { symbol: instrument.symbol.clone(), timeframe, first, last, segments }
    }

    /// Session bars of the candidate with the most volume.
    async fn find(&self, snapshot: &mut dyn Snapshot) -> Result<Found<'d>, Unanswered> {
        let mut best: Option<(f64, Found<'d>)> = None;
        for instrument in &self.candidates {
            let days = snapshot.bars(&self.asked(instrument, Timeframe::Days(1), self.segments)).await?;
            let volume: f64 = days.iter().map(|bar| bar.volume).sum();
            if !days.is_empty() && best.as_ref().is_none_or(|(most, _)| volume > *most) {
                best = Some((volume, Found { instrument, days }));
            }
        }
        best.map(|(_, found)| found).ok_or_else(|| self.no_trades())
    }

    fn no_trades(&self) -> Unanswered {
        let names: Vec<&str> = self.candidates.iter().map(|i| i.symbol.as_str()).collect();
        let message = format!(
            "There are no {} trades of {} on {}.",
            self.segments,
            names.join(", "),
            wording::dates(self.period.first, self.period.last)
        );
        let last = self.candidates.iter().filter_map(|i| Some((i.last_session?, &i.symbol))).max();
        let hint = match last {
            Some((date, symbol)) => format!("The last stored session of {symbol} is {date}."),
            None => "Nothing of it is sealed yet.".to_string(),
        };
        Refusal::new(RefusalKind::NoTrades, message, hint).into()
    }

    async fn stat(&self, stat: Stat, snapshot: &mut dyn Snapshot) -> Result<Answer, Unanswered> {
        let found = self.find(snapshot).await?;
        let shown = self.calendar.main().union(self.segments);
        let timeframe = crate::chart::fitting(&self.calendar, &self.period, shown);
        let bars = snapshot.bars(&self.asked(found.instrument, timeframe, shown)).await?;
        let frame = Frame { calendar: &self.calendar, period: &self.period, timeframe, shown, focus: self.segments };
        let chart = Chart::new(found.instrument, &self.ticker, &frame, &found.days, &bars);
        let decimals = wording::decimals(found.instrument, &found.days);
        let total = Total::of(&found.days);
        let dates = wording::dates(self.period.first, self.period.last);
        let name = match stat {
            Stat::Bar => "bar",
            Stat::Open => "open",
            Stat::High => "high",
            Stat::Low => "low",
            Stat::Close => "close",
            Stat::Range => "range",
            Stat::Volume => "volume",
            Stat::Vwap => "VWAP",
            Stat::Trades => "trades",
        };
        let price = |value: Option<f64>| match value {
            Some(value) => format!("{} {}", wording::number(value, decimals), wording::unit(found.instrument)),
            None => "no price: no trade was eligible to set one".to_string(),
        };
        let prices = total.prices;
        let headline = match stat {
            Stat::Open => price(prices.map(|p| p.open)),
            Stat::High => price(prices.map(|p| p.high)),
            Stat::Low => price(prices.map(|p| p.low)),
            Stat::Close => price(prices.map(|p| p.close)),
            Stat::Range => price(prices.map(|p| p.high - p.low)),
            Stat::Volume => format!("{} {}", wording::volume(total.volume), wording::size_unit(found.instrument)),
            Stat::Vwap => match total.vwap {
                // An average has more digits than a tick.
                Some(vwap) => {
                    format!("{} {}", wording::number(vwap, decimals.max(2)), wording::unit(found.instrument))
                }
                None => "no VWAP: no volume".to_string(),
            },
            Stat::Trades => format!("{} trades", wording::number(total.trades as f64, 0)),
            Stat::Bar => match prices {
                Some(p) => {
                    let n = |value| wording::number(value, decimals);
                    format!("O {}  H {}  L {}  C {}", n(p.open), n(p.high), n(p.low), n(p.close))
                }
                None => price(None),
            },
        };
        let mut notes = self.notes(&found);
        notes.extend(self.reached(stat, &found, &bars, timeframe));
        Ok(Answer {
            title: format!("{} {} {name}, {dates}", self.ticker.name(), self.segments),
            headline: headline.trim_end().to_string(),
            notes,
            table: table(&found.days, decimals),
            chart: Some(chart),
        })
    }

    async fn chart(&self, timeframe: Option<Timeframe>, snapshot: &mut dyn Snapshot) -> Result<Answer, Unanswered> {
        let timeframe = timeframe.unwrap_or_else(|| crate::chart::fitting(&self.calendar, &self.period, self.segments));
        crate::chart::check_size(&self.calendar, &self.period, timeframe, self.segments)?;
        let found = self.find(snapshot).await?;
        let bars = snapshot.bars(&self.asked(found.instrument, timeframe, self.segments)).await?;
        let frame = Frame {
            calendar: &self.calendar,
            period: &self.period,
            timeframe,
            shown: self.segments,
            focus: self.segments,
        };
        let chart = Chart::new(found.instrument, &self.ticker, &frame, &found.days, &bars);
        let decimals = wording::decimals(found.instrument, &found.days);
        let dates = wording::dates(self.period.first, self.period.last);
        let headline = match Total::of(&found.days).prices {
            Some(p) => {
                let n = |value| wording::number(value, decimals);
                format!("O {}  H {}  L {}  C {}", n(p.open), n(p.high), n(p.low), n(p.close))
            }
            None => "no prices".to_string(),
        };
        Ok(Answer {
            title: format!("{} {timeframe} {}, {dates}", self.ticker.name(), self.segments),
            headline,
            notes: self.notes(&found),
            table: table(&found.days, decimals),
            chart: Some(chart),
        })
    }

    /// Contract, hours, state.
    fn notes(&self, found: &Found<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        let symbol = &found.instrument.symbol;
        match &self.ticker {
            Ticker::Root(root) if self.candidates.len() > 1 => {
                notes.push(format!("{root} is {symbol} here, the contract with the most volume then."));
            }
            ticker if ticker.name() != *symbol => notes.push(format!("{} is {symbol}.", ticker.name())),
            _ => {}
        }
        let tz = crate::when::zone(&self.calendar);
        if self.period.sessions == 1 {
            if let Ok(Some(session)) = self.calendar.session(self.period.first)
                && let Some(hours) = wording::hours(&session, self.segments, tz)
            {
                let note = if session.note.is_empty() { String::new() } else { format!(" ({})", session.note) };
                notes.push(format!("{} {hours}, {}{note}.", self.segments, tz.name()));
            }
        } else {
            notes.push(format!(
                "{} sessions, {} with trades; {} hours of {} in {}.",
                self.period.sessions,
                found.days.len(),
                self.segments,
                self.calendar.id(),
                tz.name()
            ));
        }
        notes.push(state(&found.days, self.now));
        notes
    }

    /// When a high or low was reached, as near as the chart's bars tell.
    fn reached(&self, stat: Stat, found: &Found<'_>, bars: &[Bar], timeframe: Timeframe) -> Option<String> {
        let total = Total::of(&found.days).prices?;
        let (value, of): (f64, fn(&Prices) -> f64) = match stat {
            Stat::High => (total.high, |p| p.high),
            Stat::Low => (total.low, |p| p.low),
            _ => return None,
        };
        let tz = crate::when::zone(&self.calendar);
        if !timeframe.is_intraday() {
            let day = found.days.iter().find(|bar| bar.prices.is_some_and(|p| of(&p) == value))?;
            return (found.days.len() > 1).then(|| format!("Reached on {}.", wording::date(day.trade_date)));
        }
        let inside = |bar: &&Bar| {
            let session = self.calendar.session(bar.trade_date).ok().flatten();
            session.is_some_and(|s| self.segments.contains(s.segment_at(bar.open_at)))
        };
        let bar = bars.iter().filter(inside).find(|bar| bar.prices.is_some_and(|p| of(&p) == value))?;
        let day =
            if self.period.sessions > 1 { format!(" on {}", wording::date(bar.trade_date)) } else { String::new() };
        Some(format!(
            "First reached between {} and {} {}{day}.",
            wording::time(bar.open_at, tz),
            wording::time(bar.close_at, tz),
            wording::zone_name(bar.open_at, tz)
        ))
    }
}

/// Refuses segments that the calendar does not have.
fn check_segments(calendar: &Calendar, segments: Segments, period: &Period) -> Result<(), Unanswered> {
    let session = calendar.session(period.last)?;
    if session.is_none_or(|session| session.open(segments).is_some()) {
        return Ok(());
    }
    let has: Vec<&str> = session.iter().flat_map(|session| session.spans).map(|span| span.segment.name()).fold(
        Vec::new(),
        |mut names, name| {
            if !names.contains(&name) {
                names.push(name);
            }
            names
        },
    );
    let message = format!("{} has no {segments} on {}.", calendar.id(), wording::date(period.last));
    Err(Refusal::new(RefusalKind::NoSession, message, format!("It has {}.", has.join(", "))).into())
}

/// Several session bars as one.
pub(crate) struct Total {
    pub prices: Option<Prices>,
    pub volume: f64,
    pub trades: i64,
    pub vwap: Option<f64>,
}

impl Total {
    pub fn of(days: &[Bar]) -> Total {
        let mut prices: Option<Prices> = None;
        let (mut volume, mut trades, mut weighted) = (0.0, 0, 0.0);
        for day in days {
            volume += day.volume;
            trades += day.trades;
            weighted += day.vwap.unwrap_or(0.0) * day.volume;
            prices = match (prices, day.prices) {
                (Some(before), Some(p)) => Some(Prices {
                    open: before.open,
                    high: before.high.max(p.high),
                    low: before.low.min(p.low),
                    close: p.close,
                }),
                (before, p) => before.or(p),
            };
        }
        // One session's VWAP is the database's own; several are weighted by their volumes.
        let vwap = match days {
            [day] => day.vwap,
            _ => (volume > 0.0).then(|| weighted / volume),
        };
        Total { prices, volume, trades, vwap }
    }
}

/// The least certain state of the sessions.
pub(crate) fn state_of(days: &[Bar]) -> &str {
    let order = |state: &str| match state {
        "final" => 0,
        state if state.starts_with("revised") => 1,
        _ => 2,
    };
    days.iter().map(|day| day.state.as_str()).max_by_key(|state| order(state)).unwrap_or("provisional")
}

fn state(days: &[Bar], now: Nanos) -> String {
    let open = days.last().is_some_and(|day| day.close_at > now);
    match state_of(days) {
        "final" => "Final.".to_string(),
        "provisional" if open => "Provisional: the session is still open.".to_string(),
        "provisional" => "Provisional: not sealed yet.".to_string(),
        other => format!("{}: a late or corrected trade changed it after it was final.", capital(other)),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// The latest sessions, at most ten.
fn table(days: &[Bar], decimals: usize) -> Vec<Vec<String>> {
    let head = ["session", "open", "high", "low", "close", "range", "volume", "vwap", "state"];
    let mut rows = vec![head.map(str::to_string).to_vec()];
    for day in &days[days.len().saturating_sub(10)..] {
        let price = |value: Option<f64>| value.map_or("\u{2013}".to_string(), |value| wording::number(value, decimals));
        rows.push(vec![
            day.trade_date.to_string(),
            price(day.prices.map(|p| p.open)),
            price(day.prices.map(|p| p.high)),
            price(day.prices.map(|p| p.low)),
            price(day.prices.map(|p| p.close)),
            price(day.prices.map(|p| p.high - p.low)),
            wording::volume(day.volume),
            day.vwap.map_or("\u{2013}".to_string(), |vwap| wording::number(vwap, decimals.max(2))),
            day.state.clone(),
        ]);
    }
    rows
}

fn help(symbols: String) -> Answer {
    let symbols = if symbols.is_empty() { "none yet".to_string() } else { symbols };
    Answer {
        title: "What you can ask".to_string(),
        headline: "Prices of a session, charts, and opening hours.".to_string(),
        notes: [
            "what was ES's RTH high yesterday?",
            "ES overnight range on friday",
            "SPY vwap on 2024-03-15",
            "GC volume last 5 sessions",
            "chart ES 15m last 3 sessions",
            "daily chart of SPY last 60 sessions",
            "is NY open?",
            "when does ES open?",
            "trading hours of tokyo tomorrow",
        ]
        .into_iter()
        .map(|example| format!("\u{2022} {example}"))
        .chain([format!("Symbols: {symbols}.")])
        .collect(),
        ..Answer::default()
    }
}
