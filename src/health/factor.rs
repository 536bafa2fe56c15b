//! What health hands to `weights`.

use super::Load;
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// The share of its base weight that the health of a server leaves it.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// The line of `explain`.
    pub name: FactorName,
    /// 0 to 1.
    pub value: f64,
    /// One sentence for people.
    pub why: String,
    /// What a guard may make of it.
    pub kind: FactorKind,
}

/// What a weight is multiplied with. Health knows the first five, `weights` the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorName {
    /// What the state of health leaves.
    Health,
    /// It is being let in again.
    Probation,
    /// A trickle of real requests, to see whether they succeed.
    HalfOpen,
    /// It asked for silence.
    Pause,
    /// It has no usable key.
    Keys,
    /// Nothing is known, or nothing is compared now: the weight stays.
    Kept,
    /// How fast it is beside the others.
    Latency,
    /// How many requests wait in it.
    Queue,
    /// No server carries too much of a pool.
    Cap,
    /// A guard over the pool.
    Guard,
    /// Too near to what runs.
    DeadBand,
    /// On the way.
    Slew,
}

impl FactorName {
    /// As `explain` and JSON call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Probation => "probation",
            Self::HalfOpen => "half_open",
            Self::Pause => "pause",
            Self::Keys => "keys",
            Self::Kept => "kept",
            Self::Latency => "latency",
            Self::Queue => "queue",
            Self::Cap => "cap",
            Self::Guard => "guard",
            Self::DeadBand => "dead_band",
            Self::Slew => "slew",
        }
    }
}

impl fmt::Display for FactorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for FactorName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What stands behind a factor: guards over a pool treat them differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FactorKind {
    /// A verdict of ours, which may be wrong.
    #[default]
    Verdict,
    /// A verdict that real requests confirm right now: they fail at this server.
    ProvenDead,
    /// No verdict: the server asked for silence, or has no key. It may be out beyond the guards' half, but never as
    /// the last one.
    Deliberate,
}

/// Decayed averages (α 0.3 at the probes' usual rhythm); a value is missing until there is a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// To the first byte or token of real requests that succeeded, where there were at least twenty in a minute.
    pub first_byte: Option<Duration>,
    /// To the first token, of deep probes that succeeded.
    pub first_token: Option<Duration>,
    /// The whole cheap probe, of those that succeeded; of several kinds the slowest.
    pub total: Option<Duration>,
    /// Share of successes among successes and hard failures, 0 to 1; of several kinds and real requests the worst.
    pub success: Option<f64>,
    /// Requests of clients in flight, averaged over ten seconds.
    pub in_flight: Option<f64>,
    /// What the server says of its load, averaged.
    pub load: Option<Load>,
}
