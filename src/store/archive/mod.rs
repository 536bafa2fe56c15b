//! A backup: one archive with what an empty node needs to serve what this one serves.
//!
//! Knows the form of the archive, and which files of the state directory belong into it. An archive is read as what a
//! stranger wrote: whole, within limits, and by its digests, before anything is written. Knows no secret, and not what
//! the operator's file says. Called by `cli` and, to end what a death interrupted, by `agent`.
//!
//! ```text
//! FILE.tar.zst   hapilot-backup            the number of the form
//!                files/1-hapilot.toml      files of the operator's, which the manifest says the places of
//!                state/current.json        the state directory, as `store` has it
//!                state/revisions/000042/…
//!                manifest.json             of each file its length and SHA-256; the last one
//! ```

mod collect;
mod pack;
mod put_back;
mod unpack;
mod usage;

pub use collect::{Collected, collect};
pub use pack::Packer;
pub use put_back::{PutBack, Restored, finish_restore, what_is_there};
pub use unpack::read_backup;
pub use usage::restore_usage;

use crate::model::Digest;
use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The form that this version writes and reads.
pub const FORM: u32 = 1;
/// Largest file in an archive, in bytes: as for a file of a revision.
pub const MAX_MEMBER: u64 = 64 << 20;
/// All files together, in bytes: what decompresses to more is no backup.
pub const MAX_TOTAL: u64 = 8 << 30;
/// Most files: 10,000 revisions of some 40.
pub const MAX_MEMBERS: usize = 400_000;
/// Largest manifest, in bytes.
const MAX_MANIFEST: u64 = 128 << 20;
/// Longest name in an archive, in bytes: what the old form of tar has room for.
const MAX_NAME: usize = 255;

/// The first member, with the number of the form.
const FIRST: &str = "hapilot-backup";
/// The last one.
const MANIFEST: &str = "manifest.json";
/// Where the operator's files are.
const FILES: &str = "files/";
/// Where the state directory is.
const STATE: &str = "state/";

/// What an archive says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    /// The number of the form.
    pub form: u32,
    /// The version that made it.
    pub hapilot: String,
    /// The node that it is of.
    pub node: String,
    /// When it was made.
    pub created: Timestamp,
    /// The revision that served.
    pub serving: Option<u32>,
    /// The last confirmed one.
    pub last_good: Option<u32>,
    /// How many revisions it has.
    pub revisions: u32,
    /// Files of the operator's; the first one is the file itself.
    pub files: Vec<OutsideFile>,
    /// Files of the state directory.
    pub state: Vec<StateFile>,
}

/// A file that is not in the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideFile {
    /// Its name in the archive.
    pub member: String,
    /// What it is.
    pub kind: OutsideKind,
    /// Where it was.
    pub path: Utf8PathBuf,
    /// As for chmod.
    pub mode: u32,
    /// Length in bytes.
    pub length: u64,
    /// Of the whole content.
    pub sha256: Digest,
}

/// What a file of the operator's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutsideKind {
    /// The operator's file itself.
    Operator,
    /// `clients`.
    Clients,
    /// `[haproxy] template`.
    Template,
    /// Certificates of authorities, of clients or of servers.
    Authorities,
    /// Lists of certificates that were revoked.
    Revoked,
}

impl OutsideKind {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Operator => "the operator's file",
            Self::Clients => "the clients' file",
            Self::Template => "the template",
            Self::Authorities => "certificates of authorities",
            Self::Revoked => "a list of revoked certificates",
        }
    }
}

/// A file of the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateFile {
    /// Its path below the state directory.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// Of the whole content.
    pub sha256: Digest,
}

/// Files and directories of the state directory that are the node's memory, as far as a backup has or replaces them.
const MEMORY: [&str; 14] = [
    "revisions",
    "current.json",
    "confirm.json",
    "overrides.json",
    "released.json",
    "spent.json",
    "models.json",
    "canaries.json",
    "soak.json",
    "probes.json",
    "events.jsonl",
    "events.jsonl.1",
    "usage",
    "journal.json",
];

/// Of those the ones that an archive has no business with: a soak is of these minutes.
const NEVER_KEPT: [&str; 3] = ["probes.json", "journal.json", "soak.json"];

/// Whether a path is one that a backup has of the state directory: plain names below what is the node's memory.
fn is_of_state(path: &str) -> bool {
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let is_hour = |name: &str| name.ends_with(".json") && name.len() > ".json".len();
    let is_known = MEMORY.contains(&first) && !NEVER_KEPT.contains(&first);
    is_known
        && is_plain(path)
        && match first {
            "revisions" => {
                let number = rest.first().copied().unwrap_or_default();
                rest.len() >= 2 && number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit())
            }
            "usage" => rest.len() == 1 && is_hour(rest[0]),
            _ => rest.is_empty(),
        }
}

/// Whether a name in an archive leads nowhere but down, and hides nothing: visible ASCII, no part that begins with a dot.
fn is_plain(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

#[cfg(test)]
mod tests;
