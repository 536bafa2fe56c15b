//! The health of all servers: which probe is due, what it told, what follows for the weights.
//!
//! Pure: time is handed in; starts no probe itself. Called by the agent's loop.

use super::overrides::Overrides;
use crate::config::{Backend, Check, Config, Server};
use crate::health::{HealthParams, Observation, ProbeKind, ServerHealth, State, Transition};
use crate::model::{AdminState, Moment, Scheme, ServerId, Weight};
use crate::weights::{self, PoolMember, WeightDecision};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// All servers of one configuration. A copy shares what stays as it is: with thousands of servers a whole one takes as
/// long as `haproxy -c`.
#[derive(Clone, Debug)]
pub struct Fleet {
    config: Arc<Config>,
    servers: BTreeMap<ServerId, Arc<ServerHealth>>,
    /// When which server has something to do, each server once.
    wakes: BTreeSet<(Moment, ServerId)>,
    wake_of: BTreeMap<ServerId, Moment>,
    in_flight: BTreeSet<(ServerId, ProbeKind)>,
    /// Servers in maint: nobody asks them.
    silent: BTreeSet<ServerId>,
    /// Weights in force, as far as they are known.
    weights: BTreeMap<ServerId, Weight>,
    decisions: Arc<BTreeMap<ServerId, WeightDecision>>,
}

/// What the fleet wants done now.
#[derive(Debug, Default)]
pub struct Due {
    /// Probes to start.
    pub probes: Vec<(ServerId, ProbeKind)>,
    /// Servers whose state changed by time alone.
    pub transitions: Vec<(ServerId, Transition)>,
    /// Some weight may have moved (a transition or a step of a ramp).
    pub weights_may_move: bool,
}

impl Fleet {
    /// A fleet of which nothing is known but the weights that HAProxy runs.
    pub fn new(config: Arc<Config>, adopted: BTreeMap<ServerId, Weight>, now: Moment) -> Self {
        let mut fleet = Self {
            config: config.clone(),
            servers: BTreeMap::new(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            silent: BTreeSet::new(),
            weights: adopted,
            decisions: Arc::default(),
        };
        fleet.take_over(config, now);
        fleet
    }

    /// Goes on with another configuration: what is known of a server stays, as long as it is the same server.
    pub fn reconfigure(&mut self, config: Arc<Config>, now: Moment) {
        let before = std::mem::replace(&mut self.config, config.clone());
        for (backend, server) in before.servers() {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            let after = config.server(&id);
            // Another base weight takes effect at once, also while health is unknown.
            if after.is_none_or(|(_, after)| after.weight != server.weight) {
                self.weights.remove(&id);
            }
            // Another address or key is another server, as far as health goes.
            if after.is_none_or(|(_, after)| after.url != server.url || after.key != server.key) {
                self.servers.remove(&id);
                self.plan_wake(id, now);
            }
        }
        self.take_over(config, now);
    }

    fn take_over(&mut self, config: Arc<Config>, now: Moment) {
        let mut before = std::mem::take(&mut self.servers);
        let mut others = Vec::new();
        for (backend, server) in config.servers() {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            let params = health_params(backend, server);
            let health = match before.remove(&id) {
                Some(health) if *health.params() == params => health,
                Some(mut health) => {
                    Arc::make_mut(&mut health).reconfigure(params, now);
                    others.push(id.clone());
                    health
                }
                None => {
                    others.push(id.clone());
                    Arc::new(ServerHealth::new(params, now, seed(&id)))
                }
            };
            self.servers.insert(id, health);
        }
        self.in_flight.retain(|(id, _)| self.servers.contains_key(id));
        others.into_iter().for_each(|id| self.plan_wake(id, now));
    }

    /// Whom the operator has taken out of service: they are not probed until they come back.
    pub fn silence(&mut self, overrides: &Overrides, now: Moment) {
        let is_silent = |id: &ServerId| {
            let state = overrides.get(id).and_then(|entry| entry.wish.state);
            let in_file = || self.config.server(id).map(|(_, server)| server.state.value);
            state.or_else(in_file) == Some(AdminState::Maint)
        };
        let silent: BTreeSet<_> = self.servers.keys().filter(|id| is_silent(id)).cloned().collect();
        let back: Vec<_> = self.silent.difference(&silent).cloned().collect();
        let gone: Vec<_> = silent.difference(&self.silent).cloned().collect();
        self.silent = silent;
        for id in back {
            if let Some(health) = self.health_mut(&id) {
                health.probe_soon(now);
            }
            self.plan_wake(id, now);
        }
        gone.into_iter().for_each(|id| self.plan_wake(id, now));
    }

    /// When somebody must call [`Self::due`] at the latest.
    pub fn next_wake(&self) -> Option<Moment> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// What is due; the probes in the answer count as started.
    pub fn due(&mut self, now: Moment) -> Due {
        let mut due = Due::default();
        while let Some((at, id)) = self.wakes.first().cloned() {
            if at > now {
                break;
            }
            self.wakes.pop_first();
            self.wake_of.remove(&id);
            let Some(health) = self.servers.get_mut(&id).map(Arc::make_mut) else { continue };
            // In probation the factor moves with time alone.
            due.weights_may_move |= health.state() == State::Probation;
            if let Some(transition) = health.tick(now) {
                due.weights_may_move = true;
                due.transitions.push((id.clone(), transition));
            }
            for kind in ProbeKind::ALL {
                let is_due = health.next_probe(kind).is_some_and(|next| next <= now) && !self.silent.contains(&id);
                if is_due && self.in_flight.insert((id.clone(), kind)) {
                    health.probe_started(kind, now);
                    due.probes.push((id.clone(), kind));
                }
            }
            // Never twice in one instant: a ramp that moves with time would keep the loop here.
            self.plan_wake(id, now + Duration::from_millis(1));
        }
        due
    }

    /// Asks a server again soon: what it is asked with has changed (a new key).
    pub fn ask_soon(&mut self, id: &ServerId, now: Moment) {
        if let Some(health) = self.health_mut(id) {
            health.probe_soon(now);
            self.plan_wake(id.clone(), now);
        }
    }

    /// Drops a probe's result: it was asked of another address, or with another key, than the server has now.
    pub fn disregard(&mut self, id: &ServerId, kind: ProbeKind, now: Moment) {
        self.in_flight.remove(&(id.clone(), kind));
        if let Some(health) = self.health_mut(id) {
            health.probe_soon(now);
        }
        self.plan_wake(id.clone(), now);
    }

    /// Takes in a probe's result. A server that is gone is ignored.
    pub fn observe(&mut self, id: &ServerId, observation: &Observation, now: Moment) -> Option<Transition> {
        self.in_flight.remove(&(id.clone(), observation.kind));
        let transition = self.health_mut(id)?.observe(observation, now);
        self.plan_wake(id.clone(), now);
        transition
    }

    fn plan_wake(&mut self, id: ServerId, not_before: Moment) {
        if let Some(before) = self.wake_of.remove(&id) {
            self.wakes.remove(&(before, id.clone()));
        }
        let Some(health) = self.servers.get(&id) else { return };
        let probes = ProbeKind::ALL
            .into_iter()
            .filter(|kind| !self.silent.contains(&id) && !self.in_flight.contains(&(id.clone(), *kind)));
        let next = probes.filter_map(|kind| health.next_probe(kind)).chain(health.next_deadline(not_before)).min();
        if let Some(next) = next {
            let next = next.max(not_before);
            self.wakes.insert((next, id.clone()));
            self.wake_of.insert(id, next);
        }
    }

    /// The weights that follow from all that is known; remembered as in force.
    pub fn decide(&mut self, overrides: &Overrides, now: Moment) -> BTreeMap<ServerId, Weight> {
        let mut decisions = BTreeMap::new();
        for backend in &self.config.backends {
            let members: Vec<_> =
                backend.servers.iter().filter_map(|server| self.member(backend, server, overrides, now)).collect();
            for decision in weights::decide(backend.weighting, &members, &self.weights) {
                decisions.insert(decision.id.clone(), decision);
            }
        }
        self.weights = decisions.iter().map(|(id, decision)| (id.clone(), decision.weight)).collect();
        self.decisions = Arc::new(decisions);
        self.weights.clone()
    }

    /// How the last weight of a server came about.
    pub fn decision(&self, id: &ServerId) -> Option<&WeightDecision> {
        self.decisions.get(id)
    }

    fn member(&self, backend: &Backend, server: &Server, overrides: &Overrides, now: Moment) -> Option<PoolMember> {
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        let health = self.servers.get(&id)?;
        let wish = overrides.get(&id).map(|entry| entry.wish).unwrap_or_default();
        Some(PoolMember {
            base: server.weight.value,
            pinned: wish.weight,
            admin: wish.state.unwrap_or(server.state.value),
            tier: server.tier,
            health: health.factor(now),
            signals: health.signals(),
            id,
        })
    }

    /// The health of one server.
    pub fn health(&self, id: &ServerId) -> Option<&ServerHealth> {
        self.servers.get(id).map(Arc::as_ref)
    }

    fn health_mut(&mut self, id: &ServerId) -> Option<&mut ServerHealth> {
        self.servers.get_mut(id).map(Arc::make_mut)
    }
}

/// Spreads the probes of different servers; the same server gets the same seed on every node and start.
fn seed(id: &ServerId) -> u64 {
    crate::model::Digest::of(id.to_string()).leading()
}

/// The operator's choices for the health of one server.
pub fn health_params(backend: &Backend, server: &Server) -> HealthParams {
    let Check { origin: _, interval, fall, rise, ramp, models, chat, embeddings, http, metrics, certificate_expiry } =
        &backend.check;
    let has_certificate = certificate_expiry.is_some() && server.url.scheme == Scheme::Https;
    let cheap = [
        (models.is_some(), ProbeKind::Models),
        (http.is_some(), ProbeKind::Http),
        (metrics.is_some(), ProbeKind::Metrics),
        (has_certificate, ProbeKind::Certificate),
    ];
    let chat = chat.iter().map(|chat| (ProbeKind::Chat, chat.every));
    let embeddings = embeddings.iter().map(|embeddings| (ProbeKind::Embeddings, embeddings.every));
    HealthParams {
        interval: *interval,
        fall: *fall,
        rise: *rise,
        ramp: *ramp,
        cheap: cheap.into_iter().filter(|(runs, _)| *runs).map(|(_, kind)| kind).collect(),
        deep: chat.chain(embeddings).collect(),
        owns_key: server.key.is_some(),
    }
}
