//! A product file, read: every mistake in it is an error with its line.
//!
//! Keys above the first table hold for all products of the file; a table a root says the rest, or otherwise.

use super::{ExpiryRule, MonthRule, Product, Terms};
use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::symbol::{MONTH_CODES, Roll};
use crate::time::TradeDate;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

type Node<'t> = Spanned<DeValue<'t>>;

const KEYS: [&str; 15] = [
    "name",
    "calendar",
    "venue",
    "currency",
    "months",
    "tick_size",
    "multiplier",
    "source",
    "expiry",
    "expiry_in",
    "expiry_from",
    "expiry_source",
    "business_days",
    "roll",
    "change",
];
const CHANGE_KEYS: [&str; 4] = ["from", "tick_size", "multiplier", "source"];

/// The products of a file.
pub(super) fn read(name: &str, text: &str) -> Result<Vec<Product>> {
    let file = File { name: format!("products/{name}.toml"), text };
    let root = DeTable::parse(text).map_err(|e| file.error(e.span().map(|span| span.start), e.message()))?;
    let root = root.get_ref();
    let is_product = |key: &str, node: &Node<'_>| node.get_ref().as_table().is_some() && !KEYS.contains(&key);
    let defaults: Vec<_> = root.iter().filter(|(key, node)| !is_product(key.get_ref(), node)).collect();
    for (key, _) in &defaults {
        file.known(key.get_ref(), key.span().start, &KEYS)?;
    }
    let mut products = Vec::new();
    for (key, node) in root.iter().filter(|(key, node)| is_product(key.get_ref(), node)) {
        let Some(table) = node.get_ref().as_table() else { continue };
        for key in table.keys() {
            file.known(key.get_ref(), key.span().start, &KEYS)?;
        }
        let row = Row { file: &file, name: key.get_ref(), at: key.span().start, table, defaults: root };
        products.push(row.product()?);
    }
    Ok(products)
}

struct File<'t> {
    name: String,
    text: &'t str,
}

impl File<'_> {
    fn error(&self, offset: Option<usize>, reason: impl Into<String>) -> Error {
        let bytes = self.text.as_bytes();
        let line = offset.map(|at| bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1);
        Error::InvalidSpec { name: self.name.clone(), line, reason: reason.into() }
    }

    fn known(&self, key: &str, at: usize, keys: &[&'static str]) -> Result<()> {
        if keys.contains(&key) {
            return Ok(());
        }
        let hint = nearest(key, keys.iter().copied()).map(|name| format!("; did you mean \"{name}\"?"));
        Err(self.error(Some(at), format!("unknown key \"{key}\"{}", hint.unwrap_or_default())))
    }
}

/// One product's table, with the file's defaults behind it.
struct Row<'a, 't> {
    file: &'a File<'t>,
    name: &'a str,
    at: usize,
    table: &'a DeTable<'t>,
    defaults: &'a DeTable<'t>,
}

impl<'a, 't> Row<'a, 't> {
    fn get(&self, key: &str) -> Option<&'a Node<'t>> {
        self.table.get(key).or_else(|| self.defaults.get(key))
    }

    fn fail<T>(&self, node: Option<&Node<'_>>, reason: impl Into<String>) -> Result<T> {
        Err(self.file.error(Some(node.map_or(self.at, |node| node.span().start)), reason))
    }

    fn product(&self) -> Result<Product> {
        let text = |key: &str| match self.get(key).map(|node| (node, node.get_ref().as_str())) {
            Some((_, Some(text))) if !text.is_empty() => Ok(text.to_string()),
            node => self.fail(node.map(|(node, _)| node), format!("{} needs a text \"{key}\"", self.name)),
        };
        let calendar = text("calendar")?;
        let months = self.months()?;
        let expiry = self.rules(&months)?;
        let terms = self.terms(&text("source")?)?;
        let newest = &terms[terms.len() - 1];
        Ok(Product {
            root: self.name.to_string(),
            name: text("name")?,
            venue: text("venue")?,
            currency: text("currency")?,
            tick_size: newest.tick_size,
            multiplier: newest.multiplier,
            source: newest.source.clone(),
            expiry_source: if expiry.is_empty() { String::new() } else { text("expiry_source")? },
            business_days: match self.get("business_days") {
                None => vec![calendar.clone()],
                Some(node) => self.texts(node)?,
            },
            roll: match self.get("roll").map(|node| (node, node.get_ref().as_str())) {
                None | Some((_, Some("calendar"))) => Roll::Calendar,
                Some((_, Some("volume"))) => Roll::Volume,
                Some((_, Some("open interest"))) => Roll::OpenInterest,
                Some((node, _)) => {
                    return self.fail(Some(node), "a roll is \"calendar\", \"volume\" or \"open interest\"");
                }
            },
            calendar,
            months,
            expiry,
            terms,
        })
    }

    fn months(&self) -> Result<String> {
        let Some(node) = self.get("months") else { return Ok(String::new()) };
        match node.get_ref().as_str() {
            Some("all") => Ok(MONTH_CODES.iter().collect()),
            Some(text) if in_order(text) => Ok(text.to_string()),
            _ => self.fail(Some(node), "months are letters in order, such as \"HMUZ\", or \"all\""),
        }
    }

    /// The rule of all months, those of single ones, and those from a delivery month on.
    fn rules(&self, months: &str) -> Result<Vec<MonthRule>> {
        let rule = |node: &Node<'_>| {
            let rule = ExpiryRule::parse(node.get_ref().as_str().unwrap_or_default());
            rule.or_else(|e| self.fail(Some(node), format!("{e}; {}", e.hint())))
        };
        let Some(node) = self.get("expiry") else { return Ok(Vec::new()) };
        if months.is_empty() {
            return self.fail(Some(node), "an expiry rule needs \"months\"");
        }
        let mut rules = vec![MonthRule { months: months.to_string(), from: None, rule: rule(node)? }];
        for (letters, node) in self.inner("expiry_in")? {
            if !in_order(letters) {
                return self.fail(Some(node), "months are letters in order, such as \"HMUZ\"");
            }
            rules.push(MonthRule { months: letters.to_string(), from: None, rule: rule(node)? });
        }
        for (month, node) in self.inner("expiry_from")? {
            let Some(from) = month_of(month) else {
                return self.fail(Some(node), "expiry_from names delivery months: { 2025-09 = \"...\" }");
            };
            rules.push(MonthRule { months: months.to_string(), from: Some(from), rule: rule(node)? });
        }
        Ok(rules)
    }

    /// The entries of a table, none if it is not there.
    fn inner(&self, key: &str) -> Result<Vec<(&'a str, &'a Node<'t>)>> {
        let Some(node) = self.get(key) else { return Ok(Vec::new()) };
        match node.get_ref().as_table() {
            Some(table) => Ok(table.iter().map(|(key, node)| (key.get_ref().as_ref(), node)).collect()),
            None => self.fail(Some(node), format!("{key} is a table of rules: {{ G = \"3rd fri\" }}")),
        }
    }

    fn terms(&self, source: &str) -> Result<Vec<Terms>> {
        let number = |node: Option<&Node<'_>>, key: &str| {
            let number = node.and_then(|value| match value.get_ref() {
                DeValue::Integer(int) => int.as_str().parse().ok(),
                DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
                _ => None,
            });
            match number.filter(|number| number.is_finite() && *number > 0.0) {
                Some(number) => Ok(number),
                None => self.fail(node, format!("{} needs a positive number \"{key}\"", self.name)),
            }
        };
        let mut terms = vec![Terms {
            from: None,
            tick_size: number(self.get("tick_size"), "tick_size")?,
            multiplier: number(self.get("multiplier"), "multiplier")?,
            source: source.to_string(),
        }];
        let Some(node) = self.table.get("change") else { return Ok(terms) };
        for node in node.get_ref().as_array().into_iter().flatten() {
            let Some(change) = node.get_ref().as_table() else {
                return self.fail(Some(node), format!("changes are written [[{}.change]]", self.name));
            };
            for key in change.keys() {
                self.file.known(key.get_ref(), key.span().start, &CHANGE_KEYS)?;
            }
            let before = &terms[terms.len() - 1];
            let date = change.get("from").and_then(|node| node.get_ref().as_datetime());
            let from = date.and_then(|date| TradeDate::parse(&date.to_string()).ok());
            let Some(from) = from.filter(|from| before.from.is_none_or(|before| before < *from)) else {
                return self.fail(Some(node), "a change needs \"from\", a date after the change before it");
            };
            let or = |key: &str, before: f64| change.get(key).map_or(Ok(before), |node| number(Some(node), key));
            let Some(source) = change.get("source").and_then(|node| node.get_ref().as_str()) else {
                return self.fail(Some(node), "a change needs its own \"source\"");
            };
            let changed = Terms {
                from: Some(from),
                tick_size: or("tick_size", before.tick_size)?,
                multiplier: or("multiplier", before.multiplier)?,
                source: source.to_string(),
            };
            terms.push(changed);
        }
        Ok(terms)
    }

    /// A text, or a list of texts.
    fn texts(&self, node: &Node<'_>) -> Result<Vec<String>> {
        let one = |node: &Node<'_>| match node.get_ref().as_str() {
            Some(text) => Ok(text.to_string()),
            None => self.fail(Some(node), "a text in quotes is expected"),
        };
        match node.get_ref().as_array() {
            Some(array) => array.iter().map(one).collect(),
            None => Ok(vec![one(node)?]),
        }
    }
}

/// Delivery months as letters, each once and in the order of the year.
fn in_order(text: &str) -> bool {
    let places: Option<Vec<_>> =
        text.chars().map(|letter| MONTH_CODES.iter().position(|code| *code == letter)).collect();
    places.is_some_and(|places| !places.is_empty() && places.windows(2).all(|pair| pair[0] < pair[1]))
}

/// `2025-09`.
fn month_of(text: &str) -> Option<(i32, u32)> {
    let (year, month) = text.split_once('-')?;
    let (year, month) = (year.parse().ok()?, month.parse().ok()?);
    ((1900..=2200).contains(&year) && (1..=12).contains(&month) && text.len() == 7).then_some((year, month))
}
