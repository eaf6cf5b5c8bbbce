//! Flow: how much of each bar's volume buyers and how much sellers wanted.
//!
//! The side is the aggressor's as the venue reports it ([`flags`](crate::trade::flags)); volume of trades without one is
//! unknown, and buy, sell and unknown volume always sum to the bar's. Bars are those of
//! [`SessionFold`](crate::SessionFold), with the same places for auction prints.

use crate::bucket::bucket_of;
use crate::calendar::Calendar;
use crate::error::Result;
use crate::ohlc::OhlcRequest;
use crate::print::{Placer, Print, Side};
use crate::session::{Segments, Session};
use crate::time::{Nanos, TradeDate};
use crate::timeframe::Timeframe;
use crate::trade::Trade;
use crate::trade::flags::NO_VOLUME;

/// Volume by side, in 1e-9.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sides {
    /// What buyers took.
    pub buy: i128,
    /// What sellers hit.
    pub sell: i128,
    /// Of trades without a side.
    pub unknown: i128,
    /// Number of trades that count for volume.
    pub trades: i64,
}

impl Sides {
    /// Adds a print, if it counts for volume.
    pub fn push(&mut self, print: &Print) {
        if print.flags & NO_VOLUME != 0 {
            return;
        }
        let sum = match print.side() {
            Side::Buy => &mut self.buy,
            Side::Sell => &mut self.sell,
            Side::Unknown => &mut self.unknown,
        };
        *sum = sum.saturating_add(i128::from(print.size));
        self.trades += 1;
    }

    /// Adds another sum.
    pub fn append(&mut self, other: &Sides) {
        self.buy = self.buy.saturating_add(other.buy);
        self.sell = self.sell.saturating_add(other.sell);
        self.unknown = self.unknown.saturating_add(other.unknown);
        self.trades = self.trades.saturating_add(other.trades);
    }

    /// All of it.
    pub fn volume(&self) -> i128 {
        self.buy.saturating_add(self.sell).saturating_add(self.unknown)
    }

    /// What buyers took beyond what sellers hit.
    pub fn delta(&self) -> i128 {
        self.buy.saturating_sub(self.sell)
    }
}

/// The flow of one bar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowBar {
    /// What its bar is called, see [`SessionBar::label`](crate::SessionBar::label).
    pub label: TradeDate,
    /// Its trade date; the first one of a bar of several.
    pub trade_date: TradeDate,
    /// Its last trade date.
    pub last_date: TradeDate,
    /// First instant of the bar.
    pub open_at: Nanos,
    /// First instant after it.
    pub close_at: Nanos,
    /// Its volume by side.
    pub sides: Sides,
    /// The deltas of its session up to and with this bar; of a bar of several trade dates its own.
    pub session_delta: i128,
}

/// Sums the volume of one session's bars by side.
pub struct FlowFold<'s> {
    placer: Placer<'s>,
    segments: Segments,
    width: Option<Nanos>,
    runs: Vec<(Nanos, Nanos)>,
    /// In the order of their opens.
    bars: Vec<FlowBar>,
    at: usize,
}

impl<'s> FlowFold<'s> {
    /// For one session. Timeframes longer than a session make one bar here; [`FlowAnswer`] groups them.
    pub fn new(session: &Session<'s>, timeframe: Timeframe, segments: Segments) -> FlowFold<'s> {
        let width = match timeframe {
            Timeframe::Intraday(width) => Some(width.max(1)),
            _ => None,
        };
        let runs = session.runs(segments).collect();
        FlowFold { placer: Placer::new(session), segments, width, runs, bars: Vec::new(), at: 0 }
    }

    fn bucket(&self, at: Nanos) -> Option<(Nanos, Nanos)> {
        let run = self.runs.iter().find(|run| run.0 <= at && at < run.1)?;
        match self.width {
            Some(width) => {
                let open = at - at.saturating_sub(run.0) % width;
                Some((open, open.saturating_add(width).min(run.1)))
            }
            None => Some((self.runs.first()?.0, self.runs.last()?.1)),
        }
    }

    /// Adds a trade of the session.
    pub fn push(&mut self, trade: &Trade) {
        let print = self.placer.place(trade);
        if !self.segments.contains(print.segment) || print.flags & NO_VOLUME != 0 {
            return;
        }
        let in_last = self.bars.get(self.at).is_some_and(|bar| bar.open_at <= print.at && print.at < bar.close_at);
        if !in_last {
            let Some((open_at, close_at)) = self.bucket(print.at) else { return };
            self.at = self.bars.partition_point(|bar| bar.open_at < open_at);
            if self.bars.get(self.at).is_none_or(|bar| bar.open_at != open_at) {
                let date = self.placer.session().trade_date;
                let bar = FlowBar {
                    label: date,
                    trade_date: date,
                    last_date: date,
                    open_at,
                    close_at,
                    sides: Sides::default(),
                    session_delta: 0,
                };
                self.bars.insert(self.at, bar);
            }
        }
        self.bars[self.at].sides.push(&print);
    }

    /// The session's bars in time order.
    pub fn finish(mut self) -> Vec<FlowBar> {
        let mut delta = 0i128;
        for bar in &mut self.bars {
            delta = delta.saturating_add(bar.sides.delta());
            bar.session_delta = delta;
        }
        self.bars
    }
}

/// Puts the flow of many sessions, in order, together to an answer.
pub struct FlowAnswer<'c> {
    calendar: &'c Calendar,
    request: OhlcRequest,
    last_group: Option<(TradeDate, TradeDate)>,
    bars: Vec<FlowBar>,
}

impl<'c> FlowAnswer<'c> {
    /// An empty answer; of the request, fill does not matter.
    pub fn new(calendar: &'c Calendar, request: OhlcRequest) -> FlowAnswer<'c> {
        FlowAnswer { calendar, request, last_group: None, bars: Vec::new() }
    }

    /// Adds the bars of the next session with trades.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    pub fn add(&mut self, session: &Session<'_>, bars: &[FlowBar]) -> Result<()> {
        if !self.request.groups() {
            self.bars.extend_from_slice(bars);
            return Ok(());
        }
        let Some(first) = bars.first() else { return Ok(()) };
        let date = session.trade_date;
        if self.last_group.is_none_or(|dates| !(dates.0..=dates.1).contains(&date)) {
            let dates = self.request.day.group_of(self.calendar, self.request.timeframe, date)?;
            let bucket = bucket_of(self.calendar, dates, self.request.segments)?;
            let label = self.request.day.label(self.calendar, dates.0)?;
            let (open_at, close_at) = bucket.map_or((first.open_at, first.close_at), |b| (b.open, b.close));
            let empty = Sides::default();
            self.bars.push(FlowBar { label, trade_date: dates.0, open_at, close_at, sides: empty, ..*first });
            self.last_group = Some(dates);
        }
        if let Some(group) = self.bars.last_mut() {
            bars.iter().for_each(|bar| group.sides.append(&bar.sides));
            (group.last_date, group.session_delta) = (date, group.sides.delta());
        }
        Ok(())
    }

    /// The bars whose open lies in the asked range.
    pub fn finish(self) -> Vec<FlowBar> {
        let range = self.request.range;
        self.bars.into_iter().filter(|bar| range.contains(&bar.open_at)).collect()
    }
}
