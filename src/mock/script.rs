//! An answer as a list of acts, and the player that performs it.
//!
//! Whoever decides what is answered writes a script; nobody but the player touches the connection. So every fault is
//! data, and the mock's timing lives in one place.

use super::link::Link;
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep_until};

/// How much of a repetition is written at once, in bytes.
const BLOCK: usize = 16 << 10;

/// One thing to do on the connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// Waits; the waits of one script add up without drift.
    Wait(Duration),
    /// Writes these bytes at once.
    Send(Vec<u8>),
    /// Writes these bytes one by one, with this pause before each.
    Drip(Vec<u8>, Duration),
    /// Writes these bytes so many times.
    Repeat(Vec<u8>, u64),
    /// Says nothing more until the client goes away.
    Hang,
    /// Ends the connection with a reset.
    Reset,
    /// Ends the connection.
    Close,
}

/// What is answered to one request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Script {
    /// For the counters; 0 where no status is sent.
    pub(super) status: u16,
    pub(super) acts: Vec<Act>,
}

/// What becomes of the connection after a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    KeepAlive,
    Close,
}

impl Script {
    pub(super) fn new(status: u16, acts: Vec<Act>) -> Self {
        Self { status, acts }
    }

    /// A whole answer with a length.
    pub(super) fn whole(reply: &Reply) -> Self {
        Self::new(reply.status, vec![Act::Send(reply.to_bytes())])
    }

    /// The same with a wait in front.
    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.acts.insert(0, Act::Wait(wait));
        self
    }

    /// The same with a wait between the header and the body, and in front of each further piece.
    pub(super) fn body_after(mut self, wait: Duration) -> Self {
        let acts = std::mem::take(&mut self.acts);
        for act in acts {
            match act {
                Act::Send(bytes) if self.acts.is_empty() => {
                    let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
                    let (head, body) = bytes.split_at(body);
                    self.acts.push(Act::Send(head.to_vec()));
                    if !body.is_empty() {
                        self.acts.extend([Act::Wait(wait), Act::Send(body.to_vec())]);
                    }
                }
                act @ Act::Send(_) => self.acts.extend([Act::Wait(wait), act]),
                Act::Wait(_) if self.acts.is_empty() => {}
                act => self.acts.push(act),
            }
        }
        self
    }

    /// The same without anything after its first `n` sent pieces, and then this act.
    pub(super) fn cut_after(mut self, n: usize, last: Act) -> Self {
        let sends = self.acts.iter().enumerate().filter(|(_, act)| matches!(act, Act::Send(_)));
        if let Some((at, _)) = sends.take(n).last() {
            self.acts.truncate(at + 1);
        }
        self.acts.push(last);
        self
    }
}

/// A plain answer: status, headers, body.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", body.to_string())
    }

    pub(super) fn text(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type".into(), content_type.into())], body: body.into() }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The head, without its last empty line and without a length.
    pub(super) fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            // A fault may set any value, but not a second header by a line break.
            head.extend([name, ": ", &value.replace(['\r', '\n'], " "), "\r\n"].map(str::to_owned));
        }
        head
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.head().into_bytes();
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The head of a stream of chunks.
    pub(super) fn to_stream_head(&self) -> Vec<u8> {
        (self.head() + "transfer-encoding: chunked\r\n\r\n").into_bytes()
    }
}

/// One chunk of a chunked body; the empty one ends it.
pub(super) fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        529 => "Overloaded",
        _ => "Status",
    }
}

/// Performs a script on a connection.
///
/// # Errors
/// The client went away first.
pub(super) async fn play(script: Script, stream: &mut BufReader<Link>) -> io::Result<End> {
    let mut at = Instant::now();
    for act in script.acts {
        match act {
            Act::Wait(wait) if wait.is_zero() => {}
            Act::Wait(wait) => {
                at += wait;
                stream.flush().await?;
                sleep_until(at).await;
            }
            Act::Send(bytes) => stream.write_all(&bytes).await?,
            Act::Drip(bytes, pause) => {
                for byte in bytes {
                    at += pause;
                    sleep_until(at).await;
                    stream.write_all(&[byte]).await?;
                    stream.flush().await?;
                }
            }
            Act::Repeat(bytes, times) => {
                // Many small writes would cost more than they send.
                let each = (BLOCK / bytes.len().max(1)).max(1);
                let block = bytes.repeat(each);
                for _ in 0..times / each as u64 {
                    stream.write_all(&block).await?;
                }
                for _ in 0..times % each as u64 {
                    stream.write_all(&bytes).await?;
                }
            }
            Act::Hang => {
                stream.flush().await?;
                let mut sink = [0; 1024];
                while stream.read(&mut sink).await? > 0 {}
                return Ok(End::Close);
            }
            Act::Reset => {
                stream.flush().await?;
                stream.get_ref().arm_reset()?;
                return Ok(End::Close);
            }
            Act::Close => {
                stream.shutdown().await?;
                return Ok(End::Close);
            }
        }
    }
    stream.flush().await?;
    Ok(End::KeepAlive)
}
