//! Tells that one of a set of files may have changed.
//!
//! Refuses to know what changed: the receiver reads the files and compares. It watches the *directories* of the files,
//! since editors replace a file by renaming and Kubernetes swaps a symbolic link. Called by `agent`.

use super::files::directory_of;
use camino::{Utf8Path, Utf8PathBuf};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Quiet time after the last event before the receiver is told: an editor's write and rename are one change.
pub const DEBOUNCE: Duration = Duration::from_millis(80);
/// Longest time that a steady stream of events can hold the message back.
const PATIENCE: Duration = Duration::from_secs(1);

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
    files: BTreeSet<Utf8PathBuf>,
    directories: BTreeSet<Utf8PathBuf>,
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
        tokio::spawn(debounce(events, sender));
        Ok((watch, receiver))
    }

    /// Replaces the set of paths. Directories that are missing or cannot be watched are left out: see
    /// [`Self::missing`]; a later call tries them again. Called again after every change, it also finds a directory
    /// that was removed and made anew.
    pub fn set_paths(&mut self, paths: &[Utf8PathBuf]) {
        let mut interest = Interest::default();
        for path in paths {
            if path.is_dir() {
                interest.directories.insert(path.clone());
            } else {
                interest.files.insert(path.clone());
            }
        }
        let wanted: BTreeSet<Utf8PathBuf> = interest
            .directories
            .iter()
            .cloned()
            .chain(interest.files.iter().chain(&interest.directories).map(|path| directory_of(path)))
            .collect();
        *self.interest.lock().unwrap_or_else(PoisonError::into_inner) = interest;
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

    /// Directories that could not be watched; nobody will be told of changes in them.
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
        // `notify` reports a bare name's directory as `./name`.
        let plain = path.strip_prefix("./").unwrap_or(path);
        self.files.contains(path)
            || self.files.contains(plain)
            || self.directories.contains(path)
            || path.parent().is_some_and(|parent| self.directories.contains(parent))
            // Kubernetes: `..data` is the link that all files go through.
            || path.file_name().is_some_and(|name| name.starts_with(".."))
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
    async fn the_set_is_replaced_and_a_missing_directory_is_reported() {
        let (_held, dir) = directory();
        let late = dir.join("late/key");
        let (mut watch, mut changes) = Watch::new(std::slice::from_ref(&late)).unwrap();
        assert_eq!(watch.missing(), [dir.join("late")]);
        fs_err::create_dir(dir.join("late")).unwrap();
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
