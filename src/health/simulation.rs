//! Whole lives of servers in simulated time: the driver's contract, kept to the letter, against made-up servers.

use super::{Attention, Observation, Outcome, Phase, ProbeKind, ServerHealth, State, Transition};
use super::{HealthParams, schedule::Jitter};
use crate::model::Moment;
use proptest::prelude::{Just, Strategy, prop, prop_oneof};
use std::collections::BTreeMap;
use std::time::Duration;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn observation(kind: ProbeKind, outcome: Outcome, total: Duration) -> Observation {
    Observation::new(kind, outcome, total)
}

/// How a made-up server answers a probe that starts at a moment.
type Answer<'a> = dyn FnMut(ProbeKind, Moment) -> Observation + 'a;

/// The driver: one probe of a kind at a time, from start to start as `next_probe` says.
struct Simulation {
    health: ServerHealth,
    now: Moment,
    under_way: BTreeMap<ProbeKind, (Moment, Observation)>,
    starts: Vec<(ProbeKind, Moment)>,
    transitions: Vec<(Moment, Transition)>,
}

impl Simulation {
    fn new(params: HealthParams, seed: u64) -> Self {
        let now = Moment(Duration::from_secs(1_000_000));
        let health = ServerHealth::new(params, now, seed);
        Self { health, now, under_way: BTreeMap::new(), starts: Vec::new(), transitions: Vec::new() }
    }

    fn run(&mut self, duration: Duration, answer: &mut Answer<'_>) {
        let end = self.now + duration;
        loop {
            let kinds: Vec<_> = self.health.params.kinds().filter(|kind| !self.under_way.contains_key(kind)).collect();
            let start =
                kinds.iter().filter_map(|kind| Some((self.health.next_probe(*kind)?.max(self.now), *kind))).min();
            let result = self.under_way.iter().map(|(kind, (at, _))| (*at, *kind)).min();
            let tick = self.health.next_deadline(self.now);
            let moments = [start.map(|s| s.0), result.map(|r| r.0), tick];
            let Some(next) = moments.into_iter().flatten().min().filter(|next| *next <= end) else { break };
            self.now = next;
            let transition = if let Some((at, kind)) = result
                && at == next
            {
                let (_, observation) = self.under_way.remove(&kind).unwrap();
                self.health.observe(&observation, next)
            } else if let Some((at, kind)) = start
                && at == next
            {
                self.health.probe_started(kind, next);
                let observation = answer(kind, next);
                self.starts.push((kind, next));
                self.under_way.insert(kind, (next + observation.total, observation));
                None
            } else {
                self.health.tick(next)
            };
            self.transitions.extend(transition.map(|transition| (next, transition)));
        }
        self.now = end;
    }

    fn downs(&self) -> usize {
        self.transitions.iter().filter(|(_, transition)| transition.to.is_unhealthy()).count()
    }

    fn factor(&self) -> Option<f64> {
        self.health.factor(self.now).map(|factor| factor.value)
    }
}

fn params(interval: f64, fall: u32) -> HealthParams {
    HealthParams { interval: secs(interval), fall, cheap: vec![ProbeKind::Models], ..HealthParams::default() }
}

fn ok(kind: ProbeKind, _: Moment) -> Observation {
    observation(kind, Outcome::Ok, Duration::from_millis(1))
}

#[test]
fn a_broken_server_is_out_within_fall_times_interval_and_a_second() {
    for interval in [0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0] {
        for fall in [1, 2, 3, 5, 10] {
            let params = params(interval, fall);
            for took in [Duration::ZERO, params.cheap_timeout() / 2, params.cheap_timeout()] {
                for seed in 0..20 {
                    let mut simulation = Simulation::new(params.clone(), seed);
                    // Right after the start of a probe that still succeeds: the worst moment.
                    simulation.run(secs(interval * (3.0 + seed as f64)), &mut ok);
                    let broken = simulation.starts.last().unwrap().1;
                    let promise = secs(interval) * fall + secs(1.0);
                    simulation.run(promise * 2, &mut |kind, _| observation(kind, Outcome::Timeout(Phase::Total), took));
                    let (at, _) = simulation.transitions.iter().find(|(_, t)| t.to.is_unhealthy()).expect("never out");
                    let after = at.since(broken);
                    assert!(after <= promise, "interval {interval} fall {fall} took {took:?} seed {seed}: {after:?}");
                }
            }
        }
    }
}

#[test]
fn one_kind_that_succeeds_does_not_hide_another_that_fails() {
    let params = HealthParams { cheap: vec![ProbeKind::Models, ProbeKind::Http], ..params(1.0, 3) };
    let mut simulation = Simulation::new(params, 1);
    simulation.run(secs(10.0), &mut ok);
    simulation.run(secs(4.0), &mut |kind, now| match kind {
        ProbeKind::Models => observation(kind, Outcome::ServerError, Duration::ZERO),
        _ => ok(kind, now),
    });
    assert_eq!(simulation.health.state(), State::Unhealthy(Outcome::ServerError));
}

#[test]
fn a_broken_completion_takes_a_server_out_that_lists_its_models() {
    let params = HealthParams { deep: [(ProbeKind::Chat, secs(300.0))].into(), ..params(10.0, 3) };
    let mut simulation = Simulation::new(params, 1);
    simulation.run(secs(1_000.0), &mut ok);
    let broken = simulation.now;
    let mut no_chat = |kind, now| match kind {
        ProbeKind::Chat => observation(kind, Outcome::BadContent, secs(1.0)),
        _ => ok(kind, now),
    };
    simulation.run(secs(340.0), &mut no_chat);
    assert_eq!(simulation.health.state(), State::Unhealthy(Outcome::BadContent));
    // The cheap probes' successes do not bring it back, and a long outage does not cost more than health does.
    simulation.run(secs(86_400.0), &mut no_chat);
    assert!(simulation.health.state().is_unhealthy());
    let chats = simulation.starts.iter().filter(|(kind, at)| *kind == ProbeKind::Chat && *at > broken).count();
    assert!(chats <= 86_400 / 300 + 10, "{chats}");
    simulation.run(secs(340.0), &mut ok);
    assert!(!simulation.health.state().is_unhealthy(), "{:?}", simulation.transitions);
}

#[test]
fn a_mended_server_comes_back_by_a_ramp_that_only_rises() {
    for (interval, back_within) in [(0.2, 3.0), (1.0, 6.0), (10.0, 40.0)] {
        for seed in 0..20 {
            let mut simulation = Simulation::new(params(interval, 3), seed);
            simulation.run(secs(interval * 5.0), &mut ok);
            simulation.run(secs(interval * 4.0), &mut |kind, _| observation(kind, Outcome::Refused, Duration::ZERO));
            assert_eq!(simulation.factor(), Some(0.0));
            let mended = simulation.now;
            let mut last = 0.0;
            while simulation.health.state() != State::Healthy {
                simulation.run(secs(0.1), &mut ok);
                let factor = simulation.factor().unwrap();
                assert!(factor >= last, "the ramp fell from {last} to {factor}");
                assert!(factor - last <= 0.11, "the ramp leapt from {last} to {factor}");
                last = factor;
            }
            assert_eq!(last, 1.0);
            let (up, _) = simulation.transitions.iter().find(|(_, t)| t.to == State::Probation).unwrap();
            assert!(up.since(mended) <= secs(back_within), "interval {interval}: {:?}", up.since(mended));
            assert!(simulation.now.since(*up) >= secs(60.0));
        }
    }
}

#[test]
fn a_single_failure_in_probation_ends_it_and_the_next_hold_is_longer() {
    let mut simulation = Simulation::new(params(1.0, 3), 1);
    let mut refused = |kind, _| observation(kind, Outcome::Refused, Duration::ZERO);
    simulation.run(secs(5.0), &mut ok);
    simulation.run(secs(5.0), &mut refused);
    simulation.run(secs(20.0), &mut ok);
    assert_eq!(simulation.health.state(), State::Probation);
    simulation.run(secs(1.0), &mut refused);
    assert_eq!(simulation.health.state(), State::Unhealthy(Outcome::Refused));
    simulation.run(secs(2.9), &mut ok);
    assert!(simulation.health.state().is_unhealthy());
}

#[test]
fn a_limit_in_probation_pauses_the_ramp_but_does_not_end_it() {
    let mut simulation = Simulation::new(params(1.0, 3), 1);
    simulation.run(secs(5.0), &mut |kind, _| observation(kind, Outcome::Refused, Duration::ZERO));
    simulation.run(secs(20.0), &mut ok);
    assert_eq!(simulation.health.state(), State::Probation);
    simulation.run(secs(1.0), &mut |kind, _| observation(kind, Outcome::RateLimited, Duration::ZERO));
    let paused = simulation.factor();
    simulation.run(secs(28.0), &mut ok);
    assert_eq!((simulation.health.state(), simulation.factor()), (State::Probation, paused));
    simulation.run(secs(61.0), &mut ok);
    assert_eq!(simulation.health.state(), State::Healthy);
}

#[test]
fn a_429_lowers_the_weight_at_once_and_silences_the_probe_until_retry_after() {
    let limited = |retry_after: Option<f64>| {
        move |kind, _| Observation {
            retry_after: retry_after.map(secs),
            ..observation(kind, Outcome::RateLimited, Duration::ZERO)
        }
    };
    for (retry_after, pause) in [(None, 30.0), (Some(90.0), 90.0), (Some(1e9), 300.0)] {
        let mut simulation = Simulation::new(params(10.0, 3), 1);
        simulation.run(secs(100.0), &mut ok);
        let before = simulation.starts.len();
        simulation.run(secs(pause), &mut limited(retry_after));
        assert_eq!(simulation.starts.len(), before + 1, "{retry_after:?}");
        assert_eq!(simulation.factor(), Some(0.3));
        simulation.run(secs(10.1), &mut ok);
        assert_eq!(simulation.factor(), Some(1.0));
    }
    // A limit that only the rare deep probe meets is asked about soon, seldom, and does not flicker.
    let mut simulation =
        Simulation::new(HealthParams { deep: [(ProbeKind::Chat, secs(300.0))].into(), ..params(10.0, 3) }, 1);
    simulation.run(secs(1_000.0), &mut ok);
    simulation.run(secs(3_600.0), &mut |kind, now| match kind {
        ProbeKind::Chat => limited(None)(kind, now),
        _ => ok(kind, now),
    });
    assert_eq!((simulation.transitions.len(), simulation.factor()), (2, Some(0.3)));
    simulation.run(secs(121.0), &mut ok);
    assert_eq!(simulation.factor(), Some(1.0));
    // However long it lasts, it is never down.
    let mut simulation = Simulation::new(params(1.0, 1), 1);
    simulation.run(secs(86_400.0), &mut limited(Some(0.0)));
    assert_eq!((simulation.downs(), simulation.factor()), (0, Some(0.3)));
}

#[test]
fn the_faults_of_our_own_probe_never_touch_the_weight() {
    for outcome in [Outcome::ProbeConfig, Outcome::Dns, Outcome::SelfCaused, Outcome::Credential] {
        let mut simulation = Simulation::new(params(1.0, 1), 1);
        simulation.run(secs(5.0), &mut ok);
        simulation.run(secs(86_400.0), &mut |kind, _| observation(kind, outcome, Duration::ZERO));
        // Where we never hear anything, the weight stays what it is.
        let factor = (outcome != Outcome::SelfCaused).then_some(1.0);
        assert_eq!((simulation.downs(), simulation.factor()), (0, factor), "{outcome}");
        assert_eq!(simulation.health.attention().is_empty(), outcome == Outcome::SelfCaused, "{outcome}");
    }
}

#[test]
fn a_server_whose_only_key_is_rejected_is_out_and_its_key_is_asked_about_slowly() {
    let mut simulation = Simulation::new(HealthParams { keys: 1, ..params(10.0, 3) }, 1);
    simulation.run(secs(100.0), &mut ok);
    let mut rejected = |kind, _| observation(kind, Outcome::Credential, Duration::ZERO);
    simulation.run(secs(31.0), &mut rejected);
    assert_eq!(simulation.health.state(), State::Unhealthy(Outcome::Credential));
    let before = simulation.starts.len();
    simulation.run(secs(3_600.0), &mut rejected);
    assert!(simulation.starts.len() - before <= 60);
    simulation.run(secs(75.0), &mut ok);
    assert_eq!(simulation.health.state(), State::Probation);
}

#[test]
fn a_server_without_a_key_that_asks_for_one_is_no_server_whose_key_is_rejected() {
    for (keys, told) in [(0, Attention::KeyMissing), (1, Attention::KeyRejected), (2, Attention::KeyRejected)] {
        let mut simulation = Simulation::new(HealthParams { keys, ..params(10.0, 3) }, 1);
        simulation.run(secs(5.0), &mut |kind, _| observation(kind, Outcome::Credential, Duration::ZERO));
        assert_eq!(simulation.health.attention(), [told], "{keys} keys");
    }
}

#[test]
fn a_start_is_never_a_slow_start() {
    let mut simulation = Simulation::new(params(10.0, 3), 3);
    assert_eq!(simulation.factor(), None);
    simulation.run(secs(0.6), &mut ok);
    assert_eq!((simulation.health.state(), simulation.factor()), (State::Healthy, Some(1.0)));
}

#[test]
fn thirty_days_with_one_lost_probe_in_a_hundred_hardly_ever_take_a_server_out() {
    let mut lost = Jitter::new(1);
    let mut simulation = Simulation::new(params(10.0, 3), 1);
    simulation.run(secs(30.0 * 86_400.0), &mut |kind, now| match lost.unit() {
        unlucky if unlucky < 0.01 => observation(kind, Outcome::Timeout(Phase::Connect), secs(2.0)),
        _ => ok(kind, now),
    });
    assert!(simulation.starts.len() > 259_000);
    assert!(simulation.downs() <= 2, "{} false downs", simulation.downs());
}

#[test]
fn a_flapping_server_is_held_out() {
    let mut simulation = Simulation::new(params(1.0, 3), 1);
    let begin = simulation.now;
    // A minute up, ten seconds down, for two hours.
    simulation.run(secs(7_200.0), &mut |kind, now| match now.since(begin).as_secs() % 70 {
        0..60 => ok(kind, now),
        _ => observation(kind, Outcome::Refused, Duration::ZERO),
    });
    assert!(simulation.downs() <= 3 * 12 + 1, "{} downs", simulation.downs());
    assert!(simulation.transitions.len() <= 6 * 12 + 2, "{} transitions", simulation.transitions.len());
    // Calm lets it back.
    simulation.run(secs(1_000.0), &mut ok);
    assert_eq!(simulation.health.state(), State::Healthy);
}

/// What `fall` and `rise` mean, in ten lines; for observations so far apart that holds and ramps are over.
struct Reference {
    fails: u32,
    oks: u32,
    /// Of the failures, those that were an answer.
    answered: u32,
    down: bool,
}

impl Reference {
    fn observe(&mut self, outcome: Outcome, fall: u32, rise: u32) {
        match outcome {
            Outcome::Ok | Outcome::Slow => (self.fails, self.answered, self.oks) = (0, 0, self.oks + 1),
            Outcome::RateLimited | Outcome::Overloaded => (self.fails, self.answered) = (0, 0),
            Outcome::Credential | Outcome::ProbeConfig | Outcome::Dns | Outcome::SelfCaused => {}
            outcome => {
                let is_answer = !matches!(outcome, Outcome::Timeout(_));
                (self.fails, self.answered, self.oks) = (self.fails + 1, self.answered + u32::from(is_answer), 0);
            }
        }
        // Silence alone is confirmed once more where there is time for it: at ten seconds from three failures on.
        let fall = fall + u32::from(fall >= 3 && self.answered == 0);
        self.down = if self.down { self.oks < rise } else { self.fails >= fall };
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Ok),
        4 => Just(Outcome::ServerError),
        1 => Just(Outcome::Slow),
        1 => Just(Outcome::RateLimited),
        1 => Just(Outcome::Overloaded),
        1 => Just(Outcome::Timeout(Phase::Total)),
        1 => Just(Outcome::ProbeConfig),
        1 => Just(Outcome::Credential),
        1 => Just(Outcome::Dns),
        1 => Just(Outcome::SelfCaused),
    ]
}

proptest::proptest! {
    #[test]
    fn fall_and_rise_mean_what_ten_lines_say(
        outcomes in prop::collection::vec(any_outcome(), 0..80), fall in 1..5u32, rise in 1..4u32,
    ) {
        let mut now = Moment::default();
        let mut health = ServerHealth::new(HealthParams { rise, ..params(10.0, fall) }, now, 1);
        let mut reference = Reference { fails: 0, oks: 0, answered: 0, down: false };
        for outcome in outcomes {
            now = now + Duration::from_secs(3_600);
            while health.tick(now).is_some() {}
            health.observe(&observation(ProbeKind::Models, outcome, Duration::ZERO), now);
            reference.observe(outcome, fall, rise);
            assert_eq!(health.state().is_unhealthy(), reference.down, "{outcome} {:?}", health.snapshot(now));
        }
    }

    #[test]
    fn whatever_comes_whenever_it_comes_the_bounds_hold(
        events in prop::collection::vec((any_outcome(), 0..3usize, 0..400_000u64, 0..2_000u64), 0..120),
        fall in 1..5u32, keys in 0..3usize,
    ) {
        let kinds = [ProbeKind::Models, ProbeKind::Http, ProbeKind::Chat];
        let (cheap, deep) = (vec![ProbeKind::Models, ProbeKind::Http], [(ProbeKind::Chat, secs(300.0))].into());
        let params = HealthParams { cheap, deep, keys, ..params(10.0, fall) };
        let mut now = Moment(Duration::from_secs(5));
        let mut health = ServerHealth::new(params, now, 1);
        for (outcome, kind, later_ms, retry_after_s) in events {
            now = now + Duration::from_millis(later_ms);
            let ticked = health.tick(now);
            assert!(ticked.is_none_or(|transition| !transition.to.is_unhealthy()), "time took a server out");
            let mut observed = observation(kinds[kind], outcome, Duration::from_millis(3));
            observed.retry_after = Some(Duration::from_secs(retry_after_s));
            let transition = health.observe(&observed, now);
            if let Some(Transition { from, to, reason }) = transition {
                assert_ne!(from, to);
                assert!(!reason.is_empty());
                let may = matches!(outcome, Outcome::ServerError | Outcome::Timeout(_))
                    || (keys == 1 && outcome == Outcome::Credential && kinds[kind] != ProbeKind::Http);
                assert!(!to.is_unhealthy() || may, "{outcome} took a server out");
            }
            let factor = health.factor(now).map(|factor| factor.value);
            assert!(factor.is_none_or(|value| (0.0..=1.0).contains(&value)));
            assert_eq!(factor == Some(0.0), health.state().is_unhealthy() && !health.is_stale(now));
            assert_eq!(factor.is_none(), health.state() == State::Unknown || health.is_stale(now));
            for kind in kinds {
                assert!(health.next_probe(kind).unwrap() <= now + Duration::from_secs(300));
            }
            assert!(health.next_deadline(now).is_none_or(|deadline| deadline >= now));
            assert!(health.next_deadline(now).is_none_or(|deadline| deadline <= now + Duration::from_secs(660)));
        }
    }
}
