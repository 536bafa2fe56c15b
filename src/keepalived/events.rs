//! What Keepalived says of itself while it runs: a line for each change, through a FIFO.
//!
//! **Source**: keepalived.conf(5), `vrrp_notify_fifo`; measured: lines come whole and in order, at the moment of the
//! kernel's own event; without a reader 64 KiB are kept; nothing is written on SIGHUP.

use crate::model::VrrpState;
use camino::Utf8Path;
use nix::sys::stat::Mode;
use std::io;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;

/// Longest line; Keepalived's own are below 100 bytes.
const MAX_LINE: usize = 4096;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which instance: the name of a VIP.
    pub vip: String,
    /// What it is now.
    pub state: VrrpState,
    /// The priority that it goes by, 0 to 255.
    pub priority: u8,
    /// The state is new; else only the priority is.
    pub is_transition: bool,
}

/// Reads `INSTANCE "public" MASTER 250` and `INSTANCE "public" BACKUP_PRIORITY 150`; `None` for anything else, such as a
/// group's line.
pub fn parse_event(line: &str) -> Option<Event> {
    let rest = line.trim_end().strip_prefix("INSTANCE \"")?;
    let (vip, rest) = rest.split_once("\" ")?;
    let (word, priority) = rest.split_once(' ')?;
    let (word, is_transition) = match word.strip_suffix("_PRIORITY") {
        Some(word) => (word, false),
        None => (word, true),
    };
    let state = VrrpState::from_word(word)?;
    Some(Event { vip: vip.to_owned(), state, priority: priority.parse().ok()?, is_transition })
}

/// The reading end of the FIFO.
#[derive(Debug)]
pub struct Events {
    reader: BufReader<pipe::Receiver>,
}

impl Events {
    /// Makes the FIFO where it is missing, and opens it. Keepalived would remove one that it had made itself.
    ///
    /// # Errors
    /// It cannot be made or opened, or something else stands in its place.
    pub fn open(path: &Utf8Path) -> io::Result<Self> {
        match nix::unistd::mkfifo(path.as_std_path(), Mode::from_bits_truncate(0o600)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        // For reading and writing, so that it never ends while nobody writes.
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(path)?;
        Ok(Self { reader: BufReader::new(receiver) })
    }

    /// The next change; lines that say nothing are passed over.
    ///
    /// # Errors
    /// The FIFO cannot be read any more.
    pub async fn next(&mut self) -> io::Result<Event> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_fifo_are_understood() {
        let event =
            |state, priority, is_transition| Some(Event { vip: "public".into(), state, priority, is_transition });
        for (line, expected) in [
            ("INSTANCE \"public\" MASTER 250\n", event(VrrpState::Master, 250, true)),
            ("INSTANCE \"public\" BACKUP_PRIORITY 150\n", event(VrrpState::Backup, 150, false)),
            ("INSTANCE \"public\" FAULT 250", event(VrrpState::Fault, 250, true)),
            ("INSTANCE \"public\" STOP 0", event(VrrpState::Stop, 0, true)),
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
