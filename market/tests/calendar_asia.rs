//! Days of Asia and the Pacific that notices and newspapers tell of: night sessions, halves of days, evenings and weekends.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use chrono::DateTime;
use chrono_tz::Tz;
use market::block::Core;
use market::{Calendar, Class, Segment, Segments, Session, SessionFold, Timeframe, Trade, TradeDate, Trades};

fn date(text: &str) -> TradeDate {
    TradeDate::parse(text).unwrap()
}

/// `ON 03-10 17:00-03-11 08:30, RTH ...` on the exchange's wall clock.
fn spans(calendar: &Calendar, session: &Session<'_>) -> String {
    let zone: Tz = calendar.time_zone().parse().unwrap();
    let wall = |ts| DateTime::from_timestamp_nanos(ts).with_timezone(&zone).format("%m-%d %H:%M").to_string();
    let span = |s: market::Span| format!("{} {}-{}", s.segment, wall(s.open), &wall(s.close)[6..]);
    session.spans.iter().map(span).collect::<Vec<_>>().join(", ")
}

fn check(rows: &[(&str, &str, &str)]) {
    for (id, day, expected) in rows {
        let calendar = Calendar::builtin(id).unwrap();
        let session = calendar.session(date(day)).unwrap().unwrap_or_else(|| panic!("{id} {day}"));
        assert_eq!(spans(&calendar, &session), *expected, "{id} {day}");
    }
}

/// SHFE notice for 20 December 2013; DCE notice 238 of 2018; ZCE notices 128 of 2015 and 503 of 2018.
#[test]
fn chinese_nights_belong_to_the_next_session_and_none_precedes_a_holiday() {
    const DAY: &str = "RTH 09:00-10:15, RTH 10:30-11:30, RTH 13:30-15:00";
    let day = |day: &str| DAY.replace("RTH ", &format!("RTH {day} "));
    for (id, trade_date, night) in [
        ("XSGE_METALS", "2013-12-20", ""),
        ("XSGE_METALS", "2013-12-23", "ON 12-20 21:00-01:00, "), // Friday night is Monday's
        ("XSGE_GOLD", "2024-09-30", "ON 09-27 21:00-02:30, "),
        ("XSGE_GOLD", "2024-10-08", ""),
        ("XDCE", "2015-05-08", "ON 05-07 21:00-02:30, "), // DCE notice 114 of 2015: from the night of 8 May until 23:30
        ("XDCE", "2015-05-11", "ON 05-08 21:00-23:30, "),
        ("XDCE", "2018-06-15", "ON 06-14 21:00-23:30, "),
        ("XDCE", "2018-06-19", ""),
        ("XDCE", "2018-06-20", "ON 06-19 21:00-23:30, "),
        ("XZCE", "2015-06-19", "ON 06-18 21:00-23:30, "),
        ("XZCE", "2015-06-23", ""),
        ("XZCE", "2019-01-02", ""),
        ("XZCE", "2019-01-03", "ON 01-02 21:00-23:30, "),
        ("XINE", "2018-03-26", ""), // the day of listing
        ("XINE", "2018-03-27", "ON 03-26 21:00-02:30, "),
        ("XSGE_STEEL", "2020-01-23", "ON 01-22 21:00-23:00, "),
        ("XSGE_STEEL", "2020-02-03", ""), // after the holiday; nights are suspended from that evening on
        ("XSGE_STEEL", "2020-03-10", ""),
        ("XSGE_STEEL", "2020-05-06", ""),
        ("XSGE_STEEL", "2020-05-07", "ON 05-06 21:00-23:00, "), // resumed on the evening of 6 May
    ] {
        check(&[(id, trade_date, &format!("{night}{}", day(&trade_date[5..])))]);
    }
    let calendar = Calendar::builtin("XSGE_METALS").unwrap();
    // Saturday 21 December 2013, 00:30 in Shanghai.
    let saturday = 1_387_557_000_000_000_000;
    assert_eq!(calendar.trade_date(saturday), Ok(date("2013-12-23")));
    assert_eq!(calendar.segment(saturday), Ok(Segment::On));
}

/// Histories of the Nikkei 225 future (orange2.net), and JPX on trading days.
#[test]
fn osaka_nights_belong_to_the_next_session_whatever_lies_between() {
    check(&[
        ("XOSE", "2010-07-20", "ON 07-16 16:30-20:00, RTH 07-20 09:00-11:00, RTH 07-20 12:30-15:10"),
        ("XOSE", "2010-07-21", "ON 07-20 16:30-23:30, RTH 07-21 09:00-11:00, RTH 07-21 12:30-15:10"),
        ("XOSE", "2011-02-14", "ON 02-10 16:30-23:30, RTH 02-14 09:00-15:15"),
        ("XOSE", "2011-07-20", "ON 07-19 16:30-03:00, RTH 07-20 09:00-15:15"),
        ("XOSE", "2016-07-19", "ON 07-15 16:30-03:00, RTH 07-19 08:45-15:15"),
        ("XOSE", "2016-07-20", "ON 07-19 16:30-05:30, RTH 07-20 08:45-15:15"),
        ("XOSE", "2024-11-05", "ON 11-01 16:30-06:00, RTH 11-05 08:45-15:45"),
        ("XOSE", "2024-11-06", "ON 11-05 17:00-06:00, RTH 11-06 08:45-15:45"),
        // Holiday trading on Friday 23 September 2022, the first.
        ("XOSE", "2022-09-23", "ON 09-22 16:30-06:00, RTH 09-23 08:45-15:15"),
        ("XOSE", "2022-09-26", "ON 09-23 16:30-06:00, RTH 09-26 08:45-15:15"),
    ]);
    let calendar = Calendar::builtin("XOSE").unwrap();
    let clearing = |day: &str| calendar.session(date(day)).unwrap().unwrap().clearing_date.to_string();
    assert_eq!(clearing("2022-09-23"), "2022-09-26");
    assert_eq!((clearing("2023-05-03"), clearing("2023-05-05")), ("2023-05-08".into(), "2023-05-08".into()));
    // JPX, 2023-12-29: the night session of that day is of the trading day 4 January, as is holiday trading on the 3rd.
    let session = calendar.session(date("2024-01-03")).unwrap().unwrap();
    assert_eq!(spans(&calendar, &session), "ON 12-29 16:30-06:00, RTH 01-03 08:45-15:15");
    assert_eq!(session.clearing_date.to_string(), "2024-01-04");
    // Its machines ran when Tokyo's stock market stood still.
    assert_eq!(calendar.is_session(date("2020-10-01")), Ok(true));
    assert_eq!(Calendar::builtin("XTKS").unwrap().is_session(date("2020-10-01")), Ok(false));
}

/// HKEX news of 2014-10-29, 2017-10-12 and 2019-05-20; TAIFEX on its after-hours session.
#[test]
fn after_hours_trading_of_hong_kong_and_taipei_is_the_next_sessions() {
    check(&[
        ("XHKF", "2014-11-03", "ON 10-31 17:00-23:00, RTH 11-03 09:15-12:00, RTH 11-03 13:00-16:15"),
        ("XHKF", "2014-11-04", "ON 11-03 17:00-23:45, RTH 11-04 09:15-12:00, RTH 11-04 13:00-16:15"),
        ("XHKF", "2017-11-07", "ON 11-06 17:15-01:00, RTH 11-07 09:15-12:00, RTH 11-07 13:00-16:30"),
        ("XHKF", "2019-06-18", "ON 06-17 17:15-03:00, RTH 06-18 09:15-12:00, RTH 06-18 13:00-16:30"),
        ("XHKF", "2024-12-24", "ON 12-23 17:15-03:00, RTH 12-24 09:15-12:30"),
        ("XHKF", "2024-12-27", "RTH 12-27 09:15-12:00, RTH 12-27 13:00-16:30"),
        ("XTAF", "2017-05-15", "RTH 05-15 08:45-13:45"),
        ("XTAF", "2017-05-16", "ON 05-15 15:00-05:00, RTH 05-16 08:45-13:45"),
        // A Saturday worked, and the Monday after it.
        ("XTAF", "2018-03-31", "ON 03-30 15:00-05:00, RTH 03-31 08:45-13:45"),
        ("XTAF", "2018-04-02", "ON 03-31 15:00-05:00, RTH 04-02 08:45-13:45"),
    ]);
}

/// NSE and BSE circulars as newspapers quote them.
#[test]
fn india_trades_an_hour_on_diwali_and_whole_days_on_some_weekends() {
    check(&[
        ("XNSE", "2012-11-13", "RTH 11-13 15:45-17:00"),
        ("XNSE", "2023-11-12", "RTH 11-12 18:15-19:15, POST 11-12 19:25-19:35"),
        ("XNSE", "2024-11-01", "RTH 11-01 18:00-19:00, POST 11-01 19:10-19:20"),
        ("XBOM", "2025-10-21", "RTH 10-21 13:45-14:45, POST 10-21 14:55-15:05"),
        ("XBOM", "2024-03-02", "RTH 03-02 09:15-10:00, RTH 03-02 11:30-12:30, POST 03-02 12:40-12:50"),
        ("XNSE", "2026-02-01", "RTH 02-01 09:15-15:30, POST 02-01 15:40-16:00"), // a Sunday, the budget
        ("XBOM", "2009-12-31", "RTH 12-31 09:55-15:30"),
        ("XBOM", "2010-01-04", "RTH 01-04 09:00-15:30"),
    ]);
    for id in ["XNSE", "XBOM"] {
        let calendar = Calendar::builtin(id).unwrap();
        for (day, open) in [("2013-11-14", true), ("2013-11-15", false), ("2020-05-25", false), ("2020-07-31", true)] {
            assert_eq!(calendar.is_session(date(day)), Ok(open), "{id} {day}");
        }
        // The evening of Sunday 12 November 2023 is a session of its own.
        let sunday = 1_699_793_100_000_000_000; // 18:15 in Mumbai
        assert_eq!(calendar.trade_date(sunday), Ok(date("2023-11-12")));
        assert_eq!(calendar.is_open(sunday, Segments::RTH), Ok(true));
    }
}

/// Newspapers on each day; the exchanges' own phases.
#[test]
fn late_opens_half_days_and_lunch_breaks() {
    check(&[
        ("XKRX", "2023-11-16", "PRE 11-16 09:30-09:40, RTH 11-16 10:00-16:30, POST 11-16 16:40-18:00"), // Etoday
        ("XKRX", "2009-11-12", "PRE 11-12 08:30-09:30, RTH 11-12 10:00-16:00, POST 11-12 16:10-18:00"), // JoongAng Ilbo
        ("XKRX", "2000-05-19", "RTH 05-19 09:00-12:00, RTH 05-19 13:00-15:00"),
        ("XSES", "2011-07-29", "RTH 07-29 09:00-12:30, RTH 07-29 14:00-17:00"),
        ("XSES", "2011-08-01", "RTH 08-01 09:00-17:00"),
        ("XSES", "2017-11-13", "RTH 11-13 09:00-12:00, RTH 11-13 13:00-17:00"),
        ("XASX", "2025-12-24", "RTH 12-24 10:00-14:00, POST 12-24 14:11-14:22"),
        ("XIDX", "2023-03-31", "RTH 03-31 09:00-11:30, RTH 03-31 13:30-14:50, POST 03-31 15:05-15:15"), // Kontan
        ("XIDX", "2023-04-06", "RTH 04-06 09:00-12:00, RTH 04-06 13:30-15:50, POST 04-06 16:01-16:15"),
        ("XBKK", "2024-03-25", "RTH 03-25 10:00-12:30, RTH 03-25 14:00-16:30, POST 03-25 16:40-17:00"), // Bangkok Post
        ("XPHS", "2022-02-28", "RTH 02-28 09:30-13:00"),                                                // ABS-CBN
        ("XPHS", "2022-03-01", "RTH 03-01 09:30-12:00, RTH 03-01 13:00-15:00"),
        ("XNZE", "2003-06-27", "RTH 06-27 09:00-16:00"), // Mondo Visione
    ]);
    for (id, day, reason) in [
        ("XTAI", "2024-10-31", "typhoon Kong-rey"),
        ("XKRX", "2020-08-17", "one day by decree"),
        ("XKRX", "2026-06-03", "election"),
        ("XASX", "2022-09-22", "mourning for Elizabeth II"),
        ("XIDX", "2026-03-24", "Idul Fitri"),
        ("XNSE", "2024-01-22", "consecration in Ayodhya"),
    ] {
        assert_eq!(Calendar::builtin(id).unwrap().closure(date(day)), Ok(Some(reason)), "{id} {day}");
    }
}

/// The exchange's FAQ: there are two opening and two closing auctions each day; the call at midday prints at 11:30:00 and after.
#[test]
fn tokyos_midday_call_is_in_the_last_bar_of_the_morning() {
    let calendar = Calendar::builtin("XTKS").unwrap();
    let session = calendar.session(date("2025-03-05")).unwrap().unwrap();
    let noon = 1_741_143_600_000_000_000; // 12:00 in Tokyo
    let at = |minutes: i64, seconds: i64| noon + (minutes * 60 + seconds) * 1_000_000_000;
    let place = |ts| session.place(ts, 0);
    assert_eq!(place(at(-30, -1)), (Segment::Rth, Class::Continuous));
    assert_eq!(place(at(-30, 0)), (Segment::Rth, Class::Break));
    assert_eq!(place(at(-25, -1)), (Segment::Rth, Class::Break));
    assert_eq!(place(at(-25, 0)), (Segment::Off, Class::Continuous));
    assert_eq!(place(at(30, 0)), (Segment::Rth, Class::Continuous)); // the second opening call
    assert_eq!(place(at(210, 4)), (Segment::Rth, Class::Close)); // 15:30:04
    // Three prints: before the call, the call, the afternoon's first.
    let trades: Trades = [(at(-30, -5), 100), (at(-30, 0), 90), (at(30, 0), 95)]
        .map(|(ts, price)| Trade { ts, price, size: 1, ..Trade::default() })
        .into_iter()
        .collect();
    let mut page = Core::new();
    page.set(&trades, 0..trades.len());
    let bars = |timeframe: &str| {
        let mut fold = SessionFold::new(&session, Timeframe::parse(timeframe).unwrap(), Segments::RTH);
        fold.push_core(&page);
        let mut bars = Vec::new();
        fold.finish(&mut bars);
        bars.iter()
            .map(|b| ((b.open_at - noon) / 60_000_000_000, b.bar.low, b.bar.close, b.bar.trades))
            .collect::<Vec<_>>()
    };
    assert_eq!(bars("1m"), [(-31, 90, 90, 2), (30, 95, 95, 1)]);
    assert_eq!(bars("1h"), [(-60, 90, 90, 2), (30, 95, 95, 1)]);
    assert_eq!(bars("1d"), [(-180, 90, 95, 3)]);
    // Until November 2011 the morning ended at 11:00; a half day has no break and so no such call.
    let before = calendar.session(date("2011-11-18")).unwrap().unwrap();
    assert_eq!(before.place(1_321_581_602_000_000_000, 0), (Segment::Rth, Class::Break)); // 11:00:02
    let half = calendar.session(date("2009-01-05")).unwrap().unwrap();
    assert_eq!(half.place(1_231_120_802_000_000_000, 0), (Segment::Rth, Class::Close)); // 11:00:02
}

/// HKEX news of 2007-10-31, 2008-05-19 and 2009-03-12; its page on the auction of 2016; Guotai Junan on half days.
#[test]
fn hong_kongs_auctions_came_went_and_came_back() {
    let calendar = Calendar::builtin("XHKG").unwrap();
    let zone: Tz = "Asia/Hong_Kong".parse().unwrap();
    let wall = |ts| DateTime::from_timestamp_nanos(ts).with_timezone(&zone).format("%H:%M").to_string();
    for (day, open_auction_from, close_auction_until) in [
        ("2002-03-22", "10:00", "16:00"),
        ("2002-03-25", "09:30", "16:00"),
        ("2008-05-23", "09:30", "16:00"),
        ("2008-05-26", "09:30", "16:10"),
        ("2008-12-24", "09:30", "12:40"),
        ("2009-03-20", "09:30", "16:10"),
        ("2009-03-23", "09:30", "16:00"),
        ("2016-07-22", "09:00", "16:00"),
        ("2016-07-25", "09:00", "16:10"),
        ("2024-12-24", "09:00", "12:10"),
    ] {
        let session = calendar.session(date(day)).unwrap().unwrap();
        let auctions = (wall(session.open_auction_from), wall(session.close_auction_until));
        assert_eq!(auctions, (open_auction_from.into(), close_auction_until.into()), "{day}");
    }
}
