//! What the loop hands to who looks: the parts of a picture, shared and not copied, so that thousands of servers hold
//! nothing up. The picture is made of them by the reader, in his own time.

use super::listening::{Heard, Listening};
use super::node::Node;
use super::outage::{self, Look};
use super::outages::Outages;
use super::snapshot::{BackendSnapshot, Outage, ServerSnapshot, Snapshot};
use crate::config::{Backend, Config, Server};
use crate::fleet::{Keyring, Override, Overrides, View};
use crate::model::{Moment, Name, ServerId};
use crate::plan::{Runtime, RuntimeServer};
use crate::render::RuntimeNames;
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known at one moment.
#[derive(Debug)]
pub struct Seen {
    /// Everything but what grows with the servers.
    head: Snapshot,
    config: Arc<Config>,
    names: Arc<BTreeMap<ServerId, RuntimeNames>>,
    runtime: Option<Runtime>,
    overrides: Overrides,
    view: View,
    keyring: Keyring,
    heard: Option<Arc<Heard>>,
    outages: Outages,
    at: Moment,
}

impl Seen {
    /// What is known now.
    pub(super) fn of(node: &Node, outages: &Outages, pending: Option<&'static str>) -> Self {
        let config = node.serving.config.clone();
        Self {
            head: Snapshot::head(node, pending),
            names: node.engine.renderer.names_seen(&config),
            config,
            runtime: node.runtime().cloned(),
            overrides: node.overrides.clone(),
            view: node.fleet.view().clone(),
            keyring: node.keyring.clone(),
            heard: node.listening.as_ref().map(Listening::heard),
            outages: outages.clone(),
            at: node.now(),
        }
    }

    /// What a command that works alone knows.
    pub fn alone(node: &Node) -> Self {
        Self::of(node, &Outages::default(), None)
    }

    /// The operator's file.
    pub fn file(&self) -> &Utf8Path {
        &self.head.file
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.head.node
    }

    /// The same with the outages that are known by now.
    pub(super) fn with(self, outages: &Outages) -> Self {
        Self { outages: outages.clone(), ..self }
    }

    /// Everything that `status` shows.
    pub fn picture(&self) -> Snapshot {
        let backends = self.config.backends.iter().map(|backend| self.backend(backend)).collect();
        Snapshot { backends, traffic: self.heard.as_ref().map(|heard| heard.picture()), ..self.head.clone() }
    }

    fn backend(&self, backend: &Backend) -> BackendSnapshot {
        let known = self.outages.of(&backend.name);
        let why = self.outage_of(backend).or_else(|| known.map(|(_, why)| why.to_owned()));
        let outage = why.map(|why| Outage { why, since: known.map(|(since, _)| since) });
        BackendSnapshot {
            name: backend.name.to_string(),
            provider: backend.provider.to_string(),
            balance: backend.balance.to_string(),
            guard: self.view.guard_of(&backend.name),
            outage,
            servers: backend.servers.iter().map(|server| self.server(backend, server)).collect(),
        }
    }

    fn server(&self, backend: &Backend, server: &Server) -> ServerSnapshot {
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        let word = self.overrides.get(&id);
        let decision = self.view.decision(&id).cloned();
        let weight = word.and_then(|word| word.wish().weight).or(decision.as_ref().map(|decision| decision.weight));
        ServerSnapshot {
            url: server.url.to_string(),
            tier: server.tier,
            base: server.weight.value,
            admin: word.and_then(|word| word.wish().state).unwrap_or(server.state.value),
            weight: weight.unwrap_or(server.weight.value),
            decision,
            runtime: self.runtime_of(&id).cloned(),
            health: self.view.health(&id).map(|health| health.snapshot(self.at)),
            word: word.map(Override::to_string),
            keys: self.keyring.status(&id, self.at),
            key_rotations: self.keyring.rotations(&id),
            id,
        }
    }

    fn runtime_of(&self, id: &ServerId) -> Option<&RuntimeServer> {
        self.runtime.as_ref()?.servers.get(&self.names.get(id)?.weight)
    }

    /// Why each backend can serve no request. `None`: without a HAProxy none serves, which is said as one thing.
    pub(super) fn outages(&self) -> Option<Vec<(&Name, Option<String>)>> {
        self.runtime.as_ref()?;
        Some(self.config.backends.iter().map(|backend| (&backend.name, self.outage_of(backend))).collect())
    }

    /// Why a backend can serve no request. One server that can is enough to know that it can.
    fn outage_of(&self, backend: &Backend) -> Option<String> {
        let servers = backend.servers.iter().map(|server| {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            let word = self.overrides.get(&id);
            let health = self.view.health(&id);
            let look = Look {
                admin: word.and_then(|word| word.wish().state).unwrap_or(server.state.value),
                word,
                runtime: self.runtime_of(&id),
                unhealthy: health.filter(|health| health.state().is_unhealthy()).map(|health| health.reason()),
                answers: health.and_then(|health| health.answers(self.at)),
                keyless: health.and_then(|health| health.keyless()).map(|keyless| keyless.why.as_str()),
            };
            (&server.name, look)
        });
        outage::of(servers, self.outages.of(&backend.name).is_some())
    }
}
