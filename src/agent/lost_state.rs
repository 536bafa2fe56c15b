//! The state directory is deleted while the agent runs: it is noticed, made again, and told.
//!
//! What serves goes on; what only the directory knew (older revisions, an open trial) is lost. Called by `node`.

use super::ledger::Ledger;
use super::node::Node;
use super::report::Failed;
use crate::sys;

impl Node {
    /// Makes the state directory again where it is gone. The history is written again by what follows a
    /// `history_problem`.
    pub(super) fn keep_state(&mut self) {
        if self.lock.as_ref().is_none_or(sys::lock::Lock::is_in_place) {
            return;
        }
        let state = self.ledger.state.clone();
        let told = match self.regain_state() {
            Ok(()) => {
                let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
                let told = format!(
                    "{state} was deleted while the agent ran ({at}); it is made again, and the history begins anew"
                );
                self.recovered = Some(told.clone());
                told
            }
            Err(failed) => format!("{state} was deleted while the agent ran and cannot be made again: {failed}"),
        };
        if self.history_problem.as_ref() != Some(&told) {
            tracing::error!("{told}");
            self.history_problem = Some(told);
        }
    }

    fn regain_state(&mut self) -> Result<(), Failed> {
        let state = self.ledger.state.clone();
        sys::directory::create_directory(&state, 0o750).map_err(Failed::refused)?;
        let lock = sys::lock::Lock::acquire(&state.join("lock")).map_err(|e| Failed::refused(sys::chain(&e)))?;
        let mut ledger = Ledger::open(&state)?;
        ledger.reject(self.ledger.rejected())?;
        ledger.keep_overrides(&self.overrides)?;
        (self.ledger, self.lock) = (ledger, Some(lock));
        Ok(())
    }
}
