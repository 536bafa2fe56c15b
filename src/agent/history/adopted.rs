//! What a start of the agent finds in the running HAProxy, and goes on with.
//!
//! Called by `node`. Changes nothing.

use super::ledger::Ledger;
use crate::agent::sources::place::Place;
use crate::config::{self, Config};
use crate::haproxy;
use crate::model::{AdminState, ServerId, Weight};
use crate::render;
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What HAProxy runs, where it runs a configuration of ours: a restart of the agent changes none of it.
#[derive(Debug, Default)]
pub(in crate::agent) struct Adopted {
    /// Weights in force.
    pub weights: BTreeMap<ServerId, Weight>,
    /// The map of keys.
    pub keys: Vec<(String, String)>,
}

/// Looks at what HAProxy runs.
///
/// Where the operator's weight is another than the one of the revision that runs (`before`), the share that health left
/// the server is kept, and the new weight takes effect.
pub(in crate::agent) async fn adopt(config: &Config, before: BTreeMap<ServerId, Weight>) -> Adopted {
    let haproxy = &config.haproxy;
    let master: Option<&Utf8Path> = None;
    let maps = [render::KEYS_MAP.to_owned()];
    let Ok(Some(mut runtime)) = haproxy::observe(&haproxy.admin_socket, master, &maps, false).await else {
        return Adopted::default();
    };
    if !runtime.description.as_deref().is_some_and(|text| text.starts_with("hapilot ")) {
        return Adopted::default();
    }
    let keys = runtime.maps.remove(render::KEYS_MAP).map(Arc::unwrap_or_clone).unwrap_or_default();
    let weight_of = |(id, names): (ServerId, render::RuntimeNames)| {
        let server = runtime.servers.get(&names.weight)?;
        // A server in drain has weight 0 in the file; that is the operator's word and not its health.
        if server.admin != AdminState::Ready {
            return None;
        }
        let base = config.server(&id)?.1.weight.value;
        let weight = match before.get(&id).copied() {
            Some(Weight::ZERO) => base,
            Some(before) if before != base => {
                let share = f64::from(server.weight.get()) / f64::from(before.get());
                Weight::clamped(f64::from(base.get()) * share)
            }
            Some(_) | None => server.weight,
        };
        Some((id, weight))
    };
    let weights = render::runtime_names(config).into_iter().filter_map(weight_of).collect();
    Adopted { weights, keys }
}

/// The operator's weights in the revision that serves.
pub(in crate::agent) fn base_weights(place: &Place, ledger: &Ledger) -> BTreeMap<ServerId, Weight> {
    let toml = ledger.current().and_then(|current| ledger.toml_of(current).ok()).unwrap_or_default();
    let Ok(config) = place.parse(&toml) else { return BTreeMap::new() };
    let base = |(backend, server): (&config::Backend, &config::Server)| {
        (ServerId::new(backend.name.clone(), server.name.clone()), server.weight.value)
    };
    config.servers().map(base).collect()
}
