//! The venue's end: one WebSocket, made again whenever it ends.

use super::{Arrival, LONGEST_WAIT};
use crate::feed::Reject;
use crate::feed::binance::Message as Spot;
use crate::{Error, Result};
use futures_util::{SinkExt, StreamExt};
use rand::Rng;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;

/// What to follow.
#[derive(Clone, Debug)]
pub struct Follow {
    /// The stream's address.
    pub url: String,
    /// Symbols in upper case; trades of others are passed over.
    pub symbols: Vec<String>,
    /// The connection counts as dead after this much silence.
    pub silence: Duration,
    /// First wait before connecting again.
    pub backoff: Duration,
}

/// The address of Binance's combined stream of trades. `base` replaces the host; with a path of its own it is used as is.
///
/// # Errors
/// A base that is no WebSocket address, a symbol that cannot be part of one.
pub fn binance_url(base: Option<&str>, symbols: &[String]) -> Result<String> {
    for symbol in symbols {
        if symbol.is_empty() || !symbol.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Error::Usage(format!(
                "--symbols \"{symbol}\" is not a symbol of Binance's; write it like btcusdt"
            )));
        }
    }
    let streams: Vec<String> = symbols.iter().map(|s| format!("{}@trade", s.to_ascii_lowercase())).collect();
    let base = base.unwrap_or("wss://data-stream.binance.vision").trim_end_matches('/');
    let host =
        base.strip_prefix("wss://").or(base.strip_prefix("ws://")).filter(|h| !h.is_empty()).ok_or_else(|| {
            Error::Usage(format!("--url \"{base}\" is not a WebSocket address; write it like ws://127.0.0.1:9001"))
        })?;
    if host.contains('/') {
        return Ok(base.to_string());
    }
    Ok(format!("{base}/stream?streams={}", streams.join("/")))
}

/// Why a connection ended.
enum Ended {
    /// We are to stop.
    Stopped,
    /// Connect again; whether it delivered anything.
    Again { delivered: bool, why: String },
}

/// Follows until told to stop; everything read goes to `arrivals`, whose bound slows the reading down when the database
/// is slow.
pub async fn follow(follow: Follow, arrivals: mpsc::Sender<Arrival>, mut stop: watch::Receiver<bool>) {
    let mut wait = follow.backoff;
    loop {
        let ended = tokio::select! {
            ended = once(&follow, &arrivals, stop.clone()) => ended,
            _ = stopped(&mut stop) => Ended::Stopped,
        };
        let (delivered, why) = match ended {
            Ended::Stopped => return,
            Ended::Again { delivered, why } => (delivered, why),
        };
        if delivered {
            wait = follow.backoff;
        }
        // Full jitter: after an outage not every client comes back in the same instant.
        let pause = wait.mul_f64(rand::rng().random_range(0.5..1.0));
        tracing::warn!("feed: {why}; connecting again in {} ms", pause.as_millis());
        wait = (wait * 2).min(LONGEST_WAIT);
        tokio::select! {
            _ = tokio::time::sleep(pause) => {}
            _ = stopped(&mut stop) => return,
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone can never ask us to stop.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn once(follow: &Follow, arrivals: &mpsc::Sender<Arrival>, mut stop: watch::Receiver<bool>) -> Ended {
    let again = |delivered, why: String| Ended::Again { delivered, why };
    let connecting = tokio::time::timeout(follow.silence, tokio_tungstenite::connect_async(&follow.url)).await;
    let mut socket = match connecting {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(e)) => return again(false, format!("cannot connect: {e}")),
        Err(_) => return again(false, "cannot connect: no answer".into()),
    };
    if arrivals.send(Arrival::Connected).await.is_err() {
        return Ended::Stopped;
    }
    let mut delivered = false;
    loop {
        let message = tokio::select! {
            message = tokio::time::timeout(follow.silence, socket.next()) => message,
            _ = stopped(&mut stop) => {
                let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
                return Ended::Stopped;
            }
        };
        let text = match message {
            Err(_) => return again(delivered, format!("silent for {} s", follow.silence.as_secs())),
            Ok(None) => return again(delivered, "the venue hung up".into()),
            Ok(Some(Err(e))) => return again(delivered, format!("broke: {e}")),
            Ok(Some(Ok(Message::Close(_)))) => return again(delivered, "the venue closed the connection".into()),
            // The answer to a ping is queued by the library; it has to leave now, not with the next message we send.
            Ok(Some(Ok(Message::Ping(_)))) => {
                if let Err(e) = socket.flush().await {
                    return again(delivered, format!("broke: {e}"));
                }
                continue;
            }
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(_))) => continue,
        };
        delivered = true;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let arrival = match Spot::parse(text.as_bytes()) {
            Ok(Spot::Trade(message)) => match follow.symbols.iter().position(|s| *s == message.symbol) {
                None => continue,
                Some(at) => match message.trade(now) {
                    Ok(trade) => Arrival::Trade(at, trade),
                    Err(reason) => Arrival::Reject(Reject::new(0, reason, text.as_bytes())),
                },
            },
            Ok(Spot::Other(event)) if event == "serverShutdown" => {
                return again(delivered, "the venue announced a restart".into());
            }
            Ok(Spot::Other(_)) => continue,
            Err(reason) => Arrival::Reject(Reject::new(0, reason, text.as_bytes())),
        };
        if arrivals.send(arrival).await.is_err() {
            return Ended::Stopped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_names_every_stream() {
        let symbols = ["BTCUSDT".to_string(), "ethusdt".to_string()];
        assert_eq!(
            binance_url(None, &symbols).expect("symbols"),
            "wss://data-stream.binance.vision/stream?streams=btcusdt@trade/ethusdt@trade"
        );
        assert_eq!(binance_url(Some("ws://h:1/ws/x"), &symbols).expect("its own path"), "ws://h:1/ws/x");
        assert!(binance_url(Some("http://h"), &symbols).is_err());
        assert!(binance_url(None, &["BTC/USD".to_string()]).is_err());
    }
}
