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
    /// Server errors, told now or before, that another server gave to the same request as well.
    pub shared: u32,
    /// Of all these, what was told after the last success. Without a success in the sample that is all, and need not
    /// be said.
    pub since_success: SinceSuccess,
    /// The longest silence that an answer asked for, at most 300 s.
    pub retry_after: Option<Duration>,
    /// Mean time from the request to the response's header, or to the first token where that was measured, of the
    /// successful requests of this sample.
    pub first_byte: Option<Duration>,
    /// Requests in flight now.
    pub in_flight: u32,
}

/// What was told after the last success of a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinceSuccess {
    /// Requests and attempts by what became of them.
    pub outcomes: BTreeMap<Outcome, u32>,
    /// Those of which nobody knows how they failed.
    pub hidden: u32,
    /// Server errors that another server shares.
    pub shared: u32,
}

impl LiveSample {
    /// Takes in `count` requests, or attempts that were repeated, in the order in which they are told.
    pub fn add(&mut self, outcome: Outcome, count: u32, is_repeated: bool) {
        let outcomes = if is_repeated { &mut self.repeated } else { &mut self.outcomes };
        grow(outcomes, outcome, count);
        if outcome.count() == Count::Success {
            self.since_success = SinceSuccess::default();
        } else {
            grow(&mut self.since_success.outcomes, outcome, count);
        }
    }

    /// Takes in attempts of which nobody knows how they failed.
    pub fn add_hidden(&mut self, count: u32) {
        self.hidden = self.hidden.saturating_add(count);
        self.since_success.hidden = self.since_success.hidden.saturating_add(count);
    }

    /// Takes in a server error that has turned out to be another server's as well.
    pub fn add_shared(&mut self) {
        self.shared = self.shared.saturating_add(1);
        self.since_success.shared = self.since_success.shared.saturating_add(1);
    }

    /// The same, where it has become clear what the hidden ones came to, and which silence they ask for.
    pub fn explained(&self, outcome: Outcome, asked: Option<Duration>) -> Self {
        let mut explained = Self { hidden: 0, retry_after: self.retry_after.max(asked), ..self.clone() };
        grow(&mut explained.outcomes, outcome, self.hidden);
        let since_success = &mut explained.since_success;
        let hidden = std::mem::take(&mut since_success.hidden);
        grow(&mut since_success.outcomes, outcome, hidden);
        explained
    }

    /// What was told of the server since it last succeeded; all, where it did not in this sample.
    pub fn after_success(&self) -> Self {
        if self.count(Count::Success) == 0 {
            return self.clone();
        }
        let SinceSuccess { outcomes, hidden, shared } = self.since_success.clone();
        Self { outcomes, hidden, shared, ..Self::default() }
    }

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
        self.outcomes.is_empty() && self.repeated.is_empty() && self.hidden == 0 && self.shared == 0
    }
}

fn grow(outcomes: &mut BTreeMap<Outcome, u32>, outcome: Outcome, count: u32) {
    let sum = outcomes.entry(outcome).or_default();
    *sum = sum.saturating_add(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_the_last_success_is_known() {
        let mut sample = LiveSample::default();
        sample.add(Outcome::RateLimited, 2, true);
        sample.add_hidden(1);
        sample.add(Outcome::Ok, 1, false);
        assert_eq!(sample.after_success().told(), 0);
        sample.add(Outcome::ServerError, 1, false);
        sample.add_hidden(2);
        let since = sample.after_success();
        assert_eq!((since.failed(), since.count(Count::Limited), sample.failed()), (3, 0, 4));
        let asked = Some(Duration::from_secs(7));
        let explained = sample.explained(Outcome::RateLimited, asked);
        assert_eq!((explained.count(Count::Limited), explained.hidden, explained.retry_after), (5, 0, asked));
        assert_eq!((explained.after_success().count(Count::Limited), explained.after_success().failed()), (2, 1));
    }

    #[test]
    fn without_a_success_it_is_all() {
        let sample = LiveSample { hidden: 3, ..LiveSample::default() };
        assert_eq!(sample.after_success(), sample);
    }
}
