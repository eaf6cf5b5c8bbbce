//! Formats: what a file is, from its name and its first bytes, and the feed that reads it.

use super::{Broken, Feed, Names};
use super::{csv::Csv, lean::Lean};
use crate::columns::Rules;
use crate::input::Input;
use crate::lines::Lines;
use std::io::{Cursor, Read};

/// A file format of trades.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Databento Binary Encoding, versions 1 to 3: trades, and the trades in mbo, tbbo and mbp-1
    Dbn,
    /// Parquet, with the columns of --time-column, --price-column, ...
    Parquet,
    /// CSV, with the columns of --time-column, --price-column, ...
    Csv,
    /// QuantConnect Lean's tick files; symbol, contract and day come from their names
    Lean,
    /// Binance: a capture of the websocket (one JSON message a line), or a trades file of data.binance.vision
    Binance,
    /// Kraken: the JSON answer of GET /0/public/Trades
    Kraken,
}

impl Format {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Dbn => "dbn",
            Format::Parquet => "parquet",
            Format::Csv => "csv",
            Format::Lean => "lean",
            Format::Binance => "binance",
            Format::Kraken => "kraken",
        }
    }
}

/// What the first bytes give away.
fn seen(first: &[u8]) -> Option<Format> {
    let text = first.trim_ascii_start();
    let has = |words: &[u8]| first.windows(words.len()).any(|w| w == words);
    match first {
        [b'P', b'A', b'R', b'1', ..] => Some(Format::Parquet),
        [b'D', b'B', b'N', ..] | [b'D', b'B', b'Z', ..] => Some(Format::Dbn),
        _ if text.first() == Some(&b'{') && has(b"\"result\"") && has(b"\"error\"") => Some(Format::Kraken),
        _ if has(b"\"stream\"") || has(b"\"e\":\"trade\"") => Some(Format::Binance),
        _ => None,
    }
}

/// What the name says.
fn named(name: &str) -> Option<Format> {
    let lower = name.to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|e| lower.ends_with(e));
    if super::lean::file_name(name).is_ok() {
        return Some(Format::Lean);
    }
    if ends(&[".dbn", ".dbz"]) {
        Some(Format::Dbn)
    } else if ends(&[".parquet", ".pq"]) {
        Some(Format::Parquet)
    } else if ends(&[".ndjson", ".jsonl"]) || super::binance::dump_symbol(name).is_some() {
        Some(Format::Binance)
    } else if ends(&[".csv", ".tsv", ".txt"]) {
        Some(Format::Csv)
    } else {
        None
    }
}

/// How to read files: the format, where it is given, and the columns.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `--format`.
    pub format: Option<Format>,
    /// The columns of CSV and Parquet; zone and symbol count for others too.
    pub rules: Rules,
}

impl Reading {
    /// The feed of a source.
    ///
    /// # Errors
    /// A source of another format than asked for, or of none that is known.
    pub fn feed<'r>(&self, input: Input<'r>, names: &mut Names) -> Result<Box<dyn Feed + 'r>, Broken> {
        let Input { label, name, file, mut reader } = input;
        let mut first = vec![];
        (&mut reader).take(512).read_to_end(&mut first).map_err(|e| Broken::read(0, &e))?;
        let (seen, named) = (seen(&first), named(&name));
        let format = match (self.format, seen, named) {
            (Some(asked), Some(seen), _) if asked != seen => {
                return Err(Broken::new(format!(
                    "is not {}: it begins like a {} file; say --format {}",
                    asked.name(),
                    seen.name(),
                    seen.name()
                )));
            }
            (Some(asked), ..) => asked,
            (None, Some(seen), _) => seen,
            (None, None, Some(named)) => named,
            (None, None, None) => {
                return Err(Broken::new(format!(
                    "its format cannot be told from its name \"{name}\"; say --format dbn, parquet, csv, lean, binance or kraken"
                )));
            }
        };
        if name.to_ascii_lowercase().ends_with(".dbz") {
            return Err(Broken::new(
                "is DBZ, the format before DBN; convert it with `dbn FILE.dbz --output FILE.dbn` of Databento's dbn-cli",
            ));
        }
        names.set_defaults(super::Defaults::default());
        let symbol = self.rules.mapping.symbol.as_deref();
        let reader: Box<dyn Read + 'r> = Box::new(Cursor::new(first).chain(reader));
        Ok(match format {
            Format::Csv => Box::new(Csv::new(Lines::new(reader), &self.rules, names)?),
            Format::Lean => Box::new(Lean::new(Lines::new(reader), &name, &label, symbol, self.rules.zone, names)?),
            Format::Dbn => Box::new(super::dbn::Dbn::new(reader, symbol, names)?),
            Format::Parquet => super::parquet::open(file.as_deref(), reader, &self.rules, names)?,
            Format::Binance => super::binance::open(Lines::new(reader), &name, symbol, names)?,
            Format::Kraken => Box::new(super::kraken::Kraken::new(reader, symbol, names)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_told_from_the_name_or_the_first_bytes() {
        for (name, format) in [
            ("20131007_gc_tick_trade_201312.csv", Some(Format::Lean)),
            ("ticks.CSV", Some(Format::Csv)),
            ("x.dbn", Some(Format::Dbn)),
            ("BTCUSDT-trades-2024-08-09.csv", Some(Format::Binance)),
            ("x.parquet", Some(Format::Parquet)),
            ("notes", None),
        ] {
            assert_eq!(named(name), format, "{name}");
        }
        assert_eq!(seen(b"PAR1...."), Some(Format::Parquet));
        assert_eq!(seen(b"{\n \"error\": [],\n \"result\": {"), Some(Format::Kraken));
        assert_eq!(seen(b"123,1,1,usa,,0\n"), None);
    }
}
