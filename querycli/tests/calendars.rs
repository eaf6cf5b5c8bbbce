//! `querycli calendars` as its users run it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

fn run(dir: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_querycli"));
    command.current_dir(dir).arg("calendars").args(arguments).env_remove("BELLWETHER_DB");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // Who does not read the input closes it, which is no error.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let out = child.wait_with_output().expect("the program ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
}

/// The week of Thanksgiving 2025, when New York closed on Thursday and at 13:00 on Friday (NYSE, holidays and trading hours).
const WEEK: &str = "session,open,close\n2025-11-24,09:30,16:00\n2025-11-25,09:30,16:00\n2025-11-26,09:30,16:00\n2025-11-28,09:30,13:00\n";

#[test]
fn a_table_that_agrees_has_no_difference() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("week.csv"), WEEK).expect("written");
    let (code, out, err) = run(dir.path(), &["diff", "NYSE", "--against", "week.csv"], "");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "0 differences in 4 sessions of XNYS from 2025-11-24 to 2025-11-28\n");
}

#[test]
fn every_difference_is_listed_and_the_exit_code_is_1() {
    let dir = tempfile::tempdir().expect("a folder");
    let table = WEEK.replace("28,09:30,13:00", "28,09:30,16:00").replace("2025-11-25,09:30,16:00\n", "")
        + "2025-11-30,09:30,16:00\n";
    let file = std::fs::File::create(dir.path().join("week.csv.gz")).expect("created");
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    gzip.write_all(table.as_bytes()).and_then(|()| gzip.finish().map(drop)).expect("written");
    let (code, out, err) = run(dir.path(), &["diff", "XNYS", "--against", "week.csv.gz"], "");
    assert_eq!((code, err.as_str()), (1, ""));
    assert_eq!(
        out,
        "date        what     theirs  ours
2025-11-25  session  closed  open
2025-11-28  close    16:00   13:00
2025-11-30  session  open    closed
3 differences in 4 sessions of XNYS from 2025-11-24 to 2025-11-30
"
    );
    let (code, out, _) = run(dir.path(), &["diff", "XNYS", "--against", "week.csv.gz", "--columns", "open"], "");
    assert_eq!((code, out.lines().count()), (1, 4), "the close is not compared");
}

#[test]
fn an_imported_table_is_a_calendar_that_agrees_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("week.csv"), WEEK).expect("written");
    let import = ["import", "--format", "csv", "--id", "WEEK", "--tz", "America/New_York", "week.csv"];
    let (code, toml, err) = run(dir.path(), &import, "");
    assert_eq!((code, err.as_str()), (0, ""));
    std::fs::write(dir.path().join("week.toml"), toml).expect("written");
    let (code, out, _) = run(dir.path(), &["diff", "week.toml", "--against", "week.csv"], "");
    assert_eq!((code, out.as_str()), (0, "0 differences in 4 sessions of WEEK from 2025-11-24 to 2025-11-28\n"));
}

#[test]
fn a_tradingview_string_and_a_lean_entry_give_the_same_week() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("week.csv"), WEEK).expect("written");
    let import = [
        "import",
        "--format",
        "tradingview",
        "--id",
        "TV",
        "--tz",
        "America/New_York",
        "--holidays",
        "20251127",
        "--corrections",
        "0930-1300:20251128",
        "-",
    ];
    let (code, toml, err) = run(dir.path(), &import, "0930-1600\n");
    assert_eq!((code, err.as_str()), (0, ""));
    std::fs::write(dir.path().join("tv.toml"), toml).expect("written");
    // The shape of LEAN's market-hours database, with one entry.
    let day = r#"[{"start": "09:30:00", "end": "16:00:00", "state": "market"}]"#;
    let days =
        ["monday", "tuesday", "wednesday", "thursday", "friday"].map(|name| format!("\"{name}\": {day}")).join(", ");
    let lean = format!(
        r#"{{"entries": {{"Equity-usa-[*]": {{"exchangeTimeZone": "America/New_York", {days}, "saturday": [],
            "holidays": ["11/27/2025"], "earlyCloses": {{"11/28/2025": "13:00:00"}}}}}}}}"#
    );
    let (code, toml, err) =
        run(dir.path(), &["import", "--format", "lean", "--id", "LEAN", "--entry", "Equity-usa-[*]"], &lean);
    assert_eq!((code, err.as_str()), (0, ""));
    std::fs::write(dir.path().join("lean.toml"), toml).expect("written");
    for file in ["tv.toml", "lean.toml"] {
        let (code, out, err) = run(dir.path(), &["diff", file, "--against", "week.csv"], "");
        assert_eq!(code, 0, "{file}: {out}{err}");
    }
}

#[test]
fn calendars_are_listed_and_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    let (code, out, _) = run(dir.path(), &["list"], "");
    assert_eq!(code, 0);
    let row = out.lines().find(|line| line.starts_with("XNYS ")).expect("XNYS is listed");
    assert!(row.contains("America/New_York") && row.contains("New York Stock Exchange"), "{row}");
    let (code, out, _) = run(dir.path(), &["show", "XNYS"], "");
    assert!(code == 0 && out.contains("id      = \"XNYS\""), "{out}");
    let (code, out, _) = run(dir.path(), &["show", "XNYS", "--sessions", "2025-11-26..2025-11-28"], "");
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "session     open   break_start  break_end  close  pre    post   note
2025-11-26  09:30  -            -          16:00  04:00  20:00
2025-11-28  09:30  -            -          13:00  04:00  17:00  half day
"
    );
}

#[test]
fn a_wrong_question_says_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("week.csv"), WEEK).expect("written");
    for (arguments, input, expected) in [
        (&["show", "XNYZ"][..], "", "unknown calendar \"XNYZ\"\nhint: did you mean \"XNYS\"?"),
        (&["diff", "XNYS", "--against", "none.csv"], "", "cannot read none.csv"),
        (
            &["diff", "XNYS", "--against", "week.csv", "--columns", "pre"],
            "",
            "the file has no column \"pre\"\nhint: it has open, close",
        ),
        (&["import", "--format", "tradingview", "--id", "X"], "0930-1600", "the time zone is missing"),
        (
            &["import", "--format", "tradingview", "--id", "X", "--tz", "UTC"],
            "0930-1600",
            "for which dates it holds\nhint: name them: --known",
        ),
        (
            &["import", "--format", "tradingview", "--id", "X", "--tz", "UTC"],
            "9:30-16:00",
            "invalid session \"9:30-16:00\"",
        ),
        (&["import", "--format", "lean", "--id", "X"], "{\"entries\": {\"A\": {}}}", "this is a whole database"),
        (&["import", "--format", "lean", "--id", "X", "--entry", "B"], "{\"entries\": {\"A\": {}}}", "no entry \"B\""),
        (&["import", "--format", "lean", "--id", "X"], "[", "this is no market-hours entry"),
        (&["import", "--format", "csv", "--id", "X", "--tz", "UTC"], "a,b\n", "table of sessions, line 1"),
        (&["import", "--format", "csv", "--id", "X", "--tz", "Utc/Nowhere"], "", "unknown time zone"),
    ] {
        let (code, out, err) = run(dir.path(), arguments, input);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
}
