//! The products against facts from outside: figures of a public database, and last trade dates as exchanges published them.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use market::products::{expiry, product, products};
use market::{Calendar, TradeDate};
use std::collections::BTreeMap;

/// Rows of `tests/data/NAME.csv`; lines that begin with # say where they come from.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| line.split(',').collect())
}

#[test]
fn figures_are_those_of_the_cited_database() {
    let mut checked = 0;
    let facts: BTreeMap<_, _> = rows(include_str!("data/lean_products.csv")).map(|row| (row[0], row)).collect();
    for product in products() {
        for terms in product.terms.iter().filter(|terms| terms.source.starts_with("lean")) {
            let row = facts.get(product.root.as_str()).unwrap_or_else(|| panic!("{} cites lean", product.root));
            let (currency, multiplier, tick): (&str, f64, f64) =
                (row[1], row[2].parse().unwrap(), row[3].parse().unwrap());
            let cents = if terms.source == "lean-cents" { 100.0 } else { 1.0 };
            let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-12;
            assert!(close(terms.tick_size, tick * cents), "{}: {} {tick}", product.root, terms.tick_size);
            assert!(close(terms.multiplier, multiplier / cents), "{}: {} {multiplier}", product.root, terms.multiplier);
            assert_eq!(product.currency, currency, "{}", product.root);
            checked += 1;
        }
    }
    assert!(checked >= 100, "{checked}");
}

#[test]
fn expiries_are_those_the_exchanges_published() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for row in rows(include_str!("data/expiries.csv")) {
        let (root, contract, expected) = (row[0], row[1], row[2]);
        let Some(product) = product(root) else { continue };
        let (year, month) = contract.split_once('-').unwrap();
        let found = expiry(root, year.parse().unwrap(), month.parse().unwrap());
        let (begins, _) = Calendar::builtin(&product.calendar).unwrap().known();
        if TradeDate::parse(expected).unwrap() < begins {
            // Korea's derivatives calendar begins with the night session of June 2025.
            assert!(found.is_err(), "{root} {contract}: a guess before {begins}");
            continue;
        }
        checked += 1;
        if !matches!(&found, Ok(Some(date)) if date.to_string() == expected) {
            wrong.push(format!("{root} {contract}: {expected}, we say {found:?}"));
        }
    }
    assert!(checked >= 480, "{checked}");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Law: a contract expires in a session of its calendar, and one that is delivered later expires later.
#[test]
fn expiries_are_sessions_and_increase_with_the_delivery_month() {
    for product in products().filter(|product| !product.months.is_empty()) {
        let calendar = Calendar::builtin(&product.calendar).unwrap();
        let (first, last) = calendar.known();
        let mut before: Option<TradeDate> = None;
        let mut contracts = 0;
        for year in first.year_month().0..=last.year_month().0 {
            for month in 1..=12 {
                let code = market::symbol::month_code(month).unwrap();
                let found = product.expiry(year, month);
                if !product.months.contains(code) {
                    assert!(product.expiry_source.is_empty() || found.is_err(), "{} {year}-{month}", product.root);
                    continue;
                }
                // Months at the ends reach beyond what the calendar covers.
                let Ok(Some(date)) = found else { continue };
                assert_eq!(calendar.is_session(date), Ok(true), "{} {year}-{month}: {date}", product.root);
                assert!(before.is_none_or(|before| before < date), "{} {year}-{month}: {date}", product.root);
                let (y, m) = date.year_month();
                let ahead = (year - y) * 12 + month as i32 - m as i32;
                assert!((-3..=2).contains(&ahead), "{} {year}-{month}: {date}", product.root);
                before = Some(date);
                contracts += 1;
            }
        }
        let years = (last.year_month().0 - first.year_month().0) as usize;
        let expected = if product.expiry_source.is_empty() { 0 } else { (years - 1) * product.months.len() };
        assert!(contracts >= expected, "{}: {contracts} expiries of {expected}", product.root);
    }
}
