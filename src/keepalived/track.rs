//! The files that Keepalived watches: what this node is told to be.
//!
//! **Source**: keepalived.conf(5), "Track files"; measured: the effect comes 0.5 to 4 ms after the rename, a file that
//! is missing or empty counts as 0, and a directory that was removed is never watched again.

use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::io;

/// A track file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not tell Keepalived through {path}: {source}")]
pub struct TrackError {
    /// Which.
    pub path: Utf8PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The two track files of a node, and what stands in them.
#[derive(Debug)]
pub struct Track {
    directory: Utf8PathBuf,
    written: Option<(bool, i16)>,
}

impl Track {
    /// The files below `directory`, which is made where it is missing. Nothing is written yet: until the agent knows
    /// better, what stands there holds.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(directory: &Utf8Path) -> Result<Self, TrackError> {
        let track = directory.join("track");
        for path in [directory, &track] {
            sys::directory::create_directory(path, 0o755)
                .map_err(|source| TrackError { path: path.to_owned(), source })?;
        }
        Ok(Self { directory: track, written: None })
    }

    /// Tells both, where they differ from what was told last; answers whether anything was written.
    ///
    /// # Errors
    /// A file cannot be replaced; what it said before holds, and the next call tries again.
    pub fn tell(&mut self, fault: bool, adjustment: i16) -> Result<bool, TrackError> {
        let wish = (fault, adjustment);
        if self.written == Some(wish) {
            return Ok(false);
        }
        // In this order both ways: a node in fault takes nothing, whatever it is worth.
        let hard = (self.directory.join("hard"), i16::from(fault));
        let adj = (self.directory.join("adj"), adjustment.clamp(-200, 5));
        for (path, value) in if fault { [hard, adj] } else { [adj, hard] } {
            replace(&path, value).map_err(|source| TrackError { path, source })?;
        }
        self.written = Some(wish);
        Ok(true)
    }
}

/// By rename, so that Keepalived never reads half a number. Not synced: it lives no longer than the machine's run.
fn replace(path: &Utf8Path, value: i16) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs_err::write(&beside, format!("{value}\n"))?;
    fs_err::rename(&beside, path)
}
