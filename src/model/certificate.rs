//! A certificate that HAProxy serves: where the operator keeps it, and the copy that HAProxy reads.

use super::Digest;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// The directory of the copies, beside haproxy.cfg.
pub const CERTIFICATES: &str = "certificates";
/// What follows another ending than `.pem`: `set ssl cert x.crt` would mean a part of the certificate `x`.
const PLAIN_END: &str = "~.pem";
/// Longest name of a copy; a longer path gets a digest instead.
const MAX_NAME: usize = 200;

/// One certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The copy, which is also HAProxy's name for it: see [`Certificate::copy_of`].
    pub path: Utf8PathBuf,
    /// The operator's file.
    pub source: Utf8PathBuf,
    /// Every file that it was read from: with the key, and what lies beside.
    pub read_from: Vec<Utf8PathBuf>,
    /// Of everything that HAProxy reads for it.
    pub digest: Digest,
    /// SHA-1 of the first certificate in 40 upper-case hexadecimal digits, as `show ssl cert` prints it.
    pub fingerprint: String,
    /// Common names of the certificates behind the first one, without those that issued themselves.
    pub chain: Vec<String>,
    /// The names that it is served for, in lower case: `api.example.com`, `*.example.com`.
    pub names: BTreeSet<String>,
    /// The kind of its key (`EC`, `RSA`): of one name, one certificate of each kind may be served.
    pub key_kind: String,
    /// It names an OCSP responder, and its issuer is not in the chain behind it: with `ocsp-update.mode on` HAProxy would not
    /// start. (It looks at `.issuer` only where a crt-list has the word.)
    pub lacks_issuer: bool,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// When it expires.
    pub not_after: Timestamp,
    /// Certificate, chain and key.
    pub pem: PrivatePem,
    /// What stands beside it and only a reload loads: the ending (`.ocsp`, `.issuer`, `.sctl`) and the content.
    pub extras: Vec<(&'static str, Arc<[u8]>)>,
}

/// A PEM text with a private key in it. Printing it in any way shows only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivatePem(Arc<str>);

impl PrivatePem {
    /// Wraps a text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text: for the admin socket or a file with mode 0640, never for a log, a diff or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivatePem(…)")
    }
}

impl Certificate {
    /// The copy of a file, below the directory of haproxy.cfg. Its name is the file's path, with `+` for each `/`: so
    /// the operator recognizes it, and [`Certificate::source_of`] reads it back.
    pub fn copy_of(source: &Utf8Path, directory: &Utf8Path) -> Utf8PathBuf {
        let mut name = String::new();
        for byte in source.as_str().trim_start_matches('/').bytes() {
            match byte {
                b'/' => name.push('+'),
                b'.' | b'_' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => name.push(char::from(byte)),
                // A crt-list knows no quotes.
                other => name += &format!("~{other:02x}"),
            }
        }
        if name.len() > MAX_NAME {
            name = format!("~{}", Digest::of(source.as_str()));
        }
        if !name.ends_with(".pem") {
            name += PLAIN_END;
        }
        directory.join(CERTIFICATES).join(name)
    }

    /// The operator's file behind a copy; the path itself where it is none.
    pub fn source_of(copy: &str) -> String {
        let name = match copy.rsplit_once('/') {
            Some((directory, name)) if directory.ends_with(&format!("/{CERTIFICATES}")) => name,
            _ => return copy.to_owned(),
        };
        let mut bytes = vec![b'/'];
        let mut rest = name.strip_suffix(PLAIN_END).unwrap_or(name).bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'+' => b'/',
                b'~' => {
                    let digits: Option<Vec<u8>> = [rest.next(), rest.next()].into_iter().collect();
                    let digits = digits.and_then(|digits| String::from_utf8(digits).ok());
                    let Some(byte) = digits.and_then(|digits| u8::from_str_radix(&digits, 16).ok()) else {
                        return copy.to_owned();
                    };
                    byte
                }
                plain => plain,
            });
        }
        let source = String::from_utf8(bytes).unwrap_or_default();
        let directory = Utf8Path::new(copy).parent().and_then(Utf8Path::parent).unwrap_or(Utf8Path::new("/"));
        if Self::copy_of(Utf8Path::new(&source), directory) == copy { source } else { copy.to_owned() }
    }

    /// The files that HAProxy reads: what follows the name of the copy, and the content.
    pub fn files(&self) -> impl Iterator<Item = (Utf8PathBuf, &[u8])> {
        let main = (self.path.clone(), self.pem.expose().as_bytes());
        let extras =
            self.extras.iter().map(|(end, bytes)| (Utf8PathBuf::from(format!("{}{end}", self.path)), &**bytes));
        std::iter::once(main).chain(extras)
    }

    /// **Units**: bytes that it has on its way over the admin socket, without the command.
    pub fn payload_bytes(&self) -> usize {
        self.pem.expose().len()
    }

    /// A name that both are served for, where clients cannot tell them apart by the kind of key.
    pub fn overlap<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        if self.key_kind != other.key_kind {
            return None;
        }
        self.names.intersection(&other.names).next().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{Certificate, PrivatePem};
    use camino::Utf8Path;

    #[test]
    fn a_copy_is_recognized_and_each_path_has_its_own() {
        let copy =
            |source: &str| Certificate::copy_of(Utf8Path::new(source), Utf8Path::new("/etc/haproxy")).into_string();
        assert_eq!(copy("/etc/hapilot/certs/api.pem"), "/etc/haproxy/certificates/etc+hapilot+certs+api.pem");
        assert_eq!(copy("/s/tls.crt"), "/etc/haproxy/certificates/s+tls.crt~.pem");
        let odd = "/a b/[x]+~ü.pem";
        assert_eq!(copy(odd), "/etc/haproxy/certificates/a~20b+~5bx~5d~2b~7e~c3~bc.pem");
        let long = format!("/{}", "x".repeat(300));
        for source in ["/etc/hapilot/certs/api.pem", odd, "/s/tls.crt", "/s/tls.crt.pem", "/s/api"] {
            assert_eq!(Certificate::source_of(&copy(source)), source);
        }
        for other in [copy(&long).as_str(), "/etc/certs/a.pem", "a.pem", "/x/certificates/a~zz"] {
            assert_eq!(Certificate::source_of(other), other);
        }
    }

    #[test]
    fn a_pem_text_does_not_print() {
        assert_eq!(format!("{:?}", PrivatePem::new("key")), "PrivatePem(…)");
    }
}
