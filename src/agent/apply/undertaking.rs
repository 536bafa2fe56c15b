//! The intent of an apply: written down before the first file changes, forgotten when its outcome is known.
//!
//! Called by `engine`; `recovery` reads what a crash left.

use super::engine::Engine;
use crate::agent::files::live_files::{LiveFiles, Undo};
use crate::agent::outcome::applied::{Prepared, Wish};
use crate::model::Digest;
use crate::plan::Action;
use crate::store::{Journal, Undertaking, UndertakingKind};
use crate::sys;

impl Engine {
    /// Writes down what is about to happen (I4). One file alone is replaced whole by its rename, so that a change of
    /// weights needs no intent. A disk that takes no journal keeps nothing from being served: it is told.
    pub(super) fn begin_intent(&mut self, wish: Wish<'_>, prepared: &Prepared, files: &LiveFiles, undo: &Undo) {
        let changes = &prepared.plan.files;
        let Some(journal) = &self.journal else { return };
        if changes.is_empty() || (wish.is_serving && changes.len() == 1) {
            return;
        }
        let kind = match &prepared.plan.action {
            Action::Nothing => UndertakingKind::Files,
            Action::Runtime(_) => UndertakingKind::Runtime,
            Action::Reload(_) => UndertakingKind::Reload,
            Action::Start => UndertakingKind::Start,
        };
        let undertaking = Undertaking {
            began: jiff::Timestamp::now(),
            kind,
            source: Digest::of(&wish.sources.toml),
            files: files.intended(undo, changes, &prepared.rendered),
        };
        // Before: a journal without it could not put everything back.
        let kept = files.keep_secrets(undo, changes).map_err(|error| sys::chain(&error));
        if let Err(error) = kept.and_then(|()| journal.begin(&undertaking).map_err(|error| sys::chain(&error))) {
            tracing::error!(error, "this apply is not protected against a crash");
        }
    }

    pub(super) fn end_intent(&mut self, files: &LiveFiles) {
        match self.journal.as_ref().map(Journal::end) {
            Some(Ok(())) => files.forget_secrets(),
            // The next start may still need them.
            Some(Err(error)) => tracing::error!(error = sys::chain(&error), "the journal could not be ended"),
            None => {}
        }
    }
}
