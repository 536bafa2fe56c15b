//! The virtual addresses that operators moved away, so that a restart of the agent does not take them back.

use super::current::{load, save};
use super::error::StoreError;
use crate::model::Name;
use camino::Utf8Path;
use std::collections::BTreeSet;

/// Reads `released.json`; empty where there is none.
///
/// # Errors
/// Unreadable or damaged.
pub fn load_released(state: &Utf8Path) -> Result<BTreeSet<Name>, StoreError> {
    load(&state.join("released.json"))
}

/// Writes `released.json`.
///
/// # Errors
/// The directory is missing, full or not writable.
pub fn save_released(state: &Utf8Path, released: &BTreeSet<Name>) -> Result<(), StoreError> {
    save(&state.join("released.json"), released)
}
