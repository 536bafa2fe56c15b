//! What HAProxy counts of each server, and what is new in it.
//!
//! An attempt that fails and is repeated elsewhere leaves no line; the server where it failed is named by `wredis` (and
//! by `wretr`, where an answer was repeated or the same server was tried again).

/// The counters of one server in one worker, from `show stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCount {
    /// Requests in flight (`scur`).
    pub sessions: u64,
    /// Attempts that were repeated (`wretr`).
    pub retries: u64,
    /// Attempts that were repeated on another server (`wredis`).
    pub redispatches: u64,
}

impl ServerCount {
    /// Attempts that failed since an earlier look and were repeated.
    ///
    /// An answer that is repeated elsewhere counts in both, a connection that is repeated elsewhere in `redispatches`
    /// alone, one that is repeated on the same server in `retries` alone. So the larger is right, unless the last two
    /// come together in one interval; then it is too small.
    pub(super) fn hidden_since(&self, earlier: &Self) -> u32 {
        let retries = grown(earlier.retries, self.retries);
        let redispatches = grown(earlier.redispatches, self.redispatches);
        u32::try_from(retries.max(redispatches)).unwrap_or(u32::MAX)
    }

    /// Of those, the ones that were surely connections: repeated elsewhere, and no answer among them.
    pub(super) fn connections_since(&self, earlier: &Self) -> u32 {
        let retries = grown(earlier.retries, self.retries);
        let redispatches = grown(earlier.redispatches, self.redispatches);
        u32::try_from(redispatches.saturating_sub(retries)).unwrap_or(u32::MAX)
    }
}

/// How much a counter grew; one that is smaller than before began anew (`clear counters`).
fn grown(earlier: u64, now: u64) -> u64 {
    now.checked_sub(earlier).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::ServerCount;

    fn count(retries: u64, redispatches: u64) -> ServerCount {
        ServerCount { sessions: 0, retries, redispatches }
    }

    #[test]
    fn an_attempt_that_was_repeated_counts_once() {
        for (what, before, after, expected) in [
            ("nothing", count(5, 7), count(5, 7), 0),
            ("an answer, repeated elsewhere", count(5, 7), count(6, 8), 1),
            ("a connection, repeated elsewhere", count(5, 7), count(5, 8), 1),
            ("a connection, repeated here", count(5, 7), count(7, 7), 2),
            ("one of each kind elsewhere", count(5, 7), count(6, 9), 2),
            ("the counters were cleared", count(5, 7), count(0, 1), 1),
        ] {
            assert_eq!(after.hidden_since(&before), expected, "{what}");
        }
    }
}
