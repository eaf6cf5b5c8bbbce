//! Indicators over a series without gaps; what is not known yet is NaN.

/// The ratio of each value to the one before, less one.
pub fn returns(values: &[f64]) -> Vec<f64> {
    changes(values, |now, before| now / before - 1.0)
}

/// The logarithm of that ratio.
pub fn log_returns(values: &[f64]) -> Vec<f64> {
    changes(values, |now, before| (now / before).ln())
}

fn changes(values: &[f64], of: fn(f64, f64) -> f64) -> Vec<f64> {
    let mut out = vec![f64::NAN; values.len()];
    for at in 1..values.len() {
        out[at] = of(values[at], values[at - 1]);
    }
    out
}

/// How far each value is below the highest so far.
pub fn drawdown(values: &[f64]) -> Vec<f64> {
    let mut peak = f64::NEG_INFINITY;
    values
        .iter()
        .map(|value| {
            peak = peak.max(*value);
            value / peak - 1.0
        })
        .collect()
}

/// Applies `of` to every run of `n` values.
pub fn rolling(len: usize, n: usize, of: impl Fn(std::ops::Range<usize>) -> f64) -> Vec<f64> {
    let mut out = vec![f64::NAN; len];
    for (at, value) in out.iter_mut().enumerate() {
        if n > 0 && at + 1 >= n {
            // Summed anew each time: nothing drifts away over a million rows, and n is small.
            *value = of(at + 1 - n..at + 1);
        }
    }
    out
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean of the last `n`.
pub fn sma(values: &[f64], n: usize) -> Vec<f64> {
    rolling(values.len(), n, |run| mean(&values[run]))
}

/// The exponential mean; the first one, at `begin`, is the mean of the `n` values up to there.
fn ema_from(values: &[f64], n: usize, begin: usize) -> Vec<f64> {
    let mut out = vec![f64::NAN; values.len()];
    if n == 0 || begin + 1 < n || begin >= values.len() {
        return out;
    }
    let weight = 2.0 / (n as f64 + 1.0);
    let mut last = mean(&values[begin + 1 - n..=begin]);
    out[begin] = last;
    for at in begin + 1..values.len() {
        last += weight * (values[at] - last);
        out[at] = last;
    }
    out
}

/// The exponential mean.
pub fn ema(values: &[f64], n: usize) -> Vec<f64> {
    ema_from(values, n, n.saturating_sub(1))
}

/// Wilder's smoothing of `values[first..]`: the mean of the first `n`, then a weight of 1/n.
fn wilder(values: &[f64], first: usize, n: usize) -> Vec<f64> {
    let mut out = vec![f64::NAN; values.len()];
    if n == 0 || first + n > values.len() {
        return out;
    }
    let mut last = mean(&values[first..first + n]);
    out[first + n - 1] = last;
    for at in first + n..values.len() {
        last = (last * (n as f64 - 1.0) + values[at]) / n as f64;
        out[at] = last;
    }
    out
}

/// The relative strength index.
pub fn rsi(values: &[f64], n: usize) -> Vec<f64> {
    let change = changes(values, |now, before| now - before);
    let up = wilder(&change.iter().map(|c| c.max(0.0)).collect::<Vec<_>>(), 1, n);
    let down = wilder(&change.iter().map(|c| (-c).max(0.0)).collect::<Vec<_>>(), 1, n);
    // Without any change there is no strength either way: zero, as TA-Lib says.
    let index = |(up, down): (&f64, &f64)| if up + down == 0.0 { 0.0 } else { 100.0 * up / (up + down) };
    up.iter().zip(&down).map(index).collect()
}

/// The average true range. The first row has no close before it and no true range.
pub fn atr(high: &[f64], low: &[f64], close: &[f64], n: usize) -> Vec<f64> {
    let mut range = vec![f64::NAN; close.len()];
    for at in 1..close.len() {
        let before = close[at - 1];
        range[at] = (high[at] - low[at]).max((high[at] - before).abs()).max((low[at] - before).abs());
    }
    wilder(&range, 1, n)
}

/// The line, its signal and their difference. Both means begin with the slower one's first value, as in TA-Lib.
pub fn macd(values: &[f64], fast: usize, slow: usize, signal: usize) -> [Vec<f64>; 3] {
    let nothing = || vec![f64::NAN; values.len()];
    if fast == 0 || slow < fast {
        return [nothing(), nothing(), nothing()];
    }
    let begin = slow - 1;
    let (quick, steady) = (ema_from(values, fast, begin), ema_from(values, slow, begin));
    let line: Vec<f64> = quick.iter().zip(&steady).map(|(quick, steady)| quick - steady).collect();
    let signal = match line.get(begin..) {
        Some(known) => {
            let mut signals = vec![f64::NAN; begin];
            signals.extend(ema(known, signal));
            signals
        }
        None => nothing(),
    };
    let histogram = line.iter().zip(&signal).map(|(line, signal)| line - signal).collect();
    [line, signal, histogram]
}

/// Lower, middle and upper band.
pub fn bollinger(values: &[f64], n: usize, k: f64) -> [Vec<f64>; 3] {
    let middle = sma(values, n);
    let spread = rolling(values.len(), n, |run| {
        let run = &values[run];
        let middle = mean(run);
        (run.iter().map(|v| (v - middle).powi(2)).sum::<f64>() / run.len() as f64).sqrt()
    });
    bands(middle, &spread, k)
}

/// The same around the volume-weighted mean since the first row.
pub fn vwap_bands(price: &[f64], volume: &[f64], k: f64) -> [Vec<f64>; 3] {
    // West's update of a weighted variance (Communications of the ACM 22, 1979): no cancellation of large squares.
    let (mut weight, mut middle, mut squares) = (0.0, 0.0, 0.0);
    let (mut middles, mut spread) = (Vec::with_capacity(price.len()), Vec::with_capacity(price.len()));
    for (price, volume) in price.iter().zip(volume) {
        if *volume > 0.0 {
            weight += volume;
            let off = price - middle;
            middle += off * volume / weight;
            squares += volume * off * (price - middle);
        }
        let known = weight > 0.0;
        middles.push(if known { middle } else { f64::NAN });
        spread.push(if known { (squares / weight).max(0.0).sqrt() } else { f64::NAN });
    }
    bands(middles, &spread, k)
}

fn bands(middle: Vec<f64>, spread: &[f64], k: f64) -> [Vec<f64>; 3] {
    let at = |sign: f64| middle.iter().zip(spread).map(|(middle, spread)| middle + sign * k * spread).collect();
    [at(-1.0), middle.clone(), at(1.0)]
}
