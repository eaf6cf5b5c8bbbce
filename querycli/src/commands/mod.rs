//! What the commands do: each is a question in SQL, or a few.

pub mod bars;
pub mod chart;
pub mod correlate;
pub mod describe;
pub mod export;
pub mod levels;
pub mod nothing;
pub mod range;
pub mod seasonality;
pub mod sessions;
pub mod sql;
pub mod stats;
pub mod verify;

use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::{Session, db, execute};
use market::TradeDate;
use std::io::Read;

/// Runs the one statement that a command stands for, and prints its rows.
///
/// # Errors
/// Those of [`execute::print`].
pub async fn print(session: &Session, sql: &str, options: &Options) -> Result<execute::Outcome> {
    let mut target = options.target()?;
    let mut outcome = execute::Outcome::default();
    for statement in Session::parse(sql)? {
        outcome = execute::print(session, statement, options.limits(), options.format(), &mut target).await?;
    }
    target.done()?;
    Ok(outcome)
}

/// Prints the rows of a statement about sessions, and why there are none; or with `--sql` the statement itself.
///
/// # Errors
/// Those of [`print`].
async fn print_or_show(session: &Session, asked: &Asked, show: bool, options: &Options) -> Result<u8> {
    if show {
        text(&format!("{};\n", asked.sql))?;
        return Ok(0);
    }
    let outcome = print(session, &asked.sql, options).await?;
    nothing::note(&asked.range, asked.segments.as_deref(), outcome.rows);
    Ok(0)
}

/// A statement about sessions, and which they are.
struct Asked {
    sql: String,
    range: range::Range,
    segments: Option<String>,
}

/// Prints a text on the standard output.
///
/// # Errors
/// A reader that went away.
pub fn text(text: &str) -> Result<()> {
    let mut out = crate::output::Target::stdout();
    out.out().write_all(text.as_bytes()).map_err(crate::output::failed)?;
    out.done()
}

/// All of the standard input.
///
/// # Errors
/// What is no text.
pub fn standard_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::world(format!("cannot read the standard input: {error}"), ""))?;
    Ok(text)
}

/// A text as a SQL literal.
fn literal(text: &str) -> String {
    db::literal(text)
}

/// A date as a SQL literal.
fn date(day: TradeDate) -> String {
    format!("DATE '{day}'")
}
