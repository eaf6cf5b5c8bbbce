//! `querycli levels` and `querycli profile`: the prices people watch, and where a session traded.

use super::range::When;
use super::{date, literal, nothing, print};
use crate::Session;
use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::execute;
use clap::Args;

/// Prints the levels of a session: prior high, low and close, overnight and opening range, gap, VWAP
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli levels SPY                                   of the newest session that has trades
  querycli levels ESZ25 2025-11-28 --opening-minutes 15
  querycli levels ES --format json

`querycli describe session_levels` tells what each level is.")]
pub struct Levels {
    /// The instrument: SPY, ESZ25, ES (its front contract)
    pub symbol: String,
    /// The trade date [default: the newest session that has trades]
    #[arg(value_name = "DATE")]
    pub date: Option<String>,
    /// Which parts of a session: RTH, ETH (all of it) ... [default: as session_levels]
    #[arg(long)]
    pub segments: Option<String>,
    /// Minutes of the opening range [default: as session_levels]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub opening_minutes: Option<u32>,
    /// Levels as they were known at this instant
    #[arg(long, value_name = "TIME")]
    pub known_at: Option<String>,
}

/// Prints where a session traded: volume and time at each price, the point of control and the value area
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli profile SPY                                  of the newest session that has trades
  querycli profile ESZ25 2025-11-28 --bin 1
  querycli profile ES --segments ETH --format csv --output profile.csv

`querycli describe session_profile` tells what each column is.")]
pub struct Profile {
    /// The instrument: SPY, ESZ25, ES (its front contract)
    pub symbol: String,
    /// The trade date [default: the newest session that has trades]
    #[arg(value_name = "DATE")]
    pub date: Option<String>,
    /// Which parts of a session: RTH, ETH (all of it) ... [default: as session_profile]
    #[arg(long)]
    pub segments: Option<String>,
    /// How wide a row of the profile is, in prices [default: as session_profile]
    #[arg(long, value_name = "PRICE")]
    pub bin: Option<f64>,
    /// The profile as it was known at this instant
    #[arg(long, value_name = "TIME")]
    pub known_at: Option<String>,
}

/// Runs `levels`.
///
/// # Errors
/// An unknown symbol, a session without trades.
pub async fn levels(arguments: &Levels, options: &Options) -> Result<u8> {
    let minutes = arguments.opening_minutes.map(|minutes| minutes.to_string());
    let text = |value: &Option<String>| value.as_deref().map(literal);
    let more = [
        ("segments", text(&arguments.segments)),
        ("opening_minutes", minutes),
        ("known_at", text(&arguments.known_at)),
    ];
    run("session_levels", &arguments.symbol, arguments.date.as_deref(), &more, options).await
}

/// Runs `profile`.
///
/// # Errors
/// As [`levels`].
pub async fn profile(arguments: &Profile, options: &Options) -> Result<u8> {
    let bin = arguments.bin.map(|bin| bin.to_string());
    let text = |value: &Option<String>| value.as_deref().map(literal);
    let more = [("segments", text(&arguments.segments)), ("bin", bin), ("known_at", text(&arguments.known_at))];
    run("session_profile", &arguments.symbol, arguments.date.as_deref(), &more, options).await
}

async fn run(
    function: &str,
    symbol: &str,
    day: Option<&str>,
    more: &[(&str, Option<String>)],
    options: &Options,
) -> Result<u8> {
    let session: Session = execute::open(options.sources()).await?;
    let range = When { dates: day.map(str::to_owned), last: None }.of(&session, symbol).await?;
    if range.first != range.last {
        return Err(Error::question(format!("{function} is of one session"), "name one date"));
    }
    let mut sql = format!("SELECT * FROM {function}({}, {}", literal(&range.symbol), date(range.last));
    for (name, value) in more {
        if let Some(value) = value {
            sql.push_str(&format!(", {name} => {value}"));
        }
    }
    let segments = more.iter().find(|(name, _)| *name == "segments").and_then(|(_, text)| text.as_deref());
    let outcome = print(&session, &(sql + ")"), options).await?;
    nothing::note(&range, segments.map(|text| text.trim_matches('\'')), outcome.rows);
    Ok(0)
}
