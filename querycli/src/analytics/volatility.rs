//! Volatility of the last `n` rows, for one row's time.

use super::indicator::{log_returns, rolling};
use std::f64::consts::LN_2;

/// Sample variance.
fn variance(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    values.map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)
}

/// Of closes: a row more is needed than returns are counted.
pub fn close(close: &[f64], n: usize) -> Vec<f64> {
    let returns = log_returns(close);
    let mut out = rolling(close.len(), n, |run| variance(returns[run].iter().copied()).sqrt());
    // The first return is no number, so a run that holds it is none either.
    if n < 2 {
        out.fill(f64::NAN);
    }
    out
}

/// Of ranges.
pub fn parkinson(high: &[f64], low: &[f64], n: usize) -> Vec<f64> {
    rolling(high.len(), n, |run| {
        let squares: f64 = run.clone().map(|at| (high[at] / low[at]).ln().powi(2)).sum();
        (squares / (4.0 * run.len() as f64 * LN_2)).sqrt()
    })
}

/// Of ranges and what the row moved.
pub fn garman_klass(open: &[f64], high: &[f64], low: &[f64], close: &[f64], n: usize) -> Vec<f64> {
    rolling(close.len(), n, |run| {
        let count = run.len() as f64;
        let sum: f64 = run
            .map(|at| {
                let (range, moved) = ((high[at] / low[at]).ln(), (close[at] / open[at]).ln());
                0.5 * range * range - (2.0 * LN_2 - 1.0) * moved * moved
            })
            .sum();
        (sum / count).sqrt()
    })
}

/// Of jumps, moves and ranges together.
pub fn yang_zhang(open: &[f64], high: &[f64], low: &[f64], close: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![f64::NAN; close.len()];
    if n < 2 {
        return out;
    }
    let k = 0.34 / (1.34 + (n as f64 + 1.0) / (n as f64 - 1.0));
    // The first row has no close before it.
    for (at, out) in out.iter_mut().enumerate().skip(n) {
        let run = at + 1 - n..at + 1;
        let jumps = variance(run.clone().map(|at| (open[at] / close[at - 1]).ln()));
        let moves = variance(run.clone().map(|at| (close[at] / open[at]).ln()));
        // Rogers and Satchell, Annals of Applied Probability 1, 1991.
        let ranges: f64 = run
            .map(|at| {
                let (up, down, moved) =
                    ((high[at] / open[at]).ln(), (low[at] / open[at]).ln(), (close[at] / open[at]).ln());
                up * (up - moved) + down * (down - moved)
            })
            .sum();
        *out = (jumps + k * moves + (1.0 - k) * ranges / n as f64).sqrt();
    }
    out
}
