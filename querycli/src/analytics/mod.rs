//! Analytics over bars: indicators and volatility as window functions, performance as aggregates.
//!
//! A window function gives a value for every row of its input, in the window's order, NULL while it has too little to say. A row
//! whose input is NULL gets NULL and is skipped: it is neither counted nor taken for a zero.
//!
//! ```sql
//! SELECT bar_at, close, sma(close, 20) OVER w, rsi(close, 14) OVER w
//! FROM session_ohlc('SPY', '5m', '2025-11-24', '2025-11-28') WINDOW w AS (ORDER BY bar_at)
//! ```

mod indicator;
mod performance;
mod regime;
mod volatility;
mod window;

use datafusion::execution::context::SessionContext;

/// Registers all of them.
pub fn register(context: &SessionContext) {
    for function in window::functions() {
        context.register_udwf(function);
    }
    for function in performance::functions() {
        context.register_udaf(function);
    }
}

/// What a user is told of a function.
#[derive(Clone, Copy, Debug)]
pub struct Doc {
    /// Its name.
    pub name: &'static str,
    /// Its parameters, in order.
    pub parameters: &'static [&'static str],
    /// What it answers, and where the formula is from.
    pub about: &'static str,
}

/// Every function that SQL has not got.
pub const DOCS: &[Doc] = &[
    Doc {
        name: "session_grid",
        parameters: &["timeframe", "calendar", "first", "last", "segments"],
        about: "Every bar that the sessions of a calendar have room for, traded or not, as rows of (trade_date, bar_at, bar_end): the bars that session_ohlc(..., fill => 'null') would have. Joined with a series it shows gaps; ASOF JOIN fills them. Table function.",
    },
    Doc {
        name: "fill_previous",
        parameters: &["value"],
        about: "The value of a row or, where it is NULL, of the last row before it that has one; of any type. Window function.",
    },
    Doc {
        name: "returns",
        parameters: &["price"],
        about: "Simple return since the row before: p(t) / p(t-1) - 1. Window function.",
    },
    Doc {
        name: "log_returns",
        parameters: &["price"],
        about: "Logarithmic return since the row before: ln(p(t) / p(t-1)). Window function.",
    },
    Doc {
        name: "drawdown",
        parameters: &["price"],
        about: "How far a price is below its highest so far: p(t) / max(p(1..t)) - 1, zero or negative. Window function; its min is the maximum drawdown (Magdon-Ismail and Atiya, Risk, 2004).",
    },
    Doc {
        name: "sma",
        parameters: &["value", "n"],
        about: "Simple moving average of the last n rows. Window function.",
    },
    Doc {
        name: "ema",
        parameters: &["value", "n"],
        about: "Exponential moving average with weight 2 / (n + 1), begun with the average of the first n rows, as TA-Lib does. Window function.",
    },
    Doc {
        name: "rsi",
        parameters: &["price", "n"],
        about: "Relative strength index over n changes, smoothed as its author did (Wilder, New Concepts in Technical Trading Systems, 1978). Window function.",
    },
    Doc {
        name: "atr",
        parameters: &["high", "low", "close", "n"],
        about: "Average true range over n rows, in prices (Wilder, 1978). Window function.",
    },
    Doc {
        name: "macd",
        parameters: &["price", "fast", "slow", "signal"],
        about: "Moving average convergence and divergence (Appel): ema(fast) - ema(slow), its own ema, and their difference, as (macd, signal, histogram). Usual are 12, 26, 9. Window function.",
    },
    Doc {
        name: "bollinger",
        parameters: &["price", "n", "k"],
        about: "Moving average of n rows and k population standard deviations around it, as (lower, middle, upper) (Bollinger on Bollinger Bands, 2001). Window function.",
    },
    Doc {
        name: "vwap_bands",
        parameters: &["price", "volume", "k"],
        about: "Volume-weighted average price since the window's first row and k volume-weighted standard deviations around it, as (lower, middle, upper). PARTITION BY trade_date begins anew with each session. Window function.",
    },
    Doc {
        name: "close_volatility",
        parameters: &["close", "n"],
        about: "Sample standard deviation of the last n logarithmic returns, for one row's time: times sqrt(252) for a year of days. Window function.",
    },
    Doc {
        name: "parkinson_volatility",
        parameters: &["high", "low", "n"],
        about: "Volatility from ranges: sqrt(sum(ln(h/l)^2) / (4 n ln 2)) (Parkinson, Journal of Business 53, 1980). Window function.",
    },
    Doc {
        name: "garman_klass_volatility",
        parameters: &["open", "high", "low", "close", "n"],
        about: "Volatility from ranges and closes: sqrt(mean(ln(h/l)^2 / 2 - (2 ln 2 - 1) ln(c/o)^2)) (Garman and Klass, Journal of Business 53, 1980). Window function.",
    },
    Doc {
        name: "yang_zhang_volatility",
        parameters: &["open", "high", "low", "close", "n"],
        about: "Volatility with the jumps between rows, free of drift (Yang and Zhang, Journal of Business 73, 2000), with k = 0.34 / (1.34 + (n + 1) / (n - 1)). Window function.",
    },
    Doc {
        name: "zscore",
        parameters: &["value", "n"],
        about: "How many sample standard deviations a value is from the mean of the last n rows, its own among them; NULL where they are all equal. Window function.",
    },
    Doc {
        name: "anomaly",
        parameters: &["value", "n"],
        about: "Whether a value is an outlier among the last n rows: its modified z-score 0.6745 |x - median| / median(|x - median|) is above 3.5 (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993). Median and deviation know no later rows and are not moved by the outlier itself. Window function.",
    },
    Doc {
        name: "adx",
        parameters: &["high", "low", "close", "n"],
        about: "Average directional index over n rows and the shares of the range that went up and down, as (adx, plus, minus) (Wilder, New Concepts in Technical Trading Systems, 1978). Window function.",
    },
    Doc {
        name: "regime",
        parameters: &["high", "low", "close", "n"],
        about: "up or down where adx(high, low, close, n) is at least 25, by the greater directional movement, else range (Wilder, 1978). Window function.",
    },
    Doc {
        name: "sharpe",
        parameters: &["return", "periods"],
        about: "Mean over sample standard deviation of returns (in excess of the riskless rate, if you took it off), times sqrt(periods), rows a year (Sharpe, Journal of Portfolio Management, 1994). Aggregate.",
    },
    Doc {
        name: "sortino",
        parameters: &["return", "periods"],
        about: "Mean over downside deviation sqrt(mean(min(r, 0)^2)), times sqrt(periods) (Sortino and Price, Journal of Investing, 1994). Aggregate.",
    },
    Doc {
        name: "beta",
        parameters: &["return", "market"],
        about: "Covariance with the market's returns over their variance (Sharpe, Journal of Finance, 1964). Aggregate.",
    },
];

/// What is known of a function.
pub fn doc(name: &str) -> Option<&'static Doc> {
    DOCS.iter().find(|doc| doc.name == name)
}

impl Doc {
    /// `sma(value, n)`.
    pub fn signature(&self) -> String {
        format!("{}({})", self.name, self.parameters.join(", "))
    }
}
