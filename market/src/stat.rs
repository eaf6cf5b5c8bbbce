//! What a venue publishes about a session beside its trades: settlement, official prices, open interest, limits.

use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::time::Nanos;
use std::fmt;

/// What is published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StatKind {
    /// The final settlement price.
    Settlement,
    /// A settlement price that may still change.
    PreliminarySettlement,
    /// The venue's own opening price.
    OfficialOpen,
    /// The venue's own closing price.
    OfficialClose,
    /// Contracts open at the end of the session.
    OpenInterest,
    /// Volume as cleared.
    ClearedVolume,
    /// Volume of block trades.
    BlockVolume,
    /// Highest price allowed.
    LimitUp,
    /// Lowest price allowed.
    LimitDown,
}

impl StatKind {
    /// All kinds.
    pub const ALL: [StatKind; 9] = [
        StatKind::Settlement,
        StatKind::PreliminarySettlement,
        StatKind::OfficialOpen,
        StatKind::OfficialClose,
        StatKind::OpenInterest,
        StatKind::ClearedVolume,
        StatKind::BlockVolume,
        StatKind::LimitUp,
        StatKind::LimitDown,
    ];

    /// As `session_stats.kind` has it.
    pub const fn name(self) -> &'static str {
        match self {
            StatKind::Settlement => "settlement",
            StatKind::PreliminarySettlement => "preliminary_settlement",
            StatKind::OfficialOpen => "official_open",
            StatKind::OfficialClose => "official_close",
            StatKind::OpenInterest => "open_interest",
            StatKind::ClearedVolume => "cleared_volume",
            StatKind::BlockVolume => "block_volume",
            StatKind::LimitUp => "limit_up",
            StatKind::LimitDown => "limit_down",
        }
    }

    /// Reads a kind by its name.
    ///
    /// # Errors
    /// `Unknown` with the nearest name.
    pub fn parse(text: &str) -> Result<StatKind> {
        let name = text.trim().to_ascii_lowercase();
        StatKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| Error::Unknown {
            what: "kind of statistic",
            name: text.to_string(),
            nearest: nearest(&name, StatKind::ALL.map(StatKind::name)).map(str::to_string),
        })
    }
}

impl fmt::Display for StatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A published value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: StatKind,
    /// In 1e-9.
    pub value: i64,
    /// When the venue published it, where known.
    pub ts: Option<Nanos>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_as_they_are_written_and_a_wrong_one_says_which_was_meant() {
        for kind in StatKind::ALL {
            assert_eq!(StatKind::parse(kind.name()), Ok(kind));
        }
        let Err(Error::Unknown { nearest, .. }) = StatKind::parse("setlement") else { panic!("read") };
        assert_eq!(nearest.as_deref(), Some("settlement"));
    }
}
