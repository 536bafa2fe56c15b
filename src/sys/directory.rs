//! Directories and small files in them.
//!
//! Called by `agent`, `api` and `cli`.

use super::{fault, files};
use camino::{Utf8Path, Utf8PathBuf};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;

/// Most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Reads a file of at most `max_bytes`; `None` where there is none.
///
/// # Errors
/// As [`files::read_limited`].
pub fn read_if_exists(path: &Utf8Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    match files::read_limited(path, max_bytes) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Names in a directory that end in `suffix`, sorted; none where there is no such directory.
///
/// # Errors
/// The directory cannot be read.
pub fn file_names(directory: &Utf8Path, suffix: &str) -> io::Result<Vec<String>> {
    fault::pass("directory.list", directory)
        .map_err(|e| io::Error::new(e.kind(), format!("could not list {directory}: {e}")))?;
    let entries = match fs_err::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        // Names that are not UTF-8 are not ours. A temporary file beside a map begins with a dot.
        if let Ok(name) = entry?.file_name().into_string()
            && name.ends_with(suffix)
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The file itself, or the regular files directly in a directory, sorted by name. In a directory, names that begin with
/// a dot do not count.
///
/// # Errors
/// It is missing or unreadable, or the directory has more than 10,000 entries.
pub fn files_at(path: &Utf8Path) -> io::Result<Vec<Utf8PathBuf>> {
    if !fs_err::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let names = file_names(path, "")?;
    if names.len() >= MAX_ENTRIES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{path} has too many entries: {MAX_ENTRIES}")));
    }
    // Follows links: in Kubernetes every file is one.
    let files = names.into_iter().map(|name| path.join(name));
    files
        .filter_map(|file| match fs_err::metadata(&file) {
            Ok(metadata) => metadata.is_file().then_some(Ok(file)),
            Err(e) => Some(Err(e)),
        })
        .collect()
}

/// Removes a file; it may be gone already.
///
/// # Errors
/// It is there and cannot be removed.
pub fn remove_file(path: &Utf8Path) -> io::Result<()> {
    fault::pass("files.remove", path).map_err(|e| io::Error::new(e.kind(), format!("could not remove {path}: {e}")))?;
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a directory and those above it; one that is there keeps its mode.
///
/// # Errors
/// It cannot be made.
pub fn create_directory(path: &Utf8Path, mode: u32) -> io::Result<()> {
    fault::pass("directory.create", path)
        .and_then(|()| std::fs::DirBuilder::new().recursive(true).mode(mode).create(path))
        .map_err(|e| io::Error::new(e.kind(), format!("could not make the directory {path}: {e}")))
}

/// Makes a temporary directory that goes with the value.
///
/// # Errors
/// There is no room, or no right to.
pub fn temporary(prefix: &str) -> io::Result<tempfile::TempDir> {
    fault::pass("directory.temporary", prefix)?;
    tempfile::Builder::new().prefix(prefix).tempdir()
}

/// Writes a new file with mode 0600, without the ceremony of [`files::replace_file`]: for a place of our own that
/// nobody else reads yet.
///
/// # Errors
/// It exists already, or cannot be written.
pub fn write_private(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let told = |e: io::Error| io::Error::new(e.kind(), format!("could not write {path}: {e}"));
    fault::pass("private.create", path).map_err(told)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(told)?;
    fault::write_all("private.write", path, &mut file, bytes).map_err(told)
}

/// Listens on a Unix socket with this mode. Replaces what a dead process left; makes the directory where there is
/// none.
///
/// # Errors
/// The path is too long (107 bytes), or the directory may not be written.
pub fn bind_unix(path: &Utf8Path, mode: u32) -> io::Result<UnixListener> {
    create_directory(&files::directory_of(path), 0o755)?;
    remove_file(path)?;
    let listener = UnixListener::bind(path)?;
    fs_err::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::{create_directory, file_names, files_at, read_if_exists, remove_file, write_private};
    use camino::Utf8Path;

    #[test]
    fn what_is_not_there_is_no_error() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        assert_eq!(read_if_exists(&dir.join("none"), 10).unwrap(), None);
        assert!(file_names(&dir.join("none"), ".map").unwrap().is_empty());
        remove_file(&dir.join("none")).unwrap();
        create_directory(&dir.join("a/b"), 0o700).unwrap();
        write_private(&dir.join("a/b/x.map"), b"1").unwrap();
        assert!(write_private(&dir.join("a/b/x.map"), b"2").is_err());
        assert_eq!(file_names(&dir.join("a/b"), ".map").unwrap(), ["x.map"]);
    }

    #[test]
    fn a_path_is_a_file_or_all_plain_files_of_a_directory() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        for name in ["b.pem", "a.pem", ".hidden"] {
            write_private(&dir.join(name), b"1").unwrap();
        }
        create_directory(&dir.join("sub"), 0o700).unwrap();
        fs_err::os::unix::fs::symlink("a.pem", dir.join("c.pem")).unwrap();
        assert_eq!(files_at(dir).unwrap(), ["a.pem", "b.pem", "c.pem"].map(|name| dir.join(name)));
        assert_eq!(files_at(&dir.join("a.pem")).unwrap(), [dir.join("a.pem")]);
        assert!(files_at(&dir.join("none")).unwrap_err().to_string().contains("none"));
    }
}
