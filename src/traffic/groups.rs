//! What became of a server's requests, apart for the groups of a canary: what rollouts and soaking revisions are judged by.

use super::line::Line;
use crate::health::{Count, Outcome};
use crate::rollout::{Counts, Request};

/// What the control group is called in HAProxy's lines.
const CONTROL: &str = "control";

/// Requests that finished at one server, and attempts that a repeat hid, since they were told last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupCounts {
    /// Of no group: the backend has no canary, or not for this request.
    pub others: Counts,
    /// Of the control group.
    pub control: Counts,
    /// Of the canary group.
    pub canary: Counts,
}

impl GroupCounts {
    pub(super) fn of(&mut self, group: Option<&str>) -> &mut Counts {
        match group {
            None => &mut self.others,
            Some(CONTROL) => &mut self.control,
            Some(_) => &mut self.canary,
        }
    }

    /// All of them together.
    pub fn sum(&self) -> Counts {
        let mut sum = self.others.clone();
        sum.merge(&self.control);
        sum.merge(&self.canary);
        sum
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.others, &self.control, &self.canary].iter().all(|counts| counts.requests() == 0)
    }
}

/// What an outcome says of the server.
pub(super) fn request(outcome: Outcome) -> Request {
    let failed = match outcome.count() {
        Count::Success => Some(false),
        Count::HardFailure => Some(true),
        _ => None,
    };
    let is_refused = matches!(outcome, Outcome::ProbeConfig | Outcome::Credential);
    Request { failed, is_refused, ..Request::default() }
}

/// What a line says of its server as clients meet it: health forgives the wait for a slot, and they do not.
pub(super) fn request_of(line: &Line<'_>, outcome: Outcome) -> Request {
    let of_outcome = request(outcome);
    let has_waited_in_vain = line.hop.unwrap_or(line.state).0 == *b"sQ";
    Request { failed: if has_waited_in_vain { Some(true) } else { of_outcome.failed }, ..of_outcome }
}
