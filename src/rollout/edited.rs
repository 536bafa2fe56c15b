//! A canary whose rules are edited while it runs, its content being the same: it goes on where it is.

use super::state::{Rollout, called};
use super::watch::Watch;
use super::{Percent, Phase, Rules};
use crate::model::Moment;
use std::time::Duration;

impl Rollout {
    /// Where it would be under other rules: in the stage of the same percent; where there is none, in the last one that has
    /// less, since an edit promotes nobody; else in the first one. What is behind the stages stays there.
    fn place_under(&self, rules: &Rules) -> Phase {
        let (at, is_gate) = match self.phase {
            Phase::Stage(_) => (self.percent(), false),
            Phase::Gate(_) => (self.percent(), true),
            Phase::Baking | Phase::Done | Phase::RolledBack { .. } => return self.phase.clone(),
        };
        let there = rules.stages.iter().rposition(|stage| stage.percent <= at).unwrap_or_default();
        match rules.stages.get(there) {
            Some(stage) if is_gate && stage.gate && stage.percent == at => Phase::Gate(there),
            _ => Phase::Stage(there),
        }
    }

    /// What it would get under other rules.
    pub fn percent_under(&self, rules: &Rules) -> Percent {
        self.place_under(rules).percent(rules)
    }

    /// Goes on by other rules. A condition that stays keeps what it has seen; a stage of the same percent keeps its time.
    pub fn edit(&mut self, rules: &Rules, now: Moment) {
        let age = self.clock.advance(now);
        let (before, phase) = (self.percent(), self.place_under(rules));
        let mut watches = std::mem::take(&mut self.watches);
        let watch_of = |condition| match watches.iter().position(|watch| watch.condition == condition) {
            Some(at) => watches.swap_remove(at),
            None => Watch::new(condition, called(&condition), age),
        };
        self.watches = rules.conditions.iter().copied().map(watch_of).collect();
        (self.phase, self.rules) = (phase, rules.clone());
        if self.percent() != before {
            self.forget(age);
            self.seen.time = Duration::ZERO;
        }
    }
}
