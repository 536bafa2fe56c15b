//! What is written down of a change: its trial before the engine's part, its revision after it.
//!
//! That is done where the order is carried out, so that a disk that takes its time delays the change and nothing else.
//! Meanwhile nobody else writes into the history.

use super::change::{Armed, Change, Left, Then};
use crate::agent::file::unserved::{Unserved, rolled_back};
use crate::agent::history::ledger::Ledger;
use crate::agent::history::trial::NO_REASON;
use crate::agent::outcome::applied::{Applied, ApplyError};
use crate::agent::outcome::report::Failed;
use crate::agent::sources::place::{Place, Sources};
use crate::event::Event;
use crate::model::Digest;
use crate::render::Rendered;
use crate::store::Standing;

/// The history, for the time of one change.
#[derive(Debug)]
pub(in crate::agent) struct Books {
    pub ledger: Ledger,
    pub place: Place,
    pub is_observer: bool,
    /// Somebody compares a revision that soaks with what was before.
    pub is_watched: bool,
    /// What is to be told of the trial.
    pub events: Vec<Event>,
}

/// What was written down, and what could not be.
#[derive(Debug, Default)]
pub(in crate::agent) struct Kept {
    /// What is to be told.
    pub events: Vec<Event>,
    /// Something was to be written into the history; why it could not be.
    pub recorded: Option<Result<(), Failed>>,
    /// For whoever asked.
    pub notes: Vec<String>,
    /// What was asked beside could not be done.
    pub failed: Option<Failed>,
    /// What a rollback left.
    pub left: Option<KeptOfLeft>,
}

/// What was written down of a file that was left.
#[derive(Debug)]
pub(in crate::agent) struct KeptOfLeft {
    /// Why the file is not served as it stands; `None`: it has what serves, or another edit.
    pub problem: Option<Unserved>,
    /// That it was left could not be written down.
    pub unwritten: Option<Failed>,
}

impl Books {
    /// Before the engine's part: nothing reaches HAProxy that nobody could take back.
    ///
    /// # Errors
    /// It cannot be written down, or nobody would guard the deadline; nothing was changed.
    pub fn open(&mut self, sources: &Sources, change: &Change) -> Result<Option<Armed>, Failed> {
        if self.is_observer {
            return Ok(None);
        }
        if matches!(change.then, Then::File { .. }) {
            self.ledger.reject(None)?;
        }
        let is_news = self.ledger.is_news(sources, &change.intent);
        is_news.then(|| self.arm(sources, change)).transpose()
    }

    /// After it.
    pub fn close(
        &mut self,
        sources: &Sources,
        change: &Change,
        armed: Option<&Armed>,
        result: &Result<Applied, ApplyError>,
        rendered: Option<&Rendered>,
    ) -> Kept {
        let mut kept = Kept::default();
        let applied = match result {
            Ok(applied) => applied,
            Err(e) => {
                armed.into_iter().for_each(|armed| self.disarm(armed));
                self.keep_failure(e, change, sources, rendered);
                return kept;
            }
        };
        let Change { intent, source, .. } = change;
        if let (Some(armed), Some(rendered)) = (armed, rendered) {
            let entry = crate::agent::history::entry::entry(intent, *source, applied, &sources.toml, rendered);
            let keep = sources.config.history.keep;
            let recorded = self.ledger.record(&entry, keep, armed.standing.clone());
            if recorded.is_ok() || !change.is_history_broken {
                // That there is still no room is no news.
                kept.events.push(entry.event(self.ledger.current()));
            }
            match &recorded {
                Ok(revision) => kept.notes.extend(self.begin_trial(armed, *revision)),
                // It is guarded all the same, with the deadline that was written down before.
                Err(_) if armed.standing == Standing::Provisional && !change.is_history_broken => {
                    kept.notes.extend(self.tell_trial());
                }
                Err(_) => {}
            }
            kept.notes.extend(armed.note.clone());
            kept.recorded = Some(recorded.map(|_| ()));
        } else if let Err(failed) = self.keep_what_was_asked(change, &mut kept.notes) {
            kept.failed = Some(failed);
        }
        if let Then::Rollback(left) = &change.then {
            kept.left = Some(self.leave(left, sources, intent.reason.as_deref()));
        } else if kept.recorded.is_none() && self.ledger.is_unwritten && !self.is_observer {
            // There may be room by now.
            kept.recorded = Some(self.ledger.keep_current());
        }
        kept.events.append(&mut self.events);
        kept
    }

    /// Nothing new serves; a deadline or a reason may be new.
    fn keep_what_was_asked(&mut self, change: &Change, notes: &mut Vec<String>) -> Result<(), Failed> {
        let intent = &change.intent;
        // First, since a reason makes the revision the operator's.
        let trial = intent.confirm.map(|given| self.put_on_trial(given, &intent.actor)).transpose()?;
        notes.extend(self.attach_reason(intent)?);
        notes.extend(trial.or_else(|| self.trial_note().filter(|_| !intent.is_of_agent())));
        Ok(())
    }

    /// An older revision serves.
    fn leave(&mut self, left: &Left, serving: &Sources, reason: Option<&str>) -> KeptOfLeft {
        let before = left.before;
        self.close_trial(before, reason.unwrap_or(NO_REASON));
        // Going to what the file has anyway leaves nothing of it.
        let rejected = self.place.digest().filter(|file| *file != serving.digest);
        // It is about what served, and about the file as the operator had it then: about no edit that came after it. A
        // deadline is about what was on trial alone.
        let is_left = |file: &Digest| {
            before.and_then(|before| self.ledger.toml_of(before).ok()).is_some_and(|toml| Digest::of(&toml) == *file)
        };
        let waits = serving.config.apply.waits_on_save;
        // What waited has never served, and goes on waiting.
        let is_kept = left.by_deadline || left.waits && waits;
        let is_asked = |file: &Digest| !is_kept && left.file.as_ref() == Some(file);
        let rejected = rejected.filter(|file| is_asked(file) || is_left(file));
        let unwritten = self.ledger.reject(rejected).err();
        let problem = rejected.map(|_| {
            let mistakes = self.place.load().err();
            Unserved::RolledBack(rolled_back(&self.place, waits, reason, mistakes.as_ref()))
        });
        KeptOfLeft { problem, unwritten }
    }

    /// Writes a change into the history that reached HAProxy and did not succeed.
    fn keep_failure(&mut self, error: &ApplyError, change: &Change, sources: &Sources, rendered: Option<&Rendered>) {
        let reached_haproxy = matches!(error, ApplyError::Reload(_) | ApplyError::Execute(_));
        let Some(rendered) = rendered.filter(|_| reached_haproxy && !self.is_observer) else { return };
        let applied = Applied::nothing();
        let entry =
            crate::agent::history::entry::entry(&change.intent, change.source, &applied, &sources.toml, rendered);
        let kept = self.ledger.record_failed(&entry, &error.refusal().unlabelled(), sources.config.history.keep);
        if let Err(failed) = kept {
            tracing::warn!("the failed change could not be written into the history: {failed}");
        }
    }
}
