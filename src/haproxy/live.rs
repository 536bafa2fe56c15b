//! One worker, listened to while it lives: the lines of a ring as they come, and its counters.
//!
//! Both connections stay with their worker over a reload, so that an old one is heard to the end of its last stream; and
//! they keep it alive, so whoever holds them drops them when it has no client left. HAProxy never waits for a reader: what
//! does not fit into the ring meanwhile is dropped there.
//!
//! A `server` in the ring, to which HAProxy would connect by itself, loses every line of an old worker: it hangs up as
//! soon as the worker stops (2.6, 3.0 and 3.2).
//!
//! **Source**: management guide, `show events`.

use super::command::{Pipeline, word};
use super::error::AdminError;
use super::info::Info;
use super::session::Session;
use super::stat::{ALL_SERVERS, ServerCounters, parse_stat};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

/// `show info` has some 3 KB; what comes before its end is read in vain.
const MAX_INFO_BYTES: usize = 64 << 10;
/// The variable that our rules write the last attempts to (`templates/parts/attempt.cfg`).
const TRIES: &str = "get var proc.hapilot_tries";

/// The counters of one worker, asked again and again over one connection.
pub struct WorkerWatch {
    session: Session,
    pid: u32,
    uptime: Duration,
}

impl std::fmt::Debug for WorkerWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerWatch").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// What one look showed.
#[derive(Clone, Debug)]
pub struct WorkerLook {
    /// On its way out.
    pub is_stopping: bool,
    /// Client connections that it still has, hops included.
    pub connections: u64,
    /// By (proxy, server).
    pub servers: BTreeMap<(String, String), ServerCounters>,
    /// The last attempts that were answered badly, in the words of our rules; `None` where the rules are not there.
    pub tries: Option<String>,
}

impl WorkerWatch {
    /// Connects to the worker that serves now.
    ///
    /// # Errors
    /// As for [`observe`](fn@super::observe), but also where nobody listens.
    pub async fn open(admin_socket: &Utf8Path, deadline: Duration) -> Result<Self, AdminError> {
        let (session, info) = Session::with_serving_worker(admin_socket, Instant::now() + deadline).await?;
        Ok(Self { session, pid: info.pid, uptime: Duration::from_secs(info.uptime_s) })
    }

    /// The worker.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How long it ran when the connection was made, in whole seconds.
    pub fn uptime(&self) -> Duration {
        self.uptime
    }

    /// Whether it has a ring of that name.
    ///
    /// # Errors
    /// The connection broke, or did not answer in time.
    pub async fn has_ring(&mut self, ring: &str, deadline: Duration) -> Result<bool, AdminError> {
        self.session.set_deadline(Instant::now() + deadline);
        let reply = self.session.ask("show events").await?;
        Ok(reply.split_whitespace().any(|word| word == ring))
    }

    /// Asks for the last attempts that were answered badly alone, which costs the worker next to nothing.
    ///
    /// # Errors
    /// The connection broke (the worker ended), or did not answer in time.
    pub async fn tries(&mut self, deadline: Duration) -> Result<Option<String>, AdminError> {
        self.session.set_deadline(Instant::now() + deadline);
        Ok(tries_in(&self.session.ask(TRIES).await?))
    }

    /// Asks for its state and its counters.
    ///
    /// # Errors
    /// The connection broke (the worker ended), or did not answer in time.
    pub async fn look(&mut self, deadline: Duration) -> Result<WorkerLook, AdminError> {
        self.session.set_deadline(Instant::now() + deadline);
        let mut questions = Pipeline::of("show info")?;
        questions.push(ALL_SERVERS)?;
        questions.push(TRIES)?;
        let mut replies = self.session.run(&questions).await?;
        let tries = tries_in(&replies.pop().unwrap_or_default());
        let counters = replies.pop().unwrap_or_default();
        let info = replies.pop().unwrap_or_default();
        let info: Info = info.parse().map_err(|problem| self.session.unreadable("show info", problem))?;
        let servers = parse_stat(&counters).map_err(|problem| self.session.unreadable("show stat", problem))?;
        let connections =
            info.connections.ok_or_else(|| self.session.unreadable("show info", "it has no CurrConns".to_owned()))?;
        Ok(WorkerLook { is_stopping: info.is_stopping, connections, servers, tries })
    }
}

/// `proc.hapilot_tries: type=str value=<…>`
fn tries_in(reply: &str) -> Option<String> {
    reply.split_once("value=<").and_then(|(_, value)| Some(value.rsplit_once('>')?.0.to_owned()))
}

/// Which lines of a ring are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingPart {
    /// Those that it has now, to their end.
    Past,
    /// Those that it has, and those that come.
    All,
}

/// The lines of a ring of one worker.
#[derive(Debug)]
pub struct EventStream {
    stream: UnixStream,
    socket: Utf8PathBuf,
    pid: u32,
    /// What came along with the worker's introduction.
    pending: Vec<u8>,
}

impl EventStream {
    /// Connects.
    ///
    /// # Errors
    /// As [`WorkerWatch::open`]; the worker that is reached may be one on its way out: the caller compares
    /// [`pid`](Self::pid).
    pub async fn open(
        admin_socket: &Utf8Path,
        ring: &str,
        part: RingPart,
        deadline: Duration,
    ) -> Result<Self, AdminError> {
        let at = Instant::now() + deadline;
        let late = |_| AdminError::Deadline { socket: admin_socket.to_owned() };
        timeout_at(at, Self::converse(admin_socket, ring, part)).await.map_err(late)?
    }

    async fn converse(socket: &Utf8Path, ring: &str, part: RingPart) -> Result<Self, AdminError> {
        let told = |source| AdminError::from_io(socket, source);
        let how = match part {
            RingPart::Past => "",
            RingPart::All => " -w",
        };
        // Without a prompt HAProxy takes one line only, and then sends line after line.
        let question = format!("show info;show events {}{how}\n", word(ring)?);
        let mut stream = UnixStream::connect(socket.as_std_path()).await.map_err(told)?;
        stream.write_all(question.as_bytes()).await.map_err(told)?;
        let mut pending = Vec::new();
        let end = loop {
            if let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
                break end;
            }
            let length = stream.read_buf(&mut pending).await.map_err(told)?;
            if length == 0 {
                return Err(AdminError::Truncated { socket: socket.to_owned(), answered: 0, asked: 1 });
            }
            if pending.len() > MAX_INFO_BYTES {
                return Err(AdminError::TooLong { socket: socket.to_owned(), limit_bytes: MAX_INFO_BYTES });
            }
        };
        let after = pending.split_off(end + 2);
        let info: Info = String::from_utf8_lossy(&pending).parse().map_err(|problem| AdminError::Unreadable {
            socket: socket.to_owned(),
            command: "show info",
            problem,
        })?;
        Ok(Self { stream, socket: socket.to_owned(), pid: info.pid, pending: after })
    }

    /// The worker that was reached.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for more bytes and gives how many; 0: that is all, or HAProxy hung up (the worker ended, the ring is unknown, or
    /// it was quiet for the time of `stats timeout`). May be dropped at any moment without a loss.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, AdminError> {
        if !self.pending.is_empty() {
            let length = self.pending.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.pending[..length]);
            self.pending.drain(..length);
            return Ok(length);
        }
        match self.stream.read(buffer).await {
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(0),
            read => read.map_err(|source| AdminError::from_io(&self.socket, source)),
        }
    }
}
