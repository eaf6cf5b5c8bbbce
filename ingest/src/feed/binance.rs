//! Binance spot: captures of the websocket, and the trade files of data.binance.vision.
//!
//! A capture has one message a line, bare or inside the combined stream's envelope, with or without the local time in
//! nanoseconds in front. Only `trade` messages are trades; depth, bookTicker and the rest are passed over. Aggregate
//! trades are refused: they are the same trades again, and two feeds of one instrument never add up.

use super::csv::{decimal, integer, show, size};
use super::{Batch, Broken, Defaults, Feed, Names, Reject, fill_from_lines};
use crate::clock::{Clock, TimeFormat};
use crate::lines::{Lines, split};
use market::trade::{NONE_I64, Trade, flags};
use serde::Deserialize;
use std::borrow::Cow;

/// A trade message, <https://github.com/binance/binance-spot-api-docs/blob/master/web-socket-streams.md>.
#[derive(Debug, Deserialize)]
pub struct TradeMessage<'a> {
    /// Symbol, `BTCUSDT`.
    #[serde(rename = "s", borrow)]
    pub symbol: Cow<'a, str>,
    /// Trade id, without gaps within a symbol.
    #[serde(rename = "t")]
    pub id: i64,
    /// Price.
    #[serde(rename = "p", borrow)]
    pub price: Cow<'a, str>,
    /// Quantity.
    #[serde(rename = "q", borrow)]
    pub quantity: Cow<'a, str>,
    /// Time of the trade: ms, or us when the stream was asked for it.
    #[serde(rename = "T")]
    pub time: i64,
    /// Whether the buyer is the maker, so that the aggressor sold.
    #[serde(rename = "m")]
    pub buyer_is_maker: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, rename = "e")]
    event: Option<Cow<'a, str>>,
}

/// What a websocket message is.
#[derive(Debug)]
pub enum Message<'a> {
    /// A trade.
    Trade(TradeMessage<'a>),
    /// Something else that is well-formed: depth, an acknowledgement, ...
    Other(String),
}

impl<'a> Message<'a> {
    /// Reads one message, bare or in the combined stream's envelope.
    ///
    /// # Errors
    /// Text that is not JSON, or a trade message without its parts.
    pub fn parse(text: &'a [u8]) -> Result<Message<'a>, String> {
        let text = std::str::from_utf8(text).map_err(|_| "message is not UTF-8 text".to_string())?;
        let broken = |e: serde_json::Error| format!("message is not Binance's JSON: {e}");
        let outer: Envelope = serde_json::from_str(text).map_err(broken)?;
        let (inner_text, inner) = match outer.data {
            Some(data) if data.get().starts_with('{') => {
                (data.get(), serde_json::from_str(data.get()).map_err(broken)?)
            }
            _ => (text, outer),
        };
        match inner.event.as_deref() {
            Some("trade") => Ok(Message::Trade(serde_json::from_str(inner_text).map_err(broken)?)),
            Some(event) => Ok(Message::Other(event.to_string())),
            None => Ok(Message::Other(String::new())),
        }
    }
}

impl TradeMessage<'_> {
    /// The trade, received at `ts_recv`.
    ///
    /// # Errors
    /// A price or quantity that is no decimal, a negative quantity, a time out of range.
    pub fn trade(&self, ts_recv: i64) -> Result<Trade, String> {
        let price = decimal(self.price.as_bytes(), "price")?;
        let size = size(self.quantity.as_bytes())?;
        let ts = venue_time(self.time)?;
        let flags = aggressor(self.buyer_is_maker);
        Ok(Trade { ts, seq: self.id, sub: 0, price, size, flags, cond: 0, ts_recv, trade_id: self.id })
    }
}

fn aggressor(buyer_is_maker: bool) -> u32 {
    if buyer_is_maker { flags::SELL } else { flags::BUY }
}

/// Milliseconds until 2024, microseconds from 2025 on: a thousand times larger, so there is no doubt which.
fn venue_time(time: i64) -> Result<i64, String> {
    let unit = if time >= 100_000_000_000_000 { 1000 } else { 1_000_000 };
    time.checked_mul(unit).filter(|t| *t > 0).ok_or_else(|| format!("time {time} is out of range"))
}

/// What the venue implies about its instruments.
pub fn defaults() -> Defaults {
    Defaults { calendar: Some("24/7".into()), venue: Some("BINANCE".into()), kind: Some("pair".into()) }
}

/// `BTCUSDT-trades-2024-08-09.csv` -> `BTCUSDT`.
pub fn dump_symbol(name: &str) -> Option<&str> {
    let (symbol, date) = name.split_once("-trades-")?;
    let date = date.strip_suffix(".csv")?;
    let fine = !symbol.is_empty() && date.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    fine.then_some(symbol)
}

/// A capture or a dump, told apart by the first byte.
///
/// # Errors
/// A dump whose name does not say its symbol, and files of aggregate trades.
pub fn open<'r>(
    mut lines: Lines<'r>,
    name: &str,
    symbol: Option<&str>,
    names: &mut Names,
) -> Result<Box<dyn Feed + 'r>, Broken> {
    if name.contains("-aggTrades-") {
        return Err(Broken::new("holds aggregate trades, which are the same trades again; load the -trades- file"));
    }
    names.set_defaults(defaults());
    let first = lines.peek().map_err(|e| Broken::read(0, &e))?;
    let line = &first[..first.iter().position(|b| *b == b'\n').unwrap_or(first.len())];
    if line.contains(&b'{') {
        return Ok(Box::new(Capture { lines, symbol: symbol.map(str::to_string) }));
    }
    let commas = line.iter().filter(|b| **b == b',').count();
    if !(5..=6).contains(&commas) {
        return Err(Broken::at(
            1,
            "is neither a capture of Binance's websocket nor one of its trade files (6 or 7 columns)",
        ));
    }
    let symbol = symbol.or(dump_symbol(name)).ok_or_else(|| {
        Broken::new(
            "is a trade file whose name does not say its symbol (BTCUSDT-trades-2024-08-09.csv); say --symbol BTCUSDT",
        )
    })?;
    let name = names.id(symbol.as_bytes()).map_err(Broken::new)?;
    Ok(Box::new(Dump { lines, name, fields: vec![] }))
}

struct Capture<'r> {
    lines: Lines<'r>,
    symbol: Option<String>,
}

impl Capture<'_> {
    fn trade(text: &[u8], symbol: Option<&str>, names: &mut Names) -> Result<Option<(u32, Trade)>, String> {
        let json = text.iter().position(|b| *b == b'{').ok_or("has no JSON message")?;
        let (stamp, json) = text.split_at(json);
        let stamp = stamp.trim_ascii();
        let ts_recv = if stamp.is_empty() {
            NONE_I64
        } else {
            Clock::new(TimeFormat::EpochNs, None, None)
                .parse(stamp)
                .map_err(|e| format!("local time {} {e}", show(stamp)))?
        };
        match Message::parse(json)? {
            Message::Trade(message) => {
                let name = names.id(symbol.unwrap_or(&message.symbol).as_bytes())?;
                Ok(Some((name, message.trade(ts_recv)?)))
            }
            Message::Other(_) => Ok(None),
        }
    }
}

impl Feed for Capture<'_> {
    fn fill(&mut self, batch: &mut Batch, names: &mut Names) -> Result<bool, Broken> {
        let Capture { lines, symbol } = self;
        fill_from_lines(lines, batch, |text, number, batch| match Capture::trade(text, symbol.as_deref(), names) {
            Ok(Some((name, trade))) => batch.push(name, trade),
            Ok(None) => {}
            Err(reason) => batch.rejects.push(Reject::new(number, reason, text)),
        })
    }
}

/// `id,price,qty,quoteQty,time,isBuyerMaker[,isBestMatch]`, without a header until lately.
struct Dump<'r> {
    lines: Lines<'r>,
    name: u32,
    fields: Vec<(u32, u32)>,
}

impl Dump<'_> {
    fn trade(text: &[u8], fields: &mut Vec<(u32, u32)>) -> Result<Trade, String> {
        split(text, b',', fields);
        if !(6..=7).contains(&fields.len()) {
            return Err(format!("has {} columns, not 6 or 7", fields.len()));
        }
        let get = |at: usize| {
            let (start, end) = fields[at];
            &text[start as usize..end as usize]
        };
        let id = integer(get(0), "trade id")?;
        let price = decimal(get(1), "price")?;
        let size = size(get(2))?;
        let ts = venue_time(integer(get(4), "time")?)?;
        let flags = match get(5).to_ascii_lowercase().as_slice() {
            b"true" => aggressor(true),
            b"false" => aggressor(false),
            _ => return Err(format!("isBuyerMaker {} is neither true nor false", show(get(5)))),
        };
        Ok(Trade { ts, seq: id, sub: 0, price, size, flags, cond: 0, ts_recv: NONE_I64, trade_id: id })
    }
}

impl Feed for Dump<'_> {
    fn fill(&mut self, batch: &mut Batch, _names: &mut Names) -> Result<bool, Broken> {
        let Dump { lines, name, fields } = self;
        fill_from_lines(lines, batch, |text, number, batch| {
            if number == 1 && text.first().is_some_and(u8::is_ascii_alphabetic) {
                return; // A header.
            }
            match Dump::trade(text, fields) {
                Ok(trade) => batch.push(*name, trade),
                Err(reason) => batch.rejects.push(Reject::new(number, reason, text)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trade_message_reads_bare_and_in_its_envelope() {
        let bare = r#"{"e":"trade","E":1723161601438,"s":"BTCUSDT","t":3735693016,"p":"61685.99000000","q":"0.00017000","T":1723161601437,"m":true,"M":true}"#;
        let enveloped = format!(r#"{{"stream":"btcusdt@trade","data":{bare}}}"#);
        for text in [bare, &enveloped] {
            let Ok(Message::Trade(message)) = Message::parse(text.as_bytes()) else { panic!("{text}") };
            let trade = message.trade(7).expect("a good trade");
            assert_eq!(
                (trade.ts, trade.seq, trade.price),
                (1_723_161_601_437_000_000, 3_735_693_016, 61_685_990_000_000)
            );
            assert_eq!((trade.size, trade.flags, trade.ts_recv), (170_000, flags::SELL, 7));
        }
        assert!(matches!(Message::parse(br#"{"result":null,"id":1}"#), Ok(Message::Other(_))));
        assert!(Message::parse(b"{\"e\":\"trade\"}").is_err());
    }

    #[test]
    fn dumps_are_microseconds_from_2025_on() {
        let mut fields = vec![];
        let old = Dump::trade(b"1,0.5,2,1,1723161601437,true,true", &mut fields).expect("2024");
        let new = Dump::trade(b"1,0.5,2,1,1735689600000123,False", &mut fields).expect("2025");
        assert_eq!((old.ts, new.ts), (1_723_161_601_437_000_000, 1_735_689_600_000_123_000));
        assert_eq!((old.flags, new.flags), (flags::SELL, flags::BUY));
        assert_eq!(dump_symbol("BTCUSDT-trades-2024-08-09.csv"), Some("BTCUSDT"));
    }
}
