//! Fingerprints of files and directories, to notice that a certificate was renewed.
//!
//! Refuses to know what a certificate is. Called by `agent` and `cli` when they gather what the rendering needs.

use super::files;
use crate::model::Digest;
use camino::Utf8Path;
use std::io;

/// Most files in a directory that is fingerprinted.
const MAX_FILES: usize = 10_000;
/// Longest single file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The digest of a file's content, or of the names and contents of all files directly in a directory.
///
/// In a directory, names that begin with a dot and sub-directories do not count, as HAProxy's `crt` skips them too.
///
/// # Errors
/// Something is missing or unreadable, a file is longer than 1 MiB, or there are more than 10,000 of them.
pub fn digest_path(path: &Utf8Path) -> io::Result<Digest> {
    if !fs_err::metadata(path)?.is_dir() {
        return Ok(Digest::of(files::read_limited(path, MAX_FILE_BYTES)?));
    }
    let mut names = Vec::new();
    for entry in path.read_dir_utf8().map_err(|e| io::Error::new(e.kind(), format!("could not list {path}: {e}")))? {
        let entry = entry.map_err(|e| io::Error::new(e.kind(), format!("could not list {path}: {e}")))?;
        let name = entry.file_name();
        // Follows links: in Kubernetes every file is one.
        if !name.starts_with('.') && fs_err::metadata(entry.path())?.is_file() {
            if names.len() == MAX_FILES {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{path} holds more than {MAX_FILES} files"),
                ));
            }
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    let mut summary = String::new();
    for name in names {
        let content = Digest::of(files::read_limited(&path.join(&name), MAX_FILE_BYTES)?);
        // A file name cannot hold a slash, so that the lines are unambiguous.
        summary.push_str(&format!("{content}/{name}/"));
    }
    Ok(Digest::of(summary))
}

#[cfg(test)]
mod tests {
    use super::digest_path;
    use crate::sys::files::replace_file;
    use camino::Utf8Path;

    #[test]
    fn a_directory_changes_with_names_and_contents_but_not_with_hidden_files() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        let empty = digest_path(dir).unwrap();
        replace_file(&dir.join("a.pem"), b"1", 0o600).unwrap();
        let one = digest_path(dir).unwrap();
        assert_ne!(empty, one);
        replace_file(&dir.join(".hidden"), b"1", 0o600).unwrap();
        fs_err::create_dir(dir.join("sub")).unwrap();
        assert_eq!(one, digest_path(dir).unwrap());
        replace_file(&dir.join("a.pem"), b"2", 0o600).unwrap();
        assert_ne!(one, digest_path(dir).unwrap());
        fs_err::rename(dir.join("a.pem"), dir.join("b.pem")).unwrap();
        let renamed = digest_path(dir).unwrap();
        replace_file(&dir.join("b.pem"), b"1", 0o600).unwrap();
        assert_ne!(one, digest_path(dir).unwrap());
        assert_ne!(one, renamed);
    }

    #[test]
    fn a_missing_path_is_named() {
        let error = digest_path("/nonexistent/cert.pem".into()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/cert.pem"), "{error}");
    }
}
