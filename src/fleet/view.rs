//! What is known of every server now. A copy shares what stays as it is, so that whoever has one may look at it
//! elsewhere and in his own time.

use crate::config::Backend;
use crate::health::{Guard, PoolGuards, ServerHealth};
use crate::model::{Along, Name, ServerId};
use crate::weights::WeightDecision;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Health, last decisions and guards.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Those of the file, one by one in the order of [`Config::servers`](crate::config::Config::servers).
    pub(super) servers: BTreeMap<ServerId, Arc<ServerHealth>>,
    /// Those of each backend, in the order of its servers.
    pub(super) decisions: BTreeMap<Name, Arc<[WeightDecision]>>,
    /// What each backend's guards remember.
    pub(super) guards: BTreeMap<Name, Arc<PoolGuards>>,
}

impl View {
    /// The health of one server.
    pub fn health(&self, id: &ServerId) -> Option<&ServerHealth> {
        self.servers.get(id).map(Arc::as_ref)
    }

    /// How the last weight of a server came about.
    pub fn decision(&self, id: &ServerId) -> Option<&WeightDecision> {
        let decisions = self.decisions.get(&id.backend)?;
        let at = decisions.binary_search_by(|decision| decision.id.server.cmp(&id.server)).ok()?;
        decisions.get(at)
    }

    /// How the last weights of one backend came about, in the order of its servers then.
    pub fn decisions_of(&self, backend: &Name) -> &[WeightDecision] {
        self.decisions.get(backend).map_or(&[], |decisions| decisions)
    }

    /// The health of one server after the other, in the order of their names, from this one on.
    pub fn along(&self, first: &ServerId) -> Along<'_, Arc<ServerHealth>> {
        Along::from(&self.servers, first)
    }

    /// What holds back the weights of one backend, in words.
    pub fn guard_of(&self, backend: &Name) -> Option<String> {
        let guards = self.guards.get(backend)?;
        let words: Vec<_> = guards
            .active()
            .filter(|(guard, ..)| *guard != Guard::BudgetSpent)
            .map(|(guard, _, why)| format!("{guard}: {why}"))
            .collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// The servers of one backend, in order: no look at others.
    pub(super) fn of_backend<'a>(
        &'a self,
        backend: &Backend,
    ) -> impl Iterator<Item = (&'a ServerId, &'a Arc<ServerHealth>)> + use<'a> {
        let end = |server: Option<&crate::config::Server>| {
            server.map(|server| ServerId::new(backend.name.clone(), server.name.clone()))
        };
        let ends = end(backend.servers.first()).zip(end(backend.servers.last()));
        ends.into_iter().flat_map(|(first, last)| self.servers.range(first..=last))
    }
}
