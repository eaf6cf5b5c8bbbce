//! `cargo xtask bench`: the same trades, loaded with `ingest` and asked by the same six queries on Bellwether and its
//! peers, interleaved in one run. What each query is, and what ours must reach: bench/README.md.

use crate::pg::{self, cargo, check, features, query};
use crate::setup;
use crate::test::step;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use xtask::prefix::Install;
use xtask::server::{Durability, Server};
use xtask::workspace;

const DATABASE: &str = "bench";
const FUTURES: [&str; 4] = ["ESZ25", "NQZ25", "CLZ25", "GCZ25"];
const EQUITIES: [&str; 4] = ["TSLA", "NVDA", "AAPL", "MSFT"];
/// A change of clocks, a holiday halt and an early close lie between them.
const DATES: (&str, &str) = ("2025-10-27", "2025-11-28");

#[derive(Args, Clone)]
pub struct Options {
    /// A million trades, two rounds, DuckDB alone, goals shown but not enforced: a few minutes with the build
    #[arg(long)]
    quick: bool,
    /// How many trades
    #[arg(long)]
    trades: Option<u64>,
    /// Seed of the generated trades
    #[arg(long, default_value_t = 20251121)]
    seed: u64,
    /// How often each query is asked; the median counts
    #[arg(long)]
    rounds: Option<u32>,
    /// Which peers to ask, of duckdb, polars and clickhouse
    #[arg(long)]
    peers: Option<String>,
    /// Show goals, never fail on them
    #[arg(long)]
    no_goals: bool,
    /// Ask only: leave out what writes (small batches, late trades, a running session)
    #[arg(long)]
    no_writes: bool,
    /// The libraries and programs of the everyday build instead of those with full optimisation; the extension and what it is
    /// made of are optimised in both
    #[arg(long)]
    dev: bool,
    /// How far behind a goal fails the run
    #[arg(long, default_value_t = 1.25)]
    margin: f64,
    /// Write the run to bench/runs/
    #[arg(long)]
    record: bool,
    #[command(flatten)]
    size: crate::scale::Size,
}

/// Time of one load, as the clock and as both sides' processors saw it.
struct Load {
    what: &'static str,
    trades: u64,
    wall: f64,
    client_cpu: f64,
    server_cpu: f64,
}

/// Runs the benchmark; the exit code is 1 when any engine's bars differ and 2 when a goal is missed.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.size.scale {
        return crate::scale::run(&options.size, options.rounds.unwrap_or(20), !options.no_goals);
    }
    setup::run()?;
    let trades = options.trades.unwrap_or(if options.quick { 1_000_000 } else { 10_000_000 });
    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 5 });
    let peers =
        options.peers.clone().unwrap_or(if options.quick { "duckdb" } else { "duckdb,polars,clickhouse" }.into());

    let release = if options.dev {
        pg::build()?;
        workspace::programs()?
    } else {
        step("build with optimisation");
        let mut build = cargo();
        build.args(["build", "--release", "-p", "bellwether", "-p", "ingest"]);
        build.args(features());
        check(&mut build, "the build failed")?;
        workspace::programs()?.with_file_name("release")
    };
    let python = python()?;

    step("start a private PostgreSQL of its own");
    let server = Server::at(&Server::directory("bench"))?;
    server.stop()?;
    server.remove()?;
    server.install(&Install::of(release.join("libbellwether.so")))?;
    server.init(Durability::Durable)?;
    server.start()?;
    let result = measure(options, trades, rounds, &peers, &server, &python, &release);
    server.stop()?;
    result
}

fn measure(
    options: &Options,
    trades: u64,
    rounds: u32,
    peers: &str,
    server: &Server,
    python: &Path,
    release: &Path,
) -> Result<ExitCode> {
    step(&format!("make {trades} trades on real sessions, seed {}", options.seed));
    make_instruments(server, DATABASE)?;
    let data = cache()?.join(format!("bench-{trades}-{}", options.seed));
    fs::create_dir_all(&data)?;
    fs::write(data.join("sessions.csv"), sessions(server)?)?;
    let bench = workspace::root().join("bench");
    let mut generate = Command::new(python);
    generate.arg(bench.join("gen.py")).arg(trades.to_string()).arg(&data).arg(data.join("sessions.csv"));
    check(generate.args(["--seed", &options.seed.to_string()]), "gen.py failed")?;

    step("load: one command from file to sealed sessions with bars");
    let ingest = release.join("ingest");
    let mut loads = vec![load(server, &ingest, DATABASE, "parquet", &data.join("trades.parquet"), trades)?];
    make_instruments(server, "bench_csv")?;
    loads.push(load(server, &ingest, "bench_csv", "csv", &data.join("trades.csv"), trades)?);
    query(server, "postgres", "DROP DATABASE bench_csv")?;
    println!("{:8} {:>12} {:>8} {:>18} {:>18}", "file", "trades/s", "wall s", "client CPU us/tr.", "server CPU us/tr.");
    for load in &loads {
        let each = |seconds: f64| seconds * 1e6 / load.trades as f64;
        let rate = load.trades as f64 / load.wall;
        println!(
            "{:8} {rate:12.0} {:8.2} {:18.3} {:18.3}",
            load.what,
            load.wall,
            each(load.client_cpu),
            each(load.server_cpu)
        );
    }
    query(server, DATABASE, "VACUUM ANALYZE")?;
    let found = query(server, DATABASE, "SELECT sum(n) FROM market.trade_blocks")?;
    let bytes = size(server)? as f64 / trades as f64;
    println!("sealed {found} of {trades} trades; {bytes:.2} bytes a trade with blocks, bars and indexes (goal <= 4.5)");

    step(&format!("six queries, {rounds} rounds, peers: {peers}"));
    let json = data.join("run.json");
    let mut run = Command::new(python);
    run.arg(bench.join("run.py")).args(["--db", &server.url(DATABASE), "--rounds", &rounds.to_string()]);
    run.arg("--data").arg(&data).args(["--peers", peers]).arg("--json").arg(&json).current_dir(&bench);
    run.args(["--margin", &options.margin.to_string()]);
    if options.no_goals || options.quick {
        run.arg("--no-goals");
    }
    if !options.no_writes {
        run.arg("--writes");
    }
    let status = run.status().context("cannot run run.py")?;
    if let Some(run) = fs::read_to_string(&json).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok()) {
        let mut record = record(trades, options.seed, rounds, &loads, bytes, run, server, python)?;
        record["profile"] = if options.dev { "dev" } else { "release" }.into();
        let path = match options.record {
            true => bench.join("runs").join(format!("{}-{trades}.json", today()?)),
            false => data.join("record.json"),
        };
        fs::create_dir_all(path.parent().unwrap_or(&bench))?;
        fs::write(&path, serde_json::to_string_pretty(&record)? + "\n")?;
        println!("recorded in {}", path.display());
    }
    Ok(ExitCode::from(status.code().unwrap_or(2) as u8))
}

fn make_instruments(server: &Server, database: &str) -> Result<()> {
    pg::make_database(server, database)?;
    for symbol in FUTURES {
        query(server, database, &format!("SELECT market.add_instrument('{symbol}')"))?;
    }
    for symbol in EQUITIES {
        query(server, database, &format!("SELECT market.add_instrument('{symbol}', calendar => 'XNYS')"))?;
    }
    Ok(())
}

/// What gen.py and the peers know of calendars: every segment of every session, in UTC microseconds.
fn sessions(server: &Server) -> Result<String> {
    let rows = query(
        server,
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

fn load(
    server: &Server,
    ingest: &Path,
    database: &str,
    format: &'static str,
    file: &Path,
    trades: u64,
) -> Result<Load> {
    let (server_before, client_before) = (server_cpu(server)?, children_cpu()?);
    let start = Instant::now();
    let mut command = Command::new(ingest);
    command.args(["load", "--db", &server.url(database), "--format", format]).arg(file);
    check(&mut command, "ingest failed")?;
    Ok(Load {
        what: format,
        trades,
        wall: start.elapsed().as_secs_f64(),
        client_cpu: children_cpu()? - client_before,
        server_cpu: server_cpu(server)? - server_before,
    })
}

/// Bytes on disk of blocks, bars and summaries, with TOAST and indexes.
fn size(server: &Server) -> Result<u64> {
    let size = query(
        server,
        DATABASE,
        "SELECT sum(pg_total_relation_size(c.oid))::int8 FROM pg_class c
         WHERE c.relkind = 'r' AND c.oid::regclass::text ~ '^market.(trade_blocks|bar_blocks|session_bars)'",
    )?;
    Ok(size.parse()?)
}

/// CPU seconds of a server: the postmaster, its ended children, its living ones.
fn server_cpu(server: &Server) -> Result<f64> {
    let pid = fs::read_to_string(server.dir().join("data/postmaster.pid")).context("the server has no pid file")?;
    let postmaster: u32 = pid.lines().next().unwrap_or_default().trim().parse()?;
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some(stat) = stat(pid) else { continue };
        if pid == postmaster {
            ticks += stat.own + stat.children;
        } else if stat.parent == postmaster {
            ticks += stat.own;
        }
    }
    Ok(ticks as f64 / TICKS)
}

/// CPU seconds of all children we have waited for.
fn children_cpu() -> Result<f64> {
    let stat = stat(std::process::id()).context("cannot read /proc/self/stat")?;
    Ok(stat.children as f64 / TICKS)
}

/// Linux counts these in hundredths of a second on every architecture we build for.
const TICKS: f64 = 100.0;

struct Stat {
    parent: u32,
    own: u64,
    children: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks; fields are counted after it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat { parent: number(1)? as u32, own: number(11)? + number(12)?, children: number(13)? + number(14)? })
}

#[expect(clippy::too_many_arguments, reason = "one record, one place")]
fn record(
    trades: u64,
    seed: u64,
    rounds: u32,
    loads: &[Load],
    bytes: f64,
    run: Value,
    server: &Server,
    python: &Path,
) -> Result<Value> {
    let said = |command: &mut Command| -> String {
        command.output().map(|out| String::from_utf8_lossy(&out.stdout).trim().to_string()).unwrap_or_default()
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let freeze = said(Command::new(python).args(["-m", "pip", "freeze"]));
    Ok(json!({
        "trades": trades, "seed": seed, "rounds": rounds,
        "commit": said(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(workspace::root())),
        "machine": {
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "cpu": model.trim_start_matches([' ', '\t', ':']),
            "memory": memory.lines().next().unwrap_or_default().replace("MemTotal:", "").trim(),
        },
        "versions": {
            "postgresql": query(server, DATABASE, "SHOW server_version")?,
            "rustc": said(Command::new("rustc").arg("--version")),
            "python": freeze.lines().collect::<Vec<_>>(),
        },
        "load": loads.iter().map(|load| json!({
            "format": load.what, "wall_s": load.wall, "trades_per_s": load.trades as f64 / load.wall,
            "client_cpu_s": load.client_cpu, "server_cpu_s": load.server_cpu,
        })).collect::<Vec<_>>(),
        "bytes_a_trade": bytes,
        "queries": run,
    }))
}

/// A Python of our own with the peers in it, made once.
fn python() -> Result<PathBuf> {
    let requirements = workspace::root().join("bench/requirements.txt");
    let venv = cache()?.join("venv");
    let python = venv.join("bin/python");
    let wanted = fs::read_to_string(&requirements)?;
    let stamp = venv.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    step("install the peers into a virtual environment of the benchmark's own");
    let usable = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    if !usable.is_ok_and(|out| out.status.success()) {
        setup::install("a Python for the peers", &["python3-venv", "python3-pip"])?;
    }
    check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), "cannot make a virtual environment")?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&requirements);
    check(&mut pip, "pip cannot install bench/requirements.txt")?;
    fs::write(&stamp, wanted)?;
    Ok(python)
}

/// Where generated data and the peers are kept: a folder of ours, outside the clone.
fn cache() -> Result<PathBuf> {
    let dir = std::env::var_os("BELLWETHER_CACHE")
        .map_or_else(|| PathBuf::from(format!("/var/tmp/bellwether-cache-{}", workspace::uid())), PathBuf::from);
    if fs::create_dir_all(&dir).is_ok() {
        return Ok(dir);
    }
    let fallback = workspace::programs()?.join("bellwether-cache");
    if fs::create_dir_all(&fallback).is_err() {
        bail!("cannot make {} nor {}; set BELLWETHER_CACHE", dir.display(), fallback.display());
    }
    Ok(fallback)
}

fn today() -> Result<String> {
    let out = Command::new("date").args(["-u", "+%Y-%m-%d"]).output()?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_string())
}
