//! Who may ask, and how much.

use super::backend::{CACHE_WRITE, CACHED, INPUT, OUTPUT};
use super::{KeySpec, Section, ValueKind};

/// Most clients of the operator's file, and of the clients' own.
const MAX_CLIENTS: usize = 20_000;
/// Most certificates of one client: the one before, the one now, and the next.
const MAX_CERTIFICATES: usize = 4;

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
            "Refuse a request whose `max_tokens` alone is more than what is left of `tokens` or `budget`",
        )
        .is("false"),
        KeySpec::new("budget", ValueKind::Table(&BUDGET), BUDGET.doc).says("no limit of money"),
        KeySpec::new(
            "only",
            ValueKind::List(&ValueKind::Text(256), 1, 200),
            "Globs with * and ? on the models that may still be asked for when the budget is spent",
        )
        .says("none")
        .example("[\"gpt-4o-mini\"]"),
        KeySpec::new(
            "over",
            ValueKind::Choice(&["deny", "delay"], &[]),
            "What becomes of a request over the rate up to an hour of `requests`: 429, or it waits for its turn, 5 s at most (HAProxy 3.2 and newer)",
        )
        .is("deny"),
    ],
};

pub(in crate::config) static BUDGET: Section = Section {
    name: "plan.NAME.budget",
    doc: "What each client may spend, by the prices in the file; a day and a month begin in UTC",
    keys: &[
        KeySpec::new("usd", ValueKind::Amount(1_000_000), "US dollars, in steps of 0.000001").required().example("50"),
        KeySpec::new("per", ValueKind::Choice(&["day", "month"], &[]), "For how long").is("month"),
        KeySpec::new(
            "alert_at",
            ValueKind::List(&ValueKind::Amount(1), 0, 10),
            "At which parts of it an event tells, in steps of 0.001; when it is spent one always does",
        )
        .says("[0.8]")
        .example("[0.5, 0.8]"),
        KeySpec::new(
            "when_spent",
            ValueKind::Choice(&["deny", "only", "pass"], &[]),
            "What then: `deny` all, let `only` the models of that key through, or let all `pass`",
        )
        .says("deny, or only where the plan has `only`")
        .example("\"pass\""),
    ],
};

pub(in crate::config) static MODEL_PRICE: Section = Section {
    name: "price",
    doc: "What the tokens of some models cost, in US dollars a million, in steps of 0.000001",
    keys: &[
        KeySpec::new(
            "model",
            ValueKind::Text(256),
            "The model that is asked for, or the begin of some with a * behind it",
        )
        .required()
        .example("\"gpt-4o*\""),
        KeySpec::new("server", ValueKind::Text(129), "At this server alone, as BACKEND/SERVER")
            .says("everywhere")
            .example("\"chat/azure\""),
        INPUT,
        OUTPUT,
        CACHED,
        CACHE_WRITE,
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
    doc: "Somebody who asks, known by a key of which only the digest stands here, by a certificate, or by both",
    keys: &[
        KeySpec::new("plan", ValueKind::Name, "What it may do").required().example("\"free\""),
        KeySpec::new("key_sha256", ValueKind::Sha256, "SHA-256 of its key")
            .says("it has none: a certificate is needed")
            .example("\"5f2d1c0a9b8e7d6c5b4a39281706f5e4d3c2b1a0998877665544332211ffeedd\""),
        KeySpec::new(
            "old_key_sha256",
            ValueKind::Sha256,
            "SHA-256 of the key before, which is good until `old_key_until`",
        )
        .example("\"5f2d1c0a9b8e7d6c5b4a39281706f5e4d3c2b1a0998877665544332211ffeedd\""),
        KeySpec::new("old_key_until", ValueKind::Time, "Until when the key before is good")
            .example("\"2026-12-31T00:00:00Z\""),
        KeySpec::new(
            "certificate_sha256",
            ValueKind::Fingerprints(MAX_CERTIFICATES),
            "SHA-256 of the certificate that it shows instead of a key, where the frontend has `client_certificates`; several while it is renewed",
        )
        .example("\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\""),
        KeySpec::new(
            "budget_since",
            ValueKind::Time,
            "What it spent before this counts no more towards its budget; `hapilot client forgive` sets it",
        )
        .example("\"2026-11-30T12:00:00Z\""),
    ],
};

pub(super) const PRICES: ValueKind = ValueKind::List(&ValueKind::Table(&MODEL_PRICE), 0, 1000);
pub(super) const PLANS: ValueKind = ValueKind::Named(&PLAN, 1000);
pub(super) const CLIENTS: ValueKind = ValueKind::Named(&CLIENT, MAX_CLIENTS);

/// The file that `clients` names.
pub(in crate::config) static CLIENTS_FILE: Section =
    Section { name: "", doc: "Clients of a hapilot", keys: &[KeySpec::new("client", CLIENTS, "Who may ask, by name")] };
