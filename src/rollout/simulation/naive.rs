//! What Flagger and Argo Rollouts do where one sets a threshold and nothing else: one minute over it rolls back.

use crate::rollout::{Condition, Counts, Limit, Metric};
use std::time::Duration;

/// Looks each minute at the last minute's value; a value over the limit once is enough.
#[derive(Debug, Default)]
pub(super) struct Naive {
    canary: Counts,
    control: Counts,
    seconds: u32,
}

const MINUTE: u32 = 60;

impl Naive {
    /// Counts one second; whether it rolls back.
    pub(super) fn second(&mut self, canary: &Counts, control: &Counts, conditions: &[Condition]) -> bool {
        self.canary.merge(canary);
        self.control.merge(control);
        self.seconds += 1;
        if !self.seconds.is_multiple_of(MINUTE) {
            return false;
        }
        let (canary, control) = (std::mem::take(&mut self.canary), std::mem::take(&mut self.control));
        conditions.iter().any(|condition| {
            let metric = condition.metric;
            let limit = match condition.limit {
                Limit::At(value) => Some(value),
                Limit::TimesControl(factor) => metric.value(&control).map(|value| value * factor),
            };
            metric.value(&canary).zip(limit).is_some_and(|(value, limit)| metric.is_over(value, limit))
        })
    }
}

/// The rule that ours began from: the 95 % Wilson bound of the last `for`, looked at four times in it, with at least 10
/// requests (30 for times); four breaches in a row.
#[derive(Debug, Default)]
pub(super) struct Wilson {
    quarters: std::collections::VecDeque<(f64, f64)>,
    now: (f64, f64),
    seconds: u32,
    row: u32,
}

impl Wilson {
    /// Counts one second; whether it rolls back. Of the first condition, where that has an absolute limit.
    pub(super) fn second(&mut self, canary: &Counts, conditions: &[Condition]) -> bool {
        let Some(Condition { metric, limit: Limit::At(limit), lasting }) = conditions.first().copied() else {
            return false;
        };
        let (part, whole, most, least) = match metric {
            Metric::ErrorRate => (canary.failures as f64, canary.told as f64, limit, 10.0),
            Metric::LatencyP99 => {
                let slow = canary.latency.longer_than(Duration::from_secs_f64(limit));
                (slow, canary.latency.count() as f64, 0.01, 30.0)
            }
            _ => return false,
        };
        self.now = (self.now.0 + part, self.now.1 + whole);
        self.seconds += 1;
        if u64::from(self.seconds) * 4 % lasting.as_secs() >= 4 {
            return false;
        }
        self.quarters.push_back(std::mem::take(&mut self.now));
        if self.quarters.len() > 4 {
            self.quarters.pop_front();
        }
        let (part, whole) = self.quarters.iter().fold((0.0, 0.0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
        if whole >= least {
            self.row = if lower(part, whole) > most { self.row + 1 } else { 0 };
        }
        self.row >= 4
    }
}

/// **Source**: E. B. Wilson, 1927.
fn lower(part: f64, whole: f64) -> f64 {
    const Z: f64 = 1.96;
    let share = part / whole;
    let spread = Z * (share * (1.0 - share) / whole + Z * Z / (4.0 * whole * whole)).sqrt();
    (share + Z * Z / (2.0 * whole) - spread) / (1.0 + Z * Z / whole)
}
