//! What keeps a change back until somebody insists.

use super::Node;
use crate::agent::outcome::intent::Intent;
use crate::agent::outcome::report::{Failed, SourceOfChange};
use crate::agent::sources::place::Sources;
use crate::agent::tell::refusal::{Objection, Refusal};
use crate::config::Config;
use crate::plan::{DrasticChange, drastic_changes};
use std::sync::Arc;

/// Refuses what takes too much away, or adds too much, at once. A rollback and a forced change are never asked.
pub(super) fn refuse_drastic_changes(
    node: &Node,
    sources: &Sources,
    intent: &Intent,
    source: SourceOfChange,
) -> Result<(), Failed> {
    if intent.force || node.is_observer() || matches!(source, SourceOfChange::Rollback(_)) {
        return Ok(());
    }
    let found = wants_force(node, sources);
    if found.is_empty() {
        return Ok(());
    }
    let help = format!("if this is meant: {}", node.file.place.command("apply --force"));
    Err(Failed::refused(Refusal::of(found.iter().map(Objection::new)).help(help).nothing_changed()))
}

/// What `--force` is needed for.
pub(super) fn wants_force(node: &Node, sources: &Sources) -> Vec<DrasticChange> {
    served(node).map_or_else(Vec::new, |served| drastic_changes(&served, &sources.config))
}

/// The configuration that serves; `None` before the first one.
fn served(node: &Node) -> Option<Arc<Config>> {
    let revision = node.revision()?;
    if node.is_settled {
        return Some(node.serving.config.clone());
    }
    // Before the first apply of this life, what was read is not yet what serves.
    let toml = node.ledger.toml_of(revision).ok()?;
    node.file.place.parse(&toml).ok().map(Arc::new)
}
