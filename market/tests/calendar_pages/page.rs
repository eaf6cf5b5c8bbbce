//! The page of a calendar, as Markdown.

use crate::{NOT_RUN, differences, file_name, hours, week};
use chrono::{Datelike, Weekday};
use market::calendar::describe::{DateRule, SpecialDay};
use market::time::MINUTE;
use market::{Calendar, Timeframe, TradeDate, group_of};
use std::fmt::Write;

/// The whole page.
pub fn write(calendar: &Calendar) -> String {
    let mut page = String::from(NOT_RUN);
    let file = file_name(calendar.id());
    let _ = writeln!(page, "# {}: {}\n", calendar.id(), calendar.name());
    let _ =
        writeln!(page, "![The week of {} on the wall clock of {}]({file}.svg)\n", calendar.id(), calendar.time_zone());
    page.push_str(&facts(calendar));
    page.push_str(&today(calendar));
    page.push_str(&eras(calendar));
    page.push_str(&closures(calendar));
    page.push_str(&specials(calendar));
    page.push_str(&differences::section(calendar));
    page.push_str(&sources(calendar));
    let _ = write!(
        page,
        "## To correct it\n\nYou know better? The file is [market/calendars/{file}.toml](../../market/calendars/{file}.toml); \
         [writing.md](writing.md) says how to change it and what a change has to prove: a notice of the exchange, and a test. In your \
         own database you need not wait for anyone: `calendar_except` corrects a day, `calendar_define` takes a whole file.\n\n\
         All calendars: [README.md](README.md).\n"
    );
    page
}

fn facts(calendar: &Calendar) -> String {
    let aliases: Vec<_> = calendar.aliases().iter().map(|alias| format!("`{alias}`")).collect();
    let aliases = if aliases.is_empty() { "none".to_string() } else { aliases.join(", ") };
    let (first, last) = calendar.known();
    let (week, since) = week_start(calendar);
    let since = since.map(|date| format!(", since {date}")).unwrap_or_default();
    let week = match week {
        Weekday::Mon => "Monday",
        Weekday::Tue => "Tuesday",
        Weekday::Wed => "Wednesday",
        Weekday::Thu => "Thursday",
        Weekday::Fri => "Friday",
        Weekday::Sat => "Saturday",
        Weekday::Sun => "Sunday",
    };
    let projected = calendar.projected_from().map_or_else(String::new, |from| format!(", projected from {from} on"));
    format!(
        "| | |\n|---|---|\n| other names | {aliases} |\n| time zone | {} |\n| main segments | {}: what a query gets that asks for none |\n\
         | known | {first} to {last}{projected}; beyond it reads are refused |\n| weekly bars begin on | {week}{since} |\n\
         | late trades | those after the close and {} minutes |\n| version | {} |\n\n",
        calendar.time_zone(),
        calendar.main(),
        calendar.grace() / MINUTE,
        calendar.version()
    )
}

/// The weekday on which weekly bars begin, seen on the bars themselves, and since when if it was another.
fn week_start(calendar: &Calendar) -> (Weekday, Option<TradeDate>) {
    let (first, last) = calendar.known();
    let week = |date: TradeDate| group_of(calendar, Timeframe::Week, date).ok();
    let begins = |date: &TradeDate| week(*date) != week(date.plus(-1));
    let mut starts = (first.0 + 1..=last.0).rev().map(TradeDate).filter(begins).peekable();
    let day = starts.peek().map_or(Weekday::Mon, |date| date.date().weekday());
    let mut since = last;
    for date in starts {
        if date.date().weekday() != day {
            return (day, Some(since));
        }
        since = date;
    }
    (day, None)
}

fn today(calendar: &Calendar) -> String {
    let mut text = format!(
        "## Hours now\n\nOrdinary sessions of {}, by trade date. `-1d` is the day before the trade date, `+1d` the day after.\n\n\
         | trade dates | weekdays | part | {} | UTC |\n|---|---|---|---|---|\n",
        week::year(calendar),
        calendar.time_zone()
    );
    for hours in hours::ordinary(calendar) {
        let (mut when, mut days) = (hours.when(calendar), hours.weekdays());
        for (part, local, utc) in &hours.parts {
            let _ = writeln!(text, "| {when} | {days} | {part} | {local} | {utc} |");
            (when, days) = (String::new(), String::new());
        }
    }
    text.push('\n');
    text
}

fn eras(calendar: &Calendar) -> String {
    let mut text = format!(
        "## Hours by era\n\nThe rows of the file, on the wall clock of {}; where two hold on a day, the lower one counts. `-1s` is the day of the \
         previous session. {}From and to are the first and last day on which a row counts in the known range.\n\n\
         | from | to | weekdays | hours | source |\n|---|---|---|---|---|\n",
        calendar.time_zone(),
        match calendar.eras().iter().any(|era| era.windows.iter().any(|(key, _)| *key == "ETH")) {
            true => "ETH is the whole session, RTH the regular hours in it. ",
            false => "",
        }
    );
    for era in calendar.eras() {
        let mut hours = windows(&era.windows);
        if let Some(roll) = &era.roll {
            let _ = write!(hours, "<br>trades after {roll} are the next session's");
        }
        let season = era.season.map(|season| format!("<br>while {season}")).unwrap_or_default();
        let from = era.first.map_or("never".to_string(), |date| date.to_string());
        let to = match (era.first, era.last) {
            (None, _) => "never".to_string(),
            (_, None) => "now".to_string(),
            (_, Some(date)) => date.to_string(),
        };
        let _ = writeln!(text, "| {from} | {to} | {}{season} | {hours} | {} |", era.days, cell(&era.source));
    }
    text.push('\n');
    text
}

fn windows(windows: &[(&'static str, String)]) -> String {
    let named = windows.iter().map(|(key, spans)| format!("{} {spans}", key.replace('_', " ")));
    named.collect::<Vec<_>>().join("<br>")
}

/// The last two known years.
fn years(calendar: &Calendar) -> [i32; 2] {
    let last = week::year(calendar);
    [last - 1, last]
}

/// The dates of rules in a year: in brackets where the calendar has no hours on that day anyway.
fn dates(calendar: &Calendar, rules: &[DateRule<'_>], year: i32, closing: bool) -> String {
    let (first, last) = (TradeDate::from_ymd(year, 1, 1).unwrap(), TradeDate::from_ymd(year, 12, 31).unwrap());
    let mut dates: Vec<TradeDate> = rules.iter().flat_map(|rule| rule.dates(first, last)).collect();
    dates.sort_unstable();
    dates.dedup();
    let shown = dates.iter().map(|date| {
        let text = date.date().format("%Y-%m-%d %a").to_string();
        let counts = match closing {
            true => calendar.closure(*date).is_ok_and(|closure| closure.is_some()),
            false => calendar.is_session(*date).unwrap_or(false),
        };
        if counts { text } else { format!("({text})") }
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Rules in words; dates of the file are counted where they are many.
fn rules(rules: &[DateRule<'_>]) -> String {
    let listed: Vec<_> = rules.iter().filter_map(DateRule::listed).collect();
    let mut texts: Vec<String> =
        rules.iter().filter(|rule| rule.listed().is_none()).map(|rule| cell(&rule.to_string())).collect();
    match (listed.iter().map(|(first, _)| *first).min(), listed.iter().map(|(_, last)| *last).max()) {
        (Some(first), Some(last)) if listed.len() > 4 => {
            texts.push(format!("dates as announced, {} to {}", first.year_month().0, last.year_month().0));
        }
        _ => texts.extend(rules.iter().filter(|rule| rule.listed().is_some()).map(DateRule::to_string)),
    }
    texts.join("<br>")
}

fn closures(calendar: &Calendar) -> String {
    let years = years(calendar);
    let closures = calendar.closures();
    let mut names: Vec<&str> = Vec::new();
    for closure in closures.iter().filter(|closure| !closure.one_off) {
        if !names.contains(&closure.name) {
            names.push(closure.name);
        }
    }
    let mut text = String::from("## Holidays\n\n");
    if names.is_empty() {
        text.push_str("None: every day of its weekdays is a session.\n\n");
    } else {
        let _ = writeln!(
            text,
            "In brackets: no session on that day anyway, or one in spite of the holiday.\n\n| holiday | rule | {} | {} |\n|---|---|---|---|",
            years[0], years[1]
        );
    }
    let rules_of = |name: &str| -> Vec<DateRule<'_>> {
        let closures = closures.iter().filter(|closure| !closure.one_off && closure.name == name);
        closures.flat_map(|closure| closure.on.iter().copied()).collect()
    };
    // In the order of the year; those of neither year last.
    names.sort_by_key(|name| {
        let on = rules_of(name);
        let first = |year: i32| {
            let (from, to) = (TradeDate::from_ymd(year, 1, 1).unwrap(), TradeDate::from_ymd(year, 12, 31).unwrap());
            on.iter().flat_map(|rule| rule.dates(from, to)).map(|date| date.date().ordinal()).min()
        };
        first(years[0]).or(first(years[1])).unwrap_or(u32::MAX)
    });
    for name in names {
        let on = rules_of(name);
        let [this, next] = years.map(|year| dates(calendar, &on, year, true));
        let _ = writeln!(text, "| {} | {} | {this} | {next} |", cell(name), rules(&on));
    }
    let mut single: Vec<(TradeDate, String, &str)> = Vec::new();
    for closure in closures.iter().filter(|closure| closure.one_off) {
        for rule in &closure.on {
            let first = rule.listed().map_or(TradeDate(i32::MAX), |(first, _)| first);
            single.push((first, rule.to_string(), closure.name));
        }
    }
    single.sort();
    if !single.is_empty() {
        text.push_str("\n### Closed once\n\n| dates | reason |\n|---|---|\n");
        for (_, dates, reason) in single {
            let _ = writeln!(text, "| {dates} | {} |", cell(reason));
        }
    }
    text.push('\n');
    text
}

fn specials(calendar: &Calendar) -> String {
    let all = calendar.special_days();
    let years = years(calendar);
    let mut text = String::from("## Special days\n\n");
    let (scheduled, outages): (Vec<_>, Vec<_>) = all.iter().partition(|special| special.class.is_empty());
    if scheduled.is_empty() {
        text.push_str("None.\n\n");
    } else {
        let _ = writeln!(
            text,
            "What a row does not name stays as on other days. In brackets: no session on that day.\n\n\
             | special day | hours | rule | {} | {} | source |\n|---|---|---|---|---|---|",
            years[0], years[1]
        );
        // Rows of one name stand together, in the order in which the names first appear.
        let mut names: Vec<&str> = Vec::new();
        for special in &scheduled {
            if !names.contains(&special.name) {
                names.push(special.name);
            }
        }
        for name in names {
            for special in scheduled.iter().filter(|special| special.name == name) {
                let [this, next] = years.map(|year| dates(calendar, &special.on, year, false));
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {this} | {next} | {} |",
                    cell(special.name),
                    changes(special),
                    rules(&special.on),
                    cell(special.source)
                );
            }
        }
        text.push('\n');
    }
    if !outages.is_empty() {
        text.push_str(
            "### Hours that nobody planned\n\nKept for the record; the schedule, and the grid of bars, do not follow them.\n\n\
             | what | dates | hours |\n|---|---|---|\n",
        );
        for special in outages {
            let _ = writeln!(text, "| {} | {} | {} |", cell(special.name), rules(&special.on), changes(special));
        }
        text.push('\n');
    }
    text
}

/// What a special day changes.
fn changes(special: &SpecialDay<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    if special.closed {
        parts.push("no session".into());
    }
    if !special.windows.is_empty() {
        parts.push(windows(&special.windows));
    }
    if let Some(end) = &special.truncate {
        parts.push(format!("everything ends at {end}"));
    }
    if special.open_day {
        parts.push("a session although the day has none".into());
    }
    if special.clears_next {
        parts.push("clears with the next regular session".into());
    }
    parts.join("<br>")
}

fn sources(calendar: &Calendar) -> String {
    let mut found: Vec<String> = vec![calendar.source().to_string()];
    let eras = calendar.eras();
    let specials = calendar.special_days();
    for source in eras.iter().map(|era| era.source.as_str()).chain(specials.iter().map(|special| special.source)) {
        if !source.is_empty() && !found.iter().any(|known| known == source) {
            found.push(source.to_string());
        }
    }
    found.retain(|source| !source.is_empty());
    let lines: Vec<_> = found.iter().map(|source| format!("- {}\n", cell(source))).collect();
    format!("## Sources\n\n{}\n", lines.concat())
}

/// Text that neither ends a cell of a table nor becomes markup.
pub fn cell(text: &str) -> String {
    let text =
        text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*").replace('[', "\\[").replace(']', "\\]");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
