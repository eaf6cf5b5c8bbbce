//! `market`: which session, segment and bar a trade belongs to, and how sealed trades are packed.
//!
//! Pure: no I/O, no clock, no async, no globals but the calendars shipped with the crate.

pub mod error;
pub mod session;
pub mod time;

pub use error::{Error, ErrorKind, Result};
pub use session::{Segment, Segments, Session, Span};
pub use time::{Nanos, TradeDate};
