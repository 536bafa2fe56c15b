//! Which files of a directory are certificates, and where their keys lie: the layouts of those who renew them.
//!
//! Knows certbot and dehydrated (`fullchain.pem`, `privkey.pem`), Kubernetes (`tls.crt`, `tls.key`), acme.sh
//! (`fullchain.cer`, `NAME.key`), lego and Caddy (`NAME.crt`, `NAME.key`), and plain files with their key inside or
//! beside them. Judges by names only; what a file holds, `pem` judges. Called by `agent`.

use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::io;

/// What stands beside a certificate under its full name.
pub(super) const EXTRAS: [&str; 3] = [".ocsp", ".issuer", ".sctl"];
/// Endings of files that are no certificates: keys, notes, requests, archives, and what editors and packages leave.
const OTHER_ENDINGS: [&str; 22] = [
    ".key",
    ".ocsp",
    ".issuer",
    ".sctl",
    ".issuer.crt",
    ".md",
    ".txt",
    ".conf",
    ".json",
    ".csr",
    ".pfx",
    ".p12",
    ".sh",
    ".yml",
    ".yaml",
    ".toml",
    ".bak",
    ".old",
    ".tmp",
    ".swp",
    ".rpmsave",
    "~",
];
/// Names of keys, and of parts of a certificate whose whole stands beside them.
const PARTS: [&str; 6] = ["privkey.pem", "cert.pem", "chain.pem", "ca.crt", "ca.cer", "ca.pem"];

/// The certificate files at a path: itself, or those directly in the directory, in the order of their names. Where a
/// directory holds none of its own, those in its directories count: certbot's `live`.
///
/// # Errors
/// It is missing or unreadable, or has too many entries.
pub fn certificate_files(path: &Utf8Path) -> io::Result<Vec<Utf8PathBuf>> {
    let found = std::fs::metadata(path).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))?;
    if !found.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let own = certificates_of(sys::directory::files_at(path)?);
    if !own.is_empty() {
        return Ok(own);
    }
    let names = sys::directory::file_names(path, "")?;
    let directories = names.into_iter().map(|name| path.join(name)).filter(|path| path.is_dir());
    let mut below = Vec::new();
    for directory in directories {
        below.extend(certificates_of(sys::directory::files_at(&directory)?));
    }
    Ok(below)
}

/// Those that may be certificates of their own.
fn certificates_of(files: Vec<Utf8PathBuf>) -> Vec<Utf8PathBuf> {
    let has = |name: &str| files.iter().any(|file| file.file_name() == Some(name));
    let has_whole = has("fullchain.pem") && has("privkey.pem");
    let has_acme = has("fullchain.cer");
    let has_kubernetes = has("tls.crt") && has("tls.key");
    let is_certificate = |file: &&Utf8PathBuf| {
        let name = file.file_name().unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        let is_other = lower == "readme"
            || OTHER_ENDINGS.iter().any(|end| lower.ends_with(end))
            || lower.contains(".dpkg-")
            // dehydrated keeps the older ones beside: cert-1700000000.pem.
            || has_whole && (PARTS.contains(&name) || is_numbered(name))
            || has_kubernetes && PARTS.contains(&name)
            || has_acme && name != "fullchain.cer" && lower.ends_with(".cer");
        !is_other
    };
    files.iter().filter(is_certificate).cloned().collect()
}

/// `fullchain-1700000000.pem`, `privkey1.pem`
fn is_numbered(name: &str) -> bool {
    let stem = name.strip_suffix(".pem").unwrap_or(name);
    let kinds = ["fullchain", "privkey", "cert", "chain"];
    kinds.iter().filter_map(|kind| stem.strip_prefix(kind)).any(|rest| {
        let digits = rest.trim_start_matches('-');
        !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
    })
}

/// Whether a file with this name is meant to be a certificate, whatever it holds.
pub(super) fn is_called_certificate(path: &Utf8Path) -> bool {
    matches!(path.extension(), Some("pem" | "crt" | "cer" | "cert"))
}

/// Where the key of a certificate may lie that does not hold it itself, the likeliest first.
pub(super) fn key_files(path: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut keys = vec![Utf8PathBuf::from(format!("{path}.key"))];
    if path.extension().is_some() {
        keys.push(path.with_extension("key"));
    }
    let name = path.file_name().unwrap_or_default();
    for whole in ["fullchain", "cert"] {
        if let Some(rest) = name.strip_prefix(whole) {
            keys.push(path.with_file_name(format!("privkey{rest}")));
        }
    }
    if name == "fullchain.cer" {
        let others = path.parent().and_then(|directory| sys::directory::files_at(directory).ok()).unwrap_or_default();
        let mut own = others.into_iter().filter(|file| file.extension() == Some("key"));
        if let (Some(only), None) = (own.next(), own.next()) {
            keys.push(only);
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::{certificate_files, key_files};
    use crate::sys::directory::{create_directory, write_private};
    use camino::{Utf8Path, Utf8PathBuf};

    #[track_caller]
    fn check(files: &[&str], expected: &[&str]) {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        for file in files {
            create_directory(&crate::sys::files::directory_of(&dir.join(file)), 0o700).unwrap();
            write_private(&dir.join(file), b"1").unwrap();
        }
        let expected: Vec<Utf8PathBuf> = expected.iter().map(|name| dir.join(name)).collect();
        assert_eq!(certificate_files(dir).unwrap(), expected, "{files:?}");
    }

    #[test]
    fn the_layouts_of_those_who_renew_are_taken_as_they_are() {
        check(&["README", "cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"], &["fullchain.pem"]);
        check(
            &[
                "cert-17.pem",
                "cert.pem",
                "chain-17.pem",
                "fullchain-17.pem",
                "fullchain.pem",
                "privkey-17.pem",
                "privkey.pem",
            ],
            &["fullchain.pem"],
        );
        check(&["ca.crt", "tls.crt", "tls.key"], &["tls.crt"]);
        check(&["a.cer", "a.conf", "a.csr", "a.csr.conf", "a.key", "ca.cer", "fullchain.cer"], &["fullchain.cer"]);
        check(&["a.crt", "a.issuer.crt", "a.json", "a.key", "b.crt", "b.key"], &["a.crt", "b.crt"]);
        check(
            &["README", "a/README", "a/fullchain.pem", "a/privkey.pem", "b/tls.crt", "b/tls.key"],
            &["a/fullchain.pem", "b/tls.crt"],
        );
        // A directory of one's own stays what it was.
        check(&["a.pem", "a.pem.ocsp", "b.pem", "b.pem.key", "old/c.pem"], &["a.pem", "b.pem"]);
        check(
            &["api.example.com", "fullchain.pem", "fullchain.pem.key", "x.pem.bak"],
            &["api.example.com", "fullchain.pem"],
        );
    }

    #[test]
    fn a_key_is_looked_for_where_it_is_put() {
        let found = |path: &str| key_files(Utf8Path::new(path)).into_iter().map(String::from).collect::<Vec<_>>();
        assert!(found("/l/a/fullchain.pem").contains(&"/l/a/privkey.pem".to_owned()));
        assert!(found("/archive/a/fullchain3.pem").contains(&"/archive/a/privkey3.pem".to_owned()));
        assert!(found("/s/tls.crt").contains(&"/s/tls.key".to_owned()));
        assert_eq!(found("/s/api"), ["/s/api.key"]);
    }
}
