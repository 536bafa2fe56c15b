//! A revision that soaks: what came to its backends before it and since, and what follows.
//!
//! Decides by `rollout` alone. Knows no HAProxy and no history: that a revision is taken back or kept is done by who asks.

use crate::config::{Backend, Config};
use crate::fleet::Fleet;
use crate::health::{Count, Outcome, ServerHealth, State};
use crate::model::{AdminState, Moment, Name, Origin, ServerId};
use crate::rollout::{BackendNews, BackendSeen, ServersUp, Soak, SoakHeard, SoakView, Verdict};
use crate::store::{Provisional, SavedSoak};
use crate::traffic::{GroupCounts, OwnAnswers};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};

/// What was heard is handed to a soak this often.
const EVERY: Duration = Duration::from_secs(1);
/// The time before an edit is kept in so many pieces…
const PIECES: usize = 10;
/// …of this length: five minutes.
const PIECE: Duration = Duration::from_secs(30);
/// A look that comes later did not see all of the time.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// What no backend had: frontends that know none, and those that are not the operator's.
const NO_BACKEND: &str = "no backend";

/// The other nodes are told of so many backends: room for them in a datagram.
const MAX_TOLD: usize = 40;

type Seen = BTreeMap<String, BackendSeen>;

/// What came to backends, and the soak of the revision on trial.
#[derive(Debug, Default)]
pub(in crate::agent) struct Soaking {
    /// Before an edit; the last one grows.
    pieces: VecDeque<Seen>,
    piece_ends: Moment,
    /// Since the last look.
    fresh: Seen,
    of: Option<OneSoak>,
    /// Of the life before.
    saved: Option<SavedSoak>,
    next: Moment,
    /// When what was heard was handed on last.
    looked: Option<Moment>,
    /// Somebody looks, about each second.
    is_driven: bool,
    /// What the other nodes are to know of this one, by backend.
    news: BTreeMap<String, BackendNews>,
    /// What the other nodes said last, by node.
    heard: BTreeMap<String, BTreeMap<String, BackendNews>>,
    /// What came to those that serve something else, since the last look.
    elsewhere: Seen,
}

/// The soak of one revision.
#[derive(Debug)]
struct OneSoak {
    revision: u32,
    lasts: Duration,
    soak: Soak,
    /// What it is compared with, for an edit that comes before its end.
    before: Seen,
    changed: BTreeSet<String>,
    /// That the deadline of the trial decides was told.
    is_open_told: bool,
    /// That it is worse was told.
    is_worse_told: bool,
}

/// What a soak came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) enum SoakEnd {
    /// The revision is to be taken back.
    Worse(String),
    /// It is to be kept; what is told behind that it is confirmed.
    Keep(String),
    /// The deadline of the trial decides.
    Open(String),
}

impl Soaking {
    /// With what the life before has left.
    pub fn of(saved: Option<SavedSoak>) -> Self {
        Self { saved, ..Self::default() }
    }

    /// An agent drives it. Who carries out one command alone has nobody who looks.
    pub fn drive(&mut self) {
        self.is_driven = true;
    }

    /// Whether somebody looks.
    pub fn is_driven(&self) -> bool {
        self.is_driven
    }

    /// Whether that it is worse is told now for the first time.
    pub fn is_worse_news(&mut self) -> bool {
        self.of.as_mut().is_some_and(|one| !std::mem::replace(&mut one.is_worse_told, true))
    }

    /// What soaks.
    pub fn revision(&self) -> Option<u32> {
        self.of.as_ref().map(|one| one.revision)
    }

    /// What is to be kept over a restart.
    pub fn to_save(&self, today: SystemTime) -> Option<SavedSoak> {
        let OneSoak { revision, soak, before, changed, .. } = self.of.as_ref()?;
        let (soak, before, changed) = (soak.clone(), before.clone(), changed.clone());
        Some(SavedSoak { revision: *revision, soak, before, changed, at: today })
    }

    /// Takes in what became of requests.
    pub fn hear(
        &mut self,
        config: &Config,
        groups: &[(ServerId, GroupCounts)],
        own_answers: &[(Box<str>, OwnAnswers)],
    ) {
        if !self.is_wanted(config) {
            return;
        }
        for (id, counts) in groups {
            // A canary is judged by its own rules.
            let seen = self.seen(id.backend.as_str());
            seen.counts.merge(&counts.others);
            seen.counts.merge(&counts.control);
        }
        for (proxy, own) in own_answers {
            let is_backend = Name::new(&**proxy).is_ok_and(|name| config.backend(&name).is_some());
            let seen = self.seen(if is_backend { proxy } else { NO_BACKEND });
            seen.own_5xx += own.errors;
            seen.own_refused += own.refused;
        }
    }

    /// Takes in how a probe ended.
    pub fn probed(&mut self, config: &Config, id: &ServerId, outcome: Outcome) {
        if !self.is_wanted(config) {
            return;
        }
        let has_failed = match outcome {
            // What the server does not know, or no more.
            Outcome::ProbeConfig | Outcome::Credential => true,
            _ => match outcome.count() {
                Count::Success | Count::Limited => false,
                Count::HardFailure => true,
                Count::Neutral => return,
            },
        };
        let seen = self.seen(id.backend.as_str());
        seen.probes += 1;
        seen.probe_failures += u64::from(has_failed);
    }

    fn seen(&mut self, name: &str) -> &mut BackendSeen {
        self.fresh.entry(name.to_owned()).or_default()
    }

    fn is_wanted(&self, config: &Config) -> bool {
        self.is_driven && (config.apply.soak.is_some() || self.of.is_some())
    }

    /// Another configuration is about to serve: what it serves otherwise. How its servers are now is what they are compared
    /// with.
    pub fn changes(&mut self, before: &Config, after: &Config, fleet: &Fleet) -> BTreeSet<String> {
        if !self.is_wanted(after) {
            return BTreeSet::new();
        }
        if self.of.is_none() {
            let mut now = Seen::new();
            add_servers(&mut now, before, fleet);
            self.pieces.push_back(now);
        }
        changed(before, after)
    }

    /// What serves is on trial, or not any more. `changed`: what it serves otherwise than what served before; nobody knows
    /// where the agent has just begun, and then it may be everything.
    pub fn follow(
        &mut self,
        trial: Option<&Provisional>,
        changed: Option<BTreeSet<String>>,
        config: &Config,
        now: Moment,
        today: SystemTime,
    ) {
        let Some((trial, lasts)) = trial.and_then(|trial| Some((trial, trial.soak()?))).filter(|_| self.is_driven)
        else {
            self.of = None;
            return;
        };
        let revision = trial.revision;
        if let Some(one) = self.of.as_mut().filter(|one| one.revision == revision) {
            one.lasts = lasts;
            return;
        }
        if let Some(saved) = self.saved.take().filter(|saved| saved.revision == revision) {
            let SavedSoak { mut soak, before, changed, at, .. } = saved;
            soak.after_gap(today.duration_since(at).unwrap_or_default());
            self.of =
                Some(OneSoak { revision, lasts, soak, before, changed, is_open_told: false, is_worse_told: false });
            return;
        }
        let is_other = changed.as_ref().is_none_or(|changed| !changed.is_empty());
        if let Some(one) = self.of.as_mut().filter(|_| !is_other) {
            // No request meets this one: what was seen of the last one goes on.
            (one.revision, one.lasts) = (revision, lasts);
            return;
        }
        // An edit that comes while the last one soaks is compared with what was before both.
        let earlier = self.of.take();
        let (mut before, mut all) = match earlier {
            Some(OneSoak { before, changed, .. }) => (before, changed),
            None => (self.take_before(config), BTreeSet::new()),
        };
        all.extend(changed.unwrap_or_else(|| all_of(config)));
        // Clients of a backend that is new may have come from another one.
        for name in all.iter().filter(|name| is_served(config, name)) {
            before.entry(name.clone()).or_default();
        }
        let soak = Soak::new(&before, &all, now);
        self.of =
            Some(OneSoak { revision, lasts, soak, before, changed: all, is_open_told: false, is_worse_told: false });
        self.next = now;
    }

    /// What was counted in the last minutes; the counting begins anew.
    fn take_before(&mut self, config: &Config) -> Seen {
        let names = if self.pieces.is_empty() { all_of(config) } else { BTreeSet::from([NO_BACKEND.to_owned()]) };
        let mut before: Seen = names.into_iter().map(|name| (name, BackendSeen::default())).collect();
        for piece in self.pieces.drain(..) {
            for (name, seen) in piece {
                before.entry(name).or_default().add_later(&seen);
            }
        }
        before
    }

    /// What the other nodes are to know, by backend; of some of them, where there are many.
    pub fn news(&self) -> BTreeMap<String, BackendNews> {
        self.news.clone()
    }

    /// Takes in what another node said. `is_control`: it serves another file than this node.
    pub fn hear_node(&mut self, node: &str, said: &BTreeMap<String, BackendNews>, is_control: bool) {
        let heard = self.heard.entry(node.to_owned()).or_default();
        if heard == said {
            return;
        }
        for (name, now) in said.iter().filter(|_| is_control) {
            // The first time tells nothing of what came lately.
            let before = heard.get(name).unwrap_or(now);
            self.elsewhere.entry(name.clone()).or_default().add_later(&now.since(before));
        }
        heard.clone_from(said);
    }

    /// Takes note of what came, for the other nodes.
    fn tell_nodes(&mut self, fresh: &Seen, config: &Config, fleet: &Fleet) {
        if config.node.heartbeat.is_none() {
            self.news.clear();
            return;
        }
        let backends = || config.backends.iter().take(MAX_TOLD);
        self.news.retain(|name, _| backends().any(|backend| backend.name.as_str() == name));
        for backend in backends() {
            let news = self.news.entry(backend.name.to_string()).or_default();
            if let Some(seen) = fresh.get(backend.name.as_str()) {
                news.count(&BackendSeen { servers: Some(servers(backend, fleet)), ..seen.clone() });
            }
        }
    }

    /// When [`Self::decide`] is due; `None`: there is nothing to decide.
    pub fn next(&self, config: &Config) -> Option<Moment> {
        self.is_wanted(config).then_some(self.next)
    }

    /// Decides by what was heard: what becomes of the revision that soaks, where that is certain or its time is over.
    /// `keeps`: nobody has to confirm it.
    pub fn decide(&mut self, config: &Config, fleet: &Fleet, keeps: bool, now: Moment) -> Option<SoakEnd> {
        if !self.is_wanted(config) {
            // What is old by the time that somebody wants it again is no comparison.
            (self.pieces, self.fresh, self.looked, self.news) = Default::default();
            return None;
        }
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        let mut fresh = std::mem::take(&mut self.fresh);
        let lasted = self.looked.replace(now).map_or(EVERY, |looked| now.since(looked)).min(LONGEST_LOOK);
        for name in all_of(config) {
            fresh.entry(name).or_default().seconds = lasted.as_secs_f64();
        }
        self.tell_nodes(&fresh, config, fleet);
        let elsewhere = std::mem::take(&mut self.elsewhere);
        let Some(one) = &mut self.of else {
            self.note(fresh, now);
            return None;
        };
        add_servers(&mut fresh, config, fleet);
        one.soak.observe(&SoakHeard { here: fresh, elsewhere }, now);
        if let Some(reason) = one.soak.decide(now) {
            return Some(SoakEnd::Worse(reason));
        }
        if one.soak.watched() < one.lasts && !one.changed.is_empty() {
            return None;
        }
        let (is_clean, words) = match one.soak.verdict(now) {
            _ if one.changed.is_empty() => (true, "no backend is served otherwise".to_owned()),
            Verdict::Worse { reason } => return Some(SoakEnd::Worse(reason)),
            Verdict::Clean { words } => (true, format!("nothing is worse: {words}")),
            Verdict::Shared { reason } => (false, format!("the edit is not the reason: {reason}")),
            Verdict::Quiet { words } => (false, words),
        };
        match is_clean {
            true => Some(SoakEnd::Keep(format!(" after its soak: {words}"))),
            false if keeps => Some(SoakEnd::Keep(format!(" after its soak, though nothing proves it: {words}"))),
            false => (!std::mem::replace(&mut one.is_open_told, true)).then_some(SoakEnd::Open(words)),
        }
    }

    /// Keeps what came, for an edit that may come.
    fn note(&mut self, fresh: Seen, now: Moment) {
        if now >= self.piece_ends || self.pieces.is_empty() {
            self.pieces.push_back(Seen::new());
            self.pieces.drain(..self.pieces.len().saturating_sub(PIECES));
            self.piece_ends = now + PIECE;
        }
        if let Some(last) = self.pieces.back_mut() {
            fresh.into_iter().for_each(|(name, seen)| last.entry(name).or_default().add_later(&seen));
        }
    }

    /// The soak at this moment, and how long it lasts.
    pub fn view(&self, now: Moment) -> Option<(SoakView, Duration)> {
        self.of.as_ref().map(|one| (one.soak.view(now), one.lasts))
    }

    /// The time that it was watched.
    pub fn watched(&self) -> Option<Duration> {
        self.of.as_ref().map(|one| one.soak.watched())
    }
}

fn add_servers(seen: &mut Seen, config: &Config, fleet: &Fleet) {
    for backend in &config.backends {
        seen.entry(backend.name.to_string()).or_default().servers = Some(servers(backend, fleet));
    }
}

/// The servers of a backend that operators want and that were asked, and how many of them answer as they should.
fn servers(backend: &Backend, fleet: &Fleet) -> ServersUp {
    let mut servers = ServersUp::default();
    for server in backend.servers.iter().filter(|server| server.state.value == AdminState::Ready) {
        let id = ServerId::new(backend.name.clone(), server.name.clone());
        match fleet.view().health(&id).map(ServerHealth::state) {
            None | Some(State::Unknown) => continue,
            Some(State::Unhealthy(_)) => {}
            Some(_) => servers.up += 1,
        }
        servers.all += 1;
    }
    servers
}

fn is_served(config: &Config, name: &str) -> bool {
    config.backends.iter().any(|backend| backend.name.as_str() == name)
}

fn all_of(config: &Config) -> BTreeSet<String> {
    config.backends.iter().map(|backend| backend.name.to_string()).chain([NO_BACKEND.to_owned()]).collect()
}

/// The backends that are served otherwise; all of them, where something else was changed that requests meet.
fn changed(before: &Config, after: &Config) -> BTreeSet<String> {
    if !is_same_around(before, after) {
        return all_of(after);
    }
    let is_other = |backend: &&Backend| before.backend(&backend.name).is_none_or(|other| bare(other) != bare(backend));
    after.backends.iter().filter(is_other).map(|backend| backend.name.to_string()).collect()
}

/// Whether requests meet the same around the backends. Neither nodes nor addresses count, nor what the agent does beside.
fn is_same_around(one: &Config, other: &Config) -> bool {
    one.haproxy == other.haproxy
        && one.tls == other.tls
        && one.frontends == other.frontends
        && one.limit_address == other.limit_address
        && one.plans == other.plans
        && one.clients == other.clients
        && one.clients_file == other.clients_file
}

/// Without its places in the file.
fn bare(backend: &Backend) -> Backend {
    let nowhere = Origin { line: 0, column: 0 };
    let mut bare = Backend { origin: nowhere, ..backend.clone() };
    bare.check.origin = nowhere;
    bare.servers.iter_mut().for_each(|server| server.origin = nowhere);
    bare
}
