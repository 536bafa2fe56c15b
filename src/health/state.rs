//! The states of one server and every way from one to another.
//!
//! Knows nothing of probes, counts or time: `server` turns those into a [`Signal`] first. Called by `server` only.

use super::Outcome;
use serde::Serialize;
use std::fmt;

/// The health of one server.
///
/// ```text
///            Fine                 Limping(d)
///  Unknown ────────► Healthy ◄──────────────────► Degraded(d)
///     │ │               │   Fine                    ▲    │
///     │ └───────────────┼───────────────────────────┘    │
///     │ Fell            │ Fell       (Limping)           │ Fell
///     ▼                 ▼                                ▼
///  Unhealthy(outcome) ◄──────────────────────────────────┘
///     │       ▲
///     │ Risen │ Fell, Stumbled        Pardoned: from Unhealthy straight to Healthy,
///     ▼       │                       where it was our own network that failed
///  Probation ─┘
///     │ Ramped
///     ▼
///  Healthy
/// ```
///
/// There is no way from Unknown into Probation: a start of the agent is never a slow start of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet; whatever weight HAProxy runs stays.
    Unknown,
    /// Takes its full share.
    Healthy,
    /// Works, but takes less for a reason.
    Degraded(Degradation),
    /// Takes nothing; the outcome that brought it down.
    Unhealthy(Outcome),
    /// Was unhealthy, works again, is let in step by step.
    Probation,
}

/// Why a server that works takes less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Degradation {
    /// Answers come later than the soft limit, or much later than an hour ago.
    Slow,
    /// Requests of real clients fail, fewer than half.
    Errors,
    /// 529, or 503 with Retry-After, on at least half of the recent probes.
    Overloaded,
    /// 429.
    RateLimited,
}

/// What was learnt, in the words of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Enough failures in a row to take the server out.
    Fell(Outcome),
    /// One hard failure, fewer than it takes to fall.
    Stumbled(Outcome),
    /// Works with a restriction.
    Limping(Degradation),
    /// Works.
    Fine,
    /// What failed has succeeded often enough, and the hold is over.
    Risen,
    /// Probation has lasted long enough.
    Ramped,
    /// What failed has succeeded often enough, and it was not the server that had failed.
    Pardoned,
    /// Nothing new.
    Quiet,
}

impl State {
    /// The state after a signal: every pair stands here.
    pub(super) fn next(self, signal: Signal) -> Self {
        match (self, signal) {
            // Only enough failures in a row take a working server out; in probation a single one does.
            (Self::Unknown | Self::Healthy | Self::Degraded(_), Signal::Fell(outcome))
            | (Self::Probation, Signal::Fell(outcome) | Signal::Stumbled(outcome)) => Self::Unhealthy(outcome),
            (Self::Unknown | Self::Healthy | Self::Degraded(_), Signal::Stumbled(_)) => self,

            (Self::Unknown | Self::Healthy | Self::Degraded(_), Signal::Fine) => Self::Healthy,
            (Self::Unknown | Self::Healthy | Self::Degraded(_), Signal::Limping(why)) => Self::Degraded(why),

            // Down: only the rise of what failed counts, and the first reason stays.
            (Self::Unhealthy(_), Signal::Risen) => Self::Probation,
            (Self::Unhealthy(_), Signal::Pardoned) => Self::Healthy,
            (
                Self::Unhealthy(_),
                Signal::Fell(_) | Signal::Stumbled(_) | Signal::Limping(_) | Signal::Fine | Signal::Ramped,
            ) => self,

            // A limit pauses the ramp (see `ramp`) but does not end probation.
            (Self::Probation, Signal::Ramped) => Self::Healthy,
            (Self::Probation, Signal::Limping(_) | Signal::Fine | Signal::Risen | Signal::Pardoned) => self,

            // Signals that were not meant for this state, and silence.
            (Self::Unknown | Self::Healthy | Self::Degraded(_), Signal::Risen | Signal::Ramped | Signal::Pardoned) => {
                self
            }
            (_, Signal::Quiet) => self,
        }
    }

    /// The name in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded(_) => "degraded",
            Self::Unhealthy(_) => "unhealthy",
            Self::Probation => "probation",
        }
    }

    /// What made it so, where the state has a cause.
    pub fn cause(self) -> Option<&'static str> {
        match self {
            Self::Degraded(why) => Some(why.as_str()),
            Self::Unhealthy(outcome) => Some(outcome.as_str()),
            Self::Unknown | Self::Healthy | Self::Probation => None,
        }
    }

    /// Whether it takes the server out of the pool.
    pub fn is_unhealthy(self) -> bool {
        matches!(self, Self::Unhealthy(_))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause() {
            Some(cause) => write!(f, "{}({cause})", self.as_str()),
            None => f.write_str(self.as_str()),
        }
    }
}

impl Degradation {
    /// The name in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Errors => "errors",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// A change of state: one line in the log and in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After; never equal to `from`.
    pub to: State,
    /// One sentence for people.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_signal_leads_where_the_diagram_says() {
        let limited = Degradation::RateLimited;
        let (down, slow) = (State::Unhealthy(Outcome::Reset), State::Degraded(Degradation::Slow));
        let states = [State::Unknown, State::Healthy, slow, down, State::Probation];
        let refused = State::Unhealthy(Outcome::Refused);
        let degraded = State::Degraded(limited);
        // One row a signal, one column a state, in the order above.
        let table = [
            (Signal::Fell(Outcome::Refused), [refused, refused, refused, down, refused]),
            (Signal::Stumbled(Outcome::Refused), [State::Unknown, State::Healthy, slow, down, refused]),
            (Signal::Limping(limited), [degraded, degraded, degraded, down, State::Probation]),
            (Signal::Fine, [State::Healthy, State::Healthy, State::Healthy, down, State::Probation]),
            (Signal::Risen, [State::Unknown, State::Healthy, slow, State::Probation, State::Probation]),
            (Signal::Ramped, [State::Unknown, State::Healthy, slow, down, State::Healthy]),
            (Signal::Pardoned, [State::Unknown, State::Healthy, slow, State::Healthy, State::Probation]),
            (Signal::Quiet, states),
        ];
        for (signal, expected) in table {
            for (from, to) in states.into_iter().zip(expected) {
                assert_eq!(from.next(signal), to, "{from} on {signal:?}");
            }
        }
    }
}
