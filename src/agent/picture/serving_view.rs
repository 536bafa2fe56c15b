//! What decides whether the backends can serve: borrowed from the loop, or from what was handed to who looks.

use super::outage::{self, Look};
use crate::agent::node::Node;
use crate::agent::tell::outages::Outages;
use crate::config::{Backend, Config, Server};
use crate::fleet::{Overrides, View};
use crate::health::ServerHealth;
use crate::model::{Along, Moment, Name, ServerId};
use crate::plan::{Runtime, RuntimeServer};
use crate::render::RuntimeNames;
use std::collections::BTreeMap;
use std::sync::Arc;

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

    /// What HAProxy said of a server that it knows by these names.
    pub fn runtime_by(&self, names: Option<&RuntimeNames>) -> Option<&'a RuntimeServer> {
        self.runtime?.servers.get(&names?.weight)
    }

    /// Why each backend can serve no request. `None`: without a HAProxy none serves, which is said as one thing.
    pub fn outages(&self) -> Option<Vec<(&'a Name, Option<String>)>> {
        self.runtime?;
        Some(self.config.backends.iter().map(|backend| (&backend.name, self.outage_of(backend))).collect())
    }

    /// Why a backend can serve no request. One server that can is enough to know that it can.
    pub fn outage_of(&self, backend: &Backend) -> Option<String> {
        let servers = self.looks(backend).map(|(server, look)| (&server.name, look));
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
        tiered.map(|(backend, first)| (&backend.name, first, self.serving_tier(backend))).collect()
    }

    fn serving_tier(&self, backend: &Backend) -> Option<u8> {
        let first = first_tier(backend);
        let mut lowest: Option<u8> = None;
        for (server, _) in self.looks(backend).filter(|(_, look)| look.is_out().is_none()) {
            lowest = Some(lowest.map_or(server.tier, |lowest| lowest.min(server.tier)));
            // Nobody is before the first tier: the rest need no look.
            if lowest == first {
                break;
            }
        }
        lowest
    }

    /// Names and health of a backend's servers for who asks for one after the other, in their order: a step along each map,
    /// where a search would look among thousands. `None`: it has none.
    pub fn along(self, backend: &Backend) -> Option<(Along<'a, RuntimeNames>, Along<'a, Arc<ServerHealth>>)> {
        let first = backend.servers.first()?;
        let first = ServerId::new(backend.name.clone(), first.name.clone());
        Some((Along::from(self.names, &first), self.view.along(&first)))
    }

    /// What decides of each server of a backend, in their order.
    fn looks<'b>(self, backend: &'b Backend) -> impl Iterator<Item = (&'b Server, Look<'a>)> {
        self.along(backend).into_iter().flat_map(move |(mut names, mut healths)| {
            backend.servers.iter().map(move |server| {
                let id = ServerId::new(backend.name.clone(), server.name.clone());
                let names = names.of(&id);
                (server, self.look(server, &id, names, healths.of(&id).map(Arc::as_ref)))
            })
        })
    }

    fn look(
        &self,
        server: &Server,
        id: &ServerId,
        names: Option<&RuntimeNames>,
        health: Option<&'a ServerHealth>,
    ) -> Look<'a> {
        let word = self.overrides.get(id);
        Look {
            admin: word.and_then(|word| word.wish().state).unwrap_or(server.state.value),
            word,
            runtime: self.runtime_by(names),
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
