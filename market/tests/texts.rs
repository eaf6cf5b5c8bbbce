//! What strangers type never panics, and what is understood is written back the same.

use market::{Kind, Segments, Symbol, Timeframe, TradeDate, nearest::nearest};
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
    fn a_name_is_nearest_to_itself(names in prop::collection::vec("[A-Z]{3,8}", 1..6), at: prop::sample::Index, text in "\\PC{0,80}") {
        let name = &names[at.index(names.len())];
        prop_assert_eq!(nearest(name, names.iter().map(String::as_str)), Some(name.as_str()));
        let found = nearest(&text, names.iter().map(String::as_str));
        prop_assert!(found.is_none_or(|found| names.iter().any(|name| name == found)));
    }
}
