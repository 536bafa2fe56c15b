//! The keys of all servers: which one serves at each entry of HAProxy's map, and what is known of the others.
//!
//! Pure: time is handed in; runs no test and writes no map itself. Knows keys by their digests, never by their values.
//! Called by `node`, which makes the map follow, and by the loop, which runs the probes.

use crate::config::Config;
use crate::desired::{KeyEntry, key_entries, key_id};
use crate::event::{Event, EventKind, Severity};
use crate::health::{Observation, Outcome, ProbeKind};
use crate::keys::{Exhausted, KeyPool, KeyPoolOutcome, KeyPoolParams, KeyState, KeyWitness, KeyWord};
use crate::model::{Digest, Moment, Secret, SecretRef, ServerId};
use crate::traffic::KeyWords;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Keys that do not serve are first tested so long after the start…
const FIRST_TEST: Duration = Duration::from_secs(1);
/// …spread over this, so that a thousand entries are not tested in one instant.
const FIRST_TEST_SPREAD_MS: u64 = 9_000;

/// The keys of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    entries: BTreeMap<String, Arc<Entry>>,
    seats: Arc<BTreeMap<ServerId, Seat>>,
    wakes: BTreeSet<(Moment, String)>,
    wake_of: BTreeMap<String, Moment>,
}

/// One entry of the map.
#[derive(Clone, Debug)]
struct Entry {
    pool: KeyPool,
    keys: Vec<Held>,
    servers: Vec<ServerId>,
    /// The addresses of the servers, each once: who has a voice.
    voters: Vec<String>,
    has_free_probe: bool,
    /// Probes that have ended: they take turns with keys that serve all at once.
    turn: usize,
}

/// One key, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    reference: SecretRef,
    digest: Option<Digest>,
}

/// Where a server's key stands.
#[derive(Clone, Debug)]
struct Seat {
    entry: String,
    /// Servers of one address are one voter.
    voter: u16,
}

/// A line of the log: a key became another state, or another one serves. Never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// BACKEND or BACKEND/SERVER.
    pub entry: String,
    /// `k1` and so on.
    pub key: String,
    /// Where it is kept.
    pub reference: String,
    /// What became of it.
    pub change: KeyEventKind,
    /// Whether somebody should mend something.
    pub is_grave: bool,
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEventKind {
    /// It has another state.
    State {
        /// The one before.
        from: KeyState,
        /// The one that it has now.
        to: KeyState,
    },
    /// It serves.
    Serves {
        /// The key that served before.
        instead_of: String,
    },
}

/// What followed from a word or from time.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    /// What is to be told.
    pub events: Vec<KeyEvent>,
    /// The map must change.
    pub is_rotated: bool,
    /// Servers that had no key and have one again.
    pub ask_soon: Vec<ServerId>,
    /// Entries that have just lost their last key, and why.
    pub exhausted: Vec<(String, Exhausted)>,
}

/// One key of a server as `status` shows it. Never a value.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyStatus {
    /// `k1` and so on.
    pub id: String,
    /// Where it is kept.
    pub reference: String,
    /// Whether it serves.
    pub is_active: bool,
    /// Whether it may.
    pub state: KeyState,
    /// How long it has been so; `None`: since the start.
    pub age: Option<Duration>,
    /// Until its pause ends, or until it is asked again.
    pub left: Option<Duration>,
    /// What was said of it last, and how long ago.
    pub last: Option<(Outcome, Duration)>,
    /// Client requests that were seen to use it.
    pub uses: u64,
}

impl Keyring {
    /// The keys of a start. `running` is HAProxy's map: the key that it has goes on serving.
    pub fn new(
        config: &Config,
        secrets: &BTreeMap<SecretRef, Secret>,
        running: &[(String, String)],
        now: Moment,
    ) -> Self {
        let mut keyring = Self::default();
        let running = running.iter().filter_map(|(entry, value)| {
            let (_, key) = value.split_once(' ')?;
            Some((entry.clone(), Digest::of(key)))
        });
        keyring.rebuild(config, secrets, &running.collect(), now);
        keyring
    }

    /// Goes on with another file, or with other values behind the same references: what is known of a key stays with its
    /// value, wherever it stands in the list.
    pub fn reconfigure(&mut self, config: &Config, secrets: &BTreeMap<SecretRef, Secret>, now: Moment) {
        self.rebuild(config, secrets, &BTreeMap::new(), now);
    }

    fn rebuild(
        &mut self,
        config: &Config,
        secrets: &BTreeMap<SecretRef, Secret>,
        running: &BTreeMap<String, Digest>,
        now: Moment,
    ) {
        let before = std::mem::take(self);
        let mut seats = BTreeMap::new();
        for entry in key_entries(config) {
            let KeyEntry { name, backend, servers, keys, is_spread } = entry;
            let digest = |reference| secrets.get(reference).map(|secret| Digest::of(secret.expose()));
            let held = keys.iter().map(|key| Held { reference: key.value.clone(), digest: digest(&key.value) });
            let held: Vec<Held> = held.collect();
            let (mut voters, mut voter_of): (Vec<String>, HashMap<String, usize>) = Default::default();
            let mut ids = Vec::new();
            for server in servers {
                let authority = server.url.authority();
                let voter = *voter_of.entry(authority).or_insert_with_key(|authority| {
                    voters.push(authority.clone());
                    voters.len() - 1
                });
                let id = ServerId::new(backend.name.clone(), server.name.clone());
                let voter = u16::try_from(voter).unwrap_or(u16::MAX);
                seats.insert(id.clone(), Seat { entry: name.clone(), voter });
                ids.push(id);
            }
            let has_free_probe = backend.check.models.is_some();
            let params = |active| KeyPoolParams {
                keys: held.len(),
                active,
                has_free_probe,
                is_spread,
                first_test: FIRST_TEST + Duration::from_millis(Digest::of(&name).leading() % FIRST_TEST_SPREAD_MS),
            };
            let pool = match ids.first().and_then(|id| before.entries.get(&before.seats.get(id)?.entry)) {
                None => {
                    let runs = running.get(&name);
                    let active = held.iter().position(|held| runs.is_some() && held.digest.as_ref() == runs);
                    KeyPool::new(params(active.unwrap_or(0)), now)
                }
                Some(old)
                    if (&old.keys, &old.servers, &old.voters, old.has_free_probe, old.pool.is_spread())
                        == (&held, &ids, &voters, has_free_probe, is_spread) =>
                {
                    old.pool.clone()
                }
                Some(old) => {
                    let served = &old.keys[old.pool.active()];
                    let active = held.iter().position(|held| held.digest == served.digest);
                    let active = active.or_else(|| held.iter().position(|held| held.reference == served.reference));
                    let from: Vec<_> = held.iter().map(|held| old.place_of(held)).collect();
                    old.pool.remade(params(active.unwrap_or(0)), &from, now)
                }
            };
            let entry = Entry { pool, keys: held, servers: ids, voters, has_free_probe, turn: 0 };
            self.entries.insert(name.clone(), Arc::new(entry));
            self.plan_wake(&name);
        }
        self.seats = Arc::new(seats);
    }

    /// Which key serves at each entry, from 0; the first one where an entry is not named.
    pub fn active_keys(&self) -> BTreeMap<String, usize> {
        let active = self.entries.iter().map(|(name, entry)| (name, entry.pool.active()));
        active.filter(|(_, active)| *active > 0).map(|(name, active)| (name.clone(), active)).collect()
    }

    /// The keys that share the requests at each entry whose keys serve all at once.
    pub fn spread_keys(&self) -> BTreeMap<String, Vec<usize>> {
        let spread = self.entries.iter().filter(|(_, entry)| entry.pool.is_spread());
        spread.map(|(name, entry)| (name.clone(), entry.pool.serving())).collect()
    }

    /// The key that serves for a server, from 0; of several the one whose turn it is to be probed, so that each is
    /// judged, also where clients' failures are repeated at another server. `None` where it has none.
    pub fn active(&self, id: &ServerId) -> Option<usize> {
        let entry = self.entry_of(id)?;
        let serving = entry.pool.serving();
        serving.get(entry.turn % serving.len().max(1)).copied()
    }

    /// Whether a server has no key left that may be used, and until when.
    pub fn exhausted(&self, id: &ServerId, now: Moment) -> Option<Exhausted> {
        self.entry_of(id)?.pool.exhausted(now)
    }

    /// How often another key was chosen for a server.
    pub fn rotations(&self, id: &ServerId) -> u64 {
        self.entry_of(id).map_or(0, |entry| entry.pool.rotations())
    }

    /// The keys of a server, in the order of its list.
    pub fn status(&self, id: &ServerId, now: Moment) -> Vec<KeyStatus> {
        let Some(entry) = self.entry_of(id) else { return vec![] };
        let keys = entry.pool.snapshot(now).into_iter().zip(&entry.keys).enumerate();
        let one = keys.map(|(index, (known, held))| KeyStatus {
            id: key_id(index),
            reference: held.reference.to_string(),
            is_active: known.is_active,
            state: known.state,
            age: known.since.map(|since| now.since(since)),
            left: match known.state {
                KeyState::InService => None,
                KeyState::Cooling { until } | KeyState::Retired { retest_at: until, .. } => Some(until.since(now)),
            },
            last: known.last.map(|(at, outcome)| (outcome, now.since(at))),
            uses: known.uses,
        });
        one.collect()
    }

    /// Takes in what a probe that was asked with this key told of it. A kind that needs no key says nothing.
    pub fn observe(&mut self, id: &ServerId, key: &Secret, observation: &Observation, now: Moment) -> Learnt {
        let source = match observation.kind {
            ProbeKind::Models => KeyWitness::Free,
            ProbeKind::Chat | ProbeKind::Embeddings => KeyWitness::Deep,
            ProbeKind::Http | ProbeKind::Metrics | ProbeKind::Certificate => return Learnt::default(),
        };
        if let Some(entry) = self.seats.get(id).and_then(|seat| self.entries.get_mut(&seat.entry).map(Arc::make_mut)) {
            entry.turn = entry.turn.wrapping_add(1);
        }
        let digest = Some(Digest::of(key.expose()));
        let index = self.entry_of(id).and_then(|entry| entry.keys.iter().position(|held| held.digest == digest));
        let Observation { outcome, retry_after, is_billing, .. } = *observation;
        self.hear(
            id,
            index,
            |key, voter| KeyWord { key, source, voter, outcome, retry_after, is_billing, count: 1 },
            now,
        )
    }

    /// Takes in what became of client requests that used one key.
    pub fn observe_live(&mut self, words: &KeyWords, now: Moment) -> Learnt {
        let KeyWords { ref id, ref key_id, outcome, is_billing, count, retry_after } = *words;
        let number = key_id.strip_prefix('k').and_then(|number| number.parse::<usize>().ok());
        let index = number.and_then(|number| number.checked_sub(1));
        let source = KeyWitness::Live;
        self.hear(id, index, |key, voter| KeyWord { key, source, voter, outcome, retry_after, is_billing, count }, now)
    }

    fn hear(
        &mut self,
        id: &ServerId,
        index: Option<usize>,
        word: impl FnOnce(usize, u16) -> KeyWord,
        now: Moment,
    ) -> Learnt {
        let mut learnt = Learnt::default();
        let (Some(seat), Some(index)) = (self.seats.get(id).cloned(), index) else { return learnt };
        if let Some(entry) = self.entries.get_mut(&seat.entry).map(Arc::make_mut) {
            let was_exhausted = entry.pool.exhausted(now).is_some();
            let told = entry.pool.observe(&word(index, seat.voter), now);
            learnt.take(&seat.entry, entry, told, was_exhausted, now);
        }
        self.plan_wake(&seat.entry);
        learnt
    }

    /// When somebody must call [`Self::due`] at the latest.
    pub fn next_wake(&self) -> Option<Moment> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Lets time pass. The tests in the answer count as started; each names a server that may be asked.
    pub fn due(&mut self, may_be_asked: impl Fn(&ServerId) -> bool, now: Moment) -> (Vec<(ServerId, usize)>, Learnt) {
        let (mut wanted, mut learnt) = (Vec::new(), Learnt::default());
        while let Some((at, name)) = self.wakes.first().cloned() {
            if at > now {
                break;
            }
            self.wakes.pop_first();
            self.wake_of.remove(&name);
            let Some(entry) = self.entries.get_mut(&name).map(Arc::make_mut) else { continue };
            let was_exhausted = entry.pool.exhausted(now).is_some();
            let (tests, told) = entry.pool.due(now);
            for test in tests {
                let votes = |id: &&ServerId| self.seats.get(*id).map(|seat| seat.voter) == test.voter;
                let askable = || entry.servers.iter().filter(|id| may_be_asked(id));
                match askable().find(votes).or_else(|| askable().next()) {
                    Some(id) => wanted.push((id.clone(), test.key)),
                    None => entry.pool.test_ended(test.key),
                }
            }
            learnt.take(&name, entry, told, was_exhausted, now);
            self.plan_wake(&name);
        }
        (wanted, learnt)
    }

    /// A test has ended, or could not begin.
    pub fn test_ended(&mut self, id: &ServerId, index: usize) {
        let Some(seat) = self.seats.get(id).cloned() else { return };
        if let Some(entry) = self.entries.get_mut(&seat.entry).map(Arc::make_mut) {
            entry.pool.test_ended(index);
        }
        self.plan_wake(&seat.entry);
    }

    fn entry_of(&self, id: &ServerId) -> Option<&Entry> {
        self.entries.get(&self.seats.get(id)?.entry).map(Arc::as_ref)
    }

    fn plan_wake(&mut self, name: &str) {
        if let Some(before) = self.wake_of.remove(name) {
            self.wakes.remove(&(before, name.to_owned()));
        }
        if let Some(next) = self.entries.get(name).and_then(|entry| entry.pool.next_deadline()) {
            self.wakes.insert((next, name.to_owned()));
            self.wake_of.insert(name.to_owned(), next);
        }
    }
}

impl Entry {
    /// Where a key stood: the same value, rather at the same reference.
    fn place_of(&self, key: &Held) -> Option<usize> {
        let same = self.keys.iter().position(|held| held == key);
        same.or_else(|| self.keys.iter().position(|held| held.digest == key.digest))
    }
}

impl Learnt {
    fn take(&mut self, name: &str, entry: &Entry, told: KeyPoolOutcome, was_exhausted: bool, now: Moment) {
        let KeyPoolOutcome { changes, rotation, is_shared_anew } = told;
        let event = |index: usize, change: KeyEventKind, is_grave| KeyEvent {
            entry: name.to_owned(),
            key: key_id(index),
            reference: entry.keys[index].reference.to_string(),
            change,
            is_grave,
        };
        for change in changes {
            let is_grave = matches!(change.to, KeyState::Retired { .. });
            let state = KeyEventKind::State { from: change.from, to: change.to };
            self.events.push(event(change.key, state, is_grave));
        }
        if let Some(exhausted) = entry.pool.exhausted(now).filter(|_| !was_exhausted) {
            self.exhausted.push((name.to_owned(), exhausted));
        }
        if let Some(rotation) = rotation {
            let serves = KeyEventKind::Serves { instead_of: key_id(rotation.from) };
            self.events.push(event(rotation.to, serves, false));
        }
        if rotation.is_some() || is_shared_anew {
            self.is_rotated = true;
            if was_exhausted {
                self.ask_soon.extend(entry.servers.iter().cloned());
            }
        }
    }

    /// What somebody should read of it.
    pub fn told(&self) -> impl Iterator<Item = Event> {
        let of_entry = |(entry, Exhausted { is_rejected, .. }): &(String, Exhausted)| {
            let why = if *is_rejected { "all were rejected" } else { "all rest or were rejected" };
            let text = format!("no key of {entry} may be used; HAProxy goes on with the last one");
            Event::once(EventKind::Key, Severity::Error, entry, text).because(why)
        };
        let of_key = |KeyEvent { entry, key, reference, change, is_grave }: &KeyEvent| {
            let severity = if *is_grave { Severity::Warning } else { Severity::Info };
            let text = match change {
                KeyEventKind::Serves { instead_of } => {
                    format!("key {key} of {entry} ({reference}) serves in the place of {instead_of}")
                }
                KeyEventKind::State { from, to } => format!("key {key} of {entry} ({reference}): {from} → {to}"),
            };
            let event = match change {
                KeyEventKind::State { to: KeyState::Retired { .. }, .. } => {
                    Event::begins(EventKind::Key, severity, entry, text)
                }
                KeyEventKind::State { from: KeyState::Retired { .. }, .. } => Event::ends(EventKind::Key, entry, text),
                KeyEventKind::State { .. } | KeyEventKind::Serves { .. } => {
                    Event::once(EventKind::Key, severity, entry, text)
                }
            };
            event.about(key)
        };
        self.exhausted.iter().map(of_entry).chain(self.events.iter().map(of_key))
    }
}
