//! Judges a server's certificate as HAProxy does with OpenSSL, so that a probe refuses nothing that traffic gets through,
//! and takes nothing that it does not.
//!
//! webpki builds and checks the chain. What differs is done here: authorities that OpenSSL would not take count for
//! nothing; a certificate that is itself one of the operator's authorities, or that one of these has signed directly, is
//! taken whatever its version and whether it says that it is an authority; names are compared by HAProxy's own rule.
//! Called by `trust`.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use x509_parser::asn1_rs::ToDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Version};

/// Extensions of a server's certificate that may be critical: what stands in them is looked at, here or by nobody.
const KNOWN_CRITICAL: [&str; 5] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.32", "2.5.29.37"];

/// Judges certificates by these authorities.
#[derive(Debug)]
pub(super) struct AsHaproxy {
    authorities: Authorities,
    provider: Arc<CryptoProvider>,
}

/// Whom we trust.
#[derive(Debug)]
pub(super) enum Authorities {
    /// Those of the machine.
    System(Arc<RootCertStore>),
    /// Those of the operator, as they stand in the file.
    Pinned(Vec<CertificateDer<'static>>),
}

impl AsHaproxy {
    pub(super) fn new(authorities: Authorities, provider: Arc<CryptoProvider>) -> Self {
        Self { authorities, provider }
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    /// Whether one of the operator's authorities vouches for it without any other between.
    fn is_vouched_for(&self, leaf: &CertificateDer<'_>, pinned: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let Ok((_, certificate)) = parse_x509_certificate(leaf) else { return false };
        if !is_in_time(&certificate, now) || !may_serve(&certificate) {
            return false;
        }
        pinned.iter().any(|authority| {
            let Ok((_, signer)) = parse_x509_certificate(authority) else { return false };
            let is_itself = authority == leaf && is_self_issued(&certificate);
            let has_signed = || {
                certificate.issuer().as_raw() == signer.subject().as_raw()
                    && is_root(&signer)
                    && is_in_time(&signer, now)
                    && is_signed_by(&certificate, signer.public_key(), self.algorithms())
            };
            is_itself || has_signed()
        })
    }
}

impl ServerCertVerifier for AsHaproxy {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (store, between, pinned) = match &self.authorities {
            Authorities::System(store) => (Arc::clone(store), sent.to_vec(), &[][..]),
            Authorities::Pinned(pinned) => {
                let mut store = RootCertStore::empty();
                let mut between = sent.to_vec();
                for authority in pinned {
                    match parse_x509_certificate(authority) {
                        Ok((_, certificate)) if !is_self_issued(&certificate) => between.push(authority.clone()),
                        Ok((_, certificate)) if is_root(&certificate) && is_in_time(&certificate, now) => {
                            let _ = store.add(authority.clone());
                        }
                        _ => {}
                    }
                }
                (Arc::new(store), between, pinned.as_slice())
            }
        };
        let judged = ParsedCertificate::try_from(leaf).and_then(|certificate| {
            let algorithms = self.algorithms().all;
            verify_server_cert_signed_by_trust_anchor(&certificate, &store, &between, now, algorithms)
        });
        if let Err(refused) = judged
            && !self.is_vouched_for(leaf, pinned, now)
        {
            return Err(refused);
        }
        check_name(leaf, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12_signature(message, cert, signed, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, cert, signed, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

/// As rustls does, also for certificates of version 1, which it does not read.
pub(super) fn tls12_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let Some(key) = key_of_version_1(cert) else {
        return verify_tls12_signature(message, cert, signed, algorithms);
    };
    let known = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
    let is_good = known.flat_map(|(_, algorithms)| *algorithms).any(|algorithm| {
        Some(algorithm.public_key_alg_id().as_ref()) == identifier(&key.algorithm).as_deref()
            && algorithm.verify_signature(&key.subject_public_key.data, message, signed.signature()).is_ok()
    });
    is_good.then(HandshakeSignatureValid::assertion).ok_or(CertificateError::BadSignature.into())
}

/// See [`tls12_signature`].
pub(super) fn tls13_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    match key_of_version_1(cert) {
        None => verify_tls13_signature(message, cert, signed, algorithms),
        Some(key) => {
            verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key.raw), signed, algorithms)
        }
    }
}

fn key_of_version_1<'c>(cert: &'c CertificateDer<'_>) -> Option<SubjectPublicKeyInfo<'c>> {
    let (_, certificate) = parse_x509_certificate(cert).ok()?;
    (certificate.version() == X509Version::V1).then_some(certificate.tbs_certificate.subject_pki)
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

fn is_in_time(certificate: &X509Certificate<'_>, now: UnixTime) -> bool {
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    now.is_some_and(|now| certificate.validity().is_valid_at(now))
}

/// Whether OpenSSL ends a chain here: issued by itself, and allowed to sign others.
///
/// **Source**: OpenSSL, `check_ca` in v3_purp.c: a self-signed one of version 1 is an authority.
fn is_root(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.key_usage().ok().flatten();
    let may_sign = usage.as_ref().is_none_or(|usage| usage.value.key_cert_sign());
    let is_authority = match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => certificate.version() == X509Version::V1 || usage.is_some(),
        Err(_) => false,
    };
    is_self_issued(certificate) && may_sign && is_authority
}

/// Whether OpenSSL takes it for a server: by its uses, and nothing in it that must be understood and is not.
fn may_serve(certificate: &X509Certificate<'_>) -> bool {
    let extended = certificate.extended_key_usage();
    let usage = certificate.key_usage();
    let is_for_servers = match extended {
        Ok(extended) => extended.is_none_or(|extended| extended.value.server_auth),
        Err(_) => false,
    };
    let is_for_tls = match usage {
        Ok(usage) => usage.is_none_or(|usage| {
            usage.value.digital_signature() || usage.value.key_encipherment() || usage.value.key_agreement()
        }),
        Err(_) => false,
    };
    let is_known = |oid: String| KNOWN_CRITICAL.contains(&oid.as_str());
    let understood = certificate.extensions().iter().all(|one| !one.critical || is_known(one.oid.to_id_string()));
    is_for_servers && is_for_tls && understood
}

fn is_signed_by(
    certificate: &X509Certificate<'_>,
    key: &SubjectPublicKeyInfo<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let (by, of) = (identifier(&certificate.signature_algorithm), identifier(&key.algorithm));
    algorithms.all.iter().any(|algorithm| {
        Some(algorithm.signature_alg_id().as_ref()) == by.as_deref()
            && Some(algorithm.public_key_alg_id().as_ref()) == of.as_deref()
            && algorithm
                .verify_signature(
                    &key.subject_public_key.data,
                    certificate.tbs_certificate.as_ref(),
                    &certificate.signature_value.data,
                )
                .is_ok()
    })
}

/// The content of an `AlgorithmIdentifier`, as rustls compares it.
fn identifier(id: &AlgorithmIdentifier<'_>) -> Option<Vec<u8>> {
    let mut bytes = id.algorithm.to_der_vec().ok()?;
    if let Some(parameters) = &id.parameters {
        bytes.extend(parameters.to_der_vec().ok()?);
    }
    Some(bytes)
}

/// Names are those of the extension and, other than in browsers, the common names too.
///
/// **Source**: HAProxy, `ssl_sock_srv_verifycbk`.
fn check_name(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let ServerName::DnsName(wanted) = name else {
        return verify_server_name(&ParsedCertificate::try_from(leaf)?, name);
    };
    let (_, certificate) = parse_x509_certificate(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let is_named = alternatives.chain(common).any(|pattern| is_like(pattern, wanted.as_ref()));
    if is_named { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
}

/// Whether a name is the one of a certificate; a `*` stands for any part of the first label.
///
/// **Source**: HAProxy, `ssl_sock_srv_hostcheck`.
fn is_like(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    let (Some((label, rest)), Some((first, other))) = (pattern.split_once('.'), name.split_once('.')) else {
        return false;
    };
    let Some((before, after)) = label.split_once('*') else { return false };
    let starts = first.get(..before.len()).is_some_and(|part| part.eq_ignore_ascii_case(before));
    let ends = first.len().checked_sub(after.len()).and_then(|at| first.get(at..));
    !after.contains('*')
        && rest.eq_ignore_ascii_case(other)
        && first.len() >= before.len() + after.len()
        && starts
        && ends.is_some_and(|part| part.eq_ignore_ascii_case(after))
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn names_are_compared_as_haproxy_does() {
        for (pattern, name, same) in [
            ("a.example", "A.example", true),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", false),
            ("*.example", "example", false),
            ("a*.example", "abc.example", true),
            ("a*c.example", "abc.example", true),
            ("ab*bc.example", "abc.example", false),
            ("*a*.example", "a.example", false),
            ("a.*", "a.example", false),
            ("*", "localhost", false),
            ("localhost", "localhost", true),
        ] {
            assert_eq!(is_like(pattern, name), same, "{pattern} {name}");
        }
    }
}
