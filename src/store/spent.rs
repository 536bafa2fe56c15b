//! What the agent learns by and by, and what a restart of it must not lose: what probes cost, canaries, a soak.

use super::current::{load, save};
use super::error::StoreError;
use crate::health::Spent;
use crate::model::{Name, ServerId};
use crate::rollout::{BackendSeen, Rejected, Rollout, Soak};
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

/// Reads `spent.json`; empty where there is none.
///
/// # Errors
/// Unreadable or damaged. The caller may take it for empty: at worst a day's budget is spent twice.
pub fn load_spent(state: &Utf8Path) -> Result<BTreeMap<Name, Spent>, StoreError> {
    load(&state.join("spent.json"))
}

/// Reads `models.json`, which models each server said that it has; empty where there is none.
///
/// # Errors
/// Unreadable or damaged. The caller may take it for empty: probes ask again.
pub fn load_models(state: &Utf8Path) -> Result<BTreeMap<ServerId, Arc<BTreeSet<String>>>, StoreError> {
    let rows: BTreeMap<String, BTreeSet<String>> = load(&state.join("models.json"))?;
    Ok(rows.into_iter().filter_map(|(id, names)| Some((id.parse().ok()?, Arc::new(names)))).collect())
}

/// Writes `models.json`.
///
/// # Errors
/// The directory is missing, full or not writable; or the lists are longer than a file of this kind may be.
pub fn save_models(state: &Utf8Path, models: &BTreeMap<ServerId, Arc<BTreeSet<String>>>) -> Result<(), StoreError> {
    let rows: BTreeMap<String, &BTreeSet<String>> =
        models.iter().map(|(id, names)| (id.to_string(), &**names)).collect();
    save(&state.join("models.json"), &rows)
}

/// Canaries over a restart of the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedCanaries {
    /// Those that have begun.
    pub canaries: BTreeMap<Name, SavedCanary>,
    /// What was rolled back lately.
    pub rejected: Vec<Rejected>,
    /// Why nobody knows where they were.
    #[serde(skip)]
    pub lost: Option<String>,
}

/// One canary as it was when it was written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedCanary {
    /// Where it is, and what it has seen.
    pub rollout: Rollout,
    /// When, by the wall clock.
    pub at: SystemTime,
}

/// Reads `canaries.json`; empty where there is none.
///
/// # Errors
/// Unreadable or damaged. The caller may take it for empty: canaries begin anew.
pub fn load_canaries(state: &Utf8Path) -> Result<SavedCanaries, StoreError> {
    load(&state.join("canaries.json"))
}

/// Writes `canaries.json`.
///
/// # Errors
/// The directory is missing, full or not writable.
pub fn save_canaries(state: &Utf8Path, canaries: &SavedCanaries) -> Result<(), StoreError> {
    save(&state.join("canaries.json"), canaries)
}

/// A soak over a restart of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedSoak {
    /// Which revision soaks.
    pub revision: u32,
    /// What was seen.
    pub soak: Soak,
    /// What it is compared with, by backend.
    pub before: BTreeMap<String, BackendSeen>,
    /// The backends that it serves otherwise.
    pub changed: BTreeSet<String>,
    /// When it was written down, by the wall clock.
    pub at: SystemTime,
}

/// Reads `soak.json`; `None` where nothing soaked.
///
/// # Errors
/// Unreadable or damaged. The caller may take it for nothing: the soak begins anew.
pub fn load_soak(state: &Utf8Path) -> Result<Option<SavedSoak>, StoreError> {
    load(&state.join("soak.json"))
}

/// Writes `soak.json`.
///
/// # Errors
/// The directory is missing, full or not writable.
pub fn save_soak(state: &Utf8Path, soak: &Option<SavedSoak>) -> Result<(), StoreError> {
    save(&state.join("soak.json"), soak)
}

/// Writes `spent.json`.
///
/// # Errors
/// The directory is missing, full or not writable.
pub fn save_spent(state: &Utf8Path, spent: &BTreeMap<Name, Spent>) -> Result<(), StoreError> {
    save(&state.join("spent.json"), spent)
}
