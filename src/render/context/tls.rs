//! Mozilla's TLS profiles in OpenSSL's words.
//!
//! **Source**: Mozilla, Server Side TLS, guideline 5.7, generated for HAProxy.

use super::ContextMaker;
use crate::config::TlsProfile;
use crate::render::value::ContextMap;
use tera::Value;

const SUITES: &str = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
const CURVES: &str = "X25519:prime256v1:secp384r1";
const INTERMEDIATE: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
     ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
     ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
     DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305";
/// OpenSSL 3 speaks TLS 1.0 and 1.1 only at security level 0.
const OLD: &str = "@SECLEVEL=0:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
     ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
     ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
     DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305:\
     ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:\
     ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:\
     DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:\
     AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA";

impl ContextMaker<'_> {
    pub(super) fn tls(&mut self) -> Value {
        let config = &self.desired.config;
        let profile = &config.tls.profile;
        let (name, min_version, ciphers, dh_bits) = match profile.value {
            TlsProfile::Modern => ("modern", "TLSv1.3", None, None),
            TlsProfile::Intermediate => ("intermediate", "TLSv1.2", Some(INTERMEDIATE), Some("2048")),
            TlsProfile::Old => ("old", "TLSv1.0", Some(OLD), Some("1024")),
        };
        let is_used = config.frontends.iter().any(|frontend| !frontend.certificates.is_empty());
        ContextMap::default()
            .with("is_used", is_used)
            .with("ocsp", config.tls.ocsp && self.target.asks_ocsp())
            .with("has_quic", config.frontends.iter().any(|frontend| frontend.http3) && self.target.has_quic())
            .with("asks_clients", config.frontends.iter().any(|frontend| frontend.client_certificates.is_some()))
            .with("profile", self.marks.text(name, profile.origin))
            .with("min_version", self.marks.text(min_version, profile.origin))
            .with("ciphers", ciphers.map(|ciphers| self.marks.text(ciphers, profile.origin)))
            .with("ciphersuites", SUITES)
            .with("curves", CURVES)
            .with("dh_bits", dh_bits)
            .with("prefers_client_ciphers", profile.value != TlsProfile::Old)
            .into()
    }
}
