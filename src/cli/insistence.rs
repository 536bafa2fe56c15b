//! What `apply` refuses to do without `--force`: `check` says so beforehand.
//!
//! Compares with the revision that serves, as far as the history can be read here. Called by `check`.

use crate::agent::{Intent, Ledger, Place, Sources, vrrp_change};
use crate::config;
use crate::plan::drastic_changes;

/// One line for each thing that wants `--force`; none before the first revision.
pub(super) async fn wanted(place: &Place, sources: &Sources) -> Vec<String> {
    let force = place.command("apply --force");
    let insists = |what: String| format!("`apply` will refuse this: {what}; if it is meant: {force}");
    let mut wanted: Vec<String> = match served(place, sources) {
        Some(served) => {
            drastic_changes(&served, &sources.config).iter().map(ToString::to_string).map(insists).collect()
        }
        None => vec![],
    };
    // What is refused with it as well is told as that.
    let adopted = |force: bool| Intent { adopt: true, force, ..Intent::default() };
    if let Err(failed) = vrrp_change(&sources.config, &adopted(false)).await
        && vrrp_change(&sources.config, &adopted(true)).await.is_ok()
    {
        wanted.push(insists(failed.refusal.headline()));
    }
    wanted
}

/// The configuration that serves, as the history has it.
fn served(place: &Place, sources: &Sources) -> Option<config::Config> {
    let ledger = Ledger::read_only(&sources.config.node.state).ok()?;
    let toml = ledger.toml_of(ledger.current()?).ok()?;
    place.parse(&toml).ok()
}
