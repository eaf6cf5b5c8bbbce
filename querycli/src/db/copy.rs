//! Rows of a binary COPY.

use super::working::Working;
use crate::error::{Error, Result};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use std::pin::Pin;
use tokio_postgres::CopyOutStream;

const EPOCH_GAP_DAYS: i32 = 10_957;
const EPOCH_GAP_MICROS: i64 = EPOCH_GAP_DAYS as i64 * 86_400_000_000;
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// A stream of rows.
pub struct CopyRows {
    stream: Pin<Box<CopyOutStream>>,
    // Some until the stream has ended; dropping it before cancels the query.
    working: Option<Working>,
    chunk: Bytes,
    begun: bool,
}

/// The fields of a row; `None` is NULL.
pub struct Fields(Vec<Option<Bytes>>);

fn broken() -> Error {
    Error::world(
        "the server's binary rows cannot be read",
        "is something between querycli and PostgreSQL changing the stream?",
    )
}

impl CopyRows {
    pub(super) fn new(stream: CopyOutStream, working: Working) -> CopyRows {
        CopyRows { stream: Box::pin(stream), working: Some(working), chunk: Bytes::new(), begun: false }
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// What the server says, a connection that broke.
    pub async fn next(&mut self) -> Result<Option<Fields>> {
        loop {
            if let Some(fields) = self.row()? {
                return Ok(Some(fields));
            }
            if self.working.is_none() {
                // The stream must not be asked again after its end.
                return Ok(None);
            }
            match self.stream.next().await {
                Some(more) => {
                    let more = more?;
                    self.chunk = match self.chunk.is_empty() {
                        // The server sends a message a row, so this is the rule.
                        true => more,
                        false => {
                            let mut both = BytesMut::from(&self.chunk[..]);
                            both.extend_from_slice(&more);
                            both.freeze()
                        }
                    };
                }
                None => {
                    if let Some(working) = self.working.take() {
                        working.done();
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// A row of what is there; `None` if that is not a whole one.
    fn row(&mut self) -> Result<Option<Fields>> {
        if !self.begun {
            if self.chunk.len() < HEADER.len() + 8 {
                return Ok(None);
            }
            if &self.chunk[..HEADER.len()] != HEADER {
                return Err(broken());
            }
            self.chunk.advance(HEADER.len() + 8);
            self.begun = true;
        }
        let chunk = &self.chunk;
        let int = |at: usize| -> Option<i32> { Some(i32::from_be_bytes(chunk.get(at..at + 4)?.try_into().ok()?)) };
        let Some(count) = chunk.get(..2).and_then(|b| b.try_into().ok()).map(i16::from_be_bytes) else {
            return Ok(None);
        };
        if count < 0 {
            self.chunk = Bytes::new();
            return Ok(None);
        }
        let mut fields = Vec::with_capacity(count as usize);
        let mut at = 2;
        for _ in 0..count {
            let Some(length) = int(at) else { return Ok(None) };
            at += 4;
            if length < 0 {
                fields.push(None);
                continue;
            }
            let end = at + length as usize;
            if chunk.len() < end {
                return Ok(None);
            }
            fields.push(Some(chunk.slice(at..end)));
            at = end;
        }
        self.chunk.advance(at);
        Ok(Some(Fields(fields)))
    }
}

impl Fields {
    /// The bytes of a field; `None` for NULL.
    pub fn bytes(&self, at: usize) -> Option<&Bytes> {
        self.0.get(at).and_then(Option::as_ref)
    }

    fn fixed<const N: usize>(&self, at: usize) -> Result<Option<[u8; N]>> {
        self.bytes(at).map(|bytes| bytes[..].try_into().map_err(|_| broken())).transpose()
    }

    /// A boolean.
    pub fn bool(&self, at: usize) -> Result<Option<bool>> {
        Ok(self.fixed::<1>(at)?.map(|[b]| b != 0))
    }

    /// A smallint.
    pub fn i16(&self, at: usize) -> Result<Option<i16>> {
        Ok(self.fixed(at)?.map(i16::from_be_bytes))
    }

    /// An integer.
    pub fn i32(&self, at: usize) -> Result<Option<i32>> {
        Ok(self.fixed(at)?.map(i32::from_be_bytes))
    }

    /// A bigint.
    pub fn i64(&self, at: usize) -> Result<Option<i64>> {
        Ok(self.fixed(at)?.map(i64::from_be_bytes))
    }

    /// A real.
    pub fn f32(&self, at: usize) -> Result<Option<f32>> {
        Ok(self.fixed(at)?.map(f32::from_be_bytes))
    }

    /// A double precision.
    pub fn f64(&self, at: usize) -> Result<Option<f64>> {
        Ok(self.fixed(at)?.map(f64::from_be_bytes))
    }

    /// A text.
    pub fn text(&self, at: usize) -> Result<Option<&str>> {
        self.bytes(at).map(|bytes| std::str::from_utf8(bytes).map_err(|_| broken())).transpose()
    }

    /// A timestamp as microseconds since 1970.
    pub fn micros(&self, at: usize) -> Result<Option<i64>> {
        Ok(self.i64(at)?.map(|micros| micros.saturating_add(EPOCH_GAP_MICROS)))
    }

    /// A date as days since 1970.
    pub fn days(&self, at: usize) -> Result<Option<i32>> {
        Ok(self.i32(at)?.map(|days| days.saturating_add(EPOCH_GAP_DAYS)))
    }

    /// A field that is NOT NULL.
    pub fn some<T>(&self, value: Result<Option<T>>) -> Result<T> {
        value?.ok_or_else(broken)
    }
}
