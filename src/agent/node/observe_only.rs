//! An agent that only observes: what it would do, told in the log, in `status` and in `plan`.

use super::Node;
use crate::agent::history::ledger::Ledger;
use crate::agent::outcome::report::Failed;
use crate::agent::sources::place::Place;

impl Node {
    /// A node that changes nothing, ever: no file, no command, no reload, no revision. Takes no lock and makes no
    /// directory.
    ///
    /// # Errors
    /// There is neither a good file nor a revision; exit code inside.
    pub async fn observe_only(place: Place) -> Result<Self, Failed> {
        let read_at_start = place.digest();
        let loaded = place.load();
        let state = match &loaded {
            Ok(sources) => sources.config.node.state.value.clone(),
            Err(_) => place.state_directory(),
        };
        let mut node = Self::around(place, read_at_start, loaded, Ledger::read_only(&state)?, None).await?;
        node.engine.would = Some(vec![]);
        Ok(node)
    }
}
