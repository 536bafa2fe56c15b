//! A certificate file that HAProxy serves from, without its key.

use super::Digest;
use camino::Utf8PathBuf;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// What one PEM file holds, as far as it may be known outside of it: the private key never leaves the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The file, which is also HAProxy's name for it.
    pub path: Utf8PathBuf,
    /// Of everything that HAProxy reads for it: the file, and those beside it with the key or an OCSP response.
    pub digest: Digest,
    /// SHA-1 of the first certificate in 40 upper-case hexadecimal digits, as `show ssl cert` prints it.
    pub fingerprint: String,
    /// Common names of the certificates behind the first one, without those that issued themselves.
    pub chain: Vec<String>,
    /// The names that it is served for, in lower case: `api.example.com`, `*.example.com`.
    pub names: BTreeSet<String>,
    /// The kind of its key (`EC`, `RSA`): of one name, one certificate of each kind may be served.
    pub key_kind: String,
    /// When it expires.
    pub not_after: Timestamp,
    /// **Units**: bytes that it has on its way over the admin socket, without the command.
    pub payload_bytes: usize,
    /// Files beside it (`.ocsp`, `.issuer`, `.sctl`) that only a reload loads.
    pub has_extras: bool,
}

impl Certificate {
    /// A file that cannot be read now. HAProxy may be serving what it read there before.
    pub fn unread(path: Utf8PathBuf) -> Self {
        Self {
            path,
            digest: Digest::of(""),
            fingerprint: String::new(),
            chain: vec![],
            names: BTreeSet::new(),
            key_kind: String::new(),
            not_after: Timestamp::MAX,
            payload_bytes: 0,
            has_extras: false,
        }
    }

    /// Whether it was read: see [`Self::unread`].
    pub fn is_read(&self) -> bool {
        !self.fingerprint.is_empty()
    }

    /// A name that both are served for, where clients cannot tell them apart by the kind of key.
    pub fn overlap<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        if self.key_kind != other.key_kind {
            return None;
        }
        self.names.intersection(&other.names).next().map(String::as_str)
    }
}
