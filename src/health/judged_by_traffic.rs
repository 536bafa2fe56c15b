//! What real requests make of a server's health, beside its probes.
//!
//! Pure: time is handed in. Called by `agent` with a sample of each server that has traffic, some five a second.

use super::circuit::{CircuitPhase, Trickle};
use super::server::{STALE, ServerHealth};
use super::state::Signal;
use super::traffic::{Fall, Traffic};
use super::window::Tally;
use super::{LiveSample, Outcome, ProbeKind, State, Transition};
use crate::model::Moment;
use std::time::Duration;

/// Failures in a row that end a ramp: fewer than open a closed circuit, and more than one, since among hundreds of
/// requests one fails at any server.
const RAMP_FALL: u32 = 3;
/// A server that has worked for so long under real traffic begins with the first hold again. Longer than the longest
/// hold, or a server that works for a minute in ten would be forgiven each time.
const FORGIVEN_AFTER: Duration = Duration::from_secs(300);
/// A cheap probe that traffic asks for starts no sooner after the one before.
const CHEAP_SPACING: Duration = Duration::from_secs(2);
/// Likewise a deep one; it doubles with each that traffic asked for in vain.
const DEEP_SPACING: Duration = Duration::from_secs(30);

impl ServerHealth {
    /// Takes in what the requests of clients have told since the last sample.
    ///
    /// Their own mistakes and aborts are neutral. Failures open the circuit: `HealthParams::circuit` of them in a row,
    /// or surely more than half of at least 20 in a minute.
    pub fn live(&mut self, sample: &LiveSample, now: Moment) -> Option<Transition> {
        if self.traffic.is_none() && sample.is_empty() && sample.in_flight == 0 {
            return None;
        }
        let explained = self.explained(sample, now);
        let traffic = self.traffic.get_or_insert_with(|| Box::new(Traffic::new(now)));
        let just = traffic.record(explained.as_ref().unwrap_or(sample), now);
        let pause = traffic.pause(now);
        if just.told() > 0 {
            self.fresh_for(STALE, now);
        }
        let transition = match self.state {
            State::Unhealthy(_) => None,
            State::Probation => self.judge_probation(just, sample.in_flight, now),
            State::Unknown | State::Healthy | State::Degraded(_) => self.judge(just, now),
        };
        if let Some(until) = pause {
            // The end of the silence is the moment for the next question: its answer decides.
            for line in self.lines.values_mut() {
                line.schedule.pause_until(until);
                line.schedule.cap_due(until);
            }
            self.ramp.pause(now, until);
        }
        self.forgive(now);
        self.hurry_probes(just, now);
        transition
    }

    /// Until when it stays out although it might work: to the end of its hold, and of the silence that it asked for.
    pub(super) fn held_until(&self) -> Moment {
        let asked = self.lines.values().filter_map(|line| line.evidence.limited_until).max();
        let paused = self.traffic.as_ref().and_then(|traffic| traffic.last_pause());
        self.swings.flapping_until().max(asked).max(paused).unwrap_or_default().max(self.hold_until)
    }

    /// What a retry hid has no class of its own. Where a probe was just told "too much", that was it: the server is alive,
    /// and what it asked of the probe it asks of everybody.
    fn explained(&self, sample: &LiveSample, now: Moment) -> Option<LiveSample> {
        let is_limited = self.lines.values().any(|line| line.evidence.limits > 0);
        (sample.hidden > 0 && is_limited).then(|| {
            let asked = self.lines.values().filter_map(|line| line.evidence.limit_left(now)).max();
            sample.explained(Outcome::RateLimited, asked)
        })
    }

    /// Whether real requests that come in spite of the verdict (a guard holds the server in) fail at it right now.
    pub(super) fn is_proven_dead(&self, now: Moment) -> bool {
        let fails = |traffic: &Traffic| traffic.fall(self.params.circuit, now).is_some();
        self.state.is_unhealthy() && self.traffic.as_deref().is_some_and(fails)
    }

    fn judge(&mut self, just: Tally, now: Moment) -> Option<Transition> {
        if let Some(fall) = self.fall(self.params.circuit, now) {
            return self.open(&fall, now);
        }
        let signal = match self.signal(None, now) {
            Signal::Quiet if just.successes > 0 => Signal::Fine,
            signal => signal,
        };
        self.go(signal, now, "real requests succeed")
    }

    fn judge_probation(&mut self, just: Tally, in_flight: u32, now: Moment) -> Option<Transition> {
        if self.circuit.phase != CircuitPhase::HalfOpen {
            let fall = self.fall(RAMP_FALL.min(self.params.circuit), now)?;
            return self.open(&fall, now);
        }
        match self.circuit.trickled(just, in_flight, now) {
            Trickle::Failed => {
                let seen = self.traffic.as_ref().and_then(|traffic| traffic.fall(1, now)).map(|fall| fall.outcome);
                let by_key = if just.failures == 0 { Outcome::Credential } else { Outcome::ServerError };
                let why = "a real request of the trickle failed".to_owned();
                self.open(&Fall { outcome: seen.unwrap_or(by_key), why }, now)
            }
            Trickle::Proven => {
                self.begin_ramp(now);
                None
            }
            Trickle::Open => None,
        }
    }

    fn fall(&self, threshold: u32, now: Moment) -> Option<Fall> {
        let traffic = self.traffic.as_ref()?;
        let by_key = || traffic.rejection(now).filter(|_| self.params.lives_by_one_key());
        traffic.fall(threshold, now).or_else(by_key)
    }

    fn open(&mut self, fall: &Fall, now: Moment) -> Option<Transition> {
        self.circuit.open(fall.outcome == Outcome::Credential);
        if let Some(traffic) = &mut self.traffic {
            traffic.forget();
            traffic.fell_at = Some(now);
        }
        let why = format!("circuit open: {}", fall.why);
        self.go(Signal::Fell(fall.outcome), now, &why)
    }

    /// Only real traffic makes the next hold a first one again.
    fn forgive(&mut self, now: Moment) {
        let is_proven = self.traffic.as_ref().is_some_and(|traffic| traffic.proves_health(now));
        if is_proven && self.state == State::Healthy && now.since(self.since) >= FORGIVEN_AFTER {
            self.swings.forgive(now);
            self.circuit.openings = 0;
        }
    }

    /// Lets probes look at once where requests fail, and deep ones rest where requests prove that all is well.
    fn hurry_probes(&mut self, just: Tally, now: Moment) {
        let Some(traffic) = &self.traffic else { return };
        let (is_suspect, is_proven) = (traffic.is_suspect(), traffic.proves_health(now));
        let is_out = self.state.is_unhealthy();
        for kind in ProbeKind::ALL.into_iter().filter(|kind| kind.decides()) {
            let gap = self.routine_gap(kind);
            let Some(line) = self.lines.get_mut(&kind) else { continue };
            if kind.is_deep() {
                if is_proven && !line.evidence.is_suspect() {
                    line.hurried = 0;
                    // Only now and then: each move of the date is work for who waits for it.
                    if line.schedule.next().since(now) < gap / 2 {
                        line.schedule.set_due(now + gap);
                    }
                } else if (is_suspect || just.hidden > 0) && just.failures > 0 && !is_out {
                    let spacing = DEEP_SPACING.saturating_mul(1 << line.hurried.min(10)).min(gap);
                    if line.schedule.hurry(spacing, now) {
                        line.hurried = line.hurried.saturating_add(1);
                    }
                }
            } else if just.failures > 0 && !is_out {
                // One failure among many successes is worth half an interval, a row of them two seconds.
                let spacing = if is_suspect || !is_proven { CHEAP_SPACING.min(gap) } else { gap / 2 };
                line.schedule.hurry(spacing, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Jitter;
    use super::super::{CircuitPhase, Degradation, FactorName, HealthParams, Keyless, Observation};
    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment(Duration::from_secs_f64(10_000.0 + seconds))
    }

    fn sample(outcomes: &[(Outcome, u32)]) -> LiveSample {
        LiveSample { outcomes: outcomes.iter().copied().collect(), ..LiveSample::default() }
    }

    /// A healthy server with a free probe and a key.
    fn server() -> ServerHealth {
        let params = HealthParams { cheap: vec![ProbeKind::Models], keys: 1, ..HealthParams::default() };
        let mut health = ServerHealth::new(params, at(0.0), 1);
        probe_ok(&mut health, at(0.1));
        health
    }

    fn probe_ok(health: &mut ServerHealth, now: Moment) {
        health.observe(&Observation::new(ProbeKind::Models, Outcome::Ok, Duration::from_millis(5)), now);
    }

    fn feed(health: &mut ServerHealth, from: f64, samples: usize, outcomes: &[(Outcome, u32)]) -> f64 {
        for step in 0..samples {
            health.live(&sample(outcomes), at(from + step as f64 * 0.2));
        }
        from + samples as f64 * 0.2
    }

    #[test]
    fn five_failures_in_a_row_open_the_circuit_and_four_with_a_success_between_do_not() {
        for failure in [Outcome::ServerError, Outcome::Timeout(super::super::Phase::FirstToken), Outcome::Reset] {
            let mut health = server();
            let now = feed(&mut health, 1.0, 4, &[(failure, 1)]);
            let now = feed(&mut health, now, 1, &[(Outcome::Ok, 1)]);
            let now = feed(&mut health, now, 4, &[(failure, 1)]);
            assert_eq!(health.state(), State::Healthy);
            feed(&mut health, now, 1, &[(failure, 1)]);
            assert_eq!(health.state(), State::Unhealthy(failure));
            let circuit = health.snapshot(at(now)).circuit.expect("it opened");
            assert_eq!((circuit.phase, circuit.openings), (CircuitPhase::Open, 1));
        }
    }

    #[test]
    fn whether_it_answers_now_is_told_by_the_newest_requests_and_else_by_probes() {
        let new =
            ServerHealth::new(HealthParams { cheap: vec![ProbeKind::Models], ..HealthParams::default() }, at(0.0), 1);
        assert_eq!(new.answers(at(0.0)), None);
        let mut health = server();
        assert_eq!(health.answers(at(1.0)), Some(true));
        health.observe(&Observation::new(ProbeKind::Models, Outcome::Refused, Duration::ZERO), at(2.0));
        assert_eq!(health.answers(at(2.0)), Some(false), "one failure is the newest word");
        let now = feed(&mut health, 3.0, 10, &[(Outcome::Ok, 2)]);
        assert_eq!(health.answers(at(now)), Some(true), "requests know better");
        assert_eq!(health.answers(at(now + 20.0)), Some(false), "they are long ago, and the probe's word stands");
        probe_ok(&mut health, at(30.0));
        // The circuit opens: what it forgets stays known here.
        let now = feed(&mut health, 31.0, 5, &[(Outcome::ServerError, 1)]);
        assert!(health.state().is_unhealthy());
        assert_eq!(health.answers(at(now)), Some(false), "the probe's success is older");
        probe_ok(&mut health, at(40.0));
        assert_eq!(health.answers(at(60.0)), Some(true), "held out, and it answers");
        assert!(health.state().is_unhealthy());
        let now = feed(&mut health, 61.0, 2, &[(Outcome::ServerError, 1)]);
        assert_eq!(health.answers(at(now)), Some(false));
        let now = feed(&mut health, now, 5, &[(Outcome::Ok, 1)]);
        assert_eq!(health.answers(at(now)), Some(true));
    }

    #[test]
    fn failures_that_another_server_shares_weigh_a_quarter_and_no_success_forgives_them_later() {
        let shared = |told: u32| {
            let mut sample = sample(&[(Outcome::ServerError, told)]);
            sample.shared = 1;
            sample
        };
        for told in [1, 0] {
            let mut health = server();
            for step in 0..15 {
                // Told at once; or first by the counters alone, and explained by the line.
                if told == 0 {
                    health.live(&sample(&[(Outcome::ServerError, 1)]), at(1.0 + f64::from(step)));
                }
                health.live(&shared(told), at(1.1 + f64::from(step)));
            }
            assert_eq!(health.state(), State::Healthy, "{told}");
            for _ in 0..4 {
                health.live(&sample(&[(Outcome::ServerError, 1)]), at(21.0));
            }
            assert!(health.state().is_unhealthy(), "{told}");
        }
    }

    #[test]
    fn hidden_failures_of_a_server_whose_probe_met_a_limit_are_that_limit() {
        let mut health = server();
        health.observe(&Observation::new(ProbeKind::Models, Outcome::RateLimited, Duration::ZERO), at(2.0));
        for step in 0..50 {
            health.live(&LiveSample { hidden: 2, ..LiveSample::default() }, at(2.0 + f64::from(step) * 0.2));
        }
        assert_eq!(health.state(), State::Degraded(Degradation::RateLimited));
        assert_eq!(health.factor_value(at(12.0)), Some(0.0), "it asked the probe for silence, and gets it of all");
        // The limit is over, the failures are not.
        probe_ok(&mut health, at(13.0));
        health.live(&LiveSample { hidden: 5, ..LiveSample::default() }, at(13.2));
        assert!(health.state().is_unhealthy());
    }

    #[test]
    fn a_circuit_stays_open_as_long_as_the_server_asked_for_silence() {
        let mut health = server();
        health.live(&LiveSample { hidden: 5, ..LiveSample::default() }, at(2.0));
        assert!(health.state().is_unhealthy());
        let asked = Some(Duration::from_secs(40));
        let limited = Observation::new(ProbeKind::Models, Outcome::RateLimited, Duration::ZERO);
        health.observe(&Observation { retry_after: asked, ..limited }, at(3.0));
        for second in 4..43 {
            health.tick(at(f64::from(second)));
            assert!(health.state().is_unhealthy(), "{second}");
        }
        health.tick(at(43.1));
        assert_eq!(health.state(), State::Probation);
    }

    #[test]
    fn hidden_failures_count_and_make_the_free_probe_ask_at_once() {
        let mut health = server();
        health.probe_started(ProbeKind::Models, at(1.0));
        let hidden = |hidden| LiveSample { hidden, ..LiveSample::default() };
        health.live(&hidden(1), at(5.0));
        assert!(health.next_probe(ProbeKind::Models).is_some_and(|next| next <= at(5.0)));
        let transition = health.live(&hidden(4), at(5.2)).expect("out");
        assert!(transition.to.is_unhealthy() && transition.reason.contains("repeated elsewhere"), "{transition:?}");
    }

    #[test]
    fn mistakes_and_aborts_of_clients_never_touch_it() {
        let mut health = server();
        feed(&mut health, 1.0, 1_000, &[(Outcome::ProbeConfig, 3), (Outcome::SelfCaused, 3)]);
        assert_eq!((health.state(), health.factor_value(at(1.0))), (State::Healthy, Some(1.0)));
    }

    #[test]
    fn probes_that_succeed_do_not_close_it_a_trickle_does_and_its_first_failure_doubles_the_hold() {
        let mut health = server();
        let mut now = feed(&mut health, 1.0, 5, &[(Outcome::ServerError, 1)]);
        let mut holds = Vec::new();
        for _ in 0..2 {
            let begun = now;
            while health.state() != State::Probation {
                now += 0.2;
                probe_ok(&mut health, at(now));
                health.tick(at(now));
            }
            holds.push(now - begun);
            assert_eq!(health.factor_value(at(now)), Some(0.1));
            now = feed(&mut health, now, 1, &[(Outcome::Ok, 3), (Outcome::ServerError, 1)]);
            assert!(health.state().is_unhealthy());
        }
        for (hold, expected) in holds.iter().zip([15.0, 30.0]) {
            assert!((expected * 0.79..expected * 1.23).contains(hold), "{holds:?}");
        }
    }

    #[test]
    fn five_successes_of_the_trickle_begin_the_ramp_and_so_does_half_a_minute_without_requests() {
        for has_traffic in [true, false] {
            let mut health = server();
            let mut now = feed(&mut health, 1.0, 5, &[(Outcome::ServerError, 1)]);
            while health.state() != State::Probation {
                now += 1.0;
                probe_ok(&mut health, at(now));
                health.tick(at(now));
            }
            if has_traffic {
                now = feed(&mut health, now, 5, &[(Outcome::Ok, 1)]);
            } else {
                now += 31.0;
                probe_ok(&mut health, at(now));
                health.tick(at(now));
            }
            for _ in 0..80 {
                now += 1.0;
                probe_ok(&mut health, at(now));
                health.tick(at(now));
            }
            assert_eq!((health.state(), health.factor_value(at(now))), (State::Healthy, Some(1.0)));
        }
    }

    #[test]
    fn more_than_a_tenth_of_failures_halves_it_and_more_than_half_takes_it_out() {
        let mut health = server();
        let mixed = [(Outcome::Ok, 8), (Outcome::ServerError, 2)];
        feed(&mut health, 1.0, 30, &mixed);
        assert_eq!(health.state(), State::Degraded(Degradation::Errors));
        assert_eq!(health.factor_value(at(7.0)), Some(0.5));
        let mut health = server();
        feed(&mut health, 1.0, 30, &[(Outcome::Ok, 1), (Outcome::ServerError, 3)]);
        assert_eq!(health.state(), State::Unhealthy(Outcome::ServerError));
    }

    #[test]
    fn a_pause_that_the_server_asked_for_is_honoured_to_the_second_and_the_next_answer_ends_it() {
        let mut health = server();
        let asked = LiveSample { retry_after: Some(Duration::from_secs(7)), ..sample(&[(Outcome::RateLimited, 1)]) };
        health.live(&asked, at(1.0));
        assert_eq!(health.state(), State::Degraded(Degradation::RateLimited));
        assert_eq!((health.factor_value(at(7.9)), health.factor_value(at(8.1))), (Some(0.0), Some(0.3)));
        assert_eq!(health.next_probe(ProbeKind::Models), Some(at(8.0)));
        health.live(&sample(&[(Outcome::Ok, 1)]), at(8.2));
        assert_eq!(health.factor_value(at(8.2)), Some(1.0));
    }

    #[test]
    fn a_pause_holds_in_probation_too_and_the_ramp_waits_for_its_end() {
        let mut health = server();
        let mut now = feed(&mut health, 1.0, 5, &[(Outcome::ServerError, 1)]);
        while health.state() != State::Probation
            || health.share(at(now)).is_none_or(|(name, _)| name != FactorName::Probation)
        {
            now += 0.2;
            probe_ok(&mut health, at(now));
            health.tick(at(now));
            if health.state() == State::Probation {
                health.live(&sample(&[(Outcome::Ok, 1)]), at(now));
            }
        }
        let before = health.factor_value(at(now + 20.0)).expect("known");
        for hidden in [false, true] {
            now = feed(&mut health, now + 15.0, 1, &[(Outcome::Ok, 1)]);
            let limited = [(Outcome::RateLimited, 2)].into();
            let asked = LiveSample { retry_after: Some(Duration::from_secs(20)), ..LiveSample::default() };
            health.live(
                &if hidden {
                    LiveSample { repeated: limited, ..asked }
                } else {
                    LiveSample { outcomes: limited, ..asked }
                },
                at(now),
            );
            assert_eq!(health.factor_value(at(now + 19.5)), Some(0.0), "{hidden}");
            assert_eq!(health.state(), State::Probation, "{hidden}");
            let after = health.factor_value(at(now + 20.5)).expect("known");
            assert!(after > 0.1 && after <= before + 0.3, "{hidden}: {after}");
            now += 21.0;
        }
    }

    #[test]
    fn a_key_that_clients_find_rejected_takes_the_server_out_only_where_it_is_the_only_one() {
        for (keys, expected) in [(0, false), (1, true), (2, false)] {
            let mut health = server();
            let params = HealthParams { keys, ..health.params().clone() };
            health.reconfigure(params, at(0.5));
            feed(&mut health, 1.0, 30, &[(Outcome::Ok, 1), (Outcome::Credential, 2)]);
            assert_eq!(health.state() == State::Unhealthy(Outcome::Credential), expected, "{keys} keys");
        }
    }

    #[test]
    fn failures_of_unknown_class_speak_for_the_server_where_the_minute_before_knew_none() {
        for (successes, failures_before, needed) in [(5, 0, 2), (4, 0, 5), (50, 1, 5)] {
            let (mut health, hidden) = (server(), LiveSample { hidden: 1, ..LiveSample::default() });
            if failures_before > 0 {
                health.live(&hidden, at(1.0));
            }
            health.live(&sample(&[(Outcome::Ok, successes)]), at(2.0));
            let mut run = 0;
            while !health.state().is_unhealthy() {
                run += 1;
                health.live(&hidden, at(2.0 + f64::from(run) * 0.1));
            }
            assert_eq!(run, needed, "{successes} {failures_before}");
        }
    }

    #[test]
    fn a_key_that_requests_find_rejected_is_tried_again_after_seconds_and_a_new_key_at_once() {
        for is_renewed in [false, true] {
            let mut health = server();
            let params = HealthParams { interval: Duration::from_secs(1), rise: 2, ..health.params().clone() };
            health.reconfigure(params, at(0.5));
            let begun = feed(&mut health, 1.0, 2, &[(Outcome::Credential, 1)]);
            assert_eq!(health.state(), State::Unhealthy(Outcome::Credential));
            if is_renewed {
                health.probe_soon(at(begun));
            }
            let mut now = begun;
            while health.state() != State::Probation {
                now += 0.2;
                probe_ok(&mut health, at(now));
                health.tick(at(now));
            }
            let expected = if is_renewed { 0.1..1.0 } else { 15.0 * 0.79..15.0 * 1.23 };
            assert!(expected.contains(&(now - begun)), "{} s", now - begun);
        }
    }

    #[test]
    fn without_a_usable_key_it_takes_nothing_until_told_otherwise() {
        let mut health = server();
        health.set_keyless(Some(Keyless { until: Some(at(100.0)), why: "both keys were rejected".into() }));
        let factor = health.factor(at(40.0)).expect("known");
        assert_eq!((factor.name, factor.value), (FactorName::Keys, 0.0));
        assert_eq!(factor.why, "no usable key: both keys were rejected; in 60 s again");
        health.set_keyless(None);
        assert_eq!(health.factor_value(at(40.0)), Some(1.0));
    }

    #[test]
    fn deep_probes_rest_while_real_requests_prove_health() {
        let deep = [(ProbeKind::Chat, Duration::from_secs(300))].into();
        let params = HealthParams { deep, ..HealthParams::default() };
        let mut health = ServerHealth::new(params, at(0.0), 1);
        health.probe_started(ProbeKind::Chat, at(0.0));
        health.observe(&Observation::new(ProbeKind::Chat, Outcome::Ok, Duration::from_secs(1)), at(1.0));
        for second in 0..3_600 {
            health.live(&sample(&[(Outcome::Ok, 2)]), at(1.0 + f64::from(second)));
            let next = health.next_probe(ProbeKind::Chat).expect("it runs");
            assert!(second < 10 || next > at(f64::from(second) + 2.0), "{second}");
        }
        assert!(health.next_probe(ProbeKind::Chat).is_some_and(|next| next <= at(3_600.0 + 301.0)));
        health.live(&sample(&[(Outcome::ServerError, 2)]), at(3_601.0));
        assert!(health.next_probe(ProbeKind::Chat).is_some_and(|next| next <= at(3_601.0)));
    }

    /// When a run opens the circuit, in ten lines; for requests that never reach twenty in a minute.
    #[test]
    fn a_run_of_failures_means_what_ten_lines_say() {
        let mut dice = Jitter::new(3);
        for _ in 0..300 {
            let (mut health, mut run, mut now) = (server(), 0, 1.0);
            for _ in 0..60 {
                now += 7.0;
                probe_ok(&mut health, at(now));
                let outcome = match (dice.unit() * 8.0) as u32 {
                    0 => Outcome::Ok,
                    1 => Outcome::ProbeConfig,
                    2 => Outcome::SelfCaused,
                    _ => Outcome::ServerError,
                };
                health.live(&sample(&[(outcome, 1)]), at(now));
                match outcome {
                    Outcome::Ok => run = 0,
                    Outcome::ServerError => run += 1,
                    _ => {}
                }
                assert_eq!(health.state().is_unhealthy(), run >= 5, "{run}");
                if run >= 5 {
                    break;
                }
            }
        }
    }
}
