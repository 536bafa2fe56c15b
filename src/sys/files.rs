//! Files: replaced whole or not at all, read within a limit, kept beside before they are replaced.
//!
//! Refuses to know what is in them. Called by `store`, by the adapters and by `agent`.

use super::fault;
use super::rights::{self, Want};
use super::writes::Write;
use camino::{Utf8Path, Utf8PathBuf};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};

/// What stands behind the name in the name of a file that is to replace it.
const STAGED: &str = ".hapilot-";
/// Likewise of what a file with secrets was, while it is being replaced.
const FORMER: &str = ".hapilot-before";
/// Opening never waits.
const NONBLOCK: i32 = nix::fcntl::OFlag::O_NONBLOCK.bits();

/// Replaces a file so that at any moment, a crash included, its path shows either the old content or the new one.
///
/// The content goes to a new file in the same directory, that file is given its mode and the owner and group of the
/// file that it replaces (as far as this process may), is synced, renamed over the path, and the directory is synced.
/// A symbolic link stays one: what it points at is replaced.
///
/// **Units**: `mode` as for chmod, `0o640`.
///
/// # Errors
/// Each says which path and what was being done; the old content is still there.
///
/// **Source**: invariant I2.
pub fn replace_file(path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_stamped(path, bytes, mode).map(drop)
}

/// The same for a file of our own: a symbolic link in its place goes, and what it points at stays as it is.
///
/// # Errors
/// As [`replace_file`].
pub fn replace_own_file(path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_at(path.to_owned(), bytes, mode, || true).map(drop)
}

/// The same as [`replace_file`], unless somebody else has written the file meanwhile: that is asked when all is ready but the rename.
///
/// # Errors
/// As [`replace_file`]; `is_as_before` says no, and the file is as somebody else has left it.
pub fn replace_unchanged(
    path: &Utf8Path,
    bytes: &[u8],
    mode: u32,
    is_as_before: impl FnOnce() -> bool,
) -> io::Result<()> {
    replace_where(path, bytes, mode, is_as_before).map(drop)
}

/// The same; answers the stamp of what was written, `None` where somebody else has written the file since.
///
/// # Errors
/// As [`replace_file`].
pub fn replace_stamped(path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<Option<Stamp>> {
    replace_where(path, bytes, mode, || true)
}

fn replace_where(
    path: &Utf8Path,
    bytes: &[u8],
    mode: u32,
    is_as_before: impl FnOnce() -> bool,
) -> io::Result<Option<Stamp>> {
    replace_at(link_target(path), bytes, mode, is_as_before)
}

fn replace_at(
    path: Utf8PathBuf,
    bytes: &[u8],
    mode: u32,
    is_as_before: impl FnOnce() -> bool,
) -> io::Result<Option<Stamp>> {
    let _write = Write::of(&path);
    let directory = directory_of(&path);
    let name = path.file_name().ok_or_else(|| told("replace", &path, io::ErrorKind::InvalidInput.into()))?;
    let mut staged = fault::pass("files.create", &path)
        .and_then(|()| tempfile::Builder::new().prefix(&format!(".{name}{STAGED}")).tempfile_in(&directory))
        .map_err(|e| told("create a temporary file beside", &path, e))?;
    fault::write_all("files.write", &path, staged.as_file_mut(), bytes)
        .map_err(|e| told("write the temporary file beside", &path, e))?;
    if let Ok(old) = fs_err::metadata(&path) {
        keep_owner(staged.as_file(), &old).map_err(|e| told("keep the owner of", &path, e))?;
    }
    fault::pass("files.mode", &path)
        .and_then(|()| staged.as_file().set_permissions(std::fs::Permissions::from_mode(mode)))
        .map_err(|e| told("set the mode of the temporary file beside", &path, e))?;
    fault::pass("files.sync", &path)
        .and_then(|()| staged.as_file().sync_all())
        .map_err(|e| told("sync the temporary file beside", &path, e))?;
    let written = staged.as_file().metadata().map_err(|e| told("look at the temporary file beside", &path, e))?;
    let written = Stamp::of(&written);
    if !is_as_before() {
        return Err(io::Error::other(format!("somebody else has written {path} meanwhile, which stays as it is")));
    }
    fault::pass("files.rename", &path).map_err(|e| told("rename a temporary file to", &path, e))?;
    staged.persist(&path).map_err(|e| told("rename a temporary file to", &path, e.error))?;
    sync_directory(&directory)?;
    // To rename it is a change of its own.
    Ok(stamp(&path).filter(|now| Stamp { changed: written.changed, ..*now } == written))
}

/// Removes what a death left of [`replace_file`] in a directory: files that never came to their names. Only for who
/// alone writes there.
pub fn sweep_staged(directory: &Utf8Path) {
    let is_staged = |name: &str| {
        let Some((of, random)) = name.strip_prefix('.').and_then(|name| name.rsplit_once(STAGED)) else { return false };
        // Six characters: an operator's own file is none of ours.
        !of.is_empty() && random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    remove_where(directory, is_staged);
}

fn remove_where(directory: &Utf8Path, is_ours: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name().to_str().is_some_and(&is_ours) {
            // What cannot be removed is found again.
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

/// Keeps the content of a file beside it, for its owner alone, until [`forget_former`].
///
/// # Errors
/// As [`replace_file`].
pub fn keep_former(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    replace_file(&former_path(path), bytes, 0o600)
}

/// What was kept of a file.
///
/// # Errors
/// As [`read_limited`].
pub fn former(path: &Utf8Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_limited(&former_path(path), max_bytes)
}

/// Removes everything that [`keep_former`] has put into a directory.
pub fn forget_former(directory: &Utf8Path) {
    remove_where(directory, |name| name.starts_with('.') && name.ends_with(FORMER));
}

fn former_path(path: &Utf8Path) -> Utf8PathBuf {
    path.with_file_name(format!(".{}{FORMER}", path.file_name().unwrap_or_default()))
}

/// Makes renames in a directory durable.
///
/// # Errors
/// The directory cannot be opened or synced.
pub fn sync_directory(directory: &Utf8Path) -> io::Result<()> {
    let _write = Write::of(directory);
    fault::pass("directory.sync", directory).map_err(|e| told("sync the directory", directory, e))?;
    fs_err::File::open(directory)?.sync_all()
}

/// Reads a regular file of at most `max_bytes`. Never waits: a FIFO is opened without a writer, and left.
///
/// # Errors
/// It is missing, unreadable, not a regular file (a FIFO would block), or longer than the limit.
pub fn read_limited(path: &Utf8Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    fault::pass("files.read", path).map_err(|e| told("read", path, e))?;
    // What is no file is not even opened: that alone moves a tape, and reads of a FIFO are heard at its other end.
    let is_file = |metadata: std::fs::Metadata| match metadata.is_file() {
        true => Ok(metadata),
        false => Err(invalid(format!("{path} is not a regular file"))),
    };
    is_file(std::fs::metadata(path).map_err(|e| told("read", path, e))?)?;
    // It may be another one by now.
    let file = std::fs::OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path);
    let file = file.map_err(|e| told("open", path, e))?;
    let metadata = is_file(file.metadata().map_err(|e| told("read", path, e))?)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(max_bytes)).unwrap_or(0));
    // One byte more than allowed, so that a file which grows while it is read is noticed.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| told("read", path, e))?;
    if bytes.len() as u64 > max_bytes {
        return Err(invalid(format!("{path} is longer than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// Copies a file to `PATH.before-WHAT-20261121T080000Z` and answers the new path. An existing copy of the same
/// second is never overwritten: the name gets a number.
///
/// # Errors
/// The file cannot be read, or the copy not be written; a half-written copy is removed.
pub fn keep_beside(path: &Utf8Path, what: &str, now: jiff::Timestamp) -> io::Result<Utf8PathBuf> {
    let _write = Write::of(path);
    fault::pass("files.copy", path).map_err(|e| told("copy", path, e))?;
    let mut source = fs_err::File::open(path)?;
    let metadata = source.metadata()?;
    let directory = directory_of(path);
    let mut staged = tempfile::Builder::new()
        .prefix(".before-hapilot.")
        .tempfile_in(&directory)
        .map_err(|e| told("create a copy beside", path, e))?;
    io::copy(&mut source, staged.as_file_mut()).map_err(|e| told("copy", path, e))?;
    keep_owner(staged.as_file(), &metadata).map_err(|e| told("keep the owner of", path, e))?;
    staged.as_file().set_permissions(metadata.permissions()).map_err(|e| told("keep the mode of", path, e))?;
    staged.as_file().sync_all().map_err(|e| told("sync the copy of", path, e))?;
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    for attempt in 0..100 {
        let number = if attempt == 0 { String::new() } else { format!("-{attempt}") };
        let copy = Utf8PathBuf::from(format!("{path}.before-{what}-{stamp}{number}"));
        match staged.persist_noclobber(&copy) {
            Ok(_) => {
                sync_directory(&directory)?;
                return Ok(copy);
            }
            Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => staged = refused.file,
            Err(refused) => return Err(told("name the copy of", path, refused.error)),
        }
    }
    Err(told("name the copy of", path, io::ErrorKind::AlreadyExists.into()))
}

/// Which content a file has, without reading it: whoever writes it, or puts another one in its place, leaves another stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds; set by the kernel alone.
    changed: (i64, i64),
    modified: (i64, i64),
}

/// The stamp of a file; `None` where it cannot be looked at.
pub fn stamp(path: &Utf8Path) -> Option<Stamp> {
    Some(Stamp::of(&fs_err::metadata(path).ok()?))
}

impl Stamp {
    fn of(file: &std::fs::Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            changed: (file.ctime(), file.ctime_nsec()),
            modified: (file.mtime(), file.mtime_nsec()),
        }
    }
}

/// When a file was last written, as far as that is known.
pub fn modified(path: &Utf8Path) -> Option<jiff::Timestamp> {
    jiff::Timestamp::try_from(fs_err::metadata(path).ok()?.modified().ok()?).ok()
}

/// Whether two paths lead to one file, however they are spelt: by links, from another directory, by a hard link. Two
/// that cannot be followed are one where they are spelt alike.
pub fn is_same(one: &Utf8Path, other: &Utf8Path) -> bool {
    let inode = |path: &Utf8Path| fs_err::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    match (inode(one), inode(other)) {
        (Some(one), Some(other)) => one == other,
        _ => camino::absolute_utf8(one).ok() == camino::absolute_utf8(other).ok(),
    }
}

/// The directory that holds a path; `.` for a bare name.
pub fn directory_of(path: &Utf8Path) -> Utf8PathBuf {
    match path.parent() {
        Some(parent) if parent != "" => parent.to_owned(),
        _ => Utf8PathBuf::from("."),
    }
}

/// What a symbolic link points at; the path itself where it is none or points at nothing.
fn link_target(path: &Utf8Path) -> Utf8PathBuf {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned()),
        _ => path.to_owned(),
    }
}

/// Gives a new file the owner and group of the old one; without the right to, the group alone, else neither.
fn keep_owner(file: &std::fs::File, old: &std::fs::Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    let tolerated = |result: io::Result<()>| match result {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        other => other.map(|()| true),
    };
    if tolerated(std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid())))? {
        return Ok(());
    }
    tolerated(std::os::unix::fs::fchown(file, None, Some(old.gid()))).map(|_| ())
}

/// An error of the system with what was being done; the number that the system gave stays to be found below.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
struct DescribedError {
    doing: String,
    source: io::Error,
}

fn told(doing: &str, path: &Utf8Path, source: io::Error) -> io::Error {
    let want = if matches!(doing, "read" | "open") { Want::Read } else { Want::Replace };
    let source = rights::told(source, path, want);
    io::Error::new(source.kind(), DescribedError { doing: format!("could not {doing} {path}"), source })
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::{is_same, keep_beside, read_limited, replace_file, replace_unchanged};
    use camino::{Utf8Path, Utf8PathBuf};
    use std::os::unix::fs::PermissionsExt;

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let held = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(held.path()).unwrap().to_owned();
        (held, path)
    }

    #[test]
    fn a_stamp_is_of_what_was_written_and_no_longer_when_somebody_else_writes() {
        let held = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(held.path()).unwrap().join("haproxy.cfg");
        let ours = super::replace_stamped(&path, b"ours\n", 0o644).unwrap();
        assert!(ours.is_some() && ours == super::stamp(&path));
        fs_err::write(&path, "ours\nby hand\n").unwrap();
        assert_ne!(ours, super::stamp(&path));
    }

    #[test]
    fn what_a_death_left_is_swept_and_nothing_else() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        let staged = tempfile::Builder::new().prefix(&format!(".keys.map{}", super::STAGED)).tempfile_in(dir).unwrap();
        let left = staged.keep().unwrap().1;
        let others = [".hapilot-notess", ".a.hapilot-note", "a.hapilot-abcdef", ".haproxy.cfg.backup", "haproxy.cfg"];
        for name in others {
            replace_file(&dir.join(name), b"operator's", 0o600).unwrap();
        }
        super::sweep_staged(dir);
        assert!(!left.exists());
        others.iter().for_each(|name| assert!(dir.join(name).exists(), "{name}"));
    }

    #[test]
    fn a_replaced_file_has_the_new_content_and_mode_and_leaves_nothing_beside() {
        let (_held, dir) = directory();
        let path = dir.join("a.cfg");
        replace_file(&path, b"one", 0o600).unwrap();
        replace_file(&path, b"two", 0o640).unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"two");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs_err::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_somebody_else_writes_meanwhile_is_his() {
        let (_held, dir) = directory();
        let file = dir.join("a");
        fs_err::write(&file, "before").unwrap();
        let meddle = || {
            fs_err::write(&file, "theirs").unwrap();
            fs_err::read(&file).unwrap() == b"before"
        };
        let refused = replace_unchanged(&file, b"ours", 0o600, meddle).unwrap_err();
        assert!(refused.to_string().contains("somebody else has written"), "{refused}");
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "theirs");
        assert_eq!(fs_err::read_dir(&dir).unwrap().count(), 1, "nothing is left beside");
        replace_unchanged(&file, b"ours", 0o600, || true).unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "ours");
    }

    #[test]
    fn a_symbolic_link_in_the_place_of_our_own_file_goes_and_its_target_stays() {
        let (_held, dir) = directory();
        fs_err::write(dir.join("somebody-s"), "theirs").unwrap();
        for target in ["somebody-s", "nowhere"] {
            fs_err::os::unix::fs::symlink(target, dir.join("link")).unwrap();
            super::replace_own_file(&dir.join("link"), b"ours", 0o640).unwrap();
            assert!(!dir.join("link").symlink_metadata().unwrap().is_symlink());
            assert_eq!(fs_err::read_to_string(dir.join("link")).unwrap(), "ours");
            fs_err::remove_file(dir.join("link")).unwrap();
        }
        assert_eq!(fs_err::read_to_string(dir.join("somebody-s")).unwrap(), "theirs");
        assert!(!dir.join("nowhere").exists());
    }

    #[test]
    fn a_symbolic_link_stays_and_its_target_is_replaced() {
        let (_held, dir) = directory();
        fs_err::create_dir(dir.join("real")).unwrap();
        replace_file(&dir.join("real/a"), b"one", 0o644).unwrap();
        fs_err::os::unix::fs::symlink("real/a", dir.join("link")).unwrap();
        replace_file(&dir.join("link"), b"two", 0o644).unwrap();
        assert!(dir.join("link").symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs_err::read(dir.join("real/a")).unwrap(), b"two");
    }

    #[test]
    fn the_owner_of_a_replaced_file_stays() {
        use std::os::unix::fs::MetadataExt;
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to give a file away");
            return;
        }
        let (_held, dir) = directory();
        let path = dir.join("a");
        replace_file(&path, b"one", 0o644).unwrap();
        std::os::unix::fs::chown(&path, Some(4242), Some(4243)).unwrap();
        replace_file(&path, b"two", 0o640).unwrap();
        let metadata = fs_err::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4242, 4243));
    }

    #[test]
    fn errors_name_the_path_and_the_act() {
        let error = replace_file("/nonexistent-directory/a.cfg".into(), b"", 0o644).unwrap_err().to_string();
        assert!(error.contains("/nonexistent-directory/a.cfg") && error.contains("temporary file"), "{error}");
    }

    #[test]
    fn reading_stops_at_the_limit_and_refuses_what_is_no_file() {
        let (_held, dir) = directory();
        let path = dir.join("a");
        replace_file(&path, b"12345", 0o644).unwrap();
        assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
        assert!(read_limited(&path, 4).unwrap_err().to_string().contains("longer than 4 bytes"));
        assert!(read_limited(&dir, 4).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn two_paths_are_one_file_by_what_they_lead_to() {
        let (_held, dir) = directory();
        let (a, b) = (dir.join("a"), dir.join("b"));
        replace_file(&a, b"same", 0o640).unwrap();
        replace_file(&b, b"same", 0o640).unwrap();
        fs_err::os::unix::fs::symlink("a", dir.join("soft")).unwrap();
        fs_err::hard_link(&a, dir.join("hard")).unwrap();
        for (other, expected) in
            [("a", true), ("./a", true), ("soft", true), ("hard", true), ("b", false), ("c", false)]
        {
            assert_eq!(is_same(&a, &dir.join(other)), expected, "{other}");
        }
        assert!(is_same(&dir.join("gone"), &dir.join("gone")) && !is_same(&dir.join("gone"), &dir.join("c")));
    }

    #[test]
    fn a_copy_beside_never_overwrites_an_earlier_one() {
        let (_held, dir) = directory();
        let path = dir.join("haproxy.cfg");
        replace_file(&path, b"operator's", 0o640).unwrap();
        let now = "2026-11-21T08:00:00Z".parse().unwrap();
        let first = keep_beside(&path, "hapilot", now).unwrap();
        replace_file(&path, b"later", 0o640).unwrap();
        let second = keep_beside(&path, "hapilot", now).unwrap();
        assert_eq!(first, dir.join("haproxy.cfg.before-hapilot-20261121T080000Z"));
        assert_eq!(second, dir.join("haproxy.cfg.before-hapilot-20261121T080000Z-1"));
        assert_eq!(fs_err::read(first).unwrap(), b"operator's");
        assert_eq!(fs_err::read(&second).unwrap(), b"later");
        assert_eq!(fs_err::metadata(second).unwrap().permissions().mode() & 0o7777, 0o640);
    }
}
