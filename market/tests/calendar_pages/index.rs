//! The table of all calendars.

use crate::page::cell;
use crate::{NOT_RUN, file_name, hours};
use market::{Calendar, Segments};
use std::fmt::Write;

const GROUPS: [&str; 6] = [
    "Shares: Americas",
    "Shares: Europe",
    "Shares: Asia and the Pacific",
    "Shares: Middle East and Africa",
    "Futures, options and bonds",
    "Around the clock",
];

/// docs/calendars/README.md.
pub fn write(calendars: &[Calendar]) -> String {
    let mut text = format!(
        "{NOT_RUN}# Calendars\n\n{} calendars come with the program. Each has a page with its hours now and by era, its holidays and special \
         days, where it differs from other packages and why, its sources, and a picture of its week. Hours below are those of ordinary \
         sessions, on the calendar's own clock and by trade date (`-1d` is the day before).\n\n\
         One is missing or wrong? [writing.md](writing.md) goes from an exchange's notice to a tested calendar. The format is in \
         [market/calendars/README.md](../../market/calendars/README.md).\n\n\
         After a change below `market/calendars`, `cargo xtask docs --calendars` writes this folder anew; a test fails until it is.\n\n",
        calendars.len()
    );
    for (at, title) in GROUPS.iter().enumerate() {
        let members: Vec<_> = calendars.iter().filter(|calendar| group(calendar) == at).collect();
        if members.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "## {title}\n\n| id | name | time zone | main | known | regular hours | source |\n|---|---|---|---|---|---|---|"
        );
        for calendar in members {
            let (first, last) = calendar.known();
            let _ = writeln!(
                text,
                "| [{id}]({}.md) | {} | {} | {} | {first} to {last} | {} | {} |",
                file_name(calendar.id()),
                cell(calendar.name()),
                calendar.time_zone(),
                calendar.main(),
                regular(calendar),
                cell(&short(calendar.source())),
                id = calendar.id(),
            );
        }
        text.push('\n');
    }
    text
}

/// Where a calendar stands: by what it trades, and shares by region.
fn group(calendar: &Calendar) -> usize {
    let id = calendar.id();
    if id.starts_with("24") || id.starts_with("FX") {
        return 5;
    }
    // A product group is no exchange of shares: CME_EQUITY, SIFMA_US.
    if calendar.main() != Segments::RTH || id.contains('_') {
        return 4;
    }
    let zone = calendar.time_zone();
    let near = ["Asia/Jerusalem", "Asia/Riyadh", "Asia/Dubai", "Asia/Qatar", "Asia/Kuwait", "Asia/Bahrain"];
    match zone.split('/').next().unwrap_or_default() {
        "America" => 0,
        _ if near.contains(&zone) => 3,
        "Africa" => 3,
        "Europe" | "Atlantic" => 1,
        _ if zone == "Asia/Nicosia" => 1,
        _ => 2,
    }
}

/// The main session of most ordinary days: `09:30 to 16:00, Mon-Fri`.
fn regular(calendar: &Calendar) -> String {
    let hours = hours::ordinary(calendar);
    let Some(most) = hours.iter().max_by_key(|hours| (hours.sessions(), std::cmp::Reverse(hours.parts.len()))) else {
        return String::new();
    };
    let parts = most.parts.iter().filter(|(part, ..)| match calendar.main() {
        Segments::RTH => *part == "RTH",
        _ => !part.ends_with("auction"),
    });
    let texts: Vec<_> = parts.map(|(part, local, _)| format!("{part} {local}")).collect();
    format!("{}, {}", most.weekdays(), texts.join("; "))
}

/// The first words of a source; all of it is on the page.
fn short(source: &str) -> String {
    let first = source.split("; ").next().unwrap_or_default();
    match first.char_indices().nth(90) {
        Some((end, _)) => format!("{}...", first[..first[..end].rfind(' ').unwrap_or(end)].trim_end_matches(',')),
        None => first.to_string(),
    }
}
