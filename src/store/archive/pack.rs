//! Writes an archive, file by file; the manifest comes last, so that each file is read once.

use super::{
    BackupManifest, FILES, FIRST, FORM, MANIFEST, MAX_MEMBER, MAX_MEMBERS, MAX_TOTAL, OutsideFile, OutsideKind, STATE,
    StateFile, is_of_state,
};
use crate::model::Digest;
use crate::store::StoreError;
use crate::sys::fault;
use camino::Utf8Path;
use std::io::{self, Write};

/// zstd's usual one.
const LEVEL: i32 = 3;
/// How far back what was there before is found: 16 MiB, some revisions of the largest site.
const WINDOW_LOG: u32 = 24;
/// So much of a file's own name is in its name in the archive.
const MAX_SHOWN: usize = 60;

/// An archive that is being written.
pub struct Packer<W: Write> {
    tar: tar::Builder<zstd::Encoder<'static, W>>,
    manifest: BackupManifest,
    total: u64,
}

impl<W: Write> Packer<W> {
    /// Begins one. Of the manifest only what stands at its head is taken.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(out: W, head: BackupManifest) -> Result<Self, StoreError> {
        let begun = zstd::Encoder::new(out, LEVEL).and_then(|mut encoder| {
            encoder.include_checksum(true)?;
            encoder.window_log(WINDOW_LOG)?;
            encoder.long_distance_matching(true)?;
            Ok(encoder)
        });
        let encoder = begun.map_err(unwritten)?;
        let manifest = BackupManifest { form: FORM, files: vec![], state: vec![], ..head };
        let mut packer = Self { tar: tar::Builder::new(encoder), manifest, total: 0 };
        packer.append(FIRST, format!("{FORM}\n").as_bytes())?;
        Ok(packer)
    }

    /// Adds a file of the operator's.
    ///
    /// # Errors
    /// It is too long, or cannot be written.
    pub fn add_file(&mut self, kind: OutsideKind, path: &Utf8Path, mode: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let own = path.file_name().unwrap_or_default().trim_start_matches('.');
        let is_shown = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
        let shown: String = own.chars().filter(is_shown).take(MAX_SHOWN).collect();
        let member = format!("{FILES}{}-{shown}", self.manifest.files.len() + 1);
        self.append(&member, bytes)?;
        let (length, sha256) = (bytes.len() as u64, Digest::of(bytes));
        self.manifest.files.push(OutsideFile { member, kind, path: path.to_owned(), mode, length, sha256 });
        Ok(())
    }

    /// Adds a file of the state directory.
    ///
    /// # Errors
    /// It is none of a backup's, too long, or cannot be written.
    pub fn add_state(&mut self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        if !is_of_state(path) {
            return Err(StoreError::Refused(format!("{path:?} is no file of a backup")));
        }
        self.append(&format!("{STATE}{path}"), bytes)?;
        let (length, sha256) = (bytes.len() as u64, Digest::of(bytes));
        self.manifest.state.push(StateFile { path: path.to_owned(), length, sha256 });
        Ok(())
    }

    /// How many revisions there are in it.
    pub fn count_revision(&mut self) {
        self.manifest.revisions += 1;
    }

    /// Writes the manifest and ends the archive.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> Result<(W, BackupManifest), StoreError> {
        let mut text = serde_json::to_vec_pretty(&self.manifest)
            .map_err(|e| StoreError::Refused(format!("the manifest cannot be written as JSON: {e}")))?;
        text.push(b'\n');
        self.append(MANIFEST, &text)?;
        let out = self.tar.into_inner().and_then(zstd::Encoder::finish).map_err(unwritten)?;
        Ok((out, self.manifest))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let length = bytes.len() as u64;
        self.total = self.total.saturating_add(length);
        let count = self.manifest.files.len() + self.manifest.state.len();
        if length > MAX_MEMBER && name != MANIFEST || self.total > MAX_TOTAL || count > MAX_MEMBERS {
            return Err(StoreError::Refused(format!(
                "a backup takes {MAX_MEMBERS} files of {} MiB each, and {} GiB in all; {name} is beyond that",
                MAX_MEMBER >> 20,
                MAX_TOTAL >> 30
            )));
        }
        let mut header = tar::Header::new_ustar();
        let named = header.set_path(name).and_then(|()| fault::pass_path("backup.write", name));
        header.set_size(length);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.manifest.created.as_second()).unwrap_or(0));
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        named.and_then(|()| self.tar.append(&header, bytes)).map_err(unwritten)
    }
}

fn unwritten(source: io::Error) -> StoreError {
    StoreError::Io { doing: "write the backup", source }
}
