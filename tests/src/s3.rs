//! A small server of objects for tests: as much of S3 as an archive needs, of Google Cloud Storage and Azure as reading does. It counts
//! what it is asked, and may fail as stores do.
//!
//! Its clock is told: every object is as old as the test says. This file is also a module of querycli's tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The key that may ask for what is in the bucket `private`.
pub const KEY: &str = "READER";
/// Its secret.
pub const SECRET: &str = "correcthorse";

/// An object, and when it was written: hours since midnight of 2025-11-28, by the server's clock.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// When it was written.
    pub hour: u32,
}

/// What it holds and remembers.
#[derive(Debug)]
struct State {
    /// By `bucket/key`.
    objects: BTreeMap<String, Object>,
    /// Parts of uploads that are not complete, by upload and number.
    parts: BTreeMap<(u64, u32), Vec<u8>>,
    uploads: u64,
    asked: Vec<String>,
    hour: u32,
    /// Names in one answer to a list.
    page: usize,
    /// Every so many requests one fails; none if 0.
    failing: u64,
    count: u64,
    /// A request that has the first in it, as it is written down, takes the objects away whose names have the second.
    sabotage: Option<(String, String)>,
    most_at_once: u32,
    now: u32,
}

/// A server that runs until the test ends.
pub struct Store {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

fn held(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// With objects by `bucket/key`.
    ///
    /// # Panics
    /// Without a free port, a test cannot run.
    pub fn with(objects: BTreeMap<String, Vec<u8>>) -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let objects = objects.into_iter().map(|(name, bytes)| (name, Object { bytes, hour: 18 })).collect();
        let state = Arc::new(Mutex::new(State {
            objects,
            parts: BTreeMap::new(),
            uploads: 0,
            asked: Vec::new(),
            hour: 18,
            page: 1000,
            failing: 0,
            count: 0,
            sabotage: None,
            most_at_once: 0,
            now: 0,
        }));
        let of = Arc::clone(&state);
        // It ends with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let of = Arc::clone(&of);
                std::thread::spawn(move || {
                    {
                        let mut state = held(&of);
                        state.now += 1;
                        state.most_at_once = state.most_at_once.max(state.now);
                    }
                    answer(stream, &of);
                    held(&of).now -= 1;
                });
            }
        });
        Store { port, state }
    }

    /// What was asked, in order: `GET /bucket/key`, `LIST /bucket/prefix`, `POST`, `PUT`, `DELETE` and `HEAD`.
    pub fn requests(&self) -> Vec<String> {
        held(&self.state).asked.clone()
    }

    /// Begins to count anew.
    pub fn forget_requests(&self) {
        held(&self.state).asked.clear();
    }

    /// How many requests it worked on at once at most.
    pub fn most_at_once(&self) -> u32 {
        held(&self.state).most_at_once
    }

    /// The objects of a bucket by key.
    pub fn objects(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let state = held(&self.state);
        let all = state.objects.iter().filter_map(|(name, object)| {
            let (of, key) = name.split_once('/')?;
            (of == bucket).then(|| (key.to_owned(), object.bytes.clone()))
        });
        all.collect()
    }

    /// Puts an object, or another in its place.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = held(&self.state);
        let hour = state.hour;
        state.objects.insert(name.to_owned(), Object { bytes, hour });
    }

    /// Removes one.
    pub fn remove(&self, name: &str) {
        held(&self.state).objects.remove(name);
    }

    /// From now on a request such as `PUT /bucket/key` with `asked` in it, once it is answered, takes away every object with `gone`
    /// in its name.
    pub fn sabotage(&self, sabotage: Option<(&str, &str)>) {
        held(&self.state).sabotage = sabotage.map(|(asked, gone)| (asked.to_owned(), gone.to_owned()));
    }

    /// Lets hours pass by its clock, up to 23 of its day.
    pub fn pass(&self, hours: u32) {
        held(&self.state).hour += hours;
    }

    /// How many names one answer to a list has.
    pub fn page(&self, names: usize) {
        held(&self.state).page = names;
    }

    /// Fails one of so many requests: with 503, with 500, by a connection that ends within the answer. 0: none.
    pub fn fail(&self, every: u64) {
        held(&self.state).failing = every;
    }
}

/// As HTTP writes an hour, and as XML does.
fn moment(hour: u32) -> (String, String) {
    let (day, hour) = (28 + hour / 24, hour % 24);
    let weekday = ["Fri", "Sat", "Sun"][(day - 28) as usize % 3];
    (format!("{weekday}, {day} Nov 2025 {hour:02}:00:00 GMT"), format!("2025-11-{day}T{hour:02}:00:00.000Z"))
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let request = line.trim_end().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ").filter(|_| !line.trim_end().is_empty()) else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = request.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let listed = query.contains("list-type=2");
    let parameter = |name: &str| {
        let found = query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.map(decoded)
    };
    let mut state = held(state);
    let prefix = parameter("prefix").unwrap_or_default();
    state.asked.push(match listed {
        true => format!("LIST {}/{prefix}", path.trim_end_matches('/')),
        false => format!("{method} {path}"),
    });
    state.count += 1;
    let failing =
        (state.failing > 0 && state.count.is_multiple_of(state.failing)).then(|| state.count / state.failing % 3);
    match failing {
        Some(0) => return reply(&mut stream, "503 Slow Down", "", b"<Error><Code>SlowDown</Code></Error>"),
        Some(1) => {
            return reply(&mut stream, "500 Internal Server Error", "", b"<Error><Code>InternalError</Code></Error>");
        }
        _ => {}
    }
    let breaks = failing.is_some();
    let authorization = headers.get("authorization").map_or("", String::as_str);
    let path = decoded(path);
    let path = path.trim_start_matches('/').trim_start_matches("devstoreaccount1/").to_owned();
    // What is in the private bucket is S3's reader's alone.
    if path.starts_with("private") && !authorization.contains(&format!("Credential={KEY}/")) {
        return reply(&mut stream, "403 Forbidden", "", b"<Error><Code>AccessDenied</Code></Error>");
    }
    let sabotage = state.sabotage.clone();
    let sabotage = sabotage.filter(|(asked, _)| format!("{method} /{path}").contains(asked.as_str()));
    let took = |state: &mut State| {
        if let Some((_, gone)) = &sabotage {
            state.objects.retain(|name, _| !name.contains(gone.as_str()));
        }
    };
    match method {
        // the connection ends before it answers
        "PUT" | "POST" | "DELETE" if breaks => None,
        _ if listed && breaks => None,
        "PUT" => {
            let done = put(&mut stream, &mut state, &path, parameter("uploadId"), parameter("partNumber"), body);
            took(&mut state);
            done
        }
        "POST" => post(&mut stream, &mut state, &path, query, parameter("uploadId"), &body),
        "DELETE" => {
            state.objects.remove(&path);
            reply(&mut stream, "204 No Content", "", b"")
        }
        _ if listed => {
            let bucket = path.trim_end_matches('/').to_owned();
            let body =
                list(&state, &bucket, &prefix, parameter("delimiter").is_some(), parameter("continuation-token"))?;
            reply(&mut stream, "200 OK", "Content-Type: application/xml\r\n", body.as_bytes())
        }
        _ => {
            let Some(object) = state.objects.get(&path).cloned() else {
                return reply(&mut stream, "404 Not Found", "", b"<Error><Code>NoSuchKey</Code></Error>");
            };
            took(&mut state);
            drop(state);
            let range = headers.get("range").or_else(|| headers.get("x-ms-range"));
            get(&mut stream, method, &object, range.and_then(|range| range.strip_prefix("bytes=")), breaks)
        }
    }
}

fn get(stream: &mut TcpStream, method: &str, object: &Object, range: Option<&str>, breaks: bool) -> Option<()> {
    let known = format!("Last-Modified: {}\r\nETag: \"1\"\r\n", moment(object.hour).0);
    let bytes = &object.bytes;
    if method == "HEAD" {
        let head = format!("HTTP/1.1 200 OK\r\n{known}Content-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
        return stream.write_all(head.as_bytes()).ok();
    }
    let size = bytes.len();
    let (status, headers, part) = match range.and_then(|range| range.split_once('-')) {
        None => ("200 OK", known, &bytes[..]),
        Some((first, last)) => {
            let (from, till) = match (first.parse::<usize>(), last.parse::<usize>()) {
                (Ok(first), Ok(last)) => (first, (last + 1).min(size)),
                (Ok(first), _) => (first, size),
                (_, Ok(last)) => (size - last.min(size), size),
                _ => return None,
            };
            let known = format!("{known}Content-Range: bytes {from}-{}/{size}\r\n", till - 1);
            ("206 Partial Content", known, &bytes[from..till])
        }
    };
    if breaks {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", part.len());
        stream.write_all(head.as_bytes()).ok()?;
        return stream.write_all(&part[..part.len() / 2]).ok();
    }
    reply(stream, status, &headers, part)
}

fn put(
    stream: &mut TcpStream,
    state: &mut State,
    path: &str,
    upload: Option<String>,
    part: Option<String>,
    bytes: Vec<u8>,
) -> Option<()> {
    match (upload, part) {
        (Some(upload), Some(part)) => {
            state.parts.insert((upload.parse().ok()?, part.parse().ok()?), bytes);
        }
        _ => {
            let hour = state.hour;
            state.objects.insert(path.to_owned(), Object { bytes, hour });
        }
    }
    reply(stream, "200 OK", "ETag: \"1\"\r\n", b"")
}

/// Begins an upload in parts, ends one, or removes many objects.
fn post(
    stream: &mut TcpStream,
    state: &mut State,
    path: &str,
    query: &str,
    upload: Option<String>,
    body: &[u8],
) -> Option<()> {
    let xml = "Content-Type: application/xml\r\n";
    if query == "delete" || query.starts_with("delete=") {
        let bucket = path.trim_end_matches('/').to_owned();
        let body = String::from_utf8_lossy(body).into_owned();
        let mut told = "<DeleteResult>".to_owned();
        for key in body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
            state.objects.remove(&format!("{bucket}/{key}"));
            write!(told, "<Deleted><Key>{key}</Key></Deleted>").ok()?;
        }
        told.push_str("</DeleteResult>");
        return reply(stream, "200 OK", xml, told.as_bytes());
    }
    let Some(upload) = upload else {
        state.uploads += 1;
        let told = format!(
            "<InitiateMultipartUploadResult><UploadId>{}</UploadId></InitiateMultipartUploadResult>",
            state.uploads
        );
        return reply(stream, "200 OK", xml, told.as_bytes());
    };
    let upload: u64 = upload.parse().ok()?;
    let parts = state.parts.range((upload, 0)..=(upload, u32::MAX)).map(|(_, part)| part.as_slice());
    let (bytes, hour) = (parts.collect::<Vec<_>>().concat(), state.hour);
    state.parts.retain(|(of, _), _| *of != upload);
    state.objects.insert(path.to_owned(), Object { bytes, hour });
    reply(
        stream,
        "200 OK",
        xml,
        b"<CompleteMultipartUploadResult><ETag>&quot;1&quot;</ETag></CompleteMultipartUploadResult>",
    )
}

fn list(state: &State, bucket: &str, prefix: &str, folders: bool, after: Option<String>) -> Option<String> {
    let start = format!("{bucket}/{prefix}");
    let after = after.unwrap_or_default();
    let mut body = "<ListBucketResult>".to_owned();
    let (mut count, mut last) = (0, String::new());
    for (name, object) in state.objects.iter().filter(|(name, _)| name.starts_with(&start)) {
        let key = name.split_once('/')?.1;
        // a folder is named once, by its end
        let folder = folders.then(|| key[prefix.len()..].find('/')).flatten().map(|at| &key[..=prefix.len() + at]);
        let shown = folder.unwrap_or(key);
        if shown <= after.as_str() || shown == last {
            continue;
        }
        if count == state.page {
            write!(body, "<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>")
                .ok()?;
            break;
        }
        count += 1;
        last = shown.to_owned();
        match folder {
            Some(folder) => write!(body, "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>").ok()?,
            None => {
                let (size, at) = (object.bytes.len(), moment(object.hour).1);
                write!(body, "<Contents><Key>{key}</Key><LastModified>{at}</LastModified><ETag>&quot;1&quot;</ETag><Size>{size}</Size></Contents>").ok()?;
            }
        }
    }
    body.push_str("</ListBucketResult>");
    Some(body)
}

/// Without percent signs: Google's clients write `one%2Fspy.parquet`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code.filter(|_| first == b'%') {
            Some(code) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()
}
