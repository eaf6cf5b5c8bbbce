//! `querycli sessions`: when a market is open.

use super::{date, literal, nothing, print};
use crate::cli::options::{Options, dates};
use crate::error::Result;
use crate::execute;
use clap::Args;
use market::TradeDate;

/// Prints the sessions of a calendar: trade dates, segments, opens and closes in UTC, and what is irregular
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli sessions XNYS                                today's session, or the next one
  querycli sessions XNYS 2025-11-24..2025-11-28
  querycli sessions CME_EQUITY 2025-11-27 --segments ETH
  querycli sessions XHKG --next 5 --segments RTH
  querycli sessions XNYS 2025-01-01..2025-12-31 --format csv --output sessions.csv

`querycli calendars list` names the calendars, `querycli calendars show XNYS` prints one.")]
pub struct Arguments {
    /// The calendar's id or another name of it: XNYS, CME_EQUITY, 24/7
    #[arg(id = "calendar_id", value_name = "CALENDAR")]
    pub calendar: String,
    /// Trade dates: one, or FIRST..LAST with both included [default: today or the next session]
    #[arg(value_name = "DATES")]
    pub dates: Option<String>,
    /// The next N sessions, today's among them
    #[arg(long, value_name = "N", conflicts_with = "dates", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub next: Option<i32>,
    /// Which parts of a session: RTH, ETH (all of it), PRE+RTH ...
    #[arg(long)]
    pub segments: Option<String>,
}

/// Runs it.
///
/// # Errors
/// An unknown calendar, dates that it does not cover.
pub async fn run(arguments: &Arguments, options: &Options) -> Result<u8> {
    let session = execute::open(options.sources()).await?;
    let calendar = session.market.calendars.find(&arguments.calendar)?;
    let (first, last) = match &arguments.dates {
        Some(text) => dates(text)?,
        None => {
            let yesterday = TradeDate::new(chrono::Utc::now().date_naive()).plus(-1);
            let first = calendar.next_session(yesterday, 1)?;
            (first, calendar.next_session(yesterday, arguments.next.unwrap_or(1))?)
        }
    };
    let mut sql = format!("SELECT * FROM sessions({}, {}, {}", literal(&arguments.calendar), date(first), date(last));
    if let Some(segments) = &arguments.segments {
        sql.push_str(&format!(", segments => {}", literal(segments)));
    }
    let outcome = print(&session, &(sql + ")"), options).await?;
    if let Some(why) =
        nothing::closed(calendar, first, last, arguments.segments.as_deref()).filter(|_| outcome.rows == 0)
    {
        eprintln!("note: {why}");
    }
    Ok(0)
}
