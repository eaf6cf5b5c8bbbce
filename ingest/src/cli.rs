//! The command line: its words, its help, and what each command starts.

use crate::columns::Mapping;
use crate::db::{Create, Creating, Local, Place, Resolve};
use crate::feed::format::{Format, Reading};
use crate::feed::{Defaults, Name};
use crate::live;
use crate::load::{self, KnownAt};
use crate::route::Limits;
use crate::simulate::{self, Lots, Simulated, Simulation};
use crate::{Error, Result};
use market::{Symbol, TradeDate};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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

impl Cli {
    /// Whether it follows a feed, one batch after the other, instead of working on files.
    pub fn follows(&self) -> bool {
        matches!(self.command, Command::Live(_))
    }
}

/// The commands.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Load files of trades
    #[command(after_long_help = LOAD_EXAMPLES)]
    Load(Box<Load>),
    /// Make realistic trades of an instrument, the same for the same seed
    #[command(after_long_help = SIMULATE_EXAMPLES)]
    Simulate(Box<Simulate>),
    /// Follow a venue's trades as they happen
    #[command(after_long_help = LIVE_EXAMPLES)]
    Live(Box<Live>),
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
    ingest load --dry-run --calendar XNYS ticks.parquet

A file may be loaded again: trades that are there already are counted as known and nothing changes.
Lines that are no trades go to market.dead_letters with file, line and reason.";

const SIMULATE_EXAMPLES: &str = "\
Examples:
  Thanksgiving week of a contract; its root knows calendar and tick size:
    ingest simulate --db $URL --symbol ESZ25 --from 2025-11-24 --to 2025-11-28 --seed 7

  A share, 100,000 trades a day, with auctions at the open and the close:
    ingest simulate --db $URL --symbol ACME --calendar XNYS --price 40 --trades-per-day 100000 \\
      --from 2024-03-04 --to 2024-03-15

  Into a file, without a database:
    ingest simulate --symbol BTC-USD --calendar 24/7 --from 2024-03-10 --to 2024-03-10 --out btc.csv

The trades of a day follow from seed, symbol and date: simulating twice changes nothing.";

const LIVE_EXAMPLES: &str = "\
Examples:
  Two pairs of Binance, until Ctrl-C:
    ingest live --db $URL --venue binance --symbols btcusdt,ethusdt

  From a replay server:
    ingest live --db $URL --venue binance --symbols btcusdt --url ws://127.0.0.1:9001

The last committed trade of each instrument is in market.ingest_checkpoints, what the venue did not deliver in
market.feed_gaps.";

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
    /// Their calendar, such as XNYS or 24/7; contracts of known roots have their root's
    #[arg(long, value_name = "ID")]
    pub calendar: Option<String>,
    /// Their venue
    #[arg(long, value_name = "VENUE")]
    pub venue: Option<String>,
    /// Their currency
    #[arg(long, value_name = "CODE")]
    pub currency: Option<String>,
    /// Their tick size
    #[arg(long, value_name = "DECIMAL", value_parser = parse_positive)]
    pub tick_size: Option<String>,
    /// Currency per 1.0 of price
    #[arg(long, value_name = "DECIMAL", value_parser = parse_positive)]
    pub multiplier: Option<String>,
}

impl Instruments {
    fn creating(self) -> Creating {
        let Instruments { create, calendar, venue, currency, tick_size, multiplier } = self;
        Creating { create, calendar, venue, currency, tick_size, multiplier }
    }
}

/// `ingest simulate`.
#[derive(clap::Args, Debug)]
pub struct Simulate {
    /// The database: postgresql://user@host:port/database
    #[arg(long, value_name = "URL", env = "BELLWETHER_DB", hide_env_values = true)]
    pub db: Option<String>,
    /// The instrument, such as ESZ25, SPY, BTC-USD
    #[arg(long)]
    pub symbol: String,
    /// First trade date
    #[arg(long, value_name = "DATE")]
    pub from: String,
    /// Last trade date [default: the first]
    #[arg(long, value_name = "DATE")]
    pub to: Option<String>,
    /// Another seed makes other trades
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// About how many trades a full session has
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    pub trades_per_day: u32,
    /// The price it wanders about [default: one that looks right for the instrument]
    #[arg(long, value_name = "DECIMAL", value_parser = parse_positive)]
    pub price: Option<String>,
    /// Write a CSV file that `ingest load` reads, instead of storing the trades
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How an unknown symbol becomes an instrument.
    #[command(flatten)]
    pub instruments: Instruments,
}

/// `ingest live`.
#[derive(clap::Args, Debug)]
pub struct Live {
    /// The database: postgresql://user@host:port/database
    #[arg(long, value_name = "URL", env = "BELLWETHER_DB", hide_env_values = true)]
    pub db: String,
    /// The venue
    #[arg(long, value_enum)]
    pub venue: live::Venue,
    /// Symbols as the venue writes them
    #[arg(long, value_delimiter = ',', required = true)]
    pub symbols: Vec<String>,
    /// Another address than the venue's
    #[arg(long, value_name = "ws://...")]
    pub url: Option<String>,
    /// Commit a batch when it has this many trades
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch: u32,
    /// Commit a batch when its first trade has waited this long
    #[arg(long, value_name = "MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub flush_ms: u64,
    /// Connect again after this much silence
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub silence_ms: u64,
    /// First wait before connecting again; doubles up to a minute
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub backoff_ms: u64,
    /// Whether to add symbols that are no instruments yet, on the calendar 24/7
    #[arg(long, value_enum, default_value_t)]
    pub create: Create,
}

fn parse_positive(text: &str) -> std::result::Result<String, String> {
    match market::money::parse_decimal(text) {
        Ok(n) if n > 0 => Ok(text.to_string()),
        _ => Err("use a positive decimal such as 0.25".to_string()),
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
        Command::Simulate(simulate) => run_simulate(*simulate).await,
        Command::Live(live) => run_live(*live).await,
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

async fn run_simulate(args: Simulate) -> Result<u8> {
    let date = |flag: &str, text: &str| {
        TradeDate::parse(text)
            .map_err(|_| Error::Usage(format!("{flag} \"{text}\" is not a date; write it like 2024-03-15")))
    };
    let first = date("--from", &args.from)?;
    let last = args.to.as_deref().map_or(Ok(first), |to| date("--to", to))?;
    if last < first {
        return Err(Error::Usage(format!("--to {last} lies before --from {first}")));
    }
    let price = args.price.as_deref().map(market::money::parse_decimal).transpose()?;
    let tick = args.instruments.tick_size.as_deref().map(market::money::parse_decimal).transpose()?;
    let creating = args.instruments.creating();
    // A contract's kind follows from its root. An index has no trades and a spread no calendar of its own, so another name is a
    // share or a pair.
    let contract = Symbol::parse(&args.symbol, first).is_ok_and(|s| s.root().and_then(market::product).is_some());
    let pair = !contract && (args.symbol.contains('-') || creating.calendar.as_deref() == Some("24/7"));
    let kind = match (contract, pair) {
        (true, _) => None,
        (false, true) => Some("pair".to_owned()),
        (false, false) => Some("equity".to_owned()),
    };
    let name = Name { symbol: args.symbol.clone(), defaults: Defaults { kind, ..Defaults::default() } };
    let place = args.db.as_deref().map(Place::parse).transpose()?;
    let place = if args.out.is_some() { None } else { place };
    let instrument = match &place {
        Some(place) => Arc::new(place.connect().await?.instrument(&name, first, &creating).await?),
        None if args.out.is_some() => Local::new(creating.clone()).resolve(&name, first)?,
        None => {
            return Err(Error::Usage("--db URL (or BELLWETHER_DB) says where the trades go, or --out a file".into()));
        }
    };
    let symbol = Symbol::parse(&instrument.symbol, first)?;
    let product = symbol.root().and_then(market::product);
    let lots = match (product, pair) {
        (Some(_), _) => Lots::Contracts,
        (None, true) => Lots::Fractions,
        (None, false) => Lots::Shares,
    };
    let usual_tick =
        product.and_then(|p| market::money::price_from_f64(p.tick_size).ok()).unwrap_or(market::money::ONE / 100);
    let simulation = Simulation {
        symbol: instrument.symbol.clone(),
        calendar: instrument.calendar.clone(),
        first,
        last,
        seed: args.seed,
        trades_per_day: args.trades_per_day,
        tick: tick.unwrap_or(usual_tick),
        price: price.unwrap_or_else(|| simulate::usual_price(&instrument.symbol, symbol.root())),
        lots,
    };
    let (from, till) = (first, last);
    // Nothing may be written before we know that every date can be.
    simulation.calendar.sessions(from, till)?.for_each(drop);
    if let Some(out) = &args.out {
        let n = simulate::write_csv(simulation, out)
            .map_err(|e| Error::Usage(format!("--out {} cannot be written: {e}", out.display())))?;
        println!("{n} trades in {}", out.display());
        return Ok(0);
    }
    let options = load::Options {
        db: place,
        files: vec![],
        reading: Reading::default(),
        symbol_map: HashMap::new(),
        creating,
        dry_run: false,
        max_rejects: 0,
        connections: 2,
        limits: Limits::default(),
        known_at: KnownAt::Event,
    };
    let symbol = instrument.symbol.clone();
    let summary = load::run_feed(options, "simulate", move |names| {
        // The instrument exists by now, so its symbol is one.
        let id = names.id(symbol.as_bytes()).unwrap_or(0);
        Box::new(Simulated::new(simulation, id))
    })
    .await?;
    println!("{summary}");
    Ok(summary.exit_code())
}

async fn run_live(args: Live) -> Result<u8> {
    let options = live::Options {
        db: Place::parse(&args.db)?,
        venue: args.venue,
        symbols: args.symbols,
        url: args.url,
        creating: Creating { create: args.create, ..Creating::default() },
        batch: args.batch as usize,
        flush: Duration::from_millis(args.flush_ms),
        silence: Duration::from_millis(args.silence_ms),
        backoff: Duration::from_millis(args.backoff_ms),
    };
    let totals = live::run(options, live::stop_signal()?).await?;
    println!("{totals}");
    Ok(0)
}
