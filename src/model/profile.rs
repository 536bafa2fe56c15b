//! How one kind of AI backend is asked, and what its answers mean: data and nothing else.
//!
//! Refuses to know how it is written (`config`), how a request is made of it (`probe`) and how HAProxy is told
//! (`render`).

use super::Refused;
use std::collections::BTreeMap;
use std::fmt;

/// Headers in which clients and providers carry keys. What a client presents in one of them is its own and never reaches
/// a provider for which the operator has a key.
pub const KEY_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Headers in which clients and proxies in front tell a caller's address and the name that it asked for, and those about
/// the client's connection, in lower case; `.*` stands for whatever follows.
pub const TELLING_HEADERS: [&str; 25] = [
    "connection",
    "proxy-connection",
    "proxy-authorization",
    "x-forwarded.*",
    "forwarded",
    "forwarded-for",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "via",
    "x-originating-ip",
    "x-remote-addr",
    "x-proxyuser-ip",
    "x-azure-clientip",
    "fly-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-host",
];

/// Headers that HAProxy puts in itself, in the same spelling.
pub const PUT_IN_HEADERS: [&str; 2] = ["x-request-id", "x-hapilot-.*"];

/// One kind of AI backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Its name in the operator's file.
    pub name: String,
    /// The path below which clients call the API; a server URL without a path means this one. Empty or `/…`.
    pub api_root: String,
    /// The query of every probe below the API's root, without `?`; empty: none.
    pub query: String,
    /// The header that carries the key.
    pub key_header: String,
    /// What stands before the key in it, with its blank; may be empty.
    pub key_prefix: String,
    /// Headers of every request, also in place of the client's own.
    pub headers: BTreeMap<String, String>,
    /// Headers of requests in which the client sent none of that name.
    pub default_headers: BTreeMap<String, String>,
    /// The free path that says whether it lives.
    pub http: HttpApi,
    /// The list of models, where there is one.
    pub models: Option<ModelsApi>,
    /// Completions, where there are any.
    pub chat: Option<ChatApi>,
    /// Embeddings, where there are any.
    pub embeddings: Option<EmbeddingsApi>,
    /// Its own figures.
    pub metrics: MetricsApi,
    /// What its errors mean.
    pub errors: ErrorWords,
    /// How it asks for silence.
    pub limits: LimitSigns,
}

/// A path that says whether a server lives, and costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpApi {
    /// From the server's root, with its query.
    pub path: String,
    /// Status codes that mean life; none: 200 where the operator asks for the probe, else 200 to 399.
    pub status: Vec<u16>,
}

/// `GET` of the list of models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelsApi {
    /// Below the API's root.
    pub path: String,
    /// The field that holds the list.
    pub list: String,
    /// The field of an entry that holds the model's name.
    pub name: String,
}

/// A streamed completion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatApi {
    /// How request and events are spelt.
    pub dialect: Dialect,
    /// Below the API's root; `{model}` stands for the model's name.
    pub path: String,
    /// The parameter that limits the tokens of the answer.
    pub limit: String,
    /// Whether the answer's `model` must be the one that was asked for.
    pub checks_model: bool,
}

/// One embedding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddingsApi {
    /// How request and answer are spelt.
    pub dialect: Dialect,
    /// Below the API's root; `{model}` stands for the model's name.
    pub path: String,
}

/// Figures of the server's load, in Prometheus' text format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsApi {
    /// From the server's root.
    pub path: String,
    /// Where it is not the URL's.
    pub port: Option<u16>,
    /// Gauges of waiting requests; the first that is there counts.
    pub waiting: Vec<String>,
    /// Gauges of the part of the key-value cache in use, 0 to 1; the first that is there counts.
    pub cache: Vec<String>,
}

/// Words that tell errors apart; each is looked for in codes and messages, in whatever case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorWords {
    /// The account (quota, credit, billing) and not the moment: 400, 403 and 429.
    pub account: Vec<String>,
    /// The key, in a 400.
    pub rejected: Vec<String>,
    /// A limit that passes by itself, whatever else the message says: a 429.
    pub passing: Vec<String>,
    /// Too much to do, in a 503 without Retry-After.
    pub overloaded: Vec<String>,
}

/// Where a provider says how long it wants silence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitSigns {
    /// Headers with seconds or an HTTP date, or milliseconds where the name ends in `-ms`; the first that makes sense
    /// counts.
    pub wait: Vec<String>,
    /// Names of headers with the reset of a limit, with `*` for any letters; the twin with `remaining` instead of
    /// `reset` tells which of them is exhausted.
    pub reset: Vec<String>,
    /// Words of an error's message that a duration follows.
    pub phrases: Vec<String>,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// How chats and embeddings are spelt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `choices[].delta`, `[DONE]`.
    #[default]
    OpenAi,
    /// `message_start`, `content_block_delta`, `message_stop`.
    Anthropic,
    /// `candidates[].content.parts`.
    Gemini,
    /// Converse, in frames of `application/vnd.amazon.eventstream`.
    Bedrock,
}

impl Dialect {
    /// Every one, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Bedrock];

    /// Their words, in the same order.
    pub const NAMES: [&str; 4] =
        [Self::ALL[0].as_str(), Self::ALL[1].as_str(), Self::ALL[2].as_str(), Self::ALL[3].as_str()];

    /// The word in the operator's file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
        }
    }
}

impl std::str::FromStr for Dialect {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        Self::ALL
            .into_iter()
            .find(|d| d.as_str() == text)
            .ok_or_else(|| Refused::new(format!("a dialect is one of {}", Self::ALL.map(Self::as_str).join(", "))))
    }
}
