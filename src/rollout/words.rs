//! Values and findings in words, for people.

use super::judge::{Finding, Proof};
use super::watch::{Called, Piece, Watch};
use super::{Condition, Limit, Metric};
use crate::model::format_duration;
use std::time::Duration;

/// A value of a metric with its unit: `4.2 %`, `850 ms`, `3.4 s`, `41 tokens/s`, `$0.0123`.
pub(super) fn value_text(metric: Metric, value: f64) -> String {
    match metric {
        Metric::ErrorRate | Metric::SuccessRate => percent_text(value),
        Metric::TokensPerSecond => format!("{} tokens/s", digits(value)),
        Metric::CostPerRequest => format!("${}", digits(value)),
        _ if value < 1.0 => format!("{:.0} ms", value * 1000.0),
        _ => format!("{} s", digits(value)),
    }
}

/// A share of 0 to 1: `4.2 %`.
pub(super) fn percent_text(share: f64) -> String {
    let percent = share * 100.0;
    // So that 99.97 % is not written as all of it.
    let is_near_an_end = !(1.0..=99.0).contains(&percent);
    let text = if is_near_an_end { format!("{percent:.2}") } else { format!("{percent:.1}") };
    format!("{} %", shortest(&text))
}

/// A time in whole seconds, in its two largest units: `4m 30s`.
pub(super) fn time_text(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, rest) => format!("{rest}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, rest) => format!("{minutes}m {rest}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    let before = value.abs().max(1e-9).log10().floor() as i32;
    let places = usize::try_from((2 - before).clamp(0, 9)).unwrap_or_default();
    shortest(&format!("{value:.places$}")).to_owned()
}

/// Without zeros that say nothing.
fn shortest(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

impl Condition {
    /// `error_rate above 5 % for 1m`.
    pub fn in_words(&self) -> String {
        let Self { metric, limit, lasting } = *self;
        let direction = if metric.higher_is_worse() { "above" } else { "below" };
        let limit = match limit {
            Limit::At(value) => value_text(metric, value),
            Limit::TimesControl(factor) => format!("{factor} × the control's"),
        };
        format!("{} {direction} {limit} for {}", metric.name(), format_duration(lasting))
    }

    /// Of a value that is over it `above 5 %`, `below 0.8 × the control's 41 tokens/s`; else `limit 5 %`.
    fn limit_in_words(&self, found: &Finding, beside: &str) -> String {
        let is_over = match (found.value, found.limit) {
            (Some(value), Some(limit)) => self.metric.is_over(value, limit),
            _ => false,
        };
        let direction = match is_over {
            true if self.metric.higher_is_worse() => "above",
            true => "below",
            false => "limit",
        };
        match (self.limit, found.limit) {
            (Limit::At(value), _) => format!("{direction} {}", value_text(self.metric, value)),
            (Limit::TimesControl(factor), Some(limit)) => {
                format!("{direction} {factor} × {beside} {}", value_text(self.metric, limit / factor))
            }
            (Limit::TimesControl(factor), None) => format!("{direction} {factor} × {beside}"),
        }
    }
}

impl Watch {
    /// `error_rate is 21.3 % of 118 requests (95 % sure of 14.4 % at least), above 5 %; the control's: 0.9 % of 2310`,
    /// `error_rate is 0 % of 18 requests, limit 5 %; the control's: 0 % of 212`.
    pub(super) fn in_words(&self, piece: &Piece, age: Duration) -> String {
        let Called { what, unit, beside } = &self.called;
        let (metric, found, control) = (self.condition.metric, self.find(piece, age), self.control(piece, age));
        let Some(value) = found.value else {
            return format!("{} unknown: nothing was seen", what.trim_end_matches(':'));
        };
        let mut text = format!("{what} {} of {} {unit}", value_text(metric, value), found.count);
        if let Some(bound) = self.condition.bound(&piece.group, control).filter(|_| found.proof >= Proof::Over) {
            let end = if metric.higher_is_worse() { "at least" } else { "at most" };
            text += &format!(" (95 % sure of {} {end})", value_text(metric, bound));
        }
        text += &format!(", {}", self.condition.limit_in_words(&found, beside));
        if let (Limit::At(_), Some(value)) = (self.condition.limit, metric.value(control)) {
            text += &format!("; {beside}: {} of {}", value_text(metric, value), metric.count(control));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_units_and_no_more_digits_than_they_need() {
        for (metric, value, text) in [
            (Metric::ErrorRate, 0.0, "0 %"),
            (Metric::ErrorRate, 0.05, "5 %"),
            (Metric::ErrorRate, 0.2134, "21.3 %"),
            (Metric::SuccessRate, 0.9997, "99.97 %"),
            (Metric::LatencyP99, 0.8512, "851 ms"),
            (Metric::LatencyP99, 3.0, "3 s"),
            (Metric::FirstTokenP50, 61.28, "61.3 s"),
            (Metric::TokensPerSecond, 41.234, "41.2 tokens/s"),
            (Metric::CostPerRequest, 0.012_345, "$0.0123"),
        ] {
            assert_eq!(value_text(metric, value), text);
        }
        for (seconds, text) in [(0, "0s"), (59, "59s"), (300, "5m"), (301, "5m 1s"), (3_600, "1h"), (3_700, "1h 1m")] {
            assert_eq!(time_text(Duration::from_secs(seconds)), text);
        }
    }
}
