//! What HAProxy reads of a certificate file, read the same way before HAProxy does.
//!
//! Knows PEM, keys and the files beside a certificate; refuses to know why it is wanted. A [`Pem`] holds a private key:
//! it has no `Debug`, and only its [`Certificate`] travels on. Called by `agent`, and when a step is carried out.

use crate::model::{Certificate, Digest};
use crate::sys;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::BTreeSet;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

/// Longest certificate file: a leaf with 200 certificates behind it.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Files beside a certificate that belong to it; in a directory they are no certificates of their own.
const KEY: &str = ".key";
const EXTRAS: [&str; 3] = [".ocsp", ".issuer", ".sctl"];

/// A certificate with its key, as it travels over the admin socket.
pub struct Pem {
    /// Everything that may be known of it.
    pub certificate: Certificate,
    payload: String,
}

/// Whether a file of a directory is a certificate, and not something that stands beside one.
pub fn is_certificate(path: &Utf8Path) -> bool {
    !EXTRAS.iter().chain([&KEY]).any(|suffix| path.as_str().ends_with(suffix))
}

/// What a certificate file holds; `known` is answered again where nothing changed since it was made.
///
/// # Errors
/// As [`Pem::read`].
pub fn read_certificate(path: &Utf8Path, known: Option<&Certificate>) -> Result<Certificate, String> {
    let files = Files::read(path)?;
    let digest = files.digest();
    match known.filter(|known| known.digest == digest && known.path == path) {
        Some(known) => Ok(known.clone()),
        None => Pem::understand(path, &files).map(|pem| pem.certificate),
    }
}

/// A certificate file and those beside it.
struct Files {
    main: Vec<u8>,
    key: Option<Vec<u8>>,
    extras: Vec<Vec<u8>>,
}

impl Files {
    fn read(path: &Utf8Path) -> Result<Self, String> {
        let told = |e: std::io::Error| e.to_string();
        let main = sys::files::read_limited(path, MAX_FILE_BYTES).map_err(told)?;
        let beside = |suffix: &str| {
            let path = Utf8PathBuf::from(format!("{path}{suffix}"));
            sys::directory::read_if_exists(&path, MAX_FILE_BYTES).map_err(told)
        };
        let extras: Vec<_> = EXTRAS.into_iter().map(beside).collect::<Result<_, _>>()?;
        Ok(Self { main, key: beside(KEY)?, extras: extras.into_iter().flatten().collect() })
    }

    fn digest(&self) -> Digest {
        let all = [&self.main].into_iter().chain(&self.key).chain(&self.extras);
        Digest::of(all.map(|bytes| Digest::of(bytes).to_string()).collect::<String>())
    }
}

impl Pem {
    /// Reads a file, and its key from the file with `.key` at its end where it has none.
    ///
    /// # Errors
    /// In words for the operator: unreadable, truncated, no certificate, no key or one with a passphrase, or a key
    /// that is not the certificate's.
    pub fn read(path: &Utf8Path) -> Result<Self, String> {
        Self::understand(path, &Files::read(path)?)
    }

    fn understand(path: &Utf8Path, files: &Files) -> Result<Self, String> {
        let mut payload = blocks(&files.main)?;
        if !payload.contains("PRIVATE KEY-----") {
            match &files.key {
                Some(key) => payload.push_str(&blocks(key)?),
                None => return Err("it has no private key".to_owned()),
            }
        }
        if payload.contains("ENCRYPTED") {
            return Err("its private key has a passphrase, which HAProxy would ask for".to_owned());
        }
        let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(payload.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| format!("it cannot be read: {e}"))?;
        let parsed = chain.iter().enumerate().map(|(at, der)| match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            _ => Err(format!("certificate {} in it is damaged", at + 1)),
        });
        let parsed: Vec<X509Certificate<'_>> = parsed.collect::<Result<_, _>>()?;
        let Some((leaf, behind)) = parsed.split_first() else { return Err("it has no certificate".to_owned()) };
        let key = PrivateKeyDer::from_pem_slice(payload.as_bytes())
            .map_err(|e| format!("its private key cannot be read: {e}"))?;
        check_key(&chain, &key)?;
        let not_after = Timestamp::from_second(leaf.validity().not_after.timestamp())
            .map_err(|_| "its date of expiry is out of all bounds".to_owned())?;
        let certificate = Certificate {
            path: path.to_owned(),
            digest: files.digest(),
            fingerprint: fingerprint(&chain[0]),
            chain: behind
                .iter()
                .filter(|one| one.subject() != one.issuer())
                .map(|one| common_name(one.subject()))
                .collect(),
            names: names(leaf),
            key_kind: key_kind(leaf),
            not_after,
            payload_bytes: payload.len(),
            has_extras: !files.extras.is_empty(),
        };
        Ok(Self { certificate, payload })
    }

    /// Certificate, chain and key. Secret.
    pub(super) fn payload(&self) -> &str {
        &self.payload
    }
}

/// The PEM blocks alone, line by line: what stands around them HAProxy skips, and an empty line would end the payload.
fn blocks(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no PEM text".to_owned())?;
    let mut payload = String::with_capacity(text.len());
    let mut open: Option<&str> = None;
    for line in text.lines().map(str::trim) {
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

fn fingerprint(der: &[u8]) -> String {
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

    fn understand(text: &str) -> Result<Pem, String> {
        Pem::understand("/x.pem".into(), &Files { main: text.as_bytes().to_vec(), key: None, extras: vec![] })
    }

    #[test]
    fn names_chain_and_key_are_what_haproxy_finds() {
        let text = chain();
        let pem =
            understand(&format!("Bag Attributes\n  friendlyName: x\n\n{}", text.replace('\n', "\r\n"))).ok().unwrap();
        let Certificate { names, chain, key_kind, payload_bytes, .. } = &pem.certificate;
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["*.test", "api.test", "common.test"]);
        // Not plain, and so not compared; the root issued itself.
        assert_eq!((chain.as_slice(), key_kind.as_str()), ([String::new()].as_slice(), "EC"));
        assert_eq!(*payload_bytes, pem.payload().len());
        assert!(
            !pem.payload().contains("\n\n")
                && !pem.payload().contains('\r')
                && !pem.payload().contains("Bag Attributes")
        );
    }

    #[test]
    fn every_truncation_is_refused_and_no_refusal_shows_the_key() {
        let text = chain();
        let secret: String = text.lines().nth(1).unwrap().chars().take(20).collect();
        let end_of_leaf = text.match_indices("-----END CERTIFICATE-----").next().unwrap().0 + 25;
        for length in (0..end_of_leaf).step_by(7) {
            let problem = understand(&text[..length]).err().unwrap_or_else(|| panic!("{length} bytes are taken"));
            assert!(!problem.contains(&secret), "{problem}");
        }
        let locked =
            text.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE").replace("END PRIVATE", "END ENCRYPTED PRIVATE");
        assert!(understand(&locked).err().unwrap().contains("passphrase"));
    }

    #[test]
    fn a_common_name_is_found_in_haproxys_line() {
        assert_eq!(common_name_in("/C=US/O=Let's Encrypt/CN=R3"), "R3");
        assert_eq!(common_name_in("/CN=x/emailAddress=y@z"), "");
        assert_eq!(common_name_in("/O=none"), "");
    }
}
