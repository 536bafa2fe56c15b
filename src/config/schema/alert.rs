//! Who is told what happens, and the operator's own thresholds.

use super::{KeySpec, RefusedChoice, Section, ValueKind};
use crate::alerts::WORDS;

/// Most sinks.
const MAX_SINKS: usize = 16;
/// The name that no sink can have: the thresholds stand there.
const RULE_NAME: &str = "rule";

/// What is urgent is called otherwise elsewhere.
const OTHERS_WORDS: [(&str, RefusedChoice); 3] = [
    ("critical", RefusedChoice::Never("what is urgent is called \"page\"")),
    ("error", RefusedChoice::Never("what is urgent is called \"page\"")),
    ("high", RefusedChoice::Never("what is urgent is called \"page\"")),
];

pub(super) const ALERTS: ValueKind =
    ValueKind::NamedBeside(&ALERT, MAX_SINKS, RULE_NAME, &ValueKind::Named(&RULE, 100));

pub(in crate::config) static ALERT: Section = Section {
    name: "alert.NAME",
    doc: "Somebody who is told what happens: one of slack, pagerduty, email, webhook and alertmanager",
    keys: &[
        KeySpec::new("slack", ValueKind::Table(&SLACK), SLACK.doc),
        KeySpec::new("pagerduty", ValueKind::Table(&PAGERDUTY), PAGERDUTY.doc),
        KeySpec::new("email", ValueKind::Table(&EMAIL), EMAIL.doc),
        KeySpec::new("webhook", ValueKind::Table(&WEBHOOK), WEBHOOK.doc),
        KeySpec::new("alertmanager", ValueKind::Table(&ALERTMANAGER), ALERTMANAGER.doc),
        KeySpec::new(
            "on",
            ValueKind::List(&ValueKind::Choice(&WORDS, &OTHERS_WORDS), 1, WORDS.len()),
            "What it is told: topics, urgencies (page, warning, info), or both; of topics alone their pages and warnings",
        )
        .says("every page and every warning")
        .example("[\"pool-panic\", \"page\"]"),
        KeySpec::new("group", ValueKind::Duration("0s", "10m"), "What begins within this time is told together")
            .is("30s"),
        KeySpec::new(
            "update",
            ValueKind::Duration("10s", "24h"),
            "Between two notifications of one matter, at the least; its end does not wait",
        )
        .is("5m"),
        KeySpec::new("repeat", ValueKind::Duration("1m", "7d"), "What lasts is told again after this").is("4h"),
    ],
};

pub(in crate::config) static SLACK: Section = Section {
    name: "alert.NAME.slack",
    doc: "A channel of Slack, or of what understands Slack's incoming webhooks",
    keys: &[KeySpec::new("webhook", ValueKind::Secret, "Place of the webhook's URL, which is a secret")
        .required()
        .example("\"file:/etc/hapilot/slack\"")],
};

pub(in crate::config) static PAGERDUTY: Section = Section {
    name: "alert.NAME.pagerduty",
    doc: "A service of PagerDuty, by its Events API v2",
    keys: &[
        KeySpec::new("routing_key", ValueKind::Secret, "Place of the integration key")
            .required()
            .example("\"file:/etc/hapilot/pagerduty\""),
        KeySpec::new("url", ValueKind::Url, "Where PagerDuty is; https://events.eu.pagerduty.com for the EU")
            .is("https://events.pagerduty.com"),
        KeySpec::new("changes", ValueKind::Bool, "Whether each revision that serves is sent as a change event")
            .is("true"),
    ],
};

pub(in crate::config) static EMAIL: Section = Section {
    name: "alert.NAME.email",
    doc: "Mail",
    keys: &[
        KeySpec::new(
            "smtp",
            ValueKind::Word(300),
            "The mail server: smtps://HOST with TLS from the first byte (port 465), smtp://HOST (port 587)",
        )
        .required()
        .example("\"smtps://mail.example\""),
        KeySpec::new(
            "starttls",
            ValueKind::Bool,
            "Whether smtp:// goes on with TLS, and not at all without; only where it is off may mail be sent in clear text",
        )
        .says("true; false where the server is at the loopback")
        .example("true"),
        KeySpec::new("from", ValueKind::Text(254), "The sender's address").required().example("\"lb@example.com\""),
        KeySpec::new("to", ValueKind::List(&ValueKind::Text(254), 1, 50), "The recipients' addresses")
            .required()
            .example("[\"ops@example.com\"]"),
        KeySpec::new("user", ValueKind::Text(254), "User of the login, where there is a password").says("`from`").example("\"lb\""),
        KeySpec::new("password", ValueKind::Secret, "Place of the login's password")
            .says("no login")
            .example("\"file:/etc/hapilot/smtp\""),
    ],
};

pub(in crate::config) static WEBHOOK: Section = Section {
    name: "alert.NAME.webhook",
    doc: "A program of your own: JSON by POST, signed",
    keys: &[
        KeySpec::new("url", ValueKind::Url, "Where it listens").required().example("\"https://example.com/hook\""),
        KeySpec::new("secret", ValueKind::Secret, "Place of the secret that signs each request (HMAC-SHA256)")
            .says("requests are not signed")
            .example("\"file:/etc/hapilot/hook\""),
    ],
};

pub(in crate::config) static ALERTMANAGER: Section = Section {
    name: "alert.NAME.alertmanager",
    doc: "Prometheus' Alertmanager, by its API v2",
    keys: &[KeySpec::new("url", ValueKind::Url, "Where it is").required().example("\"http://127.0.0.1:9093\"")],
};

pub(in crate::config) static RULE: Section = Section {
    name: "alert.rule.NAME",
    doc: "A threshold of your own; its events have the kind `rule`",
    keys: &[
        KeySpec::new(
            "metric",
            ValueKind::Choice(&["latency_p95", "first_token_p95", "error_rate", "certificate_days", "budget"], &[]),
            "What is measured: each server's latencies over the last minute, each backend's (with `server`: each server's) part of failed requests, days until a certificate expires, the part of a client's budget that is spent",
        )
        .required()
        .example("\"latency_p95\""),
        KeySpec::new("backend", ValueKind::Text(64), "Glob with * and ? on the backends").says("all").example("\"chat\""),
        KeySpec::new("server", ValueKind::Text(64), "Glob on the servers' names").says("all").example("\"openai-*\""),
        KeySpec::new("client", ValueKind::Text(64), "Glob on the clients, of `budget`").says("all").example("\"team-*\""),
        KeySpec::new(
            "above",
            ValueKind::Measure,
            "Too much: a duration of latencies, else a number; parts of requests and budgets lie between 0 and 1",
        )
        .example("\"3s\""),
        KeySpec::new("below", ValueKind::Measure, "Too little").example("14"),
        KeySpec::new("for", ValueKind::Duration("0s", "24h"), "It is crossed for so long, and over when it was not for as long")
            .is("1m"),
        KeySpec::new("severity", ValueKind::Choice(&["page", "warning"], &[]), "How urgent it is").is("warning"),
    ],
};
