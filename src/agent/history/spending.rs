//! Keeps what the deep probes have cost over restarts of the agent.

use crate::agent::tell::bulletin::LAST_WRITE;
use crate::fleet::Fleet;
use crate::health::Spent;
use crate::model::Name;
use crate::store;
use crate::sys;
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What is spent is looked at, and written, this often: a death of the agent forgets so much of the day at worst.
const EVERY: Duration = Duration::from_secs(30);

/// What was written last, and when.
#[derive(Debug)]
pub(in crate::agent) struct Spending {
    state: Utf8PathBuf,
    written: BTreeMap<Name, Spent>,
    not_before: Instant,
    /// The file could not be written: why, said once.
    problem: Option<String>,
    writing: Option<JoinHandle<Result<BTreeMap<Name, Spent>, String>>>,
}

impl Spending {
    /// Hands the fleet what the life before has spent. A damaged file is begun anew.
    pub fn open(state: Utf8PathBuf, fleet: &mut Fleet) -> Self {
        let written = store::load_spent(&state).unwrap_or_else(|e| {
            tracing::warn!("what the deep probes of the day have cost is counted anew: {}", sys::chain(&e));
            BTreeMap::new()
        });
        fleet.restore_spent(&written);
        Self { state, written, not_before: Instant::now(), problem: None, writing: None }
    }

    /// Writes what is new, where it is time: on a thread of its own, so that a slow disk delays no probe.
    pub async fn keep(&mut self, fleet: &Fleet) {
        if Instant::now() < self.not_before {
            return;
        }
        self.not_before = Instant::now() + EVERY;
        if self.writing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.ended().await;
            self.begin(fleet);
        }
    }

    /// Writes what is new: the agent ends.
    pub async fn close(mut self, fleet: &Fleet) {
        let write = async {
            self.ended().await;
            self.begin(fleet);
            self.ended().await;
        };
        if tokio::time::timeout(LAST_WRITE, write).await.is_err() {
            tracing::warn!("what the deep probes have cost is not kept: the disk does not answer");
        }
    }

    fn begin(&mut self, fleet: &Fleet) {
        let mut spent = fleet.spent();
        // Most backends have no deep probe at all.
        spent.retain(|_, spent| spent.probes > 0);
        if spent == self.written {
            return;
        }
        let state = self.state.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let written = store::save_spent(&state, &spent).map_err(|e| sys::chain(&e));
            written.map(|()| spent)
        }));
    }

    async fn ended(&mut self) {
        let Some(writing) = &mut self.writing else { return };
        let ended = writing.await;
        self.writing = None;
        match ended.unwrap_or_else(|broken| Err(broken.to_string())) {
            Ok(spent) => (self.written, self.problem) = (spent, None),
            Err(problem) => {
                if self.problem.as_ref() != Some(&problem) {
                    tracing::warn!("what the deep probes have cost is not kept: {problem}");
                    self.problem = Some(problem);
                }
            }
        }
    }
}
