//! `querycli calendars`: what is known, how it differs from elsewhere, and other forms of it as calendar files.

use crate::{Error, Result};
use clap::{Args, Subcommand, ValueEnum};
use flate2::read::GzDecoder;
use market::calendar::compare::{Column, SessionTable, wall};
use market::calendar::import::{Head, LeanHours, LeanSpan, LeanState, TradingView};
use market::calendar::import::{from_lean, from_table, from_tradingview};
use market::{Calendar, Segments, TradeDate};
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Calendars: list and show them, compare one with a table of sessions, make one from another form
#[derive(Args)]
#[command(after_help = "\
Examples:
  querycli calendars list
  querycli calendars show XNYS                          its file: hours, holidays, sources
  querycli calendars show XHKG --sessions 2025-12-24..2025-12-26
  querycli calendars diff XNYS --against sessions.csv   exit code 1 if they differ
  querycli calendars import --format tradingview --id MINE --tz America/New_York --known 2025-01-01..2026-12-31 hours.txt")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the calendars that come with the program: id, time zone, known dates, name
    List,
    /// Prints a calendar's file, or its sessions
    #[command(after_help = "\
Examples:
  querycli calendars show XNYS
  querycli calendars show XHKG --sessions 2025-12-24..2025-12-26
  querycli calendars show mine.toml --sessions 2025-11-28")]
    Show {
        /// The calendar's id, another name of it, or a calendar file that ends in .toml
        id: String,
        /// The sessions of these dates, FIRST..LAST or one date, instead of the file
        #[arg(long, value_name = "DATES")]
        sessions: Option<String>,
    },
    /// Lists the differences between a calendar and a CSV of sessions; exit code 1 if there are any
    #[command(after_help = "\
Examples:
  querycli calendars diff XNYS --against sessions.csv
  querycli calendars diff CME_EQUITY --against sessions.csv.gz --segments RTH --columns open,close")]
    Diff {
        /// The calendar's id, another name of it, or a calendar file that ends in .toml
        id: String,
        /// A CSV, gzipped or not: session, open, close and perhaps break_start, break_end, pre, post, on the calendar's wall
        /// clock or, as open_utc and so on, in UTC
        #[arg(long, value_name = "FILE")]
        against: PathBuf,
        /// The columns to compare; all that the file has, unless given
        #[arg(long, value_delimiter = ',', value_name = "NAMES")]
        columns: Vec<String>,
        /// What the file calls a session: RTH where futures are compared with their regular hours
        #[arg(long, value_name = "SEGMENTS")]
        segments: Option<String>,
    },
    /// Writes a calendar file made from another form of a schedule
    Import(Import),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  querycli calendars import --format lean --id MINE --entry 'Equity-usa-[*]' market-hours-database.json
  querycli calendars import --format csv --id MINE --tz America/New_York sessions.csv

The file is written to the standard output, to be read and completed; market.calendar_define() takes it.")]
struct Import {
    /// What the file is: a TradingView session string, an entry of LEAN's market-hours database, or a CSV of sessions
    #[arg(long, value_enum)]
    format: Form,
    /// The id of the new calendar
    #[arg(long)]
    id: String,
    /// The time zone its hours are written in; LEAN's entries have their own
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// The dates it vouches for, FIRST..LAST, where what is imported does not say
    #[arg(long, value_name = "DATES")]
    known: Option<String>,
    /// The entry of a whole LEAN database: Equity-usa-[*]
    #[arg(long, value_name = "KEY")]
    entry: Option<String>,
    /// TradingView's session_holidays: 20241225,20250101
    #[arg(long, value_name = "DATES", default_value = "")]
    holidays: String,
    /// TradingView's corrections: 0930-1300:20241129;dayoff:20250109
    #[arg(long, value_name = "TEXT", default_value = "")]
    corrections: String,
    /// The file; the standard input if it is missing or -
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Tradingview,
    Lean,
    Csv,
}

/// What a command prints, and its exit code.
pub struct Outcome {
    /// For the standard output.
    pub text: String,
    /// 0, or 1 for a comparison that found differences.
    pub exit_code: u8,
}

/// Runs a command.
///
/// # Errors
/// A wrong question (an unknown calendar, a text that cannot be read) or a file that cannot be opened.
pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let found = |text| Ok(Outcome { text, exit_code: 0 });
    match &arguments.command {
        Command::List => found(list()?),
        Command::Show { id, sessions: None } => found(calendar(id)?.toml().to_owned()),
        Command::Show { id, sessions: Some(dates) } => found(sessions(&calendar(id)?, dates)?),
        Command::Diff { id, against, columns, segments } => diff(&calendar(id)?, against, columns, segments.as_deref()),
        Command::Import(import) => found(import.run()?),
    }
}

/// A calendar by id or alias, or from a file.
fn calendar(id: &str) -> Result<Calendar> {
    match id.ends_with(".toml") {
        true => Ok(Calendar::from_toml(&read(Path::new(id))?)?),
        false => Ok(Calendar::builtin(id)?),
    }
}

fn list() -> Result<String> {
    let calendars =
        Calendar::builtin_ids().iter().map(|id| Calendar::builtin(id)).collect::<market::Result<Vec<_>>>()?;
    let rows = calendars.iter().map(|calendar| {
        let (first, last) = calendar.known();
        [
            calendar.id().to_owned(),
            calendar.time_zone().to_owned(),
            first.to_string(),
            last.to_string(),
            calendar.name().to_owned(),
        ]
    });
    Ok(aligned(&["id", "time_zone", "known_from", "known_to", "name"], rows))
}

fn sessions(calendar: &Calendar, dates: &str) -> Result<String> {
    let (first, last) = range(dates)?;
    let zone = calendar.zone();
    let rows = calendar.sessions(first, last)?.map(|session| {
        let row = calendar.row_of(&session);
        let mut cells = vec![session.trade_date.to_string()];
        cells.extend(Column::ALL.map(|column| wall(row[column as usize], zone, session.trade_date)));
        cells.push(session.note.to_owned());
        cells
    });
    let names: Vec<&str> =
        std::iter::once("session").chain(Column::ALL.map(Column::name)).chain(std::iter::once("note")).collect();
    Ok(aligned(&names, rows))
}

fn diff(calendar: &Calendar, against: &Path, columns: &[String], segments: Option<&str>) -> Result<Outcome> {
    let table = SessionTable::from_csv(&read(against)?, calendar.zone())?;
    let unknown = |name: &str| {
        let has: Vec<&str> = table.columns.iter().map(|column| column.name()).collect();
        Error::question(format!("the file has no column \"{name}\""), format!("it has {}", has.join(", ")))
    };
    let columns = match columns {
        [] => table.columns.clone(),
        names => names
            .iter()
            .map(|name| {
                Column::parse(name).filter(|column| table.columns.contains(column)).ok_or_else(|| unknown(name))
            })
            .collect::<Result<_>>()?,
    };
    let (compared, differences) = match segments {
        Some(segments) => calendar.differences_in(Segments::parse(segments)?, &table, &columns),
        None => calendar.differences(&table, &columns),
    };
    let rows = differences.iter().map(|d| [d.date.to_string(), d.what.to_owned(), d.theirs.clone(), d.ours.clone()]);
    let mut text =
        if differences.is_empty() { String::new() } else { aligned(&["date", "what", "theirs", "ours"], rows) };
    let (first, last) = calendar.known();
    let (first, last) = (first.max(table.first), last.min(table.last));
    // Writing to a String cannot fail.
    let _ = match first <= last {
        true => writeln!(
            text,
            "{} differences in {compared} sessions of {} from {first} to {last}",
            differences.len(),
            calendar.id()
        ),
        false => {
            return Err(Error::question(
                format!("{} and the file have no date in common", calendar.id()),
                format!("the file has {} to {}", table.first, table.last),
            ));
        }
    };
    Ok(Outcome { text, exit_code: u8::from(!differences.is_empty()) })
}

impl Import {
    fn run(&self) -> Result<String> {
        let text = match &self.file {
            Some(file) if file.as_os_str() != "-" => read(file)?,
            _ => standard_input()?,
        };
        let source = match &self.file {
            Some(file) => file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            None => "standard input".to_owned(),
        };
        let entry = matches!(self.format, Form::Lean).then(|| lean_entry(&text, self.entry.as_deref())).transpose()?;
        let own = entry.as_ref().and_then(|(zone, _)| zone.as_deref());
        let Some(zone) = self.tz.as_deref().or(own) else {
            return Err(Error::question("the time zone is missing", "name it: --tz America/New_York"));
        };
        let mut head = Head::new(&self.id, zone, &format!("imported from {source}"))?;
        head.known = self.known.as_deref().map(range).transpose()?;
        let made = match (self.format, entry) {
            (Form::Lean, Some((_, hours))) => from_lean(&head, &hours),
            (Form::Csv, _) => from_table(&head, &SessionTable::from_csv(&text, head.zone)?),
            _ => {
                let (holidays, corrections) = (self.holidays.as_str(), self.corrections.as_str());
                from_tradingview(&head, &TradingView { session: text.trim(), holidays, corrections })
            }
        };
        made.map_err(|error| match &error {
            market::Error::Invalid { what: "known range", .. } => Error::question(
                "what is imported does not say for which dates it holds",
                "name them: --known 2024-01-01..2027-12-31",
            ),
            _ => error.into(),
        })
    }
}

/// An entry of LEAN's database, alone or picked from the whole file, with its time zone.
fn lean_entry(text: &str, key: Option<&str>) -> Result<(Option<String>, LeanHours)> {
    let wrong = |reason: String| Error::question(format!("this is no market-hours entry: {reason}"), "");
    let file: serde_json::Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let entry = match (file.get("entries").and_then(|entries| entries.as_object()), key) {
        (None, _) => &file,
        (Some(entries), Some(key)) => entries.get(key).ok_or_else(|| {
            let nearest = market::nearest::nearest(key, entries.keys().map(String::as_str));
            let hint = nearest.map_or_else(String::new, |name| format!("did you mean \"{name}\"?"));
            Error::question(format!("the database has no entry \"{key}\""), hint)
        })?,
        (Some(_), None) => {
            return Err(Error::question("this is a whole database", "name an entry: --entry 'Equity-usa-[*]'"));
        }
    };
    let mut hours = LeanHours::default();
    let days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    for (day, spans) in days.iter().zip(&mut hours.days) {
        for span in entry.get(day).and_then(|list| list.as_array()).into_iter().flatten() {
            let text = |key: &str| {
                let text = span.get(key).and_then(|text| text.as_str());
                text.ok_or_else(|| wrong(format!("a span of {day} has no text \"{key}\"")))
            };
            let state = text("state")?;
            let state = LeanState::parse(state)
                .ok_or_else(|| wrong(format!("the state \"{state}\" is not premarket, market or postmarket")))?;
            spans.push(LeanSpan { start: text("start")?.to_owned(), end: text("end")?.to_owned(), state });
        }
    }
    for date in entry.get("holidays").and_then(|list| list.as_array()).into_iter().flatten() {
        hours.holidays.push(date.as_str().ok_or_else(|| wrong("a holiday is a text".into()))?.to_owned());
    }
    for (key, list) in [("earlyCloses", &mut hours.early_closes), ("lateOpens", &mut hours.late_opens)] {
        for (date, time) in entry.get(key).and_then(|list| list.as_object()).into_iter().flatten() {
            let time = time.as_str().ok_or_else(|| wrong(format!("{key} are texts by date")))?;
            list.push((date.clone(), time.to_owned()));
        }
    }
    let zone = entry.get("exchangeTimeZone").and_then(|zone| zone.as_str()).map(str::to_owned);
    Ok((zone, hours))
}

/// `2024-01-01..2024-01-31`, or one date.
fn range(text: &str) -> Result<(TradeDate, TradeDate)> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let range = (TradeDate::parse(first)?, TradeDate::parse(last)?);
    match range.0 <= range.1 {
        true => Ok(range),
        false => Err(Error::question(format!("\"{text}\" ends before it begins"), "dates are FIRST..LAST")),
    }
}

/// A text file, gzipped if its name ends in .gz.
fn read(path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| Error::question(format!("cannot read {}: {error}", path.display()), "");
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    match path.extension().is_some_and(|extension| extension == "gz") {
        true => GzDecoder::new(file).read_to_string(&mut text).map_err(failed)?,
        false => (&file).read_to_string(&mut text).map_err(failed)?,
    };
    Ok(text)
}

fn standard_input() -> Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map(|_| text).map_err(|error| Error::world(format!("cannot read the standard input: {error}"), ""))
}

/// Columns as wide as their widest cell; the last as it is.
fn aligned<R: AsRef<[String]>>(names: &[&str], rows: impl Iterator<Item = R>) -> String {
    let mut lines: Vec<Vec<String>> = vec![names.iter().map(|name| (*name).to_owned()).collect()];
    lines.extend(rows.map(|row| row.as_ref().to_vec()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
