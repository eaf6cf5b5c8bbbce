//! What `market/calendars/differences/ID.toml` says, as a section of the calendar's page.

use crate::page::cell;
use market::Calendar;
use std::fmt::Write;
use std::path::Path;

/// The section; it says so where the calendar is compared with nothing.
pub fn section(calendar: &Calendar) -> String {
    let name = format!("{}.toml", crate::file_name(calendar.id()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("calendars/differences").join(&name);
    let mut text = String::from("## Compared with other packages\n\n");
    let Ok(file) = std::fs::read_to_string(&path) else {
        text.push_str("It is not compared session by session with a reference package.\n\n");
        return text;
    };
    let file: toml::Table = file.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows = |key: &str| file.get(key).and_then(|rows| rows.as_array()).cloned().unwrap_or_default();
    let named = |key: &str| {
        let files = rows(key);
        let files = files.iter().filter_map(|row| row.get("file")?.as_str().map(|name| format!("`{name}`")));
        files.collect::<Vec<_>>().join(", ")
    };
    let (peers, bars, differences) = (named("peer"), named("bars"), rows("difference"));
    if !peers.is_empty() {
        let _ = writeln!(
            text,
            "Every session is compared with {peers} (`xc` is exchange_calendars, `mc` pandas_market_calendars)."
        );
    }
    if !bars.is_empty() {
        let _ = writeln!(text, "Bars are compared with {bars}.");
    }
    if differences.is_empty() {
        text.push_str("There is no difference.\n\n");
        return text;
    }
    let _ = writeln!(
        text,
        "The sessions below differ on purpose; a test fails on any other difference ([{name}](../../market/calendars/differences/{name})).\n\n\
         | package | dates | sessions | what | theirs | ours | why | source |\n|---|---|---|---|---|---|---|---|"
    );
    for row in &differences {
        let text_of = |key: &str| row.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_string();
        let list = |key: &str| -> Vec<String> {
            let values = row.get(key).and_then(|value| value.as_array()).cloned().unwrap_or_default();
            values.iter().filter_map(|value| value.as_str().map(|text| text.replace("..", " to "))).collect()
        };
        let dates = list("dates");
        let shown = match dates.len() {
            0..=4 => dates.join(", "),
            more => format!("{}, ... {} ({more} in the file)", dates[..2].join(", "), dates[more - 1]),
        };
        let count = row.get("count").and_then(|count| count.as_integer()).unwrap_or_default();
        let side = |key: &str| match text_of(key).as_str() {
            "-" => "none".to_string(),
            "*" => "any".to_string(),
            time => cell(time),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {count} | {} | {} | {} | {} | {} |",
            cell(&list("peers").join(", ")),
            cell(&shown),
            cell(&text_of("what")),
            side("theirs"),
            side("ours"),
            cell(&text_of("why")),
            cell(&text_of("source")),
        );
    }
    text.push('\n');
    text
}
