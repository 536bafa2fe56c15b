//! TLS towards clients: `[tls]`, and what a frontend wants to see of them.

use crate::model::{Sourced, TrustKind};
use camino::Utf8PathBuf;
use std::time::Duration;

/// `[tls]`
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// `profile`; default intermediate.
    pub profile: Sourced<TlsProfile>,
    /// `certificate_expiry`, 1 h to 24 d: a frontend's certificate that is valid for less is a problem; default 14 d.
    pub certificate_expiry: Sourced<Duration>,
    /// `ocsp`: HAProxy staples what the authorities say of certificates; default false.
    pub ocsp: bool,
}

/// Mozilla's server-side TLS profiles.
///
/// **Source**: Mozilla, Server Side TLS, guideline 5.7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.3 only.
    Modern,
    /// TLS 1.2 with forward secrecy, and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.0 and up.
    Old,
}

/// `client_certificates` of a frontend.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientTrust {
    /// `ca`: PEM files of authorities, at least one.
    pub ca: Vec<Sourced<Utf8PathBuf>>,
    /// `required`: without one there is no handshake; default true.
    pub required: bool,
    /// `revoked`: PEM files of lists; empty: nothing is looked up.
    pub revoked: Vec<Sourced<Utf8PathBuf>>,
}

impl ClientTrust {
    /// Its files, each with what it holds.
    pub fn files(&self) -> impl Iterator<Item = (TrustKind, &Sourced<Utf8PathBuf>)> {
        let ca = self.ca.iter().map(|path| (TrustKind::Authorities, path));
        ca.chain(self.revoked.iter().map(|path| (TrustKind::Revoked, path)))
    }
}
