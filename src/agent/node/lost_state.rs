//! The state directory is deleted or full while the agent runs: it is noticed and told, and one that is gone is made again.
//!
//! What serves goes on; what only the directory knew (older revisions, an open trial) is lost. Called by `node`.

use super::Node;
use crate::agent::history::ledger::Ledger;
use crate::agent::outcome::report::Failed;
use crate::agent::tell::refusal::Refusal;
use crate::agent::tell::troubles::Matter;
use crate::sys;
use std::time::Duration;

/// A revision of thousands of servers has some megabytes, a common one some tens of kilobytes.
const ROOM_BYTES: u64 = 256 << 10;
/// A disk that takes longer for one file, or for one directory, is told.
const HANGS: Duration = Duration::from_secs(10);

impl Node {
    /// Makes the state directory again where it is gone. The history is written again by what follows a
    /// trouble with it.
    pub(super) fn keep_state(&mut self) {
        if self.lock.as_ref().is_none_or(sys::lock::Lock::is_in_place) {
            return self.look_for_room();
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
        self.troubles.set(Matter::History, Some(Refusal::notice(told)));
    }

    /// Whether the directory has room is asked before something is lost, and told until there is.
    fn look_for_room(&mut self) {
        let problem =
            self.lock.as_ref().and_then(|_| sys::space::writable(&self.ledger.state, ROOM_BYTES).err()).map(|e| {
                let what = format!("the history, operators' words and what was learnt cannot be written down: {e}");
                Refusal::notice(what).help("make room there")
            });
        self.troubles.set(Matter::Room, problem);
    }

    /// Whether the disk answers. Looked at by who waits for no disk.
    pub(in crate::agent) fn look_at_disk(&mut self) {
        let problem = sys::writes::hanging(HANGS).map(|path| {
            let what = format!(
                "the disk does not answer: {path} has been written for more than {} s. Weights and operators' words on \
                 servers reach HAProxy; edits wait",
                HANGS.as_secs()
            );
            Refusal::notice(what).help("look at the disk (`dmesg`); the agent goes on by itself when it answers")
        });
        self.troubles.set(Matter::Disk, problem);
    }

    fn regain_state(&mut self) -> Result<(), Failed> {
        let state = self.ledger.state.clone();
        sys::directory::create_directory(&state, 0o750).map_err(Failed::refused)?;
        let lock = sys::lock::Lock::acquire(&state.join("lock")).map_err(|e| Failed::refused(sys::chain(&e)))?;
        let mut ledger = Ledger::open(&state)?;
        ledger.reject(self.ledger.rejected())?;
        ledger.keep_overrides(&self.steering.overrides)?;
        (self.ledger, self.lock) = (ledger, Some(lock));
        self.tell_socket();
        Ok(())
    }
}
