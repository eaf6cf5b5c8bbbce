//! `querycli chart`: bars as a picture, in the terminal or as a file.

use super::{bars, nothing};
use crate::chart::{Chart, png, svg, terminal};
use crate::cli::coloured;
use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::execute;
use crate::output::failed;
use clap::Args;

/// Draws bars as candles: in the terminal, or as .svg or .png with --output
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli chart SPY 5m                                 the newest session, in the terminal
  querycli chart ES 30m --last 3 --segments RTH
  querycli chart SPY 1d --last 60 --output spy.png
  querycli chart SPY 5m 2025-11-28 --output spy.svg
  querycli chart SPY 5m --data spy.parquet --calendar XNYS

Times are the exchange's. Where there are more bars than columns, neighbours of a session share a candle.")]
pub struct Arguments {
    #[command(flatten)]
    pub bars: bars::Arguments,
    /// Columns to draw into [default: the terminal's, else 100]
    #[arg(long, value_parser = clap::value_parser!(u16).range(20..=1000))]
    pub width: Option<u16>,
    /// Rows of prices
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(5..=200))]
    pub height: u16,
}

/// Runs it.
///
/// # Errors
/// What `bars` has, several symbols, no bars, a file of another kind.
pub async fn run(arguments: &Arguments, options: &Options) -> Result<u8> {
    let bars = &arguments.bars;
    if bars.symbol.contains(',') {
        return Err(Error::question("a chart is of one instrument", "draw them one by one"));
    }
    if options.format.is_some() {
        return Err(Error::question(
            "a chart is no rows, so --format means nothing to it",
            "leave --format out; --output FILE.svg or FILE.png makes a picture, and `querycli bars` prints rows",
        ));
    }
    let kind = match &options.output {
        None => None,
        Some(file) => match file.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Some("svg"),
            Some("png") => Some("png"),
            _ => {
                return Err(Error::question(
                    format!("{} is no picture", file.display()),
                    "name a file that ends with .svg or .png; `querycli bars` writes tables",
                ));
            }
        },
    };
    let session = execute::open(options.sources()).await?;
    let (call, range) = bars.call(&session).await?;
    let sql = format!("SELECT * FROM {call}");
    if bars.sql {
        super::text(&format!("{sql};\n"))?;
        return Ok(0);
    }
    let rows = execute::within(options.limits(), execute::rows(&session, sql)).await?;
    let mut title = format!("{} {}", range.symbol, bars.timeframe);
    let segments = bars.segments.clone().unwrap_or_else(|| range.calendar.main().to_string());
    title.push_str(&format!(" {segments}"));
    let daily = !matches!(market::Timeframe::parse(&bars.timeframe)?, market::Timeframe::Intraday(_));
    let chart = Chart::new(title, range.calendar, &rows, daily)
        .map_err(|error| Error { hint: nothing::why(&range, bars.segments.as_deref()), ..error })?;
    let mut target = match &options.output {
        Some(file) => crate::output::Target::file(file)?,
        None => crate::output::Target::stdout(),
    };
    let bytes = match kind {
        Some("svg") => svg::draw(&chart).into_bytes(),
        Some(_) => png::draw(&chart).map_err(failed)?,
        None => {
            let screen = || terminal_size::terminal_size().map(|(width, _)| width.0);
            let width = arguments.width.or_else(screen).unwrap_or(100).max(20);
            let height = usize::from(arguments.height);
            terminal::draw(&chart, usize::from(width), height, coloured(&std::io::stdout())).into_bytes()
        }
    };
    target.out().write_all(&bytes).map_err(failed)?;
    target.done()?;
    Ok(0)
}
