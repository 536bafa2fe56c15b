//! What the deep probes of each backend cost, and may cost.
//!
//! Pure: time is handed in. Called by `fleet`.

use crate::config::{Config, PICO_PER_USD_A_MILLION};
use crate::health::{Budget, BudgetDenial, BudgetLimits, Observation, Outcome, Spent};
use crate::model::{Moment, Name, ServerId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Tokens of the probes' prompt, where the server does not say.
const PROMPT_TOKENS: u64 = 24;

/// The budgets of all backends.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    budgets: BTreeMap<Name, Budget>,
    /// A moment of the agent's clock, and the same one since 1970 in UTC.
    clock: (Moment, Duration),
}

impl Costs {
    /// Goes on with another configuration; what was spent stays spent.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.budgets.retain(|name, _| config.backends.iter().any(|backend| backend.name == *name));
        for backend in &config.backends {
            let limits = backend.check.chat.as_ref().map_or_else(BudgetLimits::default, |chat| chat.budget);
            self.budgets.entry(backend.name.clone()).or_default().set_limits(limits);
        }
    }

    pub(super) fn set_clock(&mut self, unix: Duration, now: Moment) {
        self.clock = (now, unix);
    }

    fn unix(&self, now: Moment) -> Duration {
        let (at, unix) = self.clock;
        unix + now.since(at)
    }

    pub(super) fn start(&mut self, backend: &Name, is_routine: bool, now: Moment) -> Result<(), BudgetDenial> {
        let unix = self.unix(now);
        self.budgets.get_mut(backend).map_or(Ok(()), |budget| budget.start(is_routine, unix))
    }

    /// Charges what a deep probe has cost.
    pub(super) fn charge(&mut self, config: &Config, id: &ServerId, observation: &Observation, now: Moment) {
        let unix = self.unix(now);
        let (Some((backend, server)), Some(budget)) = (config.server(id), self.budgets.get_mut(&id.backend)) else {
            return;
        };
        let most = backend.check.chat.as_ref().map_or(0, |chat| u64::from(chat.max_tokens));
        // Who does not say what it cost, and may have begun, is taken to have cost all.
        let may_have_begun = matches!(
            observation.outcome,
            Outcome::Ok | Outcome::Slow | Outcome::BadContent | Outcome::Reset | Outcome::Timeout(_)
        );
        let tokens = match observation.tokens {
            0 if may_have_begun => PROMPT_TOKENS + most,
            said => said,
        };
        let output = tokens.min(most);
        let micro_usd = server.price.map_or(0.0, |price| {
            ((tokens - output) as f64 * price.input as f64 + output as f64 * price.output as f64)
                / PICO_PER_USD_A_MILLION
        });
        budget.charge(tokens, micro_usd.ceil() as u64, unix);
    }

    pub(super) fn why_spent(&self, backend: &Name, now: Moment) -> Option<String> {
        self.budgets.get(backend)?.why_spent(self.unix(now))
    }

    pub(super) fn spent(&self) -> BTreeMap<Name, Spent> {
        self.budgets.iter().map(|(name, budget)| (name.clone(), budget.spent())).collect()
    }

    pub(super) fn restore(&mut self, spent: &BTreeMap<Name, Spent>) {
        for (name, spent) in spent {
            if let Some(budget) = self.budgets.get_mut(name) {
                budget.restore(*spent);
            }
        }
    }
}
