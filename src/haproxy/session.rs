//! A burst of commands over the admin socket.
//!
//! A session lives for one burst: kept open over a reload it would talk to the old worker and keep that one alive.

use super::command::Pipeline;
use super::error::AdminError;
use super::info::Info;
use super::reply::{Replies, without_echo};
use crate::sys::fault;
use crate::sys::redact::redact;
use camino::{Utf8Path, Utf8PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

/// Most bytes of one reply: `show map` with a million entries has 64 MB.
const MAX_REPLY_BYTES: usize = 128 << 20;
/// Says which worker answers, and whether it is on its way out.
const INFO: &str = "show info";
/// Pause before a worker on its way out is asked again, or a socket that nobody listens on yet.
pub(super) const RETRY: Duration = Duration::from_millis(20);

/// An open session whose replies all end in a prompt.
pub(super) struct Session {
    stream: UnixStream,
    socket: Utf8PathBuf,
    deadline: Instant,
}

impl Session {
    /// Connects, switches the prompt on and asks who answers, in one go. The deadline holds for the whole life of the
    /// session.
    async fn with_any_worker(socket: &Utf8Path, deadline: Instant) -> Result<(Self, Info), AdminError> {
        fault::pass("admin.connect", socket).map_err(|source| AdminError::from_io(socket, source))?;
        let stream = loop {
            let connecting = timeout_at(deadline, UnixStream::connect(socket.as_std_path())).await;
            match connecting.map_err(|_| AdminError::Deadline { socket: socket.to_owned() })? {
                Ok(stream) => break stream,
                // The queue of connections is full.
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && Instant::now() + RETRY < deadline => {
                    sleep(RETRY).await;
                }
                // It stayed full: nobody takes any.
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(AdminError::Deadline { socket: socket.to_owned() });
                }
                Err(source) => return Err(AdminError::from_io(socket, source)),
            }
        };
        let mut session = Self { stream, socket: socket.to_owned(), deadline };
        let mut asked = Pipeline::of("prompt")?;
        asked.push(INFO)?;
        let reply = session.run(&asked).await?.pop().unwrap_or_default();
        let info = reply.parse().map_err(|problem| session.unreadable(INFO, problem))?;
        Ok((session, info))
    }

    /// Connects to the worker that serves; one on its way out is left and tried again until the deadline.
    pub(super) async fn with_serving_worker(socket: &Utf8Path, deadline: Instant) -> Result<(Self, Info), AdminError> {
        let mut stopping = None;
        loop {
            let (session, info) = match Self::with_any_worker(socket, deadline).await {
                Ok(found) => found,
                Err(error) => {
                    // The deadline came while yet another connection was tried: what was seen says more.
                    let seen = stopping.filter(|_| matches!(error, AdminError::Deadline { .. }));
                    return Err(seen.map_or(error, |pid| AdminError::Stopping { socket: socket.to_owned(), pid }));
                }
            };
            if !info.is_stopping {
                return Ok((session, info));
            }
            drop(session);
            stopping = Some(info.pid);
            if Instant::now() + RETRY >= deadline {
                return Err(AdminError::Stopping { socket: socket.to_owned(), pid: info.pid });
            }
            sleep(RETRY).await;
        }
    }

    /// Another deadline for what follows, for the few sessions that outlive a burst.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Sends one command, answers its reply.
    pub(super) async fn ask(&mut self, line: &str) -> Result<String, AdminError> {
        let mut replies = self.run(&Pipeline::of(line)?).await?;
        Ok(replies.pop().unwrap_or_default())
    }

    /// Sends all commands without waiting in between and answers exactly one reply for each, in order.
    ///
    /// Reads while it writes: with replies unread, HAProxy stops to read, and both would wait for ever.
    pub(super) async fn run(&mut self, pipeline: &Pipeline) -> Result<Vec<String>, AdminError> {
        let asked = pipeline.len();
        let socket = &self.socket;
        let (mut reader, mut writer) = self.stream.split();
        let mut replies = Replies::default();
        let told = |source| AdminError::from_io(socket, source);
        fault::pass("admin.send", socket).map_err(told)?;
        let half = fault::pass_reply("admin.reply", socket).map_err(told)?;
        let send = async {
            match writer.write_all(pipeline.wire()).await {
                // The reader will see how many were answered before HAProxy hung up.
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                sent => sent.map_err(|source| AdminError::from_io(socket, source)),
            }
        };
        let receive = async {
            let mut chunk = vec![0; 64 << 10];
            while replies.len() < asked {
                let length = match reader.read(&mut chunk).await {
                    Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => 0,
                    read => read.map_err(|source| AdminError::from_io(socket, source))?,
                };
                if length == 0 {
                    return Err(AdminError::Truncated { socket: socket.clone(), answered: replies.len(), asked });
                }
                if half {
                    replies.feed(&chunk[..length / 2]);
                    return Err(AdminError::Truncated { socket: socket.clone(), answered: replies.len(), asked });
                }
                replies.feed(&chunk[..length]);
                if replies.pending_bytes() > MAX_REPLY_BYTES {
                    return Err(AdminError::TooLong { socket: socket.clone(), limit_bytes: MAX_REPLY_BYTES });
                }
            }
            Ok(())
        };
        timeout_at(self.deadline, async { tokio::try_join!(send, receive) })
            .await
            .map_err(|_| AdminError::Deadline { socket: socket.clone() })??;
        // More replies than commands, or the beginning of one: then none can be trusted.
        let mut replies = replies
            .finish()
            .filter(|replies| replies.len() == asked)
            .ok_or_else(|| self.unreadable("a burst of commands", "more replies than commands".to_owned()))?;
        for (reply, _) in replies.iter_mut().zip(pipeline.has_payload()).filter(|(_, payload)| **payload) {
            *reply = without_echo(reply).to_owned();
        }
        Ok(replies)
    }

    pub(super) fn unreadable(&self, command: &'static str, problem: String) -> AdminError {
        AdminError::Unreadable { socket: self.socket.clone(), command, problem: redact(problem) }
    }
}
