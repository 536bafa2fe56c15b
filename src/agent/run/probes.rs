//! Which probes run now: from what is due to a task.

use crate::agent::node::Node;
use crate::agent::probes::probe_errand::Errand;
use crate::agent::probes::queue::Queue;
use crate::agent::probes::wanted::{Asked, DueProbe, places};
use crate::health::{Observation, Outcome, ProbeKind};
use crate::model::Host;
use crate::probe::Prober;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The probes: what waits, and what runs.
#[derive(Debug)]
pub(super) struct Probes {
    prober: Arc<Prober>,
    pub running: JoinSet<(DueProbe, Option<Asked>, Observation)>,
    pub queue: Queue,
}

impl Default for Probes {
    fn default() -> Self {
        Self { prober: Arc::new(Prober::new()), running: JoinSet::new(), queue: Queue::new(places()) }
    }
}

impl Probes {
    /// Starts those whose turn it is.
    pub fn start(&mut self, node: &mut Node) {
        while let Some(wanted) = self.queue.start(Instant::now()) {
            match errand(node, &wanted) {
                Some(errand) => {
                    let prober = self.prober.clone();
                    let asked = whom(node, &wanted);
                    self.running.spawn(async move {
                        // A task of its own: a probe that breaks must not take the memory of which one it was along.
                        let observation = tokio::spawn(errand.run(prober)).await;
                        let kind = wanted.kind;
                        (wanted, asked, observation.unwrap_or_else(|_| broken(kind)))
                    });
                }
                None => {
                    tracing::debug!(server = %wanted.id, kind = %wanted.kind, "the probe is gone with its server");
                    self.queue.ended(&wanted.id.backend);
                    if let Some(key) = wanted.key {
                        node.steering.keyring.test_ended(&wanted.id, key);
                    }
                }
            }
        }
    }
}

fn errand(node: &Node, wanted: &DueProbe) -> Option<Errand> {
    let DueProbe { id, kind, key: _ } = wanted;
    let (backend, server) = node.serving.config.server(id)?;
    let resolved = match server.url.host {
        Host::Ip(_) => None,
        Host::Dns(_) => node.address_of(id),
    };
    Errand::new(&node.serving, backend, server, *kind, key_of(node, wanted), resolved)
}

/// The place of the key to ask with: the one under test, else the one that serves.
fn key_of(node: &Node, DueProbe { id, kind: _, key }: &DueProbe) -> usize {
    key.or_else(|| node.steering.keyring.active(id)).unwrap_or(0)
}

pub(super) fn whom(node: &Node, wanted: &DueProbe) -> Option<Asked> {
    let (_, server) = node.serving.config.server(&wanted.id)?;
    let index = key_of(node, wanted);
    let key = server.keys.get(index).and_then(|key| node.serving.secrets.get(&key.value));
    Some(Asked { url: server.url.value.clone(), key: key.map(|key| (index, key.clone())) })
}

/// The result of a probe that panicked: a bug of ours, and no word about the server.
fn broken(kind: ProbeKind) -> Observation {
    tracing::error!(%kind, "a probe broke: this is a bug of hapilot");
    Observation {
        detail: "the probe broke: a bug of hapilot".to_owned(),
        ..Observation::new(kind, Outcome::SelfCaused, Duration::ZERO)
    }
}
