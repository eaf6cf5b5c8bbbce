//! Every kind of file gives the same bars, packed or not, alone or as a folder.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use std::io::Write;
use std::path::Path;
use std::process::Command;

const HEAD: &str = "symbol,ts,seq,price,size\n";
const FIRST: &str = "\
SPY,2025-11-28T14:30:00Z,1,679.25,100
SPY,2025-11-28T14:59:59.999999Z,2,680.5,50
SPY,2025-11-28T15:00:00Z,3,680.75,10
";
const SECOND: &str = "\
SPY,2025-11-28T17:59:00Z,5,681.5,25
SPY,2025-11-28T17:59:00Z,4,682.25,25
SPY,2025-11-28T20:10:00Z,6,683.5,5
";
const BARS: &str =
    "SELECT bar_at, open, high, low, close, volume, trades FROM session_ohlc('SPY', '30m', '2025-11-28', '2025-11-28')";

fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_querycli"));
    command.current_dir(dir).args(arguments).env_remove("BELLWETHER_DB").env_remove("BELLWETHER_ARCHIVE");
    // What is unpacked goes with the program, however it ends.
    let temporary = tempfile::tempdir().unwrap();
    let out = command.env("TMPDIR", temporary.path()).output().unwrap();
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{arguments:?} left {left:?}");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr))
}

fn bars(dir: &Path, file: &str) -> String {
    let (code, out, err) = run(dir, &[file, "--calendar", "XNYS", "--format", "csv", "-c", BARS]);
    assert_eq!((code, err.as_str()), (0, ""), "{file}");
    out
}

fn copied(dir: &Path, to: &str, kind: &str) {
    let sql = format!("COPY (SELECT symbol, ts, seq, price, size FROM trades) TO '{to}' STORED AS {kind}");
    let (code, _, err) = run(dir, &["spy.csv", "-c", &sql]);
    assert_eq!(code, 0, "{to}: {err}");
}

fn gzip(path: &Path, bytes: &[u8]) {
    let mut file = flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), flate2::Compression::fast());
    file.write_all(bytes).unwrap();
    file.finish().unwrap();
}

#[test]
fn every_kind_of_file_gives_the_same_bars() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let whole = format!("{HEAD}{FIRST}{SECOND}");
    std::fs::write(dir.join("spy.csv"), &whole).unwrap();
    let expected = bars(dir, "spy.csv");
    assert_eq!(
        expected,
        "bar_at,open,high,low,close,volume,trades
2025-11-28 14:30:00+00,679.25,680.5,679.25,680.5,150,2
2025-11-28 15:00:00+00,680.75,680.75,680.75,680.75,10,1
2025-11-28 17:30:00+00,682.25,682.25,681.5,681.5,50,2
"
    );
    copied(dir, "spy.parquet", "PARQUET");
    copied(dir, "spy.json", "JSON");
    copied(dir, "spy.arrow", "ARROW");
    std::fs::write(dir.join("spy.tsv"), whole.replace(',', "\t")).unwrap();
    let json = std::fs::read_to_string(dir.join("spy.json")).unwrap();
    let lines: Vec<&str> = json.lines().collect();
    std::fs::write(dir.join("array.json"), format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    for name in ["spy.csv", "spy.json", "spy.parquet"] {
        let bytes = std::fs::read(dir.join(name)).unwrap();
        gzip(&dir.join(format!("{name}.gz")), &bytes);
        std::fs::write(dir.join(format!("{name}.zst")), zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    }
    for file in [
        "spy.parquet",
        "spy.json",
        "spy.arrow",
        "spy.tsv",
        "array.json",
        "spy.csv.gz",
        "spy.csv.zst",
        "spy.json.gz",
        "spy.json.zst",
        "spy.parquet.zst",
    ] {
        assert_eq!(bars(dir, file), expected, "{file}");
    }
}

#[test]
fn a_folder_is_one_table_and_its_layout_gives_columns() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let days = dir.join("days");
    for (day, lines) in [("2025-11-28", FIRST), ("2025-12-01", SECOND)] {
        let folder = days.join("venue=ARCX").join(format!("trade_date={day}"));
        std::fs::create_dir_all(&folder).unwrap();
        gzip(&folder.join("part.csv.gz"), format!("{HEAD}{lines}").as_bytes());
        std::fs::write(folder.join("_SUCCESS"), b"").unwrap();
    }
    let sql = "SELECT venue, trade_date, count(*) AS n, max(price) AS high FROM days GROUP BY 1, 2 ORDER BY 2";
    let (code, out, err) = run(dir, &["days", "--format", "csv", "-c", sql]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "venue,trade_date,n,high\nARCX,2025-11-28,3,680.75\nARCX,2025-12-01,3,683.5\n");
}

/// Spreadsheets of half the world write semicolons, and call it .csv.
#[test]
fn the_header_of_a_csv_file_tells_its_separator() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let sql = "SELECT symbol, count(*) AS n, max(price) AS high FROM t GROUP BY symbol";
    let check = |file: &str| {
        let (code, out, err) = run(dir, &[file, "--format", "csv", "-c", sql]);
        assert_eq!((code, err.as_str(), out.as_str()), (0, "", "symbol,n,high\nSPY,3,680.75\n"), "{file}");
    };
    for (name, separator) in [("semicolon", ";"), ("tab", "\t"), ("bar", "|")] {
        let text = format!("{HEAD}{FIRST}").replace(',', separator);
        std::fs::write(dir.join(format!("{name}.csv")), &text).unwrap();
        check(&format!("{name}.csv"));
        gzip(&dir.join(format!("{name}.csv.gz")), text.as_bytes());
        check(&format!("{name}.csv.gz"));
        // of a folder the first file that has a header tells it for all
        let folder = dir.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("0.csv"), b"").unwrap();
        for (at, line) in FIRST.lines().enumerate() {
            let text = format!("{HEAD}{line}\n").replace(',', separator);
            std::fs::write(folder.join(format!("{}.csv", at + 1)), text).unwrap();
        }
        check(name);
    }
    // a comma in the header is the separator, whatever else is there
    std::fs::write(dir.join("comma.csv"), "a,b;c\n1,2;3\n").unwrap();
    let (_, out, _) = run(dir, &["comma.csv", "--format", "tsv", "-c", "SELECT * FROM t"]);
    assert_eq!(out, "a\tb;c\n1\t2;3\n");
    let mixed = dir.join("mixed");
    std::fs::create_dir(&mixed).unwrap();
    std::fs::write(mixed.join("1.csv"), "a;b\n1;2\n").unwrap();
    std::fs::write(mixed.join("2.csv"), "a,b\n1,2\n").unwrap();
    let (code, _, err) = run(dir, &["mixed", "-c", "SELECT * FROM t"]);
    assert!(code == 2 && err.contains("1.csv has the columns a, b, and 2.csv has a,b"), "{err}");
}

/// Names that a pattern could have read, and others that URLs are not made of.
#[test]
fn a_name_is_a_name_and_no_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("axb.csv"), "n\n7\n").unwrap();
    for name in ["a?b.csv", "*.csv", "trades[1].csv", "50%.csv", "a#b.csv", "two words.csv", "Ünï.csv", "a%5B.csv"] {
        std::fs::write(dir.join(name), "n\n1\n").unwrap();
        let (code, out, err) = run(dir, &[name, "--format", "csv", "-c", "SELECT sum(n) AS n FROM t"]);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "n\n1\n", ""), "{name}");
        let folder = format!("of {name}.d");
        std::fs::create_dir(dir.join(&folder)).unwrap();
        std::fs::write(dir.join(&folder).join(name), "n\n1\n").unwrap();
        std::fs::write(dir.join(&folder).join("b.csv"), "n\n2\n").unwrap();
        let (code, out, err) = run(dir, &[&folder, "--format", "csv", "-c", "SELECT sum(n) AS n FROM t"]);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "n\n3\n", ""), "{folder}");
    }
    std::fs::write(dir.join("of *.csv.d/c.csv"), "m\n2\n").unwrap();
    let (_, _, err) = run(dir, &["of *.csv.d", "-c", "SELECT 1"]);
    assert!(err.contains("error: *.csv has the columns n, and c.csv has m"), "{err}");
}

/// What people keep in CSV files.
#[test]
fn csv_files_are_read_as_they_are_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("twice.csv"), "a,b,a\n1,2,3\n").unwrap();
    let (code, _, err) = run(dir, &["twice.csv", "-c", "SELECT * FROM t"]);
    assert!(code == 2 && err.contains("twice.csv has two columns called \"a\"\nhint: "), "{err}");
    // times without seconds
    std::fs::write(
        dir.join("spy.csv"),
        "symbol,ts,price,size\nSPY,2025-11-28 14:30,679.25,100\nSPY,2025-11-28 15:00,680,5\n",
    )
    .unwrap();
    let sql =
        "SELECT ts::timestamp AS ts, trade_date(ts, 'XNYS') AS day FROM t WHERE ts::timestamptz > '2025-11-28 14:45'";
    let (_, out, err) = run(dir, &["spy.csv", "--format", "csv", "-c", sql]);
    assert_eq!((out.as_str(), err.as_str()), ("ts,day\n2025-11-28 15:00:00,2025-11-28\n", ""));
    let bars = ["bars", "SPY", "1d", "--data", "spy.csv", "--calendar", "XNYS", "--format", "csv"];
    let (_, out, err) = run(dir, &bars);
    assert!(out.contains("679.25,680,679.25,680,105,2"), "{out} {err}");
    let (code, _, err) = run(dir, &["spy.csv", "-c", "SELECT symbol::timestamp FROM t"]);
    assert!(
        code == 2 && err.contains("invalid input syntax for type timestamp: \"SPY\"\nhint: times are like"),
        "{err}"
    );
    // a type that its first rows do not tell
    let late: String = std::iter::once("n".to_owned())
        .chain((0..2000).map(|n| n.to_string()))
        .chain(["x".into()])
        .collect::<Vec<_>>()
        .join("\n");
    std::fs::write(dir.join("late.csv"), late).unwrap();
    let (code, _, err) = run(dir, &["late.csv", "-c", "SELECT max(n) FROM t"]);
    assert!(
        code == 1 && err.contains("late.csv cannot be read") && err.contains("hint: a column's type is what fits"),
        "{err}"
    );
    let declared = "CREATE EXTERNAL TABLE x (n text) STORED AS CSV LOCATION 'late.csv' OPTIONS ('format.has_header' 'true'); SELECT max(n) AS n FROM x";
    let (_, out, err) = run(dir, &["--format", "csv", "-c", declared]);
    assert_eq!((out.as_str(), err.as_str()), ("n\nx\n", ""));
    let (code, _, err) = run(dir, &["-c", "SET timezone = 'America/New_York'"]);
    assert!(code == 2 && err.contains("times are those of UTC here\nhint: ts AT TIME ZONE"), "{err}");
}

#[test]
fn a_file_of_no_known_kind_is_a_wrong_question() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("a.txt"), b"x").unwrap();
    std::fs::create_dir(dir.join("empty")).unwrap();
    std::fs::create_dir(dir.join("mixed")).unwrap();
    std::fs::write(dir.join("mixed/a.csv"), HEAD).unwrap();
    std::fs::write(dir.join("mixed/a.json"), "{}").unwrap();
    for (name, message) in [
        ("a.txt", "a.txt is of no kind querycli reads"),
        ("empty", "empty has files of no kind, or none, querycli reads"),
        ("mixed", "mixed has files of several kinds"),
        ("gone.csv", "there is no file gone.csv"),
    ] {
        let (code, _, err) = run(dir, &[name, "-c", "SELECT 1"]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(message) && err.contains("hint: "), "{err}");
    }
}
