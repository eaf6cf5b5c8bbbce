//! A text as statements and backslash commands: where does each end?

/// A statement or a command, and the line it begins on, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// SQL without its semicolon, or a command with its backslash.
    pub text: String,
    /// Where it begins.
    pub line: usize,
    /// Which of the two it is.
    pub kind: Kind,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A statement.
    Sql,
    /// `\d trades`: to the end of its line.
    Meta,
}

/// A text taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Whole statements and commands.
    pub items: Vec<Item>,
    /// What is behind the last semicolon: a statement that may go on.
    pub rest: Option<Item>,
}

/// Takes a text apart. Semicolons and backslashes inside quotes and comments end nothing.
pub fn split(text: &str) -> Script {
    let mut script = Script::default();
    let mut at = 0;
    // Where the statement begins: behind blanks and comments.
    let mut start: Option<usize> = None;
    while at < text.len() {
        let here = &text[at..];
        let c = here.chars().next().unwrap_or_default();
        let next = match c {
            '\'' | '"' => {
                let escapes = c == '\'' && is_escape_string(&text[..at]);
                at + quoted(here, c, escapes)
            }
            '$' => at + dollar_quoted(here),
            '-' if here.starts_with("--") => {
                at += here.find('\n').unwrap_or(here.len());
                continue;
            }
            '/' if here.starts_with("/*") => {
                at += comment(here);
                continue;
            }
            ';' => {
                script.items.extend(start.take().map(|start| statement(text, start..at)));
                at += 1;
                continue;
            }
            '\\' => {
                script.items.extend(start.take().map(|start| statement(text, start..at)));
                let end = at + here.find('\n').unwrap_or(here.len());
                let command = text[at..end].trim_end_matches(|c: char| c.is_whitespace() || c == ';');
                script.items.push(Item { text: command.to_owned(), line: line(text, at), kind: Kind::Meta });
                at = end;
                continue;
            }
            other => at + other.len_utf8(),
        };
        if !c.is_whitespace() {
            start.get_or_insert(at);
        }
        at = next;
    }
    script.rest = start.map(|start| statement(text, start..text.len()));
    script
}

fn statement(text: &str, range: std::ops::Range<usize>) -> Item {
    Item { line: line(text, range.start), text: text[range].trim().to_owned(), kind: Kind::Sql }
}

fn line(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

/// Whether a quote after this is that of `E'...'`, in which a backslash hides the next character.
fn is_escape_string(before: &str) -> bool {
    let mut last = before.chars().rev();
    matches!(last.next(), Some('e' | 'E')) && !last.next().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Bytes of a quoted text, the quotes included. A doubled quote ends one and begins the next, which is the same.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if escapes => drop(chars.next()),
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of `$tag$ ... $tag$`; 1 if the sign begins nothing.
fn dollar_quoted(text: &str) -> usize {
    let Some(end) = text[1..].find('$').map(|at| at + 2) else { return 1 };
    let tag = &text[..end];
    let name = &tag[1..end - 1];
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') || name.starts_with(|c: char| c.is_ascii_digit()) {
        return 1;
    }
    text[end..].find(tag).map_or(text.len(), |close| end + close + tag.len())
}

/// Bytes of a comment, which may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        let here = &text[at..];
        if here.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> (Vec<String>, Option<String>) {
        let script = split(text);
        (script.items.into_iter().map(|item| item.text).collect(), script.rest.map(|item| item.text))
    }

    #[test]
    fn a_semicolon_ends_a_statement_only_outside_of_quotes_and_comments() {
        let check = |text: &str, whole: &[&str], rest: Option<&str>| {
            let whole = whole.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(texts(text), (whole, rest.map(str::to_owned)), "{text}");
        };
        check("SELECT 1; SELECT 2", &["SELECT 1"], Some("SELECT 2"));
        check("SELECT ';' ;", &["SELECT ';'"], None);
        check("SELECT 'it''s; fine';", &["SELECT 'it''s; fine'"], None);
        check("SELECT \"a;b\";", &["SELECT \"a;b\""], None);
        check("SELECT 1 -- no; end\n + 1;", &["SELECT 1 -- no; end\n + 1"], None);
        check("SELECT /* a; /* b; */ c; */ 1;", &["SELECT /* a; /* b; */ c; */ 1"], None);
        check("SELECT $$a;b$$, $t$ $$;$$ $t$;", &["SELECT $$a;b$$, $t$ $$;$$ $t$"], None);
        check("SELECT $1; SELECT 2;", &["SELECT $1", "SELECT 2"], None);
        check(r"SELECT 'a\'; SELECT 2;", &[r"SELECT 'a\'", "SELECT 2"], None);
        check(r"SELECT E'a\';';", &[r"SELECT E'a\';'"], None);
        check("SELECT 'open; ", &[], Some("SELECT 'open;"));
        check("; ;\n-- nothing;\n", &[], None);
    }

    #[test]
    fn a_backslash_command_takes_its_line() {
        let script = split("\\dt\nSELECT 1\n\\watch 2\nSELECT\n 2;");
        let seen: Vec<_> = script.items.iter().map(|item| (item.text.as_str(), item.line, item.kind)).collect();
        assert_eq!(
            seen,
            [
                ("\\dt", 1, Kind::Meta),
                ("SELECT 1", 2, Kind::Sql),
                ("\\watch 2", 3, Kind::Meta),
                ("SELECT\n 2", 4, Kind::Sql)
            ]
        );
        assert_eq!(script.rest, None);
    }
}
