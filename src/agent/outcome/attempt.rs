//! A change that did not happen, or only would.

use super::applied::ApplyError;
use super::report::Failed;
use std::time::Instant;

/// Why a change did not happen.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// It is refused or failed.
    Failed(Failed),
    /// The reload must wait until then; try again.
    TooSoon(Instant),
}

impl Attempt {
    /// The answer for whoever does not wait.
    pub(in crate::agent) fn into_failed(self) -> Failed {
        match self {
            Self::Failed(failed) => failed,
            Self::TooSoon(at) => {
                let left = at.saturating_duration_since(Instant::now()).as_millis();
                Failed::refused(format!("the last reload was just now; the change follows by itself in {left} ms"))
            }
        }
    }
}

impl From<Failed> for Attempt {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<ApplyError> for Attempt {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::TooSoon(at) => Self::TooSoon(at),
            other => Self::Failed(Failed::refused(other.refusal())),
        }
    }
}
