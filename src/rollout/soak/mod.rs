//! Whether a revision made something worse: what backends were like before it, beside what they are like since.
//!
//! Knows what was counted, not what an edit changed: the agent says which backends are served otherwise than before. The
//! others are the control, and so is another node that still serves the last revision. Driven like a rollout:
//!
//! ```text
//! Soak::new(before, changed, now)   `before`: the five minutes before the apply
//!   observe(&SoakHeard, now)        about each second
//!   decide(now) -> Option<String>   why it should be rolled back, as soon as that is certain
//!   verdict(now) -> Verdict         at the deadline of the trial, which the agent keeps
//! ```

mod news;
mod subject;

use super::clock::Clock;
use super::state::LONGEST_LOOK;
use super::words::time_text;
use crate::model::Moment;
pub use news::BackendNews;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
pub use subject::{BackendSeen, ServersUp, SubjectView};
use subject::{Says, Subject};

/// What came since the last time, by the name of the backend.
///
/// What reached no backend belongs to one with a name that no backend has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoakHeard {
    /// At this node.
    pub here: BTreeMap<String, BackendSeen>,
    /// At nodes that still serve the last revision.
    pub elsewhere: BTreeMap<String, BackendSeen>,
}

/// How a soak ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Something is worse: to be rolled back.
    Worse {
        /// In words, with numbers.
        reason: String,
    },
    /// Something is worse, and also where nothing was changed.
    Shared {
        /// In words, with numbers.
        reason: String,
    },
    /// Enough was seen, and nothing is worse.
    Clean {
        /// What was seen, in words.
        words: String,
    },
    /// Too little was seen to say anything.
    Quiet {
        /// What was seen, in words.
        words: String,
    },
}

/// The soak of one revision. Serialisable as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Soak {
    clock: Clock,
    /// The time that it was watched, and its age at the last look.
    watched: (Duration, Duration),
    /// Each changed backend, then all of them together where they are several.
    subjects: Vec<Subject>,
    /// All others together.
    control: Subject,
}

/// A soak at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SoakView {
    /// The time that it was watched, in seconds.
    pub time_s: f64,
    /// Of each changed backend, and of all of them together.
    pub changed: Vec<SubjectView>,
    /// Of the backends that the edit did not change, together.
    pub control: SubjectView,
    /// How it would end now.
    pub verdict: Verdict,
}

/// Fewest requests that say that nothing is worse.
const LEAST: u64 = 10;

impl Soak {
    /// Begins with the apply. `before` is what was counted in the five minutes before it; of a backend that is new
    /// nothing was: that most of its requests fail is worse all the same.
    pub fn new(before: &BTreeMap<String, BackendSeen>, changed: &BTreeSet<String>, now: Moment) -> Self {
        let (theirs, others): (Vec<_>, Vec<_>) = before.iter().partition(|(name, _)| changed.contains(*name));
        let sum = |of: &[(&String, &BackendSeen)]| {
            let mut sum = BackendSeen::default();
            of.iter().for_each(|(_, seen)| sum.add_beside(seen));
            sum
        };
        let mut subjects: Vec<_> =
            theirs.iter().map(|(name, seen)| Subject::new(name, [(*name).clone()], seen)).collect();
        if theirs.len() > 1 {
            let names = theirs.iter().map(|(name, _)| (*name).clone());
            subjects.push(Subject::new("all changed backends", names, &sum(&theirs)));
        }
        let control = Subject::new("all others", others.iter().map(|(name, _)| (*name).clone()), &sum(&others));
        Self { clock: Clock::new(now), watched: Default::default(), subjects, control }
    }

    /// Counts what came since the last time. To be called about each second, also where nothing came.
    pub fn observe(&mut self, heard: &SoakHeard, now: Moment) {
        let age = self.clock.advance(now);
        let (watched, last) = self.watched;
        self.watched = (watched + age.saturating_sub(last).min(LONGEST_LOOK), age);
        let control = self.control.part_of(&heard.here);
        self.control.observe(&control, &BackendSeen::default(), &BackendSeen::default(), age);
        for subject in &mut self.subjects {
            let (here, elsewhere) = (subject.part_of(&heard.here), subject.part_of(&heard.elsewhere));
            subject.observe(&here, &elsewhere, &control, age);
        }
    }

    /// Why it should be rolled back, in words; `None` while nothing is certain. To be called after [`Soak::observe`].
    pub fn decide(&mut self, now: Moment) -> Option<String> {
        let age = self.clock.advance(now);
        self.control.check(age);
        self.subjects.iter_mut().for_each(|subject| subject.check(age));
        self.subjects.iter().find_map(|subject| match subject.says(&self.control, age) {
            Says::Worse(reason) => Some(reason),
            Says::Shared(_) | Says::Nothing => None,
        })
    }

    /// The time that it was watched.
    pub fn watched(&self) -> Duration {
        self.watched.0
    }

    /// When [`Soak::decide`] may answer something else.
    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let age = self.clock.age_at(now);
        let next = self.subjects.iter().filter_map(|subject| subject.next(age)).min()?;
        Some(self.clock.moment_of(next, now))
    }

    /// How it ends at this moment.
    pub fn verdict(&self, now: Moment) -> Verdict {
        let age = self.clock.age_at(now);
        let says: Vec<_> = self.subjects.iter().map(|subject| subject.says(&self.control, age)).collect();
        if let Some(Says::Worse(reason)) = says.iter().find(|says| matches!(says, Says::Worse(_))) {
            return Verdict::Worse { reason: reason.clone() };
        }
        if let Some(Says::Shared(reason)) = says.iter().find(|says| matches!(says, Says::Shared(_))) {
            return Verdict::Shared { reason: reason.clone() };
        }
        // The last one is all of them.
        let seen = self.subjects.last().map(Subject::seen).unwrap_or_default();
        let (told, probes) = (seen.counts.told, seen.probes);
        let refused = match seen.counts.refused {
            0 => String::new(),
            refused => format!(", {refused} refused"),
        };
        let own = match seen.own_5xx + seen.own_refused {
            0 => String::new(),
            own => format!("; {own} more were answered by HAProxy itself (4xx, 5xx)"),
        };
        let words = format!(
            "{} requests in {}, {} failed{refused}{own}; {probes} probes, {} failed",
            seen.counts.requests(),
            time_text(age),
            seen.counts.failures,
            seen.probe_failures
        );
        match (told, probes) {
            (LEAST.., _) => Verdict::Clean { words },
            (0, 0) => Verdict::Quiet { words: format!("nothing was seen in {}", time_text(age)) },
            _ => Verdict::Quiet { words: format!("too little was seen: {words}") },
        }
    }

    /// After loading: nobody watched for so long.
    pub fn after_gap(&mut self, gap: Duration) {
        self.subjects.iter_mut().chain([&mut self.control]).for_each(|subject| subject.after_gap(gap));
    }

    /// How it stands at this moment.
    pub fn view(&self, now: Moment) -> SoakView {
        let age = self.clock.age_at(now);
        SoakView {
            time_s: self.watched.0.as_secs_f64(),
            changed: self.subjects.iter().map(|subject| subject.view(age)).collect(),
            control: self.control.view(age),
            verdict: self.verdict(now),
        }
    }
}
