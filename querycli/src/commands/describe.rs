//! `querycli describe`, `\d`, `\dt`, `\df`: what is there, and what is it for?

use crate::cli::options::Options;
use crate::error::{Error, Result};
use crate::execute;
use crate::output::Rows;
use crate::{Session, analytics, manual, rewrite};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use clap::Args;
use market::TradeDate;
use std::sync::Arc;

/// Tells what there is to read; or what a table, function, instrument or calendar is
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli describe                                     the sources, and their tables
  querycli describe trades                              the columns of a table
  querycli describe session_ohlc                        a function: its arguments and what it answers
  querycli describe ESZ25                               an instrument: its terms and what is stored of it
  querycli describe XNYS                                a calendar")]
pub struct Arguments {
    /// A table, function, instrument or calendar
    pub name: Option<String>,
}

/// What is known of a name: some lines, and perhaps a table.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// To print as they are.
    pub lines: Vec<String>,
    /// To print in the format asked for.
    pub rows: Option<Rows>,
}

/// Runs it.
///
/// # Errors
/// A name that nothing has.
pub async fn run(arguments: &Arguments, options: &Options) -> Result<u8> {
    let session = execute::open(options.sources()).await?;
    let answer = match &arguments.name {
        Some(wanted) => name(&session, wanted).await?,
        None => Answer { lines: sources(&session), rows: Some(tables(&session, None)?) },
    };
    let mut target = options.target()?;
    // Lines would spoil what programs read.
    let told = options.format() == crate::Format::Table || answer.rows.is_none();
    for line in answer.lines.iter().filter(|_| told) {
        writeln!(target.out(), "{line}").map_err(crate::output::failed)?;
    }
    if let Some(rows) = &answer.rows {
        let mut sink = options.format().sink(&rows.schema, target.out())?;
        for batch in &rows.batches {
            sink.write(batch)?;
        }
        sink.finish(false)?;
    }
    target.done()?;
    Ok(0)
}

/// Where a session reads, a line each. Passwords are not known here.
pub fn sources(session: &Session) -> Vec<String> {
    match &session.market.db {
        Some(db) => vec![format!("Reading {db:?}.")],
        None => vec!["Reading no database.".to_owned()],
    }
}

/// Rows of texts; `None` is NULL.
fn rows(names: &[&str], cells: Vec<Vec<Option<String>>>) -> Result<Rows> {
    let schema =
        Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>()));
    let columns = (0..names.len()).map(|at| {
        let column: StringArray = cells.iter().map(|row| row.get(at).cloned().flatten()).collect();
        Arc::new(column) as ArrayRef
    });
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect());
    let batch = batch.map_err(|error| Error::world(error.to_string(), ""))?;
    Ok(Rows { schema, batches: vec![batch] })
}

/// Whether a name fits a pattern with `*` and `?`.
fn fits(name: &str, pattern: &str) -> bool {
    let (name, pattern): (Vec<char>, Vec<char>) = (name.chars().collect(), pattern.chars().collect());
    // reached[i]: the pattern so far fits the first i letters
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for p in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match p {
                '*' => reached[at] || (at > 0 && next[at - 1]),
                '?' => at > 0 && reached[at - 1],
                c => at > 0 && reached[at - 1] && c.eq_ignore_ascii_case(&name[at - 1]),
            };
        }
        reached = next;
    }
    reached[name.len()]
}

/// The tables, where each is from and what it is for.
///
/// # Errors
/// None today.
pub fn tables(session: &Session, pattern: Option<&str>) -> Result<Rows> {
    let names = session.tables().into_iter().filter(|name| pattern.is_none_or(|pattern| fits(name, pattern)));
    let cells = names.map(|name| {
        let of_database = session.market.db.as_ref().is_some_and(|db| db.relations.contains(&name));
        let source = match name.as_str() {
            "calendars" => "built in",
            _ if of_database => "database",
            _ => "file",
        };
        let about = manual::entries(&name)
            .iter()
            .find(|entry| entry.signature.is_empty())
            .map(|entry| first_sentence(entry.about));
        let about = about.filter(|_| source != "file");
        vec![Some(name), Some(source.to_owned()), about]
    });
    rows(&["table", "source", "what"], cells.collect())
}

/// Up to the first full stop or colon: a line.
fn first_sentence(text: &str) -> String {
    let end = [". ", ": ", "; "].iter().filter_map(|stop| text.find(stop)).min().unwrap_or(text.len());
    text[..end].trim_end_matches('.').to_owned()
}

/// The functions of the market.
///
/// # Errors
/// A pattern that fits none.
pub fn functions(pattern: Option<&str>) -> Result<Rows> {
    let mut names: Vec<&str> =
        rewrite::names().filter(|name| pattern.is_none_or(|pattern| fits(name, pattern))).collect();
    names.sort_unstable();
    if names.is_empty() {
        let hint = "\\df lists them all; those of SQL itself are DataFusion's";
        return Err(Error::question(format!("no function of the market fits {}", pattern.unwrap_or("*")), hint));
    }
    let cells = names.iter().map(|name| {
        let entries = manual::entries(name);
        let about = entries.iter().find(|entry| !entry.signature.is_empty()).map(|entry| entry.about);
        let about = about.or_else(|| analytics::doc(name).map(|doc| doc.about)).map(first_sentence);
        vec![Some(format!("{name}({})", rewrite::parameters(name).join(", "))), about]
    });
    rows(&["function", "what"], cells.collect())
}

/// What a name means: a table, a function, an instrument or a calendar, in this order.
///
/// # Errors
/// A name that nothing has.
pub async fn name(session: &Session, name: &str) -> Result<Answer> {
    let bare = name.strip_prefix("market.").unwrap_or(name);
    if session.tables().iter().any(|table| table == bare) {
        return table(session, bare).await;
    }
    let entries: Vec<_> = manual::entries(bare).into_iter().filter(|entry| !entry.signature.is_empty()).collect();
    if rewrite::names().any(|known| known == bare) {
        let lines = match (entries.is_empty(), analytics::doc(bare)) {
            (false, _) => {
                entries.iter().flat_map(|entry| [entry.signature.to_owned(), format!("  {}", entry.about)]).collect()
            }
            (true, Some(doc)) => vec![doc.signature(), format!("  {}", doc.about)],
            (true, None) => vec![format!("{bare}({})", rewrite::parameters(bare).join(", "))],
        };
        return Ok(Answer { lines, rows: None });
    }
    if let Some(answer) = instrument(session, name).await? {
        return Ok(answer);
    }
    match session.market.calendars.find(name) {
        Ok(calendar) => {
            let (first, last) = calendar.known();
            Ok(Answer {
                lines: vec![
                    format!("{}: {}, {}", calendar.id(), calendar.name(), calendar.time_zone()),
                    format!("  known from {first} to {last}; bars are of {} unless asked otherwise", calendar.main()),
                    format!("  querycli sessions {name} --next 5 tells its hours"),
                ],
                rows: None,
            })
        }
        Err(_) => {
            let mut names = session.tables();
            names.extend(rewrite::names().map(str::to_owned));
            names.extend(session.symbols(10_000).await.unwrap_or_default());
            names.extend(market::Calendar::builtin_ids().iter().map(|id| (*id).to_owned()));
            let hint = match market::nearest::nearest(name, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "it may be a table, function, instrument or calendar".to_owned(),
            };
            Err(Error::question(format!("nothing is called \"{name}\""), hint))
        }
    }
}

async fn table(session: &Session, name: &str) -> Result<Answer> {
    let schema = session.schema(name).await?;
    let described = manual::entries(name).into_iter().find(|entry| entry.signature.is_empty());
    let described = described.filter(|_| name == "calendars" || session.market.db.is_some());
    let cells = schema.fields().iter().map(|field| {
        let about =
            described.as_ref().and_then(|entry| entry.columns.iter().find(|(column, _)| column == field.name()));
        let about = about.map(|(_, about)| (*about).to_owned()).filter(|about| !about.is_empty());
        vec![Some(field.name().clone()), Some(spoken(field.data_type())), about]
    });
    let rows = rows(&["column", "type", "what"], cells.collect())?;
    let lines = described.iter().map(|entry| format!("{name}: {}", entry.about)).collect();
    Ok(Answer { lines, rows: Some(rows) })
}

/// A type by the name that SQL has for it.
fn spoken(kind: &DataType) -> String {
    match kind {
        DataType::Boolean => "boolean".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Decimal128(..) => "numeric".into(),
        other => other.to_string(),
    }
}

/// An instrument of the database; `None` if there is none of this name.
async fn instrument(session: &Session, symbol: &str) -> Result<Option<Answer>> {
    let Some(db) = session.market.db.as_ref().filter(|db| db.has_server()) else { return Ok(None) };
    db.begin().await?;
    let today = TradeDate::new(chrono::Utc::now().date_naive());
    let Ok(found) = crate::db::Instrument::find(db, symbol, today).await else {
        // The failed question ended the transaction.
        db.begin().await?;
        return Ok(None);
    };
    let sql = "SELECT i.kind, i.calendar, i.venue, i.root, i.expiry::text, i.currency,
                      (SELECT t.tick_size::float8 FROM market.instrument_terms AS t WHERE t.instrument_id = i.id ORDER BY t.from_date DESC LIMIT 1),
                      (SELECT t.multiplier::float8 FROM market.instrument_terms AS t WHERE t.instrument_id = i.id ORDER BY t.from_date DESC LIMIT 1)
               FROM market.instruments AS i WHERE i.id = $1";
    let row = db.leader().await?.query_one(sql, &[&found.id]).await?;
    let text = |at: usize| row.get::<_, Option<String>>(at);
    let mut line = format!("{}: {}, calendar {}", found.symbol, row.get::<_, String>(0), row.get::<_, String>(1));
    for (name, value) in [
        ("venue", text(2)),
        ("root", text(3)),
        ("expires", text(4)),
        ("currency", text(5)),
        ("tick size", row.get::<_, Option<f64>>(6).map(|v| v.to_string())),
        ("multiplier", row.get::<_, Option<f64>>(7).map(|v| v.to_string())),
    ] {
        if let Some(value) = value {
            line.push_str(&format!(", {name} {value}"));
        }
    }
    let stored = format!(
        "SELECT relation, rows, sessions, provisional_sessions, bytes, oldest, newest FROM storage_status WHERE symbol = {} ORDER BY relation",
        super::literal(&found.symbol)
    );
    let rows = execute::rows(session, stored).await?;
    Ok(Some(Answer { lines: vec![line], rows: Some(rows) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_file_names() {
        assert!(
            fits("session_ohlc", "session*") && fits("ohlc", "*") && fits("vwap", "v?ap") && fits("TRADES", "trades")
        );
        assert!(!fits("session_ohlc", "session") && !fits("ohlc", "?") && !fits("vwap", "*x*"));
    }
}
