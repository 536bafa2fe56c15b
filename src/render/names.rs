//! What hapilot's proxies, sockets and maps are called in HAProxy.
//!
//! The operator's names have no `:`, so a name with one is ours and collides with nothing.

use super::RuntimeNames;
use crate::config::{Backend, Config, Server};
use crate::desired::needs_hops;
use crate::model::{CERTIFICATES, Digest, Name, ServerId, TRUST, TrustKind};
use std::collections::BTreeMap;

/// The frontend with the statistics page.
pub(super) const STATS: &str = "hapilot:stats";
/// The section of the stick-table of `[limit.address]`.
pub(super) const LIMIT_ADDRESS: &str = "limit:address";
/// The key of `[limit.address]` in the map of limits.
pub(super) const LIMIT_ADDRESS_KEY: &str = "address";
/// Map of the limits' numbers.
pub(super) const LIMITS_MAP: &str = "maps/limits.map";
/// The section of the stick-table of clients.
pub(super) const LIMIT_CLIENT: &str = "limit:client";
/// The section of the stick-table of what clients have spent at this node.
pub const LIMIT_MONEY: &str = "limit:money";
/// The backend that answers who is refused.
pub(super) const REFUSED: &str = "hapilot:refused";
/// Map of the clients, by the digests of their keys.
pub const CLIENTS_MAP: &str = "maps/clients.map";
/// Map of the plans' numbers.
pub(super) const PLANS_MAP: &str = "maps/plans.map";
/// Map of what tokens cost.
pub(super) const PRICES_MAP: &str = "maps/prices.map";
/// Map of what models are called at servers.
pub(super) const MODELS_MAP: &str = "maps/models.map";
/// Map of the parts of canaries.
pub const CANARIES_MAP: &str = "maps/canaries.map";
/// Map of the models of canaries.
pub(super) const CANARY_MODELS_MAP: &str = "maps/canaries.models.map";
/// Map of the lists of models.
pub const LISTS_MAP: &str = "maps/lists.map";
/// Map of what clients have spent.
pub const SPENT_MAP: &str = "maps/spent.map";
/// Map of when each month is over.
pub(super) const MONTHS_MAP: &str = "maps/months.map";
/// Map of the providers' keys.
pub const KEYS_MAP: &str = "maps/keys.map";
/// Map of who may see the statistics page.
pub(super) const STATS_MAP: &str = "maps/stats.map";

/// Which of a frontend's maps of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoutesMap {
    /// By the begin of the path.
    Paths,
    /// By the whole model.
    Models,
    /// By the begin of the model.
    Prefixes,
    /// By a regular expression on both.
    Expressions,
    /// By a regular expression on who asks, headers, path and model.
    Callers,
}

/// A map of a frontend's routes.
pub(super) fn routes_map(frontend: &Name, which: RoutesMap) -> String {
    let kind = match which {
        RoutesMap::Paths => "paths",
        RoutesMap::Models => "models",
        RoutesMap::Prefixes => "prefixes",
        RoutesMap::Expressions => "expressions",
        RoutesMap::Callers => "callers",
    };
    format!("maps/routes.{frontend}.{kind}.map")
}

/// Which of the maps of what plans include.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlansMap {
    /// By the begin of the path.
    Paths,
    /// By the whole model.
    Models,
    /// By the begin of the model.
    Prefixes,
    /// By a regular expression on the model.
    Expressions,
}

/// A map of what plans include.
pub(super) fn plans_map(which: PlansMap) -> &'static str {
    match which {
        PlansMap::Paths => "maps/plans.paths.map",
        PlansMap::Models => "maps/plans.models.map",
        PlansMap::Prefixes => "maps/plans.prefixes.map",
        PlansMap::Expressions => "maps/plans.expressions.map",
    }
}

/// Map of the backends that a frontend reaches.
pub(super) fn health_map(frontend: &Name) -> String {
    format!("maps/health.{frontend}.map")
}

/// Whether a map beside haproxy.cfg is one of hapilot's, by its path; an operator may keep others there.
pub fn is_own_map(path: &str) -> bool {
    [
        LIMITS_MAP,
        KEYS_MAP,
        STATS_MAP,
        CLIENTS_MAP,
        PLANS_MAP,
        PRICES_MAP,
        SPENT_MAP,
        MONTHS_MAP,
        MODELS_MAP,
        LISTS_MAP,
        CANARIES_MAP,
    ]
    .contains(&path)
        || path == CANARY_MODELS_MAP
        || path.starts_with("maps/plans.")
        || path.starts_with("maps/routes.")
        || path.starts_with("maps/health.")
}

/// Whether a file beside haproxy.cfg has secrets in it, by its path: keys of providers, digests of those of clients and of the
/// page's login, private keys.
pub fn is_secret(path: &str) -> bool {
    [KEYS_MAP, STATS_MAP, CLIENTS_MAP].contains(&path) || path.starts_with(&format!("{CERTIFICATES}/"))
}

/// The crt-list of a frontend.
pub(super) fn crt_list(frontend: &Name) -> String {
    format!("crt-lists/{frontend}.list")
}

/// What HAProxy reads of the authorities that a frontend trusts, or of the lists of what they revoked.
pub(super) fn trust_file(frontend: &Name, kind: TrustKind) -> String {
    let end = match kind {
        TrustKind::Authorities => "ca",
        TrustKind::Revoked => "crl",
    };
    format!("{TRUST}/{frontend}.{end}.pem")
}

/// The hop's `listen` section.
pub(super) fn hop_proxy(id: &ServerId) -> String {
    format!("{}:{}", id.backend, id.server)
}

/// The ring that the agent reads.
pub const LIVE_RING: &str = "hapilot-live";

/// The `peers` section of the counters that nodes share.
pub const SHARED_PEERS: &str = "hapilot:nodes";

/// The `peers` section of this node alone.
pub(super) const PEERS: &str = "hapilot";

/// A socket over which HAProxy reaches itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnSocket {
    /// Where it is bound.
    pub(super) bind: String,
    /// Where the worker finds it.
    pub(super) connect: String,
}

/// Where the old worker reaches the new one; `None` where a worker that teaches could not find it.
pub(super) fn peers_socket(config: &Config) -> Option<String> {
    config.haproxy.chroot().is_none().then(|| own_socket(config, "peers", "").bind)
}

/// The hop's socket.
pub(super) fn hop_socket(config: &Config, id: &ServerId) -> OwnSocket {
    own_socket(config, "hop", &id.to_string())
}

/// A file in HAProxy's own directory. Its name has a digest, so that its length is known, and two HAProxy on one node
/// share no file.
fn own_socket(config: &Config, kind: &str, of: &str) -> OwnSocket {
    let digest = Digest::of(format!("{}\0{of}", *config.haproxy.config)).to_string();
    let (bind, connect) = config.haproxy.own_directories();
    let path = |directory: &str| format!("unix@{}/{kind}-{}", directory.trim_end_matches('/'), &digest[..12]);
    OwnSocket { bind: path(&bind), connect: path(&connect) }
}

/// What one server is called in the running HAProxy.
pub fn names_of(backend: &Backend, server: &Server) -> RuntimeNames {
    let id = ServerId::new(backend.name.clone(), server.name.clone());
    let weight = (backend.name.to_string(), server.name.to_string());
    let address = if needs_hops(backend) { (hop_proxy(&id), server.name.to_string()) } else { weight.clone() };
    RuntimeNames { weight, address }
}

/// What each server is called in the running HAProxy, and so where its weight, state and address are set.
pub fn runtime_names(config: &Config) -> BTreeMap<ServerId, RuntimeNames> {
    let mut names = BTreeMap::new();
    for backend in &config.backends {
        let has_hops = needs_hops(backend);
        for server in &backend.servers {
            let id = ServerId::new(backend.name.clone(), server.name.clone());
            let weight = (backend.name.to_string(), server.name.to_string());
            let address = if has_hops { (hop_proxy(&id), server.name.to_string()) } else { weight.clone() };
            names.insert(id, RuntimeNames { weight, address });
        }
    }
    names
}
