//! Files in object stores, against a server of this test that speaks as much of S3, Google Cloud Storage and Azure as reading needs.

#![allow(clippy::unwrap_used, reason = "a test that cannot run its program has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const TRADES: &str = "symbol,ts,seq,price,size
SPY,2025-11-28T14:30:00Z,1,679.25,100
SPY,2025-11-28T14:59:59.999999Z,2,680.5,50
SPY,2025-11-28T15:00:00Z,3,680.75,10
";
const KEY: &str = "READER";
const SECRET: &str = "correcthorse";

/// Objects by `bucket/key`.
struct Store {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Store {
    fn with(objects: BTreeMap<String, Vec<u8>>) -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (seen, objects) = (Arc::clone(&asked), Arc::new(objects));
        // It ends with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, objects) = (Arc::clone(&seen), Arc::clone(&objects));
                std::thread::spawn(move || answer(stream, &objects, &seen));
            }
        });
        Store { port, asked }
    }

    fn requests(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, objects: &BTreeMap<String, Vec<u8>>, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let request = lines.next()?;
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())))
        .collect();
    let mut words = request.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    seen.lock().unwrap().push(format!("{method} {path}"));
    let authorization = headers.get("authorization").map_or("", String::as_str);
    let path = decoded(path);
    let path = path.trim_start_matches('/').trim_start_matches("devstoreaccount1/");
    // What is in the private bucket is S3's reader's alone.
    if path.starts_with("private") && !authorization.contains(&format!("Credential={KEY}/")) {
        return reply(&mut stream, "403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>".as_bytes());
    }
    if query.contains("list-type=2") {
        let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap_or("");
        let prefix = format!("{}/{}", path.trim_end_matches('/'), decoded(prefix));
        let mut body = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        for (name, bytes) in objects.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            let key = name.split_once('/')?.1;
            let size = bytes.len();
            write!(body, "<Contents><Key>{key}</Key><LastModified>2025-11-28T18:00:00.000Z</LastModified><ETag>&quot;1&quot;</ETag><Size>{size}</Size></Contents>").ok()?;
        }
        body.push_str("</ListBucketResult>");
        return reply(&mut stream, "200 OK", "Content-Type: application/xml\r\n", body.as_bytes());
    }
    let Some(bytes) = objects.get(path) else {
        return reply(&mut stream, "404 Not Found", "", b"<Error><Code>NoSuchKey</Code></Error>");
    };
    let known = "Last-Modified: Fri, 28 Nov 2025 18:00:00 GMT\r\nETag: \"1\"\r\n";
    if method == "HEAD" {
        let head = format!("HTTP/1.1 200 OK\r\n{known}Content-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
        return stream.write_all(head.as_bytes()).ok();
    }
    let range =
        headers.get("range").or_else(|| headers.get("x-ms-range")).and_then(|range| range.strip_prefix("bytes="));
    match range.and_then(|range| range.split_once('-')) {
        None => reply(&mut stream, "200 OK", known, bytes),
        Some((first, last)) => {
            let size = bytes.len();
            let (from, till) = match (first.parse::<usize>(), last.parse::<usize>()) {
                (Ok(first), Ok(last)) => (first, (last + 1).min(size)),
                (Ok(first), _) => (first, size),
                (_, Ok(last)) => (size - last.min(size), size),
                _ => return None,
            };
            let range = format!("{known}Content-Range: bytes {from}-{}/{size}\r\n", till - 1);
            reply(&mut stream, "206 Partial Content", &range, &bytes[from..till])
        }
    }
}

/// Without percent signs: Google's clients write `one%2Fspy.parquet`.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        out.push(char::from(u8::from_str_radix(code, 16).unwrap()));
        out.push_str(rest);
    }
    out
}

fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()
}

fn querycli(dir: &Path, store: &Store, arguments: &[&str]) -> Command {
    let url = format!("http://127.0.0.1:{}", store.port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_querycli"));
    // No credentials of whoever runs the test, and no proxy.
    command.args(arguments).current_dir(dir).env_clear();
    command.env("AWS_ENDPOINT_URL", &url).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
    let account = format!(
        "{{\"gcs_base_url\": \"{url}\", \"disable_oauth\": true, \"client_email\": \"\", \"private_key\": \"\", \"private_key_id\": \"\"}}"
    );
    command.env("GOOGLE_SERVICE_ACCOUNT_KEY", account).env("GOOGLE_ALLOW_HTTP", "true");
    command.env("AZURE_STORAGE_USE_EMULATOR", "true").env("AZURITE_BLOB_STORAGE_URL", &url);
    command.env("AZURE_ALLOW_HTTP", "true");
    command
}

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
