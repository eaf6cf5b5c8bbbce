//! The shell as its users meet it: on a terminal, which is a pseudo-terminal here.

use rexpect::session::{PtySession, spawn_command};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

type Outcome = Result<(), rexpect::error::Error>;

const TRADES: &str = "\
symbol,ts,seq,price,size
SPY,2025-11-28T14:30:00Z,1,679.25,100
SPY,2025-11-28T14:59:59.999999Z,2,680.5,50
SPY,2025-11-28T15:00:00Z,3,680.75,10
";

fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("spy.csv"), TRADES).expect("trades");
    dir
}

/// A shell over the trades; whatever does not come within two minutes does not come.
fn shell(dir: &Path) -> Result<PtySession, rexpect::error::Error> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_querycli"));
    command.args(["spy.csv", "--calendar", "XNYS"]).current_dir(dir);
    command.env_remove("BELLWETHER_DB").env_remove("NO_COLOR").env("TERM", "xterm");
    command.env("QUERYCLI_HISTORY", dir.join("history"));
    let mut shell = spawn_command(command, Some(120_000))?;
    shell.exp_string("\\? lists commands, \\q leaves.")?;
    prompt(&mut shell)?;
    Ok(shell)
}

fn prompt(shell: &mut PtySession) -> Outcome {
    shell.exp_string("market=> ").map(drop)
}

/// What hands that know psql type.
#[test]
fn commands_of_psql_are_here_or_told_where_they_are() {
    let run = |script: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_querycli"))
            .args(["-c", script])
            .env_remove("BELLWETHER_DB")
            .env_remove("BELLWETHER_ARCHIVE")
            .output()
            .expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (out.status.code(), text(out.stdout), text(out.stderr))
    };
    let (code, out, err) = run("\\x\nSELECT 1 AS a, 'b' AS longer;\n\\echo 'it is done'\n\\x off\nSELECT 2 AS a");
    let expected = "Expanded display is on.
-[ RECORD 1 ]
a      | 1
longer | b
(1 row)
it is done
Expanded display is off.
 a
---
 2
(1 row)
";
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), expected, ""));
    assert_eq!(run("\\d+ calendars"), run("\\d calendars"));
    for (command, told) in [
        ("\\l", "error: \\l is psql's\nhint: a session is of one database"),
        ("\\dv", "hint: \\dt lists tables and views"),
        ("\\copy x to y", "hint: COPY (SELECT ...) TO 'file.parquet' writes a file"),
        ("\\!", "hint: leave with \\q"),
        ("\\k", "error: unknown command \\k\nhint: \\? lists the commands"),
        ("\\timng", "hint: did you mean \\timing?"),
        ("\\x maybe", "error: \\x is on or off, not maybe"),
    ] {
        let (code, out, err) = run(command);
        assert!(code == Some(2) && out.is_empty() && err.contains(told), "{command}: {err}");
    }
}

#[test]
fn statements_take_lines_until_a_semicolon() -> Outcome {
    let dir = folder();
    let mut shell = shell(dir.path())?;
    shell.send_line("SELECT count(*) AS trades")?;
    shell.send_line("FROM trades")?;
    shell.send_line("WHERE price > 680; SELECT 40 + 2 AS answer;")?;
    shell.exp_string("(1 row)")?;
    shell.exp_string("answer")?;
    shell.exp_string("42")?;
    shell.exp_string("(1 row)")?;
    prompt(&mut shell)?;
    shell.send_line("\\q")?;
    shell.exp_eof().map(drop)
}

#[test]
fn an_error_is_told_and_the_shell_goes_on() -> Outcome {
    let dir = folder();
    let mut shell = shell(dir.path())?;
    shell.send_line("SELECT prize FROM trades;")?;
    // Red, because this is a terminal.
    shell.exp_string("\u{1b}[1;31merror:\u{1b}[0m unknown column \"prize\"")?;
    shell.exp_string("hint: did you mean \"price\"?")?;
    prompt(&mut shell)?;
    shell.send_line("\\tming")?;
    shell.exp_string("did you mean \\timing?")?;
    prompt(&mut shell)?;
    shell.send_line("SELECT 40 + 2 AS answer;")?;
    shell.exp_string("42")?;
    prompt(&mut shell)?;
    shell.send_control('d')?;
    shell.exp_eof().map(drop)
}

#[test]
fn ctrl_c_cancels_the_statement_and_not_the_shell() -> Outcome {
    let dir = folder();
    let mut shell = shell(dir.path())?;
    // It says that it runs, and then for years nothing more.
    shell.send_line("SELECT 'be' || 'gun' AS word; SELECT count(*) FROM generate_series(1, 3000000) AS a (x), generate_series(1, 3000000) AS b (y) WHERE x + y < 0;")?;
    shell.exp_string("begun")?;
    shell.exp_string("(1 row)")?;
    shell.send_control('c')?;
    shell.exp_string("cancelled")?;
    prompt(&mut shell)?;
    shell.send_line("SELECT 40 + 2 AS answer;")?;
    shell.exp_string("42")?;
    prompt(&mut shell)?;
    // On a line that is being typed it forgets the line.
    shell.send("SELECT nonsense")?;
    shell.flush()?;
    shell.send_control('c')?;
    prompt(&mut shell)?;
    shell.send_line("\\q")?;
    shell.exp_eof().map(drop)
}

#[test]
fn tab_completes_names_and_history_comes_back_in_the_next_shell() -> Outcome {
    let dir = folder();
    let mut first = shell(dir.path())?;
    first.send("SELECT session_buc\t'30m', ts, 'XNY\t') AS bar FROM trades LIMIT 1;\n")?;
    first.flush()?;
    first.exp_string("2025-11-28 14:30:00+00")?;
    prompt(&mut first)?;
    first.send_line("\\q")?;
    first.exp_eof()?;
    let kept = std::fs::read_to_string(dir.path().join("history")).expect("a history");
    assert!(kept.contains("SELECT session_bucket('30m', ts, 'XNYS') AS bar FROM trades LIMIT 1;"), "{kept}");

    let mut second = shell(dir.path())?;
    // Up twice: the line before \q.
    second.send("\u{1b}[A\u{1b}[A\n")?;
    second.flush()?;
    second.exp_string("2025-11-28 14:30:00+00")?;
    prompt(&mut second)?;
    second.send_line("\\q")?;
    second.exp_eof().map(drop)
}

#[test]
fn commands_describe_time_redirect_include_and_watch() -> Outcome {
    let dir = folder();
    std::fs::write(dir.path().join("two.sql"), "SELECT 1 AS one;\n\\timing off\nSELECT 2 AS two;").expect("a script");
    let mut shell = shell(dir.path())?;
    for (typed, printed) in [
        ("\\dt", "calendars"),
        ("\\d spy", "double precision"),
        ("\\df vwap", "vwap(price, size)"),
        ("\\d XNYS", "New York"),
        ("\\conninfo", "Reading no database."),
        ("\\timing", "Timing is on."),
        ("SELECT 7 AS seven;", "Time: "),
        ("\\i two.sql", "two"),
        ("\\format csv", "Output format is csv."),
        ("SELECT 'a' || 'gain' AS word;", "again"),
        ("\\watch 0 2", "again"),
        ("\\o out.ndjson", ""),
        ("SELECT 'kept' AS word;", ""),
        ("\\o", ""),
        ("\\?", "\\watch [SECONDS [N]]"),
    ] {
        shell.send_line(typed)?;
        if !printed.is_empty() {
            shell.exp_string(printed).inspect_err(|_| {
                eprintln!("after {typed}");
            })?;
        }
        if typed == "\\watch 0 2" {
            shell.exp_string("again")?;
        }
        prompt(&mut shell)?;
    }
    shell.send_line("\\q")?;
    shell.exp_eof()?;
    let written = std::fs::read_to_string(dir.path().join("out.ndjson")).expect("a file");
    assert_eq!(written, "{\"word\":\"kept\"}\n");
    Ok(())
}
