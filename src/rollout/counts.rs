//! What became of a group's requests: sums that can be added up, sent and saved.
//!
//! Knows nothing of time. Filled by the agent from HAProxy's lines.

use super::{Sums, Times};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What became of one request, or of one attempt that a repeat hid.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Request {
    /// Whether it says something of the server: it succeeded, or failed by the server's fault. `None`: neither (the
    /// client's fault, a limit, a client that went away); it counts for the share of traffic alone.
    pub failed: Option<bool>,
    /// Until the first token of a stream, or the first byte of another answer; of successes alone.
    pub first_token: Option<Duration>,
    /// Until the end; of successes alone.
    pub latency: Option<Duration>,
    /// Tokens of the completion, and the time from the first one to the last.
    pub tokens: Option<(u64, Duration)>,
    /// What it cost, in billionths of a dollar.
    pub cost_nano_usd: Option<u64>,
    /// The server refuses what was asked for (4xx, but no limit): the client's mistake, or that of whoever chose the server.
    pub is_refused: bool,
}

/// What became of the requests of one group since some moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that tell something of the server: successes and failures.
    pub told: u64,
    /// Of those, the ones that failed by the server's fault.
    pub failures: u64,
    /// Requests that tell nothing of the server.
    pub others: u64,
    /// Of those, the ones that the server refused (4xx, but no limit).
    #[serde(default)]
    pub refused: u64,
    /// Failures since the last success.
    pub failures_in_a_row: u64,
    /// Times to the first token or byte.
    pub first_token: Times,
    /// Times to the end.
    pub latency: Times,
    /// Tokens over seconds.
    pub speed: Sums,
    /// Billionths of a dollar over requests.
    pub cost: Sums,
}

impl Counts {
    /// Counts one request.
    pub fn add(&mut self, request: &Request) {
        let Request { failed, first_token, latency, tokens, cost_nano_usd, is_refused } = *request;
        match failed {
            None => {
                self.others += 1;
                self.refused += u64::from(is_refused);
            }
            Some(failed) => {
                self.told += 1;
                self.failures += u64::from(failed);
                self.failures_in_a_row = if failed { self.failures_in_a_row + 1 } else { 0 };
            }
        }
        first_token.into_iter().for_each(|time| self.first_token.add(time));
        latency.into_iter().for_each(|time| self.latency.add(time));
        if let Some((tokens, time)) = tokens.filter(|(tokens, time)| *tokens > 0 && !time.is_zero()) {
            self.speed.add(tokens as f64, time.as_secs_f64());
        }
        cost_nano_usd.into_iter().for_each(|cost| self.cost.add(cost as f64, 1.0));
    }

    /// Adds what came later. What two nodes saw at the same time may be added in any order.
    pub fn merge(&mut self, later: &Self) {
        let Self { told, failures, others, refused, failures_in_a_row, first_token, latency, speed, cost } = later;
        let only_failures = told == failures;
        self.failures_in_a_row = if only_failures { self.failures_in_a_row } else { 0 } + failures_in_a_row;
        self.told += told;
        self.failures += failures;
        self.others += others;
        self.refused += refused;
        self.first_token.merge(first_token);
        self.latency.merge(latency);
        self.speed.merge(speed);
        self.cost.merge(cost);
    }

    /// All requests, also those that tell nothing.
    pub fn requests(&self) -> u64 {
        self.told + self.others
    }

    /// What the server refused among all that it answered, as if that had failed.
    pub(super) fn refusals(&self) -> Self {
        Self { told: self.refused + self.told, failures: self.refused, ..Self::default() }
    }

    /// The part that failed, 0 to 1; `None` where nothing was told.
    pub fn error_rate(&self) -> Option<f64> {
        (self.told > 0).then(|| self.failures as f64 / self.told as f64)
    }
}
