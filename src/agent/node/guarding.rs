//! What keeps a change back until somebody insists.

use super::Node;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, SourceOfChange};
use crate::agent::sources::place::Sources;
use crate::agent::tell::refusal::{Objection, Refusal};
use crate::config::{self, Config};
use crate::plan::{DrasticChange, drastic_changes};
use crate::sys;
use std::sync::Arc;

impl Node {
    /// Refuses what takes too much away, or adds too much, at once. A rollback and a forced change are never asked.
    pub(super) fn refuse_drastic_changes(
        &self,
        sources: &Sources,
        intent: &Intent,
        source: SourceOfChange,
    ) -> Result<(), Failed> {
        if intent.force || self.is_observer() || matches!(source, SourceOfChange::Rollback(_)) {
            return Ok(());
        }
        let found = self.drastic_changes(sources);
        if found.is_empty() {
            return Ok(());
        }
        let help = format!("if this is meant: {}", self.file.place.command("apply --force"));
        Err(Failed::refused(Refusal::of(found.iter().map(Objection::new)).help(help).nothing_changed()))
    }

    /// What `--force` is needed for.
    pub(super) fn drastic_changes(&self, sources: &Sources) -> Vec<DrasticChange> {
        self.served().map_or_else(Vec::new, |served| drastic_changes(&served, &sources.config))
    }

    /// The configuration that serves; `None` before the first one.
    fn served(&self) -> Option<Arc<Config>> {
        let revision = self.revision()?;
        if self.is_settled {
            return Some(self.serving.config.clone());
        }
        // Before the first apply of this life, what was read is not yet what serves.
        let toml = self.ledger.toml_of(revision).ok()?;
        let host_name = sys::host_name().unwrap_or_default();
        let (file, node) = (self.file.place.file.as_str(), self.file.place.node.as_ref());
        config::parse_for_node(file, &toml, &host_name, node).ok().map(Arc::new)
    }
}
