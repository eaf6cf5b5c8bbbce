//! Kraken's REST answer to `GET /0/public/Trades`: `[price, volume, time, side, order type, misc, trade id]` a trade.

use super::csv::{decimal, show, size};
use super::{Batch, Broken, Defaults, Feed, Names, Reject};
use crate::clock::{Clock, TimeFormat};
use market::trade::{NONE_I64, Trade, flags};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;

/// An answer is a thousand trades; anything near this size is not one.
const LARGEST: u64 = 256 << 20;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: Vec<String>,
    result: Option<BTreeMap<String, Box<RawValue>>>,
}

/// One answer of the REST interface.
pub struct Kraken {
    trades: std::vec::IntoIter<(u32, Box<RawValue>)>,
    record: u64,
}

impl Kraken {
    /// Reads the whole answer.
    ///
    /// # Errors
    /// JSON that is broken or no answer with trades, and an answer that is an error of Kraken's.
    pub fn new(reader: Box<dyn Read + '_>, symbol: Option<&str>, names: &mut Names) -> Result<Kraken, Broken> {
        let mut text = vec![];
        let read = reader.take(LARGEST).read_to_end(&mut text).map_err(|e| Broken::read(0, &e))?;
        if read as u64 == LARGEST {
            return Err(Broken::new("is larger than any answer of Kraken's"));
        }
        let answer: Answer = serde_json::from_slice(&text).map_err(|e| {
            let what = if e.is_eof() { "is truncated JSON" } else { "is not Kraken's JSON" };
            Broken::at(e.line() as u64, format!("{what}: {e}"))
        })?;
        if let Some(first) = answer.error.first() {
            return Err(Broken::new(format!("is an error of Kraken's, not trades: {first}")));
        }
        let pairs = answer.result.ok_or_else(|| {
            Broken::new("is not Kraken's answer to GET /0/public/Trades: it has no object \"result\"")
        })?;
        names.set_defaults(Defaults {
            calendar: Some("24/7".into()),
            venue: Some("KRAKEN".into()),
            kind: Some("pair".into()),
        });
        let mut trades = vec![];
        for (pair, list) in pairs.iter().filter(|(key, _)| *key != "last") {
            let name = names.id(symbol.unwrap_or(pair).as_bytes()).map_err(Broken::new)?;
            let list: Vec<Box<RawValue>> = serde_json::from_str(list.get())
                .map_err(|_| Broken::new(format!("has no list of trades for {pair}")))?;
            trades.extend(list.into_iter().map(|trade| (name, trade)));
        }
        Ok(Kraken { trades: trades.into_iter(), record: 0 })
    }
}

impl Feed for Kraken {
    fn fill(&mut self, batch: &mut Batch, _names: &mut Names) -> Result<bool, Broken> {
        while !batch.is_full() {
            let Some((name, value)) = self.trades.next() else { return Ok(false) };
            self.record += 1;
            match trade(value.get()) {
                Ok(trade) => batch.push(name, trade),
                Err(reason) => batch.rejects.push(Reject::new(self.record, reason, value.get().as_bytes())),
            }
        }
        Ok(true)
    }
}

fn trade(text: &str) -> Result<Trade, String> {
    let fields: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| "is not a list of values")?;
    if fields.len() < 7 {
        return Err(format!("has {} values, not 7", fields.len()));
    }
    let text = |at: usize, what: &str| {
        serde_json::from_str::<Cow<str>>(fields[at].get()).map_err(|_| format!("{what} {} is not text", fields[at]))
    };
    let price = decimal(text(0, "price")?.as_bytes(), "price")?;
    let size = size(text(1, "volume")?.as_bytes())?;
    // Seconds with seven decimals: read as text, because a float of today's seconds is good for a quarter of a
    // microsecond only.
    let time = fields[2].get().as_bytes();
    let ts = Clock::new(TimeFormat::EpochS, None, None).parse(time).map_err(|e| format!("time {} {e}", show(time)))?;
    let flags = match &*text(3, "side")? {
        "b" => flags::BUY,
        "s" => flags::SELL,
        other => return Err(format!("side {} is neither b nor s", show(other.as_bytes()))),
    };
    let id = super::csv::integer(fields[6].get().as_bytes(), "trade id")?;
    Ok(Trade { ts, seq: id, sub: 0, price, size, flags, cond: 0, ts_recv: NONE_I64, trade_id: id })
}
