//! Times on a logarithmic scale: twenty-four steps to each doubling, so that a time is right within 1.5 %.
//!
//! Takes memory for what it has seen only, at most 530 counts.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Steps to each doubling: 2.9 % each.
const STEPS: f64 = 24.0;
/// Shorter times count as it: HAProxy tells whole milliseconds.
const SHORTEST_S: f64 = 0.001;
/// The last step, a little more than an hour: longer times count as it.
const LAST: u16 = 530;

/// Counts of times from 1 ms to an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// By the number of the step.
    counts: BTreeMap<u16, u64>,
}

impl Times {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        *self.counts.entry(step(time.as_secs_f64()) as u16).or_default() += 1;
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        for (step, count) in &other.counts {
            *self.counts.entry(*step).or_default() += count;
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many are longer. Within the step of the limit they count as spread evenly.
    pub fn longer_than(&self, limit: Duration) -> f64 {
        let at = step(limit.as_secs_f64());
        let whole: u64 = self.counts.range(at as u16 + 1..).map(|(_, count)| count).sum();
        let part = self.counts.get(&(at as u16)).map_or(0.0, |count| *count as f64 * (1.0 - at.fract()));
        whole as f64 + part
    }

    /// The time that this share of all (0 to 1) does not exceed; `None` where nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = self.count() as f64 * share.clamp(0.0, 1.0);
        let mut below = 0.0;
        for (step, count) in &self.counts {
            let count = *count as f64;
            if below + count >= wanted {
                return Some(edge(f64::from(*step) + (wanted - below) / count));
            }
            below += count;
        }
        None
    }
}

/// Where a time is on the scale: the number of its step, and how far into it.
fn step(seconds: f64) -> f64 {
    ((seconds.max(SHORTEST_S) / SHORTEST_S).log2() * STEPS).min(f64::from(LAST) + 0.999)
}

/// The time at a place on the scale.
fn edge(at: f64) -> Duration {
    Duration::from_secs_f64(SHORTEST_S * (at / STEPS).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, prop_assert, proptest};

    fn of(times_ms: &[u64]) -> Times {
        let mut times = Times::default();
        times_ms.iter().for_each(|ms| times.add(Duration::from_millis(*ms)));
        times
    }

    #[test]
    fn nothing_has_no_quantile_and_memory_is_bounded() {
        assert_eq!(Times::default().quantile(0.5), None);
        assert_eq!(Times::default().longer_than(Duration::ZERO), 0.0);
        let many: Vec<_> = (0..100_000).map(|n| n * n).collect();
        assert!(of(&many).counts.len() <= usize::from(LAST) + 1);
        assert_eq!(of(&[0, 1, u64::MAX / 2]).count(), 3);
    }

    proptest! {
        #[test]
        fn shares_and_quantiles_are_right_within_a_step(
            mut times in prop::collection::vec(1u64..3_000_000, 1..200), share in 0.01f64..1.0, limit in 1u64..3_000_000,
        ) {
            let counted = of(&times);
            let told = counted.quantile(share).unwrap().as_secs_f64() * 1000.0;
            times.sort_unstable();
            let rank = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len());
            let exact = times[rank - 1] as f64;
            prop_assert!((told - exact).abs() <= exact * 0.03, "{told} for {exact}");
            let longer = |than: f64| times.iter().filter(|time| **time as f64 > than).count() as f64;
            let told = counted.longer_than(Duration::from_millis(limit));
            let limit = limit as f64;
            prop_assert!(longer(limit * 1.03) <= told && told <= longer(limit / 1.03), "{told} longer than {limit}");
        }

        #[test]
        fn merged_ones_count_together(one in prop::collection::vec(0u64..100_000, 0..50), other in prop::collection::vec(0u64..100_000, 0..50)) {
            let mut merged = of(&one);
            merged.merge(&of(&other));
            prop_assert!(merged == of(&[one, other].concat()));
        }
    }
}
