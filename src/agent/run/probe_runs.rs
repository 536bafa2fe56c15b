//! Which probes run now: from what is due to a task, and from its result to fleet, keyring and memory.

use super::body::Agent;
use super::probes::whom;
use crate::agent::history::spending::ModelBook;
use crate::agent::probes::wanted::{Asked, DueProbe};
use crate::health::Observation;

impl Agent {
    pub(super) fn probed(&mut self, finished: Result<(DueProbe, Option<Asked>, Observation), tokio::task::JoinError>) {
        let (wanted, asked, observation) = match finished {
            Ok(result) => result,
            // Only at the very end, when the tasks are dropped.
            Err(_) => return,
        };
        let id = &wanted.id;
        self.probes.queue.ended(&id.backend);
        tracing::debug!(server = %id, kind = %observation.kind, outcome = %observation.outcome, detail = observation.detail, "probed");
        let now = self.node.now();
        if let Some(key) = wanted.key {
            self.node.steering.keyring.test_ended(id, key);
        }
        let mut here = whom(&self.node, &wanted);
        if let (Some(asked), Some(at)) = (&asked, &here)
            && asked.url == at.url
        {
            if let Some(results) = &mut self.results {
                results.note(id, asked.key.as_ref().map(|(index, _)| *index), &observation);
            }
            if let Some((_, key)) = &asked.key {
                let learnt = self.node.steering.keyring.observe(id, key, &observation, now);
                self.heed(&learnt);
                here = whom(&self.node, &wanted);
            }
        }
        if wanted.key.is_some() {
            return;
        }
        // Also where the key went out by this very answer: the server is asked again, with the one that serves now.
        if asked != here {
            self.node.steering.fleet.disregard(id, observation.kind, now);
            return;
        }
        self.node.steering.soaking.probed(&self.node.serving.config, id, observation.outcome);
        if let Some(models) = &observation.models
            && self.node.steering.models.learn(&self.node.serving, id, models)
        {
            self.follow_soon();
            self.models.iter_mut().for_each(ModelBook::hurry);
        }
        if let Some(transition) = self.node.steering.fleet.observe(id, &observation, now) {
            crate::agent::steering::log_transition(id, &transition, &self.node.bulletin);
            self.follow_soon();
        }
    }
}
