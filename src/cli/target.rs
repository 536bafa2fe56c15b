//! Which servers a command is about: `BACKEND`, `BACKEND/SERVER`, or all; and which kinds of probe.

use super::args;
use super::output::Failure;
use crate::agent::{Failed, Objection, Place, SecretUse, Sources, SourcesError};
use crate::config::{Backend, Server};
use crate::health::ProbeKind;
use crate::model::{SecretRef, Sourced};
use crate::sys;
use camino::Utf8PathBuf;

/// Where the state is of whoever serves the operator's file; and why the file cannot be read, where it cannot: then this is
/// the usual place, and may be somebody else's.
pub(super) fn state(place: &Place) -> (Utf8PathBuf, Option<Failure>) {
    let unread = sys::files::read_limited(&place.file, u64::MAX).err();
    let failure = unread.map(|e| Failure::from(Failed::from_sources(&SourcesError::Read(Objection::new(e)))));
    (place.state_directory(), failure)
}

/// The operator's file with all that it refers to.
pub(super) fn load(place: &Place) -> Result<Sources, Failure> {
    place.load().map_err(|e| Failure::from(Failed::from_sources(&e)))
}

/// The same for a command that asks servers itself: each key is needed of whom it asks, and no other.
pub(super) fn load_to_ask(place: &Place) -> Result<Sources, Failure> {
    load(&place.using(SecretUse::Compared))
}

/// Refuses where one of these keys could not be read: what stands for it is sent to nobody.
pub(super) fn need<'a>(sources: &Sources, keys: impl Iterator<Item = &'a Sourced<SecretRef>>) -> Result<(), Failure> {
    let needed: Vec<&SecretRef> = keys.map(|key| &key.value).collect();
    let lacking = sources.unread.iter().filter(|one| needed.contains(&&one.reference));
    let lacking: Vec<_> = lacking.map(|one| one.told.clone()).collect();
    match lacking.is_empty() {
        true => Ok(()),
        false => Err(Failure::from(Failed::from_sources(&SourcesError::Secrets(lacking)))),
    }
}

/// Whether a server is meant.
pub(super) fn fits(target: Option<&str>, backend: &str, server: &str) -> bool {
    match target {
        None => true,
        Some(target) => match target.split_once('/') {
            None => backend == target,
            Some((b, s)) => backend == b && server == s,
        },
    }
}

/// The servers that are meant, at least one where the file has any.
pub(super) fn servers<'a>(
    sources: &'a Sources,
    target: Option<&str>,
) -> Result<Vec<(&'a Backend, &'a Server)>, Failure> {
    let is_meant = |(backend, server): &(&Backend, &Server)| fits(target, backend.name.as_str(), server.name.as_str());
    let servers: Vec<_> = sources.config.servers().filter(is_meant).collect();
    if let (true, Some(target)) = (servers.is_empty(), target) {
        let all: Vec<_> = sources.config.servers().map(|(b, s)| format!("{}/{}", b.name, s.name)).take(20).collect();
        return Err(Failure::usage(format!("there is no server {target}; the file has {}", all.join(", "))));
    }
    Ok(servers)
}

/// The kinds of probe that are asked for.
pub(super) fn kinds(options: &args::Probe) -> Vec<ProbeKind> {
    match options.kind.is_empty() {
        true => ProbeKind::ALL.to_vec(),
        false => options.kind.iter().map(|kind| kind.as_probe()).collect(),
    }
}
