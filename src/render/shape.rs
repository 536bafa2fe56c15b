//! What of a server line the running HAProxy cannot change, as a number that HAProxy itself tells.
//!
//! A server that can be added at runtime is left out of the masked text, so that adding one is no reason to reload.
//! What its line says beyond weight, state, address and maxconn (checks, TLS, tier) is its shape, and a digest of it is the
//! server's `id`: `show servers state` prints it, so that a changed shape is noticed whoever changed it, without any
//! memory of ours. Called by the context and by `render`.

use crate::config::{Backend, Check, Config, Server, ServerTls};
use crate::desired::needs_hops;
use crate::model::{Digest, Host};
use std::collections::{BTreeMap, BTreeSet};

/// The template part that spells a server line: another spelling is another shape.
const PART: &str = include_str!("../../templates/parts/server.cfg");
/// HAProxy takes ids from 1 to 2³¹ - 1.
const MAX_ID: u32 = i32::MAX as u32;

/// Whether HAProxy can add and remove this server while it runs.
///
/// Not by name: a server that is added has no `resolvers`. Not behind a hop, which is a section of its own. Not with
/// words that hapilot does not know, nor with a certificate of ours, which HAProxy reads from its file at a start only.
pub(super) fn is_dynamic(server: &Server, needs_hops: bool) -> bool {
    let is_plain = server.raw.is_empty() && server.tls.certificate.is_none();
    !needs_hops && matches!(server.url.host, Host::Ip(_)) && is_plain
}

/// The ids of the dynamic servers, by backend and server.
pub(super) type Ids<'a> = BTreeMap<&'a str, BTreeMap<&'a str, u32>>;

/// The ids of all backends.
pub(super) fn all_ids(config: &Config) -> Ids<'_> {
    config.backends.iter().map(|backend| (backend.name.as_str(), ids(backend))).collect()
}

/// The ids of a backend's dynamic servers.
///
/// Two servers whose digests collide (1 in 2³¹ for a pair) get neighbouring numbers, in the order of their names.
fn ids(backend: &Backend) -> BTreeMap<&str, u32> {
    let needs_hops = needs_hops(backend);
    let common = Digest::of(format!("{PART}\0{}", check_shape(&backend.check))).to_string();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeMap::new();
    for server in backend.servers.iter().filter(|server| is_dynamic(server, needs_hops)) {
        let text = format!("{common}\0{}\0{}", server.name, server_shape(server));
        let mut id = u32::try_from(Digest::of(text).leading() >> 32).unwrap_or(MAX_ID) % MAX_ID + 1;
        while !taken.insert(id) {
            id = id % MAX_ID + 1;
        }
        ids.insert(server.name.as_str(), id);
    }
    ids
}

fn check_shape(check: &Check) -> String {
    // What HAProxy's own check is made of; the rest is ours.
    // Probes are not HAProxy's business.
    let Check { origin: _, interval, fall, rise, .. } = check;
    format!("{interval:?} {fall} {rise}")
}

fn server_shape(server: &Server) -> String {
    let Server {
        name: _,
        origin: _,
        url,
        // Set by a rule of the backend, not by the line.
        host: _,
        weight: _,
        state: _,
        tier,
        region: _,
        keys: _,
        // Only behind a hop.
        models: _,
        maxconn: _,
        tls,
        proxy_protocol,
        price: _,
        spread: _,
        raw: _,
    } = server;
    let ServerTls { ca, server_name, certificate: _, verify } = tls;
    let ca = ca.as_ref().map(|ca| &ca.value);
    let server_name = server_name.as_ref().map(|name| &name.value);
    let proxied = proxy_protocol.as_ref().map(|version| version.value);
    format!("{:?} {tier} {ca:?} {server_name:?} {verify} {proxied:?}", url.scheme)
}
