//! `session_ohlc` as a scan: bars go to the executor as they are made, and parallel workers share the sessions.
//!
//! A set-returning function has to fill a tuplestore, from which the executor reads the rows again: a third of what bars
//! from stored minutes cost. Questions whose sessions do not depend on each other are planned as this scan instead;
//! `bellwether.bars_scan` turns it off. The answers are the same.

mod estimate;
mod plan;
mod run;

pub use plan::init;
