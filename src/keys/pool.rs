//! The keys of one entry together: which one serves.
//!
//! The driver hands in what was learnt with [`observe`](KeyPool::observe), starts the tests that
//! [`due`](KeyPool::due) names, and calls that at [`next_deadline`](KeyPool::next_deadline). A key that works stays:
//! providers keep the beginning of prompts for the account that asked before.

use super::key::{KeyState, KeyWitness, PoolKey, Rejection};
use crate::health::Outcome;
use crate::model::Moment;
use std::time::Duration;

/// What a pool is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct KeyPoolParams {
    /// How many keys, 1 to 16.
    pub keys: usize,
    /// Which of them serves.
    pub active: usize,
    /// Whether a probe exists that costs nothing and proves a key. Else a rejected key comes back by time alone.
    pub has_free_probe: bool,
    /// All that may serve do so at once.
    pub is_spread: bool,
    /// The keys that do not serve are tested for the first time after this: spread it over the pools.
    pub first_test: Duration,
}

/// What somebody learnt of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyWord {
    /// Which key, from 0.
    pub key: usize,
    /// Who says it.
    pub source: KeyWitness,
    /// Which of the servers that share the keys answered; servers of one address are one.
    pub voter: u16,
    /// What came out. Only success, 429 and rejections say anything of a key: a 500 does not.
    pub outcome: Outcome,
    /// The silence that was asked for.
    pub retry_after: Option<Duration>,
    /// A rejection that means the account and not the key.
    pub is_billing: bool,
    /// So many requests told the same, one after the other; 1 for a probe.
    pub count: u32,
}

/// A key that became another state: a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Which key, from 0.
    pub key: usize,
    /// Before.
    pub from: KeyState,
    /// After; of another kind than `from`.
    pub to: KeyState,
}

/// Another key serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Before.
    pub from: usize,
    /// After.
    pub to: usize,
}

/// What followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPoolOutcome {
    /// Keys that became another state.
    pub changes: Vec<KeyChange>,
    /// The map must change.
    pub rotation: Option<Rotation>,
    /// Likewise: other keys than before share the requests.
    pub is_shared_anew: bool,
}

/// A key that the free probe is to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTest {
    /// Which key, from 0.
    pub key: usize,
    /// The server whose word is wanted; `None`: any.
    pub voter: Option<u16>,
}

/// No key may be used: the one that serves is kept all the same, since any answer is better than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// When the first of them may be used again.
    pub until: Moment,
    /// All were rejected; else at least one only rests.
    pub is_rejected: bool,
    /// All were, for a spent account or quota: a new key would not help.
    pub is_spent: bool,
}

/// One key as `status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySnapshot {
    /// Whether it serves.
    pub is_active: bool,
    /// Whether it may.
    pub state: KeyState,
    /// Since when; `None`: since the start.
    pub since: Option<Moment>,
    /// What was said of it last, and when.
    pub last: Option<(Moment, Outcome)>,
    /// Client requests that were seen to use it.
    pub uses: u64,
}

/// The keys of one entry.
#[derive(Clone, Debug)]
pub struct KeyPool {
    keys: Vec<PoolKey>,
    /// The states as they were told last, and since when.
    told: Vec<(KeyState, Option<Moment>)>,
    active: usize,
    has_free_probe: bool,
    is_spread: bool,
    rotations: u64,
    /// No key may be used: the one that serves was chosen for that time.
    is_exhausted: bool,
}

impl KeyPool {
    /// Keys of which nothing is known but which one serves: all may be used.
    pub fn new(params: KeyPoolParams, now: Moment) -> Self {
        let KeyPoolParams { keys, active, has_free_probe, is_spread, first_test } = params;
        let count = keys.max(1);
        Self {
            keys: (0..count).map(|_| PoolKey::new(now + first_test)).collect(),
            told: vec![(KeyState::InService, None); count],
            active: active.min(count - 1),
            has_free_probe,
            is_spread,
            rotations: 0,
            is_exhausted: false,
        }
    }

    /// Goes on with another list: `from` names for each key its place before, `None` where its value is a new one. A new
    /// key is tested at once, whether it serves or not.
    pub fn remade(&self, params: KeyPoolParams, from: &[Option<usize>], now: Moment) -> Self {
        let mut pool = Self::new(params, now);
        pool.rotations = self.rotations;
        for (index, before) in from.iter().enumerate().take(pool.keys.len()) {
            match before.and_then(|before| Some((self.keys.get(before)?, self.told.get(before)?))) {
                Some((key, told)) => {
                    pool.keys[index] = key.clone();
                    pool.keys[index].start_over();
                    pool.told[index] = *told;
                }
                None => {
                    pool.keys[index] = PoolKey::renewed(now, now);
                    pool.told[index] = (KeyState::InService, Some(now));
                }
            }
        }
        pool
    }

    /// The key that serves, from 0.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Whether all keys that may serve do so at once.
    pub fn is_spread(&self) -> bool {
        self.is_spread
    }

    /// The keys that serve, from 0, in the order of the list: one, or all that may where they are spread.
    pub fn serving(&self) -> Vec<usize> {
        let may_serve = |index: &usize| self.told[*index].0 == KeyState::InService;
        let all: Vec<usize> = (0..self.keys.len()).filter(may_serve).collect();
        if self.is_spread && !all.is_empty() { all } else { vec![self.active] }
    }

    /// How often another key was chosen.
    pub fn rotations(&self) -> u64 {
        self.rotations
    }

    /// Takes in what was learnt.
    pub fn observe(&mut self, word: &KeyWord, now: Moment) -> KeyPoolOutcome {
        let KeyWord { key, source, voter, outcome, retry_after, is_billing, count } = *word;
        let (is_only, has_free_probe) = (self.keys.len() == 1, self.has_free_probe);
        let Some(key) = self.keys.get_mut(key) else { return KeyPoolOutcome::default() };
        if source == KeyWitness::Live {
            key.uses += u64::from(count);
            if key.is_deaf(now) {
                return KeyPoolOutcome::default();
            }
        }
        let why = if is_billing { Rejection::Billing } else { Rejection::Credential };
        match outcome {
            Outcome::Ok | Outcome::Slow => key.accept(source, voter, now),
            Outcome::RateLimited => key.limit(source, voter, retry_after, now),
            // No client's request condemns the only key; nor any, where a probe can tell for free.
            Outcome::Credential if source == KeyWitness::Live && !is_billing && (has_free_probe || is_only) => {
                key.reject_for_now(voter, count, !is_only, now);
            }
            Outcome::Credential => key.reject(source, voter, why, count, now),
            Outcome::ProbeConfig if source == KeyWitness::Live => key.doubt(voter, now),
            Outcome::Overloaded
            | Outcome::ProbeConfig
            | Outcome::ServerError
            | Outcome::BadContent
            | Outcome::Timeout(_)
            | Outcome::Refused
            | Outcome::Reset
            | Outcome::Tls
            | Outcome::Dns
            | Outcome::SelfCaused => {}
        }
        // Our own faults leave no trace, not even as the last word.
        if outcome != Outcome::SelfCaused {
            key.last = Some((now, outcome, source));
        }
        self.settle(now)
    }

    /// Lets time pass: pauses end. Names the tests that are due; they count as started.
    pub fn due(&mut self, now: Moment) -> (Vec<KeyTest>, KeyPoolOutcome) {
        if !self.has_free_probe {
            self.keys.iter_mut().for_each(|key| key.give_another_chance(now));
        }
        let wanted: Vec<usize> =
            (0..self.keys.len()).filter(|index| self.test_at(*index).is_some_and(|at| at <= now)).collect();
        let tests = wanted.into_iter().map(|index| {
            let key = &mut self.keys[index];
            key.test_started(now);
            KeyTest { key: index, voter: key.ask }
        });
        (tests.collect(), self.settle(now))
    }

    /// A test has ended, whatever it told: [`observe`](Self::observe) says what.
    pub fn test_ended(&mut self, key: usize) {
        if let Some(key) = self.keys.get_mut(key) {
            key.is_testing = false;
        }
    }

    /// When [`due`](Self::due) may have something to say. `None`: not before the next word.
    pub fn next_deadline(&self) -> Option<Moment> {
        let pauses = self.told.iter().filter_map(|(state, _)| match state {
            KeyState::Cooling { until } => Some(*until),
            KeyState::Retired { retest_at, .. } if !self.has_free_probe => Some(*retest_at),
            KeyState::InService | KeyState::Retired { .. } => None,
        });
        let tests = (0..self.keys.len()).filter_map(|index| self.test_at(index));
        pauses.chain(tests).min()
    }

    /// Whether no key may be used.
    pub fn exhausted(&self, now: Moment) -> Option<Exhausted> {
        if self.keys.iter().any(|key| key.state(now) == KeyState::InService) {
            return None;
        }
        let is_rejected = self.keys.iter().all(|key| matches!(key.state(now), KeyState::Retired { .. }));
        let until = self.keys.iter().map(|key| key.usable_at(now)).min().unwrap_or(now);
        let spent = |key: &PoolKey| matches!(key.state(now), KeyState::Retired { why: Rejection::Billing, .. });
        let is_spent = self.keys.iter().all(spent);
        Some(Exhausted { until, is_rejected, is_spent })
    }

    /// Every key, in the order of the list.
    pub fn snapshot(&self, now: Moment) -> Vec<KeySnapshot> {
        let serving = self.serving();
        let one = |(index, (key, (_, since))): (usize, (&PoolKey, &(KeyState, Option<Moment>)))| KeySnapshot {
            is_active: serving.contains(&index),
            state: key.state(now),
            since: *since,
            last: key.last.map(|(at, outcome, _)| (at, outcome)),
            uses: key.uses,
        };
        self.keys.iter().zip(&self.told).enumerate().map(one).collect()
    }

    /// When a key is to be tested. The one that serves is asked by the probes of its servers all the time, unless
    /// somebody doubts it.
    fn test_at(&self, index: usize) -> Option<Moment> {
        let key = &self.keys[index];
        let is_doubted = key.suspect || key.last.is_none() || matches!(self.told[index].0, KeyState::Retired { .. });
        let is_wanted = index != self.active || is_doubted;
        (self.has_free_probe && !key.is_testing && is_wanted).then_some(key.test_at)
    }

    /// Notes what has changed, and chooses.
    fn settle(&mut self, now: Moment) -> KeyPoolOutcome {
        let mut told = KeyPoolOutcome::default();
        let served = self.serving();
        for (index, (key, (before, since))) in self.keys.iter().zip(&mut self.told).enumerate() {
            let state = key.state(now);
            if std::mem::discriminant(before) != std::mem::discriminant(&state) {
                told.changes.push(KeyChange { key: index, from: *before, to: state });
                *since = Some(now);
            }
            *before = state;
        }
        let to = self.best(now);
        if to != self.active {
            // Of spread keys only the last resort is chosen; it serves alone while none may.
            told.rotation = (!self.is_spread).then_some(Rotation { from: self.active, to });
            self.active = to;
            self.rotations += u64::from(!self.is_spread);
        }
        told.is_shared_anew = self.is_spread && self.serving() != served;
        self.is_exhausted = self.told.iter().all(|(state, _)| *state != KeyState::InService);
        told
    }

    /// The key that should serve: the one that does, while it may; else the next one that may, rather one that nobody
    /// doubts; else the one whose pause ends first; else the one that does. Once chosen for want of a better one, it
    /// stays until one may serve: the others could else never rest.
    fn best(&self, now: Moment) -> usize {
        let count = self.keys.len();
        let may_serve = |index: &usize| self.keys[*index].state(now) == KeyState::InService;
        if may_serve(&self.active) {
            return self.active;
        }
        let following = || (1..count).map(|step| (self.active + step) % count).filter(may_serve);
        if let Some(next) = following().find(|index| !self.keys[*index].suspect).or_else(|| following().next()) {
            return next;
        }
        let rests = |index: usize| matches!(self.keys[index].state(now), KeyState::Cooling { .. });
        if self.is_exhausted && rests(self.active) {
            return self.active;
        }
        let pause = |index: usize| match self.keys[index].state(now) {
            KeyState::Cooling { until } => Some((until, index != self.active, index)),
            KeyState::InService | KeyState::Retired { .. } => None,
        };
        (0..count).filter_map(pause).min().map_or(self.active, |(_, _, index)| index)
    }
}
