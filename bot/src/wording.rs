//! How numbers, dates and hours are written for people.

use crate::instruments::Instrument;
use crate::numbers::Bar;
use chrono::DateTime;
use chrono_tz::Tz;
use market::{Nanos, Segments, Session, TradeDate};

/// `6,012.25`, `-37.63`, with that many decimals.
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::with_capacity(text.len() + whole.len() / 3 + 1);
    // Rounding may have left nothing to be negative about.
    if value < 0.0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        grouped.push('-');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

/// A volume, whole or with the decimals that small sizes need.
pub fn volume(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 100_000.0 {
        number(value, 0)
    } else {
        let text = number(value, 4);
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    }
}

/// `1.24M`, for axes.
pub fn short_volume(value: f64) -> String {
    for (unit, name) in [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")] {
        if value >= unit {
            let scaled = value / unit;
            return format!(
                "{}{name}",
                number(
                    scaled,
                    if scaled < 10.0 {
                        2
                    } else if scaled < 100.0 {
                        1
                    } else {
                        0
                    }
                )
            );
        }
    }
    volume((value * 10_000.0).round() / 10_000.0)
}

/// How many decimals prices need: those of the tick size, else those of the prices themselves (2 to 8).
pub fn decimals(instrument: &Instrument, bars: &[Bar]) -> usize {
    let needed = |value: f64, most: usize| {
        // Shortest text that reads back as the same number.
        format!("{}", value.abs()).split_once('.').map_or(0, |(_, fraction)| fraction.len().min(most))
    };
    match instrument.tick_size {
        Some(tick) => needed(tick, 9),
        None => {
            let prices = bars.iter().filter_map(|bar| bar.prices);
            let most = prices.flat_map(|p| [p.open, p.high, p.low, p.close]).map(|price| needed(price, 8)).max();
            most.unwrap_or(2).max(2)
        }
    }
}

/// What prices are in: `points` for index futures, else the currency.
pub fn unit(instrument: &Instrument) -> String {
    let points = instrument.kind == "index" || (is_contract(instrument) && instrument.calendar == "CME_EQUITY");
    match (&instrument.currency, points) {
        (_, true) => "points".to_string(),
        (Some(currency), false) => currency.clone(),
        (None, false) => instrument.symbol.split_once('-').map(|(_, quote)| quote.to_string()).unwrap_or_default(),
    }
}

fn is_contract(instrument: &Instrument) -> bool {
    matches!(instrument.kind.as_str(), "future" | "spread")
        || instrument.root.as_deref().is_some_and(|root| root != instrument.symbol)
}

/// What sizes are in: `contracts`, `shares`, `BTC`.
pub fn size_unit(instrument: &Instrument) -> String {
    match instrument.kind.as_str() {
        _ if is_contract(instrument) => "contracts".to_string(),
        "equity" => "shares".to_string(),
        "pair" => instrument.symbol.split(['-', '/']).next().unwrap_or_default().to_string(),
        _ => String::new(),
    }
}

/// `Mon 24 Nov 2025`.
pub fn date(date: TradeDate) -> String {
    date.date().format("%a %-d %b %Y").to_string()
}

/// `Mon 24 Nov 2025` or `Mon 17 Nov - Mon 24 Nov 2025`.
pub fn dates(first: TradeDate, last: TradeDate) -> String {
    if first == last {
        return date(first);
    }
    let same_year = first.date().format("%Y").to_string() == last.date().format("%Y").to_string();
    let begin = if same_year { first.date().format("%a %-d %b").to_string() } else { date(first) };
    format!("{begin} \u{2013} {}", date(last))
}

/// An instant in exchange time.
pub fn local(ts: Nanos, tz: Tz) -> DateTime<Tz> {
    DateTime::from_timestamp_nanos(ts).with_timezone(&tz)
}

/// `08:30`, with seconds where there are any.
pub fn time(ts: Nanos, tz: Tz) -> String {
    let at = local(ts, tz);
    at.format(if ts % market::time::MINUTE == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}

/// `08:30 CST on Mon 24 Nov 2025`.
pub fn moment(ts: Nanos, tz: Tz) -> String {
    format!("{} {} on {}", time(ts, tz), zone_name(ts, tz), local(ts, tz).format("%a %-d %b %Y"))
}

/// `CST`, `EDT`; `UTC+09` where the zone has no letters.
pub fn zone_name(ts: Nanos, tz: Tz) -> String {
    let name = local(ts, tz).format("%Z").to_string();
    if name.starts_with(['+', '-']) { format!("UTC{name}") } else { name }
}

/// `08:30–15:00 CST`; several runs with commas; days where the session began on an earlier one.
pub fn hours(session: &Session<'_>, segments: Segments, tz: Tz) -> Option<String> {
    let joined = Session { restart_at_segments: false, ..*session };
    let day = session.trade_date.date();
    let edge = |ts| {
        let at = local(ts, tz);
        if at.date_naive() == day { time(ts, tz) } else { format!("{} {}", at.format("%a"), time(ts, tz)) }
    };
    let mut last = None;
    let runs: Vec<String> = joined
        .runs(segments)
        .map(|(open, close)| {
            last = Some(close - 1);
            format!("{}\u{2013}{}", edge(open), edge(close))
        })
        .collect();
    Some(format!("{} {}", runs.join(", "), zone_name(last?, tz)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_never_minus_zero() {
        let check = |value, decimals, text| assert_eq!(number(value, decimals), text);
        check(6012.25, 2, "6,012.25");
        check(-37.63, 2, "-37.63");
        check(-0.001, 2, "0.00");
        check(1_234_567.0, 0, "1,234,567");
        check(999.0, 0, "999");
        check(-1234.5, 1, "-1,234.5");
    }

    #[test]
    fn volumes_keep_what_matters() {
        assert_eq!(volume(1_234_567.0), "1,234,567");
        assert_eq!(volume(0.25), "0.25");
        assert_eq!(volume(12.5), "12.5");
        assert_eq!(short_volume(1_240_000.0), "1.24M");
        assert_eq!(short_volume(999.0), "999");
        assert_eq!(short_volume(0.1234567), "0.1235");
    }
}
