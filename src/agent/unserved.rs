//! A file that is not served though nothing is wrong with it: it waits for the operator, or was rolled back.

use super::apply::Prepared;
use super::ledger::Ledger;
use super::sources::{Place, Sources, SourcesError};
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
    pub(super) told: String,
}

impl Waiting {
    pub(super) fn of(place: &Place, prepared: &Prepared) -> Self {
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

/// Why the file is not served at a start: the revision that served last says that a saved file waits.
pub(super) fn waits_at_start(place: &Place, loaded: &Sources, ledger: &Ledger) -> Option<String> {
    let toml = ledger.toml_of(ledger.current()?).ok()?;
    let is_other = Digest::of(&toml) != Digest::of(&loaded.toml);
    let serving = place.understand(toml).ok()?;
    (is_other && serving.config.apply.waits_on_save).then(|| waits(place))
}

/// A saved file waits: for people.
pub(super) fn waits(place: &Place) -> String {
    let (plan, apply) = (place.command("plan"), place.command("apply"));
    format!("{} was saved and waits, as [apply] on_save = \"plan\" says; see `{plan}`, then `{apply}`", place.file)
}

/// Told until the file changes; its mistakes with it.
pub(super) fn rolled_back(place: &Place, mistakes: Option<&SourcesError>) -> String {
    let write = place.command("rollback --write");
    let mut told = format!(
        "{} was rolled back and has not changed since; an older revision serves\n  help: the next edit, or `apply`, serves the whole \
         file again, the rolled-back part too; `{write}` puts what serves into it",
        place.file
    );
    if let Some(mistakes) = mistakes {
        told.push_str("\nand it has mistakes:\n");
        told.push_str(mistakes.render(false).trim_end());
    }
    told
}
