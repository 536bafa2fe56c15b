//! From a server of the configuration to a running probe.
//!
//! Called by the agent's loop and by `hapilot probe`.

use crate::config::{Backend, Check, Server};
use crate::health::{Observation, ProbeKind};
use crate::model::{Host, Secret, SecretRef};
use crate::probe::{Probe, Prober, Target, TargetTls};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// One probe, ready to run.
#[derive(Clone, Debug)]
pub struct Errand {
    target: Target,
    probe: Probe,
}

impl Errand {
    /// What is to be probed, and how. `None` where the backend has no probe of this kind.
    ///
    /// `resolved` is the very address that HAProxy uses for a server that is configured by name; `cheap_timeout` the
    /// total deadline of probes that the file gives none.
    pub fn new(
        backend: &Backend,
        server: &Server,
        kind: ProbeKind,
        secrets: &BTreeMap<SecretRef, Secret>,
        resolved: Option<IpAddr>,
        cheap_timeout: Duration,
    ) -> Option<Self> {
        let Check { models, chat, http, .. } = &backend.check;
        let probe = match kind {
            ProbeKind::Models => Probe::Models { probe: models.clone()?, total: cheap_timeout },
            ProbeKind::Http => Probe::Http { probe: http.clone()?, total: cheap_timeout },
            ProbeKind::Chat => Probe::Chat { probe: chat.clone()?, connect: backend.timeout.connect.value },
        };
        let connect_to = match server.url.host {
            Host::Ip(_) => None,
            Host::Dns(_) => resolved.map(|ip| SocketAddr::new(ip, server.url.port)),
        };
        let target = Target {
            endpoint: server.url.value.clone(),
            connect_to,
            key: server.key.as_ref().and_then(|key| secrets.get(&key.value)).cloned(),
            tls: TargetTls {
                ca: server.tls.ca.as_ref().map(|ca| ca.value.clone()),
                server_name: server.tls.server_name.as_ref().map(|name| name.value.clone()),
                verify: server.tls.verify,
            },
            provider: backend.provider,
        };
        Some(Self { target, probe })
    }

    /// Runs it within its own deadlines.
    pub async fn run(self, prober: Arc<Prober>) -> Observation {
        prober.probe(&self.target, &self.probe).await
    }
}
