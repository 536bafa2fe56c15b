//! The history of revisions: append-only, bounded, verified when read.

use super::error::StoreError;
use super::manifest::{FileRecord, Manifest, RevisionOutcome, Standing};
use crate::model::Digest;
use crate::sys::{fault, files};
use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::io;

/// Longest single file, in bytes: a haproxy.cfg with 10,000 servers has 3 MB.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Longest manifest, in bytes.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Name of the manifest's file.
const MANIFEST: &str = "manifest.json";

/// The revisions in a state directory.
#[derive(Clone, Debug)]
pub struct Revisions {
    directory: Utf8PathBuf,
}

/// A file to be stored with a new revision.
#[derive(Clone, Copy)]
pub struct NewFile<'a> {
    /// Path relative to the revision: `haproxy.cfg`, `maps/routes.api.map`.
    pub path: &'a str,
    /// Its content.
    pub content: &'a [u8],
    /// Whether any secret is in it: then only length and digest are kept.
    pub is_secret: bool,
}

/// A revision that was read and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// What is written down about it.
    pub manifest: Manifest,
    /// The content of each stored file, by its path; those with secrets are missing.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// One line of the history.
#[derive(Debug)]
pub struct Listed {
    /// Its number.
    pub number: u32,
    /// What is written down about it, or why that cannot be read.
    pub manifest: Result<Manifest, StoreError>,
}

impl Revisions {
    /// Opens the history below a state directory and creates it where there is none. Leftovers of a write that was cut
    /// off by a crash are removed. Only for the holder of the lock.
    ///
    /// # Errors
    /// The directory cannot be created or listed.
    pub fn open(state: &Utf8Path) -> Result<Self, StoreError> {
        let directory = state.join("revisions");
        fault::pass_path("history.open", &directory)
            .and_then(|()| fs_err::create_dir_all(&directory))
            .map_err(StoreError::io("create the directory of revisions"))?;
        let opened = Self { directory };
        for name in opened.names()? {
            if name.starts_with(".new-") {
                // What stays is removed next time.
                let _ = fs_err::remove_dir_all(opened.directory.join(name));
            }
        }
        Ok(opened)
    }

    /// Opens the history to read it, beside an agent that may be writing. Nothing is created or removed.
    pub fn read_only(state: &Utf8Path) -> Self {
        Self { directory: state.join("revisions") }
    }

    /// All numbers, in order.
    ///
    /// # Errors
    /// The directory cannot be listed; one that does not exist is empty.
    pub fn numbers(&self) -> Result<Vec<u32>, StoreError> {
        let mut numbers: Vec<u32> = self
            .names()?
            .iter()
            .filter(|name| name.len() >= 6 && name.bytes().all(|b| b.is_ascii_digit()))
            .filter_map(|name| name.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The number that the next revision gets: one more than the highest, from 1.
    ///
    /// # Errors
    /// As for [`Self::numbers`].
    pub fn next_number(&self) -> Result<u32, StoreError> {
        Ok(self.numbers()?.last().map_or(1, |last| last.saturating_add(1)))
    }

    /// All revisions in order, the damaged ones named. Does not read their files.
    ///
    /// # Errors
    /// As for [`Self::numbers`].
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let numbers = self.numbers()?;
        Ok(numbers.into_iter().map(|number| Listed { number, manifest: self.manifest(number) }).collect())
    }

    /// Writes a new revision, whole or not at all. `manifest.files` is filled here and answered with the rest.
    ///
    /// # Errors
    /// The number is taken, a path leaves the directory or is given twice, or the disk is full; then nothing is left.
    pub fn save(&self, mut manifest: Manifest, new: &[NewFile<'_>]) -> Result<Manifest, StoreError> {
        let target = self.path(manifest.revision);
        if target.exists() {
            return Err(StoreError::Refused(format!("revision {} exists already", manifest.revision)));
        }
        // One name for each revision, so that trouble with it has the same words each time. What a save left that could
        // not clean up behind itself makes room; there is one writer.
        let name = format!(".new-{}", manifest.revision);
        let _ = fs_err::remove_dir_all(self.directory.join(&name));
        let staged = fault::pass_path("history.stage", &target)
            .and_then(|()| tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&self.directory))
            .map_err(StoreError::io("create a directory for the revision"))?;
        let directory = Utf8Path::from_path(staged.path())
            .ok_or_else(|| StoreError::Refused("the state directory's path is not UTF-8".to_owned()))?;
        manifest.files = Vec::with_capacity(new.len());
        for file in new {
            let NewFile { path, content, is_secret } = *file;
            check_path(path)?;
            if manifest.files.iter().any(|other| other.path == path) {
                return Err(StoreError::Refused(format!("{path} is given twice")));
            }
            if content.len() as u64 > MAX_FILE_BYTES {
                return Err(StoreError::Refused(format!("{path} is longer than {MAX_FILE_BYTES} bytes")));
            }
            if !is_secret {
                let path = directory.join(path);
                fs_err::create_dir_all(files::directory_of(&path))
                    .and_then(|()| files::replace_own_file(&path, content, 0o640))
                    .map_err(StoreError::io("write a file of the revision"))?;
            }
            manifest.files.push(FileRecord {
                path: path.to_owned(),
                length: content.len() as u64,
                sha256: Digest::of(content),
                is_stored: !is_secret,
            });
        }
        manifest.files.sort_by(|a, b| a.path.cmp(&b.path));
        write_manifest(directory, &manifest)?;
        let finish = || {
            fs_err::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o750))?;
            fault::pass_path("history.rename", &target)?;
            fs_err::rename(directory, &target)?;
            files::sync_directory(&self.directory)
        };
        finish().map_err(StoreError::io("put the revision in its place"))?;
        // It no longer has that name.
        let _ = staged.keep();
        Ok(manifest)
    }

    /// Reads a revision and verifies every stored file against its length and SHA-256.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`], or [`StoreError::Damaged`] with the first file that is not what was written.
    pub fn load(&self, number: u32) -> Result<Revision, StoreError> {
        let manifest = self.manifest(number)?;
        let mut found = BTreeMap::new();
        for record in manifest.files.iter().filter(|record| record.is_stored) {
            let path = self.path(number).join(&record.path);
            let damaged = |problem| StoreError::Damaged { path: path.clone(), problem };
            check_path(&record.path).map_err(|_| damaged("its path leaves the revision".to_owned()))?;
            let content = match files::read_limited(&path, record.length) {
                Ok(content) => content,
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                    return Err(damaged(e.to_string()));
                }
                Err(source) => return Err(StoreError::io("read a file of a revision")(source)),
            };
            if content.len() as u64 != record.length {
                return Err(damaged(format!("it has {} bytes instead of {}", content.len(), record.length)));
            }
            if Digest::of(&content) != record.sha256 {
                return Err(damaged("its SHA-256 is another".to_owned()));
            }
            found.insert(record.path.clone(), content);
        }
        Ok(Revision { manifest, files: found })
    }

    /// Reads what is written down about a revision, without its files.
    ///
    /// # Errors
    /// [`StoreError::NoRevision`] or [`StoreError::Damaged`].
    pub fn manifest(&self, number: u32) -> Result<Manifest, StoreError> {
        let path = self.path(number).join(MANIFEST);
        let damaged = |problem| StoreError::Damaged { path: path.clone(), problem };
        let bytes = match files::read_limited(&path, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !self.path(number).exists() => {
                return Err(StoreError::NoRevision { number });
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                return Err(damaged(e.to_string()));
            }
            Err(source) => return Err(StoreError::io("read what is written down of a revision")(source)),
        };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if manifest.revision != number {
            return Err(damaged(format!("it is that of revision {}", manifest.revision)));
        }
        Ok(manifest)
    }

    /// Writes down how a revision went: by which means it was applied, or why not.
    ///
    /// # Errors
    /// As for [`Self::manifest`], or the disk is full.
    pub fn set_outcome(&self, number: u32, outcome: RevisionOutcome) -> Result<(), StoreError> {
        let mut manifest = self.manifest(number)?;
        manifest.outcome = Some(outcome);
        write_manifest(&self.path(number), &manifest)
    }

    /// Writes down what became of a revision after it was applied.
    ///
    /// # Errors
    /// As for [`Self::set_outcome`].
    pub fn set_standing(&self, number: u32, standing: Standing) -> Result<(), StoreError> {
        let mut manifest = self.manifest(number)?;
        manifest.standing = standing;
        write_manifest(&self.path(number), &manifest)
    }

    /// Writes down who wanted a revision and why, where that was said only after it was applied.
    ///
    /// # Errors
    /// As for [`Self::set_outcome`].
    pub fn set_reason(&self, number: u32, actor: &str, reason: &str) -> Result<(), StoreError> {
        let mut manifest = self.manifest(number)?;
        manifest.actor = actor.to_owned();
        manifest.reason = reason.to_owned();
        write_manifest(&self.path(number), &manifest)
    }

    /// Gives a revision a name, which it keeps.
    ///
    /// # Errors
    /// As for [`Self::manifest`], the name is empty, longer than 64 characters or only digits, or another revision has it.
    pub fn tag(&self, number: u32, name: &str) -> Result<(), StoreError> {
        let is_word = !name.is_empty()
            && name.len() <= 64
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
            && !name.bytes().all(|b| b.is_ascii_digit());
        if !is_word {
            return Err(StoreError::Refused(
                "a tag takes letters, digits, '_', '.' and '-', at most 64, and not digits alone".to_owned(),
            ));
        }
        match self.tagged(name)? {
            Some(owner) if owner == number => return Ok(()),
            Some(owner) => return Err(StoreError::Refused(format!("revision {owner} is called {name:?} already"))),
            None => {}
        }
        let mut manifest = self.manifest(number)?;
        manifest.tags.push(name.to_owned());
        write_manifest(&self.path(number), &manifest)
    }

    /// The revision with this tag.
    ///
    /// # Errors
    /// As for [`Self::numbers`].
    pub fn tagged(&self, name: &str) -> Result<Option<u32>, StoreError> {
        let has_it = |listed: &Listed| {
            listed.manifest.as_ref().is_ok_and(|manifest| manifest.tags.iter().any(|tag| tag == name))
        };
        Ok(self.list()?.iter().find(|listed| has_it(listed)).map(|listed| listed.number))
    }

    /// Removes the oldest revisions until `keep` are left, and answers which. Tagged ones, those in `never` (the
    /// serving and the last good one) and the newest stay and do not count; a damaged one goes with the others.
    ///
    /// # Errors
    /// The directory cannot be listed, or one cannot be removed.
    pub fn retain(&self, keep: usize, never: &[u32]) -> Result<Vec<u32>, StoreError> {
        let mut listed = self.list()?;
        // The newest gives the next its number.
        listed.pop();
        let is_free = |listed: &Listed| {
            !never.contains(&listed.number) && listed.manifest.as_ref().map_or(true, |m| m.tags.is_empty())
        };
        let free: Vec<u32> = listed.iter().filter(|listed| is_free(listed)).map(|listed| listed.number).collect();
        let removed = free[..free.len().saturating_sub(keep)].to_vec();
        for number in &removed {
            // Renamed first, so that a crash leaves no half of it in the history.
            let gone = self.directory.join(format!(".new-removed-{number}"));
            fault::pass_path("history.remove", &gone)
                .and_then(|()| fs_err::rename(self.path(*number), &gone))
                .and_then(|()| fs_err::remove_dir_all(&gone))
                .map_err(StoreError::io("remove an old revision"))?;
        }
        Ok(removed)
    }

    fn path(&self, number: u32) -> Utf8PathBuf {
        self.directory.join(format!("{number:06}"))
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let told = StoreError::io("list the revisions");
        let entries =
            match fault::pass_path("history.list", &self.directory).and_then(|()| fs_err::read_dir(&self.directory)) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(told(e)),
            };
        let names: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
        Ok(names.map_err(told)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }
}

fn write_manifest(directory: &Utf8Path, manifest: &Manifest) -> Result<(), StoreError> {
    let mut text = serde_json::to_string_pretty(manifest)
        .map_err(|e| StoreError::Refused(format!("the manifest cannot be written as JSON: {e}")))?;
    text.push('\n');
    files::replace_own_file(&directory.join(MANIFEST), text.as_bytes(), 0o640)
        .map_err(StoreError::io("write down what is known of the revision"))
}

/// Only plain names below the revision, and never the manifest itself.
fn check_path(path: &str) -> Result<(), StoreError> {
    let is_plain = Utf8Path::new(path).components().all(|part| matches!(part, Utf8Component::Normal(_)));
    if path.is_empty() || path == MANIFEST || !is_plain {
        return Err(StoreError::Refused(format!("{path:?} is no file of a revision")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
