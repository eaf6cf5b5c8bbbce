//! QuantConnect Lean's tick files: headerless CSV, one contract or share a file, everything else in the file names.
//!
//! | class | columns |
//! |---|---|
//! | future | ms since midnight UTC, price, quantity, exchange, condition, suspicious |
//! | US equity | ms since midnight New York, price x 10,000, shares, exchange, condition flags in hex, suspicious |
//! | crypto, forex | ms since midnight UTC, price, quantity |
//!
//! Lean numbers no trades, so the line number is the sequence: thousands of exact duplicates a day are all real.

use super::csv::{decimal, show, size};
use super::{Batch, Broken, Defaults, Feed, Names, Reject, fill_from_lines};
use crate::clock::{Clock, TimeFormat, date_of};
use crate::lines::{Lines, split};
use chrono::NaiveDate;
use chrono_tz::Tz;
use market::eligibility::{LEAN_SUSPICIOUS, lean_us_equity};
use market::trade::{NONE_I64, Trade, flags};

/// What kind of instrument a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A futures contract.
    Future,
    /// A US share.
    Equity,
    /// A pair of currencies.
    Pair,
}

/// What a file name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName {
    /// The day of the times of day.
    pub date: NaiveDate,
    /// `GCZ13`, `SPY`, `BTCUSD`.
    pub symbol: String,
    /// Year and month of a contract.
    pub contract: Option<(i32, u32)>,
}

/// Reads `20131007_gc_tick_trade_201312.csv`, `20131007_spy_Trade_Tick.csv`, `20180101_btcusd_tick_trade.csv`.
///
/// # Errors
/// A name that says something else, with what it should say.
pub fn file_name(name: &str) -> Result<FileName, String> {
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> = lower.trim_end_matches(".csv").split('_').collect();
    let bad = || {
        format!(
            "\"{name}\" is not named like Lean's trades (20131007_gc_tick_trade_201312.csv, 20131007_spy_Trade_Tick.csv); \
             load it with --format csv"
        )
    };
    let date = words.first().and_then(|w| date_of(w.as_bytes())).ok_or_else(bad)?;
    let root = *words.get(1).ok_or_else(bad)?;
    let kinds = words.get(2..).unwrap_or(&[]);
    if kinds.contains(&"quote") || kinds.contains(&"openinterest") {
        return Err(format!("\"{name}\" holds quotes or open interest, not trades"));
    }
    if ["second", "minute", "hour", "daily"].iter().any(|bars| kinds.contains(bars)) {
        return Err(format!("\"{name}\" holds bars, not trades; load the tick file of that day"));
    }
    if kinds.contains(&"call") || kinds.contains(&"put") {
        return Err(format!("\"{name}\" holds options, which are not supported"));
    }
    if !kinds.contains(&"trade") || !kinds.contains(&"tick") || root.is_empty() {
        return Err(bad());
    }
    let contract = match kinds.iter().find(|w| w.len() == 6 && w.bytes().all(|b| b.is_ascii_digit())) {
        None => None,
        Some(word) => {
            let (year, month) =
                (word[..4].parse::<i32>().map_err(|_| bad())?, word[4..].parse::<u32>().map_err(|_| bad())?);
            if !(1..=12).contains(&month) {
                return Err(bad());
            }
            Some((year, month))
        }
    };
    let root = root.to_ascii_uppercase();
    let symbol = match contract {
        None => root,
        Some((year, month)) => {
            let letter = char::from(b"FGHJKMNQUVXZ"[month as usize - 1]);
            format!("{root}{letter}{:02}", year.rem_euclid(100))
        }
    };
    Ok(FileName { date, symbol, contract })
}

/// One of Lean's tick files.
pub struct Lean<'r> {
    lines: Lines<'r>,
    name: u32,
    row: Row,
}

/// Reads one line.
struct Row {
    class: Class,
    clock: Clock,
    fields: Vec<(u32, u32)>,
}

impl<'r> Lean<'r> {
    /// Reads the file name and the shape of the first line. `folder` is the whole path, which names the asset class in
    /// Lean's own layout; `zone` overrides the class's zone.
    ///
    /// # Errors
    /// A file that is not one of Lean's trade files.
    pub fn new(
        mut lines: Lines<'r>,
        name: &str,
        folder: &str,
        symbol: Option<&str>,
        zone: Option<Tz>,
        names: &mut Names,
    ) -> Result<Lean<'r>, Broken> {
        let said = file_name(name).map_err(Broken::new)?;
        let first = lines.peek().map_err(|e| Broken::read(0, &e))?;
        let line = &first[..first.iter().position(|b| *b == b'\n').unwrap_or(first.len())];
        let columns = 1 + line.iter().filter(|b| **b == b',').count();
        let folder = folder.to_ascii_lowercase();
        let class = if said.contract.is_some() {
            Class::Future
        } else if columns == 3 || folder.contains("crypto") || folder.contains("forex") {
            Class::Pair
        } else {
            Class::Equity
        };
        let (calendar, venue, kind, zone_of_class) = match class {
            Class::Future => (None, None, "future", Tz::UTC),
            Class::Equity => (Some("XNYS"), None, "equity", chrono_tz::America::New_York),
            Class::Pair => (Some("24/7"), None, "pair", Tz::UTC),
        };
        names.set_defaults(Defaults { calendar: calendar.map(str::to_string), venue, kind: Some(kind.to_string()) });
        let name = names.id(symbol.unwrap_or(&said.symbol).as_bytes()).map_err(Broken::new)?;
        let clock = Clock::new(TimeFormat::MsOfDay, Some(zone.unwrap_or(zone_of_class)), Some(said.date));
        Ok(Lean { lines, name, row: Row { class, clock, fields: vec![] } })
    }
}

impl Row {
    fn trade(&mut self, text: &[u8], number: u64) -> Result<Trade, String> {
        split(text, b',', &mut self.fields);
        let wanted = if self.class == Class::Pair { 3 } else { 6 };
        if self.fields.len() < wanted {
            return Err(format!("has {} columns, not {wanted}", self.fields.len()));
        }
        let get = |at: usize| {
            let (start, end) = self.fields[at];
            &text[start as usize..end as usize]
        };
        let ts = self.clock.parse(get(0)).map_err(|e| format!("time {} {e}", show(get(0))))?;
        let mut price = decimal(get(1), "price")?;
        let (mut flags, mut cond) = (0, 0);
        if self.class == Class::Equity {
            if price % 10_000 != 0 {
                return Err(format!("price {} is not a count of 0.0001", show(get(1))));
            }
            price /= 10_000;
        }
        if self.class != Class::Pair {
            let hex = std::str::from_utf8(get(4)).unwrap_or("?");
            if !hex.is_empty() {
                cond = u32::from_str_radix(hex, 16)
                    .map_err(|_| format!("condition {} is not hexadecimal", show(get(4))))?;
            }
            let suspicious = match get(5) {
                b"0" | b"" => false,
                b"1" => true,
                other => return Err(format!("suspicious {} is neither 0 nor 1", show(other))),
            };
            if suspicious {
                cond |= LEAN_SUSPICIOUS;
                flags |= flags::SUSPECT;
            }
            if self.class == Class::Equity {
                flags |= lean_us_equity(cond);
            }
        }
        let size = size(get(2))?;
        Ok(Trade { ts, seq: number as i64, sub: 0, price, size, flags, cond, ts_recv: NONE_I64, trade_id: NONE_I64 })
    }
}

impl Feed for Lean<'_> {
    fn fill(&mut self, batch: &mut Batch, _names: &mut Names) -> Result<bool, Broken> {
        let Lean { lines, name, row } = self;
        fill_from_lines(lines, batch, |text, number, batch| match row.trade(text, number) {
            Ok(trade) => batch.push(*name, trade),
            Err(reason) => batch.rejects.push(Reject::new(number, reason, text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbol_contract_and_day_come_from_the_name() {
        let gold = file_name("20131007_gc_tick_trade_201312.csv").expect("a contract");
        assert_eq!(
            (gold.symbol.as_str(), gold.contract, gold.date.to_string()),
            ("GCZ13", Some((2013, 12)), "2013-10-07".into())
        );
        assert_eq!(file_name("20131007_spy_Trade_Tick.csv").expect("a share").symbol, "SPY");
        assert_eq!(file_name("20180101_btcusd_tick_trade.csv").expect("a pair").symbol, "BTCUSD");
    }

    #[test]
    fn bars_and_quotes_are_refused_by_name() {
        for (name, words) in [
            ("20131007_gc_minute_trade_201312.csv", "bars"),
            ("20131007_gc_tick_quote_201312.csv", "quotes"),
            ("ticks.csv", "--format csv"),
            ("20131007_gc_tick_trade_201399.csv", "not named"),
        ] {
            let error = file_name(name).expect_err(name);
            assert!(error.contains(words), "{error}");
        }
    }
}
