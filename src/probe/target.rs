//! What is probed, and how.

use crate::config::{ChatProbe, EmbeddingsProbe, HttpProbe, MetricsProbe, ModelsProbe, ProxyProtocol};
use crate::health::ProbeKind;
use crate::model::{Endpoint, Profile, Secret};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One server as a probe sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its base URL.
    pub endpoint: Endpoint,
    /// The `Host` header; none: the endpoint's own.
    pub host: Option<String>,
    /// The very address that HAProxy uses; none: the name is resolved anew for each probe.
    pub connect_to: Option<SocketAddr>,
    /// The provider's key.
    pub key: Option<Secret>,
    /// What announces us to it ahead of everything else.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How its certificate is judged.
    pub tls: TargetTls,
    /// Whose API it speaks.
    pub provider: Arc<Profile>,
}

impl Target {
    /// A target without a key, verified by the system's authorities.
    pub fn new(endpoint: Endpoint, provider: Arc<Profile>) -> Self {
        Self {
            endpoint,
            host: None,
            connect_to: None,
            key: None,
            proxy_protocol: None,
            tls: TargetTls::default(),
            provider,
        }
    }

    /// The path of an API method: below the URL's own path, or below the provider's usual one where it has none; with
    /// the provider's query, and with the model's name in the place that is kept for it.
    pub(super) fn api_path(&self, method: &str, model: &str) -> String {
        let Profile { api_root, query, .. } = &*self.provider;
        let root = if self.endpoint.path.is_empty() { api_root } else { &self.endpoint.path };
        let mut path = format!("{root}{}", method.replace("{model}", &encoded(model)));
        if !query.is_empty() {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(query);
        }
        path
    }

    /// The same server at another port.
    pub(super) fn at_port(&self, port: u16) -> Self {
        let mut there = self.clone();
        there.endpoint.port = port;
        there.connect_to = self.connect_to.map(|addr| SocketAddr::new(addr.ip(), port));
        there
    }
}

/// A name as one segment of a path.
///
/// **Source**: RFC 3986, 2.3.
fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => text.push(char::from(b)),
            // A string takes whatever is written to it.
            b => write!(text, "%{b:02X}").expect("a string can be written to"),
        }
    }
    text
}

/// How a server's certificate is judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetTls {
    /// The authorities, as PEM text; none: the system's.
    pub ca_pem: Option<String>,
    /// The name that is asked for and verified; none: the URL's host.
    pub server_name: Option<String>,
    /// What we show where it asks for a certificate of ours.
    pub certificate: Option<ClientCertificate>,
    /// Whether it is verified at all.
    pub verify: bool,
}

impl Default for TargetTls {
    fn default() -> Self {
        Self { ca_pem: None, server_name: None, certificate: None, verify: true }
    }
}

/// PEM text of a certificate of ours and its key. Printing it shows only that there is one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificate(pub String);

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate(…)")
    }
}

/// What to ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// The list of models.
    Models(ModelsProbe),
    /// A streamed completion.
    Chat(ChatProbe),
    /// One embedding.
    Embeddings(EmbeddingsProbe),
    /// A GET.
    Http(HttpProbe),
    /// The server's own figures.
    Metrics(MetricsProbe),
    /// How long the certificate is still valid; below this time it is worth a warning.
    Certificate(Duration),
}

impl Probe {
    /// Its kind.
    pub fn kind(&self) -> ProbeKind {
        match self {
            Self::Models(_) => ProbeKind::Models,
            Self::Chat(_) => ProbeKind::Chat,
            Self::Embeddings(_) => ProbeKind::Embeddings,
            Self::Http(_) => ProbeKind::Http,
            Self::Metrics(_) => ProbeKind::Metrics,
            Self::Certificate(_) => ProbeKind::Certificate,
        }
    }

    /// Its total deadline; `cheap` where it brings none of its own.
    pub(super) fn total(&self, cheap: Duration) -> Duration {
        match self {
            Self::Chat(chat) => chat.total,
            Self::Embeddings(embeddings) => embeddings.total,
            Self::Models(_) | Self::Http(_) | Self::Metrics(_) | Self::Certificate(_) => cheap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::profile;
    use crate::model::Provider;

    #[test]
    fn a_path_has_root_model_and_query_in_their_places() {
        for (provider, url, model, expected) in [
            (Provider::OpenAi, "https://a.example", "m", "/v1/chat/completions"),
            (Provider::OpenAi, "https://a.example/api/v2", "m", "/api/v2/chat/completions"),
            (
                Provider::Azure,
                "https://r.example",
                "my gpt",
                "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21",
            ),
            (
                Provider::Gemini,
                "https://g.example",
                "gemini-2.0-flash",
                "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse",
            ),
            (
                Provider::Bedrock,
                "https://b.example",
                "anthropic.claude-3-haiku-20240307-v1:0",
                "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream",
            ),
        ] {
            let target = Target::new(url.parse().unwrap(), profile(provider));
            let path = target.provider.chat.as_ref().unwrap().path.clone();
            assert_eq!(target.api_path(&path, model), expected);
        }
    }
}
