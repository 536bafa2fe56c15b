//! Which probe starts next: each backend has a share of those in flight, and among backends whose turn it may be the
//! oldest goes first.
//!
//! A backend of a thousand servers that hang holds its probes for seconds each. So one alone gets half of all places, two
//! a third each, and so on; and a quarter of the places is for backends that have nothing in flight, so that whoever
//! comes has room at once, however many others hang. A backend that has probes in flight begins more only where there is
//! room (`room`). Pure; called by `probe_runs`.

use super::room::Room;
use super::wanted::DueProbe;
use crate::model::Name;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// One of so many places is kept for backends that have nothing in flight.
const RESERVE: usize = 4;

/// Probes that are due, and how many of each backend are in flight.
#[derive(Debug)]
pub(in crate::agent) struct Queue {
    lanes: BTreeMap<Name, Lane>,
    in_flight: usize,
    places: usize,
    room: Room,
    /// How many were ever due: their order.
    count: u64,
}

#[derive(Debug, Default)]
struct Lane {
    /// Each with its order, and since when it waits.
    due: VecDeque<(u64, Instant, DueProbe)>,
    in_flight: usize,
}

impl Queue {
    /// A queue for so many probes in flight.
    pub fn new(places: usize) -> Self {
        let places = places.max(1);
        Self { lanes: BTreeMap::new(), in_flight: 0, places, room: Room::new(places), count: 0 }
    }

    /// Takes one that is due in, behind those that were due before.
    pub fn push(&mut self, wanted: DueProbe, now: Instant) {
        self.count += 1;
        let lane = self.lanes.entry(wanted.id.backend.clone()).or_default();
        lane.due.push_back((self.count, now, wanted));
    }

    /// The one that starts now; it counts as in flight until [`Self::ended`] says otherwise.
    pub fn start(&mut self, now: Instant) -> Option<DueProbe> {
        let free = self.places.checked_sub(self.in_flight).filter(|free| *free > 0)?;
        let (share, is_roomy) = ((self.places / (self.lanes.len() + 1)).max(1), free > self.places / RESERVE);
        let may = |lane: &Lane| !lane.due.is_empty() && (lane.in_flight == 0 || (is_roomy && lane.in_flight < share));
        let mut has_room = self.in_flight < self.room.places();
        let waits = self.lanes.values().filter(|lane| !has_room && lane.in_flight > 0 && may(lane));
        match waits.filter_map(|lane| lane.due.front().map(|(_, since, _)| *since)).min() {
            Some(since) => has_room = self.room.wanted(since, now),
            None => self.room.suffices(now),
        }
        let may = self.lanes.values_mut().filter(|lane| may(lane) && (has_room || lane.in_flight == 0));
        let lane = may.min_by_key(|lane| lane.due.front().map(|(order, ..)| *order))?;
        let (.., wanted) = lane.due.pop_front()?;
        lane.in_flight += 1;
        self.in_flight += 1;
        Some(wanted)
    }

    /// When more may start, although none has ended.
    pub fn next_wake(&self) -> Option<Instant> {
        self.room.grows_at()
    }

    /// One of this backend has ended, or did not start after all.
    pub fn ended(&mut self, backend: &Name) {
        let Some(lane) = self.lanes.get_mut(backend).filter(|lane| lane.in_flight > 0) else { return };
        lane.in_flight -= 1;
        self.in_flight -= 1;
        if lane.in_flight == 0 && lane.due.is_empty() {
            self.lanes.remove(backend);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::probes::room::FEW;
    use crate::health::ProbeKind;
    use crate::model::ServerId;
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn wanted(backend: usize, server: usize) -> DueProbe {
        let name = |text: String| Name::new(&text).unwrap();
        let id = ServerId::new(name(format!("b{backend}")), name(format!("s{server}")));
        DueProbe { id, kind: ProbeKind::Models, key: None }
    }

    #[test]
    fn of_one_backend_the_oldest_goes_first_and_half_of_all_places_are_its_own() {
        let mut queue = Queue::new(8);
        let now = Instant::now();
        (0..10).for_each(|server| queue.push(wanted(0, server), now));
        let started: Vec<String> = std::iter::from_fn(|| queue.start(now)).map(|one| one.id.to_string()).collect();
        assert_eq!(started, ["b0/s0", "b0/s1", "b0/s2", "b0/s3"]);
        queue.push(wanted(1, 0), now);
        assert_eq!(queue.start(now).unwrap().id.to_string(), "b1/s0");
        // Its share is smaller now.
        queue.ended(&Name::new("b0").unwrap());
        assert!(queue.start(now).is_none());
        queue.ended(&Name::new("b1").unwrap());
        assert_eq!(queue.start(now).unwrap().id.to_string(), "b0/s4");
    }

    /// Milliseconds that the probe of a healthy backend, due each second, waited at most beside these: servers, and how
    /// many milliseconds each of their probes takes.
    fn longest_wait(others: &[(usize, u64)], places: usize, until: u64) -> u64 {
        const STEP: u64 = 20;
        const HEALTHY: usize = 10_000;
        let mut queue = Queue::new(places);
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut ends: BTreeMap<u64, Vec<Name>> = BTreeMap::new();
        // When each server is due again: a second after its last start, as a schedule does.
        let mut due: BTreeMap<u64, Vec<(usize, usize)>> = BTreeMap::new();
        for (backend, (servers, _)) in others.iter().enumerate() {
            due.entry(0).or_default().extend((0..*servers).map(|server| (backend, server)));
        }
        due.entry(500).or_default().push((HEALTHY, 0));
        let (mut asked, mut longest) = (None, 0);
        for now in (0..until).step_by(usize::try_from(STEP).unwrap()) {
            let later = ends.split_off(&(now + 1));
            std::mem::replace(&mut ends, later).into_values().flatten().for_each(|backend| queue.ended(&backend));
            let later = due.split_off(&(now + 1));
            for (backend, server) in std::mem::replace(&mut due, later).into_values().flatten() {
                if backend == HEALTHY {
                    asked = Some(now);
                }
                queue.push(wanted(backend, server), at(now));
            }
            while let Some(started) = queue.start(at(now)) {
                let backend: usize = started.id.backend.as_str()[1..].parse().unwrap();
                let server: usize = started.id.server.as_str()[1..].parse().unwrap();
                let takes = others.get(backend).map_or(5, |(_, takes)| *takes);
                ends.entry(now + takes).or_default().push(started.id.backend.clone());
                due.entry(now + takes.max(1000)).or_default().push((backend, server));
                if backend == HEALTHY {
                    longest = longest.max(now - asked.take().unwrap());
                }
            }
        }
        longest.max(asked.map_or(0, |since| until - since))
    }

    #[test]
    fn a_thousand_servers_that_hang_delay_no_other_backend() {
        assert_eq!(longest_wait(&[(1200, 5000)], 512, 30_000), 0);
        assert_eq!(longest_wait(&[(1200, 5000), (5000, 10_000), (300, 700)], 512, 30_000), 0);
        assert_eq!(longest_wait(&[(40, 30_000); 60], 512, 30_000), 0);
    }

    #[test]
    fn a_few_places_serve_thousands_that_answer_at_once_and_who_hangs_has_all_in_seconds() {
        let begin = Instant::now();
        let (mut quick, mut slow) = (Queue::new(1024), Queue::new(1024));
        for server in 0..4000 {
            quick.push(wanted(0, server), begin);
            slow.push(wanted(0, server), begin);
        }
        let mut most = 0;
        for ms in (0..4000).step_by(5) {
            let now = begin + Duration::from_millis(ms);
            let started = std::iter::from_fn(|| quick.start(now)).count();
            most = most.max(started);
            (0..started).for_each(|_| quick.ended(&Name::new("b0").unwrap()));
            while slow.start(now).is_some() {}
            assert!(ms < 2500 || slow.in_flight == 512, "{} after {ms} ms", slow.in_flight);
            if slow.next_wake().is_none() {
                assert_eq!(slow.in_flight, 512, "after {ms} ms");
            }
        }
        assert!(quick.lanes.is_empty() && most <= 3 * FEW, "{most}");
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(24))]
        #[test]
        fn whatever_hangs_a_healthy_backend_keeps_its_pace(others in vec((1..900_usize, 1..20_000_u64), 1..12)) {
            prop_assert_eq!(longest_wait(&others, 256, 15_000), 0, "{:?}", others);
        }

        #[test]
        fn nothing_is_lost_started_twice_or_beyond_the_places(moves in vec((0..5_usize, any::<bool>()), 0..300)) {
            let mut queue = Queue::new(7);
            let now = Instant::now();
            let (mut pushed, mut started, mut flying) = (0, 0, Vec::new());
            for (backend, is_push) in moves {
                if is_push {
                    queue.push(wanted(backend, pushed), now);
                    pushed += 1;
                } else if !flying.is_empty() {
                    queue.ended(&flying.swap_remove(backend % flying.len()));
                }
                while let Some(one) = queue.start(now) {
                    started += 1;
                    flying.push(one.id.backend);
                }
                prop_assert!(flying.len() <= 7);
            }
            // With all places free, everything starts in the end.
            while started < pushed {
                let Some(backend) = flying.pop() else { break };
                queue.ended(&backend);
                while let Some(one) = queue.start(now) {
                    started += 1;
                    flying.push(one.id.backend);
                }
            }
            prop_assert_eq!(started, pushed);
        }
    }
}
