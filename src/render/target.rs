//! Which HAProxy the files are rendered for.

use crate::config::{Config, RetryStreams};
use crate::model::format_duration;

/// HAProxy's branch, as far as the configuration's language depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// 3 of 3.0.
    pub major: u16,
    /// 0 of 3.0.
    pub minor: u16,
}

impl Target {
    /// The branch of that number.
    pub fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The oldest branch that hapilot supports.
    pub const OLDEST: Self = Self { major: 2, minor: 6 };

    /// Whether hapilot supports this branch at all.
    pub fn is_supported(self) -> bool {
        self.at_least(Self::OLDEST.major, Self::OLDEST.minor)
    }

    /// What this branch cannot do, for people; nothing from 3.0 on.
    pub fn degradations(self) -> Vec<&'static str> {
        let mut lost = Vec::new();
        if !self.has_response_timeout() {
            lost.push("timeout.first_byte and timeout.idle cannot differ: the longer one serves for both");
        }
        if !self.has_retry_on_429() {
            lost.push("a 429 of one server is not retried on another: it reaches the client");
        }
        if !self.tells_attempts() {
            lost.push(
                "what a repeat hid has no class: it counts as a failure; errors within a stream are not held back",
            );
        }
        if !self.at_least(2, 7) {
            lost.push("a reload gives no reason when it fails: only `haproxy -c` before it does");
        }
        lost
    }

    /// What the file says and this branch does not do, one line each; nothing from 3.2 on.
    pub fn not_in_force(self, config: &Config) -> Vec<String> {
        let Self { major, minor, .. } = self;
        let differ = config.backends.iter().filter(|_| !self.has_response_timeout()).filter_map(|backend| {
            let (first, idle) = (backend.timeout.first_byte.value, backend.timeout.idle.value);
            let (shorter, is) = if first < idle { ("first_byte", first) } else { ("idle", idle) };
            (first != idle).then(|| {
                format!(
                    "backend {}: {shorter} = {} is not in force: HAProxy {major}.{minor} waits {} for first_byte and for idle alike",
                    backend.name,
                    format_duration(is),
                    format_duration(first.max(idle))
                )
            })
        });
        let silent = config.backends.iter().filter(|backend| backend.timeout.first_token.is_some());
        let silent = silent.filter(|_| !self.has_response_timeout()).map(|backend| {
            let repeats = backend.retry_streams.as_ref().map(|word| word.value);
            let is = match repeats {
                Some(RetryStreams::ErrorsAndSilence) => "ends the wait behind a header only",
                Some(RetryStreams::Errors) | None => "is not in force",
            };
            format!(
                "backend {}: first_token {is}: HAProxy {major}.{minor} has one time-out for all of an answer",
                backend.name
            )
        });
        let delaying = config.plans.iter().filter(|plan| plan.delays && !self.pauses());
        let delays = delaying.map(|plan| {
            format!(
                "plan {}: over = \"delay\" is not in force: HAProxy {major}.{minor} cannot hold a request back, and answers 429",
                plan.name.value
            )
        });
        differ.chain(silent).chain(delays).collect()
    }

    /// `tcp-response content` rules that see each attempt and lose none: on 2.6 a server that hangs up without an answer
    /// would lose its repeat.
    pub(crate) fn tells_attempts(self) -> bool {
        self.at_least(3, 0)
    }

    /// An answer in the server's place, as by `http-response return`, where the server sent an interim one (103): 3.0.11
    /// aborts, all of it, while that is still in its buffer.
    pub(crate) fn answers_after_interim(self) -> bool {
        self.at_least(3, 2)
    }

    /// `http-request pause`.
    pub(crate) fn pauses(self) -> bool {
        self.at_least(3, 2)
    }

    fn at_least(self, major: u16, minor: u16) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    /// `http-response set-timeout server`: the wait for the first byte and the gap within a stream can differ.
    pub(crate) fn has_response_timeout(self) -> bool {
        self.at_least(3, 0)
    }

    /// `tune.bufsize.large`, for requests that are larger than a buffer.
    pub(crate) fn has_large_buffers(self) -> bool {
        self.at_least(3, 4)
    }

    /// `balance leastconn` loses sight of a server that a repeat avoided, until the whole backend is idle for a moment
    /// (seen on 3.2.26 and 3.4.7, not on 3.0.11: the smallest key that is looked at moves on beyond the avoided server's).
    pub(crate) fn leastconn_loses_servers(self) -> bool {
        self.at_least(3, 2)
    }

    /// `option http-drop-request-trailers`.
    pub(crate) fn drops_trailers(self) -> bool {
        self.at_least(3, 2)
    }

    /// HAProxy leaves a list of rules after 50 of them to others and comes back: what was read before may be another by
    /// then, and limits let everybody through who asks meanwhile. `tune.max-rules-at-once` sets how many.
    pub(crate) fn leaves_rules(self) -> bool {
        self.at_least(3, 2)
    }

    /// `sc-add-gpc`: counters that can be taken back.
    pub(crate) fn adds_to_counters(self) -> bool {
        self.at_least(2, 8)
    }

    /// `tune.stick-counters`, more than three of them.
    pub(crate) fn has_more_stick_counters(self) -> bool {
        self.at_least(2, 8)
    }

    /// `tune.memory.hot-size`, how much memory each thread keeps for itself.
    pub(crate) fn has_hot_size(self) -> bool {
        self.at_least(2, 8)
    }

    /// `option use-small-buffers`, for requests that are kept for a repeat.
    pub(crate) fn has_small_buffers(self) -> bool {
        self.at_least(3, 4)
    }

    /// `tune.lua.bool-sample-conversion`, which is asked for wherever it is known.
    pub(crate) fn asks_how_lua_sees_booleans(self) -> bool {
        self.at_least(3, 2)
    }

    /// Servers ask for the name in the client's Host unless they are told not to.
    pub(crate) fn has_sni_auto(self) -> bool {
        self.at_least(3, 3)
    }

    /// `retry-on 429`.
    pub(crate) fn has_retry_on_429(self) -> bool {
        self.at_least(3, 0)
    }
}
