//! What the SQL reference says of functions and tables: docs/sql.md, which is made from the catalog's comments.
//!
//! The functions have the same names and answers here and there, so there is one description of them.

/// One function or relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name without the schema.
    pub name: &'static str,
    /// `name(arguments) -> answer` of a function; empty for a table.
    pub signature: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What the reference says of its columns: name and meaning.
    pub columns: Vec<(&'static str, &'static str)>,
}

const REFERENCE: &str = include_str!("../../docs/sql.md");

/// The entries of a name: functions have one for each list of arguments.
pub fn entries(name: &str) -> Vec<Entry> {
    all().into_iter().filter(|entry| entry.name == name).collect()
}

fn all() -> Vec<Entry> {
    let mut entries = Vec::new();
    for section in REFERENCE.split("\n### ").skip(1) {
        let section = section.split("\n## ").next().unwrap_or(section);
        let (name, body) = section.split_once('\n').unwrap_or((section, ""));
        let (signature, rest) = match body.split_once("```text\n") {
            Some((_, rest)) => rest.split_once("\n```").unwrap_or((rest, "")),
            None => ("", body),
        };
        let mut paragraphs = rest.trim().split("\n\n");
        let about = paragraphs.next().unwrap_or("").trim();
        let columns = rest.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.trim_end_matches('`');
            Some((name, cells.nth(1)?.trim_end_matches('|').trim()))
        });
        entries.push(Entry { name: name.trim(), signature: signature.trim(), about, columns: columns.collect() });
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_tables_are_found_in_the_reference() {
        let bucket = entries("session_bucket");
        assert!(bucket.iter().all(|entry| entry.signature.starts_with("session_bucket(") && !entry.about.is_empty()));
        assert!(!bucket.is_empty());
        let trades = entries("trades").remove(0);
        assert!(trades.signature.is_empty() && trades.about.starts_with("Every trade"));
        let (name, about) = trades.columns[0];
        assert!(name == "symbol" && about.starts_with("Symbol of the instrument"), "{about}");
        assert!(entries("no_such_thing").is_empty());
    }
}
