//! The way back to an older revision, and what is told of the file that was left.
//!
//! The operator's file stays as it is. One that never served is no reason to undo what does.

use super::Node;
use crate::agent::orders::books::KeptOfLeft;
use crate::agent::orders::change::Left;
use crate::agent::orders::goal::Goal;
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::troubles::Matter;
use crate::event::{Event, EventKind, Severity};
use crate::model::{Digest, format_duration};

impl Node {
    /// Where a rollback leads to; `None`: the last good revision with another content.
    /// `file` stood there when it was asked for: what is saved later is another edit.
    pub(in crate::agent) fn choose_revision(&self, to: Option<u32>, file: Option<Digest>) -> Result<Goal, Attempt> {
        let number = match to {
            Some(to) => to,
            None if self.file_never_served(file) => return Err(self.nothing_to_roll_back().into()),
            None => self.ledger.previous_good()?.ok_or_else(|| {
                Failed::refused(format!(
                    "there is no earlier revision with another content to go back to; `{}` lists them, `{}` serves any",
                    self.file.place.command("history"),
                    self.file.place.command("rollback REV")
                ))
            })?,
        };
        self.revision_again(number, file, false)
    }

    /// Where a rollback to this revision leads to, with the operator's file as it was when it was asked for.
    pub(super) fn revision_again(&self, number: u32, file: Option<Digest>, by_deadline: bool) -> Result<Goal, Attempt> {
        let toml = self.ledger.toml_of(number)?;
        let waits = self.serving.config.apply.waits_on_save;
        let left = Left { before: self.ledger.current(), file, by_deadline, waits };
        Ok(Goal::Revision { number, toml, left })
    }

    /// What follows once an older revision serves.
    pub(super) fn end_rollback(&mut self, kept: KeptOfLeft, report: &mut Report) {
        if let Some(failed) = kept.unwritten {
            // It was gone back: that much is so, on a full disk as well.
            report.notes.push(format!(
                "that {} was rolled back could not be written down: the next start of the agent serves it again, unless \
                 there is room before, or `{}` has put what serves into it",
                self.file.place.file,
                self.file.place.command("rollback --write")
            ));
            self.note_history(Some(failed));
        }
        self.file.problem = kept.problem;
    }

    /// Whether the file cannot be served, or is not served yet, so that an older content serves and nobody went back to it.
    fn file_never_served(&self, file: Option<Digest>) -> bool {
        let is_other = file != Some(Digest::of(&self.serving.toml));
        // A file that waits to be applied is no mistake: what serves can be undone.
        let waits = self.serving.config.apply.waits_on_save;
        (self.is_settled || self.file.problem.is_some()) && is_other && !waits && !self.file.is_rejected(&self.ledger)
    }

    fn nothing_to_roll_back(&self) -> Failed {
        let serves = self.revision().map_or_else(|| "nothing".to_owned(), |revision| format!("revision {revision}"));
        let problem = self.file.problem.as_ref().map(|problem| problem.why().clone().as_error());
        let problem = problem.unwrap_or_else(|| Refusal::new("the file is about to be served"));
        let file = &self.file.place.file;
        let nothing = format!("there is nothing to roll back: {file} was not served as it stands, {serves} serves on");
        let back = self.file.place.command("rollback REV");
        let help = format!("mend the file; to go further back all the same: {back}");
        let write = format!("to have what serves in the file: {}", self.file.place.command("rollback --write"));
        Failed::refused(problem.done(nothing).help(help).help(write).nothing_changed())
    }

    /// Where an expired trial leads to, and why; `None`: no deadline has passed.
    pub(in crate::agent) fn choose_expired(&self, actor: &str) -> Result<Option<(Goal, Intent)>, Attempt> {
        let Some(trial) = self.ledger.deadline().filter(|(_, left)| left.is_zero()).map(|(trial, _)| trial.clone())
        else {
            return Ok(None);
        };
        let given = format_duration(trial.given());
        let reason = format!("revision {} was not confirmed within {given}", trial.revision);
        let text = format!("{reason}; rolling back to revision {}", trial.back_to);
        // That it cannot be stands as a problem, and each try is no news.
        if !self.troubles.has(Matter::WayBack) {
            self.bulletin.tell(Event::once(EventKind::Trial, Severity::Warning, "file", text).about("rollback"));
        }
        let intent = Intent { actor: actor.to_owned(), reason: Some(reason), ..Intent::default() };
        Ok(Some((self.revision_again(trial.back_to, self.file.place.digest(), true)?, intent)))
    }
}

/// Where a revision leads to that soaks and was found to be worse; `None`: it does not soak any more.
pub(in crate::agent) fn choose_worse(node: &Node, intent: &Intent) -> Result<Option<(Goal, Intent)>, Attempt> {
    let Some(trial) = node.ledger.provisional().filter(|trial| trial.soak().is_some()) else { return Ok(None) };
    Ok(Some((node.revision_again(trial.back_to, node.file.place.digest(), true)?, intent.clone())))
}
