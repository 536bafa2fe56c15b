//! What the probes of one kind have told about one server.
//!
//! Knows counts and averages, not states: `server` puts the kinds together. Called by `server`.

use super::ewma::DecayedAverage;
use super::outcome::Count;
use super::{Degradation, HealthParams, Observation, Outcome, Phase, ProbeKind};
use crate::model::{MAX_RETRY_AFTER, Moment};
use std::time::Duration;

/// Weight of the newest sample in the averages that follow.
const ALPHA: f64 = 0.3;
/// What "usual" means for a latency: the last hour.
const BASELINE: Duration = Duration::from_secs(3_600);
/// A baseline of fewer samples is no baseline.
const BASELINE_SAMPLES: f64 = 5.0;
/// Slow answers in a row that make a server slow, and prompt ones that end it: one is noise.
const SLOW_IN_A_ROW: u32 = 2;
/// The share of overloaded answers is taken over about so many probes…
const OVERLOAD_PROBES: u32 = 6;
/// …needs at least so many…
const OVERLOAD_SAMPLES: f64 = 2.5;
/// …begins to count at this share…
const OVERLOAD_BEGINS: f64 = 0.5;
/// …and ends below this one, so that it does not flicker.
const OVERLOAD_ENDS: f64 = 0.25;
/// The pause after a 429 that names none.
const PAUSE_DEFAULT: Duration = Duration::from_secs(30);
/// A limit whose pause ended so long ago, and which no probe has confirmed since, is forgotten. Longer than the longest
/// wait for such a probe (two minutes, see `HealthParams::limited_gap`), or the weight would flicker.
const LIMIT_LAPSES: Duration = Duration::from_secs(180);

/// How one observation counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// For `rise`.
    Success,
    /// For `fall`.
    Failure,
    /// A failure that does not count yet.
    SoftFailure,
    /// Alive, but limited.
    Limited,
    /// Nothing was learnt of the server.
    Neutral,
}

/// The counts of one kind of probe.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    kind: ProbeKind,
    /// Hard failures in a row; only a success or a 429 interrupts them.
    pub(super) failures: u32,
    /// Of those, the ones that were an answer, if a bad one.
    answers: u32,
    /// Successes in a row; only a hard failure interrupts them.
    pub(super) successes: u32,
    /// Rejections of the key in a row; only proof that the key works interrupts them.
    pub(super) rejections: u32,
    /// The last probe stalled, and that did not count.
    pub(super) stalled: bool,
    /// This kind took the server out, and has not risen since.
    pub(super) in_trouble: bool,
    slow: bool,
    /// Answers in a row that speak against `slow`.
    contrary: u32,
    overload: DecayedAverage,
    overloaded: bool,
    pub(super) limited_until: Option<Moment>,
    /// Answers 429 in a row.
    pub(super) limits: u32,
    recent: DecayedAverage,
    baseline: DecayedAverage,
    success: DecayedAverage,
    /// Results in a row of which our own network may be the reason: since when, and how many.
    pub(super) ours: Option<(Moment, u32)>,
    /// The last observation and when it ended.
    pub(super) last: Option<(Moment, Observation)>,
}

impl Evidence {
    /// Nothing was observed yet.
    pub(super) fn new(kind: ProbeKind, params: &HealthParams) -> Self {
        let gap = params.routine_gap(kind);
        Self {
            kind,
            failures: 0,
            answers: 0,
            successes: 0,
            rejections: 0,
            stalled: false,
            in_trouble: false,
            slow: false,
            contrary: 0,
            overload: DecayedAverage::new(gap * OVERLOAD_PROBES),
            overloaded: false,
            limited_until: None,
            limits: 0,
            recent: DecayedAverage::with_alpha(ALPHA, gap),
            baseline: DecayedAverage::new(BASELINE),
            success: DecayedAverage::with_alpha(ALPHA, gap),
            ours: None,
            last: None,
        }
    }

    /// Takes in one observation of this kind.
    pub(super) fn record(&mut self, observation: &Observation, now: Moment) -> Counted {
        let counted = match observation.outcome.count() {
            Count::Success => self.succeed(observation, now),
            Count::HardFailure => self.fail(observation.outcome, now),
            Count::Limited => self.limit(observation, now),
            Count::Neutral => {
                // Neutral outcomes neither count nor reset: a failing server does not get well by our own mistakes.
                if observation.outcome == Outcome::Credential && self.kind != ProbeKind::Http {
                    self.rejections = self.rejections.saturating_add(1);
                }
                Counted::Neutral
            }
        };
        match observation.outcome {
            outcome if outcome.may_be_ours() => {
                let (since, run) = self.ours.unwrap_or((now, 0));
                self.ours = Some((since, run.saturating_add(1)));
            }
            Outcome::SelfCaused => {}
            _ => self.ours = None,
        }
        // Our own faults leave no trace, not even as the last word.
        if observation.outcome != Outcome::SelfCaused {
            self.last = Some((now, observation.clone()));
        }
        counted
    }

    /// Keeps an observation that decides nothing, as the last word.
    pub(super) fn inform(&mut self, observation: &Observation, now: Moment) {
        if observation.outcome != Outcome::SelfCaused {
            self.last = Some((now, observation.clone()));
        }
    }

    fn succeed(&mut self, observation: &Observation, now: Moment) -> Counted {
        (self.failures, self.answers) = (0, 0);
        self.stalled = false;
        self.rejections = 0;
        self.successes = self.successes.saturating_add(1);
        self.limited_until = None;
        self.limits = 0;
        self.success.add(1.0, now);
        self.note_overload(false, now);
        let latency = latency_of(observation).as_secs_f64();
        self.recent.add(latency, now);
        let is_slow = observation.outcome == Outcome::Slow;
        if !is_slow {
            self.baseline.add(latency, now);
        }
        self.contrary = if is_slow == self.slow { 0 } else { self.contrary + 1 };
        if self.contrary >= SLOW_IN_A_ROW {
            self.slow = is_slow;
            self.contrary = 0;
        }
        Counted::Success
    }

    fn fail(&mut self, outcome: Outcome, now: Moment) -> Counted {
        self.success.add(0.0, now);
        // The first stall inside a stream can be the model thinking; the next one cannot.
        if outcome == Outcome::Timeout(Phase::Stall) && !self.stalled && self.failures == 0 {
            self.stalled = true;
            return Counted::SoftFailure;
        }
        // Wrong content counts at the cheap probes too: the operator asked for it by `expect` or `json`.
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        if !matches!(outcome, Outcome::Timeout(_)) {
            self.answers = self.answers.saturating_add(1);
        }
        Counted::Failure
    }

    fn limit(&mut self, observation: &Observation, now: Moment) -> Counted {
        // Who can say "too much" is alive: a dead server's failures are not counted across its answers.
        (self.failures, self.answers) = (0, 0);
        self.stalled = false;
        if observation.outcome == Outcome::RateLimited {
            self.rejections = 0;
            self.limits = self.limits.saturating_add(1);
            let until = now + pause_of(observation).unwrap_or(PAUSE_DEFAULT);
            self.limited_until = self.limited_until.max(Some(until));
        } else {
            self.note_overload(true, now);
        }
        Counted::Limited
    }

    fn note_overload(&mut self, overloaded: bool, now: Moment) {
        self.overload.add(if overloaded { 1.0 } else { 0.0 }, now);
        let share = self.overload.mean().unwrap_or(0.0);
        self.overloaded = if self.overloaded {
            share >= OVERLOAD_ENDS
        } else {
            share >= OVERLOAD_BEGINS && self.overload.count(now) >= OVERLOAD_SAMPLES
        };
    }

    /// Failures in a row that take the server out.
    pub(super) fn fall(&self, params: &HealthParams) -> u32 {
        let is_silence = self.failures > 0 && self.answers == 0;
        params.fall_of(self.kind) + u32::from(is_silence && params.confirms_silence(self.kind))
    }

    /// How long the server asked not to be probed, if it did.
    pub(super) fn pause(observation: &Observation) -> Option<Duration> {
        match observation.outcome {
            Outcome::RateLimited => Some(pause_of(observation).unwrap_or(PAUSE_DEFAULT)),
            Outcome::Overloaded => pause_of(observation),
            _ => None,
        }
    }

    /// Why the server takes less, the gravest reason.
    pub(super) fn degradation(&self, now: Moment) -> Option<Degradation> {
        if self.limited_until.is_some_and(|until| now < until + LIMIT_LAPSES) {
            Some(Degradation::RateLimited)
        } else if self.overloaded {
            Some(Degradation::Overloaded)
        } else if self.slow {
            Some(Degradation::Slow)
        } else {
            None
        }
    }

    /// How long the silence still lasts that the last 429 asked for, or that is usual after one.
    pub(super) fn limit_left(&self, now: Moment) -> Option<Duration> {
        self.limited_until.map(|until| until.since(now)).filter(|left| !left.is_zero())
    }

    /// When a limit is forgotten that no probe confirms.
    pub(super) fn limit_lapses(&self) -> Option<Moment> {
        self.limited_until.map(|until| until + LIMIT_LAPSES)
    }

    /// For a slow kind: usual latency through recent latency, 1 or less is slower; `None` without a baseline.
    pub(super) fn slowness(&self, now: Moment) -> Option<f64> {
        let usual = self.baseline.mean().filter(|_| self.baseline.count(now) >= BASELINE_SAMPLES)?;
        let recent = self.recent.mean()?;
        (self.slow && recent > 0.0).then(|| usual / recent)
    }

    /// The average latency: first token where there is one, else the whole probe.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.recent.mean().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// The average share of successes, 0 to 1.
    pub(super) fn success(&self) -> Option<f64> {
        self.success.mean()
    }

    /// Whether something speaks for asking again soon.
    pub(super) fn is_suspect(&self) -> bool {
        self.failures > 0 || self.stalled || self.in_trouble || self.slow || self.contrary > 0
    }
}

fn latency_of(observation: &Observation) -> Duration {
    observation.first_token.unwrap_or(observation.total)
}

fn pause_of(observation: &Observation) -> Option<Duration> {
    observation.retry_after.map(|asked| asked.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(kind: ProbeKind) -> Evidence {
        let deep = [(ProbeKind::Chat, Duration::from_secs(300))].into();
        Evidence::new(kind, &HealthParams { deep, ..HealthParams::default() })
    }

    fn observation(kind: ProbeKind, outcome: Outcome, total_ms: u64) -> Observation {
        let total = Duration::from_millis(total_ms);
        Observation::new(kind, outcome, total)
    }

    fn feed(evidence: &mut Evidence, outcomes: &[Outcome]) -> Vec<Counted> {
        let kind = evidence.kind;
        let at = |step: usize| Moment(Duration::from_secs(10 * step as u64));
        outcomes.iter().enumerate().map(|(i, o)| evidence.record(&observation(kind, *o, 100), at(i))).collect()
    }

    #[test]
    fn neutral_outcomes_neither_count_nor_interrupt_failures() {
        let mut http = evidence(ProbeKind::Http);
        let hard = Outcome::Refused;
        feed(&mut http, &[hard, Outcome::Dns, Outcome::ProbeConfig, Outcome::Credential, Outcome::SelfCaused, hard]);
        assert_eq!((http.failures, http.successes, http.rejections), (2, 0, 0));
    }

    #[test]
    fn a_limit_proves_life_and_interrupts_failures() {
        for outcome in [Outcome::RateLimited, Outcome::Overloaded] {
            let mut models = evidence(ProbeKind::Models);
            feed(&mut models, &[Outcome::Refused, Outcome::Refused, outcome]);
            assert_eq!((models.failures, models.successes), (0, 0), "{outcome}");
        }
    }

    #[test]
    fn the_first_stall_is_soft_and_the_second_hard() {
        let mut chat = evidence(ProbeKind::Chat);
        let stall = Outcome::Timeout(Phase::Stall);
        assert_eq!(feed(&mut chat, &[stall, stall]), [Counted::SoftFailure, Counted::Failure]);
        let mut chat = evidence(ProbeKind::Chat);
        feed(&mut chat, &[stall, Outcome::Ok, stall]);
        assert_eq!(chat.failures, 0);
    }

    #[test]
    fn two_slow_answers_make_it_slow_and_two_prompt_ones_end_it() {
        let mut chat = evidence(ProbeKind::Chat);
        let (ok, slow, now) = (Outcome::Ok, Outcome::Slow, Moment(Duration::from_secs(100)));
        feed(&mut chat, &[ok, slow, ok, slow]);
        assert_eq!(chat.degradation(now), None);
        feed(&mut chat, &[slow, slow, ok]);
        assert_eq!(chat.degradation(now), Some(Degradation::Slow));
        feed(&mut chat, &[ok]);
        assert_eq!(chat.degradation(now), None);
    }

    #[test]
    fn one_overloaded_answer_is_nothing_and_half_of_them_are_overload() {
        let mut models = evidence(ProbeKind::Models);
        let (ok, busy, now) = (Outcome::Ok, Outcome::Overloaded, Moment(Duration::from_secs(100)));
        feed(&mut models, &[ok, ok, busy, ok]);
        assert_eq!(models.degradation(now), None);
        let mut models = evidence(ProbeKind::Models);
        feed(&mut models, &[ok, busy, ok, busy, busy]);
        assert_eq!(models.degradation(now), Some(Degradation::Overloaded));
    }

    #[test]
    fn a_slow_server_is_measured_against_its_own_hour() {
        let mut http = evidence(ProbeKind::Http);
        let at = |step: u64| Moment(Duration::from_secs(10 * step));
        for step in 0..20 {
            http.record(&observation(ProbeKind::Http, Outcome::Ok, 100), at(step));
        }
        assert_eq!(http.slowness(at(20)), None);
        for step in 20..60 {
            http.record(&observation(ProbeKind::Http, Outcome::Slow, 200), at(step));
        }
        assert!((http.slowness(at(60)).unwrap() - 0.5).abs() < 0.01);
    }
}
