//! Europe, the Middle East and Africa as exchange notices and newspapers of the day tell it: each row names its source.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use chrono::{DateTime, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use market::{Calendar, Class, Segment, Segments, Timeframe, TradeDate, group_of};

fn date(text: &str) -> TradeDate {
    TradeDate::parse(text).unwrap()
}

fn zone(calendar: &Calendar) -> Tz {
    calendar.time_zone().parse().unwrap()
}

fn at(calendar: &Calendar, text: &str) -> i64 {
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
    zone(calendar).from_local_datetime(&local).earliest().unwrap().timestamp_nanos_opt().unwrap()
}

/// `(08:50 09:00-17:30 17:35)`: the opening auction's start, the regular hours, the closing auction's end; auctions only
/// where there are any.
fn hours(id: &str, day: &str) -> String {
    let calendar = Calendar::builtin(id).unwrap();
    let Some(session) = calendar.session(date(day)).unwrap() else { return "closed".into() };
    let clock =
        |ts: i64| DateTime::from_timestamp_nanos(ts).with_timezone(&zone(&calendar)).format("%H:%M").to_string();
    let rth = session.spans.iter().filter(|span| span.segment == Segment::Rth);
    let rth: Vec<String> = rth.map(|span| format!("{}-{}", clock(span.open), clock(span.close))).collect();
    let (open, close) = (session.open(Segments::RTH).unwrap(), session.close(Segments::RTH).unwrap());
    let opening = if session.open_auction_from < open { clock(session.open_auction_from) + " " } else { String::new() };
    let closing = if session.close_auction_until > close {
        format!(" {}", clock(session.close_auction_until))
    } else {
        String::new()
    };
    format!("{opening}{}{closing}", rth.join(" "))
}

#[test]
fn hours_of_each_era_are_those_of_its_notices() {
    for (id, day, expected, source) in [
        ("XPAR", "2000-03-31", "07:15 09:00-17:00 17:10", "Wall Street Italia, 2000-03-31: until 17:00"),
        ("XPAR", "2000-04-03", "07:15 09:00-17:30 17:40", "Wall Street Italia, 2000-03-31: from April 3 until 17:30"),
        ("XPAR", "2012-12-24", "07:15 09:00-14:00 14:10", "NYSE Euronext, 2011-11-14: December 24 until 14:00"),
        ("XAMS", "2000-03-31", "09:00-16:30", "Amsterdam Exchanges, 1999-07-23: shares 9:00-16:30"),
        (
            "XAMS",
            "2024-06-14",
            "07:15 09:00-17:30 17:40",
            "Pareto Securities, 2024: auction 17:35, at last until 17:40",
        ),
        ("XLIS", "2012-12-31", "06:15 08:00-13:00 13:10", "NYSE Euronext, 2011-11-14: December 31 until 14:00 CET"),
        ("XETR", "2000-06-01", "08:50 09:00-17:30 17:35", "Computerwoche, 2000-05-30: June 1 still until 17:30"),
        ("XETR", "2000-06-02", "08:50 09:00-20:00 20:05", "Computerwoche, 2000-05-30: from June 2 until 20:00"),
        ("XETR", "2003-10-31", "08:50 09:00-20:00 20:05", "stern, 2003-11-03: today for the first time 17:30"),
        ("XETR", "2003-11-03", "08:50 09:00-17:30 17:35", "stern, 2003-11-03: today for the first time 17:30"),
        ("XETR", "2020-11-23", "08:50 09:00-17:30 17:45", "Xetra circular 031/20: trade-at-close"),
        ("XETR", "2025-12-01", "08:55 09:00-17:30 17:40", "Deutsche Börse circular 052/25"),
        ("XFRA", "2011-05-31", "09:00-20:00", "dpa, 2011-03-24: an hour earlier from June 1"),
        ("XFRA", "2011-06-01", "08:00-20:00", "dpa, 2011-03-24: an hour earlier from June 1"),
        ("XFRA", "2021-11-29", "08:00-22:00", "Fonds professionell: from November 29 until 22:00"),
        ("XFRA", "2022-10-03", "08:00-20:00", "Börse Frankfurt, trading times of 2022-10-03"),
        ("XSWX", "2020-06-19", "06:00 09:00-17:20 17:32", "SIX: closing auction 17:20-17:30"),
        ("XSWX", "2020-06-22", "06:00 09:00-17:20 17:40", "AWP, 2020-05-20: trading at last from June 22, ten minutes"),
        ("XMIL", "2002-11-18", "08:00 09:30-17:25 17:45", "Borsa Italiana, 2002-11-15"),
        ("XMIL", "2006-01-02", "08:00 09:05-17:25 17:35", "Corriere della Sera, 2005-12-06: from January 2 at 9.05"),
        ("XMIL", "2009-09-28", "08:00 09:05-17:25 17:35", "Borsa Italiana, 2009-09-08: 9.05 until now"),
        ("XMIL", "2009-09-29", "08:00 09:00-17:25 17:42", "Borsa Italiana, 2009-09-08: from September 29 at 9:00"),
        ("XMIL", "2015-11-20", "08:00 09:00-17:25 17:42", "Finanzaonline: until 20/11/2015 17:25"),
        ("XMIL", "2015-11-23", "08:00 09:00-17:30 17:42", "Finanzaonline: from 23/11/2015 17:30, auction 17:35, 17:42"),
        ("XWBO", "2008-12-30", "08:30 09:20-17:30 17:35", "Wiener Börse: 20 minutes later until 2009-01-02"),
        ("XWBO", "2009-01-02", "08:55 09:00-17:30 17:35", "Wiener Börse: from 2009-01-02 at 9:00"),
        ("XWBO", "2017-12-29", "08:55 09:00-14:15 14:30", "Wiener Börse on 2017-12-29: closing auction from 14:15"),
        ("XWBO", "2020-12-01", "08:55 09:00-17:30 17:45", "Wiener Börse: from 2020-12-01 until 17:45"),
        ("XOSL", "2012-08-03", "08:15 09:00-17:20 17:30", "Reuters, 2012-06-29: an hour shorter from August 6"),
        ("XOSL", "2012-08-06", "08:15 09:00-16:20 16:30", "The Trade: continuous until 16:20, auction about 16:30"),
        ("XOSL", "2017-04-12", "08:15 09:00-13:00 13:05", "Oslo Børs, Åpningstider: Wednesday before Easter 2017"),
        ("XSTO", "2004-09-24", "09:15 09:30-17:20 17:30", "Stockholmsbörsen, 2004: 30 minutes longer in the morning"),
        (
            "XSTO",
            "2004-09-27",
            "08:45 09:00-17:20 17:30",
            "Stockholmsbörsen, 2004: 09:00-17:20, closing call until 17:30",
        ),
        (
            "XSTO",
            "2007-04-05",
            "08:45 09:00-12:50 13:00",
            "OMX notice 9/07: half day on April 5, closing call at 12:50",
        ),
        ("XSTO", "2024-06-14", "08:45 09:00-17:25 17:30", "Pareto Securities, 2024: 09:00-17:25, auction 17:30"),
        ("XSTO", "2024-05-08", "08:45 09:00-12:55 13:00", "Spotlight, Öppettider, 2024: half day, 12:55 and 13:00"),
        ("XHEL", "2024-06-14", "09:45 10:00-18:25 18:30", "Pareto Securities, 2024: 10:00-18:25, auction 18:30"),
        (
            "XMAD",
            "2024-06-14",
            "08:30 09:00-17:30 17:45",
            "Pareto Securities, 2024: auction 17:35, at last until 17:45",
        ),
        (
            "XOSL",
            "2024-06-14",
            "08:15 09:00-16:20 16:30",
            "Pareto Securities, 2024: auction 16:25, at last until 16:30",
        ),
        ("XHEL", "2004-09-24", "10:00-18:00", "Helsinki Exchanges, 2004: 30 minutes longer, first closing call"),
        ("XHEL", "2004-09-27", "09:45 10:00-18:20 18:30", "Helsinki Exchanges, 2004: 09:00-17:20 and 17:30 CET"),
        ("XCSE", "2024-06-14", "08:45 09:00-16:55 17:00", "Pareto Securities, 2024: 09:00-16:55, auction 17:00"),
        ("XWAR", "2000-11-16", "12:00-16:00", "Warsaw Stock Exchange, 1999-06-18: continuous 12:00-16:00"),
        ("XWAR", "2002-12-31", "10:00-14:00 14:20", "Warsaw Stock Exchange on 2002-12-31: 10:00-14:00, auction 14:10"),
        ("XWAR", "2008-08-29", "09:30-16:10 16:30", "Warsaw Stock Exchange, 2008-06-18: 9:30 until September 1"),
        (
            "XWAR",
            "2008-09-01",
            "08:00 09:00-16:10 16:30",
            "Warsaw Stock Exchange, 2008-06-18; investpedia.pl: until 16:30",
        ),
        ("XWAR", "2010-12-31", "08:00 09:00-16:10 16:30", "Forbes Polska: until 2011-01-03"),
        ("XWAR", "2011-01-03", "08:00 09:00-17:20 17:35", "Forbes Polska: from Monday, January 3"),
        ("XWAR", "2013-04-12", "08:00 09:00-17:20 17:35", "Reuters, 2013-03-27: shorter from April 15"),
        ("XWAR", "2013-04-15", "08:30 09:00-16:50 17:05", "Reuters, 2013-03-27; bankier.pl"),
        ("XIST", "2009-10-19", "09:30-12:30 14:00-17:30 17:40", "Garanti, October 2009: from October 19"),
        ("XIST", "2015-11-30", "09:15 09:35-12:30 13:30-17:30 17:40", "Anadolu Ajansı, February 2016"),
        ("XIST", "2016-03-28", "09:15 09:35-13:00 14:00-17:30 17:40", "Anadolu Ajansı, February 2016: from March 28"),
        ("XIST", "2016-11-14", "09:40 10:00-18:00 18:10", "politikars.com: from Monday, November 14"),
        ("XIST", "2025-10-28", "09:40 10:00-12:30 12:40", "sporx.com on October 28: half day"),
        (
            "XJSE",
            "2019-01-14",
            "08:30 09:00-16:50 17:10",
            "Business Insider South Africa: auction 16:50-17:00 every day",
        ),
        (
            "XSAU",
            "2025-03-05",
            "09:30 10:00-15:00 15:20",
            "Argaam, 2025-02-27: unchanged in Ramadan, at last until 15:20",
        ),
        ("XTAE", "2020-01-30", "09:45-17:15 17:25", "WFE Focus: opens at 10:00 from 2020-02-02"),
        ("XTAE", "2020-02-02", "09:59-16:15 16:25", "WFE Focus: Sundays still 35 minutes longer"),
        ("XTAE", "2020-03-08", "09:59-15:40 15:50", "WFE Focus: Sundays close between 15:49 and 15:50"),
        ("XMOS", "2022-03-31", "09:50 10:00-18:40 18:50", "Moscow Exchange, 2022-03-30"),
        (
            "XLON",
            "2000-05-05",
            "07:50 08:00-16:30",
            "London Stock Exchange notice N55/00: no closing auction before May 2000",
        ),
        ("XLON", "2001-04-24", "07:50 08:00-16:30 16:40", "FTMarketWatch, 2001-04-24: an auction of five minutes"),
    ] {
        assert_eq!(hours(id, day), expected, "{id} {day}: {source}");
    }
}

#[test]
fn closures_of_single_days_have_their_reason() {
    for (id, day, reason) in [
        // Computerwoche, 2000-05-30: Ascension Day of 2000 is the first public holiday with trading.
        ("XETR", "2000-06-01", None),
        ("XETR", "2017-10-31", Some("500 years of the Reformation")),
        // Government of South Africa, 2021-10-12.
        ("XJSE", "2021-11-01", Some("local elections")),
        ("XWAR", "2005-04-08", Some("funeral of John Paul II")),
        // Bank of Russia, reported by moneybuzzeurope.com: no shares from March 14 to 18.
        ("XMOS", "2022-03-16", Some("trading suspended by the Bank of Russia")),
        ("XMOS", "2022-03-31", None),
        // MOEX n28671, 2020-06-03: June 24 and July 1 are non-trading days.
        ("XMOS", "2020-06-24", Some("Victory Parade")),
        ("XMOS", "2020-07-01", Some("vote on the constitution")),
        // Athens reopened on Monday, 2015-08-03 (Lanka Business Online).
        ("XATH", "2015-07-31", Some("capital controls")),
        ("XATH", "2015-08-03", None),
        // newsru.co.il, 2025-12-25: if Sunday is a holiday, there is no trading on the Friday before.
        ("XTAE", "2026-09-18", Some("Friday before a holiday on Sunday")),
    ] {
        let calendar = Calendar::builtin(id).unwrap();
        assert_eq!(calendar.closure(date(day)), Ok(reason), "{id} {day}");
        assert_eq!(calendar.is_session(date(day)), Ok(reason.is_none()), "{id} {day}");
    }
}

/// Dates of the churches' and the people's almanacs.
#[test]
fn movable_feasts_fall_on_the_days_of_the_almanac() {
    for (id, days, feast) in [
        // The Greek Easter was on 2024-05-05 and, with the western one, on 2025-04-20.
        ("XATH", &["2024-05-03", "2025-04-18"][..], "Orthodox Good Friday"),
        ("XBSE", &["2024-06-24", "2025-06-09"], "Orthodox Whit Monday"),
        ("XSTO", &["2020-06-19", "2021-06-25", "2026-06-19"], "Midsummer Eve"),
        ("XHEL", &["2022-06-24", "2023-06-23"], "Midsummer Eve"),
        ("XICE", &["2023-04-20", "2024-04-25"], "First Day of Summer"),
        ("XCSE", &["2023-05-05"], "General Prayer Day"),
    ] {
        let calendar = Calendar::builtin(id).unwrap();
        for day in days {
            let reason = calendar.closure(date(day)).unwrap();
            // In 2025 the two Good Fridays are one day, which either name fits.
            assert!(reason.is_some_and(|reason| feast.ends_with(reason)), "{id} {day}: {reason:?}, not {feast}");
        }
    }
    assert_eq!(Calendar::builtin("XCSE").unwrap().is_session(date("2024-04-26")), Ok(true), "abolished from 2024 on");
}

/// Globes, 2026-01-05, and Israel National News, 2026-01-09: Monday to Friday instead of Sunday to Thursday.
#[test]
fn tel_aviv_changes_its_week() {
    let calendar = Calendar::builtin("XTAE").unwrap();
    let open = |day: &str| calendar.is_session(date(day)).unwrap();
    assert_eq!(["2025-12-28", "2026-01-01", "2026-01-02"].map(open), [true, true, false], "Sunday to Thursday");
    assert_eq!(["2026-01-04", "2026-01-05", "2026-01-09", "2026-01-11"].map(open), [false, true, true, false]);
    assert_eq!(hours("XTAE", "2026-01-09"), "09:59-13:40 13:50", "stocks until 13:50, ten minutes of them the auction");
    let week = |day: &str| group_of(&calendar, Timeframe::Week, date(day)).unwrap();
    assert_eq!(week("2025-12-31"), (date("2025-12-28"), date("2026-01-01")));
    assert_eq!(week("2026-01-07"), (date("2026-01-05"), date("2026-01-09")));
}

/// Eurex, Trading Hours Extension: from 08:10 in Singapore, which is 01:10 CET and 02:10 CEST; until 22:00 on the wall.
#[test]
fn eurex_opens_by_singapores_clock() {
    for id in ["EUREX", "EUREX_RATES"] {
        let calendar = Calendar::builtin(id).unwrap();
        let utc = |ts: i64| DateTime::from_timestamp_nanos(ts).format("%H:%M").to_string();
        let session = |day: &str| {
            let session = calendar.session(date(day)).unwrap().unwrap();
            (utc(session.open(Segments::ETH).unwrap()), utc(session.close(Segments::ETH).unwrap()))
        };
        for (day, open, close) in [
            ("2018-12-07", "07:00", "21:00"),
            ("2018-12-10", "00:10", "21:00"),
            ("2019-03-29", "00:10", "21:00"),
            ("2019-04-01", "00:10", "20:00"),
            ("2019-10-25", "00:10", "20:00"),
            ("2019-10-28", "00:10", "21:00"),
        ] {
            assert_eq!(session(day), (open.into(), close.into()), "{id} {day}");
        }
        assert_eq!(calendar.is_session(date("2024-12-24")), Ok(false));
        assert_eq!(calendar.is_session(date("2024-12-27")), Ok(true));
    }
}

#[test]
fn a_closing_print_is_the_auctions_and_a_retail_print_is_not() {
    for (id, at_text, expected) in [
        ("XETR", "2024-06-14 17:35", (Segment::Rth, Class::Close)),
        ("XETR", "2024-06-14 18:30", (Segment::Off, Class::Continuous)),
        ("XETR", "2026-06-15 17:35", (Segment::Rth, Class::Close)),
        ("XETR", "2026-06-15 18:30", (Segment::Post, Class::Continuous)),
        ("XETR", "2026-06-15 08:30", (Segment::Pre, Class::Continuous)),
        ("XSWX", "2019-06-14 17:30", (Segment::Rth, Class::Close)),
        ("XWAR", "2024-06-14 17:00", (Segment::Rth, Class::Close)),
        ("XJSE", "2024-06-14 17:00", (Segment::Rth, Class::Close)),
        ("XMOS", "2024-06-14 18:45", (Segment::Rth, Class::Close)),
        ("XMOS", "2024-06-14 20:00", (Segment::Post, Class::Continuous)),
    ] {
        let calendar = Calendar::builtin(id).unwrap();
        let ts = at(&calendar, at_text);
        assert_eq!(calendar.session_at(ts).unwrap().place(ts, 0), expected, "{id} {at_text}");
    }
}
