//! What the loop makes of live traffic: words about servers for the fleet, words about keys for the keyring.

use super::body::Agent;
use crate::agent::probes::ears::Ears;
use crate::agent::probes::traffic_listener::{Batch, TrafficListener};
use crate::agent::sources::place::Sources;
use crate::health::Outcome;

impl Agent {
    /// Listens where the file that serves wants it.
    pub(super) fn listen(&mut self) {
        let haproxy = &self.node.serving.config.haproxy;
        let wanted = haproxy.live.then(|| haproxy.admin_socket.value.clone());
        if self.hearing.at == wanted {
            return;
        }
        let (listening, batches) = match &wanted {
            Some(socket) => {
                let (unanswered, ledger) = (self.node.engine.unanswered.clone(), self.node.steering.ledger.clone());
                let (listening, batches) = TrafficListener::start(socket, self.node.epoch, unanswered, ledger);
                (Some(listening), Some(batches))
            }
            None => (None, None),
        };
        self.node.listening = listening;
        self.node.engine.unanswered.forget();
        self.hearing = Ears { at: wanted, batches };
    }

    /// What clients have spent by now: told, and made known to HAProxy with the comparison that follows.
    pub(super) fn look_at_budgets(&mut self) {
        let Sources { config, clients, .. } = &self.node.serving;
        self.usage.tell(config, clients, &self.node.bulletin);
        self.node.steering.look_at_budgets(&self.node.serving);
    }

    /// Takes in what was heard.
    pub(super) fn hear(&mut self, batch: Batch) {
        let now = self.node.now();
        for (id, mut sample) in batch.samples {
            // With several keys, what is said of one is no word about the server.
            let keys = self.node.serving.config.server(&id).map_or(0, |(_, server)| server.keys.len());
            if keys > 1 {
                let is_limited = sample.of(Outcome::RateLimited) > 0;
                let since_success = &mut sample.since_success.outcomes;
                for outcomes in [&mut sample.outcomes, &mut sample.repeated, since_success] {
                    outcomes.retain(|outcome, _| !matches!(outcome, Outcome::RateLimited | Outcome::Credential));
                }
                if is_limited && sample.of(Outcome::Overloaded) == 0 {
                    sample.retry_after = None;
                }
            }
            if let Some(transition) = self.node.steering.fleet.live(&id, &sample, now) {
                crate::agent::steering::log_transition(&id, &transition, &self.node.bulletin);
                self.follow_soon();
            }
        }
        self.node.steering.canaries.hear(&self.node.serving.config, &batch.groups);
        self.node.steering.soaking.hear(&self.node.serving.config, &batch.groups, &batch.own_answers);
        for words in &batch.keys {
            let learnt = self.node.steering.keyring.observe_live(words, now);
            self.heed(&learnt);
        }
    }
}
