//! What strangers type never panics, and what is understood is written back the same.

use market::calendar::compare::SessionTable;
use market::calendar::import::{Head, LeanHours, LeanSpan, LeanState, TradingView};
use market::calendar::import::{from_lean, from_table, from_tradingview};
use market::products::ExpiryRule;
use market::{Calendar, Kind, Segments, Symbol, Timeframe, TradeDate, nearest::nearest};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_timeframe_reads_or_is_refused(text in "\\PC{0,12}|[0-9]{0,20}(us|ms|s|m|h|d|w|mo|M|q|y)?") {
        if let Ok(timeframe) = Timeframe::parse(&text) {
            prop_assert_eq!(Timeframe::parse(&timeframe.to_string()), Ok(timeframe));
        }
    }

    #[test]
    fn any_symbol_reads_or_is_refused(text in "\\PC{0,70}|[A-Z]{1,3}[FGHJKMNQUVXZ][0-9]{1,4}|ES\\.[cvn]\\.[0-9]{1,3}", near: i32) {
        if let Ok(symbol) = Symbol::parse(&text, TradeDate(near)) {
            let written = symbol.to_string();
            prop_assert!(!written.is_empty());
            if matches!(symbol, Symbol::Plain(_) | Symbol::Continuous { .. }) {
                prop_assert_eq!(Symbol::parse(&written, TradeDate(near)), Ok(symbol));
            }
        }
    }

    #[test]
    fn any_selection_and_kind_reads_or_is_refused(text in "\\PC{0,30}|(ON|PRE|RTH|POST|OFF|ETH|ALL|\\+){1,5}") {
        if let Ok(segments) = Segments::parse(&text) {
            prop_assert_eq!(Segments::parse(&segments.to_string()), Ok(segments));
        }
        if let Ok(kind) = Kind::parse(&text) {
            prop_assert_eq!(Kind::parse(kind.name()), Ok(kind));
        }
    }

    #[test]
    fn any_schedule_is_imported_or_refused(
        session in "\\PC{0,30}|([0-9]{4}(F[0-3])?-[0-9]{4}[,|:1-7]{0,3}){0,4}|24x7",
        holidays in "\\PC{0,20}|(20[0-3][0-9][01][0-9][0-3][0-9],?){0,3}",
        corrections in "\\PC{0,30}|([0-9]{4}-[0-9]{4}:20[0-3][0-9][01][0-9][0-3][0-9];?){0,3}",
        table in "(\\PC{0,40}\n){0,4}|session,open,close\n(20[0-3][0-9]-0[1-9]-[0-2][0-9],[01][0-9]:[0-5][0-9](-1d)?,[012][0-9]:[0-5][0-9]\n){0,6}",
        time in "\\PC{0,12}|([01]\\.)?[0-2][0-9]:[0-5][0-9]:[0-5][0-9]",
    ) {
        let mut head = Head::new("X", "America/New_York", "").expect("the zone exists");
        head.known = Some((TradeDate(10_000), TradeDate(20_000)));
        let read = |text: market::Result<String>| text.is_ok_and(|text| Calendar::from_toml(&text).is_err());
        let from = TradingView { session: &session, holidays: &holidays, corrections: &corrections };
        prop_assert!(!read(from_tradingview(&head, &from)), "{session:?} {holidays:?} {corrections:?}");
        let made = SessionTable::from_csv(&table, head.zone).and_then(|table| from_table(&head, &table));
        prop_assert!(!read(made), "{table:?}");
        let span = LeanSpan { start: time.clone(), end: "23:00:00".into(), state: LeanState::Regular };
        let mut hours = LeanHours { early_closes: vec![("1/2/2020".into(), time)], ..LeanHours::default() };
        hours.days[2].push(span);
        prop_assert!(!read(from_lean(&head, &hours)), "{hours:?}");
    }

    #[test]
    fn any_expiry_rule_reads_or_is_refused(text in "\\PC{0,30}|(3rd |last |10th |day )?(fri|bday|25|wed near 15)( [-+][0-9]{1,2}[bdm]| prev| next| week){0,4}", month in 0u32..14, year in 1990i32..2040) {
        if let Ok(rule) = ExpiryRule::parse(&text) {
            let calendar = Calendar::builtin("XNYS").expect("shipped");
            if let Ok(date) = rule.date(year, month, std::slice::from_ref(&calendar)) {
                prop_assert_eq!(calendar.is_session(date), Ok(true));
            }
        }
    }

    #[test]
    fn a_name_is_nearest_to_itself(names in prop::collection::vec("[A-Z]{3,8}", 1..6), at: prop::sample::Index, text in "\\PC{0,80}") {
        let name = &names[at.index(names.len())];
        prop_assert_eq!(nearest(name, names.iter().map(String::as_str)), Some(name.as_str()));
        let found = nearest(&text, names.iter().map(String::as_str));
        prop_assert!(found.is_none_or(|found| names.iter().any(|name| name == found)));
    }
}
