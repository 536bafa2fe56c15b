//! The life of one canary.
//!
//! ```text
//! Stage 0 ─► [Gate 0] ─► Stage 1 ─► … ─► Baking ─► Done
//!    └──────────┴───────────┴───────────────┴─────► RolledBack
//! ```
//!
//! Driven by the agent, see the module's head; what its time is made of is in `clock`, what its conditions say in `watch`.

use super::clock::Clock;
use super::row::{Row, RowSays};
use super::watch::{Called, Tripped, Watch};
use super::words::time_text;
use super::{
    Change, Condition, Counts, Deaf, Decided, Heard, Hold, Limit, Lost, Metric, Percent, Phase, Rules, Servers, Stage,
    Word,
};
use crate::model::Moment;
use serde::{Deserialize, Serialize};
use std::mem::discriminant;
use std::time::Duration;

/// It is observed about each second. After a longer pause nobody knows what was before.
pub(super) const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// Why it was rolled back where an operator wanted it; at other nodes more stands before it.
pub const ABORTED: &str = "an operator aborted it";

/// So large a part of the canary's requests is not refused by chance.
const REFUSED: f64 = 0.25;

/// What a stage, or the bake, has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The time that counts: it was watched and not held.
    pub(super) time: Duration,
    pub(super) canary: Tally,
    pub(super) control: Tally,
}

/// Requests of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) told: u64,
    pub(super) failures: u64,
    pub(super) others: u64,
    #[serde(default)]
    pub(super) refused: u64,
}

impl Tally {
    fn add(&mut self, counts: &Counts) {
        self.told += counts.told;
        self.failures += counts.failures;
        self.others += counts.others;
        self.refused += counts.refused;
    }
}

/// One canary from its first stage to its end. Serialisable as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub(super) rules: Rules,
    content: String,
    pub(super) phase: Phase,
    pub(super) hold: Option<Hold>,
    pub(super) clock: Clock,
    pub(super) seen: Seen,
    pub(super) watches: Vec<Watch>,
    /// What its servers refuse, and the control's do not.
    #[serde(default = "refusals")]
    pub(super) refusals: Watch,
    row: Row,
    /// Whether the control fails too.
    is_shared: bool,
    servers: Option<Servers>,
    /// The age since which no server of the canary is up.
    #[serde(default)]
    pub(super) down_since: Option<Duration>,
    /// The age when something was heard last.
    heard: Duration,
}

impl Rollout {
    /// Begins with the first stage, of which the agent sends the percent at once. `content` is a digest of what is rolled
    /// out.
    pub fn new(rules: Rules, content: impl Into<String>, now: Moment) -> Self {
        let watches = rules
            .conditions
            .iter()
            .map(|condition| Watch::new(*condition, called(condition), Duration::ZERO))
            .collect();
        Self {
            rules,
            content: content.into(),
            phase: Phase::Stage(0),
            hold: None,
            clock: Clock::new(now),
            seen: Seen::default(),
            watches,
            refusals: refusals(),
            row: Row::default(),
            is_shared: false,
            servers: None,
            down_since: None,
            heard: Duration::ZERO,
        }
    }

    /// What the canary should get now.
    pub fn percent(&self) -> Percent {
        self.phase.percent(&self.rules)
    }

    /// Where it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Why it does not go on, where it is held.
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// The digest of what is rolled out.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// What decides it.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether it is over: there is nothing to decide any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::RolledBack { .. })
    }

    /// After loading: nobody watched for so long.
    pub fn after_gap(&mut self, gap: Duration) {
        self.watches.iter_mut().chain([&mut self.refusals]).for_each(|watch| watch.after_gap(gap));
        if gap > Rules::BLIND_AFTER {
            self.row = Row::default();
        }
    }

    /// Counts what came since the last time. To be called about each second, also where nothing came; and not where the
    /// agent could not read what came.
    pub fn observe(&mut self, heard: &Heard, now: Moment) {
        if self.has_ended() {
            return;
        }
        let age = self.clock.advance(now);
        let counts = !matches!(self.hold, Some(Hold::Operator | Hold::MetricsLost { .. } | Hold::SharedCause { .. }));
        if counts {
            // An agent that stood still has watched nothing.
            self.seen.time += age.saturating_sub(self.heard).min(LONGEST_LOOK);
        }
        self.heard = age;
        self.servers = heard.servers;
        let is_down =
            heard.servers.is_some_and(|servers| servers.canary > 0 && servers.canary_up == 0 && servers.control_up > 0);
        self.down_since = self.down_since.or(Some(age)).filter(|_| is_down);
        self.seen.canary.add(&heard.canary);
        self.seen.control.add(&heard.control);
        self.watches.iter_mut().for_each(|watch| watch.observe(&heard.canary, &heard.control));
        self.refusals.observe(&heard.canary.refusals(), &heard.control.refusals());
        self.row.observe(&heard.canary, &heard.control, age);
    }

    /// What has changed by this moment. To be called after [`Rollout::observe`] and at [`Rollout::next_deadline`].
    pub fn decide(&mut self, now: Moment) -> Vec<Change> {
        if self.has_ended() {
            return Vec::new();
        }
        let age = self.clock.advance(now);
        let shared = match self.look(age) {
            Ok(shared) => shared,
            Err(reason) => return vec![self.roll_back(reason)],
        };
        if self.is_shared && shared.is_none() {
            // What was seen meanwhile says nothing of the canary.
            self.forget(age);
        }
        self.is_shared = shared.is_some();
        let silent = age.saturating_sub(self.heard);
        if silent >= Rules::LOST_AFTER && self.rules.lost == Lost::RollBack {
            return vec![self.roll_back(format!("nothing was heard of its requests for {}", time_text(silent)))];
        }
        let (before, hold) = (self.hold.take(), self.held(silent, shared, age));
        let was = before.as_ref().map(discriminant);
        self.hold = match before {
            Some(Hold::Operator) => before,
            _ => hold,
        };
        let mut changes = match (&self.hold, was) {
            (Some(hold), was) if was != Some(discriminant(hold)) => vec![Change::Held(hold.clone())],
            (None, Some(_)) => vec![Change::WentOn],
            _ => Vec::new(),
        };
        if self.hold.is_none() && self.time_left().is_some_and(|left| left.is_zero()) {
            changes.push(self.go_on(age));
        }
        changes
    }

    /// When [`Rollout::decide`] may answer something else though nothing is heard; `None` once it has ended.
    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        if self.has_ended() {
            return None;
        }
        let age = self.clock.age_at(now);
        let silences = [self.heard + Rules::BLIND_AFTER, self.heard + Rules::LOST_AFTER];
        let row = self.row.next(self.rules.hard.failures_in_a_row);
        let end = self.time_left().filter(|_| self.hold.is_none()).map(|left| age + left);
        let ages = silences.into_iter().chain(row).chain(end).filter(|at| *at > age);
        let next = ages.chain(self.watches.iter().chain([&self.refusals]).map(|watch| watch.next)).min()?;
        Some(self.clock.moment_of(next, now))
    }

    /// Does what an operator says.
    ///
    /// # Errors
    /// The word has no meaning now; nothing has changed.
    pub fn told(&mut self, word: Word, now: Moment) -> Result<Vec<Change>, Deaf> {
        let age = self.clock.advance(now);
        match (word, &self.phase, &self.hold) {
            (_, Phase::RolledBack { reason }, _) => {
                Err(Deaf(format!("the rollout was rolled back: {reason}; `restart` begins it anew")))
            }
            // Nobody watches it any more, and an operator may find what no condition did.
            (Word::Abort, ..) => Ok(vec![self.roll_back(ABORTED.to_owned())]),
            (_, Phase::Done, _) => Err(Deaf(
                "it is promoted, and has all clients already; `abort` takes them back, `restart` begins it anew"
                    .to_owned(),
            )),
            (Word::Hold, _, Some(Hold::Operator)) => Err(Deaf("it is held by an operator already".to_owned())),
            (Word::Hold, ..) => {
                self.hold = Some(Hold::Operator);
                Ok(vec![Change::Held(Hold::Operator)])
            }
            (Word::Resume, _, Some(Hold::Operator)) => {
                self.hold = None;
                Ok(vec![Change::WentOn])
            }
            (Word::Resume, Phase::Gate(_), _) => Err(Deaf("it waits at a gate: `promote` leads through it".to_owned())),
            (Word::Resume, _, None) => Err(Deaf("it is not held".to_owned())),
            (Word::Resume, _, Some(hold)) => Err(Deaf(format!(
                "no operator holds it, it goes on by itself: {}; `promote` goes on now",
                hold.in_words()
            ))),
            (Word::Promote, ..) => {
                let went_on = self.hold.take().map(|_| Change::WentOn);
                Ok(went_on.into_iter().chain([self.pass(age)]).collect())
            }
        }
    }

    /// Does what another node has decided, which has the clients: goes on to its stage, or back.
    pub fn follow(&mut self, other: &Decided, now: Moment) -> Vec<Change> {
        let age = self.clock.advance(now);
        let is_behind = |phase: &Phase| match (phase, other) {
            (Phase::Stage(at) | Phase::Gate(at), Decided::Stage(there)) => at < there,
            (Phase::Stage(_) | Phase::Gate(_), Decided::Behind) => true,
            _ => false,
        };
        let is_back = matches!(self.phase, Phase::RolledBack { .. });
        if let (Decided::RolledBack(reason), false) = (other, is_back) {
            return vec![self.roll_back(format!("at another node: {reason}"))];
        }
        let mut changes = Vec::new();
        while is_behind(&self.phase) {
            self.hold = None;
            changes.push(self.pass(age));
        }
        changes
    }

    /// What the conditions and the hard rules say: why it is held, where the control fails too.
    ///
    /// # Errors
    /// Why it is to be rolled back.
    fn look(&mut self, age: Duration) -> Result<Option<String>, String> {
        let mut shared = match self.row.says(self.rules.hard.failures_in_a_row, age) {
            RowSays::Nothing => None,
            RowSays::Shared { failures, control_good, control } => Some(format!(
                "shared cause: the canary's last {failures} requests failed, and {} of {control} of the control meanwhile",
                control - control_good
            )),
            RowSays::Dead { failures, control_good, control } => {
                return Err(format!(
                    "the canary's last {failures} requests failed, all in a row; of the control {control_good} of \
                     {control} succeeded meanwhile"
                ));
            }
        };
        if let Some(Servers { canary_up: 0, canary, control_up, .. }) = self.servers
            && canary > 0
            && self.rules.hard.servers_down
        {
            match control_up {
                0 => {
                    shared = Some("shared cause: no server is up, neither of the canary nor of the control".to_owned())
                }
                up if self.down_since.is_some_and(|since| age.saturating_sub(since) >= Rules::DOWN_FOR) => {
                    return Err(format!("no server of the canary is up; of the control {up}"));
                }
                _ => {}
            }
        }
        for watch in &mut self.watches {
            match watch.check(age) {
                Tripped::No => {}
                Tripped::Shared(words) => shared = Some(format!("shared cause: {words}")),
                Tripped::Yes(words) => return Err(words.clone()),
            }
        }
        // Without a control that is asked for the same, it may be what clients ask for.
        if let Tripped::Yes(words) = self.refusals.check(age).clone()
            && self.refusals.has_control(age)
        {
            return Err(words);
        }
        Ok(shared)
    }

    /// Why it does not go on, whatever an operator says.
    fn held(&self, silent: Duration, shared: Option<String>, age: Duration) -> Option<Hold> {
        if silent >= Rules::BLIND_AFTER {
            let reason = format!("nothing was heard of its requests for {}", time_text(silent));
            return Some(Hold::MetricsLost { reason });
        }
        if let Some(reason) = shared {
            return Some(Hold::SharedCause { reason });
        }
        self.time_left().filter(Duration::is_zero)?;
        let (told, least) = (self.seen.canary.told, self.rules.least_requests);
        if told < least {
            let reason = format!("too few requests of the canary: {told} of the {least} that a stage needs");
            return Some(Hold::TooLittleData { reason });
        }
        let refusals = || self.refusals.excess(age).map(|reason| Hold::Unproven { reason });
        self.watches.iter().find_map(|watch| watch.objection(age, self.percent() == Percent::ALL)).or_else(refusals)
    }

    /// Until the time of this stage or of the bake is over; `None` where no time ends it.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let hold = match self.phase {
            Phase::Stage(at) => self.rules.stages.get(at)?.hold,
            Phase::Baking => self.rules.bake,
            Phase::Gate(_) | Phase::Done | Phase::RolledBack { .. } => return None,
        };
        Some(hold.saturating_sub(self.seen.time))
    }

    /// The stage or the bake is over.
    fn go_on(&mut self, age: Duration) -> Change {
        match self.phase {
            Phase::Stage(stage) if self.rules.stages.get(stage).is_some_and(|stage| stage.gate) => {
                self.phase = Phase::Gate(stage);
                Change::Gate { stage }
            }
            _ => self.pass(age),
        }
    }

    /// On to what comes next.
    fn pass(&mut self, age: Duration) -> Change {
        let next = match self.phase {
            Phase::Stage(at) | Phase::Gate(at) => at + 1,
            _ => self.rules.stages.len() + 1,
        };
        self.forget(age);
        self.seen.time = Duration::ZERO;
        let (phase, change) = match self.rules.stages.get(next) {
            Some(Stage { percent, .. }) => (Phase::Stage(next), Change::Stage { stage: next, percent: *percent }),
            None if next == self.rules.stages.len() && !self.rules.bake.is_zero() => (Phase::Baking, Change::Baking),
            None => (Phase::Done, Change::Done),
        };
        self.phase = phase;
        change
    }

    /// What the stage has shown so far counts no more.
    pub(super) fn forget(&mut self, age: Duration) {
        self.seen = Seen { time: self.seen.time, ..Seen::default() };
        self.watches.iter_mut().chain([&mut self.refusals]).for_each(|watch| watch.renew(age));
    }

    fn roll_back(&mut self, reason: String) -> Change {
        self.phase = Phase::RolledBack { reason: reason.clone() };
        self.hold = None;
        Change::RolledBack { reason }
    }
}

/// Refusals are the clients' own mistakes, as a rule: only where a large part of the canary's requests is refused, and not of
/// the control's, it is the canary's doing.
fn refusals() -> Watch {
    let condition =
        Condition { metric: Metric::ErrorRate, limit: Limit::At(REFUSED), lasting: Duration::from_secs(60) };
    let (what, unit) = ("refused (4xx):".to_owned(), "requests".to_owned());
    Watch::new(condition, Called { what, unit, beside: "the control's".to_owned() }, Duration::ZERO)
}

/// What people read of a condition of a canary.
pub(super) fn called(condition: &Condition) -> Called {
    let what = format!("{} is", condition.metric.name());
    Called { what, unit: "requests".to_owned(), beside: "the control's".to_owned() }
}
