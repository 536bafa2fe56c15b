//! The loop of the running agent: the only reader of the clock, and the one place where all events meet.
//!
//! Events come from the file watch, signals, probes, requests of the command line and time; each is handled to its
//! end before the next. Probes run beside it. Nothing here decides: `Fleet` says what is due, `Node` what follows.

use super::node::{Attempt, Intent, Node};
use super::probing::Errand;
use super::report::{Failed, Report};
use super::snapshot::Snapshot;
use crate::health::{Observation, Outcome, ProbeKind};
use crate::model::{AdminState, ServerId, Weight};
use crate::plan::Action;
use crate::probe::Prober;
use crate::sys;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Desired, files and runtime are compared this often, whatever else happens.
const RECONCILE: Duration = Duration::from_secs(5);
/// Adaptive weights move no oftener than this.
const WEIGHTS: Duration = Duration::from_secs(5);
/// A snapshot is published at most this often between requests.
const PUBLISH: Duration = Duration::from_millis(250);
/// A file that could not be served is tried again after this: the port may be free by then.
const RETRY: Duration = Duration::from_secs(10);
/// Requests that may wait; the command line sees "busy" beyond it.
const MAX_REQUESTS: usize = 64;
/// Probes in flight.
const MAX_PROBES: usize = 512;

/// What the command line asks of the agent.
#[derive(Debug)]
pub enum Request {
    /// Serve the file now.
    Apply(Intent, Reply),
    /// Serve an older revision.
    Rollback(Option<u32>, Intent, Reply),
    /// Set a server's state or weight.
    Server {
        /// Which.
        id: ServerId,
        /// Administrative state.
        state: Option<AdminState>,
        /// Weight.
        weight: Option<Weight>,
        /// Ends by itself after this.
        period: Option<Duration>,
        /// Who asks.
        actor: String,
        /// Where the answer goes.
        reply: Reply,
    },
    /// What would an apply do?
    Plan(Reply),
    /// Publish a fresh snapshot, then answer.
    Refresh(oneshot::Sender<()>),
}

/// Where an answer goes; nobody may be left to hear it.
pub type Reply = oneshot::Sender<Result<Report, Failed>>;

/// How the outside reaches the running agent.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Requests in.
    pub requests: mpsc::Sender<Request>,
    /// What is known, out.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
}

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    node: Node,
    prober: Arc<Prober>,
    probes: JoinSet<(ServerId, Observation)>,
    waiting: VecDeque<(ServerId, ProbeKind)>,
    requests: mpsc::Receiver<Request>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// A change that waits for its reload, and who waits for it.
    postponed: Option<Postponed>,
    reconcile_at: Instant,
    weights_at: Instant,
    published: Instant,
}

#[derive(Debug)]
struct Postponed {
    at: Instant,
    what: Change,
    intent: Intent,
    replies: Vec<Reply>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    File,
    Rollback(Option<u32>),
}

impl Agent {
    /// An agent around an opened node, and how to reach it.
    pub fn new(node: Node) -> (Self, Handle) {
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        let (snapshot, seen) = watch::channel(Arc::new(Snapshot::of(&node)));
        let now = Instant::now();
        let agent = Self {
            node,
            prober: Arc::new(Prober::new()),
            probes: JoinSet::new(),
            waiting: VecDeque::new(),
            requests,
            snapshot,
            postponed: None,
            reconcile_at: now + RECONCILE,
            weights_at: now + WEIGHTS,
            published: now,
        };
        (agent, Handle { requests: sender, snapshot: seen })
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
        match self.node.settle().await {
            Ok(report) => tracing::info!(how = %report.applied.how, revision = ?report.revision, "serving"),
            Err(attempt) => self.log_failure(&attempt),
        }
        self.publish();
        loop {
            self.start_probes();
            let wake = self.next_wake();
            tokio::select! {
                Some(request) = self.requests.recv() => self.answer(request).await,
                Some(finished) = self.probes.join_next() => self.probed(finished).await,
                Some(()) = edits.recv() => self.file_changed("the file changed").await,
                signal = signals.next() => match signal {
                    sys::signals::Request::Reload => self.file_changed("SIGHUP").await,
                    sys::signals::Request::Stop => break,
                },
                () = tokio::time::sleep_until(wake.into()) => self.tick().await,
            }
            watch.set_paths(&self.node.serving.watched(&self.node.place.file));
            if self.published.elapsed() >= PUBLISH {
                self.publish();
            }
        }
        tracing::info!("stopping; HAProxy serves on");
        Ok(())
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let fleet = self.node.fleet.next_wake().map(|at| now + at.since(self.node.now()));
        let word = self.node.overrides.next_end(jiff::Timestamp::now()).map(|left| now + left);
        let postponed = self.postponed.as_ref().map(|postponed| postponed.at);
        let always = [self.reconcile_at, self.weights_at];
        always.into_iter().chain(fleet).chain(word).chain(postponed).min().unwrap_or(now)
    }

    async fn tick(&mut self) {
        let now = self.node.now();
        let due = self.node.fleet.due(now);
        for (id, transition) in &due.transitions {
            log_transition(id, transition);
        }
        self.waiting.extend(due.probes);
        let instant = Instant::now();
        if self.postponed.as_ref().is_some_and(|postponed| postponed.at <= instant) {
            self.resume().await;
        }
        let word_ended = self.node.overrides.next_end(jiff::Timestamp::now()).is_some_and(|left| left.is_zero());
        let is_time = instant >= self.reconcile_at || instant >= self.weights_at;
        if due.weights_may_move || word_ended || is_time {
            self.follow().await;
        }
    }

    /// Brings weights, states and drift to HAProxy.
    async fn follow(&mut self) {
        let now = Instant::now();
        self.reconcile_at = now + RECONCILE;
        self.weights_at = now + WEIGHTS;
        match self.node.reconcile().await {
            Ok(_) | Err(Attempt::Failed(_)) => {}
            // Something structural differs (HAProxy was reloaded by hand with another file): after the gap.
            Err(Attempt::TooSoon(at)) => self.reconcile_at = at,
        }
    }

    fn start_probes(&mut self) {
        while self.probes.len() < MAX_PROBES
            && let Some((id, kind)) = self.waiting.pop_front()
        {
            match self.errand(&id, kind) {
                Some(errand) => {
                    let prober = self.prober.clone();
                    self.probes.spawn(async move {
                        // A task of its own: a probe that breaks must not take the memory of which one it was along.
                        let observation = tokio::spawn(errand.run(prober)).await;
                        (id, observation.unwrap_or_else(|_| broken(kind)))
                    });
                }
                None => tracing::debug!(server = %id, %kind, "the probe is gone with its server"),
            }
        }
    }

    fn errand(&self, id: &ServerId, kind: ProbeKind) -> Option<Errand> {
        let (backend, server) = self.node.serving.config.server(id)?;
        Errand::new(&self.node.serving, backend, server, kind, self.node.address_of(id))
    }

    async fn probed(&mut self, finished: Result<(ServerId, Observation), tokio::task::JoinError>) {
        let (id, observation) = match finished {
            Ok(result) => result,
            // Only at the very end, when the tasks are dropped.
            Err(_) => return,
        };
        tracing::debug!(server = %id, kind = %observation.kind, outcome = %observation.outcome, detail = observation.detail, "probed");
        let now = self.node.now();
        if let Some(transition) = self.node.fleet.observe(&id, &observation, now) {
            log_transition(&id, &transition);
            self.follow().await;
        }
    }

    async fn file_changed(&mut self, why: &str) {
        let intent = Intent { actor: "agent".to_owned(), reason: Some(why.to_owned()), adopt: false };
        if self.node.is_file_rejected() {
            return;
        }
        self.change(Change::File, intent, vec![]).await;
    }

    /// Carries a change out, or postpones it until its reload is due; the last one wins, all who wait get its answer.
    async fn change(&mut self, what: Change, intent: Intent, mut replies: Vec<Reply>) {
        if let Some(before) = self.postponed.take() {
            replies.extend(before.replies);
        }
        let result = match what {
            Change::File => self.node.apply_file(&intent).await,
            Change::Rollback(to) => self.node.roll_back(to, &intent).await,
        };
        let result = match result {
            Err(Attempt::TooSoon(at)) => {
                tracing::info!("the change needs a reload and waits for the gap between two");
                self.postponed = Some(Postponed { at, what, intent, replies });
                return;
            }
            Err(attempt) => {
                self.log_failure(&attempt);
                if what == Change::File
                    && replies.is_empty()
                    && matches!(&attempt, Attempt::Failed(failed) if failed.exit_code == 1)
                {
                    let at = Instant::now() + RETRY;
                    self.postponed = Some(Postponed { at, what, intent, replies: vec![] });
                }
                match attempt {
                    Attempt::Failed(failed) => Err(failed),
                    Attempt::TooSoon(_) => return,
                }
            }
            Ok(report) => Ok(report),
        };
        self.publish();
        for reply in replies {
            // Whoever asked may be gone.
            let _ = reply.send(result.clone());
        }
    }

    async fn resume(&mut self) {
        if let Some(Postponed { at: _, what, intent, replies }) = self.postponed.take() {
            self.change(what, intent, replies).await;
        }
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Apply(intent, reply) => self.change(Change::File, intent, vec![reply]).await,
            Request::Rollback(to, intent, reply) => self.change(Change::Rollback(to), intent, vec![reply]).await,
            Request::Server { id, state, weight, period, actor, reply } => {
                let result = self.node.set_server(&id, state, weight, period, &actor).await;
                self.publish();
                let _ = reply.send(flat(result));
            }
            Request::Plan(reply) => {
                let result = self.node.plan().await.map(|(prepared, _)| prepared.report());
                let _ = reply.send(flat(result));
            }
            Request::Refresh(reply) => {
                self.publish();
                let _ = reply.send(());
            }
        }
    }

    fn log_failure(&self, attempt: &Attempt) {
        if let Attempt::Failed(failed) = attempt {
            tracing::error!("the change is refused, the last good state serves on\n{}", failed.message.trim_end());
        }
    }

    fn publish(&mut self) {
        self.published = Instant::now();
        self.snapshot.send_replace(Arc::new(Snapshot::of(&self.node)));
    }
}

/// The result of a probe that panicked: a bug of ours, and no word about the server.
fn broken(kind: ProbeKind) -> Observation {
    tracing::error!(%kind, "a probe broke: this is a bug of hapilot");
    Observation {
        kind,
        outcome: Outcome::SelfCaused,
        retry_after: None,
        first_token: None,
        total: Duration::ZERO,
        tokens: 0,
        detail: "the probe broke: a bug of hapilot".to_owned(),
    }
}

fn flat(result: Result<Report, Attempt>) -> Result<Report, Failed> {
    result.map_err(|attempt| match attempt {
        Attempt::Failed(failed) => failed,
        Attempt::TooSoon(at) => {
            let left = at.saturating_duration_since(Instant::now());
            Failed::refused(format!(
                "the last reload was just now; the change follows by itself in {} ms",
                left.as_millis()
            ))
        }
    })
}

fn log_transition(id: &ServerId, transition: &crate::health::Transition) {
    let (from, to) = (transition.from, transition.to);
    tracing::info!(server = %id, %from, %to, reason = transition.reason, "health");
}

impl super::engine::Prepared {
    /// The plan as a report; nothing was done.
    pub fn report(&self) -> Report {
        let (steps, reload_reasons) = match &self.plan.action {
            Action::Runtime(steps) => (steps.clone(), vec![]),
            Action::Reload(reasons) => (vec![], reasons.clone()),
            Action::Nothing | Action::Start => (vec![], vec![]),
        };
        let how = match &self.plan.action {
            Action::Nothing if self.plan.files.is_empty() => super::engine::How::Unchanged,
            Action::Nothing => super::engine::How::Files,
            Action::Runtime(_) => super::engine::How::Runtime,
            Action::Reload(_) => super::engine::How::Reload,
            Action::Start => super::engine::How::Start,
        };
        let files = self.plan.files.clone();
        let applied = super::engine::Applied { how, steps, reload_reasons, files, kept: None, remarks: vec![] };
        let diff = super::report::unified_diff(&self.live_text, &self.rendered.haproxy_cfg, "haproxy.cfg");
        Report::new(applied, None, diff, Duration::ZERO)
    }
}
