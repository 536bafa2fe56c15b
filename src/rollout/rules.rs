//! What the operator asks of a canary.
//!
//! Data alone, made by `config` from `[canary.NAME]`, which also says what makes no sense.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A part of the traffic, in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Percent(u16);

impl Percent {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(10_000);

    /// `None` above 10,000.
    pub fn of_hundredths(hundredths: u16) -> Option<Self> {
        (hundredths <= Self::ALL.0).then_some(Self(hundredths))
    }

    /// 0 to 10,000.
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 100.0)
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// In their order, at least one; the percent rises.
    pub stages: Vec<Stage>,
    /// What rolls the canary back.
    pub conditions: Vec<Condition>,
    /// So long the canary is watched at 100 % after the last stage.
    pub bake: Duration,
    /// What follows when nothing is heard for [`Rules::LOST_AFTER`].
    pub lost: Lost,
    /// What rolls back within seconds.
    pub hard: HardRules,
    /// Requests of the canary that a stage needs at least, those alone that tell something.
    pub least_requests: u64,
}

impl Rules {
    /// Without a failure among so many, the error rate is below 5 % (95 % sure).
    pub const LEAST_REQUESTS: u64 = 59;
    /// So long without a word on requests, and the rollout is held.
    pub const BLIND_AFTER: Duration = Duration::from_secs(30);
    /// So long no server of the canary is up, and it is rolled back: one that is started again takes less.
    pub const DOWN_FOR: Duration = Duration::from_secs(15);
    /// So long, and [`Rules::lost`] decides.
    pub const LOST_AFTER: Duration = Duration::from_secs(300);
}

/// One step of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What the canary gets.
    pub percent: Percent,
    /// So long at least.
    pub hold: Duration,
    /// Whether an operator has to say `promote` at its end.
    pub gate: bool,
}

/// One thing that must not last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// What is measured.
    pub metric: Metric,
    /// What it must not cross.
    pub limit: Limit,
    /// The time that is looked at, four times within itself.
    pub lasting: Duration,
}

impl Condition {
    /// Shortest time that a condition looks at.
    pub const SHORTEST: Duration = Duration::from_secs(10);

    /// What is wrong with it, for `config`.
    pub fn mistake(&self) -> Option<&'static str> {
        let Self { metric, limit, lasting } = *self;
        let is_share = matches!(metric, Metric::ErrorRate | Metric::SuccessRate);
        match limit {
            _ if lasting < Self::SHORTEST => Some("`for` is at least 10s"),
            Limit::At(value) if is_share && !(value > 0.0 && value < 1.0) => {
                Some("a rate is a share between 0 and 1, such as 0.05 for 5 %")
            }
            Limit::At(value) if !(value.is_finite() && value > 0.0) => Some("a limit is above zero"),
            Limit::TimesControl(factor) if metric.higher_is_worse() && !(1.05..=1000.0).contains(&factor) => {
                Some("`above_control` is a factor from 1.05 on, such as 1.2: below that chance alone reaches it")
            }
            Limit::TimesControl(factor) if !metric.higher_is_worse() && !(0.001..=0.95).contains(&factor) => {
                Some("`below_control` is a factor up to 0.95, such as 0.8: above that chance alone reaches it")
            }
            _ => None,
        }
    }
}

/// What is measured of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The part that failed by the server's fault.
    ErrorRate,
    /// The part that did not.
    SuccessRate,
    /// Half of all first tokens came within it.
    FirstTokenP50,
    /// 95 % came within it.
    FirstTokenP95,
    /// 99 % came within it.
    FirstTokenP99,
    /// Half of all answers ended within it.
    LatencyP50,
    /// 95 % ended within it.
    LatencyP95,
    /// 99 % ended within it.
    LatencyP99,
    /// Tokens of a completion over the seconds that they took.
    TokensPerSecond,
    /// Dollars a request.
    CostPerRequest,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::ErrorRate,
        Self::SuccessRate,
        Self::FirstTokenP50,
        Self::FirstTokenP95,
        Self::FirstTokenP99,
        Self::LatencyP50,
        Self::LatencyP95,
        Self::LatencyP99,
        Self::TokensPerSecond,
        Self::CostPerRequest,
    ];

    /// Whether its limits are written `above` and `above_control`. The others: `below`, `below_control`.
    pub fn higher_is_worse(self) -> bool {
        !matches!(self, Self::SuccessRate | Self::TokensPerSecond)
    }

    /// As the operator writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::SuccessRate => "success_rate",
            Self::FirstTokenP50 => "first_token_p50",
            Self::FirstTokenP95 => "first_token_p95",
            Self::FirstTokenP99 => "first_token_p99",
            Self::LatencyP50 => "latency_p50",
            Self::LatencyP95 => "latency_p95",
            Self::LatencyP99 => "latency_p99",
            Self::TokensPerSecond => "tokens_per_second",
            Self::CostPerRequest => "cost_per_request",
        }
    }
}

/// What a metric must not cross, in the direction that is worse for it.
///
/// **Units**: shares 0 to 1; times in seconds; tokens in a second; dollars.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// `above` or `below` this value.
    At(f64),
    /// `above_control` or `below_control`: so many times the value of the control.
    TimesControl(f64),
}

/// What follows when nothing is heard of the requests for long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// It stays where it is until something is heard again.
    #[default]
    Hold,
    /// It is rolled back.
    RollBack,
}

/// What rolls back within seconds, without a look at conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardRules {
    /// So many failures in a row of the canary, while the control has successes; 0 switches it off.
    pub failures_in_a_row: u64,
    /// Every server of the canary is down, while the control has one that is up.
    pub servers_down: bool,
}

impl Default for HardRules {
    fn default() -> Self {
        Self { failures_in_a_row: 10, servers_down: true }
    }
}
