//! Wrong files, wrong SQL, strange values: each is told what is wrong and what to do, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use std::path::Path;
use std::process::{Command, Stdio};

/// The exit code, the standard output and the standard error.
fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_querycli"));
    program.current_dir(dir).args(arguments).stdin(Stdio::null());
    for name in ["BELLWETHER_DB", "BELLWETHER_READ_DB", "BELLWETHER_ARCHIVE", "PGSERVICE", "COLUMNS"] {
        program.env_remove(name);
    }
    let out = program.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Writes the answer of a statement.
fn answer(dir: &Path, name: &str, sql: &str) {
    std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
    let (code, _, err) = run(dir, &["-c", sql, "--output", name]);
    assert_eq!(code, 0, "{name}: {err}");
}

#[test]
fn files_that_are_not_what_their_names_say_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    answer(dir, "whole.parquet", "SELECT 1 AS a, 'x' AS b");
    let whole = std::fs::read(dir.join("whole.parquet")).unwrap();
    let cut = &whole[..whole.len() - 3];
    // an end that says the description is longer than the file
    let mut boastful = whole.clone();
    let at = boastful.len() - 8;
    boastful[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    for (name, bytes, told) in [
        ("empty.csv", &b""[..], "is empty: nothing tells its columns"),
        ("empty.parquet", b"", "is empty: nothing tells its columns"),
        ("empty.arrow", b"", "is empty: nothing tells its columns"),
        ("short.parquet", b"PAR1PAR1", "too short"),
        ("tiny.parquet", b"PAR1xxxxPAR1", "its end is broken"),
        ("cut.parquet", cut, "its end is missing"),
        ("boastful.parquet", &boastful, "its end is broken"),
        ("text.arrow", b"no arrow at all", "cannot be read"),
        ("latin1.csv", b"a,b\n1,\xff\xfe\n", "UTF-8"),
        ("utf16.csv", b"\xff\xfea\0,\0b\0\n\0", "UTF-8"),
        ("ragged.csv", b"a,b\n1,2,3\n", "cannot be read"),
        ("broken.json", b"{\"a\":1}\n{\"a\":\n", "cannot be read"),
        ("broken.csv.gz", b"\x1f\x8bjunk", "cannot be read"),
    ] {
        write(dir, name, bytes);
        let (code, out, err) = run(dir, &[name, "-c", "SELECT * FROM t"]);
        assert!(err.starts_with("error: ") && err.contains(told) && err.contains(name), "{name}: {err}");
        assert_eq!((code, out.as_str()), (1, ""), "{name}");
    }
    // no rows are no mistake
    write(dir, "none.ndjson", b"");
    assert_eq!(run(dir, &["none.ndjson", "-c", "SELECT count(*) AS n FROM t", "--format", "csv"]).1, "n\n0\n");
}

#[test]
fn files_of_a_folder_must_agree() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ask = |folder: &str| run(dir, &[folder, "-c", "SELECT * FROM t ORDER BY 1", "--format", "csv"]);
    for (folder, other, told) in [
        ("other", "a,c\nx,2\n", "1.csv has the columns a, b, and 2.csv has a, c"),
        // by their places in the line the values would change columns
        ("swapped", "b,a\n3,4\n", "1.csv has the columns a, b, and 2.csv has b, a"),
        ("longer", "a,b,c\n3,4,5\n", "1.csv has the columns a, b, and 2.csv has a, b, c"),
    ] {
        write(dir, &format!("{folder}/1.csv"), b"a,b\n1,2\n");
        write(dir, &format!("{folder}/2.csv"), other.as_bytes());
        let (code, _, err) = ask(folder);
        assert!(code == 2 && err.contains(told) && err.contains("name the files one by one"), "{folder}: {code} {err}");
    }
    write(dir, "same/0.csv", b"");
    write(dir, "same/1.csv", b"a,b\n1,2\n");
    write(dir, "same/2.csv", b"a,b\n2.5,x\n");
    assert_eq!(ask("same"), (0, "a,b\n1,2\n2.5,x\n".into(), String::new()));
    answer(dir, "types/1.parquet", "SELECT 1 AS a");
    answer(dir, "types/2.parquet", "SELECT 'x' AS a");
    let (code, _, err) = ask("types");
    assert!(code == 1 && err.contains("must agree on a column's type"), "{code} {err}");
    write(dir, "kinds/1.csv", b"a\n1\n");
    answer(dir, "kinds/2.parquet", "SELECT 1 AS a");
    assert_eq!(ask("kinds").0, 2);
}

/// Spark and others write into the files what their folders say too.
#[test]
fn files_may_repeat_what_the_layout_tells() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let select = |symbol: &str, price: &str| {
        format!("SELECT '{symbol}' AS symbol, DATE '2025-11-28' AS trade_date, {price} AS price")
    };
    for (symbol, price) in [("SPY", "679.25"), ("QQQ", "610.5")] {
        for kind in ["parquet", "csv", "arrow", "ndjson"] {
            answer(dir, &format!("{kind}/symbol={symbol}/trade_date=2025-11-28/0.{kind}"), &select(symbol, price));
        }
        let without = format!("SELECT DATE '2025-11-28' AS trade_date, {price} AS price");
        answer(dir, &format!("inner/symbol={symbol}/trade_date=2025-11-28/0.parquet"), &without);
        let without = format!("SELECT '{symbol}' AS symbol, {price} AS price");
        answer(dir, &format!("outer/symbol={symbol}/trade_date=2025-11-28/0.parquet"), &without);
    }
    let sql = "SELECT symbol, trade_date, price FROM t WHERE symbol <> 'IWM' ORDER BY symbol";
    for folder in ["parquet", "csv", "arrow", "ndjson", "inner"] {
        let (code, out, err) = run(dir, &[folder, "-c", sql, "--format", "csv"]);
        assert_eq!((code, err.as_str()), (0, ""), "{folder}");
        assert_eq!(out, "symbol,trade_date,price\nQQQ,2025-11-28,610.5\nSPY,2025-11-28,679.25\n", "{folder}");
    }
    let (code, _, err) = run(dir, &["outer", "-c", sql]);
    assert!(code == 2 && err.contains("\"symbol\" is in the files") && err.contains("\"trade_date\""), "{code} {err}");
}

#[test]
fn statements_that_cannot_be_are_told_why() {
    let dir = tempfile::tempdir().unwrap();
    for (sql, told) in [
        ("SELECT nofunc(1)", "unknown function \"nofunc\"\nhint: \\df lists the functions"),
        ("SELECT roundd(1)", "unknown function \"roundd\"\nhint: did you mean \"round\"?"),
        ("SELECT sma(1)", "unknown function \"sma\"\nhint: it is a function of a window: sma(...) OVER (ORDER BY ...)"),
        ("SELECT trade_date(now())", "error: trade_date takes 2 arguments, not 1\n"),
        (
            "SELECT to_char(1.5, '9.9')",
            "error: to_char is of a timestamp or a date here, not of type Float64\nhint: round",
        ),
        (
            "SELECT now() AT TIME ZONE 'Mars'",
            "error: time zone \"Mars\" not recognized\nhint: use a name such as America/New_York",
        ),
        ("SELECT halted_seconds('SPY')", "halted_seconds takes a symbol, two instants"),
        ("SELECT halted_seconds('SPY', 1, 2)", "argument 2 of halted_seconds is of type Int64, not timestamptz"),
        ("DELETE FROM calendars", "changes nothing but tables of its own session"),
        ("DROP TABLE trades", "changes nothing but tables of its own session"),
        (
            "SELECT 1 LIMIT 18446744073709551615",
            "bigint out of range\nhint: LIMIT takes a whole number from 0 to 9223372036854775807",
        ),
        ("SELECT 1 LIMIT -1", "LIMIT must not be negative\nhint: LIMIT takes"),
        ("SELECT 1 OFFSET -1.5", "OFFSET must not be negative\nhint: OFFSET takes"),
        (
            "SELECT * FROM (SELECT 1 LIMIT 'ten') AS t",
            "invalid input syntax for type bigint: \"ten\"\nhint: LIMIT takes",
        ),
        ("UPDATE calendars SET id = 'X'", "changes nothing but tables of its own session"),
    ] {
        let (code, out, err) = run(dir.path(), &["-c", sql]);
        assert!(code == 2 && err.contains(told) && !err.contains("feature"), "{sql}: {code} {err}");
        assert_eq!(out, "", "{sql}");
    }
    let own = "CREATE TABLE x AS SELECT 1 AS a; INSERT INTO x VALUES (2); SELECT sum(a) FROM x";
    let (code, out, err) = run(dir.path(), &["-c", own, "--format", "csv"]);
    assert!(code == 0 && out.ends_with("sum\n3\n"), "{out} {err}");
    let two = ["export", "query", "SELECT 1; SELECT 2", "--output", "two.csv"];
    let (code, _, err) = run(dir.path(), &two);
    assert!(code == 2 && err.contains("the answer of one statement") && !dir.path().join("two.csv").exists(), "{err}");
    for (arguments, told) in [
        (["--timeout", "0"], "leave it out for no limit"),
        (["--memory", "1"], "it needs a unit"),
        (["--memory", "1kB"], "1MB is the least"),
    ] {
        let (code, _, err) = run(dir.path(), &[arguments[0], arguments[1], "-c", "SELECT 1"]);
        assert!(code == 2 && err.contains(told), "{arguments:?}: {code} {err}");
    }
}

/// Headings are those of PostgreSQL, and not DataFusion's names of its own types.
#[test]
fn columns_without_a_name_have_postgresqls() {
    let dir = tempfile::tempdir().unwrap();
    let sql = "SELECT 1, symbol, price::int, CASE WHEN price > 1 THEN 'x' END, date '2025-11-28' + interval '9 hours',
                      max(price) OVER (PARTITION BY symbol), price * 2
               FROM (VALUES ('SPY', 681.5)) AS t (symbol, price)";
    let (code, out, err) = run(dir.path(), &["-c", sql, "--format", "csv"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "?column?,symbol,price,case,?column?,max,?column?\n1,SPY,682,x,2025-11-28 09:00:00,681.5,1363\n");
    let sql = "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY n), string_agg(n::text, '-' ORDER BY n DESC), count(*) FILTER (WHERE n > 1) FROM (VALUES (1), (2)) AS t (n)";
    let (_, out, _) = run(dir.path(), &["-c", sql, "--format", "csv"]);
    assert_eq!(out, "percentile_cont,string_agg,count\n1.5,2-1,1\n");
}

/// Numbers that are none, and texts that a terminal would obey.
const STRANGE: &str = "SELECT 'NaN'::float8 AS nan, 'Infinity'::float8 AS inf, '-Infinity'::float8 AS ninf, NULL::float8 AS missing, \
    '' AS empty, -0.0::float8 AS zero, 1e300 AS big, NULL AS untyped, E'a\\tb\\nc\"d' AS lines, chr(27) || '[31m' || chr(7) AS control, \
    'x|y,z' AS marks, true AS yes";

#[test]
fn strange_values_are_printed_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let all = ["table", "csv", "tsv", "json", "ndjson", "markdown"].map(|format| {
        let (code, out, err) = run(dir, &["-c", STRANGE, "--format", format]);
        assert_eq!((code, err.as_str()), (0, ""), "{format}");
        assert!(!matches!(format, "table" | "json" | "ndjson" | "markdown") || !out.contains('\u{1b}'), "{format}");
        format!("--- {format}\n{}", out.replace('\u{1b}', "<ESC>").replace('\u{7}', "<BEL>"))
    });
    insta::assert_snapshot!("strange_values", all.join("\n"));
    // what is written binary comes back as it was, and so does nothing at all
    let expected = run(dir, &["-c", STRANGE, "--format", "tsv"]).1;
    for kind in ["parquet", "arrow"] {
        answer(dir, &format!("strange.{kind}"), STRANGE);
        let strange = format!("strange.{kind}");
        assert_eq!(run(dir, &[&strange, "-c", "SELECT * FROM t", "--format", "tsv"]).1, expected, "{kind}");
        let none = format!("none.{kind}");
        answer(dir, &none, &format!("SELECT * FROM ({STRANGE}) AS s WHERE big < 0"));
        let (code, out, _) = run(dir, &[&none, "-c", "SELECT nan, marks FROM t", "--format", "csv"]);
        assert_eq!((code, out.as_str()), (0, "nan,marks\n"), "{kind}");
    }
}
