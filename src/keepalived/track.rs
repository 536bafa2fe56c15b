//! The files that Keepalived watches: what this node is told to be.
//!
//! **Source**: keepalived.conf(5), "Track files"; measured: the effect comes 0.5 to 4 ms after the rename, a file that
//! is missing or empty counts as 0, and a directory that was removed is never watched again.

use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::io;

/// What an adjustment may be.
const RANGE: std::ops::RangeInclusive<i16> = -200..=5;

/// A track file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not tell Keepalived through {path}: {source}")]
pub struct TrackError {
    /// Which.
    pub path: Utf8PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The two track files of each VIP, and what stands in them.
#[derive(Debug)]
pub struct Track {
    directory: Utf8PathBuf,
    written: BTreeMap<String, (bool, i16)>,
}

impl Track {
    /// The files below `directory`, which is made where it is missing. Nothing is written yet: until the agent knows
    /// better, what stands there holds.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: &Utf8Path) -> Result<Self, TrackError> {
        let track = track_directory(directory);
        for path in [directory, &track] {
            sys::directory::create_directory(path, 0o755)
                .map_err(|source| TrackError { path: path.to_owned(), source })?;
        }
        Ok(Self { directory: track, written: BTreeMap::new() })
    }

    /// Tells both files of a VIP, where they differ from what was told last; answers whether anything was written.
    ///
    /// # Errors
    /// A file cannot be replaced; what it said before holds, and the next call tries again.
    pub fn tell(&mut self, vip: &str, fault: bool, adjustment: i16) -> Result<bool, TrackError> {
        let wish = (fault, adjustment.clamp(*RANGE.start(), *RANGE.end()));
        if self.written.get(vip) == Some(&wish) {
            return Ok(false);
        }
        // In this order both ways: a node in fault takes nothing, whatever it is worth.
        let hard = (self.directory.join(format!("{vip}.hard")), i16::from(wish.0));
        let adj = (self.directory.join(format!("{vip}.adj")), wish.1);
        for (path, value) in if fault { [hard, adj] } else { [adj, hard] } {
            replace(&path, &format!("{value}\n")).map_err(|source| TrackError { path, source })?;
        }
        self.written.insert(vip.to_owned(), wish);
        Ok(true)
    }
}

/// Where the track files are.
fn track_directory(directory: &Utf8Path) -> Utf8PathBuf {
    directory.join("track")
}

/// Takes every "cannot serve" back: for the time in which no agent lives and somebody else decides that.
///
/// # Errors
/// A file cannot be replaced.
pub fn clear_faults(directory: &Utf8Path) -> io::Result<()> {
    let track = track_directory(directory);
    for name in sys::directory::file_names(&track, ".hard")? {
        let path = track.join(name);
        if fs_err::read_to_string(&path)?.trim() != "0" {
            replace(&path, "0\n")?;
        }
    }
    Ok(())
}

/// By rename, so that nobody ever reads half of it. Not synced: it lives no longer than the machine's run.
pub(super) fn replace(path: &Utf8Path, text: &str) -> io::Result<()> {
    let beside = Utf8PathBuf::from(format!("{path}.new"));
    fs_err::write(&beside, text)?;
    fs_err::rename(&beside, path)
}
