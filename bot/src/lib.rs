//! `bot`: answers questions about sessions with numbers, and charts, from a database with the extension.
//!
//! One path for every transport: a question's words ([`lexicon`]) become one of a closed set of intents ([`intent`], [`when`]),
//! an intent becomes an answer ([`answer`], [`hours`]) with numbers from the database alone ([`numbers`], [`postgres`]) and a
//! chart ([`chart`]). [`terminal`] and [`discord`] show answers; nothing else knows of them.

pub mod answer;
pub mod chart;
pub mod discord;
pub mod error;
pub mod hours;
pub mod instruments;
pub mod intent;
pub mod lexicon;
pub mod limit;
pub mod numbers;
pub mod postgres;
pub mod terminal;
pub mod when;
pub mod wording;
