//! Averages that forget: for samples that come when they come.
//!
//! Knows neither units nor meaning. Called by `evidence`.

use crate::model::Moment;
use std::time::Duration;

/// A mean in which a sample counts e^(−age / τ).
///
/// Kept as a decayed sum and a decayed count, so that the first sample is the mean at once (no start from zero) and
/// two samples at the same moment count the same.
#[derive(Clone, Debug)]
pub(super) struct DecayedAverage {
    tau: Duration,
    sum: f64,
    count: f64,
    at: Moment,
}

impl DecayedAverage {
    /// Forgets with the time constant `tau`; zero means: only the newest moment counts.
    pub(super) fn new(tau: Duration) -> Self {
        Self { tau, sum: 0.0, count: 0.0, at: Moment::default() }
    }

    /// Behaves like an EWMA with factor `alpha` (0 to 1, exclusive) for samples that come every `spacing`.
    pub(super) fn with_alpha(alpha: f64, spacing: Duration) -> Self {
        // e^(−spacing / τ) = 1 − α
        Self::new(spacing.mul_f64(-1.0 / (1.0 - alpha).ln()))
    }

    /// Adds a sample. One from the past counts as one of the newest moment; NaN and infinities are ignored.
    pub(super) fn add(&mut self, value: f64, now: Moment) {
        self.add_weighted(value, 1.0, now);
    }

    /// Like [`add`](Self::add), for `weight` samples of one value at once.
    pub(super) fn add_weighted(&mut self, value: f64, weight: f64, now: Moment) {
        if !value.is_finite() {
            return;
        }
        let kept = self.kept(now);
        self.sum = self.sum * kept + value * weight;
        self.count = self.count * kept + weight;
        self.at = self.at.max(now);
    }

    /// The mean; `None` before the first sample. It does not change while no sample comes.
    pub(super) fn mean(&self) -> Option<f64> {
        // Below a billionth the quotient is noise.
        (self.count > 1e-9).then(|| self.sum / self.count)
    }

    /// How many samples the mean rests on, old ones counting less.
    pub(super) fn count(&self, now: Moment) -> f64 {
        self.count * self.kept(now)
    }

    fn kept(&self, now: Moment) -> f64 {
        let age = now.since(self.at);
        if age.is_zero() { 1.0 } else { (-age.as_secs_f64() / self.tau.as_secs_f64()).exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_sample_is_the_mean_at_once() {
        let mut average = DecayedAverage::new(Duration::from_secs(60));
        assert_eq!(average.mean(), None);
        average.add(7.0, at(1_000));
        assert_eq!(average.mean(), Some(7.0));
    }

    #[test]
    fn regular_samples_weigh_as_alpha_says() {
        let mut average = DecayedAverage::with_alpha(0.3, Duration::from_secs(10));
        (0..100).for_each(|step| average.add(0.0, at(step * 10)));
        average.add(1.0, at(1_000));
        assert!((average.mean().unwrap() - 0.3).abs() < 1e-6);
    }

    #[test]
    fn a_long_silence_forgets_what_was_before() {
        let mut average = DecayedAverage::with_alpha(0.3, Duration::from_secs(10));
        (0..100).for_each(|step| average.add(5.0, at(step)));
        assert!(average.count(at(10_000)) < 0.001);
        average.add(1.0, at(10_000));
        assert!((average.mean().unwrap() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn samples_of_one_moment_count_alike_and_nonsense_does_not_count() {
        let mut average = DecayedAverage::new(Duration::from_secs(1));
        for value in [1.0, 3.0, f64::NAN, f64::INFINITY] {
            average.add(value, at(5));
        }
        assert_eq!(average.mean(), Some(2.0));
    }
}
