//! `querycli correlate`: how instruments move together.

use super::range::{Period, Range};
use super::{Asked, date, literal, print_or_show};
use crate::cli::options::Options;
use crate::db::identifier;
use crate::error::{Error, Result};
use crate::{Session, execute};
use clap::Args;
use market::Timeframe;

/// Prints the correlations of instruments' returns, and each one's beta to the first of them
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli correlate SPY,QQQ,IWM                        daily returns of the last 60 sessions
  querycli correlate ES,NQ 5m --last 5                  within five sessions
  querycli correlate QQQ,IWM,SPY --market SPY 2025-01-02..2025-11-28
  querycli correlate SPY,QQQ --sql                      the statement it stands for

Returns are logarithmic, from bar to bar of each instrument; two are a pair if they are over the
same stretch of time. The correlation is Pearson's; beta is the covariance with the market's returns
over their variance (Sharpe, Journal of Finance, 1964). `returns` counts the pairs with the market.")]
pub struct Arguments {
    /// Two instruments or more, with commas: SPY,QQQ or ES,NQ (front contracts)
    #[arg(value_name = "SYMBOLS")]
    pub symbols: String,
    /// How long a bar is: 5m, 1h, 1d, 1w
    #[arg(default_value = "1d")]
    pub timeframe: String,
    #[command(flatten)]
    pub period: Period,
    /// The instrument that betas are to [default: the first one]
    #[arg(long, value_name = "SYMBOL")]
    pub market: Option<String>,
    /// Which parts of a session: RTH, ETH (all of it), PRE+RTH ... [default: each calendar's main ones]
    #[arg(long)]
    pub segments: Option<String>,
    /// Print the SQL and do not run it
    #[arg(long)]
    pub sql: bool,
}

/// Runs it.
///
/// # Errors
/// One symbol alone, an unknown one, a market that is none of them.
pub async fn run(arguments: &Arguments, options: &Options) -> Result<u8> {
    let session = execute::open(options.sources()).await?;
    let asked = statement(arguments, &session).await?;
    print_or_show(&session, &asked, arguments.sql, options).await
}

async fn statement(arguments: &Arguments, session: &Session) -> Result<Asked> {
    let asked: Vec<&str> = arguments.symbols.split(',').map(str::trim).filter(|symbol| !symbol.is_empty()).collect();
    if asked.len() < 2 {
        return Err(Error::question("a correlation is of two instruments or more", "as in querycli correlate SPY,QQQ"));
    }
    let market = arguments.market.as_deref().unwrap_or(asked[0]);
    let Some(market) = asked.iter().position(|symbol| *symbol == market) else {
        let hint = format!("name it among them: {},{market}", arguments.symbols);
        return Err(Error::question(format!("{market} is none of the instruments"), hint));
    };
    let (mut symbols, mut first_of_all) = (Vec::new(), None);
    for symbol in &asked {
        let range = arguments.period.of(session, symbol).await?;
        // All have the same dates: the first one's.
        symbols.push(range.symbol.clone());
        first_of_all.get_or_insert(range);
    }
    let Some(range) = first_of_all else { return Err(Error::question("no symbol is named", "")) };
    // Days of two markets are the same day though they open at other hours; bars within a day are not.
    let key = if Timeframe::parse(&arguments.timeframe)?.is_intraday() { "bar_at" } else { "trade_date" };
    let array: Vec<String> = symbols.iter().map(|symbol| literal(symbol)).collect();
    let segments = arguments.segments.as_deref().map_or(String::new(), |s| format!(", segments => {}", literal(s)));
    let columns = symbols.iter().map(|symbol| {
        let (text, name) = (literal(symbol), identifier(symbol));
        format!(",\n       corr(a.r, b.r) FILTER (WHERE b.symbol = {text}) AS {name}")
    });
    let order = symbols.iter().enumerate().map(|(at, symbol)| format!(" WHEN {} THEN {at}", literal(symbol)));
    let market = literal(&symbols[market]);
    let sql = format!(
        "WITH moves AS (
  SELECT symbol, {key} AS till, lag({key}) OVER s AS since, log_returns(close) OVER s AS r
  FROM session_ohlc(ARRAY[{}], {}, {}, {}{segments})
  WHERE close IS NOT NULL WINDOW s AS (PARTITION BY symbol ORDER BY {key}))
SELECT a.symbol, count(*) FILTER (WHERE b.symbol = {market}) AS returns,
       beta(a.r, b.r) FILTER (WHERE b.symbol = {market}) AS beta{}
FROM moves AS a JOIN moves AS b ON a.till = b.till AND a.since = b.since
GROUP BY a.symbol ORDER BY CASE a.symbol{} END",
        array.join(", "),
        literal(&arguments.timeframe),
        date(range.first),
        date(range.last),
        columns.collect::<String>(),
        order.collect::<String>()
    );
    let range = Range { symbol: symbols.join(", "), ..range };
    Ok(Asked { sql, segments: arguments.segments.clone(), range })
}
