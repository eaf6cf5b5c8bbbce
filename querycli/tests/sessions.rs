//! `correlate`, `seasonality` and `stats` against pandas: the files that tests/data/sessions.py writes.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn querycli(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_querycli"));
    command.args(arguments).arg("--data").arg(data("sessions.csv")).args(["--calendar", "XNYS"]);
    for name in ["BELLWETHER_DB", "BELLWETHER_READ_DB", "BELLWETHER_ARCHIVE", "PGSERVICE"] {
        command.env_remove(name);
    }
    command
}

fn cells(csv: &str) -> Vec<Vec<String>> {
    csv.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

/// The same names and texts, and numbers within a billionth.
fn check(arguments: &[&str], expected: &str) {
    let out = querycli(arguments).args(["--format", "csv"]).output().unwrap();
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    let ours = cells(&String::from_utf8(out.stdout).unwrap());
    let theirs = cells(&std::fs::read_to_string(data(expected)).unwrap());
    assert_eq!(ours[0], theirs[0], "{arguments:?}");
    assert_eq!(ours.len(), theirs.len(), "{arguments:?}: {ours:?}");
    for (ours, theirs) in ours.iter().zip(&theirs).skip(1) {
        for (at, (our, their)) in ours.iter().zip(theirs).enumerate() {
            let near = match (our.parse::<f64>(), their.parse::<f64>()) {
                (Ok(our), Ok(their)) => (our - their).abs() <= 1e-9 * their.abs().max(1.0),
                _ => our == their,
            };
            assert!(near, "{arguments:?}: {our}, not {their}, in column {at} of {ours:?}");
        }
    }
}

#[test]
fn correlations_and_betas_equal_pandas() {
    check(&["correlate", "SPY,QQQ", "1d", "2025-11-13..2025-12-02"], "correlate.csv");
    check(&["correlate", "SPY,QQQ", "--last", "13", "--market", "SPY"], "correlate.csv");
}

#[test]
fn the_parts_of_a_session_are_as_pandas_sees_them() {
    check(&["seasonality", "SPY", "30m", "--last", "13"], "seasonality.csv");
}

#[test]
fn gaps_and_opening_ranges_are_counted_as_pandas_counts_them() {
    check(&["stats", "SPY", "--last", "10", "--opening-minutes", "45"], "stats.csv");
}

/// The statement that `--sql` shows is the one that is run.
#[test]
fn the_statement_shown_gives_the_same_answer() {
    for arguments in [
        ["correlate", "SPY,QQQ", "--last", "13"].as_slice(),
        &["seasonality", "SPY", "1h", "--last", "5"],
        &["stats", "SPY", "--last", "10"],
    ] {
        let shown = querycli(arguments).arg("--sql").output().unwrap();
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let sql = String::from_utf8(shown.stdout).unwrap();
        assert!(sql.ends_with(";\n"), "{sql}");
        let (run, direct) = (querycli(&["sql", "-c", &sql]).output().unwrap(), querycli(arguments).output().unwrap());
        assert!(run.status.success(), "{sql}\n{}", String::from_utf8_lossy(&run.stderr));
        assert!(run.stdout.len() > 100 && run.stdout == direct.stdout, "{sql}");
    }
}

#[test]
fn wrong_questions_say_what_would_be_right() {
    for (arguments, expected) in [
        (["correlate", "SPY"].as_slice(), "a correlation is of two instruments or more"),
        (&["correlate", "SPY,QQQ", "--market", "IWM"], "hint: name it among them: SPY,QQQ,IWM"),
        (&["seasonality", "SPY", "1d"], "1d is no part of a session"),
        (&["stats", "IWM"], "IWM has no trades"),
    ] {
        let out = querycli(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && error.contains(expected), "{arguments:?}: {error}");
    }
}

/// Zero rows have a reason, which is told beside them.
#[test]
fn an_empty_answer_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let trades = dir.path().join("spy.csv");
    std::fs::write(&trades, "symbol,ts,seq,price,size\nSPY,2025-11-26T15:00:00Z,1,680.5,100\n").unwrap();
    let ask = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_querycli"));
        program.current_dir(dir.path()).args(arguments).args(["--data", "spy.csv", "--calendar", "XNYS"]);
        let out = program.env_remove("BELLWETHER_DB").env_remove("BELLWETHER_ARCHIVE").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    };
    let holiday = "note: XNYS has no session on 2025-11-27 (Thanksgiving); the one before is on 2025-11-26, the next is on 2025-11-28\n";
    for command in [["bars", "SPY", "5m"], ["seasonality", "SPY", "30m"]] {
        let (code, out, err) = ask(&[&command[..], &["2025-11-27", "--format", "csv"]].concat());
        assert_eq!((code, out.lines().count(), err.as_str()), (Some(0), 1, holiday), "{command:?}");
    }
    for command in ["levels", "profile"] {
        let (code, _, err) = ask(&[command, "SPY", "2025-11-27", "--format", "csv"]);
        assert_eq!((code, err.as_str()), (Some(0), holiday), "{command}");
    }
    let (code, out, err) = ask(&["stats", "SPY", "2025-11-27", "--format", "csv"]);
    assert_eq!((code, out.lines().count(), err.as_str()), (Some(0), 10, holiday));
    let (code, out, err) = ask(&["sessions", "XNYS", "2025-11-27", "--format", "csv"]);
    assert_eq!((code, out.lines().count(), err.as_str()), (Some(0), 1, holiday));
    let (code, _, err) = ask(&["chart", "SPY", "5m", "2025-11-29"]);
    assert!(
        code == Some(2) && err.contains("hint: XNYS has no session on Saturday 2025-11-29; the one before"),
        "{err}"
    );
    let (code, _, err) = ask(&["export", "bars", "SPY", "1h", "2025-11-27", "--output", "none.csv"]);
    assert_eq!((code, err), (Some(0), format!("0 rows in none.csv\n{holiday}")));
    let (_, _, err) = ask(&["bars", "SPY", "5m", "2025-11-25"]);
    assert_eq!(err, "note: SPY has no trades on 2025-11-25; `querycli describe SPY` tells what is stored\n");
    let (_, _, err) = ask(&["bars", "SPY", "5m", "2025-11-25", "--segments", "ON"]);
    assert_eq!(err, "note: XNYS has no ON on 2025-11-25; its session has PRE, RTH, POST\n");
    // of several days one had trades
    let (_, out, err) = ask(&["bars", "SPY", "1d", "2025-11-24..2025-11-27", "--format", "csv"]);
    assert_eq!((out.lines().count(), err.as_str()), (2, ""));
}
