//! `querycli archive push|verify|prune|restore|list`: the commands, and what they print.

use super::{
    Archive, Place, Prune, Pruned, Push, Pushed, Restore, Restored, Selection, Verified, Verify, prune, push, restore,
    verify,
};
use crate::db::{Db, Instrument};
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use market::TradeDate;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use tokio_postgres::Client;

/// Sessions as Parquet files: written, checked, brought back.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  querycli archive push --archive /srv/archive --db postgresql://localhost/market
  querycli archive verify --archive /srv/archive
  querycli archive list --archive /srv/archive --symbol ESZ25
  querycli archive restore --archive /srv/archive --db service=market --first 2025-11-03
  querycli archive prune --archive /srv/archive --db service=market --before 2015-01-01
  querycli archive push --archive s3://bucket/archive --db service=market

Exit codes: 0 done, 1 something is not as it should be, 2 the question was wrong.")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Args, Clone, Debug)]
struct Where {
    /// The archive: a folder, or s3://bucket/archive, gs://bucket/archive, az://container/archive
    #[arg(long, env = "BELLWETHER_ARCHIVE", hide_env_values = true, value_name = "DIR|URL")]
    archive: String,
}

#[derive(Args, Clone, Debug)]
struct Database {
    /// The database: postgresql://user@host/database, or service=NAME
    #[arg(long, env = "BELLWETHER_DB", hide_env_values = true, value_name = "URL")]
    db: Option<String>,
}

#[derive(Args, Clone, Debug)]
struct Which {
    /// This instrument alone, by its own symbol; may be given several times [default: all]
    #[arg(long, value_name = "SYMBOL")]
    symbol: Vec<String>,
    /// From this trade date on
    #[arg(long, value_name = "DATE", value_parser = day)]
    first: Option<TradeDate>,
    /// To this trade date, which is included
    #[arg(long, value_name = "DATE", value_parser = day)]
    last: Option<TradeDate>,
}

fn day(text: &str) -> std::result::Result<TradeDate, String> {
    TradeDate::parse(text).map_err(|error| format!("{error}; write it like 2025-11-28"))
}

/// `24h`, `90m`, `30s`, `2d`; 0 is nothing.
fn grace(text: &str) -> std::result::Result<chrono::Duration, String> {
    let wrong = || format!("\"{text}\" is no time; write it like 24h, 30m or 2d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: i64 = digits.parse().map_err(|_| wrong())?;
    let made = match &text[digits.len()..] {
        "d" => chrono::Duration::try_days(number),
        "h" => chrono::Duration::try_hours(number),
        "m" => chrono::Duration::try_minutes(number),
        "s" => chrono::Duration::try_seconds(number),
        "" if number == 0 => Some(chrono::Duration::zero()),
        _ => None,
    };
    made.filter(|made| *made >= chrono::Duration::zero()).ok_or_else(wrong)
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// Write sealed sessions into the archive, read them back, and tell the database
    #[command(after_help = "\
Examples:
  querycli archive push --archive /srv/archive --db postgresql://localhost/market
  querycli archive push --archive /srv/archive --db service=market --symbol SPY --first 2025-11-03

Sessions that are there already are left alone, so it may be interrupted and run again.")]
    Push {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        database: Database,
        /// A read-only replica of the database, to read the trades from
        #[arg(long, env = "BELLWETHER_READ_DB", hide_env_values = true, value_name = "URL")]
        read_db: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Check that every byte is as it was written and, with --db, that the database believes the same
    #[command(after_help = "\
Examples:
  querycli archive verify --archive /srv/archive
  querycli archive verify --archive /srv/archive --db service=market --last 2025-11-28
  querycli archive verify --archive /srv/archive --quick

The exit code is 1 if anything is broken.")]
    Verify {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        which: Which,
        /// Compare hashes alone, without decoding
        #[arg(long)]
        quick: bool,
    },
    /// Remove what interrupted pushes left and, with --before, old sessions that the database still has
    #[command(after_help = "\
Examples:
  querycli archive prune --archive /srv/archive                        what interrupted pushes left
  querycli archive prune --archive /srv/archive --db service=market --before 2015-01-01 --dry-run

A session whose trades are nowhere else, or of which no --db tells, is kept.")]
    Prune {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        database: Database,
        /// Of this instrument alone; may be given several times
        #[arg(long, value_name = "SYMBOL")]
        symbol: Vec<String>,
        /// Remove sessions before this trade date
        #[arg(long, value_name = "DATE", value_parser = day)]
        before: Option<TradeDate>,
        /// Also sessions whose trades are nowhere else
        #[arg(long)]
        only_copies: bool,
        /// In an object store: leave what is younger by the store's clock, such as 24h or 30m; a push that runs may need it
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = grace)]
        grace: chrono::Duration,
        /// Say what would go, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Put archived sessions back into a database, each whole and as it was
    #[command(after_help = "\
Examples:
  querycli archive restore --archive /srv/archive --db postgresql://localhost/market
  querycli archive restore --archive /srv/archive --db service=market --symbol SPY --first 2025-11-03 --last 2025-11-28

An instrument that the database does not have is added. Sessions that are there already are left alone.")]
    Restore {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        which: Which,
    },
    /// List archived sessions: trades, bytes, digest and state of each
    #[command(after_help = "\
Examples:
  querycli archive list --archive /srv/archive
  querycli archive list --archive /srv/archive --symbol ESZ25 --first 2025-11-24 --last 2025-11-28")]
    List {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        which: Which,
    },
}

fn selection(which: &Which) -> Result<Selection> {
    if let (Some(first), Some(last)) = (which.first, which.last)
        && first > last
    {
        return Err(Error::question(
            format!("--first {first} is after --last {last}"),
            "name the earlier date first; both are included",
        ));
    }
    Ok(Selection { symbols: which.symbol.clone(), first: which.first, last: which.last })
}

/// Refuses symbols of which the archive has nothing: a misspelt one would look as if all were done.
fn there(archive: &Archive, symbols: &[String]) -> Result<()> {
    let known = archive.symbols()?;
    let Some(symbol) = symbols.iter().find(|symbol| !known.contains(symbol)) else { return Ok(()) };
    let hint = match market::nearest::nearest(symbol, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "`querycli archive list` tells what there is".to_owned(),
    };
    Err(Error::question(format!("the archive has no session of \"{symbol}\""), hint))
}

async fn connected(database: &Database) -> Result<Option<Arc<Db>>> {
    // an empty one is none, so that BELLWETHER_DB can be switched off
    let Some(url) = database.db.as_ref().filter(|url| !url.is_empty()) else { return Ok(None) };
    let db = Db::connect(url).await?;
    db.begin().await?;
    Ok(Some(Arc::new(db)))
}

fn needed(db: Option<Arc<Db>>, command: &str) -> Result<Arc<Db>> {
    db.ok_or_else(|| {
        Error::question(format!("archive {command} needs a database"), "name one with --db or BELLWETHER_DB")
    })
}

/// Runs one; whether all is as it should be. What happens is written as it happens.
///
/// # Errors
/// A wrong question, a server that is not there, a disk that is full.
pub async fn run(arguments: &Arguments, out: &mut impl Write) -> Result<bool> {
    let mut lines = Lines { out, broken: None };
    let good = match &arguments.action {
        Action::Push { place, database, read_db, which } => {
            let what = Push { selection: selection(which)? };
            let place = Place::parse(&place.archive)?;
            let db = needed(connected(database).await?, "push")?;
            let writer = db.writer().await?;
            let reads = match read_db.as_ref().filter(|url| !url.is_empty()) {
                Some(url) => Arc::new(Db::connect(url).await?),
                None => db,
            };
            for symbol in &which.symbol {
                let found =
                    Instrument::find(&reads, symbol, TradeDate::new(chrono::Utc::now().date_naive())).await?.symbol;
                if found != *symbol {
                    return Err(Error::question(
                        format!("\"{symbol}\" is another name of {found}"),
                        "name instruments by their own symbols, so that it is the same ones every day",
                    ));
                }
            }
            pushes(&reads, &writer, &place, &what, &mut lines).await?
        }
        Action::Verify { place, database, which, quick } => {
            let what = Verify { selection: selection(which)?, quick: *quick };
            let db = connected(database).await?;
            let archive = Archive::open(&place.archive)?;
            // a database may know of sessions that are gone from the archive
            if db.is_none() {
                there(&archive, &which.symbol)?;
            }
            verifies(db.as_deref(), &archive, &what, &mut lines).await?
        }
        Action::Prune { place, database, symbol, before, only_copies, grace, dry_run } => {
            let db = connected(database).await?;
            let what = Prune {
                before: *before,
                symbols: symbol.clone(),
                only_copies: *only_copies,
                grace: *grace,
                dry_run: *dry_run,
            };
            let archive = Archive::open(&place.archive)?;
            there(&archive, symbol)?;
            prunes(db.as_deref(), &archive, &what, &mut lines).await?
        }
        Action::Restore { place, database, which } => {
            let what = Restore { selection: selection(which)? };
            let db = needed(connected(database).await?, "restore")?;
            let archive = Archive::open(&place.archive)?;
            there(&archive, &which.symbol)?;
            restores(&db, &archive, &what, &mut lines).await?
        }
        Action::List { place, which } => {
            let archive = Archive::open(&place.archive)?;
            there(&archive, &which.symbol)?;
            list(&archive, &selection(which)?, &mut lines)?
        }
    };
    match lines.broken {
        Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::world(format!("cannot write: {error}"), ""))
        }
        _ => Ok(good),
    }
}

/// Writes lines, and remembers that nobody reads them any more.
struct Lines<'a, W: Write> {
    out: &'a mut W,
    broken: Option<std::io::Error>,
}

impl<W: Write> Lines<'_, W> {
    fn say(&mut self, line: &str) {
        if self.broken.is_none()
            && let Err(error) = writeln!(self.out, "{line}").and_then(|()| self.out.flush())
        {
            self.broken = Some(error);
        }
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn said(name: &str, error: &Error) -> String {
    let message =
        if error.message.contains(name) { error.message.clone() } else { format!("{name}: {}", error.message) };
    if error.hint.is_empty() { message } else { format!("{message} ({})", error.hint) }
}

async fn pushes<W: Write>(
    db: &Arc<Db>,
    writer: &Client,
    place: &Place,
    what: &Push,
    lines: &mut Lines<'_, W>,
) -> Result<bool> {
    let (mut written, mut known, mut failed) = (0, 0, 0);
    push(db, writer, place, what, |done| match done {
        Pushed::Written(manifest) => {
            written += 1;
            lines.say(&format!(
                "archived {} ({}, {} bytes)",
                manifest.name(),
                count(manifest.n as usize, "trade"),
                manifest.trades.bytes
            ));
        }
        Pushed::Known(_) => known += 1,
        Pushed::Failed(name, error) => {
            failed += 1;
            lines.say(&format!("failed   {}", said(name, error)));
        }
    })
    .await?;
    let mut summary = format!("{} archived", count(written, "session"));
    if known > 0 {
        let _ = write!(summary, ", {known} there already");
    }
    if failed > 0 {
        let _ = write!(summary, ", {failed} failed");
    }
    lines.say(&summary);
    Ok(failed == 0)
}

async fn verifies<W: Write>(
    db: Option<&Db>,
    archive: &Archive,
    what: &Verify,
    lines: &mut Lines<'_, W>,
) -> Result<bool> {
    let (mut good, mut bad, mut leftover, mut trades) = (0, 0, 0, 0);
    let mut hear = |found: &Verified| match found {
        Verified::Good(manifest) => {
            good += 1;
            trades += manifest.n;
        }
        Verified::Bad(name, error) => {
            bad += 1;
            lines.say(&format!("broken   {}", said(name, error)));
        }
        Verified::Leftover(file) => {
            leftover += 1;
            lines.say(&format!("leftover {}", file.name));
        }
    };
    verify(archive, what, &mut hear)?;
    if let Some(db) = db {
        verify::against(db, archive, &what.selection, &mut hear).await?;
    }
    let mut summary = format!("{} with {} as written", count(good, "session"), count(trades as usize, "trade"));
    if bad > 0 {
        let _ = write!(summary, ", {bad} broken");
    }
    if leftover > 0 {
        let _ = write!(
            summary,
            ", {} of interrupted pushes (querycli archive prune removes them)",
            count(leftover, "file")
        );
    }
    lines.say(&summary);
    Ok(bad == 0)
}

async fn prunes<W: Write>(db: Option<&Db>, archive: &Archive, what: &Prune, lines: &mut Lines<'_, W>) -> Result<bool> {
    let (mut files, mut sessions, mut kept) = (0, 0, 0);
    let removed = if what.dry_run { "would go" } else { "removed " };
    prune(db, archive, what, |done| match done {
        Pruned::Leftover(file) => {
            files += 1;
            lines.say(&format!("{removed} {file}"));
        }
        Pruned::Session(manifest) => {
            sessions += 1;
            lines.say(&format!("{removed} {}", manifest.name()));
        }
        Pruned::Kept(name, why) => {
            kept += 1;
            lines.say(&format!("kept     {name}: {why}"));
        }
    })
    .await?;
    let verb = if what.dry_run { "would be removed" } else { "removed" };
    lines.say(&format!(
        "{} and {} of interrupted pushes {verb}, {kept} kept",
        count(sessions, "session"),
        count(files, "file")
    ));
    Ok(true)
}

async fn restores<W: Write>(db: &Db, archive: &Archive, what: &Restore, lines: &mut Lines<'_, W>) -> Result<bool> {
    let (mut written, mut known, mut failed) = (0, 0, 0);
    restore(db, archive, what, |done| match done {
        Restored::Written(manifest) => {
            written += 1;
            lines.say(&format!("restored {} ({})", manifest.name(), count(manifest.n as usize, "trade")));
        }
        Restored::Known(_) => known += 1,
        Restored::Failed(name, error) => {
            failed += 1;
            lines.say(&format!("failed   {}", said(name, error)));
        }
    })
    .await?;
    let mut summary = format!("{} restored", count(written, "session"));
    if known > 0 {
        let _ = write!(summary, ", {known} there already");
    }
    if failed > 0 {
        let _ = write!(summary, ", {failed} failed");
    }
    lines.say(&summary);
    Ok(failed == 0)
}

fn list<W: Write>(archive: &Archive, selection: &Selection, lines: &mut Lines<'_, W>) -> Result<bool> {
    let (mut sessions, mut trades, mut bytes, mut broken) = (0, 0, 0, 0);
    let found = archive.sessions(selection)?;
    archive.expect(found.iter().map(|(symbol, day)| (symbol.as_str(), *day)));
    let width = found.iter().map(|(symbol, _)| symbol.chars().count()).max().unwrap_or(0);
    for (symbol, day) in found {
        match archive.manifest(&symbol, day) {
            Ok(Some(manifest)) => {
                let size: u64 = manifest.contents().map(|content| content.bytes).sum();
                let state = match manifest.state.as_str() {
                    "revised" => format!("revised({})", manifest.revision),
                    state => state.to_owned(),
                };
                lines.say(&format!(
                    "{symbol:width$}  {day}  {:>9} trades  {size:>10} bytes  {}  {state}",
                    manifest.n, manifest.digest
                ));
                (sessions, trades, bytes) = (sessions + 1, trades + manifest.n as usize, bytes + size);
            }
            Ok(None) => {}
            Err(error) => {
                broken += 1;
                lines.say(&format!("{symbol:width$}  {day}  broken: {}", error.message));
            }
        }
    }
    lines.say(&format!("{}, {}, {bytes} bytes", count(sessions, "session"), count(trades, "trade")));
    Ok(broken == 0)
}
