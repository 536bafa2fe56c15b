//! Kinds of AI backend of the operator's own, and of hapilot's: the built-in ones are written with the same keys.

use super::{KeySpec, Section, ValueKind};
use crate::model::{Dialect, Provider};

/// What a key says that is left out.
const INHERITED: &str = "that of `like`";
const API_PATH: ValueKind = ValueKind::ApiPath;
const WORDS: ValueKind = ValueKind::List(&ValueKind::Text(256), 0, 100);
const DIALECT: ValueKind = ValueKind::Choice(&Dialect::NAMES, &[]);

pub(in crate::config) static PROVIDER: Section = Section {
    name: "provider.NAME",
    doc: "A kind of AI backend of your own: a built-in one with other paths, headers or words; used by `provider = \"NAME\"`",
    keys: &[
        KeySpec::new(
            "like",
            ValueKind::Choice(&Provider::NAMES, &[]),
            "The built-in provider that everything left out here is taken from",
        )
        .is("openai"),
        KeySpec::new(
            "api_root",
            ValueKind::ApiRoot,
            "The path below which clients call the API, and that of a server URL without one; may be empty",
        )
        .says(INHERITED)
        .example("\"/openai/v1\""),
        KeySpec::new("query", ValueKind::Word(512), "Query of every probe below api_root, without `?`")
            .says(INHERITED)
            .example("\"api-version=2024-10-21\""),
        KeySpec::new(
            "key_header",
            ValueKind::HeaderName,
            "The header that carries the key, from probes and from HAProxy",
        )
        .says(INHERITED)
        .example("\"api-key\""),
        KeySpec::new(
            "key_prefix",
            ValueKind::HeaderText(64),
            "What stands before the key in it, with its blank; may be empty",
        )
        .says(INHERITED)
        .example("\"Bearer \""),
        KeySpec::new(
            "headers",
            ValueKind::Headers(&ValueKind::HeaderText(1024), 20),
            "Headers of every request, also in place of the client's own; no secrets",
        )
        .says(INHERITED)
        .example("{ OpenAI-Organization = \"org-1\" }"),
        KeySpec::new(
            "default_headers",
            ValueKind::Headers(&ValueKind::HeaderText(1024), 20),
            "Headers of requests in which the client sent none of that name",
        )
        .says(INHERITED)
        .example("{ anthropic-version = \"2023-06-01\" }"),
        KeySpec::new("http", ValueKind::Table(&HTTP), HTTP.doc),
        KeySpec::new("models", ValueKind::Switch(&MODELS), MODELS.doc).says(INHERITED),
        KeySpec::new("chat", ValueKind::Switch(&CHAT), CHAT.doc).says(INHERITED),
        KeySpec::new("embeddings", ValueKind::Switch(&EMBEDDINGS), EMBEDDINGS.doc).says(INHERITED),
        KeySpec::new("metrics", ValueKind::Table(&METRICS), METRICS.doc),
        KeySpec::new("errors", ValueKind::Table(&ERRORS), ERRORS.doc),
        KeySpec::new("limits", ValueKind::Table(&LIMITS), LIMITS.doc),
    ],
};

static HTTP: Section = Section {
    name: "provider.NAME.http",
    doc: "The path that says whether a server lives; it must be free",
    keys: &[
        KeySpec::new("path", API_PATH, "From the server's root").says(INHERITED).example("\"/health\""),
        KeySpec::new("status", ValueKind::List(&ValueKind::Integer(100, 599), 0, 100), "Status codes that mean life")
            .says(INHERITED)
            .example("[200]"),
    ],
};

static MODELS: Section = Section {
    name: "provider.NAME.models",
    doc: "The list of models; false where there is none",
    keys: &[
        KeySpec::new("path", API_PATH, "Below api_root").says(INHERITED).example("\"/models\""),
        KeySpec::new("list", ValueKind::Text(64), "Field of the answer that holds the list")
            .says(INHERITED)
            .example("\"data\""),
        KeySpec::new("name", ValueKind::Text(64), "Field of an entry that holds its name")
            .says(INHERITED)
            .example("\"id\""),
    ],
};

static CHAT: Section = Section {
    name: "provider.NAME.chat",
    doc: "Streamed completions; false where there are none",
    keys: &[
        KeySpec::new("dialect", DIALECT, "How request and events are spelt").says(INHERITED),
        KeySpec::new("path", API_PATH, "Below api_root; `{model}` stands for the model's name")
            .says(INHERITED)
            .example("\"/chat/completions\""),
        KeySpec::new("limit", ValueKind::Text(64), "Parameter that limits the tokens of the answer")
            .says(INHERITED)
            .example("\"max_tokens\""),
        KeySpec::new("checks_model", ValueKind::Bool, "Whether the answer must name the model that was asked for")
            .says(INHERITED),
    ],
};

static EMBEDDINGS: Section = Section {
    name: "provider.NAME.embeddings",
    doc: "Embeddings; false where there are none",
    keys: &[
        KeySpec::new("dialect", DIALECT, "How request and answer are spelt: openai or gemini").says(INHERITED),
        KeySpec::new("path", API_PATH, "Below api_root; `{model}` stands for the model's name")
            .says(INHERITED)
            .example("\"/embeddings\""),
    ],
};

static METRICS: Section = Section {
    name: "provider.NAME.metrics",
    doc: "Where a server's own figures are, and how they are called",
    keys: &[
        KeySpec::new("path", API_PATH, "From the server's root").says(INHERITED).example("\"/metrics\""),
        KeySpec::new("port", ValueKind::Integer(1, 65_535), "Where it is not the URL's")
            .says(INHERITED)
            .example("8002"),
        KeySpec::new("waiting", WORDS, "Gauges of waiting requests; the first that is there counts")
            .says(INHERITED)
            .example("[\"vllm:num_requests_waiting\"]"),
        KeySpec::new("cache", WORDS, "Gauges of the cache in use, 0 to 1; the first that is there counts")
            .says(INHERITED)
            .example("[\"vllm:kv_cache_usage_perc\"]"),
    ],
};

static ERRORS: Section = Section {
    name: "provider.NAME.errors",
    doc: "Words in the codes and messages of errors, in whatever case; they come on top of those of `like`",
    keys: &[
        KeySpec::new("account", WORDS, "The account (quota, credit, billing) and not the moment: in a 400 or 429")
            .example("[\"insufficient_quota\"]"),
        KeySpec::new("rejected", WORDS, "The key: in a 400").example("[\"invalid_api_key\"]"),
        KeySpec::new("passing", WORDS, "A limit that passes, whatever else a 429 says")
            .example("[\"rate_limit_exceeded\"]"),
        KeySpec::new("overloaded", WORDS, "Too much to do: in a 503 without Retry-After").example("[\"server busy\"]"),
    ],
};

static LIMITS: Section = Section {
    name: "provider.NAME.limits",
    doc: "Where a provider says how long it wants silence",
    keys: &[
        KeySpec::new(
            "wait",
            ValueKind::List(&ValueKind::HeaderName, 0, 20),
            "Headers with seconds, an HTTP date, or milliseconds where the name ends in -ms",
        )
        .says(INHERITED)
        .example("[\"retry-after\"]"),
        KeySpec::new(
            "reset",
            ValueKind::List(&ValueKind::Text(64), 0, 20),
            "Headers with the reset of a limit; * stands for any letters",
        )
        .says(INHERITED)
        .example("[\"x-ratelimit-reset-*\"]"),
        KeySpec::new("phrases", WORDS, "Words of a message that a duration follows")
            .says(INHERITED)
            .example("[\"retry after \"]"),
    ],
};
