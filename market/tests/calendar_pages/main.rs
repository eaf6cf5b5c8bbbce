//! docs/calendars: a page and a picture for every shipped calendar, written from the calendar itself.
//!
//! The pages are committed, and stale ones fail here; `cargo xtask docs --calendars` (this test with
//! `BELLWETHER_UPDATE_DOCS=1`) writes them. There is no clock: "now" is the last year of the known range, so the same
//! calendars give the same pages.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

mod differences;
mod hours;
mod index;
mod page;
mod picture;
mod week;

use market::calendar::compare::wall;
use market::{Calendar, Segments, TradeDate};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What every generated file begins with, where its format has comments.
pub const NOT_RUN: &str =
    "<!-- not run: written by `cargo xtask docs --calendars` from market/calendars; edit those -->\n\n";

/// The tutorial is written by hand.
const BY_HAND: [&str; 1] = ["writing.md"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/calendars")
}

/// `24/7` is in `24_7.md`.
pub fn file_name(id: &str) -> String {
    id.replace('/', "_")
}

/// All files by name, as they should be.
fn pages() -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let calendars: Vec<Calendar> = Calendar::builtin_ids().iter().map(|id| Calendar::builtin(id).unwrap()).collect();
    for calendar in &calendars {
        let file = file_name(calendar.id());
        pages.insert(format!("{file}.svg"), picture::draw(calendar));
        pages.insert(format!("{file}.md"), page::write(calendar));
    }
    pages.insert("README.md".into(), index::write(&calendars));
    pages
}

#[test]
fn every_calendar_has_its_page_and_it_is_up_to_date() {
    let (folder, expected) = (folder(), pages());
    if std::env::var_os("BELLWETHER_UPDATE_DOCS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in &expected {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !expected.contains_key(&name) && !BY_HAND.contains(&name.as_str()) {
            match std::env::var_os("BELLWETHER_UPDATE_DOCS") {
                Some(_) => fs::remove_file(folder.join(&name)).unwrap(),
                None => wrong.push(format!("{name}: no calendar has this page")),
            }
        }
    }
    for (name, text) in &expected {
        let found = fs::read_to_string(folder.join(name)).unwrap_or_default();
        if found != *text {
            let line = text.lines().zip(found.lines()).position(|(ours, theirs)| ours != theirs);
            wrong.push(match line {
                _ if found.is_empty() => format!("{name} is missing"),
                Some(line) => format!("{name}:{} is stale", line + 1),
                None => format!("{name} is stale at its end"),
            });
        }
    }
    assert!(wrong.is_empty(), "run `cargo xtask docs --calendars` and commit docs/calendars:\n{}", wrong.join("\n"));
}

/// Facts of NYSE's own list of holidays and early closings for 2026 and 2027, of Tokyo's extension of hours, and of CME's
/// trading day, as a reader finds them on the pages.
#[test]
fn pages_say_what_the_exchanges_say() {
    let pages = pages();
    for (page, facts) in [
        (
            "XNYS.md",
            vec![
                "| Thanksgiving | fourth Thursday in November | 2026-11-26 Thu | 2027-11-25 Thu |",
                "| Juneteenth | 19 June; Sat moves to Fri before; Sun moves to Mon after; from 2022 | 2026-06-19 Fri | 2027-06-18 Fri |",
                "2026-11-27 Fri, 2026-12-24 Thu",
                "| RTH | 09:30 to 16:00 | 14:30 to 21:00 |",
                "| RTH | 09:30 to 16:00 | 13:30 to 20:00 |",
                "2012-10-29 to 2012-10-30",
            ],
        ),
        ("XTKS.md", vec!["| RTH | 09:00 to 11:30, 12:30 to 15:30 | 00:00 to 02:30, 03:30 to 06:30 |", "2024-11-05"]),
        ("CME_EQUITY.md", vec!["17:00-1d to 08:30", "2021-06-28"]),
        ("README.md", vec!["[XNYS](XNYS.md)", "[24/7](24_7.md)"]),
    ] {
        for fact in facts {
            assert!(pages[page].contains(fact), "{page} does not say: {fact}\n{}", pages[page]);
        }
    }
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let folder = folder();
    let mut broken = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.starts_with("http") && !folder.join(target).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Every element is closed, every picture has a title and a description for those who do not see it.
#[test]
fn pictures_are_whole_and_described() {
    for (name, svg) in pages().iter().filter(|(name, _)| name.ends_with(".svg")) {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("{name}: a tag without an end"));
            let element = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default().to_string();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(element), "{name}"),
                (false, false) => open.push(element),
                (false, true) => {}
            }
        }
        assert!(open.is_empty(), "{name}: {open:?}");
        for part in ["role=\"img\"", "<title ", "<desc ", "prefers-color-scheme: dark", "class=\"seg "] {
            assert!(svg.contains(part), "{name} lacks {part}");
        }
    }
}

#[test]
fn the_examples_of_the_tutorial_are_calendars() {
    let text = fs::read_to_string(folder().join("writing.md")).unwrap();
    let fenced = |language: &str| -> Vec<String> {
        let fence = format!("```{language}\n");
        let parts = text.split(fence.as_str()).skip(1).filter_map(|rest| rest.split_once("```"));
        parts.map(|(code, _)| code.to_string()).collect()
    };
    let examples = fenced("toml");
    let [exchange, futures, differences] = examples.as_slice() else { panic!("{} examples", examples.len()) };
    Calendar::from_toml(futures).unwrap_or_else(|e| panic!("{e}:\n{futures}"));
    let exchange = Calendar::from_toml(exchange).unwrap_or_else(|e| panic!("{e}:\n{exchange}"));
    // The notice's own words: 16:30 from 2 March 2026, noon on 24 December, closed on 14 September.
    let close = |date: &str| {
        let date = TradeDate::parse(date).unwrap();
        let session = exchange.session(date).unwrap()?;
        Some(wall(session.close(Segments::RTH), chrono_tz::Europe::London, date))
    };
    for (date, expected) in [
        ("2026-02-27", Some("16:00")),
        ("2026-03-02", Some("16:30")),
        ("2026-12-24", Some("12:00")),
        ("2026-09-14", None),
    ] {
        assert_eq!(close(date).as_deref(), expected, "{date}");
    }
    let differences: toml::Table = differences.parse().unwrap();
    let row = &differences["difference"].as_array().unwrap()[0];
    let (first, last) = row["dates"][0].as_str().unwrap().split_once("..").unwrap();
    let sessions = exchange.sessions(TradeDate::parse(first).unwrap(), TradeDate::parse(last).unwrap()).unwrap();
    let later = sessions.filter(|session| !session.irregular).count();
    assert_eq!(row["count"].as_integer(), i64::try_from(later).ok(), "what the tutorial counts");
}
