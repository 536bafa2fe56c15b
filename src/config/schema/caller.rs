//! Who may ask, and how much.

use super::{KeySpec, Section, ValueKind, later};

/// Most clients of the operator's file, and of the clients' own.
const MAX_CLIENTS: usize = 20_000;

pub(in crate::config) static PLAN: Section = Section {
    name: "plan.NAME",
    doc: "What each of its clients may do",
    keys: &[
        KeySpec::new("requests", ValueKind::Rates, "Requests: a rate, or two: one up to an hour, one longer")
            .says("no limit")
            .example("[\"60/1m\", \"5000/24h\"]"),
        KeySpec::new(
            "burst",
            ValueKind::Integer(0, 1_000_000),
            "So many more at once than the rate up to an hour says",
        )
        .is("0"),
        KeySpec::new("concurrent", ValueKind::Integer(1, 1_000_000), "Requests at a time")
            .says("no limit")
            .example("5"),
        KeySpec::new(
            "models",
            ValueKind::List(&ValueKind::Text(256), 1, 200),
            "Globs with * and ? on the models that may be asked for",
        )
        .says("every model")
        .example("[\"gpt-4o*\"]"),
        KeySpec::new(
            "routes",
            ValueKind::List(&ValueKind::UrlPath, 1, 100),
            "Begins of the paths that may be asked for",
        )
        .says("every path")
        .example("[\"/v1/chat\", \"/v1/models\"]"),
        KeySpec::new("tokens", ValueKind::Rates, "Tokens: a rate, or two: one up to an hour, one longer")
            .says("no limit, and nothing is counted")
            .example("[\"100000/1m\", \"5000000/24h\"]"),
        KeySpec::new("token_weights", ValueKind::Table(&TOKEN_WEIGHTS), TOKEN_WEIGHTS.doc).says("1 for each"),
        KeySpec::new(
            "reserve",
            ValueKind::Bool,
            "Refuse a request whose `max_tokens` alone is more than what is left of `tokens`",
        )
        .is("false"),
        KeySpec::later("budget", later::BUDGETS),
        KeySpec::later("only", later::BUDGETS),
        KeySpec::later("over", later::OVER),
    ],
};

pub(in crate::config) static TOKEN_WEIGHTS: Section = Section {
    name: "plan.NAME.token_weights",
    doc: "How much of a token counts towards `tokens`, in steps of 0.0001",
    keys: &[
        KeySpec::new("prompt", ValueKind::Amount(100), "One of the prompt that comes out of no cache").is("1"),
        KeySpec::new("cached", ValueKind::Amount(100), "One of the prompt that comes out of the provider's cache")
            .is("1"),
        KeySpec::new("completion", ValueKind::Amount(100), "One of the answer").is("1"),
    ],
};

pub(in crate::config) static CLIENT: Section = Section {
    name: "client.NAME",
    doc: "Somebody who asks, known by a key of which only the digest stands here",
    keys: &[
        KeySpec::new("plan", ValueKind::Name, "What it may do").required().example("\"free\""),
        KeySpec::new("key_sha256", ValueKind::Sha256, "SHA-256 of its key")
            .required()
            .example("\"5f2d1c0a9b8e7d6c5b4a39281706f5e4d3c2b1a0998877665544332211ffeedd\""),
        KeySpec::new(
            "old_key_sha256",
            ValueKind::Sha256,
            "SHA-256 of the key before, which is good until `old_key_until`",
        )
        .example("\"5f2d1c0a9b8e7d6c5b4a39281706f5e4d3c2b1a0998877665544332211ffeedd\""),
        KeySpec::new("old_key_until", ValueKind::Time, "Until when the key before is good")
            .example("\"2026-12-31T00:00:00Z\""),
    ],
};

pub(super) const PLANS: ValueKind = ValueKind::Named(&PLAN, 1000);
pub(super) const CLIENTS: ValueKind = ValueKind::Named(&CLIENT, MAX_CLIENTS);

/// The file that `clients` names.
pub(in crate::config) static CLIENTS_FILE: Section =
    Section { name: "", doc: "Clients of a hapilot", keys: &[KeySpec::new("client", CLIENTS, "Who may ask, by name")] };
