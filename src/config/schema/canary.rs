//! Canaries: a part of a backend's clients is served in another way first.

use super::{KeySpec, Section, ValueKind};

/// Most conditions, and most stages.
const MAX_STAGES: usize = 20;

pub(in crate::config) static CANARY: Section = Section {
    name: "canary.NAME",
    doc: "A part of a backend's clients gets other servers, or other models, first; more and more of them, as long as all is well",
    keys: &[
        KeySpec::new("backend", ValueKind::BackendName, "The backend whose clients are split").required().example("\"chat\""),
        KeySpec::new(
            "servers",
            ValueKind::List(&ValueKind::Name, 1, 16),
            "The canary's servers, of this backend; its other servers of tier 1 are the control group",
        )
        .says("needed where there are no `models`")
        .example("[\"turbo-1\"]"),
        KeySpec::new(
            "models",
            ValueKind::Models(100),
            "In the place of `servers`: the same servers, with another model for these that clients ask for",
        )
        .says("needed where there are no `servers`")
        .example("{ \"gpt-4o\" = \"gpt-4.1\" }"),
        KeySpec::new(
            "stages",
            ValueKind::List(&ValueKind::Table(&STAGE), 1, MAX_STAGES),
            "How many of the clients, and for how long, one stage after the other",
        )
        .says("5 % and 25 % for 5m each, 50 % and 100 % for 10m each")
        .example("[{ percent = 5, hold = \"5m\" }, { percent = 100, hold = \"10m\" }]"),
        KeySpec::new(
            "sticky",
            ValueKind::Choice(&["client", "address", "none"], &[]),
            "Who stays in its group: each client (by its key, else by its address), each address, or nobody (each request by chance)",
        )
        .is("client"),
        KeySpec::new(
            "rollback",
            ValueKind::List(&ValueKind::Table(&CONDITION), 0, MAX_STAGES),
            "What takes all clients back to the control group",
        )
        .says("an error rate above 0.05 for 60s")
        .example("[{ metric = \"error_rate\", above = 0.05, for = \"60s\" }]"),
        KeySpec::new("min_requests", ValueKind::Integer(1, 1_000_000), "So many requests of the canary group end a stage, at least").is("59"),
        KeySpec::new("bake", ValueKind::Duration("0s", "24d"), "How long it is watched after the last stage").is("0s"),
        KeySpec::new(
            "metrics_lost",
            ValueKind::Choice(&["hold", "rollback"], &[]),
            "What becomes of it where nothing has been heard of requests for 5 minutes",
        )
        .is("hold"),
        KeySpec::new("override", ValueKind::Table(&OVERRIDE), OVERRIDE.doc).says("nobody"),
    ],
};

pub(in crate::config) static STAGE: Section = Section {
    name: "canary.NAME.stages",
    doc: "One stage of a canary",
    keys: &[
        KeySpec::new("percent", ValueKind::Amount(100), "Of the clients, in steps of 0.01").required().example("5"),
        KeySpec::new("hold", ValueKind::Duration("0s", "24d"), "How long it lasts, at least").is("5m"),
        KeySpec::new("gate", ValueKind::Bool, "Whether an operator says when it ends (`hapilot canary promote`)")
            .is("false"),
    ],
};

pub(in crate::config) static CONDITION: Section = Section {
    name: "canary.NAME.rollback",
    doc: "A condition that must not hold for so long",
    keys: &[
        KeySpec::new(
            "metric",
            ValueKind::Choice(
                &[
                    "error_rate",
                    "success_rate",
                    "first_token_p50",
                    "first_token_p95",
                    "first_token_p99",
                    "latency_p50",
                    "latency_p95",
                    "latency_p99",
                    "tokens_per_second",
                    "cost_per_request",
                ],
                &[],
            ),
            "What is measured in the canary group",
        )
        .required()
        .example("\"error_rate\""),
        KeySpec::new("above", ValueKind::Limit, "It is worse above this: a share, a duration, or a number")
            .example("0.05"),
        KeySpec::new("below", ValueKind::Limit, "It is worse below this").example("0.95"),
        KeySpec::new("above_control", ValueKind::Amount(1_000), "It is worse above so many times the control group's")
            .example("1.2"),
        KeySpec::new("below_control", ValueKind::Amount(1_000), "It is worse below so many times the control group's")
            .example("0.8"),
        KeySpec::new("for", ValueKind::Duration("10s", "24h"), "For how long").is("60s"),
    ],
};

pub(in crate::config) static OVERRIDE: Section = Section {
    name: "canary.NAME.override",
    doc: "Who may choose the group of a request, by a header with the canary's name or `control`",
    keys: &[
        KeySpec::new("header", ValueKind::HeaderName, "The header").is("X-Canary"),
        KeySpec::new(
            "clients",
            ValueKind::List(&ValueKind::Text(64), 1, 100),
            "Globs with * and ? on the names of clients that may",
        )
        .says("none")
        .example("[\"qa-*\"]"),
        KeySpec::new(
            "plans",
            ValueKind::List(&ValueKind::Text(64), 1, 100),
            "Globs with * and ? on the names of plans that may",
        )
        .says("none")
        .example("[\"internal\"]"),
        KeySpec::new("addresses", ValueKind::List(&ValueKind::Ip, 1, 100), "Addresses that may")
            .says("none")
            .example("[\"192.0.2.7\"]"),
    ],
};
