//! A chart as SVG.

use super::Chart;
use super::picture::{Anchor, BACKGROUND, Colour, HEIGHT, Shape, WIDTH, shapes};
use std::fmt::Write;

/// The picture's text.
pub fn draw(chart: &Chart) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"Inter, Helvetica, Arial, sans-serif\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"{}\"/>\n",
        hex(BACKGROUND)
    );
    for shape in shapes(chart) {
        // Writing to a String cannot fail.
        let _ = match shape {
            Shape::Rect([x, y, width, height], colour) => writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{}\"/>",
                hex(colour)
            ),
            Shape::Text { at: (x, y), size, colour, anchor, text } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                };
                writeln!(
                    out,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                    hex(colour),
                    escaped(&text)
                )
            }
        };
    }
    out.push_str("</svg>\n");
    out
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn every_candle_and_label_is_drawn_and_text_is_escaped() {
        let chart = Chart { title: "A&B <1m>".into(), ..sample() };
        let svg = draw(&chart);
        // Four bodies and wicks, three volumes.
        assert_eq!(svg.matches("fill=\"#2fb79a\"").count() + svg.matches("fill=\"#f0616d\"").count(), 8);
        assert_eq!(svg.matches("fill=\"#1c5c52\"").count() + svg.matches("fill=\"#73353e\"").count(), 3);
        assert!(svg.contains("A&amp;B &lt;1m&gt;") && svg.contains(">2025-11-25<") && svg.contains(">671.0<"));
    }
}
