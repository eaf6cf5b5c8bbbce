//! The futures products: which calendar, tick size, multiplier, currency, delivery months and last trade date a root has.

mod expiry;
mod read;

pub use expiry::ExpiryRule;

use crate::calendar::Calendar;
use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::symbol::{Roll, month_code};
use crate::time::TradeDate;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A product: what all contracts of a root have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// `ES`.
    pub root: String,
    /// What it is.
    pub name: String,
    /// Id of its calendar.
    pub calendar: String,
    /// The exchange's MIC.
    pub venue: String,
    /// The smallest step of its price now; [`Product::terms`] knows earlier ones.
    pub tick_size: f64,
    /// Currency per 1.0 of price for one contract, now.
    pub multiplier: f64,
    /// ISO 4217.
    pub currency: String,
    /// Its delivery months as letters, in order: `HMUZ`. Empty where they are not known.
    pub months: String,
    /// How its continuous futures roll unless the symbol says otherwise.
    pub roll: Roll,
    /// Where tick size, multiplier and currency come from: a key of `products/sources.toml`.
    pub source: String,
    /// Where delivery months and expiry rule come from, likewise. Empty without a rule.
    pub expiry_source: String,
    /// Tick size and multiplier by the date from which they hold, oldest first; never empty.
    pub terms: Vec<Terms>,
    /// Rules for the last trade date; the last that matches counts.
    pub(crate) expiry: Vec<MonthRule>,
    /// The calendars whose common business days the rules count.
    pub(crate) business_days: Vec<String>,
}

/// Tick size and multiplier from a date on.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The first trade date they hold on; `None` from the beginning.
    pub from: Option<TradeDate>,
    /// The smallest step of the price.
    pub tick_size: f64,
    /// Currency per 1.0 of price for one contract.
    pub multiplier: f64,
    /// Where they come from: a key of `products/sources.toml`.
    pub source: String,
}

/// A rule for the last trade date of some delivery months.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MonthRule {
    /// `HMUZ`.
    pub months: String,
    /// The first delivery month it holds for.
    pub from: Option<(i32, u32)>,
    pub rule: ExpiryRule,
}

impl Product {
    /// Tick size and multiplier on a trade date.
    pub fn terms(&self, at: TradeDate) -> &Terms {
        let known = self.terms.iter().rev().find(|terms| terms.from.is_none_or(|from| from <= at));
        // The first has no date, so that one is always found.
        known.unwrap_or(&self.terms[0])
    }

    /// The last trade date of the contract of a delivery month (1-12); `None` where its rule is not known.
    ///
    /// # Errors
    /// `Invalid` for a month in which the product has no contract, `OutOfBounds` beyond its calendar's known range.
    pub fn expiry(&self, year: i32, month: u32) -> Result<Option<TradeDate>> {
        let code = month_code(month).unwrap_or('?');
        let holds =
            |rule: &&MonthRule| rule.months.contains(code) && rule.from.is_none_or(|from| from <= (year, month));
        let Some(MonthRule { rule, .. }) = self.expiry.iter().rev().find(holds) else {
            if self.expiry.is_empty() {
                return Ok(None);
            }
            let allowed = format!("one of its delivery months, {}", self.months);
            return Err(Error::invalid(
                "delivery month",
                format!("{}{code}{:02}", self.root, year.rem_euclid(100)),
                allowed,
            ));
        };
        let days = self.business_days.iter().map(|id| Calendar::builtin(id)).collect::<Result<Vec<_>>>()?;
        let own = Calendar::builtin(&self.calendar)?;
        let mut date = rule.date(year, month, &days)?;
        // Days counted on another calendar may lie on a holiday of its own.
        while !own.is_session(date)? {
            date = date.plus(-1);
        }
        Ok(Some(date))
    }
}

/// The last trade date of a contract: `expiry("ES", 2025, 12)` is 2025-12-19. `None` where the rule is not known.
///
/// # Errors
/// `Unknown` for a root that is none, `Invalid` for a month in which it has no contract, `OutOfBounds` beyond its calendar's
/// known range.
///
/// ```
/// use market::{TradeDate, products::expiry};
/// assert_eq!(expiry("ES", 2025, 12)?, Some(TradeDate::parse("2025-12-19")?));
/// assert!(expiry("ES", 2025, 11).is_err(), "ES has March, June, September and December");
/// # Ok::<(), market::Error>(())
/// ```
pub fn expiry(root: &str, year: i32, month: u32) -> Result<Option<TradeDate>> {
    let unknown = || Error::Unknown {
        what: "root",
        name: root.chars().take(64).collect(),
        nearest: nearest(root, table().keys().map(String::as_str)).map(str::to_string),
    };
    product(root).ok_or_else(unknown)?.expiry(year, month)
}

// One file a group of products; a line here is all that a new file needs.
const FILES: &[(&str, &str)] = &[
    ("cme_equity", include_str!("../../products/cme_equity.toml")),
    ("cme_metals", include_str!("../../products/cme_metals.toml")),
    ("cme_energy", include_str!("../../products/cme_energy.toml")),
    ("cme_rates", include_str!("../../products/cme_rates.toml")),
    ("cme_fx", include_str!("../../products/cme_fx.toml")),
    ("cme_grains", include_str!("../../products/cme_grains.toml")),
    ("cme_livestock", include_str!("../../products/cme_livestock.toml")),
    ("cme_agricultural", include_str!("../../products/cme_agricultural.toml")),
    ("cme_crypto", include_str!("../../products/cme_crypto.toml")),
    ("cboe", include_str!("../../products/cboe.toml")),
    ("ice_us", include_str!("../../products/ice_us.toml")),
    ("ice_eu", include_str!("../../products/ice_eu.toml")),
    ("eurex", include_str!("../../products/eurex.toml")),
    ("ose", include_str!("../../products/ose.toml")),
    ("hkex", include_str!("../../products/hkex.toml")),
    ("nse", include_str!("../../products/nse.toml")),
    ("shfe", include_str!("../../products/shfe.toml")),
    ("dce", include_str!("../../products/dce.toml")),
    ("zce", include_str!("../../products/zce.toml")),
    ("cffex", include_str!("../../products/cffex.toml")),
    ("sgx", include_str!("../../products/sgx.toml")),
    ("asx24", include_str!("../../products/asx24.toml")),
    ("krx", include_str!("../../products/krx.toml")),
    ("b3", include_str!("../../products/b3.toml")),
    ("euronext", include_str!("../../products/euronext.toml")),
];

/// All products by root.
pub fn products() -> impl Iterator<Item = &'static Product> {
    table().values()
}

/// The product of a root.
pub fn product(root: &str) -> Option<&'static Product> {
    table().get(root)
}

fn table() -> &'static BTreeMap<String, Product> {
    static TABLE: OnceLock<BTreeMap<String, Product>> = OnceLock::new();
    // The shipped files are read by a test, so an error cannot reach a user; without products every symbol is plain.
    TABLE.get_or_init(|| all().unwrap_or_default())
}

fn all() -> Result<BTreeMap<String, Product>> {
    let mut products = BTreeMap::new();
    for (file, text) in FILES {
        for product in read::read(file, text)? {
            let root = product.root.clone();
            if products.insert(root.clone(), product).is_some() {
                return Err(Error::InvalidSpec {
                    name: format!("products/{file}.toml"),
                    line: None,
                    reason: format!("the root {root} stands in another file too"),
                });
            }
        }
    }
    Ok(products)
}

#[cfg(test)]
mod tests;
