//! The signals that a service gets.
//!
//! Called by `agent`, which decides on what each means.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What somebody asked of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGHUP: look at the files again.
    Reload,
    /// SIGTERM or SIGINT: leave.
    Stop,
}

/// The streams of those signals. Once made, their default action is gone for the life of the process.
#[derive(Debug)]
pub struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// A file that grows over a limit (`LimitFSIZE`) is an error of the one write, and not the end of the process.
    _too_large: Signal,
}

impl Signals {
    /// Begins to listen. Needs a running tokio runtime.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _too_large: signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?,
        })
    }

    /// Waits for the next request; safe to cancel.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.hang_up.recv() => Request::Reload,
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
        }
    }
}
