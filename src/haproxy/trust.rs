//! What the certificates of clients are judged by: read from the operator's files, and asked of the running HAProxy and
//! replaced there.
//!
//! **Source**: management guide, `set ssl ca-file`, `set ssl crl-file`; the answers are those of 2.6.12, 3.0.11, 3.2.26
//! and 3.4.7.

use super::certificates::{MAX_PAYLOAD_BYTES, open_transaction, says_success};
use super::command::{Pipeline, word};
use super::error::AdminError;
use super::pem;
use super::session::Session;
use super::verb::words;
use crate::model::{Digest, TrustFile, TrustItem, TrustKind};
use crate::render::TrustBundle;
use crate::sys;
use camino::Utf8Path;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate, X509Name};
use x509_parser::time::ASN1Time;

/// Largest file, in bytes: a list of 100,000 revoked certificates has some 6 MiB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reads such a file.
///
/// # Errors
/// In words for the operator: it cannot be read, or has nothing of that kind, or something that is damaged.
pub fn read_trust(source: &Utf8Path, kind: TrustKind) -> Result<TrustFile, String> {
    let bytes = sys::files::read_limited(source, MAX_FILE_BYTES).map_err(|e| e.to_string())?;
    understand_trust(source, kind, &bytes)
}

/// The same of a text that was read.
///
/// # Errors
/// As [`read_trust`].
pub fn understand_trust(source: &Utf8Path, kind: TrustKind, bytes: &[u8]) -> Result<TrustFile, String> {
    let (label, what) = match kind {
        TrustKind::Authorities => ("CERTIFICATE", "certificate"),
        TrustKind::Revoked => ("X509 CRL", "list of revoked certificates"),
    };
    let pem = pem::blocks_of(bytes, label)?;
    let read = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes());
    let items = read.enumerate().map(|(at, block)| {
        let block = block.map_err(|e| format!("it cannot be read: {e}"))?;
        match kind {
            TrustKind::Authorities => authority(&block.contents),
            TrustKind::Revoked => revoked(&block.contents),
        }
        .ok_or_else(|| format!("{what} {} in it is damaged", at + 1))
    });
    let items: Vec<TrustItem> = items.collect::<Result<_, String>>()?;
    if items.is_empty() {
        return Err(format!("it has no {what} (-----BEGIN {label}-----)"));
    }
    Ok(TrustFile { source: source.to_owned(), kind, pem: pem.into(), items })
}

/// The SHA-256 of the first certificate in a file, as HAProxy finds it in a connection.
///
/// # Errors
/// As [`read_trust`].
pub fn certificate_digest(file: &Utf8Path) -> Result<Digest, String> {
    let TrustFile { pem, .. } = read_trust(file, TrustKind::Authorities)?;
    let first = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).next();
    first.and_then(Result::ok).map(|block| Digest::of(block.contents)).ok_or_else(|| "it has no certificate".to_owned())
}

fn authority(der: &[u8]) -> Option<TrustItem> {
    let Ok(([], certificate)) = X509Certificate::from_der(der) else { return None };
    let subject = certificate.subject();
    let not_after = moment(&certificate.validity().not_after);
    Some(TrustItem {
        made: None,
        authority: subject.as_raw().to_vec(),
        name: told(subject),
        mark: pem::fingerprint(der),
        not_after,
    })
}

fn revoked(der: &[u8]) -> Option<TrustItem> {
    let Ok(([], list)) = CertificateRevocationList::from_der(der) else { return None };
    let issuer = list.issuer();
    let made = moment(&list.last_update())?;
    let mark = mark(made, list.iter_revoked_certificates().count());
    let not_after = list.next_update().as_ref().and_then(moment);
    Some(TrustItem { made: Some(made), authority: issuer.as_raw().to_vec(), name: told(issuer), mark, not_after })
}

/// What tells one list from the others of its authority.
fn mark(made: Timestamp, revoked: usize) -> String {
    format!("{made} {revoked}")
}

fn moment(time: &ASN1Time) -> Option<Timestamp> {
    Timestamp::from_second(time.timestamp()).ok()
}

/// A name may hold anything.
fn told(name: &X509Name<'_>) -> String {
    name.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect()
}

/// The command's word for them.
fn noun(kind: TrustKind) -> &'static str {
    match kind {
        TrustKind::Authorities => "ca-file",
        TrustKind::Revoked => "crl-file",
    }
}

/// The marks of what the worker has of each file; one that it does not know is missing.
pub(super) async fn observe(
    session: &mut Session,
    bundles: &[&TrustBundle],
) -> Result<BTreeMap<String, BTreeSet<String>>, AdminError> {
    let mut questions = Pipeline::default();
    for bundle in bundles {
        questions.push(&format!("show ssl {} {}", noun(bundle.kind), word(bundle.path.as_str())?))?;
    }
    let mut found = BTreeMap::new();
    if bundles.is_empty() {
        return Ok(found);
    }
    for (bundle, reply) in bundles.iter().zip(session.run(&questions).await?) {
        if reply.starts_with("Filename: ") {
            found.insert(bundle.path.to_string(), marks(&reply, bundle.kind));
        }
    }
    Ok(found)
}

/// Reads `show ssl ca-file` and `show ssl crl-file`.
fn marks(reply: &str, kind: TrustKind) -> BTreeSet<String> {
    let lines = reply.lines().map(str::trim);
    match kind {
        TrustKind::Authorities => {
            lines.filter_map(|line| line.strip_prefix("SHA1 FingerPrint: ")).map(str::to_owned).collect()
        }
        TrustKind::Revoked => {
            let mut all: Vec<(Option<Timestamp>, usize)> = Vec::new();
            for line in lines {
                if let Some(date) = line.strip_prefix("Last Update: ") {
                    all.push((super::certificates::date(date), 0));
                } else if let (true, Some((_, count))) = (line.starts_with("Serial Number: "), all.last_mut()) {
                    *count += 1;
                }
            }
            all.into_iter().filter_map(|(made, count)| Some(mark(made?, count))).collect()
        }
    }
}

/// One transaction: afterwards the file is the new one, or as it was. The inner error is HAProxy's own words.
pub(super) async fn replace(session: &mut Session, bundle: &TrustBundle) -> Result<Result<(), String>, AdminError> {
    let (noun, path) = (noun(bundle.kind), word(bundle.path.as_str())?);
    if let Some(open) = open_transaction(&session.ask(&format!("show ssl {noun}")).await?) {
        return Ok(Err(format!(
            "somebody has a transaction about {open} open on the admin socket; `abort ssl {noun} {open}` ends it"
        )));
    }
    let mut set = Pipeline::default();
    set.push_payload_within(&format!("set ssl {noun} {path}"), &bundle.payload(), MAX_PAYLOAD_BYTES)?;
    let reply = session.run(&set).await?.pop().unwrap_or_default();
    let is_set = ["created", "updated"].iter().any(|verb| reply.contains(&format!("transaction {verb} for C")));
    let reply = if is_set { session.ask(&format!("commit ssl {noun} {path}")).await? } else { reply };
    if is_set && says_success(&reply) {
        return Ok(Ok(()));
    }
    session.ask(&format!("abort ssl {noun} {path}")).await?;
    Ok(Err(words(&reply)))
}

#[cfg(test)]
mod tests {
    use super::{TrustKind, marks, understand_trust};
    use camino::Utf8Path;

    #[test]
    fn what_the_running_haproxy_has_is_read() {
        let reply = "Filename: /x/a.crl.pem\nStatus: Used\n\nCertificate Revocation List #1:\nIssuer: /CN=a\n\
                     Last Update: Nov 30 20:29:47 2026 GMT\nNext Update: Dec 30 20:29:47 2026 GMT\nRevoked Certificates:\n    \
                     Serial Number: 71\n    Serial Number: 72\nCertificate Revocation List #2:\n\
                     Last Update: Nov  1 00:00:00 2026 GMT\nNo Revoked Certificates.\n";
        let found: Vec<_> = marks(reply, TrustKind::Revoked).into_iter().collect();
        assert_eq!(found, ["2026-11-01T00:00:00Z 0", "2026-11-30T20:29:47Z 2"]);
        let reply = "Filename: /x/a.ca.pem\nStatus: Used\n\nCertificate #1:\nSHA1 FingerPrint: 0A\nSubject: /CN=SHA1 FingerPrint: 1\n";
        assert_eq!(marks(reply, TrustKind::Authorities).into_iter().collect::<Vec<_>>(), ["0A"]);
    }

    #[test]
    fn what_is_no_such_file_is_told() {
        let read = |kind, text: &str| understand_trust(Utf8Path::new("/x"), kind, text.as_bytes()).unwrap_err();
        let block = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert!(read(TrustKind::Authorities, "").contains("it has no certificate"));
        assert!(read(TrustKind::Revoked, block).contains("it has no list of revoked certificates"));
        assert_eq!(read(TrustKind::Authorities, block), "certificate 1 in it is damaged");
        assert!(read(TrustKind::Authorities, &block[..40]).contains("truncated"));
    }
}
