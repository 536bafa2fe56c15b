//! The running agent: what it has, and its times. What it does stands in `run` and beside it.

use super::probes::Probes;
use super::request::{Handle, Reply, Request};
use super::tasks::{Filing, Reading, VrrpErrand, Work};
use super::waiting::{Edited, Held, Postponed};
use super::words::Words;
use crate::agent::apply::push::Pushed;
use crate::agent::history::git_book::GitBook;
use crate::agent::history::last_results::LastResults;
use crate::agent::history::spending::{CanaryBook, ModelBook, SoakBook, Spending};
use crate::agent::history::usage_book::UsageBook;
use crate::agent::node::Node;
use crate::agent::picture::snapshot_parts::SnapshotParts;
use crate::agent::probes::ears::Ears;
use crate::agent::tell::fallbacks::Fallbacks;
use crate::agent::tell::outages::Outages;

use crate::health::GuardEvent;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Desired, files and runtime are compared this often, whatever else happens.
pub(super) const RECONCILE: Duration = Duration::from_secs(5);
/// A HAProxy that is not there is looked for this often.
pub(super) const ABSENT: Duration = Duration::from_secs(1);
/// The weights of each backend are decided anew this often, whatever else happens, a few backends at a time.
pub(super) const WEIGHTS: Duration = Duration::from_secs(5);
/// After HAProxy has followed, the next time comes after so many times as long as that took: a storm of transitions
/// (a start, a lost network) costs a fifth of one core at most, and a single one is never delayed.
pub(super) const FOLLOW_PAUSES: u32 = 4;
/// The pause is never longer than this, however long a round took.
pub(super) const MAX_FOLLOW_PAUSE: Duration = Duration::from_secs(1);
/// The files follow what HAProxy took after this: what comes in between is written with it.
pub(super) const FILES_PAUSE: Duration = Duration::from_millis(250);
/// Whether the backends can serve is looked at this often at most…
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// …and after so many times as long as that took: 1 % of one core, whatever the number of servers.
pub(super) const LOOK_PAUSES: u32 = 100;
/// …and no later than this: a machine that stood for a while is no reason to look away.
pub(super) const MAX_LOOK_PAUSE: Duration = Duration::from_secs(2);
/// What was handed to who looked is kept so long, for the next who looks while the loop is busy.
pub(super) const SEEN: Duration = Duration::from_secs(3);
/// A file that could not be served is tried again after this: the port may be free by then.
pub(super) const RETRY: Duration = Duration::from_secs(10);
/// The loop waits so long for `haproxy -c`, which takes 20 ms for a common file; a verdict that comes later finds the
/// change again.
pub(super) const CHECK_PATIENCE: Duration = Duration::from_millis(300);
/// Likewise before anything serves, when there is nothing to steer yet.
pub(super) const FIRST_CHECK_PATIENCE: Duration = Duration::from_secs(3);
/// Requests that may wait; the command line sees "busy" beyond it.
pub(super) const MAX_REQUESTS: usize = 64;

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    pub(super) node: Node,
    pub(super) probes: Probes,
    /// `None`: it only observes, and writes no file.
    pub(super) results: Option<LastResults>,
    /// Likewise.
    pub(super) spending: Option<Spending>,
    /// Likewise.
    pub(super) models: Option<ModelBook>,
    /// Likewise.
    pub(super) canaries: Option<CanaryBook>,
    /// Likewise.
    pub(super) soaks: Option<SoakBook>,
    pub(super) usage: UsageBook,
    /// `None`: it only observes.
    pub(super) git: Option<GitBook>,
    pub(super) hearing: Ears,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) seen: watch::Sender<Option<Arc<SnapshotParts>>>,
    pub(super) seen_until: Instant,
    /// What is to serve, and is not understood yet.
    pub(super) reading: Option<Reading>,
    /// The order that the engine carries out.
    pub(super) work: Option<Work>,
    /// keepalived.conf, while it is written or looked at.
    pub(super) vrrp: Option<VrrpErrand>,
    /// What is on its way to HAProxy.
    pub(super) push: Option<JoinHandle<Pushed>>,
    /// Operators' words.
    pub(super) words: Words,
    /// What is only written down.
    pub(super) filing: Option<Filing>,
    /// Requests that wait for the end of what is under way.
    pub(super) held: Vec<Held>,
    /// The file changed meanwhile.
    pub(super) edited: Option<Edited>,
    /// A change that waits for its reload, and who waits for it.
    pub(super) postponed: Option<Postponed>,
    /// Who asked what an apply would do, and waits for HAProxy's verdict.
    pub(super) plans: Vec<Reply>,
    pub(super) reconcile_at: Instant,
    /// When the next backends have their turn.
    pub(super) weights_at: Instant,
    /// The guards that the log knows to be at work.
    pub(super) guards_told: Vec<GuardEvent>,
    pub(super) outages: Outages,
    pub(super) fallbacks: Fallbacks,
    /// Something has changed that HAProxy does not know yet; from when on it may be told.
    pub(super) push_at: Option<Instant>,
    /// Not before this, see [`FOLLOW_PAUSES`].
    pub(super) push_not_before: Instant,
    /// Likewise for its files, and for the whole comparison.
    pub(super) follow_at: Option<Instant>,
    pub(super) follow_not_before: Instant,
    /// A rollback at the deadline that failed is tried again no sooner.
    pub(super) expire_at: Instant,
    /// Nor what could not be written into the history.
    pub(super) history_at: Instant,
    pub(super) look_at: Instant,
}

impl Agent {
    /// An agent around an opened node, and how to reach it.
    pub fn new(mut node: Node) -> (Self, Handle) {
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        let (sender_of_seen, seen) = watch::channel(Some(Arc::new(SnapshotParts::alone(&node))));
        let now = Instant::now();
        let at_start = node.now();
        node.engine.checks.patience = Some(FIRST_CHECK_PATIENCE);
        node.steering.fleet.set_clock(since_1970(), at_start);
        let keeps_files = !node.is_observer();
        let results = keeps_files.then(|| node.ledger.last_results());
        let spending = keeps_files.then(|| Spending::open(node.ledger.state.clone()));
        if let Some(spending) = &spending {
            node.steering.fleet.restore_spent(spending.written());
        }
        let models =
            keeps_files.then(|| ModelBook::of(node.ledger.state.clone(), node.steering.models.known().clone()));
        let of_canaries = |node: &Node| node.steering.canaries.to_save(SystemTime::now());
        let canaries = keeps_files.then(|| CanaryBook::of_canaries(node.ledger.state.clone(), of_canaries(&node)));
        let of_soak = |node: &Node| node.steering.soaking.to_save(SystemTime::now());
        let soaks = keeps_files.then(|| SoakBook::of_soak(node.ledger.state.clone(), of_soak(&node)));
        if keeps_files {
            node.steering.soaking.drive();
        }
        let usage = UsageBook::new(keeps_files.then(|| node.ledger.state.clone()), node.steering.ledger.clone());
        let agent = Self {
            node,
            results,
            spending,
            models,
            canaries,
            soaks,
            usage,
            git: keeps_files.then(GitBook::default),
            hearing: Ears::default(),
            probes: Probes::default(),
            requests,
            seen: sender_of_seen,
            seen_until: now,
            reading: None,
            work: None,
            vrrp: None,
            push: None,
            words: Words::default(),
            filing: None,
            held: vec![],
            edited: None,
            postponed: None,
            plans: vec![],
            reconcile_at: now + RECONCILE,
            weights_at: now + WEIGHTS,
            guards_told: vec![],
            outages: Outages::default(),
            fallbacks: Fallbacks::default(),
            push_at: None,
            push_not_before: now,
            follow_at: None,
            follow_not_before: now,
            expire_at: now,
            history_at: now,
            look_at: now,
        };
        let unanswered = agent.node.engine.unanswered.clone();
        let file = agent.node.file.place.file.clone();
        (agent, Handle { requests: sender, file, seen, unanswered })
    }
}

/// When what began then, and has just ended, may be done again.
pub(super) fn pause_after(begun: Instant) -> Instant {
    Instant::now() + (begun.elapsed() * FOLLOW_PAUSES).min(MAX_FOLLOW_PAUSE)
}

/// The wall clock; before 1970 is 1970.
pub(super) fn since_1970() -> Duration {
    jiff::Timestamp::now().as_duration().try_into().unwrap_or_default()
}
