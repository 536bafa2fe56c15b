//! A saved file that waits for the operator's `apply` (`[apply] on_save = "plan"`): nothing is wrong with it.
//!
//! What serves decides, not what was saved: the word itself is part of the file that waits. Secrets and certificates of
//! what serves are taken over all the same.

use super::Node;
use super::planning::Planned;
use crate::agent::file::unserved::{Unserved, Waiting, waits};
use crate::agent::outcome::attempt::Attempt;
use crate::model::Digest;

impl Node {
    /// Whether the saved file shall wait.
    pub(in crate::agent) fn does_file_wait(&self) -> bool {
        let is_other = self.file.place.digest() != Some(Digest::of(&self.serving.toml));
        self.serving.config.apply.waits_on_save && is_other && !self.file.is_rejected(&self.ledger)
    }

    /// Keeps what its apply would do, and tells what is new of it.
    pub(in crate::agent) fn note_waiting(&mut self, planned: Result<Planned, Attempt>) {
        let (waiting, problem) = match planned {
            Ok(Planned { prepared, .. }) => {
                (Some(Waiting::of(&self.file.place, &prepared)), Unserved::Waits(waits(&self.file.place)))
            }
            // The verdict of HAProxy takes its time; `plan` waits for it.
            Err(Attempt::TooSoon(_)) => (None, Unserved::Waits(waits(&self.file.place))),
            Err(Attempt::Failed(failed)) => {
                let why = waits(&self.file.place).besides("and it could not be served:\n", failed.refusal);
                (None, Unserved::WaitsRefused(why))
            }
        };
        self.file.wait(waiting, problem, &self.bulletin);
    }
}
