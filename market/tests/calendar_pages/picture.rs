//! The picture of a calendar's week: a lane a day, the hours across, as SVG for light and dark pages.

use crate::week::{Bar, Pattern, What, patterns};
use chrono::{Days, NaiveDate};
use market::{Calendar, Segment};
use std::fmt::Write;

const LEFT: f64 = 46.0;
const WIDTH: f64 = 696.0;
const LANE: f64 = 22.0;
const STEP: f64 = 26.0;
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

// Colours that differ in lightness too, with dark letters on them in both modes; `prefers-color-scheme` is the reader's.
const STYLE: &str = "\
.page{fill:#ffffff}.lane{fill:#eef1f4}.grid{stroke:#cdd4db;stroke-width:1}\
text{font-family:system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;font-size:11px;fill:#24292f}\
.small{font-size:10px}.strong{font-weight:600}.inside{font-size:10px;fill:#10151b}\
.ON{fill:#9db4e6}.PRE{fill:#f5c560}.RTH{fill:#4fb79f}.POST{fill:#cfa3dc}.auction{fill:#e2613a}\
.break{fill:none;stroke:#7a828c;stroke-width:1;stroke-dasharray:3 2}.pause{font-size:9px;fill:#5b636d}\
@media (prefers-color-scheme: dark){.page{fill:#0d1117}.lane{fill:#1d232b}.grid{stroke:#3a424c}text{fill:#d0d7de}\
.inside{fill:#10151b}.pause{fill:#a0a8b2}.break{stroke:#8b949e}}";

/// The whole picture: a panel for each kind of ordinary week.
pub fn draw(calendar: &Calendar) -> String {
    let patterns = patterns(calendar);
    let panel = 24.0 + 7.0 * STEP + 18.0;
    let height = 30.0 + panel * patterns.len() as f64 + 30.0;
    let title = format!("The week of {}: {}", calendar.id(), calendar.name());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {height}\" width=\"{w}\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"title desc\">\n<title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{w}\" height=\"{height}\"/>\n<text class=\"strong\" x=\"8\" y=\"20\">{}</text>\n",
        escape(&title),
        escape(&describe(calendar, &patterns)),
        escape(&format!("{} · wall clock of {}", calendar.id(), calendar.time_zone())),
        w = LEFT + WIDTH + 18.0,
    );
    let mut top = 30.0;
    for pattern in &patterns {
        lanes(&mut svg, pattern, top);
        top += panel;
    }
    legend(&mut svg, &patterns, top + 14.0);
    svg.push_str("</svg>\n");
    svg
}

fn lanes(svg: &mut String, pattern: &Pattern, top: f64) {
    line(
        svg,
        format_args!("<text class=\"small\" x=\"{LEFT}\" y=\"{}\">{}</text>", top + 13.0, escape(&when(pattern))),
    );
    let top = top + 20.0;
    for (lane, day) in DAYS.iter().enumerate() {
        let y = top + lane as f64 * STEP;
        line(svg, format_args!("<text x=\"8\" y=\"{}\">{day}</text>", y + 15.0));
        line(svg, format_args!("<rect class=\"lane\" x=\"{LEFT}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{LANE}\"/>"));
    }
    let bottom = top + 7.0 * STEP;
    for hour in (0..=24).step_by(2) {
        let x = at(hour * 60);
        line(svg, format_args!("<path class=\"grid\" d=\"M{x} {top}V{}\"/>", bottom - 2.0));
        let middle = if hour == 24 { "end" } else { "middle" };
        line(
            svg,
            format_args!(
                "<text class=\"small\" x=\"{x}\" y=\"{}\" text-anchor=\"{middle}\">{hour:02}:00</text>",
                bottom + 10.0
            ),
        );
    }
    for bar in &pattern.bars {
        draw_bar(svg, bar, top + f64::from(bar.lane) * STEP);
    }
}

fn draw_bar(svg: &mut String, bar: &Bar, y: f64) {
    let (x, width) = (at(bar.from), at(bar.to) - at(bar.from));
    // The regular hours stand out by their height as well.
    let inset = match bar.what {
        What::Span(Segment::Rth) | What::Auction => 0.0,
        What::Break => 5.0,
        What::Span(_) => 3.0,
    };
    line(
        svg,
        format_args!(
            "<rect class=\"seg {}\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{}\"><title>{}</title></rect>",
            class(bar.what),
            y + inset,
            LANE - 2.0 * inset,
            sentence(bar)
        ),
    );
    let hours = format!("{}\u{2013}{}", clock(bar.from), clock(bar.to));
    let belongs =
        if bar.trade_day == bar.lane { String::new() } else { format!(" \u{2192} {}", DAYS[bar.trade_day as usize]) };
    let (texts, class) = match bar.what {
        What::Span(segment) => {
            (vec![format!("{segment} {hours}{belongs}"), format!("{segment}{belongs}"), segment.to_string()], "inside")
        }
        What::Break => (vec![format!("break {hours}"), "break".into()], "pause"),
        What::Auction => (Vec::new(), "inside"),
    };
    // Six units a letter is wider than most fonts, so that text stays inside its bar.
    if let Some(text) = texts.iter().find(|text| text.chars().count() as f64 * 6.0 + 4.0 <= width) {
        let middle = x + width / 2.0;
        let y = y + 14.5;
        line(
            svg,
            format_args!("<text class=\"{class}\" x=\"{middle}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>"),
        );
    }
}

fn legend(svg: &mut String, patterns: &[Pattern], y: f64) {
    let mut x = LEFT;
    for (what, text) in [
        (What::Span(Segment::On), "ON overnight"),
        (What::Span(Segment::Pre), "PRE before"),
        (What::Span(Segment::Rth), "RTH regular hours"),
        (What::Span(Segment::Post), "POST after"),
        (What::Auction, "auction"),
        (What::Break, "break"),
    ] {
        if patterns.iter().all(|pattern| pattern.bars.iter().all(|bar| bar.what != what)) {
            continue;
        }
        line(
            svg,
            format_args!("<rect class=\"{}\" x=\"{x}\" y=\"{}\" width=\"14\" height=\"10\"/>", class(what), y - 9.0),
        );
        line(svg, format_args!("<text class=\"small\" x=\"{}\" y=\"{y}\">{text}</text>", x + 19.0));
        x += 34.0 + text.len() as f64 * 6.0;
    }
    let other = patterns.iter().flat_map(|pattern| &pattern.bars).any(|bar| bar.lane != bar.trade_day);
    if other {
        line(
            svg,
            format_args!(
                "<text class=\"small\" x=\"{x}\" y=\"{y}\">\u{2192} Mon: belongs to Monday's trade date</text>"
            ),
        );
    }
}

/// For those who hear the picture: the hours of each day.
fn describe(calendar: &Calendar, patterns: &[Pattern]) -> String {
    let mut text = format!("Hours on the wall clock of {}.", calendar.time_zone());
    for pattern in patterns {
        let _ = write!(text, " {}:", when(pattern));
        for (lane, day) in DAYS.iter().enumerate() {
            let bars: Vec<_> = pattern.bars.iter().filter(|bar| bar.lane as usize == lane).map(sentence).collect();
            let hours = if bars.is_empty() { "closed".to_string() } else { bars.join(", ") };
            let _ = write!(text, " {day} {hours};");
        }
    }
    text
}

fn sentence(bar: &Bar) -> String {
    let name = match bar.what {
        What::Span(segment) => segment.to_string(),
        What::Auction => "auction".into(),
        What::Break => "break".into(),
    };
    let belongs = match bar.trade_day == bar.lane {
        true => String::new(),
        false => format!(" for {}", DAYS[bar.trade_day as usize]),
    };
    format!("{name} {} to {}{belongs}", clock(bar.from), clock(bar.to))
}

/// `weeks like 10 January 2027`: the stretches of the year in which the weeks look like this.
fn when(pattern: &Pattern) -> String {
    let mut stretches: Vec<(NaiveDate, NaiveDate)> = Vec::new();
    for sunday in &pattern.sundays {
        match stretches.last_mut() {
            Some((_, last)) if *sunday - *last <= chrono::TimeDelta::days(56) => *last = *sunday,
            _ => stretches.push((*sunday, *sunday)),
        }
    }
    let stretches = stretches.iter().map(|(first, last)| format!("{first} to {}", *last + Days::new(6)));
    format!("ordinary weeks, {}", stretches.collect::<Vec<_>>().join(" and "))
}

fn class(what: What) -> &'static str {
    match what {
        What::Span(segment) => segment.name(),
        What::Auction => "auction",
        What::Break => "break",
    }
}

fn clock(minutes: u32) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn at(minutes: u32) -> f64 {
    LEFT + WIDTH * f64::from(minutes) / 1440.0
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(svg, "{text}");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
