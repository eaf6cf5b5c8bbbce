//! `querycli bars`: the bars of an instrument's sessions.

use super::range::{Range, When};
use super::{Asked, date, literal, print_or_show};
use crate::Session;
use crate::cli::options::Options;
use crate::error::Result;
use crate::execute;
use clap::Args;

/// Prints bars: open, high, low, close, volume of each bucket of the sessions asked for
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli bars SPY 5m                                  the newest session that has trades
  querycli bars ES 5m --segments RTH --last 5           five sessions of the front contract
  querycli bars ESZ25 1h 2025-11-24..2025-11-28
  querycli bars SPY 1d --last 20 --format csv
  querycli bars SPY,QQQ 1d 2025-11-28                   several instruments
  querycli bars SPY 30m --data spy.parquet --calendar XNYS

A bar is labelled by its open; the last one of a session is cut at the close. --sql shows the statement it stands for.")]
pub struct Arguments {
    /// The instrument, or several with commas: SPY, ESZ25, ES (its front contract), ES.v.0
    pub symbol: String,
    /// How long a bar is: 30s, 5m, 65m, 1h, 1d, 1w, 1mo
    #[arg(default_value = "1d")]
    pub timeframe: String,
    #[command(flatten)]
    pub when: When,
    /// Which parts of a session: RTH, ETH (all of it), PRE+RTH ... [default: the calendar's main ones]
    #[arg(long)]
    pub segments: Option<String>,
    /// Bars without trades: none, previous (flat at the last close) or null
    #[arg(long)]
    pub fill: Option<String>,
    /// Bars as they were known at this instant
    #[arg(long, value_name = "TIME")]
    pub known_at: Option<String>,
    /// Which clock orders trades into bars: event or recv
    #[arg(long)]
    pub clock: Option<String>,
    /// Which date a day bar carries: trade or clearing
    #[arg(long)]
    pub day: Option<String>,
    /// Print the SQL and do not run it
    #[arg(long)]
    pub sql: bool,
}

impl Arguments {
    /// The table function's call that this stands for, and the sessions that it is about.
    ///
    /// # Errors
    /// Those of [`When::of`].
    pub async fn call(&self, session: &Session) -> Result<(String, Range)> {
        let symbols: Vec<&str> = self.symbol.split(',').map(str::trim).filter(|symbol| !symbol.is_empty()).collect();
        let (mut names, mut all) = (Vec::new(), None::<Range>);
        for symbol in &symbols {
            let range = self.when.of(session, symbol).await?;
            // Of several instruments all have the same dates: the first one's.
            names.push(literal(&range.symbol));
            match &mut all {
                None => all = Some(range),
                Some(all) => all.symbol = format!("{}, {}", all.symbol, range.symbol),
            }
        }
        let Some(range) = all else {
            return Err(crate::Error::question("no symbol is named", "as in querycli bars SPY 5m"));
        };
        let symbol = match names.as_slice() {
            [one] if !self.symbol.contains(',') => one.clone(),
            many => format!("ARRAY[{}]", many.join(", ")),
        };
        let (first, last) = (date(range.first), date(range.last));
        let mut call = format!("session_ohlc({symbol}, {}, {first}, {last}", literal(&self.timeframe));
        let options = [
            ("segments", &self.segments),
            ("fill", &self.fill),
            ("known_at", &self.known_at),
            ("clock", &self.clock),
            ("day", &self.day),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                call.push_str(&format!(", {name} => {}", literal(value)));
            }
        }
        Ok((call + ")", range))
    }
}

/// Runs it.
///
/// # Errors
/// An unknown symbol, timeframe or segment; a session without trades.
pub async fn run(arguments: &Arguments, options: &Options) -> Result<u8> {
    let session = execute::open(options.sources()).await?;
    let (call, range) = arguments.call(&session).await?;
    let asked = Asked { sql: format!("SELECT * FROM {call}"), range, segments: arguments.segments.clone() };
    print_or_show(&session, &asked, arguments.sql, options).await
}
