//! Options that every command understands: where to read, how to print, how much to take.

use crate::error::{Error, Result};
use crate::output::{Format, Target};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Options of every command. The ones before a command's name hold where the command itself says nothing.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub struct Options {
    /// A database with the extension: postgresql://user@host/database, or service=NAME. The password comes from the
    /// environment (PGPASSWORD), the pgpass file or the service file; so may every other part
    #[arg(long, env = "BELLWETHER_DB", hide_env_values = true, value_name = "URL", help_heading = "Where to read")]
    pub db: Option<String>,
    /// A read-only replica of it, to read from instead
    #[arg(
        long,
        env = "BELLWETHER_READ_DB",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Where to read"
    )]
    pub read_db: Option<String>,
    /// An archive: instead of a database, or beside one for the trades that retention dropped there
    #[arg(
        long,
        env = "BELLWETHER_ARCHIVE",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Where to read"
    )]
    pub archive: Option<String>,
    /// A file or a folder of Parquet, CSV, JSON or Arrow, here or at s3://, gs:// or az://: a table named by its stem; a
    /// single one is also `trades` and `t`. May be repeated
    #[arg(long, value_name = "FILE", help_heading = "Where to read")]
    pub data: Vec<PathBuf>,
    /// The calendar of the instruments in files, where their symbol does not tell
    #[arg(long, value_name = "ID", help_heading = "Where to read")]
    pub calendar: Option<String>,
    /// How to print rows: table, expanded, csv, tsv, json, ndjson, markdown, parquet or arrow [default: as the name of --output says,
    /// else table]
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "How to print", hide_possible_values = true)]
    pub format: Option<Format>,
    /// Write to a file instead of the standard output; it appears when it is complete
    #[arg(short, long, value_name = "FILE", help_heading = "How to print")]
    pub output: Option<PathBuf>,
    /// Stop printing an answer after so many rows, and say so
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_rows: Option<usize>,
    /// Cancel a statement that takes longer: 30s, 5min, 1h
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Limits")]
    pub timeout: Option<Duration>,
    /// Memory for sorts, joins and groups, which go to disk beyond it: 512MB, 2GB [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = bytes, help_heading = "Limits")]
    pub memory: Option<usize>,
}

/// What one statement may take and print.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Rows to print.
    pub max_rows: Option<usize>,
    /// Time for the statement.
    pub timeout: Option<Duration>,
}

impl Options {
    /// These over the ones given before the command's name.
    pub fn over(self, outer: Options) -> Options {
        Options {
            db: self.db.or(outer.db),
            read_db: self.read_db.or(outer.read_db),
            archive: self.archive.or(outer.archive),
            data: outer.data.into_iter().chain(self.data).collect(),
            calendar: self.calendar.or(outer.calendar),
            format: self.format.or(outer.format),
            output: self.output.or(outer.output),
            max_rows: self.max_rows.or(outer.max_rows),
            timeout: self.timeout.or(outer.timeout),
            memory: self.memory.or(outer.memory),
        }
    }

    /// What a session is opened over.
    pub fn sources(&self) -> crate::Options {
        // A service named by the environment is a database too, unless files are to be read.
        let service = || std::env::var("PGSERVICE").ok().filter(|name| !name.is_empty() && self.data.is_empty());
        crate::Options {
            // An empty one is none, so that BELLWETHER_DB can be switched off.
            db: self
                .db
                .clone()
                .filter(|db| !db.is_empty())
                .or_else(|| service().map(|_| "application_name='bellwether querycli'".to_owned())),
            read_db: self.read_db.clone().filter(|db| !db.is_empty()),
            archive: self.archive.clone().filter(|archive| !archive.is_empty()),
            files: self.data.clone(),
            calendar: self.calendar.clone(),
            memory: self.memory,
        }
    }

    /// The limits of a statement.
    pub fn limits(&self) -> Limits {
        Limits { max_rows: self.max_rows, timeout: self.timeout }
    }

    /// How to print.
    pub fn format(&self) -> Format {
        let named = || self.output.as_deref().and_then(Format::of_file);
        self.format.or_else(named).unwrap_or_default()
    }

    /// Where to print to.
    ///
    /// # Errors
    /// A file that cannot be made, a binary format on a terminal.
    pub fn target(&self) -> Result<Target> {
        let target = match &self.output {
            Some(file) => Target::file(file)?,
            None => Target::stdout(),
        };
        target.takes(self.format())?;
        Ok(target)
    }
}

/// `30s`, `5min`, `1h`, `500ms`; a bare number is of seconds.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "ms" => 0.001,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("times are like 500ms, 30s, 5min, 1h".into()),
    };
    match number.parse::<f64>().map(|number| Duration::try_from_secs_f64(number * seconds)) {
        Ok(Ok(time)) if !time.is_zero() => Ok(time),
        Ok(Ok(_)) => Err("no statement ends in no time; leave it out for no limit".into()),
        _ => Err("times are like 500ms, 30s, 5min, 1h".into()),
    }
}

/// `512MB`, `2GB`, `1GiB`: powers of 1024, as PostgreSQL counts.
fn bytes(text: &str) -> std::result::Result<usize, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "" => return Err("it needs a unit: 512MB, 2GB".into()),
        _ => return Err("sizes are like 512MB, 2GB".into()),
    };
    match number.parse::<f64>().map(|number| number * 1024f64.powi(power)) {
        Ok(size) if (1024.0 * 1024.0..1e15).contains(&size) => Ok(size as usize),
        Ok(_) => Err("1MB is the least".into()),
        Err(_) => Err("sizes are like 512MB, 2GB".into()),
    }
}

/// A day or days in the arguments of a command: `2025-11-28` or `2025-11-24..2025-11-28`.
///
/// # Errors
/// What is no date, and a range that ends before it begins.
pub fn dates(text: &str) -> Result<(market::TradeDate, market::TradeDate)> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (market::TradeDate::parse(first.trim())?, market::TradeDate::parse(last.trim())?);
    match first <= last {
        true => Ok((first, last)),
        false => {
            Err(Error::question(format!("\"{text}\" ends before it begins"), "dates are FIRST..LAST, both included"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5min"), Ok(Duration::from_secs(300)));
        assert!(
            duration("soon").is_err()
                && duration("0s").is_err()
                && duration("-1s").is_err()
                && duration("1e300h").is_err()
        );
        assert_eq!(bytes("512MB"), Ok(512 << 20));
        assert_eq!(bytes("1.5GiB"), Ok(3 << 29));
        assert!(bytes("12").is_err() && bytes("10kB").is_err() && bytes("much").is_err());
    }
}
