//! The health of all servers: which probe is due, what it told, what follows for the weights.
//!
//! Pure: time is handed in; starts no probe itself. Its parts are the keys that serve, what operators said and what deep probes cost. Called by the agent's loop.

mod costs;
#[cfg(test)]
mod days;
mod deciding;
mod failing;
mod keyring;
#[cfg(test)]
mod moved;
mod overrides;
mod params;
mod view;

pub use keyring::{KeyEvent, KeyEventKind, KeyStatus, Keyring, Learnt};
pub use overrides::{Override, Overrides};
pub use params::health_params;
pub use view::View;

use crate::config::{Backend, Config};
use crate::health::{
    BudgetDenial, Guard, GuardEvent, HealthParams, Keyless, LiveSample, Observation, ProbeKind, ServerHealth, Spent,
    State, Suspicion, Transition,
};
use crate::model::{AdminState, Moment, Name, ServerId, Weight};
use crate::weights::Weighting;
use costs::Costs;
use failing::Failing;
use params::shares_keys;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// All servers of one configuration. A copy shares what stays as it is: with thousands of servers a whole one takes as
/// long as `haproxy -c`.
#[derive(Clone, Debug)]
pub struct Fleet {
    config: Arc<Config>,
    view: View,
    /// When which server has something to do, each server once.
    wakes: BTreeSet<(Moment, ServerId)>,
    wake_of: BTreeMap<ServerId, Moment>,
    in_flight: BTreeSet<(ServerId, ProbeKind)>,
    /// Servers in maint: nobody asks them.
    silent: BTreeSet<ServerId>,
    /// Weights in force, as far as they are known.
    weights: BTreeMap<ServerId, Weight>,
    /// What health made of each weight at the last decision.
    decided_with: BTreeMap<ServerId, f64>,
    suspicion: Suspicion,
    failing: Failing,
    /// How many servers of each backend are probed.
    probed: BTreeMap<Name, usize>,
    costs: Costs,
    /// Share of the usual rhythm of probes.
    pace: f64,
    /// Some factor has moved, and nobody has been told yet.
    moved: bool,
    /// Backends of which a weight may be another than [`Fleet::decide_moved`] said last.
    dirty: BTreeSet<Name>,
    /// When this life began, and when the servers of each backend are compared again.
    began: Moment,
    compare_at: BTreeMap<Name, Moment>,
    /// Backends whose turn it is, and the last of them.
    turns: BTreeSet<Name>,
    visited: usize,
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
            view: View::default(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            silent: BTreeSet::new(),
            weights: adopted,
            decided_with: BTreeMap::new(),
            suspicion: Suspicion::default(),
            failing: Failing::default(),
            probed: BTreeMap::new(),
            costs: Costs::default(),
            pace: 1.0,
            moved: false,
            dirty: BTreeSet::new(),
            began: now,
            compare_at: BTreeMap::new(),
            turns: BTreeSet::new(),
            visited: 0,
        };
        fleet.take_over(config, now);
        fleet.resume();
        fleet
    }

    /// Who runs less than its base weight was being let in, or was out: it goes on from there, and not with everything.
    /// Adaptive weights are lower for other reasons as well.
    fn resume(&mut self) {
        for (backend, server) in self.config.servers().filter(|(backend, _)| backend.weighting == Weighting::Static) {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            let (Some(runs), base) = (self.weights.get(&id), server.weight.value) else { continue };
            if *runs < base
                && let Some(health) = self.view.servers.get_mut(&id)
            {
                Arc::make_mut(health).resume(f64::from(runs.get()) / f64::from(base.get()));
            }
        }
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
            // Another address, or only other keys, is another server, as far as health goes.
            if after.is_none_or(|(_, after)| after.url != server.url || !shares_keys(after, server)) {
                self.view.servers.remove(&id);
                self.plan_wake(id, now);
            }
        }
        self.take_over(config, now);
    }

    fn take_over(&mut self, config: Arc<Config>, now: Moment) {
        let mut before = std::mem::take(&mut self.view.servers);
        let (mut others, mut params) = (Vec::new(), Arc::<HealthParams>::default());
        for (backend, server) in config.servers() {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            // The servers of a backend are mostly alike.
            let own = health_params(backend, server);
            if *params != own {
                params = Arc::new(own);
            }
            let health = match before.remove(&id) {
                Some(health) if *health.params() == *params => health,
                Some(mut health) => {
                    Arc::make_mut(&mut health).reconfigure(params.clone(), now);
                    others.push(id.clone());
                    health
                }
                None => {
                    others.push(id.clone());
                    let mut health = ServerHealth::new(params.clone(), now, seed(&id));
                    health.set_pace(self.pace, now);
                    Arc::new(health)
                }
            };
            self.view.servers.insert(id, health);
        }
        self.in_flight.retain(|(id, _)| self.view.servers.contains_key(id));
        let servers = &self.view.servers;
        self.failing.retain(|id| servers.contains_key(id));
        self.count_probed();
        for id in others {
            // Who is new, or judged otherwise, has not failed as the one before did.
            self.failing.note(&id, self.view.health(&id).and_then(ServerHealth::ours));
            self.plan_wake(id, now);
        }
        self.costs.reconfigure(&config);
        self.view.guards.retain(|name, _| config.backend(name).is_some());
        self.view.decisions.retain(|name, _| config.backend(name).is_some());
        let servers = &self.view.servers;
        self.weights.retain(|id, _| servers.contains_key(id));
        self.decided_with.retain(|id, _| servers.contains_key(id));
    }

    /// How often probes run, as a share of the operator's rhythm: a sixth on a node that only stands by. Faster takes
    /// effect within a second.
    pub fn set_pace(&mut self, share: f64, now: Moment) {
        if self.pace == share {
            return;
        }
        self.pace = share;
        let ids: Vec<_> = self.view.servers.keys().cloned().collect();
        for id in ids {
            if let Some(health) = self.health_mut(&id) {
                health.set_pace(share, now);
            }
            self.plan_wake(id, now);
        }
    }

    /// What the wall clock says at `now`, since 1970 in UTC: the budgets' day ends at midnight.
    pub fn set_clock(&mut self, unix: Duration, now: Moment) {
        self.costs.set_clock(unix, now);
    }

    /// What the deep probes of each backend have cost on their last day: to be kept, and handed to
    /// [`restore_spent`](Self::restore_spent) of the next life.
    pub fn spent(&self) -> BTreeMap<Name, Spent> {
        self.costs.spent()
    }

    /// What an earlier life spent.
    pub fn restore_spent(&mut self, spent: &BTreeMap<Name, Spent>) {
        self.costs.restore(spent);
    }

    /// No key is left with which a server's clients could be served, or (`None`) there is one again.
    pub fn set_keyless(&mut self, id: &ServerId, keyless: Option<Keyless>) {
        // Told anew with every word about a key: mostly nothing has changed.
        let is_news = self.view.servers.get(id).is_some_and(|health| health.keyless() != keyless.as_ref());
        if let Some(health) = self.health_mut(id).filter(|_| is_news) {
            health.set_keyless(keyless);
            self.moved = true;
            self.touch(&id.backend);
        }
    }

    /// What something says that must always work (a peer, the gateway, our own listener): `failed` says why it does
    /// not.
    pub fn hear_witness(&mut self, witness: &str, failed: Option<String>, now: Moment) {
        self.suspicion.hear(witness, failed, now);
        self.moved = true;
    }

    /// Takes in what the requests of clients told of a server. A server that is gone is ignored.
    pub fn live(&mut self, id: &ServerId, sample: &LiveSample, now: Moment) -> Option<Transition> {
        let health = self.health_mut(id)?;
        let before = health.factor_value(now);
        let transition = health.live(sample, now);
        if self.view.servers.get(id).is_some_and(|health| health.factor_value(now) != before) {
            self.moved = true;
            self.touch(&id.backend);
        }
        self.plan_wake(id.clone(), now);
        transition
    }

    /// The guards at work now, each the subject of one alert, the oldest first.
    pub fn guards(&self, now: Moment) -> Vec<GuardEvent> {
        let ours = self.suspicion.active().map(|(since, why, pool)| GuardEvent {
            guard: Guard::SuspectOurselves,
            pool: pool.cloned(),
            since,
            why: why.to_owned(),
        });
        let of_pools = self.view.guards.iter().flat_map(|(pool, guards)| {
            // The suspicion is one event over all pools that it is over.
            let active = guards.active().filter(|(guard, ..)| *guard != Guard::SuspectOurselves);
            active.map(|(guard, since, why)| GuardEvent { guard, pool: Some(pool.clone()), since, why: why.to_owned() })
        });
        let mut events: Vec<_> = ours.into_iter().chain(of_pools).filter(|event| event.since <= now).collect();
        events.sort_by_key(|event| event.since);
        events
    }

    /// What is known of every server now.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How often each guard has begun to work since the start.
    pub fn guards_begun(&self) -> BTreeMap<Guard, u64> {
        let of_pools = |guard| self.view.guards.values().map(|guards| guards.begun(guard)).sum();
        let mut begun: BTreeMap<_, _> =
            [Guard::KeepHalf, Guard::FailOpen, Guard::BudgetSpent].into_iter().map(|g| (g, of_pools(g))).collect();
        begun.insert(Guard::SuspectOurselves, self.suspicion.begun());
        begun
    }

    /// Whom the operator has taken out of service: they are not probed until they come back.
    pub fn silence(&mut self, overrides: &Overrides, now: Moment) {
        let by_file = self.config.servers().filter(|(_, server)| server.state.value == AdminState::Maint);
        let by_file = by_file.map(|(backend, server)| ServerId::new(backend.name.clone(), server.name.clone()));
        let wishes = overrides.wishes();
        let mut silent: BTreeSet<_> = by_file.collect();
        for (id, wish) in &wishes {
            match wish.state {
                Some(AdminState::Maint) if self.view.servers.contains_key(id) => drop(silent.insert(id.clone())),
                Some(AdminState::Ready | AdminState::Drain) => drop(silent.remove(id)),
                Some(AdminState::Maint) | None => {}
            }
        }
        if silent == self.silent {
            return;
        }
        let back: Vec<_> = self.silent.difference(&silent).cloned().collect();
        let gone: Vec<_> = silent.difference(&self.silent).cloned().collect();
        self.silent = silent;
        self.count_probed();
        for id in back {
            if let Some(health) = self.health_mut(&id) {
                health.probe_soon(now);
            }
            self.plan_wake(id, now);
        }
        gone.into_iter().for_each(|id| self.plan_wake(id, now));
    }

    fn count_probed(&mut self) {
        let config = self.config.clone();
        let is_probed = |(id, health): &(&ServerId, &Arc<ServerHealth>)| {
            !self.silent.contains(*id) && health.params().kinds().next().is_some()
        };
        let count = |backend: &Backend| self.view.of_backend(backend).filter(is_probed).count();
        self.probed = config.backends.iter().map(|backend| (backend.name.clone(), count(backend))).collect();
    }

    /// Whether the operator has taken it out, so that nobody asks it.
    pub fn is_silent(&self, id: &ServerId) -> bool {
        self.silent.contains(id)
    }

    /// When somebody must call [`Self::due`] at the latest.
    pub fn next_wake(&self) -> Option<Moment> {
        if self.moved {
            return Some(Moment::default());
        }
        self.wakes.first().map(|(at, _)| *at)
    }

    /// What is due; the probes in the answer count as started.
    pub fn due(&mut self, now: Moment) -> Due {
        let mut due = Due { weights_may_move: std::mem::take(&mut self.moved), ..Due::default() };
        while let Some((at, id)) = self.wakes.first().cloned() {
            if at > now {
                break;
            }
            self.wakes.pop_first();
            self.wake_of.remove(&id);
            let Some(health) = self.view.servers.get_mut(&id).map(Arc::make_mut) else { continue };
            // The factor moves with time alone in probation, and where a pause ends.
            let mut may_move = matches!(health.state(), State::Probation | State::Degraded(_));
            if let Some(transition) = health.tick(now) {
                may_move = true;
                due.transitions.push((id.clone(), transition));
            }
            due.weights_may_move |= may_move;
            if may_move {
                self.dirty.insert(id.backend.clone());
            }
            for kind in ProbeKind::ALL {
                let is_due = health.next_probe(kind).is_some_and(|next| next <= now) && !self.silent.contains(&id);
                if !is_due || self.in_flight.contains(&(id.clone(), kind)) {
                    continue;
                }
                let paid = match kind.is_deep() {
                    true => self.costs.start(&id.backend, !health.is_suspect(kind), now),
                    false => Ok(()),
                };
                match paid {
                    Err(BudgetDenial::Early(wait)) => health.postpone(kind, wait, now),
                    Err(BudgetDenial::Spent(wait)) => health.withhold(kind, wait, now),
                    Ok(()) => {
                        self.in_flight.insert((id.clone(), kind));
                        health.probe_started(kind, now);
                        due.probes.push((id.clone(), kind));
                    }
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
        if observation.kind.is_deep() && self.view.servers.contains_key(id) {
            self.costs.charge(&self.config.clone(), id, observation, now);
        }
        let health = self.health_mut(id)?;
        let before = health.factor_value(now);
        let transition = health.observe(observation, now);
        let is_other = transition.is_some() || health.factor_value(now) != before;
        let ours = health.ours();
        if is_other {
            self.touch(&id.backend);
        }
        self.failing.note(id, ours);
        self.plan_wake(id.clone(), now);
        if ours.is_some_and(|ours| ours.is_close && !ours.is_out) && self.failing.asks(&id.backend, now) {
            self.ask_pool_soon(id, now);
        }
        // Another one of the pool went out for the same reason: the guards should look before the next round.
        self.moved |= ours.is_some() && self.failing.is_one_out(&id.backend);
        transition
    }

    /// Asks the others of a server's pool at once: is it the server, or is it us?
    fn ask_pool_soon(&mut self, id: &ServerId, now: Moment) {
        let config = self.config.clone();
        let Some(backend) = config.backend(&id.backend) else { return };
        let of_pool = self.view.of_backend(backend).map(|(other, _)| other);
        let others: Vec<_> = of_pool.filter(|other| *other != id).cloned().collect();
        for other in others {
            if let Some(health) = self.health_mut(&other) {
                health.ask_cheaply(now);
            }
            self.plan_wake(other, now);
        }
    }

    fn plan_wake(&mut self, id: ServerId, not_before: Moment) {
        if let Some(before) = self.wake_of.remove(&id) {
            self.wakes.remove(&(before, id.clone()));
        }
        let Some(health) = self.view.servers.get(&id) else { return };
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

    fn health_mut(&mut self, id: &ServerId) -> Option<&mut ServerHealth> {
        self.view.servers.get_mut(id).map(Arc::make_mut)
    }
}

/// Spreads the probes of different servers; the same server gets the same seed on every node and start.
fn seed(id: &ServerId) -> u64 {
    crate::model::Digest::of(id.to_string()).leading()
}
