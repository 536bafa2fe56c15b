//! TLS settings of a target as a client configuration, made once and kept.
//!
//! Sessions are never resumed: a resumed one would not show the certificate, and an expired one would go unseen.

use super::target::{ClientCertificate, TargetTls};
use super::verifier::{AsHaproxy, Authorities, tls12_signature, tls13_signature};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use x509_parser::parse_x509_certificate;

/// Most configurations that are kept; a configuration of hapilot has far fewer different authorities.
const MAX_KEPT: usize = 256;

/// What a configuration is made of: the authorities, whether they are asked, and what we show ourselves. The name comes
/// with each connection.
type Place = (Option<String>, bool, Option<ClientCertificate>);

/// Every configuration made so far.
#[derive(Default)]
pub(super) struct Trust {
    kept: Mutex<HashMap<Place, Arc<ClientConfig>>>,
    system: OnceLock<Arc<RootCertStore>>,
}

impl Trust {
    /// The client configuration for these settings.
    ///
    /// # Errors
    /// What is wrong with the authorities: our own fault, not the server's.
    pub(super) fn config(&self, tls: &TargetTls) -> Result<Arc<ClientConfig>, String> {
        let place: Place = (tls.ca_pem.clone(), tls.verify, tls.certificate.clone());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = kept.get(&place) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make(tls)?);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(place, Arc::clone(&config));
        Ok(config)
    }

    fn make(&self, tls: &TargetTls) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let builder = if tls.verify {
            let authorities = match &tls.ca_pem {
                Some(pem) => Authorities::Pinned(authorities_of(pem)?),
                None => Authorities::System(Arc::clone(self.system.get_or_init(system_roots))),
            };
            if matches!(&authorities, Authorities::System(roots) if roots.is_empty()) {
                return Err(
                    "this machine has no certificate authorities (install ca-certificates, or set tls.ca)".into()
                );
            }
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AsHaproxy::new(authorities, provider)))
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        };
        let mut config = match &tls.certificate {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let (chain, key) = client_certificate(pem)?;
                builder.with_client_auth_cert(chain, key).map_err(|e| format!("tls.certificate cannot be used: {e}"))?
            }
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
}

fn authorities_of(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut authorities = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| format!("tls.ca is not PEM: {e}"))?;
        parse_x509_certificate(&certificate).map_err(|e| format!("tls.ca holds no authority: {e}"))?;
        authorities.push(certificate);
    }
    if authorities.is_empty() { Err("tls.ca holds no certificate".into()) } else { Ok(authorities) }
}

fn client_certificate(
    ClientCertificate(pem): &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain = chain.map_err(|e| format!("tls.certificate is not PEM: {e}"))?;
    if chain.is_empty() {
        return Err("tls.certificate holds no certificate".into());
    }
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    Ok((chain, key.map_err(|_| "tls.certificate holds no key that can be used: put the key behind the certificate")?))
}

/// `verify = false`: any certificate will do; signatures are still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
