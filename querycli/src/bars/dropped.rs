//! What is said where an answer needs what retention dropped, and no archive has it either.

use crate::error::Error;
use market::TradeDate;

/// What is made of trades.
#[derive(Clone, Copy, Debug)]
pub enum Made<'a> {
    /// Bars, which minute bars may make, too.
    Bars,
    /// Levels, a profile and the like.
    Other(&'a str),
}

/// Trades of so many sessions are gone, of this one first.
pub fn trades(what: Made<'_>, symbol: &str, sessions: usize, oldest: TradeDate) -> Error {
    let mut error = trades_known(what, symbol, sessions, oldest);
    error.hint.push_str("; --archive names an archive that has them");
    error
}

/// The same of trades as they were known, which no archive tells.
pub fn trades_known(what: Made<'_>, symbol: &str, sessions: usize, oldest: TradeDate) -> Error {
    let (subject, instead) = match what {
        Made::Bars => (
            format!("these bars of {symbol} are"),
            "ask for a timeframe of whole minutes, whose bars are kept, or for later sessions",
        ),
        Made::Other(what) => (
            format!("{what} of {symbol} is"),
            "ask for later sessions; market.session_bars tells which have their trades",
        ),
    };
    let message = format!(
        "{subject} made of trades, and retention dropped those of {sessions} sessions asked for, the first {oldest}"
    );
    Error::question(message, instead)
}

/// Minute bars of so many sessions are gone, of this one first.
pub fn minutes(symbol: &str, sessions: usize, oldest: TradeDate) -> Error {
    Error::question(
        format!(
            "these bars of {symbol} are made of minute bars, and retention dropped those of {sessions} sessions asked for, the first {oldest}"
        ),
        "ask for whole sessions (1d, 1w ...), whose bars are kept, or for later ones",
    )
}
