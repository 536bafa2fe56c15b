//! What the requests of real clients have told about one server.
//!
//! Knows counts and averages, not states: `server` puts them beside the probes. Called by `server`.

use super::ewma::DecayedAverage;
use super::limit::Limit;
use super::speed::Speed;
use super::window::{Tally, Window, wilson_lower};
use super::{Count, Degradation, LiveSample, Outcome};
use crate::model::Moment;
use std::time::Duration;

/// A verdict by share needs so many requests in the last minute.
pub(super) const REQUESTS: u32 = 20;
/// The server is out where so many of them failed, 95 % sure.
const DOWN_SHARE: f64 = 0.5;
/// It takes less where so many failed, 95 % sure…
const ERRORS_BEGIN: f64 = 0.10;
/// …until it is below this, so that it does not flicker.
const ERRORS_END: f64 = 0.05;
/// The key is out where so many of at least [`REQUESTS`] were rejected.
const REJECTED_SHARE: f64 = 0.5;
/// So many rejections with no success between speak for the server: each is one that another server did not share, or of
/// what every key may.
const REJECTED_RUN: u32 = 2;
/// So many failures of unknown class speak for the server, where the minute before knew no failure beside so many
/// successes: each was answered well by another server, and may have been a rejection.
const UNSEEN_RUN: u32 = 2;
const UNSEEN_SUCCESSES: u32 = 5;
/// So many failures that another server shares weigh as much as one of this server's own: one request that no server
/// can answer, sent a few times, must not take a quiet pool out; a pool of which every request fails must be told.
const SHARED_PARTS: u32 = 4;
/// A run of failures that pauses longer than this begins anew: five failures in a day are no outage.
const RUN_LAPSES: Duration = Duration::from_secs(300);
/// A share of failures below this, beside [`REQUESTS`] successes, proves that the server works.
const PROVEN_SHARE: f64 = 0.10;
/// How fast the average of requests in flight forgets.
const IN_FLIGHT: Duration = Duration::from_secs(10);

/// Live evidence of one server.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    window: Window,
    /// Failures with no success between; whether any of them was seen by a client, and as what.
    run: u32,
    /// Of the run, those that another server shares.
    shared_run: u32,
    seen: Option<Outcome>,
    /// Rejections of the key with no success between.
    rejected_run: u32,
    /// When requests last opened the circuit; until one succeeds.
    pub(super) fell_at: Option<Moment>,
    /// The last sample that told something.
    pub(super) last: Option<Moment>,
    limit: Limit,
    speed: Speed,
    errors: bool,
    overloaded: bool,
    in_flight: DecayedAverage,
    pub(super) in_flight_now: u32,
}

/// Why live traffic takes a server out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fall {
    pub(super) outcome: Outcome,
    pub(super) why: String,
}

fn tally(sample: &LiveSample) -> Tally {
    Tally {
        successes: sample.count(Count::Success),
        failures: sample.failed(),
        hidden: sample.hidden,
        shared: sample.shared,
        limited: sample.of(Outcome::RateLimited),
        overloaded: sample.of(Outcome::Overloaded),
        rejected: sample.of(Outcome::Credential),
    }
}

impl Traffic {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            window: Window::default(),
            run: 0,
            shared_run: 0,
            seen: None,
            rejected_run: 0,
            fell_at: None,
            last: None,
            limit: Limit::default(),
            speed: Speed::new(now),
            errors: false,
            overloaded: false,
            in_flight: DecayedAverage::new(IN_FLIGHT),
            in_flight_now: 0,
        }
    }

    /// Takes in a sample; what it told, in counts.
    pub(super) fn record(&mut self, sample: &LiveSample, now: Moment) -> Tally {
        let (just, since_success) = (tally(sample), sample.after_success());
        self.in_flight.add(f64::from(sample.in_flight), now);
        self.in_flight_now = sample.in_flight;
        self.window.add(just, now);
        self.note_run(just, &since_success, now);
        if just.told() > 0 {
            self.last = Some(now);
        }
        if just.successes > 0 {
            self.fell_at = None;
        }
        if let Some(first_byte) = sample.first_byte
            && just.successes > 0
        {
            self.speed.add(first_byte, just.successes, now);
        }
        let window = self.window.total(now);
        let lately = self.window.lately(now);
        self.limit.record(just, tally(&since_success), sample.retry_after, lately, window, now);
        self.note_shares(now);
        just
    }

    fn note_run(&mut self, just: Tally, since_success: &LiveSample, now: Moment) {
        let is_old = self.last.is_some_and(|last| now.since(last) >= RUN_LAPSES);
        let is_alive = just.failures == 0 && just.limited + just.overloaded > 0;
        if just.successes > 0 || is_alive || is_old {
            (self.run, self.shared_run, self.seen) = (0, 0, None);
        }
        if just.successes > 0 || is_old {
            self.rejected_run = 0;
        }
        let since = tally(since_success);
        self.rejected_run = self.rejected_run.saturating_add(since.rejected);
        self.run = self.run.saturating_add(since.failures);
        self.shared_run = self.shared_run.saturating_add(since.shared).min(self.run);
        let failures = since_success.told_outcomes().filter(|(outcome, _)| outcome.count() == Count::HardFailure);
        if let Some((outcome, _)) = failures.max_by_key(|(_, n)| *n) {
            self.seen = Some(outcome);
        }
    }

    /// Shares by time alone: the window moves on also when nothing comes.
    pub(super) fn note_shares(&mut self, now: Moment) {
        let window = self.window.total(now);
        let begins = if self.errors { ERRORS_END } else { ERRORS_BEGIN };
        self.errors = window.told() >= REQUESTS && window.failing_at_least() > begins;
        let begins = if self.overloaded { ERRORS_END } else { ERRORS_BEGIN };
        self.overloaded = window.told() >= REQUESTS && wilson_lower(window.overloaded, window.told()) > begins;
    }

    /// Whether at least `threshold` requests in a row failed, or so many of the last minute that it cannot be chance.
    pub(super) fn fall(&self, threshold: u32, now: Moment) -> Option<Fall> {
        // Where nobody saw how it failed, the class is unknown; the next probe learns it.
        let outcome = self.seen.unwrap_or(Outcome::ServerError);
        let window = self.window.total(now);
        let is_first = window.failures <= self.run && window.successes >= UNSEEN_SUCCESSES;
        let threshold = if self.seen.is_none() && is_first { threshold.min(UNSEEN_RUN) } else { threshold };
        if self.run - self.shared_run + self.shared_run / SHARED_PARTS >= threshold {
            let how = if self.seen.is_some() { format!(", last {outcome}") } else { String::new() };
            let hidden = if window.hidden > 0 {
                format!("; {} of the last minute's failures were repeated elsewhere", window.hidden)
            } else {
                String::new()
            };
            let why = format!("{} of real requests in a row{how}{hidden}", times(self.run));
            return Some(Fall { outcome, why });
        }
        // What other servers share weighs less, here as well.
        let shared = window.shared.min(window.failures);
        let light = shared - shared / SHARED_PARTS;
        let (failures, told) = (window.failures - light, window.told() - light);
        (told >= REQUESTS && wilson_lower(failures, told) > DOWN_SHARE).then(|| Fall {
            outcome,
            why: format!("{failures} of {told} real requests of the last minute failed, surely more than half"),
        })
    }

    /// Whether the key is rejected so often that the server can serve nobody.
    pub(super) fn rejection(&self, now: Moment) -> Option<Fall> {
        let window = self.window.total(now);
        let all = window.told() + window.rejected;
        if self.rejected_run >= REJECTED_RUN {
            let why = format!("its key was rejected at {} real requests in a row", self.rejected_run);
            return Some(Fall { outcome: Outcome::Credential, why });
        }
        (all >= REQUESTS && f64::from(window.rejected) >= f64::from(all) * REJECTED_SHARE).then(|| Fall {
            outcome: Outcome::Credential,
            why: format!("its key was rejected at {} of {all} real requests of the last minute", window.rejected),
        })
    }

    /// Why the server takes less, and which share it keeps.
    pub(super) fn degradations(&self, now: Moment) -> impl Iterator<Item = (Degradation, f64, String)> {
        let window = self.window.total(now);
        let told = window.told();
        let slow =
            self.speed.slowness(now).map(|share| (Degradation::Slow, share.clamp(0.25, 1.0), self.speed.words()));
        let errors = self.errors.then(|| {
            let why = format!("{} of {told} real requests of the last minute failed", window.failures);
            (Degradation::Errors, 0.5, why)
        });
        let overloaded = self.overloaded.then(|| {
            let why = format!("{} of {told} real requests of the last minute met an overload", window.overloaded);
            (Degradation::Overloaded, 0.5, why)
        });
        let limited = self.limit.holds(now).then(|| {
            let why = match self.limit.pause(now) {
                Some(until) => format!("it asked for {} s of silence", until.since(now).as_secs_f64().ceil()),
                None => format!("{} of {told} real requests of the last minute met a 429", window.limited),
            };
            (Degradation::RateLimited, 0.3, why)
        });
        [slow, errors, overloaded, limited].into_iter().flatten()
    }

    /// Until when the server asked to be left alone.
    pub(super) fn pause(&self, now: Moment) -> Option<Moment> {
        self.limit.pause(now)
    }

    /// Until when it asked for that at last, gone by or not.
    pub(super) fn last_pause(&self) -> Option<Moment> {
        self.limit.last_pause()
    }

    /// When something changes by time alone.
    pub(super) fn deadline(&self, now: Moment) -> Option<Moment> {
        let fading = self.errors || self.overloaded || self.speed.slowness(now).is_some();
        let fades = fading.then(|| now + Duration::from_secs(6));
        fades.into_iter().chain(self.limit.deadline(now)).min()
    }

    /// Whether the last minute proves that the server works: then no probe needs to cost tokens.
    pub(super) fn proves_health(&self, now: Moment) -> bool {
        let window = self.window.total(now);
        let failures = f64::from(window.failures) / f64::from(window.told().max(1));
        window.successes >= REQUESTS && failures < PROVEN_SHARE && self.run < 2
    }

    /// Whether the requests of the last seconds are answered; `None`: none came.
    pub(super) fn answers(&self, now: Moment) -> Option<bool> {
        let lately = self.window.lately(now);
        (lately.told() > 0).then(|| self.run < 2 && lately.successes * 2 >= lately.told())
    }

    /// Whether a probe should look at once: failures in a row, or a share of them.
    pub(super) fn is_suspect(&self) -> bool {
        self.run >= 2 || self.errors
    }

    /// Forgets what is past: the circuit opens, and what comes next is judged anew.
    pub(super) fn forget(&mut self) {
        self.window = Window::default();
        (self.run, self.shared_run, self.rejected_run, self.seen) = (0, 0, 0, None);
        (self.errors, self.overloaded) = (false, false);
    }

    /// Share of successes among the last minute's successes and failures, where there were enough.
    pub(super) fn success(&self, now: Moment) -> Option<f64> {
        let window = self.window.total(now);
        let all = window.successes + window.failures;
        (all >= REQUESTS).then(|| f64::from(window.successes) / f64::from(all))
    }

    /// The average first byte, where enough answers began in the last minute.
    pub(super) fn first_byte(&self, now: Moment) -> Option<Duration> {
        self.speed.recent().filter(|_| self.window.total(now).successes >= REQUESTS)
    }

    /// Requests in flight, averaged.
    pub(super) fn in_flight(&self) -> Option<f64> {
        self.in_flight.mean()
    }
}

fn times(failures: u32) -> String {
    if failures == 1 { "1 failure".to_owned() } else { format!("{failures} failures") }
}
