//! Who may ask, and how much: `[plan.NAME]` and `[client.NAME]`.

use super::money::Budget;
use crate::model::{Digest, Name, Rate, Sourced};
use jiff::Timestamp;
use std::fmt::Write;
use std::time::Duration;

/// A rate with a window up to this is a bucket that refills evenly; one with a longer window begins anew at its multiples
/// of UTC.
pub const LONGEST_BUCKET: Duration = Duration::from_secs(3600);

/// `[plan.NAME]`: what its clients may do, each for itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The table's name and place.
    pub name: Sourced<Name>,
    /// `requests`: one rate up to an hour, one longer, or both; none: no limit.
    pub requests: Vec<Sourced<Rate>>,
    /// `burst`: so many more at once than `requests`' first rate says, 0 to 1,000,000; default 0.
    pub burst: Sourced<u32>,
    /// `over`: whether a request over the first rate of `requests` waits for its turn, where HAProxy can; default no.
    pub delays: bool,
    /// `tokens`: one rate up to an hour, one longer, or both; none: no limit.
    pub tokens: Vec<Sourced<Rate>>,
    /// `token_weights`
    pub token_weights: TokenWeights,
    /// `reserve`: a request whose `max_tokens` alone is more than what is left of `tokens` is refused.
    pub reserve: bool,
    /// `budget`: what each client may spend; none: no limit.
    pub budget: Option<Budget>,
    /// `only`: globs, as `models`: what may be asked for when the budget is spent.
    pub only: Vec<Sourced<String>>,
    /// `concurrent`: requests at a time, 1 to 1,000,000; none: no limit.
    pub concurrent: Option<Sourced<u32>>,
    /// `models`: globs with `*` and `?`; none: every model.
    pub models: Vec<Sourced<String>>,
    /// `routes`: begins of paths; none: every path.
    pub routes: Vec<Sourced<String>>,
}

impl Plan {
    /// Whether the answers to its clients are counted.
    pub fn counts(&self) -> bool {
        !self.tokens.is_empty() || self.budget.is_some()
    }

    /// Whether the model of each request must be known.
    pub fn reads_models(&self, has_prices: bool) -> bool {
        !self.models.is_empty() || !self.only.is_empty() || self.counts() && has_prices
    }
}

/// `token_weights`: how much of a token counts towards `tokens`, in 1/10,000, 0 to 1,000,000; default
/// 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenWeights {
    /// `prompt`: one of the prompt that comes out of no cache.
    pub prompt: u32,
    /// `cached`: one of the prompt that comes out of the provider's cache.
    pub cached: u32,
    /// `completion`: one of the answer.
    pub completion: u32,
}

impl TokenWeights {
    /// Each token counts once.
    pub const ONE: Self = Self { prompt: 10_000, cached: 10_000, completion: 10_000 };
}

/// Whether one of them, sorted by name, has this name.
pub(super) fn has_plan(plans: &[Plan], name: &Name) -> bool {
    plans.binary_search_by(|plan| plan.name.value.cmp(name)).is_ok()
}

/// Of the rates of a plan that of a bucket.
pub fn sustained(rates: &[Sourced<Rate>]) -> Option<Rate> {
    rates.iter().map(|rate| rate.value).find(|rate| rate.window <= LONGEST_BUCKET)
}

/// Of the rates of a plan that of a day or the like.
pub fn long(rates: &[Sourced<Rate>]) -> Option<Rate> {
    rates.iter().map(|rate| rate.value).find(|rate| rate.window > LONGEST_BUCKET)
}

/// `[client.NAME]`: somebody who asks, known by a key of which only the digest is kept, by a certificate, or by both.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// The table's name and place.
    pub name: Sourced<Name>,
    /// `plan`
    pub plan: Sourced<Name>,
    /// `key_sha256`: of the key.
    pub key: Option<Sourced<Digest>>,
    /// `certificate_sha256`: of certificates that stand for a key; at least one where there is no key.
    pub certificates: Vec<Sourced<Digest>>,
    /// `old_key_sha256` with `old_key_until`: the key before, and until when it is good as well.
    pub old_key: Option<(Sourced<Digest>, Timestamp)>,
    /// `budget_since`: what it spent before counts no more towards its budget.
    pub budget_since: Option<Timestamp>,
}

/// Every client, of the operator's file and of the clients' own, sorted by name.
#[derive(Clone, Debug)]
pub struct Clients {
    all: Vec<Client>,
    file_digest: Digest,
}

impl Clients {
    /// Those of the operator's file, and those of the clients' own.
    pub fn new(operators: &[Client], mut of_file: Vec<Client>) -> Self {
        of_file.sort_by(|a, b| a.name.value.cmp(&b.name.value));
        let mut text = String::new();
        for Client { name, plan, key, certificates, old_key, budget_since } in &of_file {
            // Writing to a string cannot fail.
            let _ = write!(text, "{} {}", name.value, plan.value);
            let _ = key.iter().try_for_each(|key| write!(text, " {}", key.value));
            let _ = certificates.iter().try_for_each(|one| write!(text, " certificate {}", one.value));
            let _ = old_key.iter().try_for_each(|(digest, until)| write!(text, " {} {until}", digest.value));
            let _ = budget_since.iter().try_for_each(|since| write!(text, " since {since}"));
            text.push('\n');
        }
        let mut all = of_file;
        all.extend(operators.iter().cloned());
        all.sort_by(|a, b| a.name.value.cmp(&b.name.value));
        Self { all, file_digest: Digest::of(text) }
    }

    /// In the order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Client> {
        self.all.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Of those of the clients' own file: who they are and what they may do.
    pub fn file_digest(&self) -> Digest {
        self.file_digest
    }
}
