//! What the running HAProxy takes as data: routes, what `/health` looks at, limits, keys, who may see the statistics.

use super::names::{
    CANARIES_MAP, CANARY_MODELS_MAP, CLIENTS_MAP, KEYS_MAP, LIMIT_ADDRESS_KEY, LIMITS_MAP, LISTS_MAP, MODELS_MAP,
    MONTHS_MAP, PLANS_MAP, PRICES_MAP, PlansMap, RoutesMap, SPENT_MAP, STATS_MAP, health_map, plans_map, routes_map,
};
use super::routes::{self, Routes};
use super::{MapFile, RenderError};
use super::{plans, prices};
use crate::cfg;
use crate::config::{Backend, Canary, Config, Server};
use crate::desired::{Desired, KEY_SLOTS, KeyEntry, key_entries, key_id};
use crate::model::{Digest, Secret, SecretRef, Sourced};
use base64::Engine as _;
use std::collections::{BTreeMap, BTreeSet};

/// All maps, by their path relative to the configuration.
pub(super) fn all(desired: &Desired) -> Result<BTreeMap<String, MapFile>, RenderError> {
    let config = &desired.config;
    let mut maps = BTreeMap::new();
    for frontend in &config.frontends {
        let Routes { paths, models, prefixes, expressions, callers } = Routes::of(frontend);
        for (which, entries) in [
            (RoutesMap::Paths, paths),
            (RoutesMap::Models, models),
            (RoutesMap::Prefixes, prefixes),
            (RoutesMap::Expressions, expressions),
            (RoutesMap::Callers, callers),
        ] {
            maps.insert(routes_map(&frontend.name, which), MapFile { entries, is_secret: false });
        }
        // The value is what is looked at: a backend that is not reached has none.
        let entries = routes::reached(frontend).into_iter().map(|name| (name.to_string(), name.to_string())).collect();
        maps.insert(health_map(&frontend.name), MapFile { entries, is_secret: false });
    }
    if let Some(limit) = &config.limit_address {
        let count = limit.requests.count.saturating_add(limit.burst.value);
        let entries = vec![(LIMIT_ADDRESS_KEY.to_owned(), count.to_string())];
        maps.insert(LIMITS_MAP.to_owned(), MapFile { entries, is_secret: false });
    }
    if config.has_clients() {
        let entries = desired.clients.iter().flat_map(plans::entries).collect();
        maps.insert(CLIENTS_MAP.to_owned(), MapFile { entries, is_secret: true });
        let numbers = config.plans.iter().map(|plan| (plan.name.value.to_string(), plans::numbers(plan))).collect();
        maps.insert(PLANS_MAP.to_owned(), MapFile { entries: numbers, is_secret: false });
        for which in [PlansMap::Paths, PlansMap::Models, PlansMap::Prefixes, PlansMap::Expressions] {
            let entries = plans::included(&config.plans, which);
            maps.insert(plans_map(which).to_owned(), MapFile { entries, is_secret: false });
        }
        for (path, entries) in [
            (PRICES_MAP, prices::entries(config)),
            (MONTHS_MAP, prices::months()),
            (SPENT_MAP, desired.spent.iter().map(|(client, text)| (client.clone(), text.clone())).collect()),
        ] {
            maps.insert(path.to_owned(), MapFile { entries, is_secret: false });
        }
    }
    if let Some((user, password)) = config.haproxy.stats.as_ref().and_then(|stats| stats.login.as_ref()) {
        let login = format!("{}:{}", user.value, secret(desired, password)?.expose());
        let header = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login));
        let entries = vec![(Digest::of(header).to_string(), "allowed".to_owned())];
        maps.insert(STATS_MAP.to_owned(), MapFile { entries, is_secret: true });
    }
    if config.backends.iter().any(|backend| backend.first_renamed().is_some()) {
        maps.insert(MODELS_MAP.to_owned(), MapFile { entries: models(config), is_secret: false });
    }
    if config.frontends.iter().any(|frontend| config.reads_models(frontend)) {
        let entries = desired.lists.iter().map(|(key, list)| (key.clone(), list.clone())).collect();
        maps.insert(LISTS_MAP.to_owned(), MapFile { entries, is_secret: false });
    }
    for (path, entries) in [(CANARIES_MAP, canaries(desired)), (CANARY_MODELS_MAP, canary_models(config))] {
        if !entries.is_empty() {
            maps.insert(path.to_owned(), MapFile { entries, is_secret: false });
        }
    }
    let entries = keys(desired)?;
    if !entries.is_empty() {
        maps.insert(KEYS_MAP.to_owned(), MapFile { entries, is_secret: true });
    }
    Ok(maps)
}

/// What each canary has, in hundredths of a percent, by its name.
pub fn canaries(desired: &Desired) -> Vec<(String, String)> {
    let part = |name| desired.canaries.get(name).copied().unwrap_or_default().hundredths().to_string();
    canaries_of(&desired.config).map(|canary| (canary.name.value.to_string(), part(&canary.name.value))).collect()
}

/// The models of canaries, by `CANARY|MODEL`.
fn canary_models(config: &Config) -> Vec<(String, String)> {
    let of_canary = |canary: &Canary| -> Vec<(String, String)> {
        let entry =
            |(model, here): (&String, &Sourced<String>)| (format!("{}|{model}", canary.name.value), here.value.clone());
        canary.models().into_iter().flatten().map(entry).collect()
    };
    canaries_of(config).flat_map(of_canary).collect()
}

fn canaries_of(config: &Config) -> impl Iterator<Item = &Canary> {
    config.backends.iter().filter_map(|backend| backend.canary.as_ref())
}

/// What models are called at servers, by `BACKEND/SERVER|MODEL`.
fn models(config: &Config) -> Vec<(String, String)> {
    let of_server = |(backend, server): (&'_ Backend, &'_ Server)| {
        let place = format!("{}/{}", backend.name, server.name);
        let entry = move |(model, here): (&String, &Sourced<String>)| (format!("{place}|{model}"), here.value.clone());
        server.models.iter().map(entry).collect::<Vec<_>>()
    };
    config.servers().flat_map(of_server).collect()
}

/// Those of the maps that the rendered text refers to: HAProxy knows no other, and an operator's own template may do
/// without.
pub(super) fn used(mut maps: BTreeMap<String, MapFile>, haproxy_cfg: &str) -> BTreeMap<String, MapFile> {
    let mut unseen: BTreeSet<String> = maps.keys().cloned().collect();
    for line in cfg::lines(haproxy_cfg).filter(|line| line.text.contains("maps/")) {
        unseen.retain(|path| !line.words().any(|word| word.has(path)));
    }
    maps.retain(|path, _| !unseen.contains(path));
    maps
}

/// The map of keys: which key serves at each entry, as `ID KEY`. Template and log take the two apart: a 401 is blamed on
/// the key that was used, not on the one that is in the map by then.
///
/// # Errors
/// A secret was not read.
pub fn keys(desired: &Desired) -> Result<Vec<(String, String)>, RenderError> {
    let mut entries = Vec::new();
    for KeyEntry { name, keys, is_spread, .. } in key_entries(&desired.config) {
        let value = |index: usize| {
            let index = index.min(keys.len() - 1);
            Ok(format!("{} {}", key_id(index), secret(desired, &keys[index])?.expose()))
        };
        if is_spread {
            let shares = desired.spread_keys.get(&name).filter(|shares| !shares.is_empty());
            let shares: Vec<usize> = shares.cloned().unwrap_or_else(|| (0..keys.len()).collect());
            for slot in 0..KEY_SLOTS {
                entries.push((format!("{name}:{slot}"), value(shares[slot % shares.len()])?));
            }
        } else {
            let value = value(desired.active_keys.get(&name).copied().unwrap_or(0))?;
            entries.push((name, value));
        }
    }
    Ok(entries)
}

/// A secret that was read.
pub(super) fn secret<'a>(desired: &'a Desired, reference: &Sourced<SecretRef>) -> Result<&'a Secret, RenderError> {
    desired
        .secrets
        .get(&reference.value)
        .ok_or_else(|| RenderError::SecretMissing { reference: reference.value.clone(), origin: reference.origin })
}
