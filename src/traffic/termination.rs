//! Why and when a session ended, in HAProxy's own letters.
//!
//! Called by `line` and `attempt`, which read it, and by `classify`, which judges it.

use std::fmt;

/// The two letters of `%ts`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TerminationState(pub [u8; 2]);

impl fmt::Debug for TerminationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", char::from(self.0[0]), char::from(self.0[1]))
    }
}
