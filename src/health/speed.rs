//! How soon real answers begin, against the same server's last hour.
//!
//! Knows means, not states. Called by `traffic`.
//!
//! Samples bring means, and a percentile cannot be had from means: the 95th of them is the true one at a request a
//! sample and nearly the mean at a hundred, so that a night's thin traffic would look slow beside the day's. The mean
//! weighted by requests is the same estimate at every rate. A mean over twice the hour's says more than a 95th percentile
//! over twice the hour's: it is the stricter test.

use super::ewma::DecayedAverage;
use crate::model::Moment;
use std::time::Duration;

/// One window of comparison…
const WINDOW: Duration = Duration::from_secs(20);
/// …of so many requests at least, else it goes on…
const WINDOW_REQUESTS: u32 = 10;
/// …up to this; then it is too thin to say anything.
const WINDOW_MAX: Duration = Duration::from_secs(60);
/// Slow windows in a row that make a server slow.
const SLOW_WINDOWS: u32 = 3;
/// Prompt ones that end it.
const PROMPT_WINDOWS: u32 = 2;
/// Nothing below this is slow, whatever the hour says.
const SLOW_FROM: f64 = 3.0;
/// So many times the hour's mean is slow.
const SLOW_TIMES: f64 = 2.0;
/// What "usual" means.
const BASELINE: Duration = Duration::from_secs(3_600);
/// A baseline of fewer windows is none: three minutes.
const BASELINE_WINDOWS: f64 = 8.0;
/// A verdict that no window has confirmed for so long is forgotten.
const LAPSES: Duration = Duration::from_secs(180);
/// How fast the average forgets that weights compare.
const RECENT: Duration = Duration::from_secs(15);

/// The first bytes of one server.
#[derive(Clone, Debug)]
pub(super) struct Speed {
    sum: f64,
    requests: u32,
    begun: Moment,
    baseline: DecayedAverage,
    recent: DecayedAverage,
    /// The mean of the last full window, and when it ended.
    last: Option<(Moment, f64)>,
    slow_windows: u32,
    prompt_windows: u32,
    slow: bool,
}

impl Speed {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            sum: 0.0,
            requests: 0,
            begun: now,
            baseline: DecayedAverage::new(BASELINE),
            recent: DecayedAverage::new(RECENT),
            last: None,
            slow_windows: 0,
            prompt_windows: 0,
            slow: false,
        }
    }

    /// So many answers began after `mean`.
    pub(super) fn add(&mut self, mean: Duration, requests: u32, now: Moment) {
        let seconds = mean.as_secs_f64();
        self.recent.add_weighted(seconds, f64::from(requests), now);
        let age = now.since(self.begun);
        if age >= WINDOW_MAX && self.requests < WINDOW_REQUESTS {
            self.begin(now);
        }
        self.sum += seconds * f64::from(requests);
        self.requests = self.requests.saturating_add(requests);
        if age >= WINDOW && self.requests >= WINDOW_REQUESTS {
            self.judge(self.sum / f64::from(self.requests), now);
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Moment) {
        (self.sum, self.requests, self.begun) = (0.0, 0, now);
    }

    fn judge(&mut self, mean: f64, now: Moment) {
        self.last = Some((now, mean));
        let is_slow = self.usual(now).is_some_and(|usual| mean > SLOW_FROM.max(usual * SLOW_TIMES));
        if is_slow {
            // What is slow does not become the usual; where it lasts for hours the old usual fades, and a new one begins.
            (self.slow_windows, self.prompt_windows) = (self.slow_windows + 1, 0);
        } else {
            (self.slow_windows, self.prompt_windows) = (0, self.prompt_windows + 1);
            self.baseline.add(mean, now);
        }
        self.slow = if self.slow { self.prompt_windows < PROMPT_WINDOWS } else { self.slow_windows >= SLOW_WINDOWS };
    }

    fn usual(&self, now: Moment) -> Option<f64> {
        self.baseline.mean().filter(|_| self.baseline.count(now) >= BASELINE_WINDOWS)
    }

    /// Where it is slow: the usual mean through that of the last window, below 1.
    pub(super) fn slowness(&self, now: Moment) -> Option<f64> {
        let (at, mean) = self.last?;
        if !self.slow || now.since(at) >= LAPSES {
            return None;
        }
        Some(self.baseline.mean().map_or(1.0, |usual| usual / mean).min(1.0))
    }

    /// The mean and the hour's, in words.
    pub(super) fn words(&self) -> String {
        let ms = |seconds: f64| format!("{:.0} ms", seconds * 1_000.0);
        let now = self.last.map_or_else(String::new, |(_, mean)| ms(mean));
        let usual = self.baseline.mean().map_or_else(String::new, ms);
        format!("answers begin after {now}, the last hour's after {usual}")
    }

    /// The average that weights compare.
    pub(super) fn recent(&self) -> Option<Duration> {
        self.recent.mean().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds ten minutes of a constant mean, two requests a second.
    fn feed(speed: &mut Speed, from_s: u64, seconds: u64, mean_ms: u64) -> Moment {
        for second in from_s..from_s + seconds {
            speed.add(Duration::from_millis(mean_ms), 2, Moment(Duration::from_secs(second)));
        }
        Moment(Duration::from_secs(from_s + seconds))
    }

    #[test]
    fn three_slow_windows_make_it_slow_and_two_prompt_ones_end_it() {
        let mut speed = Speed::new(Moment::default());
        feed(&mut speed, 0, 600, 2_000);
        let now = feed(&mut speed, 600, 60, 6_000);
        assert_eq!(speed.slowness(now), None);
        let now = feed(&mut speed, 660, 25, 6_000);
        assert!((speed.slowness(now).expect("slow") - 1.0 / 3.0).abs() < 0.02);
        let now = feed(&mut speed, 685, 65, 2_000);
        assert_eq!(speed.slowness(now), None);
    }

    #[test]
    fn twice_of_little_is_not_slow_and_neither_is_what_has_no_hour_to_compare() {
        let mut speed = Speed::new(Moment::default());
        feed(&mut speed, 0, 600, 200);
        let now = feed(&mut speed, 600, 300, 2_900);
        assert_eq!(speed.slowness(now), None);
        let mut speed = Speed::new(Moment::default());
        let now = feed(&mut speed, 0, 120, 9_000);
        assert_eq!(speed.slowness(now), None);
    }

    #[test]
    fn a_thin_night_after_a_busy_day_is_not_slow() {
        let mut speed = Speed::new(Moment::default());
        // By day each sample is the mean of a hundred requests, by night one of them: 1 s or, one in five, 9 s.
        for second in 0..3_600u64 {
            speed.add(Duration::from_millis(2_600), 100, Moment(Duration::from_secs(second)));
        }
        for second in 3_600..7_200u64 {
            let ms = if second % 5 == 0 { 9_000 } else { 1_000 };
            let now = Moment(Duration::from_secs(second));
            speed.add(Duration::from_millis(ms), 1, now);
            assert_eq!(speed.slowness(now), None);
        }
    }
}
