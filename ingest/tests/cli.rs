//! The program as people run it: exit codes, what it says, and what it never says.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};

fn ingest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ingest"))
        .args(arguments)
        .env_remove("BELLWETHER_DB")
        .output()
        .expect("the program was built for this test")
}

fn text(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn file(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(name);
    std::fs::File::create(&path).and_then(|mut f| f.write_all(content.as_bytes())).expect("room for a file");
    (dir, path)
}

const GOOD: &str = "ts,symbol,price,size\n2024-03-15T13:30:00Z,ESH4,5100.25,3\n2024-03-15T13:30:01Z,ESH4,5100.5,1\n";

#[test]
fn a_dry_run_needs_no_database_and_says_what_it_would_do() {
    let (_dir, path) = file("t.csv", GOOD);
    let (code, out, err) = text(&ingest(&["load", "--dry-run", &path.display().to_string()]));
    assert_eq!(code, 0, "{err}");
    for words in ["trades read                2", "1 would be created", "nothing was written"] {
        assert!(out.contains(words), "{out}");
    }
}

#[test]
fn a_dry_run_prints_refused_lines_with_file_line_and_reason() {
    let (_dir, path) = file("t.csv", &format!("{GOOD}2024-03-15T13:30:02Z,ESH4,NaN,1\n"));
    let (code, out, _) = text(&ingest(&["load", "--dry-run", &path.display().to_string()]));
    assert_eq!(code, 0);
    assert!(out.contains("t.csv:4: price \"NaN\""), "{out}");
}

#[test]
fn no_database_and_a_database_that_is_not_there_end_with_2() {
    let (_dir, path) = file("t.csv", GOOD);
    let path = path.display().to_string();
    let (code, _, err) = text(&ingest(&["load", &path]));
    assert_eq!(code, 2);
    assert!(err.contains("--db") && err.contains("BELLWETHER_DB"), "{err}");
    let url = "postgresql://ann:s3cret@127.0.0.1:1/market";
    let (code, _, err) = text(&ingest(&["load", "--db", url, &path]));
    assert_eq!(code, 2);
    assert!(err.contains("127.0.0.1:1") && err.contains("xtask pg start"), "{err}");
    assert!(!err.contains("s3cret"), "{err}");
}

#[test]
fn an_unknown_symbol_says_what_to_do() {
    let (_dir, path) = file("t.csv", &GOOD.replace("ESH4", "ACME"));
    let path = path.display().to_string();
    let (code, _, err) = text(&ingest(&["load", "--dry-run", &path]));
    assert_eq!(code, 1);
    for words in ["\"ACME\"", "--calendar", "add_instrument", "--symbol-map"] {
        assert!(err.contains(words), "{err}");
    }
    assert_eq!(text(&ingest(&["load", "--dry-run", "--calendar", "XNYS", &path])).0, 0);
    let (code, _, err) = text(&ingest(&["load", "--dry-run", "--calendar", "XNYX", &path]));
    assert_eq!(code, 1);
    assert!(err.contains("XNYS"), "{err}");
}

#[test]
fn a_file_of_another_format_keeps_nothing_and_ends_with_1() {
    let lines: String = (0..100).map(|i| format!("{i},some,other,thing\n")).collect();
    let (_dir, path) = file("t.csv", &format!("ts,symbol,price,size\n{lines}"));
    let (code, out, err) = text(&ingest(&["load", "--dry-run", &path.display().to_string()]));
    assert_eq!(code, 1);
    assert!(err.contains("none of its first 100 lines is a trade"), "{err}");
    assert!(out.contains("rejects                    0"), "{out}");
    let (code, _, err) = text(&ingest(&["load", "--dry-run", "--format", "parquet", &path.display().to_string()]));
    assert_eq!(code, 1);
    assert!(err.contains("Parquet"), "{err}");
}

#[test]
fn a_missing_file_does_not_stop_the_others() {
    let (_dir, path) = file("t.csv", GOOD);
    let (code, out, err) = text(&ingest(&["load", "--dry-run", "nowhere.csv", &path.display().to_string()]));
    assert_eq!(code, 1);
    assert!(err.contains("nowhere.csv: cannot be opened"), "{err}");
    assert!(out.contains("trades read                2"), "{out}");
}

#[test]
fn wrong_flags_end_with_2_and_name_what_is_allowed() {
    let (_dir, path) = file("t.csv", GOOD);
    let path = path.display().to_string();
    for (flags, words) in [
        (vec!["--zone", "Mars/Olympus"], "IANA"),
        (vec!["--date", "15.3.2024"], "2024-03-15"),
        (vec!["--price-scale", "0"], "positive decimal"),
        (vec!["--format", "xls"], "possible values"),
        (vec!["--symbol-map", "ESH4"], "FROM=TO"),
    ] {
        let mut arguments = vec!["load", "--dry-run"];
        arguments.extend(flags.iter().copied());
        arguments.push(&path);
        let (code, _, err) = text(&ingest(&arguments));
        assert_eq!(code, 2, "{flags:?}: {err}");
        assert!(err.contains(words), "{flags:?}: {err}");
    }
}

#[test]
fn help_teaches_with_examples() {
    for command in ["load", "simulate", "live"] {
        let (code, out, _) = text(&ingest(&[command, "--help"]));
        assert_eq!(code, 0);
        assert!(out.contains("Examples:") && out.contains(&format!("ingest {command} --")), "{out}");
    }
}

#[test]
fn simulated_trades_go_to_a_file_that_load_reads() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out_file = dir.path().join("es.csv").display().to_string();
    let arguments = [
        "simulate",
        "--symbol",
        "ESZ5",
        "--from",
        "2025-11-28",
        "--seed",
        "7",
        "--trades-per-day",
        "2000",
        "--out",
        &out_file,
    ];
    let (code, out, err) = text(&ingest(&arguments));
    assert_eq!(code, 0, "{err}");
    let n: u64 = out.split(' ').next().and_then(|n| n.parse().ok()).expect("a number of trades");
    assert!(n > 500, "{out}");
    let first = std::fs::read_to_string(&out_file).expect("just written");
    assert_eq!(text(&ingest(&arguments)).0, 0);
    assert_eq!(first, std::fs::read_to_string(&out_file).expect("written again"), "the same seed, the same file");
    let (code, out, err) = text(&ingest(&["load", "--dry-run", &out_file]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("rejects                    0"), "{out}");
}

#[test]
fn simulate_refuses_dates_that_make_no_sense() {
    let run =
        |from, to| text(&ingest(&["simulate", "--symbol", "ESZ25", "--from", from, "--to", to, "--out", "/dev/null"]));
    let (code, _, err) = run("2025-11-28", "2025-11-24");
    assert!(code == 2 && err.contains("before"), "{err}");
    let (code, _, err) = run("2025-11-28", "9999-01-01");
    assert!(code == 1 && err.contains("ask for dates from"), "{err}");
}
