//! What can go wrong, said once: a message, what to do, and the exit code it means.

use crate::rewrite::names;
use datafusion::common::{DataFusionError, SchemaError};
use std::fmt;

/// The result of everything here that a user sees.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with its hint. Never holds a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What was asked and what is wrong with it.
    pub message: String,
    /// What to do; empty where the message says all.
    pub hint: String,
    /// Whether the question was wrong (exit code 2) or the world (exit code 1).
    pub fault: Fault,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The command line, the SQL or an argument of a function.
    Question,
    /// A server that is not there, a file that cannot be read, bytes that are corrupt.
    World,
}

impl Error {
    /// A wrong question.
    pub fn question(message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error { message: message.into(), hint: hint.into(), fault: Fault::Question }
    }

    /// A failure at run time.
    pub fn world(message: impl Into<String>, hint: impl Into<String>) -> Error {
        Error { message: message.into(), hint: hint.into(), fault: Fault::World }
    }

    /// 2 for a wrong question, 1 for a failure at run time.
    pub fn exit_code(&self) -> u8 {
        match self.fault {
            Fault::Question => 2,
            Fault::World => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.hint.as_str() {
            "" => Ok(()),
            hint => write!(f, "\nhint: {hint}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<market::Error> for Error {
    fn from(error: market::Error) -> Error {
        let fault = match error.kind() {
            market::ErrorKind::Corrupt => Fault::World,
            _ => Fault::Question,
        };
        Error { message: error.to_string(), hint: error.hint(), fault }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        match error.as_db_error() {
            Some(db) => {
                // Classes 22 and 42 are wrong values and wrong SQL.
                let question = matches!(&db.code().code()[..2], "22" | "42");
                let hint = db.hint().unwrap_or_default().to_owned();
                let fault = if question { Fault::Question } else { Fault::World };
                Error { message: db.message().to_owned(), hint, fault }
            }
            None => Error::world(format!("the connection to the database failed: {}", causes(&error)), ""),
        }
    }
}

/// Puts an error where DataFusion wants one of its own; [`Error::from`] takes it out again.
pub fn external(error: impl Into<Error>) -> DataFusionError {
    DataFusionError::External(Box::new(error.into()))
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Error {
        match error.find_root() {
            DataFusionError::External(inner) => {
                if let Some(ours) = inner.downcast_ref::<Error>() {
                    return ours.clone();
                }
                if let Some(domain) = inner.downcast_ref::<market::Error>() {
                    return domain.clone().into();
                }
                Error::world(causes(inner.as_ref()), "")
            }
            DataFusionError::SQL(parser, _) => Error::question(format!("the SQL cannot be read: {parser}"), ""),
            DataFusionError::SchemaError(schema, _) => Error::question(schema_message(schema), schema_hint(schema)),
            DataFusionError::Plan(message) | DataFusionError::Execution(message) if message.contains(COERCION) => {
                coercion(message)
            }
            DataFusionError::Plan(message) => Error::question(plan_message(message), plan_hint(message)),
            DataFusionError::NotImplemented(message) => {
                // how DataFusion is built is no business of who asks
                let message = first_line(message);
                let message = message.split(" Hint: ").next().unwrap_or_default();
                Error::question(format!("not supported: {message}"), "")
            }
            DataFusionError::ResourcesExhausted(message) => Error::world(
                format!("the memory does not suffice: {}", first_line(message)),
                "give it more with --memory",
            ),
            root @ (DataFusionError::ObjectStore(_)
            | DataFusionError::IoError(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::ExecutionJoin(_)
            | DataFusionError::Internal(_)) => Error::world(first_line(&root.strip_backtrace()), ""),
            DataFusionError::ArrowError(arrow, _) => Error::question(first_line(&arrow.to_string()), ""),
            DataFusionError::Execution(message) => Error::question(first_line(message), ""),
            root => Error::question(first_line(&root.strip_backtrace()), ""),
        }
    }
}

/// How DataFusion begins what a function of ours says of its arguments.
const COERCION: &str = "user-defined coercion failed with: ";

/// What a function says of its arguments, without what is around it.
fn coercion(message: &str) -> Error {
    let said = message.split_once(COERCION).map_or(message, |(_, said)| said);
    let said = said.split(" No function matches the given name").next().unwrap_or(said);
    let said = ["Error during planning: ", "External error: "]
        .iter()
        .fold(said, |said, begin| said.strip_prefix(begin).unwrap_or(said));
    let (said, hint) = said.split_once("\nhint: ").unwrap_or((said, ""));
    Error::question(said.trim_end_matches(['.', ' ']), hint.trim_end_matches(['.', ' ']))
}

fn first_line(text: &str) -> String {
    text.split("\n\nbacktrace").next().unwrap_or(text).trim().to_owned()
}

fn schema_message(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound { field, .. } => format!("unknown column \"{}\"", field.flat_name()),
        other => first_line(&other.to_string()),
    }
}

fn schema_hint(error: &SchemaError) -> String {
    let SchemaError::FieldNotFound { field, valid_fields } = error else { return String::new() };
    let names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
    if let Some(near) = market::nearest::nearest(&field.name, names.iter().copied()) {
        return format!("did you mean \"{near}\"?");
    }
    if names.is_empty() { String::new() } else { format!("there are {}", names.join(", ")) }
}

fn plan_message(message: &str) -> String {
    let message = first_line(message);
    if let Some((name, _)) = missing_function(&message) {
        return format!("unknown function \"{name}\"");
    }
    if let Some(name) = missing_table(&message) {
        return format!("unknown table \"{name}\"");
    }
    if let Some(name) = message.strip_prefix("table function '").and_then(|rest| rest.split('\'').next()) {
        return format!("unknown table function \"{name}\"");
    }
    message
}

fn missing_table(message: &str) -> Option<&str> {
    let name = message.strip_prefix("table '")?.strip_suffix("' not found")?;
    Some(name.strip_prefix("bellwether.market.").unwrap_or(name))
}

/// The name in `Invalid function 'nam'.\nDid you mean 'name'?`, and that which is meant if it is near.
fn missing_function(message: &str) -> Option<(&str, Option<&str>)> {
    let (name, rest) = message.strip_prefix("Invalid function '")?.split_once('\'')?;
    let meant = rest.split('\'').nth(1).filter(|meant| market::nearest::nearest(name, [*meant]).is_some());
    Some((name, meant))
}

fn plan_hint(message: &str) -> String {
    let message = &first_line(message);
    if let Some((name, meant)) = missing_function(message) {
        return match meant {
            _ if names().any(|known| known == name) => {
                format!(
                    "it is a function of a window: {name}(...) OVER (ORDER BY ...); \\df {name} tells its arguments"
                )
            }
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "\\df lists the functions, \\df *part* those whose name has a part".into(),
        };
    }
    if missing_table(&first_line(message)).is_some() {
        return "SHOW TABLES lists what there is; name a file on the command line or a database with --db".into();
    }
    if message.starts_with("table function '") {
        return "table functions are sessions, session_of, auctions, session_ohlc, session_levels, session_profile, session_flow, session_stat, session_states, session_grid, activity_ohlc, trades_between and explain_bar".into();
    }
    String::new()
}

/// An error and what caused it, in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
