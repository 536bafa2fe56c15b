//! How many probes may be in flight at this time: a few, and more where these are held for long.
//!
//! Each one in flight takes some 30 KB. Most upstreams answer in milliseconds, so that a few places serve thousands of
//! servers; at a start all servers are due at once, and would all be asked at once. Pure; called by `queue`.

use std::time::{Duration, Instant};

/// To begin with.
pub(super) const FEW: usize = 32;
/// Where probes have waited for a place so long, there are half as many more: 1,024 after 2 s.
pub(super) const GROWS_AFTER: Duration = Duration::from_millis(250);
/// Where none has waited for so long, there are a few again.
const SHRINKS_AFTER: Duration = Duration::from_secs(60);

/// Places for probes of backends that have some in flight already.
#[derive(Debug)]
pub(super) struct Room {
    places: usize,
    most: usize,
    grown: Option<Instant>,
    grows_at: Option<Instant>,
    last_wanted: Option<Instant>,
}

impl Room {
    /// Room for a few, and for at most so many.
    pub fn new(most: usize) -> Self {
        Self { places: FEW.min(most), most, grown: None, grows_at: None, last_wanted: None }
    }

    /// Places now.
    pub fn places(&self) -> usize {
        self.places
    }

    /// All are taken, and somebody waits for one since then; answers whether there are more now.
    pub fn wanted(&mut self, since: Instant, now: Instant) -> bool {
        self.last_wanted = Some(now);
        let at = self.grown.map_or(since, |grown| grown.max(since)) + GROWS_AFTER;
        self.grows_at = (self.places < self.most).then_some(at);
        let grows = self.grows_at.is_some_and(|at| at <= now);
        if grows {
            self.places = (self.places + self.places.div_ceil(2)).min(self.most);
            (self.grown, self.grows_at) = (Some(now), None);
        }
        grows
    }

    /// A place is free, or nobody waits for one.
    pub fn suffices(&mut self, now: Instant) {
        self.grows_at = None;
        if self.last_wanted.is_some_and(|last| now.saturating_duration_since(last) >= SHRINKS_AFTER) {
            (self.places, self.last_wanted) = (FEW.min(self.most), None);
        }
    }

    /// When there will be more, if somebody still waits then.
    pub fn grows_at(&self) -> Option<Instant> {
        self.grows_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_more_places_where_probes_wait_and_a_few_again_after_a_quiet_minute() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut room = Room::new(100);
        assert_eq!((room.places(), room.grows_at()), (FEW, None));
        assert!(!room.wanted(at(0), at(0)) && !room.wanted(at(0), at(249)));
        assert_eq!(room.grows_at(), Some(at(250)));
        // Who waits for less time than that has places enough, however often all are taken.
        assert!(!room.wanted(at(240), at(251)));
        assert!(room.wanted(at(0), at(260)) && !room.wanted(at(0), at(500)));
        assert_eq!((room.places(), room.grows_at()), (48, Some(at(510))));
        assert!(room.wanted(at(0), at(510)) && room.wanted(at(400), at(760)));
        assert_eq!((room.places(), room.grows_at()), (100, None));
        assert!(!room.wanted(at(0), at(9000)));
        room.suffices(at(68_999));
        assert_eq!(room.places(), 100);
        room.suffices(at(69_000));
        assert_eq!(room.places(), FEW);
    }
}
