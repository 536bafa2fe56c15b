//! Why the file as it stands is not served: it is refused, or it waits for the operator, or was rolled back.

use crate::agent::history::ledger::Ledger;
use crate::agent::outcome::applied::Prepared;
use crate::agent::sources::place::{Place, Sources, SourcesError};
use crate::agent::tell::refusal::Refusal;
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
}

/// Why the file as it stands is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// It has mistakes, or something speaks against it.
    Refused(Refusal),
    /// It is good and waits for the operator.
    Waits(Refusal),
    /// It waits as well, and could not be served.
    WaitsRefused(Refusal),
    /// It was rolled back and has not changed since.
    RolledBack(Refusal),
}

impl Unserved {
    /// The same in words.
    pub fn why(&self) -> &Refusal {
        match self {
            Self::Refused(why) | Self::Waits(why) | Self::WaitsRefused(why) | Self::RolledBack(why) => why,
        }
    }
}

impl Waiting {
    pub(in crate::agent) fn of(place: &Place, prepared: &Prepared) -> Self {
        let (changes, is_reload) = match &prepared.plan.action {
            Action::Nothing | Action::Start => (0, false),
            Action::Runtime(steps) => (steps.len(), false),
            Action::Reload(reasons) => (reasons.len(), true),
        };
        Self { saved: sys::files::modified(&place.file), changes, is_reload }
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
pub(in crate::agent) fn waits_at_start(place: &Place, loaded: &Sources, ledger: &Ledger) -> Option<Refusal> {
    let toml = ledger.toml_of(ledger.current()?).ok()?;
    let is_other = Digest::of(&toml) != Digest::of(&loaded.toml);
    let serving = place.understand(toml).ok()?;
    (is_other && serving.config.apply.waits_on_save).then(|| waits(place))
}

/// A saved file waits: for people.
pub(in crate::agent) fn waits(place: &Place) -> Refusal {
    let (plan, apply) = (place.command("plan"), place.command("apply"));
    Refusal::notice(format_args!(
        "{} was saved and waits, as [apply] on_save = \"plan\" says; see `{plan}`, then `{apply}`",
        place.file
    ))
}

/// Told until the file changes; its mistakes with it.
pub(in crate::agent) fn rolled_back(
    place: &Place,
    waits: bool,
    why: Option<&str>,
    mistakes: Option<&SourcesError>,
) -> Refusal {
    let (apply, write) = (place.command("apply"), place.command("rollback --write"));
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    let what = format!("{} was rolled back{why} and has not changed since; an older revision serves", place.file);
    let and_edit = if waits { "" } else { ", and so does the next edit" };
    let told = Refusal::notice(what).help(format_args!(
        "`{apply}` serves the whole file again, the rolled-back part too{and_edit}; `{write}` puts what serves into it"
    ));
    match mistakes {
        Some(mistakes) => told.besides("and it has mistakes:\n", mistakes.refusal()),
        None => told,
    }
}
