//! What does `ALTER EXTENSION bellwether UPDATE` run? First what only a person can say (`sql/upgrade/bellwether--OLD--NEW.sql`:
//! columns of tables that were released, objects that are no more), then every statement of today's install script that the
//! released one does not have. So a new file in `sql/extension`, or a changed function, needs nothing else.
//!
//! The catalog after an upgrade is compared with a fresh one by `tests/tests/upgrade.rs`: what is forgotten is found there.

use anyhow::{Context, Result};
use std::collections::BTreeSet;

/// The script that takes a database from a released install script to today's, after what was written by hand.
pub fn script(released: &str, today: &str, by_hand: &str) -> String {
    let (old, new) = (statements(released), statements(today));
    let had: BTreeSet<&str> = old.iter().copied().collect();
    let names: BTreeSet<String> = old.iter().filter_map(|statement| made(statement)).collect();
    let headers: BTreeSet<String> = new.iter().filter_map(|statement| header(statement)).collect();
    // What is dropped here comes again with all that is said of it.
    let mut dropped: Vec<String> = statements(by_hand).into_iter().filter_map(gone).collect();
    let mut script = String::from("\\echo Use \"ALTER EXTENSION bellwether UPDATE\" to load this file. \\quit\n\n");
    script += by_hand;
    script += "\n-- Written by `cargo xtask`: functions of other arguments or results than were released.\n";
    for statement in &old {
        let Some(found) = header(statement).filter(|header| !headers.contains(header)) else { continue };
        let (name, arguments) = signature(&found);
        script += &format!("DROP {} IF EXISTS {name}({arguments});\n", kind(statement));
        dropped.push(format!("{name}("));
    }
    script += "\n-- Written by `cargo xtask`: what the install script has and the released one had not.\n";
    for statement in &new {
        let again = dropped.iter().any(|name| mentions(statement, name));
        if had.contains(statement) && !again && !statement.contains(" ON ALL ") {
            continue;
        }
        match made(statement) {
            // A table of another shape is a person's to alter.
            Some(name) if names.contains(&name) && !again => {}
            _ => script += &format!("{};\n\n", replacing(statement)),
        }
    }
    script
}

/// What keeps the calendars in force that a version shipped and today's library ships otherwise, text by text: each is filed as a
/// published version if instruments trade on it and no version of the user's stands, and a warning says what to call: PostgreSQL keeps the notices of
/// upgrade scripts to itself.
pub fn calendars(released: &str, kept: &[String]) -> Result<String> {
    let mut script = String::new();
    for text in kept {
        let file: toml::Table = text.parse()?;
        let id = file.get("id").and_then(|id| id.as_str()).context("a calendar without id")?;
        let version =
            file.get("version").and_then(|version| version.as_integer()).context("a calendar without version")?;
        let aliases = file.get("aliases").and_then(|names| names.as_array()).into_iter().flatten();
        let aliases: Vec<String> = aliases.filter_map(|name| name.as_str().map(literal)).collect();
        let [name, toml, note] = [id, text, &format!("as {released} shipped it")].map(literal);
        let notice = literal(&format!(
            "calendar {id}: what {released} shipped stays in force, the library now ships other sessions"
        ));
        let hint = literal(&format!(
            "see SELECT * FROM market.calendar_diff('{id}', '{id}@shipped'); then SELECT market.calendar_adopt('{id}'), market.calendar_preview('{id}') and market.calendar_publish('{id}')"
        ));
        script += &format!(
            "
-- Written by `cargo xtask`: {id} as {released} shipped it stays in force where it is used.
DO $kept$
DECLARE
  aliases text[] := ARRAY[{}]::text[];
BEGIN
  IF NOT EXISTS (SELECT FROM market.instruments AS i WHERE i.calendar = {name} OR i.calendar = ANY (aliases)) THEN
    RETURN;
  END IF;
  IF NOT EXISTS (SELECT FROM market.calendar_versions AS v WHERE v.calendar = {name} AND v.state = 'published') THEN
    INSERT INTO market.calendar_versions (calendar, version, state, aliases, note, published_at, published_by, toml)
    VALUES ({name}, {version}, 'published', aliases, {note}, pg_catalog.now(), session_user, {toml});
    INSERT INTO market.audit_log (action, detail)
    VALUES ('calendar_keep', pg_catalog.jsonb_build_object('calendar', {name}, 'version', {version}, 'released', {}));
  END IF;
  RAISE WARNING USING MESSAGE = {notice}, HINT = {hint};
END
$kept$;
",
            aliases.join(", "),
            literal(released),
        );
    }
    Ok(script)
}

/// A string constant of SQL; a file is no place for backslashes that mean something.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The statements of a script without the comments before them and the semicolons behind.
pub fn statements(script: &str) -> Vec<&str> {
    let bytes = script.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match bytes[at] {
            byte if byte.is_ascii_whitespace() || byte == b';' => at += 1,
            // psql's own: \echo ... \quit
            b'\\' => at = past(script, at, "\n"),
            b'-' if bytes[at..].starts_with(b"--") => at = past(script, at, "\n"),
            _ => {
                let from = at;
                at = end_of_statement(script, from);
                found.push(script[from..at].trim_end());
            }
        }
    }
    found
}

/// Where the semicolon of the statement lies that begins at `at`.
fn end_of_statement(script: &str, mut at: usize) -> usize {
    let bytes = script.as_bytes();
    // Blocks of BEGIN ATOMIC: semicolons inside them end no statement.
    let mut depth = 0;
    while at < bytes.len() {
        match bytes[at] {
            b';' if depth == 0 => return at,
            b'\'' => at = past(script, at + 1, "'"),
            b'"' => at = past(script, at + 1, "\""),
            b'-' if bytes[at..].starts_with(b"--") => at = past(script, at, "\n"),
            b'$' => match script[at + 1..].find('$') {
                Some(end) if script[at + 1..at + 1 + end].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                    let tag = &script[at..at + end + 2];
                    at = past(script, at + tag.len(), tag);
                }
                _ => at += 1,
            },
            byte if byte.is_ascii_alphabetic() || byte == b'_' => {
                let length = bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                match &script[at..at + length] {
                    "BEGIN" if script[at + length..].trim_start().starts_with("ATOMIC") => depth += 1,
                    "CASE" if depth > 0 => depth += 1,
                    "END" if depth > 0 => depth -= 1,
                    _ => {}
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The place behind the next `mark`; the script's end if there is none.
fn past(script: &str, from: usize, mark: &str) -> usize {
    script.get(from..).and_then(|rest| rest.find(mark)).map_or(script.len(), |at| from + at + mark.len())
}

/// Objects that cannot be made over what is there.
const ONCE: [&str; 9] = [
    "CREATE TABLE ",
    "CREATE INDEX ",
    "CREATE UNIQUE INDEX ",
    "CREATE TYPE ",
    "CREATE FOREIGN TABLE ",
    "CREATE FOREIGN DATA WRAPPER ",
    "CREATE SERVER ",
    "CREATE SEQUENCE ",
    "CREATE POLICY ",
];

/// Kind and name of what a statement makes, if it can be made only once.
fn made(statement: &str) -> Option<String> {
    let prefix = ONCE.into_iter().find(|prefix| statement.starts_with(prefix))?;
    let rest = &statement[prefix.len()..];
    let name = rest.split(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    // a policy's name is its table's
    let of = if prefix == "CREATE POLICY " { rest.split_whitespace().nth(2).unwrap_or_default() } else { "" };
    Some(format!("{prefix}{name} {of}"))
}

/// The name that a hand-written statement drops: a function with its parenthesis, or a relation.
fn gone(statement: &str) -> Option<String> {
    let rest = [
        "DROP FUNCTION ",
        "DROP PROCEDURE ",
        "DROP AGGREGATE ",
        "DROP VIEW ",
        "DROP TABLE ",
        "DROP INDEX ",
        "DROP TYPE ",
    ]
    .into_iter()
    .find_map(|prefix| statement.strip_prefix(prefix))?;
    let rest = rest.strip_prefix("IF EXISTS ").unwrap_or(rest);
    let name = rest.split(|c: char| c.is_whitespace() || c == '(').next()?;
    Some(if rest[name.len()..].starts_with('(') { format!("{name}(") } else { name.to_owned() })
}

/// Whether a statement makes this or says something of it: not whether its body uses it.
fn mentions(statement: &str, name: &str) -> bool {
    let head = match statement.starts_with("CREATE ") {
        true => statement.split('\n').next().and_then(|line| line.split(" AS ").next()).unwrap_or(statement),
        false => statement,
    };
    head.match_indices(name).any(|(at, _)| {
        let after = head[at + name.len()..].chars().next();
        name.ends_with('(') || after.is_none_or(|c| !(c.is_alphanumeric() || c == '_'))
    })
}

fn kind(statement: &str) -> &'static str {
    match statement {
        s if s.starts_with("CREATE PROCEDURE ") => "PROCEDURE",
        s if s.starts_with("CREATE AGGREGATE ") => "AGGREGATE",
        _ => "FUNCTION",
    }
}

/// Name, arguments and result of the function that a statement makes, white space evened out.
fn header(statement: &str) -> Option<String> {
    let rest = statement.strip_prefix("CREATE FUNCTION ").or_else(|| statement.strip_prefix("CREATE PROCEDURE "))?;
    let end = rest.find("LANGUAGE ").unwrap_or(rest.len());
    Some(rest[..end].split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Name and arguments as DROP takes them: without defaults.
fn signature(header: &str) -> (String, String) {
    let open = header.find('(').unwrap_or(header.len());
    let (mut depth, mut from, mut arguments, mut quoted) = (0, open + 1, Vec::new(), false);
    for (at, c) in header.char_indices().skip(open) {
        match c {
            '\'' => quoted = !quoted,
            _ if quoted => continue,
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 || depth == 1 && c == ',' {
            let argument = header[from..at].split(" DEFAULT ").next().unwrap_or_default().trim();
            if !argument.is_empty() {
                arguments.push(argument.to_owned());
            }
            from = at + 1;
            if depth == 0 {
                break;
            }
        }
    }
    (header[..open].trim().to_owned(), arguments.join(", "))
}

/// The statement so that it also replaces what is there.
fn replacing(statement: &str) -> String {
    for what in ["FUNCTION ", "PROCEDURE ", "AGGREGATE ", "VIEW ", "TRIGGER "] {
        if let Some(rest) = statement.strip_prefix(&format!("CREATE {what}")) {
            return format!("CREATE OR REPLACE {what}{rest}");
        }
    }
    statement.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{script, statements};

    const OLD: &str = r#"
\echo Use "CREATE EXTENSION bellwether" to load this file. \quit
-- A table; not yet a statement's end
CREATE TABLE market.a (id int4, -- a comment; with a semicolon
  name text DEFAULT 'x;y');
COMMENT ON TABLE market.a IS 'It''s a table;';
CREATE FUNCTION market.f(x int4, y text DEFAULT 'a,b') RETURNS int4
LANGUAGE sql AS $$ SELECT 1; $$;
COMMENT ON FUNCTION market.f(int4, text) IS 'F.';
CREATE FUNCTION market.g(x int4) RETURNS int4 LANGUAGE sql
BEGIN ATOMIC
  SELECT CASE WHEN x > 1 THEN 2 ELSE 3 END;
END;
CREATE VIEW market.v AS SELECT 1 AS one;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA market TO market_writer;
"#;

    #[test]
    fn a_script_is_taken_apart_into_statements() {
        let heads: Vec<&str> = statements(OLD).iter().map(|s| s.split('\n').next().unwrap_or_default()).collect();
        assert_eq!(
            heads,
            [
                "CREATE TABLE market.a (id int4, -- a comment; with a semicolon",
                "COMMENT ON TABLE market.a IS 'It''s a table;'",
                "CREATE FUNCTION market.f(x int4, y text DEFAULT 'a,b') RETURNS int4",
                "COMMENT ON FUNCTION market.f(int4, text) IS 'F.'",
                "CREATE FUNCTION market.g(x int4) RETURNS int4 LANGUAGE sql",
                "CREATE VIEW market.v AS SELECT 1 AS one",
                "GRANT USAGE ON ALL SEQUENCES IN SCHEMA market TO market_writer",
            ]
        );
    }

    /// What is written by the program, without its comments.
    fn written(today: &str, by_hand: &str) -> Vec<String> {
        let all = script(OLD, today, by_hand);
        statements(&all).into_iter().map(|s| s.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    const SEQUENCES: &str = "GRANT USAGE ON ALL SEQUENCES IN SCHEMA market TO market_writer";

    #[test]
    fn nothing_changed_gives_only_what_is_said_of_all() {
        assert_eq!(written(OLD, ""), [SEQUENCES]);
    }

    #[test]
    fn a_new_body_replaces_and_new_arguments_drop() {
        let body = OLD.replace("SELECT 1;", "SELECT 2;");
        let replaced = "CREATE OR REPLACE FUNCTION market.f(x int4, y text DEFAULT 'a,b') RETURNS int4 LANGUAGE sql AS $$ SELECT 2; $$";
        assert_eq!(written(&body, ""), [replaced, SEQUENCES]);
        let arguments = OLD.replace("f(x int4, y text DEFAULT 'a,b')", "f(x int8, y text DEFAULT 'a,b')");
        let made = "CREATE OR REPLACE FUNCTION market.f(x int8, y text DEFAULT 'a,b') RETURNS int4 LANGUAGE sql AS $$ SELECT 1; $$";
        assert_eq!(
            written(&arguments, ""),
            [
                "DROP FUNCTION IF EXISTS market.f(x int4, y text)",
                made,
                "COMMENT ON FUNCTION market.f(int4, text) IS 'F.'",
                SEQUENCES
            ]
        );
    }

    #[test]
    fn a_changed_table_is_left_to_a_person_and_what_they_drop_comes_again() {
        let table = OLD.replace("name text", "name text, more text");
        let by_hand = "ALTER TABLE market.a ADD more text;\nDROP VIEW market.v;\n";
        assert_eq!(
            written(&table, by_hand),
            [
                "ALTER TABLE market.a ADD more text",
                "DROP VIEW market.v",
                "CREATE OR REPLACE VIEW market.v AS SELECT 1 AS one",
                SEQUENCES
            ]
        );
    }
}
