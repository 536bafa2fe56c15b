//! The certificates that frontends name: read and judged from their files before HAProxy sees them.
//!
//! Each goes its own way: a good one is served, a bad one gives way to the last good copy, which lies where HAProxy
//! reads it. Called by `sources` when the operator's file is read, by `node` whenever HAProxy is compared with the files,
//! and by `engine` before a change.

use crate::agent::tell::refusal::{At, Objection};
use crate::config::Config;
use crate::haproxy::{certificate_files, read_certificate};
use crate::model::{CERTIFICATES, Certificate, Sourced};
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// HAProxy would not start with such a one.
const NO_ISSUER: &str = "it names an OCSP responder, and the certificate of its issuer is not behind it, which `[tls] ocsp` \
                         needs: put the whole chain there (fullchain.pem)";

/// What is found at each path that a frontend names.
pub(super) type Certificates = BTreeMap<Utf8PathBuf, Vec<Certificate>>;

/// What is wrong with one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProblem {
    /// The file, or the directory that gives none.
    pub source: Utf8PathBuf,
    /// The place in the operator's file, what is wrong, and what serves now.
    pub told: Objection,
    /// The operator named this file, and nothing was ever served for it.
    pub is_unserved: bool,
}

/// Reads every certificate, and goes on after a failure. In the place of one that cannot be served stays the last good
/// one: of `known`, else the copy that HAProxy reads. `at` says where the operator's file names it.
pub(super) fn read(
    config: &Config,
    known: &Certificates,
    now: Timestamp,
    at: impl Fn(&Sourced<Utf8PathBuf>) -> At,
) -> (Certificates, Vec<CertificateProblem>) {
    let staples = config.tls.ocsp;
    let reader = Reader { directory: sys::files::directory_of(&config.haproxy.config), known, staples, now };
    let mut found = Certificates::new();
    let mut problems = Vec::new();
    for path in config.frontends.iter().flat_map(|frontend| &frontend.certificates) {
        if !found.contains_key(&path.value) {
            let mut told = Vec::new();
            found.insert(path.value.clone(), reader.all_at(path, &mut told));
            problems.extend(told.into_iter().map(|problem| {
                let told = problem.told.at(at(path));
                CertificateProblem { told, ..problem }
            }));
        }
    }
    (found, problems)
}

struct Reader<'a> {
    directory: Utf8PathBuf,
    known: &'a Certificates,
    /// HAProxy asks their issuers about them.
    staples: bool,
    now: Timestamp,
}

impl Reader<'_> {
    fn all_at(&self, path: &Utf8Path, problems: &mut Vec<CertificateProblem>) -> Vec<Certificate> {
        let files = match certificate_files(path) {
            Ok(files) => files,
            Err(e) => return self.last_good_at(path, format!("the certificate cannot be read: {e}"), problems),
        };
        let certificates: Vec<_> =
            files.into_iter().filter_map(|file| self.one(&file, file == path, problems)).collect();
        if certificates.is_empty() && problems.is_empty() {
            return self.last_good_at(path, format!("there is no certificate in {path}"), problems);
        }
        certificates
    }

    /// One file, or its last good copy; nothing where there is neither or it is no certificate of its own.
    fn one(&self, source: &Utf8Path, is_named: bool, problems: &mut Vec<CertificateProblem>) -> Option<Certificate> {
        let copy = Certificate::copy_of(source, &self.directory);
        let before = self.known.values().flatten().find(|known| known.source == source);
        let (reason, is_other) = match read_certificate(source, &copy, before) {
            Ok(found) if found.lacks_issuer && self.staples => (NO_ISSUER.to_owned(), false),
            Ok(found) if found.not_after > self.now => return Some(found),
            Ok(found) => match self.last_good(source, &copy, before) {
                // An expired one takes the place of no valid one.
                Some(last) if last.not_after > self.now => {
                    (format!("the new one expired on {}", day(found.not_after)), false)
                }
                _ => return Some(found),
            },
            Err(unusable) => (unusable.reason, unusable.is_other),
        };
        let last_good = self.last_good(source, &copy, before);
        if last_good.is_none() && is_other && !is_named {
            return None;
        }
        let serves = match &last_good {
            Some(last) => format!("the one before serves on, valid until {}", day(last.not_after)),
            None => "nothing is served for it".to_owned(),
        };
        let text = format!("the certificate {source} cannot be served: {reason}; {serves}");
        let is_unserved = is_named && last_good.is_none();
        let told = Objection::new(text);
        problems.push(CertificateProblem { source: source.to_owned(), told, is_unserved });
        last_good
    }

    fn last_good(&self, source: &Utf8Path, copy: &Utf8Path, before: Option<&Certificate>) -> Option<Certificate> {
        before.cloned().or_else(|| {
            let found = read_certificate(copy, copy, None).ok()?;
            Some(Certificate { source: source.to_owned(), read_from: vec![source.to_owned()], ..found })
        })
    }

    /// What was served for a file or for those of a directory, while nobody can say what should be.
    fn last_good_at(
        &self,
        path: &Utf8Path,
        reason: String,
        problems: &mut Vec<CertificateProblem>,
    ) -> Vec<Certificate> {
        let known: Vec<_> = self.known.get(path).into_iter().flatten().cloned().collect();
        let found = if known.is_empty() { self.copies_of(path) } else { known };
        let is_unserved = found.is_empty();
        let serves = if is_unserved { "nothing is served for it" } else { "what was served before serves on" };
        let text = format!("{reason}; {serves}");
        let told = Objection::new(text);
        problems.push(CertificateProblem { source: path.to_owned(), told, is_unserved });
        found
    }

    fn copies_of(&self, path: &Utf8Path) -> Vec<Certificate> {
        let copies = self.directory.join(CERTIFICATES);
        let names = sys::directory::file_names(&copies, "").unwrap_or_default();
        let sources =
            names.into_iter().map(|name| Utf8PathBuf::from(Certificate::source_of(copies.join(name).as_str())));
        let below = sources.filter(|source| source.starts_with(path));
        below
            .filter_map(|source| self.last_good(&source, &Certificate::copy_of(&source, &self.directory), None))
            .collect()
    }
}

/// What is unwise about the certificates now.
pub(super) fn warnings(config: &Config, certificates: &Certificates, now: Timestamp) -> Vec<String> {
    let mut warnings: Vec<String> =
        sources(certificates).into_values().filter_map(|one| expiry(config, one, now)).collect();
    for frontend in &config.frontends {
        let all: Vec<_> =
            frontend.certificates.iter().filter_map(|path| certificates.get(&path.value)).flatten().collect();
        for (at, later) in all.iter().enumerate() {
            let twin = all[..at].iter().filter(|first| first.path != later.path);
            if let Some((first, name)) = twin.filter_map(|first| Some((first, first.overlap(later)?))).next() {
                let later = &later.source;
                warnings.push(format!(
                    "frontend {}: {} and {later} are both for {name}; the first one is served",
                    frontend.name.value, first.source
                ));
            }
        }
    }
    warnings
}

/// Each certificate once, by its file.
pub(super) fn sources(certificates: &Certificates) -> BTreeMap<&Utf8Path, &Certificate> {
    certificates.values().flatten().map(|one| (one.source.as_path(), one)).collect()
}

/// That a certificate has expired, or will soon.
pub(super) fn expiry(config: &Config, certificate: &Certificate, now: Timestamp) -> Option<String> {
    let Certificate { source, not_after, .. } = certificate;
    if *not_after <= now {
        return Some(format!("the certificate {source} expired on {}", day(*not_after)));
    }
    let warn = SignedDuration::try_from(config.tls.certificate_expiry.value).unwrap_or(SignedDuration::MAX);
    (not_after.duration_since(now) <= warn.min(renewal_time(certificate)))
        .then(|| format!("the certificate {source} expires on {}", day(*not_after)))
}

/// Those of a few days are renewed in their last third at the earliest: before that nothing is late.
pub(super) fn renewal_time(certificate: &Certificate) -> SignedDuration {
    certificate.not_after.duration_since(certificate.not_before) / 3
}

pub(super) fn day(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%Y-%m-%d")
}
