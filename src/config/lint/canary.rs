//! What is doubtful in a canary.

use super::Lint;
use crate::config::route::is_match;
use crate::config::types::{Backend, Config};
use crate::model::Weight;
use crate::rollout::{Metric, Percent, Rules};

impl Lint<'_> {
    pub(super) fn canary(&mut self, config: &Config, backend: &Backend) {
        let Some(canary) = &backend.canary else { return };
        let (name, origin) = (&canary.name.value, canary.name.origin);
        self.rules_of_canary(name.as_str(), origin, &canary.rules);
        let is_told = |metric| canary.rules.conditions.iter().any(|condition| condition.metric == metric);
        let has_prices = !config.prices.is_empty() || backend.servers.iter().any(|server| server.price.is_some());
        if is_told(Metric::CostPerRequest) && !has_prices {
            let message =
                format!("the canary {name} looks at cost_per_request, and nothing has a price: it is held for ever");
            self.warn("unpriced", origin, message, "write `[[price]]`, or take the condition out");
        }
        for server in backend.servers.iter().filter(|server| canary.has_server(&server.name)) {
            if server.weight.value == Weight::ZERO {
                let message = format!("the weight of {} is 0: the canary {name} gives it nobody", server.name);
                self.warn("no-weight", server.weight.origin.or(origin), message, "give it a weight, or another server");
            }
        }
        for (asked, model) in canary.models().into_iter().flatten().filter(|(asked, model)| **asked == model.value) {
            let message = format!("the canary {name} has {asked} in the place of {asked}: nobody gets anything else");
            self.warn("same-model", model.origin, message, "name another model");
        }
        let Some(chosen) = &canary.chosen else { return };
        for glob in &chosen.plans {
            if !config.plans.iter().any(|plan| is_match(&glob.value, plan.name.value.as_str())) {
                let message = format!("no plan fits {:?}: it lets nobody choose a group", glob.value);
                self.warn("no-such-plan", glob.origin, message, "look at the names of the plans");
            }
        }
        // The clients' file changes without this one.
        for glob in chosen.clients.iter().filter(|_| config.clients_file.is_none()) {
            if !config.clients.iter().any(|client| is_match(&glob.value, client.name.value.as_str())) {
                let message = format!("no client fits {:?}: it lets nobody choose a group", glob.value);
                self.warn("no-such-client", glob.origin, message, "look at the names of the clients");
            }
        }
    }

    fn rules_of_canary(&mut self, name: &str, origin: Option<crate::model::Origin>, rules: &Rules) {
        if let Some(last) = rules.stages.last()
            && last.percent < Percent::ALL
            && !last.gate
            && rules.bake.is_zero()
        {
            let message =
                format!("behind the last stage of the canary {name}, {}, all clients get it at once", last.percent);
            let help = "add a stage of 100, `gate = true`, or `bake`, so that it is watched there or somebody says it";
            self.warn("unwatched-end", origin, message, help);
        }
        if rules.conditions.is_empty() {
            let message = format!("`rollback` of the canary {name} is empty: only what is dead goes back by itself");
            let help = "add a condition such as { metric = \"error_rate\", above = 0.05 }, or take `rollback` out for that one";
            self.warn("no-rollback", origin, message, help);
        }
        let is_twice = |(at, condition)| rules.conditions[..at].contains(condition);
        for (_, condition) in rules.conditions.iter().enumerate().filter(|(at, condition)| is_twice((*at, *condition)))
        {
            let message = format!("the canary {name} has a condition twice: {}", condition.in_words());
            self.warn("twice", origin, message, "take one out");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{lint, parse};

    const CLEAN: &str = r#"
[frontend.api]
bind = ["127.0.0.1:8080"]
[plan.free]
[client.qa-1]
plan = "free"
key_sha256 = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
[backend.chat.server.a]
url = "http://192.0.2.1"
[backend.chat.server.b]
url = "http://192.0.2.2"
[backend.chat.server.new]
url = "http://192.0.2.3"
[canary.turbo]
backend = "chat"
servers = ["new"]
stages = [{ percent = 5 }, { percent = 100 }]
rollback = [{ metric = "error_rate", above = 0.05 }]
override = { clients = ["qa-*"], plans = ["free"] }
"#;

    fn codes(text: &str) -> Vec<&'static str> {
        let config = parse("f", text, "lb1").unwrap_or_else(|found| panic!("{}", found.render(false)));
        lint(&config, "f", text).iter().map(|found| found.code).collect()
    }

    #[test]
    fn a_clean_canary_has_no_warning_and_one_broken_thing_has_one() {
        assert_eq!(codes(CLEAN), [""; 0]);
        const CONDITION: &str = "{ metric = \"error_rate\", above = 0.05 }";
        for (from, to, code) in [
            ("{ percent = 100 }", "{ percent = 50 }", "unwatched-end"),
            ("{ percent = 100 }", "{ percent = 50, gate = true }", ""),
            ("{ percent = 100 }]", "{ percent = 50 }]\nbake = \"1h\"", ""),
            (CONDITION, "", "no-rollback"),
            (
                CONDITION,
                "{ metric = \"error_rate\", above = 0.05 }, { metric = \"error_rate\", above = 0.05, for = \"60s\" }",
                "twice",
            ),
            (
                CONDITION,
                "{ metric = \"error_rate\", above = 0.05 }, { metric = \"error_rate\", above = 0.2, for = \"10s\" }",
                "",
            ),
            (CONDITION, "{ metric = \"cost_per_request\", above = 0.05 }", "unpriced"),
            ("\"http://192.0.2.3\"", "\"http://192.0.2.3\"\nweight = 0", "no-weight"),
            ("\"qa-*\"", "\"qb-*\"", "no-such-client"),
            ("[\"free\"]", "[\"gold\"]", "no-such-plan"),
            ("servers = [\"new\"]", "models = { \"gpt-4o\" = \"gpt-4o\" }", "same-model"),
        ] {
            assert!(CLEAN.contains(from), "{from}");
            let expected: Vec<_> = Some(code).filter(|code| !code.is_empty()).into_iter().collect();
            assert_eq!(codes(&CLEAN.replacen(from, to, 1)), expected, "{to}");
        }
    }
}
