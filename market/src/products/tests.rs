use super::*;
use std::collections::BTreeSet;

const GOOD: &str = "calendar = \"CME_EQUITY\"\nvenue = \"v\"\ncurrency = \"USD\"\nsource = \"s\"\nexpiry_source = \"s\"\n[X]\nname = \"x\"\n";

fn sources() -> toml::Table {
    include_str!("../../products/sources.toml").parse().unwrap()
}

#[test]
fn the_shipped_products_read_and_their_calendars_exist() {
    let shipped = all().unwrap();
    assert!(shipped.len() >= 220, "{}", shipped.len());
    for (root, product) in &shipped {
        for id in product.business_days.iter().chain([&product.calendar]) {
            let calendar = Calendar::builtin(id).unwrap_or_else(|e| panic!("{root}: {e}"));
            assert_eq!(calendar.id(), id, "{root}: by its id, not an alias");
        }
        for terms in &product.terms {
            // Fixed point holds nine decimals.
            let units = terms.tick_size * 1e9;
            assert!((units - units.round()).abs() < 1e-6 && units >= 1.0, "{root}");
        }
        let (mic, currency) = (&product.venue, &product.currency);
        assert!(mic.len() == 4 && mic.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()), "{root} {mic}");
        assert!(currency.len() == 3 && currency.chars().all(|c| c.is_ascii_uppercase()), "{root} {currency}");
    }
}

#[test]
fn every_figure_names_a_source_that_is_described() {
    let described: BTreeSet<String> = sources().keys().cloned().collect();
    let mut used = BTreeSet::new();
    for product in all().unwrap().into_values() {
        used.extend(product.terms.iter().map(|terms| terms.source.clone()));
        used.extend(Some(product.expiry_source).filter(|source| !source.is_empty()));
    }
    assert_eq!(used.difference(&described).collect::<Vec<_>>(), Vec::<&String>::new(), "not described");
    assert_eq!(described.difference(&used).collect::<Vec<_>>(), Vec::<&String>::new(), "not used");
}

#[test]
fn terms_hold_from_their_date() {
    let text = format!(
        "{GOOD}tick_size = 0.0001\nmultiplier = 5\n[[X.change]]\nfrom = 2016-01-11\ntick_size = 0.00005\nsource = \"t\"\n"
    );
    let product = read::read("test", &text).unwrap().remove(0);
    let at = |date: &str| product.terms(TradeDate::parse(date).unwrap());
    assert_eq!((at("1990-01-01").tick_size, at("2016-01-08").tick_size), (0.0001, 0.0001));
    assert_eq!((at("2016-01-11").tick_size, at("2016-01-11").multiplier), (0.00005, 5.0));
    assert_eq!((product.tick_size, product.source.as_str()), (0.00005, "t"));
    assert_eq!(product.expiry(2024, 3), Ok(None), "no rule, no date");
}

#[test]
fn a_bad_product_names_its_line() {
    for (rest, line, reason) in [
        ("tick_size = 0\nmultiplier = 1", 8, "positive number \"tick_size\""),
        ("tick_size = 1", 6, "positive number \"multiplier\""),
        ("tick_size = nan\nmultiplier = 1", 8, "tick_size"),
        ("tick_size = 1\nmultiplier = 1\nmonths = \"ZH\"", 10, "letters in order"),
        ("tick_size = 1\nmultiplier = 1\nexpiry = \"3rd fri\"", 10, "needs \"months\""),
        ("tick_size = 1\nmultiplier = 1\nmonths = \"H\"\nexpiry = \"3rd friday\"", 11, "3rd last bday"),
        ("tick_size = 1\nmultiplier = 1\ntick = 2", 10, "unknown key \"tick\""),
        ("tick_size = 1\nmultiplier = 1\nroll = \"soon\"", 10, "a roll is"),
        (
            "tick_size = 1\nmultiplier = 1\nmonths = \"H\"\nexpiry = \"3rd fri\"\nexpiry_from = { 2025 = \"3rd thu\" }",
            12,
            "2025-09",
        ),
        (
            "tick_size = 1\nmultiplier = 1\nmonths = \"H\"\nexpiry = \"3rd fri\"\nexpiry_in = { X1 = \"3rd thu\" }",
            12,
            "in order",
        ),
        ("tick_size = 1\nmultiplier = 1\n[[X.change]]\ntick_size = 2", 10, "needs \"from\""),
        ("tick_size = 1\nmultiplier = 1\n[[X.change]]\nfrom = 2020-01-01\ntick_size = 2", 10, "own \"source\""),
    ] {
        let message = read::read("test", &format!("{GOOD}{rest}\n")).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("products/test.toml, line {line}:")) && message.contains(reason),
            "{message}"
        );
    }
}
