//! What tokens cost, and how much of that a client may spend.

use crate::model::{ServerId, Sourced};
use crate::usage::Period;

/// A millionth of a millionth of a US dollar: the unit of a price. A dollar a million tokens is a million of them a token.
pub const PICO_PER_USD_A_MILLION: f64 = 1e6;

/// What one token costs, in trillionths of a US dollar (pico-dollars), 0 to 100,000,000,000 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Price {
    /// `input`: of the prompt, where nothing below says otherwise.
    pub input: u64,
    /// `cached`: of the prompt, out of the provider's cache; default `input`.
    pub cached: u64,
    /// `cache_write`: of the prompt, written into the provider's cache at a price of its own; default `input`.
    pub cache_write: u64,
    /// `output`: of the answer.
    pub output: u64,
}

/// `[[price]]`: what the tokens of some models cost.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPrice {
    /// `model`: a name, or the begin of names with a `*` behind it.
    pub model: Sourced<String>,
    /// `server`: at this server alone; none: wherever nothing is said for the server.
    pub server: Option<Sourced<ServerId>>,
    /// The other keys.
    pub price: Price,
}

/// `budget` of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// `usd`: what each client may spend, in billionths of a US dollar, 1 to 1,000,000,000,000,000.
    pub nano_usd: Sourced<u64>,
    /// `per`; default a month.
    pub per: Period,
    /// `alert_at`: at which parts of it an event tells, in thousandths, sorted; default 800.
    pub alert_at: Vec<u32>,
    /// `when_spent`; default deny, or only where the plan has `only`.
    pub when_spent: WhenSpent,
}

/// What a client may do that has spent its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenSpent {
    /// Nothing.
    Deny,
    /// Ask for the models of the plan's `only`.
    Only,
    /// All: it is told.
    Pass,
}

impl WhenSpent {
    /// As the operator writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Only => "only",
            Self::Pass => "pass",
        }
    }
}
