//! What is known of servers, and what follows for HAProxy: health, keys, and operators' words.
//!
//! Knows neither HAProxy's files nor who asks: it answers with what is wanted, and compares that with what was seen.

mod canaries;
mod causes;
mod keyless;
#[cfg(test)]
mod keyring_tests;
mod models;
mod soaking;
mod wanted;
mod word_count;
mod words;

use canaries::Canaries;
pub use canaries::{CanaryView, CanaryWord};
pub(super) use causes::log_transition;
use models::ModelLists;
pub(super) use soaking::SoakEnd;
use soaking::Soaking;
pub(super) use wanted::{renewed_keys, steps_of};
use word_count::WordCount;

use super::history::usage_book;
use super::sources::place::Sources;
use crate::config::{Clients, Config};
use crate::desired::Desired;
use crate::fleet::{Fleet, Keyring, Overrides};
use crate::model::{Moment, ServerId};
use crate::render::ModelsOfServers;
use crate::store::{SavedCanaries, SavedSoak};
use crate::usage::{SharedLedger, UsageLedger};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

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
    spent: SpentRows,
    /// Which models callers may ask for.
    pub(super) models: ModelLists,
    /// What canaries have of the clients.
    pub(super) canaries: Canaries,
    /// The revision that soaks.
    pub(super) soaking: Soaking,
    /// What clients used.
    pub(super) ledger: SharedLedger,
    /// What the log knows each server's weight to come from.
    told_causes: BTreeMap<ServerId, String>,
}

/// What clients have spent, as it was looked at last, and under which sources.
#[derive(Debug, Default)]
struct SpentRows {
    of: Option<(Arc<Config>, Arc<Clients>)>,
    rows: Arc<BTreeMap<String, String>>,
}

impl Steering {
    pub(super) fn new(
        mut fleet: Fleet,
        keyring: Keyring,
        overrides: Overrides,
        ledger: UsageLedger,
        models: ModelsOfServers,
        canaries: SavedCanaries,
        soak: Option<SavedSoak>,
    ) -> Self {
        fleet.silence(&overrides, Moment::default());
        let (said, told_causes, spent) = (BTreeSet::new(), BTreeMap::new(), SpentRows::default());
        let ledger = SharedLedger::new(ledger);
        Self {
            fleet,
            keyring,
            overrides,
            said,
            word_count: WordCount::default(),
            keys_moved: false,
            spent,
            models: ModelLists::new(models),
            canaries: Canaries::of(canaries),
            soaking: Soaking::of(soak),
            ledger,
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
        self.look_at_budgets(sources);
        self.models.look(sources);
        self.keys_moved |= self.canaries.look(config, now, SystemTime::now());
        self.fleet.reconfigure(config.clone(), now);
        self.fleet.silence(&self.overrides, now);
        self.fleet.decide(&self.overrides, now);
        self.keyring.reconfigure(config, &sources.secrets, now);
        self.told_causes.retain(|id, _| config.server(id).is_some());
        renewed.iter().for_each(|id| self.fleet.ask_soon(id, now));
    }

    /// What clients have spent by now is what HAProxy is to be told.
    pub(super) fn look_at_budgets(&mut self, sources: &Sources) {
        let spent = self.spent_by(sources);
        if *self.spent.rows != spent {
            self.spent.rows = Arc::new(spent);
        }
        self.spent.of = Some((sources.config.clone(), sources.clients.clone()));
    }

    fn spent_by(&self, sources: &Sources) -> BTreeMap<String, String> {
        usage_book::spent(&mut self.ledger.lock(), &sources.config, &sources.clients)
    }

    /// The same as was said at the last look, where that was about these.
    fn spent_under(&self, sources: &Sources) -> Arc<BTreeMap<String, String>> {
        let is_of = |(config, clients): &(Arc<Config>, Arc<Clients>)| {
            Arc::ptr_eq(config, &sources.config) && Arc::ptr_eq(clients, &sources.clients)
        };
        match self.spent.of.as_ref().is_some_and(is_of) {
            true => self.spent.rows.clone(),
            false => Arc::new(self.spent_by(sources)),
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
