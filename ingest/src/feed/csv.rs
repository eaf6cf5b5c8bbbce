//! CSV with columns mapped by [`Rules`].

use super::{Batch, Broken, Feed, Names, Ordinal, Reject, fill_from_lines};
use crate::clock::{self, Clock};
use crate::columns::{Places, Rules, scaled};
use crate::lines::{Line, Lines, split};
use market::eligibility::Table;
use market::money;
use market::trade::{NONE_I64, Trade, flags};

/// A CSV source.
pub struct Csv<'r> {
    lines: Lines<'r>,
    row: Row,
    /// A first line that is not a header and has still to be read as a trade.
    pending: Option<Vec<u8>>,
}

/// Reads one line.
struct Row {
    rules: Rules,
    delimiter: u8,
    places: Places,
    clock: Clock,
    recv_clock: Clock,
    fields: Vec<(u32, u32)>,
    /// The number of the one symbol of the file.
    only: Option<u32>,
    /// By symbol, for a sequence that is not per trade.
    ordinals: Vec<Ordinal>,
}

impl<'r> Csv<'r> {
    /// Reads the header and finds the columns.
    ///
    /// # Errors
    /// A source without a first line, or without a column that is needed.
    pub fn new(mut lines: Lines<'r>, rules: &Rules, names: &mut Names) -> Result<Csv<'r>, Broken> {
        let first = match lines.next().map_err(|e| Broken::read(0, &e))? {
            Line::Text(text) => text.to_vec(),
            Line::TooLong(_) => return Err(Broken::at(1, "is not CSV: its first line has more than 64 KiB")),
            Line::End => return Err(Broken::new("is empty")),
        };
        if first.contains(&0) {
            return Err(Broken::at(1, "is not CSV: it has binary content; say its --format"));
        }
        let delimiter = rules.delimiter.unwrap_or_else(|| guess_delimiter(&first));
        let mut fields = vec![];
        split(&first, delimiter, &mut fields);
        let header: Vec<String> = if rules.mapping.no_header {
            (1..=fields.len()).map(|n| n.to_string()).collect()
        } else {
            fields.iter().map(|f| String::from_utf8_lossy(part(&first, *f)).into_owned()).collect()
        };
        let places = rules.places(&header).map_err(|e| Broken { line: Some(1), reason: e.reason })?;
        let only = match &rules.mapping.symbol {
            Some(symbol) => Some(names.id(symbol.as_bytes()).map_err(|e| Broken::new(format!("--symbol: {e}")))?),
            None => None,
        };
        let clock = rules.clock();
        let pending = rules.mapping.no_header.then_some(first);
        let (rules, recv_clock) = (rules.clone(), clock.clone());
        let row = Row { rules, delimiter, places, recv_clock, clock, fields, only, ordinals: vec![] };
        Ok(Csv { lines, row, pending })
    }
}

impl Feed for Csv<'_> {
    fn fill(&mut self, batch: &mut Batch, names: &mut Names) -> Result<bool, Broken> {
        if let Some(first) = self.pending.take() {
            self.row.read(&first, 1, batch, names);
        }
        let Csv { lines, row, .. } = self;
        fill_from_lines(lines, batch, |text, number, batch| row.read(text, number, batch, names))
    }
}

impl Row {
    fn read(&mut self, text: &[u8], number: u64, batch: &mut Batch, names: &mut Names) {
        split(text, self.delimiter, &mut self.fields);
        match self.trade(text, number, names) {
            Ok((name, trade)) => batch.push(name, trade),
            Err(reason) => batch.rejects.push(Reject::new(number, reason, text)),
        }
    }

    fn trade(&mut self, text: &[u8], number: u64, names: &mut Names) -> Result<(u32, Trade), String> {
        let fields = &self.fields;
        let get = |at: usize| {
            fields
                .get(at)
                .map(|f| part(text, *f))
                .ok_or_else(|| format!("has {} columns, not {}", fields.len(), at + 1))
        };
        let p = self.places;
        if let Some(at) = p.date {
            let day = get(at)?;
            let date = clock::date_of(day).ok_or_else(|| format!("date {} is not like 2024-03-15", show(day)))?;
            self.clock.set_date(date);
            self.recv_clock.set_date(date);
        }
        let time = get(p.time)?;
        let ts = self.clock.parse(time).map_err(|e| format!("time {} {e}", show(time)))?;
        let price = decimal(get(p.price)?, "price")?;
        let price = match self.rules.scale {
            Some(scale) => scaled(price, scale)?,
            None => price,
        };
        let size = size(get(p.size)?)?;
        let name = match (self.only, p.symbol) {
            (Some(name), _) => name,
            (None, Some(at)) => names.id(get(at)?)?,
            (None, None) => return Err("no symbol".into()),
        };
        let mut flags = match p.side {
            Some(at) => side(get(at)?)?,
            None => 0,
        };
        let cond = match p.condition {
            Some(at) => condition(get(at)?, self.rules.table)?,
            None => 0,
        };
        flags |= self.rules.table.flags(cond);
        let trade_id = match p.trade_id {
            Some(at) => integer(get(at)?, "trade id")?,
            None => NONE_I64,
        };
        let (seq, sub) = match p.seq {
            Some(at) => {
                let seq = integer(get(at)?, "sequence")?;
                let slot = name as usize;
                if self.ordinals.len() <= slot {
                    self.ordinals.resize(slot + 1, Ordinal::default());
                }
                (seq, self.ordinals[slot].of(ts, seq))
            }
            None if trade_id != NONE_I64 => (trade_id, 0),
            None => (number as i64, 0),
        };
        let ts_recv = match p.recv {
            Some(at) if !get(at)?.is_empty() => {
                let recv = get(at)?;
                self.recv_clock.parse(recv).map_err(|e| format!("time of receipt {} {e}", show(recv)))?
            }
            _ => NONE_I64,
        };
        Ok((name, Trade { ts, seq, sub, price, size, flags, cond, ts_recv, trade_id }))
    }
}

fn part(line: &[u8], (start, end): (u32, u32)) -> &[u8] {
    &line[start as usize..end as usize]
}

fn guess_delimiter(line: &[u8]) -> u8 {
    let count = |d: u8| line.iter().filter(|b| **b == d).count();
    [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|d| count(*d)).unwrap_or(b',')
}

/// A value as shown in a reason.
pub(crate) fn show(value: &[u8]) -> String {
    format!("\"{}\"", String::from_utf8_lossy(&value[..value.len().min(40)]).escape_debug())
}

/// A decimal in nanos.
pub(crate) fn decimal(text: &[u8], what: &str) -> Result<i64, String> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| money::parse_decimal(t).ok())
        .ok_or_else(|| format!("{what} {} is not a decimal number of at most nine decimals", show(text)))
}

/// A size in nanos; zero is legal, negative is not.
pub(crate) fn size(text: &[u8]) -> Result<i64, String> {
    match decimal(text, "size")? {
        size if size < 0 => Err(format!("size {} is negative", show(text))),
        size => Ok(size),
    }
}

pub(crate) fn integer(text: &[u8], what: &str) -> Result<i64, String> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse::<i64>().ok())
        .filter(|n| *n != NONE_I64)
        .ok_or_else(|| format!("{what} {} is not a whole number", show(text)))
}

/// The aggressor's side as a flag.
pub(crate) fn side(text: &[u8]) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    match lower.as_slice() {
        b"b" | b"buy" | b"bid" | b"buyer" | b"1" | b"+1" => Ok(flags::BUY),
        b"s" | b"a" | b"sell" | b"ask" | b"seller" | b"-1" => Ok(flags::SELL),
        b"" | b"n" | b"none" | b"unknown" | b"0" => Ok(0),
        _ => Err(format!("side {} is none of buy, sell, b, s, bid, ask, 1, -1 or empty", show(text))),
    }
}

/// A raw condition: hexadecimal with 0x or under Lean's table, else decimal.
pub(crate) fn condition(text: &[u8], table: &Table) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let bad = || format!("condition {} is not a number", show(text));
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None if table.name == "lean-us-equity" => u32::from_str_radix(text, 16),
        None => text.parse(),
    }
    .map_err(|_| bad())
}
