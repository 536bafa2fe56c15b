//! How a mock is started.

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
    /// Speak TLS.
    pub tls: Option<MockTls>,
}

/// TLS of a mock: an authority of its own, made at start, signs what it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct MockTls {
    /// Names and addresses of the good certificate.
    pub names: Vec<String>,
}

impl Default for MockTls {
    fn default() -> Self {
        Self { names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()] }
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
            tls: None,
        }
    }
}
