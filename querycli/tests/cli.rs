//! The program as its users run it: over files, without a database.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use std::path::Path;
use std::process::Command;

/// Six trades of New York's half day after Thanksgiving 2025: RTH is 14:30 to 18:00 UTC.
const TRADES: &str = "\
symbol,ts,seq,price,size
SPY,2025-11-28T14:30:00Z,1,679.25,100
SPY,2025-11-28T14:59:59.999999Z,2,680.5,50
SPY,2025-11-28T15:00:00Z,3,680.75,10
SPY,2025-11-28T17:59:00Z,5,681.5,25
SPY,2025-11-28T17:59:00Z,4,682,25
SPY,2025-11-28T20:10:00Z,6,683,5
";

fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_querycli"));
    let out = command.current_dir(dir).args(arguments).env_remove("BELLWETHER_DB").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
}

fn with_trades() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spy.csv"), TRADES).unwrap();
    dir
}

const BARS: &str = "SELECT bar_at, open, high, low, close, volume, trades FROM market.session_ohlc('SPY', '30m', '2025-11-28', '2025-11-28')";

#[test]
fn a_table_is_aligned_and_in_utc() {
    let dir = with_trades();
    let (code, out, err) = run(dir.path(), &["spy.csv", "--calendar", "XNYS", "-c", BARS]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "         bar_at         |  open  |  high  |  low   | close  | volume | trades
------------------------+--------+--------+--------+--------+--------+--------
 2025-11-28 14:30:00+00 | 679.25 |  680.5 | 679.25 |  680.5 |    150 |      2
 2025-11-28 15:00:00+00 | 680.75 | 680.75 | 680.75 | 680.75 |     10 |      1
 2025-11-28 17:30:00+00 |    682 |    682 |  681.5 |  681.5 |     50 |      2
(3 rows)
"
    );
}

#[test]
fn parquet_and_csv_give_the_same_bars() {
    let dir = with_trades();
    let copy = "COPY (SELECT * FROM trades) TO 'copy.parquet' STORED AS PARQUET";
    let (code, _, err) = run(dir.path(), &["spy.csv", "-c", copy]);
    assert_eq!(code, 0, "{err}");
    let of = |file| run(dir.path(), &[file, "--calendar", "XNYS", "--format", "csv", "-c", BARS]);
    assert_eq!(of("copy.parquet"), of("spy.csv"));
}

#[test]
fn ohlc_over_session_bucket_equals_session_ohlc() {
    let dir = with_trades();
    let sql = "SELECT bar_at, b['open'] AS open, b['high'] AS high, b['low'] AS low, b['close'] AS close, b['volume'] AS volume, b['trades'] AS trades \
               FROM (SELECT market.session_bucket('30m', ts, 'XNYS') AS bar_at, market.ohlc(price, size, ts, seq) AS b FROM trades GROUP BY 1) \
               WHERE bar_at IS NOT NULL ORDER BY bar_at";
    let direct = run(dir.path(), &["spy.csv", "--calendar", "XNYS", "--format", "csv", "-c", BARS]);
    assert_eq!(run(dir.path(), &["spy.csv", "--format", "csv", "-c", sql]), direct);
    assert_eq!(direct.0, 0, "{}", direct.2);
}

#[test]
fn arguments_have_names() {
    let dir = with_trades();
    let sql = "SELECT count(*) FROM session_ohlc('SPY', '30m', '2025-11-28', '2025-11-28', fill => 'null', segments => 'ETH')";
    let (code, out, err) = run(dir.path(), &["spy.csv", "--calendar", "XNYS", "--format", "csv", "-c", sql]);
    // 09:00 to 14:30, 14:30 to 18:00 and 18:00 to 22:00 UTC in half hours
    assert_eq!((code, out.as_str()), (0, "count\n26\n"), "{err}");
}

#[test]
fn questions_that_are_wrong_end_with_2_and_a_hint_on_stderr() {
    let dir = with_trades();
    let check = |arguments: &[&str], expected: &str| {
        let (code, out, err) = run(dir.path(), arguments);
        assert_eq!((code, out.as_str(), err.trim_end()), (2, "", expected));
    };
    check(
        &["-c", "SELECT is_session(DATE '2025-11-27', 'XNSY')"],
        "error: unknown calendar \"XNSY\"\nhint: did you mean \"XNYS\"?",
    );
    check(
        &["spy.csv", "-c", "SELECT prize FROM trades"],
        "error: unknown column \"prize\"\nhint: did you mean \"price\"?",
    );
    check(
        &["spy.csv", "-c", BARS],
        "error: the calendar of \"SPY\" is not known\nhint: name it, as in --calendar XNYS; the table calendars lists them",
    );
    check(
        &["none.parquet", "-c", "SELECT 1"],
        "error: there is no file none.parquet\nhint: give .parquet, .csv, .tsv, .json, .ndjson or .arrow files, also as .gz or .zst, or a folder of such files",
    );
}

#[test]
fn a_server_that_is_not_there_ends_with_1_and_no_password() {
    let dir = with_trades();
    let (code, out, err) = run(dir.path(), &["--db", "postgresql://me:secret@localhost:1/market", "-c", "SELECT 1"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("error: cannot connect to database \"market\" on localhost:1 as user \"me\""), "{err}");
    assert!(!err.contains("secret"), "{err}");
}
