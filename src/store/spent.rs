//! What the deep probes of the day have cost, so that a restart of the agent is no new budget.

use super::current::{load, save};
use super::error::StoreError;
use crate::health::Spent;
use crate::model::Name;
use camino::Utf8Path;
use std::collections::BTreeMap;

/// Reads `spent.json`; empty where there is none.
///
/// # Errors
/// Unreadable or damaged. The caller may take it for empty: at worst a day's budget is spent twice.
pub fn load_spent(state: &Utf8Path) -> Result<BTreeMap<Name, Spent>, StoreError> {
    load(&state.join("spent.json"))
}

/// Writes `spent.json`.
///
/// # Errors
/// The directory is missing, full or not writable.
pub fn save_spent(state: &Utf8Path, spent: &BTreeMap<Name, Spent>) -> Result<(), StoreError> {
    save(&state.join("spent.json"), spent)
}
