//! Canaries as they go over the wire. Names are a contract: they are only ever added.

use crate::agent::CanaryView;
use crate::rollout::{ConditionView, GroupView, View};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// One canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Its name.
    pub name: String,
    /// The backend whose clients it splits.
    pub backend: String,
    /// What HAProxy sends it, in percent.
    pub percent: f64,
    /// `waiting`, `stage`, `gate`, `baking`, `done` or `rolled_back`.
    pub phase: String,
    /// It stays where it is until something changes.
    pub is_held: bool,
    /// In one sentence: what it waits for, or how it ended.
    pub waits: String,
    /// The stage, counted from 1; none before the first, in the bake and at the end.
    pub stage: Option<usize>,
    /// How many there are; none before the first has begun.
    pub stages: Option<usize>,
    /// What it got of the requests of this stage, in percent.
    pub actual_percent: Option<f64>,
    /// The time of this stage that counts, in seconds.
    pub time_s: Option<f64>,
    /// Until the time of this stage is over, in seconds; none where no time ends it.
    pub time_left_s: Option<f64>,
    /// Requests of the canary that a stage needs.
    pub least_requests: Option<u64>,
    /// The canary group in this stage.
    pub canary: Option<CanaryGroup>,
    /// The control group in this stage.
    pub control: Option<CanaryGroup>,
    /// In the order of the file.
    pub conditions: Vec<CanaryCondition>,
    /// When it was promoted or rolled back, where that is known.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// Until when the same content does not begin by itself, since it was rolled back.
    #[serde(default)]
    pub blocked_until: Option<String>,
}

/// Requests of one group in this stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryGroup {
    /// All.
    pub requests: u64,
    /// Those that succeeded or failed by the server's fault.
    pub told: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that the servers refused (4xx, but no limit).
    #[serde(default)]
    pub refused: u64,
}

/// One condition. Shares are 0 to 1, times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanaryCondition {
    /// As it stands in the file, in words.
    pub condition: String,
    /// Its metric.
    pub metric: String,
    /// What is measured.
    pub value: Option<f64>,
    /// What it is at least, or at most where less is worse; 95 % sure.
    pub bound: Option<f64>,
    /// What it is compared with.
    pub limit: Option<f64>,
    /// The control group's value at the same time.
    pub control: Option<f64>,
    /// Requests that tell it.
    pub count: u64,
    /// `too few`, `within`, `over`, `breach` or `shared`.
    pub state: String,
    /// Checks that breached in a row…
    pub breaches: u8,
    /// …of so many that roll back.
    pub breaches_to_trip: u8,
    /// Until it is checked next, in seconds.
    pub next_check_s: f64,
    /// All of it in words.
    pub words: String,
}

/// A word on a canary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CanaryRequest {
    /// Which.
    pub name: String,
    /// `promote`, `hold`, `resume`, `abort` or `restart`.
    pub word: String,
    /// `restart`: also where the same was rolled back just now.
    #[serde(default)]
    pub force: bool,
    /// Who asks.
    pub actor: String,
}

impl From<&CanaryView> for Canary {
    fn from(view: &CanaryView) -> Self {
        let CanaryView { name, backend, percent, waits, rollout, ended_at, blocked_until } = view;
        let begun = rollout.as_ref();
        let phase = begun.map_or("waiting", |view| view.phase);
        let waits = waits.as_ref().or(begun.map(|view: &View| &view.waits));
        Self {
            name: name.clone(),
            backend: backend.clone(),
            percent: *percent,
            phase: phase.to_owned(),
            is_held: begun.is_some_and(|view| view.hold.is_some()),
            waits: waits.cloned().unwrap_or_default(),
            stage: begun.and_then(|view| view.stage),
            stages: begun.map(|view| view.stages),
            actual_percent: begun.and_then(|view| view.actual_share).map(|share| share * 100.0),
            time_s: begun.map(|view| view.time_s),
            time_left_s: begun.and_then(|view| view.time_left_s),
            least_requests: begun.map(|view| view.least_requests),
            canary: begun.map(|view| view.canary.into()),
            control: begun.map(|view| view.control.into()),
            conditions: begun.iter().flat_map(|view| &view.conditions).map(CanaryCondition::from).collect(),
            ended_at: ended_at.and_then(utc),
            blocked_until: blocked_until.and_then(utc),
        }
    }
}

fn utc(at: SystemTime) -> Option<String> {
    Some(Timestamp::try_from(at).ok()?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

impl From<GroupView> for CanaryGroup {
    fn from(GroupView { requests, told, failures, refused }: GroupView) -> Self {
        Self { requests, told, failures, refused }
    }
}

impl From<&ConditionView> for CanaryCondition {
    fn from(view: &ConditionView) -> Self {
        Self {
            condition: view.condition.clone(),
            metric: view.metric.to_owned(),
            value: view.value,
            bound: view.bound,
            limit: view.limit,
            control: view.control,
            count: view.count,
            state: view.state.to_owned(),
            breaches: view.breaches,
            breaches_to_trip: view.breaches_to_trip,
            next_check_s: view.next_check_s,
            words: view.words.clone(),
        }
    }
}
