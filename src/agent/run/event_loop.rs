//! The loop of the running agent: the only reader of the clock, and the one place where all events meet.
//!
//! Events come from the file watch, signals, probes, requests of the command line and time. Probes, pushes and the
//! engine's orders run beside it (`work`); their ends are events. Nothing here decides: `Fleet` says what is due, `Node`
//! what follows.

use super::body::{
    Agent, CHECK_PATIENCE, LOOK, LOOK_PAUSES, MAX_LOOK_PAUSE, RECONCILE, RETRY, SEEN, WEIGHTS, since_1970,
};
use super::request::{Reply, Request, VipVerb};
use super::soak::look_at_soak;
use super::tasks::{self, PendingWord};
use super::waiting::{Aim, Held};
use super::words::WORD_PATIENCE;
use crate::agent::history::last_results::LastResults;
use crate::agent::history::remark::Remark;
use crate::agent::history::spending::spent_by;
use crate::agent::history::trial::guard_again;
use crate::agent::node::alert_charge::attend_alerts;
use crate::agent::node::following::{log_start, log_stop, tell_failure};
use crate::agent::outcome::intent::{AGENT, Intent};
use crate::agent::outcome::report::{Failed, Report};
use crate::agent::picture::serving_view::ServingView;
use crate::agent::picture::snapshot_parts::SnapshotParts;
use crate::agent::probes::wanted::DueProbe;
use crate::agent::steering::log_transition;
use crate::agent::tell::guards::{GuardNews, guard_news};
use crate::agent::tell::troubles::Matter;
use crate::agent::vip::vips::Vips;
use crate::fleet::Learnt;
use crate::health::ProbeKind;
use crate::sys;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

impl Agent {
    /// Runs until SIGTERM or SIGINT. HAProxy serves on afterwards.
    ///
    /// # Errors
    /// The file watch or the signals cannot be set up.
    pub async fn run(mut self) -> Result<(), Failed> {
        let watched = self.node.watched();
        let (mut watch, mut edits) = sys::watch::Watch::new(&watched)
            .map_err(|e| Failed::refused(format!("the operator's file cannot be watched: {e}")))?;
        let mut signals =
            sys::signals::Signals::new().map_err(|e| Failed::refused(format!("signals cannot be received: {e}")))?;
        attend_alerts(&mut self.node);
        guard_again(&self.node.file.place, &self.node.ledger);
        if self.node.ledger.is_overdue()
            && let Err(attempt) = self.node.alone().expire(AGENT).await
        {
            tell_failure(&self.node.bulletin, self.node.revision(), &attempt, None);
        }
        match self.node.alone().settle().await {
            Ok(report) => log_start(&report, &self.node.bulletin),
            Err(attempt) => {
                tell_failure(&self.node.bulletin, self.node.revision(), &attempt, None);
                self.try_again(&attempt, Intent::of_agent(None));
            }
        }
        self.node.engine.checks.patience = Some(CHECK_PATIENCE);
        self.node.alone().lets_the_file_wait().await;
        if self.node.file.is_newer_than_start() {
            self.file_changed("the file changed").await;
        }
        self.node.attend_vips();
        self.look_at_budgets();
        self.publish();
        let mut watched_at = Instant::now();
        loop {
            self.set_out().await;
            self.listen();
            self.probes.start(&mut self.node);
            let wake = self.next_wake();
            let verdict = self.awaited_verdict();
            let paths_may_differ = tokio::select! {
                Some(request) = self.requests.recv() => {
                    // What it changes comes with the end of an order.
                    self.answer(request).await;
                    false
                }
                Some(finished) = self.probes.running.join_next() => {
                    self.probed(finished);
                    false
                }
                ended = tasks::ended(self.work.as_mut()) => {
                    self.work_ended(ended).await;
                    true
                }
                // Its order knows what the push has brought.
                read = tasks::read(self.reading.as_mut().filter(|_| self.push.is_none())) => {
                    self.sources_read(read).await;
                    true
                }
                done = tasks::pushed(self.push.as_mut()) => {
                    self.pushed(done).await;
                    false
                }
                found = tasks::vrrp_found(self.vrrp.as_mut()) => {
                    self.vrrp_ended(found).await;
                    true
                }
                ended = tasks::filed(self.filing.as_mut()) => {
                    self.remark_filed(ended).await;
                    true
                }
                ended = tasks::written(self.words.writing.as_mut()) => {
                    self.words.written(ended, &mut self.node);
                    false
                }
                () = changed(self.node.vips.as_mut()) => {
                    self.node.attend_vips();
                    false
                }
                batch = self.hearing.next() => {
                    self.hear(batch);
                    self.usage.keep().await;
                    false
                }
                Some(()) = edits.recv() => {
                    self.file_changed("the file changed").await;
                    true
                }
                signal = signals.next() => match signal {
                    sys::signals::Request::Reload => {
                        self.file_changed("SIGHUP").await;
                        true
                    }
                    sys::signals::Request::Stop => break,
                },
                () = tokio::time::sleep_until(wake.into()) => {
                    self.tick().await;
                    false
                }
                () = cancelled(verdict) => {
                    self.verdict_came().await;
                    true
                }
            };
            // Costs a call into the kernel for each directory: not after each of a thousand probes a second.
            if paths_may_differ || watched_at.elapsed() >= RECONCILE {
                watched_at = Instant::now();
                watch.set_paths(&self.node.watched());
            }
            self.node.look_at_vips();
            attend_alerts(&mut self.node);
            if self.look_at <= Instant::now() {
                self.look_at_outages();
            }
        }
        self.end_work().await;
        log_stop(&self.node);
        if let Some(desk) = self.node.alerts.take() {
            desk.close().await;
        }
        if let Some(results) = self.results.take() {
            results.close().await;
        }
        if let Some(spending) = self.spending.take() {
            spending.close(spent_by(&self.node.steering.fleet)).await;
        }
        if let Some(models) = self.models.take() {
            models.close(self.node.steering.models.known().clone()).await;
        }
        if let Some(canaries) = self.canaries.take() {
            canaries.close(self.node.steering.canaries.to_save(SystemTime::now())).await;
        }
        if let Some(soaks) = self.soaks.take() {
            soaks.close(self.node.steering.soaking.to_save(SystemTime::now())).await;
        }
        if let Some(git) = self.git.take() {
            git.close().await;
        }
        self.usage.close().await;
        Ok(())
    }

    /// The verdict of `haproxy -c` that somebody waits for.
    fn awaited_verdict(&self) -> Option<CancellationToken> {
        // One that comes while something else is under way is taken when that has ended.
        let is_awaited = self.is_free() && (self.postponed.is_some() || !self.plans.is_empty());
        self.node.engine.checks.awaited().filter(|_| is_awaited)
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let fleet = self.node.steering.fleet.next_wake().map(|at| now + at.since(self.node.now()));
        let keys = self.node.steering.keyring.next_wake().map(|at| now + at.since(self.node.now()));
        let canaries = self.node.steering.canaries.next().map(|at| now + at.since(self.node.now()));
        let soak = self.node.steering.soaking.next(&self.node.serving.config);
        let soak = soak.map(|at| now + at.since(self.node.now()));
        let results = self.results.as_ref().and_then(LastResults::next_wake);
        let git = self.git.as_ref().and_then(|git| git.next_wake(&self.node.ledger));
        let push = self.push_at.filter(|_| self.push.is_none());
        let places = self.probes.queue.next_wake();
        let words = self.next_late_word();
        let always = [
            fleet,
            keys,
            canaries,
            soak,
            results,
            git,
            self.node.vips.as_ref().map(Vips::look_at),
            push,
            places,
            words,
            Some(self.weights_at),
        ];
        // What needs the engine waits for it: its end is an event of its own.
        let word = self.node.steering.overrides.next_end(jiff::Timestamp::now()).map(|left| now + left);
        let postponed = self.postponed.as_ref().map(|postponed| postponed.at);
        let deadline = self.node.ledger.deadline().map(|(_, left)| (now + left).max(self.expire_at));
        let of_engine = [Some(self.reconcile_at), self.follow_at, word, postponed, deadline];
        let of_engine = of_engine.into_iter().flatten().filter(|_| self.is_free());
        always.into_iter().flatten().chain(of_engine).min().unwrap_or(now + RECONCILE)
    }

    async fn tick(&mut self) {
        let now = self.node.now();
        self.node.steering.fleet.set_clock(since_1970(), now);
        let due = self.node.steering.fleet.due(now);
        for (id, transition) in &due.transitions {
            log_transition(id, transition, &self.node.bulletin);
        }
        let instant = Instant::now();
        due.probes.into_iter().for_each(|(id, kind)| self.probes.queue.push(DueProbe { id, kind, key: None }, instant));
        let (tests, learnt) = self.node.steering.keyring.due(|id| !self.node.steering.fleet.is_silent(id), now);
        let test = |(id, key)| DueProbe { id, kind: ProbeKind::Models, key: Some(key) };
        tests.into_iter().map(test).for_each(|wanted| self.probes.queue.push(wanted, instant));
        self.heed(&learnt);
        if let Some(results) = &mut self.results {
            let config = &self.node.serving.config;
            results.keep(|server| server.parse().is_ok_and(|id| config.server(&id).is_some())).await;
        }
        if let Some(spending) = &mut self.spending {
            spending.keep(|| spent_by(&self.node.steering.fleet)).await;
        }
        if let Some(models) = &mut self.models {
            models.keep(|| self.node.steering.models.known().clone()).await;
        }
        self.look_at_canaries().await;
        look_at_soak(self).await;
        self.usage.keep().await;
        self.node.troubles.set(Matter::Usage, self.usage.problem());
        if let Some(git) = &mut self.git {
            git.keep(&self.node.serving.config, &self.node.file.place, &self.node.ledger).await;
            match git.is_asked_for() {
                true => self.node.troubles.set(Matter::Git, git.problem()),
                false => self.node.troubles.withdraw(Matter::Git, "the file names no git repository any more"),
            }
        }
        if self.node.ledger.provisional().is_none() {
            self.node.troubles.set(Matter::WayBack, None);
        }
        self.answer_late_words();
        self.words.send(&self.node);
        self.node.look_at_disk();
        let word_ended =
            self.node.steering.overrides.next_end(jiff::Timestamp::now()).is_some_and(|left| left.is_zero());
        let is_turn = instant >= self.weights_at;
        if is_turn {
            self.weights_at = instant + self.node.steering.fleet.touch_next(WEIGHTS);
        }
        if due.weights_may_move || is_turn {
            self.follow_soon();
        }
        if instant >= self.reconcile_at || word_ended {
            self.follow_at = Some(instant);
        }
        if self.is_free() && self.postponed.as_ref().is_some_and(|postponed| postponed.at <= instant) {
            self.resume().await;
        }
        // Its verdict took its time.
        if self.is_free() && self.node.file.is_unplanned() && !self.node.engine.checks.is_checking() {
            self.file_changed("HAProxy has judged the file").await;
        }
        if self.is_free() && instant >= self.expire_at && self.node.ledger.is_overdue() {
            self.expire_at = instant + RETRY;
            let file = self.node.file.place.digest();
            self.change(Aim::Expire, Intent::of_agent(None), vec![], file).await;
        }
    }

    /// Marks that HAProxy must follow: at once, or when it has had its pause.
    pub(super) fn follow_soon(&mut self) {
        self.push_at.get_or_insert(self.push_not_before);
    }

    /// Logs each guard once when it begins to hold weights back, and once when it ends.
    pub(super) fn tell_guards(&mut self) {
        let events = self.node.steering.fleet.guards(self.node.now());
        let GuardNews { events: news, reworded } = guard_news(&self.guards_told, &events);
        news.into_iter().for_each(|event| self.node.bulletin.tell(event));
        reworded.into_iter().for_each(|event| self.node.bulletin.reword(event));
        self.guards_told = events;
    }

    /// Follows what was learnt of keys.
    pub(super) fn heed(&mut self, learnt: &Learnt) {
        learnt.told().for_each(|event| self.node.bulletin.tell(event));
        if !learnt.events.is_empty() {
            let now = self.node.now();
            self.node.steering.tell_keyless(&self.node.serving.config, now);
        }
        let now = self.node.now();
        learnt.ask_soon.iter().for_each(|id| self.node.steering.fleet.ask_soon(id, now));
        if learnt.is_rotated {
            self.node.steering.keys_moved = true;
            self.follow_soon();
        }
    }

    pub(super) async fn answer(&mut self, request: Request) {
        let request = match request.for_node(&self.node) {
            Ok(request) => request,
            Err(reply) => {
                let _ = reply.send(Err(Failed::refused(
                    "this agent only observes (`hapilot run --observe`); start it without that to change anything",
                )));
                return;
            }
        };
        self.answer_in_turn(Held::of(request, &self.node)).await;
    }

    pub(super) async fn answer_in_turn(&mut self, held: Held) {
        if self.must_wait(&held.request) {
            self.held.push(held);
            return;
        }
        let Held { request, since: _, file } = held;
        match request {
            Request::Apply(intent, reply) => self.change(Aim::File, intent, vec![reply], file).await,
            Request::Rollback(to, intent, reply) => self.change(Aim::Rollback(to), intent, vec![reply], file).await,
            Request::Server { id, state, weight, period, actor, reply } => {
                match self.node.steering.say(&self.node.serving.config, &id, state, weight, period, &actor) {
                    Ok(said) => {
                        self.words.pending.push(PendingWord {
                            id,
                            reply,
                            began: Instant::now(),
                            steps: vec![],
                            is_seen: false,
                        });
                        self.push_at = Some(Instant::now());
                        self.send_ahead();
                        self.node.bulletin.tell(said);
                    }
                    Err(failed) => drop(reply.send(Err(failed))),
                }
            }
            Request::Confirm(actor, reply) => self.file(Remark::Confirm(actor), reply),
            Request::Expire(reply) => self.change(Aim::Expire, Intent::of_agent(None), vec![reply], file).await,
            Request::Tag(revision, name, actor, reply) => self.file(Remark::Tag(revision, name, actor), reply),
            Request::Canary { name, word, actor, reply } => self.say_to_canary(&name, word, &actor, reply),
            Request::Vip { names, verb, actor, reply } => {
                let result = match verb {
                    VipVerb::Release { force } => self.node.release(&names, force, &actor),
                    VipVerb::Reclaim => self.node.reclaim(&names, &actor),
                };
                match result {
                    Ok((report, kept)) => {
                        let write = tokio::task::spawn_blocking(move || kept.write());
                        drop(tokio::spawn(answer_when_kept(report, write, reply)));
                    }
                    Err(failed) => drop(reply.send(Err(failed))),
                }
            }
            Request::Plan(reply) => self.ask(reply),
            Request::Refresh(reply) => {
                self.publish();
                let _ = reply.send(());
            }
        }
    }

    /// Tells which backends cannot serve, and which can again; forgets what nobody looks at any more.
    fn look_at_outages(&mut self) {
        let begun = Instant::now();
        let names = self.node.engine.renderer.names_seen(&self.node.serving.config);
        let known = self.outages.clone();
        let view = ServingView::of(&self.node, &names, &known);
        if let Some(found) = view.outages() {
            let news = self.outages.note(&found, self.node.engine.seen, begun);
            let fallbacks = self.fallbacks.note(&view.tiers(), begun);
            news.events.into_iter().chain(fallbacks).for_each(|event| self.node.bulletin.tell(event));
            news.reworded.into_iter().for_each(|event| self.node.bulletin.reword(event));
            if news.wants_look {
                self.reconcile_at = begun;
            }
        }
        if self.seen_until <= begun {
            // Each server that changes would be kept as it was for it, too.
            self.seen.send_if_modified(|seen| seen.take().is_some());
        }
        self.look_at = Instant::now() + LOOK.max((begun.elapsed() * LOOK_PAUSES).min(MAX_LOOK_PAUSE));
    }

    /// Hands out what is known now.
    fn publish(&mut self) {
        if self.look_at <= Instant::now() {
            self.look_at_outages();
        }
        self.seen.send_replace(Some(Arc::new(SnapshotParts::of(&self.node, &self.outages, self.pending()))));
        self.seen_until = Instant::now() + SEEN;
    }
}

/// When this is done; never, where there is nothing.
async fn cancelled(token: Option<CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// News of the virtual addresses; never, where there are none.
async fn changed(vips: Option<&mut Vips>) {
    match vips {
        Some(vips) => vips.changed().await,
        None => std::future::pending().await,
    }
}

/// What was said is done, and is written down: or it is not.
pub(super) async fn answer_when_kept<T>(mut report: Report, write: JoinHandle<Result<T, String>>, reply: Reply) {
    let problem = match tokio::time::timeout(WORD_PATIENCE, write).await {
        Ok(Ok(Ok(_))) => None,
        Ok(Ok(Err(why))) => Some(why),
        Ok(Err(broken)) => Some(format!("a bug of hapilot: {broken}")),
        Err(_) => Some(format!("the disk has not answered for {} s", WORD_PATIENCE.as_secs())),
    };
    report.notes.extend(problem.map(|why| format!("this is not kept over a restart of the agent: {why}")));
    // Whoever asked may be gone.
    let _ = reply.send(Ok(report));
}
