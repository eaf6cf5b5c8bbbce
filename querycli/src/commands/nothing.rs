//! Why an answer about sessions is empty: the market was closed, or nothing is stored.

use super::range::Range;
use market::{Calendar, Segments, TradeDate};

/// Tells on the standard error why there are no rows.
///
/// Of an answer that has rows in any case, as statistics do, only that there was no session.
pub fn note(range: &Range, segments: Option<&str>, rows: usize) {
    let why = match closed(range.calendar, range.first, range.last, segments) {
        None if rows == 0 => Some(untraded(range)),
        why => why,
    };
    if let Some(why) = why {
        eprintln!("note: {why}");
    }
}

/// Why a range has no rows, for the hint of an error.
pub fn why(range: &Range, segments: Option<&str>) -> String {
    closed(range.calendar, range.first, range.last, segments).unwrap_or_else(|| untraded(range))
}

fn untraded(range: &Range) -> String {
    let dates = days(range.first, range.last);
    format!("{} has no trades {dates}; `querycli describe {}` tells what is stored", range.symbol, range.symbol)
}

fn days(first: TradeDate, last: TradeDate) -> String {
    if first == last { format!("on {first}") } else { format!("from {first} to {last}") }
}

/// Why a calendar has no session in a range, or none with these segments, and when it has; `None` if it has one.
pub fn closed(calendar: &Calendar, first: TradeDate, last: TradeDate, segments: Option<&str>) -> Option<String> {
    // Trades outside every session need none.
    let segments = Segments::parse(segments.unwrap_or("ETH")).unwrap_or(Segments::ALL);
    // What lies beyond a calendar's known range is an error of its own.
    let sessions: Vec<_> = calendar.sessions(first, last).ok()?.collect();
    if sessions.iter().any(|session| segments == Segments::ALL || session.open(segments).is_some()) {
        return None;
    }
    let id = calendar.id();
    if let Some(session) = sessions.first() {
        let mut has: Vec<String> = session.spans.iter().map(|span| span.segment.to_string()).collect();
        has.dedup();
        return Some(format!("{id} has no {segments} {}; its session has {}", days(first, last), has.join(", ")));
    }
    let reason = match first == last {
        true => match calendar.closure(first).ok().flatten() {
            Some(holiday) => format!("{} ({holiday})", days(first, last)),
            None => format!("on {}", first.date().format("%A %Y-%m-%d")),
        },
        false => days(first, last),
    };
    let around =
        [("the one before is", calendar.next_session(first, -1)), ("the next is", calendar.next_session(last, 1))];
    let around = around.into_iter().filter_map(|(which, day)| Some(format!("{which} on {}", day.ok()?)));
    let around: Vec<String> = around.collect();
    Some(format!("{id} has no session {reason}; {}", around.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_range_has_a_reason() {
        let check = |id: &str, first: &str, last: &str, segments: Option<&str>, expected: Option<&str>| {
            let calendar = Calendar::builtin(id).expect("it is shipped");
            let day = |text: &str| TradeDate::parse(text).expect("a date");
            let told = closed(&calendar, day(first), day(last), segments);
            assert_eq!(told.as_deref(), expected, "{id} {first} {last}");
        };
        // NYSE: Thanksgiving is the fourth Thursday of November; the day after closes at 13:00.
        let thanksgiving = "XNYS has no session on 2025-11-27 (Thanksgiving); the one before is on 2025-11-26, the next is on 2025-11-28";
        check("XNYS", "2025-11-27", "2025-11-27", None, Some(thanksgiving));
        let saturday =
            "XNYS has no session on Saturday 2025-11-29; the one before is on 2025-11-28, the next is on 2025-12-01";
        check("XNYS", "2025-11-29", "2025-11-29", Some("RTH"), Some(saturday));
        let weekend = "XNYS has no session from 2025-11-29 to 2025-11-30; the one before is on 2025-11-28, the next is on 2025-12-01";
        check("XNYS", "2025-11-29", "2025-11-30", None, Some(weekend));
        let lacks = "XHKG has no PRE on 2025-11-28; its session has RTH";
        check("XHKG", "2025-11-28", "2025-11-28", Some("PRE"), Some(lacks));
        check("XNYS", "2025-11-26", "2025-11-27", None, None);
        check("XNYS", "2025-11-29", "2025-11-29", Some("ALL"), Some(saturday));
        // the first known day has none before it
        let first = "XNYS has no session on 1998-01-01 (New Year's Day); the next is on 1998-01-02";
        check("XNYS", "1998-01-01", "1998-01-01", None, Some(first));
    }
}
