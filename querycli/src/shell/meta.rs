//! Backslash commands.

use super::{Flow, Interpreter};
use crate::commands::describe;
use crate::error::{Error, Result};
use crate::execute;
use crate::output::Format;
use std::path::Path;
use std::time::Duration;

/// What `\?` prints.
const HELP: &str = r"Statements end with a semicolon and may take many lines. Ctrl-C cancels one, Ctrl-D leaves.
Tab completes tables, columns, functions and, within quotes, symbols; the arrows and Ctrl-R bring back what was typed.

  \d [NAME]               tables; or the columns of a table, or what a function or an instrument is
  \dt [PATTERN]           tables and files, * and ? as in file names
  \df [PATTERN]           functions of the market, each with its arguments
  \conninfo               where this session reads
  \timing [on|off]        how long each statement took
  \format [NAME]          table, expanded, csv, tsv, json, ndjson, markdown, parquet or arrow
  \x [on|off]             a line for every column: format expanded, and back to table
  \echo [TEXT]            print a text
  \o [FILE]               send output to a file, whose name tells the format; alone, back to here
  \i FILE                 run a file of statements and commands
  \watch [SECONDS [N]]    run the last statement again every 2 seconds, N times or until Ctrl-C
  \?                      this page
  \q                      leave

To begin with: SELECT * FROM sessions('XNYS', '2025-11-24', '2025-11-28');";

/// Commands of psql that are not here, and what is.
const OF_PSQL: [(&str, &str); 9] = [
    ("l list c connect du dg dx dn db", "a session is of one database: start querycli with another --db, or ask psql"),
    (
        "dv dm di ds dp z dT dD do dC des det",
        "\\dt lists tables and views, \\d NAME describes one; psql tells the rest",
    ),
    ("sf sv ef ev", "\\d NAME tells what a function or a table is"),
    ("copy", "COPY (SELECT ...) TO 'file.parquet' writes a file, and so do \\o FILE and querycli export"),
    ("e edit p print r reset w s", "the arrows and Ctrl-R bring back what was typed; \\i FILE runs a file"),
    ("g gx gset gexec gdesc crosstabview", "end the statement with a semicolon; \\x shows a line for every column"),
    ("set unset pset a t f H C T encoding prompt", "\\format NAME says how to print; \\? lists the commands"),
    ("! cd setenv getenv", "leave with \\q, or use another terminal"),
    ("if elif else endif bind password", "\\? lists the commands"),
];

impl Interpreter {
    /// Runs a command.
    pub(super) async fn meta(&mut self, text: &str) -> Result<Flow> {
        let mut words = text.split_whitespace();
        let typed = words.next().unwrap_or_default();
        // All is told without a plus, too.
        let name = match typed.strip_suffix('+') {
            Some(name @ ("\\d" | "\\dt" | "\\df")) => name,
            _ => typed,
        };
        let words: Vec<&str> = words.map(|word| word.trim_matches(['\'', '"'])).collect();
        let takes = |most: usize| match words.len() <= most {
            true => Ok(()),
            false => Err(Error::question(format!("{name} takes at most {most} words"), "\\? lists the commands")),
        };
        let first = words.first().copied();
        match name {
            "\\q" | "\\quit" => return Ok(Flow::Quit),
            "\\?" | "\\h" | "\\help" => self.say(HELP)?,
            "\\d" => {
                takes(1)?;
                match first {
                    None => self.show(&describe::tables(&self.session, None)?)?,
                    Some(name) => {
                        let answer = describe::name(&self.session, name).await?;
                        for line in &answer.lines {
                            self.say(line)?;
                        }
                        if let Some(rows) = &answer.rows {
                            self.show(rows)?;
                        }
                    }
                }
            }
            "\\dt" => {
                takes(1)?;
                self.show(&describe::tables(&self.session, first)?)?;
            }
            "\\df" => {
                takes(1)?;
                self.show(&describe::functions(first)?)?;
            }
            "\\conninfo" => {
                takes(0)?;
                for line in describe::sources(&self.session) {
                    self.say(&line)?;
                }
            }
            "\\timing" => {
                takes(1)?;
                self.timing = match first {
                    None => !self.timing,
                    Some("on") => true,
                    Some("off") => false,
                    Some(other) => {
                        return Err(Error::question(format!("\\timing is on or off, not {other}"), ""));
                    }
                };
                self.say(if self.timing { "Timing is on." } else { "Timing is off." })?;
            }
            "\\format" => {
                takes(1)?;
                if let Some(name) = first {
                    let format = Format::parse(name)?;
                    self.target.takes(format)?;
                    self.format = format;
                }
                let name = Format::NAMES.iter().find(|(_, format)| *format == self.format).map_or("", |(name, _)| name);
                self.say(&format!("Output format is {name}."))?;
            }
            "\\x" => {
                takes(1)?;
                self.format = match (first, self.format) {
                    (Some("on"), _) => Format::Expanded,
                    (Some("off"), _) => Format::Table,
                    (None, Format::Expanded) => Format::Table,
                    (None, _) => Format::Expanded,
                    (Some(other), _) => return Err(Error::question(format!("\\x is on or off, not {other}"), "")),
                };
                let on = if self.format == Format::Expanded { "on" } else { "off" };
                self.say(&format!("Expanded display is {on}."))?;
            }
            "\\echo" => {
                let said = text.split_once(char::is_whitespace).map_or("", |(_, said)| said.trim());
                self.say(said.trim_matches(['\'', '"']))?;
            }
            "\\o" | "\\out" => {
                takes(1)?;
                self.redirect(first.map(Into::into))?;
            }
            "\\i" | "\\include" => {
                takes(1)?;
                let Some(file) = first else {
                    return Err(Error::question("\\i needs the name of a file", "\\i FILE"));
                };
                return self.file(Path::new(file)).await;
            }
            "\\watch" => {
                takes(2)?;
                self.watch(&words).await?;
            }
            other => {
                if let Some((_, hint)) =
                    OF_PSQL.iter().find(|(names, _)| names.split(' ').any(|name| name == &other[1..]))
                {
                    return Err(Error::question(format!("{other} is psql's"), *hint));
                }
                const KNOWN: [&str; 14] = [
                    "\\d",
                    "\\dt",
                    "\\df",
                    "\\conninfo",
                    "\\timing",
                    "\\format",
                    "\\o",
                    "\\i",
                    "\\watch",
                    "\\x",
                    "\\echo",
                    "\\?",
                    "\\q",
                    "\\h",
                ];
                // Two letters are near to any other two.
                let near = market::nearest::nearest(other, KNOWN).filter(|_| other.len() > 3);
                let hint =
                    near.map_or_else(|| "\\? lists the commands".to_owned(), |near| format!("did you mean {near}?"));
                return Err(Error::question(format!("unknown command {other}"), hint));
            }
        }
        Ok(Flow::Continue)
    }

    async fn watch(&mut self, words: &[&str]) -> Result<()> {
        let wrong = || Error::question("\\watch takes seconds and how often", "\\watch 5, or \\watch 0.5 10");
        let seconds: f64 = words.first().map_or(Ok(2.0), |word| word.parse()).map_err(|_| wrong())?;
        let pause = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
        let times: Option<usize> = words.get(1).map(|word| word.parse()).transpose().map_err(|_| wrong())?;
        let Some(sql) = self.last.clone() else {
            return Err(Error::question("there is no statement to run again", "run one first"));
        };
        let mut done = 0;
        while times.is_none_or(|times| done < times) {
            if done > 0 {
                let waited = execute::within(Default::default(), async {
                    tokio::time::sleep(pause).await;
                    Ok(())
                });
                match waited.await {
                    Err(error) if execute::is_cancelled(&error) => return Ok(()),
                    other => other?,
                }
            }
            match self.sql(&sql).await {
                // Ctrl-C is how one stops watching.
                Err(error) if execute::is_cancelled(&error) && done > 0 => return Ok(()),
                other => other?,
            }
            done += 1;
        }
        Ok(())
    }
}
