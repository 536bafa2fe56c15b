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
        let traffic = self.traffic.get_or_insert_with(|| Box::new(Traffic::new(now)));
        let just = traffic.record(sample, now);
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
        }
        self.forgive(now);
        self.hurry_probes(just, now);
        transition
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
        self.circuit.open(fall.outcome);
        if let Some(traffic) = &mut self.traffic {
            traffic.forget();
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
