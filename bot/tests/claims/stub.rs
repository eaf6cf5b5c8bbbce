//! Numbers without a database: seeded bars on the real calendars' grids, and a record of what was asked.

use anyhow::anyhow;
use bot::error::Failure;
use bot::instruments::{Directory, Instrument};
use bot::numbers::{Asked, Bar, Numbers, Prices, Snapshot};
use market::{Calendar, TradeDate, buckets};
use serenity::async_trait;
use std::sync::{Arc, Mutex};

pub fn instrument(symbol: &str, kind: &str, calendar: &str, root: Option<&str>, tick: Option<f64>) -> Instrument {
    Instrument {
        symbol: symbol.into(),
        kind: kind.into(),
        calendar: calendar.into(),
        root: root.map(str::to_string),
        expiry: None,
        currency: Some("USD".into()),
        tick_size: tick,
        last_session: TradeDate::parse("2025-11-24").ok(),
    }
}

/// ES (two contracts), GC, SPY, BTC-USD.
pub fn directory() -> Directory {
    Directory::new(vec![
        instrument("ESZ25", "future", "CME_EQUITY", Some("ES"), Some(0.25)),
        instrument("ESH26", "future", "CME_EQUITY", Some("ES"), Some(0.25)),
        instrument("GCZ25", "future", "CME_METALS", Some("GC"), Some(0.1)),
        instrument("SPY", "equity", "XNYS", None, Some(0.01)),
        instrument("BTC-USD", "pair", "24/7", None, Some(0.01)),
    ])
}

/// 2025-11-25 10:00 in Chicago, a Tuesday in an ordinary week.
pub fn now() -> i64 {
    at("2025-11-25T10:00:00-06:00")
}

pub fn at(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_nanos_opt().unwrap()
}

#[derive(Clone, Default)]
pub struct Stub {
    pub asked: Arc<Mutex<Vec<Asked>>>,
    pub broken: bool,
    pub empty: bool,
}

#[async_trait]
impl Numbers for Stub {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, Failure> {
        if self.broken {
            let cause = anyhow!("connection to 10.1.2.3 failed: password hunter2 rejected");
            return Err(Failure::new(cause));
        }
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Snapshot for Stub {
    async fn directory(&mut self) -> Result<Directory, Failure> {
        Ok(directory())
    }

    async fn bars(&mut self, asked: &Asked) -> Result<Vec<Bar>, Failure> {
        self.asked.lock().unwrap().push(asked.clone());
        Ok(if self.empty { Vec::new() } else { bars(asked) })
    }

    async fn finish(self: Box<Self>) {}
}

/// A walk of prices: every price follows from the minute it belongs to, so bars of every width agree.
fn bars(asked: &Asked) -> Vec<Bar> {
    let id = directory().any(&directory().ticker(&asked.symbol).unwrap()).unwrap().calendar.clone();
    let calendar = Calendar::builtin(&id).unwrap();
    let mut all = Vec::new();
    for session in calendar.sessions(asked.first, asked.last).unwrap() {
        let mut found = Vec::new();
        buckets(&session, asked.timeframe, asked.segments, &mut found);
        for bucket in found {
            let minutes = (bucket.open..bucket.close).step_by(60_000_000_000);
            let mut bar: Option<Bar> = None;
            for minute in minutes.filter(|minute| asked.segments.contains(session.segment_at(*minute))) {
                let price = price(minute);
                let volume = volume(minute, &asked.symbol);
                let bar = bar.get_or_insert_with(|| Bar {
                    trade_date: session.trade_date,
                    open_at: bucket.open,
                    close_at: bucket.close,
                    prices: Some(Prices { open: price, high: price, low: price, close: price }),
                    volume: 0.0,
                    trades: 0,
                    vwap: Some(6_000.0),
                    state: "final".into(),
                });
                bar.volume += volume;
                bar.trades += 3;
                if let Some(prices) = &mut bar.prices {
                    prices.high = prices.high.max(price);
                    prices.low = prices.low.min(price);
                    prices.close = price;
                }
            }
            all.extend(bar);
        }
    }
    all
}

fn price(minute: i64) -> f64 {
    let t = (minute / 60_000_000_000) as f64;
    let swing = (t / 97.0).sin() * 14.0 + (t / 13.0).sin() * 3.0 + (t / 1_733.0).cos() * 40.0;
    6_600.0 + (swing * 4.0).round() / 4.0
}

fn volume(minute: i64, symbol: &str) -> f64 {
    let t = minute / 60_000_000_000;
    let busy = if (8 * 60 + 30..15 * 60).contains(&((t - 360).rem_euclid(1_440))) { 400 } else { 40 };
    let share = if symbol == "ESH26" { 1 } else { 10 };
    ((t * 7_919).rem_euclid(97) * busy / 97 * share / 10) as f64
}
