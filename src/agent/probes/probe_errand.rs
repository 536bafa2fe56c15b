//! From a server of the configuration to a running probe.
//!
//! Called by the agent's loop and by `hapilot probe`.

use crate::agent::sources::place::Sources;
use crate::config::{Backend, ChatProbe, Check, EmbeddingsProbe, ModelsProbe, Server};
use crate::fleet::health_params;
use crate::health::{Observation, ProbeKind};
use crate::model::{Host, Scheme};
use crate::probe::{Probe, Prober, Target, TargetTls};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// One probe, ready to run.
#[derive(Clone, Debug)]
pub struct Errand {
    target: Target,
    probe: Probe,
    cheap_total: Duration,
}

impl Errand {
    /// What is to be probed, and how. `None` where the backend has no probe of this kind.
    ///
    /// `key` is the place of the key to ask with in the server's list, from 0; a server without keys is asked without.
    /// `resolved` is the very address that HAProxy uses for a server that is configured by name.
    pub fn new(
        sources: &Sources,
        backend: &Backend,
        server: &Server,
        kind: ProbeKind,
        key: usize,
        resolved: Option<IpAddr>,
    ) -> Option<Self> {
        let Check { models, chat, embeddings, http, metrics, certificate_expiry, .. } = &backend.check;
        // A server is asked for a model by its own name for it, as clients' requests are.
        let here = |model: &String| server.model_here(model).to_owned();
        let probe = match kind {
            ProbeKind::Models => {
                Probe::Models(ModelsProbe { expect: models.as_ref()?.expect.iter().map(here).collect() })
            }
            ProbeKind::Http => Probe::Http(http.clone()?),
            ProbeKind::Chat => {
                chat.as_ref().map(|chat| Probe::Chat(ChatProbe { model: here(&chat.model), ..chat.clone() }))?
            }
            ProbeKind::Embeddings => {
                let embeddings = embeddings.as_ref()?;
                Probe::Embeddings(EmbeddingsProbe { model: here(&embeddings.model), ..embeddings.clone() })
            }
            ProbeKind::Metrics => Probe::Metrics(metrics.clone()?),
            ProbeKind::Certificate if server.url.scheme == Scheme::Http => return None,
            ProbeKind::Certificate => Probe::Certificate((*certificate_expiry)?),
        };
        Some(Self::around(sources, backend, server, probe, key, resolved))
    }

    /// Whether a key works, by a probe that costs nothing: the list of models, also where that probe is off.
    pub fn of_key(sources: &Sources, backend: &Backend, server: &Server, key: usize) -> Self {
        let models = backend.check.models.clone().unwrap_or(ModelsProbe { expect: vec![] });
        Self::around(sources, backend, server, Probe::Models(models), key, None)
    }

    fn around(
        sources: &Sources,
        backend: &Backend,
        server: &Server,
        probe: Probe,
        key: usize,
        resolved: Option<IpAddr>,
    ) -> Self {
        let connect_to = match server.url.host {
            Host::Ip(_) => None,
            Host::Dns(_) => resolved.map(|ip| SocketAddr::new(ip, server.url.port)),
        };
        let target = Target {
            endpoint: server.url.value.clone(),
            host: server.own_host().map(str::to_owned),
            connect_to,
            key: server.keys.get(key).and_then(|key| sources.secrets.get(&key.value)).cloned(),
            proxy_protocol: server.proxy_protocol.as_ref().map(|version| version.value),
            tls: TargetTls {
                ca_pem: server.tls.ca.as_ref().and_then(|ca| sources.authorities.get(&ca.value)).cloned(),
                server_name: server.tls.server_name.as_ref().map(|name| name.value.clone()),
                certificate: server
                    .tls
                    .certificate
                    .as_ref()
                    .and_then(|path| sources.client_certificates.get(&path.value))
                    .cloned(),
                verify: server.tls.verify,
            },
            provider: backend.provider.clone(),
        };
        Self { target, probe, cheap_total: health_params(backend, server).cheap_timeout() }
    }

    /// Runs it within its own deadlines.
    pub async fn run(self, prober: Arc<Prober>) -> Observation {
        prober.probe_within(&self.target, &self.probe, self.cheap_total).await
    }
}
