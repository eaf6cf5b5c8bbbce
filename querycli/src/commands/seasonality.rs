//! `querycli seasonality`: what the minutes of a session are like.

use super::range::Period;
use super::{Asked, date, literal, print_or_show};
use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::{Session, execute};
use clap::Args;
use market::Timeframe;

/// Prints what each part of a session is like: return, deviation, range and volume by minutes since the open
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli seasonality SPY                              half hours of the last 60 sessions
  querycli seasonality ES 5m --segments RTH --last 250
  querycli seasonality SPY 15m 2025-01-02..2025-11-28 --format csv
  querycli seasonality SPY --sql                        the statement it stands for

`minute` counts from the scheduled open of the segments, `sessions` those that have a bar there.
Returns are ln(close / open) of a bar, `deviation` is their sample standard deviation, `range` the
mean of ln(high / low), `volume_share` the mean share of the session's volume, which draws a U
(Wood, McInish and Ord, Journal of Finance 40, 1985).")]
pub struct Arguments {
    /// The instrument: SPY, ESZ25, ES (its front contract)
    pub symbol: String,
    /// How long a part of the session is: 1m, 5m, 30m
    #[arg(default_value = "30m")]
    pub timeframe: String,
    #[command(flatten)]
    pub period: Period,
    /// Which parts of a session: RTH, ETH (all of it), PRE+RTH ... [default: the calendar's main ones]
    #[arg(long)]
    pub segments: Option<String>,
    /// Print the SQL and do not run it
    #[arg(long)]
    pub sql: bool,
}

/// Runs it.
///
/// # Errors
/// An unknown symbol, a timeframe of days.
pub async fn run(arguments: &Arguments, options: &Options) -> Result<u8> {
    let session = execute::open(options.sources()).await?;
    let asked = statement(arguments, &session).await?;
    print_or_show(&session, &asked, arguments.sql, options).await
}

async fn statement(arguments: &Arguments, session: &Session) -> Result<Asked> {
    if !Timeframe::parse(&arguments.timeframe)?.is_intraday() {
        let message = format!("{} is no part of a session", arguments.timeframe);
        return Err(Error::question(message, "use minutes or hours: 1m, 30m, 1h"));
    }
    let range = arguments.period.of(session, &arguments.symbol).await?;
    let segments = literal(&arguments.segments.clone().unwrap_or_else(|| range.calendar.main().to_string()));
    let (first, last) = (date(range.first), date(range.last));
    let sql = format!(
        "WITH opens AS (
  SELECT trade_date, min(opens_at) AS opens_at FROM sessions({}, {first}, {last}, segments => {segments}) GROUP BY trade_date),
bars AS (
  SELECT CAST(floor((date_part('epoch', b.bar_at) - date_part('epoch', o.opens_at)) / 60) AS bigint) AS minute,
         ln(b.close / b.open) AS r, ln(b.high / b.low) AS range, b.volume,
         b.volume / nullif(sum(b.volume) OVER (PARTITION BY b.trade_date), 0) AS share
  FROM session_ohlc({}, {}, {first}, {last}, segments => {segments}) AS b
  JOIN opens AS o ON o.trade_date = b.trade_date)
SELECT minute, count(*) AS sessions, avg(r) AS mean_return, stddev(r) AS deviation, avg(range) AS range,
       avg(volume) AS volume, avg(share) AS volume_share
FROM bars GROUP BY minute ORDER BY minute",
        literal(range.calendar.id()),
        literal(&range.symbol),
        literal(&arguments.timeframe),
    );
    Ok(Asked { sql, segments: arguments.segments.clone(), range })
}
