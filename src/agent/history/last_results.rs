//! Keeps what the last probes told over restarts of the agent.
//!
//! The loop hands in each result; the file is written beside the loop, rarely. Nothing that serves depends on it.

use super::ledger::Ledger;
use crate::agent::tell::bulletin::LAST_WRITE;
use crate::health::Observation;
use crate::model::ServerId;
use crate::store::{self, ProbeRecord, Results};
use crate::sys;
use camino::Utf8PathBuf;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The file is written this often at most…
const EVERY: Duration = Duration::from_secs(5);
/// …and after so many times as long as that took: 1 % of a disk, whatever the number of servers.
const PAUSES: u32 = 100;
/// …and no longer than this, however long a disk stood.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The last results, and when they were written.
#[derive(Debug)]
pub(in crate::agent) struct LastResults {
    state: Utf8PathBuf,
    results: Results,
    is_news: bool,
    not_before: Instant,
    writing: Option<JoinHandle<(Duration, Result<(), String>)>>,
    /// The file could not be written: why, said once.
    problem: Option<String>,
}

impl LastResults {
    /// What the life before left. A damaged file is begun anew.
    pub fn open(state: Utf8PathBuf) -> Self {
        let results = store::load_results(&state).unwrap_or_else(|e| {
            tracing::warn!("what the last probes told is begun anew: {}", sys::chain(&e));
            Results::default()
        });
        Self { state, results, is_news: false, not_before: Instant::now() + EVERY, writing: None, problem: None }
    }

    /// Takes in one result. Our own faults are none.
    pub fn note(&mut self, id: &ServerId, key: Option<usize>, observation: &Observation) {
        let Observation { kind, outcome, first_token, total, tokens, detail, .. } = observation;
        let ms = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let record = ProbeRecord {
            at: now(),
            outcome: outcome.as_str().into(),
            total_ms: ms(total),
            first_token_ms: first_token.as_ref().map(ms),
            tokens: *tokens,
            key: key.map(crate::desired::key_id),
            detail: detail.as_str().into(),
        };
        self.results.push(&id.to_string(), kind.as_str(), record);
        self.is_news = true;
    }

    /// When [`Self::keep`] has something to do. `None`: not before the next result.
    pub fn next_wake(&self) -> Option<Instant> {
        self.is_news.then_some(self.not_before)
    }

    /// Writes what is new, where it is time: on a thread of its own, so that a slow disk delays no probe.
    pub async fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        let instant = Instant::now();
        if !self.is_news || instant < self.not_before {
            return;
        }
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            self.not_before = instant + EVERY;
            return;
        }
        self.written().await;
        if instant < self.not_before {
            return;
        }
        self.results.retain(is_there);
        self.begin();
        self.not_before = instant + EVERY;
    }

    fn begin(&mut self) {
        let (state, results) = (self.state.clone(), self.results.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let written = store::save_results(&state, &results).map_err(|e| sys::chain(&e));
            (begun.elapsed(), written)
        }));
        self.is_news = false;
    }

    /// At the end: what is not yet written.
    pub async fn close(mut self) {
        let write = async {
            self.written().await;
            if self.is_news {
                self.begin();
                self.written().await;
            }
        };
        if tokio::time::timeout(LAST_WRITE, write).await.is_err() {
            self.tell(Some("the disk does not answer".to_owned()));
        }
    }

    /// What became of the last write.
    async fn written(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        if let Ok((took, written)) = writing.await {
            self.not_before =
                self.not_before.max(Instant::now() + (took * PAUSES).saturating_sub(EVERY).min(MAX_PAUSE));
            self.is_news |= written.is_err();
            self.tell(written.err());
        }
    }

    fn tell(&mut self, problem: Option<String>) {
        if let Some(problem) = problem.as_ref().filter(|_| problem != self.problem) {
            tracing::warn!("what the last probes told cannot be kept: {problem}");
        }
        self.problem = problem;
    }
}

impl Ledger {
    /// What the probes of this life and the ones before told.
    pub(in crate::agent) fn last_results(&self) -> LastResults {
        LastResults::open(self.state.clone())
    }
}

/// To the millisecond: more says nothing, and is longer.
fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
