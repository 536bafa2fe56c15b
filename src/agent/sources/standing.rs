//! The keys that HAProxy has stand in for those whose place cannot be read, at the start of an agent alone: one file that is
//! missing then must not keep all servers without health checks.

use crate::config::Config;
use crate::desired::{key_entries, key_id};
use crate::model::{Secret, SecretRef};
use crate::render::KEYS_MAP;
use crate::sys;
use std::collections::BTreeMap;

/// Largest map of keys that is read, in bytes.
const MAX_MAP: u64 = 16 << 20;

/// What the map beside haproxy.cfg has of each key of a configuration that was served; in the place of a key that it does not
/// have (of several one is in use) the one that serves in the same place.
pub(super) fn stand_ins(config: &Config) -> BTreeMap<SecretRef, Secret> {
    let map = sys::files::directory_of(&config.haproxy.config).join(KEYS_MAP);
    let bytes = sys::files::read_limited(&map, MAX_MAP).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    // `PLACE ID KEY`, or `PLACE:SLOT ID KEY` where several share the requests.
    let rows = text.lines().filter_map(|line| {
        let (place, value) = line.split_once(' ')?;
        let (id, key) = value.split_once(' ')?;
        Some((place.split_once(':').map_or(place, |(place, _)| place), (id, key)))
    });
    let mut serving: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    rows.for_each(|(place, row)| serving.entry(place).or_default().push(row));
    let mut found = BTreeMap::new();
    for entry in key_entries(config) {
        let Some(rows) = serving.get(entry.name.as_str()) else { continue };
        for (index, key) in entry.keys.iter().enumerate() {
            let own = rows.iter().find(|(id, _)| *id == key_id(index)).or(rows.first());
            let secret = own.and_then(|(_, key)| Secret::new((*key).to_owned()).ok());
            found.extend(secret.map(|secret| (key.value.clone(), secret)));
        }
    }
    found
}
