//! The certificates that frontends name: read and judged from their files before HAProxy sees them.
//!
//! Called by `sources` when the operator's file is read, by `node` whenever HAProxy is compared with the files, and by
//! `engine` before a change.

use super::apply::Prepared;
use super::preflight::Refusal;
use super::sources::Sources;
use crate::config::Config;
use crate::haproxy::{is_certificate, read_certificate};
use crate::model::{Certificate, Sourced};
use crate::render::ListFile;
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A certificate that expires sooner gets a warning: those that are renewed by machine are renewed a month before.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What is found at each path that a frontend names.
pub(super) type Certificates = BTreeMap<Utf8PathBuf, Vec<Certificate>>;

/// Reads every certificate (again only where its file changed), and goes on after a failure: each is told with the
/// place in the operator's file. What cannot be read is [`Certificate::unread`], so that the rest can be steered on.
pub(super) fn read(
    config: &Config,
    known: &Certificates,
    mut problem: impl FnMut(&Sourced<Utf8PathBuf>, String),
) -> Certificates {
    let mut found = Certificates::new();
    for path in config.frontends.iter().flat_map(|frontend| &frontend.certificates) {
        if found.contains_key(&path.value) {
            continue;
        }
        let files = sys::directory::files_at(path).unwrap_or_else(|e| {
            problem(path, format!("the certificate cannot be read: {e}"));
            vec![]
        });
        let known = known.get(&path.value).map(Vec::as_slice).unwrap_or_default();
        let mut certificates = Vec::new();
        for file in files.into_iter().filter(|file| *file == path.value || is_certificate(file)) {
            let before = known.iter().find(|known| known.path == file);
            certificates.push(read_one(&file, before).unwrap_or_else(|e| {
                problem(path, format!("the certificate {file} cannot be served: {e}"));
                Certificate::unread(file)
            }));
        }
        if certificates.is_empty() {
            problem(path, format!("there is no certificate in {}", path.value));
            certificates.push(Certificate::unread(path.value.clone()));
        }
        found.insert(path.value.clone(), certificates);
    }
    found
}

fn read_one(file: &Utf8Path, known: Option<&Certificate>) -> Result<Certificate, String> {
    match ListFile::defect(file.as_str()) {
        Some(defect) => Err(defect.to_owned()),
        None => read_certificate(file, known),
    }
}

/// What is unwise about the certificates now.
pub(super) fn warnings(config: &Config, certificates: &Certificates, now: Timestamp) -> Vec<String> {
    let mut warnings = Vec::new();
    for certificate in certificates.values().flatten() {
        let Certificate { path, not_after, .. } = certificate;
        if *not_after <= now {
            warnings.push(format!("the certificate {path} expired on {}", day(*not_after)));
        } else if not_after.duration_since(now) <= EXPIRES_SOON {
            warnings.push(format!("the certificate {path} expires on {}", day(*not_after)));
        }
    }
    for frontend in &config.frontends {
        let all: Vec<_> =
            frontend.certificates.iter().filter_map(|path| certificates.get(&path.value)).flatten().collect();
        for (at, later) in all.iter().enumerate() {
            let twin = all[..at].iter().filter(|first| first.path != later.path);
            if let Some((first, name)) = twin.filter_map(|first| Some((first, first.overlap(later)?))).next() {
                let later = &later.path;
                warnings.push(format!(
                    "frontend {}: {} and {later} are both for {name}; the first one is served",
                    frontend.name.value, first.path
                ));
            }
        }
    }
    warnings
}

/// Refuses what cannot be read, by name, before anything is touched.
pub(super) fn check_read(sources: &Sources) -> Result<(), Refusal> {
    if sources.certificate_problems.is_empty() {
        return Ok(());
    }
    let problems = sources.certificate_problems.iter().map(|problem| format!("error: {problem}"));
    let help = "what HAProxy read before serves on, but it could not be started again\n  help: put a certificate with its key there";
    Err(Refusal(problems.chain([help.to_owned()]).collect()))
}

/// Refuses to put an expired certificate in the place of one that is valid. One that has expired where it is, or comes
/// with an edit or a rollback, is a warning only: nothing that the operator asks for is blocked by it.
pub(super) fn check_expiry(prepared: &Prepared, now: Timestamp) -> Result<(), Refusal> {
    let served = &prepared.observed.certificates.stores;
    let wanted = prepared.rendered.lists.values().flat_map(|list| &list.certificates);
    let refused = wanted.filter_map(|certificate| {
        let until = served.get(certificate.path.as_str()).and_then(|served| served.not_after)?;
        (certificate.not_after <= now && until > now).then(|| {
            format!(
                "error: the new certificate in {} expired on {}; the one that serves now, valid until {}, serves on\n  help: put a valid certificate there",
                certificate.path,
                day(certificate.not_after),
                day(until)
            )
        })
    });
    let refused: Vec<String> = refused.collect();
    if refused.is_empty() { Ok(()) } else { Err(Refusal(refused)) }
}

fn day(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%Y-%m-%d")
}
