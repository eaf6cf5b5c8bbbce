//! `market`: which session, segment and bar a trade belongs to, and how sealed trades are packed.
//!
//! Pure: no I/O, no clock, no async, no globals but the calendars shipped with the crate.

pub mod activity;
pub mod auction;
pub mod bar;
pub mod block;
pub mod bucket;
pub mod by_session;
pub mod calendar;
pub mod correction;
pub mod digest;
pub mod eligibility;
pub mod error;
pub mod explain;
pub mod flow;
mod fold;
pub mod instrument;
pub mod known;
pub mod levels;
pub mod minute;
pub mod money;
pub mod nearest;
pub mod ohlc;
pub mod print;
pub mod products;
pub mod profile;
pub mod session;
mod slots;
pub mod stat;
pub mod symbol;
pub mod time;
pub mod timeframe;
pub mod trade;
pub mod when;

pub use auction::{Auction, AuctionKind};
pub use bar::{Bar, BarBuilder, KeyedBar};
pub use bucket::{Bucket, BucketCursor, Day, bucket_at, buckets, group_of};
pub use calendar::{Calendar, Change, Cursor, Filing};
pub use correction::{Correction, Corrections, Word};
pub use digest::{Digest, digest};
pub use error::{Error, ErrorKind, Result};
pub use instrument::Kind;
pub use known::{AsOf, Clock, Received, Reported};
pub use minute::{MinuteBar, MinuteFold, MinuteReader, decode_minutes, encode_minutes};
pub use ohlc::{Answer, Fill, OhlcRequest, SegmentBar, SessionBar, SessionFold, summaries};
pub use products::{Product, product, products};
pub use session::{Class, Segment, Segments, Session, Span, Spans};
pub use symbol::{Roll, Symbol};
pub use time::{Nanos, TradeDate};
pub use timeframe::Timeframe;
pub use trade::{Key, LiveRows, Merge, NONE_I64, Op, Trade, Trades, flags, merge, overlay};
pub use when::When;
