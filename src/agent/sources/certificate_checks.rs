//! What speaks against certificates that were read, and what the operator should know of them.

use super::certificates::{CertificateProblem, expiry, sources};
use super::place::Sources;
use super::trust;
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
    let expire = all.filter_map(|one| expiry(&read.config, one, now));
    problems.chain(expire).chain(trust::doubts(&read.config, &read.trust, now)).collect()
}

/// Refuses what HAProxy could not start with: a frontend without any certificate; what would let in whom a file should keep
/// out, of which nothing is known; and unless `is_forced` a file that the
/// operator names and that was never served, which is a mistake in the file.
pub fn check_certificates(sources: &Sources, is_forced: bool) -> Result<(), Refusal> {
    let is_bare = |path: &Sourced<Utf8PathBuf>| sources.certificates.get(&path.value).is_none_or(Vec::is_empty);
    let bare = sources.config.frontends.iter().filter(|frontend| !frontend.certificates.is_empty());
    let bare = bare.filter(|frontend| frontend.certificates.iter().all(is_bare));
    let needed: BTreeSet<&Utf8Path> =
        bare.flat_map(|frontend| &frontend.certificates).map(|path| path.value.as_path()).collect();
    let of_clients = |path: &Utf8Path| {
        trust::trusts(&sources.config).flat_map(|(_, trust)| trust.files()).any(|(_, named)| named.value == path)
    };
    let is_refused = |problem: &&CertificateProblem| {
        let is_needed = needed.iter().any(|path| problem.source.starts_with(path));
        is_needed || problem.is_unserved && (!is_forced || of_clients(&problem.source))
    };
    let refused: Vec<_> = sources.certificate_problems.iter().filter(is_refused).collect();
    if refused.is_empty() {
        return Ok(());
    }
    if refused.iter().all(|problem| of_clients(&problem.source)) {
        let help = "put the certificates of the clients' authorities (-----BEGIN CERTIFICATE-----) into a file of `ca`, and \
                    their lists (-----BEGIN X509 CRL-----) into one of `revoked`; `openssl x509 -inform der` or `openssl crl \
                    -inform der` makes PEM of a binary one";
        return Err(Refusal::of(refused.into_iter().map(|problem| problem.told.clone())).help(help));
    }
    let help = "put a certificate with its key there: in one file, as FILE.key beside it, or name the directory of \
                certbot (fullchain.pem and privkey.pem), Kubernetes (tls.crt and tls.key), acme.sh or lego";
    Err(Refusal::of(refused.into_iter().map(|problem| problem.told.clone())).help(help))
}
