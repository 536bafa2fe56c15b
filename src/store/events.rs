//! What happened on this node, line by line: `events.jsonl`, and the file before it.
//!
//! Bounded: some 16 MB, the oldest are forgotten first. A line that cannot be read (a crash, a newer hapilot) is left
//! out. Written by the agent's bulletin, read by `hapilot events`.

use super::error::StoreError;
use crate::event::Event;
use crate::sys::lines::{LineReader, LineWriter};
use camino::{Utf8Path, Utf8PathBuf};

/// Size of one of the two files, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// Keeps events.
#[derive(Debug)]
pub struct EventWriter(LineWriter);

impl EventWriter {
    /// In this state directory; makes nothing yet.
    pub fn new(state: &Utf8Path) -> Self {
        Self(LineWriter::new(path_in(state), MAX_BYTES))
    }

    /// Keeps these, in this order, durably.
    ///
    /// # Errors
    /// The directory is missing, full or not writable. They are not kept; later ones may be.
    pub fn append(&mut self, events: &[Event]) -> Result<(), StoreError> {
        let mut lines = String::new();
        for event in events {
            match serde_json::to_string(event) {
                Ok(line) => lines.extend([line.as_str(), "\n"]),
                Err(e) => return Err(StoreError::Refused(format!("an event cannot be written as JSON: {e}"))),
            }
        }
        let written = self.0.append(&lines).and_then(|()| self.0.sync());
        written.map_err(StoreError::io("write the history of events"))
    }
}

/// Reads events, the oldest first.
#[derive(Debug)]
pub struct EventReader(LineReader);

impl EventReader {
    /// Of this state directory.
    pub fn new(state: &Utf8Path) -> Self {
        Self(LineReader::new(path_in(state)))
    }

    /// Hands over what is new since the last call.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn read(&mut self, mut take: impl FnMut(Event)) -> Result<(), StoreError> {
        let read = self.0.read(|line| serde_json::from_str(line).map_or((), &mut take));
        read.map_err(StoreError::io("read the history of events"))
    }
}

fn path_in(state: &Utf8Path) -> Utf8PathBuf {
    state.join("events.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventKind, Severity};

    #[test]
    fn events_come_back_in_order_and_what_cannot_be_read_is_left_out() {
        let held = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(held.path()).unwrap();
        let event = |number| Event::once(EventKind::Health, Severity::Info, "chat/a", format!("number {number}"));
        let mut writer = EventWriter::new(state);
        writer.append(&[event(1), event(2)]).unwrap();
        let mut text = fs_err::read_to_string(path_in(state)).unwrap();
        text.push_str("{\"at\":\"2026-01-01T00:00:00Z\",\"kind\":\"of the future\"}\nnot JSON\n{\"at\":");
        fs_err::write(path_in(state), text).unwrap();
        writer.append(&[event(3)]).unwrap();
        let mut seen = vec![];
        EventReader::new(state).read(|event| seen.push(event.text)).unwrap();
        assert_eq!(seen, ["number 1", "number 2"]);
        EventWriter::new(state).append(&[event(4)]).unwrap();
        EventReader::new(state).read(|event| seen.push(event.text)).unwrap();
        assert_eq!(seen.last().map(String::as_str), Some("number 4"));
    }
}
