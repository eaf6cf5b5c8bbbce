//! Days that people check by hand: what each calendar says about them.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use chrono::{DateTime, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use market::{
    Bucket, Calendar, Class, ErrorKind, Segment, Segments, Session, Timeframe, TradeDate, bucket_at, buckets, flags,
    group_of,
};

fn calendar(id: &str) -> Calendar {
    Calendar::builtin(id).unwrap()
}

fn date(text: &str) -> TradeDate {
    TradeDate::parse(text).unwrap()
}

/// An instant by the wall clock of the calendar: `2024-03-11 09:30`.
fn at(calendar: &Calendar, text: &str) -> i64 {
    let zone: Tz = calendar.time_zone().parse().unwrap();
    let local =
        ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f"].iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok());
    let local = zone.from_local_datetime(&local.unwrap_or_else(|| panic!("{text}")));
    local.earliest().unwrap().timestamp_nanos_opt().unwrap()
}

/// An instant on the wall clock: `03-11 09:30`.
fn wall(calendar: &Calendar, ts: i64) -> String {
    let zone: Tz = calendar.time_zone().parse().unwrap();
    DateTime::from_timestamp_nanos(ts).with_timezone(&zone).format("%m-%d %H:%M").to_string()
}

/// `ON 03-10 17:00-03-11 08:30, RTH ...`
fn spans(calendar: &Calendar, session: &Session<'_>) -> String {
    let span = |s: market::Span| format!("{} {}-{}", s.segment, wall(calendar, s.open), wall(calendar, s.close));
    session.spans.iter().map(span).collect::<Vec<_>>().join(", ")
}

fn opens(calendar: &Calendar, day: &str, timeframe: &str, segments: &str) -> String {
    let session = calendar.session(date(day)).unwrap().unwrap();
    let mut out = Vec::new();
    buckets(&session, Timeframe::parse(timeframe).unwrap(), Segments::parse(segments).unwrap(), &mut out);
    out.iter().map(|b| wall(calendar, b.open)[6..].to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_session_reads_as_its_spans() {
    for (id, day, expected) in [
        (
            "XNYS",
            "2024-03-11",
            "PRE 03-11 04:00-03-11 09:30, RTH 03-11 09:30-03-11 16:00, POST 03-11 16:00-03-11 20:00",
        ),
        (
            "XNYS",
            "2024-11-29",
            "PRE 11-29 04:00-11-29 09:30, RTH 11-29 09:30-11-29 13:00, POST 11-29 13:00-11-29 17:00",
        ),
        ("XHKG", "2024-03-04", "RTH 03-04 09:30-03-04 12:00, RTH 03-04 13:00-03-04 16:00"),
        ("XHKG", "2024-12-24", "RTH 12-24 09:30-12-24 12:00"),
        ("XHKG", "2010-03-04", "RTH 03-04 10:00-03-04 12:30, RTH 03-04 14:30-03-04 16:00"),
        ("XTKS", "2024-11-05", "RTH 11-05 09:00-11-05 11:30, RTH 11-05 12:30-11-05 15:30"),
        ("XTKS", "2006-03-01", "RTH 03-01 09:00-03-01 11:00, RTH 03-01 13:00-03-01 15:00"),
        ("XTKS", "2009-01-05", "RTH 01-05 09:00-01-05 11:00"),
        ("XLON", "2024-12-24", "RTH 12-24 08:00-12-24 12:30"),
        ("24/7", "2024-02-29", "RTH 02-29 00:00-03-01 00:00"),
        (
            "CME_EQUITY",
            "2014-03-10",
            "ON 03-09 17:00-03-10 08:30, RTH 03-10 08:30-03-10 15:15, POST 03-10 15:30-03-10 16:15",
        ),
        (
            "CME_EQUITY",
            "2024-03-11",
            "ON 03-10 17:00-03-11 08:30, RTH 03-11 08:30-03-11 15:00, POST 03-11 15:00-03-11 16:00",
        ),
        // The regular hours that a holiday halt leaves.
        ("CME_EQUITY", "2024-07-04", "ON 07-03 17:00-07-04 08:30, RTH 07-04 08:30-07-04 12:00"),
        ("CME_EQUITY", "2026-04-03", "ON 04-02 17:00-04-03 08:15"),
        (
            "CME_METALS",
            "2013-10-07",
            "ON 10-06 18:00-10-07 08:20, RTH 10-07 08:20-10-07 13:30, POST 10-07 13:30-10-07 17:15",
        ),
        (
            "CME_ENERGY",
            "2026-11-27",
            "ON 11-26 18:00-11-27 09:00, RTH 11-27 09:00-11-27 14:30, POST 11-27 14:30-11-27 14:45",
        ),
    ] {
        let calendar = calendar(id);
        let session = calendar.session(date(day)).unwrap().unwrap_or_else(|| panic!("{id} {day}"));
        assert_eq!(spans(&calendar, &session), expected, "{id} {day}");
    }
}

#[test]
fn days_off_have_their_reason() {
    for (id, day, reason) in [
        ("XNYS", "2012-10-29", Some("Hurricane Sandy")),
        ("XNYS", "2024-12-25", Some("Christmas")),
        ("XNYS", "2024-12-24", None),
        ("XNYS", "2024-12-28", None),
        ("XHKG", "2023-09-01", Some("typhoon Saola")),
        ("XHKG", "2023-09-08", Some("black rainstorm")),
        ("XTKS", "2020-10-01", Some("failure of the trading system")),
        ("XLON", "2022-09-19", Some("funeral of Elizabeth II")),
    ] {
        assert_eq!(calendar(id).closure(date(day)), Ok(reason), "{id} {day}");
    }
}

#[test]
fn irregular_days_say_why_and_when_they_clear() {
    for (id, day, note, clearing) in [
        ("XNYS", "2024-11-29", "half day", "2024-11-29"),
        ("XNYS", "2024-11-27", "", "2024-11-27"),
        ("CME_EQUITY", "2024-07-04", "holiday halt", "2024-07-05"),
        // A Monday holiday clears on Tuesday; on a Friday, with Monday.
        ("CME_EQUITY", "2025-01-20", "holiday halt", "2025-01-21"),
        ("CME_METALS", "2025-07-04", "holiday on a Friday", "2025-07-07"),
        ("CME_EQUITY", "2025-01-09", "day of mourning (G.H.W. Bush, Carter)", "2025-01-09"),
    ] {
        let calendar = calendar(id);
        let session = calendar.session(date(day)).unwrap().unwrap();
        assert_eq!((session.note, session.irregular), (note, !note.is_empty()), "{id} {day}");
        assert_eq!(session.clearing_date, date(clearing), "{id} {day}");
    }
}

/// Sunday 17:00 in Chicago belongs to Monday, in summer and in winter, and nothing is lost in between.
#[test]
fn a_trade_belongs_to_the_session_it_is_traded_in() {
    for (id, instant, day, segment) in [
        ("CME_EQUITY", "2024-03-10 17:00", "2024-03-11", Segment::On),
        ("CME_EQUITY", "2024-11-03 17:00", "2024-11-04", Segment::On),
        ("CME_EQUITY", "2024-03-11 15:59", "2024-03-11", Segment::Post),
        // The hour between: half of it to each side.
        ("CME_EQUITY", "2024-03-11 16:00", "2024-03-11", Segment::Off),
        ("CME_EQUITY", "2024-03-11 16:29", "2024-03-11", Segment::Off),
        ("CME_EQUITY", "2024-03-11 16:30", "2024-03-12", Segment::Off),
        // Over a weekend the next session begins an hour after the close.
        ("CME_EQUITY", "2024-03-08 16:59", "2024-03-08", Segment::Off),
        ("CME_EQUITY", "2024-03-08 17:00", "2024-03-11", Segment::Off),
        ("CME_EQUITY", "2013-10-07 15:20", "2013-10-07", Segment::Off),
        ("CME_METALS", "2013-10-07 17:14", "2013-10-07", Segment::Post),
        ("CME_METALS", "2013-10-07 17:15", "2013-10-07", Segment::Off),
        ("CME_METALS", "2013-10-07 18:00", "2013-10-08", Segment::On),
        ("XNYS", "2024-03-11 20:30", "2024-03-11", Segment::Off),
        ("XNYS", "2024-03-11 21:00", "2024-03-12", Segment::Off),
        ("XNYS", "2024-03-10 12:00", "2024-03-11", Segment::Off),
        ("XHKG", "2024-03-04 12:30", "2024-03-04", Segment::Off),
        // An hour after the closing auction.
        ("XLON", "2024-03-04 17:39", "2024-03-04", Segment::Off),
        ("XLON", "2024-03-04 17:40", "2024-03-05", Segment::Off),
    ] {
        let calendar = calendar(id);
        let ts = at(&calendar, instant);
        assert_eq!((calendar.trade_date(ts), calendar.segment(ts)), (Ok(date(day)), Ok(segment)), "{id} {instant}");
    }
}

#[test]
fn bars_are_anchored_at_each_open_and_cut_at_each_close() {
    for (id, day, timeframe, segments, expected) in [
        ("XHKG", "2024-03-04", "1h", "RTH", "09:30 10:30 11:30 13:00 14:00 15:00"),
        ("CME_EQUITY", "2024-03-12", "4h", "ETH", "17:00 21:00 01:00 05:00 09:00 13:00"),
        ("CME_EQUITY", "2024-03-12", "1h", "RTH", "08:30 09:30 10:30 11:30 12:30 13:30 14:30"),
        ("CME_EQUITY", "2014-03-11", "4h", "ETH", "17:00 21:00 01:00 05:00 09:00 13:00 15:30"),
        ("XNYS", "2024-11-29", "90m", "RTH", "09:30 11:00 12:30"),
        // An equity's segments have their own grids; the selection as a whole moves nothing.
        ("XNYS", "2024-03-11", "4h", "ETH", "04:00 08:00 09:30 13:30 16:00"),
        ("XNYS", "2024-03-11", "65m", "RTH", "09:30 10:35 11:40 12:45 13:50 14:55"),
        ("XNYS", "2024-03-11", "1d", "RTH", "09:30"),
        ("24/7", "2024-03-10", "6h", "ETH", "00:00 06:00 12:00 18:00"),
    ] {
        assert_eq!(opens(&calendar(id), day, timeframe, segments), expected, "{id} {day} {timeframe}");
    }
}

#[test]
fn weeks_months_and_runs_of_days_group_trade_dates() {
    let nyse = calendar("XNYS");
    for (timeframe, day, first, last) in [
        ("1w", "2024-03-27", "2024-03-25", "2024-03-28"), // Good Friday is closed
        ("1mo", "2024-03-30", "2024-03-01", "2024-03-28"),
        ("1q", "2024-05-15", "2024-04-01", "2024-06-28"),
        ("1y", "2024-05-15", "2024-01-02", "2024-12-31"),
        ("5d", "2024-01-02", "2024-01-02", "2024-01-08"),
        ("5d", "2024-01-08", "2024-01-02", "2024-01-08"),
        ("5d", "2024-01-09", "2024-01-09", "2024-01-16"),
        ("5d", "2024-01-15", "2024-01-09", "2024-01-16"), // a holiday, inside the group
        ("5d", "2024-12-31", "2024-12-30", "2024-12-31"), // 252 sessions leave two; the year ends the group
        ("1d", "2024-03-27", "2024-03-27", "2024-03-27"),
        ("1y", "1998-05-05", "1998-01-02", "1998-12-31"),
    ] {
        let found = group_of(&nyse, Timeframe::parse(timeframe).unwrap(), date(day)).unwrap();
        assert_eq!((found.0.to_string(), found.1.to_string()), (first.into(), last.into()), "{timeframe} {day}");
    }
    let ts = at(&nyse, "2024-03-27 12:00");
    let week = bucket_at(&nyse, Timeframe::Week, ts, Segments::RTH).unwrap().unwrap();
    let expected = Bucket {
        trade_date: date("2024-03-25"),
        open: at(&nyse, "2024-03-25 09:30"),
        close: at(&nyse, "2024-03-28 16:00"),
    };
    assert_eq!(week, expected);
    assert_eq!(bucket_at(&nyse, Timeframe::Week, at(&nyse, "2024-03-27 18:00"), Segments::RTH), Ok(None));
}

#[test]
fn auction_prints_belong_to_the_regular_hours() {
    let nyse = calendar("XNYS");
    let session = nyse.session(date("2024-03-11")).unwrap().unwrap();
    let place = |text: &str, flags: u32| session.place(at(&nyse, text), flags);
    assert_eq!(place("2024-03-11 16:00:03", flags::AUCTION_CLOSE), (Segment::Rth, Class::Close));
    assert_eq!(place("2024-03-11 16:00:03", 0), (Segment::Post, Class::Continuous));
    assert_eq!(place("2024-03-11 15:59:59", flags::AUCTION_CLOSE), (Segment::Rth, Class::Continuous));
    assert_eq!(place("2024-03-11 09:29:58", flags::AUCTION_OPEN), (Segment::Rth, Class::Open));
    assert_eq!(place("2024-03-11 09:29:58", 0), (Segment::Pre, Class::Continuous));
    assert_eq!(place("2024-03-11 09:30:01", flags::AUCTION_OPEN), (Segment::Rth, Class::Open));
    assert_eq!(place("2024-03-11 09:30:01", 0), (Segment::Rth, Class::Continuous));
    assert_eq!(place("2024-03-11 09:45:00", flags::AUCTION_OPEN), (Segment::Rth, Class::Continuous));
    assert_eq!(place("2024-03-11 16:00:03", flags::AUCTION_OPEN), (Segment::Post, Class::Continuous));

    // London declares its windows, so unflagged prints in them count too.
    let london = calendar("XLON");
    for (day, text, expected) in [
        ("2024-03-11", "2024-03-11 16:35:12", (Segment::Rth, Class::Close)),
        ("2024-03-11", "2024-03-11 16:40:00", (Segment::Off, Class::Continuous)),
        ("2024-03-11", "2024-03-11 07:59:59", (Segment::Rth, Class::Open)),
        ("2024-03-11", "2024-03-11 07:49:59", (Segment::Off, Class::Continuous)),
        ("2024-12-24", "2024-12-24 12:35:00", (Segment::Rth, Class::Close)),
        ("2024-12-24", "2024-12-24 16:35:00", (Segment::Off, Class::Continuous)),
    ] {
        let session = london.session(date(day)).unwrap().unwrap();
        assert_eq!(session.place(at(&london, text), 0), expected, "{text}");
    }

    // A session without regular hours has no auctions to belong to.
    let cme = calendar("CME_EQUITY");
    let payrolls = cme.session(date("2026-04-03")).unwrap().unwrap();
    let ts = at(&cme, "2026-04-03 08:00");
    assert_eq!(payrolls.place(ts, flags::AUCTION_CLOSE | flags::AUCTION_OPEN), (Segment::On, Class::Continuous));
}

#[test]
fn opens_and_closes_that_follow() {
    let hk = calendar("XHKG");
    let lunch = at(&hk, "2024-03-04 12:15");
    assert_eq!(wall(&hk, hk.next_open(lunch, Segments::RTH).unwrap()), "03-04 13:00");
    assert_eq!(wall(&hk, hk.next_close(lunch, Segments::RTH).unwrap()), "03-04 16:00");
    let nyse = calendar("XNYS");
    let open = at(&nyse, "2024-03-08 09:30");
    assert_eq!(nyse.is_open(open, Segments::RTH), Ok(true));
    assert_eq!(wall(&nyse, nyse.next_open(open, Segments::RTH).unwrap()), "03-11 09:30");
    // The whole session trades through its segments.
    assert_eq!(wall(&nyse, nyse.next_close(open, Segments::ETH).unwrap()), "03-08 20:00");
    assert_eq!(nyse.next_session(date("2024-12-24"), 1), Ok(date("2024-12-26")));
    assert_eq!(nyse.next_session(date("2024-12-25"), 0), Ok(date("2024-12-26")));
    assert_eq!(nyse.next_session(date("2024-12-25"), -1), Ok(date("2024-12-24")));
}

#[test]
fn beyond_the_known_range_reads_are_refused_and_writes_are_filed() {
    let nyse = calendar("XNYS");
    for error in [
        nyse.is_session(date("2028-01-03")).map(drop).unwrap_err(),
        nyse.session_at(at(&nyse, "2028-01-03 12:00")).map(drop).unwrap_err(),
        nyse.next_session(date("2027-12-31"), 1).map(drop).unwrap_err(),
        nyse.next_session(date("2024-01-02"), i32::MAX).map(drop).unwrap_err(),
        nyse.next_session(date("2024-01-02"), i32::MIN).map(drop).unwrap_err(),
        nyse.sessions(date("1997-01-01"), date("1998-01-05")).map(drop).unwrap_err(),
        nyse.next_open(at(&nyse, "2027-12-31 20:00"), Segments::RTH).map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::OutOfBounds);
        assert!(error.to_string().contains("1998-01-01 to 2027-12-31"), "{error}");
    }
    for (instant, day) in [
        ("2028-01-03 12:00", "2028-01-03"),
        ("2028-07-08 12:00", "2028-07-10"), // a Saturday
        ("1990-03-05 12:00", "1990-03-05"),
    ] {
        let filing = nyse.filing(at(&nyse, instant));
        assert_eq!((filing.trade_date, filing.projected), (date(day), true), "{instant}");
    }
    // The hours before the first known regime are that regime's.
    let metals = calendar("CME_METALS");
    assert_eq!(metals.filing(at(&metals, "2010-06-01 17:20")).trade_date, date("2010-06-01"));
    assert_eq!(metals.filing(at(&metals, "2010-06-01 17:50")).trade_date, date("2010-06-02"));
}

#[test]
fn a_calendar_answers_to_its_aliases_and_guesses_typos() {
    assert_eq!(calendar("NASDAQ").id(), "XNAS");
    assert_eq!(calendar("COMEX").id(), "CME_METALS");
    for (typo, meant) in [("XNSY", "XNYS"), ("cme_equity", "CME_EQUITY"), ("XLONN", "XLON"), ("24-7", "24/7")] {
        let error = Calendar::builtin(typo).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.hint(), format!("did you mean \"{meant}\"?"), "{typo}");
    }
    for id in Calendar::builtin_ids() {
        let calendar = calendar(id);
        assert_eq!(calendar.id(), *id);
        assert!(!calendar.name().is_empty() && !calendar.source().is_empty() && calendar.version() >= 1, "{id}");
    }
}

#[test]
fn a_day_around_the_clock_ends_where_it_is_asked_to() {
    let new_york = calendar("24/7@17:00 America/New_York");
    assert_eq!(new_york.id(), "24/7@17:00 America/New_York");
    assert_eq!(new_york.trade_date(at(&new_york, "2024-01-15 16:59")), Ok(date("2024-01-15")));
    assert_eq!(new_york.trade_date(at(&new_york, "2024-01-15 17:00")), Ok(date("2024-01-16")), "a Monday evening");
    assert_eq!(new_york.trade_date(at(&new_york, "2024-01-13 12:00")), Ok(date("2024-01-13")), "a Saturday");
    // In the morning the boundary begins the day.
    let tokyo = calendar("24/7@08:00 Asia/Tokyo");
    assert_eq!(tokyo.trade_date(at(&tokyo, "2024-01-15 07:59")), Ok(date("2024-01-14")));
    assert_eq!(tokyo.trade_date(at(&tokyo, "2024-01-15 08:00")), Ok(date("2024-01-15")));
    let hours = |calendar: &Calendar, day: &str| {
        let session = calendar.session(date(day)).unwrap().unwrap();
        let (open, close) = (session.open(Segments::ETH).unwrap(), session.close(Segments::ETH).unwrap());
        assert_eq!((session.from, session.till), (open, close), "nothing lies between two days");
        (close - open) / 3_600_000_000_000
    };
    assert_eq!(hours(&new_york, "2024-03-10"), 23, "the clocks go forward");
    assert_eq!(hours(&new_york, "2024-11-03"), 25, "the clocks go back");
    assert_eq!(hours(&tokyo, "2024-03-10"), 24);
    // UTC midnight is the shipped calendar's boundary.
    let utc = calendar("24/7@00:00 UTC");
    assert_eq!(utc.changes(&calendar("24/7")).count(), 0);
    assert_eq!(Calendar::from_toml(new_york.toml()).unwrap().changes(&new_york).count(), 0);
}

#[test]
fn a_day_boundary_that_cannot_be_read_is_named_with_an_example() {
    for (name, reason) in [
        ("24/7@", "use a time and an IANA time zone"),
        ("24/7@17:00", "use a time and an IANA time zone"),
        ("24/7@noon America/New_York", "use a time from 00:00 to 23:59"),
        ("24/7@24:00 UTC", "use a time from 00:00 to 23:59"),
        ("24/7@+1:00 UTC", "use a time from 00:00 to 23:59"),
        ("24/7@5:00 UTC", "use a time from 00:00 to 23:59"),
        ("24/7@17:00 America/NewYork", "did you mean \"America/New_York\"?"),
        ("24/7@17:00 ", "use an IANA time zone"),
    ] {
        let error = Calendar::builtin(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        let text = format!("{error} {}", error.hint());
        assert!(text.contains(reason) && text.contains("\"24/7@17:00 America/New_York\""), "{name}: {text}");
    }
}
