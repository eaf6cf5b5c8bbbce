//! Analytics against TA-Lib and pandas: tests/data/analytics.csv, made by the script beside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use std::path::Path;
use std::process::Command;

const TOLERANCE: f64 = 1e-9;

fn csv(sql: &str) -> Vec<Vec<String>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/analytics.csv");
    let mut command = Command::new(env!("CARGO_BIN_EXE_querycli"));
    let out = command.arg(&data).args(["--format", "csv", "-c", sql]).env_remove("BELLWETHER_DB").output().unwrap();
    assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn check(ours: &str, theirs: &str, least: usize) {
    let rows = csv(&format!(
        "SELECT {ours} AS ours, {theirs} AS theirs FROM analytics WINDOW w AS (ORDER BY row) ORDER BY row"
    ));
    assert_eq!(rows.len(), 120, "{ours}");
    let mut compared = 0;
    for (at, row) in rows.iter().enumerate() {
        let (ours_value, theirs_value) = (row[0].parse::<f64>(), row[1].parse::<f64>());
        let Ok(theirs_value) = theirs_value else {
            // Theirs gives less: TA-Lib's MACD only from its signal on.
            continue;
        };
        let ours_value = ours_value.unwrap_or_else(|_| panic!("{ours} has no value in row {at}"));
        let off = (ours_value - theirs_value).abs() / theirs_value.abs().max(1.0);
        assert!(off <= TOLERANCE, "{ours} in row {at}: {ours_value}, not {theirs_value}");
        compared += 1;
    }
    assert_eq!(compared, least, "rows of {ours}");
}

/// NULL exactly where theirs is.
fn check_nulls(ours: &str, theirs: &str) {
    let sql = format!(
        "SELECT count(*) FROM (SELECT {ours} AS ours, {theirs} AS theirs FROM analytics WINDOW w AS (ORDER BY row)) WHERE (ours IS NULL) <> (theirs IS NULL)"
    );
    assert_eq!(csv(&sql), [["0"]], "{ours}");
}

#[test]
fn indicators_equal_ta_lib() {
    check("sma(close, 10) OVER w", "sma", 111);
    check("ema(close, 10) OVER w", "ema", 111);
    check("rsi(close, 14) OVER w", "rsi", 106);
    check("atr(high, low, close, 14) OVER w", "atr", 106);
    for part in ["macd", "signal", "histogram"] {
        check(&format!("get_field(macd(close, 12, 26, 9) OVER w, '{part}')"), part, 87);
    }
    for part in ["lower", "middle", "upper"] {
        check(&format!("get_field(bollinger(close, 20, 2) OVER w, '{part}')"), &format!("bb_{part}"), 101);
    }
    for (part, least) in [("adx", 107), ("plus", 113), ("minus", 113)] {
        check(&format!("get_field(adx(high, low, close, 7) OVER w, '{part}')"), part, least);
    }
    for (ours, theirs) in [
        ("sma(close, 10) OVER w", "sma"),
        ("rsi(close, 14) OVER w", "rsi"),
        ("atr(high, low, close, 14) OVER w", "atr"),
    ] {
        check_nulls(ours, theirs);
    }
}

#[test]
fn returns_and_volatility_equal_pandas() {
    check("returns(close) OVER w", "returns", 119);
    check("log_returns(close) OVER w", "log_returns", 119);
    check("drawdown(close) OVER w", "drawdown", 120);
    check("close_volatility(close, 20) OVER w", "close_volatility", 100);
    check("zscore(returns, 20) OVER w", "zscore", 100);
    check("parkinson_volatility(high, low, 20) OVER w", "parkinson", 101);
    check("garman_klass_volatility(open, high, low, close, 20) OVER w", "garman_klass", 101);
    check("yang_zhang_volatility(open, high, low, close, 20) OVER w", "yang_zhang", 100);
    for (part, theirs) in [("lower", "vwap_lower"), ("middle", "vwap"), ("upper", "vwap_upper")] {
        check(&format!("get_field(vwap_bands(close, volume, 2) OVER w, '{part}')"), theirs, 120);
    }
    for (ours, theirs) in [
        ("close_volatility(close, 20) OVER w", "close_volatility"),
        ("zscore(returns, 20) OVER w", "zscore"),
        ("parkinson_volatility(high, low, 20) OVER w", "parkinson"),
        ("yang_zhang_volatility(open, high, low, close, 20) OVER w", "yang_zhang"),
    ] {
        check_nulls(ours, theirs);
    }
}

/// Not numbers: what the script beside the data makes of TA-Lib's directional movement and pandas' medians.
#[test]
fn regimes_and_anomalies_are_flagged_where_the_script_flags_them() {
    for (ours, theirs, each) in [
        (
            "regime(high, low, close, 7) OVER w",
            "regime",
            [("", 13), ("down", 58), ("range", 14), ("up", 35)].as_slice(),
        ),
        ("anomaly(volume, 9) OVER w", "anomaly", &[("", 8), ("f", 107), ("t", 5)]),
    ] {
        let rows = csv(&format!(
            "SELECT {ours} AS ours, {theirs} AS theirs FROM analytics WINDOW w AS (ORDER BY row) ORDER BY row"
        ));
        let mut seen = std::collections::BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            // NULL is printed as nothing, an empty text as two quotes.
            assert_eq!(row[0], row[1].trim_matches('"'), "{ours} in row {at}");
            *seen.entry(row[0].as_str()).or_insert(0) += 1;
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), each, "{ours}");
    }
}

#[test]
fn performance_equals_pandas_and_does_not_depend_on_the_order() {
    let of = |order: &str| {
        csv(&format!(
            "SELECT sharpe(returns, 252) - max(sharpe), sortino(returns, 252) - max(sortino), beta(returns, market) - max(beta) FROM (SELECT * FROM analytics ORDER BY {order})"
        ))
    };
    for order in ["row", "close", "-row"] {
        for off in &of(order)[0] {
            assert!(off.parse::<f64>().unwrap().abs() <= TOLERANCE, "{off} by {order}");
        }
    }
}

#[test]
fn an_indicator_of_an_indicator_skips_what_is_null_and_each_partition_begins_anew() {
    // The average of the last two returns: the first return is NULL, so the third row has the first average.
    let rows = csv(
        "SELECT row, sma(r, 2) OVER (ORDER BY row) AS m FROM (SELECT row, returns(close) OVER (ORDER BY row) AS r FROM analytics WHERE row < 4) ORDER BY row",
    );
    let known: Vec<bool> = rows.iter().map(|row| !row[1].is_empty()).collect();
    assert_eq!(known, [false, false, true, true]);
    let rows = csv(
        "SELECT count(r) FROM (SELECT returns(close) OVER (PARTITION BY row / 60 ORDER BY row) AS r FROM analytics)",
    );
    assert_eq!(rows, [["118"]]);
}

#[test]
fn a_wrong_number_of_rows_is_refused() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/analytics.csv");
    for (sql, expected) in [
        ("SELECT sma(close, 0) OVER (ORDER BY row) FROM analytics", "sma: 0 is no number of rows"),
        ("SELECT ema(close, 2.5) OVER (ORDER BY row) FROM analytics", "ema: 2.5 is no number of rows"),
        ("SELECT rsi(close) OVER (ORDER BY row) FROM analytics", "rsi(price, n)"),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_querycli"))
            .arg(&data)
            .args(["-c", sql])
            .env_remove("BELLWETHER_DB")
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && error.contains(expected), "{sql}: {error}");
    }
}
