//! Which models servers said that they have, and the lists that callers are answered with.

use crate::config::Config;
use crate::model::ServerId;
use crate::render::{ModelsOfServers, model_lists};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known, and the lists as they were made last, under which configuration.
#[derive(Debug, Default)]
pub(in crate::agent) struct ModelLists {
    known: ModelsOfServers,
    of: Option<Arc<Config>>,
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
    pub fn learn(&mut self, config: &Arc<Config>, id: &ServerId, models: &Arc<BTreeSet<String>>) -> bool {
        if self.known.get(id) == Some(models) {
            return false;
        }
        // Servers of a pool mostly have the same: one copy will do.
        let alike = self.known.values().find(|known| *known == models).unwrap_or(models).clone();
        self.known.insert(id.clone(), alike);
        let before = self.rows.clone();
        self.look(config);
        self.rows != before
    }

    /// Another configuration serves.
    pub fn look(&mut self, config: &Arc<Config>) {
        self.known.retain(|id, _| config.server(id).is_some());
        let rows = model_lists(config, &self.known);
        if *self.rows != rows {
            self.rows = Arc::new(rows);
        }
        self.of = Some(config.clone());
    }

    /// The lists under a configuration.
    pub fn under(&self, config: &Arc<Config>) -> Arc<BTreeMap<String, String>> {
        match self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, config)) {
            true => self.rows.clone(),
            false => Arc::new(model_lists(config, &self.known)),
        }
    }
}
