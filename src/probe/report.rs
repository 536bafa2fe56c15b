//! Many observations as one report. Pure.

use crate::health::{Observation, Outcome};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What `hapilot probe -n 20` says of a server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeReport {
    /// How many probes ran.
    pub probes: usize,
    /// The share that succeeded, 0 to 1, of those that were not spoilt by ourselves; none when all were.
    pub success_rate: Option<f64>,
    /// Duration of the successful probes: a refused connection is fast, and would flatter.
    pub total_ms: Option<Percentiles>,
    /// Time to the first token, where there was one.
    pub first_token_ms: Option<Percentiles>,
    /// How often each outcome came.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Tokens that the probes cost.
    pub tokens: u64,
}

/// Durations in milliseconds, by nearest rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    /// Of these durations; none of none.
    pub fn of(durations: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<f64> = durations.into_iter().map(|d| (d.as_secs_f64() * 1e6).round() / 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        let max = *sorted.last()?;
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        Some(Self { mean: (mean * 1e3).round() / 1e3, p50: rank(50), p95: rank(95), p99: rank(99), max })
    }
}

impl From<&[Observation]> for ProbeReport {
    fn from(observations: &[Observation]) -> Self {
        let success = |o: &&Observation| matches!(o.outcome, Outcome::Ok | Outcome::Slow);
        let judged = observations.iter().filter(|o| o.outcome != Outcome::SelfCaused).count();
        let good = observations.iter().filter(success).count();
        let mut outcomes = BTreeMap::new();
        for observation in observations {
            *outcomes.entry(observation.outcome.as_str()).or_default() += 1;
        }
        Self {
            probes: observations.len(),
            success_rate: (judged > 0).then(|| good as f64 / judged as f64),
            total_ms: Percentiles::of(observations.iter().filter(success).map(|o| o.total)),
            first_token_ms: Percentiles::of(observations.iter().filter_map(|o| o.first_token)),
            outcomes,
            tokens: observations.iter().map(|o| o.tokens).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::ProbeKind;

    fn observation(outcome: Outcome, total_ms: u64) -> Observation {
        Observation {
            first_token: (outcome == Outcome::Ok).then(|| Duration::from_millis(total_ms / 2)),
            tokens: 10,
            ..Observation::new(ProbeKind::Chat, outcome, Duration::from_millis(total_ms))
        }
    }

    #[test]
    fn a_report_counts_and_ranks() {
        let mut all: Vec<Observation> = (1..=100).map(|ms| observation(Outcome::Ok, ms * 10)).collect();
        all.extend((0..99).map(|_| observation(Outcome::Refused, 1)));
        all.push(observation(Outcome::Slow, 5000));
        all.push(observation(Outcome::SelfCaused, 9999));
        let report = ProbeReport::from(all.as_slice());
        assert_eq!((report.probes, report.success_rate, report.tokens), (201, Some(0.505), 2010));
        let total = report.total_ms.unwrap();
        assert_eq!((total.p50, total.p95, total.p99, total.max), (510.0, 960.0, 1000.0, 5000.0));
        assert_eq!(report.first_token_ms.unwrap().p50, 250.0);
        assert_eq!(report.outcomes["refused"], 99);
        assert_eq!(ProbeReport::from([].as_slice()).success_rate, None);
    }

    #[test]
    fn the_json_names_its_units() {
        let report = ProbeReport::from([observation(Outcome::Ok, 10)].as_slice());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["first_token_ms"]["p99"], 5.0);
        assert_eq!(json["outcomes"]["ok"], 1);
    }
}
