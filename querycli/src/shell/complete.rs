//! What Tab offers: commands, key words, tables, columns of the tables in the statement, functions, and inside quotes symbols
//! and calendars.

use super::split::split;
use crate::Session;
use crate::output::Format;
use crate::rewrite;
use market::Calendar;
use rustyline::completion::{Completer, Pair, extract_word};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;
use tokio::runtime::Handle;

const COMMANDS: [&str; 13] = [
    "\\?",
    "\\conninfo",
    "\\d",
    "\\df",
    "\\dt",
    "\\echo",
    "\\format",
    "\\i",
    "\\o",
    "\\q",
    "\\timing",
    "\\watch",
    "\\x",
];

const KEY_WORDS: [&str; 49] = [
    "AND",
    "AS",
    "ASC",
    "ASOF",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COPY",
    "CREATE",
    "DATE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXPLAIN",
    "EXTRACT",
    "FALSE",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MATCH_CONDITION",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "SELECT",
    "SHOW",
    "THEN",
    "TRUE",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Symbols beyond so many are no help to complete.
const SYMBOLS: usize = 20_000;

/// Knows the names of a session.
pub struct Helper {
    session: Session,
    handle: Handle,
    symbols: Vec<String>,
    functions: Vec<String>,
    columns: RefCell<BTreeMap<String, Vec<String>>>,
}

impl Helper {
    /// Asks for the symbols; without them completion only offers less.
    pub async fn new(session: Session, handle: Handle) -> Helper {
        let mut symbols = session.symbols(SYMBOLS).await.unwrap_or_default();
        symbols.extend(Calendar::builtin_ids().iter().map(|id| (*id).to_owned()));
        symbols.sort_unstable();
        symbols.dedup();
        let mut functions: Vec<String> = rewrite::names().map(str::to_owned).collect();
        functions.extend(session.functions());
        functions.sort_unstable();
        functions.dedup();
        Helper { session, handle, symbols, functions, columns: RefCell::default() }
    }

    fn columns(&self, table: &str) -> Vec<String> {
        if let Some(known) = self.columns.borrow().get(table) {
            return known.clone();
        }
        let found = self.handle.block_on(self.session.columns(table)).unwrap_or_default();
        self.columns.borrow_mut().insert(table.to_owned(), found.clone());
        found
    }

    /// What may stand at the end of `before`, and where the word begins.
    pub fn candidates(&self, before: &str, statement: &str) -> (usize, Vec<String>) {
        // The statement that the cursor is in: what is behind the last semicolon.
        let current = split(before).rest.map_or_else(String::new, |rest| rest.text);
        if current.matches('\'').count() % 2 == 1 {
            let start = before.rfind('\'').map_or(0, |at| at + 1);
            return (start, matching(&before[start..], self.symbols.iter().map(String::as_str)));
        }
        let line = before.rsplit('\n').next().unwrap_or(before);
        if let Some(command) = line.trim_start().strip_prefix('\\') {
            return self.of_command(before, command);
        }
        let (start, word) = extract_word(before, before.len(), None, |c| !(c.is_alphanumeric() || c == '_'));
        if word.is_empty() {
            return (start, Vec::new());
        }
        let tables = self.session.tables();
        let mut names: Vec<String> = Vec::new();
        for table in tables.iter().filter(|table| has_word(statement, table)) {
            names.extend(self.columns(table));
        }
        names.extend(tables);
        names.extend(self.functions.iter().map(|name| format!("{name}(")));
        // Key words in the case that the user types.
        let lower = word.chars().all(|c| !c.is_uppercase());
        names.extend(KEY_WORDS.iter().map(|word| if lower { word.to_lowercase() } else { (*word).to_owned() }));
        (start, matching(word, names.iter().map(String::as_str)))
    }

    fn of_command(&self, before: &str, command: &str) -> (usize, Vec<String>) {
        let Some((name, argument)) = command.rsplit_once(' ') else {
            let start = before.len() - command.len() - 1;
            return (start, matching(&before[start..], COMMANDS.into_iter()));
        };
        let start = before.len() - argument.len();
        let names: Vec<String> = match name.split(' ').next().unwrap_or(name) {
            "d" => self.session.tables().into_iter().chain(rewrite::names().map(str::to_owned)).collect(),
            "dt" => self.session.tables(),
            "df" => rewrite::names().map(str::to_owned).collect(),
            "format" => Format::NAMES.iter().map(|(name, _)| (*name).to_owned()).collect(),
            "timing" | "x" => vec!["on".into(), "off".into()],
            _ => Vec::new(),
        };
        (start, matching(argument, names.iter().map(String::as_str)))
    }
}

/// Those that begin with a word, whatever the case, each once.
fn matching<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let begins = |name: &&str| name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    let mut found: Vec<String> = names.filter(begins).map(str::to_owned).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|found| found.eq_ignore_ascii_case(word))
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let (start, names) = self.candidates(&line[..at], line);
        let pairs = names.into_iter().map(|name| Pair { display: name.clone(), replacement: name });
        Ok((start, pairs.collect()))
    }
}

impl Validator for Helper {
    /// Enter runs what ends with a semicolon or is a command, and else begins another line.
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        Ok(match split(context.input()).rest {
            Some(_) => ValidationResult::Incomplete,
            None => ValidationResult::Valid(None),
        })
    }
}

impl Hinter for Helper {
    type Hint = String;
}

impl Highlighter for Helper {}

impl rustyline::Helper for Helper {}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper() -> Helper {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let helper = runtime.block_on(async {
            let session = Session::open(crate::Options::default()).await.expect("a session without sources");
            Helper::new(session, Handle::current()).await
        });
        // Completion may ask for columns at any time.
        std::mem::forget(runtime);
        helper
    }

    #[test]
    fn tab_offers_what_may_stand_there() {
        let helper = helper();
        let check = |before: &str, expected: (usize, &[&str])| {
            let (start, found) = helper.candidates(before, before);
            assert_eq!((start, found.iter().map(String::as_str).collect::<Vec<_>>().as_slice()), expected, "{before}");
        };
        check("SELECT session_bu", (7, &["session_bucket("]));
        check("sel", (0, &["select"]));
        check("SELECT 1; SEL", (10, &["SELECT"]));
        check("SELECT * FROM calen", (14, &["calendars"]));
        check("SELECT known_f FROM calendars WHERE known_t", (36, &["known_to"]));
        check("SELECT is_open(now(), 'CME_EQ", (23, &["CME_EQUITY"]));
        check("\\ti", (0, &["\\timing"]));
        check("\\d cal", (3, &["calendars"]));
        check("\\format ma", (8, &["markdown"]));
        check("SELECT ", (7, &[]));
    }
}
