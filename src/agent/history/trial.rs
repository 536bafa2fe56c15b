//! A revision on trial: its deadline, its confirmation, its way back; and the names of revisions.
//!
//! The deadline is written down before the revision is applied, and guarded three times: by the agent's own timer, by
//! every start of the agent, and by a small process of its own that outlives the agent (invariant I11). Whoever comes
//! first rolls back; the others find that there is no trial any more.

use super::ledger::{Ledger, told};
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::sources::place::Place;
use crate::store::{self, Clocks, Provisional, Standing};
use crate::sys;
use camino::Utf8Path;
use jiff::Timestamp;
use std::time::Duration;

/// Of a rollback that nobody gave a reason for.
pub(in crate::agent) const NO_REASON: &str = "rolled back";

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
        self.changes += 1;
        self.set_provisional(None)?;
        self.said_good = Some(revision);
        Ok(Some(revision))
    }

    /// Takes back that the revision that serves is good.
    pub(in crate::agent) fn doubt(&mut self, revision: u32, back_to: u32) -> Result<(), Failed> {
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
    pub fn tag(&mut self, revision: u32, name: &str) -> Result<(), Failed> {
        self.changes += 1;
        self.revisions.tag(revision, name).map_err(|e| told(&e))
    }

    /// The trial that is open, and the time that is left.
    pub fn trial(&self) -> Option<(&Provisional, Duration)> {
        let trial = self.provisional()?;
        Some((trial, trial.left(&clocks())))
    }

    /// The trial that is open and has to be confirmed, and the time that is left for it.
    pub fn deadline(&self) -> Option<(&Provisional, Duration)> {
        self.trial().filter(|(trial, _)| !trial.keeps)
    }

    /// Whether the trial has ended without a confirmation.
    pub fn is_overdue(&self) -> bool {
        self.deadline().is_some_and(|(_, left)| left.is_zero())
    }

    /// Why the last revision that was rolled back was, where somebody said.
    pub(in crate::agent) fn why_rolled_back(&self) -> Option<String> {
        let all = self.revisions.list().ok()?.into_iter().rev().filter_map(|listed| listed.manifest.ok());
        let last = all.map(|manifest| manifest.standing).find_map(|standing| match standing {
            Standing::RolledBack { reason } => Some(reason),
            _ => None,
        });
        // That of an older one is no reason of the last.
        last.filter(|reason| reason != NO_REASON)
    }

    /// Whether the revision has this content.
    pub(in crate::agent) fn has_content(&self, revision: u32, toml: &str) -> bool {
        self.toml_of(revision).is_ok_and(|content| content == toml)
    }
}

/// The answer where no deadline has passed.
pub(in crate::agent) fn not_overdue(revision: Option<u32>) -> Report {
    Report::note(revision, "no deadline has passed".to_owned())
}

/// Starts the guard of an open trial again; one that still runs makes the new one end at once.
pub(in crate::agent) fn guard_again(place: &Place, ledger: &Ledger) {
    if ledger.deadline().is_some()
        && let Err(error) = guard(place, &ledger.state)
    {
        tracing::error!(%error, "the process that guards the deadline cannot be started; the agent does alone");
    }
}

/// Starts the process that outlives us.
pub(in crate::agent) fn guard(place: &Place, state: &Utf8Path) -> std::io::Result<()> {
    let file = std::path::absolute(&place.file)?;
    let file = file.to_str().ok_or(std::io::ErrorKind::InvalidFilename)?;
    let mut args = vec!["--config", file];
    if let Some(node) = &place.node {
        args.extend(["--node", node.as_str()]);
    }
    args.extend(["__deadline", state.as_str()]);
    sys::detached::start_self(&args, &state.join("deadline.log"))
}
