//! The one origin of all moments of a process.

use crate::model::Moment;
use std::time::Instant;

/// When a life of the agent began. All of its parts count from the same one, so that a moment of one means the same to
/// another.
#[derive(Clone, Copy, Debug)]
pub struct Epoch(Instant);

impl Epoch {
    /// Begins now.
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// Time since then.
    pub fn now(self) -> Moment {
        Moment(self.0.elapsed())
    }
}
