//! Activity bars: a bar ends when enough was traded, not when enough time has passed.
//!
//! The rules:
//! - Bars begin anew with every session, so that a day's bars do not depend on where the answer begins.
//! - Trades are taken in the order of their identities, those of the selected segments. A print counts where it was reported:
//!   a closing print of the regular hours follows what was traded while the auction ran.
//! - The trade that reaches the threshold belongs, whole, to the bar it fills: no trade is split, and what it has beyond the
//!   threshold is not carried over. So a bar of volume holds the threshold or more, and the next one begins at nothing.
//! - What is left at the end of a session is a bar that is not complete.
//! - Trades that count for volume fill bars. Others set the prices they may set and fill nothing.

use crate::bar::Bar;
use crate::error::{Error, Result};
use crate::money;
use crate::print::Placer;
use crate::session::{Segments, Session};
use crate::time::{Nanos, TradeDate};
use crate::trade::Trade;
use crate::trade::flags::NO_VOLUME;

/// What fills a bar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filling {
    /// The number of trades.
    Ticks,
    /// The size traded.
    Volume,
    /// Price times size, without the multiplier; of a negative price its amount.
    Notional,
}

/// Which bars are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activity {
    /// What fills a bar.
    pub filling: Filling,
    /// How much of it: trades, 1e-9 of size, or 1e-18 of price times size.
    pub threshold: i128,
}

impl Activity {
    /// Reads `ticks`, `volume` or `notional` and how much of it makes a bar.
    ///
    /// # Errors
    /// `Invalid` for another word, for a threshold that is not above zero and for a part of a tick.
    ///
    /// ```
    /// use market::activity::{Activity, Filling};
    /// let bars = Activity::parse("ticks", 1000.0)?;
    /// assert_eq!((bars.filling, bars.threshold), (Filling::Ticks, 1000));
    /// assert!(Activity::parse("ticks", 0.5).is_err());
    /// # Ok::<(), market::Error>(())
    /// ```
    pub fn parse(kind: &str, threshold: f64) -> Result<Activity> {
        let filling = match kind.trim().to_ascii_lowercase().as_str() {
            "ticks" => Filling::Ticks,
            "volume" => Filling::Volume,
            "notional" => Filling::Notional,
            _ => return Err(Error::invalid("kind", kind, "ticks, volume or notional")),
        };
        let wrong = |allowed: &str| Error::invalid("threshold", threshold.to_string(), allowed);
        if !threshold.is_finite() || threshold <= 0.0 {
            return Err(wrong("a number above zero"));
        }
        let threshold = match filling {
            Filling::Ticks if threshold.fract() == 0.0 && threshold <= 1e15 => threshold as i128,
            Filling::Ticks => return Err(wrong("a whole number of trades")),
            Filling::Volume => i128::from(money::size_from_f64(threshold)?),
            // Whole numbers of that size are exact; the multiplication is not the float's.
            Filling::Notional if (1e9..=1e18).contains(&threshold) => threshold as i128 * 10i128.pow(18),
            Filling::Notional if threshold < 1e9 => {
                i128::from(money::from_f64("threshold", threshold)?) * 10i128.pow(9)
            }
            Filling::Notional => return Err(wrong("at most 1e18")),
        };
        if threshold == 0 {
            return Err(wrong("at least 1e-9"));
        }
        Ok(Activity { filling, threshold })
    }

    fn of(&self, trade: &Trade) -> i128 {
        let size = i128::from(trade.size);
        match self.filling {
            _ if trade.flags & NO_VOLUME != 0 => 0,
            Filling::Ticks => 1,
            Filling::Volume => size,
            Filling::Notional => i128::from(trade.price).abs() * size,
        }
    }
}

/// A bar made by activity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActivityBar {
    /// Its session.
    pub trade_date: TradeDate,
    /// Number within the session, from 1.
    pub number: i32,
    /// When its first trade was made.
    pub first_at: Nanos,
    /// When its last trade was made; the next bar may begin at the same instant.
    pub last_at: Nanos,
    /// The bar, settled.
    pub bar: Bar,
    /// Whether the threshold was reached; false for what is left at the end of the session.
    pub complete: bool,
}

/// Makes the activity bars of one session of its trades, in order.
pub struct ActivityFold<'s> {
    placer: Placer<'s>,
    activity: Activity,
    segments: Segments,
    filled: i128,
    current: Option<ActivityBar>,
    number: i32,
    bars: Vec<ActivityBar>,
}

impl<'s> ActivityFold<'s> {
    /// For one session.
    pub fn new(session: &Session<'s>, activity: Activity, segments: Segments) -> ActivityFold<'s> {
        let placer = Placer::new(session);
        ActivityFold { placer, activity, segments, filled: 0, current: None, number: 0, bars: Vec::new() }
    }

    /// Adds the next trade.
    pub fn push(&mut self, trade: &Trade) {
        let print = self.placer.place(trade);
        if !self.segments.contains(print.segment) {
            return;
        }
        let trade_date = self.placer.session().trade_date;
        let number = self.number + 1;
        let mut bar = self.current.unwrap_or(ActivityBar {
            trade_date,
            number,
            first_at: trade.ts,
            last_at: trade.ts,
            bar: Bar::EMPTY,
            complete: false,
        });
        if !print.add_to(&mut bar.bar) {
            return;
        }
        bar.last_at = trade.ts;
        self.filled = self.filled.saturating_add(self.activity.of(trade));
        if self.filled >= self.activity.threshold {
            self.bars.push(ActivityBar { bar: bar.bar.settled(), complete: true, ..bar });
            (self.current, self.filled, self.number) = (None, 0, number);
        } else {
            self.current = Some(bar);
        }
    }

    /// The session's bars.
    pub fn finish(mut self) -> Vec<ActivityBar> {
        if let Some(bar) = self.current {
            self.bars.push(ActivityBar { bar: bar.bar.settled(), ..bar });
        }
        self.bars
    }
}
