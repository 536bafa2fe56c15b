//! Reads an archive, which anybody may have written: strictly, within limits, and whole.
//!
//! Nothing but regular files of the old form of tar is taken: no links, devices, directories, long names, attributes. The
//! archive ends where it says that it does.

use super::{
    BackupManifest, FILES, FIRST, FORM, MANIFEST, MAX_MANIFEST, MAX_MEMBER, MAX_MEMBERS, MAX_TOTAL, OutsideKind, STATE,
    is_of_state, is_plain,
};
use crate::model::Digest;
use crate::store::StoreError;
use crate::sys::fault;
use camino::{Utf8Component, Utf8Path};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

/// What tar is made of, in bytes.
const BLOCK: usize = 512;

/// What every form has.
#[derive(Deserialize)]
struct AnyForm {
    form: u32,
    #[serde(default)]
    hapilot: String,
}

/// Reads the whole archive and answers its manifest, when everything in it is what that says. Each file is handed to
/// `take` before: who keeps it throws it away on an error.
///
/// # Errors
/// [`StoreError::Refused`] says what is wrong with the archive; or it cannot be read; or what `take` says.
pub fn read_backup(
    archive: &Utf8Path,
    file: &File,
    take: impl FnMut(&str, &[u8]) -> Result<(), StoreError>,
) -> Result<BackupManifest, StoreError> {
    read_within(MAX_TOTAL, archive, file, take)
}

pub(super) fn read_within(
    max_total: u64,
    archive: &Utf8Path,
    file: &File,
    mut take: impl FnMut(&str, &[u8]) -> Result<(), StoreError>,
) -> Result<BackupManifest, StoreError> {
    let refused = |problem: String| StoreError::Refused(format!("{archive} cannot be restored: {problem}"));
    let unread = |e: io::Error| match e.raw_os_error() {
        Some(_) => StoreError::Io { doing: "read the backup", source: e },
        None => refused(format!("it is damaged, or no backup of hapilot: {e}")),
    };
    let mut raw = file;
    fault::pass_path("backup.read", archive).and_then(|()| raw.rewind()).map_err(unread)?;
    let decoder = zstd::Decoder::with_buffer(BufReader::new(raw)).map_err(unread)?.single_frame();
    let mut tar = tar::Archive::new(Limited { inner: decoder, left: max_total });
    let mut found: BTreeMap<String, (u64, Digest)> = BTreeMap::new();
    let mut manifest = None;
    for entry in tar.entries().map_err(unread)?.raw(true) {
        let mut entry = entry.map_err(unread)?;
        let header = entry.header();
        let name = String::from_utf8(header.path_bytes().into_owned())
            .map_err(|_| refused("a name in it is no text".to_owned()))?;
        if header.as_ustar().is_none() || !header.entry_type().is_file() {
            let kind = kind_of(header.entry_type());
            return Err(refused(format!("{name:?} in it is {kind}, and no file")));
        }
        if manifest.is_some() {
            return Err(refused(format!("{name:?} stands behind its manifest")));
        }
        if found.is_empty() != (name == FIRST) {
            return Err(refused("it is no backup of hapilot".to_owned()));
        }
        if !is_plain(&name) {
            return Err(refused(format!("the name {name:?} in it leads elsewhere")));
        }
        if found.len() > MAX_MEMBERS {
            return Err(refused(format!("it has more than {MAX_MEMBERS} files")));
        }
        let length = header.entry_size().map_err(unread)?;
        let most = if name == MANIFEST { MAX_MANIFEST } else { MAX_MEMBER };
        if length > most {
            return Err(refused(format!("{name} in it has {length} bytes, and may have {most}")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length.min(1 << 20)).unwrap_or(0));
        (&mut entry).take(length).read_to_end(&mut bytes).map_err(unread)?;
        if bytes.len() as u64 != length {
            return Err(refused("it ends in the middle".to_owned()));
        }
        match name.as_str() {
            FIRST => check_form(&String::from_utf8_lossy(&bytes)).map_err(refused)?,
            MANIFEST => {
                manifest = Some(understand(&bytes).map_err(refused)?);
                continue;
            }
            _ => take(&name, &bytes)?,
        }
        if found.insert(name.clone(), (length, Digest::of(&bytes))).is_some() {
            return Err(refused(format!("{name} is in it twice")));
        }
    }
    let Some(manifest) = manifest else {
        return Err(refused("it ends in the middle: its manifest is missing".to_owned()));
    };
    // To the very end: two empty blocks, of which the first one was the end for `tar`, and the checksum behind them.
    let mut rest = tar.into_inner();
    let mut end = vec![];
    (&mut rest).take(2 * BLOCK as u64).read_to_end(&mut end).map_err(unread)?;
    if end != [0; BLOCK] {
        return Err(refused("something stands behind its end".to_owned()));
    }
    let mut raw = rest.inner.finish();
    if raw.read(&mut [0]).map_err(unread)? > 0 {
        return Err(refused("something stands behind its end".to_owned()));
    }
    found.remove(FIRST);
    compare(&manifest, found).map_err(refused)?;
    Ok(manifest)
}

fn kind_of(kind: tar::EntryType) -> &'static str {
    match kind {
        tar::EntryType::Symlink => "a symbolic link",
        tar::EntryType::Link => "a hard link",
        tar::EntryType::Char | tar::EntryType::Block => "a device",
        tar::EntryType::Fifo => "a pipe",
        tar::EntryType::Directory => "a directory",
        _ => "an extension of tar",
    }
}

fn check_form(text: &str) -> Result<(), String> {
    match text.trim_end().parse::<u32>() {
        Ok(FORM) => Ok(()),
        Ok(newer) if newer > FORM => {
            Err(format!("it has form {newer}, which a newer hapilot made; this one ({}) reads form {FORM}", version()))
        }
        _ => Err("it is no backup of hapilot".to_owned()),
    }
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn understand(bytes: &[u8]) -> Result<BackupManifest, String> {
    let any: AnyForm = serde_json::from_slice(bytes).map_err(|e| format!("its manifest cannot be read: {e}"))?;
    check_form(&any.form.to_string())?;
    let made_by = any.hapilot;
    serde_json::from_slice(bytes)
        .map_err(|e| format!("its manifest, of hapilot {made_by:?}, cannot be read by {}: {e}", version()))
}

/// Everything that the manifest names is there as it says, and nothing else.
fn compare(manifest: &BackupManifest, mut found: BTreeMap<String, (u64, Digest)>) -> Result<(), String> {
    let of_state = manifest.state.iter().map(|file| (format!("{STATE}{}", file.path), file.length, file.sha256));
    let of_files = manifest.files.iter().map(|file| (file.member.clone(), file.length, file.sha256));
    for (name, length, sha256) in of_state.chain(of_files) {
        match found.remove(&name) {
            None => return Err(format!("{name} is missing, or named twice")),
            Some(is) if is != (length, sha256) => return Err(format!("{name} is not what its manifest says")),
            Some(_) => {}
        }
    }
    if let Some((name, _)) = found.first_key_value() {
        return Err(format!("{name} is not in its manifest"));
    }
    if let Some(file) = manifest.state.iter().find(|file| !is_of_state(&file.path)) {
        return Err(format!("{:?} is no file of a state directory", file.path));
    }
    for (at, file) in manifest.files.iter().enumerate() {
        let is_plain = file.member.strip_prefix(FILES).is_some_and(|name| !name.contains('/'));
        let is_absolute = file.path.is_absolute() && file.path.file_name().is_some();
        let mut parts = file.path.components();
        let is_straight = parts.all(|part| matches!(part, Utf8Component::RootDir | Utf8Component::Normal(_)));
        if !is_plain || !is_absolute || !is_straight || file.path.as_str().chars().any(char::is_control) {
            return Err(format!("it has a file for {:?}, which is no place of a file", file.path));
        }
        if (file.kind == OutsideKind::Operator) != (at == 0) {
            return Err("it has not one operator's file, in the first place".to_owned());
        }
    }
    if manifest.files.is_empty() {
        return Err("it has no operator's file".to_owned());
    }
    Ok(())
}

/// Reads so many bytes, and not one more.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("it has more than the {} GiB that a backup may have", MAX_TOTAL >> 30))
        })?;
        Ok(read)
    }
}
