//! One spec, two engines: `tests/slt/*.slt` runs on PostgreSQL with the extension and on `querycli`, each through the
//! door its users have. Values are compared in one spelling, because the engines print instants and floats their own way.
//!
//! Statements that write (`statement ok`) run on PostgreSQL alone; `querycli` then reads the same database.

use crate::cluster::Database;
use anyhow::{Context, Result};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use std::fmt;
use tokio_postgres::{Client, SimpleQueryMessage};

/// What an engine said instead of an answer.
#[derive(Debug)]
pub struct EngineError {
    /// The message, and for PostgreSQL its SQLSTATE.
    pub message: String,
    /// Five characters, where the engine has them.
    pub sqlstate: Option<String>,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {}

/// PostgreSQL over the simple protocol, as psql speaks it.
pub struct Postgres {
    client: Client,
}

impl Postgres {
    /// Connects, with the session settings the spec assumes.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn connect(database: &Database) -> Result<Postgres> {
        let client = database.client().await?;
        client.batch_execute("SET timezone = 'UTC'; SET extra_float_digits = 1").await?;
        Ok(Postgres { client })
    }
}

#[async_trait::async_trait]
impl AsyncDB for Postgres {
    type Error = EngineError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, EngineError> {
        let messages = self.client.simple_query(sql).await.map_err(|error| match error.as_db_error() {
            Some(db) => EngineError {
                message: format!("{}: {}", db.code().code(), db.message()),
                sqlstate: Some(db.code().code().to_string()),
            },
            None => EngineError { message: error.to_string(), sqlstate: None },
        })?;
        let mut rows = Vec::new();
        let mut columns = 0;
        let mut affected = 0;
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(fields) => columns = fields.len(),
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|at| spelling(row.get(at))).collect());
                }
                SimpleQueryMessage::CommandComplete(count) => affected = count,
                _ => {}
            }
        }
        Ok(output(columns, rows, affected))
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "postgres"
    }

    fn error_sql_state(error: &EngineError) -> Option<String> {
        error.sqlstate.clone()
    }
}

/// The program `querycli`, one process a query.
pub struct QueryCli {
    database: Database,
}

impl QueryCli {
    /// For the given database.
    pub fn new(database: &Database) -> QueryCli {
        QueryCli { database: database.clone() }
    }

    fn ask(&self, sql: &str) -> Result<(bool, String, String)> {
        let out = self.database.program("querycli", &["--format", "csv", "-c", sql])?.output()?;
        Ok((out.status.success(), String::from_utf8(out.stdout)?, String::from_utf8(out.stderr)?))
    }
}

#[async_trait::async_trait]
impl AsyncDB for QueryCli {
    type Error = EngineError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, EngineError> {
        let fail = |message: String| EngineError { message, sqlstate: None };
        let (ok, stdout, stderr) = self.ask(sql).map_err(|error| fail(format!("{error:#}")))?;
        if !ok {
            return Err(fail(stderr));
        }
        let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(stdout.as_bytes());
        let columns = reader.headers().map_err(|error| fail(error.to_string()))?.len();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| fail(error.to_string()))?;
            // CSV has one spelling for NULL and the empty string; the spec uses no empty strings.
            rows.push(record.iter().map(|value| spelling(Some(value).filter(|value| !value.is_empty()))).collect());
        }
        Ok(output(columns, rows, 0))
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "querycli"
    }
}

fn output(columns: usize, rows: Vec<Vec<String>>, affected: u64) -> DBOutput<DefaultColumnType> {
    if columns == 0 && rows.is_empty() {
        return DBOutput::StatementComplete(affected);
    }
    DBOutput::Rows { types: vec![DefaultColumnType::Any; columns.max(rows.first().map_or(0, Vec::len))], rows }
}

/// Runs one file on one engine.
///
/// # Errors
/// At the first record that differs, with file and line.
pub async fn run_file(path: &std::path::Path, database: &Database, engine: &str) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name: std::sync::Arc<str> = path.file_name().unwrap_or_default().to_string_lossy().into();
    let result = match engine {
        "postgres" => {
            let mut runner = sqllogictest::Runner::new(|| async {
                Postgres::connect(database).await.map_err(|e| EngineError { message: format!("{e:#}"), sqlstate: None })
            });
            runner.run_script_with_name_async(&text, name).await
        }
        _ => {
            let mut runner = sqllogictest::Runner::new(|| async { Ok(QueryCli::new(database)) });
            runner.run_script_with_name_async(&text, name).await
        }
    };
    result.map_err(|error| anyhow::anyhow!("on {engine}: {}", error.display(false)))
}

/// One spelling for both engines: `2025-11-28T14:30:00Z`, the shortest decimal of a float, `true`, `NULL`.
fn spelling(value: Option<&str>) -> String {
    let Some(value) = value else { return "NULL".into() };
    match value {
        "" => return "(empty)".into(),
        "t" => return "true".into(),
        "f" => return "false".into(),
        _ => {}
    }
    instant(value).or_else(|| float(value)).unwrap_or_else(|| value.replace(' ', "_"))
}

/// `2025-11-28 14:30:00+00` and `2025-11-28T14:30:00.000Z` are the same instant.
fn instant(value: &str) -> Option<String> {
    let (date, time) = (value.get(..10)?, value.get(11..)?);
    let shape = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    if !shape || !matches!(value.as_bytes()[10], b' ' | b'T') {
        return None;
    }
    let time = ["Z", "+00:00", "+00"].iter().find_map(|zone| time.strip_suffix(zone)).unwrap_or(time);
    let time = match time.split_once('.') {
        Some((whole, fraction)) if fraction.trim_end_matches('0').is_empty() => whole.to_string(),
        Some((whole, fraction)) => format!("{whole}.{}", fraction.trim_end_matches('0')),
        None => time.to_string(),
    };
    Some(format!("{date}T{time}Z"))
}

fn float(value: &str) -> Option<String> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte));
    let number: f64 = value.parse().ok().filter(|_| digits && value.contains(['.', 'e']))?;
    // The laws ask 1e-12 of a vwap; nine digits behind the point are enough to compare by eye.
    let rounded = format!("{number:.9}");
    Some(rounded.trim_end_matches('0').trim_end_matches('.').to_string())
}

#[cfg(test)]
mod tests {
    use super::spelling;

    #[test]
    fn both_engines_spellings_become_one() {
        let check = |value, expected: &str| assert_eq!(spelling(Some(value)), expected);
        check("2025-11-28 14:30:00+00", "2025-11-28T14:30:00Z");
        check("2025-11-28T14:30:00.250000Z", "2025-11-28T14:30:00.25Z");
        check("2025-11-28T14:30:00+00:00", "2025-11-28T14:30:00Z");
        check("2025-11-28", "2025-11-28");
        check("6800.0", "6800");
        check("6800.25", "6800.25");
        check("t", "true");
        check("ON", "ON");
        check("CME Globex equity index", "CME_Globex_equity_index");
    }
}
