//! Days of CME Group's product groups as its notices, and those who passed them on, give them.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use chrono::DateTime;
use chrono_tz::Tz;
use market::{Calendar, Segments, Session, TradeDate};

const HOUR: i64 = 3_600_000_000_000;

fn date(text: &str) -> TradeDate {
    TradeDate::parse(text).unwrap()
}

/// `ON 17:00-1d 07:20, RTH 07:20 11:00`: the session's spans on the wall clock of its trade date.
fn spans(calendar: &Calendar, session: &Session<'_>) -> String {
    let zone: Tz = calendar.time_zone().parse().unwrap();
    let wall = |ts: i64| {
        let local = DateTime::from_timestamp_nanos(ts).with_timezone(&zone);
        let days = (local.date_naive() - session.trade_date.date()).num_days();
        format!("{}{}", local.format("%H:%M"), if days == 0 { String::new() } else { format!("{days:+}d") })
    };
    let spans = session.spans.iter().map(|span| format!("{} {} {}", span.segment, wall(span.open), wall(span.close)));
    spans.collect::<Vec<_>>().join(", ")
}

#[test]
fn the_hours_of_an_era_are_those_of_its_notice() {
    for (id, day, expected) in [
        // Essence Capital quoting CME, May 2012: 17:00-14:00 from trade date 2012-05-21; the pits until 14:00 from 06-25.
        ("CME_GRAINS", "2012-05-18", "ON 18:00-1d 07:15, RTH 09:30 13:15"),
        ("CME_GRAINS", "2012-05-21", "ON 17:00-1d 09:30, RTH 09:30 13:15, POST 13:15 14:00"),
        ("CME_GRAINS", "2012-06-25", "ON 17:00-1d 09:30, RTH 09:30 14:00"),
        // Reuters, 2013-03-05.
        ("CME_GRAINS", "2013-04-08", "ON 19:00-1d 07:45, RTH 08:30 13:15"),
        // CME's FAQ: 13:20 from trade date 2015-07-06.
        ("CME_GRAINS", "2015-07-06", "ON 19:00-1d 07:45, RTH 08:30 13:20"),
        // Reuters, 2014-10-03: from 10-27 Monday 09:05-16:00, Tuesday to Thursday 08:00-16:00, Friday 08:00-13:55.
        ("CME_LIVESTOCK", "2014-10-24", "ON 17:00-1d 09:05, RTH 09:05 13:00, POST 13:00 13:55"),
        ("CME_LIVESTOCK", "2014-10-27", "RTH 09:05 13:00, POST 13:00 16:00"),
        ("CME_LIVESTOCK", "2014-10-28", "ON 08:00 09:05, RTH 09:05 13:00, POST 13:00 16:00"),
        ("CME_LIVESTOCK", "2014-10-31", "ON 08:00 09:05, RTH 09:05 13:00, POST 13:00 13:55"),
        // CME SER-7591.
        ("CME_LIVESTOCK", "2016-02-29", "RTH 08:30 13:05"),
        // CME SER-8369, and the contract page of 2025.
        ("CME_LUMBER", "2019-05-20", "RTH 09:00 15:05"),
        // Contract specification of class III milk: to 16:00, on Fridays to 13:55.
        ("CME_DAIRY", "2025-02-13", "ON 17:00-1d 09:05, RTH 09:05 13:10, POST 13:10 16:00"),
        ("CME_DAIRY", "2025-02-14", "ON 17:00-1d 09:05, RTH 09:05 13:10, POST 13:10 13:55"),
        // CME, 2003-09: interest rates and currencies 17:00-16:00.
        ("CME_FX", "2010-03-15", "ON 17:00-1d 07:20, RTH 07:20 14:00, POST 14:00 16:00"),
        // CME, 2026-02-19: day and night from Friday 2026-05-29, whose evening and weekend are Monday's.
        ("CME_CRYPTO", "2026-05-29", "ON 17:00-1d 08:30, RTH 08:30 15:00, POST 15:00 16:00"),
        // Elwood, 2026-07-02: maintenance each Saturday from 02:00 to 04:00.
        ("CME_CRYPTO", "2026-06-01", "ON 16:02-3d 02:00-2d, ON 04:00-2d 08:30, RTH 08:30 15:00, POST 15:00 16:00"),
        ("CME_CRYPTO", "2026-06-02", "ON 16:00-1d 08:30, RTH 08:30 15:00, POST 15:00 16:00"),
    ] {
        let calendar = Calendar::builtin(id).unwrap();
        let session = calendar.session(date(day)).unwrap().unwrap_or_else(|| panic!("{id} {day}"));
        assert_eq!(spans(&calendar, &session), expected, "{id} {day}");
    }
}

/// Close on the wall clock of the calendar, and the clearing date; `None` where the day has no session.
#[test]
fn holidays_close_and_clear_as_announced() {
    for (id, day, expected) in [
        // NYMEX's schedule for Presidents' Day 2009: open until 17:15, for the trade date of the 17th.
        ("CME_METALS", "2009-02-16", Some(("17:15", "2009-02-17"))),
        ("CME_ENERGY", "2009-02-16", Some(("17:15", "2009-02-17"))),
        // TradingMarkets for 2010-12-31, in Chicago's time: stock indices regular, currencies 12:15, energy and metals 15:15.
        ("CME_EQUITY", "2010-12-31", Some(("15:15", "2010-12-31"))),
        ("CME_FX", "2010-12-31", Some(("12:15", "2010-12-31"))),
        ("CME_ENERGY", "2010-12-31", Some(("16:15", "2010-12-31"))),
        ("CME_METALS", "2010-12-31", Some(("16:15", "2010-12-31"))),
        // Reuters, 2012-10-29: rates close at noon in New York; CME: back to normal the next day.
        ("CME_RATES", "2012-10-29", Some(("11:00", "2012-10-29"))),
        ("CME_RATES", "2012-10-30", Some(("16:00", "2012-10-30"))),
        ("CME_FX", "2012-10-29", Some(("16:00", "2012-10-29"))),
        // Transact's copy of CME's schedule for 2013-07-04.
        ("CME_FX", "2013-07-04", Some(("12:00", "2013-07-05"))),
        ("CME_RATES", "2013-07-04", Some(("12:00", "2013-07-05"))),
        ("CME_GRAINS", "2013-07-03", Some(("12:00", "2013-07-03"))),
        ("CME_GRAINS", "2013-07-04", None),
        // PR Newswire, 2018-12-02: equities until 08:30, rates closed, everything else as usual.
        ("CME_EQUITY", "2018-12-05", Some(("08:30", "2018-12-05"))),
        ("CME_RATES", "2018-12-05", None),
        ("CME_FX", "2018-12-05", Some(("16:00", "2018-12-05"))),
        ("CME_GRAINS", "2018-12-05", Some(("13:20", "2018-12-05"))),
        // DTN for Presidents' Day 2023.
        ("CME_EQUITY", "2023-02-20", Some(("12:00", "2023-02-21"))),
        ("CME_RATES", "2023-02-20", Some(("12:00", "2023-02-21"))),
        ("CME_ENERGY", "2023-02-20", Some(("14:30", "2023-02-21"))),
        ("CME_FX", "2023-02-20", Some(("16:00", "2023-02-21"))),
        ("CME_CRYPTO", "2023-02-20", Some(("16:00", "2023-02-21"))),
        ("CME_GRAINS", "2023-02-20", None),
        ("CME_LIVESTOCK", "2023-02-20", None),
        ("CME_LUMBER", "2023-02-20", None),
        // DTN for Independence Day 2024: no early close of rates, currencies and crypto the day before.
        ("CME_CRYPTO", "2024-07-03", Some(("16:00", "2024-07-03"))),
        ("CME_FX", "2024-07-04", Some(("16:00", "2024-07-05"))),
        ("CME_METALS", "2024-07-04", Some(("14:30", "2024-07-05"))),
        // CME, 2024-12-30: rates and agriculture until 12:15, energy, currencies, metals and crypto as usual.
        ("CME_RATES", "2025-01-09", Some(("12:15", "2025-01-09"))),
        ("CME_GRAINS", "2025-01-09", Some(("12:15", "2025-01-09"))),
        ("CME_LIVESTOCK", "2025-01-09", Some(("12:15", "2025-01-09"))),
        ("CME_LUMBER", "2025-01-09", Some(("12:15", "2025-01-09"))),
        ("CME_ENERGY", "2025-01-09", Some(("17:00", "2025-01-09"))),
        ("CME_FX", "2025-01-09", Some(("16:00", "2025-01-09"))),
        ("CME_CRYPTO", "2025-01-09", Some(("16:00", "2025-01-09"))),
        // Edge Clear's copy for Martin Luther King Day 2026.
        ("CME_RATES", "2026-01-19", Some(("12:00", "2026-01-20"))),
        ("CME_METALS", "2026-01-19", Some(("14:30", "2026-01-20"))),
        ("CME_FX", "2026-01-19", Some(("16:00", "2026-01-20"))),
        // A Friday holiday clears on Monday.
        ("CME_FX", "2026-07-03", Some(("12:00", "2026-07-06"))),
        // Day and night: a holiday trades on and clears with the next business day.
        ("CME_CRYPTO", "2026-09-07", Some(("16:00", "2026-09-08"))),
        ("CME_CRYPTO", "2026-12-25", Some(("16:00", "2026-12-28"))),
    ] {
        let calendar = Calendar::builtin(id).unwrap();
        let found = calendar.session(date(day)).unwrap().map(|session| {
            let spans = spans(&calendar, &session);
            (spans.rsplit(' ').next().unwrap().to_string(), session.clearing_date.to_string())
        });
        let expected = expected.map(|(close, clears)| (close.to_string(), clears.to_string()));
        assert_eq!(found, expected, "{id} {day}");
    }
}

/// The evenings of Christmas, New Year, Independence Day and Thanksgiving are silent, those of Monday holidays are not.
#[test]
fn grains_open_in_the_morning_after_a_silent_evening() {
    for (day, opens) in [
        ("2013-07-05", "08:30"),    // Lean
        ("2019-01-02", "08:30"),    // KDHL: "closed for the overnight session ..., reopen Wednesday morning at 8:30"
        ("2021-11-26", "08:30"),    // KDHL: "closed until the normal time Friday morning at 8:30"
        ("2024-07-05", "08:30"),    // DTN: no overnight session
        ("2022-01-03", "19:00-1d"), // ZMP: trades on after the weekend, New Year's Day was a Saturday
        ("2023-02-21", "19:00-1d"), // DTN: 19:00 for trade date of Tuesday
        ("2026-01-20", "19:00-1d"), // Edge Clear
    ] {
        let calendar = Calendar::builtin("CME_GRAINS").unwrap();
        let session = calendar.session(date(day)).unwrap().unwrap();
        assert_eq!(spans(&calendar, &session).split(' ').nth(1), Some(opens), "{day}");
    }
}

/// The clocks went back on 2026-11-01: the weekend of day-and-night trading had an hour more, and its 4h bars stay 4h.
#[test]
fn a_weekend_long_session_crosses_a_change_of_clocks() {
    let calendar = Calendar::builtin("CME_CRYPTO").unwrap();
    let hours = |day| {
        let session = calendar.session(date(day)).unwrap().unwrap();
        (session.close(Segments::ETH).unwrap() - session.open(Segments::ETH).unwrap()) / HOUR
    };
    assert_eq!((hours("2026-10-26"), hours("2026-11-02"), hours("2027-03-15"), hours("2026-11-03")), (72, 73, 71, 24));
}
