//! Which models servers said that they have, and the lists that callers are answered with.

use crate::agent::sources::place::Sources;
use crate::config::{Clients, Config, Server};
use crate::model::ServerId;
use crate::render::{ModelsOfServers, model_lists};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known, and the lists as they were made last, under which configuration and for which clients.
#[derive(Debug, Default)]
pub(in crate::agent) struct ModelLists {
    known: ModelsOfServers,
    of: Option<(Arc<Config>, Arc<Clients>)>,
    /// Whether any frontend answers with one.
    is_asked_for: bool,
    rows: Arc<BTreeMap<String, String>>,
}

impl ModelLists {
    pub fn new(known: ModelsOfServers) -> Self {
        Self { known, ..Self::default() }
    }

    /// What servers said.
    pub fn known(&self) -> &ModelsOfServers {
        &self.known
    }

    /// A server said what it has. Answers whether lists are others now.
    pub fn learn(&mut self, sources: &Sources, id: &ServerId, models: &Arc<BTreeSet<String>>) -> bool {
        if !self.is_asked_for || self.known.get(id) == Some(models) {
            return false;
        }
        let Some((backend, server)) = sources.config.server(id) else { return false };
        // Servers of a pool mostly have the same: one copy will do, and the lists stay.
        let of = |other: &Server| ServerId::new(backend.name.clone(), other.name.clone());
        let twin = backend.servers.iter().filter(|other| other.models.is_empty());
        let twin = twin.filter_map(|other| self.known.get(&of(other))).find(|known| *known == models).cloned();
        let is_twin = twin.is_some() && server.models.is_empty();
        let before = self.known.insert(id.clone(), twin.unwrap_or_else(|| models.clone()));
        if is_twin && before.is_none() {
            return false;
        }
        let rows = self.rows.clone();
        self.look(sources);
        self.rows != rows
    }

    /// Another configuration serves.
    pub fn look(&mut self, sources: &Sources) {
        let Sources { config, clients, .. } = sources;
        self.is_asked_for = config.frontends.iter().any(|frontend| config.reads_models(frontend));
        self.known.retain(|id, _| config.server(id).is_some());
        let rows = model_lists(config, clients, &self.known);
        if *self.rows != rows {
            self.rows = Arc::new(rows);
        }
        self.of = Some((config.clone(), clients.clone()));
    }

    /// The lists under other sources.
    pub fn under(&self, sources: &Sources) -> Arc<BTreeMap<String, String>> {
        let is_of = |(config, clients): &(Arc<Config>, Arc<Clients>)| {
            Arc::ptr_eq(config, &sources.config) && Arc::ptr_eq(clients, &sources.clients)
        };
        match self.of.as_ref().is_some_and(is_of) {
            true => self.rows.clone(),
            false => Arc::new(model_lists(&sources.config, &sources.clients, &self.known)),
        }
    }
}
