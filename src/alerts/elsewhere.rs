//! What other nodes have told: so that who begins to tell neither repeats it nor leaves it open.

use super::topic::Urgency;
use crate::model::Digest;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a node told is trusted for so long after it was heard last.
pub(super) const TAKEOVER: SignedDuration = SignedDuration::from_secs(180);
/// An end is known for so long: a node whose agent was dead for longer may tell it once more.
pub(super) const ENDS_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Of so many ends.
pub(super) const MAX_ENDS: usize = 500;
/// A node that was heard so lately to tell for all does so now.
const NOW: SignedDuration = SignedDuration::from_secs(30);
/// Of so many matters the others are told, and of so many ends, the newest: room for them in a datagram. What is beyond may
/// be told twice.
const MAX_TOLD: usize = 100;

/// What the nodes call an alert of one sink; one that is more urgent is another.
pub(super) fn mark(sink: &str, urgency: Urgency, alert: &str) -> String {
    Digest::of(format!("{sink}\n{}\n{alert}", urgency.as_str())).short()
}

/// What a node says of what it told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertNews {
    /// It tells what all nodes see.
    pub speaks: bool,
    /// What a sink took from it and is not over, as marks, and for how many seconds it has known that.
    pub open: BTreeMap<String, i64>,
    /// Of what a sink took the end from it, and how many seconds ago.
    pub over: BTreeMap<String, i64>,
}

impl AlertNews {
    /// Of all sinks together.
    pub fn of(
        speaks: bool,
        open: impl Iterator<Item = (String, i64)>,
        over: impl Iterator<Item = (String, i64)>,
    ) -> Self {
        Self { speaks, open: newest(open), over: newest(over) }
    }
}

fn newest(marks: impl Iterator<Item = (String, i64)>) -> BTreeMap<String, i64> {
    let mut marks: Vec<_> = marks.collect();
    marks.sort_by_key(|(_, seconds)| *seconds);
    marks.truncate(MAX_TOLD);
    marks.into_iter().collect()
}

/// What is known of the other nodes.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere(Vec<Known>);

#[derive(Clone, Debug)]
struct Known {
    heard: Timestamp,
    speaks: bool,
    /// When it told that something begins, and that it is over.
    open: BTreeMap<String, Timestamp>,
    over: BTreeMap<String, Timestamp>,
}

impl Elsewhere {
    /// What another node said last, and when that was, by this node's clock.
    pub fn hear(&mut self, news: &AlertNews, heard: Timestamp) {
        let before = |seconds: i64| heard.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(heard);
        let when =
            |marks: &BTreeMap<String, i64>| marks.iter().map(|(mark, ago)| (mark.clone(), before(*ago))).collect();
        self.0.push(Known { heard, speaks: news.speaks, open: when(&news.open), over: when(&news.over) });
    }

    /// Whether a node that was heard lately told after that time that this has begun, and no node since then that it is over.
    pub(super) fn began(&self, mark: &str, after: Option<Timestamp>, now: Timestamp) -> bool {
        let lately = self.0.iter().filter(|known| now.duration_since(known.heard) < TAKEOVER);
        let began = lately.filter_map(|known| known.open.get(mark)).max();
        began.is_some_and(|began| after.is_none_or(|after| *began > after) && !self.ended(mark, *began))
    }

    /// Whether a node told that this is over, after that time.
    pub(super) fn ended(&self, mark: &str, after: Timestamp) -> bool {
        self.0.iter().any(|known| known.over.get(mark).is_some_and(|at| *at > after))
    }

    /// Whether a node tells for all now.
    pub(super) fn somebody_speaks(&self, now: Timestamp) -> bool {
        self.0.iter().any(|known| known.speaks && now.duration_since(known.heard) < NOW)
    }
}
