//! What counts say of one condition.
//!
//! Pure statistics: no time, no rows of checks. Called by `watch` and `view`.

use super::bounds::{Level, at_least, largest, lower, more_than_other};
use super::{Condition, Counts, Limit, Metric, Sums, Times};
use std::time::Duration;

/// What counts prove of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// Too few, of the group or of its control.
    TooFew,
    /// The value is within the limit.
    Within,
    /// The value is over the limit, which may be chance.
    Over,
    /// Its 95 % bound is over the limit.
    Likely,
    /// As good as certain.
    Certain,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Finding {
    /// Requests that say something of the metric.
    pub(super) count: u64,
    /// **Units**: as [`Limit`]'s.
    pub(super) value: Option<f64>,
    /// The limit as a value, where the control tells enough.
    pub(super) limit: Option<f64>,
    pub(super) proof: Proof,
}

/// Fewest requests that a share is told by.
const LEAST: u64 = 10;
/// Fewest for times and means.
const LEAST_TIMES: u64 = 30;
/// A control that fails too explains the canary, unless chance makes it so much worse in one of a million looks: while
/// both fail there are many of them.
const CLEARLY: f64 = 1e-6;

impl Metric {
    /// Fewest requests that it is told by.
    pub(super) fn least(self) -> u64 {
        if matches!(self, Self::ErrorRate | Self::SuccessRate) { LEAST } else { LEAST_TIMES }
    }

    /// What of the counts says something of it; the rest is left out, so that windows are small.
    pub(super) fn part(self, counts: &Counts) -> Counts {
        match self {
            Self::ErrorRate | Self::SuccessRate => {
                Counts { told: counts.told, failures: counts.failures, ..Counts::default() }
            }
            Self::FirstTokenP50 | Self::FirstTokenP95 | Self::FirstTokenP99 => {
                Counts { first_token: counts.first_token.clone(), ..Counts::default() }
            }
            Self::LatencyP50 | Self::LatencyP95 | Self::LatencyP99 => {
                Counts { latency: counts.latency.clone(), ..Counts::default() }
            }
            Self::TokensPerSecond => Counts { speed: counts.speed, ..Counts::default() },
            Self::CostPerRequest => Counts { cost: counts.cost, ..Counts::default() },
        }
    }

    /// How many requests say something of it.
    pub(super) fn count(self, counts: &Counts) -> u64 {
        match self.seen(counts) {
            Seen::Failures { whole, .. } => whole,
            Seen::Times { times, .. } => times.count(),
            Seen::Mean { sums, .. } => sums.count,
        }
    }

    /// The value of a group; `None` where nothing was counted.
    pub(super) fn value(self, counts: &Counts) -> Option<f64> {
        match self.seen(counts) {
            Seen::Failures { part, whole } => {
                let rate = (whole > 0).then(|| part as f64 / whole as f64)?;
                Some(if self == Self::SuccessRate { 1.0 - rate } else { rate })
            }
            Seen::Times { times, quantile } => times.quantile(quantile).map(|time| time.as_secs_f64()),
            Seen::Mean { sums, unit } => sums.ratio().map(|ratio| ratio * unit),
        }
    }

    /// Whether a value is worse than a limit.
    pub(super) fn is_over(self, value: f64, limit: f64) -> bool {
        if self.higher_is_worse() { value > limit } else { value < limit }
    }

    fn seen(self, counts: &Counts) -> Seen<'_> {
        let (first_token, latency) = (&counts.first_token, &counts.latency);
        match self {
            Self::ErrorRate | Self::SuccessRate => Seen::Failures { part: counts.failures, whole: counts.told },
            Self::FirstTokenP50 => Seen::Times { times: first_token, quantile: 0.5 },
            Self::FirstTokenP95 => Seen::Times { times: first_token, quantile: 0.95 },
            Self::FirstTokenP99 => Seen::Times { times: first_token, quantile: 0.99 },
            Self::LatencyP50 => Seen::Times { times: latency, quantile: 0.5 },
            Self::LatencyP95 => Seen::Times { times: latency, quantile: 0.95 },
            Self::LatencyP99 => Seen::Times { times: latency, quantile: 0.99 },
            Self::TokensPerSecond => Seen::Mean { sums: &counts.speed, unit: 1.0 },
            Self::CostPerRequest => Seen::Mean { sums: &counts.cost, unit: 1e-9 },
        }
    }
}

/// What a metric looks at.
enum Seen<'a> {
    Failures { part: u64, whole: u64 },
    Times { times: &'a Times, quantile: f64 },
    Mean { sums: &'a Sums, unit: f64 },
}

impl Condition {
    /// What the counts of a group say, beside those of its control.
    pub(super) fn judge(&self, group: &Counts, control: &Counts) -> Finding {
        let metric = self.metric;
        let (count, value, limit) = (metric.count(group), metric.value(group), self.limit_beside(control));
        let proof = match (value, limit) {
            (Some(value), Some(limit)) if count >= metric.least() => {
                if !metric.is_over(value, limit) || !self.leans(group, control, limit) {
                    Proof::Within
                } else if self.proves(group, control, limit, Level::Certain) {
                    Proof::Certain
                } else if self.proves(group, control, limit, Level::Likely) {
                    Proof::Likely
                } else {
                    Proof::Over
                }
            }
            _ => Proof::TooFew,
        };
        Finding { count, value, limit, proof }
    }

    /// Whether a value over the limit says anything. The limit is as uncertain as the control that it is a multiple of.
    fn leans(&self, group: &Counts, control: &Counts, limit: f64) -> bool {
        matches!(self.limit, Limit::At(_)) || self.proves(group, control, limit, Level::Leaning)
    }

    /// The limit as a value; `None` where the control tells too little.
    pub(super) fn limit_beside(&self, control: &Counts) -> Option<f64> {
        match self.limit {
            Limit::At(value) => Some(value),
            Limit::TimesControl(factor) => {
                let tells = self.metric.count(control) >= self.metric.least();
                self.metric.value(control).filter(|_| tells).map(|value| value * factor)
            }
        }
    }

    /// Whether the group is proven to be over this limit.
    fn proves(&self, group: &Counts, control: &Counts, limit: f64, level: Level) -> bool {
        let chance = level.chance();
        match (self.metric.seen(group), self.metric.seen(control), self.limit) {
            (Seen::Failures { part, whole }, Seen::Failures { part: other_part, whole: other_whole }, of) => {
                let (part, whole) = (part as f64, whole as f64);
                let (other_part, other_whole) = (other_part as f64, other_whole as f64);
                match (of, self.metric) {
                    (Limit::At(_), Metric::SuccessRate) => at_least(part, whole, 1.0 - limit) < chance,
                    (Limit::At(_), _) => at_least(part, whole, limit) < chance,
                    // The control's rate is as uncertain as its count makes it.
                    (Limit::TimesControl(factor), Metric::SuccessRate) => {
                        let good = lower(other_whole - other_part, other_whole, level);
                        at_least(part, whole, 1.0 - factor * good) < chance
                    }
                    // Of rare things that happened in two groups, so many are in the first one by its size alone.
                    (Limit::TimesControl(_), _) => {
                        let factor = limit * other_whole / other_part;
                        let factor = if other_part > 0.0 { factor } else { self.factor() };
                        at_least(part, part + other_part, factor * whole / (factor * whole + other_whole)) < chance
                    }
                }
            }
            (Seen::Times { times, quantile }, Seen::Times { times: other, .. }, of) => {
                let limit = Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX);
                let (slow, whole) = (times.longer_than(limit), times.count());
                match of {
                    Limit::At(_) => at_least(slow, whole as f64, 1.0 - quantile) < chance,
                    Limit::TimesControl(_) => {
                        let usual = other.quantile(quantile).unwrap_or(Duration::MAX);
                        let [slow, other_slow] = [slow, other.longer_than(usual)].map(|count| count.round() as u64);
                        more_than_other(slow, whole, other_slow, other.count()) < chance
                    }
                }
            }
            (Seen::Mean { sums, unit }, Seen::Mean { sums: other, .. }, of) => {
                let (Some(ratio), Some(error)) = (sums.ratio(), sums.relative_error()) else { return false };
                let (other_error, fewer) = match of {
                    Limit::At(_) => (Some(0.0), sums.count),
                    Limit::TimesControl(_) => (other.relative_error(), sums.count.min(other.count)),
                };
                let Some(other_error) = other_error else { return false };
                let distance = (ratio * unit / limit).ln();
                let distance = if self.metric.higher_is_worse() { distance } else { -distance };
                distance > level.errors(fewer) * error.hypot(other_error)
            }
            _ => false,
        }
    }

    fn factor(&self) -> f64 {
        match self.limit {
            Limit::At(_) => 1.0,
            Limit::TimesControl(factor) => factor,
        }
    }

    /// What the value is at least (at most where lower is worse), 95 % sure; what [`Finding::limit`] is compared with.
    pub(super) fn bound(&self, group: &Counts, control: &Counts) -> Option<f64> {
        let value = self.metric.value(group)?;
        let failing = || lower(group.failures as f64, group.told as f64, Level::Likely);
        let holds = |limit: f64| self.proves(group, control, limit, Level::Likely);
        Some(match self.metric {
            Metric::SuccessRate => 1.0 - failing(),
            // A control without failures has no rate to be a multiple of.
            Metric::ErrorRate if control.failures == 0 => failing(),
            metric if metric.higher_is_worse() => largest(0.0, value, holds),
            // From three times the value down.
            _ => 3.0 * value - largest(0.0, 2.0 * value, |below| holds(3.0 * value - below)),
        })
    }

    /// Whether the control is over the same limit, and the group is not clearly worse than it.
    pub(super) fn is_shared(&self, group: &Counts, control: &Counts) -> bool {
        let metric = self.metric;
        let Limit::At(limit) = self.limit else { return false };
        let value = metric.value(control).filter(|_| metric.count(control) >= metric.least());
        if !value.is_some_and(|value| metric.is_over(value, limit)) {
            return false;
        }
        let is_worse = match (metric.seen(group), metric.seen(control)) {
            (Seen::Failures { part, whole }, Seen::Failures { part: other, whole: other_whole }) => {
                more_than_other(part, whole, other, other_whole) < CLEARLY
            }
            (Seen::Times { times, .. }, Seen::Times { times: other, .. }) => {
                let limit = Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX);
                let [slow, other_slow] = [times, other].map(|times| times.longer_than(limit).round() as u64);
                more_than_other(slow, times.count(), other_slow, other.count()) < CLEARLY
            }
            _ => {
                let beside = Self { limit: Limit::TimesControl(1.0), ..*self };
                metric.value(control).is_some_and(|usual| beside.proves(group, control, usual, Level::Certain))
            }
        };
        !is_worse
    }
}
