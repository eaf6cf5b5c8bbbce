//! Calendar files that are wrong: each mistake is named, with its line.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use market::{Calendar, Error, ErrorKind, Segments, TradeDate};
use proptest::prelude::*;

const GOOD: &str = r#"schema = 1
id = "X"
tz = "America/New_York"
known = [2024-01-01, 2024-12-31]
[[hours]]
days = "mon-fri"
RTH = "09:30-16:00"
[holidays]
"Christmas" = "dec 25"
[[special]]
name = "half day"
on = ["dec 24"]
RTH = "09:30-13:00"
"#;

/// The file with one line replaced (or appended, for the line after the last).
fn with(line: usize, text: &str) -> String {
    let mut lines: Vec<&str> = GOOD.lines().collect();
    match lines.get_mut(line - 1) {
        Some(old) => *old = text,
        None => lines.push(text),
    }
    lines.join("\n")
}

#[test]
fn every_mistake_is_named_with_its_line() {
    assert!(Calendar::from_toml(GOOD).is_ok());
    for (line, text, reason) in [
        (1, "schema = 2", "schema = 1"),
        (1, "schema = 1.5", "whole number"),
        (2, "id = \"a b\"", "letters"),
        (2, "idd = \"X\"", "unknown key \"idd\"; did you mean \"id\"?"),
        (3, "tz = \"America/NewYork\"", "did you mean \"America/New_York\"?"),
        (3, "tz = 5", "text in quotes"),
        (4, "known = [2024-01-01]", "known = [first date, last date]"),
        (4, "known = [2024-12-31, 2024-01-01]", "run forward"),
        (4, "known = [0001-01-01, 9999-12-31]", "between 1900-01-01 and 2200-01-01"),
        (4, "known = [\"2024-01-01\", \"soon\"]", "a date such as"),
        (3, "tz = \"America/New_York", ""),
        (6, "days = \"mon-fry\"", "days are such as"),
        (6, "day = \"mon\"", "unknown key \"day\"; did you mean \"days\"?"),
        (7, "RTH = \"09:30-25:00\"", "is no window"),
        (7, "RTH = \"16:00-09:30\"", "closes before it opens"),
        (7, "RTH = \"09:30-12:00, 11:00-16:00\"", "do not overlap"),
        (7, "RTH = \"09:30-16:00+9d\"", "is no window"),
        (7, "RTH = \"é9:30-16:00\"", "is no window"),
        (7, "RTH = 9", "text in quotes"),
        (7, "rth = \"09:30-16:00\"", "did you mean \"RTH\"?"),
        (9, "\"Christmas\" = \"dec 32\"", "does not begin with a date"),
        (9, "\"Christmas\" = [\"dec 25\", 7]", "text in quotes"),
        (9, "\"Christmas\" = \"dec 25 banana\"", "a part \"banana\""),
        (12, "on = \"2024-02-30\"", "no such date"),
        (13, "truncate = \"noon\"", "wall-clock time"),
        (13, "trade_date = \"previous\"", "\"next\" is the only value"),
        (13, "open_day = \"yes\"", "true or false"),
    ] {
        let found = match Calendar::from_toml(&with(line, text)) {
            Err(e @ Error::InvalidSpec { .. }) => e,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(found.kind(), ErrorKind::InvalidInput);
        let message = found.to_string();
        assert!(message.contains(&format!("line {line}:")) && message.contains(reason), "{text}: {message}");
    }
}

#[test]
fn a_row_that_contradicts_itself_is_named() {
    for (row, reason) in [
        ("PRE = \"09:00-10:00\"\nRTH = \"09:30-16:00\"", "PRE and RTH overlap"),
        ("ETH = \"17:00-1d-16:00\"\nPRE = \"08:00-09:00\"", "ETH is the whole session"),
        ("ETH = \"09:00-16:00\"\nRTH = \"08:00-16:00\"", "may not reach beyond"),
        ("RTH = \"09:30-16:00\"\nclose_auction = \"16:05-16:10\"", "begins when RTH closes"),
        ("RTH = \"09:30-16:00\"\nPOST = \"16:00-20:00\"\nclose_auction = \"16:00-16:10\"", "nothing else trades in it"),
        ("RTH = \"09:30-16:00\"\nopen_auction = \"09:00-09:15\"", "ends when RTH opens"),
        ("RTH = \"09:30-16:00\"\nopen_auction = \"08:00-08:30, 09:00-09:30\"", "one window"),
        ("RTH = \"09:30-12:00, 13:00-16:00\"\nbreak_auction = \"12:05-12:10\"", "begins at the first break of RTH"),
        ("RTH = \"09:30-12:00, 13:00-16:00\"\nbreak_auction = \"12:00-13:05\"", "nothing else trades in it"),
        ("RTH = \"09:30-16:00\"\nintraday_auction = \"15:59-16:01\"", "lies inside a window of RTH"),
        ("RTH = \"09:30-16:00\"\nbreak_auction = \"12:00-12:05\"", "needs a break"),
        ("RTH = \"09:30-12:00+1d\"", "opens before"),
        ("RTH = \"09:30-16:00\"\nwhile = \"dst Mars/Olympus\"", "no IANA time zone"),
        ("RTH = \"09:30-16:00\"\nwhile = \"summer\"", "while is"),
        ("RTH = \"09:30-16:00\"\nmonths = \"summer\"", "months are such as"),
        ("RTH = \"09:30-16:00\"\nroll = \"late\"", "wall-clock time"),
        ("", "needs a window"),
    ] {
        let file = GOOD.replace("RTH = \"09:30-16:00\"\n", &format!("{row}\n"));
        let message = Calendar::from_toml(&file).unwrap_err().to_string();
        assert!(message.contains("line") && message.contains(reason), "{row}: {message}");
    }
    let closed = GOOD.replace("mon-fri", "sun").replace("2024-12-31", "2024-01-05");
    assert!(Calendar::from_toml(&closed).unwrap_err().to_string().contains("holds no session"));
    let empty = Calendar::from_toml("").unwrap_err().to_string();
    assert!(empty.contains("the key \"schema\" is missing"), "{empty}");
}

#[test]
fn regimes_seasons_and_forced_days() {
    let calendar = Calendar::from_toml(
        r#"
schema = 1
id = "ODD"
tz = "America/Sao_Paulo"
known = [2024-01-01, 2024-12-31]
week_start = "sun"
grace_minutes = 5
[[hours]]
days = "mon-fri"
while = "dst America/New_York"
RTH = "10:00-17:00"
[[hours]]
days = "mon-fri"
while = "std America/New_York"
RTH = "10:00-17:55"
roll = "20:00"
[holidays]
"Republic Day" = "nov 15"
[[special]]
name = "festival of lights"
on = "2024-11-02"
open_day = true
RTH = "18:00-19:00"
[[special]]
name = "carnival"
on = "2024-02-14"
RTH = "13:00-17:55"
[[special]]
name = "late report"
class = "outage"
on = "2024-02-15"
RTH = "12:00-17:55"
"#,
    )
    .unwrap();
    let session = |date: &str| calendar.session(TradeDate::parse(date).unwrap()).unwrap();
    let hours = |date: &str| {
        session(date).map(|s| (s.close(Segments::RTH).unwrap() - s.open(Segments::RTH).unwrap()) / 60_000_000_000)
    };
    assert_eq!(hours("2024-07-01"), Some(420), "New York's summer");
    assert_eq!(hours("2024-01-02"), Some(475), "New York's winter");
    assert_eq!(hours("2024-11-15"), None, "holiday");
    assert_eq!(calendar.closure(TradeDate::parse("2024-11-15").unwrap()).unwrap(), Some("Republic Day"));
    assert_eq!(hours("2024-11-02"), Some(60), "a Saturday session");
    assert_eq!(session("2024-11-02").map(|s| (s.irregular, s.note)), Some((true, "festival of lights")));
    assert_eq!(hours("2024-02-14"), Some(295), "late open");
    assert_eq!(session("2024-02-15").map(|s| (s.irregular, s.note)), Some((false, "")), "outages are not scheduled");
    // In winter the declared roll, 20:00 local; in summer an hour after the close.
    assert_eq!(market::time::format_instant(session("2024-01-02").unwrap().till), "2024-01-02T23:00:00Z");
    assert_eq!(market::time::format_instant(session("2024-07-01").unwrap().till), "2024-07-01T21:00:00Z");
    let july = TradeDate::parse("2024-07-01").unwrap();
    assert_eq!((calendar.week_start(july), calendar.grace()), (chrono::Weekday::Sun, 300_000_000_000));
}

/// Auctions, the roll and the week start hold from the day of their row on.
#[test]
fn auctions_roll_and_week_start_have_their_eras() {
    let calendar = Calendar::from_toml(
        r#"
schema = 1
id = "ERAS"
tz = "Asia/Jerusalem"
known = [2025-01-01, 2026-12-31]
week_start = "sun"
[[hours]]
to = 2026-01-04
days = "sun-thu"
RTH = "10:00-17:00"
close_auction = "17:00-17:10"
[[hours]]
from = 2026-01-05
days = "mon-fri"
RTH = "10:00-17:00"
open_auction = "09:50-10:00"
close_auction = "17:00-17:30"
roll = "17:40"
week_start = "mon"
"#,
    )
    .unwrap();
    let date = |text| TradeDate::parse(text).unwrap();
    let clock = |text, ts: &dyn Fn(&market::Session<'_>) -> i64| {
        let session = calendar.session(date(text)).unwrap().unwrap();
        // 10:00 in winter is 08:00 UTC.
        market::time::format_instant(ts(&session) + 2 * 3_600_000_000_000)[11..16].to_string()
    };
    let edges = |text| {
        [
            clock(text, &|session| session.open_auction_from),
            clock(text, &|session| session.close_auction_until),
            clock(text, &|session| session.till),
        ]
    };
    // By default the next session begins an hour after the closing auction.
    assert_eq!(edges("2025-12-31"), ["10:00", "17:10", "18:10"]);
    assert_eq!(edges("2026-01-06"), ["09:50", "17:30", "17:40"]);
    assert_eq!(calendar.week_start(date("2026-01-04")), chrono::Weekday::Sun);
    assert_eq!(calendar.week_start(date("2026-01-05")), chrono::Weekday::Mon);
    let week = |text| {
        let (first, last) = market::group_of(&calendar, market::Timeframe::Week, date(text)).unwrap();
        (first.to_string(), last.to_string())
    };
    assert_eq!(week("2025-12-30"), ("2025-12-28".into(), "2026-01-01".into()));
    // The last Sunday is a week of its own: the next day begins one too.
    assert_eq!(week("2026-01-04"), ("2026-01-04".into(), "2026-01-04".into()));
    assert_eq!(week("2026-01-07"), ("2026-01-05".into(), "2026-01-09".into()));
}

/// Santiago closes an hour later from November to February.
#[test]
fn hours_hold_in_their_months() {
    let calendar = GOOD.replace(
        "RTH = \"09:30-16:00\"",
        "RTH = \"09:30-16:00\"\n[[hours]]\ndays = \"mon-fri\"\nmonths = \"nov-feb,jul\"\nRTH = \"09:30-17:00\"",
    );
    let calendar = Calendar::from_toml(&calendar).unwrap();
    let minutes = |date: &str| {
        let session = calendar.session(TradeDate::parse(date).unwrap()).unwrap().unwrap();
        (session.close(Segments::RTH).unwrap() - session.open(Segments::RTH).unwrap()) / 60_000_000_000
    };
    let days = ["2024-02-29", "2024-03-01", "2024-07-31", "2024-10-31", "2024-11-01", "2024-12-31", "2024-01-02"];
    assert_eq!(days.map(minutes), [450, 390, 450, 390, 450, 450, 450]);
}

/// Shanghai's night sessions: Friday 21:00 belongs to Monday, and before a holiday there is none.
#[test]
fn a_night_session_belongs_to_the_next_session() {
    let calendar = Calendar::from_toml(
        r#"
schema = 1
id = "XSGE"
tz = "Asia/Shanghai"
known = [2024-01-01, 2024-12-31]
[[hours]]
days = "mon-fri"
ETH = "21:00-1s-02:30-1s+1d, 09:00-10:15, 10:30-11:30, 13:30-15:00"
RTH = "09:00-15:00"
[holidays]
"National Day" = "2024-10-01..2024-10-07"
"#,
    )
    .unwrap();
    let opens = |date: &str| {
        let session = calendar.session(TradeDate::parse(date).unwrap()).unwrap().unwrap();
        (market::time::format_instant(session.open(Segments::ETH).unwrap()), session.spans.len())
    };
    assert_eq!(opens("2024-09-26"), ("2024-09-25T13:00:00Z".into(), 4));
    assert_eq!(opens("2024-09-30"), ("2024-09-27T13:00:00Z".into(), 4), "Friday night belongs to Monday");
    assert_eq!(opens("2024-10-08"), ("2024-10-08T01:00:00Z".into(), 3), "no night before the holiday");
    // Friday night is Monday's, Saturday 02:29 as well; the weekend follows it.
    let saturday = 1_727_461_740_000_000_000; // 2024-09-28 02:29 in Shanghai
    assert_eq!(calendar.trade_date(saturday), TradeDate::parse("2024-09-30"));
    assert_eq!(calendar.segment(saturday), Ok(market::Segment::On));
}

/// Osaka's night before a holiday is held and belongs to the session after it.
#[test]
fn a_night_before_a_holiday_may_be_held() {
    let calendar = |nights: bool| {
        let text = format!(
            r#"
schema = 1
id = "XOSE"
tz = "Asia/Tokyo"
known = [2024-01-01, 2024-12-31]
nights_before_holidays = {nights}
[[hours]]
days = "mon-fri"
ETH = "16:30-1s-06:00-1s+1d, 08:45-15:15"
RTH = "08:45-15:15"
[holidays]
"New Year" = "2024-12-31"
"Coming of Age Day" = "2024-01-08"
"#
        );
        Calendar::from_toml(&text).unwrap()
    };
    // Friday 5 January 2024 16:30 in Tokyo, Monday the 8th is a holiday.
    let tuesday = TradeDate::parse("2024-01-09").unwrap();
    let open = |calendar: &Calendar| {
        let session = calendar.session(tuesday).unwrap().unwrap();
        market::time::format_instant(session.open(Segments::ETH).unwrap())
    };
    assert_eq!(open(&calendar(true)), "2024-01-05T07:30:00Z");
    assert_eq!(open(&calendar(false)), "2024-01-08T23:45:00Z");
}

#[test]
fn the_examples_in_the_readme_are_calendars() {
    let readme = include_str!("../calendars/README.md");
    let examples: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(code, _)| code).collect();
    assert_eq!(examples.len(), 2);
    for example in &examples {
        Calendar::from_toml(example).unwrap_or_else(|e| panic!("{e}"));
    }
    let futures = Calendar::from_toml(examples[1]).unwrap();
    let session = |date: &str| futures.session(TradeDate::parse(date).unwrap()).unwrap();
    assert_eq!(session("2024-06-01").map(|s| s.note), Some("Saturday test session"));
    assert_eq!(session("2024-06-03").map(|s| s.irregular), Some(false));
    assert_eq!(session("2024-09-02").map(|s| s.clearing_date), Some(TradeDate::parse("2024-09-03").unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// A file with bytes knocked out, doubled or replaced reads or is refused; it never panics.
    #[test]
    fn a_mangled_file_reads_or_is_refused(
        id in prop::sample::select(Calendar::builtin_ids()),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, "[ -~éñ\n]{0,6}"), 1..4),
    ) {
        let mut text: Vec<char> = Calendar::builtin(id).unwrap().toml().chars().collect();
        for (at, len, new) in cuts {
            let at = at.index(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        match Calendar::from_toml(&text) {
            Ok(calendar) => prop_assert!(calendar.filing(0).from <= 0),
            Err(e) => prop_assert_eq!(e.kind(), ErrorKind::InvalidInput),
        }
    }

    #[test]
    fn any_text_reads_or_is_refused(text in "\\PC{0,200}") {
        prop_assert!(Calendar::from_toml(&text).is_err());
    }
}
