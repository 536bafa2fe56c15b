//! What the failures of real requests close and open: the circuit of one server.
//!
//! Knows the phase, not the state machine, which `server` keeps. Called by `server`.
//!
//! ```text
//!   Closed ──── failures in a row, or a share of them ────► Open
//!     ▲                                                      │ the hold is over
//!     │ enough successes, or nobody asks for a while         ▼
//!     └──────────────────────────────────────────────── HalfOpen ──► Open (the first failure; the hold doubles)
//! ```
//!
//! Probes that succeed neither close it nor keep it closed: they do not ask what clients ask.

use super::window::Tally;
use crate::model::Moment;
use serde::Serialize;
use std::time::Duration;

/// Successes of real requests that end the trickle and begin the ramp.
const SUCCESSES: u32 = 5;
/// A trickle of which nobody makes use for so long ends too: without traffic there is nothing to protect.
const QUIET: Duration = Duration::from_secs(30);

/// Where a circuit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitPhase {
    /// Requests pass.
    #[default]
    Closed,
    /// None does.
    Open,
    /// A trickle does.
    HalfOpen,
}

/// The circuit of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Circuit {
    pub(super) phase: CircuitPhase,
    /// Openings since real traffic last showed for minutes that the server works.
    pub(super) openings: u32,
    /// Rejected keys opened it, and so count as failures of the trickle.
    for_key: bool,
    successes: u32,
    /// Requests from before the opening that may still fail: they are not the trickle's.
    stragglers: u32,
    /// Since when nobody has asked.
    quiet_from: Moment,
}

/// What the trickle has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trickle {
    /// A request failed.
    Failed,
    /// Enough have succeeded.
    Proven,
    /// Not enough to say.
    Open,
}

impl Circuit {
    pub(super) fn open(&mut self, for_key: bool) {
        self.phase = CircuitPhase::Open;
        self.openings = self.openings.saturating_add(1);
        self.for_key = for_key;
    }

    /// The hold is over: a trickle may pass. `in_flight` requests are still under way from before.
    pub(super) fn half_open(&mut self, in_flight: u32, now: Moment) {
        self.phase = CircuitPhase::HalfOpen;
        (self.successes, self.stragglers, self.quiet_from) = (0, in_flight, now);
    }

    /// Whether requests wait because the key was rejected.
    pub(super) fn is_open_for_key(&self) -> bool {
        self.phase == CircuitPhase::Open && self.for_key
    }

    pub(super) fn close(&mut self) {
        self.phase = CircuitPhase::Closed;
    }

    /// What became of the trickle; only while half open.
    pub(super) fn trickled(&mut self, just: Tally, in_flight: u32, now: Moment) -> Trickle {
        let own = just.failures.saturating_sub(just.shared);
        let failures = own + if self.for_key { just.rejected } else { 0 };
        let old = failures.min(self.stragglers);
        self.stragglers = (self.stragglers - old).min(in_flight);
        if failures > old {
            return Trickle::Failed;
        }
        self.successes = self.successes.saturating_add(just.successes);
        // Requests that hang are no silence.
        if in_flight > 0 || just.told() > 0 {
            self.quiet_from = now;
        }
        if self.successes >= SUCCESSES { Trickle::Proven } else { Trickle::Open }
    }

    /// When the trickle ends because nobody makes use of it; only while half open.
    pub(super) fn quiet_until(&self) -> Option<Moment> {
        (self.phase == CircuitPhase::HalfOpen).then(|| self.quiet_from + QUIET)
    }

    /// Successes of the trickle so far, and how many it takes.
    pub(super) fn progress(&self) -> (u32, u32) {
        (self.successes, SUCCESSES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(successes: u32, failures: u32) -> Tally {
        Tally { successes, failures, ..Tally::default() }
    }

    #[test]
    fn five_successes_prove_and_one_failure_refutes() {
        let now = Moment::default();
        let mut circuit = Circuit::default();
        circuit.half_open(0, now);
        assert_eq!(circuit.trickled(tally(4, 0), 1, now), Trickle::Open);
        assert_eq!(circuit.trickled(tally(1, 0), 1, now), Trickle::Proven);
        circuit.half_open(0, now);
        assert_eq!(circuit.trickled(tally(9, 1), 1, now), Trickle::Failed);
    }

    #[test]
    fn what_was_under_way_before_is_not_the_trickles() {
        let now = Moment::default();
        let mut circuit = Circuit::default();
        circuit.half_open(3, now);
        assert_eq!(circuit.trickled(tally(0, 2), 4, now), Trickle::Open);
        assert_eq!(circuit.trickled(tally(0, 2), 4, now), Trickle::Failed);
        circuit.half_open(3, now);
        // Nothing of it is under way any more.
        assert_eq!(circuit.trickled(tally(1, 0), 0, now), Trickle::Open);
        assert_eq!(circuit.trickled(tally(0, 1), 1, now), Trickle::Failed);
    }

    #[test]
    fn requests_that_hang_keep_the_trickle_open() {
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let mut circuit = Circuit::default();
        circuit.half_open(0, at(100));
        assert_eq!(circuit.quiet_until(), Some(at(130)));
        circuit.trickled(Tally::default(), 2, at(120));
        assert_eq!(circuit.quiet_until(), Some(at(150)));
    }
}
