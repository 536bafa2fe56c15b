//! Thresholds that the operator sets himself: crossed for long enough, and no longer crossed for as long.

use jiff::{SignedDuration, Timestamp};
use std::fmt;
use std::time::Duration;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Whole requests of a server, of successes of the last minute, in seconds.
    LatencyP95,
    /// Until the first byte or token, in seconds.
    FirstTokenP95,
    /// Requests of the last minute that failed, of a server or a backend, 0 to 1.
    ErrorRate,
    /// Until a frontend's certificate expires, in days.
    CertificateDays,
    /// What a client has spent of its budget, 0 to 1 and beyond.
    Budget,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LatencyP95, Self::FirstTokenP95, Self::ErrorRate, Self::CertificateDays, Self::Budget];

    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LatencyP95 => "latency_p95",
            Self::FirstTokenP95 => "first_token_p95",
            Self::ErrorRate => "error_rate",
            Self::CertificateDays => "certificate_days",
            Self::Budget => "budget",
        }
    }

    /// A value in words.
    pub fn told(self, value: f64) -> String {
        match self {
            Self::LatencyP95 | Self::FirstTokenP95 if value < 1.0 => format!("{:.0} ms", value * 1000.0),
            Self::LatencyP95 | Self::FirstTokenP95 => format!("{value:.1} s"),
            Self::ErrorRate | Self::Budget => format!("{:.1} %", value * 100.0),
            Self::CertificateDays => format!("{value:.1} days"),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is too much or too little, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Above this.
    pub above: Option<f64>,
    /// Below this.
    pub below: Option<f64>,
    /// For so long.
    pub lasting: Duration,
}

impl Threshold {
    fn is_crossed(&self, value: f64) -> bool {
        self.above.is_some_and(|most| value > most) || self.below.is_some_and(|least| value < least)
    }
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleTurn {
    /// It has been crossed for long enough.
    Begins,
    /// It has not been for as long.
    Ends,
}

/// One threshold over one thing that is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RuleWatch {
    /// It is told to be crossed.
    is_told: bool,
    /// An agent before this one told it; nobody else has yet.
    is_inherited: bool,
    /// Since when a value says otherwise than what is told.
    otherwise_since: Option<Timestamp>,
}

impl RuleWatch {
    /// One that an agent before this one told to be crossed.
    pub fn inherited() -> Self {
        Self { is_told: true, is_inherited: true, otherwise_since: None }
    }

    /// Takes in what was measured; nothing says nothing, and puts nothing off.
    pub fn look(&mut self, threshold: &Threshold, value: Option<f64>, now: Timestamp) -> Option<RuleTurn> {
        let value = value.filter(|value| value.is_finite())?;
        if threshold.is_crossed(value) == self.is_told {
            self.otherwise_since = None;
            let is_to_be_told = self.is_told && std::mem::take(&mut self.is_inherited);
            return is_to_be_told.then_some(RuleTurn::Begins);
        }
        let since = *self.otherwise_since.get_or_insert(now);
        let lasting = SignedDuration::try_from(threshold.lasting).unwrap_or(SignedDuration::MAX);
        if now.duration_since(since) < lasting {
            return None;
        }
        self.otherwise_since = None;
        self.is_told = !self.is_told;
        Some(if self.is_told { RuleTurn::Begins } else { RuleTurn::Ends })
    }

    /// Whether it is told to be crossed.
    pub fn is_told(&self) -> bool {
        self.is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_crossed_when_it_was_so_for_its_time_and_silence_says_nothing() {
        let threshold = Threshold { above: Some(0.05), below: None, lasting: Duration::from_secs(60) };
        let at = |s: i64| Timestamp::from_second(1_000_000 + s).unwrap();
        let mut watch = RuleWatch::default();
        let values = [
            (0, Some(0.1), None),
            (30, Some(0.0), None),
            (40, Some(0.1), None),
            (70, None, None),
            (99, Some(0.2), None),
            (100, Some(0.2), Some(RuleTurn::Begins)),
            (110, Some(0.0), None),
            (120, Some(0.06), None),
            (130, Some(0.05), None),
            (200, Some(f64::NAN), None),
            (201, Some(0.0), Some(RuleTurn::Ends)),
        ];
        for (second, value, turn) in values {
            assert_eq!(watch.look(&threshold, value, at(second)), turn, "{second}");
        }
        let days = Threshold { above: None, below: Some(14.0), lasting: Duration::ZERO };
        assert_eq!(RuleWatch::default().look(&days, Some(13.9), at(0)), Some(RuleTurn::Begins));
        let mut inherited = RuleWatch::inherited();
        assert_eq!(inherited.look(&threshold, Some(0.1), at(0)), Some(RuleTurn::Begins), "it is told again, at once");
        assert_eq!(inherited.look(&threshold, Some(0.1), at(1)), None);
        assert_eq!(Metric::ErrorRate.told(0.123), "12.3 %");
        assert_eq!((Metric::LatencyP95.told(0.25), Metric::LatencyP95.told(2.5)), ("250 ms".into(), "2.5 s".into()));
    }
}
