//! What is there stands in for what depends on a secret that could not be read.

use super::live_files::{FilesNow, LiveFiles};
use crate::agent::sources::place::Sources;
use crate::desired::key_entries;
use crate::model::{Digest, SecretRef};
use crate::plan::Runtime;
use crate::render::{KEYS_MAP, MapFile, Rendered};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a map holds, by its path.
type Entries = Vec<(String, String)>;

/// Puts what is there in the place of every entry that depends on a secret which could not be read: whatever key
/// serves there is right. What is there is what HAProxy has, else what is on disk.
pub(in crate::agent) fn leave_out(
    sources: &Sources,
    rendered: Arc<Rendered>,
    runtime: Option<&Runtime>,
    live: &LiveFiles,
    files: &mut FilesNow,
) -> Arc<Rendered> {
    if sources.unread.is_empty() || !rendered.maps.values().any(|map| map.is_secret) {
        return rendered;
    }
    let mut rendered = Rendered::clone(&rendered);
    for (path, map) in Arc::make_mut(&mut rendered.maps).iter_mut().filter(|(_, map)| map.is_secret) {
        let on_disk = live.read(path);
        let now = match runtime {
            Some(runtime) => runtime.maps.get(path).map(|entries| entries.to_vec()),
            None => on_disk.as_deref().map(parsed),
        };
        if let Some(now) = now {
            map.entries = mixed(path, std::mem::take(&mut map.entries), now, sources);
        }
        // A file that differs in nothing but what is left out is no change either.
        let same = on_disk.is_some_and(|on_disk| {
            let entries = parsed(&on_disk);
            let is_whole = MapFile { entries: entries.clone(), is_secret: true }.text().as_bytes() == on_disk;
            is_whole && mixed(path, entries, map.entries.clone(), sources) == map.entries
        });
        if same {
            files.maps.insert(path.clone(), Digest::of(map.text()));
        }
    }
    Arc::new(rendered)
}

/// The entries of a map's text.
fn parsed(text: &[u8]) -> Entries {
    let text = String::from_utf8_lossy(text);
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// `wanted` with the entries that depend on an unread secret as `now` has them.
fn mixed(path: &str, wanted: Entries, now: Entries, sources: &Sources) -> Entries {
    let is_unread = |reference: &SecretRef| sources.unread.iter().any(|one| one.reference == *reference);
    if path != KEYS_MAP {
        // Who may see the statistics: one entry, of which the key holds the password too.
        let login = sources.config.haproxy.stats.as_ref().and_then(|stats| stats.login.as_ref());
        return if login.is_some_and(|(_, password)| is_unread(&password.value)) { now } else { wanted };
    }
    let entries = key_entries(&sources.config);
    let hidden = entries.iter().filter(|entry| entry.keys.iter().any(|key| is_unread(&key.value)));
    let hidden: BTreeSet<&str> = hidden.map(|entry| entry.name.as_str()).collect();
    let now: BTreeMap<String, String> = now.into_iter().collect();
    // Where several keys share the requests, each has slots: `NAME:SLOT`.
    let owner = |key: &str| hidden.contains(key) || key.rsplit_once(':').is_some_and(|(name, _)| hidden.contains(name));
    let entry = |(key, value): (String, String)| match now.get(&key).filter(|_| owner(&key)) {
        Some(value) => (key, value.clone()),
        None => (key, value),
    };
    wanted.into_iter().map(entry).collect()
}
