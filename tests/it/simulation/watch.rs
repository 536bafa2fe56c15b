//! Every file operation of the agent, seen as it is about to happen: what must hold between any two of them, and deaths
//! there.

use super::loaded::Loaded;
use super::world::Broken;
use camino::{Utf8Path, Utf8PathBuf};
use hapilot::model::Digest;
use hapilot::store::{Journal, Undertaking, UndertakingKind};
use hapilot::sys::fault;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// Every file that HAProxy reads, by its path.
pub type Files = BTreeMap<Utf8PathBuf, Vec<u8>>;

/// What a death unwinds with.
struct Death;

/// What is looked for while the agent works.
pub struct Watch {
    directory: Utf8PathBuf,
    /// So many changes of live files and of the journal until it dies.
    death: Option<u32>,
    /// HAProxy could start from the files when this began.
    starts: bool,
    /// Live files that were changed while no intent was written down.
    unprotected: u32,
    /// What an earlier life left in the middle: to be settled before HAProxy is looked at.
    left: Option<Undertaking>,
    /// The files when this began.
    before: Files,
    broken: Option<Broken>,
}

impl Watch {
    pub fn new(directory: &Utf8Path, death: Option<u32>) -> Self {
        Self {
            directory: directory.to_owned(),
            death,
            starts: Loaded::read(directory).is_ok(),
            unprotected: 0,
            left: undertaking(directory),
            before: files(directory),
            broken: None,
        }
    }

    /// Drives the agent to its end or to its death: `None`.
    ///
    /// # Errors
    /// What did not hold on the way.
    pub async fn over<T>(self, work: impl Future<Output = T>) -> Result<Option<T>, Broken> {
        let watch = Rc::new(RefCell::new(self));
        let seen = watch.clone();
        fault::watch(Some(Box::new(move |point, what| {
            seen.borrow_mut().pass(point, what);
            None
        })));
        let mut work = pin!(work);
        let outcome =
            std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
                Ok(poll) => poll.map(Some),
                Err(cause) if cause.is::<Death>() => Poll::Ready(None),
                Err(cause) => resume_unwind(cause),
            })
            .await;
        fault::watch(None);
        let watch = watch.borrow();
        watch.broken.clone().map_or(Ok(outcome), Err)
    }

    fn pass(&mut self, point: &str, what: &str) {
        let changes_file = matches!(point, "files.rename" | "files.remove");
        if changes_file && self.is_live(what) {
            let starts = Loaded::read(&self.directory);
            if let (true, Err(why)) = (self.starts, starts) {
                self.blame(format!("before {what} is changed, no HAProxy would start: {why}"));
            }
            // One file alone is whole by its rename.
            self.unprotected += u32::from(undertaking(&self.directory).is_none());
            if self.unprotected > 1 {
                self.blame(format!("{what} is changed without an intent, and it is not the only one"));
            }
        }
        if point == "admin.connect"
            && let Some(left) = self.left.take()
            && let Err(why) = is_settled(&self.directory, &left, &self.before)
        {
            self.blame(format!("after a death in the middle ({}): {why}", left.kind));
        }
        // Between two live files, and around the intent: that is where a death could leave a half.
        if changes_file && (self.is_live(what) || what.contains("/state/journal")) {
            self.death = self.death.map(|left| left.saturating_sub(1));
            if self.death == Some(0) {
                resume_unwind(Box::new(Death));
            }
        }
    }

    fn is_live(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix(self.directory.as_str()) else { return false };
        ["/haproxy.cfg", "/maps/", "/crt-lists/"].iter().any(|start| path.starts_with(start))
    }

    fn blame(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }
}

fn undertaking(directory: &Utf8Path) -> Option<Undertaking> {
    Journal::of(&directory.join("state")).unfinished().ok().flatten()
}

/// Every file that HAProxy reads, as it is.
pub fn files(directory: &Utf8Path) -> Files {
    let mut files = Files::new();
    for below in ["", "maps", "crt-lists"] {
        let Ok(entries) = fs_err::read_dir(directory.join(below)) else { continue };
        for entry in entries.flatten() {
            let path = Utf8PathBuf::from_path_buf(entry.path()).expect("UTF-8");
            if path.extension().is_some_and(|suffix| ["cfg", "map", "list"].contains(&suffix)) {
                files.insert(path.clone(), fs_err::read(path).expect("a file"));
            }
        }
    }
    files
}

/// A death left each file as it was or as it was to be.
///
/// # Errors
/// Names one that is neither.
pub fn each_is_old_or_new(directory: &Utf8Path, before: &Files) -> Result<(), Broken> {
    let now = files(directory);
    let intended = undertaking(directory).map(|left| left.files).unwrap_or_default();
    let is_known = |path: &Utf8Path| {
        let state = now.get(path).map(|bytes| (bytes.len() as u64, Digest::of(bytes)));
        intended.iter().any(|file| file.path == path && file.after == state)
    };
    let paths = now.keys().chain(before.keys());
    let mut torn: Vec<_> = paths.filter(|path| now.get(*path) != before.get(*path) && !is_known(path)).collect();
    torn.dedup();
    match intended.is_empty() || torn.is_empty() {
        true => Ok(()),
        false => Err(format!("a death left {torn:?} neither old nor new")),
    }
}

/// A start has made the files those of one revision: all as before the death, or all as they were to be.
fn is_settled(directory: &Utf8Path, left: &Undertaking, at_death: &Files) -> Result<(), Broken> {
    let now = files(directory);
    let state = |path: &Utf8Path| now.get(path).map(|bytes| (bytes.len() as u64, Digest::of(bytes)));
    let is_new = left.files.iter().all(|file| state(&file.path) == file.after);
    let is_old = left
        .files
        .iter()
        .all(|file| state(&file.path) == file.before.as_ref().map(|before| (before.length, before.sha256)));
    if !is_new && !is_old {
        let paths: Vec<_> = left.files.iter().map(|file| file.path.as_str()).collect();
        return Err(format!("the files are neither wholly old nor wholly new: {paths:?}"));
    }
    if left.kind == UndertakingKind::Reload && !is_old {
        return Err("nobody knows whether HAProxy takes these files, and they stay".to_owned());
    }
    let is_other = |path: &&Utf8PathBuf| !left.files.iter().any(|file| file.path == **path);
    if now.keys().chain(at_death.keys()).filter(is_other).any(|path| now.get(path) != at_death.get(path)) {
        return Err("a file that the intent does not name was changed".to_owned());
    }
    if undertaking(directory).is_some() {
        return Err("the intent is not ended".to_owned());
    }
    Loaded::read(directory).map(drop).map_err(|why| format!("no HAProxy would start: {why}"))
}
