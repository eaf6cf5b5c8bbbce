//! A small Discord on 127.0.0.1: the REST calls and the gateway that `/ask` needs, in plain text. Tests point the bot at
//! `api()`, push interactions, await the calls that arrive, and inject faults.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

const APPLICATION: &str = "900000000000000001";
const BOT: &str = "900000000000000002";

/// What the bot did.
#[derive(Clone, Debug)]
pub enum Call {
    Register { body: Value, auth: String },
    Callback { token: String, body: Value },
    Edit { token: String, body: Value, files: Vec<(String, Vec<u8>)> },
    Identify { intents: u64 },
    Resume,
    Other { line: String },
}

/// What the next REST calls meet, one each.
#[derive(Clone, Debug)]
pub enum Fault {
    Status(u16),
    Delay(Duration),
}

#[derive(Clone, Debug)]
enum Push {
    Dispatch(&'static str, Value),
    Close(u16),
}

struct Shared {
    gateway: String,
    ids: AtomicU64,
    sequence: AtomicU64,
    push: broadcast::Sender<Push>,
    calls: mpsc::UnboundedSender<Call>,
    faults: Mutex<VecDeque<Fault>>,
}

pub struct FakeDiscord {
    shared: Arc<Shared>,
    api: String,
    calls: mpsc::UnboundedReceiver<Call>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for FakeDiscord {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|task| task.abort());
    }
}

impl FakeDiscord {
    pub async fn start() -> FakeDiscord {
        let rest = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (sender, calls) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            gateway: format!("ws://{}", gateway.local_addr().unwrap()),
            ids: AtomicU64::new(910_000_000_000_000_000),
            sequence: AtomicU64::new(0),
            push: broadcast::channel(64).0,
            calls: sender,
            faults: Mutex::default(),
        });
        let api = format!("http://{}", rest.local_addr().unwrap());
        let (one, other) = (Arc::clone(&shared), Arc::clone(&shared));
        let tasks = vec![
            tokio::spawn(async move {
                while let Ok((stream, _)) = rest.accept().await {
                    tokio::spawn(serve(Arc::clone(&one), stream));
                }
            }),
            tokio::spawn(async move {
                while let Ok((stream, _)) = gateway.accept().await {
                    tokio::spawn(session(Arc::clone(&other), stream));
                }
            }),
        ];
        FakeDiscord { shared, api, calls, tasks }
    }

    pub fn api(&self) -> String {
        self.api.clone()
    }

    pub fn fault(&self, fault: Fault) {
        self.shared.faults.lock().unwrap().push_back(fault);
    }

    /// The next call that `pick` wants, others skipped.
    pub async fn wait_for<T>(&mut self, pick: impl Fn(Call) -> Option<T>) -> T {
        let found = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                if let Some(found) = pick(self.calls.recv().await.unwrap()) {
                    return found;
                }
            }
        });
        found.await.expect("the call came within 20 s")
    }

    pub fn close_gateway(&self, code: u16) {
        let _ = self.shared.push.send(Push::Close(code));
    }

    /// A user types `/ask question`; returns the interaction's token.
    pub fn ask(&self, user: u64, question: &str) -> String {
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let token = format!("interaction-token-{id}");
        let _ = self.shared.push.send(Push::Dispatch("INTERACTION_CREATE", interaction(id, &token, user, question)));
        token
    }
}

fn interaction(id: u64, token: &str, user: u64, question: &str) -> Value {
    let user = json!({"id": user.to_string(), "username": format!("user{user}"), "discriminator": "0",
        "global_name": null, "avatar": null});
    json!({"id": id.to_string(), "application_id": APPLICATION, "type": 2, "token": token, "version": 1, "channel_id": "55",
        "guild_id": "77", "guild_locale": "en-US", "locale": "en-US", "entitlements": [], "attachment_size_limit": 10485760,
        "authorizing_integration_owners": {}, "context": 0, "app_permissions": "562949953601536",
        "member": {"user": user, "roles": [], "deaf": false, "mute": false, "flags": 0,
            "joined_at": "2024-01-01T00:00:00Z", "permissions": "8"},
        "data": {"id": "930000000000000001", "name": "ask", "type": 1,
            "options": [{"name": "question", "type": 3, "value": question}]}})
}

/// One connection of REST calls.
async fn serve(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = find(&buffer, b"\r\n\r\n") {
                break at;
            }
            if read_more(&mut stream, &mut buffer).await.is_none() {
                return;
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
            Some(line.split_once(':')?.1.trim().to_string())
        };
        let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        assert!(header("transfer-encoding").is_none(), "the fake reads no chunks");
        buffer.drain(..head_end + 4);
        while buffer.len() < length {
            if read_more(&mut stream, &mut buffer).await.is_none() {
                return;
            }
        }
        let body: Vec<u8> = buffer.drain(..length).collect();
        let (json, files) = parse(&header("content-type").unwrap_or_default(), &body);
        let line = head.lines().next().unwrap_or_default().to_string();
        let fault = if line.starts_with("GET") { None } else { shared.faults.lock().unwrap().pop_front() };
        let (status, reply) = match fault {
            Some(Fault::Status(status)) => (status, json!({"message": "fault", "code": 0})),
            fault => {
                if let Some(Fault::Delay(delay)) = fault {
                    tokio::time::sleep(delay).await;
                }
                respond(&shared, &line, &header("authorization").unwrap_or_default(), json, files)
            }
        };
        let reply = if status == 204 { String::new() } else { reply.to_string() };
        let text = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{reply}",
            reply.len()
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

type Files = Vec<(String, Vec<u8>)>;

/// A JSON body, or `payload_json` and the files of a multipart one.
fn parse(content_type: &str, body: &[u8]) -> (Value, Files) {
    let Some((_, boundary)) = content_type.split_once("boundary=") else {
        return (serde_json::from_slice(body).unwrap_or(Value::Null), Vec::new());
    };
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let (mut json, mut files, mut rest) = (Value::Null, Vec::new(), body);
    while let Some(at) = find(rest, delimiter.as_bytes()) {
        rest = &rest[at + delimiter.len()..];
        let end = find(rest, delimiter.as_bytes()).unwrap_or(rest.len());
        let Some(head_end) = find(&rest[..end], b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&rest[..head_end]).into_owned();
        let content = &rest[head_end + 4..end.saturating_sub(2).max(head_end + 4)];
        if head.contains("payload_json") {
            json = serde_json::from_slice(content).unwrap();
        } else if let Some((_, name)) = head.split_once("filename=\"") {
            files.push((name.split('"').next().unwrap().to_string(), content.to_vec()));
        }
    }
    (json, files)
}

fn respond(shared: &Shared, line: &str, auth: &str, body: Value, files: Files) -> (u16, Value) {
    let mut parts = line.split(' ');
    let (method, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.trim_start_matches("/api/v10/").split('/').collect();
    match (method, segments.as_slice()) {
        ("GET", ["gateway"]) => (200, json!({"url": shared.gateway})),
        ("GET", ["gateway", "bot"]) => (
            200,
            json!({"url": shared.gateway, "shards": 1, "session_start_limit":
                {"total": 1000, "remaining": 999, "reset_after": 0, "max_concurrency": 1}}),
        ),
        ("PUT", ["applications", _, "commands"]) => {
            let mut made = body.clone();
            for command in made.as_array_mut().into_iter().flatten() {
                command["id"] = json!("930000000000000001");
                command["application_id"] = json!(APPLICATION);
                command["version"] = json!("930000000000000099");
                command["type"] = json!(1);
                command["default_member_permissions"] = Value::Null;
            }
            let _ = shared.calls.send(Call::Register { body, auth: auth.to_string() });
            (200, made)
        }
        ("POST", ["interactions", _, token, "callback"]) => {
            let _ = shared.calls.send(Call::Callback { token: token.to_string(), body });
            (204, Value::Null)
        }
        ("PATCH", ["webhooks", _, token, "messages", "@original"]) => {
            let message = message(shared, &body, &files);
            let _ = shared.calls.send(Call::Edit { token: token.to_string(), body, files });
            (200, message)
        }
        _ => {
            let _ = shared.calls.send(Call::Other { line: line.to_string() });
            (404, json!({"message": "404: Not Found", "code": 0}))
        }
    }
}

fn message(shared: &Shared, body: &Value, files: &Files) -> Value {
    let attachments: Vec<Value> = files
        .iter()
        .enumerate()
        .map(|(at, (name, bytes))| {
            json!({"id": (at + 1).to_string(), "filename": name, "size": bytes.len(), "url": "http://127.0.0.1/f",
                "proxy_url": "http://127.0.0.1/f", "content_type": "image/png"})
        })
        .collect();
    json!({"id": shared.ids.fetch_add(1, Ordering::Relaxed).to_string(), "channel_id": "55", "type": 20, "pinned": false,
        "tts": false, "author": {"id": BOT, "username": "bot", "discriminator": "0", "bot": true, "avatar": null,
        "global_name": null}, "content": "", "timestamp": "2025-01-01T00:00:00Z", "edited_timestamp": null,
        "mention_everyone": false, "mentions": [], "mention_roles": [], "attachments": attachments,
        "embeds": body.get("embeds").cloned().unwrap_or(json!([])), "application_id": APPLICATION})
}

/// One gateway connection.
async fn session(shared: Arc<Shared>, stream: TcpStream) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let text = |value: Value| Message::text(value.to_string());
    let next = || shared.sequence.fetch_add(1, Ordering::SeqCst) + 1;
    let hello = json!({"op": 10, "s": null, "t": null, "d": {"heartbeat_interval": 41250}});
    if socket.send(text(hello)).await.is_err() {
        return;
    }
    let mut pushed: Option<broadcast::Receiver<Push>> = None;
    loop {
        let push = async {
            match pushed.as_mut() {
                Some(pushed) => pushed.recv().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = socket.next() => {
                let Some(Ok(received)) = received else { return };
                let Message::Text(received) = received else { continue };
                let Ok(value) = serde_json::from_str::<Value>(&received) else { continue };
                match value["op"].as_u64() {
                    Some(1) => { let _ = socket.send(text(json!({"op": 11, "d": null}))).await; }
                    Some(2) => {
                        pushed = Some(shared.push.subscribe());
                        let user = json!({"id": BOT, "username": "bot", "discriminator": "0", "bot": true, "avatar": null,
                            "global_name": null, "mfa_enabled": false});
                        let ready = json!({"op": 0, "s": next(), "t": "READY", "d": {"v": 10, "user": user, "guilds": [],
                            "session_id": "session-1", "resume_gateway_url": shared.gateway, "shard": value["d"]["shard"],
                            "application": {"id": APPLICATION, "flags": 0}}});
                        // Noted before it is answered: what the bot does on READY is a later call.
                        let intents = value["d"]["intents"].as_u64().unwrap_or(u64::MAX);
                        let _ = shared.calls.send(Call::Identify { intents });
                        let _ = socket.send(text(ready)).await;
                    }
                    Some(6) => {
                        pushed = Some(shared.push.subscribe());
                        let _ = shared.calls.send(Call::Resume);
                        let _ = socket.send(text(json!({"op": 0, "s": next(), "t": "RESUMED", "d": {}}))).await;
                    }
                    _ => {}
                }
            }
            push = push => match push {
                Some(Push::Dispatch(event, data)) => {
                    if socket.send(text(json!({"op": 0, "s": next(), "t": event, "d": data}))).await.is_err() {
                        return;
                    }
                }
                Some(Push::Close(code)) => {
                    let _ = socket.close(Some(CloseFrame { code: code.into(), reason: "fault".into() })).await;
                    return;
                }
                None => return,
            }
        }
    }
}
