//! What the operator chose for the health of a server, as health reads it.

use crate::config::{Backend, Check, Server};
use crate::health::{HealthParams, ProbeKind};
use crate::model::{Scheme, SecretRef};

/// The operator's choices for the health of one server.
pub fn health_params(backend: &Backend, server: &Server) -> HealthParams {
    let Check {
        origin: _,
        interval,
        fall,
        rise,
        ramp,
        circuit,
        models,
        chat,
        embeddings,
        http,
        metrics,
        certificate_expiry,
    } = &backend.check;
    let has_certificate = certificate_expiry.is_some() && server.url.scheme == Scheme::Https;
    let cheap = [(models.is_some(), ProbeKind::Models), (http.is_some(), ProbeKind::Http)];
    let informs = [(metrics.is_some(), ProbeKind::Metrics), (has_certificate, ProbeKind::Certificate)];
    let chosen =
        |kinds: [(bool, ProbeKind); 2]| kinds.into_iter().filter(|(runs, _)| *runs).map(|(_, kind)| kind).collect();
    let chat = chat.iter().map(|chat| (ProbeKind::Chat, chat.every));
    let embeddings = embeddings.iter().map(|embeddings| (ProbeKind::Embeddings, embeddings.every));
    HealthParams {
        interval: *interval,
        fall: *fall,
        rise: *rise,
        ramp: *ramp,
        cheap: chosen(cheap),
        deep: chat.chain(embeddings).collect(),
        informs: chosen(informs),
        keys: server.keys.len(),
        circuit: *circuit,
    }
}

/// Whether two lists of keys have one in common, or are empty both.
pub(super) fn shares_keys(a: &Server, b: &Server) -> bool {
    let has = |key: &SecretRef| b.keys.iter().any(|other| other.value == *key);
    (a.keys.is_empty() && b.keys.is_empty()) || a.keys.iter().any(|key| has(&key.value))
}
