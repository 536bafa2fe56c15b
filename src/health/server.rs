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
//!
//! What real requests tell comes in by [`live`](ServerHealth::live), in `judged_by_traffic`.

use super::by_kind::ByKind;
use super::circuit::{Circuit, CircuitPhase};
use super::evidence::{Counted, Evidence};
use super::ramp::{RAMP_FLOOR, Ramp};
use super::schedule::{Jitter, Schedule};
use super::state::Signal;
use super::swings::Swings;
use super::traffic::Traffic;
use super::{
    Degradation, Factor, FactorKind, FactorName, HealthParams, Load, Observation, Ours, Outcome, Phase, ProbeKind,
    Signals, State, Transition,
};
use crate::model::Moment;
use std::sync::Arc;
use std::time::Duration;

/// The first cheap probes of a start spread over this, so that many servers are not asked in one instant.
const FIRST_CHEAP: Duration = Duration::from_millis(500);
/// Likewise the first deep ones.
const FIRST_DEEP: Duration = Duration::from_secs(2);
/// During probation the factor moves; who follows it looks this often.
const RAMP_STEP: Duration = Duration::from_secs(1);
/// A ramp lasts up to a fifth longer than asked, so that servers that recover together do not rise together.
const RAMP_SPREAD: f64 = 1.2;
/// What is older than this and than three intervals decides nothing.
pub(super) const STALE: Duration = Duration::from_secs(60);
/// See [`STALE`].
const STALE_INTERVALS: u32 = 3;
/// After the pace has become faster, probes of all kinds run again within this.
const PACE_SPREAD: Duration = Duration::from_millis(900);
/// Weight of the newest figures of load.
const LOAD_ALPHA: f64 = 0.3;

/// Probes of one kind: what they told and when the next is due.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) evidence: Evidence,
    pub(super) schedule: Schedule,
    /// No probe of this kind may run for now: its budget is spent.
    pub(super) withheld: bool,
    /// Times in a row that live traffic asked for a deep probe ahead of its time.
    pub(super) hurried: u32,
}

/// Why no key is left that clients could be served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyless {
    /// When a key may work again, where that is known.
    pub until: Option<Moment>,
    /// One sentence for people.
    pub why: String,
}

/// The health of one server.
#[derive(Clone, Debug)]
pub struct ServerHealth {
    /// Shared by servers of which the operator says the same.
    pub(super) params: Arc<HealthParams>,
    pub(super) state: State,
    pub(super) since: Moment,
    pub(super) reason: String,
    pub(super) lines: ByKind<Line>,
    pub(super) swings: Swings,
    pub(super) hold_until: Moment,
    pub(super) ramp: Ramp,
    pub(super) jitter: Jitter,
    /// Nothing until the first sample: most servers of a large site have no traffic at a time.
    pub(super) traffic: Option<Box<Traffic>>,
    pub(super) circuit: Circuit,
    pub(super) keyless: Option<Keyless>,
    /// Share of the usual rhythm of probes, above 0 to 1.
    pace: f64,
    /// Until when what is known counts.
    pub(super) fresh_until: Moment,
    /// It was our own network that failed: the server comes back without hold and ramp.
    pardoned: bool,
    load: Option<(Moment, Load)>,
    /// The share that an agent before this one had left it, below 1.
    resumes: Option<f64>,
}

impl ServerHealth {
    /// A server of which nothing is known. `seed` spreads its probes: give each server its own.
    pub fn new(params: impl Into<Arc<HealthParams>>, now: Moment, seed: u64) -> Self {
        let mut health = Self {
            params: Arc::default(),
            state: State::Unknown,
            since: now,
            reason: "no probe could judge it yet".into(),
            lines: ByKind::new(),
            swings: Swings::default(),
            hold_until: now,
            ramp: Ramp::default(),
            jitter: Jitter::new(seed),
            traffic: None,
            circuit: Circuit::default(),
            keyless: None,
            pace: 1.0,
            fresh_until: now + STALE,
            pardoned: false,
            load: None,
            resumes: None,
        };
        health.reconfigure(params, now);
        health
    }

    /// Goes on where an agent before this one had left the server: with this share, below 1, until it is known. Once it
    /// answers well, it is let in from there.
    pub fn resume(&mut self, share: f64) {
        self.resumes = Some(share);
    }

    /// The operator's choices.
    pub fn params(&self) -> &HealthParams {
        &self.params
    }

    /// Takes over changed choices. State and counts stay; kinds that no longer run are forgotten, with the trouble
    /// that they saw.
    pub fn reconfigure(&mut self, params: impl Into<Arc<HealthParams>>, now: Moment) {
        let params = params.into();
        self.lines.retain(|kind| params.kinds().any(|runs| runs == kind));
        for kind in params.kinds() {
            let due = now + self.jitter.spread(if kind.is_deep() { FIRST_DEEP } else { FIRST_CHEAP }, 0.0, 1.0);
            let line = || Line {
                evidence: Evidence::new(kind, &params),
                schedule: Schedule::new(due),
                withheld: false,
                hurried: 0,
            };
            let gap = params.routine_gap(kind).div_f64(self.pace);
            self.lines.get_or_insert_with(kind, line).schedule.cap_due(now + gap);
        }
        self.params = params;
    }

    /// How often routine probes run, as a share of the operator's rhythm, 0.01 to 1. Faster takes effect within a
    /// second. Whatever is suspected is looked at in full, whatever the pace.
    pub fn set_pace(&mut self, share: f64, now: Moment) {
        let share = if share.is_finite() { share.clamp(0.01, 1.0) } else { 1.0 };
        let is_faster = share > self.pace;
        self.pace = share;
        if is_faster {
            for line in self.lines.values_mut() {
                line.schedule.cap_due(now + self.jitter.spread(PACE_SPREAD, 0.0, 1.0));
            }
        }
    }

    /// No key is left with which clients could be served, or (`None`) there is one again. It takes no traffic then,
    /// whatever its health, as far as its pool allows; the state stays, because it is not the server's fault.
    pub fn set_keyless(&mut self, keyless: Option<Keyless>) {
        self.keyless = keyless;
    }

    /// What [`set_keyless`](Self::set_keyless) said last.
    pub fn keyless(&self) -> Option<&Keyless> {
        self.keyless.as_ref()
    }

    /// A deep probe is due that no budget pays for: the next is due after `wait`.
    pub fn withhold(&mut self, kind: ProbeKind, wait: Duration, now: Moment) {
        if let Some(line) = self.lines.get_mut(&kind) {
            line.withheld = true;
            line.schedule.set_due(now + wait);
        }
    }

    /// A routine probe is due that is early for the day's budget: the next is due after `wait`.
    pub fn postpone(&mut self, kind: ProbeKind, wait: Duration, now: Moment) {
        if let Some(line) = self.lines.get_mut(&kind) {
            line.schedule.set_due(now + wait);
        }
    }

    /// Asks with the free probes at once.
    pub fn ask_cheaply(&mut self, now: Moment) {
        for (_, line) in self.lines.iter_mut().filter(|(kind, _)| kind.decides() && !kind.is_deep()) {
            line.schedule.cap_due(now);
        }
    }

    /// Whether something speaks for asking with this kind now, beyond routine.
    pub fn is_suspect(&self, kind: ProbeKind) -> bool {
        let by_probe = self.lines.get(&kind).is_some_and(|line| line.evidence.is_suspect());
        by_probe || self.state.is_unhealthy() || self.traffic.as_ref().is_some_and(|traffic| traffic.is_suspect())
    }

    /// It was our own network that failed, not this server: when its probes succeed again it is back at once, and the
    /// fall does not lengthen the next hold. Nothing happens unless it is out for such a reason.
    pub fn pardon(&mut self) {
        if let State::Unhealthy(outcome) = self.state {
            self.pardoned |= outcome.may_be_ours() && self.circuit.phase == CircuitPhase::Closed;
        }
    }

    /// Whether our own network may be the reason of the last results, by the kind of probe that says most.
    pub fn ours(&self) -> Option<Ours> {
        let of = |(kind, line): (&ProbeKind, &Line)| {
            let (since, run) = line.evidence.ours.filter(|_| kind.decides())?;
            let (_, last) = line.evidence.last.as_ref()?;
            let no_connection = matches!(last.outcome, Outcome::Dns | Outcome::Timeout(Phase::Connect));
            let fall = self.params.fall_of(*kind);
            Some(Ours { since, is_out: run >= fall, is_close: run + 1 >= fall, no_connection })
        };
        self.lines.iter().filter_map(of).max_by_key(|ours| ours.is_out)
    }

    /// One sentence on the last change.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Asks again soon: the operator changed something (a new key, `server ready`), or this node became MASTER.
    pub fn probe_soon(&mut self, now: Moment) {
        for line in self.lines.values_mut() {
            line.evidence.rejections = 0;
            line.schedule.set_due(now);
        }
        if self.circuit.is_open_for_key() {
            self.hold_until = now;
        }
    }

    /// A probe of this kind starts now.
    pub fn probe_started(&mut self, kind: ProbeKind, now: Moment) {
        let gap = self.jitter.spread(self.routine_gap(kind), 0.9, 1.0);
        if let Some(line) = self.lines.get_mut(&kind) {
            line.withheld = false;
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
        if !kind.decides() {
            line.evidence.inform(observation, now);
            let gap = self.jitter.spread(self.routine_gap(kind), 0.9, 1.0);
            if let Some(line) = self.lines.get_mut(&kind) {
                line.schedule.set_due(begun + gap);
            }
            self.note_load(observation, now);
            return None;
        }
        let counted = line.evidence.record(observation, now);
        if let Some(pause) = Evidence::pause(observation) {
            line.schedule.pause_until(now + pause);
            self.ramp.pause(now, now + pause);
        }
        let signal = self.signal(Some((observation, counted)), now);
        let why = self.why_of_probe(observation);
        let transition = self.go(signal, now, &why);
        let gap = self.gap(kind);
        if let Some(line) = self.lines.get_mut(&kind) {
            line.schedule.set_due(begun + gap);
            if observation.outcome != Outcome::SelfCaused {
                // The next result is expected after the gap, or after the silence that was asked for.
                let expected = line.schedule.next().since(now).max(gap);
                self.fresh_for((expected * STALE_INTERVALS).max(STALE), now);
            }
        }
        transition
    }

    fn note_load(&mut self, observation: &Observation, now: Moment) {
        let Some(Load { waiting, cache }) = observation.load else { return };
        let before = self.load(now);
        let blend = |before: Option<f64>, new: f64| before.map_or(new, |old| old + LOAD_ALPHA * (new - old));
        let waiting = blend(before.map(|load| load.waiting), waiting);
        let cache = cache.map(|cache| blend(before.and_then(|load| load.cache), cache));
        self.load = Some((now, Load { waiting, cache }));
    }

    /// What the server said of its load, averaged; nothing where that is stale.
    pub(super) fn load(&self, now: Moment) -> Option<Load> {
        let lasts = (self.routine_gap(ProbeKind::Metrics) * STALE_INTERVALS).max(STALE);
        self.load.filter(|(at, _)| now.since(*at) < lasts).map(|(_, load)| load)
    }

    /// What is known counts for so long from now on.
    pub(super) fn fresh_for(&mut self, lasts: Duration, now: Moment) {
        self.fresh_until = self.fresh_until.max(now + lasts);
    }

    /// Whether results have been missing for so long that nothing may follow from the last ones. Where no probe runs
    /// nothing is missing.
    pub fn is_stale(&self, now: Moment) -> bool {
        now > self.fresh_until && self.lines.keys().any(|kind| kind.decides())
    }

    /// Lets time pass: holds, probation and forgotten limits end.
    pub fn tick(&mut self, now: Moment) -> Option<Transition> {
        if let Some(traffic) = &mut self.traffic {
            traffic.note_shares(now);
        }
        if self.circuit.quiet_until().is_some_and(|until| now >= until) {
            self.begin_ramp(now);
        }
        let signal = self.signal(None, now);
        self.go(signal, now, "nothing has confirmed it since")
    }

    /// The trickle is over, the ramp begins.
    pub(super) fn begin_ramp(&mut self, now: Moment) {
        self.circuit.close();
        self.ramp = Ramp::begin(now, self.ramp.length);
    }

    /// When [`tick`](Self::tick) may have something to say, or the [factor](Self::factor) has moved. `None`: not
    /// before the next observation.
    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let of_state = match self.state {
            State::Unhealthy(_) => self.has_risen().then(|| self.held_until().max(now)),
            State::Probation => match self.circuit.quiet_until() {
                Some(until) => Some(until.max(now)),
                None => {
                    let left = self.ramp.length.saturating_sub(self.ramp.done);
                    Some((self.ramp.from + left).min(self.ramp.from.max(now) + RAMP_STEP))
                }
            },
            State::Degraded(Degradation::RateLimited) => {
                // The state ends when the last limit does.
                self.lines.values().filter_map(|line| line.evidence.limit_lapses()).max().map(|lapse| lapse.max(now))
            }
            State::Degraded(_) | State::Unknown | State::Healthy => None,
        };
        let of_traffic = match self.state {
            State::Unhealthy(_) => None,
            State::Probation => self.traffic.as_ref().and_then(|traffic| traffic.pause(now)),
            _ => self.traffic.as_ref().and_then(|traffic| traffic.deadline(now)),
        };
        of_state.into_iter().chain(of_traffic).min()
    }

    /// What the health makes of the weight; `None`: nothing is known or all is stale, the weight stays as it is.
    pub fn factor(&self, now: Moment) -> Option<Factor> {
        let (name, value) = self.share(now)?;
        let kind = match name {
            FactorName::Keys | FactorName::Pause => FactorKind::Deliberate,
            _ if self.is_proven_dead(now) => FactorKind::ProvenDead,
            _ => FactorKind::Verdict,
        };
        let why = match (name, &self.keyless, self.traffic.as_ref().and_then(|traffic| traffic.pause(now))) {
            (FactorName::Keys, Some(Keyless { until, why }), _) => match until {
                Some(until) => format!("no usable key: {why}; in {} s again", until.since(now).as_secs_f64().ceil()),
                None => format!("no usable key: {why}"),
            },
            (FactorName::Pause, _, Some(until)) => {
                let left = until.since(now).as_secs_f64().ceil();
                format!("{}: it answered 429 and asked for silence, {left} s are left", self.state)
            }
            (FactorName::HalfOpen, ..) => {
                let (successes, needed) = self.circuit.progress();
                format!("a trickle of real requests, {successes} of {needed} have succeeded: {}", self.reason)
            }
            _ => format!("{}: {}", self.state, self.reason),
        };
        Some(Factor { name, value, why, kind })
    }

    /// What [`factor`](Self::factor) says, as a number.
    pub fn factor_value(&self, now: Moment) -> Option<f64> {
        self.share(now).map(|(_, value)| value)
    }

    /// The factor's name and value, without words.
    pub(super) fn share(&self, now: Moment) -> Option<(FactorName, f64)> {
        if self.keyless.is_some() && self.params.keys > 0 {
            return Some((FactorName::Keys, 0.0));
        }
        let decided = self.lines.keys().any(|kind| kind.decides());
        let is_paused = self.traffic.as_ref().is_some_and(|traffic| traffic.pause(now).is_some());
        Some(match self.state {
            // What it asked for holds whatever else is known of it.
            State::Unknown | State::Healthy | State::Degraded(_) | State::Probation if is_paused => {
                (FactorName::Pause, 0.0)
            }
            // Where no probe runs nothing will ever be known, and the operator's weight holds.
            State::Unknown if decided => return None,
            _ if self.is_stale(now) => return None,
            State::Unknown | State::Healthy => (FactorName::Health, 1.0),
            State::Degraded(gravest) => {
                let all = self.degradations(now).map(|(_, share, _)| share).reduce(f64::min);
                (
                    FactorName::Health,
                    all.unwrap_or(match gravest {
                        Degradation::RateLimited => 0.3,
                        Degradation::Overloaded | Degradation::Errors | Degradation::Slow => 0.5,
                    }),
                )
            }
            State::Unhealthy(_) => (FactorName::Health, 0.0),
            State::Probation if self.circuit.phase == CircuitPhase::HalfOpen => (FactorName::HalfOpen, RAMP_FLOOR),
            State::Probation => (FactorName::Probation, self.ramp.share(now)),
        })
    }

    /// Everything for which the server takes less: why, the share that it keeps, and in words where traffic says so.
    pub(super) fn degradations(&self, now: Moment) -> impl Iterator<Item = (Degradation, f64, Option<String>)> {
        // Real requests that succeed know better than a probe that is limited.
        let is_proven = self.traffic.as_ref().is_some_and(|traffic| traffic.proves_health(now));
        let probed = self.lines.values().filter_map(move |line| {
            let degradation = line.evidence.degradation(now)?;
            let share = match degradation {
                Degradation::RateLimited if is_proven => return None,
                Degradation::RateLimited => 0.3,
                Degradation::Overloaded | Degradation::Errors => 0.5,
                Degradation::Slow => line.evidence.slowness(now).map_or(0.5, |share| share.clamp(0.25, 1.0)),
            };
            Some((degradation, share, None))
        });
        let traffic = self.traffic.iter().flat_map(move |traffic| traffic.degradations(now));
        probed.chain(traffic.map(|(degradation, share, why)| (degradation, share, Some(why))))
    }

    /// The averages that adaptive weights compare.
    pub fn signals(&self, now: Moment) -> Signals {
        let of = |deep: bool| {
            self.lines.iter().filter(move |(kind, _)| kind.decides() && kind.is_deep() == deep).map(|(_, line)| line)
        };
        let traffic = self.traffic.as_deref();
        let probed = of(true).chain(of(false)).filter_map(|line| line.evidence.success()).reduce(f64::min);
        let lived = traffic.and_then(|traffic| traffic.success(now));
        Signals {
            first_byte: traffic.and_then(|traffic| traffic.first_byte(now)),
            first_token: of(true).find_map(|line| line.evidence.latency()),
            total: of(false).filter_map(|line| line.evidence.latency()).max(),
            success: [probed, lived].into_iter().flatten().reduce(f64::min),
            in_flight: traffic.and_then(Traffic::in_flight),
            load: self.load(now),
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

    /// Whether everything that took it out works again. A probe that no budget pays for cannot say so; then the trickle
    /// of real requests does.
    fn has_risen(&self) -> bool {
        let mut troubled = self.lines.values().filter(|line| line.evidence.in_trouble && !line.withheld);
        troubled.all(|line| line.evidence.successes >= self.params.rise.max(1))
    }

    /// Translates what is known into a word of the state machine.
    pub(super) fn signal(&mut self, observed: Option<(&Observation, Counted)>, now: Moment) -> Signal {
        if let Some((Observation { kind, outcome, .. }, counted)) = observed
            && let Some(line) = self.lines.get_mut(kind)
        {
            let evidence = &mut line.evidence;
            let key_gone = self.params.lives_by_one_key() && evidence.rejections >= self.params.fall.max(1);
            if counted == Counted::Neutral && *outcome == Outcome::Credential && key_gone {
                // Its only key was rejected again and again: whatever the server could do, it cannot do it for us.
                evidence.in_trouble = true;
                evidence.successes = 0;
                return Signal::Fell(Outcome::Credential);
            }
            if counted == Counted::Failure {
                let fell = evidence.failures >= evidence.fall(&self.params);
                evidence.in_trouble |= fell || self.state == State::Probation;
                return if fell { Signal::Fell(*outcome) } else { Signal::Stumbled(*outcome) };
            }
        }
        match self.state {
            State::Unhealthy(_) if self.pardoned && self.has_risen() => Signal::Pardoned,
            State::Unhealthy(_) if self.has_risen() && now >= self.held_until() => Signal::Risen,
            State::Probation if self.circuit.phase == CircuitPhase::HalfOpen => Signal::Quiet,
            State::Probation if self.ramp.elapsed(now) >= self.ramp.length => Signal::Ramped,
            State::Unhealthy(_) | State::Probation => Signal::Quiet,
            State::Unknown | State::Healthy | State::Degraded(_) => {
                let gravest = self.degradations(now).map(|(why, ..)| why).max();
                let answered = observed.is_some_and(|(_, counted)| counted == Counted::Success);
                match gravest {
                    Some(why) => Signal::Limping(why),
                    None if answered || self.state != State::Unknown => Signal::Fine,
                    None => Signal::Quiet,
                }
            }
        }
    }

    /// Follows a signal; the only place that changes the state. `why`: what was seen last, for people.
    pub(super) fn go(&mut self, signal: Signal, now: Moment, why: &str) -> Option<Transition> {
        let (from, to) = (self.state, self.state.next(signal));
        if from == to {
            return None;
        }
        let resumes = self.resumes.take();
        let to = if to == State::Healthy && resumes.is_some() { State::Probation } else { to };
        let reason = self.reason_for(to, why, now);
        match to {
            State::Unhealthy(_) => {
                // A circuit that waits for its trickle waits on, whoever took the server out meanwhile.
                if self.circuit.phase == CircuitPhase::HalfOpen {
                    self.circuit.phase = CircuitPhase::Open;
                }
                let hold = self.swings.went_down(now, self.params.first_hold(self.circuit.is_open_for_key()));
                self.hold_until = now + self.jitter.spread(hold, 0.8, 1.2);
                self.pardoned = false;
            }
            State::Probation => {
                self.let_in(now);
                self.ramp.skip_to(resumes.unwrap_or(0.0));
            }
            State::Healthy if from.is_unhealthy() => {
                self.swings.retract();
                self.lines.values_mut().for_each(|line| line.evidence.in_trouble = false);
            }
            State::Healthy if from == State::Probation => self.circuit.close(),
            State::Unknown | State::Healthy | State::Degraded(_) => {}
        }
        self.state = to;
        self.since = now;
        self.reason.clone_from(&reason);
        Some(Transition { from, to, reason })
    }

    /// Probation begins: with a trickle where real requests had failed, or where no probe may confirm anything.
    fn let_in(&mut self, now: Moment) {
        self.swings.came_up(now);
        self.ramp = Ramp::begin(now, self.jitter.spread(self.params.ramp, 1.0, RAMP_SPREAD));
        let unproven = self.lines.values().any(|line| line.evidence.in_trouble && line.withheld);
        self.lines.values_mut().for_each(|line| line.evidence.in_trouble = false);
        let in_flight = self.traffic.as_mut().map_or(0, |traffic| {
            traffic.forget();
            traffic.in_flight_now
        });
        if self.circuit.phase == CircuitPhase::Open || unproven {
            self.circuit.half_open(in_flight, now);
        }
    }

    /// From the start of one probe to the start of the next when all is well, at the present pace.
    pub(super) fn routine_gap(&self, kind: ProbeKind) -> Duration {
        self.params.routine_gap(kind).div_f64(self.pace)
    }

    /// From the start of the probe of this kind that has just ended to the start of the next.
    fn gap(&mut self, kind: ProbeKind) -> Duration {
        let Some(Line { evidence, .. }) = self.lines.get(&kind) else { return self.params.routine_gap(kind) };
        let fall = evidence.fall(&self.params);
        if self.params.keys > 0 && evidence.rejections >= self.params.fall.max(1) {
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
        let routine = self.routine_gap(kind);
        self.jitter.spread(routine, 0.9, 1.0)
    }
}
