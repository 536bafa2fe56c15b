//! What health hands to `weights`.

use std::time::Duration;

/// The share of its base weight that the health of a server leaves it.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// `health` or `probation`: the line of `explain`.
    pub name: &'static str,
    /// 0 to 1.
    pub value: f64,
    /// One sentence for people.
    pub why: String,
}

/// Decayed averages (α 0.3 at the probes' usual rhythm); a value is missing until there is a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// To the first token, of deep probes that succeeded.
    pub first_token: Option<Duration>,
    /// The whole cheap probe, of those that succeeded; of several kinds the slowest.
    pub total: Option<Duration>,
    /// Share of successes among successes and hard failures, 0 to 1; of several kinds the worst.
    pub success: Option<f64>,
}
