//! What became of a change, for whoever asked for it.

use super::apply::{Applied, How};
use super::bulletin::Bulletin;
use super::intent::Intent;
use super::ledger::Entry;
use super::sources::SourcesError;
use super::unread::Unread;
use crate::event::{Event, Kind, Severity};
use crate::plan::Action;
use crate::render::Rendered;
use crate::store;
use crate::sys;
use similar::TextDiff;
use std::fmt::Display;
use std::time::Duration;

/// So many changes of a revision are told in its line of the log.
const MAX_TOLD: usize = 5;

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

impl super::apply::Prepared {
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

/// Why nothing was done, as it is to be printed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// What is wrong, what was done about it, what to do.
    pub message: String,
    /// The command line's exit code.
    pub exit_code: u8,
}

impl Failed {
    /// The product refuses, or something is unhealthy.
    pub fn refused(message: impl Display) -> Self {
        // It may quote what HAProxy said.
        let message = sys::redact::redact(message.to_string());
        let message = if message.starts_with("error") { message } else { format!("error: {message}") };
        Self { message, exit_code: 1 }
    }

    /// The operator's file has mistakes.
    pub fn from_sources(error: &SourcesError) -> Self {
        let exit_code = match error {
            SourcesError::Mistakes { .. } | SourcesError::Read(_) => 2,
            SourcesError::References(_) | SourcesError::Secrets(_) => 1,
        };
        Self { message: error.render(false), exit_code }
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

/// What the history keeps of a change.
pub(super) fn entry<'a>(
    intent: &Intent,
    source: SourceOfChange,
    applied: &Applied,
    toml: &'a str,
    rendered: &'a Rendered,
) -> Entry<'a> {
    let reason = intent.reason.clone().unwrap_or_else(|| match source {
        SourceOfChange::Start => "start".to_owned(),
        SourceOfChange::Edit => "the file changed".to_owned(),
        SourceOfChange::Rollback(of) => format!("rollback to revision {of}"),
    });
    let steps = applied.steps.iter().map(ToString::to_string);
    let reasons = applied.reload_reasons.iter().map(|reason| format!("reload: {reason}"));
    Entry {
        source: match source {
            SourceOfChange::Start => store::Source::Start,
            SourceOfChange::Edit if intent.adopt => store::Source::Adopt,
            SourceOfChange::Edit => store::Source::Edit,
            SourceOfChange::Rollback(of) => store::Source::Rollback { of },
        },
        actor: intent.actor.clone(),
        reason,
        how: match applied.how {
            How::Unchanged | How::Files => store::How::Files,
            How::Runtime => store::How::Runtime,
            How::Reload => store::How::Reload,
            How::Start => store::How::StartPending,
        },
        summary: reasons.chain(steps).collect(),
        toml,
        rendered,
    }
}

impl Entry<'_> {
    /// One line in the log: which revision, what it changed, who made it, and why.
    pub(super) fn tell(&self, revision: Option<u32>, bulletin: &Bulletin) {
        let is_ahead = self.how == store::How::StartPending;
        let what = match self.summary.as_slice() {
            [] if is_ahead => "no HAProxy runs yet".to_owned(),
            [] => "the running HAProxy had it already".to_owned(),
            few if few.len() <= MAX_TOLD => few.join("; "),
            many => format!("{}; and {} more changes", many[..MAX_TOLD].join("; "), many.len() - MAX_TOLD),
        };
        let number = revision.map(|number| format!(" {number}")).unwrap_or_default();
        let Self { actor, reason, .. } = self;
        let verb = if is_ahead { "is prepared" } else { "serves" };
        let text = format!("revision{number} {verb}: {what} ({actor}: {reason})");
        bulletin.tell(Event::once(Kind::Revision, Severity::Info, "file", text));
    }
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

/// A unified diff with three lines of context, empty where nothing differs.
pub fn unified_diff(before: &str, after: &str, name: &str) -> String {
    if before == after {
        return String::new();
    }
    TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(3)
        .header(&format!("{name} (before)"), &format!("{name} (after)"))
        .to_string()
}
