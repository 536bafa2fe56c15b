//! A trial from its opening to its end, as a change writes it down.

use super::books::Books;
use super::change::{Armed, Change};
use crate::agent::history::ledger::told;
use crate::agent::history::trial::{clocks, guard};
use crate::agent::outcome::intent::{AGENT, Intent};
use crate::agent::outcome::report::{Failed, SourceOfChange};
use crate::agent::sources::place::Sources;
use crate::agent::tell::refusal::Refusal;
use crate::event::{Event, EventKind, Severity};
use crate::model::format_duration;
use crate::store::{Provisional, RevisionSource, Standing};
use crate::sys;
use jiff::Timestamp;
use std::time::Duration;

/// A revision that has served for longer, in seconds, is not put on trial by a late `apply --confirm`: the operator does
/// not mean it.
const JUST_SAVED_S: i64 = 600;
/// A revision that has served for longer, in seconds, takes no late `apply --reason`.
const FRESH_S: i64 = 3600;

impl Books {
    /// Opens the trial of a revision that is about to be applied, where it wants one, and makes sure that somebody
    /// outside guards it.
    pub(super) fn arm(&mut self, sources: &Sources, change: &Change) -> Result<Armed, Failed> {
        let Change { intent, source, .. } = change;
        let open = self.ledger.provisional().cloned();
        let soak = sources.config.apply.soak.filter(|_| self.is_watched);
        let confirm = sources.config.apply.confirm;
        let by_default = confirm.or(soak);
        let (given, keeps_open) = match (source, intent.confirm, &open) {
            (SourceOfChange::Rollback(_), ..) => (None, false),
            (_, Some(given), _) => (Some(given), false),
            _ if change.is_same => (None, open.is_some()),
            (SourceOfChange::Start, None, Some(_)) => (None, true),
            (_, None, _) if by_default.is_some() => (by_default, false),
            // What is edited during a trial is on trial as well.
            (_, None, open) => (None, open.is_some()),
        };
        let mut armed = Armed { standing: Standing::Confirmed, note: None, before: open.clone(), given };
        let back_to = open.as_ref().map(|open| open.back_to).or(self.ledger.current.last_good);
        // Looked at only where there is a trial: it reads the whole revision.
        let is_trial = given.is_some() || keeps_open;
        let back_to = back_to.filter(|good| is_trial && !self.ledger.has_content(*good, &sources.toml));
        let trial = match (given, open, back_to) {
            (Some(given), _, Some(back_to)) => {
                let trial = Provisional::new(self.ledger.next_number()?, back_to, &intent.actor, given, &clocks());
                let keeps = intent.confirm.or(confirm).is_none();
                // A deadline that comes before its end leaves nothing to compare.
                trial.soaking(soak.filter(|soak| keeps || *soak < given), keeps)
            }
            (None, Some(open), Some(_)) if keeps_open => Provisional { revision: self.ledger.next_number()?, ..open },
            (Some(_), _, None) => {
                armed.given = None;
                armed.note =
                    Some("there is no other confirmed revision to go back to: it counts as confirmed".to_owned());
                return Ok(armed);
            }
            _ => return Ok(armed),
        };
        let keeps = trial.keeps;
        self.ledger.set_provisional(Some(trial))?;
        if !keeps && let Err(error) = guard(&self.place, &self.ledger.state) {
            self.disarm(&armed);
            let what = format!("nobody would guard the deadline, the process for it cannot be started: {error}");
            return Err(Failed::refused(Refusal::new(what).nothing_changed()));
        }
        armed.standing = Standing::Provisional;
        Ok(armed)
    }

    /// The revision serves: its time begins now.
    pub(super) fn begin_trial(&mut self, armed: &Armed, revision: u32) -> Option<String> {
        let mut trial = self.ledger.provisional().cloned().filter(|_| armed.standing == Standing::Provisional)?;
        trial = match armed.given {
            Some(given) => {
                let Provisional { soak_ms, keeps, .. } = trial;
                let begun = Provisional::new(revision, trial.back_to, &trial.actor, given, &clocks());
                Provisional { soak_ms, keeps, ..begun }
            }
            None => Provisional { revision, ..trial },
        };
        let text = self.trial_in_words(&trial);
        self.events.push(Event::once(EventKind::Trial, Severity::Info, "file", &text));
        if let Err(error) = self.ledger.set_provisional(Some(trial)) {
            // The earlier deadline holds, which is a little sooner.
            tracing::warn!(%error, "the deadline could not be moved");
        }
        Some(text)
    }

    /// Tells of the trial that is open.
    pub(super) fn tell_trial(&mut self) -> Option<String> {
        let text = self.trial_note()?;
        self.events.push(Event::once(EventKind::Trial, Severity::Info, "file", &text));
        Some(text)
    }

    /// What becomes of the revision that is on trial, where there is one.
    pub(super) fn trial_note(&self) -> Option<String> {
        self.ledger.provisional().map(|trial| self.trial_in_words(trial))
    }

    fn trial_in_words(&self, trial: &Provisional) -> String {
        let left = format_duration(Duration::from_secs(trial.left(&clocks()).as_millis().div_ceil(1000) as u64));
        let (revision, back_to, confirm) = (trial.revision, trial.back_to, self.place.command("confirm"));
        let soak = trial.soak().map(format_duration);
        match soak {
            Some(soak) if trial.keeps => format!(
                "revision {revision} soaks for {soak}: where it is worse than before, revision {back_to} comes back; else it is confirmed"
            ),
            soak => {
                let soaks =
                    soak.map(|soak| format!("; it soaks for {soak}, and is confirmed where it is seen to be no worse"));
                format!(
                    "revision {revision} is on trial: without `{confirm}` within {left} revision {back_to} comes back{}",
                    soaks.unwrap_or_default()
                )
            }
        }
    }

    /// Puts the revision that serves on trial: the agent follows an edit at once, so that an operator's `apply
    /// --confirm` mostly comes after it. One that has served for long is left in peace.
    ///
    /// # Errors
    /// The deadline cannot be kept or guarded; the revision serves on, confirmed.
    pub(super) fn put_on_trial(&mut self, given: Duration, actor: &str) -> Result<String, Failed> {
        let nothing = "nothing new serves, so there is nothing to confirm";
        let Some(revision) = self.ledger.current() else { return Ok(nothing.to_owned()) };
        let manifest = self.ledger.revisions.manifest(revision).map_err(|e| told(&e))?;
        let age = Timestamp::now().duration_since(manifest.created);
        let open = self.ledger.provisional().map(|open| open.back_to);
        // Only what the agent took from the file by itself, and nobody has judged since.
        let is_just_saved =
            manifest.actor == AGENT && manifest.source == RevisionSource::Edit && age.as_secs() <= JUST_SAVED_S;
        let back_to = match open {
            Some(back_to) => Some(back_to),
            None if !is_just_saved || self.ledger.said_good == Some(revision) => None,
            None => self.ledger.previous_good()?,
        };
        let Some(back_to) = back_to else {
            return Ok(format!("{nothing}: revision {revision} was confirmed before, and stays so"));
        };
        let armed = Armed {
            standing: Standing::Provisional,
            note: None,
            before: self.ledger.provisional.clone(),
            given: Some(given),
        };
        self.ledger.doubt(revision, back_to)?;
        let soak = self.ledger.provisional().and_then(Provisional::soak).filter(|soak| *soak < given);
        let trial = Provisional::new(revision, back_to, actor, given, &clocks());
        self.ledger.set_provisional(Some(trial.soaking(soak, false)))?;
        if let Err(error) = guard(&self.place, &self.ledger.state) {
            self.ledger.confirm()?;
            return Err(Failed::refused(format!("the process that guards the deadline cannot be started: {error}")));
        }
        Ok(self.begin_trial(&armed, revision).unwrap_or_default())
    }

    /// Writes an operator's reason into the revision that serves, where the agent was faster than his `apply --reason`.
    ///
    /// # Errors
    /// The disk is full or read-only; the revision serves on.
    pub(super) fn attach_reason(&mut self, intent: &Intent) -> Result<Option<String>, Failed> {
        let (Some(reason), Some(revision), false) = (&intent.reason, self.ledger.current(), self.is_observer) else {
            return Ok(None);
        };
        let manifest = self.ledger.revisions.manifest(revision).map_err(|e| told(&e))?;
        let age = Timestamp::now().duration_since(manifest.created);
        // The agent's own reasons are no news, and what an operator wrote stays as he wrote it.
        if intent.actor == AGENT || manifest.actor != AGENT {
            return Ok(None);
        }
        if age.as_secs() > FRESH_S {
            return Ok(Some(format!("revision {revision} serves for long already; the reason is not kept")));
        }
        self.ledger.revisions.set_reason(revision, &intent.actor, reason).map_err(|e| told(&e))?;
        Ok(Some(format!("the agent had applied it already: the reason is kept with revision {revision}")))
    }

    /// The revision does not serve: what was open before is open again.
    pub(super) fn disarm(&mut self, armed: &Armed) {
        if let Err(error) = self.ledger.set_provisional(armed.before.clone()) {
            tracing::error!(%error, "the deadline could not be taken back: it will roll back to what serves");
        }
    }

    /// After a rollback: what served before is marked, and no trial is open.
    pub(super) fn close_trial(&mut self, before: Option<u32>, reason: &str) {
        if let Some(before) = before.filter(|before| Some(*before) != self.ledger.current()) {
            let standing = Standing::RolledBack { reason: reason.to_owned() };
            if let Err(error) = self.ledger.revisions.set_standing(before, standing) {
                tracing::warn!(error = sys::chain(&error), revision = before, "the rollback could not be noted there");
            }
        }
        if let Err(error) = self.ledger.set_provisional(None) {
            tracing::error!(%error, "the deadline could not be removed");
        }
    }
}
