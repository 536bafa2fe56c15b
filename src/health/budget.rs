//! What the deep probes of one backend may cost in a day.
//!
//! Knows counts and the time of day in UTC, not who probes. Called by `agent` before a deep probe starts and when it has
//! ended; the spent figures outlive the agent where it keeps them.
//!
//! Routine probes are spread over the day: a fifth of the budget at once, the rest as the day goes on, so that the
//! evening has probes too. Whatever is suspected may be asked about until the last probe is spent.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The seconds of a day.
const DAY: u64 = 86_400;
/// Routine probes may use so much of the budget at once.
const AT_ONCE: f64 = 0.2;
/// A routine probe that is early for the budget is looked at again after this.
const EARLY: Duration = Duration::from_secs(60);
/// A spent budget is looked at again after this: midnight, or another configuration, may have come.
const SPENT: Duration = Duration::from_secs(60);

/// The operator's limits a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Deep probes, 1 or more.
    pub probes: u64,
    /// Tokens, prompt and completion.
    pub tokens: u64,
    /// Millionths of a US dollar, where prices are known.
    pub micro_usd: Option<u64>,
}

impl Default for BudgetLimits {
    /// 500 probes and 50,000 tokens.
    fn default() -> Self {
        Self { probes: 500, tokens: 50_000, micro_usd: None }
    }
}

/// What was spent on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Days since 1970-01-01, UTC.
    pub day: u64,
    /// Deep probes that were started.
    pub probes: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their price in millionths of a US dollar.
    pub micro_usd: u64,
}

/// The budget of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    limits: BudgetLimits,
    spent: Spent,
}

/// Why a probe does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetDenial {
    /// It is routine, and early for what is left of the day: again after this.
    Early(Duration),
    /// Nothing is left until midnight: again after this.
    Spent(Duration),
}

impl Budget {
    /// The limits, now and from now on.
    pub fn set_limits(&mut self, limits: BudgetLimits) {
        self.limits = limits;
    }

    /// What an earlier agent spent.
    pub fn restore(&mut self, spent: Spent) {
        self.spent = spent;
    }

    /// What was spent on the day of the last probe.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// A probe wants to start at `unix` (since 1970, UTC); it counts as started unless refused.
    ///
    /// # Errors
    /// The budget does not allow it now; ask again after the given time.
    pub fn start(&mut self, is_routine: bool, unix: Duration) -> Result<(), BudgetDenial> {
        self.turn(unix);
        if self.used() >= 1.0 {
            return Err(BudgetDenial::Spent(SPENT));
        }
        let of_day = (unix.as_secs() % DAY) as f64 / DAY as f64;
        if is_routine && self.used() >= AT_ONCE + (1.0 - AT_ONCE) * of_day - 1e-9 {
            return Err(BudgetDenial::Early(EARLY));
        }
        self.spent.probes += 1;
        Ok(())
    }

    /// A probe has ended and cost this.
    pub fn charge(&mut self, tokens: u64, micro_usd: u64, unix: Duration) {
        self.turn(unix);
        self.spent.tokens = self.spent.tokens.saturating_add(tokens);
        self.spent.micro_usd = self.spent.micro_usd.saturating_add(micro_usd);
    }

    /// Why no deep probe runs any more today, if so.
    pub fn why_spent(&self, unix: Duration) -> Option<String> {
        let Spent { day, probes, tokens, micro_usd } = self.spent;
        (day == day_of(unix) && self.used() >= 1.0).then(|| {
            let usd = match self.limits.micro_usd {
                Some(limit) => format!(", {:.2} of {:.2} USD", micro_usd as f64 / 1e6, limit as f64 / 1e6),
                None => String::new(),
            };
            format!(
                "deep probes rest until midnight UTC: {probes} of {} probes, {tokens} of {} tokens{usd} of the day are spent",
                self.limits.probes, self.limits.tokens
            )
        })
    }

    /// The largest spent part of a limit; 1 or more: spent.
    fn used(&self) -> f64 {
        let part = |spent: u64, limit: u64| if limit == 0 { 1.0 } else { spent as f64 / limit as f64 };
        let usd = self.limits.micro_usd.map_or(0.0, |limit| part(self.spent.micro_usd, limit));
        part(self.spent.probes, self.limits.probes).max(part(self.spent.tokens, self.limits.tokens)).max(usd)
    }

    fn turn(&mut self, unix: Duration) {
        if self.spent.day != day_of(unix) {
            self.spent = Spent { day: day_of(unix), ..Spent::default() };
        }
    }
}

fn day_of(unix: Duration) -> u64 {
    unix.as_secs() / DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u64, hour: u64) -> Duration {
        Duration::from_secs(day * DAY + hour * 3_600)
    }

    fn budget(probes: u64, tokens: u64) -> Budget {
        let limits = BudgetLimits { probes, tokens, micro_usd: Some(1_000_000) };
        Budget { limits, ..Budget::default() }
    }

    #[test]
    fn routine_is_spread_over_the_day_and_suspicion_may_use_all() {
        let mut budget = budget(100, 1_000_000);
        let starts =
            |budget: &mut Budget, routine, unix| (0..200).filter(|_| budget.start(routine, unix).is_ok()).count();
        assert_eq!(starts(&mut budget, true, at(7, 0)), 20);
        assert_eq!(starts(&mut budget, true, at(7, 12)), 40);
        assert_eq!(starts(&mut budget, false, at(7, 12)), 40);
        assert_eq!(budget.start(false, at(7, 13)), Err(BudgetDenial::Spent(SPENT)));
        assert!(budget.why_spent(at(7, 13)).is_some_and(|why| why.contains("100 of 100 probes")));
        assert_eq!((budget.why_spent(at(8, 0)), budget.start(true, at(8, 0))), (None, Ok(())));
    }

    #[test]
    fn tokens_and_money_end_it_too_and_a_restart_forgets_nothing() {
        for (tokens, micro_usd) in [(1_000, 0), (0, 1_000_000)] {
            let mut before = budget(100, 1_000);
            before.start(true, at(7, 1)).expect("allowed");
            before.charge(tokens, micro_usd, at(7, 1));
            assert_eq!(before.start(false, at(7, 2)), Err(BudgetDenial::Spent(SPENT)));
            let kept = serde_json::to_string(&before.spent()).expect("plain figures");
            let mut after = budget(100, 1_000);
            after.restore(serde_json::from_str(&kept).expect("what was written"));
            assert_eq!(after.start(false, at(7, 3)), Err(BudgetDenial::Spent(SPENT)));
        }
    }
}
