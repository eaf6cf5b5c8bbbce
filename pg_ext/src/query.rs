//! Reading bars and trades: sealed blocks with live rows over them, under one snapshot.

mod ohlc;
mod read;

pub use read::define_settings;
