//! What every command prints, over files and without a database: helps, answers, errors. Those over a database are in
//! docs/querycli.md, which is executed.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Trades of New York's half day after Thanksgiving 2025, of the day before it, and one after hours.
const TRADES: &str = "\
symbol,ts,seq,price,size
SPY,2025-11-26T14:30:00Z,1,677.5,80
SPY,2025-11-26T15:10:00Z,2,679,20
SPY,2025-11-26T20:59:00Z,3,678.25,40
SPY,2025-11-28T14:30:00Z,1,679.25,100
SPY,2025-11-28T14:59:59.999999Z,2,680.5,50
SPY,2025-11-28T15:00:00Z,3,680.75,10
SPY,2025-11-28T17:59:00Z,5,681.5,25
SPY,2025-11-28T17:59:00Z,4,682,25
SPY,2025-11-28T20:10:00Z,6,683,5
";

fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spy.csv"), TRADES).unwrap();
    dir
}

fn querycli(dir: &Path, arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_querycli"));
    program.current_dir(dir).args(arguments).stdin(Stdio::null());
    for name in ["BELLWETHER_DB", "BELLWETHER_READ_DB", "BELLWETHER_ARCHIVE", "PGSERVICE", "COLUMNS"] {
        program.env_remove(name);
    }
    program
}

/// The command line, the exit code and what went where.
fn told(dir: &Path, arguments: &[&str]) -> String {
    let out = querycli(dir, arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(out.stdout), text(out.stderr));
    let mut told = format!("$ querycli {}\n{stdout}", arguments.join(" "));
    if !stderr.is_empty() {
        told.push_str(&format!("--- stderr\n{stderr}"));
    }
    if out.status.code() != Some(0) {
        told.push_str(&format!("--- exit code {:?}\n", out.status.code()));
    }
    told
}

fn stdout(dir: &Path, arguments: &[&str]) -> String {
    let out = querycli(dir, arguments).output().unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The arguments of an example in a help text: up to the two blanks before its remark.
fn words(example: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut blanks = 0;
    for c in example.chars() {
        blanks = if c == ' ' && quote.is_none() { blanks + 1 } else { 0 };
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (' ', None) if blanks > 1 => break,
            (' ', None) => words.push(std::mem::take(&mut word)),
            (c, _) => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

const COMMANDS: [&[&str]; 27] = [
    &[],
    &["sql"],
    &["bars"],
    &["sessions"],
    &["levels"],
    &["profile"],
    &["correlate"],
    &["seasonality"],
    &["stats"],
    &["chart"],
    &["verify"],
    &["export"],
    &["export", "trades"],
    &["export", "bars"],
    &["export", "query"],
    &["describe"],
    &["calendars"],
    &["calendars", "list"],
    &["calendars", "show"],
    &["calendars", "diff"],
    &["calendars", "import"],
    &["archive"],
    &["archive", "push"],
    &["archive", "verify"],
    &["archive", "prune"],
    &["archive", "restore"],
    &["archive", "list"],
];

#[test]
fn help_teaches() {
    let dir = folder();
    for command in COMMANDS {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = stdout(dir.path(), &arguments);
        assert!(help.contains("Usage: querycli"), "{command:?}: {help}");
        // Read it as somebody who has never seen it before accepting it.
        insta::assert_snapshot!(format!("help_{}", command.join("_")), help);
    }
}

/// Every example of every help text is accepted: with what it needs (a database, trades) it would run.
#[test]
fn every_example_in_help_is_understood() {
    let dir = folder();
    let mut seen = 0;
    for command in COMMANDS {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        for line in stdout(dir.path(), &arguments).lines() {
            let Some(example) = line.trim().strip_prefix("querycli ") else { continue };
            if !line.starts_with("  ") {
                continue;
            }
            seen += 1;
            let words = words(example);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // Files of the examples are not there: that is what is said then, and not that the words are wrong.
            let out = querycli(dir.path(), &words).output().unwrap();
            let error = String::from_utf8_lossy(&out.stderr).into_owned();
            for complaint in
                ["unexpected argument", "Usage:", "the SQL cannot be read", "unknown command", "unknown table function"]
            {
                assert!(!error.contains(complaint), "querycli {example}\n{error}");
            }
        }
    }
    assert!(seen > 30, "{seen} examples");
}

#[test]
fn commands_over_files() {
    let dir = folder();
    let source = ["--data", "spy.csv", "--calendar", "XNYS"];
    let check = |name: &str, arguments: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().chain(&source).copied().collect();
        insta::assert_snapshot!(name, told(dir.path(), &arguments));
    };
    check("bars_newest", &["bars", "SPY", "30m"]);
    check("bars_last_two", &["bars", "SPY", "1d", "--last", "2", "--segments", "ETH", "--format", "csv"]);
    check("bars_as_sql", &["bars", "SPY,QQQ", "5m", "2025-11-26..2025-11-28", "--fill", "previous", "--sql"]);
    check("bars_cut", &["bars", "SPY", "30m", "--max-rows", "1"]);
    check("bars_cut_csv", &["bars", "SPY", "30m", "--max-rows", "1", "--format", "csv"]);
    check("chart", &["chart", "SPY", "30m", "--last", "2", "--width", "50", "--height", "8"]);
    check("chart_of_days", &["chart", "SPY", "1d", "--last", "2", "--width", "20", "--height", "5"]);
    check("chart_as_sql", &["chart", "SPY", "30m", "--sql"]);
    check("chart_without_bars", &["chart", "QQQ", "30m"]);
    check("chart_of_two", &["chart", "SPY,QQQ", "30m"]);
    check("chart_into_a_table", &["chart", "SPY", "30m", "--output", "spy.csv"]);
    check("chart_as_rows", &["chart", "SPY", "30m", "--format", "csv"]);
    check("describe", &["describe"]);
    check("describe_table", &["describe", "spy"]);
    check("describe_function", &["describe", "session_bucket"]);
    check("describe_calendar", &["describe", "XNYS"]);
    check("describe_unknown", &["describe", "sesion_bucket"]);
    check("export_without_file", &["export", "trades", "SPY"]);
    check("verify_without_database", &["verify", "SPY"]);
    check("bars_of_an_unknown_timeframe", &["bars", "SPY", "5x"]);
    check("bars_without_trades", &["bars", "QQQ", "5m"]);
    check("dates_the_wrong_way", &["bars", "SPY", "5m", "2025-11-28..2025-11-26"]);
}

/// The picture is text: every candle can be read in it.
#[test]
fn a_chart_is_drawn_as_svg_and_png() {
    let dir = folder();
    for file in ["spy.svg", "spy.png"] {
        let arguments =
            ["chart", "SPY", "30m", "2025-11-28", "--data", "spy.csv", "--calendar", "XNYS", "--output", file];
        assert_eq!(stdout(dir.path(), &arguments), "");
    }
    insta::assert_snapshot!("chart_svg", std::fs::read_to_string(dir.path().join("spy.svg")).unwrap());
    let png = std::fs::read(dir.path().join("spy.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.windows(4).any(|chunk| chunk == b"IEND"));
    // width and height follow the header's length and name
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert!((400..4000).contains(&number(16)) && (200..4000).contains(&number(20)), "{} {}", number(16), number(20));
}

/// Whatever answers rows does so in every format that people and programs read.
#[test]
fn every_command_prints_every_format() {
    let dir = folder();
    let source = ["--data", "spy.csv", "--calendar", "XNYS"];
    for format in ["table", "csv", "tsv", "json", "ndjson", "markdown"] {
        let all = [
            ["bars", "SPY", "1d"].as_slice(),
            &["sessions", "XNYS", "2025-11-28"],
            &["levels", "SPY"],
            &["profile", "SPY", "--bin", "1"],
            &["describe"],
            &["describe", "spy"],
            &["describe", "XNYS"],
            &["-c", "SELECT 1 AS a, NULL AS b, '' AS c, 'x|y' AS d, true AS e, 0.1 AS f; SELECT 2 AS second"],
            &["-c", "SELECT price FROM spy WHERE price < 0"],
            &["-c", "\\df vwap"],
        ]
        .map(|arguments| {
            let arguments: Vec<&str> = arguments.iter().chain(&source).copied().chain(["--format", format]).collect();
            told(dir.path(), &arguments)
        });
        insta::assert_snapshot!(format!("format_{format}"), all.join("\n"));
    }
}

#[test]
fn commands_without_sources() {
    let dir = folder();
    let check = |name: &str, arguments: &[&str]| insta::assert_snapshot!(name, told(dir.path(), arguments));
    check("sessions", &["sessions", "XHKG", "2025-12-24..2025-12-26", "--segments", "RTH"]);
    check("sessions_json", &["sessions", "XNYS", "2025-11-28", "--format", "json", "--segments", "RTH"]);
    check("sessions_unknown", &["sessions", "XNSY", "2025-11-28"]);
    check("bars_without_source", &["bars", "SPY", "5m"]);
    check("functions", &["-c", "\\df *bucket"]);
    check("scripts_and_commands", &["-c", "SELECT 1", "bars", "SPY"]);
}

#[test]
fn exports_are_whole_and_read_back() {
    let dir = folder();
    let bars = |data: &str| {
        stdout(
            dir.path(),
            &["bars", "SPY", "30m", "2025-11-28", "--data", data, "--calendar", "XNYS", "--format", "csv"],
        )
    };
    let export =
        ["export", "trades", "SPY", "2025-11-28", "--data", "spy.csv", "--calendar", "XNYS", "--output", "day.parquet"];
    insta::assert_snapshot!("export_trades", told(dir.path(), &export));
    assert_eq!(bars("day.parquet"), bars("spy.csv"));
    // Nothing else is left in the folder, not even after an export that failed.
    let failed =
        querycli(dir.path(), &["export", "query", "SELECT 1 / (price - price) FROM 'nothing'", "--output", "no.csv"])
            .output()
            .unwrap();
    assert_ne!(failed.status.code(), Some(0));
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["day.parquet", "spy.csv"]);
}

#[test]
fn arrow_files_hold_what_parquet_files_hold() {
    let dir = folder();
    let sql = "SELECT ts, price, count(*) OVER () FROM trades";
    for format in ["arrow", "parquet"] {
        let out = querycli(dir.path(), &["spy.csv", "-c", sql, "--format", format]).output().unwrap();
        assert!(out.status.success());
        std::fs::write(dir.path().join(format!("t.{format}")), out.stdout).unwrap();
    }
    let file = std::fs::File::open(dir.path().join("t.arrow")).unwrap();
    let batches: Vec<_> = arrow::ipc::reader::FileReader::try_new(file, None).unwrap().map(Result::unwrap).collect();
    let prices: Vec<f64> = batches
        .iter()
        .flat_map(|b| b.column_by_name("price").unwrap().as_primitive::<Float64Type>().values().to_vec())
        .collect();
    assert_eq!((prices.len(), prices[0]), (9, 677.5));
    let sum = stdout(dir.path(), &["t.parquet", "-c", "SELECT sum(price) FROM t", "--format", "tsv"]);
    assert_eq!(sum, format!("sum\n{}\n", prices.iter().sum::<f64>()));
    // Two answers do not fit into one file.
    let two = querycli(dir.path(), &["-c", "SELECT 1; SELECT 2", "--output", "two.parquet"]).output().unwrap();
    assert_eq!(two.status.code(), Some(2));
    assert!(!dir.path().join("two.parquet").exists());
}

#[test]
fn scripts_name_the_file_and_line_of_an_error_and_stop_there() {
    let dir = folder();
    std::fs::write(
        dir.path().join("report.sql"),
        "SELECT 1 AS one;\n-- the next one is wrong; \nSELECT prize\nFROM spy;\nSELECT 3;",
    )
    .unwrap();
    insta::assert_snapshot!("script_error", told(dir.path(), &["spy.csv", "-f", "report.sql", "--format", "csv"]));
    std::fs::write(dir.path().join("loop.sql"), "\\i loop.sql").unwrap();
    insta::assert_snapshot!("script_loop", told(dir.path(), &["-f", "loop.sql"]));
}

#[test]
fn a_statement_that_takes_too_long_is_cancelled() {
    let dir = folder();
    // It would take hours.
    let sql = "SELECT count(*) FROM generate_series(1, 3000000) AS a (x), generate_series(1, 3000000) AS b (y) WHERE x + y < 0";
    let out = querycli(dir.path(), &["-c", sql, "--timeout", "500ms"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("cancelled: it took longer than 500ms"));
}

/// A sort of more than 8 MB goes to disk.
#[test]
fn memory_is_bounded_and_sorts_spill() {
    let dir = folder();
    let sql = "SELECT max(rank) FROM (SELECT row_number() OVER (ORDER BY x * 7919 % 1000003, x) AS rank FROM generate_series(1, 500000) AS s (x))";
    let explained = stdout(dir.path(), &["--memory", "8MB", "-c", &format!("EXPLAIN ANALYZE {sql}")]);
    assert!(
        explained.contains("spill_count=") && !explained.contains("SortExec: expr=[] spill_count=0"),
        "{explained}"
    );
    assert_eq!(stdout(dir.path(), &["--memory", "8MB", "--format", "csv", "-c", sql]), "max\n500000\n");
}

#[test]
fn whoever_reads_may_stop() {
    let dir = folder();
    let mut program =
        querycli(dir.path(), &["-c", "SELECT x FROM generate_series(1, 3000000) AS s (x)", "--format", "csv"]);
    let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 4];
    std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut first).unwrap();
    assert_eq!(&first, b"x\n1\n");
    // The pipe is closed now: no error, no panic.
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""));
}
