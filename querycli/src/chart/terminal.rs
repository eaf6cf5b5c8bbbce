//! A chart for the terminal: a candle a column, prices on the right, times below.

use super::{Chart, Scale};
use std::fmt::Write;

const UP: &str = "\x1b[32m";
const DOWN: &str = "\x1b[31m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Draws into so many columns and rows. Without colours a rising body is light and a falling one dark.
pub fn draw(chart: &Chart, columns: usize, rows: usize, coloured: bool) -> String {
    let scale = Scale::new(&chart.candles, rows / 4);
    let margin = scale.ticks().iter().map(|tick| scale.text(*tick).len()).max().unwrap_or(0) + 3;
    let (chart, each) = chart.at_most(columns.saturating_sub(margin).max(8));
    // Room for two columns a candle makes few of them easier to read.
    let wide = if chart.candles.len() * 2 + margin <= columns { 2 } else { 1 };
    let ink = |colour: &'static str| if coloured { colour } else { "" };
    let mut out = format!("{}  {}", chart.title, chart.subtitle);
    if each > 1 {
        let _ = write!(out, "  ({each} bars a candle)");
    }
    out.push('\n');
    let row_of = |price: f64| (((1.0 - scale.place(price)) * rows as f64) as usize).min(rows.saturating_sub(1));
    let labelled: Vec<(usize, String)> = scale.ticks().iter().map(|tick| (row_of(*tick), scale.text(*tick))).collect();
    for row in 0..rows {
        let mut line = String::new();
        for candle in &chart.candles {
            let rises = candle.close >= candle.open;
            let (top, bottom) = (row_of(candle.open.max(candle.close)), row_of(candle.open.min(candle.close)));
            let sign = match row {
                row if (top..=bottom).contains(&row) && candle.open == candle.close => '─',
                row if (top..=bottom).contains(&row) => match (coloured, rises) {
                    (false, true) => '░',
                    _ => '█',
                },
                row if (row_of(candle.high)..=row_of(candle.low)).contains(&row) => '│',
                _ => ' ',
            };
            match sign {
                ' ' => line.push(' '),
                sign => {
                    let _ = write!(line, "{}{sign}{}", ink(if rises { UP } else { DOWN }), ink(PLAIN));
                }
            }
            line.push_str(&" ".repeat(wide - 1));
        }
        match labelled.iter().find(|(at, _)| *at == row) {
            Some((_, text)) => {
                let _ = write!(line, " {}┤ {text}{}", ink(DIM), ink(PLAIN));
            }
            None => {
                let _ = write!(line, " {}│{}", ink(DIM), ink(PLAIN));
            }
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out.push_str(&times(&chart, wide));
    let (high, low) = (chart.candles.iter().map(|c| c.high), chart.candles.iter().map(|c| c.low));
    let digits = scale.digits.max(2);
    if let (Some(first), Some(last)) = (chart.candles.first(), chart.candles.last()) {
        let _ = writeln!(
            out,
            "open {:.digits$}  high {:.digits$}  low {:.digits$}  close {:.digits$}  volume {}",
            first.open,
            high.fold(f64::NEG_INFINITY, f64::max),
            low.fold(f64::INFINITY, f64::min),
            last.close,
            chart.candles.iter().map(|c| c.volume).sum::<f64>()
        );
    }
    out
}

/// Labels below their candles, as many as fit.
fn times(chart: &Chart, wide: usize) -> String {
    let mut line = String::new();
    for at in 0..chart.candles.len() {
        let label = chart.label(at);
        // Dates that begin a session go before times.
        let important = label.len() > 5 || at == 0;
        let free = line.chars().count() <= at * wide;
        let room = important || (at * wide).is_multiple_of(12);
        let next = (at + 1..chart.candles.len()).find(|next| chart.label(*next).len() > 5);
        let fits = important || next.is_none_or(|next| at * wide + label.len() < next * wide);
        if free && room && fits {
            let pad = at * wide - line.chars().count();
            line.push_str(&" ".repeat(pad));
            line.push_str(&label);
            line.push(' ');
        }
    }
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn colours_are_only_for_terminals() {
        assert!(!draw(&sample(), 40, 9, false).contains('\x1b'));
        assert!(draw(&sample(), 40, 9, true).contains(UP));
    }
}
