//! Which boot of the machine this is, and how long ago it began.
//!
//! The time since the boot goes on while the machine sleeps, and nobody can set it. Called by `agent` and `cli` for
//! deadlines that outlive a process.

use std::io;
use std::time::Duration;

/// The running boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Another one after each reboot.
    pub id: String,
    /// Time since it.
    pub uptime: Duration,
}

impl Boot {
    /// Asks the kernel.
    ///
    /// # Errors
    /// `/proc` is not there.
    ///
    /// **Source**: proc(5): `/proc/uptime` is CLOCK_BOOTTIME in hundredths of a second.
    pub fn now() -> io::Result<Self> {
        let id = fs_err::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let text = fs_err::read_to_string("/proc/uptime")?;
        let seconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
        let uptime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let uptime = uptime.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/uptime has no number"))?;
        Ok(Self { id, uptime })
    }
}

#[test]
fn a_boot_has_a_name_and_goes_on() {
    let first = Boot::now().unwrap();
    assert!(!first.id.is_empty());
    let later = Boot::now().unwrap();
    assert!(later.id == first.id && later.uptime >= first.uptime);
}
