//! What a probe found: a closed list.

use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How much a probe costs, and so how much its word counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// `GET …/models`: free, authenticated.
    Models,
    /// `GET` of a health path: free.
    Http,
    /// A streamed completion: costs tokens.
    Chat,
    /// One embedding: costs tokens, few.
    Embeddings,
    /// The server's own figures of its load: free, says nothing about its health.
    Metrics,
    /// How long the server's certificate is still valid: free, says nothing about its health.
    Certificate,
}

impl ProbeKind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Models, Self::Http, Self::Chat, Self::Embeddings, Self::Metrics, Self::Certificate];

    /// Whether it costs tokens and runs rarely.
    pub fn is_deep(self) -> bool {
        matches!(self, Self::Chat | Self::Embeddings)
    }

    /// Whether its outcomes decide over the server's state. What does not, informs: weights, warnings.
    pub fn decides(self) -> bool {
        !matches!(self, Self::Metrics | Self::Certificate)
    }

    /// The word in the operator's file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Http => "http",
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
            Self::Metrics => "metrics",
            Self::Certificate => "certificate_expiry",
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// TCP and TLS.
    Connect,
    /// From the request to the first token (or to the response's header for probes that do not stream).
    FirstToken,
    /// Silence inside a stream.
    Stall,
    /// The whole probe.
    Total,
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Expected status, valid body or stream, in time.
    Ok,
    /// Valid, but the first token came after the soft limit.
    Slow,
    /// 429 that is not a quota: alive.
    RateLimited,
    /// 529, or 503 with Retry-After: alive.
    Overloaded,
    /// 401, 402, 403, or a 429 or 400 that means quota or billing: the key is bad, not the server.
    Credential,
    /// 3xx, 400, 404, 405, 413, 415, 422: our probe is wrong.
    ProbeConfig,
    /// 500, 502, 504, 503 without Retry-After, and any other unexpected status.
    ServerError,
    /// A 2xx whose content is wrong: error object, invalid JSON or SSE, empty completion, missing model, oversize.
    BadContent,
    /// A deadline passed.
    Timeout(Phase),
    /// Nobody listens.
    Refused,
    /// The connection broke.
    Reset,
    /// TLS failed: expired, wrong name, unknown authority, not TLS at all.
    Tls,
    /// The name did not resolve: never blamed on the server.
    Dns,
    /// Our own fault (no file descriptors, scheduling lag, cancelled): the sample is thrown away.
    SelfCaused,
}

/// How an outcome counts for the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// For `rise`.
    Success,
    /// For `fall`.
    HardFailure,
    /// Neither; alive but limited.
    Limited,
    /// Neither; nothing is learnt of the server.
    Neutral,
}

impl Outcome {
    /// How it counts. Never by status alone: see each variant.
    pub fn count(self) -> Count {
        match self {
            Self::Ok | Self::Slow => Count::Success,
            Self::RateLimited | Self::Overloaded => Count::Limited,
            Self::Credential | Self::ProbeConfig | Self::Dns | Self::SelfCaused => Count::Neutral,
            Self::ServerError | Self::BadContent | Self::Timeout(_) | Self::Refused | Self::Reset | Self::Tls => {
                Count::HardFailure
            }
        }
    }

    /// Whether our own network can be the reason: a name that does not resolve, silence where an answer was due.
    /// A refusal or a reset is an answer of the other side, and so the network works.
    pub fn may_be_ours(self) -> bool {
        matches!(self, Self::Dns | Self::Timeout(_))
    }

    /// The name in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Slow => "slow",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Credential => "credential",
            Self::ProbeConfig => "probe_config",
            Self::ServerError => "server_error",
            Self::BadContent => "bad_content",
            Self::Timeout(Phase::Connect) => "timeout_connect",
            Self::Timeout(Phase::FirstToken) => "timeout_first_token",
            Self::Timeout(Phase::Stall) => "timeout_stall",
            Self::Timeout(Phase::Total) => "timeout_total",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::SelfCaused => "self",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How busy a server says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Load {
    /// Requests that wait for their turn, 0 or more.
    pub waiting: f64,
    /// The part of its key-value cache that is in use, 0 to 1, where it says so.
    pub cache: Option<f64>,
}

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observation {
    /// Which probe.
    pub kind: ProbeKind,
    /// What it found.
    pub outcome: Outcome,
    /// The server asked for silence this long (Retry-After and its kin), already capped at 300 s.
    pub retry_after: Option<Duration>,
    /// A rejection of the key that means its account (402, a quota), and not the key.
    pub is_billing: bool,
    /// From the request to the first token; only a chat probe that got one has it.
    pub first_token: Option<Duration>,
    /// From the first byte sent to the end.
    pub total: Duration,
    /// Tokens that the probe cost, prompt and completion, where the server said so.
    pub tokens: u64,
    /// What a metrics probe read.
    pub load: Option<Load>,
    /// The server's models, by its own names: where a probe of the list saw all of them.
    #[serde(skip)]
    pub models: Option<Arc<BTreeSet<String>>>,
    /// One line for people: what exactly was wrong. Never a key; at most 300 characters.
    pub detail: String,
}

impl Observation {
    /// An observation of which no more is known than what came out and how long it took.
    pub fn new(kind: ProbeKind, outcome: Outcome, total: Duration) -> Self {
        Self {
            kind,
            outcome,
            retry_after: None,
            is_billing: false,
            first_token: None,
            total,
            tokens: 0,
            load: None,
            models: None,
            detail: String::new(),
        }
    }
}
