//! The operator's own thresholds, each over all that it looks at.

use super::readings::Readings;
use crate::alerts::{AlertTable, RuleTurn, RuleWatch};
use crate::config::{AlertRule, Alerts};
use crate::event::{Event, EventKind, Severity};
use crate::model::format_duration;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Most things that one rule looks at.
const MAX_WATCHED: usize = 10_000;

/// What is known of each.
#[derive(Debug, Default)]
pub(super) struct Watches(BTreeMap<(String, String), RuleWatch>);

impl Watches {
    /// What has changed. What an agent before this one told, as the table has it, is told again.
    pub fn look(&mut self, alerts: &Alerts, readings: &Readings, table: &AlertTable, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        let mut seen = BTreeMap::new();
        for rule in &alerts.rules {
            for (whom, value) in readings.of(rule).into_iter().take(MAX_WATCHED) {
                let key = (rule.name.to_string(), whom);
                let is_inherited = || {
                    let alert = table.get(&format!("{}/{}/{}", EventKind::Rule, key.1, key.0));
                    alert.is_some_and(|alert| alert.lasts() && !alert.is_ending())
                };
                let known = self.0.remove(&key);
                let mut watch =
                    known.unwrap_or_else(|| if is_inherited() { RuleWatch::inherited() } else { RuleWatch::default() });
                let turn = watch.look(&rule.threshold, value, now);
                events.extend(turn.map(|turn| event(rule, &key.1, value, turn)));
                seen.insert(key, watch);
            }
        }
        // A server that is no more, or a rule, or one of which nothing was heard for a minute.
        let gone = std::mem::replace(&mut self.0, seen);
        for ((rule, whom), _) in gone.into_iter().filter(|(_, watch)| watch.is_told()) {
            let text = format!("rule {rule} has nothing to look at any more at {whom}");
            events.push(Event::ends(EventKind::Rule, whom, text).about(rule));
        }
        events
    }
}

fn event(rule: &AlertRule, whom: &str, value: Option<f64>, turn: RuleTurn) -> Event {
    let AlertRule { name, metric, threshold, is_page, .. } = rule;
    let value = value.map(|value| metric.told(value)).unwrap_or_default();
    let lasting = match threshold.lasting.is_zero() {
        true => String::new(),
        false => format!(" for {}", format_duration(threshold.lasting)),
    };
    match turn {
        RuleTurn::Begins => {
            let above = threshold.above.map(|most| format!("above {}", metric.told(most)));
            let below = threshold.below.map(|least| format!("below {}", metric.told(least)));
            let limits = above.into_iter().chain(below).collect::<Vec<_>>().join(" or ");
            let text = format!("{metric} of {whom} is {value}: rule {name} wants to know what is {limits}{lasting}");
            let severity = if *is_page { Severity::Error } else { Severity::Warning };
            Event::begins(EventKind::Rule, severity, whom, text).about(name)
        }
        RuleTurn::Ends => {
            let text = format!("{metric} of {whom} is {value}: rule {name} is satisfied{lasting}");
            Event::ends(EventKind::Rule, whom, text).about(name)
        }
    }
}
