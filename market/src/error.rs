//! What can go wrong in the domain, and which of five kinds it is.

use crate::time::TradeDate;
use std::fmt;

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with what was asked, what is allowed and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant's sentence names its fields")]
pub enum Error {
    /// No calendar, instrument, root or segment of that name; `nearest` is a name that was probably meant.
    Unknown { what: &'static str, name: String, nearest: Option<String> },
    /// A date outside the range a calendar vouches for.
    OutOfBounds { calendar: String, asked: String, first: TradeDate, last: TradeDate },
    /// An argument that cannot be read, with what is allowed.
    Invalid { what: &'static str, input: String, allowed: String },
    /// A calendar or product file that contradicts itself; `line` is 1-based where known.
    InvalidSpec { name: String, line: Option<usize>, reason: String },
    /// A number outside the range of fixed-point arithmetic.
    Overflow { what: &'static str, input: String },
    /// Bytes that are not what they claim to be: block, page, aggregate state.
    Corrupt { what: &'static str, reason: String },
}

/// The only thing adapters match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// SQLSTATE 42704.
    NotFound,
    /// SQLSTATE 22008.
    OutOfBounds,
    /// SQLSTATE 22023.
    InvalidInput,
    /// SQLSTATE 22003.
    Overflow,
    /// SQLSTATE XX001.
    Corrupt,
}

impl Error {
    /// The kind adapters translate.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Unknown { .. } => ErrorKind::NotFound,
            Error::OutOfBounds { .. } => ErrorKind::OutOfBounds,
            Error::Invalid { .. } | Error::InvalidSpec { .. } => ErrorKind::InvalidInput,
            Error::Overflow { .. } => ErrorKind::Overflow,
            Error::Corrupt { .. } => ErrorKind::Corrupt,
        }
    }

    /// What to do about it, for a HINT line; empty where the message says all.
    pub fn hint(&self) -> String {
        match self {
            Error::Unknown { nearest: Some(name), .. } => format!("did you mean \"{name}\"?"),
            Error::OutOfBounds { first, last, .. } => {
                format!("ask for dates from {first} to {last}")
            }
            Error::Invalid { allowed, .. } => format!("use {allowed}"),
            _ => String::new(),
        }
    }

    pub(crate) fn invalid(what: &'static str, input: impl Into<String>, allowed: impl Into<String>) -> Error {
        Error::Invalid { what, input: input.into(), allowed: allowed.into() }
    }

    pub(crate) fn corrupt(what: &'static str, reason: impl Into<String>) -> Error {
        Error::Corrupt { what, reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unknown { what, name, .. } => write!(f, "unknown {what} \"{name}\""),
            Error::OutOfBounds { calendar, asked, first, last } => {
                write!(f, "calendar {calendar} does not cover {asked}; it covers {first} to {last}")
            }
            Error::Invalid { what, input, .. } => write!(f, "invalid {what} \"{input}\""),
            Error::InvalidSpec { name, line: Some(line), reason } => write!(f, "{name}, line {line}: {reason}"),
            Error::InvalidSpec { name, line: None, reason } => write!(f, "{name}: {reason}"),
            Error::Overflow { what, input } => write!(f, "{what} {input} is out of range"),
            Error::Corrupt { what, reason } => write!(f, "corrupt {what}: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
