//! How a symbol is written: `ESZ5`, `ESZ25`, `ES.c.0`, `SPY`, `BTC-USD`.

use crate::error::{Error, Result};
use crate::products::product;
use crate::time::TradeDate;
use chrono::Datelike;
use std::fmt;

/// The letters of the delivery months, January to December.
pub const MONTH_CODES: [char; 12] = ['F', 'G', 'H', 'J', 'K', 'M', 'N', 'Q', 'U', 'V', 'X', 'Z'];

/// The letter of a delivery month (1-12): 12 is `Z`.
pub fn month_code(month: u32) -> Option<char> {
    MONTH_CODES.get((month as usize).checked_sub(1)?).copied()
}

/// The delivery month (1-12) of a letter.
pub fn month_of_code(code: char) -> Option<u32> {
    MONTH_CODES.iter().position(|c| *c == code.to_ascii_uppercase()).map(|index| index as u32 + 1)
}

/// How a continuous future picks its contract.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Roll {
    /// `c`: by the calendar, the nearest expiry first.
    Calendar,
    /// `v`: by volume.
    Volume,
    /// `n`: by open interest.
    OpenInterest,
}

impl Roll {
    /// `c`, `v`, `n`.
    pub const fn letter(self) -> char {
        match self {
            Roll::Calendar => 'c',
            Roll::Volume => 'v',
            Roll::OpenInterest => 'n',
        }
    }
}

/// A symbol, read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Symbol {
    /// One contract. The year is whole (2025); see [`Symbol::parse`].
    Future {
        /// `ES`.
        root: String,
        /// 1 to 12.
        month: u32,
        /// Four digits.
        year: i32,
    },
    /// A continuous future: `ES.c.0` is the front contract by the calendar.
    Continuous {
        /// `ES`.
        root: String,
        /// What ranks the contracts.
        rule: Roll,
        /// 0 is the first.
        rank: u32,
    },
    /// Anything else: an equity, a pair, an index, a root.
    Plain(String),
}

impl Symbol {
    /// Reads a symbol. A contract needs a known root, so that an equity named like one stays an equity; its year of one
    /// digit is the one nearest to `near`, of two digits the century's nearest.
    ///
    /// # Errors
    /// `Invalid` for an empty or overlong symbol, white space or control characters.
    ///
    /// ```
    /// use market::{Symbol, TradeDate};
    /// let today = TradeDate::parse("2024-06-03")?;
    /// assert_eq!(Symbol::parse("ESZ5", today)?.to_string(), "ESZ25");
    /// assert_eq!(Symbol::parse("ES.c.0", today)?.to_string(), "ES.c.0");
    /// assert_eq!(Symbol::parse("BTC-USD", today)?.to_string(), "BTC-USD");
    /// # Ok::<(), market::Error>(())
    /// ```
    pub fn parse(text: &str, near: TradeDate) -> Result<Symbol> {
        Symbol::parse_with(text, near, |root| product(root).is_some())
    }

    /// Like [`Symbol::parse`], where the caller knows more roots than `products/*.toml`.
    ///
    /// # Errors
    /// As [`Symbol::parse`].
    pub fn parse_with(text: &str, near: TradeDate, is_root: impl Fn(&str) -> bool) -> Result<Symbol> {
        let symbol = text.trim();
        let legal = (1..=64).contains(&symbol.len()) && symbol.chars().all(|c| !c.is_whitespace() && !c.is_control());
        if !legal {
            return Err(Error::invalid("symbol", text.chars().take(80).collect::<String>(), ALLOWED));
        }
        if let Some(continuous) = continuous(symbol) {
            return Ok(continuous);
        }
        Ok(contract(symbol, near, is_root).unwrap_or_else(|| Symbol::Plain(symbol.to_string())))
    }

    /// The product root, for contracts and continuous futures.
    pub fn root(&self) -> Option<&str> {
        match self {
            Symbol::Future { root, .. } | Symbol::Continuous { root, .. } => Some(root),
            Symbol::Plain(_) => None,
        }
    }
}

const ALLOWED: &str = "1 to 64 characters without spaces, such as ESZ25, ES.c.0, SPY or BTC-USD";

fn continuous(symbol: &str) -> Option<Symbol> {
    let mut parts = symbol.rsplitn(3, '.');
    let (rank, rule, root) = (parts.next()?, parts.next()?, parts.next()?);
    let rule = match rule {
        "c" => Roll::Calendar,
        "v" => Roll::Volume,
        "n" => Roll::OpenInterest,
        _ => return None,
    };
    let digits = (1..=2).contains(&rank.len()) && rank.bytes().all(|b| b.is_ascii_digit());
    let rank = rank.parse().ok().filter(|_| digits && !root.is_empty())?;
    Some(Symbol::Continuous { root: root.to_string(), rule, rank })
}

fn contract(symbol: &str, near: TradeDate, is_root: impl Fn(&str) -> bool) -> Option<Symbol> {
    let letters = symbol.trim_end_matches(|c: char| c.is_ascii_digit());
    let year = &symbol[letters.len()..];
    let code = letters.chars().next_back()?;
    // Upper case only: `esz5` is a typo that the caller's "did you mean" answers.
    let month = month_of_code(code).filter(|_| code.is_ascii_uppercase())?;
    let root = &letters[..letters.len() - 1];
    if !is_root(root) {
        return None;
    }
    let (digits, period) = match year.len() {
        1 => (year.parse::<i32>().ok()?, 10),
        2 => (year.parse::<i32>().ok()?, 100),
        4 => (year.parse::<i32>().ok()?, 10_000),
        _ => return None,
    };
    Some(Symbol::Future { root: root.to_string(), month, year: nearest_year(digits, period, month, near) })
}

/// The year ending in these digits whose delivery month is nearest to a date; of two as near, the later.
fn nearest_year(digits: i32, period: i32, month: u32, near: TradeDate) -> i32 {
    if period == 10_000 {
        return digits;
    }
    let date = near.date();
    let now = i64::from(date.year()) * 12 + i64::from(date.month());
    let decade = date.year().div_euclid(period) * period;
    let candidates = [decade - period + digits, decade + digits, decade + period + digits];
    let distance = |year: &i32| (i64::from(*year) * 12 + i64::from(month) - now).abs();
    candidates.into_iter().rev().min_by_key(distance).unwrap_or(digits)
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Symbol::Future { root, month, year } => {
                let code = month_code(*month).unwrap_or('?');
                write!(f, "{root}{code}{:02}", year.rem_euclid(100))
            }
            Symbol::Continuous { root, rule, rank } => write!(f, "{root}.{}.{rank}", rule.letter()),
            Symbol::Plain(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_read_as_traders_write_them() {
        for (text, near, expected) in [
            ("ESZ5", "2024-06-03", "ESZ25"),
            ("ESZ5", "2016-01-04", "ESZ15"),
            ("ESZ25", "1999-01-04", "ESZ25"),
            ("ESH0", "2019-11-01", "ESH20"),
            ("ESZ2025", "2024-06-03", "ESZ25"),
            // Half a decade to each side: the later.
            ("ESZ9", "2024-12-16", "ESZ29"),
            ("GCZ13", "2013-10-07", "GCZ13"),
            ("MGCG4", "2013-10-07", "MGCG14"),
            ("ES.c.0", "2024-06-03", "ES.c.0"),
            ("CL.v.1", "2024-06-03", "CL.v.1"),
            (" SPY ", "2024-06-03", "SPY"),
            ("BRK.B", "2024-06-03", "BRK.B"),
            ("BTC-USD", "2024-06-03", "BTC-USD"),
            ("ES", "2024-06-03", "ES"),
            // No root, no such month, lower case: not a contract.
            ("ZZZ5", "2024-06-03", "ZZZ5"),
            ("ESA5", "2024-06-03", "ESA5"),
            ("esz5", "2024-06-03", "esz5"),
            ("ES.x.0", "2024-06-03", "ES.x.0"),
            ("Z5", "2024-06-03", "Z5"),
            ("日経", "2024-06-03", "日経"),
        ] {
            let near = TradeDate::parse(near).unwrap();
            assert_eq!(Symbol::parse(text, near).unwrap().to_string(), expected, "{text} near {near}");
        }
        let contract = Symbol::parse("ESZ5", TradeDate::parse("2024-06-03").unwrap()).unwrap();
        assert_eq!(contract, Symbol::Future { root: "ES".into(), month: 12, year: 2025 });
        assert_eq!(contract.root(), Some("ES"));
    }

    #[test]
    fn a_written_contract_reads_back() {
        for year in 2000..2050 {
            for month in 1..=12 {
                let contract = Symbol::Future { root: "CL".into(), month, year };
                let near = TradeDate::from_ymd(year, month, 1).unwrap();
                assert_eq!(Symbol::parse(&contract.to_string(), near).as_ref(), Ok(&contract));
                let short = format!("CL{}{}", month_code(month).unwrap(), year % 10);
                assert_eq!(Symbol::parse(&short, near).as_ref(), Ok(&contract));
            }
        }
    }

    #[test]
    fn a_symbol_that_cannot_be_one_is_refused() {
        let near = TradeDate(0);
        for text in ["", "   ", "A B", "A\tB", "A\u{0}", &"A".repeat(65)] {
            assert!(Symbol::parse(text, near).is_err(), "{text:?}");
        }
    }

    #[test]
    fn month_codes_are_the_exchange_s() {
        let codes: String = (1..=12).filter_map(month_code).collect();
        assert_eq!(codes, "FGHJKMNQUVXZ");
        assert!((0..=13).all(|month| month_code(month).is_none_or(|code| month_of_code(code) == Some(month))));
        assert_eq!(month_of_code('A'), None);
    }
}
