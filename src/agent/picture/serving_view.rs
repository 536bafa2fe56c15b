//! What decides whether the backends can serve: borrowed from the loop, or from what was handed to who looks.

use super::outage::{self, Look};
use crate::agent::node::Node;
use crate::agent::tell::outages::Outages;
use crate::config::{Backend, Config, Server};
use crate::fleet::{Overrides, View};
use crate::model::{Moment, Name, ServerId};
use crate::plan::{Runtime, RuntimeServer};
use crate::render::RuntimeNames;
use std::collections::BTreeMap;

/// What is known at one moment.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) struct ServingView<'a> {
    pub config: &'a Config,
    pub names: &'a BTreeMap<ServerId, RuntimeNames>,
    pub runtime: Option<&'a Runtime>,
    pub overrides: &'a Overrides,
    pub view: &'a View,
    pub outages: &'a Outages,
    pub at: Moment,
}

impl<'a> ServingView<'a> {
    /// What the loop knows now.
    pub fn of(node: &'a Node, names: &'a BTreeMap<ServerId, RuntimeNames>, outages: &'a Outages) -> Self {
        Self {
            config: &node.serving.config,
            names,
            runtime: node.runtime(),
            overrides: &node.steering.overrides,
            view: node.steering.fleet.view(),
            outages,
            at: node.now(),
        }
    }

    /// What HAProxy said of a server.
    pub fn runtime_of(&self, id: &ServerId) -> Option<&'a RuntimeServer> {
        self.runtime?.servers.get(&self.names.get(id)?.weight)
    }

    /// Why each backend can serve no request. `None`: without a HAProxy none serves, which is said as one thing.
    pub fn outages(&self) -> Option<Vec<(&'a Name, Option<String>)>> {
        self.runtime?;
        Some(self.config.backends.iter().map(|backend| (&backend.name, self.outage_of(backend))).collect())
    }

    /// Why a backend can serve no request. One server that can is enough to know that it can.
    pub fn outage_of(&self, backend: &Backend) -> Option<String> {
        let servers = backend.servers.iter().map(|server| (&server.name, self.look(backend, server)));
        outage::of(servers, self.outages.of(&backend.name).is_some())
    }

    /// The tier whose servers take the requests of a backend: the first of which one can.
    pub fn tier_of(&self, backend: &Backend) -> u8 {
        let Some(first) = first_tier(backend) else { return 1 };
        let serving = has_tiers(backend, first).then(|| self.serving_tier(backend)).flatten();
        serving.unwrap_or(first)
    }

    /// Of each backend with several tiers the first one, and the one that takes its requests.
    pub fn tiers(&self) -> Vec<(&'a Name, u8, Option<u8>)> {
        let backends = self.config.backends.iter().filter_map(|backend| Some((backend, first_tier(backend)?)));
        let tiered = backends.filter(|(backend, first)| has_tiers(backend, *first));
        let serving = |backend: &Backend, first: u8| {
            let mut of_first = backend.servers.iter().filter(|server| server.tier == first);
            let is_first = of_first.any(|server| self.can_serve(backend, server));
            if is_first { Some(first) } else { self.serving_tier(backend) }
        };
        tiered.map(|(backend, first)| (&backend.name, first, serving(backend, first))).collect()
    }

    fn serving_tier(&self, backend: &Backend) -> Option<u8> {
        let serving = backend.servers.iter().filter(|server| self.can_serve(backend, server));
        serving.map(|server| server.tier).min()
    }

    fn can_serve(&self, backend: &Backend, server: &Server) -> bool {
        self.look(backend, server).is_out().is_none()
    }

    fn look(&self, backend: &Backend, server: &Server) -> Look<'a> {
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        let word = self.overrides.get(&id);
        let health = self.view.health(&id);
        Look {
            admin: word.and_then(|word| word.wish().state).unwrap_or(server.state.value),
            word,
            runtime: self.runtime_of(&id),
            unhealthy: health.filter(|health| health.state().is_unhealthy()).map(|health| health.reason()),
            answers: health.and_then(|health| health.answers(self.at)),
            keyless: health.and_then(|health| health.keyless()).map(|keyless| keyless.why.as_str()),
        }
    }
}

/// Whether a server has another tier than the first one.
fn has_tiers(backend: &Backend, first: u8) -> bool {
    backend.servers.iter().any(|server| server.tier != first)
}

fn first_tier(backend: &Backend) -> Option<u8> {
    backend.servers.iter().map(|server| server.tier).min()
}
