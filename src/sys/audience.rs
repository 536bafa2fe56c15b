//! Whether anybody is left for whom a program in the foreground runs: its terminal, whoever started it, whoever reads
//! what it prints.
//!
//! Called by `cli` for what must not outlive them.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getppid};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the parent and the reader are looked at; neither is told by an event.
const LOOK: Duration = Duration::from_millis(200);
/// Whoever adopts orphans is nobody's parent that could end.
const INIT: i32 = 1;

/// Who was there at the beginning.
#[derive(Debug)]
pub struct Audience {
    parent: Pid,
    hang_up: Signal,
}

impl Audience {
    /// Whoever is there now. From here on SIGHUP no longer ends the process by itself.
    ///
    /// # Errors
    /// The signal cannot be received.
    pub fn new() -> io::Result<Self> {
        Ok(Self { parent: getppid(), hang_up: signal(SignalKind::hangup())? })
    }

    /// Returns when one of them has gone, and says which; safe to cancel.
    pub async fn gone(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.hang_up.recv() => return "the terminal is gone",
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.parent.as_raw() > INIT && getppid() != self.parent {
                return "whoever started it is gone";
            }
            if is_unread() {
                return "nobody reads its output any more";
            }
        }
    }
}

/// Whether standard output is a pipe or a terminal whose other end is closed.
fn is_unread() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let told = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    told && fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP))
}
