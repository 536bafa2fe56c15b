//! What `canary status` shows of a rollout; its fields are only ever added to.

use super::judge::Proof;
use super::state::{Rollout, Tally};
use super::watch::{ROW, Tripped, Watch};
use super::words::time_text;
use super::{Hold, Phase, Rules};
use crate::model::{Moment, format_duration};
use serde::Serialize;
use std::time::Duration;

/// A rollout at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// The digest of what is rolled out.
    pub content: String,
    /// `stage`, `gate`, `baking`, `done`, `rolled_back`.
    pub phase: &'static str,
    /// `operator`, `metrics_lost`, `shared_cause`, `too_little_data`, `unproven`; none where it is not held.
    pub hold: Option<&'static str>,
    /// In one sentence: what it waits for now, or how it ended.
    pub waits: String,
    /// The stage, counted from 1; none in the bake and at the end.
    pub stage: Option<usize>,
    /// How many there are.
    pub stages: usize,
    /// What the canary should get, 0 to 1.
    pub target_share: f64,
    /// What it got of the requests of this stage, 0 to 1.
    pub actual_share: Option<f64>,
    /// The time of this stage that counts, in seconds.
    pub time_s: f64,
    /// Until the time of this stage is over, in seconds; none where no time ends it.
    pub time_left_s: Option<f64>,
    /// The canary in this stage.
    pub canary: GroupView,
    /// The other servers in this stage.
    pub control: GroupView,
    /// Requests of the canary that a stage needs.
    pub least_requests: u64,
    /// In the operator's order.
    pub conditions: Vec<ConditionView>,
}

/// Requests of one group in this stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// All.
    pub requests: u64,
    /// Those that succeeded or failed by the server's fault.
    pub told: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that the servers refused (4xx, but no limit).
    pub refused: u64,
}

/// One condition at one moment.
///
/// **Units**: shares 0 to 1; times in seconds; tokens in a second; dollars.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConditionView {
    /// `error_rate above 5 % for 1m`.
    pub condition: String,
    /// Its metric.
    pub metric: &'static str,
    /// Over the window, or over the whole stage where the window has too few.
    pub value: Option<f64>,
    /// What the value is at least, or at most where less is worse; 95 % sure.
    pub bound: Option<f64>,
    /// What it is compared with.
    pub limit: Option<f64>,
    /// The control's value at the same time.
    pub control: Option<f64>,
    /// Requests that tell it.
    pub count: u64,
    /// Whether value and count are the whole stage's.
    pub is_whole_stage: bool,
    /// `too few`, `within`, `over`, `breach`, `shared`.
    pub state: &'static str,
    /// Checks that breached in a row…
    pub breaches: u8,
    /// …of so many that trip.
    pub breaches_to_trip: u8,
    /// Until it is checked next, in seconds.
    pub next_check_s: f64,
    /// All of it in words.
    pub words: String,
}

impl Rollout {
    /// How it stands at this moment.
    pub fn view(&self, now: Moment) -> View {
        let age = self.clock.age_at(now);
        let stage = match self.phase {
            Phase::Stage(at) | Phase::Gate(at) => Some(at + 1),
            _ => None,
        };
        let [canary, control] = [self.seen.canary, self.seen.control].map(GroupView::from);
        let all = canary.requests + control.requests;
        // Most canaries have none, and nobody asked for this one.
        let refusals = (canary.refused > 0).then_some(&self.refusals);
        View {
            content: self.content().to_owned(),
            phase: self.phase.name(),
            hold: self.hold.as_ref().map(Hold::name),
            waits: self.waits(age),
            stage,
            stages: self.rules.stages.len(),
            target_share: self.percent().share(),
            actual_share: (all > 0).then(|| canary.requests as f64 / all as f64),
            time_s: self.seen.time.as_secs_f64(),
            time_left_s: self.time_left().map(|left| left.as_secs_f64()),
            canary,
            control,
            least_requests: self.rules.least_requests,
            // What is over is not checked any more; how it ended says what was found.
            conditions: self
                .watches
                .iter()
                .chain(refusals)
                .filter(|_| !self.has_ended())
                .map(|watch| watch.view(age))
                .collect(),
        }
    }

    /// What it waits for now.
    fn waits(&self, age: Duration) -> String {
        match (&self.phase, &self.hold) {
            (Phase::Done, _) => "promoted: it has all clients, and nobody watches it any more".to_owned(),
            (Phase::RolledBack { reason }, _) => format!("rolled back: {reason}"),
            // At a gate and in an operator's hold as well.
            (_, None | Some(Hold::Operator)) if self.down_since.is_some() && self.rules.hard.servers_down => {
                let down = age.saturating_sub(self.down_since.unwrap_or(age));
                let (down, most) = (time_text(down), time_text(Rules::DOWN_FOR));
                format!("no server of the canary is up, for {down} now: after {most} it is rolled back")
            }
            (_, Some(hold)) => format!("held: {}", hold.in_words()),
            (Phase::Gate(at), None) => format!("waits for `promote` at the end of stage {}", at + 1),
            (phase, None) => {
                let left = self.time_left().map(time_text).unwrap_or_default();
                let (told, Rules { least_requests, .. }) = (self.seen.canary.told, &self.rules);
                let what = if *phase == Phase::Baking { "the bake" } else { "the stage" };
                let missing = least_requests.saturating_sub(told);
                let requests = if missing > 0 { format!(", and needs {missing} more requests") } else { String::new() };
                format!("{what} lasts {left} more{requests}")
            }
        }
    }
}

impl From<Tally> for GroupView {
    fn from(tally: Tally) -> Self {
        let Tally { told, failures, others, refused } = tally;
        Self { requests: told + others, told, failures, refused }
    }
}

impl Watch {
    fn view(&self, age: Duration) -> ConditionView {
        let window = self.window();
        let is_whole_stage = self.find(&window, age).proof == Proof::TooFew;
        let piece = if is_whole_stage { &self.whole } else { &window };
        let (found, control) = (self.find(piece, age), self.control(piece, age));
        let metric = self.condition.metric;
        let seen = match is_whole_stage {
            true => "since the stage began".to_owned(),
            false => format!("in the last {}", format_duration(self.condition.lasting)),
        };
        let state = match (&self.tripped, found.proof) {
            (Tripped::Shared(_), _) => "shared",
            (_, Proof::TooFew) => "too few",
            (_, Proof::Within) => "within",
            (_, Proof::Over) => "over",
            (_, Proof::Likely | Proof::Certain) => "breach",
        };
        ConditionView {
            condition: self.condition.in_words(),
            metric: metric.name(),
            value: found.value,
            bound: self.condition.bound(&piece.group, control).filter(|_| found.count >= metric.least()),
            limit: found.limit,
            control: metric.value(control),
            count: found.count,
            is_whole_stage,
            state,
            breaches: self.row,
            breaches_to_trip: ROW,
            next_check_s: self.next.saturating_sub(age).as_secs_f64(),
            words: format!("{seen} {}", self.in_words(piece, age)),
        }
    }
}
