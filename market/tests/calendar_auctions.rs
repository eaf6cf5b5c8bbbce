//! Auctions with a declared window, as the exchanges' notices have them, and the nights of US equities.

use chrono::{DateTime, Timelike};
use market::{Calendar, Segment, TradeDate};

fn date(text: &str) -> TradeDate {
    TradeDate::parse(text).expect(text)
}

/// `open 07:50-08:00, intraday 12:00-12:02, close 16:30-16:40` on the exchange's wall clock.
fn auctions(calendar: &Calendar, day: &str) -> String {
    let clock = |ts| {
        let local = DateTime::from_timestamp_nanos(ts).with_timezone(&calendar.zone());
        format!("{:02}:{:02}", local.hour(), local.minute())
    };
    let session = calendar.session(date(day)).expect(day).expect(day);
    let all = session.auctions().map(|a| format!("{} {}-{}", a.kind, clock(a.opens_at), clock(a.closes_at)));
    all.collect::<Vec<_>>().join(", ")
}

#[test]
fn auctions_are_what_the_notices_of_their_time_say() {
    for (id, day, expected) in [
        // London Stock Exchange, service announcement 001/05022016: the auction at noon from Monday 21 March 2016 on
        ("XLON", "2016-03-18", "open 07:50-08:00, close 16:30-16:40"),
        ("XLON", "2016-03-21", "open 07:50-08:00, intraday 12:00-12:02, close 16:30-16:40"),
        // and not on the two half days
        ("XLON", "2024-12-24", "open 07:50-08:00, close 12:30-12:40"),
        ("XLON", "2000-05-02", "open 07:50-08:00"),
        // the Xetra auction schedule, DAX shares; trade at close since 2020-11-23
        ("XETR", "2021-01-07", "open 08:50-09:00, intraday 13:00-13:02, close 17:30-17:45"),
        // Wiener Boerse, November 2020
        ("XWBO", "2020-12-01", "open 08:55-09:00, intraday 12:00-12:03, close 17:30-17:45"),
        // JSE specification volume 00, September 2014
        ("XJSE", "2017-09-15", "open 08:30-09:00, intraday 12:00-12:15, close 16:50-17:10"),
        // New York's auctions are known by the flags of their prints
        ("XNYS", "2025-11-26", ""),
        ("CME_EQUITY", "2025-11-26", ""),
    ] {
        assert_eq!(auctions(&Calendar::builtin(id).unwrap(), day), expected, "{id} {day}");
    }
}

#[test]
fn a_call_that_ends_the_morning_is_in_its_place() {
    let found = auctions(&Calendar::builtin("XTKS").unwrap(), "2025-11-26");
    let kinds: Vec<&str> = found.split(", ").filter_map(|auction| auction.split(' ').next()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "break").count(), 1, "{found}");
    assert_eq!(kinds.last(), Some(&"close"), "{found}");
}

#[test]
fn every_auction_lies_where_its_kind_says() {
    for id in Calendar::builtin_ids() {
        let calendar = Calendar::builtin(id).unwrap();
        let (first, last) = calendar.known();
        for session in calendar.sessions(first, last).unwrap() {
            let mut before = i64::MIN;
            for auction in session.auctions() {
                assert!(before <= auction.opens_at && auction.opens_at < auction.closes_at, "{id} {auction:?}");
                before = auction.opens_at;
                let inside = session.segment_at(auction.opens_at) == Segment::Rth;
                assert_eq!(
                    inside,
                    auction.kind == market::AuctionKind::Intraday,
                    "{id} {} {auction:?}",
                    session.trade_date
                );
            }
        }
    }
}

/// Blue Ocean's nights: Sunday 20:00 New York is Monday's, there is none before a holiday, and New York itself has none.
#[test]
fn the_night_of_us_equities_is_a_calendar_of_its_own() {
    let nights = Calendar::builtin("US_EQUITY_24_5").unwrap();
    let day = |text: &str| nights.session(date(text)).unwrap().map(|session| nights.describe(&session));
    let whole = "ON 20:00-1d-04:00, PRE 04:00-09:30, RTH 09:30-16:00, POST 16:00-20:00";
    assert_eq!(day("2025-12-01").as_deref(), Some(whole));
    assert_eq!(day("2025-11-27"), None);
    assert_eq!(
        day("2025-11-28").as_deref(),
        Some("ON 20:00-1d-04:00, PRE 04:00-09:30, RTH 09:30-13:00, POST 13:00-17:00")
    );
    let actual = nights.actual(date("2024-08-05"), date("2024-08-06"), &[]).unwrap();
    let on: Vec<usize> = actual.iter().map(|d| d.spans.iter().filter(|s| s.segment == Segment::On).count()).collect();
    assert_eq!((on, actual[0].differs, actual[1].note.as_str()), (vec![1, 0], true, "Blue Ocean did not open"));
    let exchange = Calendar::builtin("XNYS").unwrap();
    let (first, last) = nights.known();
    for session in exchange.sessions(first, last).unwrap() {
        let with_night = nights.session(session.trade_date).unwrap().expect("the same trade dates");
        assert!(with_night.spans.iter().filter(|s| s.segment != Segment::On).eq(session.spans.iter()));
    }
}

/// Two hours of maintenance on Saturday morning, Chicago, since the weekend trades (Elwood, 2026-07-02).
#[test]
fn the_weekend_of_cme_crypto_has_its_maintenance() {
    let crypto = Calendar::builtin("CME_CRYPTO").unwrap();
    let monday = crypto.session(date("2026-07-06")).unwrap().unwrap();
    assert!(crypto.describe(&monday).starts_with("ON 16:00-3d-02:00-2d, ON 04:00-2d-08:30, RTH 08:30-15:00"));
}

#[test]
fn sessions_of_a_projected_year_say_so() {
    let shanghai = Calendar::builtin("XSHG").unwrap();
    assert_eq!(shanghai.projected_from(), Some(date("2027-01-01")));
    let note = |day: &str| shanghai.session(date(day)).unwrap().unwrap().note;
    assert_eq!((note("2026-11-26"), note("2027-03-10")), ("", "projected"));
    assert_eq!(Calendar::builtin("XNYS").unwrap().projected_from(), None);
}
