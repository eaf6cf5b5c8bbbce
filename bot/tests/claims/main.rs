//! What the bot claims: one test program, since each links the whole of serenity.

// A test that cannot go on has failed; clippy sees that only inside of test functions.
#![allow(clippy::unwrap_used)]

mod answers;
mod charts;
mod discord;
mod fake_discord;
mod questions;
mod stub;
