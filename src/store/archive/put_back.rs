//! Puts what a backup has in place, as a whole or not at all.
//!
//! Everything is written into `STATE/.restore-new` first, and compared with its digests; then that gets the name
//! `STATE/restore`. Up to here nothing has changed for anybody. Then the operator's file is replaced: from that moment on
//! the backup is what the node has, and whoever takes the lock of the state directory next puts the rest in place, should
//! this process have died. Where the operator's file is not yet the new one, what was prepared is thrown away instead.
//!
//! Who calls holds the lock.

use super::MEMORY;
use crate::model::Digest;
use crate::store::StoreError;
use crate::sys::{directory, fault, files};
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;

/// While it is being written.
const NEW: &str = ".restore-new";
/// When it is whole.
const READY: &str = "restore";
/// What is to be done with it.
const INTENT: &str = "intent.json";
/// The operator's file is the new one.
const BEGUN: &str = "begun";
/// Where the memory is, below it.
const MEMORY_DIRECTORY: &str = "state";
/// Largest intent, in bytes.
const MAX_INTENT: u64 = 1 << 20;
/// Largest file that is compared with what is to be there, in bytes.
const MAX_FILE: u64 = super::MAX_MEMBER;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intent {
    /// Files of the operator's; the first one is the file itself.
    files: Vec<Wanted>,
    /// What comes into the state directory: paths below it.
    memory: Vec<String>,
    /// What goes out of it.
    aside: Vec<String>,
    /// Where that goes, and in which moment; `None`: nothing is there.
    kept: Option<(Utf8PathBuf, Timestamp)>,
}

/// A file of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    from: String,
    path: Utf8PathBuf,
    mode: u32,
    sha256: Digest,
}

/// What was put in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Files of the operator's.
    pub files: Vec<Utf8PathBuf>,
    /// Where what was there before is kept.
    pub kept: Vec<Utf8PathBuf>,
}

/// A backup that is being put in place.
#[derive(Debug)]
pub struct PutBack {
    state: Utf8PathBuf,
    new: Utf8PathBuf,
    owner: Option<(u32, u32)>,
    files: BTreeMap<String, Wanted>,
    /// In the order in which they came.
    order: Vec<String>,
}

/// What of the node's memory is there.
pub fn what_is_there(state: &Utf8Path) -> Vec<&'static str> {
    let is_there = |name: &&str| {
        let path = state.join(name);
        match std::fs::read_dir(&path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(_) => path.symlink_metadata().is_ok(),
        }
    };
    MEMORY.into_iter().filter(is_there).collect()
}

impl PutBack {
    /// Begins one, for this state directory; what another one left is removed.
    ///
    /// # Errors
    /// There is no room, or no right to.
    pub fn begin(state: &Utf8Path) -> Result<Self, StoreError> {
        let new = state.join(NEW);
        let begun = remove_directory(&new).and_then(|()| directory::create_directory(&new, 0o700));
        begun.map_err(unwritten)?;
        // Whoever runs the agent owns its memory.
        let owner = fs_err::metadata(state).map_err(unwritten)?;
        let owner = nix::unistd::geteuid().is_root().then_some((owner.uid(), owner.gid()));
        Ok(Self { state: state.to_owned(), new, owner, files: BTreeMap::new(), order: vec![] })
    }

    /// The directory that has the memory of the backup, laid out as a state directory.
    pub fn memory(&self) -> Utf8PathBuf {
        self.new.join(MEMORY_DIRECTORY)
    }

    /// Writes a file of the memory.
    ///
    /// # Errors
    /// There is no room.
    pub fn add_state(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(&self.memory().join(path), bytes)
    }

    /// Writes a file of the operator's, which will be at that path.
    ///
    /// # Errors
    /// There is no room.
    pub fn add_file(&mut self, member: &str, path: &Utf8Path, mode: u32, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(&self.new.join(member), bytes)?;
        let wanted =
            Wanted { from: member.to_owned(), path: path.to_owned(), mode: mode & 0o777, sha256: Digest::of(bytes) };
        self.files.insert(member.to_owned(), wanted);
        self.order.push(member.to_owned());
        Ok(())
    }

    fn write(&self, path: &Utf8Path, bytes: &[u8]) -> Result<(), StoreError> {
        let parent = files::directory_of(path);
        let made = if parent.is_dir() { Ok(()) } else { directory::create_directory(&parent, 0o750) };
        made.and_then(|()| directory::write_private(path, bytes)).map_err(unwritten)
    }

    /// Throws everything away: nothing has changed.
    pub fn cancel(self) {
        // What stays is removed by the next one.
        let _ = remove_directory(&self.new);
    }

    /// Puts everything in place. `memory` are the paths that come into the state directory; what is there of the node's
    /// memory goes aside, but for `stays`.
    ///
    /// # Errors
    /// Nothing has changed, or the rest comes later: the second word says which.
    pub fn put(self, memory: Vec<String>, stays: &[&str], now: Timestamp) -> Result<Restored, (StoreError, bool)> {
        let there = what_is_there(&self.state).into_iter().filter(|name| !stays.contains(name));
        let aside: Vec<String> = there.map(str::to_owned).collect();
        let is_news = |wanted: &Wanted| !has(&wanted.path, &wanted.sha256);
        let replaces = self.files.values().any(|wanted| wanted.path.exists() && is_news(wanted));
        let kept = (!aside.is_empty() || replaces).then(|| {
            let stamp = now.strftime("%Y%m%dT%H%M%SZ");
            let names = (0..).map(|number| match number {
                0 => format!("before-restore-{stamp}"),
                more => format!("before-restore-{stamp}-{more}"),
            });
            let free = names.map(|name| self.state.join(name)).find(|path| path.symlink_metadata().is_err());
            (free.unwrap_or_default(), now)
        });
        let intent = Intent {
            files: self.order.iter().filter_map(|member| self.files.get(member).cloned()).collect(),
            memory: memory.into_iter().filter(|path| self.memory().join(path).exists()).collect(),
            aside,
            kept,
        };
        let result = self.make_ready(&intent).and_then(|()| begin(&self.state, &intent));
        match result {
            Ok(kept) => finish(&self.state, &intent, kept).map_err(|e| (unwritten(e), true)),
            Err(e) => {
                let _ = remove_directory(&self.new);
                let is_begun = is_begun(&self.state, &intent);
                if !is_begun {
                    let _ = remove_directory(&self.state.join(READY));
                }
                Err((unwritten(e), is_begun))
            }
        }
    }

    fn make_ready(&self, intent: &Intent) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(intent).map_err(io::Error::other)?;
        directory::write_private(&self.new.join(INTENT), &text)?;
        if let Some((uid, gid)) = self.owner {
            give_away(&self.memory(), uid, gid)?;
        }
        let opened = fs_err::File::open(&self.new)?;
        fault::pass_path("restore.sync", &self.new)?;
        // All files at once: one by one takes a minute for a long history.
        nix::unistd::syncfs(&opened)?;
        let ready = self.state.join(READY);
        remove_directory(&ready)?;
        fault::pass_path("restore.ready", &ready)?;
        fs_err::rename(&self.new, &ready)?;
        files::sync_directory(&self.state)
    }
}

/// Replaces the operator's file, with which the restore begins to count. Answers where the one before is kept.
fn begin(state: &Utf8Path, intent: &Intent) -> io::Result<Vec<Utf8PathBuf>> {
    let Some(first) = intent.files.first() else { return Err(io::ErrorKind::InvalidData.into()) };
    let kept = replace(state, first, intent)?;
    fault::pass_path("restore.begun", state)?;
    // Should the operator edit the new file at once.
    directory::write_private(&state.join(READY).join(BEGUN), b"")?;
    Ok(kept)
}

fn is_begun(state: &Utf8Path, intent: &Intent) -> bool {
    let is_there = |first: &Wanted| has(&first.path, &first.sha256);
    state.join(READY).join(BEGUN).exists() || state.join(READY).exists() && intent.files.first().is_some_and(is_there)
}

/// Ends a restore that a death interrupted: puts the rest in place where it had begun to count, else throws it away.
/// `None`: there was none, or none of it counts.
///
/// # Errors
/// The rest cannot be put in place: nobody should serve what is there.
pub fn finish_restore(state: &Utf8Path) -> Result<Option<Restored>, StoreError> {
    let ready = state.join(READY);
    let read = directory::read_if_exists(&ready.join(INTENT), MAX_INTENT).map_err(unwritten)?;
    let intent = read.and_then(|bytes| serde_json::from_slice::<Intent>(&bytes).ok());
    if intent.is_none() && ready.join(BEGUN).exists() {
        return Err(StoreError::Damaged { path: ready.join(INTENT), problem: "restore the backup again".to_owned() });
    }
    match intent {
        Some(intent) if is_begun(state, &intent) => finish(state, &intent, vec![]).map(Some).map_err(unwritten),
        _ => {
            remove_directory(&state.join(NEW)).and_then(|()| remove_directory(&ready)).map_err(unwritten)?;
            Ok(None)
        }
    }
}

/// All that follows once the operator's file is the new one; may be done again.
fn finish(state: &Utf8Path, intent: &Intent, mut kept: Vec<Utf8PathBuf>) -> io::Result<Restored> {
    for wanted in intent.files.iter().skip(1) {
        kept.extend(replace(state, wanted, intent)?);
    }
    let ready = state.join(READY);
    let aside = intent.kept.as_ref().map(|(aside, _)| aside.clone()).unwrap_or_default();
    for name in &intent.aside {
        let (from, there) = (ready.join(MEMORY_DIRECTORY).join(name), state.join(name));
        let comes = intent.memory.contains(name);
        // What has come already is not what was there before.
        let has_come = comes && !from.exists();
        if !has_come && there.exists() && !aside.join(name).exists() {
            if !aside.exists() {
                directory::create_directory(&aside, 0o700)?;
            }
            fault::pass_path("restore.aside", &there)?;
            fs_err::rename(&there, aside.join(name))?;
        }
    }
    for path in &intent.memory {
        let (from, to) = (ready.join(MEMORY_DIRECTORY).join(path), state.join(path));
        if from.exists() {
            let parent = files::directory_of(&to);
            if !parent.is_dir() {
                directory::create_directory(&parent, 0o750)?;
            }
            fault::pass_path("restore.rename", &to)?;
            fs_err::rename(&from, &to)?;
            files::sync_directory(&parent)?;
        }
    }
    files::sync_directory(state)?;
    if aside.exists() {
        kept.push(aside);
    }
    remove_directory(&ready)?;
    Ok(Restored { files: intent.files.iter().map(|wanted| wanted.path.clone()).collect(), kept })
}

/// Puts one of the operator's files in its place; what was there is kept beside.
fn replace(state: &Utf8Path, wanted: &Wanted, intent: &Intent) -> io::Result<Vec<Utf8PathBuf>> {
    if has(&wanted.path, &wanted.sha256) {
        return Ok(vec![]);
    }
    let bytes = files::read_limited(&state.join(READY).join(&wanted.from), MAX_FILE)?;
    let mut kept = vec![];
    let mut mode = wanted.mode;
    if let Ok(there) = fs_err::metadata(&wanted.path) {
        let at = intent.kept.as_ref().map_or(Timestamp::UNIX_EPOCH, |(_, at)| *at);
        kept.push(files::keep_beside(&wanted.path, "restore", at)?);
        mode = there.mode() & 0o7777;
    } else {
        let parent = files::directory_of(&wanted.path);
        if !parent.is_dir() {
            directory::create_directory(&parent, 0o755)?;
        }
    }
    files::replace_file(&wanted.path, &bytes, mode)?;
    Ok(kept)
}

fn has(path: &Utf8Path, sha256: &Digest) -> bool {
    files::read_limited(path, MAX_FILE).is_ok_and(|bytes| Digest::of(bytes) == *sha256)
}

/// Removes a directory of ours; a name that begins with a dot first, so that a half of it is none.
fn remove_directory(path: &Utf8Path) -> io::Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let gone = path.with_file_name(".restore-gone");
    fault::pass_path("restore.remove", path)?;
    if gone.symlink_metadata().is_ok() {
        fs_err::remove_dir_all(&gone)?;
    }
    fs_err::rename(path, &gone)?;
    fs_err::remove_dir_all(&gone)
}

fn give_away(path: &Utf8Path, uid: u32, gid: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    if !path.symlink_metadata()?.is_dir() {
        return Ok(());
    }
    for entry in fs_err::read_dir(path)? {
        let below = Utf8PathBuf::try_from(entry?.path()).map_err(io::Error::other)?;
        give_away(&below, uid, gid)?;
    }
    Ok(())
}

fn unwritten(source: io::Error) -> StoreError {
    StoreError::Io { doing: "put the backup in place", source }
}
