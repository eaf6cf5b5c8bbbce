//! The Americas as exchange notices and newspapers of the day tell it: each row names its source.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use chrono::DateTime;
use chrono_tz::Tz;
use market::{Calendar, Segment, TradeDate};

fn date(text: &str) -> TradeDate {
    TradeDate::parse(text).unwrap()
}

/// `ON 17:00-1d-08:30 RTH 08:30-15:00 | auctions 09:45 18:00 | clears 2017-01-17`: the spans on the wall clock of the trade date,
/// auctions only where there are any, the clearing date if it is another.
fn day(id: &str, day: &str) -> String {
    let calendar = Calendar::builtin(id).unwrap();
    let zone: Tz = calendar.time_zone().parse().unwrap();
    let Some(session) = calendar.session(date(day)).unwrap() else { return "closed".into() };
    let clock = |ts: i64| {
        let local = DateTime::from_timestamp_nanos(ts).with_timezone(&zone);
        let days = (local.date_naive() - session.trade_date.date()).num_days();
        if days == 0 { local.format("%H:%M").to_string() } else { format!("{}{days:+}d", local.format("%H:%M")) }
    };
    let mut text: Vec<String> =
        session.spans.iter().map(|s| format!("{} {}-{}", s.segment, clock(s.open), clock(s.close))).collect();
    let mut regular = session.spans.iter().filter(|span| span.segment == Segment::Rth);
    if let Some(open) = regular.next() {
        let close = regular.next_back().unwrap_or(open).close;
        if session.open_auction_from < open.open {
            text.insert(0, format!("opening {}", clock(session.open_auction_from)));
        }
        if session.close_auction_until > close {
            text.push(format!("closing {}", clock(session.close_auction_until)));
        }
    }
    if session.clearing_date != session.trade_date {
        text.push(format!("clears {}", session.clearing_date));
    }
    text.join(" ")
}

fn check(rows: &[(&str, &str, &str, &str)]) {
    for (id, on, expected, source) in rows {
        assert_eq!(day(id, on), *expected, "{id} {on}: {source}");
    }
}

#[test]
fn sao_paulo_follows_two_clocks() {
    check(&[
        ("BVMF", "2003-10-17", "opening 09:45 RTH 10:00-17:00", "Exame: the normal hours are 10 to 17"),
        ("BVMF", "2003-10-20", "opening 10:45 RTH 11:00-18:00 POST 18:45-19:30", "Estadao, 2003-10-07"),
        (
            "BVMF",
            "2011-02-21",
            "opening 10:45 RTH 11:00-18:00 POST 18:45-19:30",
            "Exame: Brazil's summer is over, hours unchanged",
        ),
        ("BVMF", "2011-10-17", "opening 10:45 RTH 11:00-18:00 POST 18:45-19:30", "G1, October 2011"),
        ("BVMF", "2012-03-12", "opening 09:45 RTH 10:00-17:00 POST 17:45-19:00", "Exame, 2012-03-09"),
        (
            "BVMF",
            "2017-03-10",
            "opening 09:45 RTH 10:00-18:00",
            "InfoMoney: until 13 March 10 to 18, without after-market",
        ),
        ("BVMF", "2017-03-13", "opening 09:45 RTH 10:00-17:00 POST 17:30-18:00", "Reuters, 2017-02-03; InfoMoney"),
        ("BVMF", "2017-10-16", "opening 09:45 RTH 10:00-18:00", "Diario Catarinense, September 2017: from 16 October"),
        ("BVMF", "2018-03-12", "opening 09:45 RTH 10:00-17:00 POST 17:30-18:00", "Valor, March 2018"),
        ("BVMF", "2020-03-09", "opening 09:45 RTH 10:00-17:00 POST 17:30-18:00", "Estadao, 2020-03-04"),
        ("BVMF", "2020-11-03", "opening 09:45 RTH 10:00-17:55 closing 18:00", "B3's table (InvestNews)"),
        ("BVMF", "2025-11-03", "opening 09:45 RTH 10:00-17:55 closing 18:00", "Boletim Nacional, 2025-10-31"),
        ("BVMF", "2026-02-18", "opening 12:45 RTH 13:00-17:55 closing 18:00", "B3 on Ash Wednesday (TNOnline)"),
        (
            "BVMF",
            "2020-11-20",
            "opening 09:45 RTH 10:00-17:55 closing 18:00",
            "CNN Brasil: open although a holiday in the city",
        ),
        ("BVMF", "2014-06-12", "closed", "the World Cup began in Sao Paulo"),
    ]);
}

#[test]
fn spanish_america_keeps_new_york_hours() {
    check(&[
        ("XMEX", "2011-10-28", "RTH 08:30-15:00", "both clocks in summer"),
        ("XMEX", "2011-10-31", "RTH 07:30-14:00", "Cancun Activo: 31 October to 4 November"),
        ("XMEX", "2011-11-07", "RTH 08:30-15:00", "both clocks in winter"),
        ("XMEX", "2023-03-13", "RTH 07:30-14:00", "El CEO: from 13 March to 3 November"),
        ("XMEX", "2023-11-03", "RTH 07:30-14:00", "El CEO: from 13 March to 3 November"),
        ("XMEX", "2025-11-03", "RTH 08:30-15:00", "Expansion, 2025-10-31"),
        (
            "XBOG",
            "2022-03-14",
            "opening 09:15 RTH 09:30-15:55 closing 16:00",
            "El Tiempo: 8:30 to 2:55 and 3:00 in Bogota",
        ),
        ("XBOG", "2019-12-24", "opening 09:15 RTH 09:30-12:55 closing 13:00", "La Republica, 2019-12-10"),
        ("XBOG", "2019-12-31", "closed", "La Republica, 2019-12-10: a business day without trading"),
        ("XLIM", "2025-03-07", "opening 09:00 RTH 09:30-16:00 closing 16:10", "Gestion, March 2025: 4 pm until March"),
        ("XLIM", "2025-03-10", "opening 08:20 RTH 08:30-15:00 closing 15:10", "Gestion, March 2025: 3 pm from March"),
        ("XSGO", "2025-12-30", "RTH 09:30-13:00", "nuam (El Comercio)"),
        ("XSGO", "2025-12-31", "closed", "nuam (El Comercio): bank holiday"),
        ("XBUE", "2024-12-24", "RTH 11:00-15:00", "BYMA (Ambito, 2024-12-13)"),
        ("XBUE", "2024-12-31", "closed", "BYMA (Ambito, 2024-12-13)"),
        ("XBUE", "2025-10-10", "closed", "Primer Plano: moved from the 12th"),
        ("XBUE", "2025-10-13", "RTH 10:30-17:00", "Primer Plano: moved from the 12th"),
        ("XBUE", "2020-06-15", "closed", "El Popular: Guemes Day"),
        ("XBUE", "2026-11-23", "closed", "Yatecuento: National Sovereignty"),
    ]);
}

#[test]
fn toronto_has_auctions_and_an_extended_session() {
    check(&[
        ("XTSE", "2024-06-14", "opening 07:00 RTH 09:30-16:00 POST 16:15-17:00 closing 16:10", "TSX order types guide"),
        (
            "XTSE",
            "2024-06-17",
            "opening 07:00 RTH 09:30-16:00 POST 16:15-17:00 closing 16:10",
            "no Juneteenth in Canada",
        ),
        ("XTSE", "2023-05-22", "closed", "Victoria Day"),
    ]);
}

#[test]
fn vix_futures_grew_around_the_clock() {
    check(&[
        ("XCBF", "2011-09-23", "RTH 08:30-15:15", "the first extended hours' day is not known"),
        ("XCBF", "2011-09-26", "ON 07:00-08:30 RTH 08:30-15:15", "Cboe options hub, 2011-09-13"),
        ("XCBF", "2013-10-29", "ON 15:30-1d-16:15-1d ON 07:00-08:30 RTH 08:30-15:15", "CFE: phase one of 2013-10-28"),
        ("XCBF", "2013-11-04", "ON 02:00-08:30 RTH 08:30-15:15", "CFE: phase two; Mondays have no evening before"),
        ("XCBF", "2013-11-05", "ON 15:30-1d-16:15-1d ON 02:00-08:30 RTH 08:30-15:15", "CFE: phase two"),
        ("XCBF", "2014-02-18", "ON 02:00-08:30 RTH 08:30-15:15", "no evening on Presidents' Day"),
        ("XCBF", "2014-06-23", "ON 17:00-1d-08:30 RTH 08:30-15:15", "CFE-2014-010"),
        ("XCBF", "2014-06-24", "ON 15:30-1d-08:30 RTH 08:30-15:15", "CFE-2014-010"),
        ("XCBF", "2015-02-16", "ON 17:00-1d-08:30 RTH 08:30-10:30 clears 2015-02-17", "Cboe options hub, 2015-02-10"),
        ("XCBF", "2015-02-17", "ON 17:00-1d-08:30 RTH 08:30-15:15", "Cboe options hub, 2015-02-10"),
        ("XCBF", "2015-04-03", "ON 15:30-1d-08:15 clears 2015-04-06", "Cboe options hub, 2015-03-26"),
        ("XCBF", "2017-01-16", "ON 17:00-1d-08:30 RTH 08:30-10:30 clears 2017-01-17", "CBOE Holdings (Mondo Visione)"),
        ("XCBF", "2017-01-17", "ON 17:00-1d-08:30 RTH 08:30-15:15", "CBOE Holdings (Mondo Visione)"),
        ("XCBF", "2018-02-27", "ON 17:00-1d-08:30 RTH 08:30-15:15 POST 15:30-16:00", "Cboe, extended trading hours"),
        ("XCBF", "2020-10-26", "ON 17:00-1d-08:30 RTH 08:30-15:00 POST 15:00-16:00", "Cboe C2020092202"),
        ("XCBF", "2025-01-09", "ON 17:00-1d-08:30 clears 2025-01-10", "Cboe, 2024-12-30: closed for the regular hours"),
    ]);
}

#[test]
fn index_options_trade_at_night_and_after_the_close() {
    check(&[
        ("CBOE_INDEX_OPTIONS", "2015-06-16", "ON 02:00-08:15 RTH 08:30-15:15", "Cboe options hub, 2015-06-16"),
        (
            "CBOE_INDEX_OPTIONS",
            "2021-11-22",
            "ON 19:15-1d-08:15 RTH 08:30-15:15",
            "SR-CBOE-2021-068: 20:15 to 09:15 New York",
        ),
        ("CBOE_INDEX_OPTIONS", "2022-04-22", "ON 19:15-1d-08:15 RTH 08:30-15:15", "Cboe: curb from 25 April"),
        (
            "CBOE_INDEX_OPTIONS",
            "2022-04-25",
            "ON 19:15-1d-08:15 RTH 08:30-15:15 POST 15:15-16:00",
            "Cboe: curb from 25 April",
        ),
        ("CBOE_INDEX_OPTIONS", "2025-01-09", "ON 19:15-1d-08:15", "Cboe, 2024-12-30: global trading hours open"),
        ("CBOE_INDEX_OPTIONS", "2018-12-05", "closed", "Cboe, 2018-12-01"),
    ]);
}

#[test]
fn bonds_close_as_sifma_recommends() {
    check(&[
        ("SIFMA_US", "2010-04-02", "RTH 07:00-12:00", "SIFMA, 2010 recommendations (Mondo Visione)"),
        ("SIFMA_US", "2010-12-31", "RTH 07:00-17:30", "SIFMA, 2010 recommendations (Mondo Visione)"),
        ("SIFMA_US", "2012-04-06", "RTH 07:00-12:00", "SIFMA, 2012-03-21"),
        ("SIFMA_US", "2012-10-29", "RTH 07:00-12:00", "SIFMA, 2012-10-28"),
        ("SIFMA_US", "2012-10-30", "closed", "SIFMA, 2012-10-29"),
        ("SIFMA_US", "2015-02-16", "closed", "SIFMA, 2015-02-11"),
        ("SIFMA_US", "2015-04-03", "RTH 07:00-12:00", "SIFMA, 2015-03-09"),
        ("SIFMA_US", "2018-12-05", "closed", "SIFMA, 2018-12-01"),
        ("SIFMA_US", "2025-01-09", "RTH 07:00-14:00", "SIFMA, 2024-12-30"),
        ("SIFMA_US", "2025-12-31", "RTH 07:00-14:00", "SIFMA, 2025-12-12"),
        ("SIFMA_US", "2026-04-03", "RTH 07:00-12:00", "SIFMA, 2026-03-20"),
    ]);
}

#[test]
fn new_yorks_venues_have_hours_of_their_own() {
    check(&[
        (
            "XNAS",
            "2013-03-15",
            "PRE 07:00-09:30 RTH 09:30-16:00 POST 16:00-20:00",
            "Wall Street & Technology, February 2013",
        ),
        (
            "XNAS",
            "2013-03-18",
            "PRE 04:00-09:30 RTH 09:30-16:00 POST 16:00-20:00",
            "Nasdaq's trader alert of 2013-02-12",
        ),
        ("IEXG", "2013-10-25", "RTH 09:30-16:00", "IEX trading alert 2013-001"),
        ("IEXG", "2015-08-21", "PRE 08:00-09:30 RTH 09:30-16:00 POST 16:00-17:00", "IEX trading alert 2015-015"),
        ("24X", "2026-06-15", "PRE 04:00-09:30 RTH 09:30-16:00 POST 16:00-20:00", "24X, frequently asked questions"),
        ("OTC", "2024-06-14", "PRE 06:00-09:30 RTH 09:30-16:00 POST 16:00-17:00", "Futu, US market hours"),
    ]);
    // No exchange trades overnight yet, so no calendar says so.
    for id in ["XNYS", "XNAS", "24X"] {
        let calendar = Calendar::builtin(id).unwrap();
        let all = calendar.sessions(calendar.known().0, calendar.known().1).unwrap();
        assert!(all.flat_map(|session| session.spans).all(|span| span.segment != Segment::On), "{id}");
    }
}

#[test]
fn ice_opens_softs_later_while_only_new_york_has_summer() {
    check(&[
        ("ICE_US_SUGAR", "2014-03-10", "RTH 04:30-13:00", "Reuters, 2014-02-14: 10 to 28 March at 4:30"),
        ("ICE_US_SUGAR", "2014-03-28", "RTH 04:30-13:00", "Reuters, 2014-02-14: 10 to 28 March at 4:30"),
        ("ICE_US_SUGAR", "2014-03-31", "RTH 03:30-13:00", "Reuters, 2014-02-14: rather than the usual 3:30"),
        ("ICE_US_COFFEE", "2016-03-24", "RTH 05:15-13:30", "Comunicaffe: to and including 24 March"),
        ("ICE_US_COFFEE", "2016-03-25", "closed", "Comunicaffe: Good Friday"),
        ("ICE_US_COCOA", "2017-10-30", "RTH 05:45-13:30", "Phillip Futures: 30 October to 3 November"),
        ("ICE_US_COCOA", "2017-11-06", "RTH 04:45-13:30", "Phillip Futures: until 3 November"),
        ("ICE_US_COCOA", "2025-01-20", "closed", "ICE's holiday calendar of 2024-07-05"),
        ("ICE_US", "2025-01-20", "RTH 18:00-1d-13:00 clears 2025-01-21", "ICE's holiday calendar of 2024-07-05: open"),
        ("ICE_US", "2025-04-18", "closed", "ICE's holiday calendar of 2024-07-05"),
        ("ICE_US", "2025-10-13", "RTH 18:00-1d-17:00", "ICE's holiday calendar of 2024-07-05: open"),
        ("ICE_US", "2025-06-19", "RTH 20:00-1d-13:00 clears 2025-06-20", "ICE's holiday calendar of 2024-07-05: open"),
    ]);
}
