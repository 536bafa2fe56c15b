//! Probes of a backend.

use super::{KeySpec, Section, ValueKind};

pub(in crate::config) static CHECK: Section = Section {
    name: "backend.NAME.check",
    doc: "Probes of every server of the backend",
    keys: &[
        KeySpec::new("interval", ValueKind::Duration("200ms", "1h"), "Between two cheap probes of a server").is("10s"),
        KeySpec::new("fall", ValueKind::Integer(1, 100), "Hard failures in a row until unhealthy").is("3"),
        KeySpec::new("rise", ValueKind::Integer(1, 100), "Successes in a row until probation").is("2"),
        KeySpec::new("ramp", ValueKind::Duration("0s", "1h"), "How long probation takes from 10 % to 100 %").is("60s"),
        KeySpec::new("circuit", ValueKind::Integer(2, 1000), "Failures of real requests in a row until unhealthy")
            .is("5"),
        KeySpec::new("models", ValueKind::Switch(&MODELS), MODELS.doc)
            .says("on where the provider has a list of models"),
        KeySpec::new("chat", ValueKind::Switch(&CHAT), CHAT.doc).says("off, it costs money"),
        KeySpec::new("embeddings", ValueKind::Switch(&EMBEDDINGS), EMBEDDINGS.doc).says("off, it costs money"),
        KeySpec::new("http", ValueKind::Switch(&HTTP_PROBE), HTTP_PROBE.doc)
            .says("on where the provider has no list of models"),
        KeySpec::new("metrics", ValueKind::Switch(&METRICS), METRICS.doc).says("off"),
        KeySpec::new(
            "certificate_expiry",
            ValueKind::Duration("1h", "24d"),
            "Warn when a certificate of a server with https is valid for less; looked at every hour",
        )
        .says("off")
        .example("\"14d\""),
    ],
};

pub(in crate::config) static MODELS: Section = Section {
    name: "backend.NAME.check.models",
    doc: "GET …/models with the key: free; the key works, the models are there",
    keys: &[KeySpec::new("expect", ValueKind::List(&ValueKind::Text(256), 0, 100), "Models that must be listed")
        .says("none")
        .example("[\"gpt-4o\"]")],
};

pub(in crate::config) static CHAT: Section = Section {
    name: "backend.NAME.check.chat",
    doc: "One streamed completion: costs money",
    keys: &[
        KeySpec::new("model", ValueKind::Text(256), "Which model").required().example("\"gpt-4o-mini\""),
        KeySpec::new("every", ValueKind::Duration("1s", "24h"), "Between two completions of a server").is("5m"),
        KeySpec::new("max_tokens", ValueKind::Integer(16, 4096), "Below 16 reasoning models answer 400").is("16"),
        KeySpec::new("first_token_soft", ValueKind::Duration("1ms", "10m"), "Beyond it the answer is slow")
            .says("a third of first_token")
            .example("\"2s\""),
        KeySpec::new("first_token", ValueKind::Duration("1ms", "10m"), "Beyond it the probe fails")
            .says("15s, at most total")
            .example("\"5s\""),
        KeySpec::new("stall", ValueKind::Duration("1ms", "10m"), "Silence between two tokens")
            .says("12s, at most total")
            .example("\"12s\""),
        KeySpec::new("total", ValueKind::Duration("1ms", "1h"), "The whole completion").is("60s"),
        KeySpec::new("budget", ValueKind::Budget(&BUDGET), BUDGET.doc)
            .says("500 probes and 50000 tokens")
            .example("\"50000 tokens/day\""),
    ],
};

pub(in crate::config) static BUDGET: Section = Section {
    name: "backend.NAME.check.chat.budget",
    doc: "What the completions of all servers may cost a day (UTC); then they rest until midnight",
    keys: &[
        KeySpec::new("probes", ValueKind::Integer(1, 1_000_000), "Completions a day").is("500"),
        KeySpec::new("tokens", ValueKind::Integer(1, 1_000_000_000), "Tokens a day, prompt and completion").is("50000"),
        KeySpec::new("usd", ValueKind::Amount(1_000_000), "US dollars a day; needs a `price` at the servers")
            .says("no limit")
            .example("0.5"),
    ],
};

pub(in crate::config) static EMBEDDINGS: Section = Section {
    name: "backend.NAME.check.embeddings",
    doc: "One embedding of one word: costs a few tokens",
    keys: &[
        KeySpec::new("model", ValueKind::Text(256), "Which model").required().example("\"text-embedding-3-small\""),
        KeySpec::new("every", ValueKind::Duration("1s", "24h"), "Between two embeddings of a server").is("5m"),
        KeySpec::new("total", ValueKind::Duration("1ms", "10m"), "The whole request").is("15s"),
    ],
};

pub(in crate::config) static HTTP_PROBE: Section = Section {
    name: "backend.NAME.check.http",
    doc: "One GET",
    keys: &[
        KeySpec::new("path", ValueKind::ApiPath, "Path from the server's root")
            .says("the provider's")
            .example("\"/health\""),
        KeySpec::new("status", ValueKind::List(&ValueKind::Integer(100, 599), 1, 100), "Status codes that are right")
            .says("200")
            .example("[200, 204]"),
        KeySpec::new(
            "headers",
            ValueKind::Headers(&ValueKind::Pattern, 20),
            "Headers of the answer and an expression that is found in each",
        )
        .example("{ content-type = \"^application/json\" }"),
        KeySpec::new("json", ValueKind::Pointers(100), "JSON pointers into the body and what must stand there")
            .example("{ \"/status\" = \"ok\" }"),
        KeySpec::new("body", ValueKind::Pattern, "An expression that is found in the first 64 KiB of the body")
            .example("\"(?i)ready\""),
    ],
};

pub(in crate::config) static METRICS: Section = Section {
    name: "backend.NAME.check.metrics",
    doc: "GET of the server's own figures in Prometheus' text format: free, for adaptive weights only",
    keys: &[
        KeySpec::new("path", ValueKind::ApiPath, "Path from the server's root")
            .says("the provider's")
            .example("\"/metrics\""),
        KeySpec::new("port", ValueKind::Integer(1, 65_535), "Where it is not the URL's")
            .says("the provider's")
            .example("8002"),
        KeySpec::new(
            "waiting",
            ValueKind::Text(256),
            "Gauge of waiting requests; those with different labels are added",
        )
        .says("the provider's")
        .example("\"vllm:num_requests_waiting\""),
        KeySpec::new(
            "cache",
            ValueKind::Text(256),
            "Gauge of the cache in use, 0 to 1; of different labels the largest counts",
        )
        .says("the provider's")
        .example("\"vllm:kv_cache_usage_perc\""),
    ],
};
