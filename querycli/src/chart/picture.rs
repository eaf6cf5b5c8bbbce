//! A chart as shapes on a page of 1200 by 675: candles, volume below them, prices on the right, times at the bottom.

use super::{Chart, Scale};

/// Width of the page.
pub const WIDTH: f64 = 1200.0;
/// Height of the page.
pub const HEIGHT: f64 = 675.0;

const LEFT: f64 = 24.0;
const RIGHT: f64 = 1100.0;
const TOP: f64 = 84.0;
const FLOOR: f64 = 631.0;
/// Volume takes the lowest part.
const VOLUME: f64 = 84.0;

/// Red, green, blue.
pub type Colour = [u8; 3];

/// The page.
pub const BACKGROUND: Colour = [0x0d, 0x11, 0x17];
const LINE: Colour = [0x1d, 0x25, 0x30];
const BRIGHT: Colour = [0xee, 0xf2, 0xf8];
const DIM: Colour = [0x8d, 0x99, 0xac];
const UP: Colour = [0x2f, 0xb7, 0x9a];
const DOWN: Colour = [0xf0, 0x61, 0x6d];
/// Volume, mixed with the page.
const UP_DIM: Colour = [0x1c, 0x5c, 0x52];
const DOWN_DIM: Colour = [0x73, 0x35, 0x3e];

/// Where a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Begins there.
    Start,
    /// Has its middle there.
    Middle,
}

/// One thing to draw.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Left, top, width, height.
    Rect([f64; 4], Colour),
    /// A text on its base line.
    Text {
        /// Where it is anchored.
        at: (f64, f64),
        /// Its letters' height in pixels.
        size: f64,
        /// Its colour.
        colour: Colour,
        /// How it is anchored.
        anchor: Anchor,
        /// What it says.
        text: String,
    },
}

fn text(at: (f64, f64), size: f64, colour: Colour, anchor: Anchor, text: impl Into<String>) -> Shape {
    Shape::Text { at, size, colour, anchor, text: text.into() }
}

/// The shapes, those below first.
pub fn shapes(chart: &Chart) -> Vec<Shape> {
    // More candles than pixels are no picture.
    let (chart, each) = chart.at_most(((RIGHT - LEFT) / 2.0) as usize);
    let scale = Scale::new(&chart.candles, 8);
    let step = (RIGHT - LEFT) / chart.candles.len().max(1) as f64;
    let y = |price: f64| TOP + (1.0 - scale.place(price)) * (FLOOR - VOLUME - 16.0 - TOP);
    let x = |at: usize| LEFT + (at as f64 + 0.5) * step;
    let subtitle = match each {
        1 => chart.subtitle.clone(),
        each => format!("{} ({each} bars a candle)", chart.subtitle),
    };
    let mut shapes = vec![
        text((LEFT, 40.0), 26.0, BRIGHT, Anchor::Start, &chart.title),
        text((LEFT, 64.0), 14.0, DIM, Anchor::Start, subtitle),
    ];
    for tick in scale.ticks() {
        shapes.push(Shape::Rect([LEFT, y(tick), RIGHT - LEFT, 1.0], LINE));
        shapes.push(text((RIGHT + 10.0, y(tick) + 4.5), 13.0, DIM, Anchor::Start, scale.text(tick)));
    }
    times(&chart, x, &mut shapes);
    let most = chart.candles.iter().map(|candle| candle.volume).fold(0.0, f64::max);
    let width = (step * 0.7).max(1.0);
    for (at, candle) in chart.candles.iter().enumerate() {
        let (colour, dim) = if candle.close >= candle.open { (UP, UP_DIM) } else { (DOWN, DOWN_DIM) };
        let (top, bottom) = (y(candle.open.max(candle.close)), y(candle.open.min(candle.close)));
        if most > 0.0 && candle.volume > 0.0 {
            let height = candle.volume / most * VOLUME;
            shapes.push(Shape::Rect([x(at) - width / 2.0, FLOOR - height, width, height], dim));
        }
        shapes.push(Shape::Rect([x(at) - 0.5, y(candle.high), 1.0, (y(candle.low) - y(candle.high)).max(1.0)], colour));
        shapes.push(Shape::Rect([x(at) - width / 2.0, top, width, (bottom - top).max(1.0)], colour));
    }
    shapes
}

/// A label needs some 90 pixels; dates that begin a session go first.
fn times(chart: &Chart, x: impl Fn(usize) -> f64, shapes: &mut Vec<Shape>) {
    let dated: Vec<bool> = (0..chart.candles.len()).map(|at| chart.label(at).len() > 5).collect();
    let mut taken: Vec<f64> = Vec::new();
    for wanted in [true, false] {
        for at in (0..chart.candles.len()).filter(|at| dated[*at] == wanted) {
            let place = x(at);
            if place < RIGHT - 20.0 && taken.iter().all(|other| (other - place).abs() >= 90.0) {
                taken.push(place);
                // A label at the left edge would stick out.
                let middle = place.max(LEFT + 36.0);
                shapes.push(text((middle, FLOOR + 22.0), 13.0, DIM, Anchor::Middle, chart.label(at)));
                shapes.push(Shape::Rect([place - 0.5, FLOOR, 1.0, 6.0], DIM));
            }
        }
    }
}
