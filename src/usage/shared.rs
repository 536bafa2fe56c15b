//! One ledger for who counts, who keeps and who asks.

use super::UsageLedger;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Copies are of one ledger.
#[derive(Clone, Debug, Default)]
pub struct SharedLedger(Arc<Mutex<UsageLedger>>);

impl SharedLedger {
    /// Around this one.
    pub fn new(ledger: UsageLedger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// For as long as it is held nobody else counts.
    pub fn lock(&self) -> MutexGuard<'_, UsageLedger> {
        // A panic between two additions leaves a sum that is short of one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
