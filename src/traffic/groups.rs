//! What became of a server's requests, apart for the groups of a canary: what rollouts and soaking revisions are judged by.

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

/// What an outcome says of the server, with the status where one is known.
pub(super) fn request(outcome: Outcome, status: Option<u16>) -> Request {
    let failed = match outcome.count() {
        Count::Success => Some(false),
        Count::HardFailure => Some(true),
        _ => None,
    };
    Request { failed, is_unknown: status == Some(404), ..Request::default() }
}
