//! What the certificates of clients are judged by: authorities, and lists of what they revoked.

use camino::Utf8PathBuf;
use jiff::Timestamp;
use std::sync::Arc;

/// The directory of what HAProxy reads of them, beside haproxy.cfg.
pub const TRUST: &str = "client-trust";

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustKind {
    /// Certificates of authorities.
    Authorities,
    /// Lists of revoked certificates.
    Revoked,
}

/// A file of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustFile {
    /// The file.
    pub source: Utf8PathBuf,
    /// What it holds.
    pub kind: TrustKind,
    /// The PEM blocks of that kind alone, line by line.
    pub pem: Arc<str>,
    /// What they are, at least one.
    pub items: Vec<TrustItem>,
}

/// One authority, or one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustItem {
    /// The authority: its subject, or the issuer of the list, in DER.
    pub authority: Vec<u8>,
    /// The same for people.
    pub name: String,
    /// How the running HAProxy tells it from others: of an authority the SHA-1, of a list when it was made and how many it
    /// revokes.
    pub mark: String,
    /// When a list was made.
    pub made: Option<Timestamp>,
    /// Until when it is good; a list may not say.
    pub not_after: Option<Timestamp>,
}

impl TrustFile {
    /// What of it is good no longer.
    pub fn outdated(&self, now: Timestamp) -> impl Iterator<Item = &TrustItem> {
        self.items.iter().filter(move |item| item.not_after.is_some_and(|end| end <= now))
    }
}
