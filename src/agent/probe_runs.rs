//! Which probes run now: from what is due to a task, and from its result to fleet, keyring and memory.

use super::body::Agent;
use super::probe_errand::Errand;
use super::wanted::{Asked, DueProbe};
use crate::health::{Observation, Outcome, ProbeKind};
use crate::model::Host;
use std::time::{Duration, Instant};

impl Agent {
    pub(super) fn start_probes(&mut self) {
        while let Some(wanted) = self.waiting.start(Instant::now()) {
            match self.errand(&wanted) {
                Some(errand) => {
                    let prober = self.prober.clone();
                    let asked = self.whom(&wanted);
                    self.probes.spawn(async move {
                        // A task of its own: a probe that breaks must not take the memory of which one it was along.
                        let observation = tokio::spawn(errand.run(prober)).await;
                        let kind = wanted.kind;
                        (wanted, asked, observation.unwrap_or_else(|_| broken(kind)))
                    });
                }
                None => {
                    tracing::debug!(server = %wanted.id, kind = %wanted.kind, "the probe is gone with its server");
                    self.waiting.ended(&wanted.id.backend);
                    if let Some(key) = wanted.key {
                        self.node.keyring.test_ended(&wanted.id, key);
                    }
                }
            }
        }
    }

    fn errand(&self, wanted: &DueProbe) -> Option<Errand> {
        let DueProbe { id, kind, key: _ } = wanted;
        let (backend, server) = self.node.serving.config.server(id)?;
        let resolved = match server.url.host {
            Host::Ip(_) => None,
            Host::Dns(_) => self.node.address_of(id),
        };
        Errand::new(&self.node.serving, backend, server, *kind, self.key_of(wanted), resolved)
    }

    /// The place of the key to ask with: the one under test, else the one that serves.
    fn key_of(&self, DueProbe { id, kind: _, key }: &DueProbe) -> usize {
        key.or_else(|| self.node.keyring.active(id)).unwrap_or(0)
    }

    fn whom(&self, wanted: &DueProbe) -> Option<Asked> {
        let (_, server) = self.node.serving.config.server(&wanted.id)?;
        let index = self.key_of(wanted);
        let key = server.keys.get(index).and_then(|key| self.node.serving.secrets.get(&key.value));
        Some(Asked { url: server.url.value.clone(), key: key.map(|key| (index, key.clone())) })
    }

    pub(super) fn probed(&mut self, finished: Result<(DueProbe, Option<Asked>, Observation), tokio::task::JoinError>) {
        let (wanted, asked, observation) = match finished {
            Ok(result) => result,
            // Only at the very end, when the tasks are dropped.
            Err(_) => return,
        };
        let id = &wanted.id;
        self.waiting.ended(&id.backend);
        tracing::debug!(server = %id, kind = %observation.kind, outcome = %observation.outcome, detail = observation.detail, "probed");
        let now = self.node.now();
        if let Some(key) = wanted.key {
            self.node.keyring.test_ended(id, key);
        }
        let mut here = self.whom(&wanted);
        if let (Some(asked), Some(at)) = (&asked, &here)
            && asked.url == at.url
        {
            if let Some(results) = &mut self.results {
                results.note(id, asked.key.as_ref().map(|(index, _)| *index), &observation);
            }
            if let Some((_, key)) = &asked.key {
                let learnt = self.node.keyring.observe(id, key, &observation, now);
                self.heed(&learnt);
                here = self.whom(&wanted);
            }
        }
        if wanted.key.is_some() {
            return;
        }
        // Also where the key went out by this very answer: the server is asked again, with the one that serves now.
        if asked != here {
            self.node.fleet.disregard(id, observation.kind, now);
            return;
        }
        if let Some(transition) = self.node.fleet.observe(id, &observation, now) {
            super::following::log_transition(id, &transition, &self.node.bulletin);
            self.follow_soon();
        }
    }
}

/// The result of a probe that panicked: a bug of ours, and no word about the server.
fn broken(kind: ProbeKind) -> Observation {
    tracing::error!(%kind, "a probe broke: this is a bug of hapilot");
    Observation {
        detail: "the probe broke: a bug of hapilot".to_owned(),
        ..Observation::new(kind, Outcome::SelfCaused, Duration::ZERO)
    }
}
