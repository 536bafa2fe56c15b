//! Revisions, as operators speak of them: kept, named, and gone back from when their time is over.

use super::Node;
use crate::agent::history::remark::{Filed, Remark};
use crate::agent::history::trial::{clocks, guard};
use crate::agent::orders::goal::Goal;
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, Report};
use crate::event::{Event, EventKind, Severity};
use crate::model::format_duration;
use crate::store::Provisional;
use std::time::Duration;

impl Node {
    /// The trial that is open, and the time that is left.
    pub fn trial(&self) -> Option<(&Provisional, Duration)> {
        let trial = self.ledger.provisional()?;
        Some((trial, trial.left(&clocks())))
    }

    /// Whether the trial has ended without a confirmation.
    pub fn is_overdue(&self) -> bool {
        self.trial().is_some_and(|(_, left)| left.is_zero())
    }

    /// Goes back to the last confirmed revision where the deadline has passed; else does nothing.
    ///
    /// # Errors
    /// As [`Self::roll_back`]; the deadline stays passed, and the caller tries again.
    pub async fn expire(&mut self, actor: &str) -> Result<Report, Attempt> {
        match self.choose_expired(actor)? {
            Some((goal, intent)) => self.reach(goal, &intent).await,
            None => Ok(self.not_overdue()),
        }
    }

    /// The answer where no deadline has passed.
    pub(in crate::agent) fn not_overdue(&self) -> Report {
        Report::note(self.revision(), "no deadline has passed".to_owned())
    }

    /// Where an expired trial leads to, and why; `None`: no deadline has passed.
    pub(in crate::agent) fn choose_expired(&self, actor: &str) -> Result<Option<(Goal, Intent)>, Attempt> {
        let Some(trial) = self.trial().filter(|(_, left)| left.is_zero()).map(|(trial, _)| trial.clone()) else {
            return Ok(None);
        };
        let given = format_duration(trial.given());
        let reason = format!("revision {} was not confirmed within {given}", trial.revision);
        let text = format!("{reason}; rolling back to revision {}", trial.back_to);
        self.bulletin.tell(Event::once(EventKind::Trial, Severity::Warning, "file", text));
        let intent = Intent { actor: actor.to_owned(), reason: Some(reason), ..Intent::default() };
        Ok(Some((self.revision_again(trial.back_to, self.file.place.digest(), true)?, intent)))
    }

    /// Starts the guard of an open trial again; one that still runs makes the new one end at once.
    pub(in crate::agent) fn guard_again(&self) {
        if self.ledger.provisional().is_some()
            && let Err(error) = guard(&self.file.place, &self.ledger.state)
        {
            tracing::error!(%error, "the process that guards the deadline cannot be started; the agent does alone");
        }
    }

    /// Writes a remark down, in place.
    ///
    /// # Errors
    /// No trial is open or its time is over; no such revision, no good name, or another revision has it; the disk is full
    /// or read-only.
    pub fn remark(&mut self, remark: &Remark) -> Result<Report, Failed> {
        self.refuse_late(remark)?;
        let filed = self.ledger.file(remark);
        self.filed(remark, filed)
    }

    pub(in crate::agent) fn refuse_late(&self, remark: &Remark) -> Result<(), Failed> {
        match remark {
            Remark::Confirm(_) if self.is_overdue() => {
                Err(Failed::refused("the deadline has passed; the last confirmed revision comes back"))
            }
            Remark::Confirm(_) | Remark::Tag(..) => Ok(()),
        }
    }

    pub(in crate::agent) fn filed(&self, remark: &Remark, filed: Filed) -> Result<Report, Failed> {
        let note = filed?;
        if let Remark::Confirm(actor) = remark {
            let text = format!("{note} by {actor}");
            self.bulletin.tell(Event::once(EventKind::Trial, Severity::Info, "file", text));
        }
        Ok(Report::note(self.revision(), note))
    }
}
