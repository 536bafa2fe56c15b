//! The time that a rollout was watched: it stands still while no agent runs.

use crate::model::Moment;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Time since the beginning, without the gaps between a save and the first call after it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clock {
    age: Duration,
    /// Moments of one life of an agent mean nothing to the next one.
    #[serde(skip)]
    last: Option<Moment>,
}

impl Clock {
    pub(super) fn new(now: Moment) -> Self {
        Self { age: Duration::ZERO, last: Some(now) }
    }

    /// Goes on to this moment; answers the age.
    pub(super) fn advance(&mut self, now: Moment) -> Duration {
        self.age = self.age_at(now);
        self.last = Some(now.max(self.last.unwrap_or(now)));
        self.age
    }

    /// The age at this moment.
    pub(super) fn age_at(&self, now: Moment) -> Duration {
        self.age + self.last.map_or(Duration::ZERO, |last| now.since(last))
    }

    /// The moment at which it is so old, `now` at the earliest.
    pub(super) fn moment_of(&self, age: Duration, now: Moment) -> Moment {
        now + age.saturating_sub(self.age_at(now))
    }
}
