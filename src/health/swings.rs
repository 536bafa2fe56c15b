//! How often a server went down and up lately, and how long that keeps it out.
//!
//! Knows nothing of why. Called by `server`.

use crate::model::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Downs are remembered this long for the length of the hold.
const DOWNS_WINDOW: Duration = Duration::from_secs(30 * 60);
/// No hold is longer, jitter apart.
const HOLD_MAX: Duration = Duration::from_secs(300);
/// So many downs and ups within [`FLAP_WINDOW`] are flapping.
const FLAP_SWINGS: usize = 4;
/// See [`FLAP_SWINGS`].
const FLAP_WINDOW: Duration = Duration::from_secs(600);
/// More swings than can matter: at the shortest hold of 0.2 s flapping stops them after six.
const REMEMBERED: usize = 64;

/// The recent downs and ups of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Swings {
    /// Oldest first; whether it was a down.
    log: VecDeque<(Moment, bool)>,
    /// Downs before this do not lengthen the hold any more: real traffic has shown that the server works.
    forgiven: Moment,
}

impl Swings {
    /// Notes that the server went out, and answers how long it stays out at least, before jitter:
    /// min(300 s, `first` · 2^(k−1)), k = downs in the last half an hour, this one included.
    pub(super) fn went_down(&mut self, now: Moment, first: Duration) -> Duration {
        self.note(now, true);
        let downs = self.log.iter().filter(|(at, down)| *down && *at >= self.forgiven).count();
        // Beyond 2^20 even 200 ms exceed the longest hold.
        let doublings = u32::try_from(downs.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        first.saturating_mul(1 << doublings).min(HOLD_MAX)
    }

    /// Real traffic has shown that the server works: the next hold is a first one again. What counts as flapping stays.
    pub(super) fn forgive(&mut self, now: Moment) {
        self.forgiven = now;
    }

    /// Takes the last down back: it was not the server's.
    pub(super) fn retract(&mut self) {
        if self.log.back().is_some_and(|(_, down)| *down) {
            self.log.pop_back();
        }
    }

    /// Notes that the server came back.
    pub(super) fn came_up(&mut self, now: Moment) {
        self.note(now, false);
    }

    /// Downs in the last half an hour.
    pub(super) fn downs(&self, now: Moment) -> usize {
        self.log.iter().filter(|(at, down)| *down && now.since(*at) < DOWNS_WINDOW).count()
    }

    /// While the server flaps it stays out: until when. In the past, or `None`, when it does not flap.
    pub(super) fn flapping_until(&self) -> Option<Moment> {
        let oldest = self.log.len().checked_sub(FLAP_SWINGS)?;
        Some(self.log[oldest].0 + FLAP_WINDOW)
    }

    fn note(&mut self, now: Moment, down: bool) {
        self.log.retain(|(at, _)| now.since(*at) < DOWNS_WINDOW);
        if self.log.len() == REMEMBERED {
            self.log.pop_front();
        }
        self.log.push_back((now, down));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn each_down_doubles_the_hold_until_five_minutes_and_half_an_hour_forgives() {
        let mut swings = Swings::default();
        let base = Duration::from_secs(15);
        let holds: Vec<u64> = (0..7).map(|step| swings.went_down(at(step * 60), base).as_secs()).collect();
        assert_eq!(holds, [15, 30, 60, 120, 240, 300, 300]);
        assert_eq!(swings.downs(at(400)), 7);
        assert_eq!(swings.went_down(at(360 + 1_800), base), base);
    }

    #[test]
    fn what_real_traffic_forgave_does_not_lengthen_the_hold_and_still_is_flapping() {
        let mut swings = Swings::default();
        let base = Duration::from_secs(15);
        swings.went_down(at(0), base);
        swings.came_up(at(60));
        swings.forgive(at(400));
        assert_eq!(swings.went_down(at(401), base), base);
        swings.came_up(at(430));
        assert_eq!((swings.downs(at(430)), swings.flapping_until()), (2, Some(at(600))));
    }

    #[test]
    fn the_fourth_swing_in_ten_minutes_is_flapping() {
        let mut swings = Swings::default();
        swings.went_down(at(0), Duration::ZERO);
        swings.came_up(at(60));
        swings.went_down(at(120), Duration::ZERO);
        assert_eq!(swings.flapping_until(), None);
        swings.came_up(at(180));
        assert_eq!(swings.flapping_until(), Some(at(600)));
        swings.went_down(at(240), Duration::ZERO);
        assert_eq!(swings.flapping_until(), Some(at(660)));
    }
}
