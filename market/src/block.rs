//! Blocks: the sealed, compressed, checksummed form of the trades, or the minute bars, of one part of a session.
//!
//! Format 1, little-endian. A fixed header, a directory of pages, the *core* zone (page by page: what bars are made of), then
//! the *ids* zone (page by page: the rest), so that readers of prices fetch only a prefix.
//!
//! | bytes | what |
//! |---|---|
//! | 4, 1, 1, 1, 1 | magic `BELL`, version, kind (1 trades, 2 minute bars, 3 reserved for quotes), columns, core columns |
//! | 4, 2, 2 | trades or bars, pages, zero |
//! | 4, 4, 4, 4 | length of header and directory, of the core zone, of the ids zone, zero |
//! | 8, 8, 8 | units of time, price and size: a stored integer times its unit is nanoseconds or 1e-9 |
//! | 8 | xxh3 of header and directory, with this field zero |
//!
//! A page's entry: count (4), bits (4; 1 = plain), first key (8 ts, 8 seq, 4 sub), last key, xxh3 of its core chunks (8), xxh3
//! of its ids chunks (8), and per column 4 bytes: length of its chunk in the low 28 bits, encoding in the high 4.
//!
//! Columns of trades: ts, price, size, flags | seq, sub, cond, trade_id, ts_recv. Every column is integers, encoded as
//! *const* (0 or 8 bytes), *pco* (a wrapped chunk of the `pco` format), *same as seq*, *delta* (pco) or *const delta*, to be
//! added to ts.
//!
//! Any bytes decode or give an error; nothing is allocated for a count that the bytes do not back. Every released version
//! stays readable for ever (tests/data holds a file of each).

mod column;
mod decode;
mod encode;
mod header;

pub(crate) use column::{Scratch, Shape};
pub use decode::{Core, check_block, decode_core, decode_keyed, decode_page, decode_seq};
pub use encode::{encode, encode_session, pack_payload, unpack_payload};
pub use header::{Header, Kind, Page};

pub(crate) use decode::decode_columns;
pub(crate) use encode::encode_columns;

/// Most trades in a page.
pub const PAGE: usize = 16_384;
/// Most trades in a part, which is one block.
pub const PART: usize = 65_536;
