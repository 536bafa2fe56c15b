//! What became of a change, for whoever asked for it.

use super::applied::{Applied, How};
use crate::agent::sources::place::SourcesError;
use crate::agent::sources::unread::Unread;
use crate::agent::tell::refusal::Refusal;
use crate::config;
use crate::plan::Action;
use similar::TextDiff;
use std::fmt::Display;
use std::time::Duration;

/// What was done.
#[derive(Clone, Debug)]
pub struct Report {
    /// The way, the steps, the files.
    pub applied: Applied,
    /// The revision that serves.
    pub revision: Option<u32>,
    /// A unified diff of haproxy.cfg.
    pub diff: String,
    /// What the operator should know or do next.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// Secrets that a plan left out.
    pub unread: Vec<Unread>,
}

impl Report {
    /// A report without notes, but for a file that was kept beside.
    pub fn new(applied: Applied, revision: Option<u32>, diff: String, took: Duration) -> Self {
        let kept = applied.kept.iter().map(|path| format!("the former haproxy.cfg is kept as {path}"));
        let notes = kept.chain(applied.remarks.iter().cloned()).collect();
        Self { applied, revision, diff, notes, took, unread: vec![] }
    }

    /// Nothing was applied; a word about what serves.
    pub fn note(revision: Option<u32>, note: String) -> Self {
        let applied = Applied::nothing();
        Self { applied, revision, diff: String::new(), notes: vec![note], took: Duration::ZERO, unread: vec![] }
    }
}

impl super::applied::Prepared {
    /// The plan as a report; nothing was done.
    pub fn report(&self) -> Report {
        let (steps, reload_reasons) = match &self.plan.action {
            Action::Runtime(steps) => (steps.clone(), vec![]),
            Action::Reload(reasons) => (vec![], reasons.clone()),
            Action::Nothing | Action::Start => (vec![], vec![]),
        };
        let how = match &self.plan.action {
            Action::Nothing if self.plan.files.is_empty() => How::Unchanged,
            Action::Nothing => How::Files,
            Action::Runtime(_) => How::Runtime,
            Action::Reload(_) => How::Reload,
            Action::Start => How::Start,
        };
        let files = self.plan.files.clone();
        let applied = Applied { how, steps, reload_reasons, files, ..Applied::nothing() };
        let diff = unified_diff(&self.live_text, &self.rendered.haproxy_cfg, "haproxy.cfg");
        Report::new(applied, None, diff, Duration::ZERO)
    }
}

/// Why nothing was done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{refusal}")]
pub struct Failed {
    /// What is wrong, what was done about it, what to do.
    pub refusal: Refusal,
    /// The command line's exit code.
    pub exit_code: u8,
}

impl Failed {
    /// The product refuses, or something is unhealthy.
    pub fn refused(refusal: impl Into<Refusal>) -> Self {
        Self { refusal: refusal.into(), exit_code: 1 }
    }

    /// Whoever asks has made a mistake.
    pub fn usage(refusal: impl Into<Refusal>) -> Self {
        Self { refusal: refusal.into(), exit_code: 2 }
    }

    /// The operator's file has mistakes.
    pub fn from_sources(error: &SourcesError) -> Self {
        let exit_code = match error {
            SourcesError::Mistakes { .. } | SourcesError::Read(_) | SourcesError::Clients(_) => 2,
            SourcesError::References(_) | SourcesError::Secrets(_) => 1,
        };
        Self { refusal: error.refusal(), exit_code }
    }
}

/// What began a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceOfChange {
    /// The agent's start.
    Start,
    /// The file changed.
    Edit,
    /// An older revision was asked for.
    Rollback(u32),
}

impl Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Unchanged => "unchanged",
            Self::Files => "files",
            Self::Runtime => "runtime",
            Self::Reload => "reload",
            Self::Start => "start",
        })
    }
}

/// A unified diff with three lines of context, empty where nothing differs. Words that look like keys are not shown: raw
/// lines may have some.
pub fn unified_diff(before: &str, after: &str, name: &str) -> String {
    if before == after {
        return String::new();
    }
    let diff = TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(3)
        .header(&format!("{name} (before)"), &format!("{name} (after)"))
        .to_string();
    config::masked_words(&diff)
}
