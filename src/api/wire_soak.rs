//! A revision that soaks, as it goes over the wire. Names are a contract: they are only ever added.

use crate::agent::SoakSnapshot;
use crate::rollout::{ServersUp, Verdict};
use serde::{Deserialize, Serialize};

/// A revision that is compared with what was before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Soak {
    /// How long it is compared, in seconds.
    pub lasts_s: f64,
    /// How long it was compared so far, in seconds: without the time in which no agent ran.
    pub time_s: f64,
    /// Nobody has to confirm it: it is kept, unless it is found to be worse.
    pub keeps: bool,
    /// How it would end now: `worse`, `shared` (worse, and so it is where nothing was changed), `clean`, `quiet` (too little was
    /// seen).
    pub verdict: String,
    /// The same in words.
    pub words: String,
    /// The backends that it serves otherwise, then all of them together where they are several.
    pub backends: Vec<SoakBackend>,
}

/// A backend before an edit and since.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SoakBackend {
    /// Its name.
    pub name: String,
    /// Requests in the five minutes before that succeeded or failed by the server's fault.
    pub requests_before: u64,
    /// Of those, the ones that failed.
    pub failures_before: u64,
    /// Likewise since.
    pub requests: u64,
    /// Likewise.
    pub failures: u64,
    /// Servers that are up, and all; missing where that is not known.
    pub servers_up: Option<(usize, usize)>,
    /// Likewise before.
    pub servers_up_before: Option<(usize, usize)>,
    /// Each thing that is compared, in words.
    pub signs: Vec<String>,
}

impl From<&SoakSnapshot> for Soak {
    fn from(soak: &SoakSnapshot) -> Self {
        let SoakSnapshot { view, lasts, keeps } = soak;
        let (verdict, words) = match &view.verdict {
            Verdict::Worse { reason } => ("worse", reason),
            Verdict::Shared { reason } => ("shared", reason),
            Verdict::Clean { words } => ("clean", words),
            Verdict::Quiet { words } => ("quiet", words),
        };
        let pair = |servers: Option<ServersUp>| servers.map(|servers| (servers.up, servers.all));
        let backends = view.changed.iter().map(|backend| SoakBackend {
            name: backend.name.clone(),
            requests_before: backend.told_before,
            failures_before: backend.failures_before,
            requests: backend.told,
            failures: backend.failures,
            servers_up: pair(backend.servers),
            servers_up_before: pair(backend.servers_before),
            signs: backend.signs.clone(),
        });
        Self {
            lasts_s: lasts.as_secs_f64(),
            time_s: view.time_s,
            keeps: *keeps,
            verdict: verdict.to_owned(),
            words: words.clone(),
            backends: backends.collect(),
        }
    }
}
