//! What a node tells the others of its backends, so that a soak at one of them has the other one beside it.

use super::subject::{BackendSeen, ServersUp};
use crate::rollout::Counts;
use serde::{Deserialize, Serialize};

/// One backend at a node: its servers now, and counters that only grow while the agent lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendNews {
    /// Servers that are up…
    pub up: usize,
    /// …of so many that no operator has taken out.
    pub all: usize,
    /// Requests that tell something of servers.
    pub told: u64,
    /// Of those, the ones that failed.
    pub failures: u64,
    /// Probes that ended.
    pub probes: u64,
    /// Of those, the ones that failed.
    pub probe_failures: u64,
}

impl BackendNews {
    /// Adds what came.
    pub fn count(&mut self, seen: &BackendSeen) {
        self.told += seen.counts.told;
        self.failures += seen.counts.failures;
        self.probes += seen.probes;
        self.probe_failures += seen.probe_failures;
        let servers = seen.servers.unwrap_or(ServersUp { up: self.up, all: self.all });
        (self.up, self.all) = (servers.up, servers.all);
    }

    /// What came since then; nothing where the counters began anew.
    pub fn since(&self, before: &Self) -> BackendSeen {
        let more = |now: u64, before: u64| now.saturating_sub(before);
        let told = more(self.told, before.told);
        let probes = more(self.probes, before.probes);
        BackendSeen {
            counts: Counts { told, failures: more(self.failures, before.failures).min(told), ..Counts::default() },
            probes,
            probe_failures: more(self.probe_failures, before.probe_failures).min(probes),
            servers: Some(ServersUp { up: self.up, all: self.all }),
            ..BackendSeen::default()
        }
    }
}
