//! Keeps what probes have learnt and cost over restarts of the agent.

use crate::agent::tell::bulletin::LAST_WRITE;
use crate::fleet::Fleet;
use crate::health::Spent;
use crate::model::Name;
use crate::render::ModelsOfServers;
use crate::store::{self, SavedCanaries, SavedSoak, StoreError};
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What is new is looked at, and written, this often: a death of the agent forgets so much at worst.
const EVERY: Duration = Duration::from_secs(30);

/// What the deep probes of the day have cost.
pub(in crate::agent) type Spending = Kept<BTreeMap<Name, Spent>>;
/// Which models servers have.
pub(in crate::agent) type ModelBook = Kept<ModelsOfServers>;

/// Where canaries are.
pub(in crate::agent) type CanaryBook = Kept<SavedCanaries>;
/// What was seen of the revision that soaks.
pub(in crate::agent) type SoakBook = Kept<Option<SavedSoak>>;

/// What was written last, and when.
#[derive(Debug)]
pub(in crate::agent) struct Kept<T> {
    /// In words, for people.
    what: &'static str,
    save: fn(&Utf8Path, &T) -> Result<(), StoreError>,
    state: Utf8PathBuf,
    written: T,
    not_before: Instant,
    /// The file could not be written: why, said once.
    problem: Option<String>,
    writing: Option<JoinHandle<Result<T, String>>>,
    /// Counts what was handed over to be written, and knows which of it was written last: what is older is left.
    handed: u64,
    newest: Arc<Mutex<u64>>,
}

impl Kept<BTreeMap<Name, Spent>> {
    /// What the life before has spent. A damaged file is begun anew.
    pub fn open(state: Utf8PathBuf) -> Self {
        let written = store::load_spent(&state).unwrap_or_else(|e| {
            tracing::warn!("what the deep probes of the day have cost is counted anew: {}", sys::chain(&e));
            BTreeMap::new()
        });
        Self::around("what the deep probes have cost", store::save_spent, state, written)
    }
}

impl Kept<ModelsOfServers> {
    /// With what is known already.
    pub fn of(state: Utf8PathBuf, known: ModelsOfServers) -> Self {
        Self::around("which models servers have", store::save_models, state, known)
    }
}

impl Kept<SavedCanaries> {
    /// With what is known already.
    pub fn of_canaries(state: Utf8PathBuf, known: SavedCanaries) -> Self {
        Self::around("where canaries are", store::save_canaries, state, known)
    }
}

impl Kept<Option<SavedSoak>> {
    /// With what is known already.
    pub fn of_soak(state: Utf8PathBuf, known: Option<SavedSoak>) -> Self {
        Self::around("what was seen of a soaking revision", store::save_soak, state, known)
    }
}

/// What the life before has seen of the revision that soaks. Without it the soak begins anew.
pub(in crate::agent) fn load_soak(state: &Utf8Path) -> Option<SavedSoak> {
    store::load_soak(state).unwrap_or_else(|e| {
        tracing::warn!("what was seen of the revision that soaks is lost: {}", sys::chain(&e));
        None
    })
}

/// Where the life before left canaries. Where that is lost none begins by itself.
pub(in crate::agent) fn load_canaries(state: &Utf8Path) -> SavedCanaries {
    store::load_canaries(state).unwrap_or_else(|e| SavedCanaries {
        lost: Some(format!("nobody knows where it was: {}", sys::chain(&e))),
        ..SavedCanaries::default()
    })
}

/// What the deep probes of the day have cost by now. Most backends have no deep probe at all.
pub(in crate::agent) fn spent_by(fleet: &Fleet) -> BTreeMap<Name, Spent> {
    let mut spent = fleet.spent();
    spent.retain(|_, spent| spent.probes > 0);
    spent
}

/// What servers said in the life before. A damaged file is begun anew.
pub(in crate::agent) fn load_models(state: &Utf8Path) -> ModelsOfServers {
    store::load_models(state).unwrap_or_else(|e| {
        tracing::warn!("servers are asked anew for their models: {}", sys::chain(&e));
        BTreeMap::new()
    })
}

impl<T: Clone + PartialEq + Send + 'static> Kept<T> {
    fn around(
        what: &'static str,
        save: fn(&Utf8Path, &T) -> Result<(), StoreError>,
        state: Utf8PathBuf,
        written: T,
    ) -> Self {
        let (not_before, newest) = (Instant::now(), Arc::default());
        Self { what, save, state, written, not_before, problem: None, writing: None, handed: 0, newest }
    }

    /// As it was read or written last.
    pub fn written(&self) -> &T {
        &self.written
    }

    /// What is new is written with the next look.
    pub fn hurry(&mut self) {
        self.not_before = Instant::now();
    }

    /// Writes what is new, where it is time: on a thread of its own, so that a slow disk delays no probe.
    pub async fn keep(&mut self, now: impl FnOnce() -> T) {
        if Instant::now() < self.not_before {
            return;
        }
        self.not_before = Instant::now() + EVERY;
        if self.writing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.ended().await;
            self.begin(now());
        }
    }

    /// Writes what is new: the agent ends.
    pub async fn close(mut self, now: T) {
        let what = self.what;
        let write = async {
            self.ended().await;
            self.begin(now);
            self.ended().await;
        };
        if tokio::time::timeout(LAST_WRITE, write).await.is_err() {
            tracing::warn!("{what} is not kept: the disk does not answer");
        }
    }

    fn begin(&mut self, now: T) {
        if now == self.written {
            return;
        }
        self.writing = Some(self.write(now));
    }

    /// Writes it in any case, for somebody who waits.
    pub fn write(&mut self, now: T) -> JoinHandle<Result<T, String>> {
        self.handed += 1;
        let (state, save, number, newest) = (self.state.clone(), self.save, self.handed, self.newest.clone());
        tokio::task::spawn_blocking(move || {
            let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
            if *newest < number {
                save(&state, &now).map_err(|e| sys::chain(&e))?;
                *newest = number;
            }
            Ok(now)
        })
    }

    async fn ended(&mut self) {
        let Some(writing) = &mut self.writing else { return };
        let ended = writing.await;
        self.writing = None;
        match ended.unwrap_or_else(|broken| Err(broken.to_string())) {
            Ok(written) => (self.written, self.problem) = (written, None),
            Err(problem) => {
                if self.problem.as_ref() != Some(&problem) {
                    tracing::warn!("{} is not kept: {problem}", self.what);
                    self.problem = Some(problem);
                }
            }
        }
    }
}
