//! Is this row usual, and does the market trend? What is not known yet is NaN.

use super::indicator::rolling;

/// How many sample standard deviations each value is from the mean of the last `n`, itself among them.
pub fn zscore(values: &[f64], n: usize) -> Vec<f64> {
    rolling(values.len(), n, |run| {
        let (run, value) = (&values[run.clone()], values[run.end - 1]);
        let mean = run.iter().sum::<f64>() / run.len() as f64;
        let squares: f64 = run.iter().map(|v| (v - mean).powi(2)).sum();
        (value - mean) / (squares / (run.len() as f64 - 1.0)).sqrt()
    })
    .into_iter()
    .map(|z| if z.is_finite() { z } else { f64::NAN })
    .collect()
}

/// Beyond this a modified z-score is an outlier, say Iglewicz and Hoaglin.
const OUTLIER: f64 = 3.5;
/// The third quartile of the standard normal distribution: it makes the median deviation a standard one.
const QUARTILE: f64 = 0.6745;

/// Whether each value is an outlier among the last `n`, itself among them: 1 or 0.
pub fn anomaly(values: &[f64], n: usize) -> Vec<f64> {
    let (mut sorted, mut off) = (Vec::new(), Vec::new());
    let mut out = vec![f64::NAN; values.len()];
    for (at, flag) in out.iter_mut().enumerate() {
        if n == 0 || at + 1 < n {
            continue;
        }
        let run = &values[at + 1 - n..=at];
        let middle = median(run.iter().copied(), &mut sorted);
        let deviation = median(run.iter().map(|value| (value - middle).abs()), &mut off);
        // Where more than half are equal, whatever differs stands out.
        let far = QUARTILE * (values[at] - middle).abs() > OUTLIER * deviation;
        *flag = f64::from(u8::from(far));
    }
    out
}

fn median(values: impl Iterator<Item = f64>, buffer: &mut Vec<f64>) -> f64 {
    buffer.clear();
    buffer.extend(values);
    buffer.sort_unstable_by(f64::total_cmp);
    let half = buffer.len() / 2;
    match buffer.len() % 2 {
        1 => buffer[half],
        _ => (buffer[half - 1] + buffer[half]) / 2.0,
    }
}

/// Wilder's directional movement: how strong the trend is, and how much of the range went up and down.
pub fn adx(high: &[f64], low: &[f64], close: &[f64], n: usize) -> [Vec<f64>; 3] {
    let nothing = || vec![f64::NAN; close.len()];
    let [mut strength, mut plus, mut minus] = [nothing(), nothing(), nothing()];
    if n == 0 {
        return [strength, plus, minus];
    }
    let wanted = n as f64;
    let (mut up, mut down, mut range) = (0.0, 0.0, 0.0);
    let (mut sum, mut last) = (0.0, 0.0);
    for at in 1..close.len() {
        let (rise, fall) = (high[at] - high[at - 1], low[at - 1] - low[at]);
        let before = close[at - 1];
        if at >= n {
            // The first n - 1 are summed; from then on an n-th of the sum makes room for each new one.
            (up, down, range) = (up - up / wanted, down - down / wanted, range - range / wanted);
        }
        up += if rise > fall && rise > 0.0 { rise } else { 0.0 };
        down += if fall > rise && fall > 0.0 { fall } else { 0.0 };
        range += (high[at] - low[at]).max((high[at] - before).abs()).max((low[at] - before).abs());
        if at < n {
            continue;
        }
        let of_range = |part: f64| if range > 0.0 { 100.0 * part / range } else { 0.0 };
        (plus[at], minus[at]) = (of_range(up), of_range(down));
        let both = plus[at] + minus[at];
        let index = if both > 0.0 { 100.0 * (plus[at] - minus[at]).abs() / both } else { 0.0 };
        if at < 2 * n {
            sum += index;
            last = sum / wanted;
        } else {
            last = (last * (wanted - 1.0) + index) / wanted;
        }
        if at + 1 >= 2 * n {
            strength[at] = last;
        }
    }
    [strength, plus, minus]
}

/// From this strength on Wilder speaks of a trend.
const TREND: f64 = 25.0;

/// What `regime` answers, by the number that stands for it.
pub const REGIMES: [&str; 3] = ["range", "up", "down"];

/// The regime as a number: see [`REGIMES`].
pub fn regime(high: &[f64], low: &[f64], close: &[f64], n: usize) -> Vec<f64> {
    let [strength, plus, minus] = adx(high, low, close, n);
    let name = |at: usize| match strength[at] {
        unknown if unknown.is_nan() => f64::NAN,
        strength if strength < TREND => 0.0,
        _ if plus[at] >= minus[at] => 1.0,
        _ => 2.0,
    };
    (0..close.len()).map(name).collect()
}
