//! What is drawn. Set `BELLWETHER_CHARTS` to a folder to look at the pictures.

use crate::stub::{Stub, now};
use bot::answer::{Answerer, Desk};
use bot::chart::{Candle, Chart, Mark, MarkKind, Slot, png, svg};
use bot::numbers::Prices;
use market::TradeDate;
use market::time::MINUTE;

/// A chart of these bars, a minute each, from 2025-11-24 09:30 in New York on; `None` is a minute without trades.
fn chart(bars: &[Option<(f64, f64, f64, f64)>]) -> Chart {
    let start = crate::stub::at("2025-11-24T09:30:00-05:00");
    let trade_date = TradeDate::parse("2025-11-24").unwrap();
    let prices = |(open, high, low, close)| Prices { open, high, low, close };
    let candles: Vec<Candle> = bars
        .iter()
        .enumerate()
        .filter_map(|(slot, bar)| {
            Some(Candle { slot, prices: Some(prices((*bar)?)), volume: 100.0 + (slot * 37 % 91) as f64 })
        })
        .collect();
    let all: Vec<Prices> = candles.iter().filter_map(|candle| candle.prices).collect();
    let high = all.iter().map(|p| p.high).fold(f64::MIN, f64::max);
    let low = all.iter().map(|p| p.low).fold(f64::MAX, f64::min);
    let slot_of =
        |wanted: &dyn Fn(&Prices) -> bool| candles.iter().find(|c| c.prices.is_some_and(|p| wanted(&p))).unwrap().slot;
    Chart {
        title: "TEST".into(),
        timeframe: "1m".into(),
        subtitle: "A <b>bold</b> & \"quoted\" name \u{b7} Mon 24 Nov 2025 \u{b7} RTH".into(),
        zone: chrono_tz::America::New_York,
        intraday: true,
        decimals: 2,
        slots: (0..bars.len()).map(|at| Slot { trade_date, open_at: start + at as i64 * MINUTE }).collect(),
        regular: Vec::new(),
        marks: vec![
            Mark { kind: MarkKind::High, slot: slot_of(&|p| p.high == high), price: high },
            Mark { kind: MarkKind::Low, slot: slot_of(&|p| p.low == low), price: low },
            Mark { kind: MarkKind::Open, slot: candles[0].slot, price: all[0].open },
            Mark { kind: MarkKind::Close, slot: candles[candles.len() - 1].slot, price: all[all.len() - 1].close },
        ],
        total: Some(Prices { open: all[0].open, high, low, close: all[all.len() - 1].close }),
        volume: candles.iter().map(|c| c.volume).sum(),
        focus: "RTH".into(),
        state: "final".into(),
        candles,
    }
}

fn walk(count: usize, start: f64, size: f64) -> Vec<Option<(f64, f64, f64, f64)>> {
    let mut state = 12_345u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64 / f64::from(1u32 << 31) - 0.5) * size
    };
    let mut price = start;
    (0..count)
        .map(|_| {
            let open = price;
            price += random();
            let (top, bottom) = (open.max(price) + random().abs(), open.min(price) - random().abs());
            Some((open, top, bottom, price))
        })
        .collect()
}

/// Draws it, checks that it is a picture of the right size and sound XML, and keeps it where asked.
fn draw(name: &str, chart: &Chart) -> String {
    let svg = svg(chart);
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}: {svg}");
    let png = png(&svg).unwrap();
    assert!(png.starts_with(b"\x89PNG"), "{name}");
    assert_eq!((&png[16..20], &png[20..24]), (&1_200u32.to_be_bytes()[..], &675u32.to_be_bytes()[..]), "{name}");
    if let Ok(folder) = std::env::var("BELLWETHER_CHARTS") {
        std::fs::write(format!("{folder}/{name}.png"), png).unwrap();
    }
    svg
}

#[test]
fn every_shape_of_data_is_drawn() {
    draw("one", &chart(&[Some((100.0, 101.5, 99.25, 101.0))]));
    draw("two", &chart(&walk(2, 100.0, 1.0)));
    draw("day", &chart(&walk(120, 6_000.0, 4.0)));
    draw("many", &chart(&walk(500, 6_000.0, 4.0)));
    draw("most", &chart(&walk(1_100, 6_000.0, 4.0)));
    draw("flat", &chart(&vec![Some((50.0, 50.0, 50.0, 50.0)); 60]));
    draw("negative", &chart(&walk(90, -12.0, 9.0)));
    draw("tiny", &Chart { decimals: 8, ..chart(&walk(90, 0.000_012, 0.000_001)) });
    let mut gaps = walk(120, 100.0, 1.0);
    gaps.iter_mut().enumerate().filter(|(at, _)| (30..62).contains(at) || at % 7 == 0).for_each(|(_, bar)| *bar = None);
    draw("gaps", &chart(&gaps));
    let mut corner = walk(60, 100.0, 0.2);
    corner[59] = Some((100.0, 140.0, 60.0, 140.0));
    draw("corner", &chart(&corner));
    let mut empty = chart(&walk(2, 100.0, 1.0));
    (empty.candles, empty.slots, empty.marks, empty.total) = (vec![], vec![], vec![], None);
    draw("empty", &empty);
    let mut unpriced = chart(&walk(5, 100.0, 1.0));
    unpriced.candles.iter_mut().for_each(|candle| candle.prices = None);
    unpriced.marks.clear();
    draw("unpriced", &unpriced);
}

#[test]
fn text_is_escaped() {
    let svg = draw("escaped", &chart(&walk(10, 100.0, 1.0)));
    assert!(svg.contains("A &lt;b&gt;bold&lt;/b&gt; &amp; &quot;quoted&quot; name"));
    assert!(!svg.contains("<b>"));
}

#[test]
fn a_chart_looks_as_it_did() {
    insta::assert_snapshot!(draw("snapshot", &chart(&walk(12, 100.0, 1.0))));
}

#[tokio::test]
async fn questions_are_drawn() {
    for (name, question) in [
        ("stat", "what was ES's RTH high yesterday?"),
        ("days", "chart ES 15m last 3 sessions"),
        ("daily", "daily chart of SPY last 60 sessions"),
        ("years", "weekly chart of SPY last 1300 sessions"),
        ("hourly", "chart GC 1h last 20 sessions"),
        ("crypto", "chart BTC-USD 30m last 4 sessions"),
        ("halfday", "chart SPY 5m on 2024-11-29"),
        ("lunch", "chart ES 5m yesterday"),
    ] {
        let answer = Desk::new(Stub::default()).answer(question, now()).await.unwrap();
        draw(name, &answer.chart.unwrap());
    }
}
