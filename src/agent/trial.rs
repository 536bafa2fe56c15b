//! A revision on trial: its deadline, its confirmation, its way back; and the names of revisions.
//!
//! The deadline is written down before the revision is applied, and guarded three times: by the agent's own timer, by
//! every start of the agent, and by a small process of its own that outlives the agent (invariant I11). Whoever comes
//! first rolls back; the others find that there is no trial any more.

use super::attempt::Attempt;
use super::change::Armed;
use super::goal::Goal;
use super::intent::{AGENT, Intent};
use super::ledger::{Ledger, told};
use super::node::Node;
use super::refusal::Refusal;
use super::report::{Failed, Report, SourceOfChange};
use super::sources::{Place, Sources};
use crate::event::{Event, EventKind, Severity};
use crate::model::{Digest, format_duration};
use crate::store::{self, Clocks, Provisional, RevisionSource, Standing};
use crate::sys;
use camino::Utf8Path;
use jiff::Timestamp;
use std::time::Duration;

/// A revision that has served for longer, in seconds, is not put on trial by a late `apply --confirm`: the operator does
/// not mean it.
const JUST_SAVED_S: i64 = 600;
/// A revision that has served for longer, in seconds, takes no late `apply --reason`.
const FRESH_S: i64 = 3600;

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

    /// Ends the trial well; answers the revision.
    ///
    /// # Errors
    /// None is open, or the disk is full or read-only.
    pub fn confirm(&mut self) -> Result<u32, Failed> {
        let Some(trial) = &self.provisional else {
            return Err(Failed::refused("no revision waits to be confirmed"));
        };
        let revision = self.current.serving.unwrap_or(trial.revision);
        // The order lets a crash in between end the trial rather than the revision.
        self.current.last_good = Some(revision);
        store::save_current(&self.state, &self.current).map_err(|e| told(&e))?;
        self.revisions.set_standing(revision, Standing::Confirmed).map_err(|e| told(&e))?;
        self.set_provisional(None)?;
        self.said_good = Some(revision);
        Ok(revision)
    }

    /// Takes back that the revision that serves is good.
    fn doubt(&mut self, revision: u32, back_to: u32) -> Result<(), Failed> {
        self.revisions.set_standing(revision, Standing::Provisional).map_err(|e| told(&e))?;
        self.current.last_good = Some(back_to);
        store::save_current(&self.state, &self.current).map_err(|e| told(&e))
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
    fn has_content(&self, revision: u32, toml: &str) -> bool {
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

    /// Keeps the revision on trial.
    ///
    /// # Errors
    /// None is, its time is over, or the disk is full or read-only.
    pub fn confirm(&mut self, actor: &str) -> Result<Report, Failed> {
        if self.is_overdue() {
            return Err(Failed::refused("the deadline has passed; the last confirmed revision comes back"));
        }
        let revision = self.ledger.confirm()?;
        let text = format!("revision {revision} is confirmed by {actor}");
        self.bulletin.tell(Event::once(EventKind::Trial, Severity::Info, "file", text));
        Ok(Report::note(self.revision(), format!("revision {revision} is confirmed")))
    }

    /// Gives a revision a name.
    ///
    /// # Errors
    /// As [`Ledger::tag`].
    pub fn tag(&mut self, revision: u32, name: &str) -> Result<Report, Failed> {
        self.ledger.tag(revision, name)?;
        Ok(Report::note(self.revision(), format!("revision {revision} is called {name}")))
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

    /// Opens the trial of a revision that is about to be applied, where it wants one, and makes sure that somebody
    /// outside guards it.
    pub(super) fn arm(&mut self, sources: &Sources, intent: &Intent, source: SourceOfChange) -> Result<Armed, Failed> {
        let open = self.ledger.provisional().cloned();
        let by_default = sources.config.apply.confirm;
        let (given, keeps_open) = match (source, intent.confirm, &open) {
            (SourceOfChange::Rollback(_), ..) => (None, false),
            (_, Some(given), _) => (Some(given), false),
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
                Provisional::new(self.ledger.next_number()?, back_to, &intent.actor, given, &clocks())
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
        self.ledger.set_provisional(Some(trial))?;
        if let Err(error) = guard(&self.place, &self.ledger.state) {
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
            Some(given) => Provisional::new(revision, trial.back_to, &trial.actor, given, &clocks()),
            None => Provisional { revision, ..trial },
        };
        let text = self.trial_in_words(&trial);
        self.bulletin.tell(Event::once(EventKind::Trial, Severity::Info, "file", &text));
        if let Err(error) = self.ledger.set_provisional(Some(trial)) {
            // The earlier deadline holds, which is a little sooner.
            tracing::warn!(%error, "the deadline could not be moved");
        }
        Some(text)
    }

    /// What becomes of the revision that is on trial, where there is one.
    pub(super) fn trial_note(&self) -> Option<String> {
        self.ledger.provisional().map(|trial| self.trial_in_words(trial))
    }

    fn trial_in_words(&self, trial: &Provisional) -> String {
        let left = format_duration(Duration::from_secs(trial.left(&clocks()).as_millis().div_ceil(1000) as u64));
        let (revision, confirm) = (trial.revision, self.place.command("confirm"));
        format!(
            "revision {revision} is on trial: without `{confirm}` within {left} revision {} comes back",
            trial.back_to
        )
    }

    /// Puts the revision that serves on trial: the agent follows an edit at once, so that an operator's `apply
    /// --confirm` mostly comes after it. One that has served for long is left in peace.
    ///
    /// # Errors
    /// The deadline cannot be kept or guarded; the revision serves on, confirmed.
    pub(super) fn put_on_trial(&mut self, given: Duration, actor: &str) -> Result<String, Failed> {
        let nothing = "nothing new serves, so there is nothing to confirm";
        let Some(revision) = self.revision() else { return Ok(nothing.to_owned()) };
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
        self.ledger.set_provisional(Some(Provisional::new(revision, back_to, actor, given, &clocks())))?;
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
        let (Some(reason), Some(revision), false) = (&intent.reason, self.revision(), self.is_observer()) else {
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

    /// Starts the guard of an open trial again; one that still runs makes the new one end at once.
    pub(super) fn guard_again(&self) {
        if self.ledger.provisional().is_some()
            && let Err(error) = guard(&self.place, &self.ledger.state)
        {
            tracing::error!(%error, "the process that guards the deadline cannot be started; the agent does alone");
        }
    }

    /// After a rollback: what served before is marked, and no trial is open.
    pub(super) fn close_trial(&mut self, before: Option<u32>, reason: &str) {
        if let Some(before) = before.filter(|before| Some(*before) != self.revision()) {
            let standing = Standing::RolledBack { reason: reason.to_owned() };
            if let Err(error) = self.ledger.revisions.set_standing(before, standing) {
                tracing::warn!(error = sys::chain(&error), revision = before, "the rollback could not be noted there");
            }
        }
        if let Err(error) = self.ledger.set_provisional(None) {
            tracing::error!(%error, "the deadline could not be removed");
        }
    }

    /// Digest of what the revision that serves was made from.
    pub(super) fn is_news(&self, sources: &Sources, intent: &Intent) -> bool {
        self.ledger.current_toml() != Some(Digest::of(&sources.toml)) || intent.adopt
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
fn guard(place: &Place, state: &Utf8Path) -> std::io::Result<()> {
    let file = std::path::absolute(&place.file)?;
    let file = file.to_str().ok_or(std::io::ErrorKind::InvalidFilename)?;
    let mut args = vec!["--config", file];
    if let Some(node) = &place.node {
        args.extend(["--node", node.as_str()]);
    }
    args.extend(["__deadline", state.as_str()]);
    sys::detached::start_self(&args, &state.join("deadline.log"))
}
