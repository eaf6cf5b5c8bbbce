//! Scales: prices to pixels with round ticks, and the labels of the time axis.

use super::Chart;
use crate::wording;
use chrono::{Datelike, Timelike};

/// A linear scale of prices on a stretch of pixels, the highest price on top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceScale {
    /// Price at the top.
    pub high: f64,
    /// Price at the bottom.
    pub low: f64,
    /// Pixel of the top.
    pub top: f64,
    /// Pixels from top to bottom.
    pub height: f64,
}

impl PriceScale {
    /// A scale that holds these prices with some room above and below; a flat line lies in the middle.
    pub fn new(low: f64, high: f64, smallest: f64, top: f64, height: f64) -> PriceScale {
        let room = ((high - low) * 0.11).max(smallest * 4.0).max(high.abs() * 1e-9);
        PriceScale { high: high + room, low: low - room, top, height }
    }

    /// The pixel of a price.
    pub fn y(&self, price: f64) -> f64 {
        self.top + (self.high - price) / (self.high - self.low) * self.height
    }

    /// Round prices, about `count` of them, in steps of 1, 2, 2.5 or 5 times a power of ten and of no less than `smallest`.
    pub fn ticks(&self, count: usize, smallest: f64) -> Vec<f64> {
        let raw = ((self.high - self.low) / count.max(1) as f64).max(smallest);
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|k| k * power).find(|step| *step >= raw * 0.999);
        // 2.5 of the smallest unit would need a digit that prices do not have.
        let step = step.filter(|step| (step / smallest).fract().abs() < 1e-6 || step / smallest > 10.0);
        let step = step.unwrap_or((raw / smallest).ceil() * smallest);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        // Multiples, not sums: a sum of steps drifts.
        (first..=last).take(64).map(|k| k as f64 * step).collect()
    }
}

/// A label of the time axis.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeTick {
    /// The slot it stands at.
    pub slot: usize,
    /// `09:30`, `24 Nov`.
    pub text: String,
    /// Begins a session, a month or a year.
    pub major: bool,
}

/// Labels at least `apart` pixels from each other, with a slot of `step` pixels.
pub fn time_ticks(chart: &Chart, step: f64, apart: f64) -> Vec<TimeTick> {
    if chart.intraday { intraday(chart, step, apart) } else { daily(chart, step, apart) }
}

fn intraday(chart: &Chart, step: f64, apart: f64) -> Vec<TimeTick> {
    let starts: Vec<usize> = (0..chart.slots.len())
        .filter(|at| *at == 0 || chart.slots[*at].trade_date != chart.slots[at - 1].trade_date)
        .collect();
    let local = |slot: usize| wording::local(chart.slots[slot].open_at, chart.zone);
    let date = |slot: usize| chart.slots[slot].trade_date.date().format("%a %-d %b").to_string();
    let mut ticks = spread(&starts, step, apart + 24.0, |slot| TimeTick { slot, text: date(slot), major: true });
    // The finest round clock times for which there is room; all of them or none, so that the axis stays regular.
    for minutes in [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360] {
        let round: Vec<usize> = (0..chart.slots.len())
            .filter(|slot| {
                let at = local(*slot);
                at.second() == 0 && (at.hour() * 60 + at.minute()) % minutes == 0
            })
            .collect();
        let room = round.windows(2).all(|pair| {
            (pair[1] - pair[0]) as f64 * step >= apart || {
                chart.slots[pair[0]].trade_date != chart.slots[pair[1]].trade_date
            }
        });
        if !room {
            continue;
        }
        let mut last = None;
        for slot in round {
            let near = |at: usize, gap: f64| (at.abs_diff(slot)) as f64 * step < gap;
            let blocked = ticks.iter().any(|tick| tick.major && near(tick.slot, apart + 16.0));
            if !blocked && !last.is_some_and(|last| near(last, apart)) {
                let text = local(slot).format("%H:%M").to_string();
                ticks.push(TimeTick { slot, text, major: false });
                last = Some(slot);
            }
        }
        break;
    }
    ticks.sort_by_key(|tick| tick.slot);
    ticks
}

fn daily(chart: &Chart, step: f64, apart: f64) -> Vec<TimeTick> {
    let day = |slot: usize| chart.slots[slot].trade_date.date();
    let begins = |slot: usize, of: fn(chrono::NaiveDate) -> i32| slot == 0 || of(day(slot)) != of(day(slot - 1));
    let all = 0..chart.slots.len();
    let months = all.clone().filter(|slot| begins(*slot, |d| d.year() * 12 + d.month0() as i32)).count();
    let years: Vec<usize> = all.clone().filter(|slot| begins(*slot, |d| d.year())).collect();
    if years.len() > 12 {
        return spread(&years, step, apart, |slot| TimeTick {
            slot,
            text: day(slot).format("%Y").to_string(),
            major: true,
        });
    }
    if months > 4 {
        // January stands for its year, and the months between lie evenly.
        let room = (chart.slots.len() as f64 * step / apart).max(1.0);
        let every =
            [1, 2, 3, 4, 6, 12].into_iter().find(|every| months as f64 / f64::from(*every) <= room).unwrap_or(12);
        let begins = |slot: &usize| {
            begins(*slot, |d| d.year() * 12 + d.month0() as i32) && (day(*slot).month0() % every == 0 || *slot == 0)
        };
        return all
            .filter(begins)
            .map(|slot| {
                let january = day(slot).month() == 1;
                let format = if january {
                    "%Y"
                } else if slot == 0 {
                    "%b %Y"
                } else {
                    "%b"
                };
                TimeTick { slot, text: day(slot).format(format).to_string(), major: january }
            })
            .collect();
    }
    spread(&all.collect::<Vec<_>>(), step, apart, |slot| {
        let text = day(slot).format("%-d %b").to_string();
        TimeTick { slot, text, major: begins(slot, |d| d.month() as i32) }
    })
}

/// Every k-th of the slots, so that labels are `apart` pixels from each other.
fn spread(slots: &[usize], step: f64, apart: f64, tick: impl Fn(usize) -> TimeTick) -> Vec<TimeTick> {
    let mut chosen: Vec<TimeTick> = Vec::new();
    for slot in slots {
        if chosen.last().is_none_or(|last| (slot - last.slot) as f64 * step >= apart) {
            chosen.push(tick(*slot));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_inside_and_not_too_many() {
        for (low, high, smallest) in
            [(6000.0, 6080.25, 0.25), (-40.0, 15.0, 0.01), (1.0, 1.0, 0.01), (0.00001, 0.00009, 1e-8), (5e9, 6e9, 1.0)]
        {
            let scale = PriceScale::new(low, high, smallest, 0.0, 400.0);
            let ticks = scale.ticks(7, smallest);
            assert!((2..=15).contains(&ticks.len()), "{low}..{high}: {ticks:?}");
            assert!(ticks.iter().all(|tick| *tick <= scale.high && *tick >= scale.low));
            let steps: Vec<f64> = ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(steps.iter().all(|step| (step - steps[0]).abs() < steps[0] * 1e-6), "{ticks:?}");
        }
    }

    #[test]
    fn a_flat_line_lies_in_the_middle() {
        let scale = PriceScale::new(100.0, 100.0, 0.01, 10.0, 400.0);
        assert!((scale.y(100.0) - 210.0).abs() < 1e-6);
    }
}
