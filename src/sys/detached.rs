//! A child that outlives this process, whatever ends it.
//!
//! Refuses to know what the child does. Called by `agent`; the child itself calls [`lead_a_session`].

use camino::Utf8Path;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use tokio::process::Command;

/// A log longer than this begins anew.
const MAX_LOG_BYTES: u64 = 64 << 10;

/// Starts this very program again with other arguments: without a terminal, in the root directory, with its words in a
/// log file. Works also when the program's file was replaced meanwhile. Needs a running tokio runtime, which reaps the
/// child where it ends first.
///
/// # Errors
/// The log cannot be opened, or no process can be started.
pub fn start_self<S: AsRef<OsStr>>(args: &[S], log: &Utf8Path) -> io::Result<()> {
    let is_long = std::fs::metadata(log).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES);
    let mut options = std::fs::OpenOptions::new();
    // A write that is not appended would not follow the truncation of another.
    options.create(true).append(true).mode(0o640);
    let file = options.open(log).map_err(|e| io::Error::new(e.kind(), format!("could not open {log}: {e}")))?;
    if is_long {
        file.set_len(0)?;
    }
    // The child's own link leads to the program that runs, also where its name is gone.
    let named = std::env::current_exe().ok().filter(|path| path.exists());
    Command::new(named.unwrap_or_else(|| "/proc/self/exe".into()))
        .args(args)
        .current_dir("/")
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .map(|_| ())
}

/// Leaves the session and the process group of whoever started this process, so that what is sent to them (a hang-up, a
/// kill of the group) does not come here.
pub fn lead_a_session() {
    // Fails only where this process leads its group, which nobody else is in then.
    let _ = nix::unistd::setsid();
}
