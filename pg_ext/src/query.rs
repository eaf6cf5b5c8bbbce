//! Reading bars and trades: sealed blocks with live rows over them, under one snapshot.

mod activity;
mod ask;
mod batch;
mod explain;
mod flow;
mod known;
mod levels;
mod ohlc;
mod read;
mod row;
mod scan;
mod state;
mod summary;
mod trades;
mod verify;
mod walk;

pub use read::{define_settings, live_rows};
pub use scan::init;
