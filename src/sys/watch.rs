//! Tells that one of a set of files may have changed.
//!
//! Refuses to know what changed: the receiver reads the files and compares. It watches the *directories* of the files
//! and of every link on the way to them, since editors replace a file by renaming and others swap a link. What the
//! kernel does not tell is found by comparing every two seconds. Called by `agent`.

use super::trail::{Trail, print};
use camino::{Utf8Path, Utf8PathBuf};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Quiet time after the last event before the receiver is told: an editor's write and rename are one change.
pub const DEBOUNCE: Duration = Duration::from_millis(80);
/// Longest time that a steady stream of events can hold the message back.
const PATIENCE: Duration = Duration::from_secs(1);
/// Files are compared this often, for changes of which no event tells.
const COMPARED: Duration = Duration::from_secs(2);

/// A running watch. Dropping it ends the messages.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    interest: Arc<Mutex<Interest>>,
    watched: BTreeSet<Utf8PathBuf>,
    missing: Vec<Utf8PathBuf>,
}

/// Which events matter.
#[derive(Debug, Default)]
struct Interest {
    /// Each path as it was when it was last looked at.
    prints: BTreeMap<Utf8PathBuf, u64>,
    trail: Trail,
}

impl Watch {
    /// Watches these files and directories. Needs a running tokio runtime. The receiver holds at most one message, so
    /// that a slow reader misses nothing and delays nobody.
    ///
    /// # Errors
    /// The system has no watches left (`fs.inotify.max_user_instances`).
    pub fn new(paths: &[Utf8PathBuf]) -> notify::Result<(Self, mpsc::Receiver<()>)> {
        let (raw, events) = mpsc::channel(1);
        let interest = Arc::new(Mutex::new(Interest::default()));
        let asked = Arc::clone(&interest);
        let by_comparing = raw.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error means that events were lost: then everything may have changed.
            let matters =
                event.map_or(true, |event| asked.lock().unwrap_or_else(PoisonError::into_inner).is_met_by(&event));
            if matters {
                // A full channel already holds the same message; a closed one has no reader.
                let _ = raw.try_send(());
            }
        })?;
        let mut watch = Self { watcher, interest, watched: BTreeSet::new(), missing: Vec::new() };
        watch.set_paths(paths);
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(compare(Arc::downgrade(&watch.interest), by_comparing));
        tokio::spawn(debounce(events, sender));
        Ok((watch, receiver))
    }

    /// Replaces the set of paths. What does not exist yet is waited for. Directories that cannot be watched are left
    /// out: see [`Self::missing`]; a later call tries them again. Called again after every change, it also finds a
    /// directory that was removed and made anew, and the new way behind a link that was swapped.
    pub fn set_paths(&mut self, paths: &[Utf8PathBuf]) {
        let mut trail = Trail::default();
        for path in paths {
            let Trail { entries, directories } = Trail::to(path);
            trail.entries.extend(entries);
            trail.directories.extend(directories);
        }
        let wanted: BTreeSet<Utf8PathBuf> = trail.watched().collect();
        let mut interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(&mut interest.prints);
        let print_of = |path: &Utf8PathBuf| (path.clone(), known.get(path).copied().unwrap_or_else(|| print(path)));
        *interest = Interest { prints: paths.iter().map(print_of).collect(), trail };
        drop(interest);
        for gone in self.watched.difference(&wanted) {
            // Fails where the directory was removed meanwhile, which is what we want.
            let _ = self.watcher.unwatch(gone.as_std_path());
        }
        let (watched, missing): (BTreeSet<_>, BTreeSet<_>) = wanted
            .into_iter()
            .partition(|dir| self.watcher.watch(dir.as_std_path(), RecursiveMode::NonRecursive).is_ok());
        self.watched = watched;
        self.missing = missing.into_iter().collect();
    }

    /// Directories that could not be watched; changes in them are found by comparing alone.
    pub fn missing(&self) -> &[Utf8PathBuf] {
        &self.missing
    }
}

impl Interest {
    fn is_met_by(&self, event: &notify::Event) -> bool {
        if matches!(event.kind, EventKind::Access(_)) {
            return false;
        }
        event.paths.is_empty() || event.need_rescan() || event.paths.iter().any(|path| self.covers(path))
    }

    fn covers(&self, path: &Path) -> bool {
        let Some(path) = Utf8Path::from_path(path) else { return false };
        let Trail { entries, directories } = &self.trail;
        entries.contains(path)
            || directories.contains(path)
            || path.parent().is_some_and(|parent| directories.contains(parent))
            // A directory on the way was moved or removed.
            || entries.iter().any(|entry| entry.parent() == Some(path))
            // Kubernetes: `..data` is the link that all files go through.
            || path.file_name().is_some_and(|name| name.starts_with(".."))
    }
}

/// Tells of files that are others than the last time, until the watch is gone.
async fn compare(interest: Weak<Mutex<Interest>>, raw: mpsc::Sender<()>) {
    loop {
        tokio::time::sleep(COMPARED).await;
        let Some(interest) = interest.upgrade() else { return };
        let known = interest.lock().unwrap_or_else(PoisonError::into_inner).prints.clone();
        let look = || known.into_keys().map(|path| (print(&path), path)).collect::<Vec<_>>();
        let Ok(now) = tokio::task::spawn_blocking(look).await else { return };
        let mut interest = interest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut differs = false;
        for (print, path) in now {
            if let Some(before) = interest.prints.get_mut(&path) {
                differs |= std::mem::replace(before, print) != print;
            }
        }
        if differs {
            // A full channel already holds the same message; a closed one has no reader.
            let _ = raw.try_send(());
        }
    }
}

/// Passes one message on after each burst of events. Ends when either side is gone.
async fn debounce(mut events: mpsc::Receiver<()>, changes: mpsc::Sender<()>) {
    while events.recv().await.is_some() {
        let latest = Instant::now() + PATIENCE;
        loop {
            let quiet = (Instant::now() + DEBOUNCE).min(latest);
            match tokio::time::timeout_at(quiet, events.recv()).await {
                Ok(Some(())) if Instant::now() < latest => {}
                _ => break,
            }
        }
        if let Err(mpsc::error::TrySendError::Closed(())) = changes.try_send(()) {
            return;
        }
    }
}

#[cfg(test)]
#[path = "watch_layouts.rs"]
mod layouts;

#[cfg(test)]
mod tests {
    use super::{Watch, debounce};
    use crate::sys::files::replace_file;
    use camino::{Utf8Path, Utf8PathBuf};
    use std::time::Duration;
    use tokio::sync::mpsc;

    const LONG: Duration = Duration::from_secs(20);

    async fn told(changes: &mut mpsc::Receiver<()>) {
        tokio::time::timeout(LONG, changes.recv()).await.expect("told in time").expect("still watching");
    }

    fn directory() -> (tempfile::TempDir, Utf8PathBuf) {
        let held = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(held.path()).unwrap().to_owned();
        (held, path)
    }

    #[tokio::test]
    async fn a_file_that_is_created_renamed_over_or_swapped_is_told() {
        let (_held, dir) = directory();
        let (watch, mut changes) = Watch::new(&[dir.join("hapilot.toml")]).unwrap();
        assert!(watch.missing().is_empty());
        replace_file(&dir.join("hapilot.toml"), b"1", 0o644).unwrap();
        told(&mut changes).await;
        replace_file(&dir.join("hapilot.toml"), b"2", 0o644).unwrap();
        told(&mut changes).await;
        fs_err::os::unix::fs::symlink("elsewhere", dir.join("..data")).unwrap();
        told(&mut changes).await;
    }

    #[tokio::test]
    async fn the_set_is_replaced_and_what_is_missing_is_waited_for() {
        let (_held, dir) = directory();
        let (mut watch, mut changes) = Watch::new(&[dir.join("other")]).unwrap();
        let late = dir.join("very/late/key");
        watch.set_paths(std::slice::from_ref(&late));
        fs_err::create_dir_all(dir.join("very/late")).unwrap();
        told(&mut changes).await;
        watch.set_paths(std::slice::from_ref(&late));
        assert!(watch.missing().is_empty());
        replace_file(&late, b"1", 0o600).unwrap();
        told(&mut changes).await;
    }

    #[tokio::test]
    async fn every_file_of_a_watched_directory_counts() {
        let (_held, dir) = directory();
        let (_watch, mut changes) = Watch::new(std::slice::from_ref(&dir)).unwrap();
        replace_file(&dir.join("any.pem"), b"1", 0o600).unwrap();
        told(&mut changes).await;
    }

    #[tokio::test]
    async fn what_no_event_tells_is_found_by_comparing() {
        let (_held, dir) = directory();
        let (_elsewhere, other) = directory();
        replace_file(&dir.join("key"), b"1", 0o600).unwrap();
        let Ok(()) = fs_err::hard_link(dir.join("key"), other.join("same")) else { return };
        let (_watch, mut changes) = Watch::new(&[dir.join("key")]).unwrap();
        let mut file = fs_err::OpenOptions::new().append(true).open(other.join("same")).unwrap();
        std::io::Write::write_all(&mut file, b"2").unwrap();
        told(&mut changes).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_message_and_a_steady_stream_still_gets_through() {
        let (raw, events) = mpsc::channel(1);
        let (sender, mut changes) = mpsc::channel(1);
        tokio::spawn(debounce(events, sender));
        let begun = tokio::time::Instant::now();
        for _ in 0..5 {
            raw.send(()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        changes.recv().await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_millis(280));
        let stream = tokio::spawn(async move {
            loop {
                if raw.send(()).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let begun = tokio::time::Instant::now();
        changes.recv().await.unwrap();
        assert!(begun.elapsed() <= Duration::from_millis(1100), "{:?}", begun.elapsed());
        stream.abort();
    }
}
