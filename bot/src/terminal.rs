//! Answers as a terminal shows them.

use crate::answer::Answer;
use std::fmt::Write;

/// The answer as text, ending with a line break.
pub fn render(answer: &Answer) -> String {
    let mut out = format!("{}: {}\n", answer.title, answer.headline);
    for note in &answer.notes {
        let _ = writeln!(out, "  {note}");
    }
    let table = aligned(&answer.table);
    if !table.is_empty() {
        out.push('\n');
        for line in table.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

/// Columns side by side: the first to the left, words to the left, numbers to the right.
pub fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let numeric = |column: usize| {
        let mut cells = table.iter().skip(1).filter_map(|row| row.get(column)).peekable();
        column > 0
            && cells.peek().is_some()
            && cells.all(|cell| cell == "\u{2013}" || cell.chars().all(|c| c.is_ascii_digit() || ",.-".contains(c)))
    };
    let mut out = String::new();
    for row in table {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let gap = if column > 0 { "  " } else { "" };
            let _ =
                if numeric(column) { write!(line, "{gap}{cell:>width$}") } else { write!(line, "{gap}{cell:<width$}") };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
