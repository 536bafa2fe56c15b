//! Directories and small files in them.
//!
//! Called by `agent`, `api` and `cli`.

use super::rights::{self, Want};
use super::{fault, files};
use camino::{Utf8Path, Utf8PathBuf};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

/// A temporary directory whose name tells no process is left over after this.
const UNNAMED: std::time::Duration = std::time::Duration::from_secs(600);
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

/// Names in a directory that end in `suffix`, sorted; none where there is no such directory. Looked at are 10,000 entries.
///
/// # Errors
/// The directory cannot be read.
pub fn file_names(directory: &Utf8Path, suffix: &str) -> io::Result<Vec<String>> {
    file_names_among(directory, suffix, MAX_ENTRIES)
}

/// The same where a directory may have more entries: so many are looked at.
///
/// # Errors
/// As [`file_names`].
pub fn file_names_among(directory: &Utf8Path, suffix: &str, max_entries: usize) -> io::Result<Vec<String>> {
    fault::pass("directory.list", directory)
        .map_err(|e| io::Error::new(e.kind(), format!("could not list {directory}: {e}")))?;
    let entries = match fs_err::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(rights::told(e, directory, Want::Read)),
    };
    let mut names = Vec::new();
    for entry in entries.take(max_entries) {
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
        .map_err(|e| {
            let e = rights::told(e, path, Want::Replace);
            let barrier = path.ancestors().find(|above| above.exists()).filter(|above| !above.is_dir());
            let why = barrier.map_or_else(|| e.to_string(), |barrier| format!("{barrier} is no directory"));
            io::Error::new(e.kind(), format!("could not make the directory {path}: {why}"))
        })
}

/// Makes a temporary directory of mode 0700 that goes with the value: below `directory`, or among the system's
/// temporary files where that is not there or not writable. [`sweep`] finds what a death left of it.
///
/// # Errors
/// There is no room, or no right to.
pub fn temporary(directory: &Utf8Path, prefix: &str) -> io::Result<tempfile::TempDir> {
    fault::pass("directory.temporary", prefix)?;
    let prefix = format!("{prefix}{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).permissions(std::fs::Permissions::from_mode(0o700));
    builder.tempdir_in(directory).or_else(|_| builder.tempdir())
}

/// Removes temporary directories of this user that dead processes left, there and among the system's temporary files,
/// and answers which.
pub fn sweep(directory: &Utf8Path, prefix: &str) -> Vec<Utf8PathBuf> {
    let own = super::process::name_of(std::process::id()).ok().flatten();
    let user = nix::unistd::geteuid().as_raw();
    let is_left = |path: &Utf8Path| {
        let Some(rest) = path.file_name().and_then(|name| name.strip_prefix(prefix)) else { return false };
        // Never through a link: others may write to the system's directory.
        let Ok(metadata) = std::fs::symlink_metadata(path) else { return false };
        let age = metadata.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        let is_dead = match rest.split_once('-').and_then(|(pid, _)| pid.parse().ok()) {
            Some(pid) if pid == std::process::id() => false,
            // Another process may have its number by now; a young one may be hapilot under another name.
            Some(pid) => super::process::name_of(pid).is_ok_and(|name| name.is_none() || name != own && age > UNNAMED),
            None => age > UNNAMED,
        };
        metadata.is_dir() && metadata.uid() == user && is_dead
    };
    let system = Utf8PathBuf::from_path_buf(std::env::temp_dir()).ok();
    let mut removed = Vec::new();
    for directory in std::iter::once(directory.to_owned()).chain(system) {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        let names = entries.take(MAX_ENTRIES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let left: Vec<_> = names.map(|name| directory.join(name)).filter(|path| is_left(path)).collect();
        removed.extend(left.into_iter().filter(|path| std::fs::remove_dir_all(path).is_ok()));
    }
    removed
}

/// Writes a new file with mode 0600, without the ceremony of [`files::replace_file`]: for a place of our own that
/// nobody else reads yet.
///
/// # Errors
/// It exists already, or cannot be written.
pub fn write_private(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let told = |e: io::Error| {
        let e = rights::told(e, path, Want::Replace);
        io::Error::new(e.kind(), format!("could not write {path}: {e}"))
    };
    fault::pass("private.create", path).map_err(told)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(told)?;
    fault::write_all("private.write", path, &mut file, bytes).map_err(told)
}

/// Removes the socket that a dead process left; nothing may be there.
///
/// # Errors
/// Something else is there, or somebody listens on it: neither is ours to remove.
pub fn remove_dead_socket(path: &Utf8Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io::Error::new(e.kind(), format!("could not look at {path}: {e}"))),
    };
    let kept = |why: &str| io::Error::new(io::ErrorKind::AlreadyExists, format!("{path} {why}; it is left as it is"));
    if !metadata.file_type().is_socket() {
        return Err(kept("is there and is no socket"));
    }
    match UnixStream::connect(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => remove_file(path),
        _ => Err(kept("is a socket on which somebody listens")),
    }
}

/// Listens on a Unix socket with this mode. Replaces the socket that a dead process left, and nothing else; makes the
/// directory where there is none.
///
/// # Errors
/// The path is too long (107 bytes), or the directory may not be written; or what is there is not ours to replace.
pub fn bind_unix(path: &Utf8Path, mode: u32) -> io::Result<UnixListener> {
    create_directory(&files::directory_of(path), 0o755)?;
    remove_dead_socket(path)?;
    let listener = UnixListener::bind(path).map_err(|e| rights::told(e, path, Want::Replace))?;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::{
        bind_unix, create_directory, file_names, files_at, read_if_exists, remove_file, sweep, temporary, write_private,
    };
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
    fn what_a_dead_process_left_is_swept_and_nothing_else() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        let living = temporary(dir, "sweep-").unwrap();
        // No process has this number: it is above every limit.
        for name in ["sweep-4194305-x", "other-4194305-x", "sweep-fresh"] {
            create_directory(&dir.join(name), 0o700).unwrap();
        }
        write_private(&dir.join("sweep-4194305-x/keys.map"), b"k").unwrap();
        fs_err::os::unix::fs::symlink("other-4194305-x", dir.join("sweep-4194305-link")).unwrap();
        assert_eq!(sweep(dir, "sweep-"), [dir.join("sweep-4194305-x")]);
        assert!(living.path().exists() && dir.join("other-4194305-x").exists() && dir.join("sweep-fresh").exists());
        assert!(dir.join("sweep-4194305-link").is_symlink());
    }

    #[test]
    fn only_the_socket_of_a_dead_process_gives_way_to_a_new_one() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        write_private(&dir.join("file"), b"somebody's").unwrap();
        fs_err::os::unix::fs::symlink("file", dir.join("link")).unwrap();
        create_directory(&dir.join("directory"), 0o700).unwrap();
        for name in ["file", "link", "directory"] {
            let error = bind_unix(&dir.join(name), 0o600).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("is no socket"), "{error}");
        }
        assert_eq!(fs_err::read(dir.join("file")).unwrap(), b"somebody's");
        assert!(dir.join("link").is_symlink() && dir.join("directory").is_dir());
        let listener = bind_unix(&dir.join("socket"), 0o600).unwrap();
        let error = bind_unix(&dir.join("socket"), 0o600).unwrap_err().to_string();
        assert!(error.contains("somebody listens"), "{error}");
        drop(listener);
        bind_unix(&dir.join("socket"), 0o600).unwrap();
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
