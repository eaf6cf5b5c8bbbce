//! `cargo xtask bench`: the same trades, loaded with `ingest` and asked by the same six queries on Bellwether and its
//! peers, interleaved in one run. What each query is, and what ours must reach: bench/README.md.

mod load;
pub mod python;
mod record;

use crate::pg::{self, cargo, check, features, query};
use crate::setup;
use crate::test::step;
use anyhow::{Context, Result, ensure};
use clap::Args;
use load::{Load, load};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use xtask::prefix::Install;
use xtask::server::{Durability, Server};
use xtask::workspace;

const DATABASE: &str = "bench";
const FUTURES: [&str; 4] = ["ESZ25", "NQZ25", "CLZ25", "GCZ25"];
const EQUITIES: [&str; 4] = ["TSLA", "NVDA", "AAPL", "MSFT"];
/// A change of clocks, a holiday halt and an early close lie between them.
const DATES: (&str, &str) = ("2025-10-27", "2025-11-28");
const PEERS: &str = "duckdb,polars,clickhouse";

#[derive(Args, Clone)]
pub struct Options {
    /// A few trades and the everyday build, in seconds: only whether all engines give the same bars. What `cargo xtask test` runs
    #[arg(long)]
    quick: bool,
    /// How many trades
    #[arg(long)]
    trades: Option<u64>,
    /// Seed of the generated trades
    #[arg(long, default_value_t = 20251121)]
    seed: u64,
    /// How often each query is asked; the least counts, the median is printed beside it
    #[arg(long)]
    rounds: Option<u32>,
    /// Which peers to ask, of duckdb, polars and clickhouse
    #[arg(long, default_value = PEERS)]
    peers: String,
    /// Show goals, never fail on them
    #[arg(long)]
    no_goals: bool,
    /// Ask only: leave out what writes (small batches, late trades, a running session)
    #[arg(long)]
    no_writes: bool,
    /// The libraries and programs of the everyday build instead of those with full optimisation; the extension and what it is
    /// made of are optimised in both, querycli is not
    #[arg(long)]
    dev: bool,
    /// Leave querycli and its archive out: DataFusion with full optimisation takes a quarter of an hour to build
    #[arg(long, conflicts_with = "quick")]
    no_querycli: bool,
    /// How far behind a goal fails the run
    #[arg(long, default_value_t = 1.25)]
    margin: f64,
    /// Write the run to bench/runs/
    #[arg(long)]
    record: bool,
    /// What is built already, so that nothing is compiled
    #[arg(long)]
    built: bool,
    #[command(flatten)]
    size: crate::scale::Size,
}

/// Runs the benchmark; the exit code is 1 when any engine's bars differ and 2 when a goal is missed.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.size.scale {
        return crate::scale::run(&options.size, options.rounds.unwrap_or(20), options.built, !options.no_goals);
    }
    let python = if options.quick { python::found()? } else { Some(python::made()?) };
    let Some(python) = python else {
        println!(
            "not run: there is no Python with numpy, psycopg and pyarrow, nor a peer; `cargo xtask bench` makes one"
        );
        return Ok(ExitCode::SUCCESS);
    };
    let programs = programs(options)?;
    let bench = Bench {
        options: options.clone(),
        trades: options.trades.unwrap_or(if options.quick { 60_000 } else { 10_000_000 }),
        rounds: options.rounds.unwrap_or(if options.quick { 0 } else { 5 }),
        server: server(options.quick, &programs)?,
        python,
        programs,
    };
    let _lifeline = if options.quick { Some(bench.server.remove_at_exit()?) } else { None };
    bench.server.start()?;
    let code = bench.run();
    bench.server.stop()?;
    code
}

/// Where the library and the programs are, built unless told otherwise.
fn programs(options: &Options) -> Result<PathBuf> {
    let dev = options.dev || options.quick;
    if !options.built {
        setup::run()?;
        let mut build = cargo();
        if dev {
            build.args(["build", "--workspace"]);
        } else {
            step("build with optimisation");
            build.args(["build", "--release", "-p", "bellwether", "-p", "ingest"]);
        }
        if !options.no_querycli {
            if !dev {
                build.args(["-p", "querycli"]);
            }
            // `ask` is querycli in a process that answers one statement after the other.
            build.args(["--example", "ask"]);
        }
        build.args(["--lib", "--bins"]).args(features());
        check(&mut build, "the build failed")?;
    }
    let everyday = workspace::programs()?;
    Ok(if dev { everyday } else { everyday.with_file_name("release") })
}

/// A private server, made anew.
fn server(quick: bool, programs: &Path) -> Result<Server> {
    step("start a private PostgreSQL of its own");
    let name = if quick { format!("bench-{}", std::process::id()) } else { "bench".to_owned() };
    let server = Server::at(&Server::directory(&name))?;
    server.stop()?;
    server.remove()?;
    server.install(&Install::of(programs.join("libbellwether.so")))?;
    server.init(if quick { Durability::Throwaway } else { Durability::Durable })?;
    Ok(server)
}

struct Bench {
    options: Options,
    trades: u64,
    rounds: u32,
    server: Server,
    python: PathBuf,
    programs: PathBuf,
}

impl Bench {
    fn run(&self) -> Result<ExitCode> {
        let (trades, seed) = (self.trades, self.options.seed);
        step(&format!("make {trades} trades on real sessions, seed {seed}"));
        self.make_instruments(DATABASE)?;
        let data = match self.options.quick {
            true => self.server.dir().join("bench"),
            false => python::cache()?.join(format!("bench-{trades}-{seed}")),
        };
        fs::create_dir_all(&data)?;
        fs::write(data.join("sessions.csv"), self.sessions()?)?;
        let scripts = workspace::root().join("bench");
        let mut generate = Command::new(&self.python);
        generate.arg(scripts.join("gen.py")).arg(trades.to_string()).arg(&data).arg(data.join("sessions.csv"));
        check(generate.args(["--seed", &seed.to_string()]), "gen.py failed")?;

        let loads = self.load_all(&data)?;
        query(&self.server, DATABASE, "VACUUM ANALYZE")?;
        let bytes = self.size()? as f64 / trades as f64;

        if !self.options.no_querycli {
            self.archive(&data)?;
        }

        step(&format!("six queries, {} rounds, peers: {}", self.rounds, self.options.peers));
        let json = data.join("run.json");
        let mut ask = self.ask(&scripts, &data, &self.options.peers);
        ask.args(["--rounds", &self.rounds.to_string()]).arg("--json").arg(&json);
        ask.args(["--margin", &self.options.margin.to_string(), "--bytes", &bytes.to_string()]);
        ask.arg("--loads").arg(Value::from_iter(loads.iter().map(Load::json)).to_string());
        if self.options.no_goals || self.options.quick {
            ask.arg("--no-goals");
        }
        if !self.options.no_writes && !self.options.quick {
            ask.arg("--writes").arg("--ingest").arg(self.programs.join("ingest"));
        }
        let status = ask.status().context("cannot run run.py")?;
        if !self.options.quick {
            self.record(&json, &data, bytes)?;
        } else if status.success() {
            self.plant(&scripts, &data)?;
        }
        Ok(ExitCode::from(status.code().unwrap_or(2) as u8))
    }

    fn archive(&self, data: &Path) -> Result<()> {
        step("archive: every session as a Parquet file");
        let archive = data.join("archive");
        if archive.exists() {
            fs::remove_dir_all(&archive)?;
        }
        let mut push = Command::new(self.programs.join("querycli"));
        push.args(["archive", "push", "--db", &self.server.url(DATABASE), "--archive"]).arg(&archive);
        check(push.stdout(Stdio::null()), "querycli archive push failed")
    }

    fn ask(&self, scripts: &Path, data: &Path, peers: &str) -> Command {
        let mut ask = Command::new(&self.python);
        ask.arg(scripts.join("run.py")).args(["--db", &self.server.url(DATABASE)]).arg("--data").arg(data);
        if !self.options.no_querycli {
            ask.arg("--archive").arg(data.join("archive")).arg("--ask").arg(self.programs.join("examples/ask"));
        }
        ask.args(["--trades", &self.trades.to_string(), "--peers", peers]).current_dir(scripts);
        ask
    }

    /// A check of the check: one trade taken away from the database alone must fail a run.
    fn plant(&self, scripts: &Path, data: &Path) -> Result<()> {
        let bust = "SELECT market.bust_trade(symbol, ts, seq) FROM market.trades WHERE symbol = 'ESZ25' AND trade_date = '2025-11-12' LIMIT 1";
        query(&self.server, DATABASE, bust)?;
        let out = self.ask(scripts, data, "").args(["--rounds", "0", "--no-goals"]).output()?;
        ensure!(
            out.status.code() == Some(1),
            "a run over other bars must end with 1, not {}:\n{}",
            out.status,
            String::from_utf8_lossy(&out.stdout)
        );
        println!("a planted difference is noticed");
        Ok(())
    }

    /// The file of every format, each into a database of its own; the bars of all are the same.
    fn load_all(&self, data: &Path) -> Result<Vec<Load>> {
        step("load: one command from file to sealed sessions with bars");
        let ingest = self.programs.join("ingest");
        let (mut loads, mut sums) = (Vec::new(), Vec::new());
        for format in ["parquet", "dbn", "csv"] {
            let database = if format == "parquet" { DATABASE.to_owned() } else { format!("bench_{format}") };
            self.make_instruments(&database)?;
            query(&self.server, &database, "CHECKPOINT")?;
            let file = data.join(format!("trades.{format}"));
            loads.push(load(&self.server, &ingest, &database, format, &file, self.trades)?);
            sums.push(self.sums(&database)?);
            if database != DATABASE {
                query(&self.server, "postgres", &format!("DROP DATABASE {database}"))?;
            }
        }
        ensure!(sums.iter().all(|sum| *sum == sums[0]), "the formats give different bars: {sums:?}");
        Ok(loads)
    }

    /// Trades, and the sums of their minute bars.
    /// Prices as numeric: a sum of floats goes by the order in which workers deliver.
    fn sums(&self, database: &str) -> Result<String> {
        let sql = format!(
            "SELECT (SELECT sum(n) FROM market.trade_blocks), count(*), sum(open::numeric), sum(high::numeric), sum(low::numeric), sum(close::numeric), sum(volume), sum(trades)
             FROM market.session_ohlc((SELECT array_agg(symbol) FROM market.instruments), '1m', date '{}', date '{}', segments => 'ALL')",
            DATES.0, DATES.1
        );
        query(&self.server, database, &sql)
    }

    fn make_instruments(&self, database: &str) -> Result<()> {
        pg::make_database(&self.server, database)?;
        for symbol in FUTURES {
            query(&self.server, database, &format!("SELECT market.add_instrument('{symbol}')"))?;
        }
        for symbol in EQUITIES {
            query(&self.server, database, &format!("SELECT market.add_instrument('{symbol}', calendar => 'XNYS')"))?;
        }
        Ok(())
    }

    /// What gen.py and the peers know of calendars: every segment of every session, in UTC microseconds.
    fn sessions(&self) -> Result<String> {
        let rows = query(
            &self.server,
            DATABASE,
            &format!(
                "SELECT concat_ws(',', i.symbol, s.trade_date, s.segment, (EXTRACT(epoch FROM s.opens_at) * 1000000)::int8,
                        (EXTRACT(epoch FROM s.closes_at) * 1000000)::int8)
                 FROM market.instruments i, market.sessions(i.calendar, date '{}', date '{}', 'ETH') s
                 ORDER BY i.symbol, s.opens_at",
                DATES.0, DATES.1
            ),
        )?;
        Ok(format!("symbol,trade_date,segment,opens_at,closes_at\n{rows}\n"))
    }

    /// Bytes on disk of blocks, bars and summaries, with TOAST and indexes.
    fn size(&self) -> Result<u64> {
        let size = query(
            &self.server,
            DATABASE,
            "SELECT sum(pg_total_relation_size(c.oid))::int8 FROM pg_class c
             WHERE c.relkind = 'r' AND c.oid::regclass::text ~ '^market.(trade_blocks|bar_blocks|session_bars)'",
        )?;
        Ok(size.parse()?)
    }

    /// Writes the run with what it ran on.
    fn record(&self, json: &Path, data: &Path, bytes: f64) -> Result<()> {
        let Ok(text) = fs::read_to_string(json) else { return Ok(()) };
        let run: Value = serde_json::from_str(&text)?;
        let mut record = record::machine(&self.server, &self.python)?;
        record["trades"] = self.trades.into();
        record["seed"] = self.options.seed.into();
        record["rounds"] = self.rounds.into();
        record["profile"] = if self.options.dev { "dev" } else { "release" }.into();
        record["bytes_a_trade"] = bytes.into();
        record["run"] = run;
        let path = match self.options.record {
            true => workspace::root().join("bench/runs").join(format!("{}-{}.json", record::today()?, self.trades)),
            false => data.join("record.json"),
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, serde_json::to_string_pretty(&record)? + "\n")?;
        println!("recorded in {}", path.display());
        Ok(())
    }
}
