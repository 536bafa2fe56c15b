//! What is decided and sent while the engine carries an order out: it must neither undo it nor take it for drift.
//!
//! Written by the loop, by way of the stand-in; read by the engine before each plan and each command.

use crate::config::Config;
use crate::desired::{Desired, DesiredServer, KeyEntry, key_entries};
use crate::model::{Name, ServerId};
use crate::plan::Step;
use crate::rollout::Percent;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What HAProxy may not have yet.
#[derive(Debug, Default)]
pub(in crate::agent) struct Moved {
    /// Servers of which something has moved.
    pub wishes: BTreeMap<ServerId, DesiredServer>,
    /// Of whom operators spoke: their states as well.
    pub said: BTreeSet<ServerId>,
    /// Which keys serve at each entry, and which share it, and what canaries have, where that has moved.
    pub keys: Option<Desired>,
}

/// What HAProxy was to follow at one moment.
#[derive(Debug)]
pub struct Baseline {
    config: Arc<Config>,
    servers: BTreeMap<ServerId, DesiredServer>,
    active_keys: BTreeMap<String, usize>,
    spread_keys: BTreeMap<String, Vec<usize>>,
    canaries: Arc<BTreeMap<Name, Percent>>,
}

impl Baseline {
    /// What of a decision may become another by itself.
    pub(in crate::agent) fn of(desired: &Desired) -> Self {
        let Desired {
            config,
            servers,
            secrets: _,
            certificates: _,
            trust: _,
            clients: _,
            spent: _,
            lists: _,
            canaries,
            active_keys,
            spread_keys,
        } = desired;
        Self {
            config: config.clone(),
            servers: servers.clone(),
            active_keys: active_keys.clone(),
            spread_keys: spread_keys.clone(),
            canaries: canaries.clone(),
        }
    }
}

/// Shared by the engine and its stand-in.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct Interim(Arc<Mutex<Decided>>);

#[derive(Debug, Default)]
struct Decided {
    servers: BTreeMap<ServerId, DesiredServer>,
    keys: Option<Keys>,
    /// What HAProxy took, the last step for each server and each map.
    taken: BTreeMap<String, Step>,
}

/// Which keys serve, and what canaries have.
#[derive(Debug)]
struct Keys {
    config: Arc<Config>,
    active: BTreeMap<String, usize>,
    spread: BTreeMap<String, Vec<usize>>,
    canaries: Arc<BTreeMap<Name, Percent>>,
}

fn is_other<V: PartialEq>(before: Option<&V>, now: &V) -> bool {
    before.is_some_and(|before| before != now)
}

impl Interim {
    fn decided(&self) -> MutexGuard<'_, Decided> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what is decided now, where that is something else than when the order began. What was once another stays
    /// kept, also where it has come back.
    pub fn note(&self, known: Option<&Baseline>, now: &Moved) {
        let Some(known) = known else { return };
        let mut decided = self.decided();
        for (id, wish) in &now.wishes {
            if is_other(known.servers.get(id), wish) || is_other(decided.servers.get(id), wish) {
                decided.servers.insert(id.clone(), *wish);
            }
        }
        let Some(now) = &now.keys else { return };
        let has_other_keys = (&known.active_keys, &known.spread_keys, &known.canaries)
            != (&now.active_keys, &now.spread_keys, &now.canaries);
        if has_same_keys(&known.config, &now.config) && (has_other_keys || decided.keys.is_some()) {
            let config = known.config.clone();
            let (active, spread) = (now.active_keys.clone(), now.spread_keys.clone());
            decided.keys = Some(Keys { config, active, spread, canaries: now.canaries.clone() });
        }
    }

    /// An order's wish with the news; `None`: there are none for it.
    pub fn over(&self, desired: &Desired) -> Option<Desired> {
        let decided = self.decided();
        // Keys are counted: under another configuration the number may mean another one.
        let keys = decided.keys.as_ref().filter(|keys| has_same_keys(&keys.config, &desired.config));
        let servers = decided.servers.iter().filter(|(id, wish)| is_other(desired.servers.get(*id), *wish));
        let servers: Vec<_> = servers.collect();
        if servers.is_empty() && keys.is_none() {
            return None;
        }
        let mut newer = desired.clone();
        newer.servers.extend(servers.into_iter().map(|(id, wish)| (id.clone(), *wish)));
        if let Some(keys) = keys {
            newer.active_keys.clone_from(&keys.active);
            newer.spread_keys.clone_from(&keys.spread);
            newer.canaries.clone_from(&keys.canaries);
        }
        Some(newer)
    }

    /// Keeps what HAProxy took.
    pub fn took(&self, steps: &[Step]) {
        let mut decided = self.decided();
        steps.iter().for_each(|step| drop(decided.taken.insert(subject(step), step.clone())));
    }

    /// What HAProxy took.
    pub fn taken(&self) -> Vec<Step> {
        self.decided().taken.values().cloned().collect()
    }

    /// The steps, planned for this configuration, without those that would undo what was sent since.
    pub fn without(&self, steps: &[Step], config: &Arc<Config>) -> Vec<Step> {
        let decided = self.decided();
        let has_its_keys = decided.keys.as_ref().is_some_and(|keys| has_same_keys(&keys.config, config));
        let undoes = |step: &&Step| match (step, decided.taken.get(&subject(step))) {
            (Step::SetWeight { to, .. }, Some(Step::SetWeight { to: newer, .. })) => to != newer,
            (Step::SetState { to, .. }, Some(Step::SetState { to: newer, .. })) => to != newer,
            (Step::ReplaceMap { entries, .. }, Some(Step::ReplaceMap { entries: newer, .. })) => {
                has_its_keys && entries != newer
            }
            _ => false,
        };
        steps.iter().filter(|step| !undoes(step)).cloned().collect()
    }

    /// The order has ended.
    pub fn clear(&self) {
        *self.decided() = Decided::default();
    }
}

/// Whether a number means the same key under both.
fn has_same_keys(a: &Arc<Config>, b: &Arc<Config>) -> bool {
    let keys = |config| -> Vec<_> {
        let of = |entry: KeyEntry<'_>| (entry.name, entry.keys.iter().map(|key| key.value.clone()).collect::<Vec<_>>());
        key_entries(config).into_iter().map(of).collect()
    };
    Arc::ptr_eq(a, b) || keys(a) == keys(b)
}

/// What a step sets.
fn subject(step: &Step) -> String {
    match step {
        Step::SetWeight { proxy, server, .. } => format!("weight {proxy}/{server}"),
        Step::SetState { proxy, server, .. } => format!("state {proxy}/{server}"),
        Step::ReplaceMap { map, .. } => format!("map {map}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::{AdminState, Weight};

    const TWO: &str = "[frontend.api]\nbind = [\"127.0.0.1:1\"]\n[backend.chat.server.a]\nurl = \"http://192.0.2.1\"\n\
                       [backend.chat.server.b]\nurl = \"http://192.0.2.2\"\n";

    fn keyed(keys: &str) -> String {
        let keys: Vec<String> = keys.split(", ").map(|key| format!("\"file:/{key}\"")).collect();
        format!("{TWO}keys = [{}]\n", keys.join(", "))
    }

    fn desired(weight: u16) -> Desired {
        of(&keyed("one"), weight)
    }

    fn of(toml: &str, weight: u16) -> Desired {
        let config = Arc::new(config::parse("a.toml", toml, "node").expect("a good file"));
        let mut desired = Desired::new(config, &BTreeMap::new(), &BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        set(&mut desired, weight);
        desired
    }

    fn moved(desired: &Desired) -> Moved {
        Moved { wishes: desired.servers.clone(), keys: Some(desired.clone()), ..Moved::default() }
    }

    fn id() -> ServerId {
        "chat/a".parse().expect("an id")
    }

    fn set(desired: &mut Desired, weight: u16) {
        let weight = Weight::new(weight).expect("a weight");
        desired.servers.insert(id(), DesiredServer { weight, state: AdminState::Ready });
    }

    fn step(to: u16) -> Step {
        let weight = |weight| Weight::new(weight).expect("a weight");
        Step::SetWeight { proxy: "chat".to_owned(), server: "a".to_owned(), from: weight(100), to: weight(to) }
    }

    #[test]
    fn an_order_takes_over_what_was_decided_since_it_began_and_nothing_else() {
        let (order, news) = (desired(100), Interim::default());
        let mut now = order.clone();
        news.note(Some(&Baseline::of(&order)), &moved(&now));
        assert!(news.over(&order).is_none(), "nothing is new");
        set(&mut now, 0);
        news.note(Some(&Baseline::of(&order)), &moved(&now));
        let newer = news.over(&order).expect("news");
        assert_eq!(newer.servers[&id()].weight, Weight::ZERO);
        assert_eq!(newer.servers.len(), order.servers.len());
        // It has come back: an order that began in between must hear of that as well.
        set(&mut now, 100);
        news.note(Some(&Baseline::of(&order)), &moved(&now));
        assert_eq!(news.over(&newer).expect("news").servers[&id()].weight.get(), 100);
        news.clear();
        assert!(news.over(&newer).is_none());
    }

    #[test]
    fn keys_that_begin_or_cease_to_rest_are_news_under_their_own_configuration_alone() {
        let (order, news) = (desired(100), Interim::default());
        let mut now = order.clone();
        now.spread_keys.insert("chat".to_owned(), vec![0]);
        news.note(Some(&Baseline::of(&order)), &moved(&now));
        assert_eq!(news.over(&order).expect("news").spread_keys, now.spread_keys);
        assert!(news.over(&desired(100)).is_some(), "the same file, read again");
        assert!(news.over(&of(&keyed("one, and another"), 100)).is_none(), "the numbers mean other keys");
        news.note(Some(&Baseline::of(&order)), &moved(&order));
        assert_eq!(news.over(&now).expect("news").spread_keys, order.spread_keys);
    }

    #[test]
    fn a_step_that_would_undo_what_haproxy_took_since_is_left_out() {
        let (news, config) = (Interim::default(), desired(100).config);
        news.took(&[step(0)]);
        assert_eq!(news.without(&[step(100)], &config), []);
        assert_eq!(news.without(&[step(0)], &config), [step(0)], "a new worker needs it as well");
        news.took(&[step(40)]);
        assert_eq!(news.taken(), [step(40)]);
    }
}
