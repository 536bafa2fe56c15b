//! What HAProxy reads of a certificate file, read the same way before HAProxy does.
//!
//! Knows PEM, keys and the files beside a certificate; refuses to know why it is wanted. Private keys leave it as
//! [`PrivatePem`] alone. Called by `agent`.

use super::layout::{EXTRAS, is_called_certificate, key_files};
use crate::model::{Certificate, Digest, PrivatePem};
use crate::sys;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::BTreeSet;
use std::sync::Arc;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_OCSP;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

/// Longest certificate file: a leaf with 200 certificates behind it.
const MAX_FILE_BYTES: u64 = 1 << 20;
const IS_KEY: &str = "PRIVATE KEY-----";
const IS_CERTIFICATE: &str = "CERTIFICATE-----";

/// Why a file gives no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// In words for the operator: unreadable, truncated, no certificate, no key or one with a passphrase, or a key that
    /// is not the certificate's.
    pub reason: String,
    /// In a directory it is none of the certificates: a note, a key alone, the certificate of an authority.
    pub is_other: bool,
}

impl From<String> for Unusable {
    fn from(reason: String) -> Self {
        Self { reason, is_other: false }
    }
}

/// What a certificate file holds, with its key from beside it where it has none; `copy` is what HAProxy will read.
/// `known` is answered again where nothing changed since it was made.
///
/// # Errors
/// See [`Unusable`].
pub fn read_certificate(
    source: &Utf8Path,
    copy: &Utf8Path,
    known: Option<&Certificate>,
) -> Result<Certificate, Unusable> {
    let files = Files::read(source)?;
    let digest = files.digest();
    match known.filter(|known| known.digest == digest && known.source == source && known.path == copy) {
        Some(known) => Ok(Certificate { read_from: files.read_from, ..known.clone() }),
        None => understand(source, copy, files),
    }
}

/// A certificate file with what belongs to it.
struct Files {
    pem: String,
    extras: Vec<(&'static str, Arc<[u8]>)>,
    read_from: Vec<Utf8PathBuf>,
}

impl Files {
    fn read(source: &Utf8Path) -> Result<Self, Unusable> {
        let told = |e: std::io::Error| e.to_string();
        let main = sys::files::read_limited(source, MAX_FILE_BYTES).map_err(told)?;
        let mut pem = blocks(&main).map_err(|reason| Unusable { reason, is_other: !is_called_certificate(source) })?;
        let mut read_from = vec![source.to_owned()];
        if !pem.contains(IS_CERTIFICATE) {
            let is_other = !pem.is_empty() || !is_called_certificate(source);
            return Err(Unusable { reason: "it has no certificate".to_owned(), is_other });
        }
        if !pem.contains(IS_KEY) {
            let keys = key_files(source);
            let key = keys.iter().find(|key| key.exists()).ok_or_else(|| {
                let names: Vec<&str> = keys.iter().filter_map(|key| key.file_name()).collect();
                let reason = format!("it has no private key, and none of {} lies beside it", names.join(", "));
                Unusable { reason, is_other: is_authority(&pem) }
            })?;
            let bytes = sys::files::read_limited(key, MAX_FILE_BYTES).map_err(told)?;
            pem.push_str(&blocks(&bytes).map_err(|reason| format!("{key}: {reason}"))?);
            read_from.push(key.clone());
        }
        let mut extras = Vec::new();
        for end in EXTRAS {
            let path = Utf8PathBuf::from(format!("{source}{end}"));
            if let Some(bytes) = sys::directory::read_if_exists(&path, MAX_FILE_BYTES).map_err(told)? {
                extras.push((end, bytes.into()));
                read_from.push(path);
            }
        }
        Ok(Self { pem, extras, read_from })
    }

    fn digest(&self) -> Digest {
        let extras = self.extras.iter().map(|(end, bytes)| format!("{end} {}", Digest::of(bytes)));
        Digest::of(std::iter::once(Digest::of(&self.pem).to_string()).chain(extras).collect::<String>())
    }
}

fn understand(source: &Utf8Path, copy: &Utf8Path, files: Files) -> Result<Certificate, Unusable> {
    let pem = files.pem.as_str();
    if !pem.contains(IS_KEY) {
        return Err("it has no private key".to_owned().into());
    }
    if pem.contains("ENCRYPTED") {
        return Err("its private key has a passphrase, which HAProxy would ask for".to_owned().into());
    }
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| format!("it cannot be read: {e}"))?;
    let parsed = chain.iter().enumerate().map(|(at, der)| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(format!("certificate {} in it is damaged", at + 1)),
    });
    let parsed: Vec<X509Certificate<'_>> = parsed.collect::<Result<_, _>>()?;
    let Some((leaf, behind)) = parsed.split_first() else { return Err("it has no certificate".to_owned().into()) };
    let key =
        PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| format!("its private key cannot be read: {e}"))?;
    check_key(&chain, &key)?;
    let at =
        |seconds: i64| Timestamp::from_second(seconds).map_err(|_| "one of its dates is out of all bounds".to_owned());
    Ok(Certificate {
        path: copy.to_owned(),
        source: source.to_owned(),
        digest: files.digest(),
        fingerprint: fingerprint(&chain[0]),
        chain: behind
            .iter()
            .filter(|one| one.subject() != one.issuer())
            .map(|one| common_name(one.subject()))
            .collect(),
        names: names(leaf),
        key_kind: key_kind(leaf),
        lacks_issuer: has_responder(leaf) && behind.iter().all(|one| one.subject() != leaf.issuer()),
        not_before: at(leaf.validity().not_before.timestamp())?,
        not_after: at(leaf.validity().not_after.timestamp())?,
        pem: PrivatePem::new(pem),
        extras: files.extras,
        read_from: files.read_from,
    })
}

/// Whether the first certificate of a text belongs to an authority.
fn is_authority(pem: &str) -> bool {
    let first = CertificateDer::pem_slice_iter(pem.as_bytes()).next();
    let Some(Ok(der)) = first else { return false };
    X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| certificate.is_ca())
}

/// The PEM blocks alone, line by line: what stands around them HAProxy skips, and an empty line would end the payload.
fn blocks(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        "it is no PEM text; `openssl x509 -inform der -in FILE` makes one of a binary certificate".to_owned()
    })?;
    let mut payload = String::with_capacity(text.len());
    let mut open: Option<&str> = None;
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim) {
        let begin = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        match (begin, open) {
            (Some(_), Some(kind)) => return Err(format!("its block {kind} does not end: the file is truncated")),
            (Some(kind), None) => open = Some(kind),
            (None, None) => continue,
            (None, Some(kind)) if line == format!("-----END {kind}-----") => open = None,
            (None, Some(_)) => {}
        }
        if !line.is_empty() {
            payload.push_str(line);
            payload.push('\n');
        }
    }
    match open {
        Some(kind) => Err(format!("its block {kind} does not end: the file is truncated")),
        None => Ok(payload),
    }
}

/// The blocks of one kind alone.
pub(super) fn blocks_of(bytes: &[u8], label: &str) -> Result<String, String> {
    let (begin, end) = (format!("-----BEGIN {label}-----\n"), format!("-----END {label}-----\n"));
    let mut is_in = false;
    let mut found = String::new();
    for line in blocks(bytes)?.split_inclusive('\n') {
        is_in |= line == begin;
        if is_in {
            found.push_str(line);
        }
        is_in &= line != end;
    }
    Ok(found)
}

/// Whether the key is the one of the first certificate. What we have no code for, `haproxy -c` judges.
fn check_key(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> Result<(), String> {
    let Ok(key) = rustls::crypto::aws_lc_rs::sign::any_supported_type(key) else { return Ok(()) };
    let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
    match CertifiedKey::new(chain, key).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err("its private key is not the one of its certificate".to_owned())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// SHA-1 in upper-case hexadecimal digits.
pub(super) fn fingerprint(der: &[u8]) -> String {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The names that HAProxy serves a certificate for: its DNS names and its common name.
fn names(leaf: &X509Certificate<'_>) -> BTreeSet<String> {
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let dns = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let common = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_owned);
    dns.chain(common).map(|name| name.to_ascii_lowercase()).collect()
}

/// Whether it says where its issuer answers questions about it.
fn has_responder(leaf: &X509Certificate<'_>) -> bool {
    leaf.extensions().iter().any(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            access.iter().any(|place| place.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP)
        }
        _ => false,
    })
}

fn key_kind(leaf: &X509Certificate<'_>) -> String {
    match leaf.public_key().parsed() {
        Ok(PublicKey::RSA(_)) => "RSA".to_owned(),
        Ok(PublicKey::EC(_)) => "EC".to_owned(),
        _ => leaf.public_key().algorithm.algorithm.to_id_string(),
    }
}

/// The common name as [`common_name_in`] finds it in HAProxy's line.
fn common_name(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().filter_map(|name| name.as_str().ok()).last().unwrap_or_default();
    common_name_in(&format!("/CN={common}"))
}

/// The common name in `/C=US/O=Let's Encrypt/CN=R3`; empty where there is none, or one that is not plain.
pub(super) fn common_name_in(line: &str) -> String {
    let Some((_, name)) = line.rsplit_once("/CN=") else { return String::new() };
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | '/') || c == ' ';
    if name.chars().all(is_plain) { name.trim().to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    /// Leaf, intermediate and root, with the leaf's key.
    fn chain() -> String {
        let root = CertifiedIssuer::self_signed(authority("Root"), KeyPair::generate().unwrap()).unwrap();
        let middle =
            CertifiedIssuer::signed_by(authority("Let's Test/R3"), KeyPair::generate().unwrap(), &root).unwrap();
        let mut params = CertificateParams::new(vec!["API.test".to_owned(), "*.test".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "common.test");
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &middle).unwrap();
        format!("{}{}\n{}\n{}", key.serialize_pem(), leaf.pem(), middle.pem(), root.pem())
    }

    fn read(text: &str) -> Result<Certificate, Unusable> {
        let held = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(held.path()).unwrap().join("x.pem");
        sys::directory::write_private(&file, text.as_bytes()).unwrap();
        read_certificate(&file, Utf8Path::new("/copy"), None)
    }

    #[test]
    fn names_chain_and_key_are_what_haproxy_finds() {
        let text = chain();
        let noisy = format!("\u{feff}Bag Attributes\n  friendlyName: x\n\n{}", text.replace('\n', "\r\n"));
        let Certificate { names, chain, key_kind, pem, .. } = &read(&noisy).unwrap();
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["*.test", "api.test", "common.test"]);
        // Not plain, and so not compared; the root issued itself.
        assert_eq!((chain.as_slice(), key_kind.as_str()), ([String::new()].as_slice(), "EC"));
        assert!(["\n\n", "\r", "Bag Attributes", "\u{feff}"].iter().all(|noise| !pem.expose().contains(noise)));
        assert!(read(&format!("\u{feff}{text}")).is_ok());
    }

    #[test]
    fn every_truncation_is_refused_and_no_refusal_shows_the_key() {
        let text = chain();
        let secret: String = text.lines().nth(1).unwrap().chars().take(20).collect();
        let end_of_leaf = text.match_indices("-----END CERTIFICATE-----").next().unwrap().0 + 25;
        for length in (0..end_of_leaf).step_by(7) {
            let problem = read(&text[..length]).err().unwrap_or_else(|| panic!("{length} bytes are taken")).reason;
            assert!(!problem.contains(&secret), "{problem}");
        }
        let locked =
            text.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE").replace("END PRIVATE", "END ENCRYPTED PRIVATE");
        assert!(read(&locked).unwrap_err().reason.contains("passphrase"));
    }

    #[test]
    fn a_common_name_is_found_in_haproxys_line() {
        assert_eq!(common_name_in("/C=US/O=Let's Encrypt/CN=R3"), "R3");
        assert_eq!(common_name_in("/CN=x/emailAddress=y@z"), "");
        assert_eq!(common_name_in("/O=none"), "");
    }
}
