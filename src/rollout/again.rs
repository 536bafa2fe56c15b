//! Whether a content may begin that was rolled back before.
//!
//! By the wall clock, which the caller hands in: it must hold across restarts and nodes.

use super::words::time_text;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// So long the same content does not begin again by itself.
pub const REJECTED_FOR: Duration = Duration::from_secs(1800);

/// A content that was rolled back. The agent keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The digest of what was rolled out.
    pub content: String,
    /// By the wall clock.
    pub at: SystemTime,
    /// In words.
    pub reason: String,
}

impl Rejected {
    /// How long it has to wait yet; `None` where it is over, or where the clock stood far in the future then.
    pub fn wait(&self, today: SystemTime) -> Option<Duration> {
        match today.duration_since(self.at) {
            Ok(ago) => REJECTED_FOR.checked_sub(ago).filter(|left| !left.is_zero()),
            // The clock was set back a little: the whole time, counted from now.
            Err(ahead) if ahead.duration() <= REJECTED_FOR => Some(REJECTED_FOR),
            Err(_) => None,
        }
    }
}

/// Until when a content does not begin by itself; `None`: it may.
pub fn blocked_until(content: &str, rejected: &[Rejected], today: SystemTime) -> Option<SystemTime> {
    let waiting = rejected.iter().filter(|rejected| rejected.content == content);
    waiting.filter_map(|rejected| rejected.wait(today)).max().map(|wait| today + wait)
}

/// Whether a content may begin by itself. An operator's word comes before it.
///
/// # Errors
/// It was rolled back a short time ago: why, and how long it waits yet, in words.
pub fn may_begin(content: &str, rejected: &[Rejected], today: SystemTime) -> Result<(), String> {
    let waiting = rejected.iter().filter(|rejected| rejected.content == content);
    let longest = waiting.filter_map(|rejected| Some((rejected.wait(today)?, rejected))).max_by_key(|(wait, _)| *wait);
    match longest {
        None => Ok(()),
        Some((wait, Rejected { reason, .. })) => Err(format!(
            "the same content was rolled back less than {} ago, and waits for {} more: {reason}",
            time_text(REJECTED_FOR),
            time_text(wait.max(Duration::from_secs(1)))
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rolled_back_waits_for_half_an_hour_whatever_the_clock_does() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let rejected = [Rejected { content: "a".to_owned(), at, reason: "it failed".to_owned() }];
        let after = |seconds: u64| may_begin("a", &rejected, at + Duration::from_secs(seconds));
        assert!(after(0).is_err());
        assert_eq!(
            after(1_799).unwrap_err(),
            "the same content was rolled back less than 30m ago, and waits for 1s more: it failed"
        );
        assert_eq!(after(1_800), Ok(()));
        assert_eq!(may_begin("b", &rejected, at), Ok(()));
        assert!(may_begin("a", &rejected, at - Duration::from_secs(60)).is_err());
        assert_eq!(may_begin("a", &rejected, at - Duration::from_secs(86_400)), Ok(()));
    }
}
