//! Which addresses operators moved away, as it is written down.

use crate::model::Name;
use crate::store;
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The addresses that operators moved away, as they are written down.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Released {
    state: Utf8PathBuf,
    names: Arc<Mutex<BTreeSet<Name>>>,
    /// One write at a time: the last one has the newest names.
    turn: Arc<Mutex<()>>,
}

impl Released {
    /// What is written there already.
    pub(super) fn of(state: &Utf8Path, names: BTreeSet<Name>) -> Self {
        Self { state: state.to_owned(), names: Arc::new(Mutex::new(names)), turn: Arc::default() }
    }

    pub(super) fn set(&self, names: &BTreeSet<Name>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone_from(names);
    }

    /// Writes down the names of this moment.
    ///
    /// # Errors
    /// They cannot be written, in words.
    pub fn write(&self) -> Result<(), String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        store::save_released(&self.state, &names).map_err(|e| sys::chain(&e))
    }
}
