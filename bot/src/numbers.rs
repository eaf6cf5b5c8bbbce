//! Where the numbers come from: a database's `market` functions, behind a trait so that tests can stand in for it.

use crate::error::Failure;
use crate::instruments::Directory;
use market::{Nanos, Segments, TradeDate};
use serenity::async_trait;

/// Bars to ask for: the arguments of `market.session_ohlc`.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// A symbol of the directory.
    pub symbol: String,
    /// `5m`, `1d`.
    pub timeframe: market::Timeframe,
    /// First trade date.
    pub first: TradeDate,
    /// Last trade date, included.
    pub last: TradeDate,
    /// Which segments.
    pub segments: Segments,
}

/// A bar as the database gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// The session's label.
    pub trade_date: TradeDate,
    /// First instant.
    pub open_at: Nanos,
    /// First instant after it.
    pub close_at: Nanos,
    /// `None` if no trade was eligible to set a price.
    pub prices: Option<Prices>,
    /// Sum of sizes.
    pub volume: f64,
    /// Number of trades.
    pub trades: i64,
    /// Volume-weighted average price.
    pub vwap: Option<f64>,
    /// `provisional`, `final`, `revised`.
    pub state: String,
}

/// The four prices of a bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// First.
    pub open: f64,
    /// Highest.
    pub high: f64,
    /// Lowest.
    pub low: f64,
    /// Last.
    pub close: f64,
}

/// A source of numbers.
#[async_trait]
pub trait Numbers: Send + Sync {
    /// A view of one moment: everything one answer reads comes from the same snapshot.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Failure>;
}

/// One consistent view.
#[async_trait]
pub trait Snapshot: Send {
    /// The instruments.
    async fn directory(&mut self) -> Result<Directory, Failure>;
    /// Bars in time order; none where there were no trades.
    async fn bars(&mut self, asked: &Asked) -> Result<Vec<Bar>, Failure>;
    /// Ends the view. One that is dropped instead ends too, more expensively.
    async fn finish(self: Box<Self>);
}
