//! What is written down about one revision.

use crate::model::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One revision: what, who, when, why, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its number, from 1, never used twice.
    pub revision: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Who asked for it: an operator's name or uid, or `agent`.
    pub actor: String,
    /// Why, in the actor's words or ours.
    pub reason: String,
    /// Where its content comes from.
    pub source: RevisionSource,
    /// How it went; `None` between the intent and the outcome (invariant I4), so that after a crash the one that was
    /// under way is known.
    pub outcome: Option<RevisionOutcome>,
    /// Lines of the plan, for people, without secrets.
    pub plan: Vec<String>,
    /// Its files in the order of their names.
    pub files: Vec<FileRecord>,
    /// Names that operators gave it.
    pub tags: Vec<String>,
    /// Whether it may be gone back to. A manifest without it was written before there were trials.
    #[serde(default)]
    pub standing: Standing,
}

impl Manifest {
    /// Whether it was applied.
    pub fn is_applied(&self) -> bool {
        matches!(self.outcome, Some(RevisionOutcome::Applied { how: _ }))
    }

    /// Whether a rollback may go to it.
    pub fn is_good(&self) -> bool {
        self.is_applied() && self.standing == Standing::Confirmed
    }
}

/// What became of a revision after it was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Standing {
    /// It is good: a rollback may go to it.
    #[default]
    Confirmed,
    /// It served on trial, and nobody has confirmed it.
    Provisional,
    /// Another one came back in its place.
    RolledBack {
        /// Why.
        reason: String,
    },
}

/// Where a revision's content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RevisionSource {
    /// The operator's file was edited.
    Edit,
    /// An older revision's content, again.
    Rollback {
        /// The older revision.
        of: u32,
    },
    /// The agent started.
    Start,
    /// A HAProxy that ran before hapilot was taken over.
    Adopt,
}

/// How the apply of a revision ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RevisionOutcome {
    /// It serves, or will when HAProxy is started.
    Applied {
        /// By which means.
        how: How,
    },
    /// It does not serve.
    Failed {
        /// Why, for people.
        text: String,
    },
}

/// The means by which a revision came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Nothing that runs differs: only text was written.
    Files,
    /// Over the admin socket alone.
    Runtime,
    /// By a reload.
    Reload,
    /// HAProxy does not run: the files wait for its start.
    StartPending,
}

/// One file of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Path relative to the revision's directory: `haproxy.cfg`, `maps/routes.api.map`.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// Of the whole content.
    pub sha256: Digest,
    /// False for a file with secrets: only its length and digest are known.
    pub is_stored: bool,
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Files => "files",
            Self::Runtime => "runtime",
            Self::Reload => "reload",
            Self::StartPending => "start",
        })
    }
}
