//! Attempts that were repeated, told once: a line tells of each, but only when its request has ended; the counters tell
//! at once how many there were, and HAProxy's variable what the last ones came to.
//!
//! Knows counts of one server in one worker. Called by `tally`.

use super::attempt::Attempt;
use super::classify::{Ended, of_attempt};
use super::counters::ServerCount;
use crate::health::Outcome;
use std::time::{Duration, SystemTime};

/// What one server's repeated attempts were told as, in one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repeats {
    /// Told by lines, not yet seen in the counters.
    ahead: u32,
    /// Told by the counters; their lines are still to come.
    early: u32,
    /// Seen in the counters and not told: only their lines know.
    owed: u32,
}

/// What is new by the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fresh {
    /// Connections that were not there.
    pub(super) refused: u32,
    /// Answers that are known already, how many, and the silence that they ask for.
    pub(super) known: Option<(Outcome, u32, Option<Duration>)>,
    /// Nobody knows.
    pub(super) unknown: u32,
}

/// What HAProxy's variable says of the server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Latest<'a> {
    /// There is no such variable, and no line says more.
    Mute,
    /// There is no such variable, but lines will tell.
    LinesOnly,
    /// The last attempt since the look before that was answered badly.
    Told(Option<Attempt<'a>>),
}

impl Repeats {
    /// A line tells of an attempt. Whether it is news.
    pub(super) fn line(&mut self) -> bool {
        if self.early > 0 {
            self.early -= 1;
            return false;
        }
        if self.owed > 0 {
            self.owed -= 1;
        } else {
            self.ahead = self.ahead.saturating_add(1);
        }
        true
    }

    /// The counters have grown.
    pub(super) fn counted(
        &mut self,
        now: &ServerCount,
        before: &ServerCount,
        latest: Latest<'_>,
        today: SystemTime,
    ) -> Fresh {
        let (hidden, connections) = (now.hidden_since(before), now.connections_since(before));
        let explained = hidden.min(self.ahead);
        self.ahead -= explained;
        let rest = hidden - explained;
        if rest == 0 {
            return Fresh::default();
        }
        let refused = connections.min(rest);
        let answers = rest - refused;
        match latest {
            Latest::Mute => Fresh { unknown: rest, ..Fresh::default() },
            Latest::LinesOnly => {
                self.owed = self.owed.saturating_add(answers);
                Fresh { refused, ..Fresh::default() }
            }
            // Nothing was answered at all: it was the connection again.
            Latest::Told(None) => Fresh { refused: rest, ..Fresh::default() },
            // What followed the interim answer, nobody knows; an answer it was.
            Latest::Told(Some(attempt)) if attempt.is_interim() => {
                Fresh { refused, unknown: answers, ..Fresh::default() }
            }
            Latest::Told(Some(attempt)) => {
                // Whose mistake a rejection is, is told by how the request ends.
                let word = of_attempt(&attempt, Ended::Badly);
                if word.doubts_key {
                    self.owed = self.owed.saturating_add(answers);
                    return Fresh { refused, ..Fresh::default() };
                }
                self.early = self.early.saturating_add(answers);
                let known = (answers > 0).then(|| (word.outcome, answers, attempt.retry_after(today)));
                Fresh { refused, known, unknown: 0 }
            }
        }
    }

    /// What is from before the first look is no news.
    pub(super) fn first_look(&mut self) {
        *self = Self::default();
    }
}

/// The attempts in HAProxy's variable, the last one first: when, in milliseconds, of which place, and which.
pub(super) fn latest(text: &str) -> impl Iterator<Item = (u64, &str, Attempt<'_>)> {
    text.split(' ').filter_map(|entry| {
        let (at, rest) = entry.split_once(':')?;
        // Names of backends have no colon; those of hops do, and log none.
        let (backend, attempt) = rest.split_once(':')?;
        Some((at.parse().ok()?, backend, Attempt::parse(attempt)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(retries: u64, redispatches: u64) -> ServerCount {
        ServerCount { sessions: 0, retries, redispatches }
    }

    fn counted(repeats: &mut Repeats, from: u64, to: u64, latest: Latest<'_>) -> Fresh {
        repeats.counted(&count(to, to), &count(from, from), latest, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn each_attempt_is_told_once_whoever_tells_first() {
        let limited = Attempt::parse("a:429:7:::").unwrap();
        let mut repeats = Repeats::default();
        // The line first, then the counters.
        assert!(repeats.line());
        assert_eq!(counted(&mut repeats, 0, 1, Latest::Told(Some(limited))), Fresh::default());
        // The counters first.
        let fresh = counted(&mut repeats, 1, 4, Latest::Told(Some(limited)));
        assert_eq!(fresh.known, Some((Outcome::RateLimited, 3, Some(Duration::from_secs(7)))));
        assert_eq!([repeats.line(), repeats.line(), repeats.line(), repeats.line()], [false, false, false, true]);
        assert_eq!(counted(&mut repeats, 4, 5, Latest::Told(Some(limited))), Fresh::default());
    }

    #[test]
    fn behind_an_interim_answer_nobody_knows() {
        let interim = Attempt::parse("a:103::::").unwrap();
        let mut repeats = Repeats::default();
        let fresh = repeats.counted(&count(2, 3), &count(0, 0), Latest::Told(Some(interim)), SystemTime::UNIX_EPOCH);
        assert_eq!(fresh, Fresh { refused: 1, unknown: 2, ..Fresh::default() });
        assert_eq!(repeats, Repeats::default());
    }

    #[test]
    fn what_only_the_end_tells_waits_for_its_line() {
        let rejected = Attempt::parse("a:401::::i").unwrap();
        let mut repeats = Repeats::default();
        assert_eq!(counted(&mut repeats, 0, 2, Latest::Told(Some(rejected))), Fresh::default());
        assert!(repeats.line() && repeats.line());
        assert_eq!(repeats, Repeats::default());
        assert_eq!(counted(&mut repeats, 2, 3, Latest::LinesOnly), Fresh::default());
        assert!(repeats.line());
        assert_eq!(repeats, Repeats::default());
    }

    #[test]
    fn connections_leave_no_line_and_without_one_nobody_knows() {
        let mut repeats = Repeats::default();
        let fresh = repeats.counted(&count(0, 2), &count(0, 0), Latest::Told(None), SystemTime::UNIX_EPOCH);
        assert_eq!(fresh, Fresh { refused: 2, ..Fresh::default() });
        let fresh = repeats.counted(&count(3, 2), &count(0, 2), Latest::Told(None), SystemTime::UNIX_EPOCH);
        assert_eq!(fresh, Fresh { refused: 3, ..Fresh::default() });
        assert_eq!(counted(&mut repeats, 0, 2, Latest::Mute), Fresh { unknown: 2, ..Fresh::default() });
        assert_eq!(repeats, Repeats::default());
    }

    #[test]
    fn the_variable_is_read_also_where_it_is_cut() {
        let text = "30:chat:a:429:7::: 20:chat:b::::: - 10:x:c:50";
        let all: Vec<_> = latest(text).map(|(at, backend, attempt)| (at, backend, attempt.server)).collect();
        assert_eq!(all, [(30, "chat", "a"), (20, "chat", "b")]);
    }
}
