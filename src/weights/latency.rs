//! How quick, how successful and how busy a server is beside the others of its tier: the adaptive factors.
//!
//! Knows averages only. Called by `decide`.

use super::PoolMember;
use crate::health::{Load, Signals};
use crate::model::AdminState;
use std::time::Duration;

/// Added to every latency: differences far below it are the network's noise, not the server's worth. Without it one
/// millisecond beside three would be a factor of a third.
const NOISE: Duration = Duration::from_millis(50);
/// Servers within 20 % of the best count as equal.
const EQUAL: f64 = 0.8;
/// No server that works sinks lower: it must keep enough traffic to show that it got better.
const FLOOR: f64 = 0.02;
/// Each request in flight, at the tier's mean weight, makes an answer so much later.
const IN_FLIGHT: f64 = 0.1;
/// A yardstick succeeds nearly as often as the best: who fails fast is no reason to hold the others for slow.
const YARDSTICK: f64 = 0.9;
/// So many requests that wait for their turn are as bad as can be.
const WAITING: f64 = 5.0;
/// So much of the key-value cache in use is, too: beyond it requests are put back.
const CACHE: f64 = 0.8;

/// Which latency the servers of a tier are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    FirstByte,
    FirstToken,
    Total,
}

impl Measure {
    /// What real requests wait for says more than what a probe waits for, and that more than a list of models.
    const ALL: [Self; 3] = [Self::FirstByte, Self::FirstToken, Self::Total];

    fn of(self, signals: &Signals) -> Option<Duration> {
        match self {
            Self::FirstByte => signals.first_byte,
            Self::FirstToken => signals.first_token,
            Self::Total => signals.total,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::FirstByte => "first byte of real requests",
            Self::FirstToken => "first token",
            Self::Total => "probe",
        }
    }
}

/// The servers of a tier that take traffic, to compare with.
///
/// What all of them are compared with is found once: a pool of thousands must not cost its square.
pub(super) struct Rivals {
    tier: u8,
    mean_weight: f64,
    /// How many have each measure, in the order of [`Measure::ALL`].
    having: [usize; 3],
    best_success: f64,
    /// The shortest wait of a yardstick, by each measure; infinite where there is none.
    best_wait: [f64; 3],
    best_room: Option<f64>,
}

impl Rivals {
    /// Those of one tier.
    pub(super) fn of(tier: u8, members: &[PoolMember]) -> Self {
        let members: Vec<&PoolMember> = members.iter().filter(|m| m.tier == tier && takes_traffic(m)).collect();
        let sum: f64 = members.iter().map(|member| weight(member)).sum();
        let mean_weight = sum / (members.len().max(1) as f64);
        let having = Measure::ALL.map(|measure| members.iter().filter(|m| measure.of(&m.signals).is_some()).count());
        let best_success = members.iter().map(|member| success(member)).fold(0.0, f64::max);
        let best_room = members.iter().filter_map(|member| member.signals.load).map(room).reduce(f64::max);
        let best_wait = [f64::INFINITY; 3];
        let mut rivals = Self { tier, mean_weight, having, best_success, best_wait, best_room };
        let yardsticks: Vec<_> = members.into_iter().filter(|m| success(m) >= best_success * YARDSTICK).collect();
        let best = |measure| yardsticks.iter().filter_map(|m| rivals.wait(m, measure)).fold(f64::INFINITY, f64::min);
        rivals.best_wait = Measure::ALL.map(best);
        rivals
    }

    /// Whether `member` is one of them.
    fn has(&self, member: &PoolMember) -> bool {
        member.tier == self.tier && takes_traffic(member)
    }

    /// Requests in flight as if the server had the tier's mean weight: who has twice the weight has twice the requests,
    /// and is no busier for it. Without that, weights would chase themselves.
    fn in_flight(&self, member: &PoolMember) -> f64 {
        let weight = weight(member);
        if weight <= 0.0 {
            return 0.0;
        }
        member.signals.in_flight.unwrap_or(0.0).max(0.0) * (self.mean_weight / weight).min(10.0)
    }

    /// Seconds that a request waits there, roughly.
    fn wait(&self, member: &PoolMember, measure: Measure) -> Option<f64> {
        let latency = measure.of(&member.signals)?.as_secs_f64();
        let busy = if measure == Measure::FirstByte { 1.0 + IN_FLIGHT * self.in_flight(member) } else { 1.0 };
        Some(NOISE.as_secs_f64() + latency * busy)
    }

    /// The factor of `member`, 0.02 to 1, with one sentence on why.
    pub(super) fn factor(&self, member: &PoolMember) -> (f64, String) {
        let has = |measure: Measure| self.having[measure as usize] > 0;
        let own_and_others = |measure: &Measure| {
            measure.of(&member.signals).is_some() && self.having[*measure as usize] > usize::from(self.has(member))
        };
        // Like is compared with like; a cheap probe's time only where nobody has anything better.
        let best_measure = Measure::ALL.into_iter().find(|measure| has(*measure)).unwrap_or(Measure::Total);
        let measure = match Measure::ALL.into_iter().find(own_and_others) {
            Some(measure) if measure != Measure::Total || best_measure == Measure::Total => measure,
            _ => best_measure,
        };
        let success = success(member);
        let best_success = self.best_success.max(success);
        let succeeds = if best_success > 0.0 { success / best_success } else { 1.0 };
        let Some(own) = self.wait(member, measure) else {
            let value = if succeeds >= EQUAL { 1.0 } else { succeeds.max(FLOOR) };
            return (value, format!("no {} was measured yet, {:.0} % succeed", measure.name(), success * 100.0));
        };
        let best = self.best_wait[measure as usize];
        // Never above 1: no speed makes up for failures.
        let quick = if best.is_finite() { (best / own).min(1.0) } else { 1.0 };
        let share = quick * succeeds;
        let value = if share >= EQUAL { 1.0 } else { share.max(FLOOR) };
        let latency = measure.of(&member.signals).unwrap_or_default();
        let place = if value < 1.0 { "of the best server's worth" } else { "as good as the best" };
        let in_flight = member.signals.in_flight.filter(|_| measure == Measure::FirstByte);
        let in_flight = in_flight.map(|n| format!(", {n:.1} in flight")).unwrap_or_default();
        let why = format!(
            "{} {} ms{in_flight}, {:.0} % succeed: {:.0} % {place}",
            measure.name(),
            latency.as_millis(),
            success * 100.0,
            share * 100.0
        );
        (value, why)
    }

    /// The factor of `member` by the load that it tells, beside the least loaded, 0.02 to 1; `None` where it tells none.
    pub(super) fn queue(&self, member: &PoolMember) -> Option<(f64, String)> {
        let load = member.signals.load?;
        let best = self.best_room.unwrap_or(0.0).max(room(load));
        let value = (room(load) / best).clamp(FLOOR, 1.0);
        let cache = load.cache.map(|cache| format!(", {:.0} % of its cache in use", cache * 100.0)).unwrap_or_default();
        let why =
            format!("{:.1} requests wait{cache}: {:.0} % of the room of the least busy", load.waiting, value * 100.0);
        Some((value, why))
    }
}

/// What is left of a server beside its queue and its cache.
fn room(load: Load) -> f64 {
    let cache = load.cache.unwrap_or(0.0) / CACHE;
    (1.0 - (load.waiting / WAITING).max(cache)).clamp(FLOOR, 1.0)
}

fn weight(member: &PoolMember) -> f64 {
    let runs = member.pinned.or(member.runs).unwrap_or(member.base);
    f64::from(runs.get())
}

fn success(member: &PoolMember) -> f64 {
    member.signals.success.unwrap_or(1.0)
}

pub(super) fn takes_traffic(member: &PoolMember) -> bool {
    member.admin == AdminState::Ready
        && member.base.get() > 0
        && member.health.as_ref().is_none_or(|health| health.value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;

    fn member(name: usize, signals: Signals) -> PoolMember {
        PoolMember {
            id: format!("chat/s{name}").parse().unwrap(),
            base: Weight::DEFAULT,
            pinned: None,
            admin: AdminState::Ready,
            tier: 1,
            health: None,
            signals,
            runs: None,
            decided_with: None,
        }
    }

    fn factors(signals: &[Signals]) -> Vec<f64> {
        let members: Vec<_> = signals.iter().enumerate().map(|(i, signals)| member(i, *signals)).collect();
        let rivals = Rivals::of(1, &members);
        members.iter().map(|m| (rivals.factor(m).0 * 100.0).round() / 100.0).collect()
    }

    fn check(latencies: &[(Option<u64>, Option<u64>)], expected: &[f64]) {
        let ms = |ms: &Option<u64>| ms.map(Duration::from_millis);
        let of = |(first_token, total): &(Option<u64>, Option<u64>)| Signals {
            first_token: ms(first_token),
            total: ms(total),
            ..Signals::default()
        };
        let signals: Vec<_> = latencies.iter().map(of).collect();
        assert_eq!(factors(&signals), expected, "{latencies:?}");
    }

    #[test]
    fn the_best_and_its_equals_have_one_and_the_others_their_share() {
        check(&[(None, Some(100)), (None, Some(115)), (None, Some(250))], &[1.0, 1.0, 0.5]);
        check(&[(Some(500), Some(9)), (Some(2_150), Some(1))], &[1.0, 0.25]);
    }

    #[test]
    fn noise_is_no_difference_and_nobody_sinks_below_the_floor() {
        check(&[(None, Some(1)), (None, Some(9))], &[1.0, 1.0]);
        check(&[(None, Some(10)), (None, Some(60_000))], &[1.0, 0.02]);
    }

    #[test]
    fn what_was_not_measured_is_not_held_against_anybody() {
        check(&[(None, None), (None, None)], &[1.0, 1.0]);
        check(&[(Some(200), Some(1)), (None, Some(1_000))], &[1.0, 1.0]);
    }

    fn live(first_byte_ms: u64, success: f64, in_flight: f64) -> Signals {
        Signals {
            first_byte: Some(Duration::from_millis(first_byte_ms)),
            first_token: Some(Duration::from_millis(1_000)),
            success: Some(success),
            in_flight: Some(in_flight),
            ..Signals::default()
        }
    }

    #[test]
    fn real_requests_say_more_than_probes() {
        assert_eq!(factors(&[live(450, 1.0, 0.0), live(1_950, 1.0, 0.0)]), [1.0, 0.25]);
        let probed = Signals { first_byte: None, ..live(0, 1.0, 0.0) };
        assert_eq!(factors(&[live(450, 1.0, 0.0), probed]), [1.0, 1.0], "both have the same first token");
    }

    #[test]
    fn who_fails_fast_attracts_nothing_and_makes_nobody_slow() {
        assert_eq!(factors(&[live(10, 0.5, 0.0), live(950, 1.0, 0.0), live(950, 1.0, 0.0)]), [0.5, 1.0, 1.0]);
        assert_eq!(factors(&[live(10, 0.0, 0.0), live(950, 1.0, 0.0)]), [0.02, 1.0]);
    }

    #[test]
    fn requests_pile_up_at_the_slower_one_and_twice_the_weight_is_not_twice_as_busy() {
        assert_eq!(factors(&[live(950, 1.0, 5.0), live(950, 1.0, 30.0)]), [1.0, 0.38]);
        let runs = |weight, member| PoolMember { runs: Some(Weight::clamped(weight)), ..member };
        let members = [runs(100.0, member(0, live(950, 1.0, 20.0))), runs(50.0, member(1, live(950, 1.0, 10.0)))];
        let rivals = Rivals::of(1, &members);
        assert_eq!((rivals.factor(&members[0]).0, rivals.factor(&members[1]).0), (1.0, 1.0));
    }

    #[test]
    fn a_queue_or_a_full_cache_takes_weight_from_who_has_it() {
        let busy = |waiting, cache| Signals { load: Some(Load { waiting, cache }), ..Signals::default() };
        for (other, expected) in [(busy(2.5, None), 0.5), (busy(9.0, None), 0.02), (busy(0.0, Some(0.4)), 0.5)] {
            let members = [member(0, busy(0.0, Some(0.0))), member(1, other)];
            let rivals = Rivals::of(1, &members);
            assert_eq!(rivals.queue(&members[1]).unwrap().0, expected);
            assert_eq!(rivals.queue(&members[0]).unwrap().0, 1.0);
        }
        // All as busy as the others: nobody has less than it would have had.
        let members = [member(0, busy(5.0, None)), member(1, busy(7.0, None))];
        assert_eq!(Rivals::of(1, &members).queue(&members[1]).unwrap().0, 1.0);
    }
}
