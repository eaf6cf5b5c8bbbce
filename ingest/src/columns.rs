//! Which column is what: flags or a small TOML for CSV and Parquet files, with guesses for the usual names.

use crate::clock::{Clock, TimeFormat};
use crate::feed::Broken;
use crate::{Error, Result};
use chrono::NaiveDate;
use chrono_tz::Tz;
use market::eligibility::Table;
use market::money;
use serde::Deserialize;
use std::path::Path;

/// How to read the columns of a CSV or Parquet file. Columns are named by their header, or numbered from 1.
#[derive(clap::Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[command(next_help_heading = "Columns of CSV and Parquet files (by name, or by number from 1)")]
pub struct Mapping {
    /// Time of the trade [usual names are found: ts, time, timestamp, ts_event, ...]
    #[arg(long, value_name = "COLUMN")]
    pub time_column: Option<String>,
    /// How times are written
    #[arg(long, value_name = "FORMAT")]
    pub time_format: Option<TimeFormat>,
    /// Day of times of day, such as 2024-03-15
    #[arg(long, value_name = "DATE")]
    pub date: Option<String>,
    /// Column with the day of times of day
    #[arg(long, value_name = "COLUMN")]
    pub date_column: Option<String>,
    /// Zone of times without an offset, such as UTC or America/New_York
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Price [price, px, last]
    #[arg(long, value_name = "COLUMN")]
    pub price_column: Option<String>,
    /// What one unit of the price column is worth, such as 0.0001
    #[arg(long, value_name = "DECIMAL")]
    pub price_scale: Option<String>,
    /// Size [size, qty, quantity, volume, amount]
    #[arg(long, value_name = "COLUMN")]
    pub size_column: Option<String>,
    /// Aggressor's side: buy/sell, b/s, bid/ask, 1/-1 [side]
    #[arg(long, value_name = "COLUMN")]
    pub side_column: Option<String>,
    /// Symbol [symbol, ticker, instrument]
    #[arg(long, value_name = "COLUMN")]
    pub symbol_column: Option<String>,
    /// The symbol of every trade of the files
    #[arg(long, value_name = "SYMBOL")]
    pub symbol: Option<String>,
    /// Sale condition, a number (0x... is hexadecimal) [cond, condition, conditions]
    #[arg(long, value_name = "COLUMN")]
    pub condition_column: Option<String>,
    /// Which table turns conditions into eligibility: none, lean-us-equity
    #[arg(long, value_name = "TABLE")]
    pub condition_table: Option<String>,
    /// The venue's sequence number [seq, sequence]; without it the trade id, without both the line number
    #[arg(long, value_name = "COLUMN")]
    pub seq_column: Option<String>,
    /// The venue's trade id [trade_id, tradeid, id]
    #[arg(long, value_name = "COLUMN")]
    pub trade_id_column: Option<String>,
    /// When the trade was received, in the format of the time column [ts_recv]
    #[arg(long, value_name = "COLUMN")]
    pub recv_column: Option<String>,
    /// The first line is a trade, not a header; columns are numbered from 1
    #[arg(long)]
    pub no_header: bool,
    /// What stands between columns: one character, or `tab` [the one of , ; | tab that the first line has]
    #[arg(long, value_name = "CHARACTER")]
    pub delimiter: Option<String>,
}

impl Mapping {
    /// Reads a mapping file: the flags' names as keys.
    ///
    /// # Errors
    /// A file that cannot be read, or with keys that are no flags.
    pub fn from_file(path: &Path) -> Result<Mapping> {
        let say = |reason: String| Error::Usage(format!("--map {}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| say(e.to_string()))?;
        toml::from_str(&text).map_err(|e| say(e.to_string()))
    }

    /// Flags over the file.
    pub fn over(self, below: Mapping) -> Mapping {
        Mapping {
            time_column: self.time_column.or(below.time_column),
            time_format: self.time_format.or(below.time_format),
            date: self.date.or(below.date),
            date_column: self.date_column.or(below.date_column),
            zone: self.zone.or(below.zone),
            price_column: self.price_column.or(below.price_column),
            price_scale: self.price_scale.or(below.price_scale),
            size_column: self.size_column.or(below.size_column),
            side_column: self.side_column.or(below.side_column),
            symbol_column: self.symbol_column.or(below.symbol_column),
            symbol: self.symbol.or(below.symbol),
            condition_column: self.condition_column.or(below.condition_column),
            condition_table: self.condition_table.or(below.condition_table),
            seq_column: self.seq_column.or(below.seq_column),
            trade_id_column: self.trade_id_column.or(below.trade_id_column),
            recv_column: self.recv_column.or(below.recv_column),
            no_header: self.no_header || below.no_header,
            delimiter: self.delimiter.or(below.delimiter),
        }
    }

    /// Checks everything that does not need a file.
    ///
    /// # Errors
    /// An unknown zone, a date that is none, a scale that is no positive decimal.
    pub fn check(&self) -> Result<Rules> {
        let zone = match &self.zone {
            None => None,
            Some(name) => Some(name.parse::<Tz>().map_err(|_| {
                Error::Usage(format!(
                    "--zone \"{name}\" is not a time zone; use an IANA name such as UTC, America/New_York"
                ))
            })?),
        };
        let date =
            match &self.date {
                None => None,
                Some(text) => Some(crate::clock::date_of(text.as_bytes()).ok_or_else(|| {
                    Error::Usage(format!("--date \"{text}\" is not a date; write it like 2024-03-15"))
                })?),
            };
        let scale = match &self.price_scale {
            None => None,
            Some(text) => Some(money::parse_decimal(text).ok().filter(|s| *s > 0).ok_or_else(|| {
                Error::Usage(format!("--price-scale \"{text}\" is not a positive decimal such as 0.0001"))
            })?),
        };
        let delimiter = match self.delimiter.as_deref() {
            None => None,
            Some("tab" | "\\t" | "\t") => Some(b'\t'),
            Some(text) if text.len() == 1 && text.is_ascii() => Some(text.as_bytes()[0]),
            Some(text) => {
                return Err(Error::Usage(format!(
                    "--delimiter \"{text}\" is not one character; use , or ; or | or tab"
                )));
            }
        };
        let table = market::eligibility::table(self.condition_table.as_deref().unwrap_or("none"))?;
        Ok(Rules { mapping: self.clone(), zone, date, scale, delimiter, table })
    }
}

/// A checked mapping.
#[derive(Clone, Debug)]
pub struct Rules {
    /// As given.
    pub mapping: Mapping,
    /// `--zone`.
    pub zone: Option<Tz>,
    /// `--date`.
    pub date: Option<NaiveDate>,
    /// `--price-scale` in nanos.
    pub scale: Option<i64>,
    /// `--delimiter`.
    pub delimiter: Option<u8>,
    /// `--condition-table`.
    pub table: &'static Table,
}

impl Default for Rules {
    fn default() -> Rules {
        let table = &market::eligibility::TABLES[0];
        Rules { mapping: Mapping::default(), zone: None, date: None, scale: None, delimiter: None, table }
    }
}

/// Where the parts of a trade are, as positions from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Time.
    pub time: usize,
    /// Day of times of day.
    pub date: Option<usize>,
    /// Price.
    pub price: usize,
    /// Size.
    pub size: usize,
    /// Side of the aggressor.
    pub side: Option<usize>,
    /// Symbol; absent when one symbol is given for all.
    pub symbol: Option<usize>,
    /// Sale condition.
    pub condition: Option<usize>,
    /// Sequence.
    pub seq: Option<usize>,
    /// Trade id.
    pub trade_id: Option<usize>,
    /// Time of receipt.
    pub recv: Option<usize>,
}

impl Rules {
    /// A clock for the time column.
    pub fn clock(&self) -> Clock {
        Clock::new(self.mapping.time_format.unwrap_or(TimeFormat::Auto), self.zone, self.date)
    }

    /// Finds the columns in a header (or in the numbers 1 to `names.len()`).
    ///
    /// # Errors
    /// A column that is asked for and not there, or one that is needed and cannot be guessed.
    pub fn places(&self, names: &[String]) -> std::result::Result<Places, Broken> {
        let m = &self.mapping;
        let find = |asked: &Option<String>, flag: &str, usual: &[&str]| match asked {
            Some(name) => position(names, name).map(Some).ok_or_else(|| {
                Broken::new(format!("has no column \"{name}\" ({flag}); its columns are {}", names.join(", ")))
            }),
            None => Ok(usual.iter().find_map(|usual| names.iter().position(|n| n.eq_ignore_ascii_case(usual)))),
        };
        let need = |found: Option<usize>, what: &str, flag: &str| {
            found.ok_or_else(|| {
                Broken::new(format!(
                    "has no column known as {what}; say which with {flag} (columns: {})",
                    names.join(", ")
                ))
            })
        };
        let time = find(&m.time_column, "--time-column", &TIMES)?;
        let symbol = match &m.symbol {
            Some(_) => None,
            None => {
                let found = find(
                    &m.symbol_column,
                    "--symbol-column",
                    &["symbol", "ticker", "instrument", "raw_symbol", "sym"],
                )?;
                Some(found.ok_or_else(|| {
                    Broken::new(format!(
                        "has no column known as symbol; say --symbol-column, or --symbol ESZ25 for all its trades (columns: {})",
                        names.join(", ")
                    ))
                })?)
            }
        };
        Ok(Places {
            time: need(time, "time", "--time-column")?,
            date: find(&m.date_column, "--date-column", &[])?,
            price: need(find(&m.price_column, "--price-column", &["price", "px", "last"])?, "price", "--price-column")?,
            size: need(find(&m.size_column, "--size-column", &SIZES)?, "size", "--size-column")?,
            side: find(&m.side_column, "--side-column", &["side"])?,
            symbol,
            condition: find(&m.condition_column, "--condition-column", &["cond", "condition", "conditions"])?,
            seq: find(&m.seq_column, "--seq-column", &["seq", "sequence"])?,
            trade_id: find(&m.trade_id_column, "--trade-id-column", &["trade_id", "tradeid", "id"])?,
            recv: find(&m.recv_column, "--recv-column", &["ts_recv"])?,
        })
    }
}

const TIMES: [&str; 9] =
    ["ts", "ts_event", "time", "timestamp", "timestamp_utc", "datetime", "date_time", "trade_time", "t"];
const SIZES: [&str; 7] = ["size", "qty", "quantity", "volume", "amount", "shares", "sz"];

fn position(names: &[String], asked: &str) -> Option<usize> {
    names
        .iter()
        .position(|n| n == asked)
        .or_else(|| names.iter().position(|n| n.eq_ignore_ascii_case(asked)))
        .or_else(|| asked.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < names.len()))
}

/// `price * scale` for a price column that counts units of `scale`.
///
/// # Errors
/// A product that is not a whole number of nanos or too large.
pub fn scaled(price: i64, scale: i64) -> std::result::Result<i64, String> {
    let product = i128::from(price) * i128::from(scale);
    if product % i128::from(money::ONE) != 0 {
        return Err("price times --price-scale has more than nine decimals".into());
    }
    i64::try_from(product / i128::from(money::ONE)).map_err(|_| "price times --price-scale is out of range".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split(',').map(str::to_string).collect()
    }

    #[test]
    fn usual_names_are_found_and_flags_win() {
        let places = Rules::default().places(&names("ts,symbol,price,size,trade_id")).expect("usual names");
        assert_eq!(
            (places.time, places.symbol, places.price, places.size, places.trade_id),
            (0, Some(1), 2, 3, Some(4))
        );
        let mapping = Mapping { time_column: Some("3".into()), symbol: Some("SPY".into()), ..Mapping::default() };
        let places = mapping.check().expect("nothing to refuse").places(&names("price,qty,when")).expect("a number");
        assert_eq!((places.time, places.symbol, places.size), (2, None, 1));
    }

    #[test]
    fn a_missing_column_names_the_flag_and_the_columns() {
        let error = Rules::default().places(&names("when,symbol,price,size")).expect_err("no time").reason;
        assert!(error.contains("--time-column") && error.contains("when, symbol"), "{error}");
        let mapping = Mapping { price_column: Some("last_price".into()), ..Mapping::default() };
        let error =
            mapping.check().expect("fine").places(&names("ts,symbol,price,size")).expect_err("no column").reason;
        assert!(error.contains("\"last_price\"") && error.contains("--price-column"), "{error}");
    }

    #[test]
    fn a_map_file_has_the_flags_as_keys() {
        let map: Mapping =
            toml::from_str("time-column = \"t\"\ntime-format = \"epoch-ms\"\nno-header = true").expect("keys");
        assert_eq!((map.time_format, map.no_header), (Some(TimeFormat::EpochMs), true));
        assert!(toml::from_str::<Mapping>("time-colum = \"t\"").is_err());
    }

    #[test]
    fn prices_are_scaled_exactly() {
        assert_eq!(scaled(1_674_100 * money::ONE, 100_000), Ok(167_410_000_000));
        assert!(scaled(1, 1).is_err());
    }
}
