//! What is probed, and how.

use crate::config::{ChatProbe, HttpProbe, ModelsProbe};
use crate::health::ProbeKind;
use crate::model::{Endpoint, Provider, Secret};
use std::net::SocketAddr;

/// One server as a probe sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its base URL.
    pub endpoint: Endpoint,
    /// The very address that HAProxy uses; none: the name is resolved anew for each probe.
    pub connect_to: Option<SocketAddr>,
    /// The provider's key.
    pub key: Option<Secret>,
    /// How its certificate is judged.
    pub tls: TargetTls,
    /// Whose API it speaks.
    pub provider: Provider,
}

impl Target {
    /// A target without a key, verified by the system's authorities.
    pub fn new(endpoint: Endpoint, provider: Provider) -> Self {
        Self { endpoint, connect_to: None, key: None, tls: TargetTls::default(), provider }
    }

    /// The path of an API method: below the URL's own path, or below the provider's usual one where it has none.
    pub(super) fn api_path(&self, method: &str) -> String {
        let root = if self.endpoint.path.is_empty() { self.provider.api_root() } else { &self.endpoint.path };
        format!("{root}/{method}")
    }
}

/// How a server's certificate is judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetTls {
    /// The authorities, as PEM text; none: the system's.
    pub ca_pem: Option<String>,
    /// The name that is asked for and verified; none: the URL's host.
    pub server_name: Option<String>,
    /// Whether it is verified at all.
    pub verify: bool,
}

impl Default for TargetTls {
    fn default() -> Self {
        Self { ca_pem: None, server_name: None, verify: true }
    }
}

/// What to ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// The list of models.
    Models(ModelsProbe),
    /// A streamed completion.
    Chat(ChatProbe),
    /// A GET.
    Http(HttpProbe),
}

impl Probe {
    /// Its kind.
    pub fn kind(&self) -> ProbeKind {
        match self {
            Self::Models(_) => ProbeKind::Models,
            Self::Chat(_) => ProbeKind::Chat,
            Self::Http(_) => ProbeKind::Http,
        }
    }
}
