//! Bars as a picture: what is drawn, and the scale that all pictures share.

mod picture;
pub mod png;
pub mod svg;
pub mod terminal;

use crate::error::{Error, Result};
use crate::output::Rows;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, Float64Type, TimestampMicrosecondType};
use chrono::DateTime;
use market::{Calendar, TradeDate};

/// One bar that has prices.
#[derive(Clone, Debug, PartialEq)]
pub struct Candle {
    /// Its session.
    pub trade_date: TradeDate,
    /// Its open on the exchange's clock.
    pub time: String,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// What was traded.
    pub volume: f64,
}

/// A picture before it is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Such as `SPY 5m RTH`.
    pub title: String,
    /// Dates and the clock.
    pub subtitle: String,
    /// Oldest first.
    pub candles: Vec<Candle>,
    /// Whether a bar is a session or more, so that dates are labels and not times.
    pub daily: bool,
}

impl Chart {
    /// Of the answer of `session_ohlc`.
    ///
    /// # Errors
    /// An answer without a bar that has prices.
    pub fn new(title: String, calendar: &Calendar, rows: &Rows, daily: bool) -> Result<Chart> {
        let zone = calendar.zone();
        let mut candles = Vec::new();
        for batch in &rows.batches {
            let column = |name: &str| batch.column_by_name(name);
            let price = |name: &str| column(name).and_then(|c| c.as_primitive_opt::<Float64Type>());
            let (Some(days), Some(at)) = (
                column("trade_date").and_then(|c| c.as_primitive_opt::<Date32Type>()),
                column("bar_at").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>()),
            ) else {
                continue;
            };
            let (Some(open), Some(high), Some(low), Some(close), Some(volume)) =
                (price("open"), price("high"), price("low"), price("close"), price("volume"))
            else {
                continue;
            };
            for row in (0..batch.num_rows()).filter(|row| open.is_valid(*row)) {
                let instant = DateTime::from_timestamp_micros(at.value(row)).unwrap_or_default();
                candles.push(Candle {
                    trade_date: TradeDate(days.value(row)),
                    time: instant.with_timezone(&zone).format("%H:%M").to_string(),
                    open: open.value(row),
                    high: high.value(row),
                    low: low.value(row),
                    close: close.value(row),
                    volume: volume.value(row),
                });
            }
        }
        let (Some(first), Some(last)) = (candles.first(), candles.last()) else {
            return Err(Error::question(format!("there are no bars to draw for {title}"), ""));
        };
        let dates = match first.trade_date == last.trade_date {
            true => first.trade_date.to_string(),
            false => format!("{} to {}", first.trade_date, last.trade_date),
        };
        let subtitle = format!("{dates}, {}", calendar.time_zone());
        Ok(Chart { title, subtitle, candles, daily })
    }

    /// At most so many candles: neighbours within a session become one. Says how many bars are in each.
    pub fn at_most(&self, most: usize) -> (Chart, usize) {
        let mut each = 1;
        loop {
            let mut candles: Vec<(Candle, usize)> = Vec::new();
            for candle in &self.candles {
                match candles.last_mut() {
                    Some((last, bars)) if *bars < each && (self.daily || last.trade_date == candle.trade_date) => {
                        last.high = last.high.max(candle.high);
                        last.low = last.low.min(candle.low);
                        last.close = candle.close;
                        last.volume += candle.volume;
                        *bars += 1;
                    }
                    _ => candles.push((candle.clone(), 1)),
                }
            }
            // Sessions of one candle each cannot become fewer.
            if candles.len() <= most || each >= self.candles.len() {
                let candles = candles.into_iter().map(|(candle, _)| candle).collect();
                return (Chart { candles, ..self.clone() }, each);
            }
            each += 1;
        }
    }

    /// What stands below a candle: the date where a session begins or bars are days, else the time.
    pub fn label(&self, at: usize) -> String {
        let candle = &self.candles[at];
        let begins = at == 0 || self.candles[at - 1].trade_date != candle.trade_date;
        let many = self.candles.first().map(|c| c.trade_date) != self.candles.last().map(|c| c.trade_date);
        match self.daily || (begins && many) {
            true => candle.trade_date.to_string(),
            false => candle.time.clone(),
        }
    }
}

/// From prices to places, with round numbers along it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// The lowest price on it.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// Between two labels.
    pub step: f64,
    /// Digits behind the point that the labels need.
    pub digits: usize,
}

impl Scale {
    /// Over all candles, with about so many labels.
    pub fn new(candles: &[Candle], labels: usize) -> Scale {
        let low = candles.iter().map(|c| c.low).fold(f64::INFINITY, f64::min);
        let high = candles.iter().map(|c| c.high).fold(f64::NEG_INFINITY, f64::max);
        // A flat line has a scale too.
        let spread = if high > low { high - low } else { high.abs().max(1.0) * 0.01 };
        let rough = spread / labels.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let digits = (0..9).find(|digits| {
            let scaled = step * 10f64.powi(*digits);
            (scaled - scaled.round()).abs() < 1e-6
        });
        let margin = spread * 0.04;
        Scale { low: low - margin, high: low + spread + margin, step, digits: digits.unwrap_or(9) as usize }
    }

    /// 0 at the lowest price, 1 at the highest.
    pub fn place(&self, price: f64) -> f64 {
        (price - self.low) / (self.high - self.low)
    }

    /// The round prices.
    pub fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step).ceil() as i64;
        let last = (self.high / self.step).floor() as i64;
        (first..=last).map(|n| n as f64 * self.step).collect()
    }

    /// A price as its label.
    pub fn text(&self, price: f64) -> String {
        format!("{price:.*}", self.digits)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A rise and a fall over two sessions.
    pub fn sample() -> Chart {
        let candle = |day: i32, minute: u32, prices: [f64; 4], volume: f64| Candle {
            trade_date: TradeDate(20_417 + day),
            time: format!("{:02}:{:02}", 9 + (30 + minute) / 60, (30 + minute) % 60),
            open: prices[0],
            high: prices[1],
            low: prices[2],
            close: prices[3],
            volume,
        };
        Chart {
            title: "SPY 30m RTH".into(),
            subtitle: "2025-11-25 to 2025-11-26, America/New_York".into(),
            candles: vec![
                candle(0, 0, [670.0, 671.0, 669.5, 670.75], 100.0),
                candle(0, 30, [670.75, 672.5, 670.5, 672.25], 50.0),
                candle(1, 0, [672.0, 672.0, 670.0, 670.0], 75.0),
                candle(1, 30, [670.0, 670.0, 670.0, 670.0], 0.0),
            ],
            daily: false,
        }
    }

    #[test]
    fn scales_have_round_numbers() {
        let scale = Scale::new(&sample().candles, 4);
        assert_eq!((scale.step, scale.digits), (1.0, 0));
        assert_eq!(scale.ticks(), [670.0, 671.0, 672.0]);
        let flat = Candle { open: 5.0, high: 5.0, low: 5.0, close: 5.0, ..sample().candles[0].clone() };
        let scale = Scale::new(&[flat], 4);
        assert!(scale.low < 5.0 && scale.high > 5.0 && scale.place(5.0).is_finite());
    }

    #[test]
    fn neighbours_of_a_session_become_one_candle() {
        let (chart, each) = sample().at_most(2);
        assert_eq!(each, 2);
        let prices: Vec<_> = chart.candles.iter().map(|c| (c.open, c.high, c.low, c.close, c.volume)).collect();
        assert_eq!(prices, [(670.0, 672.5, 669.5, 672.25, 150.0), (672.0, 672.0, 670.0, 670.0, 75.0)]);
        assert_eq!(sample().at_most(9).1, 1);
    }
}
