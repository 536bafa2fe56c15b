//! The `haproxy -c` that run beside the loop: one for a change, one for what serves already.
//!
//! A binary that hangs must not keep the loop from weights, states and questions. So whoever needs a verdict waits for a
//! moment only, is told to come again, and finds it here then. Called by `engine`; `run` wakes when a verdict is there.

use super::preflight::Check;
use crate::agent::outcome::applied::Wish;
use crate::model::Digest;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Changes that came again with another judgement each (an operator's template may turn a weight into anything) wait in
/// place after so many times.
const MAX_BEGUN: u32 = 3;

/// What runs, and how long somebody waits for it.
#[derive(Debug, Default)]
pub(in crate::agent) struct Checks {
    of_change: Option<Check>,
    of_serving: Option<Check>,
    /// `None`: to the end.
    pub patience: Option<Duration>,
    begun_in_vain: u32,
}

impl Checks {
    fn of(&mut self, wish: Wish<'_>) -> &mut Option<Check> {
        if wish.is_serving { &mut self.of_serving } else { &mut self.of_change }
    }

    /// Whether one with this judgement is there.
    pub fn has(&mut self, wish: Wish<'_>, judgement: Digest) -> bool {
        self.of(wish).as_ref().is_some_and(|check| check.judgement == judgement && !check.is_stale())
    }

    /// The one with this judgement; another one ends.
    pub fn take(&mut self, wish: Wish<'_>, judgement: Digest) -> Option<Check> {
        let is_there = self.has(wish, judgement);
        let taken = self.of(wish).take();
        self.begun_in_vain = match (&taken, is_there) {
            (Some(_), false) => self.begun_in_vain + 1,
            _ => 0,
        };
        taken.filter(|_| is_there)
    }

    /// Keeps one until somebody comes again; it runs on.
    pub fn keep(&mut self, wish: Wish<'_>, check: Check) {
        *self.of(wish) = Some(check);
    }

    /// Waits for the verdict for a moment, or to the end where nobody would come again; false: it is not there.
    pub async fn is_worth_waiting(&self, check: &Check) -> bool {
        match self.patience {
            Some(patience) if self.begun_in_vain < MAX_BEGUN => check.ends_within(patience).await,
            Some(_) | None => true,
        }
    }

    /// The verdict that a change waits for.
    pub fn awaited(&self) -> Option<CancellationToken> {
        self.of_change.as_ref().map(|check| check.done().clone())
    }

    /// Whether that verdict is there.
    pub fn has_verdict(&self) -> bool {
        self.of_change.as_ref().is_some_and(|check| check.done().is_cancelled())
    }

    /// Whether any runs.
    pub fn is_checking(&self) -> bool {
        let checks = [&self.of_change, &self.of_serving];
        checks.into_iter().flatten().any(|check| !check.done().is_cancelled())
    }

    /// What was to be known for this wish is known. A change that waits for its verdict waits on while something is brought
    /// to HAProxy that serves; what serves is another after a change.
    pub fn clear(&mut self, wish: Wish<'_>) {
        self.of_serving = None;
        *self.of(wish) = None;
        self.begun_in_vain = 0;
    }

    /// Nobody waits for it any more.
    pub fn forget_change(&mut self) {
        self.of_change = None;
    }
}
