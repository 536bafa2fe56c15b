//! Who wants a change, why, and what he allows.

use std::time::Duration;

/// Who acts where no operator does.
pub(in crate::agent) const AGENT: &str = "agent";

/// Who wants a change, and why.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    /// The operator's name, or `agent`.
    pub actor: String,
    /// Written into the history.
    pub reason: Option<String>,
    /// A haproxy.cfg that is not ours, or was edited by hand, may be replaced.
    pub adopt: bool,
    /// Neither a guard nor the limits of reloads hold it back.
    pub force: bool,
    /// It serves on trial for so long; `None`: as the file says.
    pub confirm: Option<Duration>,
}

impl Intent {
    /// Whether no operator wants it.
    pub(in crate::agent) fn is_of_agent(&self) -> bool {
        self.actor == AGENT
    }

    /// The agent's own.
    pub fn of_agent(reason: Option<&str>) -> Self {
        Self { actor: AGENT.to_owned(), reason: reason.map(str::to_owned), ..Self::default() }
    }
}
