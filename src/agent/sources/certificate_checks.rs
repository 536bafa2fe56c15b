//! What speaks against certificates that were read, and what the operator should know of them.

use super::certificates::{CertificateProblem, expiry, sources};
use super::place::Sources;
use crate::agent::tell::refusal::Refusal;
use crate::model::Sourced;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// What cannot be served and what expires, one line each.
pub(in crate::agent) fn notes(read: &Sources) -> Vec<String> {
    let now = Timestamp::now();
    let problems = read.certificate_problems.iter().map(|problem| problem.told.to_string());
    let all = sources(&read.certificates).into_values();
    problems.chain(all.filter_map(|one| expiry(&read.config, one, now))).collect()
}

/// Refuses what HAProxy could not start with: a frontend without any certificate; and unless `is_forced` a file that the
/// operator names and that was never served, which is a mistake in the file.
pub fn check_certificates(sources: &Sources, is_forced: bool) -> Result<(), Refusal> {
    let is_bare = |path: &Sourced<Utf8PathBuf>| sources.certificates.get(&path.value).is_none_or(Vec::is_empty);
    let bare = sources.config.frontends.iter().filter(|frontend| !frontend.certificates.is_empty());
    let bare = bare.filter(|frontend| frontend.certificates.iter().all(is_bare));
    let needed: BTreeSet<&Utf8Path> =
        bare.flat_map(|frontend| &frontend.certificates).map(|path| path.value.as_path()).collect();
    let is_refused = |problem: &&CertificateProblem| {
        problem.is_unserved && !is_forced || needed.iter().any(|path| problem.source.starts_with(path))
    };
    let refused: Vec<_> = sources.certificate_problems.iter().filter(is_refused).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let help = "put a certificate with its key there: in one file, as FILE.key beside it, or name the directory of \
                certbot (fullchain.pem and privkey.pem), Kubernetes (tls.crt and tls.key), acme.sh or lego";
    Err(Refusal::of(refused.into_iter().map(|problem| problem.told.clone())).help(help))
}
