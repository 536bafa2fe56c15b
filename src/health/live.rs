//! What the requests of real clients told about one server.
//!
//! Data only, in the words of probes. Made by `traffic`, taken in by `server`.

use super::{Count, Outcome};
use std::collections::BTreeMap;
use std::time::Duration;

/// What has been learnt of one server since the last sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveSample {
    /// Finished requests by what became of them. A client's own mistake (400, 404, 413, 422) is
    /// [`Outcome::ProbeConfig`]: whoever asked was wrong; a client that went away leaves [`Outcome::SelfCaused`].
    pub outcomes: BTreeMap<Outcome, u32>,
    /// Attempts that were repeated elsewhere, so that no client saw them, by what became of them.
    pub repeated: BTreeMap<Outcome, u32>,
    /// Those of which nobody knows how they failed: HAProxy counts them, no more.
    pub hidden: u32,
    /// The longest silence that an answer asked for, at most 300 s.
    pub retry_after: Option<Duration>,
    /// Mean time from the request to the response's header, or to the first token where that was measured, of the
    /// successful requests of this sample.
    pub first_byte: Option<Duration>,
    /// Requests in flight now.
    pub in_flight: u32,
}

impl LiveSample {
    /// Requests that tell something of the server: successes, failures, limits and hidden failures.
    pub fn told(&self) -> u32 {
        self.count(Count::Success) + self.failed() + self.count(Count::Limited)
    }

    /// Requests that failed by the server's fault, hidden ones included.
    pub fn failed(&self) -> u32 {
        self.count(Count::HardFailure) + self.hidden
    }

    /// Requests and attempts whose outcome counts in this way.
    pub fn count(&self, count: Count) -> u32 {
        self.told_outcomes().filter(|(outcome, _)| outcome.count() == count).map(|(_, n)| n).sum()
    }

    /// Requests and attempts that came to this.
    pub fn of(&self, outcome: Outcome) -> u32 {
        self.told_outcomes().filter(|(told, _)| *told == outcome).map(|(_, n)| n).sum()
    }

    /// All of which it is known what became of them.
    pub fn told_outcomes(&self) -> impl Iterator<Item = (Outcome, u32)> {
        self.outcomes.iter().chain(&self.repeated).map(|(outcome, n)| (*outcome, *n))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.repeated.is_empty() && self.hidden == 0
    }
}
