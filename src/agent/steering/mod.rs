//! What is known of servers, and what follows for HAProxy: health, keys, and operators' words.
//!
//! Knows neither HAProxy's files nor who asks: it answers with what is wanted, and compares that with what was seen.

mod causes;
mod keyless;
#[cfg(test)]
mod keyring_tests;
mod wanted;
mod word_count;
mod words;

pub(super) use causes::log_transition;
pub(super) use wanted::{renewed_keys, steps_of};
use word_count::WordCount;

use super::sources::place::Sources;
use crate::config::Config;
use crate::desired::Desired;
use crate::fleet::{Fleet, Keyring, Overrides};
use crate::model::{Moment, ServerId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known of servers.
#[derive(Debug)]
pub struct Steering {
    /// The health of all servers.
    pub fleet: Fleet,
    /// The keys of all servers.
    pub keyring: Keyring,
    /// What operators set by command.
    pub overrides: Overrides,
    /// Whom operators spoke of since HAProxy was looked at last.
    said: BTreeSet<ServerId>,
    /// How far what operators said is written down.
    pub(super) word_count: WordCount,
    /// Other keys serve than HAProxy was told last.
    pub(super) keys_moved: bool,
    /// What clients have spent, as HAProxy is told it.
    pub(super) spent: Arc<BTreeMap<String, String>>,
    /// What the log knows each server's weight to come from.
    told_causes: BTreeMap<ServerId, String>,
}

impl Steering {
    pub(super) fn new(mut fleet: Fleet, keyring: Keyring, overrides: Overrides) -> Self {
        fleet.silence(&overrides, Moment::default());
        let (said, told_causes, spent) = (BTreeSet::new(), BTreeMap::new(), Arc::default());
        Self {
            fleet,
            keyring,
            overrides,
            said,
            word_count: WordCount::default(),
            keys_moved: false,
            spent,
            told_causes,
        }
    }

    /// What should serve if these sources did: nothing is changed.
    pub(super) fn desired_under(&self, sources: &Sources, now: Moment) -> Desired {
        let mut fleet = self.fleet.clone();
        fleet.reconfigure(sources.config.clone(), now);
        fleet.silence(&self.overrides, now);
        let weights = fleet.decide(&self.overrides, now);
        let mut keyring = self.keyring.clone();
        keyring.reconfigure(&sources.config, &sources.secrets, now);
        self.desired_with(sources, &weights, &keyring)
    }

    /// Other sources serve. `renewed`: servers that are to be asked soon, see [`renewed_keys`].
    pub(super) fn reconfigure(&mut self, sources: &Sources, renewed: &[ServerId], now: Moment) {
        let config = &sources.config;
        self.fleet.reconfigure(config.clone(), now);
        self.fleet.silence(&self.overrides, now);
        self.fleet.decide(&self.overrides, now);
        self.keyring.reconfigure(config, &sources.secrets, now);
        self.told_causes.retain(|id, _| config.server(id).is_some());
        renewed.iter().for_each(|id| self.fleet.ask_soon(id, now));
    }

    /// What clients have spent, as HAProxy is to be told it.
    pub(super) fn note_spent(&mut self, spent: BTreeMap<String, String>) {
        if *self.spent != spent {
            self.spent = Arc::new(spent);
        }
    }

    /// Operators' words that have ended are gone. Answers which.
    pub(super) fn end_words(&mut self, config: &Config, now: Moment) -> Vec<ServerId> {
        // The whole comparison, which follows, sees states as well.
        self.said.clear();
        let ended = self.overrides.expire(jiff::Timestamp::now(), |id| config.server(id).is_some());
        if !ended.is_empty() {
            self.word_count.add();
        }
        self.fleet.silence(&self.overrides, now);
        ended
    }
}
