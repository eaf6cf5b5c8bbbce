//! Draws a chart as SVG, 1200 by 675.

use super::font::{self, Weight};
use super::label::{Placer, Rect, Side};
use super::scale::{PriceScale, time_ticks};
use super::{Chart, MarkKind};
use crate::wording;
use std::fmt::Write;

/// Width in pixels.
pub const WIDTH: f64 = 1_200.0;
/// Height in pixels.
pub const HEIGHT: f64 = 675.0;

const LEFT: f64 = 24.0;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 44.0;
const VOLUME: f64 = 84.0;
const GAP: f64 = 18.0;

const BACKGROUND: &str = "#0d1117";
const PANEL: &str = "#11161f";
const LINE: &str = "#1d2530";
const EDGE: &str = "#2c3644";
const BRIGHT: &str = "#eef2f8";
const TEXT: &str = "#b6c0ce";
const DIM: &str = "#76839a";
const UP: &str = "#2fb79a";
const DOWN: &str = "#f0616d";
const ACCENT: &str = "#6c8cff";
const GOLD: &str = "#e3b655";

/// The chart as SVG text. Every text in it is escaped.
pub fn svg(chart: &Chart) -> String {
    let mut page = Page::new(chart);
    page.header();
    page.bands();
    page.price_axis();
    page.time_axis();
    page.candles();
    page.last_price();
    page.marks();
    page.out.push_str("</svg>\n");
    page.out
}

/// Size, weight, colour and anchor of a text.
struct Ink(f64, Weight, &'static str, &'static str);

struct Page<'c> {
    chart: &'c Chart,
    out: String,
    prices: PriceScale,
    // Plot area.
    right: f64,
    floor: f64,
    step: f64,
    most_volume: f64,
    smallest: f64,
}

impl<'c> Page<'c> {
    fn new(chart: &'c Chart) -> Page<'c> {
        let drawn = || chart.candles.iter().filter_map(|candle| candle.prices);
        let high = drawn().map(|p| p.high).fold(f64::NEG_INFINITY, f64::max);
        let low = drawn().map(|p| p.low).fold(f64::INFINITY, f64::min);
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let smallest = 10f64.powi(-(chart.decimals as i32));
        let widest =
            [low, high].map(|price| font::width(&wording::number(price, chart.decimals), 13.0, Weight::SemiBold));
        let right = WIDTH - (widest[0].max(widest[1]) + 34.0).max(78.0);
        let floor = HEIGHT - BOTTOM;
        let prices = PriceScale::new(low, high, smallest, TOP, floor - VOLUME - GAP - TOP);
        let most_volume = chart.candles.iter().map(|candle| candle.volume).fold(0.0, f64::max);
        let step = (right - LEFT) / chart.slots.len().max(1) as f64;
        let mut out = String::with_capacity(48 << 10);
        let _ = write!(
            out,
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{}" font-size="13">
<rect width="{WIDTH}" height="{HEIGHT}" fill="{BACKGROUND}"/>
<rect x="{LEFT}" y="{TOP}" width="{:.1}" height="{:.1}" fill="{PANEL}"/>
"##,
            font::FAMILY,
            right - LEFT,
            floor - TOP
        );
        Page { chart, out, prices, right, floor, step, most_volume, smallest }
    }

    /// Centre of a slot.
    fn x(&self, slot: usize) -> f64 {
        LEFT + (slot as f64 + 0.5) * self.step
    }

    /// Left edge of a slot.
    fn edge(&self, slot: usize) -> f64 {
        LEFT + slot as f64 * self.step
    }

    fn number(&self, price: f64) -> String {
        wording::number(price, self.chart.decimals)
    }

    fn text(&mut self, (x, y): (f64, f64), Ink(size, weight, fill, anchor): Ink, text: &str) {
        let weight = if weight == Weight::SemiBold { r#" font-weight="600""# } else { "" };
        let anchor = if anchor == "start" { String::new() } else { format!(r#" text-anchor="{anchor}""#) };
        let _ = writeln!(
            self.out,
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}"{weight}{anchor} fill="{fill}">{}</text>"#,
            escaped(text)
        );
    }

    fn header(&mut self) {
        let chart = self.chart;
        self.text((LEFT, 44.0), Ink(28.0, Weight::SemiBold, BRIGHT, "start"), &chart.title);
        let mut x = LEFT + font::width(&chart.title, 28.0, Weight::SemiBold) + 12.0;
        let chip = font::width(&chart.timeframe, 13.0, Weight::SemiBold) + 18.0;
        let _ = writeln!(self.out, r#"<rect x="{x:.1}" y="24" width="{chip:.1}" height="24" rx="6" fill="{EDGE}"/>"#);
        self.text((x + chip / 2.0, 40.7), Ink(13.0, Weight::SemiBold, BRIGHT, "middle"), &chart.timeframe);
        x += chip + 14.0;
        self.text((x, 41.0), Ink(15.0, Weight::Regular, TEXT, "start"), &chart.subtitle);
        // The state, where the eye ends.
        let colour = match chart.state.as_str() {
            "final" => UP,
            state if state.starts_with("revised") => ACCENT,
            _ => GOLD,
        };
        let width = font::width(&chart.state, 12.5, Weight::SemiBold) + 32.0;
        let left = WIDTH - 20.0 - width;
        let _ = writeln!(
            self.out,
            r#"<rect x="{left:.1}" y="24" width="{width:.1}" height="24" rx="12" fill="{colour}" fill-opacity=".14"/><circle cx="{:.1}" cy="36" r="3.5" fill="{colour}"/>"#,
            left + 14.0
        );
        self.text((left + 23.0, 40.4), Ink(12.5, Weight::SemiBold, colour, "start"), &chart.state);
        self.legend();
    }

    fn legend(&mut self) {
        let chart = self.chart;
        let mut items: Vec<(&str, String, &'static str)> = Vec::new();
        if let Some(p) = chart.total {
            let change = p.close - p.open;
            let colour = if change >= 0.0 { UP } else { DOWN };
            let sign = if change > 0.0 { "+" } else { "" };
            // A percentage of a price at or below zero says nothing.
            let percent = if p.open > 0.0 { format!(" ({sign}{})", percent(change / p.open)) } else { String::new() };
            items.push(("O", self.number(p.open), BRIGHT));
            items.push(("H", self.number(p.high), BRIGHT));
            items.push(("L", self.number(p.low), BRIGHT));
            items.push(("C", self.number(p.close), BRIGHT));
            items.push(("", format!("{sign}{}{percent}", self.number(change)), colour));
        }
        items.push(("Vol", wording::short_volume(chart.volume), BRIGHT));
        let mut x = LEFT;
        if chart.total.is_some() {
            self.text((x, 79.0), Ink(14.0, Weight::SemiBold, ACCENT, "start"), &chart.focus);
            x += font::width(&chart.focus, 14.0, Weight::SemiBold) + 18.0;
        }
        for (name, value, colour) in items {
            if !name.is_empty() {
                self.text((x, 79.0), Ink(14.0, Weight::Regular, DIM, "start"), name);
                x += font::width(name, 14.0, Weight::Regular) + 7.0;
            }
            self.text((x, 79.0), Ink(14.0, Weight::SemiBold, colour, "start"), &value);
            x += font::width(&value, 14.0, Weight::SemiBold) + 18.0;
        }
    }

    /// Regular hours and session boundaries.
    fn bands(&mut self) {
        let (top, height) = (TOP, self.floor - TOP);
        for (from, till) in &self.chart.regular {
            let (left, right) = (self.edge(*from), self.edge(*till));
            let width = right - left;
            let _ = writeln!(
                self.out,
                r#"<rect x="{left:.1}" y="{top}" width="{width:.1}" height="{height:.1}" fill="{ACCENT}" fill-opacity=".075"/><rect x="{left:.1}" y="{top}" width="{width:.1}" height="2" fill="{ACCENT}" fill-opacity=".55"/>"#
            );
            if width > 40.0 {
                self.text((left + 8.0, top + 18.0), Ink(11.0, Weight::SemiBold, ACCENT, "start"), "RTH");
            }
        }
        let chart = self.chart;
        // With hundreds of sessions the lines would be a fence.
        let starts = (1..chart.slots.len()).filter(|at| chart.slots[*at].trade_date != chart.slots[at - 1].trade_date);
        let starts: Vec<usize> = if chart.intraday { starts.collect() } else { Vec::new() };
        if starts.len() <= 60 {
            let mut path = String::new();
            for at in &starts {
                let _ = write!(path, "M{:.1} {top}V{:.1}", self.edge(*at).round() + 0.5, self.floor);
            }
            if !path.is_empty() {
                let _ = writeln!(self.out, r##"<path d="{path}" stroke="#3b4759" stroke-dasharray="3 4"/>"##);
            }
        }
    }

    fn price_axis(&mut self) {
        let priced = self.chart.last().is_some();
        let ticks = if priced { self.prices.ticks(7, self.smallest) } else { Vec::new() };
        let last = self.chart.last().map(|p| self.prices.y(p.close));
        let right = self.right;
        let mut path = String::new();
        for price in &ticks {
            let _ = write!(path, "M{LEFT} {:.1}H{right:.1}", self.prices.y(*price).round() + 0.5);
        }
        let _ = writeln!(self.out, r#"<path d="{path}" stroke="{LINE}"/>"#);
        for price in ticks {
            let y = self.prices.y(price).round();
            // The label of the last price covers this place.
            if last.is_none_or(|last| (last - y).abs() > 17.0) {
                self.text((right + 12.0, y + 4.8), Ink(13.0, Weight::Regular, DIM, "start"), &self.number(price));
            }
        }
        let base = self.floor - VOLUME;
        if !priced {
            let why = if self.chart.candles.is_empty() { "No trades" } else { "No trade was eligible to set a price" };
            let (x, y) = ((LEFT + right) / 2.0, (TOP + base) / 2.0);
            self.text((x, y), Ink(16.0, Weight::Regular, DIM, "middle"), why);
        }
        let _ = writeln!(
            self.out,
            r#"<path d="M{LEFT} {:.1}H{right:.1}M{LEFT} {:.1}H{right:.1}" stroke="{EDGE}"/>"#,
            base - GAP / 2.0 + 0.5,
            self.floor + 0.5
        );
        if self.most_volume > 0.0 {
            let most = wording::short_volume(self.most_volume);
            self.text((right + 12.0, base + 10.0), Ink(11.0, Weight::Regular, DIM, "start"), &most);
        }
        self.text((LEFT + 8.0, base + 8.0), Ink(11.0, Weight::Regular, DIM, "start"), "Volume");
    }

    fn time_axis(&mut self) {
        let mut ticks = time_ticks(self.chart, self.step, 64.0);
        // The important labels first, so that they keep their place where two would touch.
        ticks.sort_by_key(|tick| !tick.major);
        let mut path = String::new();
        let mut taken: Vec<(f64, f64)> = Vec::new();
        let floor = self.floor;
        for tick in ticks {
            // A date stands at the beginning of its session, an hour at its candle.
            let at = if tick.major && self.chart.intraday { self.edge(tick.slot) } else { self.x(tick.slot) };
            let (weight, fill) = if tick.major { (Weight::SemiBold, TEXT) } else { (Weight::Regular, DIM) };
            let half = font::width(&tick.text, 12.5, weight) / 2.0;
            let x = at.clamp(LEFT + half, (self.right - half).max(LEFT + half));
            let (from, till) = (x - half - 10.0, x + half + 10.0);
            if taken.iter().any(|(other, end)| from < *end && *other < till) {
                continue;
            }
            taken.push((from, till));
            let _ = write!(path, "M{:.1} {floor:.1}v5", at.round() + 0.5);
            self.text((x, floor + 22.0), Ink(12.5, weight, fill, "middle"), &tick.text);
        }
        let _ = writeln!(self.out, r#"<path d="{path}" stroke="{EDGE}"/>"#);
        let zone = self.chart.zone.name().replace('_', " ");
        let letters = self.chart.slots.last().map(|slot| wording::zone_name(slot.open_at, self.chart.zone));
        if let Some(letters) = letters.filter(|letters| self.chart.intraday && *letters != zone) {
            self.text((self.right + 12.0, floor + 22.0), Ink(12.5, Weight::Regular, DIM, "start"), &letters);
        }
        self.text((WIDTH - 20.0, HEIGHT - 7.0), Ink(10.5, Weight::Regular, DIM, "end"), &zone);
    }

    fn candles(&mut self) {
        let chart = self.chart;
        // Whole pixels where there is room for them: antialiased wicks look tired.
        let body = if self.step >= 4.0 { (self.step * 0.66).min(26.0).floor() } else { (self.step * 0.72).max(0.8) };
        let body = if body >= 3.0 && body % 2.0 == 0.0 { body - 1.0 } else { body };
        let crisp = self.step >= 4.0;
        for (rising, colour) in [(true, UP), (false, DOWN)] {
            let (mut wicks, mut bodies, mut volumes) = (String::new(), String::new(), String::new());
            for candle in &chart.candles {
                let up = candle.prices.is_none_or(|p| p.close >= p.open);
                if up != rising {
                    continue;
                }
                let middle = if crisp { self.x(candle.slot).floor() + 0.5 } else { self.x(candle.slot) };
                let left = middle - body / 2.0;
                if let Some(p) = candle.prices {
                    let (top, bottom) = (self.prices.y(p.open.max(p.close)), self.prices.y(p.open.min(p.close)));
                    let (top, height) =
                        if bottom - top < 1.4 { ((top + bottom) / 2.0 - 0.7, 1.4) } else { (top, bottom - top) };
                    if p.high > p.low {
                        let _ = write!(wicks, "M{middle:.1} {:.1}V{:.1}", self.prices.y(p.high), self.prices.y(p.low));
                    }
                    let _ = write!(bodies, "M{left:.2} {top:.1}h{body:.2}v{height:.1}h-{body:.2}z");
                }
                if candle.volume > 0.0 {
                    let height = (candle.volume / self.most_volume * (VOLUME - 20.0)).max(1.0);
                    let _ = write!(volumes, "M{left:.2} {:.1}h{body:.2}v{height:.1}h-{body:.2}z", self.floor - height);
                }
            }
            let wick = if self.step >= 9.0 { 1.4 } else { 1.0 };
            let _ = writeln!(
                self.out,
                r#"<path d="{volumes}" fill="{colour}" fill-opacity=".42"/>
<path d="{wicks}" stroke="{colour}" stroke-width="{wick}" fill="none"/>
<path d="{bodies}" fill="{colour}"/>"#
            );
        }
    }

    fn last_price(&mut self) {
        let Some(last) = self.chart.last() else { return };
        let colour = if last.close >= last.open { UP } else { DOWN };
        let (y, right) = (self.prices.y(last.close), self.right);
        let text = self.number(last.close);
        let width = font::width(&text, 13.0, Weight::SemiBold) + 16.0;
        let _ = writeln!(
            self.out,
            r#"<path d="M{LEFT} {:.1}H{right:.1}" stroke="{colour}" stroke-opacity=".7" stroke-dasharray="2 4"/><rect x="{:.1}" y="{:.1}" width="{width:.1}" height="22" rx="4" fill="{colour}"/>"#,
            y.round() + 0.5,
            right + 4.0,
            y - 11.0
        );
        self.text((right + 12.0, y + 4.8), Ink(13.0, Weight::SemiBold, BACKGROUND, "start"), &text);
    }

    fn marks(&mut self) {
        let chart = self.chart;
        let bounds =
            Rect { x: LEFT + 4.0, y: TOP + 4.0, w: self.right - LEFT - 8.0, h: self.floor - VOLUME - GAP - TOP };
        let half = (self.step * 0.4).min(12.0);
        let candles = chart.candles.iter().filter_map(|candle| {
            let p = candle.prices?;
            let (top, bottom) = (self.prices.y(p.high), self.prices.y(p.low));
            Some(Rect { x: self.x(candle.slot) - half, y: top, w: 2.0 * half, h: (bottom - top).max(1.0) })
        });
        let mut placer = Placer::new(bounds, candles.collect());
        for (from, till) in &chart.regular {
            if self.edge(*till) - self.edge(*from) > 40.0 {
                placer.reserve(Rect { x: self.edge(*from) + 4.0, y: TOP, w: 34.0, h: 22.0 });
            }
        }
        for mark in &chart.marks {
            let (name, side, fill, ink) = match mark.kind {
                MarkKind::High => ("H", Side::Above, UP, BACKGROUND),
                MarkKind::Low => ("L", Side::Below, DOWN, BACKGROUND),
                MarkKind::Open => ("O", Side::Left, GOLD, BACKGROUND),
                MarkKind::Close => ("C", Side::Right, "#c9d3e2", BACKGROUND),
            };
            let (x, y) = (self.x(mark.slot), self.prices.y(mark.price));
            let text = format!("{name} {}", self.number(mark.price));
            let (w, h) = (font::width(&text, 12.0, Weight::SemiBold) + 14.0, 20.0);
            let dot = format!(
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.6" fill="{BACKGROUND}" stroke="{fill}" stroke-width="1.8"/>"#
            );
            let Some(label) = placer.place(x, y, w, h, side) else {
                let _ = writeln!(self.out, "{dot}");
                continue;
            };
            // From the point to the nearest place of its label.
            let (to_x, to_y) = (x.clamp(label.x, label.x + w), y.clamp(label.y, label.y + h));
            let _ = writeln!(
                self.out,
                r#"<path d="M{x:.1} {y:.1}L{to_x:.1} {to_y:.1}" stroke="{fill}" stroke-width="1.2"/>{dot}<rect x="{:.1}" y="{:.1}" width="{w:.1}" height="{h}" rx="5" fill="{fill}"/>"#,
                label.x, label.y
            );
            self.text((label.x + w / 2.0, label.y + 14.4), Ink(12.0, Weight::SemiBold, ink, "middle"), &text);
        }
    }
}

fn percent(share: f64) -> String {
    format!("{}%", wording::number(share * 100.0, 2))
}

/// The text as XML shows it. Control characters, which XML cannot hold, become a space.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
