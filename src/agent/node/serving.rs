//! A change of what serves, in two halves: what is asked and written down before the engine carries it out, and what
//! follows from how that ended.
//!
//! Between them the loop goes on: the second half takes the health, keys and words of its own moment. Who works alone
//! does both at once.

use super::Node;
use super::following::start_hint;
use super::guarding::refuse_drastic_changes;
use crate::agent::orders::books::{Books, Kept};
use crate::agent::orders::change::{Change, Then};
use crate::agent::orders::order::{Changed, Order};
use crate::agent::outcome::applied::{Applied, ApplyError, How};
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Report, SourceOfChange};
use crate::agent::sources::callers;
use crate::agent::sources::place::Sources;
use crate::agent::steering::renewed_keys;
use crate::agent::tell::troubles::Matter;
use crate::agent::vip::vrrp_file::{VrrpChange, VrrpPlan};
use std::time::SystemTime;

/// How a change ended.
#[derive(Debug)]
pub(in crate::agent) struct Ended {
    /// The answer to who wanted it.
    pub result: Result<Report, Attempt>,
    /// What it changes in keepalived.conf, where HAProxy has the rest.
    pub vrrp: Option<VrrpChange>,
}

impl Node {
    /// The history, to be written into beside the loop.
    pub(in crate::agent) fn books(&self) -> Books {
        let (ledger, place) = (self.ledger.clone(), self.file.place.clone());
        let is_watched = self.steering.soaking.is_driven();
        Books { ledger, place, is_observer: self.is_observer(), is_watched, events: vec![] }
    }

    /// Everything before the engine's part.
    pub(super) fn begin(
        &mut self,
        sources: Sources,
        vrrp: VrrpPlan,
        intent: &Intent,
        source: SourceOfChange,
        then: Then,
    ) -> Result<Order, Attempt> {
        let may_fail_file = matches!(source, SourceOfChange::Edit | SourceOfChange::Start);
        if let Err(failed) = refuse_drastic_changes(self, &sources, intent, source) {
            self.file.refuse(failed.refusal.clone());
            return Err(failed.into());
        }
        let is_rollback = matches!(source, SourceOfChange::Rollback(_));
        // A rollback is never blocked (I14), and an agent that starts steers HAProxy whatever Keepalived's file is like; the audit
        // goes on trying and telling.
        if let Err(failed) = &vrrp
            && !is_rollback
            && !self.is_opening
        {
            if may_fail_file {
                self.file.refuse(failed.refusal.clone());
            }
            return Err(failed.clone().into());
        }
        let desired = self.steering.desired_under(&sources, self.now());
        let is_history_broken = self.troubles.has(Matter::History);
        let is_same = self.is_settled && sources.digest == self.serving.digest;
        let change = Change { intent: intent.clone(), source, is_same, is_history_broken, vrrp, then };
        Ok(Order {
            may_replace_foreign_file: intent.adopt,
            is_serving: false,
            may_exceed_limits: intent.force || self.is_opening || is_rollback,
            change: Some(Box::new(change)),
            ..Order::to_reconcile(sources, desired)
        })
    }

    /// What follows from how the engine's part ended. keepalived.conf is left to the caller: it takes its time.
    pub(in crate::agent) fn end(&mut self, mut order: Order, changed: Changed) -> Ended {
        let Some(mut change) = order.change.take() else { unreachable!("an order keeps its kind") };
        let is_served = changed.result.is_ok();
        let vrrp = std::mem::replace(&mut change.vrrp, Ok(None));
        let mut result = self.end_change(order, *change, changed);
        let vrrp = match vrrp {
            Ok(vrrp) => vrrp.filter(|_| is_served),
            Err(failed) => {
                if is_served {
                    self.vrrp_refused(failed.refusal, result.as_mut().ok());
                }
                None
            }
        };
        Ended { result, vrrp }
    }

    fn end_change(&mut self, order: Order, change: Change, changed: Changed) -> Result<Report, Attempt> {
        let Changed { result, mut kept, books } = changed;
        self.ledger = books.ledger;
        let Change { source, then, .. } = change;
        let left = kept.left.take();
        if let Then::Refresh { problem } = then {
            let sources = order.sources.clone();
            let result = self.end_serving(order, source, result, kept);
            self.file.problem = problem;
            if let Err(Attempt::TooSoon(_)) = result {
                // The next look at HAProxy carries it out.
                self.steering.keyring.reconfigure(&sources.config, &sources.secrets, self.now());
                take_over(self, sources);
            }
            return result;
        }
        let mut report = self.end_serving(order, source, result, kept)?;
        match then {
            Then::File { comes_back: true } => {
                // Whoever edits an unrelated line must not miss it; an edit that waits would surprise the one who mends.
                let text = "the file was rolled back before: what it still has of that serves again";
                tracing::warn!(revision = self.revision(), "{text}");
                // Revisions are counted without a gap.
                let before = self.revision().map_or(0, |revision| revision.saturating_sub(1));
                let diff = self.file.place.command(&format!("diff {before}"));
                report.notes.push(format!("{text}; `{diff}` says what changed"));
            }
            Then::Rollback(_) => {
                if let (SourceOfChange::Rollback(to), Some(revision)) = (source, report.revision) {
                    report.notes.push(format!("the content of revision {to} serves, as revision {revision}"));
                }
                left.into_iter().for_each(|left| self.end_rollback(left, &mut report));
            }
            Then::File { .. } | Then::Refresh { .. } | Then::Nothing => {}
        }
        Ok(report)
    }

    fn end_serving(
        &mut self,
        order: Order,
        source: SourceOfChange,
        result: Result<Applied, ApplyError>,
        kept: Kept,
    ) -> Result<Report, Attempt> {
        let Order { sources, began, .. } = order;
        let may_fail_file = matches!(source, SourceOfChange::Edit | SourceOfChange::Start);
        // A file that is refused says nothing about how HAProxy follows what serves.
        if !matches!(result, Err(ApplyError::Refused(_) | ApplyError::Render(_) | ApplyError::Unwritten(_))) {
            self.remember(&result);
        }
        let applied = match result {
            Ok(applied) => applied,
            Err(ApplyError::TooSoon(at)) => return Err(Attempt::TooSoon(at)),
            Err(e) => {
                // That HAProxy cannot be asked is no word about a file that it serves already.
                let is_unasked = matches!(e, ApplyError::Observe(_) | ApplyError::Own(_));
                if may_fail_file && !(is_unasked && self.is_settled && sources.toml == self.serving.toml) {
                    self.file.refuse(e.refusal());
                }
                return Err(Attempt::from(e));
            }
        };
        self.tell_not_in_force(&sources);
        let renewed = renewed_keys(&self.serving, &sources);
        let changed = self.steering.soaking.changes(&self.serving.config, &sources.config, &self.steering.fleet);
        let changed = Some(changed).filter(|_| self.is_settled);
        let is_known = |warning: &&String| self.is_settled && self.serving.warnings.contains(warning);
        sources.warnings.iter().filter(|warning| !is_known(warning)).for_each(|warning| tracing::warn!("{warning}"));
        take_over(self, sources);
        let now = self.now();
        self.steering.reconfigure(&self.serving, &renewed, now);
        let trial = self.ledger.provisional();
        self.steering.soaking.follow(trial, changed, &self.serving.config, now, SystemTime::now());
        self.is_settled = true;
        self.tell_certificates();
        if !matches!(source, SourceOfChange::Rollback(_)) {
            self.file.problem = None;
        }
        let diff = match &self.engine.last {
            Some((before, after)) => {
                crate::agent::outcome::report::unified_diff(before, &after.haproxy_cfg, "haproxy.cfg")
            }
            None => String::new(),
        };
        kept.events.into_iter().for_each(|event| self.bulletin.tell(event));
        if let Some(recorded) = kept.recorded {
            self.note_history(recorded.err());
        }
        if let Some(failed) = kept.failed {
            return Err(failed.into());
        }
        let mut report = Report::new(applied, self.revision(), diff, began.elapsed());
        report.notes.extend(kept.notes);
        report.notes.extend(self.troubles.of(Matter::History).map(ToString::to_string));
        if report.applied.how == How::Start {
            report.notes.push(start_hint(&self.serving.config).to_string());
            report.notes.extend(self.engine.doubts.clone());
        }
        report.notes.extend(self.serving.warnings.iter().cloned());
        report.notes.extend(self.serving.certificate_problems.iter().map(|problem| problem.told.to_string()));
        report.notes.extend(self.engine.warnings.iter().cloned());
        report.notes.extend(self.not_in_force(&self.serving));
        let unresolved = self.engine.said.unresolved_servers();
        report.notes.extend(
            unresolved.map(|server| format!("{server}: its name does not resolve now; it serves when it does")),
        );
        Ok(report)
    }
}

/// These serve from now on; tells what became of clients.
fn take_over(node: &mut Node, sources: Sources) {
    let changes = callers::changes(&node.serving.clients, &sources.clients);
    // At the start nothing has changed that anybody saw.
    changes.into_iter().filter(|_| node.is_settled).for_each(|event| node.bulletin.tell(event));
    node.troubles.set(Matter::Clients, sources.clients_problem.clone());
    node.serving = sources;
}
