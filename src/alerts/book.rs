//! What one sink was told, and what it is to be told next.
//!
//! Looks at the table as it is, and not at what has happened since: whatever was lost in between, the next look tells the
//! difference to what was told.

use super::elsewhere::{ENDS_KEPT, Elsewhere, MAX_ENDS, TAKEOVER, mark};
use super::line::{self, hint, is_kept, is_news, lines_of};
use super::notification::{Change, Line, Notification};
use super::queue::Queue;
use super::table::{Alert, AlertTable};
use super::topic::{Selection, Urgency};
use crate::event::{Event, EventKind};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Most alerts that one notification names.
const MAX_LINES: usize = 25;
/// What flaps is repeated so many times as seldom.
const SELDOM: u32 = 6;
/// So many notifications of one sink…
const BURST: usize = 20;
/// …and so many with pages…
const BURST_OF_PAGES: usize = 60;
/// …in so long. What is beyond waits, and is told together.
const WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// How a sink wants to be told.
#[derive(Clone, Debug)]
pub struct SinkRules {
    /// Its name.
    pub name: String,
    /// Of what.
    pub selection: Selection,
    /// What begins within this is told together.
    pub group: Duration,
    /// Between two notifications of one group.
    pub update: Duration,
    /// What lasts is told again after this.
    pub repeat: Duration,
    /// For a sink that forgets what is not told again: between two tellings.
    pub refresh: Option<Duration>,
    /// It is told which revisions serve.
    pub wants_changes: bool,
}

/// Who tells.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This node.
    pub node: String,
    /// The same on all nodes.
    pub cluster: String,
    /// Whether this node tells what all see.
    pub speaks: bool,
    /// What the others told.
    pub elsewhere: Elsewhere,
}

impl Identity {
    fn dedup(&self, group: &str) -> String {
        let who = if is_of_node(group) { &self.node } else { &self.cluster };
        format!("hapilot/{who}/{group}")
    }
}

/// What was told, and what waits to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkBook {
    groups: BTreeMap<String, Group>,
    /// What waits.
    #[serde(default)]
    pub queue: Queue,
    /// When notifications were decided lately.
    #[serde(default)]
    recent: VecDeque<Timestamp>,
    /// What only happened before this is no news here.
    #[serde(default)]
    begun: Option<Timestamp>,
    /// What was told to be over lately, and when.
    #[serde(default)]
    ends: BTreeMap<String, Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Group {
    /// When its first alert was seen.
    since: Timestamp,
    told: Option<Told>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    first: Timestamp,
    last: Timestamp,
    refreshed: Timestamp,
    /// The alerts as they were told.
    alerts: BTreeMap<String, Line>,
    /// Another node tells it.
    by_other: bool,
    /// When it was over, where another node is to tell that.
    #[serde(default)]
    over: Option<Timestamp>,
    /// That what flaps is back was told, once…
    #[serde(default)]
    is_back_told: bool,
    /// …and that it was not for long.
    #[serde(default)]
    is_relapse_told: bool,
}

impl SinkBook {
    /// Of a sink that begins now: what only happened before is no news to it.
    pub fn begin(now: Timestamp) -> Self {
        Self { begun: Some(now), ..Self::default() }
    }

    /// The group in which an alert is told. A page that comes to one that was told is a group of its own, so that it rings.
    fn group_of(&self, alert: &Alert) -> String {
        let first = alert.group();
        if alert.urgency != Urgency::Page {
            return first;
        }
        let told = |name: &String| self.groups.get(name).and_then(|group| group.told.as_ref());
        let mut name = first.clone();
        let mut free = None;
        for number in 2..self.groups.len() + 3 {
            match told(&name) {
                Some(told) if told.alerts.contains_key(&alert.key) => return name,
                Some(_) => {}
                None => free = free.or(Some(name)),
            }
            name = format!("{first}#{number}");
        }
        free.unwrap_or(first)
    }

    /// What was told and is not over, one line each: what it is, and why it is still open.
    pub fn open_matters(&self, table: &AlertTable) -> Vec<String> {
        let told = self.groups.values().filter_map(|group| group.told.as_ref());
        let known = told.flat_map(|told| told.alerts.keys().map(move |key| (table.get(key), told)));
        let lines = known.filter_map(|(alert, told)| {
            let alert = alert.filter(|alert| alert.is_firing())?;
            let line = lines_of(&[alert], &told.alerts).pop()?;
            let words = line.words().lines().next().unwrap_or_default().to_owned();
            Some(words + &alert.open_because())
        });
        lines.take(MAX_LINES).collect()
    }

    /// The keys of all that was told and is not over.
    pub fn told(&self) -> impl Iterator<Item = &str> {
        let told = self.groups.values().filter_map(|group| group.told.as_ref());
        told.flat_map(|told| told.alerts.keys().map(String::as_str))
    }

    /// What the sink took and is not over, and for how many seconds, for the other nodes.
    pub fn open_marks(&self, sink: &str, now: Timestamp) -> impl Iterator<Item = (String, i64)> {
        let waits = self.waiting(sink, |one, line| !line.is_over && (line.is_news || one.change == Change::Trigger));
        let told =
            self.groups.iter().filter(|(name, _)| !is_of_node(name)).filter_map(|(_, group)| group.told.as_ref());
        let own = told.filter(|told| !told.by_other && told.over.is_none());
        let lines = own.flat_map(|told| told.alerts.values().map(move |line| (line, told.first)));
        let marks =
            lines.map(move |(line, first)| (mark(sink, line.urgency, &line.key), now.duration_since(first).as_secs()));
        marks.filter(move |(mark, _)| !waits.contains(mark))
    }

    /// What the sink took the end of, and how many seconds ago, for the other nodes.
    pub fn over_marks(&self, sink: &str, now: Timestamp) -> impl Iterator<Item = (String, i64)> {
        let waits = self.waiting(sink, |_, line| line.is_over);
        let taken = self.ends.iter().filter(move |(mark, _)| !waits.contains(*mark));
        taken.map(move |(mark, at)| (mark.clone(), now.duration_since(*at).as_secs()))
    }

    /// The marks of these lines of what waits.
    fn waiting(&self, sink: &str, is_meant: impl Fn(&Notification, &Line) -> bool) -> BTreeSet<String> {
        let lines = self.queue.iter().flat_map(|one| one.lines.iter().map(move |line| (one, line)));
        let meant = lines.filter(|(one, line)| is_meant(one, line));
        meant.map(|(_, line)| mark(sink, line.urgency, &line.key)).collect()
    }

    /// Whether other nodes told that all of it has begun, and this one not since then that it is over.
    fn began_elsewhere(&self, alerts: &[&Alert], sight: &Sight<'_>) -> bool {
        let mut marks = alerts.iter().map(|alert| mark(&sight.rules.name, alert.urgency, &alert.key));
        marks.all(|mark| sight.who.elsewhere.began(&mark, self.ends.get(&mark).copied(), sight.now))
    }

    /// Looks for what is to be told now.
    pub fn look(&mut self, table: &AlertTable, rules: &SinkRules, who: &Identity, now: Timestamp) {
        self.recent.retain(|at| now.duration_since(*at) < WINDOW);
        self.ends.retain(|_, at| now.duration_since(*at) < ENDS_KEPT);
        while self.ends.len() > MAX_ENDS {
            let Some(oldest) = self.ends.iter().min_by_key(|(_, at)| **at).map(|(mark, _)| mark.clone()) else { break };
            self.ends.remove(&oldest);
        }
        let mut firing: BTreeMap<String, Vec<&Alert>> = BTreeMap::new();
        let own_trouble = format!("alert/{}", rules.name);
        let is_told = |alert: &&Alert| {
            alert.is_firing()
                && rules.selection.takes(alert.topic, alert.urgency)
                && alert.subject != own_trouble
                && !self.begun.is_some_and(|begun| alert.happened_before(begun))
        };
        for alert in table.all().filter(is_told) {
            firing.entry(self.group_of(alert)).or_default().push(alert);
        }
        let keys: BTreeSet<String> = firing.keys().chain(self.groups.keys()).cloned().collect();
        let mut keys: Vec<String> = keys.into_iter().collect();
        keys.sort_by_key(|key| Reverse(urgency_of(key)));
        for key in keys {
            let alerts = firing.remove(&key).unwrap_or_default();
            let mut group = self.groups.remove(&key).unwrap_or(Group { since: now, told: None });
            if self.look_at(&key, &mut group, &alerts, &Sight { table, rules, who, now }) {
                self.groups.insert(key, group);
            }
        }
    }

    /// Answers whether there is more to be told of it.
    fn look_at(&mut self, key: &str, group: &mut Group, alerts: &[&Alert], sight: &Sight<'_>) -> bool {
        let Sight { table, rules, who, now } = *sight;
        let is_shared = !is_of_node(key);
        let is_ours = who.speaks || !is_shared;
        let Some(told) = &mut group.told else {
            if alerts.is_empty() {
                return false;
            }
            // What an agent before this one told is told once this one sees it as well.
            let is_over = !alerts.iter().any(|alert| alert.is_sure());
            let is_due = now.duration_since(group.since) >= signed(rules.group);
            let is_known = is_shared && is_due && self.began_elsewhere(alerts, sight);
            if is_due && !is_over && (!is_ours || is_known || self.may_tell(key)) {
                let lines = lines_of(alerts, &BTreeMap::new());
                group.told = Some(Told {
                    first: now,
                    last: now,
                    refreshed: now,
                    alerts: lines.iter().map(|line| (line.key.clone(), line.clone())).collect(),
                    by_other: !is_ours,
                    over: None,
                    is_back_told: false,
                    is_relapse_told: false,
                });
                if is_ours && !is_known {
                    self.tell(Change::Trigger, key, now, lines, sight);
                }
            }
            return true;
        };
        let first = told.first;
        // What is over before it was told is not told.
        let is_known = |alert: &&&Alert| alert.is_sure() || told.alerts.contains_key(&alert.key);
        let alerts: Vec<&Alert> = alerts.iter().filter(is_known).copied().collect();
        if alerts.is_empty() {
            let own = Some(told.last).filter(|_| !told.by_other);
            let ended = |line: &Line, after| who.elsewhere.ended(&mark(&rules.name, line.urgency, &line.key), after);
            let is_told = |line: &Line| ended(line, own.unwrap_or(line.since));
            if is_shared && told.alerts.values().all(is_told) {
                return false;
            }
            if !is_ours {
                // Who speaks now tells it; it may have died before it did, or never have seen that it began.
                let is_early = now.duration_since(*told.over.get_or_insert(now)) < TAKEOVER;
                if is_early || told.by_other || !who.elsewhere.somebody_speaks(now) {
                    return is_early;
                }
            }
            if !self.may_tell(key) {
                return true;
            }
            let has_lasted = |line: &Line| !table.get(&line.key).is_some_and(Alert::merely_happened);
            let change = match told.alerts.values().any(has_lasted) {
                true => Change::Resolve,
                false => Change::Expire,
            };
            let lines = told.alerts.values().map(|line| line::ended(line, table, now)).collect();
            self.tell(change, key, first, lines, sight);
            return false;
        }
        told.over = None;
        let is_news = |alert: &&Alert| is_news(alert, told.alerts.get(&alert.key));
        let is_gone = |key: &String| !alerts.iter().any(|alert| alert.key == *key);
        let is_other = alerts.iter().any(is_news) || told.alerts.keys().any(is_gone);
        let lasts = alerts.iter().any(|alert| alert.lasts() && !alert.is_ending());
        let seldom = if alerts.iter().all(|alert| alert.is_flapping()) { SELDOM } else { 1 };
        let since_last = now.duration_since(told.last);
        // Who is paged learns once that it is back, and once that it was not for long; no more often, since it flaps.
        let is_page = urgency_of(key) == Urgency::Page;
        let is_back = is_page && !told.is_back_told && alerts.iter().all(|alert| is_kept(alert, now));
        let is_relapse = told.is_back_told && !told.is_relapse_told && lasts;
        // It began lately, and who was to tell it may have died before it did.
        let may_be_untold = is_ours && told.by_other && now.duration_since(told.first) < TAKEOVER;
        let change = if may_be_untold && !self.began_elsewhere(&alerts, sight) {
            Some(Change::Trigger)
        } else if is_back || is_relapse || is_other && since_last >= signed(rules.update) {
            Some(Change::Update)
        } else if lasts && since_last >= signed(rules.repeat * seldom) {
            Some(Change::Repeat)
        } else {
            let refresh = rules.refresh.filter(|refresh| now.duration_since(told.refreshed) >= signed(*refresh));
            refresh.map(|_| Change::Refresh)
        };
        told.by_other &= !is_ours;
        let Some(change) = change else { return true };
        if is_ours && change != Change::Refresh && !self.may_tell(key) {
            return true;
        }
        let over = told.alerts.values().filter(|line| is_gone(&line.key));
        let over: Vec<Line> = over.map(|line| line::ended(line, table, now)).collect();
        let mut lines = lines_of(&alerts, &told.alerts);
        if is_relapse {
            lines.iter_mut().for_each(|line| line.is_news |= line.is_so());
        }
        told.is_back_told |= is_back;
        told.is_relapse_told |= is_relapse;
        told.refreshed = now;
        if change != Change::Refresh {
            told.last = now;
            told.alerts = lines.iter().map(|line| (line.key.clone(), line.clone())).collect();
        }
        if is_ours {
            let over = if change == Change::Refresh { vec![] } else { over };
            self.tell(change, key, first, lines.into_iter().chain(over).collect(), sight);
        }
        true
    }

    fn may_tell(&self, key: &str) -> bool {
        self.recent.len() < if urgency_of(key) == Urgency::Page { BURST_OF_PAGES } else { BURST }
    }

    fn tell(&mut self, change: Change, key: &str, opened: Timestamp, mut lines: Vec<Line>, sight: &Sight<'_>) {
        let Sight { table, who, now, .. } = *sight;
        if change != Change::Refresh {
            self.recent.push_back(now);
        }
        let ends = lines.iter().filter(|line| line.is_over);
        self.ends.extend(ends.map(|line| (mark(&sight.rules.name, line.urgency, &line.key), now)));
        let dedup = who.dedup(key);
        let since = lines.iter().map(|line| line.since).min().unwrap_or(now);
        let more = lines.len().saturating_sub(MAX_LINES);
        lines.truncate(MAX_LINES);
        let name = key.split('#').next().unwrap_or_default();
        let scope = name.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
        let hint = lines.first().filter(|_| !change.is_over()).and_then(|line| hint(line, table)).unwrap_or_default();
        self.queue.push(Notification {
            id: format!("{dedup}@{}", now.as_millisecond()),
            dedup,
            change,
            urgency: urgency_of(key),
            scope,
            node: who.node.clone(),
            at: now,
            since,
            opened,
            lines,
            more,
            hint,
        });
    }

    /// Tells that another revision serves, where the sink wants to know.
    pub fn applied(&mut self, event: &Event, rules: &SinkRules, who: &Identity) {
        // What is said of a revision is a matter of it, and no other revision.
        let is_revision = event.kind == EventKind::Revision && event.key == format!("{}/{}", event.kind, event.subject);
        if !rules.wants_changes || !is_revision {
            return;
        }
        let mut table = AlertTable::default();
        table.take(event, false);
        let lines = lines_of(&table.all().collect::<Vec<_>>(), &BTreeMap::new());
        let sight = Sight { table: &table, rules, who, now: event.at };
        self.tell(Change::Applied, "info/node/change", event.at, lines, &sight);
    }

    /// How many groups were told and are not over.
    pub fn open(&self) -> usize {
        self.groups.values().filter(|group| group.told.is_some()).count()
    }
}

#[derive(Clone, Copy)]
struct Sight<'a> {
    table: &'a AlertTable,
    rules: &'a SinkRules,
    who: &'a Identity,
    now: Timestamp,
}

/// Whether a group, which is called `page/node/haproxy` or `page/all/chat`, is a node's own matter.
fn is_of_node(group: &str) -> bool {
    group.split('/').nth(1) == Some("node")
}

fn urgency_of(group: &str) -> Urgency {
    let word = group.split('/').next().unwrap_or_default();
    Urgency::ALL.into_iter().find(|urgency| urgency.as_str() == word).unwrap_or(Urgency::Info)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
