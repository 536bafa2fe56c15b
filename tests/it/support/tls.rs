//! Authorities, certificates and clients that speak TLS with HAProxy.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Both versions that are spoken.
pub static VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub der: Vec<u8>,
    /// The same as PEM.
    pub pem: String,
    /// Its key as PEM.
    pub key: String,
    /// Its number.
    pub serial: u64,
}

impl Authority {
    /// One of that name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own key.
    pub fn key(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of that name, changed before it is signed.
    pub fn signs_with(&self, name: &str, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.0).unwrap();
        Identity { der: signed.der().to_vec(), pem: signed.pem(), key: key.serialize_pem(), serial }
    }

    /// The same as it is.
    pub fn signs(&self, name: &str, serial: u64) -> Identity {
        self.signs_with(name, serial, |_| ())
    }

    /// A list of what it has revoked, good until the first of January of a year.
    pub fn revokes(&self, revoked: &[&Identity], until_year: i32) -> String {
        let date = rcgen::date_time_ymd;
        let of = |one: &&Identity| RevokedCertParams {
            serial_number: SerialNumber::from(one.serial),
            revocation_time: date(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date(2020, 1, 1),
            next_update: date(until_year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(of).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A client that keeps what it needs to cut the next handshake short.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsClient {
    /// One that shows this certificate, or none, and asks for `localhost`.
    pub fn new(identity: Option<&Identity>, versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anything));
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Identity { der, key, .. }) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![CertificateDer::from(der.clone())], key).unwrap()
            }
        };
        Self { config: Arc::new(config), name: ServerName::try_from("localhost").unwrap() }
    }

    /// The same that speaks these protocols.
    pub fn speaking(mut self, protocols: &[&str]) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.alpn_protocols = protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
        self
    }

    /// The same that names another host, or none where that is an address.
    pub fn naming(mut self, name: &str) -> Self {
        self.name = ServerName::try_from(name.to_owned()).unwrap();
        self
    }

    /// A connection whose handshake is done, as far as this side can tell.
    pub fn connect(&self, address: &str) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let mut client = ClientConnection::new(Arc::clone(&self.config), self.name.clone()).unwrap();
        let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        while client.is_handshaking() {
            client.complete_io(&mut stream).map_err(|e| e.to_string())?;
        }
        Ok(StreamOwned::new(client, stream))
    }

    /// Sends a request with these lines of its header; answers the status, and whether the handshake was cut short.
    pub fn ask(&self, address: &str, path: &str, lines: &str) -> Result<(u16, bool), String> {
        let (text, is_short) = self.answer(address, path, lines)?;
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok((status.ok_or(text)?, is_short))
    }

    /// The same with the whole answer.
    pub fn answer(&self, address: &str, path: &str, lines: &str) -> Result<(String, bool), String> {
        let mut stream = self.connect(address)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let mut answer = Vec::new();
        // A connection that ends without a farewell has told all the same.
        let read = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let is_short = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        match read {
            _ if !text.is_empty() => Ok((text, is_short)),
            Err(e) => Err(e.to_string()),
            Ok(_) => Err("no answer".to_owned()),
        }
    }
}

/// Takes every certificate of a server.
#[derive(Debug)]
pub struct Anything;

impl ServerCertVerifier for Anything {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
