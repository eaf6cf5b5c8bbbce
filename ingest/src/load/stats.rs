//! Statistics on their way to `market.session_stats`.

use crate::Result;
use crate::db::{Db, Instrument};
use crate::feed::statistics::Published;
use market::TradeDate;
use std::sync::Arc;

/// A statistic of an instrument's session.
pub struct Stat {
    /// Whose.
    pub symbol: String,
    /// The session it is of.
    pub trade_date: TradeDate,
    /// What was published.
    pub published: Published,
}

/// Collects statistics and stores them a thousand at a time.
pub(super) struct Stats {
    pub(super) runtime: tokio::runtime::Handle,
    /// None in a dry run.
    pub(super) db: Option<Arc<Db>>,
    pub(super) waiting: Vec<Stat>,
    /// How many of them the database did not know.
    pub(super) new: u64,
}

impl Stats {
    pub(super) fn add(&mut self, instrument: &Instrument, published: Published) -> Result<()> {
        let trade_date = published.of.unwrap_or_else(|| instrument.calendar.filing(published.ts).trade_date);
        self.waiting.push(Stat { symbol: instrument.symbol.clone(), trade_date, published });
        if self.waiting.len() >= 1000 { self.flush() } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if let (Some(db), false) = (&self.db, waiting.is_empty()) {
            self.new += self.runtime.block_on(db.put_stats(&waiting))?;
        }
        Ok(())
    }
}
