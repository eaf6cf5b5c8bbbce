//! Kraken's REST answer to `GET /0/public/Trades`: `[price, volume, time, side, order type, misc, trade id]` a trade.

use super::csv::{decimal, show, size};
use super::{Batch, Broken, Defaults, Feed, Names, Reject};
use market::money;
use market::trade::{NONE_I64, Trade, flags};
use serde_json::Value;
use std::io::Read;

/// An answer is a thousand trades; anything near this size is not one.
const LARGEST: u64 = 256 << 20;

/// One answer of the REST interface.
pub struct Kraken {
    trades: std::vec::IntoIter<(u32, Value)>,
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
        let answer: Value = serde_json::from_slice(&text).map_err(|e| {
            let what = if e.is_eof() { "is truncated JSON" } else { "is not JSON" };
            Broken::at(e.line() as u64, format!("{what}: {e}"))
        })?;
        if let Some(first) = answer.get("error").and_then(Value::as_array).and_then(|list| list.first()) {
            return Err(Broken::new(format!("is an error of Kraken's, not trades: {first}")));
        }
        let pairs = answer.get("result").and_then(Value::as_object).ok_or_else(|| {
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
            let list = list.as_array().ok_or_else(|| Broken::new(format!("has no list of trades for {pair}")))?;
            trades.extend(list.iter().map(|trade| (name, trade.clone())));
        }
        Ok(Kraken { trades: trades.into_iter(), record: 0 })
    }
}

impl Feed for Kraken {
    fn fill(&mut self, batch: &mut Batch, _names: &mut Names) -> Result<bool, Broken> {
        while !batch.is_full() {
            let Some((name, value)) = self.trades.next() else { return Ok(false) };
            self.record += 1;
            match trade(&value) {
                Ok(trade) => batch.push(name, trade),
                Err(reason) => batch.rejects.push(Reject::new(self.record, reason, value.to_string().as_bytes())),
            }
        }
        Ok(true)
    }
}

fn trade(value: &Value) -> Result<Trade, String> {
    let fields = value.as_array().filter(|f| f.len() >= 4).ok_or("is not a list of at least four values")?;
    let text = |at: usize, what: &str| fields[at].as_str().ok_or_else(|| format!("{what} {} is not text", fields[at]));
    let price = decimal(text(0, "price")?.as_bytes(), "price")?;
    let size = size(text(1, "volume")?.as_bytes())?;
    // Seconds with seven decimals. The shortest decimal of the float is what the exchange wrote; its nanos fit an i64.
    let time = fields[2].as_f64().ok_or_else(|| format!("time {} is not a number", fields[2]))?;
    let ts = money::from_f64("time", time).map_err(|e| e.to_string())?;
    let flags = match text(3, "side")? {
        "b" => flags::BUY,
        "s" => flags::SELL,
        other => return Err(format!("side {} is neither b nor s", show(other.as_bytes()))),
    };
    let id = fields.get(6).and_then(Value::as_i64).ok_or("has no trade id")?;
    Ok(Trade { ts, seq: id, sub: 0, price, size, flags, cond: 0, ts_recv: NONE_I64, trade_id: id })
}
