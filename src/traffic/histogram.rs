//! Times on a logarithmic scale: four steps to each doubling, so that a quantile is right within an eighth.
//!
//! Takes memory for what it has seen only: a connection within a millisecond costs four bytes.

use std::time::Duration;

/// Steps to each doubling, as a power of two.
const STEP_BITS: u32 = 2;
/// Times above it (about 35 minutes) count as it.
const MAX_MS: u64 = (1 << 21) - 1;

/// Counts of times, from 1 ms to 35 minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Times below 1 ms, then four steps to each doubling; as long as the longest time needs.
    counts: Vec<u32>,
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let step = step(time);
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] = self.counts[step].saturating_add(1);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (own, more) in self.counts.iter_mut().zip(&other.counts) {
            *own = own.saturating_add(*more);
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The time that this share of all (0 to 1) does not exceed; `None` where nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let wanted = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        Some(middle(at))
    }
}

/// Where a time is counted.
fn step(time: Duration) -> usize {
    let ms = u64::try_from(time.as_millis()).unwrap_or(MAX_MS).min(MAX_MS);
    let Some(octave) = ms.checked_ilog2() else { return 0 };
    let fraction = (ms << STEP_BITS >> octave) & ((1 << STEP_BITS) - 1);
    // At most 1 + 4 × 20 + 3.
    1 + ((octave as usize) << STEP_BITS) + fraction as usize
}

/// The middle of what is counted there.
fn middle(step: usize) -> Duration {
    let Some(step) = step.checked_sub(1) else { return Duration::ZERO };
    let (octave, fraction) = (step >> STEP_BITS, step & ((1 << STEP_BITS) - 1));
    let steps = (1 << STEP_BITS) as f64;
    let width = (1_u64 << octave) as f64 / steps;
    // HAProxy tells whole milliseconds: below a step of one there is nothing to be in the middle of.
    let offset = if width < 1.0 { 0.0 } else { width / 2.0 };
    Duration::from_secs_f64(((1_u64 << octave) as f64 + fraction as f64 * width + offset) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::Histogram;
    use proptest::prelude::{prop, prop_assert, proptest};
    use std::time::Duration;

    fn of(times_ms: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        times_ms.iter().for_each(|ms| histogram.add(Duration::from_millis(*ms)));
        histogram
    }

    #[test]
    fn nothing_has_no_quantile_and_little_takes_little_memory() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(of(&[0, 0, 0]).quantile(0.99), Some(Duration::ZERO));
        assert_eq!(of(&[0]).counts.len(), 1);
        assert_eq!(of(&[1, 1, 2]).quantile(0.5), Some(Duration::from_millis(1)));
        assert!(of(&[u64::MAX, 7_200_000]).counts.len() <= 85);
    }

    #[test]
    fn merged_ones_count_together() {
        let mut histogram = of(&[10; 98]);
        histogram.merge(&of(&[2000, 2000]));
        assert_eq!(histogram.count(), 100);
        assert!(histogram.quantile(0.5).unwrap() < Duration::from_millis(12));
        assert!(histogram.quantile(0.99).unwrap() > Duration::from_millis(1700));
    }

    proptest! {
        #[test]
        fn a_quantile_is_right_within_an_eighth(mut times in prop::collection::vec(1u64..2_000_000, 1..200), share in 0.01f64..1.0) {
            let told = of(&times).quantile(share).unwrap().as_secs_f64() * 1000.0;
            times.sort_unstable();
            let rank = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len());
            let exact = times[rank - 1] as f64;
            prop_assert!((told - exact).abs() <= exact / 8.0 + 0.5, "{told} for {exact}");
        }
    }
}
