//! An agent that only observes: what it would do, told in the log, in `status` and in `plan`.
//!
//! Called by `engine` in place of an apply.

use super::apply::{ApplyError, Prepared, Wish};
use super::engine::Engine;
use super::ledger::Ledger;
use super::node::Node;
use super::report::Failed;
use super::sources::Place;
use crate::plan::{Action, Plan};

/// So many lines say what a plan changes.
const MAX_DESCRIBED: usize = 50;

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
        let mut node = Self::around(place, loaded, Ledger::read_only(&state)?, None).await?;
        node.read_at_start = read_at_start;
        node.engine.would = Some(vec![]);
        Ok(node)
    }

    /// Whether it changes nothing.
    pub fn is_observer(&self) -> bool {
        self.engine.would.is_some()
    }
}

impl Engine {
    /// Tells what an apply would do.
    pub(super) async fn only_observe(&mut self, wish: Wish<'_>, prepared: &Prepared) {
        let mut lines = describe(&prepared.plan);
        if !prepared.plan.is_empty()
            && let Err(refused) = self.judge(wish, prepared).await
            // A verdict that takes its time comes with one of the next looks.
            && !matches!(refused, ApplyError::TooSoon(_))
        {
            lines.insert(0, format!("refused: {refused}"));
        }
        if self.would.as_ref() != Some(&lines) {
            match lines.as_slice() {
                [] => tracing::info!("observe only: HAProxy runs what it should"),
                lines => tracing::info!("observe only, would change: {}", brief(lines)),
            }
            self.would = Some(lines);
        }
    }
}

/// What a plan changes, one line each, up to a screenful.
pub(super) fn describe(plan: &Plan) -> Vec<String> {
    let files = plan.files.iter().map(|file| format!("file {}", file.path()));
    let action = match &plan.action {
        Action::Nothing => vec![],
        Action::Start => vec!["HAProxy stopped".to_owned()],
        Action::Runtime(steps) => steps.iter().map(ToString::to_string).collect(),
        Action::Reload(reasons) => reasons.iter().map(|reason| format!("reload: {reason}")).collect(),
    };
    files.chain(action).take(MAX_DESCRIBED).collect()
}

/// The first of them on one line.
pub(super) fn brief(lines: &[String]) -> String {
    lines.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("; ")
}
