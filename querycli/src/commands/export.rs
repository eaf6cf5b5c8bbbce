//! `querycli export`: trades, bars or any answer as a file.

use super::range::{Range, When};
use super::{bars, date, literal, nothing, print};
use crate::Session;
use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::execute;
use crate::output::Format;
use clap::{Args, Subcommand};

/// Writes trades, bars or the answer to a query to a file; the file's name tells the format
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli export trades SPY 2025-11-24..2025-11-28 --output spy.parquet
  querycli export bars ES 1m --last 20 --segments RTH --output es.csv
  querycli export query \"SELECT * FROM calendars\" --output calendars.ndjson

.parquet, .arrow, .csv, .tsv, .json, .ndjson, .md and .txt are understood; --format overrules. The \
file appears when it is complete, so that nobody reads half of one.")]
pub struct Arguments {
    #[command(subcommand)]
    pub what: What,
}

/// What to write.
#[derive(Subcommand, Clone, Debug)]
pub enum What {
    /// Every trade of an instrument's sessions
    Trades(Box<Trades>),
    /// The bars of an instrument's sessions; takes what `querycli bars` takes
    Bars(Box<Bars>),
    /// The answer to a query
    Query(Box<Query>),
}

/// `export trades`.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli export trades SPY --output spy.parquet       the newest session that has trades
  querycli export trades ESZ25 2025-11-24..2025-11-28 --output es.csv")]
pub struct Trades {
    /// The instrument: SPY, ESZ25, ES (its front contract)
    pub symbol: String,
    #[command(flatten)]
    pub when: When,
    #[command(flatten)]
    pub options: Options,
}

/// `export bars`.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli export bars SPY 5m --output spy.parquet      the newest session that has trades
  querycli export bars ES 1m --last 20 --segments RTH --output es.csv
  querycli export bars SPY,QQQ 1d 2025-01-02..2025-11-28 --output days.arrow")]
pub struct Bars {
    #[command(flatten)]
    pub options: Options,
    // Last, but its help is that of export.
    #[command(flatten)]
    pub bars: bars::Arguments,
}

/// `export query`.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli export query \"SELECT * FROM sessions('XNYS', '2025-01-01', '2025-12-31')\" --output hours.csv
  querycli export query \"SELECT ts, price FROM trades WHERE symbol = 'SPY'\" --output spy.arrow")]
pub struct Query {
    /// A statement that answers rows
    #[arg(value_name = "SQL")]
    pub sql: String,
    #[command(flatten)]
    pub options: Options,
}

/// Runs it.
///
/// # Errors
/// No file named, or what is wrong with the question.
pub async fn run(arguments: &Arguments, outer: &Options) -> Result<u8> {
    let options = match &arguments.what {
        What::Trades(trades) => &trades.options,
        What::Bars(bars) => &bars.options,
        What::Query(query) => &query.options,
    };
    let options = options.clone().over(outer.clone());
    let Some(file) = &options.output else {
        return Err(Error::question("export needs a file to write", "name it: --output trades.parquet"));
    };
    if options.format.is_none() && Format::of_file(file).is_none() {
        return Err(Error::question(
            format!("the name of {} does not tell a format", file.display()),
            "end it with .parquet, .arrow, .csv, .tsv, .json, .ndjson or .md, or give --format",
        ));
    }
    let session = execute::open(options.sources()).await?;
    let (mut about, mut segments) = (None, None);
    let sql = match &arguments.what {
        What::Trades(trades) => {
            // trades outside of sessions are trades, too
            segments = Some("ALL".to_owned());
            trades_of(&session, about.insert(trades.when.of(&session, &trades.symbol).await?))
        }
        What::Bars(bars) => {
            let (call, range) = bars.bars.call(&session).await?;
            (about, segments) = (Some(range), bars.bars.segments.clone());
            format!("SELECT * FROM {call}")
        }
        What::Query(query) => {
            if Session::parse(&query.sql)?.len() != 1 {
                return Err(Error::question("a file holds the answer of one statement", "export them one by one"));
            }
            query.sql.clone()
        }
    };
    let outcome = print(&session, &sql, &options).await?;
    eprintln!("{} row{} in {}", outcome.rows, if outcome.rows == 1 { "" } else { "s" }, file.display());
    if let Some(range) = about.filter(|_| outcome.rows == 0) {
        nothing::note(&range, segments.as_deref(), outcome.rows);
    }
    Ok(0)
}

fn trades_of(session: &Session, range: &Range) -> String {
    let symbol = literal(&range.symbol);
    if session.market.db.is_some() {
        let (first, last) = (date(range.first), date(range.last));
        return format!(
            "SELECT * FROM trades WHERE symbol = {symbol} AND trade_date BETWEEN {first} AND {last} ORDER BY ts, ns, seq, sub"
        );
    }
    let calendar = literal(range.calendar.id());
    let days = format!("trade_date(ts, {calendar}) BETWEEN {} AND {}", date(range.first), date(range.last));
    let table = session.file_trades_name();
    match session.market.file_trades().is_some_and(|table| table.schema().column_with_name("symbol").is_some()) {
        true => format!("SELECT * FROM {table} WHERE symbol = {symbol} AND {days}"),
        false => format!("SELECT * FROM {table} WHERE {days}"),
    }
}
