//! Changes of what serves, as the loop has them: begun, postponed until their reload is due, tried again, answered.
//!
//! One is under way at a time; the last one wins, and all who wait get its answer. The engine's part runs beside the loop.

use super::body::{Agent, RETRY};
use super::request::Reply;
use super::soak::no_way_back;
use super::tasks::{PlanFor, ReadFor, Reading};
use super::waiting::{Aim, Edited, Postponed, Waiters, waiters_of};
use crate::agent::history::trial::not_overdue;
use crate::agent::node::following::{tell_failure, tell_no_rollback};
use crate::agent::node::going_back::choose_worse;
use crate::agent::orders::goal::Goal;
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::troubles::Matter;
use crate::event::{Event, EventKind};
use crate::model::Digest;
use crate::vip::Turn;
use std::time::{Duration, Instant};

/// How often a file looks whether its turn among the nodes has come.
const ORDER_LOOK: Duration = Duration::from_millis(250);
/// Who applies a file is answered after this at the latest; the file waits on.
const ORDER_PATIENCE: Duration = Duration::from_secs(75);

impl Agent {
    /// Why the file as it stands is about to be served, and is not yet.
    pub(super) fn pending(&self) -> Option<&'static str> {
        let is_other = || self.node.file.place.digest() != Some(self.node.serving.digest);
        if self.edited.is_some() && is_other() {
            return Some("it changed while another change is under way");
        }
        let is_read = self.reading.as_ref().is_some_and(Reading::brings_file);
        if is_read && is_other() {
            return Some("it is being read");
        }
        let is_carried_out = self.work.as_ref().is_some_and(|work| work.brings_file(&self.node.serving.digest));
        if is_carried_out {
            return Some("it is being checked and brought to HAProxy");
        }
        let of_file = self.postponed.as_ref().filter(|postponed| postponed.what == Aim::File);
        let waits = of_file.filter(|_| self.node.file.problem.is_none() && self.node.file.order_wait.is_none())?;
        Some(if waits.for_verdict { "`haproxy -c` judges it" } else { "it waits for the gap between two reloads" })
    }

    /// Reads the file, which may be another.
    pub(super) async fn file_changed(&mut self, why: &'static str) {
        if !self.is_free() {
            self.edited = Some(Edited { why, at: Instant::now() });
            return;
        }
        let intent = Intent::of_agent(Some(why));
        // A rollback that waits for its reload is not given up for a file that is as it was.
        let is_news = self.node.file.place.digest() != Some(Digest::of(&self.node.serving.toml));
        let other = self.postponed.as_ref().filter(|postponed| postponed.what != Aim::File);
        let (waits_for_another, digest) = (other.is_some(), self.node.file.place.digest());
        // The watch may come behind an operator's command about that very content.
        let is_news = is_news && other.is_none_or(|other| other.file != digest);
        let was_waiting = self.node.file.waiting().is_some();
        let waits = is_news && self.node.does_file_wait();
        let told = self.node.file.told();
        let waiters = Waiters { intent, told, is_edit: true, was_waiting, ..waiters_of(Aim::File) };
        if self.node.file.is_rejected(&self.node.ledger) {
            let why = self.node.ledger.why_rolled_back();
            self.node.file.tell_rolled_back(self.node.serving.config.apply.waits_on_save, why.as_deref());
            self.edit_ended(&waiters).await;
        } else if waits {
            self.read(Goal::File, ReadFor::Plan(PlanFor::Saved(Box::new(waiters))));
        } else if is_news || !waits_for_another {
            // An editor may write twice; a mistake is told once.
            self.change_again(waiters).await;
        } else {
            self.edit_ended(&waiters).await;
        }
    }

    /// What follows from a new content of the file, whatever became of it.
    pub(super) async fn edit_ended(&mut self, waiters: &Waiters) {
        if !waiters.is_edit {
            return;
        }
        if waiters.told.is_some() && !waiters.was_waiting && self.node.file.problem.is_none() {
            let text = format!("{} can be served again, and is", self.node.file.place.file);
            self.node.bulletin.tell(Event::ends(EventKind::Refused, "file", text));
        }
        // It may have been a key or a certificate of the revision that serves in the file's place.
        if self.node.file.problem.is_some() && self.may_change() {
            Box::pin(self.set_about(waiters_of(Aim::Refresh))).await;
        }
    }

    /// Writes what serves into the history again.
    pub(super) async fn complete_history(&mut self) {
        self.set_about(waiters_of(Aim::Again)).await;
    }

    /// Carries a change out, or postpones it until its reload is due. The file stood so when it was asked for.
    pub(super) async fn change(&mut self, what: Aim, intent: Intent, replies: Vec<Reply>, file: Option<Digest>) {
        let waiters = Waiters { what, intent, replies, file, ..waiters_of(what) };
        self.change_again(waiters).await;
    }

    async fn change_again(&mut self, mut waiters: Waiters) {
        let mut since = None;
        if let Some(before) = self.postponed.take_if(|before| before.what == waiters.what) {
            // The watch over the file may come behind an operator's `apply` of it: while he waits, his words hold.
            if !before.replies.is_empty() && waiters.intent.is_of_agent() {
                waiters.intent = before.intent;
            }
            waiters.replies.extend(before.replies);
            since = before.in_order_since;
        }
        if waiters.what == Aim::File && !waiters.intent.force {
            match self.node.its_turn() {
                Turn::Go => {}
                Turn::Wait(whom) => {
                    let (intent, replies) = (waiters.intent.clone(), std::mem::take(&mut waiters.replies));
                    self.wait_in_order(whom, intent, replies, since);
                    return self.edit_ended(&waiters).await;
                }
                Turn::Stop(why) => {
                    let help = self.node.file.place.command("apply --force");
                    let help = format!("mend the file; or, to serve it here all the same: {help}");
                    let failed = Failed::refused(Refusal::new(why).help(help).nothing_changed());
                    self.node.file.order_wait = None;
                    self.node.file.refuse(failed.refusal.clone());
                    let attempt = Attempt::Failed(failed.clone());
                    tell_failure(&self.node.bulletin, self.node.revision(), &attempt, waiters.told.as_ref());
                    self.try_again(&attempt, Intent { adopt: false, ..waiters.intent.clone() });
                    self.answer_all(std::mem::take(&mut waiters.replies), &Err(failed));
                    return self.edit_ended(&waiters).await;
                }
            }
        }
        self.node.file.order_wait = None;
        self.set_about(waiters).await;
    }

    /// Chooses what a change leads to, and has it read.
    async fn set_about(&mut self, waiters: Waiters) {
        let by_operator = |goal| Some((goal, waiters.intent.clone()));
        let chosen = match waiters.what {
            Aim::File => Ok(by_operator(Goal::File)),
            Aim::Rollback(to) => self.node.choose_revision(to, waiters.file).map(by_operator),
            Aim::Expire => self.node.choose_expired(&waiters.intent.actor),
            Aim::Worse => choose_worse(&self.node, &waiters.intent),
            Aim::Refresh => Ok(self.node.choose_refresh()),
            Aim::Again => Ok(Some(self.node.choose_again())),
        };
        match chosen {
            Ok(Some((goal, intent))) => {
                self.read(goal, ReadFor::Change(Box::new((intent, waiters))));
            }
            Ok(None) => self.answer_all(waiters.replies, &Ok(not_overdue(self.node.revision()))),
            Err(attempt) => Box::pin(self.change_ended(waiters, Err(attempt))).await,
        }
    }

    /// Of the file and a rollback the one that was asked for last is carried out. Who waits for the other is told.
    pub(super) fn supersede(&mut self, by: Aim) {
        let instead = match by {
            Aim::File => "the file was asked for instead",
            Aim::Rollback(_) => "an older revision was asked for instead",
            // The agent's own affairs: what waits goes on waiting.
            Aim::Expire | Aim::Worse | Aim::Refresh | Aim::Again => return,
        };
        if let Some(before) = self.postponed.take() {
            let failed = Failed::refused(
                Refusal::new(format_args!("{instead}, before this came into force")).done("nothing of it was served"),
            );
            self.answer_all(before.replies, &Err(failed));
        }
    }

    fn answer_all(&mut self, replies: Vec<Reply>, result: &Result<Report, Failed>) {
        // Whoever asked may be gone.
        replies.into_iter().for_each(|reply| drop(reply.send(result.clone())));
        self.look_at = Instant::now();
    }

    /// Answers who waits for a change, or goes on waiting with them.
    pub(super) async fn change_ended(&mut self, mut waiters: Waiters, result: Result<Report, Attempt>) {
        let what = waiters.what;
        let is_way_back = matches!(what, Aim::Expire | Aim::Worse);
        let result = match result {
            // What serves is brought to HAProxy with the next look.
            Err(Attempt::TooSoon(_)) if matches!(what, Aim::Refresh | Aim::Again) => return,
            Err(Attempt::TooSoon(at)) => {
                let for_verdict = self.node.engine.checks.awaited().is_some();
                match for_verdict {
                    true => tracing::info!("`haproxy -c` takes its time over the change, which waits for it"),
                    false => tracing::info!("the change needs a reload and waits for the gap between two"),
                }
                let (intent, replies) = (waiters.intent.clone(), std::mem::take(&mut waiters.replies));
                let file = waiters.file;
                let waits = Postponed { at, for_verdict, in_order_since: None, what, intent, replies, file };
                if is_way_back && self.postponed.is_some() {
                    // It is looked for again by itself.
                    self.expire_at = at.min(Instant::now() + RETRY);
                    self.answer_all(waits.replies, &Err(Attempt::TooSoon(at).into_failed()));
                } else {
                    self.postponed = Some(waits);
                }
                self.edit_ended(&waiters).await;
                return;
            }
            Err(Attempt::Failed(failed)) => {
                let attempt = Attempt::Failed(failed.clone());
                let told = waiters.told.as_ref().or(self.node.troubles.of(Matter::Haproxy));
                // That the history has no room is told already, and tried again with each look.
                match what {
                    Aim::Again => {}
                    Aim::Expire | Aim::Worse => no_way_back(&mut self.node, what, &failed.refusal),
                    Aim::Rollback(_) => tell_no_rollback(&self.node.bulletin, &waiters.intent.actor, &failed),
                    _ => tell_failure(
                        &self.node.bulletin,
                        self.node.revision(),
                        &attempt,
                        told.filter(|_| what != Aim::Refresh),
                    ),
                }
                if what == Aim::File {
                    // Also after an operator's `apply`: the file waits on, though what he allowed was for this once.
                    self.try_again(&attempt, Intent { adopt: false, force: false, ..waiters.intent.clone() });
                }
                Err(failed)
            }
            Ok(report) => Ok(report),
        };
        let may_wait = matches!(what, Aim::Rollback(_)) && result.is_ok() && self.node.does_file_wait();
        if may_wait || is_way_back && self.postponed.is_none() && self.node.file.problem.is_none() {
            // An edit that came during the trial is not part of it; nor is one that waited part of what was left.
            self.edited.get_or_insert(Edited { why: "the file changed", at: Instant::now() });
        }
        // Servers may be new, or have other keys.
        let now = self.node.now();
        self.node.steering.tell_keyless(&self.node.serving.config, now);
        self.follow_soon();
        self.answer_all(std::mem::take(&mut waiters.replies), &result);
        self.edit_ended(&waiters).await;
    }

    /// Plans another try of a file without mistakes that was refused: what spoke against it may pass.
    pub(super) fn try_again(&mut self, attempt: &Attempt, intent: Intent) {
        let may_pass = matches!(attempt, Attempt::Failed(failed) if failed.exit_code == 1);
        // Where saved files wait for an operator's word, his word is about the content that he saw, and for that once.
        let is_once = self.node.serving.config.apply.waits_on_save && !intent.is_of_agent();
        // A file that was rolled back is tried again when it changes, not before.
        let waits_for_another = self.postponed.as_ref().is_some_and(|postponed| postponed.what != Aim::File);
        if may_pass && !is_once && !self.node.file.is_rejected(&self.node.ledger) && !waits_for_another {
            let at = Instant::now() + RETRY;
            let (for_verdict, in_order_since, what) = (false, None, Aim::File);
            let (replies, file) = (vec![], None);
            self.postponed = Some(Postponed { at, for_verdict, in_order_since, what, intent, replies, file });
        }
    }

    pub(super) async fn resume(&mut self) {
        let told = self.node.file.told();
        if let Some(Postponed { what, intent, file, .. }) = &self.postponed {
            let (what, intent, file) = (*what, intent.clone(), *file);
            self.change_again(Waiters { intent, told, file, ..waiters_of(what) }).await;
        }
    }

    /// A new file waits until the nodes that go first have proven it. Who asked is told after a minute that it waits on.
    fn wait_in_order(&mut self, whom: String, intent: Intent, mut replies: Vec<Reply>, since: Option<Instant>) {
        let now = Instant::now();
        let began = since.unwrap_or(now);
        if self.node.file.order_wait.as_ref() != Some(&whom) {
            tracing::info!("the file waits for its turn: {whom}");
        }
        if now.saturating_duration_since(began) >= ORDER_PATIENCE {
            let refusal = Refusal::new(format_args!("the file waits for its turn: {whom}")).help(format_args!(
                "give the other nodes the same file; this one follows by itself. Without waiting: {}",
                self.node.file.place.command("apply --force")
            ));
            let failed = Failed::refused(refusal);
            replies.drain(..).for_each(|reply| drop(reply.send(Err(failed.clone()))));
        }
        self.node.file.order_wait = Some(whom);
        let at = now + ORDER_LOOK;
        let (for_verdict, in_order_since, what) = (false, Some(began), Aim::File);
        self.postponed = Some(Postponed { at, for_verdict, in_order_since, what, intent, replies, file: None });
    }
}
