//! What hapilot's proxies, sockets and maps are called in HAProxy.
//!
//! The operator's names have no `:`, so a name with one is ours and collides with nothing.

use super::RuntimeNames;
use crate::config::{Backend, Config, Server};
use crate::desired::needs_hops;
use crate::model::{Digest, Name, ServerId};
use std::collections::BTreeMap;

/// The frontend with the statistics page.
pub(super) const STATS: &str = "hapilot:stats";
/// The section of the stick-table of `[limit.address]`.
pub(super) const LIMIT_ADDRESS: &str = "limit:address";
/// The key of `[limit.address]` in the map of limits.
pub(super) const LIMIT_ADDRESS_KEY: &str = "address";
/// Longest name of an abstract socket: `sun_path` takes 107 characters, and HAProxy needs some.
const MAX_SOCKET: usize = 100;

/// Map of the limits' numbers.
pub(super) const LIMITS_MAP: &str = "maps/limits.map";
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
}

/// A map of a frontend's routes.
pub(super) fn routes_map(frontend: &Name, which: RoutesMap) -> String {
    let kind = match which {
        RoutesMap::Paths => "paths",
        RoutesMap::Models => "models",
        RoutesMap::Prefixes => "prefixes",
        RoutesMap::Expressions => "expressions",
    };
    format!("maps/routes.{frontend}.{kind}.map")
}

/// Map of the backends that a frontend reaches.
pub(super) fn health_map(frontend: &Name) -> String {
    format!("maps/health.{frontend}.map")
}

/// The crt-list of a frontend.
pub(super) fn crt_list(frontend: &Name) -> String {
    format!("crt-lists/{frontend}.list")
}

/// The hop's `listen` section.
pub(super) fn hop_proxy(id: &ServerId) -> String {
    format!("{}:{}", id.backend, id.server)
}

/// The ring that the agent reads.
pub const LIVE_RING: &str = "hapilot-live";

/// The `peers` section.
pub(super) const PEERS: &str = "hapilot";

/// Where the old worker reaches the new one. An operator's names have no `:`, so no hop has this name.
pub(super) fn peers_socket(config: &Config) -> String {
    format!("abns@hapilot-{}/peers:local", own_digits(config))
}

/// Two HAProxy on one node have different configuration files, and so different sockets.
fn own_digits(config: &Config) -> String {
    Digest::of(config.haproxy.config.as_str()).to_string()[..8].to_owned()
}

/// The hop's socket.
pub(super) fn hop_socket(config: &Config, id: &ServerId) -> String {
    let node = own_digits(config);
    let name = format!("hapilot-{node}/{id}");
    if name.len() <= MAX_SOCKET {
        format!("abns@{name}")
    } else {
        format!("abns@hapilot-{node}/{}", &Digest::of(id.to_string()).to_string()[..32])
    }
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
