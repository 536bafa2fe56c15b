//! What the loop hands to who looks: the parts of a picture, shared and not copied, so that thousands of servers hold
//! nothing up. The picture is made of them by the reader, in his own time.

use super::serving_view::ServingView;
use super::snapshot::{BackendSnapshot, Outage, ServerSnapshot, Snapshot};
use crate::agent::node::Node;
use crate::agent::probes::traffic_listener::{HeardTraffic, TrafficListener};
use crate::agent::tell::outages::Outages;
use crate::config::{Backend, Config, Server};
use crate::fleet::{Keyring, Override, Overrides, View};
use crate::health::ServerHealth;
use crate::model::{Moment, ServerId};
use crate::plan::{Runtime, RuntimeServer};
use crate::render::RuntimeNames;
use crate::weights::WeightDecision;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known at one moment.
#[derive(Debug)]
pub struct SnapshotParts {
    /// Everything but what grows with the servers.
    head: Snapshot,
    config: Arc<Config>,
    names: Arc<BTreeMap<ServerId, RuntimeNames>>,
    runtime: Option<Runtime>,
    overrides: Overrides,
    view: View,
    keyring: Keyring,
    heard: Option<Arc<HeardTraffic>>,
    outages: Outages,
    at: Moment,
}

impl SnapshotParts {
    /// What is known now.
    pub(in crate::agent) fn of(node: &Node, outages: &Outages, pending: Option<&'static str>) -> Self {
        let config = node.serving.config.clone();
        Self {
            head: Snapshot::head(node, pending),
            names: node.engine.renderer.names_seen(&config),
            config,
            runtime: node.runtime().cloned(),
            overrides: node.steering.overrides.clone(),
            view: node.steering.fleet.view().clone(),
            keyring: node.steering.keyring.clone(),
            heard: node.listening.as_ref().map(TrafficListener::heard),
            outages: outages.clone(),
            at: node.now(),
        }
    }

    /// What a command that works alone knows.
    pub fn alone(node: &Node) -> Self {
        Self::of(node, &Outages::default(), None)
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.head.node
    }

    fn sight(&self) -> ServingView<'_> {
        ServingView {
            config: &self.config,
            names: &self.names,
            runtime: self.runtime.as_ref(),
            overrides: &self.overrides,
            view: &self.view,
            outages: &self.outages,
            at: self.at,
        }
    }

    /// Everything that `status` shows, but for the servers.
    pub fn picture(&self) -> Snapshot {
        let backends = self.config.backends.iter().map(|backend| self.backend(backend)).collect();
        Snapshot { backends, traffic: self.heard.as_ref().map(|heard| heard.picture()), ..self.head.clone() }
    }

    fn backend(&self, backend: &Backend) -> BackendSnapshot {
        let known = self.outages.of(&backend.name);
        let why = self.sight().outage_of(backend).or_else(|| known.map(|(_, why)| why.to_owned()));
        let outage = why.map(|why| Outage { why, since: known.map(|(since, _)| since) });
        BackendSnapshot {
            name: backend.name.to_string(),
            provider: backend.provider.to_string(),
            balance: backend.balance.to_string(),
            guard: self.view.guard_of(&backend.name),
            outage,
            tier: self.sight().tier_of(backend),
        }
    }

    /// The servers of a backend, which is known by its place among those of the picture, in the order of their names.
    pub fn servers(&self, backend: usize) -> impl Iterator<Item = ServerSnapshot> {
        let backend = self.config.backends.get(backend).into_iter();
        backend.flat_map(move |backend| {
            let decisions = self.view.decisions_of(&backend.name);
            self.sight().along(backend).into_iter().flat_map(move |(mut names, mut healths)| {
                backend.servers.iter().enumerate().map(move |(at, server)| {
                    let id = ServerId::new(backend.name.clone(), server.name.clone());
                    // In the same order, unless the file is a newer one.
                    let decision = decisions.get(at).filter(|decision| decision.id == id);
                    let decision = decision.or_else(|| self.view.decision(&id)).cloned();
                    let runtime = self.sight().runtime_by(names.of(&id)).cloned();
                    self.server(server, decision, healths.of(&id).map(Arc::as_ref), runtime, id)
                })
            })
        })
    }

    /// How many servers there are.
    pub fn count(&self) -> usize {
        self.config.backends.iter().map(|backend| backend.servers.len()).sum()
    }

    fn server(
        &self,
        server: &Server,
        decision: Option<WeightDecision>,
        health: Option<&ServerHealth>,
        runtime: Option<RuntimeServer>,
        id: ServerId,
    ) -> ServerSnapshot {
        let word = self.overrides.get(&id);
        let weight = word.and_then(|word| word.wish().weight).or(decision.as_ref().map(|decision| decision.weight));
        ServerSnapshot {
            url: server.url.to_string(),
            tier: server.tier,
            base: server.weight.value,
            admin: word.and_then(|word| word.wish().state).unwrap_or(server.state.value),
            weight: weight.unwrap_or(server.weight.value),
            decision,
            runtime,
            health: health.map(|health| health.snapshot(self.at)),
            word: word.map(Override::to_string),
            keys: self.keyring.status(&id, self.at),
            key_rotations: self.keyring.rotations(&id),
            id,
        }
    }
}
