//! The files that HAProxy reads at its next start or reload: looked at, replaced, put back.
//!
//! Called by `engine` only; what is written was judged before.

use crate::model::{CERTIFICATES, Digest, TRUST};
use crate::plan::{FileChange, FileState};
use crate::render::{self, Rendered};
use crate::store::{FormerFile, IntendedFile};
use crate::sys;
use crate::sys::files::Stamp;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

/// Largest haproxy.cfg and map that is read, in bytes.
pub(in crate::agent) const MAX_FILE: u64 = 256 << 20;

/// Of haproxy.cfg, maps without secrets, lists and programs.
const CONFIG_MODE: u32 = 0o644;

/// haproxy.cfg, and the maps, crt-lists, certificates and authorities beside it.
#[derive(Debug)]
pub(in crate::agent) struct LiveFiles {
    config: Utf8PathBuf,
    directory: Utf8PathBuf,
}

/// What is on disk.
#[derive(Debug)]
pub(in crate::agent) struct FilesNow {
    /// What stood for haproxy.cfg just before it was read.
    pub(in crate::agent) stamp: Option<Stamp>,
    /// haproxy.cfg, `None` where there is none.
    pub(in crate::agent) config: Option<FileState>,
    /// Its text, empty where there is none or where it is no text.
    pub(in crate::agent) text: String,
    /// Digests of the maps.
    pub(in crate::agent) maps: BTreeMap<String, Digest>,
    /// Digests of the crt-lists, the certificates, and what those of clients are judged by.
    pub(in crate::agent) lists: BTreeMap<String, Digest>,
    /// Digests of the programs in Lua.
    pub(in crate::agent) scripts: BTreeMap<String, Digest>,
}

/// The files before an apply, to put back.
#[derive(Debug)]
pub(in crate::agent) struct Undo(Vec<(Utf8PathBuf, Before)>);

/// One file before an apply.
#[derive(Debug)]
pub(in crate::agent) enum Before {
    Missing,
    Held { bytes: Vec<u8>, mode: u32 },
}

/// Puts one file back.
pub(in crate::agent) fn put_back_one(path: &Utf8Path, before: &Before) -> io::Result<()> {
    match before {
        Before::Held { bytes, mode } => sys::files::replace_file(path, bytes, *mode),
        Before::Missing => sys::directory::remove_file(path),
    }
}

impl LiveFiles {
    /// The files around a haproxy.cfg.
    pub(in crate::agent) fn of(config: &Utf8Path) -> Self {
        Self { config: config.to_owned(), directory: sys::files::directory_of(config) }
    }

    /// Looks at them. haproxy.cfg is not read where it is still as it was `left`.
    pub(in crate::agent) fn look(&self, left: Option<&(Stamp, Arc<Rendered>)>) -> io::Result<FilesNow> {
        let stamp = self.stamp();
        let (config, text) = match left.filter(|(left, _)| stamp == Some(*left)) {
            Some((_, rendered)) => {
                let state = FileState { digest: rendered.digest(), is_ours: true, is_intact: true };
                (Some(state), rendered.haproxy_cfg.clone())
            }
            None => self.read_config()?,
        };
        let mut maps = self.digests("maps", ".map")?;
        maps.retain(|path, _| render::is_own_map(path));
        let mut lists = self.digests("crt-lists", ".list")?;
        lists.extend(self.digests(CERTIFICATES, "")?);
        lists.extend(self.digests(TRUST, ".pem")?);
        let scripts = self.digests("hapilot-lua", ".lua")?;
        Ok(FilesNow { stamp, config, text, maps, lists, scripts })
    }

    fn read_config(&self) -> io::Result<(Option<FileState>, String)> {
        let Some(bytes) = sys::directory::read_if_exists(&self.config, MAX_FILE)? else {
            return Ok((None, String::new()));
        };
        let render::Inspection { is_ours, is_intact } = render::inspect(&bytes);
        let state = FileState { digest: Digest::of(&bytes), is_ours, is_intact };
        Ok((Some(state), String::from_utf8(bytes).unwrap_or_default()))
    }

    /// What stands for the content of haproxy.cfg.
    pub(in crate::agent) fn stamp(&self) -> Option<Stamp> {
        sys::files::stamp(&self.config)
    }

    /// Replaces haproxy.cfg alone; answers what stands for it now.
    pub(in crate::agent) fn write_config(&self, rendered: &Rendered) -> io::Result<Option<Stamp>> {
        sys::files::replace_stamped(&self.config, rendered.haproxy_cfg.as_bytes(), CONFIG_MODE)
    }

    /// Removes what a death left of them on the way to their names.
    pub(in crate::agent) fn sweep(&self) {
        let beside = ["maps", "crt-lists", CERTIFICATES, TRUST, "hapilot-lua"].map(|below| self.directory.join(below));
        beside.iter().chain([&self.directory]).for_each(|directory| sys::files::sweep_staged(directory));
    }

    /// Keeps what the files with secrets are, beside them and durably, until [`Self::forget_secrets`]: the journal must not hold
    /// it, and a former haproxy.cfg starts with nothing else. Where a map with keys has gone HAProxy does not start at all;
    /// with the newer one, a server that only the former file has would be asked without a key.
    pub(in crate::agent) fn keep_secrets(&self, undo: &Undo, changes: &[FileChange]) -> io::Result<()> {
        for ((path, before), _) in undo.0.iter().zip(changes).filter(|(_, change)| render::is_secret(change.path())) {
            if let Before::Held { bytes, .. } = before {
                sys::files::keep_former(path, bytes)?;
            }
        }
        Ok(())
    }

    /// Nobody needs it any more.
    pub(in crate::agent) fn forget_secrets(&self) {
        ["maps", CERTIFICATES].iter().for_each(|below| sys::files::forget_former(&self.directory.join(below)));
    }

    /// One of them as it is on disk.
    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        sys::directory::read_if_exists(&self.directory.join(name), MAX_FILE).ok().flatten()
    }

    fn digests(&self, below: &str, suffix: &str) -> io::Result<BTreeMap<String, Digest>> {
        let directory = self.directory.join(below);
        let mut digests = BTreeMap::new();
        for name in sys::directory::file_names(&directory, suffix)? {
            if let Some(bytes) = sys::directory::read_if_exists(&directory.join(&name), MAX_FILE)? {
                digests.insert(format!("{below}/{name}"), Digest::of(bytes));
            }
        }
        Ok(digests)
    }

    /// Writes them in the given order; answers what stands for haproxy.cfg, where that was written. After an error the
    /// caller puts back what was written before it.
    pub(in crate::agent) fn write(&self, changes: &[FileChange], rendered: &Rendered) -> io::Result<Option<Stamp>> {
        let beside = rendered.beside();
        let mut of_config = None;
        for change in changes {
            let path = self.path(change);
            match change {
                FileChange::Remove(_) => sys::directory::remove_file(&path)?,
                FileChange::Create(name) | FileChange::Replace(name) => {
                    let (bytes, mode) = content(name, rendered, &beside);
                    sys::directory::create_directory(&sys::files::directory_of(&path), 0o755)?;
                    let stamp = sys::files::replace_stamped(&path, &bytes, mode)?;
                    of_config = stamp.filter(|_| path == self.config).or(of_config);
                }
            }
        }
        Ok(of_config)
    }

    /// Remembers them as they are now.
    pub(in crate::agent) fn remember(&self, changes: &[FileChange]) -> io::Result<Undo> {
        let mut held = Vec::with_capacity(changes.len());
        for change in changes {
            let path = self.path(change);
            let before = match sys::directory::read_if_exists(&path, MAX_FILE)? {
                Some(bytes) => Before::Held { bytes, mode: fs_err::metadata(&path)?.permissions().mode() & 0o7777 },
                None => Before::Missing,
            };
            held.push((path, before));
        }
        Ok(Undo(held))
    }

    /// The same for the journal: what is there, and what will be.
    pub(in crate::agent) fn intended(
        &self,
        undo: &Undo,
        changes: &[FileChange],
        rendered: &Rendered,
    ) -> Vec<IntendedFile> {
        let beside = rendered.beside();
        let after = |change: &FileChange| match change {
            FileChange::Remove(_) => None,
            FileChange::Create(name) | FileChange::Replace(name) => {
                let (bytes, _) = content(name, rendered, &beside);
                Some((bytes.len() as u64, Digest::of(bytes)))
            }
        };
        let before = |before: &Before, change: &FileChange| match before {
            Before::Missing => None,
            Before::Held { bytes, mode } if render::is_secret(change.path()) => Some(FormerFile::secret(bytes, *mode)),
            Before::Held { bytes, mode } => Some(FormerFile::new(bytes, *mode)),
        };
        let pairs = undo.0.iter().zip(changes);
        pairs
            .map(|((path, held), change)| IntendedFile {
                path: path.clone(),
                before: before(held, change),
                after: after(change),
            })
            .collect()
    }

    fn path(&self, change: &FileChange) -> Utf8PathBuf {
        match change.path() {
            "haproxy.cfg" => self.config.clone(),
            beside => self.directory.join(beside),
        }
    }
}

impl Undo {
    /// The digest of haproxy.cfg as it is remembered; `None` where there is none or it is not about to be replaced.
    pub(in crate::agent) fn config_digest(&self, files: &LiveFiles) -> Option<Digest> {
        let (_, before) = self.0.iter().find(|(path, _)| *path == files.config)?;
        match before {
            Before::Held { bytes, .. } => Some(Digest::of(bytes)),
            Before::Missing => None,
        }
    }
}

/// What a file will hold, and its mode.
fn content(name: &str, rendered: &Rendered, beside: &BTreeMap<String, Vec<u8>>) -> (Vec<u8>, u32) {
    if let Some(map) = rendered.maps.get(name) {
        return (map.text().into_bytes(), if map.is_secret { 0o640 } else { CONFIG_MODE });
    }
    let mode = if name.starts_with(CERTIFICATES) { 0o640 } else { CONFIG_MODE };
    let script = || rendered.scripts.get(name).map(|text| text.as_bytes().to_vec());
    let bytes = beside.get(name).cloned().or_else(script);
    (bytes.unwrap_or_else(|| rendered.haproxy_cfg.clone().into_bytes()), mode)
}

impl Undo {
    /// Puts everything back, as far as the disk takes it; the agent's next round notices what is not.
    pub(in crate::agent) fn put_back(&self) {
        for (path, before) in self.0.iter().rev() {
            if let Err(error) = put_back_one(path, before) {
                tracing::error!(%path, %error, "the file could not be put back");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LiveFiles;
    use crate::plan::FileChange;
    use crate::render::{MapFile, Rendered};
    use camino::Utf8Path;
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    fn rendered(text: &str) -> Rendered {
        let map = MapFile { entries: vec![("a".into(), "b".into())], is_secret: true };
        Rendered::of_text(text, BTreeMap::from([("maps/keys.map".to_owned(), map)]))
    }

    #[test]
    fn what_was_written_can_be_put_back_with_its_mode() {
        let held = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(held.path()).unwrap();
        let config = dir.join("haproxy.cfg");
        crate::sys::files::replace_file(&config, b"old\n", 0o600).unwrap();
        let files = LiveFiles::of(&config);
        let changes = [FileChange::Create("maps/keys.map".into()), FileChange::Replace("haproxy.cfg".into())];
        let undo = files.remember(&changes).unwrap();
        files.write(&changes, &rendered("new\n")).unwrap();
        // An operator's own map is none of ours, and so nothing to put right.
        fs_err::write(dir.join("maps/own.map"), "a b\n").unwrap();
        let now = files.look(None).unwrap();
        assert_eq!((now.text.as_str(), now.maps.len()), ("new\n", 1));
        let mode = |path: &Utf8Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.join("maps/keys.map")), 0o640);
        undo.put_back();
        let now = files.look(None).unwrap();
        assert_eq!((now.text.as_str(), now.maps.len(), mode(&config)), ("old\n", 0, 0o600));
    }
}
