//! What was told of certificates already, and since when: each problem and each threshold of an expiry once.
//!
//! Pure but for the log. Called by `node`.

use super::certificates::{CertificateProblem, Certificates, day, expiry, renewal_time, sources};
use super::trust::{self, Trust};
use crate::agent::tell::bulletin::Bulletin;
use crate::config::Config;
use crate::event::{Event, EventKind, Severity};
use crate::model::{Certificate, Digest};
use camino::Utf8PathBuf;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// An expiry is told so many days before, each once; and when it has come.
const TOLD_DAYS: [i64; 5] = [30, 14, 7, 1, 0];

/// What is known of the certificates that serve.
#[derive(Clone, Debug, Default)]
pub struct CertificateNews {
    /// By what is told: since when, and of which file.
    since: BTreeMap<String, (Timestamp, Utf8PathBuf)>,
    told: BTreeMap<Utf8PathBuf, (Digest, i64)>,
    /// Those that serve, in the order of their files.
    pub all: Vec<CertificateStatus>,
    /// One line each: what cannot be served, and what expires.
    pub problems: Vec<String>,
}

/// One certificate as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateStatus {
    /// The operator's file.
    pub file: Utf8PathBuf,
    /// The names that it is served for.
    pub names: Vec<String>,
    /// When it expires.
    pub not_after: Timestamp,
    /// Time until then; negative afterwards.
    pub left: SignedDuration,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl CertificateNews {
    /// Takes in what serves now, and logs what is new.
    pub fn look(
        &mut self,
        config: &Config,
        found: &Certificates,
        trust: &Trust,
        problems: &[CertificateProblem],
        now: Timestamp,
        bulletin: &Bulletin,
    ) {
        let before = std::mem::take(&mut self.since);
        for problem in problems {
            let since = before.get(&problem.told.to_string()).cloned().unwrap_or_else(|| {
                let event = Event::begins(EventKind::Problem, Severity::Warning, &problem.source, &problem.told);
                bulletin.tell(event.about("certificate"));
                (now, problem.source.clone())
            });
            self.since.insert(problem.told.to_string(), since);
        }
        for (text, (_, source)) in before.iter().filter(|(text, _)| !self.since.contains_key(*text)) {
            bulletin.tell(Event::ends(EventKind::Problem, source, format!("mended: {text}")).about("certificate"));
        }
        let certificates = sources(found);
        self.told.retain(|file, _| certificates.contains_key(file.as_path()));
        for certificate in certificates.values() {
            self.tell_expiry(certificate, now, bulletin);
        }
        let cannot = problems.iter().map(|problem| {
            let since = self.since.get(&problem.told.to_string()).map_or(now, |(since, _)| *since);
            format!("{} (since {})", problem.told, since.strftime("%Y-%m-%d %H:%M:%S UTC"))
        });
        let expire = certificates.values().filter_map(|certificate| expiry(config, certificate, now));
        self.problems = cannot.chain(expire).chain(trust::doubts(config, trust, now)).collect();
        let status = |certificate: &&Certificate| CertificateStatus {
            file: certificate.source.clone(),
            names: certificate.names.iter().cloned().collect(),
            not_after: certificate.not_after,
            left: certificate.not_after.duration_since(now),
            problem: problems
                .iter()
                .find(|problem| certificate.source.starts_with(&problem.source))
                .map(|problem| problem.told.to_string())
                .or_else(|| expiry(config, certificate, now)),
        };
        self.all = certificates.values().map(status).collect();
    }

    /// The nearest threshold that has passed, where it was not told of this certificate.
    fn tell_expiry(&mut self, certificate: &Certificate, now: Timestamp, bulletin: &Bulletin) {
        let left = certificate.not_after.duration_since(now);
        let is_passed = |days: &i64| left <= SignedDuration::from_hours(days * 24).min(renewal_time(certificate));
        let Some(days) = TOLD_DAYS.into_iter().rev().find(is_passed) else { return };
        let is_told = |(digest, told): &(Digest, i64)| *digest == certificate.digest && *told <= days;
        if self.told.get(&certificate.source).is_some_and(is_told) {
            return;
        }
        self.told.insert(certificate.source.clone(), (certificate.digest, days));
        let (file, until) = (&certificate.source, day(certificate.not_after).to_string());
        let (severity, text) = match days {
            0 => (Severity::Error, format!("the certificate {file} has expired ({until})")),
            1 | 7 => (Severity::Warning, format!("the certificate {file} expires within {days} days ({until})")),
            _ => (Severity::Info, format!("the certificate {file} expires within {days} days ({until})")),
        };
        bulletin.tell(Event::once(EventKind::Certificate, severity, file, text).about("expiry"));
    }
}
