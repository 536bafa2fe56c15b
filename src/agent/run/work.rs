//! Orders of the engine's and pushes: the loop starts them, hears how they ended, and waits for neither.
//!
//! While the engine is away its stand-in answers for it: health goes on steering, operators are answered.

use super::body::{ABSENT, Agent, CHECK_PATIENCE, FILES_PAUSE, RECONCILE, pause_after};
use super::request::Request;
use super::tasks::{Carried, PendingWord, PlanFor, ReadFor, Reading, Task, Work, ended, filed, vrrp_found};
use super::waiting::{Edited, Held};
use super::words::WORD_PATIENCE;
use crate::agent::apply::interim::Baseline;
use crate::agent::apply::push::Pushed;
use crate::agent::node::planning::Planned;
use crate::agent::node::serving::Ended;
use crate::agent::node::word::word_waits;
use crate::agent::orders::order::{Order, OrderOutcome};
use crate::agent::outcome::applied::{Applied, How};
use crate::agent::outcome::attempt::Attempt;
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::steering::steps_of;
use crate::agent::tell::troubles::Matter;
use crate::store::Journal;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinError;

/// What HAProxy did not take is sent again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// A new worker begins with what was written before the word, and is told at once.
const RELOAD_NOTE: &str = "a change is under way: where it reloads HAProxy, the new worker has this a moment (some 0.2 s) \
                           after it begins";
/// An agent that is to stop waits so long for the end of an order: a reload is proven by then.
const LAST_ORDER: Duration = Duration::from_secs(30);

impl Agent {
    /// Whether nothing is under way.
    pub(super) fn is_free(&self) -> bool {
        self.may_change() && self.push.is_none()
    }

    /// Whether nobody writes into the history, nor keepalived.conf.
    pub(super) fn may_change(&self) -> bool {
        !self.is_changing() && self.filing.is_none() && self.vrrp.is_none()
    }

    /// Whether an order of the engine's is under way, or what it is for is being read.
    pub(super) fn is_changing(&self) -> bool {
        self.work.is_some() || self.reading.is_some()
    }

    /// Likewise, and something else is to serve.
    fn is_changing_revision(&self) -> bool {
        let is_read = matches!(&self.reading, Some(Reading { what_for: ReadFor::Change(_), .. }));
        is_read || matches!(&self.work, Some(Work { what: Task::Change(_), .. }))
    }

    /// Whether a request must wait for the end of what is under way.
    pub(super) fn must_wait(&self, request: &Request) -> bool {
        match request {
            Request::Apply(..) | Request::Rollback(..) | Request::Expire(_) | Request::Plan(_) => !self.is_free(),
            // They are about the revision that is just being written.
            Request::Confirm(..) | Request::Tag(..) => self.is_changing_revision() || self.filing.is_some(),
            Request::Server { .. } | Request::Vip { .. } | Request::Canary { .. } | Request::Refresh(_) => false,
        }
    }

    /// Starts what is due.
    pub(super) async fn set_out(&mut self) {
        self.send_ahead();
        self.words.write(&self.node);
        let is_due = self.follow_at.is_some_and(|at| at <= Instant::now()) || !self.words.pending.is_empty();
        if is_due && self.is_free() {
            self.follow().await;
        }
    }

    /// Starts the push, where one is due.
    pub(super) fn send_ahead(&mut self) {
        let now = Instant::now();
        if self.push.is_none() && self.push_at.is_some_and(|at| at <= now) {
            self.push_at = None;
            let (push, is_followed) = self.node.begin_push();
            if is_followed {
                self.follow_at.get_or_insert(self.follow_not_before.max(now + FILES_PAUSE));
            }
            match push {
                Some(push) => self.push = Some(tokio::spawn(push.carry_out())),
                None => self.answer_words(),
            }
            self.tell_guards();
            self.push_not_before = pause_after(now);
        }
    }

    /// Brings weights, states and drift to HAProxy, and its files up to date.
    async fn follow(&mut self) {
        self.follow_at = None;
        let words = std::mem::take(&mut self.words.pending);
        let began = Instant::now();
        let is_audit = began >= self.reconcile_at;
        if is_audit {
            self.look_at_budgets();
        }
        if !self.node.is_settled {
            let result = self.node.alone().reconcile().await;
            self.followed(began, words, result, is_audit).await;
            return;
        }
        let mut order = self.node.begin_reconcile(false);
        // Where HAProxy was not seen to have a word, the whole comparison is to prove it.
        let is_told = |word: &PendingWord| word.is_seen && self.node.has_followed_word(&word.id);
        order.is_for_files &= !is_audit && words.iter().all(is_told) && !self.node.troubles.has(Matter::Haproxy);
        self.start(order, Task::Reconcile { words, is_audit });
    }

    /// What follows from how HAProxy followed.
    async fn followed(
        &mut self,
        began: Instant,
        words: Vec<PendingWord>,
        result: Result<Report, Attempt>,
        is_audit: bool,
    ) {
        // Counted from the end: a HAProxy that hangs is not asked attempt after attempt.
        let now = Instant::now();
        self.reconcile_at = match &result {
            // It may be starting at this moment.
            Ok(report) if report.applied.how == How::Start => now + ABSENT,
            // Weights that move all the time put no audit off; one that was asked for while this one ran is made.
            Ok(_) if !is_audit || self.reconcile_at > began => self.reconcile_at,
            Ok(_) | Err(Attempt::Failed(_)) => now + RECONCILE,
            // Something structural differs (HAProxy was reloaded by hand with another file): after the gap. Or `haproxy -c`
            // takes its time, for a minute at most: its verdict is looked for meanwhile.
            Err(Attempt::TooSoon(at)) => (*at).min(now + RECONCILE),
        };
        self.follow_not_before = pause_after(began);
        self.tell_guards();
        let is_complete = result.is_err() || !self.node.troubles.has(Matter::History);
        for word in words {
            self.words.answer(word, result.clone(), &mut self.node);
        }
        if !is_complete && now >= self.history_at && self.may_change() {
            self.history_at = now + RECONCILE;
            self.complete_history().await;
        }
        // After HAProxy, and not with each of its weights.
        if is_audit {
            self.look_at_vrrp();
        }
    }

    /// Hands the engine an order.
    pub(in crate::agent) fn start(&mut self, order: Order, what: Task) {
        let known = match &what {
            Task::Reconcile { .. } => Baseline::of(&order.desired),
            Task::Change(_) | Task::Plan(..) => Baseline::of(&self.node.steering.in_force(&self.node.serving)),
        };
        self.node.known = Some(known);
        let stand_in = self.node.engine.stand_in();
        let writes = stand_in.writes;
        let mut engine = Box::new(std::mem::replace(&mut self.node.engine, stand_in));
        let (file, order) = (order.sources.digest, Box::new(order));
        let (books, runtime) = (self.node.books(), Handle::current());
        // On a thread of its own: a disk that takes its time must keep none of the runtime's waiting.
        let task = tokio::task::spawn_blocking(move || {
            let outcome = runtime.block_on(order.carry_out(&mut engine, books));
            (engine, order, outcome)
        });
        self.work = Some(Work { task, what, writes, file });
    }

    /// The engine is back.
    pub(super) async fn work_ended(&mut self, ended: Result<Carried, JoinError>) {
        let Some(Work { task: _, what, writes, file: _ }) = self.work.take() else { return };
        self.node.known = None;
        match ended {
            Ok((mut engine, order, outcome)) => {
                engine.relieve(&self.node.engine, writes);
                let stand_in = std::mem::replace(&mut self.node.engine, *engine);
                // With thousands of servers to forget a picture of HAProxy takes as long as a weight.
                tokio::task::spawn_blocking(move || drop(stand_in));
                self.order_ended(what, order, outcome).await;
            }
            Err(broken) => self.order_broke(what, &broken),
        }
        self.go_on().await;
    }

    async fn order_ended(&mut self, what: Task, order: Box<Order>, outcome: OrderOutcome) {
        match (what, outcome) {
            (Task::Reconcile { words, is_audit }, OrderOutcome::Applied(result)) => {
                let began = order.began;
                tokio::task::spawn_blocking(move || drop(order));
                let result = self.node.end_reconcile(began, result);
                self.followed(began, words, result, is_audit).await;
            }
            (Task::Change(waiters), OrderOutcome::Changed(changed)) => {
                let Ended { result, vrrp } = self.node.end(*order, *changed);
                match vrrp {
                    Some(change) => self.write_vrrp(change, *waiters, result),
                    None => self.change_ended(*waiters, result).await,
                }
            }
            (Task::Plan(plan_for, vrrp), OrderOutcome::Planned(planned)) => {
                let sources = order.sources;
                let planned = planned.map(|prepared| Planned { prepared, sources, vrrp }).map_err(Attempt::from);
                self.planned(plan_for, planned).await;
            }
            _ => unreachable!("an order keeps its kind"),
        }
    }

    /// A bug of ours must not end the agent: who stood in for the engine takes its place.
    fn order_broke(&mut self, what: Task, broken: &JoinError) {
        tracing::error!("an apply broke off, this is a bug of hapilot: {broken}");
        self.node.engine.news.clear();
        self.node.engine.stands_in = false;
        self.node.engine.checks.patience = Some(CHECK_PATIENCE);
        self.node.read_ledger_again();
        self.node.engine.journal = (!self.node.is_observer()).then(|| Journal::of(&self.node.ledger.state));
        let failed = Failed::refused("this broke off by a bug of hapilot; see its log, and `hapilot status`");
        let replies = match what {
            Task::Reconcile { words, .. } => words.into_iter().map(|word| word.reply).collect(),
            Task::Change(waiters) => waiters.into_replies(),
            Task::Plan(PlanFor::Asked(reply), _) => vec![reply],
            Task::Plan(PlanFor::Saved(_), _) => vec![],
        };
        replies.into_iter().for_each(|reply| drop(reply.send(Err(failed.clone()))));
        self.reconcile_at = Instant::now() + RECONCILE;
    }

    /// HAProxy took what was sent ahead.
    pub(in crate::agent) async fn pushed(&mut self, pushed: Pushed) {
        self.push = None;
        self.node.end_push(&pushed);
        let Pushed { done, seen, is_whole } = pushed;
        // While the engine is away no comparison follows that would mend the rest.
        if !is_whole || self.is_changing() && self.node.steering.has_unproven_words() {
            self.push_at = Some(Instant::now() + AGAIN);
        }
        for word in &mut self.words.pending {
            word.steps.extend(steps_of(&self.node.serving.config, &word.id, &done));
            word.is_seen |=
                seen.iter().any(|seen| self.node.steering.has_word(&self.node.serving.config, seen, &word.id));
        }
        self.answer_words();
        self.go_on().await;
    }

    /// Who said what HAProxy had before need not wait for its files; nor, while the engine is away, who said what it has by
    /// now.
    fn answer_words(&mut self) {
        let is_away = !self.may_change();
        for word in std::mem::take(&mut self.words.pending) {
            let is_answered = word.is_seen && (is_away || word.steps.is_empty());
            if !is_answered || !self.node.has_followed_word(&word.id) {
                match is_away && word.began.elapsed() >= WORD_PATIENCE {
                    true => drop(word.reply.send(Err(word_waits(&self.node, &word.id)))),
                    false => self.words.pending.push(word),
                }
                continue;
            }
            let mut report = Report::new(Applied::nothing(), self.node.revision(), String::new(), word.began.elapsed());
            if self.is_changing_revision() {
                report.notes.push(RELOAD_NOTE.to_owned());
            }
            self.words.answer(word, Ok(report), &mut self.node);
            self.follow_at.get_or_insert(self.follow_not_before.max(Instant::now() + FILES_PAUSE));
        }
    }

    /// Who has waited long enough is answered, whatever hangs.
    pub(super) fn answer_late_words(&mut self) {
        if let Some(Work { what: Task::Reconcile { words, .. }, .. }) = &mut self.work {
            let late = words.extract_if(.., |word| word.began.elapsed() >= WORD_PATIENCE);
            self.words.pending.extend(late);
        }
        if self.words.pending.iter().any(|word| word.began.elapsed() >= WORD_PATIENCE) {
            self.answer_words();
        }
    }

    /// When somebody has waited long enough.
    pub(super) fn next_late_word(&self) -> Option<Instant> {
        let carried = match &self.work {
            Some(Work { what: Task::Reconcile { words, .. }, .. }) => words.as_slice(),
            _ => &[],
        };
        // Else the comparison that follows at once answers them.
        let waits = !self.may_change();
        let waiting = self.words.pending.iter().chain(carried).filter(|_| waits).map(|word| word.began + WORD_PATIENCE);
        waiting.chain(self.words.answers.iter().map(|answer| answer.until)).min()
    }

    /// What waited for the end of something.
    pub(super) async fn go_on(&mut self) {
        // A verdict that will never come (somebody else took it, or its check was given up) must hold nothing up.
        if !self.is_changing() && self.node.engine.checks.awaited().is_none() {
            if let Some(postponed) = self.postponed.as_mut().filter(|postponed| postponed.for_verdict) {
                postponed.at = Instant::now();
            }
            let plans = std::mem::take(&mut self.plans).into_iter();
            self.held.extend(plans.map(|reply| Held::of(Request::Plan(reply), &self.node)));
        }
        let mut held = std::mem::take(&mut self.held).into_iter().peekable();
        loop {
            // In the order in which they came: a file that is saved again and again keeps no operator waiting.
            let edited = self.edited.filter(|edited| held.peek().is_none_or(|held| edited.at < held.since));
            if self.is_free()
                && let Some(Edited { why, at: _ }) = edited
            {
                self.edited = None;
                self.file_changed(why).await;
            }
            let Some(next) = held.next() else { break };
            self.answer_in_turn(next).await;
        }
    }

    /// HAProxy has judged what waits.
    pub(super) async fn verdict_came(&mut self) {
        self.resume().await;
        for reply in std::mem::take(&mut self.plans) {
            match self.is_free() {
                true => self.ask(reply),
                false => self.held.push(Held::of(Request::Plan(reply), &self.node)),
            }
        }
        if self.is_free() && self.node.engine.checks.has_verdict() {
            self.node.engine.checks.forget_change();
        }
    }

    /// The end of what is under way, before the agent's own.
    pub(super) async fn end_work(&mut self) {
        self.held.clear();
        let last = tokio::time::Instant::now() + LAST_ORDER;
        while self.work.is_some() {
            self.edited = None;
            match tokio::time::timeout_at(last, ended(self.work.as_mut())).await {
                Ok(ended) => self.work_ended(ended).await,
                Err(_) => break,
            }
        }
        if self.vrrp.is_some()
            && let Ok(found) = tokio::time::timeout_at(last, vrrp_found(self.vrrp.as_mut())).await
        {
            self.vrrp_ended(found).await;
        }
        if self.filing.is_some()
            && let Ok(ended) = tokio::time::timeout_at(last, filed(self.filing.as_mut())).await
        {
            self.remark_filed(ended).await;
        }
        self.words.close(&mut self.node).await;
        self.words.send(&self.node);
        let kept = match self.work.take() {
            Some(Work { what: Task::Reconcile { words, .. }, .. }) => words,
            _ => vec![],
        };
        for PendingWord { id, reply, .. } in kept.into_iter().chain(std::mem::take(&mut self.words.pending)) {
            let text = format!("the agent stops; what you said of {id} is kept, and HAProxy follows at the next start");
            let _ = reply.send(Err(Failed::refused(text)));
        }
    }
}
