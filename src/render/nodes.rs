//! How the nodes of a cluster tell each other the counters of their stick-tables: HAProxy to HAProxy, over TLS, by certificates
//! that only who has the key of the heartbeat can make.
//!
//! The certificates are the same on all nodes as long as the key is: an edit of anything else is no reload. Another key is one, since
//! HAProxy reads them at its start alone. Called by `gather`, and by the context for the section `peers`.

use super::RenderError;
use super::maps::secret;
use crate::config::{Config, Heartbeat};
use crate::desired::Desired;
use crate::model::{BindHost, CERTIFICATES, Digest, Name, PrivatePem, Secret};
use aws_lc_rs::hkdf::{self, HKDF_SHA256, Salt};
use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519, SerialNumber,
    date_time_ymd,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Certificate and key of a node, below the directory of haproxy.cfg.
const OWN: &str = "hapilot-nodes.pem";
/// Who must have signed those of the others.
const AUTHORITY: &str = "hapilot-nodes-ca.pem";
/// Connections of other nodes at a time: two for each of the sixteen that a file may name. Who is no node takes one for the
/// time of a handshake.
pub(super) const MAX_CONNECTIONS: u32 = 64;
/// Of an Ed25519 key.
const SEED_BYTES: usize = 32;

/// The other nodes, where counters are shared with any: the file names them, and a key for the heartbeat.
pub(super) fn others(config: &Config) -> Vec<(&Name, SocketAddr)> {
    let Some(Heartbeat { port, .. }) = config.node.heartbeat else { return vec![] };
    let others = config.node.peers.iter().filter(|(name, _)| **name != config.node.name.value);
    others.map(|(name, ip)| (name, SocketAddr::new(ip.value, port))).collect()
}

/// Where this node listens for them, in HAProxy's words.
pub(super) fn own_address(config: &Config) -> String {
    let Some(bind) = config.node.bind() else { return String::new() };
    let both = if bind.host == BindHost::AnyBoth { " v4v6" } else { "" };
    format!("{bind}{both}")
}

/// The paths of the certificate with its key, and of the authority.
pub(super) fn paths() -> [String; 2] {
    [OWN, AUTHORITY].map(|name| format!("{CERTIFICATES}/{name}"))
}

/// The files, where the rendered text names them.
///
/// # Errors
/// The key was not read.
pub(super) fn used(desired: &Desired, haproxy_cfg: &str) -> Result<BTreeMap<String, PrivatePem>, RenderError> {
    let [own, authority] = paths();
    let Some(heartbeat) = desired.config.node.heartbeat.as_ref().filter(|_| haproxy_cfg.contains(&own)) else {
        return Ok(BTreeMap::new());
    };
    let key = secret(desired, &heartbeat.key)?;
    let made = make(key).map_err(|e| RenderError::Value {
        origin: heartbeat.key.origin,
        message: format!("no certificate can be made of the heartbeat's key: {e}"),
    })?;
    Ok([own, authority].into_iter().zip(made).collect())
}

/// What tells these certificates from those of another key.
pub(super) fn mark(desired: &Desired) -> Option<String> {
    let key = desired.secrets.get(&desired.config.node.heartbeat.as_ref()?.key.value)?;
    let [_, authority] = make(key).ok()?;
    Some(Digest::of(authority.expose()).short())
}

/// Certificate with key, and authority, in PEM.
fn make(key: &Secret) -> Result<[PrivatePem; 2], rcgen::Error> {
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(1));
        // Whoever changes the key changes them.
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 12, 31));
        params
    };
    let mut authority = params("hapilot nodes");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, derived(key, "authority")?)?;
    let own_key = derived(key, "node")?;
    let own = params("hapilot node").signed_by(&own_key, &authority)?;
    let own = own.pem() + &own_key.serialize_pem();
    Ok([PrivatePem::new(&own), PrivatePem::new(&authority.pem())])
}

/// A private key that follows from the shared one, and tells nothing of it.
fn derived(key: &Secret, purpose: &str) -> Result<KeyPair, rcgen::Error> {
    let info = [b"HAProxy's counters: ".as_slice(), purpose.as_bytes()];
    let mut seed = [0; SEED_BYTES];
    let salt = Salt::new(HKDF_SHA256, b"hapilot1").extract(key.expose().as_bytes());
    let derived = salt.expand(&info, Seed).and_then(|derived| derived.fill(&mut seed));
    let pair =
        derived.and_then(|()| Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| aws_lc_rs::error::Unspecified));
    let der = pair.and_then(|pair| pair.to_pkcs8v1()).map_err(|_| rcgen::Error::KeyGenerationUnavailable)?;
    KeyPair::from_pkcs8_der_and_sign_algo(&der.as_ref().into(), &PKCS_ED25519)
}

struct Seed;

impl hkdf::KeyType for Seed {
    fn len(&self) -> usize {
        SEED_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_makes_the_same_certificates_and_another_one_others() {
        let made = |key: &str| make(&Secret::new(key.to_owned()).unwrap()).unwrap();
        let [own, authority] = made("a key of some length");
        assert_eq!([own.clone(), authority.clone()], made("a key of some length"));
        assert!(own.expose().contains("PRIVATE KEY") && !authority.expose().contains("PRIVATE"));
        let [other, stranger] = made("a key of another length");
        assert!(own != other && authority != stranger);
    }
}
