//! A revision on trial: its deadline, its confirmation, its way back; and the names of revisions.
//!
//! The deadline is written down before the revision is applied, and guarded three times: by the agent's own timer, by
//! every start of the agent, and by a small process of its own that outlives the agent (invariant I11). Whoever comes
//! first rolls back; the others find that there is no trial any more.

use super::attempt::Attempt;
use super::goal::Goal;
use super::intent::Intent;
use super::ledger::{Ledger, told};
use super::node::Node;
use super::report::{Failed, Report};
use super::sources::Place;
use crate::event::{Event, EventKind, Severity};
use crate::model::format_duration;
use crate::store::{self, Clocks, Provisional, Standing};
use crate::sys;
use camino::Utf8Path;
use jiff::Timestamp;
use std::time::Duration;

/// The two clocks now; without `/proc` the wall clock decides alone.
pub fn clocks() -> Clocks {
    let boot = sys::boot::Boot::now().unwrap_or_else(|_| sys::boot::Boot { id: String::new(), uptime: Duration::ZERO });
    Clocks { now: Timestamp::now(), boot: boot.id, uptime: boot.uptime }
}

impl Ledger {
    /// The trial that is open.
    pub fn provisional(&self) -> Option<&Provisional> {
        self.provisional.as_ref()
    }

    /// Opens a trial, changes it, or ends it.
    ///
    /// # Errors
    /// The disk is full or read-only.
    pub fn set_provisional(&mut self, provisional: Option<Provisional>) -> Result<(), Failed> {
        if self.provisional != provisional {
            store::save_provisional(&self.state, provisional.as_ref()).map_err(|e| told(&e))?;
            self.provisional = provisional;
        }
        Ok(())
    }

    /// Ends the trial well; answers the revision, `None` where what serves could not be written into the history yet.
    ///
    /// # Errors
    /// None is open, or the disk is full or read-only.
    pub fn confirm(&mut self) -> Result<Option<u32>, Failed> {
        let Some(trial) = &self.provisional else {
            return Err(Failed::refused("no revision waits to be confirmed"));
        };
        let revision = self.current.serving.unwrap_or(trial.revision);
        if revision < trial.revision {
            // It is written as a confirmed one.
            self.set_provisional(None)?;
            return Ok(None);
        }
        // The order lets a crash in between end the trial rather than the revision.
        self.current.last_good = Some(revision);
        self.keep_current()?;
        self.revisions.set_standing(revision, Standing::Confirmed).map_err(|e| told(&e))?;
        self.set_provisional(None)?;
        self.said_good = Some(revision);
        Ok(Some(revision))
    }

    /// Takes back that the revision that serves is good.
    pub(super) fn doubt(&mut self, revision: u32, back_to: u32) -> Result<(), Failed> {
        self.revisions.set_standing(revision, Standing::Provisional).map_err(|e| told(&e))?;
        self.current.last_good = Some(back_to);
        self.keep_current()
    }

    /// The number of a revision by its number or its tag.
    ///
    /// # Errors
    /// There is none.
    pub fn resolve(&self, name: &str) -> Result<u32, Failed> {
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        let tagged = self.revisions.tagged(name).map_err(|e| told(&e))?;
        tagged.ok_or_else(|| Failed::refused(format!("no revision is called {name}; `hapilot history` lists them")))
    }

    /// Gives a revision a name, which stays.
    ///
    /// # Errors
    /// No such revision, no good name, or another revision has it.
    pub fn tag(&self, revision: u32, name: &str) -> Result<(), Failed> {
        self.revisions.tag(revision, name).map_err(|e| told(&e))
    }

    /// Whether the revision has this content.
    pub(super) fn has_content(&self, revision: u32, toml: &str) -> bool {
        self.toml_of(revision).is_ok_and(|content| content == toml)
    }
}

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
    pub(super) fn not_overdue(&self) -> Report {
        Report::note(self.revision(), "no deadline has passed".to_owned())
    }

    /// Where an expired trial leads to, and why; `None`: no deadline has passed.
    pub(super) fn choose_expired(&self, actor: &str) -> Result<Option<(Goal, Intent)>, Attempt> {
        let Some(trial) = self.trial().filter(|(_, left)| left.is_zero()).map(|(trial, _)| trial.clone()) else {
            return Ok(None);
        };
        let given = format_duration(trial.given());
        let reason = format!("revision {} was not confirmed within {given}", trial.revision);
        let text = format!("{reason}; rolling back to revision {}", trial.back_to);
        self.bulletin.tell(Event::once(EventKind::Trial, Severity::Warning, "file", text));
        let intent = Intent { actor: actor.to_owned(), reason: Some(reason), ..Intent::default() };
        Ok(Some((self.revision_again(trial.back_to, self.place.digest(), true)?, intent)))
    }

    /// Starts the guard of an open trial again; one that still runs makes the new one end at once.
    pub(super) fn guard_again(&self) {
        if self.ledger.provisional().is_some()
            && let Err(error) = guard(&self.place, &self.ledger.state)
        {
            tracing::error!(%error, "the process that guards the deadline cannot be started; the agent does alone");
        }
    }
}

impl Place {
    /// A command of the command line for this file, as the operator would type it.
    pub fn command(&self, words: &str) -> String {
        match self.file.as_str() {
            "/etc/hapilot/hapilot.toml" => format!("hapilot {words}"),
            file => format!("hapilot -c {file} {words}"),
        }
    }
}

/// Starts the process that outlives us.
pub(super) fn guard(place: &Place, state: &Utf8Path) -> std::io::Result<()> {
    let file = std::path::absolute(&place.file)?;
    let file = file.to_str().ok_or(std::io::ErrorKind::InvalidFilename)?;
    let mut args = vec!["--config", file];
    if let Some(node) = &place.node {
        args.extend(["--node", node.as_str()]);
    }
    args.extend(["__deadline", state.as_str()]);
    sys::detached::start_self(&args, &state.join("deadline.log"))
}
