//! The futures products: which calendar, tick size, multiplier and currency a root has.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use toml::de::{DeTable, DeValue};

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
    /// The smallest step of its price.
    pub tick_size: f64,
    /// Currency per 1.0 of price for one contract.
    pub multiplier: f64,
    /// ISO 4217.
    pub currency: String,
    /// Where the row comes from; `memory` rows want checking.
    pub source: String,
}

const FILE: &str = include_str!("../products.toml");

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
    // The shipped file is read by a test, so an error cannot reach a user; without products every symbol is plain.
    TABLE.get_or_init(|| read(FILE).unwrap_or_default())
}

/// Reads a product file: a table per root.
pub(crate) fn read(text: &str) -> Result<BTreeMap<String, Product>> {
    let error = |offset: Option<usize>, reason: String| Error::InvalidSpec {
        name: "products".into(),
        line: offset.map(|at| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1),
        reason,
    };
    let file = DeTable::parse(text).map_err(|e| error(e.span().map(|span| span.start), e.message().to_string()))?;
    let mut products = BTreeMap::new();
    for (root, row) in file.get_ref() {
        let at = Some(root.span().start);
        let table = row.get_ref().as_table().ok_or_else(|| error(at, "a product is a table".into()))?;
        let text_of = |key: &str| {
            let text = table.get(key).and_then(|value| value.get_ref().as_str()).map(str::to_string);
            text.ok_or_else(|| error(at, format!("{root} needs a text \"{key}\"", root = root.get_ref())))
        };
        let number = |key: &str| {
            let number = table.get(key).and_then(|value| match value.get_ref() {
                DeValue::Integer(int) => int.as_str().parse().ok(),
                DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
                _ => None,
            });
            let positive = number.filter(|number| number.is_finite() && *number > 0.0);
            positive.ok_or_else(|| error(at, format!("{} needs a positive number \"{key}\"", root.get_ref())))
        };
        let product = Product {
            root: root.get_ref().to_string(),
            name: text_of("name")?,
            calendar: text_of("calendar")?,
            venue: text_of("venue")?,
            tick_size: number("tick_size")?,
            multiplier: number("multiplier")?,
            currency: text_of("currency")?,
            source: text_of("source")?,
        };
        products.insert(product.root.clone(), product);
    }
    Ok(products)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;

    #[test]
    fn the_shipped_products_read_and_their_calendars_exist() {
        let shipped = read(FILE).unwrap();
        assert!(shipped.len() >= 18);
        for (root, product) in &shipped {
            let calendar = Calendar::builtin(&product.calendar).unwrap();
            assert_eq!(calendar.id(), product.calendar, "{root}: by its id, not an alias");
            // Fixed point holds nine decimals.
            let units = product.tick_size * 1e9;
            assert!((units - units.round()).abs() < 1e-6 && units >= 1.0, "{root}");
        }
        // CME: half a point of gold is five ticks of 10 dollars; a point of ES is 50 dollars.
        let value = |root: &str| product(root).map(|p| (p.tick_size * p.multiplier * 100.0).round() / 100.0);
        assert_eq!(
            (value("GC"), value("ES"), value("CL"), value("HG")),
            (Some(10.0), Some(12.5), Some(10.0), Some(12.5))
        );
    }

    #[test]
    fn a_bad_product_names_its_line() {
        let good = "[X]\nname = \"x\"\ncalendar = \"XNYS\"\nvenue = \"v\"\ncurrency = \"USD\"\nsource = \"s\"\n";
        for (rest, reason) in [
            ("tick_size = 0\nmultiplier = 1", "positive number \"tick_size\""),
            ("tick_size = 1", "positive number \"multiplier\""),
            ("tick_size = nan\nmultiplier = 1", "tick_size"),
        ] {
            let message = read(&format!("{good}{rest}\n")).unwrap_err().to_string();
            assert!(message.starts_with("products, line 1:") && message.contains(reason), "{message}");
        }
    }
}
