//! The command line: its words, its help, and what each command starts.

use crate::columns::Mapping;
use crate::db::{Create, Creating, Place};
use crate::feed::format::{Format, Reading};
use crate::load::{self, KnownAt};
use crate::route::Limits;
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::PathBuf;

/// Trades into Bellwether: files, simulations and live feeds, each trade exactly once.
#[derive(clap::Parser, Debug)]
#[command(
    name = "ingest",
    version,
    arg_required_else_help = true,
    after_help = "\
Exit codes: 0 all is loaded, 1 something in the data was not, 2 the command line or the connection.
The database is --db URL or the environment variable BELLWETHER_DB; `cargo xtask pg url` prints one."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Load files of trades
    #[command(after_long_help = LOAD_EXAMPLES)]
    Load(Box<Load>),
}

const LOAD_EXAMPLES: &str = "\
Examples:
  A day of gold in Lean's layout; contracts, days and the calendar come from the names:
    ingest load --db $URL --format lean 20131007_trade.zip

  CSV with usual column names (ts, symbol, price, size, trade_id) needs no flags:
    ingest load --db $URL ticks.csv.gz

  CSV without a header: milliseconds, price in ten-thousandths, one symbol:
    ingest load --db $URL --no-header --time-column 1 --time-format epoch-ms --price-column 2 \\
      --price-scale 0.0001 --size-column 3 --symbol SPY --calendar XNYS trades.csv

  Times of day in New York, the same columns as a file:
    printf 'time-format = \"time-of-day\"\\ndate = \"2024-03-15\"\\nzone = \"America/New_York\"\\n' > cols.toml
    ingest load --db $URL --map cols.toml trades.csv

  See what would happen, without a database:
    ingest load --dry-run --calendar 24/7 ticks.parquet

A file may be loaded again: trades that are there already are counted as known and nothing changes.
Lines that are no trades go to market.dead_letters with file, line and reason.";

/// `ingest load`.
#[derive(clap::Args, Debug)]
pub struct Load {
    /// The database: postgresql://user@host:port/database
    #[arg(long, value_name = "URL", env = "BELLWETHER_DB", hide_env_values = true)]
    pub db: Option<String>,
    /// Format of the files [default: told from each file's name and first bytes]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Files, plain or packed as gz, zst or zip
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Read, check and count everything, print refused lines, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Stop after more refused lines than this
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub max_rejects: u64,
    /// Store trades of the symbol FROM under the instrument TO (repeatable)
    #[arg(long, value_name = "FROM=TO")]
    pub symbol_map: Vec<String>,
    /// Columns from a TOML file: the flags below without their dashes as keys
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// Connections that store sessions in parallel
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub connections: u8,
    /// Trades held in memory at most (60 bytes each) before sessions are sent on
    #[arg(long, value_name = "TRADES", default_value_t = Limits::default().held, value_parser = parse_buffer)]
    pub buffer: usize,
    /// When the trades became known, where the file does not say
    #[arg(long, value_enum, default_value_t)]
    pub known_at: KnownAt,
    /// How unknown symbols become instruments.
    #[command(flatten)]
    pub instruments: Instruments,
    /// Columns.
    #[command(flatten)]
    pub mapping: Mapping,
}

/// How unknown symbols become instruments.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Instruments that are not there yet")]
pub struct Instruments {
    /// Whether to add them
    #[arg(long, value_enum, default_value_t)]
    pub create: Create,
    /// Their calendar, such as XNYS or 24/7; roots of futures know theirs
    #[arg(long, value_name = "ID")]
    pub calendar: Option<String>,
    /// Their venue
    #[arg(long, value_name = "VENUE")]
    pub venue: Option<String>,
    /// Their currency
    #[arg(long, value_name = "CODE")]
    pub currency: Option<String>,
    /// Their tick size
    #[arg(long, value_name = "DECIMAL")]
    pub tick_size: Option<f64>,
    /// Currency per 1.0 of price
    #[arg(long, value_name = "DECIMAL")]
    pub multiplier: Option<f64>,
}

impl Instruments {
    fn creating(self) -> Creating {
        let Instruments { create, calendar, venue, currency, tick_size, multiplier } = self;
        Creating { create, calendar, venue, currency, tick_size, multiplier }
    }
}

fn parse_buffer(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|n| *n >= 10_000).ok_or_else(|| "use a number of trades, at least 10000".to_string())
}

/// Runs a command; the exit code.
///
/// # Errors
/// What goes to stderr, with its exit code.
pub async fn run(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Load(load) => run_load(*load).await,
    }
}

async fn run_load(load: Load) -> Result<u8> {
    let mapping = match &load.map {
        Some(path) => load.mapping.over(Mapping::from_file(path)?),
        None => load.mapping,
    };
    let mut symbol_map = HashMap::new();
    for pair in &load.symbol_map {
        let (from, to) = pair
            .split_once('=')
            .filter(|(from, to)| !from.is_empty() && !to.is_empty())
            .ok_or_else(|| Error::Usage(format!("--symbol-map \"{pair}\" is not FROM=TO, such as XBTUSD=BTC-USD")))?;
        symbol_map.insert(from.to_string(), to.to_string());
    }
    let options = load::Options {
        db: load.db.as_deref().map(Place::parse).transpose()?,
        files: load.files,
        reading: Reading { format: load.format, rules: mapping.check()? },
        symbol_map,
        creating: load.instruments.creating(),
        dry_run: load.dry_run,
        max_rejects: load.max_rejects,
        connections: usize::from(load.connections),
        limits: Limits {
            held: load.buffer,
            session: (load.buffer / 2).min(Limits::default().session),
            ..Limits::default()
        },
        known_at: load.known_at,
    };
    let summary = load::run(options).await?;
    println!("{summary}");
    if let n @ 1.. = summary.problems.len() {
        eprintln!("ingest: {n} problem{} (above); everything else is loaded", if n == 1 { "" } else { "s" });
    }
    Ok(summary.exit_code())
}
