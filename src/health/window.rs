//! Counts of the last minute in ten buckets, and what share they prove.
//!
//! Knows counts and time, not what follows. Called by `traffic`.

use crate::model::Moment;
use std::ops::AddAssign;
use std::time::Duration;

/// So many buckets make the window…
const BUCKETS: usize = 10;
/// …of a minute: the oldest six seconds are forgotten at once.
const BUCKET: Duration = Duration::from_secs(6);
/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.96;

/// Finished requests by how they count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) successes: u32,
    /// Hidden ones included.
    pub(super) failures: u32,
    /// Of the failures, those whose class nobody saw.
    pub(super) hidden: u32,
    /// Failures, these or earlier ones, that another server shares.
    pub(super) shared: u32,
    /// 429.
    pub(super) limited: u32,
    /// 529, and 503 with Retry-After.
    pub(super) overloaded: u32,
    /// The key was rejected.
    pub(super) rejected: u32,
}

impl Tally {
    /// Requests that tell something of the server itself.
    pub(super) fn told(&self) -> u32 {
        self.successes + self.failures + self.limited + self.overloaded
    }

    /// The part that failed, as far as 95 % sure, 0 to 1.
    pub(super) fn failing_at_least(&self) -> f64 {
        wilson_lower(self.failures, self.told())
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let Self { successes, failures, hidden, shared, limited, overloaded, rejected } = other;
        self.successes = self.successes.saturating_add(successes);
        self.failures = self.failures.saturating_add(failures);
        self.hidden = self.hidden.saturating_add(hidden);
        self.shared = self.shared.saturating_add(shared);
        self.limited = self.limited.saturating_add(limited);
        self.overloaded = self.overloaded.saturating_add(overloaded);
        self.rejected = self.rejected.saturating_add(rejected);
    }
}

/// The last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    buckets: [Tally; BUCKETS],
    /// The number of the newest bucket since the clock's beginning.
    newest: u64,
}

impl Window {
    /// Counts what has finished just now. Something from the past counts as of the newest bucket.
    pub(super) fn add(&mut self, tally: Tally, now: Moment) {
        let number = number(now).max(self.newest);
        for stale in (self.newest + 1..=number).take(BUCKETS) {
            self.buckets[slot(stale)] = Tally::default();
        }
        if number - self.newest >= BUCKETS as u64 {
            self.buckets = Default::default();
        }
        self.newest = number;
        self.buckets[slot(number)] += tally;
    }

    /// The whole window.
    pub(super) fn total(&self, now: Moment) -> Tally {
        self.newest_buckets(BUCKETS as u64, now)
    }

    /// The last 6 to 12 seconds.
    pub(super) fn lately(&self, now: Moment) -> Tally {
        self.newest_buckets(2, now)
    }

    fn newest_buckets(&self, count: u64, now: Moment) -> Tally {
        let end = number(now).max(self.newest);
        let mut sum = Tally::default();
        for number in (end + 1).saturating_sub(count)..=self.newest {
            sum += self.buckets[slot(number)];
        }
        sum
    }
}

fn number(now: Moment) -> u64 {
    now.0.as_secs() / BUCKET.as_secs()
}

fn slot(number: u64) -> usize {
    (number % BUCKETS as u64) as usize
}

/// The lower end of the 95 % confidence interval of a share: what `part` of `whole` proves at least, 0 to 1.
///
/// **Source**: E. B. Wilson, 1927. Unlike the plain share it does not take two of two for certainty.
pub(super) fn wilson_lower(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    let n = f64::from(whole);
    let share = f64::from(part.min(whole)) / n;
    let middle = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - spread) / (1.0 + Z * Z / n)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn failures(failures: u32) -> Tally {
        Tally { failures, ..Tally::default() }
    }

    #[test]
    fn a_minute_is_remembered_and_no_more() {
        let mut window = Window::default();
        window.add(failures(3), at(600));
        window.add(failures(4), at(630));
        assert_eq!(window.total(at(630)), failures(7));
        assert_eq!(window.total(at(659)), failures(7));
        assert_eq!(window.total(at(660)), failures(4));
        assert_eq!(window.total(at(690)), failures(0));
        window.add(failures(1), at(10_000));
        assert_eq!(window.total(at(10_000)), failures(1));
        assert_eq!((window.lately(at(10_007)), window.lately(at(10_008))), (failures(1), failures(0)));
    }

    #[test]
    fn the_bound_is_wilsons() {
        for (part, whole, expected) in
            [(0, 0, 0.0), (0, 20, 0.0), (14, 20, 0.481), (15, 20, 0.531), (20, 20, 0.839), (60, 100, 0.502)]
        {
            let bound = wilson_lower(part, whole);
            assert!((bound - expected).abs() < 0.001, "{part} of {whole}: {bound}");
        }
    }
}
