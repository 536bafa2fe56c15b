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
