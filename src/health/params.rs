//! What the operator chose for the health of one server, and the times that follow from it.
//!
//! Pure arithmetic. Made by `agent` from the configuration, read by `server` and by whoever starts the probes.

use super::ProbeKind;
use std::collections::BTreeMap;
use std::time::Duration;

/// Of the second that the product allows beyond `fall × interval`, what the probes may use; the rest is for the
/// decision and for the write to HAProxy.
const PROBES_SHARE: Duration = Duration::from_millis(700);
/// Longest that a cheap probe may take: five seconds of silence to a free `GET` is a failure by any standard.
const CHEAP_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// After a hard failure the question is asked again soon: the answer decides over the server.
const RETRY: Duration = Duration::from_secs(2);
/// The rhythm of deep probes while the last one failed, and the longest wait for the second opinion.
const DEEP_SUSPECT: Duration = Duration::from_secs(30);
/// Deep probes that must fail in a row: they are rare and thorough, so two say as much as three cheap ones.
const DEEP_FALL: u32 = 2;
/// The rhythm of deep probes when the operator names none.
const DEEP_EVERY: Duration = Duration::from_secs(300);
/// A certificate's end does not move: once an hour finds a renewal soon enough.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(3_600);
/// Longest wait, beyond what the server asked for, until a 429 is asked about again.
const LIMITED_MAX: Duration = Duration::from_secs(120);
/// A rejected key is asked about no more often than this: keys mend by hand, and providers block who insists.
const KEY_RETEST: Duration = Duration::from_secs(60);
/// Longest first hold.
const HOLD_MAX: Duration = Duration::from_secs(15);

/// The choices for one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthParams {
    /// Longest time between the starts of two cheap probes of one kind, 200 ms to 1 h.
    pub interval: Duration,
    /// Hard failures in a row until unhealthy, 1 to 100.
    pub fall: u32,
    /// Successes in a row until probation, 1 to 100.
    pub rise: u32,
    /// How long probation takes from 10 % to 100 %, 0 to 1 h.
    pub ramp: Duration,
    /// The cheap probes that run; each has its own counts, so that one which succeeds cannot hide one which fails.
    pub cheap: Vec<ProbeKind>,
    /// The deep probes that run, and how often each does when nothing is suspected.
    pub deep: BTreeMap<ProbeKind, Duration>,
    /// The probes that run beside those and decide nothing: load, certificates.
    pub informs: Vec<ProbeKind>,
    /// Keys of its own. With one, a rejected key leaves the server without, and it can serve nobody. With several,
    /// whoever chooses among them says when none is left ([`ServerHealth::set_keyless`](super::ServerHealth::set_keyless)).
    /// With none the clients bring theirs, and a 401 to our probe says nothing about them.
    pub keys: usize,
    /// Requests of real clients in a row that fail until the circuit opens, 2 to 1,000.
    pub circuit: u32,
}

impl Default for HealthParams {
    /// HAProxy's fall and rise, ten seconds, a minute of ramp, no probe at all.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            fall: 3,
            rise: 2,
            ramp: Duration::from_secs(60),
            cheap: Vec::new(),
            deep: BTreeMap::new(),
            informs: Vec::new(),
            keys: 0,
            circuit: 5,
        }
    }
}

impl HealthParams {
    /// The probes that run.
    pub fn kinds(&self) -> impl Iterator<Item = ProbeKind> + '_ {
        let cheap = self.cheap.iter().copied().filter(|kind| !kind.is_deep() && kind.decides());
        let informs = self.informs.iter().copied().filter(|kind| !kind.decides());
        cheap.chain(self.deep.keys().copied()).chain(informs)
    }

    /// The total deadline that the driver must give a cheap probe.
    ///
    /// A server may break right after the start of a probe that it still answers. The next one starts a
    /// gap G later, and if it hangs, so do its repetitions, one after the other: the server is
    /// out after G + fall · T. The promise is fall · interval + 1 s, so that T ≤ ((fall − 1) · interval + 0.7 s) /
    /// fall. For `fall = 1` that would be 0.7 s, which a distant provider exceeds when it is well; T is then up to
    /// half of the interval, and the gap gives way.
    pub fn cheap_timeout(&self) -> Duration {
        let fall = self.fall.max(1);
        let within_promise = (self.interval * (fall - 1) + PROBES_SHARE) / fall;
        within_promise.max(self.interval / 2).min(CHEAP_TIMEOUT_MAX)
    }

    /// From the start of one probe to the start of the next when all is well; jitter only shortens it.
    pub(super) fn routine_gap(&self, kind: ProbeKind) -> Duration {
        if kind.is_deep() {
            return self.deep.get(&kind).copied().unwrap_or(DEEP_EVERY);
        }
        match kind {
            ProbeKind::Certificate => return CERTIFICATE_EVERY,
            ProbeKind::Metrics => return self.interval,
            ProbeKind::Models | ProbeKind::Http | ProbeKind::Chat | ProbeKind::Embeddings => {}
        }
        let fall = self.fall.max(1);
        let left = (self.interval * fall + PROBES_SHARE).saturating_sub(self.cheap_timeout() * fall);
        self.interval.min(left)
    }

    /// From the start of a probe that failed to the start of the next, while the failures are too few to fall.
    pub(super) fn retry_gap(&self, kind: ProbeKind) -> Duration {
        if kind.is_deep() {
            return self.routine_gap(kind).min(DEEP_SUSPECT);
        }
        // No longer than the time-out: else repetitions that hang would come later than the promise allows.
        RETRY.min(self.interval).min(self.cheap_timeout())
    }

    /// From the start of the `limits`th probe in a row that was answered 429 to the start of the next, unless the
    /// server asked for a longer silence: 30 s, 60 s, 2 min, so that the limit's end is seen and not provoked.
    pub(super) fn limited_gap(&self, kind: ProbeKind, limits: u32) -> Duration {
        let doubled = DEEP_SUSPECT.saturating_mul(1 << limits.saturating_sub(1).min(10));
        self.routine_gap(kind).min(doubled).min(LIMITED_MAX)
    }

    /// From the start of a probe that found the key rejected to the start of the next.
    pub(super) fn key_gap(&self, kind: ProbeKind) -> Duration {
        self.routine_gap(kind).max(KEY_RETEST)
    }

    /// Hard failures of one kind in a row that take the server out.
    pub(super) fn fall_of(&self, kind: ProbeKind) -> u32 {
        if kind.is_deep() { self.fall.clamp(1, DEEP_FALL) } else { self.fall.max(1) }
    }

    /// Whether a fall by silence alone is confirmed by one probe more: where the promise of `fall` leaves the time.
    ///
    /// A lost packet looks like a silent server. With one probe in a hundred lost, five servers fall falsely 1.4 times a
    /// month by three in a row, and once in six years by four.
    pub(super) fn confirms_silence(&self, kind: ProbeKind) -> bool {
        let all =
            self.routine_gap(kind) + self.cheap_timeout().max(self.retry_gap(kind)) * self.fall + self.cheap_timeout();
        !kind.is_deep() && self.fall > 1 && all <= self.interval * self.fall + PROBES_SHARE
    }

    /// Whether the one key that there is decides over the server.
    pub(super) fn lives_by_one_key(&self) -> bool {
        self.keys == 1
    }

    /// How long a server stays out at least after its first fall.
    ///
    /// Fifteen seconds, as the rules say, but no more than its successes take anyway: who probes every 500 ms
    /// expects a mended server back in a second or two. It doubles with each further fall.
    ///
    /// Where requests showed that its key is rejected, although a free probe says otherwise, it is always fifteen: only
    /// more of them can tell that the key works again, and keys mend by hand.
    pub(super) fn first_hold(&self, is_for_key: bool) -> Duration {
        if is_for_key { HOLD_MAX } else { HOLD_MAX.min(self.interval * self.rise) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arithmetic_of_the_promise_holds_for_every_interval_and_fall() {
        for interval_ms in [200, 300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000, 3_600_000] {
            for fall in [1, 2, 3, 4, 5, 10, 100] {
                let interval = Duration::from_millis(interval_ms);
                let params = HealthParams { interval, fall, ..HealthParams::default() };
                let (timeout, retry) = (params.cheap_timeout(), params.retry_gap(ProbeKind::Http));
                let gap = params.routine_gap(ProbeKind::Http);
                assert!(gap >= interval / 2 && gap <= interval, "{interval:?} {fall}: {gap:?}");
                assert!(timeout >= Duration::from_millis(200), "{interval:?} {fall}: {timeout:?}");
                let out = gap + timeout.max(retry) * (fall - 1) + timeout;
                assert!(out <= interval * fall + PROBES_SHARE, "{interval:?} {fall}: {out:?}");
            }
        }
    }

    #[test]
    fn the_defaults_give_the_times_of_the_rules() {
        let params = HealthParams::default();
        assert_eq!(params.cheap_timeout(), Duration::from_secs(5));
        assert_eq!(params.routine_gap(ProbeKind::Models), Duration::from_secs(10));
        assert_eq!(params.retry_gap(ProbeKind::Models), Duration::from_secs(2));
        assert_eq!(params.retry_gap(ProbeKind::Chat), Duration::from_secs(30));
        assert_eq!(params.first_hold(false), Duration::from_secs(15));
    }
}
