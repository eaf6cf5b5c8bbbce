//! What the bot claims: one test program, since each links the whole of serenity.

mod answers;
mod charts;
mod discord;
mod fake_discord;
mod questions;
mod stub;
