//! A venue that is not there: a WebSocket server that replays a capture and breaks off where it is told to.
#![allow(dead_code)]

use futures_util::{SinkExt, StreamExt};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

/// What one connection gets.
pub struct Step {
    /// The messages, in order.
    pub messages: Vec<String>,
    /// What happens after them.
    pub then: End,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The TCP connection is gone, without a goodbye.
    Drop,
    /// A polite close.
    Close,
    /// Nothing more is said; the client has to notice.
    Silent,
    /// Stays until the client goes.
    Stay,
}

/// A running server.
pub struct Replay {
    /// Where it listens.
    pub url: String,
    /// Connections accepted.
    pub connections: Arc<AtomicUsize>,
    /// Pongs received.
    pub pongs: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one step a connection; after the last step connections stay open and silent.
pub async fn serve(steps: Vec<Step>) -> Replay {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("bound"));
    let (connections, pongs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, answered) = (Arc::clone(&connections), Arc::clone(&pongs));
    let task = tokio::spawn(async move {
        let mut steps = steps.into_iter();
        while let Ok((stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::SeqCst);
            let step = steps.next().unwrap_or(Step { messages: vec![], then: End::Stay });
            tokio::spawn(connection(stream, step, Arc::clone(&answered)));
        }
    });
    Replay { url, connections, pongs, task }
}

async fn connection(stream: tokio::net::TcpStream, step: Step, pongs: Arc<AtomicUsize>) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    if socket.send(Message::Ping("20 s".into())).await.is_err() {
        return;
    }
    for text in step.messages {
        if socket.feed(Message::Text(text.into())).await.is_err() {
            return;
        }
    }
    // When this ping is answered the client has read everything before it: a reset connection would throw away what
    // still lies in the client's buffers, and that would be a gap.
    if socket.send(Message::Ping("end".into())).await.is_err() {
        return;
    }
    loop {
        match socket.next().await {
            Some(Ok(Message::Pong(payload))) => {
                pongs.fetch_add(1, Ordering::SeqCst);
                if payload.as_ref() == b"end" {
                    break;
                }
            }
            Some(Ok(_)) => {}
            _ => return,
        }
    }
    match step.then {
        End::Drop => {}
        End::Close => {
            let _ = socket.close(None).await;
        }
        End::Silent => std::future::pending().await,
        End::Stay => while let Some(Ok(_)) = socket.next().await {},
    }
}

/// The messages of a capture: one `local-ns JSON` a line, gzip.
pub fn capture(path: &Path) -> Vec<String> {
    let file = std::fs::File::open(path).expect("the capture is there");
    BufReader::new(flate2::read::MultiGzDecoder::new(file))
        .lines()
        .filter_map(|line| Some(line.ok()?.split_once(' ')?.1.to_string()))
        .collect()
}

/// Whether a message is a trade.
pub fn is_trade(message: &str) -> bool {
    message.contains("\"e\":\"trade\"")
}
