//! Candlestick charts: what is drawn, from bars to slots. `svg` draws it, `png` makes pixels of that.

mod font;
mod label;
mod png;
mod scale;
mod svg;

pub use png::png;
pub use svg::svg;

use crate::error::Unanswered;
use crate::instruments::{Instrument, Ticker};
use crate::intent::unclear;
use crate::numbers::{Bar, Prices};
use crate::when::{self, Period};
use crate::wording;
use chrono_tz::Tz;
use market::time::{HOUR, MINUTE};
use market::{Bucket, Calendar, Nanos, Segment, Segments, Timeframe, TradeDate, buckets};

/// Slots a chart may have; beyond that a candle is thinner than a pixel.
pub const MOST_SLOTS: usize = 1_100;

/// A candlestick chart. The time axis has a slot per bar of the trading hours and none for dead hours, so a bar without
/// trades leaves its slot empty and a night leaves none.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// `ES`.
    pub title: String,
    /// `15m`.
    pub timeframe: String,
    /// `E-mini S&P 500, ESZ25, Mon 24 Nov 2025, ETH`.
    pub subtitle: String,
    /// The exchange's time zone.
    pub zone: Tz,
    /// Whether the slots are shorter than a session.
    pub intraday: bool,
    /// Decimals of prices.
    pub decimals: usize,
    /// The open of each slot.
    pub slots: Vec<Slot>,
    /// At most one a slot, in order.
    pub candles: Vec<Candle>,
    /// The regular hours within longer sessions: slots `from..till`.
    pub regular: Vec<(usize, usize)>,
    /// Prices to point at.
    pub marks: Vec<Mark>,
    /// The whole period's prices.
    pub total: Option<Prices>,
    /// The whole period's volume.
    pub volume: f64,
    /// Name of the selection that `total` covers.
    pub focus: String,
    /// `final`, `provisional`, `revised(1)`.
    pub state: String,
}

/// A place on the time axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// Whose session.
    pub trade_date: TradeDate,
    /// When its bar opens.
    pub open_at: Nanos,
}

/// A bar in its slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candle {
    /// Index into the chart's slots.
    pub slot: usize,
    /// `None`: only volume.
    pub prices: Option<Prices>,
    /// Sum of sizes.
    pub volume: f64,
}

/// A price worth a label, at a candle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// Which price.
    pub kind: MarkKind,
    /// Index into the chart's slots.
    pub slot: usize,
    /// The price.
    pub price: f64,
}

/// The four marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// The first price.
    Open,
    /// The highest.
    High,
    /// The lowest.
    Low,
    /// The last.
    Close,
}

/// What a chart is of.
pub struct Frame<'a> {
    /// Whose sessions.
    pub calendar: &'a Calendar,
    /// Which sessions.
    pub period: &'a Period,
    /// Of which width.
    pub timeframe: Timeframe,
    /// Segments with candles.
    pub shown: Segments,
    /// Segments asked for: their prices are marked.
    pub focus: Segments,
}

impl Chart {
    /// A chart of bars (of `frame.shown`) and of the session bars of `frame.focus`.
    pub fn new(instrument: &Instrument, ticker: &Ticker, frame: &Frame<'_>, days: &[Bar], bars: &[Bar]) -> Chart {
        let intraday = frame.timeframe.is_intraday();
        let mut slots = if intraday { grid(frame) } else { Vec::new() };
        let on_grid = |bar: &Bar| slots.binary_search_by_key(&bar.open_at, |slot: &Slot| slot.open_at).ok();
        let mut placed: Vec<Option<usize>> = bars.iter().map(on_grid).collect();
        if slots.is_empty() || placed.contains(&None) {
            // Not our grid (or too fine for one): the bars themselves are the slots.
            slots = bars.iter().map(|bar| Slot { trade_date: bar.trade_date, open_at: bar.open_at }).collect();
            placed = (0..bars.len()).map(Some).collect();
        }
        // A running session is drawn as far as it has come, a listing from its first trade on.
        let first = placed.first().copied().flatten().unwrap_or(0);
        let last = placed.last().copied().flatten().map_or(0, |last| last + 1);
        slots.truncate(last.max(first));
        slots.drain(..first.min(slots.len()));
        let candles: Vec<Candle> = bars
            .iter()
            .zip(placed)
            .filter_map(|(bar, slot)| Some(Candle { slot: slot? - first, prices: bar.prices, volume: bar.volume }))
            .collect();
        let total = crate::answer::Total::of(days);
        let name = instrument.root.as_deref().and_then(market::product).map(|product| product.name.clone());
        let subtitle = [
            name,
            Some(instrument.symbol.clone()).filter(|symbol| *symbol != ticker.name()),
            Some(wording::dates(frame.period.first, frame.period.last)),
            Some(frame.shown.to_string()),
        ];
        let mut chart = Chart {
            title: ticker.name(),
            timeframe: frame.timeframe.to_string(),
            subtitle: subtitle.into_iter().flatten().collect::<Vec<_>>().join(" \u{b7} "),
            zone: when::zone(frame.calendar),
            intraday,
            decimals: wording::decimals(instrument, days),
            regular: Vec::new(),
            marks: Vec::new(),
            slots,
            candles,
            total: total.prices,
            volume: total.volume,
            focus: frame.focus.to_string(),
            state: crate::answer::state_of(days).to_string(),
        };
        if intraday && frame.shown != Segments::RTH {
            let regular = chart.runs_of(frame.calendar, Segments::RTH);
            // Round the clock there is nothing irregular to set them apart from.
            if regular.iter().map(|(from, till)| till - from).sum::<usize>() < chart.slots.len() {
                chart.regular = regular;
            }
        }
        chart.marks = chart.marks_of(frame, days);
        chart
    }

    /// Slots `from..till` of the selected segments, by the slots' opens.
    fn runs_of(&self, calendar: &Calendar, segments: Segments) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            let session = calendar.session(slot.trade_date).ok().flatten();
            if !session.is_some_and(|session| segments.contains(session.segment_at(slot.open_at))) {
                continue;
            }
            let joins = |till: usize| till == at && self.slots[at - 1].trade_date == slot.trade_date;
            match runs.last_mut() {
                Some((_, till)) if joins(*till) => *till += 1,
                _ => runs.push((at, at + 1)),
            }
        }
        runs
    }

    /// High and low of the focus, and of a single session its open and close.
    fn marks_of(&self, frame: &Frame<'_>, days: &[Bar]) -> Vec<Mark> {
        let Some(total) = crate::answer::Total::of(days).prices else { return Vec::new() };
        let inside: Vec<(usize, Prices)> = self
            .candles
            .iter()
            .filter(|candle| {
                let slot = self.slots[candle.slot];
                let session = frame.calendar.session(slot.trade_date).ok().flatten();
                let segment = session.map_or(Segment::Off, |session| session.segment_at(slot.open_at));
                !self.intraday || frame.focus.contains(segment)
            })
            .filter_map(|candle| Some((candle.slot, candle.prices?)))
            .collect();
        // The database's price is marked, at the candle that has it: a mark never disagrees with the answer.
        let at = |kind, price: f64, found: Option<&(usize, Prices)>| {
            found.map(|(slot, _)| Mark { kind, slot: *slot, price })
        };
        let one = frame.period.sessions == 1 && self.intraday && inside.len() > 1;
        [
            at(MarkKind::High, total.high, inside.iter().find(|(_, p)| p.high == total.high)),
            at(MarkKind::Low, total.low, inside.iter().find(|(_, p)| p.low == total.low)),
            at(MarkKind::Open, total.open, inside.first().filter(|_| one)),
            at(MarkKind::Close, total.close, inside.last().filter(|_| one)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The last price drawn.
    pub fn last(&self) -> Option<Prices> {
        self.candles.iter().rev().find_map(|candle| candle.prices)
    }
}

/// A slot per bar of the frame's sessions; empty if there would be too many.
fn grid(frame: &Frame<'_>) -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut found: Vec<Bucket> = Vec::new();
    let Ok(sessions) = frame.calendar.sessions(frame.period.first, frame.period.last) else { return slots };
    for session in sessions {
        found.clear();
        buckets(&session, frame.timeframe, frame.shown, &mut found);
        slots.extend(found.iter().map(|bucket| Slot { trade_date: session.trade_date, open_at: bucket.open }));
        if slots.len() > 4 * MOST_SLOTS {
            return Vec::new();
        }
    }
    slots
}

/// The timeframe that shows a period in 60 to 200 candles.
pub fn fitting(calendar: &Calendar, period: &Period, segments: Segments) -> Timeframe {
    const WIDTHS: [Nanos; 9] =
        [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR];
    let traded = traded(calendar, period, segments);
    let intraday = WIDTHS.into_iter().find(|width| traded / width <= 160).map(Timeframe::Intraday);
    match (period.sessions, intraday) {
        (..=20, Some(timeframe)) => timeframe,
        (..=400, _) => Timeframe::Days(1),
        _ => Timeframe::Week,
    }
}

/// Refuses more candles than a picture can show.
///
/// # Errors
/// A refusal that says which timeframe would do.
pub fn check_size(
    calendar: &Calendar,
    period: &Period,
    timeframe: Timeframe,
    segments: Segments,
) -> Result<(), Unanswered> {
    let slots = match timeframe {
        Timeframe::Intraday(width) => (traded(calendar, period, segments) / width) as usize,
        Timeframe::Days(days) => period.sessions / days.max(1) as usize,
        _ => period.sessions / 5,
    };
    if slots <= MOST_SLOTS {
        return Ok(());
    }
    let better = fitting(calendar, period, segments);
    Err(unclear(&format!("That would be {slots} candles, and a chart shows {MOST_SLOTS}; {better} would do.")).into())
}

/// Hours of the selected segments, in nanoseconds.
fn traded(calendar: &Calendar, period: &Period, segments: Segments) -> Nanos {
    let Ok(sessions) = calendar.sessions(period.first, period.last) else { return 0 };
    sessions.flat_map(|session| session.runs(segments).collect::<Vec<_>>()).map(|(open, close)| close - open).sum()
}
