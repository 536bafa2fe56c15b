//! The loop of the running agent: the only reader of the clock, and the one place where all events meet.
//!
//! Events come from the file watch, signals, probes, requests of the command line and time; each is handled to its
//! end before the next. Probes run beside it. Nothing here decides: `Fleet` says what is due, `Node` what follows.

use super::apply::How;
use super::asking::{Asked, Wanted, places};
use super::attempt::Attempt;
use super::following::{log_failure, log_start, log_transition};
use super::hearing::Hearing;
use super::intent::Intent;
use super::keyring::Learnt;
use super::last_results::LastResults;
use super::node::Node;
use super::outage::Outages;
use super::queue::Queue;
use super::report::Failed;
use super::request::{Handle, Reply, Request, VipVerb};
use super::snapshot::Snapshot;
use super::spending::Spending;
use super::troubles::Matter;
use super::vips::Vips;
use crate::event::{Event, Kind, Severity};
use crate::health::{GuardEvent, Observation, ProbeKind};
use crate::model::Digest;
use crate::probe::Prober;
use crate::sys;
use crate::vip::Turn;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Desired, files and runtime are compared this often, whatever else happens.
const RECONCILE: Duration = Duration::from_secs(5);
/// A HAProxy that is not there is looked for this often.
const ABSENT: Duration = Duration::from_secs(1);
/// Weights are decided anew this often, whatever else happens; how often servers are compared is the fleet's affair.
const WEIGHTS: Duration = Duration::from_secs(5);
/// After HAProxy has followed, the next time comes after so many times as long as that took: a storm of transitions
/// (a start, a lost network) costs a fifth of one core at most, and a single one is never delayed.
const FOLLOW_PAUSES: u32 = 4;
/// The pause is never longer than this, however long a round took.
const MAX_FOLLOW_PAUSE: Duration = Duration::from_secs(1);
/// A snapshot is published at most this often between requests, which get a fresh one.
const PUBLISH: Duration = Duration::from_millis(250);
/// And after so many times as long as it took to make: 1 % of one core, whatever the number of servers.
const PUBLISH_PAUSES: u32 = 100;
/// A file that could not be served is tried again after this: the port may be free by then.
const RETRY: Duration = Duration::from_secs(10);
/// The loop waits so long for `haproxy -c`, which takes 20 ms for a common file; a verdict that comes later finds the
/// change again.
const CHECK_PATIENCE: Duration = Duration::from_millis(300);
/// Likewise before anything serves, when there is nothing to steer yet.
const FIRST_CHECK_PATIENCE: Duration = Duration::from_secs(3);
/// How often a file looks whether its turn among the nodes has come.
const ORDER_LOOK: Duration = Duration::from_millis(250);
/// Who applies a file is answered after this at the latest; the file waits on.
const ORDER_PATIENCE: Duration = Duration::from_secs(75);
/// Requests that may wait; the command line sees "busy" beyond it.
const MAX_REQUESTS: usize = 64;

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    pub(super) node: Node,
    pub(super) prober: Arc<Prober>,
    pub(super) probes: JoinSet<(Wanted, Option<Asked>, Observation)>,
    pub(super) waiting: Queue,
    /// `None`: it only observes, and writes no file.
    pub(super) results: Option<LastResults>,
    /// Likewise.
    spending: Option<Spending>,
    pub(super) hearing: Hearing,
    requests: mpsc::Receiver<Request>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// A change that waits for its reload, and who waits for it.
    postponed: Option<Postponed>,
    /// Who asked what an apply would do, and waits for HAProxy's verdict.
    plans: Vec<Reply>,
    reconcile_at: Instant,
    weights_at: Instant,
    /// The guards that the log knows to be at work.
    guards_told: Vec<GuardEvent>,
    outages: Outages,
    /// Something has changed that HAProxy does not know yet; from when on it may be told.
    follow_at: Option<Instant>,
    /// Not before this, see [`FOLLOW_PAUSES`].
    follow_not_before: Instant,
    /// While HAProxy may not follow yet, weights alone go ahead, with pauses of their own.
    hasten_at: Option<Instant>,
    hasten_not_before: Instant,
    /// A rollback at the deadline that failed is tried again no sooner.
    expire_at: Instant,
    publish_at: Instant,
}

#[derive(Debug)]
struct Postponed {
    at: Instant,
    /// It waits for other nodes, since then.
    in_order_since: Option<Instant>,
    what: Change,
    intent: Intent,
    replies: Vec<Reply>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    File,
    Rollback(Option<u32>),
    Expire,
}

impl Agent {
    /// An agent around an opened node, and how to reach it.
    pub fn new(mut node: Node) -> (Self, Handle) {
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        let (snapshot, seen) = watch::channel(Arc::new(Snapshot::of(&node)));
        let now = Instant::now();
        let at_start = node.now();
        node.engine.checks.patience = Some(FIRST_CHECK_PATIENCE);
        node.fleet.set_clock(since_1970(), at_start);
        let keeps_files = !node.is_observer();
        let results = keeps_files.then(|| node.ledger.last_results());
        let spending = keeps_files.then(|| Spending::open(node.ledger.state.clone(), &mut node.fleet));
        let agent = Self {
            node,
            results,
            spending,
            hearing: Hearing::default(),
            prober: Arc::new(Prober::new()),
            probes: JoinSet::new(),
            waiting: Queue::new(places()),
            requests,
            snapshot,
            postponed: None,
            plans: vec![],
            reconcile_at: now + RECONCILE,
            weights_at: now + WEIGHTS,
            guards_told: vec![],
            outages: Outages::default(),
            follow_at: None,
            follow_not_before: now,
            hasten_at: None,
            hasten_not_before: now,
            expire_at: now,
            publish_at: now,
        };
        let unanswered = agent.node.engine.unanswered.clone();
        (agent, Handle { requests: sender, snapshot: seen, unanswered })
    }

    /// Runs until SIGTERM or SIGINT. HAProxy serves on afterwards.
    ///
    /// # Errors
    /// The file watch or the signals cannot be set up.
    pub async fn run(mut self) -> Result<(), Failed> {
        let watched = self.node.serving.watched(&self.node.place.file);
        let (mut watch, mut edits) = sys::watch::Watch::new(&watched)
            .map_err(|e| Failed::refused(format!("the operator's file cannot be watched: {e}")))?;
        let mut signals =
            sys::signals::Signals::new().map_err(|e| Failed::refused(format!("signals cannot be received: {e}")))?;
        self.node.guard_again();
        if self.node.is_overdue() {
            self.change(Change::Expire, Intent::of_agent(None), vec![]).await;
        }
        match self.node.settle().await {
            Ok(report) => log_start(&report, &self.node.bulletin),
            Err(attempt) => {
                log_failure(&attempt, None, &self.node.bulletin);
                self.try_again(&attempt, Intent::of_agent(None));
            }
        }
        self.node.engine.checks.patience = Some(CHECK_PATIENCE);
        self.node.lets_the_file_wait().await;
        if self.node.is_file_newer_than_start() {
            self.file_changed("the file changed").await;
        }
        self.node.attend_vips();
        self.publish();
        let mut watched_at = Instant::now();
        loop {
            self.listen();
            self.start_probes();
            let wake = self.next_wake();
            let verdict = self.awaited_verdict();
            let paths_may_differ = tokio::select! {
                Some(request) = self.requests.recv() => {
                    self.answer(request).await;
                    true
                }
                Some(finished) = self.probes.join_next() => {
                    self.probed(finished);
                    false
                }
                () = changed(self.node.vips.as_mut()) => {
                    self.node.attend_vips();
                    false
                }
                batch = self.hearing.next() => {
                    self.hear(batch);
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
                watch.set_paths(&self.node.serving.watched(&self.node.place.file));
            }
            self.node.look_at_vips();
            if self.publish_at <= Instant::now() {
                self.publish();
            }
        }
        self.node.log_stop();
        if let Some(results) = self.results.take() {
            results.close().await;
        }
        if let Some(spending) = &mut self.spending {
            spending.close(&self.node.fleet);
        }
        Ok(())
    }

    /// The verdict of `haproxy -c` that somebody waits for.
    fn awaited_verdict(&self) -> Option<CancellationToken> {
        let is_awaited = self.postponed.is_some() || !self.plans.is_empty();
        self.node.engine.checks.awaited().filter(|_| is_awaited)
    }

    /// HAProxy has judged what waits.
    async fn verdict_came(&mut self) {
        self.resume().await;
        for reply in std::mem::take(&mut self.plans) {
            self.answer_plan(reply).await;
        }
        if self.node.engine.checks.has_verdict() {
            self.node.engine.checks.forget_change();
        }
    }

    async fn answer_plan(&mut self, reply: Reply) {
        match self.node.plan_report().await {
            Err(Attempt::TooSoon(_)) if self.node.engine.checks.is_checking() => self.plans.push(reply),
            result => drop(reply.send(result.map_err(Attempt::into_failed))),
        }
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let fleet = self.node.fleet.next_wake().map(|at| now + at.since(self.node.now()));
        let word = self.node.overrides.next_end(jiff::Timestamp::now()).map(|left| now + left);
        let postponed = self.postponed.as_ref().map(|postponed| postponed.at);
        let deadline = self.node.trial().map(|(_, left)| (now + left).max(self.expire_at));
        let always = [self.reconcile_at, self.weights_at];
        let all = always.into_iter().chain(self.follow_at).chain(fleet).chain(word);
        let keys = self.node.keyring.next_wake().map(|at| now + at.since(self.node.now()));
        let results = self.results.as_ref().and_then(LastResults::next_wake);
        let all = all.chain(self.node.vips_wake());
        all.chain(keys).chain(results).chain(postponed).chain(deadline).chain(self.hasten_at).min().unwrap_or(now)
    }

    async fn tick(&mut self) {
        let now = self.node.now();
        self.node.fleet.set_clock(since_1970(), now);
        let due = self.node.fleet.due(now);
        for (id, transition) in &due.transitions {
            log_transition(id, transition, &self.node.bulletin);
        }
        due.probes.into_iter().for_each(|(id, kind)| self.waiting.push(Wanted { id, kind, key: None }));
        let (tests, learnt) = self.node.keyring.due(|id| !self.node.fleet.is_silent(id), now);
        let test = |(id, key)| Wanted { id, kind: ProbeKind::Models, key: Some(key) };
        tests.into_iter().map(test).for_each(|wanted| self.waiting.push(wanted));
        self.heed(&learnt);
        if let Some(results) = &mut self.results {
            let config = &self.node.serving.config;
            results.keep(|server| server.parse().is_ok_and(|id| config.server(&id).is_some())).await;
        }
        if let Some(spending) = &mut self.spending {
            spending.keep(&self.node.fleet);
        }
        let instant = Instant::now();
        if self.postponed.as_ref().is_some_and(|postponed| postponed.at <= instant) {
            self.resume().await;
        }
        if instant >= self.expire_at && self.node.is_overdue() {
            self.expire_at = instant + RETRY;
            self.change(Change::Expire, Intent::of_agent(None), vec![]).await;
        }
        let word_ended = self.node.overrides.next_end(jiff::Timestamp::now()).is_some_and(|left| left.is_zero());
        let is_reconciled = instant >= self.reconcile_at;
        let is_time = is_reconciled || instant >= self.weights_at;
        if due.weights_may_move {
            self.follow_soon();
        }
        if is_time || word_ended || self.follow_at.is_some_and(|at| at <= instant) {
            self.follow().await;
            // After HAProxy, and not with each of its weights.
            if is_reconciled {
                self.node.look_at_vrrp_file().await;
            }
        } else if self.hasten_at.is_some_and(|at| at <= instant) {
            self.node.hasten().await;
            self.hasten_at = None;
            self.hasten_not_before = pause_after(instant);
        }
    }

    /// Marks that HAProxy must follow: at once, or when it has had its pause; then weights alone go ahead.
    pub(super) fn follow_soon(&mut self) {
        self.follow_at.get_or_insert(self.follow_not_before);
        if self.follow_not_before > Instant::now() {
            self.hasten_at.get_or_insert(self.hasten_not_before);
        }
    }

    /// Brings weights, states and drift to HAProxy.
    async fn follow(&mut self) {
        let begun = Instant::now();
        let result = self.node.reconcile().await;
        // Counted from the end: a HAProxy that hangs must not keep requests waiting behind attempt after attempt.
        let now = Instant::now();
        self.weights_at = now + WEIGHTS;
        self.reconcile_at = match result {
            // It may be starting at this moment.
            Ok(report) if report.applied.how == How::Start => now + ABSENT,
            Ok(_) | Err(Attempt::Failed(_)) => now + RECONCILE,
            // Something structural differs (HAProxy was reloaded by hand with another file): after the gap.
            Err(Attempt::TooSoon(at)) => at,
        };
        self.follow_at = None;
        self.hasten_at = None;
        self.follow_not_before = pause_after(begun);
        self.tell_guards();
    }

    /// Logs each guard once when it begins to hold weights back, and once when it ends.
    fn tell_guards(&mut self) {
        let events = self.node.fleet.guards(self.node.now());
        let is_in = |events: &[GuardEvent], one: &GuardEvent| {
            events.iter().any(|other| (other.guard, &other.pool) == (one.guard, &one.pool))
        };
        let over = |event: &GuardEvent| event.pool.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
        for event in events.iter().filter(|event| !is_in(&self.guards_told, event)) {
            let text = format!("a guard holds weights of {} back: {}", over(event), event.guard);
            let told = Event::begins(Kind::Guard, Severity::Warning, over(event), text).about(event.guard);
            self.node.bulletin.tell(told.because(&event.why));
        }
        for event in self.guards_told.iter().filter(|event| !is_in(&events, event)) {
            let text = format!("the guard over {} is over: {}", over(event), event.guard);
            self.node.bulletin.tell(Event::ends(Kind::Guard, over(event), text).about(event.guard));
        }
        self.guards_told = events;
    }

    /// Follows what was learnt of keys.
    pub(super) fn heed(&mut self, learnt: &Learnt) {
        learnt.tell(&self.node.bulletin);
        if !learnt.events.is_empty() {
            self.tell_keyless();
        }
        let now = self.node.now();
        learnt.ask_soon.iter().for_each(|id| self.node.fleet.ask_soon(id, now));
        if learnt.is_rotated {
            self.follow_soon();
        }
    }

    async fn file_changed(&mut self, why: &str) {
        let intent = Intent::of_agent(Some(why));
        // A rollback that waits for its reload is not given up for a file that is as it was.
        let is_news = self.node.place.digest() != Some(Digest::of(&self.node.serving.toml));
        let waits_for_another = self.postponed.as_ref().is_some_and(|postponed| postponed.what != Change::File);
        let was_waiting = self.node.waiting().is_some();
        let waits = is_news && self.node.lets_the_file_wait().await;
        let problem = self.node.file_problem.clone();
        if self.node.is_file_rejected() {
            self.node.tell_rolled_back();
        } else if !waits && (is_news || !waits_for_another) {
            // An editor may write twice; a mistake is told once.
            self.change_again(Change::File, intent, vec![], problem.clone()).await;
        }
        if problem.is_some() && !was_waiting && self.node.file_problem.is_none() {
            let text = format!("{} can be served again, and is", self.node.place.file);
            self.node.bulletin.tell(Event::ends(Kind::Refused, "file", text));
        }
        // It may have been a key or a certificate of the revision that serves in the file's place.
        if self.node.file_problem.is_some()
            && let Err(attempt) = self.node.refresh().await
        {
            log_failure(&attempt, None, &self.node.bulletin);
        }
    }

    /// Carries a change out, or postpones it until its reload is due; the last one wins, all who wait get its answer.
    async fn change(&mut self, what: Change, intent: Intent, replies: Vec<Reply>) {
        self.change_again(what, intent, replies, None).await;
    }

    async fn change_again(&mut self, what: Change, mut intent: Intent, mut replies: Vec<Reply>, told: Option<String>) {
        let mut since = None;
        if let Some(before) = self.postponed.take() {
            // The watch over the file may come behind an operator's `apply` of it: while he waits, his words hold.
            let holds = before.what == what && !before.replies.is_empty() && intent.is_of_agent();
            intent = if holds { before.intent } else { intent };
            replies.extend(before.replies);
            since = before.in_order_since;
        }
        if what == Change::File && !intent.force {
            match self.node.its_turn() {
                Turn::Go => {}
                Turn::Wait(whom) => return self.wait_in_order(whom, intent, replies, since),
                Turn::Stop(why) => {
                    let help = self.node.place.command("apply --force");
                    let failed = Failed::refused(format!(
                        "{why}\n  help: mend the file; or, to serve it here all the same: {help}\nnothing was changed"
                    ));
                    self.node.order_wait = None;
                    self.node.file_problem = Some(failed.message.clone());
                    log_failure(&Attempt::Failed(failed.clone()), told.as_deref(), &self.node.bulletin);
                    self.try_again(&Attempt::Failed(failed.clone()), Intent { adopt: false, ..intent });
                    replies.into_iter().for_each(|reply| drop(reply.send(Err(failed.clone()))));
                    return;
                }
            }
        }
        self.node.order_wait = None;
        let result = match what {
            Change::File => self.node.apply_file(&intent).await,
            Change::Rollback(to) => self.node.roll_back(to, &intent).await,
            Change::Expire => self.node.expire(&intent.actor).await,
        };
        let result = match result {
            Err(Attempt::TooSoon(at)) => {
                match self.node.engine.checks.is_checking() {
                    true => tracing::info!("`haproxy -c` takes its time over the change, which waits for it"),
                    false => tracing::info!("the change needs a reload and waits for the gap between two"),
                }
                self.postponed = Some(Postponed { at, in_order_since: None, what, intent, replies });
                return;
            }
            Err(attempt) => {
                let told = told.as_ref().or(self.node.troubles.of(Matter::Haproxy)).map(String::as_str);
                log_failure(&attempt, told, &self.node.bulletin);
                if what == Change::File {
                    // Also after an operator's `apply`: the file waits on, though what he allowed was for this once.
                    self.try_again(&attempt, Intent { adopt: false, force: false, ..intent });
                }
                match attempt {
                    Attempt::Failed(failed) => Err(failed),
                    Attempt::TooSoon(_) => return,
                }
            }
            Ok(report) => Ok(report),
        };
        // Servers may be new, or have other keys.
        self.tell_keyless();
        for reply in replies {
            // Whoever asked may be gone.
            let _ = reply.send(result.clone());
        }
        self.publish_at = Instant::now();
    }

    /// Plans another try of a file without mistakes that was refused: what spoke against it may pass.
    fn try_again(&mut self, attempt: &Attempt, intent: Intent) {
        let may_pass = matches!(attempt, Attempt::Failed(failed) if failed.exit_code == 1);
        // A file that was rolled back is tried again when it changes, not before.
        if may_pass && !self.node.is_file_rejected() {
            let at = Instant::now() + RETRY;
            self.postponed = Some(Postponed { at, in_order_since: None, what: Change::File, intent, replies: vec![] });
        }
    }

    async fn resume(&mut self) {
        let told = self.node.file_problem.clone();
        if let Some(Postponed { what, intent, .. }) = &self.postponed {
            let (what, intent) = (*what, intent.clone());
            self.change_again(what, intent, vec![], told).await;
        }
    }

    /// A new file waits until the nodes that go first have proven it. Who asked is told after a minute that it waits on.
    fn wait_in_order(&mut self, whom: String, intent: Intent, mut replies: Vec<Reply>, since: Option<Instant>) {
        let now = Instant::now();
        let began = since.unwrap_or(now);
        if self.node.order_wait.as_ref() != Some(&whom) {
            tracing::info!("the file waits for its turn: {whom}");
        }
        if now.saturating_duration_since(began) >= ORDER_PATIENCE {
            let failed = Failed::refused(format!(
                "the file waits for its turn: {whom}\n  help: give the other nodes the same file; this one follows by \
                 itself. Without waiting: {}",
                self.node.place.command("apply --force")
            ));
            replies.drain(..).for_each(|reply| drop(reply.send(Err(failed.clone()))));
        }
        self.node.order_wait = Some(whom);
        let at = now + ORDER_LOOK;
        self.postponed = Some(Postponed { at, in_order_since: Some(began), what: Change::File, intent, replies });
    }

    async fn answer(&mut self, request: Request) {
        let request = match request.for_node(&self.node) {
            Ok(request) => request,
            Err(reply) => {
                let _ = reply.send(Err(Failed::refused(
                    "this agent only observes (`hapilot run --observe`); start it without that to change anything",
                )));
                return;
            }
        };
        match request {
            Request::Apply(intent, reply) => self.change(Change::File, intent, vec![reply]).await,
            Request::Rollback(to, intent, reply) => self.change(Change::Rollback(to), intent, vec![reply]).await,
            Request::Server { id, state, weight, period, actor, reply } => {
                let result = self.node.set_server(&id, state, weight, period, &actor).await;
                self.publish();
                let _ = reply.send(result.map_err(Attempt::into_failed));
            }
            Request::Confirm(actor, reply) => {
                let result = self.node.confirm(&actor);
                self.publish();
                let _ = reply.send(result);
            }
            Request::Expire(reply) => self.change(Change::Expire, Intent::of_agent(None), vec![reply]).await,
            Request::Tag(revision, name, reply) => {
                let _ = reply.send(self.node.tag(revision, &name));
            }
            Request::Vip { names, verb, actor, reply } => {
                let result = match verb {
                    VipVerb::Release { force } => self.node.release(&names, force, &actor),
                    VipVerb::Reclaim => self.node.reclaim(&names, &actor),
                };
                self.publish();
                let _ = reply.send(result);
            }
            Request::Plan(reply) => self.answer_plan(reply).await,
            Request::Refresh(reply) => {
                self.publish();
                let _ = reply.send(());
            }
        }
    }

    fn publish(&mut self) {
        let begun = Instant::now();
        let mut snapshot = Snapshot::of(&self.node);
        self.outages.tell(&mut snapshot, jiff::Timestamp::now(), &self.node.bulletin);
        self.snapshot.send_replace(Arc::new(snapshot));
        self.publish_at = Instant::now() + PUBLISH.max(begun.elapsed() * PUBLISH_PAUSES);
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

/// When what began then, and has just ended, may be done again.
fn pause_after(begun: Instant) -> Instant {
    Instant::now() + (begun.elapsed() * FOLLOW_PAUSES).min(MAX_FOLLOW_PAUSE)
}

/// The wall clock; before 1970 is 1970.
fn since_1970() -> Duration {
    jiff::Timestamp::now().as_duration().try_into().unwrap_or_default()
}
