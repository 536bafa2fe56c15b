//! What Keepalived says of itself while it runs: a line for each change, through a FIFO.
//!
//! **Source**: keepalived.conf(5), `vrrp_notify_fifo`; measured: lines come whole and in order, at the moment of the
//! kernel's own event; without a reader 64 KiB are kept; nothing is written on SIGHUP.

use crate::model::VrrpState;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err::os::unix::fs::OpenOptionsExt;
use nix::sys::stat::{Mode, fstat, stat};
use std::io::{self, Read};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;

/// What a FIFO holds.
const FIFO_BYTES: usize = 64 << 10;
/// Longest line; Keepalived's own are below 100 bytes.
const MAX_LINE: usize = 4096;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepalivedEvent {
    /// Which instance: the name of a VIP.
    pub vip: String,
    /// What it is now.
    pub state: VrrpState,
    /// The priority that it goes by, 0 to 255.
    pub priority: u8,
}

/// Reads `INSTANCE "public" MASTER 250` and `INSTANCE "public" BACKUP_PRIORITY 150`; `None` for anything else, such as a
/// group's line.
pub fn parse_event(line: &str) -> Option<KeepalivedEvent> {
    let rest = line.trim_end().strip_prefix("INSTANCE \"")?;
    let (vip, rest) = rest.split_once("\" ")?;
    let (word, priority) = rest.split_once(' ')?;
    // A new state, or only a new priority in it.
    let state = VrrpState::from_word(word.strip_suffix("_PRIORITY").unwrap_or(word))?;
    Some(KeepalivedEvent { vip: vip.to_owned(), state, priority: priority.parse().ok()? })
}

/// The reading end of the FIFO.
#[derive(Debug)]
pub struct KeepalivedEvents {
    path: Utf8PathBuf,
    reader: BufReader<pipe::Receiver>,
}

impl KeepalivedEvents {
    /// Makes the FIFO below `directory` where it is missing. Keepalived removes one that it had to make itself, also at
    /// a reload, and writes to another from then on.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(directory: &Utf8Path) -> io::Result<()> {
        match nix::unistd::mkfifo(fifo(directory).as_std_path(), Mode::from_bits_truncate(0o600)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens the FIFO below `directory`, and makes it where it is missing.
    ///
    /// # Errors
    /// It cannot be made or opened, or something else stands in its place.
    pub fn open(directory: &Utf8Path) -> io::Result<Self> {
        Self::make(directory)?;
        let path = fifo(directory);
        // What was said while nobody listened is no news: Keepalived's dump tells what is so now.
        forget(&path)?;
        // For reading and writing, so that it never ends while nobody writes.
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(&path)?;
        Ok(Self { path, reader: BufReader::new(receiver) })
    }

    /// Whether what is open is what stands in the directory: who opens it now speaks to us.
    pub fn is_in_place(&self) -> bool {
        let there = stat(self.path.as_std_path());
        let open = fstat(self.reader.get_ref());
        matches!((there, open), (Ok(there), Ok(open)) if (there.st_dev, there.st_ino) == (open.st_dev, open.st_ino))
    }

    /// The next change; lines that say nothing are passed over.
    ///
    /// # Errors
    /// The FIFO cannot be read any more.
    pub async fn next(&mut self) -> io::Result<KeepalivedEvent> {
        let mut line = Vec::new();
        loop {
            line.clear();
            loop {
                let read = self.reader.fill_buf().await?;
                let end = read.iter().position(|byte| *byte == b'\n');
                let taken = end.map_or(read.len(), |at| at + 1);
                let room = MAX_LINE.saturating_sub(line.len());
                line.extend_from_slice(&read[..taken.min(room)]);
                self.reader.consume(taken);
                if end.is_some() {
                    break;
                }
            }
            if let Some(event) = std::str::from_utf8(&line).ok().and_then(parse_event) {
                return Ok(event);
            }
        }
    }
}

fn fifo(directory: &Utf8Path) -> Utf8PathBuf {
    directory.join("vrrp.fifo")
}

/// Reads what a FIFO holds, without waiting for more.
fn forget(path: &Utf8Path) -> io::Result<()> {
    let mut fifo = fs_err::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let mut chunk = [0; 4096];
    // At most what a FIFO holds, so that a writer in a hurry keeps nobody here.
    for _ in 0..FIFO_BYTES / chunk.len() {
        match fifo.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_fifo_are_understood() {
        let event = |state, priority| Some(KeepalivedEvent { vip: "public".into(), state, priority });
        for (line, expected) in [
            ("INSTANCE \"public\" MASTER 250\n", event(VrrpState::Master, 250)),
            ("INSTANCE \"public\" BACKUP_PRIORITY 150\n", event(VrrpState::Backup, 150)),
            ("INSTANCE \"public\" FAULT 250", event(VrrpState::Fault, 250)),
            ("INSTANCE \"public\" STOP 0", event(VrrpState::Stop, 0)),
            ("GROUP \"all\" MASTER 250", None),
            ("INSTANCE \"public\" DELETED 250", None),
            ("INSTANCE \"public\" MASTER 256", None),
            ("INSTANCE public MASTER 250", None),
            ("", None),
        ] {
            assert_eq!(parse_event(line), expected, "{line}");
        }
    }
}
