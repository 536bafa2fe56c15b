//! Where a rollout is, what it hears and what it says.

use super::{Counts, Percent, Rules};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a rollout is. A hold is beside it, see [`Hold`].
///
/// ```text
/// Stage 0 ─► [Gate 0] ─► Stage 1 ─► … ─► Baking ─► Done
///    └──────────┴───────────┴───────────────┴─────► RolledBack
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// In this stage, counted from 0.
    Stage(usize),
    /// At the end of this stage, until an operator says `promote`.
    Gate(usize),
    /// At 100 % after the last stage.
    Baking,
    /// Promoted: 100 %.
    Done,
    /// Back at 0 %.
    RolledBack {
        /// Why, in words, with numbers.
        reason: String,
    },
}

impl Phase {
    /// What a canary gets there, by these rules.
    pub(super) fn percent(&self, rules: &Rules) -> Percent {
        match self {
            Self::Stage(at) | Self::Gate(at) => rules.stages.get(*at).map_or(Percent::NONE, |stage| stage.percent),
            Self::Baking | Self::Done => Percent::ALL,
            Self::RolledBack { .. } => Percent::NONE,
        }
    }

    /// One word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stage(_) => "stage",
            Self::Gate(_) => "gate",
            Self::Baking => "baking",
            Self::Done => "done",
            Self::RolledBack { .. } => "rolled_back",
        }
    }
}

/// Why a rollout does not go on. Its conditions are checked all the same, and its time does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// An operator said so; only `resume` and `promote` end it.
    Operator,
    /// Nothing is heard of the requests.
    MetricsLost {
        /// In words.
        reason: String,
    },
    /// The control fails too.
    SharedCause {
        /// In words, with numbers.
        reason: String,
    },
    /// The time is over, and too few requests tell something.
    TooLittleData {
        /// In words, with numbers.
        reason: String,
    },
    /// The time is over, and a condition's value is over its limit, but nothing is proven.
    Unproven {
        /// In words, with numbers.
        reason: String,
    },
}

impl Hold {
    /// One word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::MetricsLost { .. } => "metrics_lost",
            Self::SharedCause { .. } => "shared_cause",
            Self::TooLittleData { .. } => "too_little_data",
            Self::Unproven { .. } => "unproven",
        }
    }

    /// Why, in words.
    pub fn in_words(&self) -> &str {
        match self {
            Self::Operator => "an operator holds it",
            Self::MetricsLost { reason }
            | Self::SharedCause { reason }
            | Self::TooLittleData { reason }
            | Self::Unproven { reason } => reason,
        }
    }
}

/// What came since the last time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// Of the canary.
    pub canary: Counts,
    /// Of the backend's other servers.
    pub control: Counts,
    /// Which servers are up, where that is known.
    pub servers: Option<Servers>,
}

/// How many servers are up now, and of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// Of the canary, up.
    pub canary_up: usize,
    /// Of the canary, all.
    pub canary: usize,
    /// Of the control, up.
    pub control_up: usize,
    /// Of the control, all.
    pub control: usize,
}

/// What an operator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// On to the next stage, through a gate, or to the end of the bake; also ends an operator's hold.
    Promote,
    /// Stay.
    Hold,
    /// Go on.
    Resume,
    /// Back to 0 %.
    Abort,
}

/// What another node has decided of the same rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It is in this stage, counted from 0.
    Stage(usize),
    /// It is behind the last stage.
    Behind,
    /// It was rolled back: why.
    RolledBack(String),
}

/// Why an operator's word has no effect, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deaf(pub String);

impl fmt::Display for Deaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Deaf {}

/// What changed. [`Percent`] to serve is always `Rollout::percent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A stage begins, counted from 0.
    Stage {
        /// Which.
        stage: usize,
        /// What the canary gets now.
        percent: Percent,
    },
    /// It waits for `promote` at the end of this stage.
    Gate {
        /// Which.
        stage: usize,
    },
    /// It is held, or for another reason than before.
    Held(Hold),
    /// It is no longer held.
    WentOn,
    /// 100 %, and still watched.
    Baking,
    /// It has ended well: 100 %.
    Done,
    /// It has ended: 0 %.
    RolledBack {
        /// Why, in words, with numbers.
        reason: String,
    },
}
