//! What all the tasks of a mock share: how it is set up, its faults, its load and what it has seen.
//!
//! Called by `server` and `control`.

use super::config::{MockConfig, MockLoad};
use super::fault::{Fault, Faults};
use super::journal::Journal;
use super::prefixes::Prefixes;
use super::tls::Certificates;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all the tasks of a mock share.
pub(super) struct Shared {
    pub(super) config: MockConfig,
    pub(super) certificates: Option<Certificates>,
    faults: Mutex<Faults>,
    journal: Mutex<Journal>,
    load: Mutex<MockLoad>,
    pub(super) prefixes: Mutex<Prefixes>,
    /// True while nobody shall listen.
    pub(super) refuse: watch::Sender<bool>,
    /// What really listens, so that a change of `refuse` can be waited for.
    pub(super) listening: watch::Sender<bool>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Shared {
    pub(super) fn new(config: MockConfig, certificates: Option<Certificates>) -> Self {
        Self {
            load: Mutex::new(config.load),
            config,
            certificates,
            faults: Mutex::default(),
            journal: Mutex::default(),
            prefixes: Mutex::default(),
            refuse: watch::Sender::new(false),
            listening: watch::Sender::new(true),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn load(&self) -> MutexGuard<'_, MockLoad> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the faults; whether the port listens follows at once, see [`Shared::settled`].
    pub(super) fn set_faults(&self, faults: Vec<Fault>) {
        let mut set = self.faults();
        set.replace(faults);
        self.refuse.send_replace(set.refuses());
    }

    /// Waits until the port listens, or not, as the faults want it.
    pub(super) async fn settled(&self) {
        let want = !*self.refuse.borrow();
        let mut listening = self.listening.subscribe();
        // The sender lives in `self`; a port that somebody else took meanwhile must not hang us.
        let _ = timeout(Duration::from_secs(2), listening.wait_for(|now| *now == want)).await;
    }
}
