//! The certificates of a mock: an authority, a good leaf, and three bad ones.

use super::config::MockTls;
use super::fault::FaultKind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;

/// One acceptor for each certificate.
pub(super) struct Certificates {
    pub(super) ca_pem: String,
    good: TlsAcceptor,
    expired: TlsAcceptor,
    wrong_name: TlsAcceptor,
    unknown_authority: TlsAcceptor,
}

impl Certificates {
    pub(super) fn make(tls: &MockTls) -> io::Result<Self> {
        Self::try_make(tls).map_err(io::Error::other)
    }

    fn try_make(tls: &MockTls) -> Result<Self, rcgen::Error> {
        let ca = authority("hapilot mock CA")?;
        let stranger = authority("nobody's CA")?;
        let mut good = CertificateParams::new(tls.names.clone())?;
        // An hour back, for clocks that differ.
        good.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
        good.not_after = (SystemTime::now() + tls.valid).into();
        let mut expired = good.clone();
        expired.not_before = date_time_ymd(2020, 1, 1);
        expired.not_after = date_time_ymd(2020, 2, 1);
        let wrong_name = CertificateParams::new(vec!["wrong.invalid".to_owned()])?;
        Ok(Self {
            ca_pem: ca.pem(),
            good: acceptor(&good, &ca)?,
            expired: acceptor(&expired, &ca)?,
            wrong_name: acceptor(&wrong_name, &ca)?,
            unknown_authority: acceptor(&good, &stranger)?,
        })
    }

    /// The acceptor that a fault of the connection asks for.
    pub(super) fn acceptor(&self, fault: Option<FaultKind>) -> &TlsAcceptor {
        match fault {
            Some(FaultKind::TlsExpired) => &self.expired,
            Some(FaultKind::TlsWrongName) => &self.wrong_name,
            Some(FaultKind::TlsUnknownAuthority) => &self.unknown_authority,
            _ => &self.good,
        }
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn acceptor(params: &CertificateParams, ca: &CertifiedIssuer<'static, KeyPair>) -> Result<TlsAcceptor, rcgen::Error> {
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, ca)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key))
        .map_err(|_| rcgen::Error::RemoteKeyError)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
