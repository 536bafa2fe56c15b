//! Why a server changes its state, in one sentence for people.
//!
//! Called by `server`, before the state changes.

use super::circuit::CircuitPhase;
use super::{Count, Observation, Outcome, ServerHealth, State};
use crate::model::{Moment, format_duration};

impl ServerHealth {
    /// One sentence on why `to` follows on the present state.
    pub(super) fn reason_for(&self, to: State, why: &str, now: Moment) -> String {
        let in_words = self.degradations(now).filter(|(degradation, ..)| to == State::Degraded(*degradation));
        let in_words = in_words.filter_map(|(.., words)| words).next();
        match (self.state, to) {
            (State::Probation, State::Unhealthy(_)) => format!("failed again in probation; {why}"),
            (State::Unhealthy(_), State::Healthy) => "works again; it was our own network that had failed".to_owned(),
            (_, State::Probation) if self.circuit.phase == CircuitPhase::Open => {
                let times = match self.circuit.openings {
                    1 => "once".to_owned(),
                    many => format!("{many} times"),
                };
                format!("its circuit had opened {times}: first a trickle of real requests, then the ramp")
            }
            (State::Unknown, State::Probation) => {
                "works; it is let in from the share that it had when this agent began".to_owned()
            }
            (_, State::Probation) => {
                format!(
                    "works again ({} in a row); full weight {} later",
                    self.params.rise,
                    format_duration(self.params.ramp)
                )
            }
            (State::Probation, _) => "probation is over".to_owned(),
            (_, State::Degraded(_)) => in_words.unwrap_or_else(|| why.to_owned()),
            (_, State::Unhealthy(_) | State::Healthy | State::Unknown) => why.to_owned(),
        }
    }

    /// One sentence on a probe's result.
    pub(super) fn why_of_probe(&self, observation: &Observation) -> String {
        let Observation { kind, outcome, detail, .. } = observation;
        let answer = match detail.as_str() {
            "" => format!("{kind} probe: {outcome}"),
            detail => format!("{kind} probe: {outcome}: {detail}"),
        };
        let Some(line) = self.lines.get(kind) else { return answer };
        match (outcome.count(), line.evidence.failures) {
            (Count::Neutral, _) if *outcome == Outcome::Credential && self.params.lives_by_one_key() => {
                format!("its only key was rejected; {answer}")
            }
            (Count::Neutral, _) if *outcome == Outcome::Credential && self.params.keys == 0 => {
                format!("it asks for a key, and none is set; {answer}")
            }
            (Count::HardFailure, failures) if self.state != State::Probation => match failures {
                1 => format!("failed once; {answer}"),
                failures => format!("failed {failures} times in a row; {answer}"),
            },
            _ => answer,
        }
    }
}
