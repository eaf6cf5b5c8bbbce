//! Files in object stores, against a server of this test that speaks as much of S3, Google Cloud Storage and Azure as reading needs.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

mod objects;

use objects::{SECRET, Store, querycli};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

const TRADES: &str = "symbol,ts,seq,price,size
SPY,2025-11-28T14:30:00Z,1,679.25,100
SPY,2025-11-28T14:59:59.999999Z,2,680.5,50
SPY,2025-11-28T15:00:00Z,3,680.75,10
";

fn printed(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// The same trades in every shape that files have.
fn store(dir: &Path) -> Store {
    std::fs::write(dir.join("spy.csv"), TRADES).unwrap();
    let local = |arguments: &[&str]| {
        let out =
            Command::new(env!("CARGO_BIN_EXE_querycli")).args(arguments).current_dir(dir).env_clear().output().unwrap();
        assert!(out.status.success(), "{}", printed(&out));
    };
    for name in ["spy.parquet", "spy.json", "spy.ndjson", "spy.arrow"] {
        local(&["spy.csv", "-c", "SELECT * FROM spy", "--output", name]);
    }
    // What a folder's layout says is not in its files.
    local(&["spy.csv", "-c", "SELECT ts, seq, price, size FROM spy", "--output", "bare.parquet"]);
    let mut objects = BTreeMap::new();
    for name in ["spy.csv", "spy.parquet", "spy.json", "spy.ndjson", "spy.arrow"] {
        let bytes = std::fs::read(dir.join(name)).unwrap();
        for bucket in ["public", "private"] {
            objects.insert(format!("{bucket}/one/{name}"), bytes.clone());
        }
        if name == "spy.parquet" {
            let bytes = std::fs::read(dir.join("bare.parquet")).unwrap();
            objects.insert("public/days/symbol=SPY/trade_date=2025-11-28/0.parquet".into(), bytes.clone());
            objects.insert("public/days/symbol=QQQ/trade_date=2025-11-28/0.parquet".into(), bytes.clone());
            objects.insert("public/days/_manifest.json".into(), b"{}".to_vec());
        }
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(TRADES.as_bytes()).unwrap();
    objects.insert("public/packed/spy.csv.gz".into(), gzip.finish().unwrap());
    // 682 in one and 681.5 in the other: floats.
    objects.insert("public/csv/a.csv".into(), b"symbol,ts,price,size\nSPY,2025-11-28T14:30:00Z,682,1\n".to_vec());
    objects.insert("public/csv/b.csv".into(), b"symbol,ts,price,size\nSPY,2025-11-28T14:31:00Z,681.5,1\n".to_vec());
    objects.insert("public/semicolons/a.csv".into(), TRADES.replace(',', ";").into_bytes());
    objects.insert("public/semicolons/b.csv".into(), TRADES.replace(',', ";").into_bytes());
    objects.insert("public/mixed/a.csv".into(), b"a\n1\n".to_vec());
    objects.insert("public/mixed/b.json".into(), b"{}".to_vec());
    Store::with(objects)
}

#[test]
fn objects_are_tables_as_files_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let check = |data: &str, sql: &str, expected: &str| {
        let out = querycli(dir.path(), &store, &[data, "-c", sql, "--format", "csv"]).output().unwrap();
        assert!(out.status.success(), "{data}: {}", printed(&out));
        assert_eq!(String::from_utf8_lossy(&out.stdout), expected, "{data}");
    };
    let sum = "SELECT count(*) AS n, sum(price) AS sum, max(ts) AS last FROM spy";
    let expected = "n,sum,last\n3,2040.5,2025-11-28 15:00:00\n";
    for name in ["spy.parquet", "spy.arrow"] {
        for place in ["s3://public/one/", "s3://private/one/", "gs://public/one/", "az://public/one/"] {
            check(&format!("{place}{name}"), sum, expected);
        }
    }
    let texts = "SELECT count(*) AS n, sum(price) AS sum FROM t";
    for name in ["one/spy.csv", "one/spy.json", "one/spy.ndjson", "packed/spy.csv.gz"] {
        check(&format!("s3://public/{name}"), texts, "n,sum\n3,2040.5\n");
    }
    check("gs://public/packed/spy.csv.gz", texts, "n,sum\n3,2040.5\n");
    // Folders, with and without the stroke at the end; their layout tells columns.
    let days = "SELECT symbol, trade_date, count(*) AS n FROM days GROUP BY 1, 2 ORDER BY 1";
    let of_days = "symbol,trade_date,n\nQQQ,2025-11-28,3\nSPY,2025-11-28,3\n";
    check("s3://public/days/", days, of_days);
    check("gs://public/days", days, of_days);
    check("s3://public/csv/", "SELECT sum(price) AS sum FROM csv", "sum\n1363.5\n");
    check("s3://public/semicolons/a.csv", texts, "n,sum\n3,2040.5\n");
    check("s3://public/semicolons/", texts, "n,sum\n6,4081\n");
    // A file of this machine may have a scheme, too.
    let local = format!("file://{}", dir.path().join("spy.csv").display());
    check(&local, texts, "n,sum\n3,2040.5\n");
}

/// Bars of an object equal those of the file.
#[test]
fn commands_take_objects() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let bars = |data: &str| {
        let arguments = ["bars", "SPY", "30m", "--calendar", "XNYS", "--format", "csv", "--data", data];
        let out = querycli(dir.path(), &store, &arguments).output().unwrap();
        assert!(out.status.success(), "{data}: {}", printed(&out));
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(bars("s3://public/one/spy.parquet"), bars("spy.parquet"));
    assert_eq!(bars("spy.csv").lines().count(), 3);
}

/// A Parquet file is read where the question needs it: its end first, and then the columns asked for.
#[test]
fn of_a_parquet_object_only_parts_are_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let out = querycli(dir.path(), &store, &["s3://public/one/spy.parquet", "-c", "SELECT max(price) FROM spy"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", printed(&out));
    let requests = store.requests();
    assert!(requests.iter().any(|request| request == "HEAD /public/one/spy.parquet"), "{requests:?}");
    assert!(requests.iter().all(|request| request.ends_with("/public/one/spy.parquet")), "{requests:?}");
}

/// Files that repeat what their folders say may say otherwise, so that not the folder's name but a file's own statistics tell
/// whether it has such rows; of one that has none only the end is fetched.
#[test]
fn a_repeated_column_prunes_by_statistics() {
    let dir = tempfile::tempdir().unwrap();
    let mut objects = BTreeMap::new();
    for symbol in ["SPY", "QQQ", "IWM"] {
        // longer than the end that is fetched at first
        let sql = format!(
            "SELECT '{symbol}' AS symbol, n, n * 2654435761 % 1000003 AS x FROM generate_series(1, 50000) AS g (n)"
        );
        let name = format!("{symbol}.parquet");
        let made = Command::new(env!("CARGO_BIN_EXE_querycli"))
            .args(["-c", &sql, "--output", &name])
            .current_dir(dir.path())
            .env_clear()
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", printed(&made));
        objects.insert(format!("public/own/symbol={symbol}/0.parquet"), std::fs::read(dir.path().join(name)).unwrap());
    }
    let fetched = |condition: &str| {
        let store = Store::with(objects.clone());
        let sql = format!("SELECT count(DISTINCT x) AS n FROM own {condition}");
        let out = querycli(dir.path(), &store, &["s3://public/own/", "-c", &sql, "--format", "csv"]).output().unwrap();
        assert!(out.status.success(), "{}", printed(&out));
        let of = |symbol: &str| store.requests().iter().filter(|asked| asked.contains(symbol)).count();
        (String::from_utf8(out.stdout).unwrap(), of("SPY"), of("QQQ"))
    };
    let (all, spy, qqq) = fetched("");
    assert_eq!((all.as_str(), spy), ("n\n50000\n", qqq));
    let (one, of_one, of_other) = fetched("WHERE symbol = 'SPY'");
    assert_eq!((one.as_str(), of_one), ("n\n50000\n", spy));
    assert!(of_other < qqq, "{of_other} requests of {qqq}");
}

#[test]
fn what_cannot_be_read_says_why_and_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let check = |data: &str, change: &[(&str, &str)], code: i32, expected: &str| {
        let mut command = querycli(dir.path(), &store, &[data, "-c", "SELECT 1"]);
        let out = command.envs(change.iter().copied()).output().unwrap();
        let told = printed(&out);
        assert!(out.status.code() == Some(code) && told.contains(expected), "{data}: {told}");
        assert!(!told.contains(SECRET) && !told.contains("hunter2"), "{told}");
    };
    check("s3://public/one/gone.parquet", &[], 2, "there is no s3://public/one/gone.parquet");
    check("s3://public/nothing/", &[], 2, "has files of no kind querycli reads, or none");
    check("s3://public/mixed/", &[], 2, "has files of several kinds");
    check("ftp://public/spy.csv", &[], 2, "querycli does not read from ftp://");
    check("s3://reader:hunter2@bucket/spy.csv", &[], 2, "there is a password in the name of a file");
    let out = querycli(dir.path(), &store, &["-c", "SELECT 1", "--output", "s3://public/one.csv"]).output().unwrap();
    assert!(
        out.status.code() == Some(2) && printed(&out).contains("does not write to s3://public/one.csv"),
        "{}",
        printed(&out)
    );
    let stranger = [("AWS_ACCESS_KEY_ID", "STRANGER")];
    check("s3://private/one/spy.parquet", &stranger, 1, "may not be read: the store refuses");
    check(
        "s3://private/one/spy.parquet",
        &stranger,
        1,
        "hint: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION say who",
    );
    check("gs://private/one/spy.parquet", &[], 1, "hint: GOOGLE_APPLICATION_CREDENTIALS names");
    check("az://private/one/spy.parquet", &[], 1, "hint: AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY");
}
