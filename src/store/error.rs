//! Why the state directory could not be used.

use camino::Utf8PathBuf;
use std::io;

/// Something in the state directory is missing, damaged, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed; the source names the path.
    #[error("could not {doing}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such revision, or it was removed by retention.
    #[error("there is no revision {number}")]
    NoRevision {
        /// The number asked for.
        number: u32,
    },
    /// A file is not what was written. It stays for an inspection; the caller takes another revision.
    #[error("{path} is damaged: {problem}")]
    Damaged {
        /// The damaged file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A value cannot be stored as asked.
    #[error("{0}")]
    Refused(String),
}

impl StoreError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
