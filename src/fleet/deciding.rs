//! What follows from health for the weights: of all backends at once, or of those where something has moved.

use super::Fleet;
use super::overrides::{Override, Overrides};
use crate::config::{Backend, Server};
use crate::health::{Guard, PoolReport, Suspicion};
use crate::model::{Along, Moment, Name, ServerId, Weight};
use crate::weights::{self, PoolMember, WeightDecision};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Who went out so shortly before we began to suspect ourselves went out for the same reason.
const PARDONED: Duration = Duration::from_secs(30);

/// The servers of an adaptive backend are compared this often…
const COMPARE: Duration = Duration::from_millis(4_900);
/// …and for the first time after so many cheap probes, at most after [`FIRST_COMPARISON_MAX`]: the averages of a new
/// life are not those that the running weights came from.
const FIRST_COMPARISON: u32 = 3;
/// See [`FIRST_COMPARISON`].
pub(super) const FIRST_COMPARISON_MAX: Duration = Duration::from_secs(30);
/// All backends have had their turn after so many steps at most.
const MOST_TURNS: usize = 20;

impl Fleet {
    /// Marks that any weight may be another than HAProxy's.
    pub fn touch_all(&mut self) {
        self.dirty = self.config.backends.iter().map(|backend| backend.name.clone()).collect();
    }

    /// Marks that a weight of this backend may be another.
    pub fn touch(&mut self, backend: &Name) {
        self.dirty.insert(backend.clone());
    }

    /// Marks the next few backends in their order, for [`Self::decide_moved`], and answers after which time to ask again:
    /// so each has its turn once in `round`. What time alone moves is decided with it, and servers are compared.
    pub fn touch_next(&mut self, round: Duration) -> Duration {
        let backends = &self.config.backends;
        let each = backends.len().div_ceil(MOST_TURNS).max(1);
        let turns = backends.len().div_ceil(each).max(1);
        for _ in 0..each.min(backends.len()) {
            self.visited = (self.visited + 1) % backends.len();
            let name = &backends[self.visited].name;
            self.dirty.insert(name.clone());
            self.turns.insert(name.clone());
        }
        round / u32::try_from(turns).unwrap_or(1)
    }

    /// The weights that were decided last, of whatever backend by whom.
    pub fn weights(&self) -> &BTreeMap<ServerId, Weight> {
        &self.weights
    }

    /// The weights that follow from all that is known; remembered as in force.
    pub fn decide(&mut self, overrides: &Overrides, now: Moment) -> BTreeMap<ServerId, Weight> {
        self.suspect_ourselves(now);
        let config = self.config.clone();
        // In the order of the names: maps are made of them at once, which costs a fraction of insertions.
        let mut weights = Vec::with_capacity(self.view.servers.len());
        for backend in &config.backends {
            let compares = self.compares(backend, now);
            let of_pool = self.decide_pool(backend, overrides, compares, now);
            weights.extend(of_pool.iter().map(|decision| (decision.id.clone(), decision.weight)));
        }
        weights.into_iter().collect()
    }

    /// Those of the backends alone of which something has moved, or whose turn it is, since this was asked last, whoever
    /// decided in between: what one costs does not depend on how many others there are.
    pub fn decide_moved(&mut self, overrides: &Overrides, now: Moment) -> BTreeMap<ServerId, Weight> {
        let (config, mut moved) = (self.config.clone(), BTreeMap::new());
        if self.failing.are_several() || self.suspicion.has_witness() || self.suspicion.active().is_some() {
            self.suspect_ourselves(now);
        }
        for name in std::mem::take(&mut self.dirty) {
            let Some(backend) = config.backend(&name) else { continue };
            let compares = self.turns.remove(&name) && self.compares(backend, now);
            let decided = self.decide_pool(backend, overrides, compares, now);
            moved.extend(decided.iter().map(|decision| (decision.id.clone(), decision.weight)));
        }
        moved
    }

    /// Whether it is time to compare the servers of a backend; it is not so soon again.
    fn compares(&mut self, backend: &Backend, now: Moment) -> bool {
        let first = (backend.check.interval * FIRST_COMPARISON).clamp(COMPARE, FIRST_COMPARISON_MAX);
        let compare_at = self.compare_at.entry(backend.name.clone()).or_insert(self.began + first);
        let compares = *compare_at <= now;
        if compares {
            *compare_at = now + COMPARE;
        }
        compares
    }

    /// One backend's decisions.
    fn decide_pool(
        &mut self,
        backend: &Backend,
        overrides: &Overrides,
        compares: bool,
        now: Moment,
    ) -> Arc<[WeightDecision]> {
        let members = self.members(backend, overrides, now);
        for member in &members {
            match member.health.as_ref().map(|factor| factor.value) {
                with if with == member.decided_with => {}
                Some(with) => drop(self.decided_with.insert(member.id.clone(), with)),
                None => drop(self.decided_with.remove(&member.id)),
            }
        }
        let spent = self.costs.why_spent(&backend.name, now);
        let suspected = self.suspicion.over(&backend.name);
        let guards = Arc::make_mut(self.view.guards.entry(backend.name.clone()).or_default());
        guards.note(Guard::BudgetSpent, spent, now);
        let decided = weights::decide(backend.weighting, &members, guards, suspected, compares, now);
        let decided: Arc<[_]> = decided.into();
        for (member, decision) in members.iter().zip(decided.iter()) {
            if member.runs != Some(decision.weight) {
                self.weights.insert(decision.id.clone(), decision.weight);
            }
        }
        self.view.decisions.insert(backend.name.clone(), decided.clone());
        decided
    }

    /// Looks whether it is our own network that fails; if so, those who went out for it come back without hold or ramp.
    fn suspect_ourselves(&mut self, now: Moment) {
        let config = self.config.clone();
        let reports: Vec<PoolReport<'_>> = config
            .backends
            .iter()
            .map(|Backend { name, .. }| {
                let is_asked = |server: &Name| {
                    self.silent.is_empty() || !self.silent.contains(&ServerId::new(name.clone(), server.clone()))
                };
                let ours = self.failing.of(name).filter(|(server, _)| is_asked(server)).map(|(_, ours)| ours).collect();
                PoolReport { pool: name, servers: self.probed.get(name).copied().unwrap_or_default(), ours }
            })
            .collect();
        let is_over = |suspicion: &Suspicion, backend: &Backend| suspicion.over(&backend.name).is_some();
        let before: Vec<bool> = config.backends.iter().map(|backend| is_over(&self.suspicion, backend)).collect();
        self.suspicion.look(&reports, now);
        // It begins and ends over pools in which nothing has moved.
        for (backend, before) in config.backends.iter().zip(before) {
            if is_over(&self.suspicion, backend) != before {
                self.touch(&backend.name);
            }
        }
        let Some((since, ..)) = self.suspicion.active() else { return };
        let suspected = config.backends.iter().filter(|backend| self.suspicion.over(&backend.name).is_some());
        let out: Vec<ServerId> = suspected
            .flat_map(|backend| self.view.of_backend(backend))
            .filter(|(_, health)| health.state().is_unhealthy() && health.since() + PARDONED >= since)
            .map(|(id, _)| id.clone())
            .collect();
        out.iter().for_each(|id| {
            if let Some(health) = self.health_mut(id) {
                health.pardon();
            }
        });
    }

    /// The servers of one backend as the decision sees them.
    fn members(&self, backend: &Backend, overrides: &Overrides, now: Moment) -> Vec<PoolMember> {
        let id_of = |server: &Server| ServerId::new(backend.name.clone(), server.name.clone());
        let Some(first) = backend.servers.first().map(id_of) else { return vec![] };
        let mut healths = Along::from(&self.view.servers, &first);
        let (mut weights, mut with) = (Along::from(&self.weights, &first), Along::from(&self.decided_with, &first));
        let member = |server: &Server| {
            let id = id_of(server);
            let health = healths.of(&id)?;
            let wish = overrides.get(&id).map(Override::wish).unwrap_or_default();
            Some(PoolMember {
                base: server.weight.value,
                pinned: wish.weight,
                admin: wish.state.unwrap_or(server.state.value),
                tier: server.tier,
                health: health.factor(now),
                signals: health.signals(now),
                runs: weights.of(&id).copied(),
                decided_with: with.of(&id).copied(),
                id,
            })
        };
        backend.servers.iter().filter_map(member).collect()
    }
}
