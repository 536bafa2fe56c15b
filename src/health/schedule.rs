//! When the next probe of one kind starts.
//!
//! Knows no outcomes: `server` says which gap applies. Called by `server`.

use crate::model::Moment;
use std::time::Duration;

/// Deterministic small random numbers: the same seed spreads the same way, in tests and after a restart.
///
/// **Source**: SplitMix64 (Steele, Lea, Flood 2014). Ours, so that no library update moves a seeded test.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 (inclusive) to 1 (exclusive).
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `duration` times a random number between `low` and `high`.
    pub(super) fn spread(&mut self, duration: Duration, low: f64, high: f64) -> Duration {
        duration.mul_f64(low + (high - low) * self.unit())
    }
}

/// The rhythm of one kind of probe.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    due: Moment,
    /// When the last one started.
    last_start: Option<Moment>,
    /// The server asked for silence until then.
    not_before: Moment,
    started: Option<Moment>,
}

impl Schedule {
    /// The first probe is due at `due`.
    pub(super) fn new(due: Moment) -> Self {
        Self { due, last_start: None, not_before: Moment::default(), started: None }
    }

    /// When the next one starts; in the past: at once, or as soon as the one under way has ended.
    pub(super) fn next(&self) -> Moment {
        self.due.max(self.not_before)
    }

    /// One starts. Should its result never come, the next is due after `gap` all the same.
    pub(super) fn start(&mut self, now: Moment, gap: Duration) {
        self.started = Some(now);
        self.last_start = Some(now);
        self.due = now + gap;
    }

    /// One ended after `took`: when it had started.
    pub(super) fn end(&mut self, now: Moment, took: Duration) -> Moment {
        self.started.take().unwrap_or(now - took)
    }

    /// The next one is due then.
    pub(super) fn set_due(&mut self, due: Moment) {
        self.due = due;
    }

    /// The next one is due then at the latest.
    pub(super) fn cap_due(&mut self, due: Moment) {
        self.due = self.due.min(due);
    }

    /// The next one is due as soon as the last start is `spacing` ago. Whether that is sooner than it was.
    pub(super) fn hurry(&mut self, spacing: Duration, now: Moment) -> bool {
        let soon = self.last_start.map_or(now, |start| (start + spacing).max(now));
        let is_sooner = soon < self.due;
        self.cap_due(soon);
        is_sooner
    }

    /// Nothing starts before `until`; an earlier promise that lasts longer stays.
    pub(super) fn pause_until(&mut self, until: Moment) {
        self.not_before = self.not_before.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_pause_never_shortens_an_earlier_one() {
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let mut schedule = Schedule::new(at(10));
        schedule.pause_until(at(300));
        schedule.pause_until(at(60));
        assert_eq!(schedule.next(), at(300));
    }

    #[test]
    fn the_spread_stays_within_its_bounds() {
        let mut jitter = Jitter::new(7);
        let ten = Duration::from_secs(10);
        let drawn: Vec<Duration> = (0..1_000).map(|_| jitter.spread(ten, 0.9, 1.0)).collect();
        assert!(drawn.iter().all(|gap| *gap >= ten.mul_f64(0.9) && *gap <= ten));
        let mean = drawn.iter().sum::<Duration>() / 1_000;
        assert!((mean.as_secs_f64() - 9.5).abs() < 0.05, "{mean:?}");
    }
}
