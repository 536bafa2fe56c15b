//! A plan in words, for the log and for `status`.

use super::{Action, Plan};

/// So many lines say what a plan changes.
const MAX_DESCRIBED: usize = 50;
/// So many of them stand on one line.
const MAX_BRIEF: usize = 10;

impl Plan {
    /// What it changes, one line each, up to a screenful.
    pub fn described(&self) -> Vec<String> {
        let files = self.files.iter().map(|file| format!("file {}", file.path()));
        let action = match &self.action {
            Action::Nothing => vec![],
            Action::Start => vec!["HAProxy stopped".to_owned()],
            Action::Runtime(steps) => steps.iter().map(ToString::to_string).collect(),
            Action::Reload(reasons) => reasons.iter().map(|reason| format!("reload: {reason}")).collect(),
        };
        files.chain(action).take(MAX_DESCRIBED).collect()
    }
}

/// The first of such lines on one line.
pub fn brief(lines: &[String]) -> String {
    lines.iter().take(MAX_BRIEF).map(String::as_str).collect::<Vec<_>>().join("; ")
}
