//! What the history keeps of a change, and the line in the log that tells it.

use crate::agent::outcome::applied::{Applied, How};
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::SourceOfChange;
use crate::event::{Event, EventKind, Severity};
use crate::render::Rendered;
use crate::store::{self, RevisionSource};

/// So many changes of a revision are told in its line of the log.
const MAX_TOLD: usize = 5;

/// What a new revision consists of.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// What began it.
    pub source: RevisionSource,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// By which means it serves.
    pub how: store::How,
    /// What it changed, one line each, without secrets.
    pub summary: Vec<String>,
    /// The operator's file.
    pub toml: &'a str,
    /// What was rendered from it.
    pub rendered: &'a Rendered,
}

/// What the history keeps of a change.
pub(in crate::agent) fn entry<'a>(
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
            SourceOfChange::Start => RevisionSource::Start,
            SourceOfChange::Edit if intent.adopt => RevisionSource::Adopt,
            SourceOfChange::Edit => RevisionSource::Edit,
            SourceOfChange::Rollback(of) => RevisionSource::Rollback { of },
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
    pub(in crate::agent) fn event(&self, revision: Option<u32>) -> Event {
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
        Event::once(EventKind::Revision, Severity::Info, "file", text)
    }
}
