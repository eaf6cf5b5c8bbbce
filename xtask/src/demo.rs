//! `cargo xtask demo`: from nothing to bars, in one command. Every step shows what a user would type, runs exactly that,
//! and the demo fails where an answer is not what it claims. It can be run again at any time.

use crate::pg::{self, query};
use crate::setup;
use anyhow::{Context, Result, bail, ensure};
use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use xtask::server::Server;
use xtask::workspace;

const DATABASE: &str = "demo";

/// Runs it.
pub fn run() -> Result<()> {
    setup::run()?;
    println!("Building the extension and the programs; the first time takes some minutes ...");
    pg::build()?;
    let start = Instant::now();
    let server = pg::server()?;
    pg::start(&server, false)?;
    query(&server, "postgres", "DROP DATABASE IF EXISTS demo WITH (FORCE)")?;
    pg::make_database(&server, DATABASE)?;
    let demo = Demo { server: &server, after_note: Cell::new(false) };

    println!("\nBellwether: session-aware market data inside PostgreSQL\n");
    demo.heading("A PostgreSQL of your own, with the extension, beside any other you have");
    demo.note(&format!("It runs in {} and listens on a socket there.", server.dir().display()));
    let version = "SELECT extname, extversion, current_setting('server_version') AS postgresql FROM pg_extension WHERE extname = 'bellwether'";
    demo.sql(version)?;

    demo.heading("Two instruments, and trades made up for real sessions");
    demo.note(
        "Futures over the change of clocks on 2 November, and both over Thanksgiving. Whole sessions arrive sealed:",
    );
    demo.note("packed in columns, with their bars. Loading them again would change nothing.");
    let es = ["simulate", "--symbol", "ESZ25", "--from", "2025-10-29", "--to", "2025-11-28"];
    demo.program("ingest", &es)?;
    let spy = ["simulate", "--symbol", "SPY", "--calendar", "XNYS", "--price", "680", "--from", "2025-11-24"];
    demo.program("ingest", &[&spy[..], &["--to", "2025-11-28"]].concat())?;
    demo.sql(
        "SELECT count(DISTINCT (instrument_id, trade_date)) AS sessions, sum(n) AS trades,\n       \
         round(sum(octet_length(payload)) / sum(n)::numeric, 2) AS bytes_a_trade\nFROM market.trade_blocks",
    )?;

    demo.heading("Bars over a change of clocks");
    demo.note(
        "A trade date begins at 17:00 in Chicago the day before, whatever that is in UTC; Sunday belongs to Monday.",
    );
    demo.sql(
        "SELECT trade_date, to_char(bar_at AT TIME ZONE 'America/Chicago', 'Dy HH24:MI') AS chicago,\n       \
         to_char(bar_at AT TIME ZONE 'UTC', 'Dy HH24:MI') AS utc, open, high, low, close, volume, trades, state\n\
         FROM market.session_ohlc('ESZ25', '1d', date '2025-10-30', date '2025-11-04')",
    )?;

    demo.heading("Bars across an early close");
    demo.note("The day after Thanksgiving ends at 13:00 in New York: the last hour is cut to 30 minutes, not mixed with POST.");
    let early = "SELECT to_char(bar_at AT TIME ZONE 'America/New_York', 'HH24:MI') AS opens,\n       \
                 to_char(bar_end AT TIME ZONE 'America/New_York', 'HH24:MI') AS ends, open, high, low, close, volume, trades, state\n\
                 FROM market.session_ohlc('SPY', '1h', date '2025-11-28', date '2025-11-28')";
    demo.sql(early)?;

    demo.heading("A trade comes late, and is wrong");
    demo.note("The session is sealed. A late trade is in the very next answer; so is its cancellation.");
    let last = "SELECT high, volume, trades, state FROM market.session_ohlc('SPY', '1h', date '2025-11-28', date '2025-11-28')\n\
                ORDER BY bar_at DESC LIMIT 1";
    let before = query(&server, DATABASE, last)?;
    demo.sql(&format!(
        "INSERT INTO market.trades (symbol, ts, seq, price, size)\n\
         VALUES ('SPY', '2025-11-28 12:59:30 America/New_York', 900000001, 999.99, 100);\n{last}"
    ))?;
    let late = query(&server, DATABASE, last)?;
    ensure!(late.starts_with("999.99|"), "the late trade is not in the bar: {late}");
    demo.sql(&format!("SELECT market.bust_trade('SPY', '2025-11-28 12:59:30 America/New_York', 900000001);\n{last}"))?;
    let after = query(&server, DATABASE, last)?;
    let numbers = |bar: &str| bar.rsplit_once('|').map(|(numbers, _)| numbers.to_string());
    ensure!(numbers(&before) == numbers(&after), "the bust left a trace: {before} became {after}");
    demo.sql("SELECT market.seal('SPY', date '2025-11-28') AS late_rows_packed")?;
    demo.note("Stored bars can be checked against the trades at any time; no row means no difference:");
    demo.sql("SELECT * FROM market.verify_bars('SPY', date '2025-11-24', date '2025-11-28')")?;

    demo.heading("The same bars from querycli, which reads the blocks itself");
    let bars = "SELECT trade_date, open, high, low, close, volume, trades\n\
                FROM market.session_ohlc('ESZ25', '1d', DATE '2025-11-24', DATE '2025-11-28') ORDER BY trade_date";
    demo.program("querycli", &["-c", bars])?;
    demo.same_bars(bars)?;

    demo.heading("A question in words");
    let chart = workspace::programs()?.join("demo.png");
    let chart = chart.to_str().context("the build directory's name is not UTF-8")?;
    demo.program("bot", &["ask", "what was SPY's RTH high on 2025-11-28?", "--chart", chart])?;
    ensure!(Path::new(chart).is_file(), "no chart at {chart}");
    demo.note(&format!("The chart is in {chart}"));

    demo.heading("To go on");
    println!("   That was all of it, in {:.1} s after the build.\n", start.elapsed().as_secs_f64());
    println!(
        "   cargo xtask pg psql --database demo     a prompt on these trades; \\df+ market.* explains what there is"
    );
    println!("   cargo xtask pg url                      a database of your own; `ingest load --db URL FILE` fills it");
    println!("   cargo xtask pg stop                     stops the server; `pg start` brings it back with its data");
    println!("   README.md, docs/semantics.md            what to read next\n");
    Ok(())
}

struct Demo<'a> {
    server: &'a Server,
    /// A blank line separates what is said from what is run.
    after_note: Cell<bool>,
}

impl Demo<'_> {
    fn heading(&self, text: &str) {
        self.gap();
        println!("── {text} {}\n", "─".repeat(96_usize.saturating_sub(text.chars().count())));
    }

    fn note(&self, text: &str) {
        println!("   {text}");
        self.after_note.set(true);
    }

    fn gap(&self) {
        if self.after_note.replace(false) {
            println!();
        }
    }

    /// Shows SQL, runs it with psql and shows what it prints.
    fn sql(&self, sql: &str) -> Result<()> {
        self.gap();
        sql.lines().for_each(|line| println!("   {} {line}", paint("=>")));
        let mut psql = self.server.psql(DATABASE)?;
        let out = psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", "-c", sql]).output()?;
        if !out.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&out.stderr).trim_end());
        }
        show(&String::from_utf8_lossy(&out.stdout));
        Ok(())
    }

    /// Shows a command, runs it and shows what it prints.
    fn program(&self, name: &str, arguments: &[&str]) -> Result<()> {
        self.gap();
        let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        format!("{name} {}", words.join(" ")).lines().enumerate().for_each(|(at, line)| {
            println!("   {} {line}", if at == 0 { paint("$") } else { " ".into() });
        });
        let mut command = self.command(name, arguments)?;
        // Progress bars belong on the terminal; what is printed for good is shown indented.
        let out = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {name}"))?;
        if !out.status.success() {
            bail!("{name} failed ({})", out.status);
        }
        show(&String::from_utf8_lossy(&out.stdout));
        Ok(())
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(workspace::program(name)?);
        command.args(arguments).env("BELLWETHER_DB", self.server.url(DATABASE)).stdin(Stdio::null());
        Ok(command)
    }

    /// Whether both engines gave the same numbers.
    fn same_bars(&self, sql: &str) -> Result<()> {
        let postgres = self.server.psql(DATABASE)?.args(["-q", "--csv", "-c", sql]).output()?;
        let querycli = self.command("querycli", &["--format", "csv", "-c", sql])?.output()?;
        let numbers = |out: &[u8]| -> Vec<Vec<String>> {
            let text = String::from_utf8_lossy(out).into_owned();
            let field =
                |field: &str| field.parse::<f64>().map_or_else(|_| field.to_string(), |number| number.to_string());
            text.lines().skip(1).map(|line| line.split(',').map(field).collect()).collect()
        };
        let (a, b) = (numbers(&postgres.stdout), numbers(&querycli.stdout));
        ensure!(!a.is_empty() && a == b, "PostgreSQL and querycli differ:\n{a:?}\n{b:?}");
        self.note(&format!("Compared with PostgreSQL: {} bars, all equal.", a.len()));
        Ok(())
    }
}

fn show(text: &str) {
    text.trim_matches('\n').lines().for_each(|line| println!("   {line}"));
    println!();
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,".contains(c);
    if word.chars().all(plain) { word.to_string() } else { format!("\"{word}\"") }
}

/// Green on a terminal, plain elsewhere.
fn paint(text: &str) -> String {
    use std::io::IsTerminal;
    let plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    if plain { text.to_string() } else { format!("\x1b[32m{text}\x1b[0m") }
}
