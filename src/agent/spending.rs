//! Keeps what the deep probes have cost over restarts of the agent.

use crate::fleet::Fleet;
use crate::health::Spent;
use crate::model::Name;
use crate::store;
use crate::sys;
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is spent is looked at, and written, this often: a death of the agent forgets so much of the day at worst.
const EVERY: Duration = Duration::from_secs(30);

/// What was written last, and when.
#[derive(Debug)]
pub(super) struct Spending {
    state: Utf8PathBuf,
    written: BTreeMap<Name, Spent>,
    not_before: Instant,
    /// The file could not be written: why, said once.
    problem: Option<String>,
}

impl Spending {
    /// Hands the fleet what the life before has spent. A damaged file is begun anew.
    pub fn open(state: Utf8PathBuf, fleet: &mut Fleet) -> Self {
        let written = store::load_spent(&state).unwrap_or_else(|e| {
            tracing::warn!("what the deep probes of the day have cost is counted anew: {}", sys::chain(&e));
            BTreeMap::new()
        });
        fleet.restore_spent(&written);
        Self { state, written, not_before: Instant::now(), problem: None }
    }

    /// Writes what is new, where it is time.
    pub fn keep(&mut self, fleet: &Fleet) {
        if Instant::now() >= self.not_before {
            self.not_before = Instant::now() + EVERY;
            self.write(fleet);
        }
    }

    /// Writes what is new: the agent ends.
    pub fn close(&mut self, fleet: &Fleet) {
        self.write(fleet);
    }

    fn write(&mut self, fleet: &Fleet) {
        let mut spent = fleet.spent();
        // Most backends have no deep probe at all.
        spent.retain(|_, spent| spent.probes > 0);
        if spent == self.written {
            return;
        }
        match store::save_spent(&self.state, &spent) {
            Ok(()) => (self.written, self.problem) = (spent, None),
            Err(e) => {
                let problem = sys::chain(&e);
                if self.problem.as_ref() != Some(&problem) {
                    tracing::warn!("what the deep probes have cost is not kept: {problem}");
                    self.problem = Some(problem);
                }
            }
        }
    }
}
