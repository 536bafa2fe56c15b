//! One canary from its begin to its end, second by second, as the agent drives it.

use super::naive::{Naive, Wilson};
use super::{Dice, Group};
use crate::model::Moment;
use crate::rollout::{Change, Condition, HardRules, Heard, Hold, Limit, Lost, Metric, Percent, Phase, Rollout};
use crate::rollout::{Rules, Stage};
use std::time::Duration;

/// What happens to a canary.
#[derive(Clone)]
pub(super) struct Story {
    pub(super) rules: Rules,
    /// How the canary answers so many seconds after its begin.
    pub(super) canary: fn(f64) -> Group,
    /// How the control answers; it gets nothing where the canary gets all.
    pub(super) control: fn(f64) -> Group,
    /// Requests in a second, of the canary.
    pub(super) rate: f64,
    /// Of the control, for one of the canary.
    pub(super) control_rate: f64,
    /// The agent cannot read HAProxy's lines from this second to that one.
    pub(super) blind: std::ops::Range<u32>,
    /// The agent is started again at these seconds, by what it has saved.
    pub(super) restarts: &'static [u32],
    /// What the other rules look at.
    pub(super) others: Vec<Condition>,
    /// The longest life, in seconds.
    pub(super) longest: u32,
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// The second of the roll-back, and why.
    pub(super) rolled_back: Option<(f64, String)>,
    /// The second of the end.
    pub(super) promoted: Option<f64>,
    /// Seconds in which it was held, by why.
    pub(super) held: HeldFor,
    /// When the naive rule would have rolled it back, within half an hour; and that of Wilson's bound.
    pub(super) naive: Option<f64>,
    pub(super) wilson: Option<f64>,
    pub(super) changes: Vec<(u32, Change)>,
}

#[derive(Debug, Default)]
pub(super) struct HeldFor {
    pub(super) shared: u32,
    pub(super) lost: u32,
    pub(super) data: u32,
}

/// Half an hour.
pub(super) const HALF_HOUR: u32 = 1800;

fn percent(percent: u16) -> Percent {
    Percent::of_hundredths(percent * 100).expect("at most 100 %")
}

/// The stages of the documentation: half an hour.
pub(super) fn stages() -> Vec<Stage> {
    let stage =
        |of: u16, minutes: u64| Stage { percent: percent(of), hold: Duration::from_secs(minutes * 60), gate: false };
    vec![stage(5, 5), stage(25, 5), stage(50, 10), stage(100, 10)]
}

pub(super) fn condition(metric: Metric, limit: Limit, lasting_s: u64) -> Condition {
    Condition { metric, limit, lasting: Duration::from_secs(lasting_s) }
}

/// The conditions of the documentation, and those that compare with the control.
pub(super) fn conditions() -> Vec<Condition> {
    vec![
        condition(Metric::ErrorRate, Limit::At(0.05), 60),
        condition(Metric::LatencyP99, Limit::At(3.0), 30),
        condition(Metric::SuccessRate, Limit::At(0.95), 120),
        condition(Metric::FirstTokenP50, Limit::TimesControl(1.2), 60),
        condition(Metric::FirstTokenP95, Limit::TimesControl(1.3), 60),
        condition(Metric::TokensPerSecond, Limit::TimesControl(0.8), 120),
        condition(Metric::CostPerRequest, Limit::TimesControl(1.5), 300),
        condition(Metric::ErrorRate, Limit::TimesControl(3.0), 120),
    ]
}

pub(super) fn rules(conditions: Vec<Condition>) -> Rules {
    Rules {
        stages: stages(),
        conditions,
        bake: Duration::ZERO,
        lost: Lost::Hold,
        hard: HardRules::default(),
        least_requests: Rules::LEAST_REQUESTS,
    }
}

impl Story {
    pub(super) fn new(
        conditions: Vec<Condition>,
        rate: f64,
        canary: fn(f64) -> Group,
        control: fn(f64) -> Group,
    ) -> Self {
        Self {
            others: vec![conditions[0]],
            rules: rules(conditions),
            canary,
            control,
            rate,
            control_rate: 4.0,
            blind: 0..0,
            restarts: &[],
            longest: 4 * HALF_HOUR,
        }
    }

    pub(super) fn live(&self, seed: u64) -> Life {
        let mut dice = Dice::new(seed);
        // Moments of two lives of an agent have nothing to do with each other.
        let mut begin = Moment(Duration::from_secs(1_000_000));
        let mut rollout = Rollout::new(self.rules.clone(), "content", begin);
        let (mut naive, mut wilson, mut life) = (Naive::default(), Wilson::default(), Life::default());
        for second in 1..=self.longest {
            let at = f64::from(second);
            if self.restarts.contains(&second) {
                let saved = serde_json::to_string(&rollout).expect("it can be saved");
                rollout = serde_json::from_str(&saved).expect("it can be loaded");
                begin = Moment(Duration::from_secs(u64::from(seed as u32 % 1000)));
            }
            let now = begin + Duration::from_secs(u64::from(second));
            let canary = (self.canary)(at).at_rate(self.rate).counts(1.0, &mut dice);
            let all = rollout.percent() == Percent::ALL;
            let control_rate = if all { 0.0 } else { self.rate * self.control_rate };
            let control = (self.control)(at).at_rate(control_rate).counts(1.0, &mut dice);
            if second <= HALF_HOUR {
                let naive = naive.second(&canary, &control, &self.others).then_some(at);
                life.naive = life.naive.or(naive);
                let wilson = wilson.second(&canary, &self.others).then_some(at);
                life.wilson = life.wilson.or(wilson);
            }
            if !self.blind.contains(&second) {
                rollout.observe(&Heard { canary, control, servers: None }, now);
            }
            life.changes.extend(rollout.decide(now).into_iter().map(|change| (second, change)));
            match rollout.hold() {
                Some(Hold::SharedCause { .. }) => life.held.shared += 1,
                Some(Hold::MetricsLost { .. }) => life.held.lost += 1,
                Some(Hold::TooLittleData { .. } | Hold::Unproven { .. }) => life.held.data += 1,
                Some(Hold::Operator) | None => {}
            }
            match rollout.phase() {
                Phase::RolledBack { reason } if life.rolled_back.is_none() => {
                    life.rolled_back = Some((at, reason.clone()));
                }
                Phase::Done if life.promoted.is_none() => life.promoted = Some(at),
                _ => {}
            }
            let has_wilson = self.others.iter().all(|other| matches!(other.limit, Limit::At(_)));
            let others_ended = life.naive.is_some() && (life.wilson.is_some() || !has_wilson);
            if rollout.has_ended() && (others_ended || second >= HALF_HOUR) {
                break;
            }
        }
        life
    }
}
