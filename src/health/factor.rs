//! What health hands to `weights`.

use super::Load;
use std::time::Duration;

/// The share of its base weight that the health of a server leaves it.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// `health`, `probation`, `half_open`, `pause` or `keys`: the line of `explain`.
    pub name: &'static str,
    /// 0 to 1.
    pub value: f64,
    /// One sentence for people.
    pub why: String,
    /// What a guard may make of it.
    pub kind: FactorKind,
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
