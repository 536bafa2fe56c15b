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
                events.extend(turn.zip(value).map(|(turn, value)| event(rule, &key.1, value, turn)));
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

fn event(rule: &AlertRule, whom: &str, value: f64, turn: RuleTurn) -> Event {
    let AlertRule { name, metric, threshold, is_page, .. } = rule;
    let lasting = match turn == RuleTurn::Ends || threshold.lasting.is_zero() {
        true => String::new(),
        false => format!(" for {}", format_duration(threshold.lasting)),
    };
    let side = match (turn, threshold.above, threshold.below) {
        (RuleTurn::Begins, Some(most), _) if value > most => format!("above the limit {}", metric.told(most)),
        (RuleTurn::Begins, _, Some(least)) => format!("below the limit {}", metric.told(least)),
        (RuleTurn::Ends, Some(most), None) => format!("below the limit {} again", metric.told(most)),
        (RuleTurn::Ends, None, Some(least)) => format!("above the limit {} again", metric.told(least)),
        (RuleTurn::Begins, ..) => "beyond its limit".to_owned(),
        (RuleTurn::Ends, ..) => "within its limits again".to_owned(),
    };
    let text = format!("{metric} of {whom} is {}, {side}{lasting} (rule {name})", metric.told(value));
    let event = match turn {
        RuleTurn::Begins if *is_page => Event::begins(EventKind::Rule, Severity::Error, whom, text),
        RuleTurn::Begins => Event::begins(EventKind::Rule, Severity::Warning, whom, text),
        RuleTurn::Ends => Event::ends(EventKind::Rule, whom, text),
    };
    event.about(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn a_rule_says_the_value_its_limit_and_its_name() {
        let file = "[frontend.api]\nbind = [\"*:8080\"]\n[backend.chat.server.one]\nurl = \"http://192.0.2.1\"\n\
                    [alert.rule.slow]\nmetric = \"first_token_p95\"\nabove = \"500ms\"\nfor = \"30s\"\n\
                    [alert.rule.soon]\nmetric = \"certificate_days\"\nbelow = 30\nfor = \"0s\"\n";
        let config = parse("f", file, "lb1").unwrap();
        let [slow, soon] = config.alerts.rules.as_slice() else { panic!("two rules") };
        let text = |rule, whom, value, turn| event(rule, whom, value, turn).text;
        let told = [
            text(slow, "chat/a", 0.812, RuleTurn::Begins),
            text(slow, "chat/a", 0.2, RuleTurn::Ends),
            text(soon, "/a.pem", 12.0, RuleTurn::Begins),
            text(soon, "/a.pem", 89.0, RuleTurn::Ends),
        ];
        let wanted = [
            "first_token_p95 of chat/a is 812 ms, above the limit 500 ms for 30s (rule slow)",
            "first_token_p95 of chat/a is 200 ms, below the limit 500 ms again (rule slow)",
            "certificate_days of /a.pem is 12.0 days, below the limit 30.0 days (rule soon)",
            "certificate_days of /a.pem is 89.0 days, above the limit 30.0 days again (rule soon)",
        ];
        assert_eq!(told, wanted);
    }
}
