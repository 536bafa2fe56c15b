//! Everything that is said to and heard from Keepalived: track files, the notify FIFO, `-t`, SIGHUP, its own dump; and
//! the adverts that it would hear.
//!
//! Knows Keepalived's spelling. Refuses to know HAProxy and why something is said. Called by `agent` and `cli`.

mod backstop;
mod check;
mod daemon;
mod ear;
mod events;
mod state;
mod track;

pub use backstop::{backstop, beat};
pub use check::{CheckError, check};
pub use daemon::{Daemon, ask_state, reload, running};
pub use ear::Ear;
pub use events::{KeepalivedEvent, KeepalivedEvents, parse_event};
pub use state::{StateError, VipState, parse_state};
pub use track::{Track, TrackError, clear_faults};
