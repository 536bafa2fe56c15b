//! The health of one server: what its probes told, put together into one state.
//!
//! Pure: time is handed in. Refuses to know who probes, how, and what a weight is. Called by `agent` (the driver of
//! the probes) and, through [`ServerHealth::factor`] and [`ServerHealth::signals`], by `weights`.
//!
//! **Contract with the driver.** It starts a probe of a kind as soon as [`next_probe`](ServerHealth::next_probe) has
//! come and none of that kind is under way, announces it with [`probe_started`](ServerHealth::probe_started), ends it
//! within [`HealthParams::cheap_timeout`] (or the deep probe's own deadline) and hands the result to
//! [`observe`](ServerHealth::observe) at once. Gaps are counted from start to start: a probe that hangs does not
//! delay the next. In maint it starts none. It calls [`tick`](ServerHealth::tick) at
//! [`next_deadline`](ServerHealth::next_deadline). Kept so, a server that breaks is unhealthy after
//! `fall × interval + 0.7 s` at the latest, unless it had asked for silence by a 429.

use super::evidence::{Counted, Evidence};
use super::schedule::{Jitter, Schedule};
use super::state::Signal;
use super::swings::Swings;
use super::{Degradation, Factor, HealthParams, Observation, Outcome, ProbeKind, Signals, State, Transition};
use crate::model::{Moment, format_duration};
use std::collections::BTreeMap;
use std::time::Duration;

/// The first cheap probes of a start spread over this, so that many servers are not asked in one instant.
const FIRST_CHEAP: Duration = Duration::from_millis(500);
/// Likewise the first deep ones.
const FIRST_DEEP: Duration = Duration::from_secs(2);
/// Where probation begins.
const RAMP_FLOOR: f64 = 0.1;
/// During probation the factor moves; who follows it looks this often.
const RAMP_STEP: Duration = Duration::from_secs(1);

/// Probes of one kind: what they told and when the next is due.
#[derive(Clone, Debug)]
struct Line {
    evidence: Evidence,
    schedule: Schedule,
}

/// Progress through probation; stands still while the server asks for less.
#[derive(Clone, Copy, Debug, Default)]
struct Ramp {
    done: Duration,
    from: Moment,
}

impl Ramp {
    fn elapsed(self, now: Moment) -> Duration {
        self.done + now.since(self.from)
    }

    fn pause(&mut self, now: Moment, until: Moment) {
        *self = Self { done: self.elapsed(now), from: self.from.max(until) };
    }
}

/// The health of one server.
#[derive(Clone, Debug)]
pub struct ServerHealth {
    pub(super) params: HealthParams,
    pub(super) state: State,
    pub(super) since: Moment,
    pub(super) reason: String,
    lines: BTreeMap<ProbeKind, Line>,
    pub(super) swings: Swings,
    hold_until: Moment,
    ramp: Ramp,
    jitter: Jitter,
}

impl ServerHealth {
    /// A server of which nothing is known. `seed` spreads its probes: give each server its own.
    pub fn new(params: HealthParams, now: Moment, seed: u64) -> Self {
        let mut health = Self {
            params: HealthParams::default(),
            state: State::Unknown,
            since: now,
            reason: "no probe has said anything yet".into(),
            lines: BTreeMap::new(),
            swings: Swings::default(),
            hold_until: now,
            ramp: Ramp::default(),
            jitter: Jitter::new(seed),
        };
        health.reconfigure(params, now);
        health
    }

    /// The operator's choices.
    pub fn params(&self) -> &HealthParams {
        &self.params
    }

    /// Takes over changed choices. State and counts stay; kinds that no longer run are forgotten, with the trouble
    /// that they saw.
    pub fn reconfigure(&mut self, params: HealthParams, now: Moment) {
        self.lines.retain(|kind, _| params.kinds().any(|runs| runs == *kind));
        for kind in params.kinds() {
            let due = now + self.jitter.spread(if kind.is_deep() { FIRST_DEEP } else { FIRST_CHEAP }, 0.0, 1.0);
            self.lines
                .entry(kind)
                .or_insert_with(|| Line { evidence: Evidence::new(kind, &params), schedule: Schedule::new(due) })
                .schedule
                .cap_due(now + params.routine_gap(kind));
        }
        self.params = params;
    }

    /// Asks again soon: the operator changed something (a new key, `server ready`), or this node became MASTER.
    pub fn probe_soon(&mut self, now: Moment) {
        for line in self.lines.values_mut() {
            line.evidence.rejections = 0;
            line.schedule.set_due(now);
        }
    }

    /// A probe of this kind starts now.
    pub fn probe_started(&mut self, kind: ProbeKind, now: Moment) {
        let gap = self.jitter.spread(self.params.routine_gap(kind), 0.9, 1.0);
        if let Some(line) = self.lines.get_mut(&kind) {
            line.schedule.start(now, gap);
        }
    }

    /// When the next probe of this kind is to start, in the past: at once; `None`: this kind does not run.
    pub fn next_probe(&self, kind: ProbeKind) -> Option<Moment> {
        self.lines.get(&kind).map(|line| line.schedule.next())
    }

    /// Takes in a result. A kind that does not run (any more) is ignored.
    pub fn observe(&mut self, observation: &Observation, now: Moment) -> Option<Transition> {
        let kind = observation.kind;
        let line = self.lines.get_mut(&kind)?;
        let begun = line.schedule.end(now, observation.total);
        let counted = line.evidence.record(observation, now);
        if let Some(pause) = Evidence::pause(observation) {
            line.schedule.pause_until(now + pause);
            self.ramp.pause(now, now + pause);
        }
        let signal = self.signal(Some((observation, counted)), now);
        let transition = self.go(signal, now, Some(observation));
        let gap = self.gap(kind);
        if let Some(line) = self.lines.get_mut(&kind) {
            line.schedule.set_due(begun + gap);
        }
        transition
    }

    /// Lets time pass: holds, probation and forgotten limits end.
    pub fn tick(&mut self, now: Moment) -> Option<Transition> {
        let signal = self.signal(None, now);
        self.go(signal, now, None)
    }

    /// When [`tick`](Self::tick) may have something to say, or the [factor](Self::factor) has moved. `None`: not
    /// before the next observation.
    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        match self.state {
            State::Unhealthy(_) => self.has_risen().then(|| self.held_until().max(now)),
            State::Probation => {
                let left = self.params.ramp.saturating_sub(self.ramp.done);
                Some((self.ramp.from + left).min(self.ramp.from.max(now) + RAMP_STEP))
            }
            State::Degraded(Degradation::RateLimited) => {
                // The state ends when the last limit does.
                self.lines.values().filter_map(|line| line.evidence.limit_lapses()).max().map(|lapse| lapse.max(now))
            }
            State::Degraded(_) | State::Unknown | State::Healthy => None,
        }
    }

    /// What the health makes of the weight; `None`: nothing is known, the weight stays as it is.
    pub fn factor(&self, now: Moment) -> Option<Factor> {
        let (name, value) = match self.state {
            // Where no probe runs nothing will ever be known, and the operator's weight holds.
            State::Unknown if !self.lines.is_empty() => return None,
            State::Unknown | State::Healthy => ("health", 1.0),
            State::Degraded(Degradation::RateLimited) => ("health", 0.3),
            State::Degraded(Degradation::Overloaded) => ("health", 0.5),
            State::Degraded(Degradation::Slow) => {
                let slowest = self.lines.values().filter_map(|line| line.evidence.slowness(now)).reduce(f64::min);
                ("health", slowest.map_or(0.5, |share| share.clamp(0.25, 1.0)))
            }
            State::Unhealthy(_) => ("health", 0.0),
            State::Probation => {
                let ramp = self.params.ramp.as_secs_f64();
                let done = self.ramp.elapsed(now).as_secs_f64();
                let progress = if ramp > 0.0 { (done / ramp).min(1.0) } else { 1.0 };
                ("probation", RAMP_FLOOR + (1.0 - RAMP_FLOOR) * progress)
            }
        };
        Some(Factor { name, value, why: format!("{}: {}", self.state, self.reason) })
    }

    /// The averages that adaptive weights compare.
    pub fn signals(&self) -> Signals {
        let of = |deep: bool| self.lines.iter().filter(move |(kind, _)| kind.is_deep() == deep);
        Signals {
            first_token: of(true).find_map(|(_, line)| line.evidence.latency()),
            total: of(false).filter_map(|(_, line)| line.evidence.latency()).max(),
            success: self.lines.values().filter_map(|line| line.evidence.success()).reduce(f64::min),
        }
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when it is in this state.
    pub fn since(&self) -> Moment {
        self.since
    }

    pub(super) fn evidence(&self) -> impl Iterator<Item = (ProbeKind, &Evidence, Moment)> {
        self.lines.iter().map(|(kind, line)| (*kind, &line.evidence, line.schedule.next()))
    }

    /// Until when it stays out although it might work.
    pub(super) fn held_until(&self) -> Moment {
        self.swings.flapping_until().unwrap_or_default().max(self.hold_until)
    }

    /// Whether everything that took it out works again.
    fn has_risen(&self) -> bool {
        let mut troubled = self.lines.values().filter(|line| line.evidence.in_trouble);
        troubled.all(|line| line.evidence.successes >= self.params.rise.max(1))
    }

    /// Translates what is known into a word of the state machine.
    fn signal(&mut self, observed: Option<(&Observation, Counted)>, now: Moment) -> Signal {
        if let Some((Observation { kind, outcome, .. }, counted)) = observed
            && let Some(line) = self.lines.get_mut(kind)
        {
            let evidence = &mut line.evidence;
            let key_gone = self.params.owns_key && evidence.rejections >= self.params.fall.max(1);
            if counted == Counted::Neutral && *outcome == Outcome::Credential && key_gone {
                // Its only key was rejected again and again: whatever the server could do, it cannot do it for us.
                evidence.in_trouble = true;
                evidence.successes = 0;
                return Signal::Fell(Outcome::Credential);
            }
            if counted == Counted::Failure {
                let fell = evidence.failures >= self.params.fall_of(*kind);
                evidence.in_trouble |= fell || self.state == State::Probation;
                return if fell { Signal::Fell(*outcome) } else { Signal::Stumbled(*outcome) };
            }
        }
        match self.state {
            State::Unhealthy(_) if self.has_risen() && now >= self.held_until() => Signal::Risen,
            State::Probation if self.ramp.elapsed(now) >= self.params.ramp => Signal::Ramped,
            State::Unhealthy(_) | State::Probation => Signal::Quiet,
            State::Unknown | State::Healthy | State::Degraded(_) => {
                let gravest = self.lines.values().filter_map(|line| line.evidence.degradation(now)).max();
                let answered = observed.is_some_and(|(_, counted)| counted == Counted::Success);
                match gravest {
                    Some(why) => Signal::Limping(why),
                    None if answered || self.state != State::Unknown => Signal::Fine,
                    None => Signal::Quiet,
                }
            }
        }
    }

    /// Follows a signal; the only place that changes the state.
    fn go(&mut self, signal: Signal, now: Moment, observed: Option<&Observation>) -> Option<Transition> {
        let (from, to) = (self.state, self.state.next(signal));
        if from == to {
            return None;
        }
        let reason = self.reason_for(to, observed);
        match to {
            State::Unhealthy(_) => {
                let hold = self.swings.went_down(now, self.params.first_hold());
                self.hold_until = now + self.jitter.spread(hold, 0.8, 1.2);
            }
            State::Probation => {
                self.swings.came_up(now);
                self.ramp = Ramp { done: Duration::ZERO, from: now };
                self.lines.values_mut().for_each(|line| line.evidence.in_trouble = false);
            }
            State::Unknown | State::Healthy | State::Degraded(_) => {}
        }
        self.state = to;
        self.since = now;
        self.reason.clone_from(&reason);
        Some(Transition { from, to, reason })
    }

    /// One sentence on why `to` follows on the present state.
    fn reason_for(&self, to: State, observed: Option<&Observation>) -> String {
        let answer = observed.map_or_else(
            || "no probe has confirmed the limit since".to_owned(),
            |Observation { kind, outcome, detail, .. }| match detail.as_str() {
                "" => format!("{kind} probe: {outcome}"),
                detail => format!("{kind} probe: {outcome}: {detail}"),
            },
        );
        match (self.state, to) {
            (State::Probation, State::Unhealthy(_)) => format!("failed again in probation; {answer}"),
            (_, State::Unhealthy(Outcome::Credential)) => format!("its only key was rejected; {answer}"),
            (_, State::Unhealthy(_)) => {
                let failures = observed.and_then(|o| self.lines.get(&o.kind)).map_or(0, |line| line.evidence.failures);
                let times =
                    if failures == 1 { "failed once".to_owned() } else { format!("failed {failures} times in a row") };
                format!("{times}; {answer}")
            }
            (_, State::Probation) => {
                format!(
                    "works again ({} in a row); full weight after {}",
                    self.params.rise,
                    format_duration(self.params.ramp)
                )
            }
            (State::Probation, _) => "probation is over".to_owned(),
            (_, State::Healthy | State::Degraded(_) | State::Unknown) => answer,
        }
    }

    /// From the start of the probe of this kind that has just ended to the start of the next.
    fn gap(&mut self, kind: ProbeKind) -> Duration {
        let Some(Line { evidence, .. }) = self.lines.get(&kind) else { return self.params.routine_gap(kind) };
        let fall = self.params.fall_of(kind);
        if self.params.owns_key && evidence.rejections >= self.params.fall.max(1) {
            return self.params.key_gap(kind);
        }
        if evidence.limits > 0 && evidence.failures == 0 {
            return self.params.limited_gap(kind, evidence.limits);
        }
        if kind.is_deep() && evidence.is_suspect() {
            // Each failure beyond the fall doubles the gap: a long outage must not cost more than health does.
            let doublings = if evidence.successes > 0 { 0 } else { evidence.failures.saturating_sub(fall).min(10) };
            return self.params.retry_gap(kind).saturating_mul(1 << doublings).min(self.params.routine_gap(kind));
        }
        if !kind.is_deep() && (1..fall).contains(&evidence.failures) && !self.state.is_unhealthy() {
            return self.params.retry_gap(kind);
        }
        // Only ever shorter, on average by 5 %: a gap beyond the interval would break the promise of `fall`.
        let routine = self.params.routine_gap(kind);
        self.jitter.spread(routine, 0.9, 1.0)
    }
}
