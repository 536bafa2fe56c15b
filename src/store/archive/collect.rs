//! Puts the state directory into an archive, beside an agent that may be writing there.
//!
//! A revision's files never change once it is there; what changes (which one serves, what is known of each) is read in one
//! look that nothing came in between of. So a revision that is being written is in the archive as a whole, or not at all.

use super::Packer;
use crate::store::usage::USAGE;
use crate::store::{Current, Provisional, Revision, Revisions, StoreError, load_current, load_provisional};
use crate::sys::{directory, files, redact};
use camino::Utf8Path;
use std::collections::BTreeMap;
use std::io::Write;

/// So often it is looked again while something is being written.
const LOOKS: u32 = 200;
/// Largest of the small files, in bytes.
const MAX_SMALL: u64 = 16 << 20;
/// Hours of usage that are taken: those of 400 days are 9,600.
const MAX_HOURS: usize = 40_000;
/// Files that change together.
const TOGETHER: [&str; 4] = ["current.json", "confirm.json", "overrides.json", "released.json"];
/// Files that each stand for themselves.
const ALONE: [&str; 5] = ["spent.json", "models.json", "canaries.json", "events.jsonl.1", "events.jsonl"];

/// What one look has found.
#[derive(Debug)]
pub struct Collected {
    /// Which revision serves.
    pub current: Current,
    /// The trial that is open.
    pub provisional: Option<Provisional>,
    small: Vec<(&'static str, Vec<u8>)>,
    manifests: BTreeMap<u32, Vec<u8>>,
}

/// Looks at a state directory; nothing is changed, and nobody waits.
///
/// # Errors
/// It cannot be read, what says which revision serves is damaged, or somebody never stops writing.
pub fn collect(state: &Utf8Path) -> Result<Collected, StoreError> {
    let told = StoreError::io;
    for _ in 0..LOOKS {
        let before = stamps(state)?;
        let mut small = vec![];
        for name in TOGETHER {
            let read = directory::read_if_exists(&state.join(name), MAX_SMALL).map_err(told("read the state"))?;
            small.extend(read.map(|bytes| (name, bytes)));
        }
        let (current, provisional) = (load_current(state), load_provisional(state));
        let mut manifests = BTreeMap::new();
        for number in Revisions::read_only(state).numbers()? {
            let read = directory::read_if_exists(&state.join(manifest_of(number)), MAX_SMALL);
            manifests.extend(read.map_err(told("read a revision"))?.map(|bytes| (number, bytes)));
        }
        if stamps(state)? == before {
            return Ok(Collected { current: current?, provisional: provisional?, small, manifests });
        }
        std::thread::yield_now();
    }
    Err(StoreError::Refused(format!("{state} changes all the time: try again")))
}

fn manifest_of(number: u32) -> String {
    format!("revisions/{number:06}/manifest.json")
}

/// Which content everything that changes has.
fn stamps(state: &Utf8Path) -> Result<Vec<Option<files::Stamp>>, StoreError> {
    let numbers = Revisions::read_only(state).numbers()?;
    let revisions = numbers.into_iter().map(manifest_of);
    let all = TOGETHER.into_iter().map(str::to_owned).chain(revisions);
    Ok(all.map(|name| files::stamp(&state.join(name))).collect())
}

impl Collected {
    /// Whether there is any memory at all.
    pub fn is_empty(&self) -> bool {
        self.small.is_empty() && self.manifests.is_empty()
    }

    /// Puts all of it into the archive. Answers what was left out, and why: for people.
    ///
    /// # Errors
    /// The revision that serves, or the last good one, cannot be put there; or the archive cannot be written.
    pub fn pack(self, state: &Utf8Path, archive: &mut Packer<impl Write>) -> Result<Vec<String>, StoreError> {
        let mut left_out = vec![];
        for (name, bytes) in &self.small {
            refuse_secrets(name, bytes)?;
            archive.add_state(name, bytes)?;
        }
        let revisions = Revisions::read_only(state);
        let trial = self.provisional.iter().map(|trial| trial.back_to);
        let needed: Vec<u32> = self.current.serving.into_iter().chain(self.current.last_good).chain(trial).collect();
        for (number, manifest) in &self.manifests {
            let whole = revisions.load(*number).and_then(|revision| {
                refuse_secrets(&manifest_of(*number), manifest)?;
                revision.files.iter().try_for_each(|(path, bytes)| refuse_secrets(path, bytes))?;
                Ok(revision)
            });
            let Revision { manifest: _, files } = match whole {
                Ok(revision) => revision,
                // Forgotten since the look: `keep` has made room.
                Err(StoreError::NoRevision { .. }) if !needed.contains(number) => continue,
                Err(why) if !needed.contains(number) => {
                    left_out.push(format!("revision {number}: {}", crate::sys::chain(&why)));
                    continue;
                }
                Err(why) => {
                    let why = crate::sys::chain(&why);
                    return Err(StoreError::Refused(format!(
                        "revision {number}, which serves or may come back: {why}"
                    )));
                }
            };
            for (path, bytes) in &files {
                archive.add_state(&format!("revisions/{number:06}/{path}"), bytes)?;
            }
            archive.add_state(&manifest_of(*number), manifest)?;
            archive.count_revision();
        }
        left_out.extend(pack_usage(state, archive)?);
        for name in ALONE {
            let read = directory::read_if_exists(&state.join(name), MAX_SMALL);
            if let Some(bytes) = read.map_err(StoreError::io("read the state"))? {
                // A line that is being written is none yet.
                let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                archive.add_state(name, &redact::redact_bytes(bytes[..end].to_vec()))?;
            }
        }
        Ok(left_out)
    }
}

/// The open hour first: one that ends meanwhile is in both, and counts once.
fn pack_usage(state: &Utf8Path, archive: &mut Packer<impl Write>) -> Result<Vec<String>, StoreError> {
    let told = StoreError::io;
    let directory = state.join(USAGE);
    let mut names = ["open.json", "elsewhere.json", "restored.json"].map(str::to_owned).to_vec();
    let mut at = 0;
    let mut left_out = vec![];
    while let Some(name) = names.get(at).cloned() {
        match directory::read_if_exists(&directory.join(&name), super::MAX_MEMBER) {
            Ok(Some(bytes)) => archive.add_state(&format!("{USAGE}/{name}"), &bytes)?,
            Ok(None) => {}
            Err(e) => left_out.push(format!("{USAGE}/{name}: {e}")),
        }
        at += 1;
        if at == 3 {
            let all = directory::file_names_among(&directory, ".json", MAX_HOURS).map_err(told("list the usage"))?;
            let hours =
                all.into_iter().filter(|name| crate::usage::Hour::parse(name.trim_end_matches(".json")).is_some());
            names.extend(hours);
        }
    }
    Ok(left_out)
}

/// I16: what is known to be a secret leaves the node in no archive.
fn refuse_secrets(name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    match redact::has_secret(&String::from_utf8_lossy(bytes)) {
        true => Err(StoreError::Refused(format!("{name} has the value of a secret in it"))),
        false => Ok(()),
    }
}
