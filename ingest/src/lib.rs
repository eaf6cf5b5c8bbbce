//! `ingest`: feeds and files into Bellwether, each trade exactly once.
//!
//! A [`feed::Feed`] turns one source into batches of trades with the line they came from; [`route`] files them under
//! (instrument, trade date) by the calendar; [`load`] packs whole sessions on the client and sends them through
//! `market.put_trades`, which merges by identity, so loading a file twice changes nothing. [`live`] writes running
//! sessions as rows instead, with a checkpoint in the same transaction.

pub mod cli;
pub mod clock;
pub mod columns;
pub mod db;
pub mod error;
pub mod feed;
pub mod input;
pub mod lines;
pub mod live;
pub mod load;
pub mod route;
pub mod simulate;

pub use error::{Error, Result};
