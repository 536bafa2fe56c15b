//! Everything that is said to and heard from Keepalived: track files, the notify FIFO, `-t`, SIGHUP, its own dump.
//!
//! Knows Keepalived's spelling. Refuses to know HAProxy and why something is said. Called by `agent`.

mod check;
mod events;
mod state;
mod track;

pub use check::{CheckError, check};
pub use events::{Event, Events, parse_event};
pub use state::{StateError, VipState, parse_state};
pub use track::{Track, TrackError};
