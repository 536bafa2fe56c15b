//! The way to a file: every symbolic link on it, and where it ends.
//!
//! Knows links of files and of directories, chains of them, and places that do not exist yet; refuses to know who
//! waits for a change. Called by `watch`.

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use std::collections::{BTreeSet, VecDeque};
use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;

/// Links on one way, as the kernel counts them.
const MAX_LINKS: usize = 40;
/// Links in a directory that are followed; changes behind later ones are found by comparing alone.
const MAX_FOLLOWED: usize = 1_000;
/// Entries of a directory that are compared.
const MAX_COMPARED: usize = 10_000;

/// Everything whose change may change what a path leads to. All paths are without links, but for their last name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trail {
    /// Links on the way, the file at its end, or the first name that does not exist.
    pub(super) entries: BTreeSet<Utf8PathBuf>,
    /// Directories of which every entry counts.
    pub(super) directories: BTreeSet<Utf8PathBuf>,
}

impl Trail {
    /// Of a file or directory, as far as it exists; in a directory, of the links in it, too.
    pub(super) fn to(path: &Utf8Path) -> Self {
        let mut trail = Self::default();
        if let Some(directory) = trail.follow(path) {
            let links = entries(&directory).filter(|entry| entry.is_symlink());
            for link in links.take(MAX_FOLLOWED).collect::<Vec<_>>() {
                trail.follow(&link);
            }
            trail.directories.insert(directory);
        }
        trail
    }

    /// Directories in which something on the way may change.
    pub(super) fn watched(&self) -> impl Iterator<Item = Utf8PathBuf> + '_ {
        let around = self.entries.iter().filter_map(|entry| entry.parent()).map(Utf8Path::to_owned);
        around.chain(self.directories.iter().cloned())
    }

    /// Adds the way to a path; answers it without links where it is a directory.
    fn follow(&mut self, path: &Utf8Path) -> Option<Utf8PathBuf> {
        let mut at = match path.is_absolute() {
            true => Utf8PathBuf::from("/"),
            false => Utf8PathBuf::from_path_buf(std::env::current_dir().ok()?).ok()?,
        };
        let mut ahead = names(path);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let Ok(metadata) = next.symlink_metadata() else {
                self.entries.insert(next);
                return None;
            };
            if metadata.is_symlink() {
                self.entries.insert(next.clone());
                links += 1;
                let target = next.read_link_utf8().ok().filter(|_| links <= MAX_LINKS)?;
                if target.is_absolute() {
                    at = Utf8PathBuf::from("/");
                }
                names(&target).into_iter().rev().for_each(|name| ahead.push_front(name));
            } else if metadata.is_dir() {
                at = next;
            } else {
                self.entries.insert(next);
                return None;
            }
        }
        // A directory that is replaced is another one.
        self.entries.insert(at.clone());
        Some(at)
    }
}

fn names(path: &Utf8Path) -> VecDeque<String> {
    let parts = path.components().filter(|part| !matches!(part, Utf8Component::RootDir | Utf8Component::CurDir));
    parts.map(|part| part.as_str().to_owned()).collect()
}

fn entries(directory: &Utf8Path) -> impl Iterator<Item = Utf8PathBuf> {
    let entries = directory.read_dir_utf8().into_iter().flatten().take(MAX_COMPARED);
    entries.filter_map(|entry| Some(entry.ok()?.into_path()))
}

/// A number that is another one when a file, what it leads to, or an entry of a directory has changed: for places
/// whose changes the kernel does not tell (network file systems, bind mounts, directories that were renamed above it).
pub(super) fn print(path: &Utf8Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    stamp(path.metadata()).hash(&mut hasher);
    if path.is_dir() {
        let mut all: Vec<_> = entries(path).map(|entry| (stamp(entry.metadata()), entry)).collect();
        all.sort_unstable_by(|one, other| one.1.cmp(&other.1));
        all.hash(&mut hasher);
    }
    hasher.finish()
}

fn stamp(metadata: std::io::Result<Metadata>) -> Option<(u64, u64, u64, i64, i64, i64, i64)> {
    let of = metadata.ok()?;
    Some((of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINKS, Trail};
    use crate::sys::files::replace_file;
    use camino::{Utf8Path, Utf8PathBuf};
    use fs_err::os::unix::fs::symlink;

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let held = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(held.path()).unwrap().canonicalize_utf8().unwrap();
        (held, path)
    }

    #[track_caller]
    fn check(path: &Utf8Path, dir: &Utf8Path, entries: &[&str], directories: &[&str]) {
        let expected = |names: &[&str]| names.iter().map(|name| dir.join(name)).collect();
        assert_eq!(Trail::to(path), Trail { entries: expected(entries), directories: expected(directories) });
    }

    #[test]
    fn links_of_files_and_of_directories_are_followed_to_the_end() {
        let (_held, dir) = directory();
        fs_err::create_dir_all(dir.join("real/deep")).unwrap();
        replace_file(&dir.join("real/deep/file"), b"1", 0o600).unwrap();
        check(&dir.join("real/deep/file"), &dir, &["real/deep/file"], &[]);
        symlink("real", dir.join("relative")).unwrap();
        symlink(dir.join("relative/deep"), dir.join("absolute")).unwrap();
        symlink("../relative/../absolute/file", dir.join("real/link")).unwrap();
        check(&dir.join("real/link"), &dir, &["real/link", "relative", "absolute", "real/deep/file"], &[]);
        check(&dir.join("absolute/none/file"), &dir, &["relative", "absolute", "real/deep/none"], &[]);
        check(&dir.join("relative"), &dir, &["relative", "real", "real/link", "absolute", "real/deep/file"], &["real"]);
    }

    #[test]
    fn a_circle_of_links_ends() {
        let (_held, dir) = directory();
        symlink("b", dir.join("a")).unwrap();
        symlink("a", dir.join("b")).unwrap();
        check(&dir.join("a"), &dir, &["a", "b"], &[]);
        for n in 0..=MAX_LINKS {
            symlink(format!("l{}", n + 1), dir.join(format!("l{n}"))).unwrap();
        }
        assert_eq!(Trail::to(&dir.join("l0")).entries.len(), MAX_LINKS + 1);
    }
}
