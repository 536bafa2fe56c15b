//! What frontends judge the certificates of clients by: read from the operator's files before HAProxy sees it.
//!
//! As with the frontends' own certificates each file goes its own way: a bad one gives way to what was last good, which
//! lies where HAProxy reads it. Called by `place` and the loop, through `Sources`.

use super::certificates::{CertificateProblem, day};
use crate::agent::tell::refusal::{At, Objection};
use crate::config::{ClientTrust, Config};
use crate::haproxy::{read_trust, understand_trust};
use crate::model::{Sourced, TRUST, TrustFile, TrustKind};
use crate::render::trust_part;
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// What is found in each file that a frontend names.
pub(super) type Trust = BTreeMap<(TrustKind, Utf8PathBuf), TrustFile>;

/// Largest file of HAProxy's, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Reads every file, and goes on after a failure. In the place of one that cannot be taken stays what was last good: of
/// `known`, else what HAProxy reads. `at` says where the operator's file names it.
pub(super) fn read(
    config: &Config,
    known: &Trust,
    now: Timestamp,
    at: impl Fn(&Sourced<Utf8PathBuf>) -> At,
) -> (Trust, Vec<CertificateProblem>) {
    let mut found = Trust::new();
    let mut problems = Vec::new();
    let last_good = |kind: TrustKind, path: &Utf8Path| {
        let known = known.get(&(kind, path.to_owned())).cloned();
        known.or_else(|| copy_of(config, kind, path))
    };
    for (kind, path) in trusts(config).flat_map(|(_, trust)| trust.files()) {
        let key = (kind, path.value.clone());
        if found.contains_key(&key) {
            continue;
        }
        let (good, reason) = match read_trust(path, kind) {
            Err(reason) => (last_good(kind, path), reason),
            Ok(new) => {
                let outdated = new.outdated(now).next().map(|old| old.name.clone());
                let last = outdated.as_ref().and_then(|_| last_good(kind, path));
                match (outdated, last.filter(|last| last.outdated(now).next().is_none())) {
                    // What is outdated takes the place of nothing that is not.
                    (Some(name), Some(last)) => (Some(last), format!("what it says of {name} is good no longer")),
                    _ => {
                        found.insert(key, new);
                        continue;
                    }
                }
            }
        };
        let serves = if good.is_some() { "what it said before holds on" } else { "nothing is known of it" };
        let told = Objection::new(format!("{} cannot be taken: {reason}; {serves}", path.value)).at(at(path));
        problems.push(CertificateProblem { source: path.value.clone(), told, is_unserved: good.is_none() });
        found.extend(good.map(|good| (key, good)));
    }
    (found, problems)
}

/// The frontends that ask for certificates.
pub(super) fn trusts(config: &Config) -> impl Iterator<Item = (&str, &ClientTrust)> {
    config.frontends.iter().filter_map(|one| Some((one.name.value.as_str(), one.client_certificates.as_ref()?)))
}

/// What HAProxy reads of a file, in one of its own.
fn copy_of(config: &Config, kind: TrustKind, source: &Utf8Path) -> Option<TrustFile> {
    let directory = sys::files::directory_of(&config.haproxy.config).join(TRUST);
    let names = sys::directory::file_names(&directory, ".pem").unwrap_or_default();
    names.into_iter().find_map(|name| {
        let bytes = sys::files::read_limited(&directory.join(name), MAX_FILE).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        understand_trust(source, kind, trust_part(&text, source)?.as_bytes()).ok()
    })
}

/// Whether a list should have been made anew: in the last quarter of its time, and a day before its end at the earliest.
fn late(made: Timestamp, end: Timestamp, now: Timestamp) -> bool {
    let quarter = end.duration_since(made) / 4;
    end.duration_since(now) <= quarter.min(SignedDuration::from_hours(24))
}

/// Whom HAProxy turns away because of what these files say now, or will soon: an authority or a list that is good no
/// longer, an authority without a list where others have one.
pub(super) fn doubts(config: &Config, trust: &Trust, now: Timestamp) -> Vec<String> {
    let mut doubts = Vec::new();
    for file in trust.values() {
        doubts.extend(file.items.iter().filter_map(|item| {
            let (source, name, end) = (&file.source, &item.name, item.not_after?);
            match file.kind {
                TrustKind::Authorities if end <= now => Some(format!(
                    "the authority {name} in {source} expired on {}: its clients are turned away",
                    day(end)
                )),
                TrustKind::Authorities => {
                    let warn = SignedDuration::try_from(config.tls.certificate_expiry.value);
                    (end.duration_since(now) <= warn.unwrap_or(SignedDuration::MAX))
                        .then(|| format!("the authority {name} in {source} expires on {}", day(end)))
                }
                TrustKind::Revoked if now < end => late(item.made?, end, now).then(|| {
                    format!(
                        "the list of revoked certificates of {name} in {source} is good until {}: put a new one there, or its \
                         clients are turned away",
                        end.strftime("%Y-%m-%d %H:%M:%S UTC")
                    )
                }),
                TrustKind::Revoked => Some({
                    format!(
                        "the list of revoked certificates of {name} in {source} was good until {}: its clients are turned \
                         away",
                        end.strftime("%Y-%m-%d %H:%M:%S UTC")
                    )
                }),
            }
        }));
    }
    for (frontend, judged) in trusts(config).filter(|(_, judged)| !judged.revoked.is_empty()) {
        let items = |wanted: TrustKind| -> Vec<_> {
            let paths = judged.files().filter(|(kind, _)| *kind == wanted);
            paths
                .filter_map(|(kind, path)| trust.get(&(kind, path.value.clone())))
                .flat_map(|file| &file.items)
                .collect()
        };
        let lists = items(TrustKind::Revoked);
        let bare = items(TrustKind::Authorities)
            .into_iter()
            .filter(|ca| !lists.iter().any(|list| list.authority == ca.authority));
        doubts.extend(bare.map(|ca| {
            format!(
                "frontend {frontend}: none of the files in `revoked` has a list of {}: its clients are turned away",
                ca.name
            )
        }));
    }
    doubts.sort();
    doubts.dedup();
    doubts
}
