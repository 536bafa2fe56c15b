//! How a mock is started.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What a mock is like while no fault is set.
#[derive(Clone, Debug, PartialEq)]
pub struct MockConfig {
    /// Where it serves; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Where its control API listens, apart from `bind`, so that it outlives every fault; port 0 takes a free one.
    pub control: SocketAddr,
    /// Its name: in `x-mock`, in `system_fingerprint`, in `/health`.
    pub name: String,
    /// The key that clients must present; none: any will do.
    pub key: Option<String>,
    /// The models that it lists and serves.
    pub models: Vec<String>,
    /// How long until the first token.
    pub first_token: Duration,
    /// The pace after that; 0: as fast as it goes.
    pub tokens_per_second: f64,
    /// Tokens of an answer that the request does not limit, at most 100,000.
    pub tokens: u32,
    /// Prompts that it keeps in its cache, 0 to 10,000.
    pub cached_prompts: usize,
    /// The load that it tells at `/metrics`, until it is set anew.
    pub load: MockLoad,
    /// Speak TLS.
    pub tls: Option<MockTls>,
}

/// What a mock says of its load; it does not change how it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MockLoad {
    /// Waiting requests.
    pub waiting: f64,
    /// Running requests.
    pub running: f64,
    /// The part of the cache in use, 0 to 1.
    pub cache: f64,
}

/// TLS of a mock: an authority of its own, made at start, signs what it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct MockTls {
    /// Names and addresses of the good certificate.
    pub names: Vec<String>,
    /// How long the good certificate is valid from the start.
    pub valid: Duration,
}

impl Default for MockTls {
    fn default() -> Self {
        Self {
            names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
            valid: Duration::from_secs(365 * 86_400),
        }
    }
}

impl Default for MockConfig {
    fn default() -> Self {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            bind: any,
            control: any,
            name: "mock".into(),
            key: None,
            models: vec!["mock-small".into(), "mock-large".into()],
            first_token: Duration::ZERO,
            tokens_per_second: 0.0,
            tokens: 16,
            cached_prompts: 100,
            load: MockLoad::default(),
            tls: None,
        }
    }
}
