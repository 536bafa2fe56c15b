//! What HAProxy should have, and whether it was seen to have it.

use super::Steering;
use crate::agent::apply::interim::Moved;
use crate::agent::sources::place::Sources;
use crate::config::{Config, Server};
use crate::desired::{Desired, DesiredServer};
use crate::fleet::{Keyring, Override};
use crate::model::{AdminState, Moment, SecretRef, ServerId, Sourced, Weight};
use crate::plan::{RuntimeServers, Step};
use crate::render;
use std::collections::{BTreeMap, BTreeSet};

impl Steering {
    /// What was decided last, under the sources that serve.
    pub(in crate::agent) fn in_force(&self, serving: &Sources) -> Desired {
        self.desired(serving, self.fleet.weights())
    }

    /// What should serve by all that is known now, under the sources that serve.
    pub(in crate::agent) fn decided(&mut self, serving: &Sources, now: Moment) -> Desired {
        let weights = self.fleet.decide(&self.overrides, now);
        self.desired(serving, &weights)
    }

    /// What has moved since it was asked for last: weights of the backends that have news, operators' words that HAProxy was
    /// not seen to have, and keys.
    pub(in crate::agent) fn moved(&mut self, serving: &Sources, now: Moment) -> Moved {
        self.said.iter().for_each(|id| self.fleet.touch(&id.backend));
        let weights = self.fleet.decide_moved(&self.overrides, now);
        let wish = |(id, weight): (ServerId, Weight)| {
            let wish = self.wish(&serving.config, &id, Some(weight))?;
            Some((id, wish))
        };
        let wishes = weights.into_iter().filter_map(wish).collect();
        let keys = std::mem::take(&mut self.keys_moved).then(|| self.desired(serving, &BTreeMap::new()));
        Moved { wishes, said: self.said.clone(), keys }
    }

    /// HAProxy was seen to have these. Answers whom operators spoke of and who does not follow yet.
    pub(in crate::agent) fn saw(&mut self, config: &Config, seen: &[RuntimeServers]) -> &BTreeSet<ServerId> {
        let is_seen = |id: &&ServerId| seen.iter().any(|seen| self.has_word(config, seen, id));
        let followed: BTreeSet<ServerId> = self.said.iter().filter(is_seen).cloned().collect();
        self.said.retain(|id| !followed.contains(id));
        &self.said
    }

    /// HAProxy did not take all that has moved: it moves again.
    pub(in crate::agent) fn move_again(&mut self) {
        self.fleet.touch_all();
        self.keys_moved = true;
    }

    /// Whether HAProxy was not yet seen to have all that operators said.
    pub(in crate::agent) fn has_unproven_words(&self) -> bool {
        !self.said.is_empty()
    }

    /// Whether these servers have what is wanted of one.
    pub(in crate::agent) fn has_word(&self, config: &Config, seen: &RuntimeServers, id: &ServerId) -> bool {
        let Some((backend, server)) = config.server(id) else { return false };
        // What was decided for the push that has just been made, or found nothing to do.
        let Some(wanted) = self.wish(config, id, self.fleet.weights().get(id).copied()) else { return false };
        let name = render::names_of(backend, server).weight;
        seen.get(&name).is_some_and(|seen| (seen.admin, seen.weight) == (wanted.state, wanted.weight))
    }

    /// Whether operators and health have taken every server of a backend out of service.
    pub(in crate::agent) fn is_nobody_left(&self, config: &Config, of: &ServerId) -> bool {
        let Some(backend) = config.backend(&of.backend) else { return false };
        let serves = |server: &Server| {
            let id = ServerId { backend: of.backend.clone(), server: server.name.clone() };
            // As health and its guards decided it last.
            let wanted = self.wish(config, &id, self.fleet.weights().get(&id).copied());
            wanted.is_some_and(|wanted| wanted.state == AdminState::Ready && wanted.weight > Weight::ZERO)
        };
        !backend.servers.iter().any(serves)
    }

    fn desired(&self, serving: &Sources, weights: &BTreeMap<ServerId, Weight>) -> Desired {
        self.desired_with(serving, weights, &self.keyring)
    }

    /// With these keys in the place of those that serve.
    pub(super) fn desired_with(
        &self,
        sources: &Sources,
        weights: &BTreeMap<ServerId, Weight>,
        keyring: &Keyring,
    ) -> Desired {
        let (secrets, certificates) = (sources.secrets.clone(), sources.certificates.clone());
        let wishes = self.overrides.wishes();
        let mut desired = Desired::new(sources.config.clone(), weights, &wishes, secrets, certificates);
        desired.trust = sources.trust.clone();
        desired.clients = sources.clients.clone();
        desired.spent = self.spent_under(sources);
        desired.lists = self.models.under(sources);
        desired.canaries = self.canaries.parts_under(sources);
        desired.active_keys = keyring.active_keys();
        desired.spread_keys = keyring.spread_keys();
        desired
    }

    fn wish(&self, config: &Config, id: &ServerId, weight: Option<Weight>) -> Option<DesiredServer> {
        let (backend, server) = config.server(id)?;
        let word = self.overrides.get(id).map(Override::wish).unwrap_or_default();
        Some(DesiredServer::of(backend, server, weight, word))
    }
}

/// Those of the steps that are about a server.
pub(in crate::agent) fn steps_of(config: &Config, id: &ServerId, steps: &[Step]) -> Vec<Step> {
    let Some((backend, server)) = config.server(id) else { return vec![] };
    let name = render::names_of(backend, server).weight;
    let is_its = |step: &&Step| match step {
        Step::SetWeight { proxy, server, .. } | Step::SetState { proxy, server, .. } => {
            (proxy, server) == (&name.0, &name.1)
        }
        _ => false,
    };
    steps.iter().filter(is_its).cloned().collect()
}

/// Servers of which a key has the same place and another value: a rejected key is else asked about once a minute.
pub(in crate::agent) fn renewed_keys(before: &Sources, after: &Sources) -> Vec<ServerId> {
    let servers = after.config.servers().filter_map(|(backend, server)| {
        let is_renewed = |key: &Sourced<SecretRef>| {
            before.secrets.get(&key.value).is_some_and(|old| after.secrets.get(&key.value) != Some(old))
        };
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        server.keys.iter().any(is_renewed).then_some(id)
    });
    servers.collect()
}
