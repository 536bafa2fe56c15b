//! What waits for one sink, in the order in which it was decided.

use super::notification::{Change, Notification};
use super::topic::Urgency;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Most notifications that wait for one sink.
pub const MAX_WAITING: usize = 1_000;

/// What waits, and what became of the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    waiting: VecDeque<Notification>,
    /// Dropped for want of room, since the state was begun.
    #[serde(default)]
    pub dropped: u64,
}

impl Queue {
    /// Puts one behind the others. What an older one of the same group said and this one says as well is taken away, but for
    /// the first, which may be under way.
    pub(super) fn push(&mut self, new: Notification) {
        let mut place = 0;
        self.waiting.retain(|old| {
            place += 1;
            place == 1 || old.dedup != new.dedup || !old.change.is_overtaken()
        });
        self.waiting.push_back(new);
        while self.waiting.len() > MAX_WAITING {
            let victim = self.victim();
            self.waiting.remove(victim);
            self.dropped += 1;
        }
    }

    /// The oldest of those that matter least; never the first, which may be under way. An end is dropped last.
    fn victim(&self) -> usize {
        let worth = |one: &Notification| match (one.change, one.urgency) {
            (Change::Resolve | Change::Expire, _) => 5,
            (Change::Applied, _) => 0,
            (_, Urgency::Info) => 1,
            (Change::Update | Change::Repeat | Change::Refresh, _) => 2,
            (Change::Trigger, Urgency::Warning) => 3,
            (Change::Trigger, Urgency::Page) => 4,
        };
        let rest = self.waiting.iter().enumerate().skip(1);
        rest.min_by_key(|(place, one)| (worth(one), *place)).map_or(0, |(place, _)| place)
    }

    /// The one whose turn it is.
    pub fn first(&self) -> Option<&Notification> {
        self.waiting.front()
    }

    /// It was taken, or will never be.
    pub fn done(&mut self, id: &str) {
        if self.waiting.front().is_some_and(|first| first.id == id) {
            self.waiting.pop_front();
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All that wait, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Notification> {
        self.waiting.iter()
    }
}
