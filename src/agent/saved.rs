//! A saved file that waits for the operator's `apply` (`[apply] on_save = "plan"`): nothing is wrong with it.
//!
//! What serves decides, not what was saved: the word itself is part of the file that waits. Secrets and certificates of
//! what serves are taken over all the same.

use super::apply::Prepared;
use super::attempt::Attempt;
use super::ledger::Ledger;
use super::node::Node;
use super::sources::{Place, Sources};
use crate::model::Digest;
use crate::plan::Action;
use crate::sys;
use jiff::Timestamp;

/// A good file that waits, and what an apply of it would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// When it was saved.
    pub saved: Option<Timestamp>,
    /// How many runtime commands it takes, or how many reasons a reload has.
    pub changes: usize,
    /// Whether it takes a reload.
    pub is_reload: bool,
    /// Why the file is not served, in the node's words.
    told: String,
}

impl Waiting {
    fn of(place: &Place, prepared: &Prepared) -> Self {
        let (changes, is_reload) = match &prepared.plan.action {
            Action::Nothing | Action::Start => (0, false),
            Action::Runtime(steps) => (steps.len(), false),
            Action::Reload(reasons) => (reasons.len(), true),
        };
        Self { saved: sys::files::modified(&place.file), changes, is_reload, told: waits(place) }
    }

    /// `3 changes, no reload`
    pub fn in_words(changes: usize, is_reload: bool) -> String {
        let reload = if is_reload { "one reload" } else { "no reload" };
        match changes {
            0 => "no change in HAProxy".to_owned(),
            1 => format!("1 change, {reload}"),
            many => format!("{many} changes, {reload}"),
        }
    }
}

impl Node {
    /// Leaves the saved file where it is, if it shall wait; tells so, and its mistakes. Answers whether it waits.
    pub async fn lets_the_file_wait(&mut self) -> bool {
        let is_other = self.place.digest() != Some(Digest::of(&self.serving.toml));
        if !self.serving.config.apply.waits_on_save || !is_other || self.is_file_rejected() {
            return false;
        }
        let (waiting, problem) = match self.plan().await {
            Ok((prepared, _)) => (Some(Waiting::of(&self.place, &prepared)), waits(&self.place)),
            // The verdict of HAProxy takes its time; `plan` waits for it.
            Err(Attempt::TooSoon(_)) => (None, waits(&self.place)),
            Err(Attempt::Failed(failed)) => {
                let waits = waits(&self.place);
                (None, format!("{waits}\nand it could not be served:\n{}", failed.message.trim_end()))
            }
        };
        if self.waiting != waiting || self.file_problem.as_ref() != Some(&problem) {
            match &waiting {
                Some(Waiting { changes, is_reload, .. }) => {
                    tracing::info!("{problem}: {}", Waiting::in_words(*changes, *is_reload));
                }
                None => tracing::info!("{problem}"),
            }
        }
        (self.waiting, self.file_problem) = (waiting, Some(problem));
        true
    }

    /// The good file that waits: no problem, and no refusal.
    pub fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref().filter(|waiting| self.file_problem.as_ref() == Some(&waiting.told))
    }
}

/// Why the file is not served at a start: the revision that served last says that a saved file waits.
pub(super) fn waits_at_start(place: &Place, loaded: &Sources, ledger: &Ledger) -> Option<String> {
    let toml = ledger.toml_of(ledger.current()?).ok()?;
    let is_other = Digest::of(&toml) != Digest::of(&loaded.toml);
    let serving = place.understand(toml).ok()?;
    (is_other && serving.config.apply.waits_on_save).then(|| waits(place))
}

fn waits(place: &Place) -> String {
    let (plan, apply) = (place.command("plan"), place.command("apply"));
    format!("{} was saved and waits, as [apply] on_save = \"plan\" says; see `{plan}`, then `{apply}`", place.file)
}
