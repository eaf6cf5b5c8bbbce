//! Bars by clearing date: a holiday session and the business day it clears with are one day.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use chrono::{Datelike, Days};
use market::block::Core;
use market::ohlc::{Answer, Fill, OhlcRequest, SessionFold};
use market::{Calendar, Day, Segments, Timeframe, Trade, TradeDate, Trades, group_of};
use proptest::prelude::*;

fn date(text: &str) -> TradeDate {
    TradeDate::parse(text).unwrap()
}

/// The trade dates and clearing dates of a calendar.
fn cleared(calendar: &Calendar) -> Vec<(TradeDate, TradeDate)> {
    let (first, last) = calendar.known();
    calendar.sessions(first, last).unwrap().map(|session| (session.trade_date, session.clearing_date)).collect()
}

/// What tells two bars apart, by the clearing date alone; runs of days by their place among the year's clearing dates.
fn key(calendar: &Calendar, timeframe: Timeframe, cleared: &[(TradeDate, TradeDate)], clears: TradeDate) -> (i32, i64) {
    let civil = clears.date();
    match timeframe {
        Timeframe::Week => {
            let back = civil.weekday().days_since(calendar.week_start(clears));
            (0, i64::from((civil - Days::new(u64::from(back))).num_days_from_ce()))
        }
        Timeframe::Month => (civil.year(), i64::from(civil.month())),
        Timeframe::Quarter => (civil.year(), i64::from(civil.month0() / 3)),
        Timeframe::Year => (civil.year(), 0),
        Timeframe::Days(count) => {
            let mut days: Vec<_> = cleared.iter().map(|(_, clears)| *clears).collect();
            days.dedup();
            let before = days.iter().filter(|day| day.date().year() == civil.year() && **day < clears).count();
            (civil.year(), before as i64 / i64::from(count))
        }
        Timeframe::Intraday(_) => unreachable!("not asked for"),
    }
}

/// Calendars whose holiday sessions clear later, and one where none does.
const CALENDARS: [&str; 6] = ["CME_EQUITY", "CME_METALS", "CME_FX", "CME_RATES", "CME_CRYPTO", "XNYS"];

fn timeframe() -> impl Strategy<Value = Timeframe> {
    prop_oneof![
        (1..40u32).prop_map(Timeframe::Days),
        prop::sample::select(&[Timeframe::Week, Timeframe::Month, Timeframe::Quarter, Timeframe::Year][..]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_group_holds_the_sessions_of_its_clearing_dates(
        id in prop::sample::select(&CALENDARS[..]), timeframe in timeframe(), at in any::<prop::sample::Index>()
    ) {
        let calendar = Calendar::builtin(id).unwrap();
        let cleared = cleared(&calendar);
        let at = at.index(cleared.len());
        let key = |i: usize| key(&calendar, timeframe, &cleared, cleared[i].1);
        let mut first = at;
        while first > 0 && key(first - 1) == key(at) {
            first -= 1;
        }
        let mut last = at;
        while last + 1 < cleared.len() && key(last + 1) == key(at) {
            last += 1;
        }
        let group = Day::Clearing.group_of(&calendar, timeframe, cleared[at].0).unwrap();
        prop_assert_eq!(group, (cleared[first].0, cleared[last].0));
        prop_assert_eq!(Day::Clearing.label(&calendar, group.0).unwrap(), cleared[first].1);
    }

    #[test]
    fn without_holiday_sessions_both_days_are_one(timeframe in timeframe(), at in any::<prop::sample::Index>()) {
        let calendar = Calendar::builtin("XNYS").unwrap();
        let (first, last) = calendar.known();
        let date = first.plus(at.index((last.0 - first.0) as usize) as i32);
        prop_assert_eq!(
            Day::Clearing.group_of(&calendar, timeframe, date).unwrap(),
            group_of(&calendar, timeframe, date).unwrap()
        );
    }

    /// A trade at the open of each session, some left out: a bar opens with its first and closes with its last.
    #[test]
    fn a_bar_by_clearing_date_is_that_of_its_sessions(
        id in prop::sample::select(&CALENDARS[..]), timeframe in timeframe(), at in any::<prop::sample::Index>(),
        traded in prop::collection::vec(any::<bool>(), 1..40), fill in prop::sample::select(&[Fill::None, Fill::Null, Fill::Previous][..])
    ) {
        let calendar = Calendar::builtin(id).unwrap();
        let cleared = cleared(&calendar);
        let at = at.index(cleared.len());
        let asked = &cleared[at..cleared.len().min(at + traded.len())];
        let segments = Segments::ETH;
        let request = OhlcRequest { day: Day::Clearing, fill, ..OhlcRequest::new(timeframe, segments) };
        let mut answer = Answer::new(&calendar, request.clone());
        // (key, label, first, last, prices)
        type Group = ((i32, i64), TradeDate, TradeDate, Vec<i64>);
        let mut expected: Vec<Group> = Vec::new();
        for (i, ((trade_date, clears), traded)) in asked.iter().zip(&traded).enumerate() {
            let session = calendar.session(*trade_date).unwrap().unwrap();
            let price = 1000 + i as i64;
            let open = session.open(segments).unwrap();
            let trades: Trades = traded.then_some(Trade { ts: open, price, size: 2, ..Trade::default() }).into_iter().collect();
            let mut page = Core::new();
            page.set(&trades, 0..trades.len());
            let mut fold = SessionFold::new(&session, timeframe, segments);
            fold.push_core(&page);
            let mut bars = Vec::new();
            fold.finish(&mut bars);
            answer.add(&session, &bars).unwrap();
            let key = key(&calendar, timeframe, &cleared, *clears);
            if expected.last().is_none_or(|last| last.0 != key) {
                expected.push((key, *clears, *trade_date, Vec::new()));
            }
            let group = expected.last_mut().unwrap();
            group.2 = *trade_date;
            group.3.extend(traded.then_some(price));
        }
        if fill == Fill::None {
            expected.retain(|group| !group.3.is_empty());
        }
        let bars = answer.finish();
        prop_assert_eq!(bars.len(), expected.len());
        let mut close = None;
        for (i, (bar, (_, label, last, prices))) in bars.iter().zip(&expected).enumerate() {
            // The first group may have begun before what was asked.
            if i > 0 {
                prop_assert_eq!(bar.label, *label);
            }
            prop_assert_eq!(bar.last_date, *last);
            prop_assert_eq!(bar.filled, prices.is_empty());
            prop_assert_eq!(bar.bar.volume, 2 * prices.len() as i128);
            if let (Some(first), Some(last)) = (prices.first(), prices.last()) {
                prop_assert_eq!((bar.bar.open, bar.bar.high, bar.bar.low, bar.bar.close), (*first, *last, *first, *last));
                close = Some(*last);
            } else {
                let shown = (bar.bar.priced > 0).then_some(bar.bar.close);
                prop_assert_eq!(shown, if fill == Fill::Previous { close } else { None });
            }
        }
    }
}

#[test]
fn holiday_sessions_join_their_business_day() {
    for (id, timeframe, day, first, last, label) in [
        // CME's notice for Martin Luther King Day 2006 gives Sunday's open the trade date of Tuesday; so it is in 2025.
        ("CME_EQUITY", "1d", "2025-01-20", "2025-01-20", "2025-01-21", "2025-01-21"),
        ("CME_EQUITY", "1d", "2025-01-21", "2025-01-20", "2025-01-21", "2025-01-21"),
        ("CME_EQUITY", "1d", "2025-01-22", "2025-01-22", "2025-01-22", "2025-01-22"),
        // Friday, July 4, clears on Monday, in the next week.
        ("CME_EQUITY", "1d", "2025-07-04", "2025-07-04", "2025-07-07", "2025-07-07"),
        ("CME_EQUITY", "1w", "2025-07-03", "2025-06-30", "2025-07-03", "2025-06-30"),
        ("CME_EQUITY", "1w", "2025-07-04", "2025-07-04", "2025-07-11", "2025-07-07"),
        // Day-and-night crypto: Christmas 2026 is a Friday, New Year 2027 as well; both clear on Monday.
        ("CME_CRYPTO", "1d", "2026-12-25", "2026-12-25", "2026-12-28", "2026-12-28"),
        ("CME_CRYPTO", "1mo", "2027-01-01", "2027-01-01", "2027-01-29", "2027-01-04"),
        // A date without a session is a day of its own.
        ("CME_EQUITY", "1d", "2025-12-25", "2025-12-25", "2025-12-25", "2025-12-25"),
    ] {
        let calendar = Calendar::builtin(id).unwrap();
        let timeframe = Timeframe::parse(timeframe).unwrap();
        let group = Day::Clearing.group_of(&calendar, timeframe, date(day)).unwrap();
        assert_eq!(group, (date(first), date(last)), "{id} {timeframe} {day}");
        assert_eq!(Day::Clearing.label(&calendar, group.0), Ok(date(label)), "{id} {timeframe} {day}");
    }
}

#[test]
fn a_day_is_trade_or_clearing() {
    assert_eq!((Day::parse("trade"), Day::parse(" Clearing ")), (Ok(Day::Trade), Ok(Day::Clearing)));
    for text in ["", "settlement", "trade date"] {
        let error = Day::parse(text).unwrap_err();
        assert!(error.hint().contains("trade or clearing"), "{error}: {}", error.hint());
    }
}
