//! What trades: its kind.

use crate::error::{Error, Result};
use crate::nearest::nearest;
use std::fmt;

/// The kind of an instrument, which decides what its prices and dates mean.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// One contract of a future, with an expiry.
    Future,
    /// A difference of contracts; its prices are often negative.
    Spread,
    /// A share or a fund's share.
    Equity,
    /// A published value that nobody trades.
    Index,
    /// Two currencies or coins, one priced in the other.
    Pair,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [Kind::Future, Kind::Spread, Kind::Equity, Kind::Index, Kind::Pair];

    /// `future`, `spread`, `equity`, `index`, `pair`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Future => "future",
            Kind::Spread => "spread",
            Kind::Equity => "equity",
            Kind::Index => "index",
            Kind::Pair => "pair",
        }
    }

    /// Reads a kind by its name.
    ///
    /// # Errors
    /// `Unknown` with the nearest name.
    pub fn parse(text: &str) -> Result<Kind> {
        let name = text.trim().to_ascii_lowercase();
        Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| Error::Unknown {
            what: "instrument kind",
            name: text.to_string(),
            nearest: nearest(&name, Kind::ALL.map(Kind::name)).map(str::to_string),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
