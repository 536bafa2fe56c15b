//! Alerts that never come, or that strangers may read.
//!
//! Called by `lint`.

use super::alert::{AlertRule, SinkKind};
use super::route::is_match;
use super::types::Config;
use crate::alerts::Metric;
use crate::model::{Host, Origin, Scheme};

/// Takes a code, a place, what is doubtful, and what to do.
pub(super) type Warn<'a> = &'a mut dyn FnMut(&'static str, Origin, String, &'static str);

pub(super) fn alerts(config: &Config, warn: Warn<'_>) {
    for sink in &config.alerts.sinks {
        if let SinkKind::Webhook { url, .. } | SinkKind::Alertmanager { url } = &sink.kind
            && url.scheme == Scheme::Http
            && !url.host.is_private()
            && url.host != Host::Dns("localhost".to_owned())
        {
            let message = format!("alerts for [alert.{}] go to {} in clear text", sink.name, url.authority());
            warn(
                "clear-alerts",
                sink.origin,
                message,
                "write https in `url`, or the address of a host of your own network",
            );
        }
    }
    for rule in &config.alerts.rules {
        if let Some((why, help)) = never(config, rule) {
            warn("deaf-rule", rule.origin, format!("[alert.rule.{}] never tells anything: {why}", rule.name), help);
        }
    }
}

/// Why a rule can never begin, and what to do.
fn never(config: &Config, rule: &AlertRule) -> Option<(String, &'static str)> {
    let metric = rule.metric;
    match metric {
        Metric::LatencyP95 | Metric::FirstTokenP95 | Metric::ErrorRate | Metric::Budget if !config.haproxy.live => {
            Some((format!("`[haproxy] live` is off, and {metric} is measured by it"), "remove `live = false`"))
        }
        Metric::LatencyP95 | Metric::FirstTokenP95 | Metric::ErrorRate => servers(config, rule),
        Metric::CertificateDays if config.frontends.iter().all(|frontend| frontend.certificates.is_empty()) => {
            Some(("no frontend has a certificate".to_owned(), "remove the rule"))
        }
        Metric::CertificateDays => None,
        Metric::Budget => budgets(config, rule),
    }
}

fn servers(config: &Config, rule: &AlertRule) -> Option<(String, &'static str)> {
    let fits = |glob: &Option<String>, name: &str| glob.as_ref().is_none_or(|glob| is_match(glob, name));
    let mut backends = config.backends.iter().filter(|backend| fits(&rule.backend, backend.name.as_str())).peekable();
    if backends.peek().is_none() {
        let glob = rule.backend.as_deref().unwrap_or("*");
        return Some((format!("no backend fits `backend = {glob:?}`"), "look at the names of the backends"));
    }
    let has_server = backends.flat_map(|backend| &backend.servers).any(|one| fits(&rule.server, one.name.as_str()));
    let glob = rule.server.as_deref().filter(|_| !has_server)?;
    Some((format!("no server of those backends fits `server = {glob:?}`"), "look at the names of the servers"))
}

/// Clients of a file of their own are not known here.
fn budgets(config: &Config, rule: &AlertRule) -> Option<(String, &'static str)> {
    let has_budget = |plan: &crate::config::Plan| plan.budget.is_some();
    if !config.plans.iter().any(has_budget) {
        return Some(("no plan has a budget".to_owned(), "give a plan one: budget = { usd = 50 }"));
    }
    if config.clients_file.is_some() {
        return None;
    }
    let fits = |name: &str| rule.client.as_ref().is_none_or(|glob| is_match(glob, name));
    let mut clients = config.clients.iter().filter(|client| fits(client.name.value.as_str())).peekable();
    if clients.peek().is_none() {
        let why = match &rule.client {
            Some(glob) => format!("no client fits `client = {glob:?}`"),
            None => "there are no clients".to_owned(),
        };
        return Some((why, "look at the names of the clients"));
    }
    let plan_of =
        |client: &crate::config::Client| config.plans.iter().find(|plan| plan.name.value == client.plan.value);
    let is_deaf = !clients.any(|client| plan_of(client).is_some_and(has_budget));
    is_deaf.then(|| ("no client that it looks at has a budget".to_owned(), "give their plan one"))
}

#[cfg(test)]
mod tests {
    use crate::config::{lint, parse};

    const CLEAN: &str = r#"
[frontend.api]
bind = ["*:8080"]
[backend.chat.server.a]
url = "http://10.0.0.1"
[backend.chat.server.b]
url = "http://10.0.0.2"
[[price]]
model = "*"
input = 1.0
output = 1.0
[plan.free]
[plan.paid]
budget = { usd = 10.0, per = "day" }
[client.acme]
plan = "paid"
key_sha256 = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
[client.guest]
plan = "free"
key_sha256 = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"
"#;

    /// Of a rule with these lines.
    fn of_rule(lines: &str, file: &str) -> Option<String> {
        let text = format!("{file}[alert.rule.slow]\n{lines}\n");
        let config = parse("f", &text, "lb1").unwrap_or_else(|diagnostics| panic!("{}", diagnostics.render(false)));
        let found = lint(&config, "f", &text);
        let mut told = found.iter().filter(|one| one.code == "deaf-rule").map(|one| one.message.clone());
        let first = told.next();
        assert_eq!(told.next(), None);
        Some(first?.split_once("never tells anything: ").expect("the reason").1.to_owned())
    }

    #[test]
    fn a_rule_that_never_tells_anything_is_doubtful() {
        let (off, few) = (format!("haproxy = {{ live = false }}\n{CLEAN}"), CLEAN.replace("budget = {", "#"));
        for (lines, file, why) in [
            ("metric = \"error_rate\"\nabove = 0.1", CLEAN, ""),
            ("metric = \"error_rate\"\nabove = 0.1\nbackend = \"ch*\"\nserver = \"a\"", CLEAN, ""),
            ("metric = \"error_rate\"\nabove = 0.1\nbackend = \"chad\"", CLEAN, "no backend fits `backend = \"chad\"`"),
            (
                "metric = \"error_rate\"\nabove = 0.1\nserver = \"c\"",
                CLEAN,
                "no server of those backends fits `server = \"c\"`",
            ),
            ("metric = \"error_rate\"\nabove = 0.1", &off, "`[haproxy] live` is off, and error_rate is measured by it"),
            (
                "metric = \"latency_p95\"\nabove = \"1s\"",
                &off,
                "`[haproxy] live` is off, and latency_p95 is measured by it",
            ),
            ("metric = \"certificate_days\"\nbelow = 30", CLEAN, "no frontend has a certificate"),
            ("metric = \"budget\"\nabove = 0.9", CLEAN, ""),
            ("metric = \"budget\"\nabove = 0.9\nclient = \"acme\"", CLEAN, ""),
            ("metric = \"budget\"\nabove = 0.9\nclient = \"team-*\"", CLEAN, "no client fits `client = \"team-*\"`"),
            ("metric = \"budget\"\nabove = 0.9\nclient = \"guest\"", CLEAN, "no client that it looks at has a budget"),
            ("metric = \"budget\"\nabove = 0.9", &few, "no plan has a budget"),
        ] {
            assert_eq!(of_rule(lines, file).unwrap_or_default(), why, "{lines}");
        }
    }

    #[test]
    fn alerts_in_clear_text_over_strange_networks_are_doubtful() {
        for (url, is_told) in [
            ("http://hooks.example/x", true),
            ("https://hooks.example/x", false),
            ("http://10.1.2.3/x", false),
            ("http://localhost:9000", false),
        ] {
            let text = format!("{CLEAN}[alert.hook]\nwebhook = {{ url = \"{url}\" }}\n");
            let config = parse("f", &text, "lb1").unwrap_or_else(|diagnostics| panic!("{}", diagnostics.render(false)));
            let found = lint(&config, "f", &text);
            assert_eq!(found.iter().any(|one| one.code == "clear-alerts"), is_told, "{url}");
        }
    }
}
