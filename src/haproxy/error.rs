//! Why a conversation with HAProxy came to nothing.

use super::command::CommandRefused;
use crate::sys::rights::{self, Want};
use camino::{Utf8Path, Utf8PathBuf};
use std::io;

/// A conversation over the admin or the master socket failed. Never carries what was sent.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens: HAProxy is not running, or is about to.
    #[error("nobody listens on {socket}")]
    NotListening {
        /// The socket's path.
        socket: Utf8PathBuf,
        /// ENOENT or ECONNREFUSED.
        source: io::Error,
    },
    /// This process may not use the socket. The operator adds it to the socket's group.
    #[error("no permission to use {socket}")]
    Denied {
        /// The socket's path.
        socket: Utf8PathBuf,
        /// EACCES or EPERM.
        source: io::Error,
    },
    /// The deadline passed. What was sent may have taken effect: observe again.
    #[error("{socket} did not answer in time")]
    Deadline {
        /// The socket's path.
        socket: Utf8PathBuf,
    },
    /// The connection broke.
    #[error("could not talk over {socket}")]
    Io {
        /// The socket's path.
        socket: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// HAProxy closed before it had answered everything. What was sent may have taken effect: observe again.
    #[error("{socket} closed after {answered} of {asked} replies")]
    Truncated {
        /// The socket's path.
        socket: Utf8PathBuf,
        /// Complete replies.
        answered: usize,
        /// Commands sent.
        asked: usize,
    },
    /// A reply, or the sum of them, is longer than any that we expect.
    #[error("the reply from {socket} is longer than {limit_bytes} bytes")]
    TooLong {
        /// The socket's path.
        socket: Utf8PathBuf,
        /// The limit.
        limit_bytes: usize,
    },
    /// A command was not sent, because it would not have arrived as it was meant.
    #[error("a command was refused before it was sent")]
    Command(#[from] CommandRefused),
    /// A reply has another form than any version known to us gives.
    #[error("could not read the answer to `{command}` from {socket}: {problem}")]
    Unreadable {
        /// The socket's path.
        socket: Utf8PathBuf,
        /// What was asked.
        command: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Each connection reached a worker that is on its way out.
    #[error("only a stopping worker (pid {pid}) answers on {socket}")]
    Stopping {
        /// The socket's path.
        socket: Utf8PathBuf,
        /// The old worker.
        pid: u32,
    },
    /// Somebody reloaded HAProxy since it was looked at: the commands were meant for a worker that serves no more, and
    /// none was sent. The caller observes again.
    #[error("another worker serves {socket} by now (pid {found}, seen was pid {expected}); it was sent nothing")]
    OtherWorker {
        /// The socket's path.
        socket: Utf8PathBuf,
        /// The worker that was seen.
        expected: u32,
        /// The one that serves.
        found: u32,
    },
}

impl AdminError {
    /// Sorts an error of `connect`, `read` or `write`.
    pub(super) fn from_io(socket: &Utf8Path, source: io::Error) -> Self {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NotListening { socket, source },
            io::ErrorKind::TimedOut => Self::Deadline { socket },
            io::ErrorKind::PermissionDenied => {
                Self::Denied { source: rights::told(source, &socket, Want::Connect), socket }
            }
            _ => Self::Io { socket, source },
        }
    }

    /// Whether the worker that was seen has been replaced; nothing was sent to the new one.
    pub fn is_other_worker(&self) -> bool {
        matches!(self, Self::OtherWorker { .. })
    }

    /// Whether nobody is there to talk to.
    pub fn is_not_listening(&self) -> bool {
        matches!(self, Self::NotListening { .. })
    }
}
