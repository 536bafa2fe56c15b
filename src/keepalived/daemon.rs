//! The running Keepalived: whether there is one, and what it does on a signal.
//!
//! **Source**: keepalived(8); measured: SIGJSON (`keepalived --signum=JSON`) is 36, and writes `keepalived.json` into
//! Keepalived's own `$TMPDIR`; its dump is made by the child that speaks VRRP, some milliseconds later.

use super::state::{VipState, parse_state};
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::io;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};

/// Largest dump.
const MAX_DUMP: u64 = 4 << 20;
/// A pid file has a number in it.
const MAX_PID_FILE: u64 = 64;
/// What a shell has to say.
const MAX_WORDS: usize = 1024;
/// Between two looks for the dump.
const LOOK: Duration = Duration::from_millis(10);

/// A running Keepalived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The parent, which takes signals.
    pub pid: u32,
    /// Its child that speaks VRRP lives: without it nothing is announced, and addresses stay behind.
    pub speaks: bool,
}

/// The Keepalived whose pid stands in the file; `None` where it does not run or cannot be seen from here.
///
/// # Errors
/// This process lacks what it takes to look: nothing is known.
pub fn running(pid_file: &Utf8Path) -> io::Result<Option<Daemon>> {
    let text = match sys::directory::read_if_exists(pid_file, MAX_PID_FILE) {
        Ok(bytes) => bytes.and_then(|bytes| String::from_utf8(bytes).ok()),
        Err(e) if sys::lack::is_ours(&e) => return Err(e),
        Err(_) => None,
    };
    let Some(pid) = text.and_then(|text| text.trim().parse().ok()) else { return Ok(None) };
    let is_keepalived =
        |pid: u32| sys::process::name_of(pid).map(|name| name.is_some_and(|name| name.starts_with("keepalived")));
    if !is_keepalived(pid)? {
        return Ok(None);
    }
    let mut speaks = false;
    for child in sys::process::children_of(pid)? {
        speaks |= is_keepalived(child)?;
    }
    Ok(Some(Daemon { pid, speaks }))
}

/// Makes it read its file again.
///
/// # Errors
/// It has ended, or this process may not.
pub fn reload(daemon: Daemon) -> io::Result<()> {
    sys::process::hang_up(daemon.pid)
}

/// What it says that it is, now. Its dump is looked for in `directory` and in its own `$TMPDIR`, which this process may
/// not be allowed to see.
///
/// # Errors
/// It does not answer in time, or its dump cannot be found or read: in words.
pub async fn ask_state(daemon: Daemon, directory: &Utf8Path, deadline: Duration) -> Result<Vec<VipState>, String> {
    let places = [directory.join(DUMP), dump_of(daemon)];
    let written = |path: &Utf8PathBuf| -> Option<SystemTime> { fs_err::metadata(path).ok()?.modified().ok() };
    let before = places.each_ref().map(written);
    let until = Instant::now() + deadline;
    // A real-time signal: no library lets us send one without unsafe code, every shell does.
    let command = format!("kill -{JSON} {}", daemon.pid);
    let sent = sys::process::run("/bin/sh".into(), &["-c", &command], deadline, MAX_WORDS).await;
    match sent {
        Ok(sent) if sent.status.success() => {}
        Ok(sent) => {
            return Err(format!("Keepalived cannot be asked: {}", String::from_utf8_lossy(&sent.stderr).trim()));
        }
        Err(e) => return Err(sys::chain(&e)),
    }
    loop {
        sleep(LOOK).await;
        for (path, before) in places.iter().zip(before) {
            if written(path).is_some_and(|at| before.is_none_or(|before| at > before)) {
                // Half of it may be there yet.
                let text =
                    sys::files::read_limited(path, MAX_DUMP).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                if let Some(states) = text.and_then(|text| parse_state(&text).ok()) {
                    return Ok(states);
                }
            }
        }
        if Instant::now() >= until {
            let [first, second] = places;
            return Err(format!(
                "Keepalived (pid {}) does not say what it is: neither {first} nor {second} is written within {deadline:?}; \
                 start it with TMPDIR={directory}",
                daemon.pid
            ));
        }
    }
}

const DUMP: &str = "keepalived.json";
/// SIGRTMIN + 2, as Keepalived has it.
const JSON: i32 = 36;

/// Where its dump goes, as seen from here: it may have another root and another `$TMPDIR`.
fn dump_of(daemon: Daemon) -> Utf8PathBuf {
    let environment = fs_err::read(format!("/proc/{}/environ", daemon.pid)).unwrap_or_default();
    let directory = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix("TMPDIR=").map(str::to_owned))
        .unwrap_or_else(|| "/tmp".to_owned());
    Utf8PathBuf::from(format!("/proc/{}/root{directory}/{DUMP}", daemon.pid))
}
