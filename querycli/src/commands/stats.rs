//! `querycli stats`: how often gaps fill and opening ranges break.

use super::range::Period;
use super::{Asked, date, literal, print_or_show};
use crate::cli::options::Options;
use crate::error::Result;
use crate::{Session, execute};
use clap::Args;

/// Prints how often gaps were filled, and opening ranges broken and held, over many sessions
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli stats SPY                                    of the last 60 sessions
  querycli stats ES --last 250 --opening-minutes 15
  querycli stats SPY 2025-01-02..2025-11-28 --format json
  querycli stats SPY --sql                              the statement it stands for

A session has a gap if its first trade is not at the last price of the session before, and fills it
if it trades there or beyond. The opening range is that of the first minutes from the scheduled
open; it is broken up or down by a later trade beyond it, and the break is kept if the session
closes beyond it (Crabel, Day Trading with Short Term Price Patterns and Opening Range Breakout, 1990).
`rate` is `sessions` over `among`.")]
pub struct Arguments {
    /// The instrument: SPY, ESZ25, ES (its front contract)
    pub symbol: String,
    #[command(flatten)]
    pub period: Period,
    /// Which parts of a session: RTH, ETH (all of it), PRE+RTH ...
    #[arg(long, default_value = "RTH")]
    pub segments: String,
    /// Minutes of the opening range
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub opening_minutes: u32,
    /// Print the SQL and do not run it
    #[arg(long)]
    pub sql: bool,
}

/// A statistic: its name, the sessions that count for it, and the sessions it is counted among.
const STATISTICS: [(&str, &str, &str); 9] = [
    ("gap_up", "open > before", "before IS NOT NULL"),
    ("gap_up_filled", "open > before AND low <= before", "open > before"),
    ("gap_down", "open < before", "before IS NOT NULL"),
    ("gap_down_filled", "open < before AND high >= before", "open < before"),
    ("opening_range_broken_up", "later_high > opening_high", "opening_high IS NOT NULL"),
    ("broken_up_and_kept", "later_high > opening_high AND close > opening_high", "later_high > opening_high"),
    ("opening_range_broken_down", "later_low < opening_low", "opening_high IS NOT NULL"),
    ("broken_down_and_kept", "later_low < opening_low AND close < opening_low", "later_low < opening_low"),
    ("broken_both_ways", "later_high > opening_high AND later_low < opening_low", "opening_high IS NOT NULL"),
];

/// Runs it.
///
/// # Errors
/// An unknown symbol, dates without sessions.
pub async fn run(arguments: &Arguments, options: &Options) -> Result<u8> {
    let session = execute::open(options.sources()).await?;
    let asked = statement(arguments, &session).await?;
    print_or_show(&session, &asked, arguments.sql, options).await
}

async fn statement(arguments: &Arguments, session: &Session) -> Result<Asked> {
    let range = arguments.period.of(session, &arguments.symbol).await?;
    // The first session's gap is to the one before it, where the calendar knows one.
    let before = range.calendar.next_session(range.first, -1).unwrap_or(range.first);
    let (first, last, segments) = (date(before), date(range.last), literal(&arguments.segments));
    let minutes = arguments.opening_minutes;
    let counts = STATISTICS.iter().enumerate().map(|(at, (_, sessions, among))| {
        format!(
            "{}\n  count(*) FILTER (WHERE {sessions}) AS sessions{at}, count(*) FILTER (WHERE {among}) AS among{at}",
            if at > 0 { "," } else { "" }
        )
    });
    let names: Vec<String> =
        STATISTICS.iter().enumerate().map(|(at, (name, ..))| format!("({at}, '{name}')")).collect();
    let pick = |what: &str| -> String {
        (0..STATISTICS.len()).map(|at| format!(" WHEN {at} THEN {what}{at}")).collect::<String>()
    };
    let sql = format!(
        "WITH opens AS (
  SELECT trade_date, min(opens_at) AS opens_at FROM sessions({}, {first}, {last}, segments => {segments}) GROUP BY trade_date),
bars AS (
  SELECT b.*, date_part('epoch', b.bar_at) - date_part('epoch', o.opens_at) < {minutes} * 60 AS opening
  FROM session_ohlc({}, '{minutes}m', {first}, {last}, segments => {segments}) AS b
  JOIN opens AS o ON o.trade_date = b.trade_date WHERE b.close IS NOT NULL),
days AS (
  SELECT trade_date, first_value(open ORDER BY bar_at) AS open, max(high) AS high, min(low) AS low,
         last_value(close ORDER BY bar_at) AS close,
         max(high) FILTER (WHERE opening) AS opening_high, min(low) FILTER (WHERE opening) AS opening_low,
         max(high) FILTER (WHERE NOT opening) AS later_high, min(low) FILTER (WHERE NOT opening) AS later_low
  FROM bars GROUP BY trade_date),
gaps AS (SELECT *, lag(close) OVER (ORDER BY trade_date) AS before FROM days),
counts AS (SELECT{}
  FROM gaps WHERE trade_date >= {}),
answers AS (
  SELECT n, statistic, CASE n{} END AS sessions, CASE n{} END AS among
  FROM (VALUES {}) AS s (n, statistic) CROSS JOIN counts)
SELECT statistic, sessions, among, sessions / CAST(nullif(among, 0) AS double precision) AS rate FROM answers ORDER BY n",
        literal(range.calendar.id()),
        literal(&range.symbol),
        counts.collect::<String>(),
        date(range.first),
        pick("sessions"),
        pick("among"),
        names.join(", ")
    );
    Ok(Asked { sql, segments: Some(arguments.segments.clone()), range })
}
