//! Faults at will below every file, process and socket operation, for tests: which point fails, how, and when.
//!
//! Only in builds with debug assertions, which is what tests run and no package has: a release build compiles every
//! point to nothing. A cargo feature would have needed a second build of everything, and a binary that differs from the
//! one that all other tests run. Knows names of points, not what they are for. Called from `sys` and from the adapters
//! that talk over sockets.
//!
//! `HAPILOT_FAULTS` holds the plan, words with blanks between them:
//!
//! ```text
//! log=/path          append each point that is passed, in order: `12 files.rename@3 /etc/haproxy/haproxy.cfg`
//! POINT@N=FAULT      the N-th pass of this point fails, once
//! POINT@N+=FAULT     the N-th pass and every later one
//! #N=FAULT           the N-th pass of any point
//! #N+=FAULT          the N-th pass of any point and every later pass
//! ```
//!
//! FAULT is `EIO`, `ENOSPC`, `EACCES`, `short` (half of the bytes are written, then the disk is full), `torn` (half of
//! the bytes are written, then the process dies), `timeout`, `half` (half of a reply, then the end of the connection),
//! `abort` (the process dies at once, by SIGKILL), or `slow250` (it takes 250 ms, and is done). Where a fault makes no sense at a point it is an input/output error.

use std::fmt::Display;
use std::io::{self, Write};

#[cfg(debug_assertions)]
mod plan;

/// What a point has been told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fail with this error of the system.
    Errno(i32),
    /// Write half, then fail with "no space left".
    Short,
    /// Write half, then die.
    Torn,
    /// Take longer than the caller waits.
    Timeout,
    /// End in the middle of the reply.
    Half,
    /// Die, as by `kill -9`.
    Abort,
}

impl Fault {
    /// The fault as an error of the system; dies where the fault says so.
    pub fn into_error(self) -> io::Error {
        match self {
            Self::Errno(number) => io::Error::from_raw_os_error(number),
            Self::Short => nix::errno::Errno::ENOSPC.into(),
            Self::Timeout => nix::errno::Errno::ETIMEDOUT.into(),
            Self::Half => nix::errno::Errno::EIO.into(),
            Self::Abort | Self::Torn => die(),
        }
    }
}

/// Sees each point that this thread passes, with what is done there, and may let it fail; may unwind, which is a death
/// for whoever catches it. For tests within the process; while it runs it is not called for what it does itself.
#[cfg(debug_assertions)]
pub type Watcher = Box<dyn FnMut(&'static str, &str) -> Option<Fault>>;

/// Sets or ends the watch of this thread.
#[cfg(debug_assertions)]
pub fn watch(watcher: Option<Watcher>) {
    plan::watch(watcher);
}

/// What the plan says for this pass of a point; `None` in every build without debug assertions, and without a plan.
#[cfg(debug_assertions)]
pub fn told(point: &'static str, what: impl Display) -> Option<Fault> {
    plan::watched(point, &what).or_else(|| plan::pass(point, what))
}

/// What the plan says for this pass of a point; `None` in every build without debug assertions, and without a plan.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn told(_point: &'static str, _what: impl Display) -> Option<Fault> {
    None
}

/// Passes a point before an operation that is done or not done.
///
/// # Errors
/// The planned fault. Callers treat it as if the operation itself had failed.
pub fn pass(point: &'static str, what: impl Display) -> io::Result<()> {
    match told(point, what) {
        Some(fault) => Err(fault.into_error()),
        None => Ok(()),
    }
}

/// As [`pass`], for operations whose own errors name the path.
///
/// # Errors
/// The planned fault, with the path before it.
pub fn pass_path(point: &'static str, path: impl Display + Copy) -> io::Result<()> {
    pass(point, path).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))
}

/// Writes all bytes, or the half that the plan allows.
///
/// # Errors
/// As `write_all`, or the planned fault.
pub fn write_all(point: &'static str, what: impl Display, to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    match told(point, what) {
        None => to.write_all(bytes),
        Some(fault) => {
            if matches!(fault, Fault::Short | Fault::Torn) {
                to.write_all(&bytes[..bytes.len() / 2])?;
                to.flush()?;
            }
            Err(fault.into_error())
        }
    }
}

/// Passes the point before a reply is read: `Ok(true)` means that only half of it comes, then the end.
///
/// # Errors
/// The planned fault; a timeout has the kind [`io::ErrorKind::TimedOut`].
pub fn pass_reply(point: &'static str, what: impl Display) -> io::Result<bool> {
    match told(point, what) {
        None => Ok(false),
        Some(Fault::Half) => Ok(true),
        Some(fault) => Err(fault.into_error()),
    }
}

/// Ends this process as `kill -9` does: no destructor, no buffer, no core.
fn die() -> ! {
    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    std::process::abort()
}
