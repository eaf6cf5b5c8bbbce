//! Reading bars and trades: sealed blocks with live rows over them, under one snapshot.

mod ask;
mod batch;
mod explain;
mod ohlc;
mod read;
mod state;
mod summary;
mod trades;
mod verify;

pub use read::{define_settings, live_rows};
