//! The intent journal: what an apply is about to do to the live files, until it is done (invariant I4).
//!
//! One file, replaced by each intent and removed by its end, so that its size is bounded by one apply. It holds the
//! former content of each file, but of one with secrets only the digest and the mode: who reads or keeps the state
//! directory gets no key. What such a file was lies beside it meanwhile (`sys::files::keep_former`), where keys are anyway.

use super::error::StoreError;
use crate::model::Digest;
use crate::sys::{directory, files};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Largest journal, in bytes: a haproxy.cfg of 10,000 servers and its maps, several times over.
const MAX_BYTES: u64 = 256 << 20;

/// What is about to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undertaking {
    /// When it began.
    pub began: Timestamp,
    /// How it reaches HAProxy.
    pub kind: UndertakingKind,
    /// Digest of the operator's file that it stems from.
    pub source: Digest,
    /// The files in the order in which they are written.
    pub files: Vec<IntendedFile>,
}

/// How what is about to happen reaches HAProxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UndertakingKind {
    /// By files alone.
    Files,
    /// By runtime commands.
    Runtime,
    /// By a reload.
    Reload,
    /// With its start.
    Start,
}

impl std::fmt::Display for UndertakingKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Files => "files",
            Self::Runtime => "runtime",
            Self::Reload => "reload",
            Self::Start => "start",
        })
    }
}

/// One file that will change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntendedFile {
    /// Its absolute path.
    pub path: Utf8PathBuf,
    /// What was there; `None`: nothing.
    pub before: Option<FormerFile>,
    /// Length and digest of what will be there; `None`: nothing.
    pub after: Option<(u64, Digest)>,
}

/// What was at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerFile {
    /// As for chmod.
    pub mode: u32,
    /// Length in bytes.
    pub length: u64,
    /// Of the whole content.
    pub sha256: Digest,
    /// The content, as base64; `None` of a file with secrets.
    content: Option<String>,
}

impl FormerFile {
    /// Remembers a content.
    pub fn new(bytes: &[u8], mode: u32) -> Self {
        Self { mode, length: bytes.len() as u64, sha256: Digest::of(bytes), content: Some(STANDARD.encode(bytes)) }
    }

    /// Remembers everything but the content.
    pub fn secret(bytes: &[u8], mode: u32) -> Self {
        Self { mode, length: bytes.len() as u64, sha256: Digest::of(bytes), content: None }
    }

    /// The content, verified; `None` where it is not what was written down, or was not written down.
    pub fn content(&self) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(self.content.as_ref()?).ok()?;
        self.is_of(&bytes).then_some(bytes)
    }

    /// Whether this is the content.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.length && Digest::of(bytes) == self.sha256
    }

    fn is_whole(&self) -> bool {
        self.content.is_none() || self.content().is_some()
    }
}

/// The journal of one state directory.
#[derive(Clone, Debug)]
pub struct Journal {
    path: Utf8PathBuf,
}

impl Journal {
    /// The journal below a state directory; nothing is read or made.
    pub fn of(state: &Utf8Path) -> Self {
        Self { path: state.join("journal.json") }
    }

    /// Writes an intent down, durably, before the first file changes.
    ///
    /// # Errors
    /// Too large, or the disk is full or read-only.
    pub fn begin(&self, undertaking: &Undertaking) -> Result<(), StoreError> {
        let text = serde_json::to_vec(undertaking)
            .map_err(|e| StoreError::Refused(format!("the intent cannot be written as JSON: {e}")))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(StoreError::Refused(format!("the intent would be longer than {MAX_BYTES} bytes")));
        }
        files::replace_own_file(&self.path, &text, 0o600).map_err(StoreError::io("write the intent"))
    }

    /// Forgets the intent: its outcome is known. A removal that a power cut undoes does no harm, since all files then
    /// are as the intent wanted them.
    ///
    /// # Errors
    /// The directory is not writable.
    pub fn end(&self) -> Result<(), StoreError> {
        directory::remove_file(&self.path).map_err(StoreError::io("remove the intent"))
    }

    /// The intent that was not ended, and whose files are whole; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], or it cannot be read.
    pub fn unfinished(&self) -> Result<Option<Undertaking>, StoreError> {
        let damaged = |problem: String| StoreError::Damaged { path: self.path.clone(), problem };
        let bytes = match directory::read_if_exists(&self.path, MAX_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => return Err(damaged(e.to_string())),
            Err(source) => return Err(StoreError::io("read the intent")(source)),
        };
        let undertaking: Undertaking = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        let is_whole = |file: &IntendedFile| file.before.as_ref().is_none_or(FormerFile::is_whole);
        match undertaking.files.iter().find(|file| !is_whole(file)) {
            Some(file) => Err(damaged(format!("the former content of {} is not what was written down", file.path))),
            None => Ok(Some(undertaking)),
        }
    }

    /// Sets a damaged journal aside for an inspection and answers where; an earlier one gives way.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn set_aside(&self) -> Result<Utf8PathBuf, StoreError> {
        let aside = self.path.with_extension("json.damaged");
        fs_err::rename(&self.path, &aside).map_err(StoreError::io("set the damaged journal aside"))?;
        Ok(aside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undertaking() -> Undertaking {
        Undertaking {
            began: "2026-11-21T08:00:00Z".parse().unwrap(),
            kind: UndertakingKind::Reload,
            source: Digest::of("toml"),
            files: vec![
                IntendedFile {
                    path: "/etc/haproxy/maps/a.map".into(),
                    before: Some(FormerFile::new(b"old\n\xff", 0o640)),
                    after: Some((3, Digest::of("new"))),
                },
                IntendedFile {
                    path: "/etc/haproxy/maps/keys.map".into(),
                    before: Some(FormerFile::secret(b"chat/one sk-journal-4711\n", 0o640)),
                    after: None,
                },
                IntendedFile { path: "/etc/haproxy/haproxy.cfg".into(), before: None, after: None },
            ],
        }
    }

    #[test]
    fn an_intent_comes_back_until_it_is_ended_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let held = tempfile::tempdir().unwrap();
        let journal = Journal::of(Utf8Path::from_path(held.path()).unwrap());
        assert_eq!(journal.unfinished().unwrap(), None);
        journal.begin(&undertaking()).unwrap();
        let found = journal.unfinished().unwrap().unwrap();
        assert_eq!(found, undertaking());
        assert_eq!(found.files[0].before.as_ref().unwrap().content().unwrap(), b"old\n\xff");
        let secret = found.files[1].before.as_ref().unwrap();
        assert_eq!(secret.content(), None);
        assert!(secret.is_of(b"chat/one sk-journal-4711\n") && !secret.is_of(b""));
        let text = fs_err::read_to_string(&journal.path).unwrap();
        assert!(!text.contains(&STANDARD.encode("sk-journal-4711")[..12]) && !text.contains("4711"), "{text}");
        assert_eq!(fs_err::metadata(&journal.path).unwrap().permissions().mode() & 0o777, 0o600);
        journal.end().unwrap();
        journal.end().unwrap();
        assert_eq!(journal.unfinished().unwrap(), None);
    }

    #[test]
    fn every_damage_is_named_and_the_journal_kept_beside() {
        let held = tempfile::tempdir().unwrap();
        let journal = Journal::of(Utf8Path::from_path(held.path()).unwrap());
        journal.begin(&undertaking()).unwrap();
        let whole = fs_err::read_to_string(&journal.path).unwrap();
        let content = STANDARD.encode(b"old\n\xff");
        for broken in ["", &whole[..whole.len() / 2], &whole.replace(&content, &STANDARD.encode(b"new\n\xff"))] {
            files::replace_file(&journal.path, broken.as_bytes(), 0o600).unwrap();
            assert!(matches!(journal.unfinished(), Err(StoreError::Damaged { .. })), "{broken}");
            let aside = journal.set_aside().unwrap();
            assert_eq!(fs_err::read_to_string(aside).unwrap(), broken);
            assert_eq!(journal.unfinished().unwrap(), None);
        }
    }
}
