//! How much was used, added up.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// What requests used, and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amounts {
    /// Requests that were let in and ended.
    pub requests: u64,
    /// Answers among them whose tokens were counted.
    pub counted: u64,
    /// Those among the counted that did not tell, so that they were estimated.
    pub estimated: u64,
    /// Tokens of prompts, those out of a cache or into one among them.
    pub prompt: u64,
    /// Of the prompts, out of the provider's cache.
    pub cached: u64,
    /// Of the prompts, written into the provider's cache at a price of its own.
    pub written: u64,
    /// Tokens of answers.
    pub completion: u64,
    /// What the tokens cost, in billionths of a US dollar.
    pub nano_usd: u64,
    /// Of `nano_usd`, what HAProxy's own counters were found not to know: what ended in an old worker, above all.
    pub late_nano_usd: u64,
    /// Tokens for which there is no price.
    pub unpriced: u64,
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, more: Self) {
        let Self { requests, counted, estimated, prompt, cached, written, completion, .. } = more;
        for (sum, more) in [
            (&mut self.requests, requests),
            (&mut self.counted, counted),
            (&mut self.estimated, estimated),
            (&mut self.prompt, prompt),
            (&mut self.cached, cached),
            (&mut self.written, written),
            (&mut self.completion, completion),
            (&mut self.nano_usd, more.nano_usd),
            (&mut self.late_nano_usd, more.late_nano_usd),
            (&mut self.unpriced, more.unpriced),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}
