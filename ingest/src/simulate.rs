//! `ingest simulate`: realistic trades of any instrument on its own calendar, so that a demo needs no download.
//!
//! The trades of a session follow from (seed, symbol, trade date) alone: ranges that overlap give the same trades, so
//! simulating twice changes nothing. Activity is U-shaped within the regular hours and thin outside them; trades come in
//! bursts, some at the same instant; prices walk on the tick grid from one session's open to the next one's. Calendars
//! with opening and closing auctions print them.

use crate::feed::{Batch, Broken, Feed, Names};
use market::money::{self, ONE};
use market::time::{MINUTE, SECOND};
use market::trade::{NONE_I64, Trade, flags};
use market::{Calendar, Segment, Segments, Session, TradeDate};
use std::io::Write;
use std::path::Path;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// The instrument.
    pub symbol: String,
    /// Its calendar.
    pub calendar: Calendar,
    /// First trade date.
    pub first: TradeDate,
    /// Last trade date.
    pub last: TradeDate,
    /// Makes the trades.
    pub seed: u64,
    /// About how many trades a full session has.
    pub trades_per_day: u32,
    /// The smallest step of the price, in nanos.
    pub tick: i64,
    /// The price that the instrument wanders about, in nanos.
    pub price: i64,
    /// What sizes look like.
    pub lots: Lots,
}

/// What sizes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lots {
    /// Whole contracts, mostly few.
    Contracts,
    /// Shares, mostly round hundreds.
    Shares,
    /// Fractions of a coin.
    Fractions,
}

/// A generator whose numbers stay the same for ever (splitmix64), unlike those of a library that may improve.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64, words: &[&[u8]]) -> Dice {
        let mut state = seed ^ 0x6a09_e667_f3bc_c908;
        for byte in words.iter().flat_map(|w| w.iter()) {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        Dice(state)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 <= x < 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 0 <= n < end.
    fn below(&mut self, end: i64) -> i64 {
        (self.unit() * end as f64) as i64
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// 1, 2, 3, ... with mean about `mean`. By trial: a logarithm is not the same to the last bit everywhere.
    fn geometric(&mut self, mean: f64) -> i64 {
        let mut n = 1;
        while n < 5000 && !self.chance(1.0 / mean) {
            n += 1;
        }
        n
    }
}

impl Simulation {
    /// The trades of one session, in time order.
    pub fn session(&self, session: &Session<'_>) -> Vec<Trade> {
        let date = session.trade_date;
        let mut dice = Dice::new(self.seed, &[self.symbol.as_bytes(), &date.0.to_le_bytes()]);
        let times = self.times(session, &mut dice);
        let (open, target) = (self.level(date), self.level(date.plus(1)));
        let mut ticks = open / self.tick;
        let target = target / self.tick;
        let n = times.len();
        let mut trades = Vec::with_capacity(n + 2);
        let mut seq = 0;
        let mut side = 1i64;
        for (i, ts) in times.into_iter().enumerate() {
            if dice.chance(0.35) {
                side = -side;
            }
            // Most trades do not move the price; what is left of the day's way leans on those that do.
            let lean = (target - ticks) as f64 / (n - i) as f64;
            let step = match dice.unit() {
                u if u < 0.03 => 2 * side,
                u if u < 0.30 => side,
                _ => 0,
            };
            let pull = if dice.chance(lean.abs().min(0.9)) { lean.signum() as i64 } else { 0 };
            ticks = (ticks + step + pull).max(1);
            seq += 1;
            let size = self.size(&mut dice, 1.0);
            let aggressor = if step + pull >= 0 { flags::BUY } else { flags::SELL };
            trades.push(self.trade(ts, seq, ticks, size, aggressor));
        }
        self.auctions(session, &mut trades, &mut dice);
        trades
    }

    fn trade(&self, ts: i64, seq: i64, ticks: i64, size: i64, flags: u32) -> Trade {
        let price = ticks.saturating_mul(self.tick);
        Trade { ts, seq, sub: 0, price, size, flags, cond: 0, ts_recv: NONE_I64, trade_id: NONE_I64 }
    }

    /// Instants of the trades: a number per minute, then bursts within the minute.
    fn times(&self, session: &Session<'_>, dice: &mut Dice) -> Vec<i64> {
        let mut minutes: Vec<(i64, i64, f64)> = vec![];
        let mut full = 0.0;
        for span in session.spans {
            let base = match span.segment {
                Segment::Rth => 1.0,
                Segment::Post => 0.15,
                Segment::On | Segment::Pre => 0.08,
                Segment::Off => 0.0,
            };
            let length = (span.close - span.open).max(1) as f64;
            let mut at = span.open;
            while at < span.close {
                let end = (at + MINUTE).min(span.close);
                let x = (at - span.open) as f64 / length;
                let edge = 2.0 * x - 1.0;
                let weight = base * (1.0 + 3.0 * edge * edge) * (0.6 + 0.8 * dice.unit());
                let weight = weight * (end - at) as f64 / MINUTE as f64;
                full += weight;
                minutes.push((at, end, weight));
                at = end;
            }
        }
        // A session cut short trades less, not faster.
        let hours = session.spans.iter().map(|s| s.close - s.open).sum::<i64>() as f64 / (23.0 * 60.0 * MINUTE as f64);
        let usual = if session.irregular { hours.min(0.6) } else { 1.0 };
        let scale = f64::from(self.trades_per_day) * usual / full.max(1e-9);
        let mut times = Vec::with_capacity(self.trades_per_day as usize);
        for (open, close, weight) in minutes {
            let expected = weight * scale;
            let count = expected as usize + usize::from(dice.chance(expected.fract()));
            let first = times.len();
            while times.len() - first < count {
                // A burst begins somewhere in the minute; most bursts are a single trade.
                let mut at = open + dice.below(close - open) / 1000 * 1000;
                let burst = if dice.chance(0.25) { dice.geometric(4.0) } else { 1 };
                for _ in 0..burst {
                    if times.len() - first == count {
                        break;
                    }
                    times.push(at);
                    // One in four of a burst shares the instant.
                    at += if dice.chance(0.25) { 0 } else { 1000 * (1 + dice.below(40_000)) };
                    at = at.min(close - 1000);
                }
            }
            times[first..].sort_unstable();
        }
        times
    }

    fn size(&self, dice: &mut Dice, times: f64) -> i64 {
        match self.lots {
            Lots::Contracts => dice.geometric(2.5 * times).min(2000) * ONE,
            Lots::Shares if dice.chance(0.3) => (1 + dice.below(99)) * ONE,
            Lots::Shares => dice.geometric(1.8 * times).min(5000) * 100 * ONE,
            // Five decimals, as pairs have them.
            Lots::Fractions => {
                let (a, b) = (dice.unit(), dice.unit());
                (1 + (a * a * b * b * 200_000.0 * times) as i64) * (ONE / 100_000)
            }
        }
    }

    /// Shares open and close with an auction: one large print each, the closing one just after the close.
    fn auctions(&self, session: &Session<'_>, trades: &mut Vec<Trade>, dice: &mut Dice) {
        let (Lots::Shares, Some(open), Some(close)) =
            (self.lots, session.open(Segments::RTH), session.close(Segments::RTH))
        else {
            return;
        };
        let at_open = trades.partition_point(|t| t.ts < open);
        let at_close = trades.partition_point(|t| t.ts < close);
        let price = |i: usize| trades.get(i).or(trades.last()).map_or(1, |t| t.price / self.tick);
        let seq = trades.len() as i64;
        let opening =
            self.trade(open + SECOND / 2, seq + 1, price(at_open), self.size(dice, 60.0), flags::AUCTION_OPEN);
        let closing = self.trade(
            close + SECOND,
            seq + 2,
            price(at_close.saturating_sub(1)),
            self.size(dice, 90.0),
            flags::AUCTION_CLOSE,
        );
        trades.extend([opening, closing]);
        trades.sort_by_key(Trade::key);
    }

    /// Where the price is at the open of a date: slow waves about the base, whose phases the seed sets. A function of the
    /// date, so that any range of dates gives the same days.
    fn level(&self, date: TradeDate) -> i64 {
        let mut dice = Dice::new(self.seed, &[self.symbol.as_bytes(), b"level"]);
        let mut factor = 1.0;
        for (days, height) in [(253.0, 0.03), (61.0, 0.015), (17.0, 0.006), (5.3, 0.003)] {
            // A triangle, up and down again: a sine is not the same to the last bit everywhere.
            let turn = f64::from(date.0) / days + dice.unit();
            factor += height * (4.0 * (turn - turn.floor() - 0.5).abs() - 1.0);
        }
        let mut day = Dice::new(self.seed, &[self.symbol.as_bytes(), b"gap", &date.0.to_le_bytes()]);
        factor += 0.004 * (day.unit() - 0.5);
        ((self.price as f64 * factor) as i64 / self.tick).max(1) * self.tick
    }
}

/// A simulation as a feed.
pub struct Simulated {
    simulation: Simulation,
    next: TradeDate,
    name: u32,
}

impl Simulated {
    /// Trades of the simulation under the number of its symbol.
    pub fn new(simulation: Simulation, name: u32) -> Simulated {
        let next = simulation.first;
        Simulated { simulation, next, name }
    }
}

impl Feed for Simulated {
    fn fill(&mut self, batch: &mut Batch, _names: &mut Names) -> Result<bool, Broken> {
        while !batch.is_full() {
            if self.next > self.simulation.last {
                return Ok(false);
            }
            let session = self
                .simulation
                .calendar
                .session(self.next)
                .map_err(|e| Broken::new(crate::Error::Market(e).to_string()))?;
            if let Some(session) = session {
                for trade in self.simulation.session(&session) {
                    batch.push(self.name, trade);
                }
            }
            self.next = self.next.plus(1);
        }
        Ok(true)
    }
}

/// Writes a simulation as CSV with the columns `ingest load` knows by name; the number of trades.
///
/// # Errors
/// A file that cannot be written.
pub fn write_csv(simulation: Simulation, path: &Path) -> std::io::Result<u64> {
    let symbol = simulation.symbol.clone();
    let mut names = Names::default();
    let mut feed = Simulated::new(simulation, 0);
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(out, "ts,symbol,price,size,side,seq")?;
    let mut n = 0;
    loop {
        let mut batch = Batch::default();
        let more = feed.fill(&mut batch, &mut names).map_err(|e| std::io::Error::other(e.reason))?;
        for t in batch.trades.iter() {
            let side = if t.flags & flags::BUY != 0 {
                "buy"
            } else if t.flags & flags::SELL != 0 {
                "sell"
            } else {
                ""
            };
            let (price, size) = (money::to_f64(t.price), money::to_f64(t.size));
            writeln!(out, "{},{symbol},{price},{size},{side},{}", market::time::format_instant(t.ts), t.seq)?;
            n += 1;
        }
        if !more {
            out.flush()?;
            return Ok(n);
        }
    }
}

/// A price that looks right for a well-known instrument; 100 for others.
pub fn usual_price(symbol: &str, root: Option<&str>) -> i64 {
    let price = match root.unwrap_or(symbol) {
        "ES" | "MES" => 6_700.0,
        "NQ" | "MNQ" => 24_500.0,
        "RTY" | "M2K" => 2_400.0,
        "YM" | "MYM" => 46_500.0,
        "GC" | "MGC" => 4_100.0,
        "SI" | "SIL" => 50.0,
        "HG" => 5.0,
        "CL" | "MCL" | "BZ" => 59.0,
        "NG" => 4.5,
        "6E" => 1.16,
        "6B" => 1.31,
        "6J" => 0.0064,
        "ZN" => 113.0,
        "ZB" => 117.0,
        "ZC" => 430.0,
        "ZS" => 1_120.0,
        "ZW" => 530.0,
        "SPY" => 668.0,
        "QQQ" => 605.0,
        "AAPL" => 270.0,
        "NVDA" => 180.0,
        "TSLA" => 395.0,
        "MSFT" => 475.0,
        pair if pair.starts_with("BTC") || pair.starts_with("XBT") => 91_000.0,
        pair if pair.starts_with("ETH") => 3_000.0,
        _ => 100.0,
    };
    money::from_f64("price", price).unwrap_or(100 * ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulation(symbol: &str, calendar: &str, lots: Lots, days: (&str, &str)) -> Simulation {
        Simulation {
            symbol: symbol.into(),
            calendar: Calendar::builtin(calendar).expect("a shipped calendar"),
            first: TradeDate::parse(days.0).expect("a date"),
            last: TradeDate::parse(days.1).expect("a date"),
            seed: 7,
            trades_per_day: 5000,
            tick: 250_000_000,
            price: 6_700 * ONE,
            lots,
        }
    }

    fn all(simulation: Simulation) -> Vec<Trade> {
        let mut names = Names::default();
        let mut feed = Simulated::new(simulation, 0);
        let mut out = vec![];
        loop {
            let mut batch = Batch::default();
            let more = feed.fill(&mut batch, &mut names).expect("known dates");
            out.extend(batch.trades.iter());
            if !more {
                return out;
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_trades_whatever_the_range() {
        let week = all(simulation("ESZ25", "CME_EQUITY", Lots::Contracts, ("2025-11-24", "2025-11-28")));
        let again = all(simulation("ESZ25", "CME_EQUITY", Lots::Contracts, ("2025-11-24", "2025-11-28")));
        assert_eq!(week, again);
        let day = all(simulation("ESZ25", "CME_EQUITY", Lots::Contracts, ("2025-11-26", "2025-11-26")));
        assert!(!day.is_empty() && week.windows(day.len()).any(|w| w == day));
        let other =
            Simulation { seed: 8, ..simulation("ESZ25", "CME_EQUITY", Lots::Contracts, ("2025-11-24", "2025-11-28")) };
        assert_ne!(week, all(other));
    }

    #[test]
    fn trades_lie_in_their_session_on_the_tick_grid() {
        let sim = simulation("ESZ25", "CME_EQUITY", Lots::Contracts, ("2025-11-24", "2025-11-28"));
        let calendar = sim.calendar.clone();
        let trades = all(sim);
        assert!(trades.len() > 15_000, "{}", trades.len());
        assert!(trades.windows(2).all(|w| w[0].ts <= w[1].ts), "in time order");
        assert!(trades.windows(2).any(|w| w[0].ts == w[1].ts), "some share an instant");
        for t in &trades {
            assert!(t.price % 250_000_000 == 0 && t.price > 0 && t.size > 0);
            assert_ne!(calendar.segment(t.ts).expect("known"), Segment::Off);
        }
        // Thanksgiving's Friday closes early.
        let last = trades.last().expect("many");
        assert_eq!(market::time::format_instant(last.ts)[..13].to_string(), "2025-11-28T18");
    }

    #[test]
    fn shares_print_their_auctions() {
        let trades = all(simulation("SPY", "XNYS", Lots::Shares, ("2025-11-28", "2025-11-28")));
        let closing: Vec<_> = trades.iter().filter(|t| t.flags & flags::AUCTION_CLOSE != 0).collect();
        assert_eq!(closing.len(), 1);
        assert_eq!(market::time::format_instant(closing[0].ts), "2025-11-28T18:00:01Z");
    }
}
