//! A server that speaks as much of S3, Google Cloud Storage and Azure as reading needs.

#![allow(dead_code, reason = "not every test asks all of it")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Who may read what is private.
pub const KEY: &str = "READER";
/// Its secret.
pub const SECRET: &str = "correcthorse";

/// Objects by `bucket/key`.
pub struct Store {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Store {
    /// Serves them until the test program ends.
    pub fn with(objects: BTreeMap<String, Vec<u8>>) -> Store {
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

    /// What was asked for, in order.
    pub fn requests(&self) -> Vec<String> {
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

/// The program, with all stores' credentials of this server.
pub fn querycli(dir: &Path, store: &Store, arguments: &[&str]) -> Command {
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
