//! One backend, or some of them together, before a revision and since.
//!
//! What was before gives each sign its limit; the sign is then watched as a canary's condition is. Called by `soak`.

use crate::rollout::bounds::{Level, upper};
use crate::rollout::judge::Proof;
use crate::rollout::row::{Row, RowSays};
use crate::rollout::watch::{Called, Piece, Tripped, Watch};
use crate::rollout::words::time_text;
use crate::rollout::{Condition, Counts, Limit, Metric};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The time that is looked at.
const WINDOW: Duration = Duration::from_secs(60);
/// A share is worse where it is more than so many times what it was at most before…
const TIMES: f64 = 2.0;
/// …and a point more: below that traffic differs from one minute to the next.
const POINT: f64 = 0.01;
/// Probes are few and of few servers: one of three that dies by chance must not take an edit with it.
const PROBES_MORE: f64 = 0.3;
/// More failing than that is worse than any time before that failed less.
const HALF: f64 = 0.5;
/// First tokens are worse where half of them take so many times as long as before…
const TIMES_P50: f64 = 2.0;
/// …or the slowest twentieth.
const TIMES_P95: f64 = 2.5;
/// Failures in a row that need no window.
const ROW: u64 = 10;
/// So long no server is up, or half of them at the most, and two of them are down.
const NONE_UP: Duration = Duration::from_secs(15);
const HALF_UP: Duration = Duration::from_secs(60);

/// What was counted of a backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendSeen {
    /// Of its servers' answers.
    pub counts: Counts,
    /// Answers 5xx that HAProxy gave by itself, since no server took the request or answered it.
    pub own_5xx: u64,
    /// Answers 4xx that HAProxy gave by itself, but for limits.
    #[serde(default)]
    pub own_refused: u64,
    /// The time in which it was counted.
    #[serde(default)]
    pub seconds: f64,
    /// Probes that ended.
    pub probes: u64,
    /// Of those, the ones that failed by the server's fault.
    pub probe_failures: u64,
    /// Its servers now, where that is known.
    pub servers: Option<ServersUp>,
}

/// How many servers of a backend are up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServersUp {
    /// So many are.
    pub up: usize,
    /// Of so many that no operator has taken out.
    pub all: usize,
}

impl ServersUp {
    fn are_none(self) -> bool {
        self.up == 0 && self.all > 0
    }

    fn are_few(self) -> bool {
        self.up * 2 <= self.all && self.all >= self.up + 2
    }
}

impl BackendSeen {
    /// Adds another backend's of the same time.
    pub(super) fn add_beside(&mut self, other: &Self) {
        let sum = |a: ServersUp, b: ServersUp| ServersUp { up: a.up + b.up, all: a.all + b.all };
        let servers = self.servers.into_iter().chain(other.servers).reduce(sum);
        let seconds = self.seconds.max(other.seconds);
        self.add_later(other);
        (self.servers, self.seconds) = (servers, seconds);
    }

    /// Adds what came later.
    pub fn add_later(&mut self, later: &Self) {
        let Self { counts, own_5xx, own_refused, seconds, probes, probe_failures, servers } = later;
        self.counts.merge(counts);
        self.own_5xx += own_5xx;
        self.own_refused += own_refused;
        self.seconds += seconds;
        self.probes += probes;
        self.probe_failures += probe_failures;
        self.servers = servers.or(self.servers);
    }

    /// Requests a second that were answered well.
    fn served(&self) -> Option<f64> {
        let served = self.counts.told.saturating_sub(self.counts.failures) as f64;
        (self.seconds > 0.0).then(|| served / self.seconds)
    }
}

/// What may be worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Sign {
    Errors,
    Own5xx,
    Probes,
    Refused,
    FirstTokenP50,
    FirstTokenP95,
}

impl Sign {
    const ALL: [Self; 6] =
        [Self::Errors, Self::Own5xx, Self::Probes, Self::Refused, Self::FirstTokenP50, Self::FirstTokenP95];

    /// What of the counts says something of it.
    fn part(self, seen: &BackendSeen) -> Counts {
        let share = |failures: u64, told: u64| Counts { told, failures, ..Counts::default() };
        match self {
            Self::Errors => share(seen.counts.failures, seen.counts.told),
            Self::Own5xx => share(seen.own_5xx, seen.own_5xx + seen.counts.requests()),
            Self::Probes => share(seen.probe_failures, seen.probes),
            Self::Refused => {
                let Counts { told, failures, .. } = seen.counts.refusals();
                share(failures + seen.own_refused, told + seen.own_refused)
            }
            Self::FirstTokenP50 | Self::FirstTokenP95 => {
                Counts { first_token: seen.counts.first_token.clone(), ..Counts::default() }
            }
        }
    }

    fn condition(self, before: &BackendSeen) -> Condition {
        let Counts { told, failures, .. } = self.part(before);
        let more = if self == Self::Probes { PROBES_MORE } else { POINT };
        let failing = failures as f64 / told.max(1) as f64;
        let half = HALF.max(f64::midpoint(1.0, failing));
        let share = || {
            let most = if told == 0 { 1.0 } else { upper(failures as f64, told as f64, Level::Likely) };
            Limit::At((TIMES * most + more).min(half))
        };
        let (metric, limit) = match self {
            Self::Errors | Self::Own5xx | Self::Probes => (Metric::ErrorRate, share()),
            // One client that asks for what nobody has is no reason.
            Self::Refused => (Metric::ErrorRate, Limit::At(half)),
            Self::FirstTokenP50 => (Metric::FirstTokenP50, Limit::TimesControl(TIMES_P50)),
            Self::FirstTokenP95 => (Metric::FirstTokenP95, Limit::TimesControl(TIMES_P95)),
        };
        Condition { metric, limit, lasting: WINDOW }
    }

    fn called(self) -> Called {
        let (what, unit) = match self {
            Self::Errors => ("failed:", "requests"),
            Self::Own5xx => ("HAProxy's own 5xx:", "answers"),
            Self::Probes => ("failed:", "probes"),
            Self::Refused => ("refused (4xx):", "answers"),
            Self::FirstTokenP50 => ("half of the first tokens within", "requests"),
            Self::FirstTokenP95 => ("95 % of the first tokens within", "requests"),
        };
        Called { what: what.to_owned(), unit: unit.to_owned(), beside: "before the edit".to_owned() }
    }
}

/// One backend, or some of them together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Subject {
    name: String,
    backends: BTreeSet<String>,
    before: BackendSeen,
    since: BackendSeen,
    /// At other nodes since then.
    elsewhere: BackendSeen,
    signs: Vec<(Sign, Watch)>,
    /// Failures in a row, beside the control and beside other nodes.
    rows: [Row; 2],
    /// The ages since when no server is up, and since when too few are.
    none_up: Option<Duration>,
    half_up: Option<Duration>,
}

/// What a subject says of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    Shared(String),
    Worse(String),
}

impl Subject {
    pub(super) fn new(name: &str, backends: impl IntoIterator<Item = String>, before: &BackendSeen) -> Self {
        let watch = |sign: Sign| {
            let mut watch = Watch::new(sign.condition(before), sign.called(), Duration::ZERO);
            watch.observe(&Counts::default(), &sign.part(before));
            (sign, watch)
        };
        Self {
            name: name.to_owned(),
            backends: backends.into_iter().collect(),
            before: before.clone(),
            since: BackendSeen::default(),
            elsewhere: BackendSeen::default(),
            signs: Sign::ALL.map(watch).into(),
            rows: [Row::default(); 2],
            none_up: None,
            half_up: None,
        }
    }

    /// Its backends' together.
    pub(super) fn part_of(&self, heard: &BTreeMap<String, BackendSeen>) -> BackendSeen {
        let mut sum = BackendSeen::default();
        self.backends.iter().filter_map(|name| heard.get(name)).for_each(|seen| sum.add_beside(seen));
        sum
    }

    pub(super) fn observe(
        &mut self,
        here: &BackendSeen,
        elsewhere: &BackendSeen,
        control: &BackendSeen,
        age: Duration,
    ) {
        self.since.add_later(here);
        self.elsewhere.add_later(elsewhere);
        self.signs.iter_mut().for_each(|(sign, watch)| watch.observe(&sign.part(here), &Counts::default()));
        for (row, others) in self.rows.iter_mut().zip([control, elsewhere]) {
            row.observe(&here.counts, &others.counts, age);
        }
        let since = |is: fn(ServersUp) -> bool, since: Option<Duration>| {
            let is_new = self.since.servers.is_some_and(is) && self.before.servers.is_some_and(|before| !is(before));
            is_new.then(|| since.unwrap_or(age))
        };
        self.none_up = since(ServersUp::are_none, self.none_up);
        self.half_up = since(ServersUp::are_few, self.half_up);
    }

    pub(super) fn check(&mut self, age: Duration) {
        self.signs.iter_mut().for_each(|(_, watch)| {
            watch.check(age);
        });
    }

    /// The age at the next check, or when servers were down for long enough.
    pub(super) fn next(&self, age: Duration) -> Option<Duration> {
        let ups = [self.none_up.map(|since| since + NONE_UP), self.half_up.map(|since| since + HALF_UP)];
        let later = ups.into_iter().flatten().chain(self.rows[0].next(ROW)).filter(|at| *at > age);
        later.chain(self.signs.iter().map(|(_, watch)| watch.next)).min()
    }

    pub(super) fn after_gap(&mut self, gap: Duration) {
        self.signs.iter_mut().for_each(|(_, watch)| watch.after_gap(gap));
        if gap > WINDOW {
            (self.rows, self.none_up, self.half_up) = ([Row::default(); 2], None, None);
        }
    }

    pub(super) fn seen(&self) -> BackendSeen {
        self.since.clone()
    }

    /// What it says, beside what did not change.
    pub(super) fn says(&self, control: &Self, age: Duration) -> Says {
        let mut shared = Says::Nothing;
        for found in [self.up_says(control, age), self.row_says(age)] {
            match found {
                Says::Worse(_) => return found,
                Says::Shared(_) => shared = found,
                Says::Nothing => {}
            }
        }
        for (sign, watch) in &self.signs {
            let (Tripped::Yes(words) | Tripped::Shared(words)) = &watch.tripped else { continue };
            // Whoever asks for what nobody has takes nothing from the others.
            if *sign == Sign::Refused && !self.serves_less() {
                continue;
            }
            let words = format!("{}: {words}", self.name);
            match self.shared_by(*sign, watch, control, age) {
                None => return Says::Worse(words),
                Some(who) => shared = Says::Shared(format!("{words}; and so it is with {who}")),
            }
        }
        shared
    }

    /// Whether fewer than half as many requests a second are answered well as before.
    fn serves_less(&self) -> bool {
        let (before, now) = (self.before.served(), self.since.served());
        before.zip(now).is_some_and(|(before, now)| now < before * HALF)
    }

    fn row_says(&self, age: Duration) -> Says {
        // Who failed before fails on.
        if self.before.counts.error_rate().is_some_and(|rate| rate >= HALF) {
            return Says::Nothing;
        }
        let says = self.rows.map(|row| row.says(ROW, age));
        let shared = says.into_iter().find(|says| matches!(says, RowSays::Shared { .. }));
        match shared.unwrap_or(says[0]) {
            RowSays::Nothing => Says::Nothing,
            RowSays::Shared { failures, control_good, control } => Says::Shared(format!(
                "{}: the last {failures} requests failed, and {} of {control} where nothing was changed",
                self.name,
                control - control_good
            )),
            RowSays::Dead { failures, .. } => Says::Worse(format!(
                "{}: the last {failures} requests failed, all in a row; before the edit {} of {} did",
                self.name, self.before.counts.failures, self.before.counts.told
            )),
        }
    }

    fn up_says(&self, control: &Self, age: Duration) -> Says {
        let is_over = |since: Option<Duration>, lasts: Duration| since.is_some_and(|since| age >= since + lasts);
        if !is_over(self.none_up, NONE_UP) && !is_over(self.half_up, HALF_UP) {
            return Says::Nothing;
        }
        let (now, before) = (self.since.servers.unwrap_or_default(), self.before.servers.unwrap_or_default());
        let words = format!(
            "{}: {} of {} servers are up, {} of {} before the edit",
            self.name, now.up, now.all, before.up, before.all
        );
        if self.elsewhere.servers.is_some_and(|there| there.are_none() || there.are_few()) {
            return Says::Shared(format!("{words}; and so it is at another node"));
        }
        if control.none_up.is_some() || control.half_up.is_some() {
            return Says::Shared(format!("{words}; and so it is with {}", control.name));
        }
        Says::Worse(words)
    }

    /// Who else is worse in the same way though nothing was changed there.
    fn shared_by(&self, sign: Sign, watch: &Watch, control: &Self, age: Duration) -> Option<String> {
        let there = Piece { group: sign.part(&self.elsewhere), control: sign.part(&self.before) };
        if watch.find(&there, age).proof >= Proof::Over {
            return Some(format!("another node: {}", watch.in_words(&there, age)));
        }
        let (_, others) = control.signs.iter().find(|(other, _)| *other == sign)?;
        let telling = others.telling(age);
        (others.find(&telling, age).proof >= Proof::Over)
            .then(|| format!("{}: {}", control.name, others.in_words(&telling, age)))
    }

    pub(super) fn view(&self, age: Duration) -> SubjectView {
        let words = self.signs.iter().map(|(_, watch)| watch.now_in_words(age));
        let up = self.half_up.or(self.none_up).map(|since| time_text(age.saturating_sub(since)));
        SubjectView {
            name: self.name.clone(),
            told_before: self.before.counts.told,
            failures_before: self.before.counts.failures,
            told: self.since.counts.told,
            failures: self.since.counts.failures,
            servers_before: self.before.servers,
            servers: self.since.servers,
            too_few_up_for: up,
            signs: words.collect(),
        }
    }
}

/// A backend, or some of them together, at one moment of a soak.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubjectView {
    /// The backend's name.
    pub name: String,
    /// Requests that told something in the time before the edit.
    pub told_before: u64,
    /// Of those, the ones that failed.
    pub failures_before: u64,
    /// Requests that told something since.
    pub told: u64,
    /// Of those, the ones that failed.
    pub failures: u64,
    /// Servers before the edit.
    pub servers_before: Option<ServersUp>,
    /// Servers now.
    pub servers: Option<ServersUp>,
    /// For so long no server is up, or half of them at the most.
    pub too_few_up_for: Option<String>,
    /// Each sign in words.
    pub signs: Vec<String>,
}
