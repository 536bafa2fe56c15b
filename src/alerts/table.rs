//! What lasts, and what happened lately.
//!
//! ```text
//!           begins                   ends                 held for two looks and its time
//!  (none) ─────────► lasts ◄──────────────► ending ───────────────────────────────────────► over
//!                      ▲      begins again                                                    │
//!                      └──────────────────────────────────────────────────────────────────────┘ begins again: it flaps
//!  (none) ─ happens ─► happened ── not again for four hours ──► over
//! ```
//!
//! After a restart of the agent what lasted is doubted until it is told again: an agent that starts tells what lasts.

use super::classify::{Finding, Home, classify};
use super::topic::{Topic, Urgency};
use crate::event::{Event, EventKind, Phase};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An end must hold for [`AlertTable::HOLD`] the first time, and so long when the alert came back the second, the third and any
/// later time within [`MEMORY`]: what flaps is one alert.
const LONGER_HOLDS: [SignedDuration; 3] =
    [SignedDuration::from_mins(30), SignedDuration::from_hours(2), SignedDuration::from_hours(6)];
/// And be seen by so many looks.
const CLEAN_LOOKS: u8 = 2;
/// How long ends are remembered.
const MEMORY: SignedDuration = SignedDuration::from_hours(6);
/// So many are remembered.
const MAX_ENDS: usize = 8;
/// What happened and did not last is over when it has not happened again for so long.
const HAPPENED: SignedDuration = SignedDuration::from_hours(4);
/// What an agent before this one saw last is over when this one has not told it for so long.
const DOUBT: SignedDuration = SignedDuration::from_mins(5);
/// A HAProxy that could not be steered for so long is one that nobody watches over.
const BLIND: SignedDuration = SignedDuration::from_mins(5);
/// Most alerts that are known; pages have as much room again.
const MAX_ALERTS: usize = 2_000;
/// Of a text, in characters.
const MAX_TEXT: usize = 400;
/// Events are read again from a little before the last one: threads tell them nearly in order.
const SLACK: SignedDuration = SignedDuration::from_secs(5);
/// A page that only happens is one with the last one so long; later it is another, which rings for itself.
const AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// One matter that somebody may have to know of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same from beginning to end, over restarts, on all nodes.
    pub key: String,
    /// What it is about.
    pub topic: Topic,
    /// How soon somebody must look.
    pub urgency: Urgency,
    /// What is told together.
    pub scope: String,
    /// Whose matter it is.
    pub home: Home,
    /// Whom it befell.
    pub subject: String,
    /// In words.
    pub text: String,
    /// Why.
    #[serde(default)]
    pub cause: String,
    /// When it began, or happened first.
    pub since: Timestamp,
    /// How often it began or happened since it was over last.
    pub count: u32,
    /// When it began, or happened, the last time.
    #[serde(default)]
    pub began: Option<Timestamp>,
    /// When it ended; `None` while it lasts.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// Its end in words, where somebody said it.
    #[serde(default)]
    pub over_text: String,
    /// Somebody was told of it since it was over last.
    #[serde(default)]
    is_told: bool,
    /// When the last event of it happened.
    last: Timestamp,
    state: State,
    /// When it ended lately, as far as that counts.
    #[serde(default)]
    ends: Vec<Timestamp>,
    /// When it ended before anybody was told, which does not count the first time.
    #[serde(default)]
    untold_end: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Lasts,
    /// Seen by an agent before this one, and not told again yet.
    Doubted {
        since: Timestamp,
    },
    Ending {
        since: Timestamp,
        clean: u8,
    },
    Happened,
    Over {
        at: Timestamp,
        has_lasted: bool,
    },
}

impl Alert {
    /// Whether it is to be told as something that is so.
    pub fn is_firing(&self) -> bool {
        !matches!(self.state, State::Over { .. })
    }

    /// Whether its end was seen, and does not hold for long enough yet.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, State::Ending { .. })
    }

    /// Whether it is so, as far as this agent has seen: its end was not seen, and it is not only what an agent before it told.
    pub fn is_sure(&self) -> bool {
        !matches!(self.state, State::Ending { .. } | State::Doubted { .. })
    }

    /// Whether it lasts, and did not merely happen.
    pub fn lasts(&self) -> bool {
        matches!(self.state, State::Lasts | State::Doubted { .. } | State::Ending { .. })
    }

    /// Whether nothing of it ever lasted.
    pub fn merely_happened(&self) -> bool {
        matches!(self.state, State::Happened | State::Over { has_lasted: false, .. })
    }

    /// Until when an end that was seen must hold.
    pub fn held_until(&self) -> Option<Timestamp> {
        match self.state {
            State::Ending { since, .. } => Some(since.checked_add(self.hold()).unwrap_or(Timestamp::MAX)),
            _ => None,
        }
    }

    /// Why it is open, behind what it is.
    pub(super) fn open_because(&self) -> String {
        let at = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let from = |from: Timestamp, for_so_long| from.checked_add(for_so_long).unwrap_or(Timestamp::MAX);
        match (self.state, self.is_flapping()) {
            (State::Lasts | State::Doubted { .. }, _) => format!(", since {}", at(self.began.unwrap_or(self.since))),
            (State::Ending { since, .. }, true) => {
                format!(" since {}, kept open until {} because it flaps", at(since), at(from(since, self.hold())))
            }
            (State::Ending { since, .. }, false) => {
                format!(" since {}, over when that has held for a minute", at(since))
            }
            (State::Happened, _) => {
                format!(", at {}, open until {}", at(self.last), at(from(self.last, HAPPENED)))
            }
            (State::Over { .. }, _) => String::new(),
        }
    }

    /// Whether it only happened, before that.
    pub(super) fn happened_before(&self, when: Timestamp) -> bool {
        self.merely_happened() && self.last < when
    }

    /// Whether it has come back lately after an end.
    pub fn is_flapping(&self) -> bool {
        self.ends.len() > 1
    }

    /// The key of what is told together with it.
    pub fn group(&self) -> String {
        let home = match self.home {
            Home::Shared => "all",
            Home::Node => "node",
        };
        format!("{}/{home}/{}", self.urgency, self.scope)
    }

    fn end(&mut self, at: Timestamp, text: &str) {
        if matches!(self.state, State::Lasts | State::Doubted { .. }) {
            self.state = State::Ending { since: at, clean: 0 };
            (self.ended, self.over_text) = (Some(at), cut(text));
            // What nobody was told of does not flap for anybody, unless it comes again and again.
            if !self.is_told && self.untold_end.replace(at).is_none() {
                return;
            }
            self.ends.push(at);
            if self.ends.len() > MAX_ENDS {
                self.ends.remove(0);
            }
        }
    }

    fn hold(&self) -> SignedDuration {
        match self.ends.len() {
            0 | 1 => AlertTable::HOLD,
            many => LONGER_HOLDS[(many - 2).min(LONGER_HOLDS.len() - 1)],
        }
    }

    /// Moves on with time; answers whether it is to be forgotten.
    fn look(&mut self, now: Timestamp) -> bool {
        self.ends.retain(|end| now.duration_since(*end) < MEMORY);
        self.untold_end = self.untold_end.filter(|end| now.duration_since(*end) < MEMORY);
        match self.state {
            State::Doubted { since } if now.duration_since(since) >= DOUBT => self.end(now, ""),
            State::Ending { since, clean } => {
                let clean = clean.saturating_add(1).min(CLEAN_LOOKS);
                let is_over = clean >= CLEAN_LOOKS && now.duration_since(since) >= self.hold();
                self.state = match is_over {
                    true => State::Over { at: now, has_lasted: true },
                    false => State::Ending { since, clean },
                };
            }
            State::Happened if now.duration_since(self.last) >= HAPPENED => {
                self.state = State::Over { at: now, has_lasted: false };
            }
            // A sink that looks later still learns how it ended.
            State::Over { at, .. } => return now.duration_since(at) >= MEMORY,
            State::Lasts | State::Doubted { .. } | State::Happened => {}
        }
        false
    }
}

/// All alerts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AlertTable {
    alerts: BTreeMap<String, Alert>,
    /// Until when events are known.
    cursor: Option<Timestamp>,
    /// When the agent of the last events began.
    #[serde(default)]
    started: Option<Timestamp>,
    /// Alerts for which there was no room, since the table was begun.
    #[serde(default)]
    pub dropped: u64,
    /// How many servers each backend has that are meant to serve.
    #[serde(skip)]
    pools: BTreeMap<String, usize>,
}

impl AlertTable {
    /// An end must hold for so long, the first time.
    pub(super) const HOLD: SignedDuration = SignedDuration::from_secs(60);

    /// From when on events are to be read again after a death; `None`: nothing was ever read.
    pub fn unread_from(&self) -> Option<Timestamp> {
        self.cursor.map(|cursor| cursor.checked_sub(SLACK).unwrap_or(cursor))
    }

    /// Nothing before this is news.
    pub fn begin_at(&mut self, now: Timestamp) {
        self.cursor.get_or_insert(now);
    }

    /// What only happened is no news to anybody any more.
    pub fn forget_what_happened(&mut self) {
        self.alerts.retain(|_, alert| alert.lasts());
    }

    /// All of them, by their keys.
    pub fn all(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// One of them.
    pub fn get(&self, key: &str) -> Option<&Alert> {
        self.alerts.get(key)
    }

    /// How many servers each backend has that are meant to serve.
    pub fn know_pools(&mut self, pools: BTreeMap<String, usize>) {
        self.pools = pools;
    }

    /// How many servers of a backend are not told to be out, and how many there are.
    pub(super) fn serving(&self, pool: &str) -> Option<(usize, usize)> {
        let all = *self.pools.get(pool)?;
        let is_out = |alert: &&Alert| {
            alert.topic == Topic::Server
                && alert.scope == pool
                && alert.urgency == Urgency::Warning
                && matches!(alert.state, State::Lasts | State::Doubted { .. })
        };
        Some((all.saturating_sub(self.alerts.values().filter(is_out).count()), all))
    }

    /// Somebody was told of these.
    pub fn note_told<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        for key in keys {
            if let Some(alert) = self.alerts.get_mut(key) {
                alert.is_told = true;
            }
        }
    }

    /// Takes in an event. `again`: it is read from the history after a death, and may have been taken in before.
    pub fn take(&mut self, event: &Event, again: bool) {
        self.cursor = self.cursor.max(Some(event.at));
        if event.kind == EventKind::Agent && event.phase == Phase::Begins && self.started < Some(event.at) {
            self.started = Some(event.at);
            // Another node is told to be heard, and Keepalived to run, as soon as that is so; that it still is not, is not told.
            let is_told_again =
                |alert: &&mut Alert| !alert.key.starts_with("vip/node/") || alert.key.ends_with("/haproxy");
            let lasting = self.alerts.values_mut().filter(|alert| alert.state == State::Lasts);
            for alert in lasting.filter(is_told_again) {
                alert.state = State::Doubted { since: event.at };
            }
        }
        for mut finding in classify(event) {
            let is_known = |alert: &Alert| alert.last == event.at || again && alert.last > event.at;
            if self.occurrences(&finding.key).any(is_known) {
                continue;
            }
            if finding.phase == Phase::Once && finding.urgency == Urgency::Page {
                if self.is_told_by_another_agent(&finding.key, event) {
                    continue;
                }
                finding.key = self.key_of_occurrence(&finding.key, event.at);
            }
            self.put(finding, event);
        }
    }

    /// The alert of this key, and those of what happened again later: `KEY@SECOND`.
    fn occurrences<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Alert> {
        let of_key = self.alerts.range(key.to_owned()..).take_while(move |(other, _)| other.starts_with(key));
        let is_one = move |other: &str| other[key.len()..].is_empty() || other[key.len()..].starts_with('@');
        of_key.filter(move |(other, _)| is_one(other)).map(|(_, alert)| alert)
    }

    /// Whether an agent that has just begun tells what one before it told (that a certificate has expired): that did not happen
    /// again.
    fn is_told_by_another_agent(&self, key: &str, event: &Event) -> bool {
        let Some(started) = self.started.filter(|started| event.at.duration_since(*started) < DOUBT) else {
            return false;
        };
        let is_same = |alert: &Alert| alert.is_firing() && alert.last < started && alert.text == cut(&event.text);
        self.occurrences(key).any(is_same)
    }

    /// A page that happens again rings again: it has a key of its own.
    fn key_of_occurrence(&self, key: &str, at: Timestamp) -> String {
        let firing = || self.occurrences(key).filter(|alert| alert.is_firing());
        let is_same =
            |alert: &&Alert| alert.urgency == Urgency::Page && (alert.lasts() || at.duration_since(alert.last) < AGAIN);
        if let Some(same) = firing().find(is_same) {
            return same.key.clone();
        }
        match firing().next() {
            Some(_) => format!("{key}@{}", at.as_second()),
            None => key.to_owned(),
        }
    }

    fn put(&mut self, finding: Finding, event: &Event) {
        let at = event.at;
        if finding.phase == Phase::Ends {
            if let Some(alert) = self.alerts.get_mut(&finding.key) {
                alert.last = at;
                alert.end(at, &event.text);
            }
            return;
        }
        let known = self.alerts.get(&finding.key).filter(|known| known.is_firing());
        // What happens beside what lasts, or is less urgent, changes nothing of that.
        let is_beside = |known: &Alert| known.lasts() || known.urgency > finding.urgency;
        if finding.phase == Phase::Once && known.is_some_and(is_beside) {
            return;
        }
        let room = if finding.urgency == Urgency::Page { MAX_ALERTS * 2 } else { MAX_ALERTS };
        if !self.alerts.contains_key(&finding.key) && self.alerts.len() >= room {
            self.dropped += 1;
            return;
        }
        let lasts = finding.phase == Phase::Begins;
        let state = if lasts { State::Lasts } else { State::Happened };
        let Finding { key, topic, urgency, scope, home, phase: _ } = finding;
        // What is more or less urgent, or merely happened, is another matter: its times are its own.
        let before = self.alerts.remove(&key).filter(|before| before.urgency == urgency);
        let untold_end = before.as_ref().and_then(|before| before.untold_end);
        let (since, count, began, ends, is_told) =
            match before {
                Some(Alert {
                    since, count, began, ends, is_told, state: State::Lasts | State::Doubted { .. }, ..
                }) if lasts => (since, count, began, ends, is_told),
                Some(Alert { since, count, ends, is_told, state: State::Ending { .. }, .. }) if lasts => {
                    (since, count.saturating_add(1), Some(at), ends, is_told)
                }
                Some(Alert { since, count, ends, is_told, state: State::Happened, .. }) if !lasts => {
                    (since, count.saturating_add(1), Some(at), ends, is_told)
                }
                Some(Alert { ends, state: State::Over { .. }, .. }) => (at, 1, Some(at), ends, false),
                _ => (at, 1, Some(at), vec![], false),
            };
        let (text, cause, subject) = (cut(&event.text), cut(&event.cause), cut(&event.subject));
        let (ended, over_text) = (None, String::new());
        let alert = Alert {
            key,
            topic,
            urgency,
            scope,
            home,
            subject,
            text,
            cause,
            since,
            count,
            began,
            ended,
            over_text,
            is_told,
            last: at,
            state,
            ends,
            untold_end,
        };
        self.alerts.insert(alert.key.clone(), alert);
    }

    /// Moves on with time. Called every few seconds.
    pub fn look(&mut self, now: Timestamp) {
        self.alerts.retain(|_, alert| !alert.look(now));
        self.look_for_blindness(now);
    }

    /// A HAProxy that does not follow is a warning, and a page when that lasts: nobody mends what happens meanwhile.
    fn look_for_blindness(&mut self, now: Timestamp) {
        let is_base = |alert: &Alert| alert.topic == Topic::Haproxy && alert.urgency == Urgency::Warning;
        let is_long =
            |alert: &&Alert| is_base(alert) && alert.state == State::Lasts && now.duration_since(alert.since) >= BLIND;
        let blind: Vec<Alert> = self.alerts.values().filter(is_long).cloned().collect();
        for base in blind {
            let key = format!("{}/blind", base.key);
            let text = format!("hapilot has not been able to steer HAProxy for 5 minutes: {}", base.text);
            let is_known = self.alerts.get(&key).is_some_and(|alert| alert.state == State::Lasts);
            if !is_known {
                let ends = self.alerts.remove(&key).map(|alert| alert.ends).unwrap_or_default();
                let scope = "agent".to_owned();
                let (topic, urgency, text) = (Topic::Agent, Urgency::Page, cut(&text));
                let alert = Alert {
                    key: key.clone(),
                    topic,
                    urgency,
                    scope,
                    text,
                    since: now,
                    last: now,
                    count: 1,
                    began: Some(now),
                    is_told: false,
                    ends,
                    ..base
                };
                self.alerts.insert(key, alert);
            }
        }
        let bases: Vec<String> = self
            .alerts
            .values()
            .filter(|alert| alert.state == State::Lasts && is_base(alert))
            .map(|a| a.key.clone())
            .collect();
        for (key, alert) in &mut self.alerts {
            if let Some(base) = key.strip_suffix("/blind")
                && !bases.iter().any(|one| one == base)
            {
                alert.end(now, "hapilot steers HAProxy again");
            }
        }
    }
}

/// At most so long.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
