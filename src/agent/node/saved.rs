//! A saved file that waits for the operator's `apply` (`[apply] on_save = "plan"`): nothing is wrong with it.
//!
//! What serves decides, not what was saved: the word itself is part of the file that waits. Secrets and certificates of
//! what serves are taken over all the same.

use super::Node;
use super::planning::Planned;
use crate::agent::file::unserved::{Unserved, Waiting, waits};
use crate::agent::outcome::attempt::Attempt;
use crate::event::{Event, EventKind, Severity};
use crate::model::Digest;

impl Node {
    /// Leaves the saved file where it is, if it shall wait; tells so, and its mistakes. Answers whether it waits.
    pub async fn lets_the_file_wait(&mut self) -> bool {
        let waits = self.does_file_wait();
        if waits {
            let planned = self.plan().await;
            self.note_waiting(planned);
        }
        waits
    }

    /// Whether the saved file shall wait.
    pub(in crate::agent) fn does_file_wait(&self) -> bool {
        let is_other = self.place.digest() != Some(Digest::of(&self.serving.toml));
        self.serving.config.apply.waits_on_save && is_other && !self.is_file_rejected()
    }

    /// Keeps what its apply would do, and tells what is new of it.
    pub(in crate::agent) fn note_waiting(&mut self, planned: Result<Planned, Attempt>) {
        let (waiting, problem) = match planned {
            Ok(Planned { prepared, .. }) => {
                (Some(Waiting::of(&self.place, &prepared)), Unserved::Waits(waits(&self.place)))
            }
            // The verdict of HAProxy takes its time; `plan` waits for it.
            Err(Attempt::TooSoon(_)) => (None, Unserved::Waits(waits(&self.place))),
            Err(Attempt::Failed(failed)) => {
                let why = waits(&self.place).besides("and it could not be served:\n", failed.refusal);
                (None, Unserved::WaitsRefused(why))
            }
        };
        if self.waiting != waiting || self.file_problem.as_ref() != Some(&problem) {
            let why = problem.why();
            match &waiting {
                Some(Waiting { changes, is_reload, .. }) => {
                    tracing::info!("{why}: {}", Waiting::in_words(*changes, *is_reload));
                }
                None if matches!(problem, Unserved::WaitsRefused(_)) => {
                    self.bulletin.tell(Event::once(EventKind::Refused, Severity::Warning, "file", why));
                }
                None => tracing::info!("{why}"),
            }
        }
        (self.waiting, self.file_problem) = (waiting, Some(problem));
    }

    /// The good file that waits: no problem, and no refusal.
    pub fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref().filter(|_| matches!(self.file_problem, Some(Unserved::Waits(_))))
    }
}
