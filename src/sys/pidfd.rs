//! Waits for the end of a process that is not our child.
//!
//! **Source**: pidfd_open(2), Linux 5.3; no process id can be mistaken for a later one of the same number.

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process under watch.
#[derive(Debug)]
pub struct Watched {
    /// Its number.
    pub pid: u32,
    fd: AsyncFd<OwnedFd>,
}

impl Watched {
    /// Begins to watch.
    ///
    /// # Errors
    /// There is no such process, or the kernel is older than 5.3.
    pub fn open(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let fd = pidfd_open(number, PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "unsound for types that close their descriptor behind its back; an OwnedFd cannot"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { pid, fd })
    }

    /// Returns when the process has ended; at once if it has already.
    ///
    /// # Errors
    /// It can be watched no longer.
    pub async fn ended(&self) -> io::Result<()> {
        self.fd.readable().await.map(|_| ())
    }
}
